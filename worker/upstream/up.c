/* A request at a server: its states, deadlines and its end, whatever protocol carries it; see up.h.
 */
#include "worker/upstream/up.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "worker/upstream/conn.h"
#include "worker/upstream/h2.h"

static void up_timer(struct up_conn *c, uint64_t ms)
{
    timer_set_at(&up_loop(c)->timers, &c->timer, clock_ms() + ms);
}

/* The one place that decides which deadline of a request runs. */
void up_rearm(struct up_conn *c)
{
    const struct up_timeouts *t = c->timeouts;
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
    case UP_HANDSHAKE:
        up_timer(c, t->connect);
        break;
    case UP_REQUEST:
        if (c->proto->backlog(c))
            up_timer(c, t->send);
        else
            timer_off(&c->timer);
        break;
    case UP_WAITING:
        up_timer(c, t->first_byte);
        break;
    case UP_BODY:
        if (c->paused)
            timer_off(&c->timer);
        else
            up_timer(c, c->event_stream ? t->tunnel : t->read);
        break;
    case UP_TUNNEL: /* once a side is finished the other has not long to follow */
        up_timer(c, (c->eof || c->half) && t->read < t->tunnel ? t->read : t->tunnel);
        break;
    case UP_IDLE:
    case UP_SESSION:
    case UP_CLOSED:
    case UP__COUNT:
        break;
    }
}

/* Bit t of row f: the step f -> t is legal. */
#define STEP(n) (1u << UP_##n)
static const uint16_t up_steps[UP__COUNT] = {
    [UP_CONNECTING] = STEP(HANDSHAKE) | STEP(REQUEST) | STEP(SESSION) | STEP(CLOSED) |
                      STEP(TUNNEL), /* of another worker */
    [UP_HANDSHAKE] = STEP(REQUEST) | STEP(SESSION) | STEP(CLOSED),
    [UP_REQUEST] = STEP(WAITING) | STEP(BODY) | STEP(TUNNEL) | STEP(CLOSED),
    [UP_WAITING] = STEP(BODY) | STEP(TUNNEL) | STEP(CLOSED),
    [UP_BODY] = STEP(IDLE) | STEP(CLOSED),
    [UP_TUNNEL] = STEP(CLOSED),
    [UP_IDLE] = STEP(REQUEST) | STEP(CLOSED),
    [UP_SESSION] = STEP(CLOSED),
};
#undef STEP

void up_set_state(struct up_conn *c, enum up_state st)
{
    DEBUG_MUST(up_steps[c->state] >> st & 1u);
    c->state = (uint8_t)st;
}

void up_enter(struct up_conn *c, enum up_state st)
{
    up_set_state(c, st);
    up_rearm(c);
}

void up_request_complete(struct up_conn *c)
{
    c->request_done = true;
    c->sent_us = clock_us();
    if (c->state == UP_REQUEST)
        up_enter(c, UP_WAITING);
}

void up_fail(struct up_conn *c, int err)
{
    const struct up_events *ev = c->events;
    void *user = c->user;
    up_conn_close(c);
    if (ev)
        ev->failed(user, err);
}

static int up_timeout_error(const struct up_conn *c)
{
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
    case UP_HANDSHAKE:
        return ERR_CONNECT_TIMEOUT;
    case UP_REQUEST:
        return ERR_UP_WRITE_TIME;
    case UP_WAITING:
        return ERR_UP_FIRST_BYTE;
    case UP_BODY:
    case UP_TUNNEL:
    case UP_IDLE:
    case UP_SESSION:
    case UP_CLOSED:
    case UP__COUNT:
        break;
    }
    return ERR_UP_READ_TIME;
}

static void up_late(struct up_conn *c)
{
    if (c->session)
        up_h2_late(c);
    up_fail(c, up_timeout_error(c));
}

void up_on_timer(struct timer *t)
{
    struct up_conn *c = CONTAINER(t, struct up_conn, timer);
    if (c->state == UP_CLOSED)
        return;
    if (c->state == UP_IDLE)
        up_conn_close(c);
    else if (c->state == UP_SESSION)
        up_h2_idle_over(c->session);
    else if (c->state == UP_REQUEST && c->proto->moving(c))
        up_rearm(c);
    else
        up_late(c);
}

int up_begin(struct up_conn *c, const struct up_request *r)
{
    c->head = r->head;
    c->method = r->method;
    c->request_framing = r->framing;
    c->timeouts = r->timeouts;
    c->arena = r->arena;
    c->events = r->events;
    c->user = r->user;
    c->began_us = clock_us();
    c->sent_us = c->first_us = 0;
    c->requests++;
    up_rearm(c);
    if (c->state == UP_CONNECTING)
        return 0;
    c->connected_us = c->began_us;
    return c->proto->begin(c);
}

int up_send(struct up_conn *c, const char *p, size_t n, bool end, const struct http_field *trailer,
            size_t ntrailer)
{
    return c->send_broken ? 0 : c->proto->send(c, p, n, end, trailer, ntrailer);
}

int up_flush(struct up_conn *c)
{
    return c->head.n ? up_send(c, NULL, 0, false, NULL, 0) : 0;
}

void up_resume(struct up_conn *c)
{
    if (!c->paused)
        return;
    c->paused = false;
    up_rearm(c);
    c->proto->resume(c);
}

void up_release(struct up_conn *c)
{
    c->proto->release(c);
}

void up_abort(struct up_conn *c)
{
    up_conn_close(c);
}
