/* The store of certificates: what is given for a name, what comes from the master, what is given
 * up; see tls_cert.h and tls_in.h. */
#include "worker/io/tls_cert_in.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* The master is asked again for what did not come, and for what could not be used. */
#define ASK_AGAIN_MS  2000u
#define FAIL_AGAIN_MS 10000u
#define ASK_RETRY_MS  20u /* the channel to it was full */

struct certs_pick {
    struct certs_entry *v[TLS_KEY__COUNT]; /* NULL: none of that kind */
    bool any;
};

/* ---- choosing ---- */

static bool store_allows(const struct tls_certs *cs, const struct conf_listen *l,
                         const struct certs_section *s)
{
    const uint64_t *only = cs->only[l->id];
    uint32_t i = s->conf->id;
    return !only || only[i / 64] >> i % 64 & 1;
}

/* Of two for the same name: one that can be used, then the one that is valid longer, then the one
 * that is named first, so that all workers choose the same. */
static bool store_better(const struct certs_entry *a, const struct certs_entry *b)
{
    bool fa = a->failed_ms && !a->pair.cert, fb = b->failed_ms && !b->pair.cert;
    if (fa != fb)
        return fb;
    if (a->not_after_s != b->not_after_s)
        return a->not_after_s > b->not_after_s;
    if (a->sec != b->sec)
        return a->sec->conf->id < b->sec->conf->id;
    return a->nth != b->nth ? a->nth < b->nth : strcmp(a->name, b->name) < 0;
}

static void store_add(struct certs_pick *p, struct certs_entry *e)
{
    struct certs_entry **best = &p->v[e->type];
    if (!*best || store_better(e, *best))
        *best = e;
    p->any = true;
}

static void store_by_name(const struct tls_certs *cs, const struct conf_listen *l,
                          struct slice name, struct certs_pick *p)
{
    const struct certs_name *n = tls_cert_index_find(&cs->names, name);
    for (const struct certs_ref *r = n ? n->refs : NULL; r; r = r->next) {
        if (store_allows(cs, l, r->entry->sec))
            store_add(p, r->entry);
    }
}

/* The exact name, else a wildcard in place of the first label, and of no more (RFC 6125 6.4.3). */
static struct certs_pick store_named(const struct tls_certs *cs, const struct conf_listen *l,
                                     struct slice host)
{
    char wild[TLS_SCAN_NAME + 1];
    struct certs_pick p = {0};
    if (host.n == 0 || host.p[0] == '*')
        return p;
    store_by_name(cs, l, host, &p);
    ptrdiff_t dot = slice_chr(host, '.');
    if (p.any || dot <= 0 || host.n - (size_t)dot >= TLS_SCAN_NAME)
        return p;
    size_t n = host.n - (size_t)dot;
    wild[0] = '*';
    memcpy(wild + 1, host.p + dot, n);
    store_by_name(cs, l, slice_of(wild, n + 1), &p);
    return p;
}

/* Of a section that is given by default: the first pair of each kind; of a directory the first by
 * name. */
static void store_first(struct certs_section *s, struct certs_pick *p)
{
    if (!s->first_known) {
        memset(s->first, 0, sizeof s->first);
        LIST_EACH(it, &s->entries)
        {
            struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
            struct certs_entry **f = &s->first[e->type];
            if (!e->not_after_s)
                continue; /* was never read */
            if (!*f || e->nth < (*f)->nth || strcmp(e->name, (*f)->name) < 0)
                *f = e;
        }
        s->first_known = true;
    }
    for (unsigned i = 0; i < TLS_KEY__COUNT; i++) {
        p->v[i] = s->first[i];
        p->any = p->any || p->v[i];
    }
}

/* Nobody's name: what is marked as the default, else the first pair of the file, as other proxies
 * have it. A directory is given to strangers only when it says so. */
