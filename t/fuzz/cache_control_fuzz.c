/* Cache directives: both readers stay within their input, and what the strict one takes the other
 * understands as well. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/cache_control.h"

static void check(const struct cache_control *c, struct slice in)
{
    CHECK(c->max_age <= CC_FOREVER && c->s_maxage <= CC_FOREVER && c->max_stale <= CC_FOREVER);
    CHECK(c->nno_cache <= CC_FIELDS_MAX && c->nprivate <= CC_FIELDS_MAX);
    for (unsigned i = 0; i < c->nno_cache; i++)
        CHECK(c->no_cache[i].p >= in.p && c->no_cache[i].p + c->no_cache[i].n <= in.p + in.n);
    for (unsigned i = 0; i < c->nprivate; i++)
        CHECK(c->private_[i].p >= in.p && c->private_[i].p + c->private_[i].n <= in.p + in.n);
    (void)cache_control_names(c, SLICE("set-cookie"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct slice in = slice_of((const char *)data, n);
    struct cache_control plain = {0}, strict = {0}, surrogate = {0};
    cache_control_add(&plain, in);
    check(&plain, in);
    cache_control_add_surrogate(&surrogate, in);
    check(&surrogate, in);
    int rc = cache_control_add_targeted(&strict, in);
    CHECK(rc == -ERR_INVAL || rc >= 0);
    check(&strict, in);
    /* A flag that a dictionary sets stands there as a word of its own. */
    if (rc > 0 && (strict.has & CC_NO_STORE) != 0 && memchr(data, ';', n) == NULL)
        CHECK((plain.has & CC_NO_STORE) != 0);
    return 0;
}
