/* The life of client connections: accept, limits, states, closing, draining; see client.h. What is
 * said on them is h1.c. */
#include "worker/client/client.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/panic.h"
#include "worker/io/sock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CLIENT_ACCEPTS      64     /* connections taken per turn and listener */
#define CLIENT_LAST_ACCEPTS 65536  /* more than any queue is long */
#define CLIENT_RETRY_MS     100u   /* look again after the descriptors ran out */
#define CLIENT_TRIM         32u    /* idle connections given up for want of descriptors */
#define CLIENT_FD_RESERVE   64u    /* descriptors kept for logs, channels and the like */
#define CLIENT_PRESSED_MS   15000u /* keep-alive time when nearly full */

static const char *const client_state_names[] = {
#define X(n) [CLIENT_##n] = #n,
    CLIENT_STATES(X)
#undef X
};

const char *client_state_name(enum client_state st)
{
    return (unsigned)st < CLIENT__COUNT ? client_state_names[st] : "?";
}

static void clients_retry(struct timer *t);

int clients_init(struct clients *cs, const struct clients_env *env)
{
    *cs = (struct clients){.loop = env->loop,
                           .env = env->stream,
                           .config = env->config,
                           .ctr = env->ctr,
                           .gau = env->gau,
                           .tls = env->tls,
                           .number = env->number};
    list_init(&cs->dirty);
    list_init(&cs->dirty_later);
    list_init(&cs->idle);
    list_init(&cs->active);
    pool_init(&cs->pool, "client connections", sizeof(struct client));
    pool_init(&cs->bodies, "request bodies", sizeof(struct client_body));
    client_h2_pools(cs);
    timer_init(&cs->retry, clients_retry);
    hash_key_random(&cs->key);
    uint32_t workers = env->config->workers ? env->config->workers : 1;
    /* A proxied request needs two descriptors. */
    uint64_t room = env->nofile > 2 * CLIENT_FD_RESERVE ? (env->nofile - CLIENT_FD_RESERVE) / 2 : 1;
    uint64_t max = env->config->global.max_connections;
    max = max ? (max + workers - 1) / workers : room;
    cs->max = max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
    uint64_t per = env->config->global.max_connections_per_client;
    /* The kernel spreads a client's connections over the workers only roughly: a quarter more than
     * the even share. */
    cs->max_per_address =
        workers == 1 ? (uint32_t)per : (uint32_t)((per + per / 4 + workers - 1) / workers);
    cs->address_mask = 1023;
    cs->address = calloc(cs->address_mask + 1, sizeof *cs->address);
    return cs->address ? 0 : -ERR_NOMEM;
}

/* ---- connections per address ---- */

static uint64_t client_address_key(const struct clients *cs, const union addr *a)
{
    uint64_t h;
    if (a->sa.sa_family == AF_INET)
        h = hash_sip13(&cs->key, &a->in.sin_addr, 4);
    else
        h = hash_sip13(&cs->key, &a->in6.sin6_addr,
                       IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr) ? 16 : 8);
    return h ? h : 1;
}

/* Loopback and unix peers are other programs of this machine (a TLS front, a health check): not
 * strangers to be held back. */