static struct certs_pick store_pick(struct tls_certs *cs, const struct conf_listen *l,
                                    struct slice sni)
{
    struct certs_pick p = store_named(cs, l, sni);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; !p.any && i < cs->nsec; i++) {
            const struct conf_certificate *c = cs->sec[i].conf;
            if ((pass ? c->k.pair.n > 0 : c->k.default_) && store_allows(cs, l, &cs->sec[i]))
                store_first(&cs->sec[i], &p);
        }
    }
    return p;
}

bool tls_certs_have(struct tls *t, const struct conf_listen *l, struct slice host)
{
    return t->certs && store_named(t->certs, l, host).any;
}

bool tls_certs_any(struct tls *t, const struct conf_listen *l, struct slice sni)
{
    return t->certs && store_pick(t->certs, l, sni).any;
}

bool tls_certs_same(struct tls *t, const struct conf_listen *l, struct slice sni, struct slice host)
{
    if (!t->certs)
        return false;
    struct certs_pick a = store_pick(t->certs, l, sni), b = store_pick(t->certs, l, host);
    return a.any && memcmp(a.v, b.v, sizeof a.v) == 0;
}

/* ---- giving ---- */

/* Asks the master, unless it was asked just now. False: there is no hope for the moment. */
static bool store_ask(struct certs_entry *e)
{
    const struct tls_env *env = &e->sec->certs->t->env;
    uint64_t now = clock_ms() + 1; /* never 0 */
    if (!e->name[0] || !env->want_files || (e->failed_ms && now - e->failed_ms < FAIL_AGAIN_MS))
        return false;
    if (list_linked(&e->unasked) || (e->wanted_ms && now - e->wanted_ms < ASK_AGAIN_MS))
        return true;
    if (env->want_files(env->arg, e->sec->conf->id, slice_str(e->name))) {
        e->wanted_ms = now;
        return true;
    }
    struct tls_certs *cs = e->sec->certs;
    list_append(&cs->unasked, &e->unasked);
    if (!timer_is_set(&cs->ask_again))
        timer_set_at(&env->loop->timers, &cs->ask_again, now + ASK_RETRY_MS);
    return true;
}

static void store_ask_again(struct timer *t)
{
    struct tls_certs *cs = CONTAINER(t, struct tls_certs, ask_again);
    const struct tls_env *env = &cs->t->env;
    while (!list_empty(&cs->unasked)) {
        struct certs_entry *e = CONTAINER(cs->unasked.next, struct certs_entry, unasked);
        if (!env->want_files(env->arg, e->sec->conf->id, slice_str(e->name))) {
            timer_set_at(&env->loop->timers, t, clock_ms() + ASK_RETRY_MS);
            return;
        }
        list_remove(&e->unasked);
        e->wanted_ms = clock_ms() + 1;
    }
}

int tls_certs_give(struct tls *t, SSL *ssl, struct slice sni, struct tls_conn *c)
{
    struct certs_entry *missing = NULL;
    int given = 0;
    tls_certs_forget(c);
    if (!t->certs)
        return 0;
    struct certs_pick p = store_pick(t->certs, c->server->listen, sni);
    for (unsigned i = 0; i < TLS_KEY__COUNT; i++) {
        struct certs_entry *e = p.v[i];
        if (!e)
            continue;
        if (!e->pair.cert) {
            if (store_ask(e))
                missing = missing ? missing : e;
            continue;
        }
        if (list_linked(&e->used)) {
            list_remove(&e->used);
            list_push(&e->sec->used, &e->used);
        }
        given += SSL_use_cert_and_key(ssl, e->pair.cert, e->pair.key, e->pair.chain, 1) == 1;
    }
    if (!missing)
        return given > 0;
    list_append(&missing->waiting, &c->waiting);
    return -1;
}

void tls_certs_forget(struct tls_conn *c)
{
    list_remove(&c->waiting);
}

