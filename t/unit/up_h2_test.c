/* HTTP/2 sessions towards servers, against a server over loopback in the same loop: sharing,
 * limits, GOAWAY, refusals, losses, back-pressure both ways, deadlines, want of memory. */
#include "base/clock.h"
#include "base/err.h"
#include "shm/server.h"
#include "t/unit/config_fixture.h"
#include "worker/http/h2.h"
#include "worker/io/sock.h"
#include "worker/upstream/up.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_MS 5000u
#define STREAMS  64

/* ---- the server ---- */

struct call {
    int32_t id;
    char path[32];
    size_t body, unconsumed;
    bool ended, closed;
    int err; /* how it was closed */
    bool trailer;
};
struct side {
    struct link link;
    struct outq out;
    struct h2 *h2;
    struct call call[STREAMS];
    int ncall;
    bool open;
};
static struct {
    struct io listener;
    struct side side[8];
    int n;             /* connections so far */
    uint32_t max;      /* MAX_CONCURRENT_STREAMS */
    bool deaf;         /* consumes nothing */
    bool closed_early; /* accepts and closes */
    uint16_t port;
} origin;

static struct loop loop;

static void side_close(struct side *s)
{
    if (!s->open)
        return;
    s->open = false;
    h2_free(&s->h2);
    outq_free(&s->out);
    link_plain.close(&s->link);
}

static void side_flush(struct side *s)
{
    static char out[65536];
    ssize_t n = 1;
    while (s->open && n > 0 && !link_backlog(&s->link, &s->out)) {
        n = h2_output(s->h2, out, sizeof(out));
        struct iovec v = {out, n > 0 ? (size_t)n : 0};
        if (n < 0 || (n > 0 && link_send(&s->link, &s->out, &v, 1, NULL) < 0))
            side_close(s);
    }
}

static void side_event(struct io *io)
{
    static char in[65536];
    struct side *s = CONTAINER(io, struct side, link.io);
    if ((io->ready & IO_WRITE) && link_backlog(&s->link, &s->out))
        (void)outq_flush(&s->out, &s->link);
    while (s->open && (io->ready & IO_READ)) {
        ssize_t n = link_recv(&s->link, in, sizeof(in));
        if (n == -ERR_AGAIN)
            break;
        if (n <= 0 || h2_input(s->h2, in, (size_t)n) < 0)
            side_close(s);
    }
}

static void *on_request(void *user, int32_t id, const struct http_request *r, bool end)
{
    struct side *s = user;
    struct call *c = &s->call[s->ncall];
    if (slice_eq(r->path, SLICE("/refuse")) || s->ncall == STREAMS)
        return NULL;
    s->ncall++;
    *c = (struct call){.id = id, .ended = end};
    snprintf(c->path, sizeof(c->path), "%.*s", SLICE_ARG(r->path));
    if (end && slice_eq(r->path, SLICE("/ok"))) {
        (void)h2_answer(s->h2, id, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), false);
        (void)h2_data(s->h2, id, "ok", 2, true, NULL, 0);
    }
    return c;
}

static void *on_malformed(void *user, int32_t id, int err, const struct http_request *r, bool end)
{
    (void)user, (void)id, (void)err, (void)r, (void)end;
    return NULL;
}

static void on_data(void *user, void *stream, const char *p, size_t n)
{
    struct side *s = user;
    struct call *c = stream;
    (void)p;
    c->body += n;
    if (origin.deaf)
        c->unconsumed += n;
    else
        h2_consume(s->h2, c->id, n);
}

static void on_end(void *user, void *stream, const struct http_field *trailer, size_t n)
{
    struct call *c = stream;
    (void)user;
    c->ended = true;
    c->trailer = n == 1 && slice_eq_ci(trailer[0].name, SLICE("x-sum"));
}

static void on_drained(void *user, void *stream)
{
    (void)user, (void)stream;
}

static void on_closed(void *user, void *stream, int err)
{
    struct call *c = stream;
    (void)user;
    c->closed = true;
    c->err = err;
}

static void on_goaway(void *user, int32_t last, uint32_t code)
{
    (void)user, (void)last, (void)code;
}

static void on_pong(void *user)
{
    (void)user;
}

static bool on_misbehaved(void *user, uint32_t points)
{
    (void)user, (void)points;
    return true;
}

static void on_dirty(void *user)
{
    (void)user;
}

