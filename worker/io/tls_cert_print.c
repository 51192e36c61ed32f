/* Certificates for people: rpctl cert, and the rows of the segment; see tls_cert.h. */
#include "worker/io/tls_cert_in.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PRINT_BYTES (120u * 1024) /* what the channel to the master takes at once */
#define PRINT_NAMES 8u            /* names of one certificate, unless a name was asked for */

const char *tls_cert_date(int64_t s, char out[16])
{
    time_t t = (time_t)s;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || !strftime(out, 16, "%Y-%m-%d", &tm))
        snprintf(out, 16, "?");
    return out;
}

static void print_copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text ? text : "");
}

static struct certs_entry *print_soonest(struct certs_section *s)
{
    if (s->soonest_known)
        return s->soonest;
    s->soonest = NULL;
    LIST_EACH(it, &s->entries)
    {
        struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
        if (e->not_after_s && (!s->soonest || e->not_after_s < s->soonest->not_after_s))
            s->soonest = e;
    }
    s->soonest_known = true;
    return s->soonest;
}

void tls_cert_row(struct certs_section *s)
{
    const struct tls_env *env = &s->certs->t->env;
    if (!env->segment || !env->cert_id)
        return;
    const struct certs_entry *e = print_soonest(s);
    struct cert_state st = {.names = s->nref,
                            .loaded = s->nloaded,
                            .failed = s->nfailed,
                            .not_after_s = e ? e->not_after_s : 0,
                            .changed_ms = (uint64_t)clock_cached.wall_ms};
    if (e)
        print_copy(st.first_name, sizeof st.first_name,
                   e->nref      ? e->ref[0].name->text
                   : e->name[0] ? e->name
                                : s->conf->k.pair.v[e->nth].cert.p);
    if (s->nfailed)
        print_copy(st.error, sizeof st.error, s->error);
    (void)cert_put(env->segment, slot_owner_id(env->segment, env->slot), env->cert_id[s->conf->id],
                   &st);
}

/* ---- rpctl cert ---- */

/* text: the filter as it was given, for names of files and sections; filter: of hosts. */
static bool print_wanted(const struct certs_entry *e, struct slice text, struct slice filter)
{
    if (text.n == 0 || memmem(e->name, strlen(e->name), text.p, text.n) ||
        memmem(e->sec->conf->name.p, e->sec->conf->name.n, text.p, text.n))
        return true;
    for (uint32_t i = 0; i < e->nref; i++) {
        const struct certs_name *n = e->ref[i].name;
        if (memmem(n->text, n->n, filter.p, filter.n))
            return true;
        /* The name of a host that a wildcard is for. */
        ptrdiff_t dot = slice_chr(filter, '.');
        if (n->text[0] == '*' && dot > 0 &&
            slice_eq(slice_of(n->text + 1, n->n - 1),
                     slice_of(filter.p + dot, filter.n - (size_t)dot)))
            return true;
    }
    return false;
}

static const char *print_type(const struct certs_entry *e)
{
    return e->type == TLS_KEY_EC ? "ecdsa" : e->type == TLS_KEY_RSA ? "rsa" : "other";
}

/* What is wrong, or NULL. */
static const char *print_state(const struct certs_entry *e, int64_t now)
{
    return e->error                                  ? "failed"
           : e->not_after_s && e->not_after_s <= now ? "expired"
           : e->not_before_s > now                   ? "not_yet_valid"
           : e->pair.cert                            ? "loaded"
                                                     : "not_loaded";
}

static void print_source(const struct certs_entry *e, struct buf *out)
{
    const struct conf_certificate_keys *k = &e->sec->conf->k;
    if (e->name[0])
        buf_printf(out, SLICE_FMT "/%s", SLICE_ARG(k->directory), e->name);
    else
        buf_add(out, k->pair.v[e->nth].cert);
}

static int64_t print_days(const struct certs_entry *e, int64_t now)
{
    int64_t s = e->not_after_s - now;
    return s >= 0 ? s / 86400 : -((-s + 86399) / 86400);
}