static void store_wake(struct certs_entry *e)
{
    if (!list_empty(&e->waiting))
        e->woke = e->sec->certs->t->env.loop->turns;
    LIST_EACH_SAFE(it, tmp, &e->waiting)
    {
        struct tls_conn *c = CONTAINER(it, struct tls_conn, waiting);
        list_remove(it);
        io_again(e->sec->certs->t->env.loop, &c->k->io);
    }
}

/* The certificate has been chosen: the answer is sent with the one it is about, and no other. */
int tls_certs_status(SSL *ssl, void *arg)
{
    const struct tls_conn *c = tls_conn_of(ssl);
    const X509 *chosen = SSL_get_certificate(ssl);
    struct tls_certs *cs = c->t->certs;
    (void)arg;
    for (size_t i = 0; cs && i < cs->nsec; i++) {
        const struct certs_section *s = &cs->sec[i];
        const struct tls_staple *st = &s->staple;
        if (!s->stapled || s->stapled->pair.cert != chosen ||
            (st->until_s && st->until_s <= clock_cached.wall_ms / 1000))
            continue;
        uint8_t *copy = OPENSSL_memdup(st->der, st->n);
        if (!copy || !SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)st->n)) {
            OPENSSL_free(copy);
            return SSL_TLSEXT_ERR_NOACK;
        }
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* ---- entries ---- */

struct certs_entry *tls_cert_entry_new(struct certs_section *s, struct slice name, uint32_t nth)
{
    struct certs_entry *e = alloc_should_fail() ? NULL : calloc(1, sizeof *e + name.n + 1);
    if (!e)
        return NULL;
    e->sec = s;
    e->nth = nth;
    list_init(&e->used);
    list_init(&e->waiting);
    list_init(&e->unasked);
    if (name.n)
        memcpy(e->name, name.p, name.n);
    list_append(&s->entries, &e->all);
    s->nentry++;
    if (name.n)
        table_put(&s->byname, &e->node, table_hash(&s->byname, name));
    return e;
}

static void store_unload(struct certs_entry *e)
{
    struct certs_section *s = e->sec;
    if (!e->pair.cert)
        return;
    list_remove(&e->used);
    s->nloaded--;
    if (s->stapled == e)
        s->stapled = NULL;
    tls_cert_unload(&e->pair);
}

void tls_cert_entry_free(struct certs_entry *e)
{
    if (!e)
        return;
    struct certs_section *s = e->sec;
    store_unload(e);
    list_remove(&e->unasked);
    s->nref -= e->nref;
    tls_cert_index_drop(&s->certs->names, e);
    s->nfailed -= e->failed_ms != 0;
    s->first_known = false;
    s->soonest_known = s->soonest_known && s->soonest != e;
    if (e->name[0])
        table_remove(&s->byname, &e->node);
    list_remove(&e->all);
    s->nentry--;
    free(e->issuer);
    free(e->error);
    free(e);
}

struct certs_entry *tls_cert_entry_find(const struct certs_section *s, struct slice name)
{
    if (!s->byname.place)
        return NULL;
    struct table_node *at = table_first(&s->byname, table_hash(&s->byname, name));
    for (; at; at = table_next(at)) {
        struct certs_entry *e = CONTAINER(at, struct certs_entry, node);
        if (slice_eq(slice_str(e->name), name))
            return e;
    }
    return NULL;
}

static struct certs_entry *store_pair(const struct certs_section *s, uint32_t nth)
{
    LIST_EACH(it, &s->entries)
    {
        struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
        if (!e->name[0] && e->nth == nth)
            return e;
    }
    return NULL;
}

static char *store_text(const char *s)
{
    return alloc_should_fail() ? NULL : strdup(s);
}

