/* PROXY protocol: the header is decoded from the beginning of what has come, at every call anew (it
 * is short and comes once). */
#include "worker/http/proxyp.h"

#include "base/err.h"

#define PROXYP_V1_MAX  107u
#define PROXYP_V2_HEAD 16u
#define PROXYP_V2_MAX  4096u
#define PROXYP_UNIX    216u /* two paths of 108 bytes */

static const char proxyp_v1[] = "PROXY ";
static const char proxyp_v2[] = "\r\n\r\n\0\r\nQUIT\n";

static int proxyp_port(struct slice s, in_port_t *ret)
{
    uint32_t v = 0;
    if (s.n == 0 || s.n > 5 || (s.n > 1 && s.p[0] == '0'))
        return -ERR_BAD_PROXY;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -ERR_BAD_PROXY;
        v = v * 10 + (uint32_t)(s.p[i] - '0');
    }
    if (v > UINT16_MAX)
        return -ERR_BAD_PROXY;
    *ret = htons((uint16_t)v);
    return 0;
}

static int proxyp_ip(struct slice s, sa_family_t family, union addr *ret)
{
    return addr_parse_ip(s, ret) < 0 || ret->sa.sa_family != family ? -ERR_BAD_PROXY : 0;
}

/* The words after "PROXY ", each ended by one SP, the last by the end of the line. */
static int proxyp_words(struct slice s, struct slice word[5])
{
    for (int i = 0; i < 5; i++) {
        ptrdiff_t sp = slice_chr(s, ' ');
        if ((sp < 0) != (i == 4))
            return -ERR_BAD_PROXY;
        word[i] = sp < 0 ? s : slice_of(s.p, (size_t)sp);
        if (sp >= 0)
            s = slice_of(s.p + sp + 1, s.n - (size_t)sp - 1);
    }
    return 0;
}

static int proxyp_parse_v1(const char *p, size_t n, struct proxyp *ret)
{
    const size_t prefix = sizeof(proxyp_v1) - 1;
    const size_t look = n < PROXYP_V1_MAX ? n : PROXYP_V1_MAX;
    const char *lf = memchr(p, '\n', look);
    if (lf == NULL) {
        const char *cr = memchr(p, '\r', look);
        return look == PROXYP_V1_MAX || (cr != NULL && cr != p + look - 1) ? -ERR_BAD_PROXY
                                                                           : -ERR_AGAIN;
    }
    if (lf[-1] != '\r' || memchr(p, '\r', (size_t)(lf - 1 - p)) != NULL)
        return -ERR_BAD_PROXY;
    const size_t size = (size_t)(lf + 1 - p);
    const struct slice rest = slice_of(p + prefix, size - prefix - 2), unknown = SLICE("UNKNOWN");
    if (slice_starts(rest, unknown) && (rest.n == unknown.n || rest.p[unknown.n] == ' ')) {
        ret->local = true;
        return (int)size;
    }
    struct slice word[5];
    if (proxyp_words(rest, word) < 0)
        return -ERR_BAD_PROXY;
    const bool v6 = slice_eq(word[0], SLICE("TCP6"));
    const sa_family_t family = v6 ? AF_INET6 : AF_INET;
    if (!v6 && !slice_eq(word[0], SLICE("TCP4")))
        return -ERR_BAD_PROXY;
    if (proxyp_ip(word[1], family, &ret->src) < 0 || proxyp_ip(word[2], family, &ret->dst) < 0)
        return -ERR_BAD_PROXY;
    if (proxyp_port(word[3], v6 ? &ret->src.in6.sin6_port : &ret->src.in.sin_port) < 0 ||
        proxyp_port(word[4], v6 ? &ret->dst.in6.sin6_port : &ret->dst.in.sin_port) < 0)
        return -ERR_BAD_PROXY;
    return (int)size;
}

