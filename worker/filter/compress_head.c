/* Which answers are compressed, into what, and what their heads say then (RFC 9110 8.4, 8.8.3,
 * 12.5.3). For heads in fields and for the lines that a cache keeps. */
#include "worker/filter/compress.h"

#include "base/err.h"
#include "worker/cache/key.h"
#include "worker/http/accept_encoding.h"
#include "worker/http/etag.h"

#define COMPRESS_TYPE_MAX 127u /* bytes of a media type without parameters */

/* ---- what a head says ---- */

struct compress_facts {
    struct slice type;
    struct slice etag;
    bool encoded, no_transform, varies;
};

static bool compress_lists(struct slice value, struct slice word)
{
    struct slice item;
    while (slice_next(&value, ',', &item))
        if (slice_eq_ci(item, word))
            return true;
    return false;
}

static void compress_fact(struct compress_facts *f, uint8_t id, struct slice value)
{
    if (id == FIELD_CONTENT_TYPE)
        f->type = value;
    else if (id == FIELD_ETAG)
        f->etag = value;
    else if (id == FIELD_CONTENT_ENCODING)
        f->encoded = true;
    else if (id == FIELD_CACHE_CONTROL)
        f->no_transform |= compress_lists(value, SLICE("no-transform"));
    else if (id == FIELD_VARY)
        f->varies |= compress_lists(value, SLICE("accept-encoding")) || slice_eq(value, SLICE("*"));
}

static void compress_facts_of(struct compress_facts *f, const struct http_field *h, size_t n)
{
    *f = (struct compress_facts){0};
    for (size_t i = 0; i < n; i++)
        if (!(h[i].flags & FIELD_NOMINATED))
            compress_fact(f, h[i].id, h[i].value);
}

/* A line of stored fields that may be of interest: those that begin with one of these letters. The
 * status line does not. */
struct compress_line {
    const char *p, *end; /* end: behind its line feed */
    uint8_t id;
    struct slice name, value;
};

/* The next one behind `from`. False: there is none. */
static bool compress_line(const char *from, const char *end, const char *letters,
                          struct compress_line *ret)
{
    const char *lf;
    for (; from < end && (lf = memchr(from, '\n', (size_t)(end - from))); from = lf + 1) {
        if (!strchr(letters, *from | 0x20))
            continue;
        const char *colon = memchr(from, ':', (size_t)(lf - from));
        if (!colon)
            continue;
        ret->p = from;
        ret->end = lf + 1;
        ret->name = slice_of(from, (size_t)(colon - from));
        ret->id = http_field_id_of(ret->name);
        ret->value = slice_of(colon + 1, (size_t)(lf - colon - 1));
        while (ret->value.n && (ret->value.p[0] == ' ' || ret->value.p[0] == '\t')) {
            ret->value.p++;
            ret->value.n--;
        }
        if (ret->value.n && ret->value.p[ret->value.n - 1] == '\r')
            ret->value.n--;
        return true;
    }
    return false;
}

static void compress_facts_stored(struct compress_facts *f, struct slice fields)
{
    const char *end = fields.p + fields.n;
    struct compress_line l = {.end = fields.p};
    *f = (struct compress_facts){0};
    while (compress_line(l.end, end, "cv", &l)) /* Content-, Cache-Control, Vary */
        compress_fact(f, l.id, l.value);
}

/* ---- which ---- */

static bool compress_type_in(const struct conf_words *types, struct slice value)
{
    char lower[COMPRESS_TYPE_MAX];
    const ptrdiff_t semi = slice_chr(value, ';');
    const struct slice type = semi < 0 ? value : slice_trim(slice_of(value.p, (size_t)semi));
    if (!type.n || type.n > sizeof lower || types->off)
        return false;
    for (size_t i = 0; i < type.n; i++)
        lower[i] = (char)(type.p[i] >= 'A' && type.p[i] <= 'Z' ? type.p[i] | 0x20 : type.p[i]);
    for (size_t i = 0; i < types->n; i++)
        if (key_glob(types->v[i], slice_of(lower, type.n)))
            return true;
    return false;
}

/* A site has few types: the last ones are remembered, by their length. */
static bool compress_type(const struct conf_words *types, struct slice value)
{
    static struct {
        const struct conf_words *types;
        size_t n;
        bool yes;
        char text[COMPRESS_TYPE_MAX];
    } last[16];
    const size_t i = value.n % (sizeof last / sizeof *last);
    if (!value.n || value.n > COMPRESS_TYPE_MAX)
        return compress_type_in(types, value);
    if (last[i].types != types || last[i].n != value.n ||
        memcmp(last[i].text, value.p, value.n) != 0) {
        last[i].types = types;
        last[i].n = value.n;
        last[i].yes = compress_type_in(types, value);
        memcpy(last[i].text, value.p, value.n);
    }
    return last[i].yes;
}