int tls_cert_entry_scanned(struct certs_entry *e, const struct tls_scan *scan)
{
    struct certs_section *s = e->sec;
    char text[160];
    uint32_t before = e->nref;
    int rc = tls_cert_index_put(&s->certs->names, e, scan);
    if (rc < 0)
        return rc;
    s->nref += e->nref - before;
    e->type = scan->type;
    e->not_before_s = scan->not_before_s;
    s->first_known = false;
    if (s->soonest == e || !s->soonest || scan->not_after_s < s->soonest->not_after_s)
        s->soonest_known = false;
    e->not_after_s = scan->not_after_s;
    struct slice o = scan->issuer_o, cn = scan->issuer_cn;
    bool both = o.n && cn.n && !slice_eq(o, cn);
    int n =
        snprintf(text, sizeof text, "%.*s%s%.*s", o.n < 64 ? (int)o.n : 64, o.p, both ? ", " : "",
                 !both && o.n ? 0
                 : cn.n < 64  ? (int)cn.n
                              : 64,
                 cn.p);
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    }
    if (!e->issuer || strcmp(e->issuer, text) != 0) {
        free(e->issuer);
        e->issuer = n > 0 ? store_text(text) : NULL;
    }
    return 0;
}

#define EVICT_TURNS 3u /* in which a handshake that was told gets its turn */

/* The one used longest ago goes, but for what handshakes have been told of and not been given yet:
 * with more names asked for at once than may be loaded they would push each other out for ever. */
static void store_evict(struct certs_section *s, const struct certs_entry *just)
{
    const struct loop *l = s->certs->t->env.loop;
    struct list *it = s->used.prev;
    while (s->nloaded > s->conf->k.max_loaded && it != &s->used) {
        struct certs_entry *e = CONTAINER(it, struct certs_entry, used);
        it = it->prev;
        if (e != just && list_empty(&e->waiting) &&
            (!l || !e->woke || l->turns - e->woke > EVICT_TURNS))
            store_unload(e);
    }
}

/* A new certificate may be the one that the stapled answer is about, or no more. 0 it has its
 * certificate, or there is none to staple; negative as tls_cert_staple_check(). */
static int store_staple(struct certs_section *s, const char **ret_why)
{
    int rc = -ERR_NOENT;
    s->stapled = NULL;
    *ret_why = "there is no certificate for it";
    if (!s->staple.n)
        return 0;
    LIST_EACH(it, &s->entries)
    {
        struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
        if (rc != -ERR_NOENT || !e->pair.cert)
            continue;
        rc = tls_cert_staple_check(&s->staple, e->pair.cert, ret_why);
        if (rc == 0)
            s->stapled = e;
    }
    return rc;
}

int tls_cert_entry_load(struct certs_entry *e, struct slice cert, struct slice key, bool keep,
                        const char **ret_why)
{
    struct certs_section *s = e->sec;
    struct tls_pair pair;
    struct tls_scan scan;
    uint8_t *der = alloc_should_fail() ? NULL : malloc(TLS_SCAN_DER);
    *ret_why = "out of memory";
    if (!der)
        return -ERR_NOMEM;
    int rc = tls_scan_file(cert, der, &scan);
    if (rc == 0) {
        rc = tls_cert_load(cert, key, &s->certs->issuers, &pair, ret_why);
        if (rc == -ERR_INVAL && key.n && scan.has_key) /* NAME.key beside a file that has both */
            rc = tls_cert_load(cert, SLICE_NONE, &s->certs->issuers, &pair, ret_why);
    } else {
        *ret_why = rc == -ERR_NOENT ? tls_cert_no_block(cert, scan.has_key)
                                    : "the certificate cannot be read";
        rc = -ERR_INVAL;
    }
    if (rc == 0 && tls_cert_entry_scanned(e, &scan) < 0) {
        tls_cert_unload(&pair);
        *ret_why = "out of memory";
        rc = -ERR_NOMEM;
    }
    free(der);
    if (rc < 0) {
        tls_cert_entry_failed(e, *ret_why);
        return rc;
    }
    store_unload(e);
    s->nfailed -= e->failed_ms != 0;
    e->failed_ms = 0;
    free(e->error);
    e->error = NULL;
    if (e->name[0] && !keep) {
        tls_cert_unload(&pair);
        return 0;
    }
    e->pair = pair;
    s->nloaded++;
    (void)store_staple(s, ret_why);
    *ret_why = NULL;
    if (!e->name[0])
        return 0;
    list_push(&s->used, &e->used);
    store_evict(s, e);
    return 0;
}

