/* Connections to servers: opened, secured, pooled newest first, rationed over the whole machine,
 * closed; see up.h. */
#include "worker/upstream/conn.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "worker/io/sock.h"
#include "worker/io/tls.h"
#include "worker/upstream/h1.h"
#include "worker/upstream/h2.h"

#include <unistd.h>

#define UP_EXCESS_MS                                                                               \
    1000u /* idle connections beyond the ration stay that long: a burst's end is not its beginning \
           */
#define UP_PLAUSIBLE_MS 500u
#define UP_MARGIN_MS    1000u  /* closed that much before the server would */
#define UP_TLS_LOG_MS   10000u /* a server's failed handshakes are told that often */

/* ---- counting ---- */

void up_conn_count_idle(struct up_server *s, int32_t n)
{
    uint32_t v = atomic_load_explicit(&s->row->idle, memory_order_relaxed);
    atomic_store_explicit(&s->row->idle, v + (uint32_t)n, memory_order_relaxed);
    s->nidle += (uint32_t)n;
    gauge_add(s->group->all->gau, GAU_UP_IDLE, n);
}

static void up_row_add(_Atomic uint64_t *a, uint64_t n)
{
    atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void up_conn_count_reuse(struct up_server *s)
{
    counter_add(s->group->all->ctr, CTR_UP_REUSES, 1);
    up_row_add(&s->row->reuses, 1);
}

void up_conn_account(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    struct server_row *row = c->server->row;
    counter_add(us->ctr, CTR_UP_BYTES_IN, c->bytes_in);
    counter_add(us->ctr, CTR_UP_BYTES_OUT, c->bytes_out);
    up_row_add(&row->bytes_in, c->bytes_in);
    up_row_add(&row->bytes_out, c->bytes_out);
    if (c->first_us && c->sent_us && c->first_us > c->sent_us)
        up_row_add(&row->first_byte_us, c->first_us - c->sent_us);
    if (!c->link.tls)
        c->sent_before += c->bytes_out;
    c->bytes_in = c->bytes_out = 0;
}

void up_conn_busy(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    list_append(&us->busy, &c->node);
    gauge_add(us->gau, GAU_UP_ACTIVE, 1);
}

/* ---- the pool ---- */

/* A TLS connection is readable when new tickets have come, too. */
static bool up_conn_alive(struct up_conn *c, bool check)
{
    if (c->link.io.ready & IO_HUP)
        return false;
    if (c->link.io.ready & IO_READ)
        return c->link.tls && up_h1_quiet(c);
    return !check || up_h1_quiet(c);
}

void up_conn_note_idle_close(const struct up_conn *c)
{
    uint64_t idle = clock_ms() - c->idle_since;
    /* Shorter than any keep-alive time means a restart or a request limit, and says nothing about
     * idle times. */
    if (idle >= UP_PLAUSIBLE_MS)
        server_note_idle_close(c->server->group->all->segment, c->server->id, (uint32_t)idle);
}

/* The server closed, or spoke out of turn on, an idle connection. */
static void up_conn_idle_closed(struct up_conn *c)
{
    up_conn_note_idle_close(c);
    up_conn_close(c);
}

static struct up_conn *up_conn_take_idle(struct up_server *s, bool check)
{
    while (!list_empty(&s->idle)) {
        struct up_conn *c = CONTAINER(s->idle.next, struct up_conn, node);
        if (!up_conn_alive(c, check)) {
            up_conn_idle_closed(c);
            continue;
        }
        list_remove(&c->node);
        up_conn_count_idle(s, -1);
        if (c->link.tls)
            c->sent_before = check ? sock_acked(c->link.io.fd) - 1 : 0;
        c->reused = true;
        up_set_state(c, UP_REQUEST);
        up_conn_count_reuse(s);
        up_conn_busy(c);
        return c;
    }
    return NULL;
}

uint64_t up_conn_idle_ms(const struct up_conn *c)
{
    const struct upstream *u = c->server->group;
    uint64_t ms = u->conf->k.keepalive_timeout;
    uint32_t seen = server_idle_allowance(u->all->segment, c->server->id);
    uint32_t said = c->allowed_idle_ms;
    uint32_t allowed = said && (!seen || said < seen) ? said : seen;
    if (allowed) {
        uint64_t safe = allowed > 2 * UP_MARGIN_MS ? allowed - UP_MARGIN_MS : allowed / 2;
        if (safe < ms)
            ms = safe;
    }
    /* Our share of the machine's ration first, without looking at the others. */
    if (c->server->nidle > u->idle_share && ms > UP_EXCESS_MS &&
        server_idle(u->all->segment, c->server->id) > u->conf->k.keepalive)
        ms = UP_EXCESS_MS;
    return ms;
}

/* ---- connecting ---- */

/* Whoever waits for the connection hears of its end. */
static void up_conn_broken(struct up_conn *c, int err)
{
    if (c->session)
        up_h2_failed(c->session, err);
    else
        up_fail(c, err);
}

static void up_tls_log(struct up_server *s, int err, const char *why)
{
    uint64_t now = clock_ms();
    if (s->tls_logged_ms && now - s->tls_logged_ms < UP_TLS_LOG_MS)
        return;
    s->tls_logged_ms = now;
    LOG_WARN("upstream_tls", "upstream %.*s server %.*s: %s: %s", SLICE_ARG(s->group->conf->name),
             SLICE_ARG(s->conf->name), err_reason(err), why);
}

/* Everything is ready for HTTP. */
static void up_conn_ready(struct up_conn *c)
{
    struct up_server *s = c->server;
    c->connected_us = clock_us();
    if (!c->session) {
        up_h1_connected(c);
        return;
    }
    if (!c->link.tls || tls_is_h2(&c->link)) {
        up_h2_connected(c->session);
    } else if (s->protocol == UP_SPEAKS_H2) {
        up_tls_log(s, ERR_UP_TLS, "it does not agree to HTTP/2 (ALPN)");
        up_conn_broken(c, ERR_UP_TLS);
    } else {
        up_h2_declined(c->session);
    }
}

static void up_conn_handshake(struct up_conn *c)
{
    int e = tls_handshake(&c->link);
    if (e == -ERR_AGAIN)
        return;
    if (e < 0) {
        int err = e == -ERR_UP_CERT || e == -ERR_NOMEM ? -e : ERR_UP_TLS;
        up_tls_log(c->server, err, tls_last_error());
        up_conn_broken(c, err);
        return;
    }
    up_conn_ready(c);
}

static void up_conn_connected(struct up_conn *c)
{
    struct up_server *s = c->server;
    int e = sock_connect_result(c->link.io.fd);
    if (e == 0 && s->tls) {
        bool h2 = c->session != NULL;
        e = tls_connect(s->tls, &c->link, h2, !h2 || s->protocol == UP_SPEAKS_EITHER);
    }
    if (e < 0) {
        up_conn_broken(c, -e);
        return;
    }
    if (!s->tls) {
        up_conn_ready(c);
        return;
    }
    up_set_state(c, UP_HANDSHAKE);
    up_conn_handshake(c);
}

static void up_conn_on_event(struct io *io)
{
    struct up_conn *c = CONTAINER(io, struct up_conn, link.io);
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
        if (io->ready & (IO_WRITE | IO_ERR))
            up_conn_connected(c);
        break;
    case UP_HANDSHAKE:
        up_conn_handshake(c);
        break;
    case UP_IDLE:
        if ((io->ready & (IO_READ | IO_HUP)) && !up_conn_alive(c, false))
            up_conn_idle_closed(c);
        return;
    case UP_SESSION:
        up_h2_event(c->session);
        return;
    case UP_CLOSED:
    case UP__COUNT:
        return;
    case UP_REQUEST:
    case UP_WAITING:
    case UP_BODY:
    case UP_TUNNEL:
        up_h1_event(c);
        return;
    }
    /* The server may have spoken already, or gone. */
    if (c->state == UP_SESSION)
        up_h2_event(c->session);
    else if (c->state >= UP_REQUEST && c->state <= UP_TUNNEL)
        up_h1_event(c);
}