static const struct h2_events side_events = {.request = on_request,
                                             .malformed = on_malformed,
                                             .data = on_data,
                                             .end = on_end,
                                             .drained = on_drained,
                                             .closed = on_closed,
                                             .goaway = on_goaway,
                                             .pong = on_pong,
                                             .misbehaved = on_misbehaved,
                                             .dirty = on_dirty};

static void origin_accept(struct io *io)
{
    union addr peer;
    int fd = sock_accept(io->fd, &peer);
    if (fd < 0)
        return;
    struct side *s = &origin.side[origin.n % 8];
    origin.n++;
    if (origin.closed_early) {
        close(fd);
        return;
    }
    if (s->open)
        tap_bail("too many connections");
    *s = (struct side){.link = {.io = {.fd = fd, .handler = side_event}, .ops = &link_plain},
                       .open = true};
    const struct h2_limits lim = {.max_streams = origin.max,
                                  .stream_window = 65536,
                                  .conn_window = 1 << 20,
                                  .max_line = 65536,
                                  .max_field = 65536,
                                  .max_head = 65536,
                                  .max_fields = 100,
                                  .queue = 8u << 20};
    /* The test of want of memory may hit it as well. */
    if (h2_new(H2_SERVER, &lim, &side_events, s, &s->h2) < 0 || io_add(&loop, &s->link.io) < 0)
        side_close(s);
}

static void origin_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || listen(fd, 64) ||
        getsockname(fd, (struct sockaddr *)&a, &n))
        tap_bail("listen");
    origin.port = ntohs(a.sin_port);
    origin.listener = (struct io){.fd = fd, .handler = origin_accept};
    if (io_add_level(&loop, &origin.listener, false) < 0)
        tap_bail("epoll");
}

static void answer(struct side *s, int32_t id, size_t n)
{
    static char body[4u << 20];
    (void)h2_answer(s->h2, id, SLICE("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"), false);
    (void)h2_data(s->h2, id, body, n, true, NULL, 0);
}

/* ---- the exchanges ---- */

struct ex {
    struct arena arena;
    struct up_conn *conn;
    int connected, interims, err;
    unsigned status;
    size_t body;
    bool reused, ended, trailer, wants, pause, keep_open;
};
static struct up_timeouts usual = {
    .connect = 5000, .first_byte = 5000, .read = 5000, .send = 5000, .tunnel = 5000};

static void ex_connected(void *user)
{
    struct ex *e = user;
    e->connected++;
}

static void ex_moved(void *user, struct up_conn *to)
{
    struct ex *e = user;
    e->conn = to;
}

static int ex_interim(void *user, const struct http_response *r)
{
    struct ex *e = user;
    e->interims += r->status == 103;
    return 0;
}

static int ex_head(void *user, const struct http_response *r)
{
    struct ex *e = user;
    e->status = r->status;
    return 0;
}

static int ex_data(void *user, const char *p, size_t n, bool end, const struct http_field *trailer,
                   size_t ntrailer)
{
    struct ex *e = user;
    (void)p;
    e->body += n;
    if (!end)
        return e->pause;
    e->ended = true;
    e->trailer = ntrailer == 1 && slice_eq_ci(trailer[0].name, SLICE("x-after"));
    up_release(e->conn);
    e->conn = NULL;
    return -ERR_EOF;
}

static int ex_piped(void *user, size_t n, bool end)
{
    (void)user, (void)n, (void)end;
    tap_bail("HTTP/2 has no pipe");
}

static void ex_drained(void *user)
{
    struct ex *e = user;
    e->wants = true;
}

static void ex_failed(void *user, int err)
{
    struct ex *e = user;
    e->conn = NULL;
    e->err = err;
}

static const struct up_events ex_events = {.connected = ex_connected,
                                           .moved = ex_moved,
                                           .interim = ex_interim,
                                           .head = ex_head,
                                           .data = ex_data,
                                           .piped = ex_piped,
                                           .drained = ex_drained,
                                           .failed = ex_failed};

/* ---- both together ---- */

static struct fixture conf;
static struct segment *segment;
static struct upstreams us;
static struct up_server *server;
static bool (*until)(void);
static struct timer limit;
static bool late;

static void turn(void *arg)
{
    (void)arg;
    upstreams_turn(&us);
    for (int i = 0; i < 8; i++)
        side_flush(&origin.side[i]);
    if (until())
        loop.stop = true;
}

static void on_limit(struct timer *t)
{
    (void)t;
    late = true;
    loop.stop = true;
}

