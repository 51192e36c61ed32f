/* Kinds of values that TLS needs: protocols, pairs of certificate and key, hsts. */
#include "base/num.h"
#include "config/kinds_own.h"

static const struct {
    const char *word;
    uint32_t bit;
} protos[] = {{"h2", CONF_PROTO_H2}, {"http/1.1", CONF_PROTO_H1}};
#define PROTOS (sizeof protos / sizeof protos[0])

static bool parse_protos(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < e->nword; i++) {
        size_t k = 0;
        while (k < PROTOS && !slice_eq(e->word[i].text, slice_str(protos[k].word)))
            k++;
        if (k == PROTOS)
            return conf_kind_bad(x, e, &e->word[i], "is not h2 or http/1.1");
        bits |= protos[k].bit;
    }
    memcpy(dst, &bits, sizeof bits);
    return true;
}
static void item_protos(const void *v, size_t i, struct buf *out)
{
    uint32_t bits = *(const uint32_t *)v;
    const char *blank = "";
    (void)i;
    for (size_t k = 0; k < PROTOS; k++) {
        if (!(bits & protos[k].bit))
            continue;
        buf_printf(out, "%s%s", blank, protos[k].word);
        blank = " ";
    }
}
const struct conf_kind conf_kind_protos = {"protocol ...", sizeof(uint32_t),    false,
                                           parse_protos,   conf_kind_count_one, item_protos};

static bool parse_pairs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_pair p = {.pos = conf_load_word_pos(e, e->word)}, *own;
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    if (e->nword > 2) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[2]),
                        "\"pair\" is CERT.pem KEY.pem, or one file; use a line for each pair");
        return false;
    }
    if (!conf_kind_path(x, e, &e->word[0], e->word[0].text, &p.cert))
        return false;
    p.key = p.cert;
    if (e->nword == 2 && !conf_kind_path(x, e, &e->word[1], e->word[1].text, &p.key))
        return false;
    own = conf_kind_grow(x, dst, sizeof p, e->first);
    if (!own)
        return false;
    *own = p;
    return true;
}
static void item_pairs(const void *v, size_t i, struct buf *out)
{
    const struct conf_pair *p = &((const struct conf_pairs *)v)->v[i];
    conf_words_put(out, p->cert);
    if (!slice_eq(p->key, p->cert)) {
        buf_chr(out, ' ');
        conf_words_put(out, p->key);
    }
}
const struct conf_kind conf_kind_pairs = {"cert [key]", sizeof(struct conf_pairs), true,
                                          parse_pairs,  conf_kind_list_count,      item_pairs};

#define YEAR_S (365u * 86400u) /* the least that lists of preloaded names take */

static bool parse_hsts(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_hsts h = {.set = true};
    uint64_t ms;
    if (conf_kind_is_off(e)) {
        memset(dst, 0, sizeof h);
        return true;
    }
    if (num_duration(e->word[0].text, &ms) < 0 || ms % 1000 != 0)
        return conf_kind_bad(x, e, &e->word[0],
                             "is not a duration in whole seconds (365d), or off");
    h.max_age_s = ms / 1000;
    for (size_t i = 1; i < e->nword; i++) {
        if (slice_eq(e->word[i].text, SLICE("include_subdomains")))
            h.include_subdomains = true;
        else if (slice_eq(e->word[i].text, SLICE("preload")))
            h.preload = true;
        else
            return conf_kind_bad(x, e, &e->word[i], "is not include_subdomains or preload");
    }
    if (h.preload && (!h.include_subdomains || h.max_age_s < YEAR_S))
        conf_load_warn(x, conf_load_word_pos(e, e->word),
                       "names are preloaded only with include_subdomains and at least 365d");
    memcpy(dst, &h, sizeof h);
    return true;
}
static size_t count_hsts(const void *v)
{
    return ((const struct conf_hsts *)v)->set;
}
static void item_hsts(const void *v, size_t i, struct buf *out)
{
    const struct conf_hsts *h = v;
    char text[32];
    (void)i;
    buf_add(out, slice_of(text, num_fmt_duration(text, h->max_age_s * 1000)));
    if (h->include_subdomains)
        buf_str(out, " include_subdomains");
    if (h->preload)
        buf_str(out, " preload");
}
const struct conf_kind conf_kind_hsts = {"off | duration [include_subdomains] [preload]",
                                         sizeof(struct conf_hsts),
                                         false,
                                         parse_hsts,
                                         count_hsts,
                                         item_hsts};
