/* Kinds of values that name other sections: their parsers and printers. */
#include "config/kinds_own.h"

/* The object a word names, or an error with the nearest name. `names` is an array of pointers to
 * structs that begin with their name. */
static void *find_named(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                        const struct map *m, const char *kind, void *const *all, size_t n)
{
    void *o = map_get(m, w->text);
    struct conf_near near;
    if (o || x->muted)
        return o;
    conf_near_init(&near, w->text);
    for (size_t i = 0; i < n && x->d->n < 200; i++)
        conf_near_try(&near, *(const struct slice *)all[i]);
    if (near.best.p)
        conf_load_error(x, conf_load_word_pos(e, w),
                        "there is no [%s " SLICE_FMT "]; did you mean \"" SLICE_FMT "\"?", kind,
                        SLICE_ARG(w->text), SLICE_ARG(near.best));
    else
        conf_load_error(x, conf_load_word_pos(e, w), "there is no [%s " SLICE_FMT "]", kind,
                        SLICE_ARG(w->text));
    return NULL;
}

static bool parse_logrefs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_logs *l = dst;
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off)) {
        l->off = off;
        return off;
    }
    l->off = false;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_log *o =
            find_named(x, e, &e->word[i], &x->logs, "log", (void *const *)x->c->log, x->c->nlog);
        struct conf_log **own = o ? conf_kind_grow(x, dst, sizeof *own, e->first && i == 0) : NULL;
        if (!own)
            return false;
        *own = o;
    }
    return true;
}
static void item_logrefs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_logs *)v)->v[i]->name);
}
const struct conf_kind conf_kind_logrefs = {
    "log ... | off", sizeof(struct conf_logs), false,
    parse_logrefs,   conf_kind_list_count,     item_logrefs};

static bool parse_listenrefs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_listen *o = find_named(x, e, &e->word[i], &x->listens, "listen",
                                           (void *const *)x->c->listen, x->c->nlisten);
        struct conf_listen **own =
            o ? conf_kind_grow(x, dst, sizeof *own, e->first && i == 0) : NULL;
        if (!own)
            return false;
        *own = o;
    }
    return true;
}
static void item_listenrefs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_listens *)v)->v[i]->name);
}
const struct conf_kind conf_kind_listenrefs = {
    "listener ...",   sizeof(struct conf_listens), false,
    parse_listenrefs, conf_kind_list_count,        item_listenrefs};

static bool parse_certrefs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_certificate *o =
            find_named(x, e, &e->word[i], &x->certificates, "certificate",
                       (void *const *)x->c->certificate, x->c->ncertificate);
        struct conf_certificate **own =
            o ? conf_kind_grow(x, dst, sizeof *own, e->first && i == 0) : NULL;
        if (!own)
            return false;
        *own = o;
    }
    return true;
}
static void item_certrefs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_certificates *)v)->v[i]->name);
}
const struct conf_kind conf_kind_certrefs = {"certificate ...",
                                             sizeof(struct conf_certificates),
                                             false,
                                             parse_certrefs,
                                             conf_kind_list_count,
                                             item_certrefs};

static bool parse_upref(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_upstream *o = NULL;
    bool bad_before = x->bad_upstream;
    x->bad_upstream = true;
    if (e->nword > 1) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[1]),
                        "\"upstream\" takes one name; requests cannot be split between upstreams");
        return false;
    }
    if (!conf_kind_is_off(e)) {
        o = find_named(x, e, e->word, &x->upstreams, "upstream", (void *const *)x->c->upstream,
                       x->c->nupstream);
        if (!o)
            return false;
    }
    x->bad_upstream = bad_before;
    memcpy(dst, &o, sizeof o);
    return true;
}
static size_t count_upref(const void *v)
{
    return *(struct conf_upstream *const *)v != NULL;
}
static void item_upref(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_words_put(out, (*(struct conf_upstream *const *)v)->name);
}
const struct conf_kind conf_kind_upref = {
    "upstream", sizeof(struct conf_upstream *), false, parse_upref, count_upref, item_upref};

/* One name of a section, or off: a pointer. The words of the manual are "KIND | off". */
static bool parse_oneref(struct conf_load *x, const struct conf_entry *e, const struct map *m,
                         const char *kind, void *const *all, size_t n, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    void *o = NULL;
    if (!w)
        return false;
    if (!conf_kind_is_off(e)) {
        o = find_named(x, e, w, m, kind, all, n);
        if (!o)
            return false;
    }
    memcpy(dst, &o, sizeof o);
    return true;
}

static bool parse_cacheref(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    return parse_oneref(x, e, &x->caches, "cache", (void *const *)x->c->cache, x->c->ncache, dst);
}
static size_t count_cacheref(const void *v)
{
    return *(struct conf_cache *const *)v != NULL;
}
static void item_cacheref(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_words_put(out, (*(struct conf_cache *const *)v)->name);
}
const struct conf_kind conf_kind_cacheref = {"cache | off",  sizeof(struct conf_cache *),
                                             false,          parse_cacheref,
                                             count_cacheref, item_cacheref};

static bool parse_compressref(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    return parse_oneref(x, e, &x->compresses, "compress", (void *const *)x->c->compress,
                        x->c->ncompress, dst);
}
static size_t count_compressref(const void *v)
{
    return *(struct conf_compress *const *)v != NULL;
}
static void item_compressref(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_words_put(out, (*(struct conf_compress *const *)v)->name);
}
const struct conf_kind conf_kind_compressref = {
    "compress | off", sizeof(struct conf_compress *), false, parse_compressref, count_compressref,
    item_compressref};
