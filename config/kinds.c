/* The table of kinds, and the kinds of values that are a number or a text: their parsers and
 * printers. */
#include "base/err.h"
#include "base/num.h"
#include "config/kinds_own.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

const struct conf_word *conf_kind_one(struct conf_load *x, const struct conf_entry *e)
{
    if (e->nword == 1)
        return &e->word[0];
    struct slice name = conf_key_name(e->key);
    conf_load_error(x, conf_load_word_pos(e, &e->word[1]),
                    "\"" SLICE_FMT "\" takes one value; quote it if the blank is part of it",
                    SLICE_ARG(name));
    return NULL;
}

bool conf_kind_is_off(const struct conf_entry *e)
{
    return e->nword == 1 && !e->word[0].quoted && slice_eq(e->word[0].text, SLICE("off"));
}

static bool bad_value(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                      const char *what)
{
    struct slice name = conf_key_name(e->key);
    conf_load_error(x, conf_load_word_pos(e, w), "\"" SLICE_FMT "\": \"" SLICE_FMT "\" is not %s",
                    SLICE_ARG(name), SLICE_ARG(w->text), what);
    return false;
}

void conf_kind_number(enum conf_kind_id kind, int64_t v, struct buf *out)
{
    char text[32];
    if (kind == CONF_KIND_MS)
        buf_add(out, slice_of(text, num_fmt_duration(text, (uint64_t)v)));
    else if (kind == CONF_KIND_SIZE)
        buf_add(out, slice_of(text, num_fmt_size(text, (uint64_t)v)));
    else if (kind == CONF_KIND_OCTAL)
        buf_printf(out, "0%" PRIo64, (uint64_t)v);
    else
        buf_printf(out, "%" PRId64, v);
}

static bool in_range(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                     int64_t v)
{
    const struct conf_key *k = e->key;
    if ((k->min == 0 && k->max == 0) || (v >= k->min && v <= k->max))
        return true;
    struct slice name = conf_key_name(k);
    buf_clear(&x->scratch);
    conf_kind_number(k->kind, k->min, &x->scratch);
    buf_str(&x->scratch, " and ");
    conf_kind_number(k->kind, k->max, &x->scratch);
    conf_load_error(x, conf_load_word_pos(e, w), "\"" SLICE_FMT "\" must be between " SLICE_FMT,
                    SLICE_ARG(name), SLICE_ARG(buf_slice(&x->scratch)));
    return false;
}

static bool parse_u64(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    uint64_t v;
    int k;
    const char *what;
    if (!w)
        return false;
    if (e->key->kind == CONF_KIND_SIZE) {
        k = num_size(w->text, &v);
        what = "a size (512, 64k, 16m, 1g)";
    } else if (e->key->kind == CONF_KIND_MS) {
        k = num_duration(w->text, &v);
        what = "a duration (250ms, 30s, 5m, 1h, 7d)";
    } else {
        k = num_u64(w->text, &v);
        what = "a number";
    }
    if (k < 0 || v > INT64_MAX)
        return bad_value(x, e, w, k == -ERR_INVAL ? what : "small enough");
    if (!in_range(x, e, w, (int64_t)v))
        return false;
    memcpy(dst, &v, sizeof v);
    return true;
}

static void put_count(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_kind_number(CONF_KIND_COUNT, (int64_t) * (const uint64_t *)v, out);
}
static void put_size(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_kind_number(CONF_KIND_SIZE, (int64_t) * (const uint64_t *)v, out);
}
static void put_ms(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_kind_number(CONF_KIND_MS, (int64_t) * (const uint64_t *)v, out);
}

static bool parse_octal(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    uint32_t v = 0;
    if (!w)
        return false;
    for (size_t i = 0; i < w->text.n; i++) {
        if (w->text.p[i] < '0' || w->text.p[i] > '7' || w->text.n > 6)
            return bad_value(x, e, w, "an octal number (0660)");
        v = v * 8 + (uint32_t)(w->text.p[i] - '0');
    }
    if (w->text.n == 0 || !in_range(x, e, w, v))
        return w->text.n == 0 ? bad_value(x, e, w, "an octal number (0660)") : false;
    memcpy(dst, &v, sizeof v);
    return true;
}
static void put_octal(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_kind_number(CONF_KIND_OCTAL, *(const uint32_t *)v, out);
}

static bool parse_int(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    uint64_t v;
    if (!w)
        return false;
    bool minus = w->text.n > 0 && w->text.p[0] == '-';
    if (num_u64(slice_of(w->text.p + minus, w->text.n - minus), &v) < 0 || v > INT32_MAX)
        return bad_value(x, e, w, "a whole number");
    int32_t n = minus ? -(int32_t)v : (int32_t)v;
    if (!in_range(x, e, w, n))
        return false;
    memcpy(dst, &n, sizeof n);
    return true;
}
static void put_int(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_kind_number(CONF_KIND_INT, *(const int32_t *)v, out);
}