static void store_set_error(struct certs_section *s, const char *what, const char *why)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %s", what, why);
    char *t = store_text(text);
    if (!t)
        return;
    free(s->error);
    s->error = t;
}

void tls_cert_entry_failed(struct certs_entry *e, const char *why)
{
    struct certs_section *s = e->sec;
    char *t = store_text(why);
    s->nfailed += e->failed_ms == 0;
    e->failed_ms = clock_ms() + 1;
    if (t) {
        free(e->error);
        e->error = t;
    }
    store_set_error(s, e->name[0] ? e->name : s->conf->k.pair.v[e->nth].cert.p, why);
}

/* ---- files ---- */

int tls_cert_file_read(int fd, struct slice *ret)
{
    size_t cap = 16384;
    char *p = alloc_should_fail() ? NULL : malloc(cap);
    struct slice all = slice_of(p, 0);
    int rc = p ? -ERR_AGAIN : -ERR_NOMEM;
    while (rc == -ERR_AGAIN) {
        ssize_t got = pread(fd, p + all.n, cap - all.n, (off_t)all.n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            rc = got < 0 ? -ERR_SYS : 0;
            break;
        }
        all.n += (size_t)got;
        if (all.n < cap)
            continue;
        char *more = cap > CERTDIR_FILE || alloc_should_fail() ? NULL : malloc(cap * 2);
        if (!more) {
            rc = cap > CERTDIR_FILE ? -ERR_RANGE : -ERR_NOMEM;
            break;
        }
        cap *= 2;
        memcpy(more, p, all.n);
        tls_cert_file_free(&all);
        all = slice_of(p = more, cap / 2);
    }
    if (rc < 0)
        tls_cert_file_free(&all);
    *ret = all;
    return rc;
}

void tls_cert_file_free(struct slice *file)
{
    char *p = (char *)(uintptr_t)file->p;
    if (p)
        explicit_bzero(p, file->n);
    free(p);
    *file = SLICE_NONE;
}

/* ---- from the master ---- */

static struct certs_section *store_section(struct tls *t, uint32_t certificate)
{
    return t && t->certs && certificate < t->certs->nsec ? &t->certs->sec[certificate] : NULL;
}

static void store_count(const struct tls *t, enum counter which)
{
    if (t->env.ctr)
        counter_add(t->env.ctr, which, 1);
}

/* Something else lies in the directory than a certificate with its key: parameters, a chain alone,
 * a certificate whose key is still to come. */
static bool files_no_entry(struct slice cert, bool with_key)
{
    struct tls_scan scan;
    uint8_t *der = alloc_should_fail() ? NULL : malloc(TLS_SCAN_DER);
    int rc = der ? tls_scan_file(cert, der, &scan) : 0;
    free(der);
    return rc == -ERR_NOENT || (der && rc == 0 && !with_key && !scan.has_key);
}

static void files_take(struct certs_entry *e, struct slice cert, struct slice key, int rc,
                       const char **ret_why)
{
    struct certs_section *s = e->sec;
    /* What nobody waits for and nobody has used is checked only. */
    bool keep = e->wanted_ms || !list_empty(&e->waiting) || e->pair.cert ||
                s->conf->k.load == CONF_LOAD_EAGER;
    e->wanted_ms = 0;
    list_remove(&e->unasked);
    if (rc < 0)
        tls_cert_entry_failed(e, *ret_why = certdir_error(rc));
    else
        (void)tls_cert_entry_load(e, cert, key, keep, ret_why);
    store_count(s->certs->t, e->failed_ms ? CTR_CERT_FAILS : CTR_CERT_RELOADS);
    tls_cert_row(s);
    store_wake(e);
}

