/* Name resolution with c-ares; the only file that includes its header. */
#include "worker/upstream/resolver.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/resolve.h"

#include <ares.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>

#define RESOLV_CONF  "/etc/resolv.conf"
#define CONF_LOOK_MS 5000u

struct name {
    uint32_t id;
    uint64_t interval_ms, due_ms, backoff_ms;
    bool asking, settled; /* settled: answered or failed at least once */
    struct resolver *r;
};
struct resolver {
    struct segment *segment;
    slot_oid me;
    struct resolver_ops ops;
    ares_channel channel;
    bool channel_ok, library_ok;
    bool system_servers;
    bool inside; /* inside ares_getaddrinfo(): an answer now comes from a file */
    struct ares_addr_port_node *servers;
    int timeout_ms, tries;
    struct name **name; /* by pointer: c-ares keeps them while the array grows */
    size_t n, cap;
    size_t asking, unsettled;
    size_t next; /* where the search for due names begins: everybody gets a turn */
    uint64_t now_ms, conf_look_ms;
    struct timespec conf_time;
};

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
    const struct resolver *r = arg;

    if (r->ops.watch)
        r->ops.watch(r->ops.arg, (int)fd, readable != 0, writable != 0);
}

static struct timespec conf_mtime(void)
{
    struct stat st;

    if (stat(RESOLV_CONF, &st) < 0)
        return (struct timespec){0};
    return st.st_mtim;
}

static int channel_open(struct resolver *r)
{
    struct ares_options o = {0};
    int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
    int rc;

    o.sock_state_cb = on_socket;
    o.sock_state_cb_data = r;
    o.timeout = r->timeout_ms;
    o.tries = r->tries;
    r->conf_time = conf_mtime();
    rc = ares_init_options(&r->channel, &o, mask);
    if (rc != ARES_SUCCESS)
        return rc == ARES_ENOMEM ? -ERR_NOMEM : -ERR_SYS;
    r->channel_ok = true;
    if (r->servers && ares_set_servers_ports(r->channel, r->servers) != ARES_SUCCESS)
        return -ERR_INVAL;
    return 0;
}

/* As a list of addresses: the library's own parser of texts takes more than we allow and less than
 * we need. */
static int list_servers(struct resolver *r, const struct resolver_opts *opts)
{
    if (opts->nnameserver == 0)
        return 0;
    r->servers = calloc(opts->nnameserver, sizeof(*r->servers));
    if (!r->servers)
        return -ERR_NOMEM;
    for (size_t i = 0; i < opts->nnameserver; i++) {
        struct ares_addr_port_node *n = &r->servers[i];
        struct addr_any a = {0};
        union addr alone;

        if (addr_parse_ip(opts->nameserver[i], &alone) == 0)
            memcpy(&a.u, &alone, sizeof(alone));
        else if (addr_parse(opts->nameserver[i], &a) < 0)
            return -ERR_INVAL;
        n->family = a.u.sa.sa_family;
        if (n->family == AF_INET)
            memcpy(&n->addr.addr4, &a.u.in.sin_addr, sizeof(n->addr.addr4));
        else if (n->family == AF_INET6)
            memcpy(&n->addr.addr6, &a.u.in6.sin6_addr, sizeof(n->addr.addr6));
        else
            return -ERR_INVAL;
        n->udp_port = n->tcp_port = addr_port(&a.u.sa); /* 0: the usual one */
        if (i > 0)
            r->servers[i - 1].next = n;
    }
    return 0;
}

int resolver_new(struct segment *s, slot_oid me, const struct resolver_opts *opts,
                 struct resolver **ret)
{
    struct resolver *r = calloc(1, sizeof(*r));
    int rc = -ERR_NOMEM;