static bool up_conn_init(struct up_conn *c, struct up_server *s, int fd)
{
    c->server = s;
    c->proto = &up_h1;
    c->link = (struct link){.io = {.fd = fd, .handler = up_conn_on_event}, .ops = &link_plain};
    timer_init(&c->timer, up_on_timer);
    c->state = UP_CONNECTING;
    return io_add(s->group->all->loop, &c->link.io) == 0;
}

struct up_conn *up_conn_open(struct up_server *s, int *ret_err)
{
    struct upstreams *us = s->group->all;
    struct addr_any to;
    bool done = false;
    if (!up_server_address(s, &to)) {
        *ret_err = -ERR_NO_ADDRESS;
        return NULL;
    }
    struct up_conn *c = pool_get(&us->conns);
    if (!c) {
        *ret_err = -ERR_NOMEM;
        return NULL;
    }
    int fd = sock_connect(&to, &done);
    counter_add(us->ctr, CTR_UP_CONNECTS, 1);
    up_row_add(&s->row->connects, 1);
    if (fd < 0 || !up_conn_init(c, s, fd)) {
        if (fd >= 0)
            close(fd);
        pool_put(&us->conns, c);
        *ret_err = fd < 0 ? fd : -ERR_SYS;
        return NULL;
    }
    return c;
}

