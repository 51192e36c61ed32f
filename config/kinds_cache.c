/* Kinds of values of caches: lifetimes by status, durations that may be unset; their parsers and
 * printers. */
#include "base/num.h"
#include "config/kinds_own.h"

#include <inttypes.h>

#define LONGEST_MS 315360000000u /* ten years, which fit into 32 bits of seconds */

/* The end of "404=1m": where its lifetime begins, or the whole word's end. */
static struct slice before_mark(struct slice word, struct slice *ret_time)
{
    ptrdiff_t at = slice_chr(word, '=');
    size_t n = at < 0 ? word.n : (size_t)at;
    *ret_time = at < 0 ? SLICE_NONE : slice_of(word.p + n + 1, word.n - n - 1);
    return slice_of(word.p, n);
}

/* Lifetime of the items from `from` on. */
static bool set_time(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                     struct slice time, struct conf_ttls *l, size_t from)
{
    uint64_t ms;
    if (num_duration(time, &ms) < 0 || ms % 1000 != 0 || ms > LONGEST_MS)
        return conf_kind_bad(x, e, w, "lacks a duration in whole seconds behind \"=\" (404=1m)");
    for (size_t i = from; i < l->n; i++)
        l->v[i].seconds = (uint32_t)(ms / 1000);
    return true;
}

static bool add_status(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                       struct slice text, struct conf_ttls *l, bool fresh)
{
    uint64_t v;
    if (text.n != 3 || num_u64(text, &v) < 0 || v < 200 || v > 599)
        return conf_kind_bad(x, e, w, "is not STATUS ...=DURATION (200 203 404=1m)");
    if (v == 206 || v == 304)
        return conf_kind_bad(x, e, w, "is about a stored answer, and not stored itself");
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].status == v)
            return conf_kind_bad(x, e, w, "has a duration already");
    struct conf_ttl *own = conf_kind_grow(x, l, sizeof *own, fresh);
    if (own)
        own->status = (uint16_t)v;
    return own != NULL;
}

static bool parse_ttls(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_ttls *l = dst;
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    size_t open = l->n; /* the first status that waits for its duration */
    for (size_t i = 0; i < e->nword; i++) {
        struct slice time, status = before_mark(e->word[i].text, &time);
        if (!add_status(x, e, &e->word[i], status, l, e->first && i == 0))
            return false;
        if (!time.p)
            continue;
        if (!set_time(x, e, &e->word[i], time, l, open))
            return false;
        open = l->n;
    }
    return open == l->n || conf_kind_bad(x, e, &e->word[e->nword - 1],
                                         "lacks a duration: STATUS ...=DURATION (200 404=1m)");
}
static void item_ttls(const void *v, size_t i, struct buf *out)
{
    const struct conf_ttl *t = &((const struct conf_ttls *)v)->v[i];
    char text[32];
    buf_printf(out, "%u=" SLICE_FMT, t->status,
               SLICE_ARG(slice_of(text, num_fmt_duration(text, t->seconds * UINT64_C(1000)))));
}
const struct conf_kind conf_kind_ttls = {"status[=duration] ...",
                                         sizeof(struct conf_ttls),
                                         false,
                                         parse_ttls,
                                         conf_kind_list_count,
                                         item_ttls};

static bool parse_msopt(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    struct conf_ms_opt o = {.set = true};
    if (!w)
        return false;
    if (conf_kind_is_off(e))
        o.set = false;
    else if (num_duration(w->text, &o.ms) < 0)
        return conf_kind_bad(x, e, w, "is not a duration (250ms, 30s, 5m, 1h, 7d), or off");
    else if (o.ms > (uint64_t)e->key->max)
        return conf_kind_bad(x, e, w, "is too long; ten years are the limit");
    memset(dst, 0, sizeof o);
    memcpy(dst, &o, sizeof o);
    return true;
}
static size_t count_msopt(const void *v)
{
    return ((const struct conf_ms_opt *)v)->set;
}
static void item_msopt(const void *v, size_t i, struct buf *out)
{
    char text[32];
    (void)i;
    buf_add(out, slice_of(text, num_fmt_duration(text, ((const struct conf_ms_opt *)v)->ms)));
}
const struct conf_kind conf_kind_msopt = {
    "duration | off", sizeof(struct conf_ms_opt), false, parse_msopt, count_msopt, item_msopt};
