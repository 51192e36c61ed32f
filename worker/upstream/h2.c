/* HTTP/2 towards servers: sessions, the requests that wait for them, and requests as their streams;
 * see h2.h. Frames are worker/http/h2.c's. A session writes at the end of the turn, once. */
#include "worker/upstream/h2.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "worker/http/h2.h"
#include "worker/io/sock.h"
#include "worker/upstream/conn.h"
#include "worker/upstream/h1.h"

#include <string.h>

#define UP_H2_FRAME       16393u        /* h2_output() wants that much room */
#define UP_H2_BUFFER      (64u * 1024u) /* of one read, and of one write */
#define UP_H2_BUDGET      8             /* reads in one go before others get their turn */
#define UP_H2_INTERIMS    32            /* 1xx answers to one request */
#define UP_H2_MOST        100u   /* streams at once, until the server says (RFC 9113 6.5.2) */
#define UP_H2_MOVES       3      /* sessions that a request may wait for in vain */
#define UP_H2_FRESH_MS    1000u  /* a session that young cannot have died unnoticed */
#define UP_H2_DECLINED_MS 60000u /* for that long a server's choice of HTTP/1.1 holds */
/* Of a stream: what an exchange holds for a client that is slow. It starts as HTTP asks for and
 * grows while all is taken as fast as it comes; a client may then stop, so not to more than this.
 */
#define UP_H2_WINDOW      65536u
#define UP_H2_WINDOW_MOST (256u * 1024u)
#define UP_H2_WINDOWS     0x7fffffffu   /* of the session: no stream waits for another's client */
#define UP_H2_QUEUE       (64u * 1024u) /* request bytes before the client has to wait */
#define UP_H2_SETTLED     9u            /* bytes of a frame's head: the first are the SETTINGS */

struct up_h2 {
    struct up_conn *wire;
    struct up_server *server;
    struct h2 *h2;       /* NULL: not connected yet */
    struct list node;    /* up_server.sessions */
    struct list dirty;   /* upstreams.dirty */
    struct list waiting; /* up_conn.sibling: not opened yet */
    struct list streams; /* up_conn.sibling */
    struct list holding; /* up_conn.holding: head or bytes that the exchange has not got yet */
    struct list ending;  /* up_conn.ending: the request's end is on its way out */
    uint32_t nwaiting, nstreams;
    uint64_t opened_ms, heard_us;
    uint64_t written, seen; /* bytes given to and got from the link */
    uint8_t depth;          /* h2.h is calling back */
    bool settled;           /* the server has said how many streams it takes */
    bool goaway;            /* no more streams: it said so, or says nothing at all */
    bool idle;              /* counted as such */
    bool broken;            /* nothing can be written any more */
    bool dead;
    struct loop_corpse corpse;
};

const size_t up_h2_size = sizeof(struct up_h2);

static struct upstreams *up_h2_all(const struct up_h2 *h)
{
    return h->server->group->all;
}

static void up_h2_touch(struct up_h2 *h)
{
    if (!h->dead && !list_linked(&h->dirty))
        list_append(&up_h2_all(h)->dirty, &h->dirty);
}

static bool up_h2_unused(const struct up_h2 *h)
{
    return h->nstreams == 0 && h->nwaiting == 0;
}

static void up_h2_set_idle(struct up_h2 *h, bool idle)
{
    if (h->idle == idle)
        return;
    h->idle = idle;
    up_conn_count_idle(h->server, idle ? 1 : -1);
    if (idle) {
        h->wire->idle_since = clock_ms();
        timer_set_at(&up_h2_all(h)->loop->timers, &h->wire->timer,
                     clock_ms() + up_conn_idle_ms(h->wire));
    } else {
        timer_off(&h->wire->timer);
    }
}

/* ---- the end of a session ---- */

/* How the end of the session ends a request. Nothing of it can have been acted upon when its first
 * frame was never acknowledged (as on a reused HTTP/1 connection); acked: see sock_acked(). */