/* Turns the loop until the condition holds; false when it never does. */
static bool run(bool (*cond)(void))
{
    until = cond;
    late = loop.stop = false;
    timer_set_at(&loop.timers, &limit, clock_ms() + LIMIT_MS);
    /* What was done from outside needs a turn. */
    turn(NULL);
    if (!loop.stop && loop_run(&loop) < 0)
        tap_bail("loop");
    timer_off(&limit);
    return !late;
}

static struct ex ex[STREAMS];

static void setup(const char *keys, uint32_t max)
{
    char text[512];
    static uint32_t id, resolve = UINT32_MAX;
    uint32_t slot;
    memset(&origin, 0, sizeof(origin));
    memset(ex, 0, sizeof(ex));
    if (loop_init(&loop) < 0 || segment_create_sized(2, 4, 2, 2, &segment) < 0 ||
        slot_claim(segment, 1, 0, &slot) < 0 ||
        server_register(segment, 1, SLICE("u/s"), 1, &id) < 0)
        tap_bail("set-up");
    clock_update();
    timer_init(&limit, on_limit);
    loop.on_turn = turn;
    origin.max = max;
    origin_open();
    snprintf(text, sizeof(text),
             LISTEN "[upstream u]\nserver = 127.0.0.1:%u\nprotocol = h2c\n%s\n" HOST, origin.port,
             keys);
    fixture_text(&conf, slice_str(text));
    if (!conf.c)
        tap_bail("configuration: %.*s", SLICE_ARG(buf_slice(&conf.out)));
    const struct upstreams_env env = {.loop = &loop,
                                      .config = conf.c,
                                      .segment = segment,
                                      .slot = slot,
                                      .server_id = &id,
                                      .resolve_id = &resolve,
                                      .workers = 1};
    if (upstreams_init(&us, &env) < 0)
        tap_bail("upstreams");
    server = &us.group[0].server[0];
}

static void teardown(const char *name)
{
    for (int i = 0; i < STREAMS; i++) {
        if (ex[i].conn)
            up_abort(ex[i].conn);
        arena_fini(&ex[i].arena);
    }
    upstreams_close(&us);
    loop_bury_dead(&loop);
    tap_is_int(us.conns.in_use + us.sessions.in_use, 0, "%s: nothing is left", name);
    tap_is_int(server->nidle, 0, "%s: nothing counts as idle", name);
    pool_fini(&us.conns);
    pool_fini(&us.sessions);
    upstreams_fini(&us);
    for (int i = 0; i < 8; i++)
        side_close(&origin.side[i]);
    io_close(&origin.listener);
    timer_stop(&limit);
    loop_fini(&loop);
    fixture_end(&conf);
    segment_close(&segment);
}

/* 0, or negative as the exchange would see it. */
static int ask(struct ex *e, const char *path, enum http_framing framing, unsigned flags)
{
    int err = 0;
    arena_fini(&e->arena);
    *e = (struct ex){.pause = e->pause};
    arena_init(&e->arena, NULL, 0, 0);
    struct slice head = arena_printf(&e->arena, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n",
                                     framing == HTTP_BODY_NONE ? "GET" : "POST", path,
                                     framing == HTTP_BODY_NONE ? "" : "Content-Type: a/b\r\n");
    if (!head.p)
        return -ERR_NOMEM;
    e->conn = up_acquire(server, flags, &err);
    if (!e->conn)
        return err;
    e->reused = e->conn->reused;
    const struct up_request r = {.head = head,
                                 .method = framing == HTTP_BODY_NONE ? HTTP_GET : HTTP_POST,
                                 .framing = framing,
                                 .timeouts = &usual,
                                 .arena = &e->arena,
                                 .events = &ex_events,
                                 .user = e};
    err = up_begin(e->conn, &r);
    if (err < 0 && e->conn) {
        up_abort(e->conn);
        e->conn = NULL;
    }
    return err;
}

static int nex;
static bool all_over(void)
{
    for (int i = 0; i < nex; i++)
        if (!ex[i].ended && !ex[i].err)
            return false;
    return true;
}

static bool ended(void)
{
    return all_over();
}

static int calls(void)
{
    int n = 0;
    for (int i = 0; i < 8; i++)
        n += origin.side[i].ncall;
    return n;
}

static int want_calls;
static bool called(void)
{
    return calls() >= want_calls || ex[0].err;
}

static bool asked(int n)
{
    want_calls = n;
    return run(called);
}

static bool over(int n)
{
    nex = n;
    return run(ended);
}