int tls_cert_files(struct tls *t, uint32_t certificate, struct slice name, uint32_t pair,
                   int cert_fd, int key_fd, const char **ret_why)
{
    struct certs_section *s = store_section(t, certificate);
    struct certs_entry *e = !s ? NULL : name.n ? tls_cert_entry_find(s, name) : store_pair(s, pair);
    struct slice cert = SLICE_NONE, key = SLICE_NONE;
    int rc = s ? tls_cert_file_read(cert_fd, &cert) : -ERR_NOENT;
    if (rc == 0 && key_fd >= 0)
        rc = tls_cert_file_read(key_fd, &key);
    close(cert_fd);
    if (key_fd >= 0)
        close(key_fd);
    *ret_why = NULL;
    if (s && !e) {
        if (name.n == 0 || certdir_kind(name) == CERTDIR_NONE || !s->byname.place ||
            (rc == 0 && files_no_entry(cert, key_fd >= 0)))
            rc = -ERR_NOENT;
        else if (!(e = tls_cert_entry_new(s, name, 0)))
            rc = -ERR_NOMEM;
    }
    if (e) {
        files_take(e, cert, key, rc, ret_why);
        rc = e->failed_ms ? -ERR_INVAL : 0;
    }
    tls_cert_file_free(&cert);
    tls_cert_file_free(&key);
    return rc;
}

void tls_cert_gone(struct tls *t, uint32_t certificate, struct slice name, uint32_t pair,
                   const char *why)
{
    struct certs_section *s = store_section(t, certificate);
    struct certs_entry *e = !s ? NULL : name.n ? tls_cert_entry_find(s, name) : store_pair(s, pair);
    if (!e)
        return;
    e->wanted_ms = 0;
    if (why || !e->name[0]) {
        tls_cert_entry_failed(e, why ? why : "the file is not there any more");
        store_count(t, CTR_CERT_FAILS);
        store_wake(e);
    } else {
        store_wake(e);
        tls_cert_entry_free(e);
    }
    tls_cert_row(s);
}

void tls_cert_missing(const struct tls *t,
                      void (*fn)(void *arg, uint32_t certificate, uint32_t pair, const char *why),
                      void *arg)
{
    for (size_t i = 0; t->certs && i < t->certs->nsec; i++) {
        LIST_EACH(it, &t->certs->sec[i].entries)
        {
            const struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
            if (!e->name[0] && !e->pair.cert)
                fn(arg, (uint32_t)i, e->nth, e->error ? e->error : "it cannot be used");
        }
    }
}

int tls_cert_ocsp(struct tls *t, uint32_t certificate, int fd, const char **ret_why)
{
    struct certs_section *s = store_section(t, certificate);
    struct slice file = SLICE_NONE;
    int rc = s ? tls_cert_file_read(fd, &file) : 0;
    close(fd);
    *ret_why = rc < 0 ? certdir_error(rc) : NULL;
    if (!s || rc < 0)
        return rc;
    free(s->staple.der);
    s->staple = (struct tls_staple){.der = (uint8_t *)(uintptr_t)file.p, .n = file.n};
    rc = file.n ? store_staple(s, ret_why) : -ERR_INVAL;
    if (rc == 0)
        return 0;
    if (!file.n)
        *ret_why = "it is empty";
    store_set_error(s, s->conf->k.ocsp.p, *ret_why);
    tls_cert_row(s);
    return rc == -ERR_NOENT ? -ERR_INVAL : rc;
}

/* ---- the start ---- */

struct store_start {
    bool strict;
    struct conf_diags *d;
    struct certs_section *s;
    int64_t now_s;
};

static int start_complain(const struct store_start *x, const char *key, struct conf_pos pos,
                          struct slice file, const char *why)
{
    conf_diag_add(x->d, x->strict ? CONF_ERROR : CONF_WARNING, pos, NULL,
                  "cannot use %s " SLICE_FMT ": %s", key, SLICE_ARG(file), why);
    return x->strict ? -ERR_INVAL : 0;
}

