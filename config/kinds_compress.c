/* Kinds of values of compression: algorithms with their levels; parsers and printers. */
#include "base/num.h"
#include "config/kinds_own.h"

static const struct coding_info {
    struct slice name;
    int least, most, usual;
    const char *wrong;
} coding_info[CONF_CODING__COUNT] = {
    [CONF_CODING_BR] = {{"br", 2}, 0, 11, 4, "lacks a level from 0 to 11 behind the colon"},
    [CONF_CODING_GZIP] = {{"gzip", 4}, 1, 9, 5, "lacks a level from 1 to 9 behind the colon"},
    [CONF_CODING_ZSTD] = {{"zstd", 4}, 1, 19, 3, "lacks a level from 1 to 19 behind the colon"},
};

/* The algorithm and level of one word. */
static bool parse_coding(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                         struct conf_coding_level *ret)
{
    const ptrdiff_t colon = slice_chr(w->text, ':');
    const struct slice name = slice_of(w->text.p, colon < 0 ? w->text.n : (size_t)colon);
    unsigned i = 0;
    while (i < CONF_CODING__COUNT && !slice_eq(name, coding_info[i].name))
        i++;
    if (i == CONF_CODING__COUNT)
        return conf_kind_bad(x, e, w, "is not br, gzip or zstd");
    const struct coding_info *c = &coding_info[i];
    uint64_t level = (uint64_t)c->usual;
    if (colon >= 0 && (num_u64(slice_of(name.p + name.n + 1, w->text.n - name.n - 1), &level) < 0 ||
                       level < (uint64_t)c->least || level > (uint64_t)c->most))
        return conf_kind_bad(x, e, w, c->wrong);
    *ret = (struct conf_coding_level){.coding = (enum conf_coding)i, .level = (int)level};
    return true;
}

static bool parse_codings(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_codings *l = dst;
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_coding_level one;
        if (!parse_coding(x, e, &e->word[i], &one))
            return false;
        for (size_t k = 0; k < l->n && !(e->first && i == 0); k++)
            if (l->v[k].coding == one.coding)
                return conf_kind_bad(x, e, &e->word[i], "is named twice");
        struct conf_coding_level *own = conf_kind_grow(x, l, sizeof *own, e->first && i == 0);
        if (!own)
            return false;
        *own = one;
    }
    return true;
}
static void item_codings(const void *v, size_t i, struct buf *out)
{
    const struct conf_coding_level *c = &((const struct conf_codings *)v)->v[i];
    buf_printf(out, SLICE_FMT ":%d", SLICE_ARG(coding_info[c->coding].name), c->level);
}
const struct conf_kind conf_kind_codings = {
    "algorithm[:level] ...", sizeof(struct conf_codings), false,
    parse_codings,           conf_kind_list_count,        item_codings};
