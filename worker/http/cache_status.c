/* Writes Cache-Status: a list member of structured fields with parameters. */
#include "worker/http/cache_status.h"

#define KEY_MAX 128u /* a longer key is not said */

const char *cache_status_fwd_name(enum cache_status_fwd f)
{
    static const char *const name[CACHE_STATUS__COUNT] = {
#define CACHE_STATUS_FWD(id, text) text,
        CACHE_STATUS_FWDS(CACHE_STATUS_FWD)
#undef CACHE_STATUS_FWD
    };
    return (unsigned)f < CACHE_STATUS__COUNT ? name[f] : "";
}

static bool status_is_text(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            return false;
    }
    return true;
}

static void status_string(struct head_out *o, struct slice s)
{
    head_add(o, SLICE("\""));
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            head_add(o, SLICE("\\"));
        head_add(o, slice_of(s.p + i, 1));
    }
    head_add(o, SLICE("\""));
}

/* Integers of structured fields have at most 15 digits. */
static void status_number(struct head_out *o, struct slice name, int64_t v)
{
    const int64_t most = INT64_C(999999999999999);
    head_add(o, name);
    if (v < 0)
        head_add(o, SLICE("-"));
    if (v < -most || v > most)
        v = most;
    head_u64(o, (uint64_t)(v < 0 ? -v : v));
}

void cache_status_write(struct head_out *o, const struct cache_status *s, struct slice earlier)
{
    if (earlier.n > 0) {
        head_add(o, earlier);
        head_add(o, SLICE(", "));
    }
    head_add(o, SLICE("rpd"));
    if (s->hit) {
        head_add(o, SLICE("; hit"));
    } else if (s->fwd != CACHE_STATUS_NONE) {
        head_add(o, SLICE("; fwd="));
        head_add(o, slice_str(cache_status_fwd_name(s->fwd)));
        if (s->fwd_status != 0)
            status_number(o, SLICE("; fwd-status="), (int64_t)s->fwd_status);
        if (s->stored)
            head_add(o, SLICE("; stored"));
        if (s->collapsed)
            head_add(o, SLICE("; collapsed"));
    }
    if (s->has_ttl)
        status_number(o, SLICE("; ttl="), s->ttl);
    if (s->key.p != NULL && s->key.n <= KEY_MAX && status_is_text(s->key)) {
        head_add(o, SLICE("; key="));
        status_string(o, s->key);
    }
    if (s->detail.p != NULL && http_is_token(s->detail)) {
        head_add(o, SLICE("; detail="));
        head_add(o, s->detail);
    }
}