static int up_h2_lost_error(const struct up_conn *c, int err, uint64_t acked)
{
    if (err)
        return err;
    if (c->first_us)
        return ERR_UP_TRUNCATED;
    if (!c->id)
        return ERR_UP_REFUSED;
    if (!c->reused)
        return ERR_UP_RESET;
    return acked && acked <= c->sent_before + 1 ? ERR_REUSED_CLOSED : ERR_REUSED_LOST;
}

/* Its requests fail with err, or with what the loss of the connection means for each (0). Never
 * from within h2.h's calls. */
static void up_h2_destroy(struct up_h2 *h, int err)
{
    struct upstreams *us = up_h2_all(h);
    DEBUG_MUST(!h->dead && !h->depth);
    up_h2_set_idle(h, false);
    list_remove(&h->node);
    list_remove(&h->dirty);
    h->dead = true;
    uint64_t acked = h->nstreams ? sock_acked(h->wire->link.io.fd) : 0;
    struct list *const all[] = {&h->streams, &h->waiting};
    for (int i = 0; i < 2; i++)
        while (!list_empty(all[i])) {
            struct up_conn *c = CONTAINER(all[i]->next, struct up_conn, sibling);
            up_fail(c, up_h2_lost_error(c, err, acked));
        }
    up_conn_close(h->wire);
    if (h->h2)
        h2_free(&h->h2);
    loop_bury(us->loop, &h->corpse, h, &us->sessions);
}

/* All frames that wait, as far as the link takes them. False: out of memory. */
static bool up_h2_output(struct up_h2 *h)
{
    static char out[UP_H2_BUFFER];
    struct link *k = &h->wire->link;
    while (!h->broken && !link_backlog(k, &h->wire->out)) {
        size_t n = 0;
        ssize_t r = 1;
        h->depth++;
        while (r > 0 && sizeof out - n >= UP_H2_FRAME) {
            r = h2_output(h->h2, out + n, sizeof out - n);
            if (r > 0)
                n += (size_t)r;
        }
        h->depth--;
        if (r < 0)
            return false;
        if (!n)
            return true;
        struct iovec v = {out, n};
        int e = link_send(k, &h->wire->out, &v, 1, NULL);
        if (e == -ERR_NOMEM)
            return false;
        h->written += n;
        h->wire->bytes_out += n;
        if (e < 0) {
            /* Perhaps its last words can be read. */
            h->broken = true;
            k->io.ready |= IO_HUP | IO_READ;
            io_again(up_h2_all(h)->loop, &k->io);
        }
    }
    return true;
}

/* With a last word, where that can be said. */
static void up_h2_close(struct up_h2 *h, int err, uint32_t code)
{
    if (h->h2) {
        h2_goaway(h->h2, true, code);
        (void)up_h2_output(h);
    }
    up_h2_destroy(h, err);
}

void up_h2_failed(struct up_h2 *h, int err)
{
    up_h2_destroy(h, err);
}

void up_h2_idle_over(struct up_h2 *h)
{
    up_h2_close(h, 0, H2_NO_ERROR);
}

void up_h2_late(struct up_conn *c)
{
    struct up_h2 *h = c->session;
    if (c->opened && h->heard_us < c->began_us) {
        h->goaway = true;
        up_h2_touch(h);
    }
}

unsigned up_h2_trim(struct up_server *s, unsigned most)
{
    unsigned closed = 0;
    LIST_EACH_SAFE(it, next, &s->sessions)
    {
        struct up_h2 *h = CONTAINER(it, struct up_h2, node);
        if (closed >= most)
            break;
        if (!up_h2_unused(h) || h->depth)
            continue;
        up_h2_close(h, 0, H2_NO_ERROR);
        closed++;
    }
    return closed;
}

/* ---- requests ---- */

static void up_h2_attach(struct up_h2 *h, struct up_conn *c)
{
    c->session = h;
    list_append(&h->waiting, &c->sibling);
    h->nwaiting++;
    up_h2_set_idle(h, false);
}