static bool no_session(void)
{
    return us.sessions.in_use == 0;
}

/* ---- tests ---- */

static void test_shared(void)
{
    setup("", 100);
    for (int i = 0; i < 20; i++)
        (void)ask(&ex[i], "/ok", HTTP_BODY_NONE, 0);
    tap_is_int(us.sessions.in_use, 1, "those who come while it connects wait for one session");
    tap_ok(over(20), "all are answered");
    int good = 0;
    for (int i = 0; i < 20; i++)
        good += ex[i].status == 200 && ex[i].body == 2 && !ex[i].reused;
    tap_is_int(good, 20, "each with its answer, none on a reused connection");
    tap_is_int(ask(&ex[0], "/ok", HTTP_BODY_NONE, 0), 0, "one more");
    tap_ok(over(1) && ex[0].reused, "on the session that is there");
    tap_is_int(origin.n, 1, "one connection for all");
    tap_is_int(ask(&ex[0], "/ok", HTTP_BODY_NONE, UP_CHECK), 0, "looked at first");
    tap_ok(over(1) && ex[0].reused && origin.n == 1, "still the same");
    tap_is_int(server->nidle, 1, "it is idle now");
    tap_is_int(upstreams_trim(&us, 5), 1, "and may be closed");
    teardown("shared");
}

static void test_limit(void)
{
    setup("", 2);
    for (int i = 0; i < 5; i++)
        (void)ask(&ex[i], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(5), "all requests are at the server");
    tap_is_int(origin.n, 3, "with two streams each three connections are needed");
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < origin.side[i].ncall; k++)
            answer(&origin.side[i], origin.side[i].call[k].id, 1);
    tap_ok(over(5) && ex[0].status == 200 && ex[4].status == 200, "answered");
    tap_is_int(ask(&ex[0], "/hold", HTTP_BODY_NONE, 0), 0, "another");
    tap_ok(asked(6) && origin.side[0].ncall == 3, "takes the first session again");
    teardown("limit");

    setup("", 1);
    for (int i = 0; i < 3; i++)
        (void)ask(&ex[i], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(3) && ex[2].status == 200, "one stream at a time");
    teardown("one at a time");

    setup("", 0);
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    (void)ask(&ex[1], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(2), "a server that takes no streams at all");
    tap_is_int(ex[1].err, ERR_UP_REFUSED, "refuses them");
    tap_ok(origin.n <= 2, "and is not asked on and on");
    teardown("none at all");
}

static void test_goaway(void)
{
    setup("", 100);
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    (void)ask(&ex[1], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(2), "two requests");
    h2_goaway(origin.side[0].h2, true, H2_NO_ERROR);
    (void)ask(&ex[2], "/ok", HTTP_BODY_NONE, 0); /* crosses it */
    nex = 3;
    tap_ok(asked(2), "the server goes away");
    ex[0].ended = ex[1].ended = true;
    tap_ok(run(ended), "a request that crossed it");
    tap_is_int(ex[2].err, ERR_UP_REFUSED, "may be asked again");
    ex[0].ended = ex[1].ended = false;
    (void)ask(&ex[2], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(3) && origin.n == 2, "the next one gets another session");
    answer(&origin.side[0], origin.side[0].call[0].id, 10);
    answer(&origin.side[0], origin.side[0].call[1].id, 20);
    tap_ok(over(2) && ex[0].body == 10 && ex[1].body == 20, "old ones finish");
    teardown("goaway");
}