static void print_json(const struct certs_entry *e, int64_t now, struct json *j)
{
    struct buf source;
    char date[16];
    buf_init(&source, 8192);
    print_source(e, &source);
    json_object(j);
    json_kstr(j, "certificate", e->sec->conf->name);
    json_key(j, "names");
    json_array(j);
    for (uint32_t i = 0; i < e->nref; i++)
        json_str(j, slice_of(e->ref[i].name->text, e->ref[i].name->n));
    json_end_array(j);
    json_kcstr(j, "issuer", e->issuer);
    if (e->not_after_s) {
        json_kcstr(j, "not_after", tls_cert_date(e->not_after_s, date));
        json_key(j, "not_after_s");
        json_i64(j, e->not_after_s);
        json_key(j, "days_left");
        json_i64(j, print_days(e, now));
    }
    json_kcstr(j, "key", print_type(e));
    json_kstr(j, "source", buf_slice(&source));
    json_kcstr(j, "state", print_state(e, now));
    json_kbool(j, "loaded", e->pair.cert != NULL);
    json_kbool(j, "stapled", e->sec->stapled == e && e->pair.cert);
    json_kcstr(j, "error", e->error);
    json_end_object(j);
    buf_fini(&source);
}

static void print_text(const struct certs_entry *e, int64_t now, bool all, struct buf *out)
{
    char date[16];
    uint32_t shown = all || e->nref <= PRINT_NAMES ? e->nref : PRINT_NAMES;
    buf_printf(out, "%-12.*s ", SLICE_ARG(e->sec->conf->name));
    for (uint32_t i = 0; i < shown; i++)
        buf_printf(out, "%s%s", i ? "," : "", e->ref[i].name->text);
    if (shown < e->nref)
        buf_printf(out, ",(%u more)", e->nref - shown);
    buf_printf(out, "%s %s issuer=\"%s\"", e->nref ? "" : "-", print_type(e),
               e->issuer ? e->issuer : "");
    if (e->not_after_s)
        buf_printf(out, " until=%s (%lld days)", tls_cert_date(e->not_after_s, date),
                   (long long)print_days(e, now));
    buf_printf(out, " %s%s ", print_state(e, now),
               e->sec->stapled == e && e->pair.cert ? ",stapled" : "");
    print_source(e, out);
    if (e->error)
        buf_printf(out, ": %s", e->error);
    buf_chr(out, '\n');
}

static int print_order(const void *a, const void *b)
{
    const struct certs_entry *x = *(struct certs_entry *const *)a;
    const struct certs_entry *y = *(struct certs_entry *const *)b;
    if ((x->error != NULL) != (y->error != NULL))
        return x->error ? -1 : 1;
    if (x->not_after_s != y->not_after_s)
        return x->not_after_s < y->not_after_s ? -1 : 1;
    int c = strcmp(x->name, y->name);
    return c ? c : (x->nth > y->nth) - (x->nth < y->nth);
}

static size_t print_collect(const struct tls_certs *cs, struct slice text, struct slice filter,
                            struct certs_entry ***ret)
{
    size_t n = 0, most = 0;
    for (size_t i = 0; i < cs->nsec; i++)
        most += cs->sec[i].nentry;
    *ret = alloc_should_fail() ? NULL : calloc(most + 1, sizeof **ret);
    for (size_t i = 0; *ret && i < cs->nsec; i++) {
        LIST_EACH(it, &cs->sec[i].entries)
        {
            struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
            if (n < most && print_wanted(e, text, filter))
                (*ret)[n++] = e;
        }
    }
    if (n > 1)
        qsort(*ret, n, sizeof **ret, print_order);
    return n;
}

void tls_cert_print(const struct tls *t, struct slice filter, uint32_t limit, bool json,
                    struct buf *out)
{
    struct certs_entry **v = NULL;
    int64_t now = (int64_t)time(NULL);
    char text[TLS_SCAN_NAME];
    int host = filter.n ? tls_scan_host(filter, text) : -1; /* names are kept in lower case */
    struct slice of_host = host > 0 ? slice_of(text, (size_t)host) : filter;
    size_t n = t && t->certs ? print_collect(t->certs, filter, of_host, &v) : 0, i;
    struct json j;
    json_init(&j, out);
    if (json) {
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_key(&j, "certificates");
        json_array(&j);
    }
    for (i = 0; i < n && i < limit && out->n < PRINT_BYTES; i++) {
        if (json)
            print_json(v[i], now, &j);
        else
            print_text(v[i], now, filter.n > 0, out);
    }
    if (json) {
        json_end_array(&j);
        json_ku64(&j, "more", n - i);
        json_end_object(&j);
        buf_chr(out, '\n');
    } else if (n == 0) {
        buf_str(out, filter.n ? "no certificate or section has that in its names\n"
                              : "no certificates\n");
    } else if (i < n) {
        buf_printf(out, "and %zu more: say a part of a name, or -n\n", n - i);
    }
    free(v);
}