/* Until the server has spoken only one stream is opened: whoever allows no more would refuse the
 * others. */
static bool up_h2_can_open(const struct up_h2 *h)
{
    return h->h2 && !h->goaway && !h->broken &&
           (h->settled ? h2_room(h->h2) > 0 : h->nstreams == 0);
}

static uint32_t up_h2_places(const struct up_h2 *h)
{
    uint32_t most, used = h->nwaiting;
    if (h->goaway || h->broken)
        return 0;
    if (h->settled) {
        most = h2_room(h->h2);
    } else {
        most = h->server->h2_most ? h->server->h2_most : UP_H2_MOST;
        used += h->nstreams;
    }
    return most > used ? most - used : 0;
}

/* From `waiting` to `streams`. 0 or negative: -ERR_UP_REFUSED (no room after all), -ERR_NOMEM. */
static int up_h2_start(struct up_conn *c)
{
    struct up_h2 *h = c->session;
    bool whole = c->request_framing == HTTP_BODY_NONE;
    struct slice scheme = h->server->tls ? SLICE("https") : SLICE("http");
    int32_t id = h2_open(h->h2, c->head, scheme, whole, c);
    if (id < 0)
        return id == -ERR_FULL || id == -ERR_EOF ? -ERR_UP_REFUSED : id;
    c->head = SLICE_NONE;
    c->id = id;
    c->opened = true;
    list_remove(&c->sibling);
    list_append(&h->streams, &c->sibling);
    h->nwaiting--;
    h->nstreams++;
    if (!h->wire->link.tls)
        c->sent_before = h->written;
    up_h2_touch(h);
    if (whole)
        up_request_complete(c);
    return 0;
}

static struct up_h2 *up_h2_find(struct up_server *s, unsigned flags);
static struct up_h2 *up_h2_new(struct up_server *s, int *ret_err);

/* To another session, after this one had no room for it. */
static void up_h2_move(struct up_conn *c)
{
    struct up_h2 *from = c->session;
    struct up_server *s = c->server;
    bool hopeless = !from->goaway && from->nstreams == 0;
    int e = -ERR_UP_REFUSED;
    list_remove(&c->sibling);
    from->nwaiting--;
    c->session = NULL;
    struct up_h2 *to = NULL;
    if (!hopeless && c->moves++ < UP_H2_MOVES) {
        to = up_h2_find(s, 0);
        if (!to)
            to = up_h2_new(s, &e);
    }
    if (!to) {
        up_fail(c, -e);
        return;
    }
    up_h2_attach(to, c);
    up_h2_touch(to);
}

/* Opens streams for those who wait, as many as the server takes. */
static void up_h2_admit(struct up_h2 *h)
{
    while (!h->dead && !list_empty(&h->waiting)) {
        struct up_conn *c = CONTAINER(h->waiting.next, struct up_conn, sibling);
        if (!up_h2_can_open(h)) {
            if (!h->settled && !h->goaway && !h->broken)
                return;
            up_h2_move(c);
            continue;
        }
        c->connected_us = clock_us();
        up_enter(c, UP_REQUEST);
        int e = up_h2_start(c);
        if (e < 0)
            up_fail(c, -e);
        else if (c->request_framing != HTTP_BODY_NONE)
            c->events->connected(c->user);
    }
}

static int up_h2_begin(struct up_conn *c)
{
    return up_h2_start(c);
}

static int up_h2_send(struct up_conn *c, const char *p, size_t n, bool end,
                      const struct http_field *trailer, size_t ntrailer)
{
    struct up_h2 *h = c->session;
    c->given += n;
    int e = h2_data(h->h2, c->id, p, n, end, trailer, ntrailer);
    if (e == -ERR_NOENT) {
        c->send_broken = true; /* what became of it is told by closed() */
        return 0;
    }
    if (e < 0)
        return e;
    if (end) {
        c->request_end = true;
        list_remove(&c->ending);
        list_append(&h->ending, &c->ending);
        up_h2_touch(h);
    }
    c->backed = e == 1 && !end;
    if (c->state == UP_REQUEST)
        up_rearm(c);
    return c->backed ? 1 : 0;
}