static void test_failures(void)
{
    setup("", 100);
    (void)ask(&ex[0], "/refuse", HTTP_BODY_NONE, 0);
    tap_ok(over(1) && ex[0].err == ERR_UP_REFUSED, "a refused stream");
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    (void)ask(&ex[1], "/hold", HTTP_BODY_NONE, 0);
    (void)ask(&ex[2], "/hold", HTTP_BODY_NONE, 0);
    struct side *s = &origin.side[0];
    tap_ok(asked(3) && origin.n == 1, "three more");
    h2_reset(s->h2, s->call[0].id, H2_INTERNAL_ERROR);
    (void)h2_answer(s->h2, s->call[1].id, SLICE("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
                    false);
    (void)h2_answer(s->h2, s->call[1].id, SLICE("HTTP/1.1 200 OK\r\n\r\n"), false);
    (void)h2_data(s->h2, s->call[1].id, "part", 4, false, NULL, 0);
    tap_ok(over(1) && ex[0].err == ERR_UP_STREAM_RESET, "reset before the answer");
    tap_ok(ex[1].status == 200 && ex[1].interims == 1 && ex[1].body == 4, "an answer has begun");
    h2_reset(s->h2, s->call[1].id, H2_INTERNAL_ERROR);
    tap_ok(over(2) && ex[1].err == ERR_UP_TRUNCATED, "reset in the middle of it");
    side_close(s);
    tap_ok(over(3), "the connection is lost");
    tap_is_int(ex[2].err, ERR_REUSED_LOST, "an answer that had not begun on a reused session");
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, UP_FRESH);
    tap_ok(asked(4), "on a fresh one");
    side_close(&origin.side[1]);
    tap_ok(over(1) && ex[0].err == ERR_UP_RESET, "and on one that is not");
    teardown("failures");

    setup("", 100);
    origin.closed_early = true;
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    (void)ask(&ex[1], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(2), "a server that closes at once");
    tap_is_int(ex[0].err, ERR_UP_RESET, "may have had the first request");
    tap_is_int(ex[1].err, ERR_UP_REFUSED, "and not the second");
    io_close(&origin.listener);
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    (void)ask(&ex[1], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(2), "a server that is not there");
    tap_ok(ex[0].err == ERR_CONNECT_REFUSED && ex[1].err == ERR_CONNECT_REFUSED,
           "fails all who wait");
    teardown("connecting");
}

static bool stalled_body(void)
{
    return ex[0].body >= 65536u;
}

static void test_answer_pressure(void)
{
    setup("", 100);
    ex[0].pause = true;
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(1), "a request");
    answer(&origin.side[0], origin.side[0].call[0].id, 3u << 20);
    tap_ok(run(stalled_body), "the window is filled");
    (void)ask(&ex[1], "/ok", HTTP_BODY_NONE, 0);
    nex = 2;
    ex[0].ended = true;
    tap_ok(run(ended) && ex[1].status == 200, "others are not held up by it");
    ex[0].ended = false;
    tap_is_int((long long)ex[0].body, 65536, "no more than the window came");
    ex[0].pause = false;
    up_resume(ex[0].conn);
    tap_ok(over(1) && ex[0].body == 3u << 20, "the rest follows");
    teardown("slow client");
}

static bool wanted(void)
{
    return ex[0].wants;
}

static bool connected(void)
{
    return ex[0].connected || ex[0].err;
}

static bool call_ended(void)
{
    return origin.side[0].call[0].ended;
}

static void test_request_body(void)
{
    static char piece[100000];
    setup("", 100);
    origin.deaf = true;
    (void)ask(&ex[0], "/up", HTTP_BODY_CHUNKED, 0);
    tap_ok(run(connected), "body bytes may come");
    size_t n = 0;
    int e = 0;
    while (e == 0 && n < 10u << 20) {
        e = up_send(ex[0].conn, piece, sizeof(piece), false, NULL, 0);
        n += sizeof(piece);
    }
    tap_is_int(e, 1, "until the queue is long");
    tap_ok(asked(1) && n < 1u << 20, "which is soon");
    struct side *s = &origin.side[0];
    origin.deaf = false;
    h2_consume(s->h2, s->call[0].id, s->call[0].unconsumed);
    tap_ok(run(wanted), "a server that reads has more sent");
    const struct http_field sum = {.name = SLICE("X-Sum"), .value = SLICE("1")};
    e = up_send(ex[0].conn, piece, 1000, true, &sum, 1);
    tap_is_int(e, 0, "the end, with a trailer");
    n += 1000;
    tap_ok(run(call_ended) && s->call[0].body == n && s->call[0].trailer, "all of it arrived");
    const struct http_field after = {.name = SLICE("x-after"), .value = SLICE("1")};
    (void)h2_answer(s->h2, s->call[0].id, SLICE("HTTP/1.1 200 OK\r\n\r\n"), false);
    (void)h2_data(s->h2, s->call[0].id, "x", 1, true, &after, 1);
    tap_ok(over(1) && ex[0].trailer, "trailers of the answer");
    teardown("upload");
}

static bool call_closed(void)
{
    return origin.side[0].call[0].closed;
}

static void test_early(void)
{
    setup("", 100);
    (void)ask(&ex[0], "/up", HTTP_BODY_CHUNKED, 0);
    tap_ok(run(connected), "body bytes may come");
    (void)up_send(ex[0].conn, "abc", 3, false, NULL, 0);
    tap_ok(asked(1), "and do");
    answer(&origin.side[0], origin.side[0].call[0].id, 5);
    tap_ok(over(1) && ex[0].body == 5, "an answer before the request's end");
    tap_ok(run(call_closed), "the stream is closed");
    tap_is_int(origin.side[0].call[0].err, ERR_CLIENT_RESET, "by a reset");
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(1) && origin.n == 1, "the session goes on");
    teardown("early answer");
}