static bool parse_percent(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    uint32_t v;
    if (!w)
        return false;
    if (num_percent(w->text, &v) < 0)
        return bad_value(x, e, w, "a percentage from 0% to 100%");
    memcpy(dst, &v, sizeof v);
    return true;
}
static void put_percent(const void *v, size_t i, struct buf *out)
{
    uint32_t n = *(const uint32_t *)v, part = n % 1000;
    (void)i;
    buf_u64(out, n / 1000);
    if (part) {
        char text[8];
        int len = snprintf(text, sizeof text, ".%03u", part);
        while (len > 0 && text[len - 1] == '0')
            len--;
        buf_add(out, slice_of(text, (size_t)len));
    }
    buf_chr(out, '%');
}

static bool parse_workers(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    uint64_t v = 0;
    if (!w)
        return false;
    if (!slice_eq(w->text, SLICE("auto"))) {
        if (num_u64(w->text, &v) < 0 || v > INT32_MAX)
            return bad_value(x, e, w, "a number or auto");
        if (!in_range(x, e, w, (int64_t)v))
            return false;
    }
    uint32_t n = (uint32_t)v;
    memcpy(dst, &n, sizeof n);
    return true;
}
static void put_workers(const void *v, size_t i, struct buf *out)
{
    (void)i;
    if (*(const uint32_t *)v)
        buf_u64(out, *(const uint32_t *)v);
    else
        buf_str(out, "auto");
}

/* syslog, syslog:FACILITY, or anything else, which is a path. */
static bool is_log_target(struct slice s)
{
    static const char *const facility[] = {"kern",   "user",   "mail",   "daemon", "auth",
                                           "syslog", "lpr",    "news",   "uucp",   "cron",
                                           "ftp",    "local0", "local1", "local2", "local3",
                                           "local4", "local5", "local6", "local7", "authpriv"};
    if (!slice_starts(s, SLICE("syslog:")))
        return true;
    for (size_t i = 0; i < sizeof facility / sizeof facility[0]; i++)
        if (slice_eq(slice_of(s.p + 7, s.n - 7), slice_str(facility[i])))
            return true;
    return false;
}

/* What a text may not be, by its key; NULL when it is fine. */
static const char *text_problem(const struct conf_key *k, struct slice s)
{
    if (s.n == 0)
        return "a value: it is empty";
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f) && strcmp(k->name, "format") != 0)
            return "a plain text: it has a control byte";
    if (k->group == CONF_GROUP_LOG && strcmp(k->name, "file") == 0 && !is_log_target(s))
        return "a log: there is no such syslog facility";
    if (strcmp(k->name, "host_header") == 0 &&
        strspn(s.p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:[]-") != s.n)
        return "client, server or a host name";
    if (strcmp(k->name, "tls_name") == 0 && addr_parse_ip(s, &(union addr){0}) < 0 &&
        conf_kind_dns_problem(s))
        return "a host name";
    return NULL;
}

static bool parse_str(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    if (!w)
        return false;
    const char *problem = text_problem(e->key, w->text);
    if (problem)
        return bad_value(x, e, w, problem);
    struct slice v = (e->key->flags & F_OFF) && conf_kind_is_off(e) ? SLICE("") : w->text;
    memcpy(dst, &v, sizeof v);
    return true;
}
static size_t count_str(const void *v)
{
    return ((const struct slice *)v)->n > 0;
}
static void put_str(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_words_put(out, *(const struct slice *)v);
}

static bool parse_text(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    buf_clear(&x->scratch);
    for (size_t i = 0; i < e->nword; i++) {
        const char *problem = text_problem(e->key, e->word[i].text);
        if (problem)
            return bad_value(x, e, &e->word[i], problem);
        if (i > 0)
            buf_chr(&x->scratch, ' ');
        buf_add(&x->scratch, e->word[i].text);
    }
    struct slice v =
        x->scratch.failed ? SLICE_NONE : arena_dup(&x->c->arena, buf_slice(&x->scratch));
    memcpy(dst, &v, sizeof v);
    return v.p != NULL;
}

/* A path, or off for none; relative ones begin where the file is that names it, as those of include
 * do. */
static bool parse_file(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    const struct conf_word *w = conf_kind_one(x, e);
    if (w && conf_kind_is_off(e)) {
        memset(dst, 0, sizeof(struct slice));
        return true;
    }
    return w && conf_kind_path(x, e, w, w->text, dst);
}

bool conf_kind_path(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                    struct slice path, struct slice *ret)
{
    const char *problem = text_problem(e->key, path);
    if (problem)
        return bad_value(x, e, w, problem);
    if (path.n >= PATH_MAX)
        return bad_value(x, e, w, "a path: it is too long");
    *ret = conf_snapshot_join(&x->c->arena, e->pos.file, path);
    return ret->p != NULL;
}

#define SCALAR(name, syntax, type, parse, put)                                                     \
    static const struct conf_kind conf_kind_##name = {syntax, sizeof(type),        false,          \
                                                      parse,  conf_kind_count_one, put}