static void up_h2_consume(struct up_conn *c)
{
    size_t n = c->unconsumed;
    c->unconsumed = 0;
    if (n)
        h2_consume(c->session->h2, c->id, n);
}

static void up_h2_resume(struct up_conn *c)
{
    up_h2_consume(c);
}

static size_t up_h2_backlog(const struct up_conn *c)
{
    return c->id ? h2_queued(c->session->h2, c->id) : 0;
}

static bool up_h2_moving(struct up_conn *c)
{
    size_t left = up_h2_backlog(c);
    uint64_t gone = c->given - left;
    bool moved = gone > c->gone || !left;
    c->gone = gone;
    return moved;
}

static void up_h2_stream_close(struct up_conn *c)
{
    struct up_h2 *h = c->session;
    list_remove(&c->holding);
    list_remove(&c->ending);
    list_remove(&c->sibling);
    if (!h)
        return;
    c->session = NULL;
    if (c->opened)
        h->nstreams--;
    else
        h->nwaiting--;
    if (c->id) {
        h2_set_stream(h->h2, c->id, NULL); /* what was not consumed is from here */
        if (!h->dead && !(c->answered && c->request_done))
            h2_reset(h->h2, c->id, H2_CANCEL);
    }
    up_h2_touch(h);
}

const struct up_proto up_h2 = {.begin = up_h2_begin,
                               .send = up_h2_send,
                               .resume = up_h2_resume,
                               .backlog = up_h2_backlog,
                               .moving = up_h2_moving,
                               .release = up_conn_close,
                               .close = up_h2_stream_close};

/* ---- what the server says ---- */

static void up_h2_interim(struct up_conn *c, const struct http_response *r)
{
    if (++c->interims > UP_H2_INTERIMS) {
        up_fail(c, ERR_UP_BAD_HEAD);
        return;
    }
    if (c->events->interim(c->user, r) >= 0 && c->state != UP_CLOSED)
        up_rearm(c);
}

/* Into the exchange's arena: its body may come in the same read, and then both go to the client in
 * one write. */
static struct http_response *up_h2_copy(struct arena *a, const struct http_response *r)
{
    struct http_response *to = ARENA_ARRAY(a, struct http_response, 1);
    struct http_field *f = ARENA_ARRAY(a, struct http_field, r->nfield + 1);
    if (!to || !f)
        return NULL;
    *to = *r;
    to->field = f;
    for (size_t i = 0; i < r->nfield; i++) {
        f[i] = r->field[i];
        f[i].name = arena_dup(a, f[i].name);
        f[i].value = arena_dup(a, f[i].value);
    }
    if (r->reason.n)
        to->reason = arena_dup(a, r->reason);
    return arena_failed(a) ? NULL : to;
}

static void up_h2_on_response(void *user, void *stream, const struct http_response *r, bool end)
{
    struct up_h2 *h = user;
    struct up_conn *c = stream;
    struct http_response own = *r;
    if (!c->first_us)
        c->first_us = clock_us();
    if (!own.reason.n) /* HTTP/1 clients expect one */
        own.reason = http_status_text(own.status);
    if (own.status < 200) {
        up_h2_interim(c, &own);
        return;
    }
    const struct http_response *told = end ? &own : up_h2_copy(c->arena, &own);
    if (!told) {
        up_fail(c, ERR_NOMEM);
        return;
    }
    c->framing = own.framing;
    c->event_stream = own.event_stream;
    c->head_lasts = !end;
    c->got_head = true;
    if (c->events->head(c->user, told) < 0)
        return;
    up_enter(c, UP_BODY);
    if (end) {
        c->answered = true;
        (void)c->events->data(c->user, NULL, 0, true, NULL, 0);
    } else {
        list_append(&h->holding, &c->holding);
    }
}