static bool client_address_exempt(const struct clients *cs, const union addr *a)
{
    if (!cs->max_per_address)
        return true;
    if (a->sa.sa_family == AF_INET)
        return (ntohl(a->in.sin_addr.s_addr) >> 24) == 127;
    if (a->sa.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
    return true;
}

static bool client_address_grow(struct clients *cs)
{
    uint32_t mask = cs->address_mask * 2 + 1;
    struct client_address *t = calloc((size_t)mask + 1, sizeof *t);
    if (!t)
        return false;
    for (uint32_t i = 0; i <= cs->address_mask; i++) {
        if (!cs->address[i].n)
            continue;
        uint32_t j = (uint32_t)cs->address[i].key & mask;
        while (t[j].n)
            j = (j + 1) & mask;
        t[j] = cs->address[i];
    }
    free(cs->address);
    cs->address = t;
    cs->address_mask = mask;
    return true;
}

/* Counts a connection of that address; false when it has its fill. */
static bool client_address_enter(struct clients *cs, uint64_t key)
{
    if (cs->naddress * 2 > cs->address_mask && !client_address_grow(cs))
        return false;
    uint32_t i = (uint32_t)key & cs->address_mask;
    while (cs->address[i].n && cs->address[i].key != key)
        i = (i + 1) & cs->address_mask;
    struct client_address *e = &cs->address[i];
    if (e->n >= cs->max_per_address)
        return false;
    if (!e->n)
        cs->naddress++;
    e->key = key;
    e->n++;
    return true;
}

bool client_count_address(struct client *c)
{
    struct clients *cs = c->all;
    if (c->addressed || c->peer.trusted || client_address_exempt(cs, &c->peer.addr))
        return true;
    c->addressed = client_address_enter(cs, client_address_key(cs, &c->peer.addr));
    return c->addressed;
}

/* Linear probing without tombstones: later entries of the run move up (Knuth, vol. 3, 6.4,
 * algorithm R). */
static void client_address_remove(struct clients *cs, uint32_t i)
{
    uint32_t j = i;
    for (;;) {
        j = (j + 1) & cs->address_mask;
        if (!cs->address[j].n)
            break;
        uint32_t home = (uint32_t)cs->address[j].key & cs->address_mask;
        if (((j - home) & cs->address_mask) >= ((j - i) & cs->address_mask)) {
            cs->address[i] = cs->address[j];
            i = j;
        }
    }
    cs->address[i] = (struct client_address){0};
    cs->naddress--;
}

static void client_address_leave(struct clients *cs, uint64_t key)
{
    uint32_t i = (uint32_t)key & cs->address_mask;
    while (cs->address[i].n && cs->address[i].key != key)
        i = (i + 1) & cs->address_mask;
    if (cs->address[i].n && --cs->address[i].n == 0)
        client_address_remove(cs, i);
}

/* ---- states ---- */

/* Bit t of row f: the step f -> t is legal. */
#define STEP(n) (1u << CLIENT_##n)
static const uint8_t client_steps[CLIENT__COUNT] = {
    [CLIENT_PROXY] = STEP(HANDSHAKE) | STEP(HEAD) | STEP(CLOSED),
    [CLIENT_HANDSHAKE] = STEP(HEAD) | STEP(CLOSED),
    [CLIENT_IDLE] = STEP(HEAD) | STEP(EXCHANGE) | STEP(LINGER) | STEP(CLOSED),
    /* IDLE: taken over from a worker, or HTTP/2 */
    [CLIENT_HEAD] = STEP(IDLE) | STEP(EXCHANGE) | STEP(LINGER) | STEP(CLOSED),
    [CLIENT_EXCHANGE] = STEP(IDLE) | STEP(TUNNEL) | STEP(LINGER) | STEP(CLOSED),
    [CLIENT_TUNNEL] = STEP(LINGER) | STEP(CLOSED),
    [CLIENT_LINGER] = STEP(CLOSED),
};
#undef STEP

void client_set_state(struct client *c, enum client_state st)
{
    struct clients *cs = c->all;
    DEBUG_MUST(client_steps[c->state] >> st & 1u);
    bool was = c->state == CLIENT_IDLE, is = st == CLIENT_IDLE;
    cs->ntunnel += (uint32_t)(st == CLIENT_TUNNEL) - (uint32_t)(c->state == CLIENT_TUNNEL);
    c->state = (uint8_t)st;
    if (was == is)
        return;
    list_remove(&c->node);
    list_append(is ? &cs->idle : &cs->active, &c->node);
    cs->nidle += is ? 1u : UINT32_MAX;
    gauge_add(cs->gau, GAU_CONNS_IDLE, is ? 1 : -1);
}

uint64_t client_idle_ms(const struct client *c)
{
    const struct clients *cs = c->all;
    uint64_t ms = c->peer.listen->conn.keepalive_timeout;
    if ((uint64_t)cs->n * 5 > (uint64_t)cs->max * 4 && ms > CLIENT_PRESSED_MS)
        ms = CLIENT_PRESSED_MS;
    return ms;
}

void client_close(struct client *c)
{
    struct clients *cs = c->all;
    if (c->state == CLIENT_CLOSED)
        return;
    client_set_state(c, CLIENT_CLOSED);
    c->proto->closed(c);
    list_remove(&c->node);
    if (c->addressed)
        client_address_leave(cs, client_address_key(cs, &c->peer.addr));
    cs->n--;
    gauge_add(cs->gau, GAU_CONNS, -1);
    counter_add(cs->ctr, CTR_CONN_CLOSED, 1);
    timer_stop(&c->timer);
    outq_free(&c->out);
    free(c->in);
    c->in = NULL;
    c->link.ops->close(&c->link);
    loop_bury(cs->loop, &c->corpse, c, &cs->pool);
}

/* ---- accepting ---- */

bool client_trusted(const struct clients *cs, const union addr *a)
{
    const struct conf_cidrs *t = &cs->config->global.trusted_proxies;
    return t->n && cidr_match_any(t->v, t->n, &a->sa);
}

void client_set_peer(struct client *c, const union addr *a)
{
    c->peer.addr = *a;
    char text[64];
    size_t n = addr_fmt_ip(text, &a->sa);
    if (n >= sizeof c->ip)
        n = sizeof c->ip - 1;
    memcpy(c->ip, text, n);
    c->peer.ip = slice_of(c->ip, n);
    c->peer.port = addr_port(&a->sa);
    c->peer.trusted = client_trusted(c->all, a);
}

uint64_t client_jitter(const struct clients *cs, uint64_t v)
{
    uint64_t span = v / 5;
    return span ? v - span / 2 + cs->env->rng[0] % span : v;
}

bool client_aged(const struct client *c)
{
    /* The port is as good as a die. */
    const uint64_t age = c->peer.listen->conn.connection_age;
    return clock_ms() - c->born_ms > age - age / 10 + age / 100 * (c->peer.port % 20u);
}

static bool client_proxy_expected(const struct conf_listen *l, const union addr *a)
{
    const struct conf_proxy_protocol *p = &l->k.proxy_protocol;
    if (p->mode == CONF_PROXYP_FROM)
        return cidr_match_any(p->from.v, p->from.n, &a->sa);
    return p->mode == CONF_PROXYP_ON;
}

void client_set_proto(struct client *c, const struct client_proto *p)
{
    c->proto = p;
    c->link.io.handler = p->event;
    c->timer.fire = p->timer;
}

/* A connection object around fd, in our epoll set, state PROXY. NULL: fd stays the caller's. */
static struct client *client_make(struct clients *cs, const struct conf_listen *l, int fd,
                                  const union addr *a, uint16_t port)
{
    struct client *c = pool_get(&cs->pool);
    if (!c) {
        counter_add(cs->ctr, CTR_NOMEM, 1);
        return NULL;
    }
    c->link = (struct link){.io = {.fd = fd}, .ops = &link_plain};
    if (io_add(cs->loop, &c->link.io) < 0) {
        pool_put(&cs->pool, c);
        return NULL;
    }
    c->all = cs;
    timer_init(&c->timer, client_open_proto.timer);
    client_set_proto(c, &client_open_proto);
    c->peer.link = &c->link;
    c->peer.listen = l;
    c->peer.listen_port = port;
    c->peer.scheme = SLICE("http");
    c->born_ms = clock_ms();
    c->max_requests = (uint32_t)client_jitter(cs, l->conn.keepalive_requests);
    client_set_peer(c, a);
    cs->n++;
    gauge_add(cs->gau, GAU_CONNS, 1);
    list_append(&cs->active, &c->node);
    return c;
}

static void client_new(struct client_listener *ln, int fd, const union addr *a)
{
    struct clients *cs = ln->all;
    struct io io = {.fd = fd};
    bool counted = !client_address_exempt(cs, a) && !client_trusted(cs, a) &&
                   !client_proxy_expected(ln->listen, a);
    counter_add(cs->ctr, CTR_CONN_ACCEPTED, 1);
    if (cs->n >= cs->max && !clients_trim(cs, CLIENT_TRIM)) {
        counter_add(cs->ctr, CTR_CONN_REFUSED, 1);
        io_close(&io);
        return;
    }
    if (counted && !client_address_enter(cs, client_address_key(cs, a))) {
        counter_add(cs->ctr, CTR_CONN_REFUSED, 1);
        io_close(&io);
        return;
    }
    struct client *c = client_make(cs, ln->listen, fd, a, ln->port);
    if (!c) {
        if (counted)
            client_address_leave(cs, client_address_key(cs, a));
        io_close(&io);
        return;
    }
    c->addressed = counted;
    client_open_start(c, client_proxy_expected(ln->listen, a));
}

struct client *client_adopt(struct clients *cs, const struct conf_listen *l, int fd,
                            const union addr *a, uint16_t listen_port, uint64_t age_ms)
{
    struct client *c = client_make(cs, l, fd, a, listen_port);
    if (!c)
        return NULL;
    client_set_state(c, CLIENT_HEAD);
    client_set_proto(c, &client_h1_proto);
    c->born_ms -= age_ms < c->born_ms ? age_ms : c->born_ms;
    (void)client_count_address(c); /* it was let in once: not turned away now */
    return c;
}

/* No descriptor is left: idle connections go first; without any, accepting rests until something
 * was closed. */
static void clients_starved(struct clients *cs)
{
    counter_add(cs->ctr, CTR_FD_LIMIT, 1);
    if (clock_ms() - cs->limit_logged_ms > 1000 || !cs->limit_logged_ms) {
        cs->limit_logged_ms = clock_ms();
        LOG_WARN("fd_limit",
                 "no file descriptor left with %u client connections; raise rlimit_nofile or lower "
                 "max_connections",
                 cs->n);
    }
    unsigned closed = clients_trim(cs, CLIENT_TRIM);
    closed += upstreams_trim(cs->env->upstreams, CLIENT_TRIM);
    if (closed)
        return;
    clients_accept_stop(cs);
    cs->paused = true;
    timer_set_at(&cs->loop->timers, &cs->retry, clock_ms() + CLIENT_RETRY_MS);
}

static void clients_retry(struct timer *t)
{
    struct clients *cs = CONTAINER(t, struct clients, retry);
    if (!cs->paused || cs->draining)
        return;
    cs->paused = false;
    clients_accept_start(cs);
}

static void client_on_accept(struct io *io)
{
    struct client_listener *ln = CONTAINER(io, struct client_listener, io);
    for (int i = 0; i < CLIENT_ACCEPTS && ln->on; i++) {
        union addr a;
        int fd = sock_accept(io->fd, &a);
        if (fd == -ERR_AGAIN)
            return;
        if (fd == -ERR_FD_LIMIT) {
            clients_starved(ln->all);
            return;
        }
        if (fd >= 0)
            client_new(ln, fd, &a);
    }
}

int clients_listen(struct clients *cs, size_t i, size_t n, int fd, const struct conf_listen *l,
                   const struct conf_address *a, uint32_t owner)
{
    if (!cs->listener) {
        cs->listener = calloc(n, sizeof *cs->listener);
        cs->nlistener = n;
    }
    if (!cs->listener || i >= cs->nlistener)
        return -ERR_NOMEM;
    cs->listener[i] = (struct client_listener){.io = {.fd = fd, .handler = client_on_accept},
                                               .all = cs,
                                               .listen = l,
                                               .owner = owner,
                                               .port = addr_port(&a->addr.u.sa),
                                               .is_unix = a->addr.u.sa.sa_family == AF_UNIX};
    return 0;
}

static bool clients_takes(const struct clients *cs, const struct client_listener *ln)
{
    return ln->is_unix || ln->owner == cs->number ||
           (cs->cover[ln->owner / 64] >> ln->owner % 64 & 1) != 0;
}

int clients_cover(struct clients *cs, const uint64_t cover[SHM_SLOTS / 64])
{
    memcpy(cs->cover, cover, sizeof cs->cover);
    for (size_t i = 0; i < cs->nlistener; i++) {
        struct client_listener *ln = &cs->listener[i];
        if (!ln->on || clients_takes(cs, ln))
            continue;
        io_remove(cs->loop, &ln->io);
        ln->on = false;
    }
    return cs->accepting && !cs->draining ? clients_accept_start(cs) : 0;
}

int clients_accept_start(struct clients *cs)
{
    cs->accepting = true;
    for (size_t i = 0; i < cs->nlistener; i++) {
        struct client_listener *ln = &cs->listener[i];
        if (ln->on || !clients_takes(cs, ln))
            continue;
        if (io_add_level(cs->loop, &ln->io, ln->is_unix) < 0)
            return -ERR_SYS;
        ln->on = true;
    }
    return 0;
}

void clients_accept_stop(struct clients *cs)
{
    cs->accepting = false;
    for (size_t i = 0; i < cs->nlistener; i++) {
        struct client_listener *ln = &cs->listener[i];
        if (ln->on)
            io_remove(cs->loop, &ln->io);
        ln->on = false;
    }
}

/* ---- many at once ---- */

unsigned clients_trim(struct clients *cs, unsigned most)
{
    unsigned n = 0;
    while (n < most && !list_empty(&cs->idle)) {
        client_close(CONTAINER(cs->idle.next, struct client, node));
        n++;
    }
    return n;
}

/* Who is in the queue already is served; a successor, if there is one, has the same sockets and
 * takes what comes later. */
static void clients_close_listeners(struct clients *cs)
{
    for (size_t i = 0; i < cs->nlistener; i++) {
        struct client_listener *ln = &cs->listener[i];
        union addr a;
        int fd = ln->on ? 0 : -ERR_AGAIN;
        for (int k = 0; fd != -ERR_AGAIN && fd != -ERR_FD_LIMIT && k < CLIENT_LAST_ACCEPTS; k++) {
            fd = sock_accept(ln->io.fd, &a);
            if (fd >= 0)
                client_new(ln, fd, &a);
        }
    }
    clients_accept_stop(cs);
    for (size_t i = 0; i < cs->nlistener; i++)
        io_close(&cs->listener[i].io);
}

static void clients_on_drain_idle(struct timer *t)
{
    (void)t; /* only wakes the loop: the end of the turn looks */
}

void clients_drain(struct clients *cs)
{
    if (cs->draining)
        return;
    cs->draining = true;
    cs->drain_since_ms = clock_ms();
    timer_init(&cs->drain_idle, clients_on_drain_idle);
    timer_stop(&cs->retry);
    clients_close_listeners(cs);
    const struct list *heads[] = {&cs->idle, &cs->active};
    for (int h = 0; h < 2; h++)
        LIST_EACH_SAFE(it, tmp, heads[h])
        {
            struct client *c = CONTAINER(it, struct client, node);
            if (c->proto->drain)
                c->proto->drain(c);
        }
}

void clients_drain_idle(struct clients *cs, uint64_t idle_ms)
{
    if (list_empty(&cs->idle))
        return;
    if (clock_ms() < cs->drain_since_ms + idle_ms) {
        timer_set_at(&cs->loop->timers, &cs->drain_idle, cs->drain_since_ms + idle_ms);
        return;
    }
    LIST_EACH_SAFE(it, tmp, &cs->idle)
    {
        struct client *c = CONTAINER(it, struct client, node);
        if (c->proto->drain || (cs->handing && c->link.ops->splice))
            continue; /* says goodbye in its own way; or the successor takes it */
        /* Else its next request may be here: it is looked at in the next turn. */
        if (!c->in_n && !c->link.io.queued)
            client_close(c);
    }
}

void clients_fini(struct clients *cs)
{
    handovers_free(cs);
    free(cs->listener);
    free(cs->address);
    cs->listener = NULL;
    cs->address = NULL;
}

unsigned clients_abort(struct clients *cs, int err, bool tunnels)
{
    unsigned n = 0;
    LIST_EACH_SAFE(it, tmp, &cs->active)
    {
        struct client *c = CONTAINER(it, struct client, node);
        n += c->proto->kill(c, err, tunnels);
    }
    n += clients_trim(cs, UINT32_MAX);
    counter_add(cs->ctr, CTR_CONN_ABORTED, n);
    return n;
}

static void client_print(const struct client *c, struct json *j, struct buf *out)
{
    uint64_t age = clock_ms() - c->born_ms;
    size_t unsent = link_backlog(&c->link, &c->out);
    if (j) {
        json_object(j);
        json_kstr(j, "client", c->peer.ip);
        json_ku64(j, "port", c->peer.port);
        json_kstr(j, "listen", c->peer.listen->name);
        json_kcstr(j, "protocol", c->proto->name);
        json_kbool(j, "tls", c->link.tls != NULL);
        json_kcstr(j, "state", client_state_name(c->state));
        json_ku64(j, "age_ms", age);
        json_ku64(j, "requests", c->requests);
        json_ku64(j, "unsent", unsent);
        c->proto->print(c, j, out);
        json_end_object(j);
        return;
    }
    buf_printf(out, "%.*s:%u %.*s %s%s %s %llums req=%u", SLICE_ARG(c->peer.ip), c->peer.port,
               SLICE_ARG(c->peer.listen->name), c->proto->name, c->link.tls ? "+tls" : "",
               client_state_name(c->state), (unsigned long long)age, c->requests);
    c->proto->print(c, NULL, out);
    buf_printf(out, " unsent=%zu\n", unsent);
}

void client_print_stream(const struct stream *s, struct json *j, struct buf *out)
{
    struct slice server =
        s && s->server >= 0 ? s->upstream->server[s->server].conf->name : SLICE("-");
    struct slice target = s && !s->malformed ? s->req.target : SLICE("-");
    if (target.n > 120)
        target.n = 120;
    const char *state = s ? stream_state_name(s->state) : NULL;
    if (!j) {
        buf_printf(out, " %s %.*s -> %.*s", state ? state : "-", SLICE_ARG(target),
                   SLICE_ARG(server));
        return;
    }
    json_kcstr(j, "stream", state);
    json_kstr(j, "target", target);
    json_kstr(j, "server", server);
}

void clients_print(const struct clients *cs, uint32_t limit, bool json, struct buf *out)
{
    struct json j;
    json_init(&j, out);
    if (json)
        json_array(&j);
    const struct list *heads[] = {&cs->active, &cs->idle};
    for (int h = 0; h < 2; h++)
        LIST_EACH(it, heads[h])
        {
            if (!limit--)
                goto out;
            client_print(CONTAINER(it, struct client, node), json ? &j : NULL, out);
        }
out:
    if (json)
        json_end_array(&j);
}