    *ret = NULL;
    if (!r)
        return -ERR_NOMEM;
    r->segment = s;
    r->me = me;
    r->ops = opts->ops;
    r->timeout_ms = opts->timeout_ms && opts->timeout_ms < 60000 ? (int)opts->timeout_ms : 2000;
    r->tries = opts->tries && opts->tries < 20 ? (int)opts->tries : 3;
    r->system_servers = opts->nnameserver == 0;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        goto fail;
    r->library_ok = true;
    rc = list_servers(r, opts);
    if (rc == 0)
        rc = channel_open(r);
    if (rc < 0)
        goto fail;
    *ret = r;
    return 0;
fail:
    resolver_free(&r);
    return rc;
}

void resolver_free(struct resolver **rp)
{
    struct resolver *r = *rp;

    if (!r)
        return;
    if (r->channel_ok)
        ares_destroy(r->channel);
    for (size_t i = 0; i < r->n; i++)
        free(r->name[i]);
    free(r->name);
    free(r->servers);
    if (r->library_ok)
        ares_library_cleanup();
    free(r);
    *rp = NULL;
}

int resolver_add(struct resolver *r, uint32_t id, uint64_t interval_ms)
{
    struct name *m;

    for (size_t i = 0; i < r->n; i++) {
        m = r->name[i];
        if (m->id != id)
            continue;
        if (interval_ms != 0 && (m->interval_ms == 0 || interval_ms < m->interval_ms))
            m->interval_ms = interval_ms;
        return 0;
    }
    if (id >= resolve_count(r->segment))
        return -ERR_NOENT;
    if (r->n == r->cap) {
        const size_t cap = r->cap ? r->cap * 2 : 16;
        struct name **grown = realloc(r->name, cap * sizeof(struct name *));

        if (!grown)
            return -ERR_NOMEM;
        r->name = grown;
        r->cap = cap;
    }
    m = calloc(1, sizeof(*m));
    if (!m)
        return -ERR_NOMEM;
    m->id = id;
    m->interval_ms = interval_ms;
    m->r = r;
    r->name[r->n++] = m;
    r->unsettled++;
    return 0;
}

static uint64_t clamp(uint64_t v, uint64_t lo, uint64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void take_family(const struct ares_addrinfo *res, int family, struct resolve_answer *a)
{
    for (const struct ares_addrinfo_node *n = res->nodes; n && a->n < RESOLVE_ADDRS;
         n = n->ai_next) {
        if (n->ai_family != family || !n->ai_addr || (size_t)n->ai_addrlen > sizeof(a->addr[0]))
            continue;
        memcpy(&a->addr[a->n], n->ai_addr, (size_t)n->ai_addrlen);
        a->n++;
    }
}

/* The least TTL of all records that led to the answer. */
static uint64_t least_ttl_ms(const struct ares_addrinfo *res)
{
    int ttl = INT_MAX;

    for (const struct ares_addrinfo_node *n = res->nodes; n; n = n->ai_next)
        ttl = n->ai_ttl < ttl ? n->ai_ttl : ttl;
    for (const struct ares_addrinfo_cname *c = res->cnames; c; c = c->next)
        ttl = c->ttl < ttl ? c->ttl : ttl;
    return ttl < 0 ? 0 : (uint64_t)ttl * 1000;
}

static int error_of(int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_ENONAME:
    case ARES_EBADNAME:
        return 1;
    case ARES_ETIMEOUT:
        return 2;
    default:
        return 3;
    }
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
    struct name *m = arg;
    struct resolver *r = m->r;
    struct resolve_answer a = {0};
    uint64_t wait;

    (void)timeouts;
    m->asking = false;
    r->asking--;
    /* The channel is being closed: the question will be put again, or nobody is left to ask. */
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        if (res)
            ares_freeaddrinfo(res);
        return;
    }
    if (status == ARES_SUCCESS && res) {
        take_family(res, AF_INET, &a);
        take_family(res, AF_INET6, &a);
    }
    if (a.n > 0) {
        wait = m->interval_ms ? m->interval_ms
               : r->inside    ? RESOLVER_FILE_TTL_MS
                              : least_ttl_ms(res);
        wait = clamp(wait, RESOLVER_TTL_MIN_MS, RESOLVER_TTL_MAX_MS);
        m->backoff_ms = 0;
    } else {
        a.error = status == ARES_SUCCESS ? 1 : error_of(status);
        m->backoff_ms = clamp(m->backoff_ms * 2, RESOLVER_RETRY_MIN_MS, RESOLVER_RETRY_MAX_MS);
        wait = m->backoff_ms;
    }
    if (res)
        ares_freeaddrinfo(res);
    m->due_ms = r->now_ms + wait;
    a.resolved_ms = r->now_ms;
    a.expires_ms = m->due_ms;
    /* Another generation's helper may be writing the same answer: then there is nothing to add. */
    (void)resolve_publish(r->segment, r->me, m->id, &a);
    if (!m->settled) {
        m->settled = true;
        r->unsettled--;
    }
}