/* What was held goes to the exchange. False: the stream is no longer its. */
static bool up_h2_give(struct up_conn *c)
{
    const char *p = c->held;
    size_t n = c->nheld;
    list_remove(&c->holding);
    c->held = NULL;
    c->nheld = 0;
    c->unconsumed += n;
    c->told = true;
    int e = c->events->data(c->user, p, n, false, NULL, 0);
    if (e < 0 || c->state == UP_CLOSED)
        return false;
    c->paused = e == 1;
    if (!c->paused)
        up_h2_consume(c);
    up_rearm(c);
    return true;
}

/* Held until more comes or the read is over: with the head before it and the end behind it this is
 * one write to the client, and an answer that turns out to be broken has not begun yet. */
static void up_h2_on_data(void *user, void *stream, const char *p, size_t n)
{
    struct up_h2 *h = user;
    struct up_conn *c = stream;
    if (c->nheld && !up_h2_give(c))
        return;
    c->held = p;
    c->nheld = n;
    if (!list_linked(&c->holding))
        list_append(&h->holding, &c->holding);
}

static void up_h2_on_end(void *user, void *stream, const struct http_field *trailer, size_t n)
{
    struct up_conn *c = stream;
    (void)user;
    list_remove(&c->holding);
    c->answered = true;
    (void)c->events->data(c->user, c->held, c->nheld, true, trailer, n);
}

static void up_h2_on_drained(void *user, void *stream)
{
    struct up_conn *c = stream;
    (void)user;
    if (!c->backed)
        return;
    c->backed = false;
    if (c->state == UP_REQUEST)
        up_rearm(c);
    c->events->drained(c->user);
}

static void up_h2_on_closed(void *user, void *stream, int err)
{
    struct up_h2 *h = user;
    struct up_conn *c = stream;
    c->id = 0; /* and its windows are seen to */
    if (c->told && c->nheld && !up_h2_give(c))
        return;
    if (!err || err == ERR_UP_STREAM_RESET)
        err = c->told ? ERR_UP_TRUNCATED : ERR_UP_STREAM_RESET;
    up_fail(c, err);
    up_h2_touch(h);
}

static void up_h2_on_goaway(void *user, int32_t last, uint32_t code)
{
    struct up_h2 *h = user;
    (void)last;
    (void)code;
    h->goaway = true;
    up_h2_touch(h);
}

static void up_h2_on_dirty(void *user)
{
    up_h2_touch(user);
}

static void up_h2_on_pong(void *user)
{
    (void)user; /* nobody asked */
}

static const struct h2_events up_h2_events = {.response = up_h2_on_response,
                                              .data = up_h2_on_data,
                                              .end = up_h2_on_end,
                                              .drained = up_h2_on_drained,
                                              .closed = up_h2_on_closed,
                                              .goaway = up_h2_on_goaway,
                                              .dirty = up_h2_on_dirty,
                                              .pong = up_h2_on_pong};

static int up_h2_input(struct up_h2 *h, const char *p, size_t n)
{
    h->seen += n;
    h->heard_us = clock_us();
    h->wire->bytes_in += n;
    h->depth++;
    int e = h2_input(h->h2, p, n);
    while (e == 0 && !list_empty(&h->holding))
        (void)up_h2_give(CONTAINER(h->holding.next, struct up_conn, holding));
    h->depth--;
    if (e < 0)
        return e;
    if (!h->settled && h->seen >= UP_H2_SETTLED) {
        h->settled = true;
        h->server->h2_most = h2_room(h->h2) + h2_streams(h->h2);
        up_h2_admit(h);
    }
    return 0;
}