static void start_remarks(const struct store_start *x, const struct certs_entry *e,
                          const struct conf_pair *p)
{
    char date[16];
    const char *more = tls_cert_remark(&e->pair);
    const bool over = e->not_after_s <= x->now_s, early = e->not_before_s > x->now_s;
    if (over || early)
        conf_diag_add(x->d, CONF_WARNING, p->pos, NULL, "the certificate in " SLICE_FMT " %s %s",
                      SLICE_ARG(p->cert), over ? "expired on" : "is not valid before",
                      tls_cert_date(over ? e->not_after_s : e->not_before_s, date));
    if (more)
        conf_diag_add(x->d, CONF_WARNING, p->pos, NULL, "the certificate in " SLICE_FMT " %s",
                      SLICE_ARG(p->cert), more);
    if (e->nref == 0 && !x->s->conf->k.default_)
        conf_diag_add(x->d, CONF_WARNING, p->pos, NULL,
                      "the certificate in " SLICE_FMT
                      " is for no host name and only given by default",
                      SLICE_ARG(p->cert));
}

static int start_pair(const struct store_start *x, uint32_t nth)
{
    const struct conf_pair *p = &x->s->conf->k.pair.v[nth];
    struct certs_entry *e = tls_cert_entry_new(x->s, SLICE_NONE, nth);
    struct slice file[2] = {SLICE_NONE, SLICE_NONE};
    const struct slice path[2] = {p->cert, p->key};
    bool two = !slice_eq(p->cert, p->key);
    const char *why = NULL;
    int rc = 0, i;
    if (!e)
        return -ERR_NOMEM;
    for (i = 0; i < 1 + two && rc == 0; i++) {
        size_t size;
        int fd = certdir_open(AT_FDCWD, path[i].p, &size);
        rc = fd < 0 ? fd : tls_cert_file_read(fd, &file[i]);
        why = rc < 0 ? certdir_error(rc) : NULL;
        if (fd >= 0)
            close(fd);
    }
    if (rc < 0) {
        tls_cert_entry_failed(e, why);
        rc = start_complain(x, "pair", p->pos, path[i - 1], why);
    } else {
        rc = tls_cert_entry_load(e, file[0], file[1], true, &why);
        if (rc == 0) {
            start_remarks(x, e, p);
        } else if (rc != -ERR_NOMEM) {
            const struct slice key = two ? p->key : SLICE("");
            char both[1024];
            snprintf(both, sizeof both, SLICE_FMT "%s" SLICE_FMT, SLICE_ARG(p->cert),
                     two ? " " : "", SLICE_ARG(key));
            rc = start_complain(x, "pair", p->pos, slice_str(both), why);
        }
    }
    tls_cert_file_free(&file[0]);
    tls_cert_file_free(&file[1]);
    return rc;
}

static int start_ocsp(const struct store_start *x)
{
    struct slice path = x->s->conf->k.ocsp;
    struct conf_pos pos = tls_pos(x->s->conf->origin, x->s->conf->pos, "ocsp");
    const char *why = NULL;
    size_t size;
    int fd = certdir_open(AT_FDCWD, path.p, &size);
    if (fd < 0)
        return start_complain(x, "ocsp", pos, path, certdir_error(fd));
    int rc = tls_cert_ocsp(x->s->certs->t, x->s->conf->id, fd, &why);
    if (rc == -ERR_RANGE || (rc < 0 && !x->strict)) {
        /* It is too old as soon as its issuer is late: no reason not to start. */
        conf_diag_add(x->d, CONF_WARNING, pos, NULL, "ocsp " SLICE_FMT " is not sent along: %s",
                      SLICE_ARG(path), why);
        return 0;
    }
    if (rc < 0 && rc != -ERR_NOMEM)
        return start_complain(x, "ocsp", pos, path, why);
    return rc;
}