/* TLVs are not used, but must fill what the length says. */
static int proxyp_tlvs(const unsigned char *b, size_t n)
{
    while (n > 0) {
        if (n < 3)
            return -ERR_BAD_PROXY;
        size_t len = (size_t)b[1] << 8 | b[2];
        if (len > n - 3)
            return -ERR_BAD_PROXY;
        b += 3 + len;
        n -= 3 + len;
    }
    return 0;
}

/* Bytes of addresses that family and transport of a version 2 header take, or -1 when not a stream
 * over IP or unix. */
static int proxyp_v2_size(unsigned char family)
{
    switch (family) {
    case 0x00:
        return 0;
    case 0x11:
        return 12;
    case 0x21:
        return 36;
    case 0x31:
        return PROXYP_UNIX;
    default:
        return -1;
    }
}

static int proxyp_parse_v2(const char *p, size_t n, struct proxyp *ret)
{
    const unsigned char *b = (const unsigned char *)p;
    if (n > 12 && b[12] != 0x20 && b[12] != 0x21)
        return -ERR_BAD_PROXY;
    const bool local = n > 12 && b[12] == 0x20;
    if (n > 13 && !local && proxyp_v2_size(b[13]) < 0)
        return -ERR_BAD_PROXY;
    if (n < PROXYP_V2_HEAD)
        return -ERR_AGAIN;
    const size_t len = (size_t)b[14] << 8 | b[15];
    if (len > PROXYP_V2_MAX)
        return -ERR_BAD_PROXY;
    if (!local && len < (size_t)proxyp_v2_size(b[13]))
        return -ERR_BAD_PROXY;
    if (n < PROXYP_V2_HEAD + len)
        return -ERR_AGAIN;
    const int size = (int)(PROXYP_V2_HEAD + len);
    if (local || b[13] == 0x00) {
        ret->local = true; /* what follows is to be ignored */
        return size;
    }
    const size_t addresses = (size_t)proxyp_v2_size(b[13]);
    const unsigned char *at = b + PROXYP_V2_HEAD;
    if (proxyp_tlvs(at + addresses, len - addresses) < 0)
        return -ERR_BAD_PROXY;
    if (b[13] == 0x11) {
        ret->src.in.sin_family = ret->dst.in.sin_family = AF_INET;
        memcpy(&ret->src.in.sin_addr, at, 4);
        memcpy(&ret->dst.in.sin_addr, at + 4, 4);
        memcpy(&ret->src.in.sin_port, at + 8, 2);
        memcpy(&ret->dst.in.sin_port, at + 10, 2);
    } else if (b[13] == 0x21) {
        ret->src.in6.sin6_family = ret->dst.in6.sin6_family = AF_INET6;
        memcpy(&ret->src.in6.sin6_addr, at, 16);
        memcpy(&ret->dst.in6.sin6_addr, at + 16, 16);
        memcpy(&ret->src.in6.sin6_port, at + 32, 2);
        memcpy(&ret->dst.in6.sin6_port, at + 34, 2);
    }
    return size;
}

int proxyp_parse(const char *p, size_t n, struct proxyp *ret)
{
    const size_t v1 = sizeof(proxyp_v1) - 1, v2 = sizeof(proxyp_v2) - 1;
    memset(ret, 0, sizeof(*ret)); /* AF_UNSPEC is 0 */
    if (n == 0)
        return -ERR_AGAIN;
    int rc;
    if (p[0] == 'P') {
        if (memcmp(p, proxyp_v1, n < v1 ? n : v1) != 0)
            return -ERR_BAD_PROXY;
        rc = n < v1 ? -ERR_AGAIN : proxyp_parse_v1(p, n, ret);
    } else {
        if (memcmp(p, proxyp_v2, n < v2 ? n : v2) != 0)
            return -ERR_BAD_PROXY;
        rc = n < v2 ? -ERR_AGAIN : proxyp_parse_v2(p, n, ret);
    }
    if (rc < 0)
        memset(ret, 0, sizeof(*ret));
    return rc;
}
