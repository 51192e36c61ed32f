/* Connections to servers: opened, pooled newest first, rationed over the whole machine, closed; see
 * h1.h. */
#include "worker/upstream/conn.h"

#include "base/clock.h"
#include "base/err.h"
#include "worker/io/sock.h"

#include <stdlib.h>
#include <unistd.h>

#define UP_EXCESS_MS                                                                               \
    1000u /* idle connections beyond the ration stay that long: a burst's end is not its beginning \
           */
#define UP_PLAUSIBLE_MS 500u
#define UP_MARGIN_MS    1000u /* closed that much before the server would */

static void up_row_idle(struct up_server *s, int32_t n)
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

/* Moves what this request transferred into the counters. */
static void up_account(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    struct server_row *row = c->server->row;
    counter_add(us->ctr, CTR_UP_BYTES_IN, c->bytes_in);
    counter_add(us->ctr, CTR_UP_BYTES_OUT, c->bytes_out);
    up_row_add(&row->bytes_in, c->bytes_in);
    up_row_add(&row->bytes_out, c->bytes_out);
    if (c->first_us && c->sent_us && c->first_us > c->sent_us)
        up_row_add(&row->first_byte_us, c->first_us - c->sent_us);
    c->sent_before += c->bytes_out;
    c->bytes_in = c->bytes_out = 0;
}

static struct up_conn *up_conn_take_idle(struct up_server *s, bool check_alive)
{
    while (!list_empty(&s->idle)) {
        struct up_conn *c = CONTAINER(s->idle.next, struct up_conn, node);
        if ((c->link.io.ready & (IO_READ | IO_HUP)) ||
            (check_alive && !sock_idle_alive(c->link.io.fd))) {
            up_conn_idle_closed(c);
            continue;
        }
        list_remove(&c->node);
        up_row_idle(s, -1);
        return c;
    }
    return NULL;
}

static void up_conn_busy(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    list_append(&us->busy, &c->node);
    gauge_add(us->gau, GAU_UP_ACTIVE, 1);
}

static bool up_conn_init(struct up_conn *c, struct up_server *s, int fd)
{
    c->server = s;
    c->link = (struct link){.io = {.fd = fd, .handler = up_on_event}, .ops = &link_plain};
    timer_init(&c->timer, up_on_timer);
    c->state = UP_CONNECTING;
    return io_add(s->group->all->loop, &c->link.io) == 0;
}

static struct up_conn *up_conn_open(struct up_server *s, int *ret_err)
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

struct up_conn *up_acquire(struct up_server *s, bool fresh, bool check_alive, int *ret_err)
{
    struct upstreams *us = s->group->all;
    struct up_conn *c = fresh ? NULL : up_conn_take_idle(s, check_alive);
    if (!c)
        return up_conn_open(s, ret_err);
    c->reused = true;
    up_set_state(c, UP_REQUEST);
    counter_add(us->ctr, CTR_UP_REUSES, 1);
    up_row_add(&s->row->reuses, 1);
    up_conn_busy(c);
    return c;
}

void up_conn_close(struct up_conn *c)
{
    struct upstreams *us = c->server->group->all;
    if (c->state == UP_CLOSED)
        return;
    if (c->state == UP_CONNECTING)
        counter_add(us->ctr, CTR_UP_CONNECT_FAILS, 1);
    up_account(c);
    list_remove(&c->node);
    if (c->state == UP_IDLE)
        up_row_idle(c->server, -1);
    else
        gauge_add(us->gau, GAU_UP_ACTIVE, -1);
    up_set_state(c, UP_CLOSED);
    c->events = NULL;
    c->user = NULL;
    timer_stop(&c->timer);
    outq_free(&c->out);
    free(c->in);
    c->in = NULL;
    c->link.ops->close(&c->link);
    loop_bury(us->loop, &c->corpse, c, &us->conns);
}

void up_conn_idle_closed(struct up_conn *c)
{
    uint64_t idle = clock_ms() - c->idle_since;
    /* Shorter than any keep-alive time means a restart or a request limit, and says nothing about
     * idle times. */
    if (idle >= UP_PLAUSIBLE_MS)
        server_note_idle_close(c->server->group->all->segment, c->server->id, (uint32_t)idle);
    up_conn_close(c);
}

static uint64_t up_idle_ms(const struct up_conn *c)
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

void up_release(struct up_conn *c)
{
    struct up_server *s = c->server;
    struct upstreams *us = s->group->all;
    bool keep = c->answered && c->request_done && c->persistent && !c->eof && !c->send_broken &&
                c->state == UP_BODY && !us->closing && s->group->conf->k.keepalive &&
                !(c->link.io.ready & IO_HUP) && !link_backlog(&c->link, &c->out);
    /* A read that was not short (a spliced body, a full buffer) has not shown the socket to be
     * empty; bytes behind the answer would be taken for the next one. */
    if (keep && (c->link.io.ready & IO_READ)) {
        keep = sock_idle_alive(c->link.io.fd);
        c->link.io.ready &= (uint8_t)~IO_READ;
    }
    if (!keep) {
        up_conn_close(c);
        return;
    }
    up_account(c);
    gauge_add(us->gau, GAU_UP_ACTIVE, -1);
    list_remove(&c->node);
    list_push(&s->idle, &c->node);
    up_row_idle(s, 1);
    up_set_state(c, UP_IDLE);
    c->events = NULL;
    c->user = NULL;
    c->arena = NULL;
    c->pipe = NULL;
    c->idle_since = clock_ms();
    c->answered = c->request_done = c->request_end = c->got_head = c->slow = c->paused =
        c->event_stream = false;
    c->interims = 0;
    timer_set_at(&us->loop->timers, &c->timer, clock_ms() + up_idle_ms(c));
}

void up_abort(struct up_conn *c)
{
    up_conn_close(c);
}
