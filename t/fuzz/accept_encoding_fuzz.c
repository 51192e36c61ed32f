/* Accept-Encoding in two fields. Invariants: weights are at most one; the order of elements and of
 * fields means nothing; what a cache makes of it is made of the same class again. */
#include "t/fuzz/fuzz.h"
#include "worker/http/accept_encoding.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    const char *cut = memchr(p, '\n', size);
    const size_t n = cut ? (size_t)(cut - p) : size;
    struct http_field f[2] = {{.value = slice_of(p, n), .id = FIELD_ACCEPT_ENCODING},
                              {.value = slice_of(p + n + (cut != NULL), size - n - (cut != NULL)),
                               .id = FIELD_ACCEPT_ENCODING}};
    const struct http_field swapped[2] = {f[1], f[0]};
    struct http_request r = {.field = f, .nfield = 2};
    struct accept_encoding a, b;
    accept_encoding_of(&r, &a);
    for (unsigned i = 0; i < ACCEPT__COUNT; i++)
        CHECK(a.q[i] <= 1000);
    CHECK(!a.identity_last || a.q[ACCEPT_IDENTITY] == 1);
    memcpy(f, swapped, sizeof f);
    accept_encoding_of(&r, &b);
    CHECK(memcmp(a.q, b.q, sizeof a.q) == 0 && a.identity_last == b.identity_last);
    return 0;
}
