/* PROXY protocol: a header is found at the same place whatever comes behind it, and never earlier.
 */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/proxyp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    struct proxyp whole, part;
    const int rc = proxyp_parse(p, n, &whole);
    CHECK(rc > 0 || rc == -ERR_AGAIN || rc == -ERR_BAD_PROXY);
    CHECK(rc != -ERR_AGAIN || n < 16 + 4096);
    if (rc < 0) {
        CHECK(whole.src.sa.sa_family == AF_UNSPEC && whole.dst.sa.sa_family == AF_UNSPEC);
    } else {
        CHECK((size_t)rc <= n && rc <= 16 + 4096);
        CHECK(whole.src.sa.sa_family == whole.dst.sa.sa_family);
        CHECK(!whole.local || whole.src.sa.sa_family == AF_UNSPEC);
        CHECK(proxyp_parse(p, (size_t)rc, &part) == rc);
        CHECK(memcmp(&whole.src, &part.src, sizeof(part.src)) == 0);
    }
    for (size_t cut = 0; cut < n && cut < 300; cut++) {
        const int early = proxyp_parse(p, cut, &part);
        if (rc > 0)
            CHECK(early == (cut < (size_t)rc ? -ERR_AGAIN : rc));
        else if (rc == -ERR_AGAIN)
            CHECK(early == -ERR_AGAIN);
        else
            CHECK(early == -ERR_AGAIN || early == -ERR_BAD_PROXY);
    }
    return 0;
}