/* Whether clients that take a coding get another answer than those that do not. size: UINT64_MAX
 * where it is not known. */
static bool compress_eligible(const struct conf_compress_keys *k, const struct compress_facts *f,
                              unsigned status, uint64_t size)
{
    return status >= 200 && status != 204 && status != 205 && status != 304 && !f->encoded &&
           !f->no_transform && k->algorithms.n && size >= k->min_size &&
           compress_type(&k->types, f->type);
}

/* The codings that this client likes better than none, the best liked first. */
struct compress_choice {
    const struct conf_coding_level *level[CONF_CODING__COUNT];
    unsigned n;
    bool must; /* it takes nothing else */
};

static void compress_choices(const struct stream *s, struct compress_choice *ret)
{
    static const enum accept_coding of[] = {[CONF_CODING_BR] = ACCEPT_BR,
                                            [CONF_CODING_GZIP] = ACCEPT_GZIP,
                                            [CONF_CODING_ZSTD] = ACCEPT_ZSTD};
    const struct conf_codings *l = &s->scope->compress->k.algorithms;
    struct accept_encoding a;
    *ret = (struct compress_choice){.n = 0};
    /* HTTP/1.0 has no chunks: a connection per answer would cost more than it saves. */
    if (s->malformed || (s->req.major < 2 && s->req.minor == 0))
        return;
    accept_encoding_of(&s->req, &a);
    ret->must = !a.q[ACCEPT_IDENTITY];
    for (size_t i = 0; i < l->n; i++) {
        const unsigned q = a.q[of[l->v[i].coding]];
        unsigned at = ret->n;
        if (!q || q < a.q[ACCEPT_IDENTITY] || !codec_of(l->v[i].coding))
            continue;
        for (; at && a.q[of[ret->level[at - 1]->coding]] < q; at--)
            ret->level[at] = ret->level[at - 1];
        ret->level[at] = &l->v[i];
        ret->n++;
    }
}

/* ---- what heads say then ---- */

/* Fields that speak of bytes which are no longer those. RFC 9530: digests cover the coding too. */
static bool compress_drops(uint8_t id, struct slice name)
{
    return id == FIELD_ETAG || id == FIELD_ACCEPT_RANGES ||
           (id == FIELD_UNKNOWN &&
            (slice_eq_ci(name, SLICE("content-md5")) || slice_eq_ci(name, SLICE("digest")) ||
             slice_eq_ci(name, SLICE("content-digest")) ||
             slice_eq_ci(name, SLICE("repr-digest"))));
}

/* A strong tag promises the same bytes; a weak one that they mean the same. */
static void compress_etag(struct head_out *o, struct slice tag)
{
    struct etag e;
    if (!tag.n || !etag_parse(tag, &e) || !e.quoted)
        return;
    head_add(o, SLICE("ETag: W/"));
    head_add(o, e.opaque);
    head_add(o, SLICE("\r\n"));
}

static void compress_vary(struct head_out *o, const struct compress_facts *f)
{
    if (!f->varies)
        head_add(o, SLICE("Vary: Accept-Encoding\r\n"));
}

static void compress_coding_line(struct head_out *o, enum conf_coding c)
{
    head_field(o, SLICE("Content-Encoding"), codec_of(c)->name);
}

/* Room for our lines, behind those that the answer gets anyway. False: no memory. */
static bool compress_lines(struct stream *s, const struct compress_facts *f, struct head_out *ret)
{
    const struct slice l = s->fwd.lines;
    const size_t cap = l.n + f->etag.n + 64; /* ETag, Content-Encoding and Vary */
    *ret = (struct head_out){.p = arena_bytes(&s->arena, cap), .cap = cap};
    if (ret->p)
        head_add(ret, l);
    return ret->p != NULL;
}