static int start_section(const struct store_start *x)
{
    const struct conf_certificate_keys *k = &x->s->conf->k;
    int all = 0;
    for (uint32_t i = 0; i < k->pair.n; i++) {
        int rc = start_pair(x, i);
        if (rc == -ERR_NOMEM)
            return rc;
        all = rc < 0 ? rc : all;
    }
    int rc = k->directory.n ? tls_cert_dir_index(x->s, x->strict, x->d) : 0;
    if (rc != -ERR_NOMEM && k->ocsp.n && all == 0) {
        all = rc < 0 ? rc : all;
        rc = start_ocsp(x);
    }
    tls_cert_row(x->s);
    return rc < 0 ? rc : all;
}

/* Which sections each listener may choose from. */
static int start_listeners(struct tls_certs *cs, const struct config *conf)
{
    for (size_t i = 0; i < conf->nlisten; i++) {
        const struct conf_certificates *v = &conf->listen[i]->k.certificate;
        if (v->n == 0)
            continue;
        uint64_t *bits = alloc_should_fail() ? NULL : calloc(cs->nsec / 64 + 1, sizeof *bits);
        if (!bits)
            return -ERR_NOMEM;
        cs->only[i] = bits;
        for (size_t j = 0; j < v->n; j++)
            bits[v->v[j]->id / 64] |= (uint64_t)1 << v->v[j]->id % 64;
    }
    return 0;
}

static int start_memory(struct tls_certs *cs, const struct config *conf)
{
    cs->nsec = 0;
    if (alloc_should_fail())
        return -ERR_NOMEM;
    cs->sec = calloc(conf->ncertificate + 1, sizeof *cs->sec);
    cs->only = calloc(conf->nlisten + 1, sizeof *cs->only);
    cs->scratch = malloc(CERTDIR_FILE + TLS_SCAN_DER);
    if (!cs->sec || !cs->only || !cs->scratch || table_init(&cs->names, 1024) < 0)
        return -ERR_NOMEM;
    for (; cs->nsec < conf->ncertificate; cs->nsec++) {
        struct certs_section *s = &cs->sec[cs->nsec];
        s->certs = cs;
        s->conf = conf->certificate[cs->nsec];
        list_init(&s->entries);
        list_init(&s->used);
    }
    return start_listeners(cs, conf);
}

int tls_certs_new(struct tls *t, bool strict, struct conf_diags *d)
{
    struct tls_certs *cs = alloc_should_fail() ? NULL : calloc(1, sizeof *cs);
    struct store_start x = {.strict = strict, .d = d, .now_s = (int64_t)time(NULL)};
    if (!cs)
        return -ERR_NOMEM;
    t->certs = cs;
    cs->t = t;
    list_init(&cs->unasked);
    timer_init(&cs->ask_again, store_ask_again);
    int all = start_memory(cs, t->env.config);
    for (size_t i = 0; i < cs->nsec && all != -ERR_NOMEM; i++) {
        x.s = &cs->sec[i];
        int rc = start_section(&x);
        all = rc < 0 ? rc : all;
    }
    free(cs->scratch);
    cs->scratch = NULL;
    return all;
}

void tls_certs_free(struct tls *t)
{
    struct tls_certs *cs = t->certs;
    t->certs = NULL;
    if (!cs)
        return;
    timer_stop(&cs->ask_again);
    for (size_t i = 0; i < cs->nsec; i++) {
        struct certs_section *s = &cs->sec[i];
        LIST_EACH_SAFE(it, tmp, &s->entries)
        {
            struct certs_entry *e = CONTAINER(it, struct certs_entry, all);
            LIST_EACH_SAFE(c, ctmp, &e->waiting)
            list_remove(c);
            tls_cert_entry_free(e);
        }
        table_fini(&s->byname);
        free(s->staple.der);
        free(s->error);
    }
    for (size_t i = 0; cs->only && i < t->env.config->nlisten; i++)
        free(cs->only[i]);
    free(cs->only);
    free(cs->sec);
    free(cs->scratch);
    table_fini(&cs->names);
    tls_cert_issuers_fini(&cs->issuers);
    free(cs);
}