/* Reads until the link has no more, or the budget is used up. h may be gone. */
static void up_h2_read(struct up_h2 *h, char *p, size_t cap)
{
    struct link *k = &h->wire->link;
    for (int budget = UP_H2_BUDGET; k->io.ready & IO_READ; budget--) {
        if (!budget) {
            io_again(up_h2_all(h)->loop, &k->io);
            return;
        }
        ssize_t r = link_recv(k, p, cap);
        if (r == -ERR_AGAIN)
            break;
        if (r <= 0) {
            if (h->idle)
                up_conn_note_idle_close(h->wire);
            up_h2_destroy(h, 0);
            return;
        }
        int e = up_h2_input(h, p, (size_t)r);
        if (e < 0) {
            up_h2_close(h, -e, e == -ERR_NOMEM ? H2_INTERNAL_ERROR : H2_PROTOCOL_ERROR);
            return;
        }
    }
    if (h->broken)
        up_h2_destroy(h, 0);
}

void up_h2_event(struct up_h2 *h)
{
    static char in[UP_H2_BUFFER];
    struct up_conn *w = h->wire;
    if ((w->link.io.ready & IO_WRITE) && !h->broken && link_backlog(&w->link, &w->out)) {
        h->broken = outq_flush(&w->out, &w->link) < 0;
        if (!link_backlog(&w->link, &w->out))
            up_h2_touch(h);
    }
    up_h2_read(h, in, sizeof in);
}

/* ---- sessions ---- */

/* One that has room, filling the first ones first, so that those not needed become idle. */
static struct up_h2 *up_h2_find(struct up_server *s, unsigned flags)
{
    uint64_t now = clock_ms();
    LIST_EACH_SAFE(it, next, &s->sessions)
    {
        struct up_h2 *h = CONTAINER(it, struct up_h2, node);
        if ((flags & UP_FRESH) && h->settled && now - h->opened_ms > UP_H2_FRESH_MS)
            continue;
        struct io *io = &h->wire->link.io;
        if (h->idle && !h->depth && (io->ready & (IO_READ | IO_HUP) || flags & UP_CHECK)) {
            char in[4096]; /* the other one may be in use */
            io->ready |= IO_READ;
            up_h2_read(h, in, sizeof in);
            if (h->dead)
                continue;
        }
        if (up_h2_places(h))
            return h;
    }
    return NULL;
}

static struct up_h2 *up_h2_new(struct up_server *s, int *ret_err)
{
    struct upstreams *us = s->group->all;
    struct up_h2 *h = pool_get(&us->sessions);
    if (!h) {
        *ret_err = -ERR_NOMEM;
        return NULL;
    }
    h->wire = up_conn_open(s, ret_err);
    if (!h->wire) {
        pool_put(&us->sessions, h);
        return NULL;
    }
    h->wire->session = h;
    h->server = s;
    h->opened_ms = clock_ms();
    list_init(&h->dirty);
    list_init(&h->waiting);
    list_init(&h->streams);
    list_init(&h->holding);
    list_init(&h->ending);
    list_append(&s->sessions, &h->node);
    return h;
}

struct up_conn *up_h2_join(struct up_server *s, unsigned flags)
{
    struct up_h2 *h = up_h2_find(s, flags);
    struct up_conn *c = h ? up_conn_stream(s) : NULL;
    if (!c)
        return NULL;
    up_h2_attach(h, c);
    if (h->nwaiting > 1 || !up_h2_can_open(h))
        return c;
    if (h->wire->link.tls && (flags & UP_CHECK))
        c->sent_before = sock_acked(h->wire->link.io.fd) - 1;
    c->reused = true;
    up_set_state(c, UP_REQUEST);
    up_conn_count_reuse(s);
    return c;
}

struct up_conn *up_h2_open(struct up_server *s, int *ret_err)
{
    struct up_conn *c = up_conn_stream(s);
    if (!c) {
        *ret_err = -ERR_NOMEM;
        return NULL;
    }
    struct up_h2 *h = up_h2_new(s, ret_err);
    if (!h) {
        up_conn_close(c);
        return NULL;
    }
    up_h2_attach(h, c);
    return c;
}