/* A 304 names what the client has: we may have made its tag a weak one. */
static void compress_not_modified(struct stream *s, struct http_response *r,
                                  const struct compress_facts *f)
{
    struct head_out o;
    struct etag mine, theirs;
    struct compress_choice want;
    bool named = false;
    compress_choices(s, &want);
    if (!want.n || !etag_parse(f->etag, &mine) || mine.weak || !mine.quoted)
        return;
    for (size_t i = 0; i < s->req.nfield; i++) {
        struct slice rest = s->req.field[i].value;
        while (s->req.field[i].id == FIELD_IF_NONE_MATCH && etag_next(&rest, &theirs))
            named |= theirs.weak && etag_eq_weak(mine, theirs);
    }
    if (!named || !compress_lines(s, f, &o))
        return;
    compress_etag(&o, f->etag);
    compress_vary(&o, f);
    for (size_t i = 0; i < r->nfield; i++)
        if (r->field[i].id == FIELD_ETAG)
            r->field[i].flags |= FIELD_NOMINATED;
    s->fwd.lines = slice_of(o.p, o.n);
}

/* The head as it is with that coding. */
static void compress_rewrite(struct stream *s, struct http_response *r, struct head_out *o,
                             const struct compress_facts *f, enum conf_coding c)
{
    for (size_t i = 0; i < r->nfield; i++)
        if (compress_drops(r->field[i].id, r->field[i].name))
            r->field[i].flags |= FIELD_NOMINATED;
    compress_etag(o, f->etag);
    compress_coding_line(o, c);
    s->fwd.write_length = false;
    if (s->fwd.framing == HTTP_BODY_LENGTH)
        s->fwd.framing = HTTP_BODY_CHUNKED;
    s->coding = (uint8_t)(c + 1);
}

void compress_head(struct stream *s, struct http_response *r)
{
    struct head_out o;
    struct compress_facts f;
    struct compress_choice want;
    const bool head = !s->malformed && s->req.method == HTTP_HEAD;
    if (!s->scope || !s->scope->compress || r->status < 200 || s->grpc)
        return;
    compress_facts_of(&f, r->field, r->nfield);
    if (r->status == 304) {
        compress_not_modified(s, r, &f);
        return;
    }
    const uint64_t size = r->has_length ? r->content_length : UINT64_MAX;
    if ((s->fwd.framing == HTTP_BODY_NONE && !head) ||
        !compress_eligible(&s->scope->compress->k, &f, r->status,
                           r->status == 206 ? UINT64_MAX : size))
        return;
    if (!compress_lines(s, &f, &o))
        return;
    compress_choices(s, &want);
    if (r->status == 206)
        want.n = 0; /* a part of the content is one of a certain coding */
    for (unsigned i = 0; i < want.n; i++) {
        const struct compress_how how = {
            .level = want.level[i], .size = size, .eager = r->event_stream, .must = want.must};
        if (!head && compress_begin(s, &how) < 0)
            continue;
        compress_rewrite(s, r, &o, &f, how.level->coding);
        break;
    }
    compress_vary(&o, &f);
    s->fwd.lines = slice_of(o.p, o.n);
}

/* ---- the same for what a cache has ---- */

void compress_choose(struct stream *s, const struct stream_stored *st, struct stream_coded *ret)
{
    struct compress_facts f;
    struct compress_choice want;
    *ret = (struct stream_coded){0};
    if (!s->scope->compress || st->size < s->scope->compress->k.min_size)
        return;
    compress_facts_stored(&f, st->fields);
    if (!compress_eligible(&s->scope->compress->k, &f, st->status, st->size))
        return;
    ret->vary = !f.varies;
    compress_choices(s, &want);
    if (want.n)
        ret->coding = (uint8_t)(want.level[0]->coding + 1);
}

void compress_coded_head(const struct stream_stored *st, uint8_t coding, struct head_out *o)
{
    const char *from = st->fields.p, *end = from + st->fields.n;
    struct compress_line l = {.end = from};
    struct compress_facts f = {0};
    while (compress_line(l.end, end, "acderv", &l)) {
        compress_fact(&f, l.id, l.value);
        if (!compress_drops(l.id, l.name))
            continue;
        head_add(o, slice_of(from, (size_t)(l.p - from)));
        from = l.end;
    }
    head_add(o, slice_of(from, (size_t)(end - from)));
    compress_etag(o, f.etag);
    compress_coding_line(o, (enum conf_coding)(coding - 1));
    compress_vary(o, &f);
}

int compress_encode(struct stream *s, const struct stream_stored *st, uint8_t coding,
                    void (*copy)(struct stream *s, struct slice bytes, bool end))
{
    struct compress_choice want;
    compress_choices(s, &want);
    for (unsigned i = 0; i < want.n; i++) {
        const struct compress_how how = {
            .level = want.level[i], .size = st->size, .must = want.must, .copy = copy};
        if (want.level[i]->coding + 1u == coding)
            return compress_begin(s, &how);
    }
    return -ERR_FULL;
}