struct up_conn *up_conn_stream(struct up_server *s)
{
    struct up_conn *c = pool_get(&s->group->all->conns);
    if (!c)
        return NULL;
    c->server = s;
    c->proto = &up_h2;
    c->link = (struct link){.io = {.fd = -1}, .ops = &link_plain};
    timer_init(&c->timer, up_on_timer);
    list_init(&c->sibling);
    list_init(&c->holding);
    list_init(&c->ending);
    c->state = UP_CONNECTING;
    up_conn_busy(c);
    return c;
}

struct up_conn *up_adopt(struct up_server *s, int fd)
{
    struct upstreams *us = s->group->all;
    struct up_conn *c = pool_get(&us->conns);
    if (c && !up_conn_init(c, s, fd)) {
        pool_put(&us->conns, c);
        c = NULL;
    }
    if (c)
        up_conn_busy(c);
    return c;
}

/* HTTP/2 first, where the server is known or hoped to speak it; what it said last is believed for
 * a while. */
struct up_conn *up_acquire(struct up_server *s, unsigned flags, int *ret_err)
{
    bool h2 = s->protocol != UP_SPEAKS_H1 && !(flags & UP_HTTP1);
    struct up_conn *c = h2 ? up_h2_join(s, flags) : NULL;
    if (!c && !(flags & UP_FRESH) && (!h2 || s->protocol == UP_SPEAKS_EITHER))
        c = up_conn_take_idle(s, flags & UP_CHECK);
    if (c)
        return c;
    if (h2 && (s->protocol == UP_SPEAKS_H2 || clock_ms() >= s->h1_until_ms))
        return up_h2_open(s, ret_err);
    c = up_conn_open(s, ret_err);
    if (c)
        up_conn_busy(c);
    return c;
}

void up_conn_close(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    if (c->state == UP_CLOSED)
        return;
    bool carrier = c->session && c->proto != &up_h2;
    if ((c->state == UP_CONNECTING || c->state == UP_HANDSHAKE) && c->proto != &up_h2)
        counter_add(us->ctr, CTR_UP_CONNECT_FAILS, 1);
    up_conn_account(c);
    list_remove(&c->node);
    if (c->state == UP_IDLE)
        up_conn_count_idle(c->server, -1);
    else if (!carrier)
        gauge_add(us->gau, GAU_UP_ACTIVE, -1);
    up_set_state(c, UP_CLOSED);
    c->events = NULL;
    c->user = NULL;
    timer_stop(&c->timer);
    c->proto->close(c);
    loop_bury(us->loop, &c->corpse, c, &us->conns);
}