SCALAR(count, "number", uint64_t, parse_u64, put_count);
SCALAR(size, "size", uint64_t, parse_u64, put_size);
SCALAR(ms, "duration", uint64_t, parse_u64, put_ms);
SCALAR(octal, "mode", uint32_t, parse_octal, put_octal);
SCALAR(int, "number", int32_t, parse_int, put_int);
SCALAR(percent, "percent", uint32_t, parse_percent, put_percent);
SCALAR(workers, "auto | number", uint32_t, parse_workers, put_workers);
static const struct conf_kind conf_kind_str = {
    "text", sizeof(struct slice), false, parse_str, count_str, put_str};
static const struct conf_kind conf_kind_text = {
    "text ...", sizeof(struct slice), false, parse_text, count_str, put_str};
static const struct conf_kind conf_kind_file = {
    "path", sizeof(struct slice), false, parse_file, count_str, put_str};

#define KIND(id, name) [CONF_KIND_##id] = &conf_kind_##name
static const struct conf_kind *const kinds[] = {
    KIND(STR, str),
    KIND(FILE, file),
    KIND(TEXT, text),
    KIND(BOOL, bool),
    KIND(COUNT, count),
    KIND(SIZE, size),
    KIND(MS, ms),
    KIND(OCTAL, octal),
    KIND(INT, int),
    KIND(PERCENT, percent),
    KIND(WORKERS, workers),
    KIND(AUTO_OFF, auto_off),
    KIND(LOGLEVEL, loglevel),
    KIND(ENUM_REQID, reqid),
    KIND(ENUM_SRVHDR, srvhdr),
    KIND(ENUM_BALANCE, balance),
    KIND(ENUM_POLICY, policy),
    KIND(ENUM_VERIFY, verify),
    KIND(ENUM_HREDIR, hredir),
    KIND(ENUM_CCERT, ccert),
    KIND(ENUM_LOAD, load),
    KIND(ENUM_UPROTO, uproto),
    KIND(ENUM_CVERIFY, cverify),
    KIND(CIDRS, cidrs),
    KIND(WORDS, words),
    KIND(ADDRS, addrs),
    KIND(PROXYP, proxyp),
    KIND(RETRY, retry),
    KIND(ERRPAGE, errpage),
    KIND(LOGREFS, logrefs),
    KIND(HNAMES, hnames),
    KIND(LISTENREFS, listenrefs),
    KIND(PATH, paths),
    KIND(RETURN, return ),
    KIND(UPREF, upref),
    KIND(SERVERS, servers),
    KIND(PROTOS, protos),
    KIND(CERTREFS, certrefs),
    KIND(PAIRS, pairs),
    KIND(HSTS, hsts),
    KIND(TTLS, ttls),
    KIND(MSOPT, msopt),
    KIND(CACHEREF, cacheref),
    KIND(COMPRESSREF, compressref),
    KIND(CODINGS, codings),
};
_Static_assert(sizeof kinds / sizeof kinds[0] == CONF_KIND__COUNT, "every kind");

const struct conf_kind *conf_kind_of(const struct conf_key *k)
{
    return kinds[k->kind];
}

bool conf_kind_default(struct conf_load *x, const struct conf_key *k, void *dst)
{
    if (k->def[0] == 0)
        return true;
    struct conf_ini_entry ie = {.value = slice_str(k->def)};
    struct conf_entry e = {.key = k, .pos = {"<default>", 0, 0}, .first = true};
    if (conf_words_split(&ie, &x->c->arena, &x->scratch, NULL, NULL, &e.word, &e.nword) < 0)
        return false;
    return conf_kind_of(k)->parse(x, &e, dst);
}

void conf_kind_print(const struct conf_key *k, const void *v, struct buf *out)
{
    const struct conf_kind *kind = conf_kind_of(k);
    size_t n = kind->count(v);
    if (n == 0)
        buf_str(out, "off");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_chr(out, ' ');
        kind->item(v, i, out);
    }
}

bool conf_kind_equal(const struct conf_key *k, const void *a, const void *b, struct buf *scratch)
{
    if (memcmp(a, b, conf_kind_of(k)->size) == 0)
        return true;
    buf_clear(scratch);
    conf_kind_print(k, a, scratch);
    size_t n = scratch->n;
    conf_kind_print(k, b, scratch);
    return !scratch->failed && n * 2 == scratch->n && memcmp(scratch->p, scratch->p + n, n) == 0;
}