static void ask(struct resolver *r, struct name *m)
{
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const struct slice name = resolve_name(r->segment, m->id);
    char text[256];

    m->asking = true;
    r->asking++;
    if (name.n >= sizeof(text) || memchr(name.p, 0, name.n)) {
        on_answer(m, ARES_EBADNAME, 0, NULL);
        return;
    }
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    r->inside = true;
    ares_getaddrinfo(r->channel, text, NULL, &hints, on_answer, m);
    r->inside = false;
}

/* A machine may get its name servers after rpd has started. */
static void follow_system(struct resolver *r)
{
    struct timespec t;

    if (!r->system_servers || r->asking > 0 || r->now_ms < r->conf_look_ms)
        return;
    r->conf_look_ms = r->now_ms + CONF_LOOK_MS;
    t = conf_mtime();
    if (r->channel_ok && t.tv_sec == r->conf_time.tv_sec && t.tv_nsec == r->conf_time.tv_nsec)
        return;
    if (r->channel_ok)
        ares_destroy(r->channel);
    r->channel_ok = false;
    if (channel_open(r) < 0 && r->channel_ok) {
        ares_destroy(r->channel);
        r->channel_ok = false;
    }
}

void resolver_ready(struct resolver *r, int fd, bool rd, bool wr)
{
    r->now_ms = clock_ms();
    if (r->channel_ok)
        ares_process_fd(r->channel, rd ? fd : ARES_SOCKET_BAD, wr ? fd : ARES_SOCKET_BAD);
}

void resolver_tick(struct resolver *r, uint64_t now_ms)
{
    r->now_ms = now_ms;
    if (r->channel_ok)
        ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    follow_system(r);
    for (size_t k = 0; r->channel_ok && k < r->n && r->asking < RESOLVER_IN_FLIGHT; k++) {
        struct name *m = r->name[r->next++ % r->n];

        if (!m->asking && m->due_ms <= now_ms)
            ask(r, m);
    }
}

int resolver_timeout_ms(const struct resolver *r, uint64_t now_ms)
{
    uint64_t left = UINT64_MAX;
    struct timeval tv;

    /* Names that are due but have no place wait for an answer, which comes by itself. */
    for (size_t i = 0; i < r->n && r->asking < RESOLVER_IN_FLIGHT; i++) {
        const struct name *m = r->name[i];
        const uint64_t wait = m->due_ms > now_ms ? m->due_ms - now_ms : 0;

        if (!m->asking && wait < left)
            left = wait;
    }
    if (r->channel_ok && ares_timeout(r->channel, NULL, &tv)) {
        /* Rounded up: waking a little early would only spin. */
        const uint64_t wait = (uint64_t)tv.tv_sec * 1000 + (uint64_t)(tv.tv_usec + 999) / 1000;

        if (wait < left)
            left = wait;
    }
    if (!r->channel_ok && left < CONF_LOOK_MS)
        left = CONF_LOOK_MS;
    return left == UINT64_MAX ? -1 : left > INT_MAX ? INT_MAX : (int)left;
}

bool resolver_first_round_done(const struct resolver *r)
{
    return r->unsettled == 0;
}

const char *resolver_library(void)
{
    return ares_version(NULL);
}