void up_h2_connected(struct up_h2 *h)
{
    uint32_t most = (uint32_t)h->server->group->conf->k.max_head;
    const struct h2_limits lim = {.max_streams = UP_H2_MOST,
                                  .stream_window = UP_H2_WINDOW,
                                  .stream_most = UP_H2_WINDOW_MOST,
                                  .conn_window = UP_H2_WINDOWS,
                                  .max_line = most,
                                  .max_field = most,
                                  .max_head = most,
                                  .max_fields = HTTP_FIELDS_MAX,
                                  .queue = UP_H2_QUEUE};
    int e = h2_new(H2_CLIENT, &lim, &up_h2_events, h, &h->h2);
    if (e < 0) {
        up_h2_destroy(h, -e);
        return;
    }
    up_set_state(h->wire, UP_SESSION);
    up_h2_touch(h);
    up_h2_admit(h);
}

/* The request of `from` goes on with `to`, a connection of its own. */
static void up_h2_hand_over(struct up_conn *from, struct up_conn *to)
{
    const struct up_events *ev = from->events;
    to->head = from->head;
    to->method = from->method;
    to->request_framing = from->request_framing;
    to->timeouts = from->timeouts;
    to->arena = from->arena;
    to->events = ev;
    to->user = from->user;
    to->began_us = from->began_us;
    to->requests = 1;
    up_conn_busy(to);
    up_rearm(to);
    from->events = NULL;
    up_conn_close(from);
    ev->moved(to->user, to);
}

void up_h2_declined(struct up_h2 *h)
{
    struct upstreams *us = up_h2_all(h);
    struct up_server *s = h->server;
    struct up_conn *wire = h->wire;
    s->h1_until_ms = clock_ms() + UP_H2_DECLINED_MS;
    h->dead = true;
    list_remove(&h->node);
    list_remove(&h->dirty);
    wire->session = NULL;
    bool taken = false;
    while (!list_empty(&h->waiting)) {
        struct up_conn *c = CONTAINER(h->waiting.next, struct up_conn, sibling);
        int e = 0;
        struct up_conn *to = taken ? up_conn_open(s, &e) : wire;
        if (!to) {
            up_fail(c, -e);
            continue;
        }
        up_h2_hand_over(c, to);
        if (!taken)
            up_h1_connected(wire);
        taken = true;
    }
    if (!taken) {
        up_conn_busy(wire);
        up_conn_close(wire);
    }
    loop_bury(us->loop, &h->corpse, h, &us->sessions);
}

/* ---- the end of a turn ---- */

static void up_h2_flush(struct up_h2 *h)
{
    struct upstreams *us = up_h2_all(h);
    up_h2_admit(h);
    if (h->dead)
        return;
    if (h->h2 && !up_h2_output(h)) {
        up_h2_destroy(h, ERR_NOMEM);
        return;
    }
    if (h->h2 && h2_error(h->h2) < 0) {
        up_h2_destroy(h, -h2_error(h->h2));
        return;
    }
    LIST_EACH_SAFE(it, next, &h->ending)
    {
        struct up_conn *c = CONTAINER(it, struct up_conn, ending);
        if (h2_queued(h->h2, c->id))
            continue;
        list_remove(&c->ending);
        up_request_complete(c);
    }
    if (!up_h2_unused(h))
        return;
    if (!h->h2 || h->goaway || us->closing || !h->server->group->conf->k.keepalive ||
        h2_finished(h->h2))
        up_h2_close(h, 0, H2_NO_ERROR);
    else
        up_h2_set_idle(h, true);
}

void up_h2_turn(struct upstreams *us)
{
    while (!list_empty(&us->dirty)) {
        struct up_h2 *h = CONTAINER(us->dirty.next, struct up_h2, dirty);
        list_remove(&h->dirty);
        up_h2_flush(h);
    }
}