static void test_deadlines(void)
{
    const struct up_timeouts kept = usual;
    setup("", 100);
    usual.first_byte = 40;
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(over(1) && ex[0].err == ERR_UP_FIRST_BYTE, "the first byte took too long");
    tap_ok(run(call_closed), "the server hears of it");
    usual = kept;
    usual.read = 40;
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(2), "another");
    struct side *s = &origin.side[0];
    (void)h2_answer(s->h2, s->call[1].id, SLICE("HTTP/1.1 200 OK\r\n\r\n"), false);
    tap_ok(over(1) && ex[0].err == ERR_UP_READ_TIME, "the body stalled");
    usual = kept;
    usual.send = 40;
    origin.deaf = true;
    (void)ask(&ex[0], "/up", HTTP_BODY_CHUNKED, 0);
    static char big[300000];
    tap_is_int(up_send(ex[0].conn, big, sizeof(big), false, NULL, 0), 1, "a long request");
    tap_ok(over(1) && ex[0].err == ERR_UP_WRITE_TIME, "the server does not read it");
    usual = kept;
    tap_is_int(origin.n, 1, "none of that ends the session");
    (void)ask(&ex[1], "/ok", HTTP_BODY_NONE, 0);
    nex = 2;
    tap_ok(run(ended) && ex[1].status == 200 && origin.n == 2,
           "but one that had gone silent gets no more");
    teardown("deadlines");
}

static void test_life(void)
{
    setup("keepalive_timeout = 100ms", 100);
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(1), "a request");
    tap_ok(run(no_session), "idle sessions are closed");
    teardown("idle");

    setup("keepalive = 0", 100);
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    tap_ok(over(1) && run(no_session), "at once without keep-alive");
    teardown("no keep-alive");

    setup("", 100);
    (void)ask(&ex[0], "/hold", HTTP_BODY_NONE, 0);
    tap_ok(asked(1), "a request");
    us.closing = true;
    answer(&origin.side[0], origin.side[0].call[0].id, 5);
    tap_ok(over(1) && ex[0].body == 5 && run(no_session), "a draining worker keeps none");
    us.closing = false;
    (void)ask(&ex[0], "/ok", HTTP_BODY_NONE, 0);
    up_abort(ex[0].conn);
    ex[0].conn = NULL;
    tap_ok(run(no_session), "nobody waits for it any more: not connected at all");
    teardown("closing");
}

static void test_nomem(void)
{
    unsigned survived = 0;
    for (unsigned n = 1; n < 120; n++) {
        setup("", 100);
        alloc_fail_at(n);
        int e = ask(&ex[0], "/up", HTTP_BODY_CHUNKED, 0);
        if (e == 0 && run(connected) && ex[0].conn)
            e = up_send(ex[0].conn, "abc", 3, true, NULL, 0);
        want_calls = 1;
        bool failed = e < 0 || ex[0].err;
        alloc_fail_at(0);
        if (!failed && run(called)) {
            answer(&origin.side[0], origin.side[0].call[0].id, 10);
            survived += over(1);
        }
        for (int i = 0; i < STREAMS; i++) {
            if (ex[i].conn)
                up_abort(ex[i].conn);
            ex[i].conn = NULL;
        }
        upstreams_close(&us);
        loop_bury_dead(&loop);
        if (us.conns.in_use + us.sessions.in_use)
            tap_bail("allocation %u: something is left", n);
        pool_fini(&us.conns);
        pool_fini(&us.sessions);
        upstreams_fini(&us);
        for (int i = 0; i < 8; i++)
            side_close(&origin.side[i]);
        io_close(&origin.listener);
        timer_stop(&limit);
        loop_fini(&loop);
        fixture_end(&conf);
        segment_close(&segment);
        arena_fini(&ex[0].arena);
    }
    tap_ok(survived > 20, "want of memory ends requests, not the process (%u went well)", survived);
}

int main(void)
{
    test_shared();
    test_limit();
    test_goaway();
    test_failures();
    test_answer_pressure();
    test_request_body();
    test_early();
    test_deadlines();
    test_life();
    test_nomem();
    return tap_done();
}
