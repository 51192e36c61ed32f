/* Both sides of HTTP/2 talking to each other in memory: exchanges, windows, trailers, resets,
 * GOAWAY, misbehaviour, failing allocations. */
#include "worker/http/h2.h"

#include "base/arena.h"
#include "base/err.h"
#include "t/unit/tap.h"

enum { LOG = 65536 };
struct side;
struct one { /* what happened to a stream */
    struct side *side;
    int32_t id;
    char log[512];
    size_t bytes, trailers;
    int closed, heads, drained;
    bool ended, used;
    unsigned sum;
};
struct side {
    struct h2 *h;
    struct one one[300];
    unsigned n;
    uint32_t points, most;
    unsigned goaways, pongs, dirty, malformed;
    int last_err;
    bool refuse, keep, hold; /* hold: bytes are not consumed */
    bool echo;
};
static struct h2_limits limits = {.max_streams = 100,
                                  .stream_window = 65536,
                                  .conn_window = 1 << 20,
                                  .max_line = 2000,
                                  .max_field = 3000,
                                  .max_head = 8000,
                                  .max_fields = 50,
                                  .queue = 65536,
                                  .connect_protocol = true};

static struct one *one_new(struct side *d, int32_t id)
{
    struct one *o = &d->one[d->n++ % 300];
    *o = (struct one){.side = d, .id = id, .closed = -1, .used = true};
    return o;
}

static void *on_request(void *user, int32_t id, const struct http_request *r, bool end)
{
    struct side *d = user;
    if (d->refuse)
        return NULL;
    struct one *o = one_new(d, id);
    snprintf(o->log, sizeof(o->log), "%.*s %.*s host=%.*s port=%u framing=%d len=%llu n=%zu%s%s",
             SLICE_ARG(r->method_text), SLICE_ARG(r->target), SLICE_ARG(r->host), r->port,
             (int)r->framing, (unsigned long long)r->content_length, r->nfield, end ? " end" : "",
             r->has_upgrade ? " upgrade" : "");
    return o;
}

static void *on_malformed(void *user, int32_t id, int err, const struct http_request *r, bool end)
{
    struct side *d = user;
    (void)r;
    (void)end;
    d->malformed++;
    d->last_err = err;
    return d->keep ? one_new(d, id) : NULL;
}

static void on_response(void *user, void *stream, const struct http_response *r, bool end)
{
    struct one *o = stream;
    (void)user;
    o->heads++;
    const size_t at = strlen(o->log);
    snprintf(o->log + at, sizeof(o->log) - at, "%u framing=%d len=%llu n=%zu%s;", r->status,
             (int)r->framing, (unsigned long long)r->content_length, r->nfield, end ? " end" : "");
    o->ended = o->ended || end;
}

static void on_data(void *user, void *stream, const char *p, size_t n)
{
    struct side *d = user;
    struct one *o = stream;
    o->bytes += n;
    for (size_t i = 0; i < n; i++)
        o->sum = o->sum * 31 + (unsigned char)p[i];
    if (d->echo)
        h2_data(d->h, o->id, p, n, false, NULL, 0);
    if (!d->hold)
        h2_consume(d->h, o->id, n);
}

static void on_end(void *user, void *stream, const struct http_field *trailer, size_t n)
{
    struct one *o = stream;
    (void)user;
    o->ended = true;
    o->trailers = n;
    for (size_t i = 0; i < n; i++) {
        const size_t at = strlen(o->log);
        snprintf(o->log + at, sizeof(o->log) - at, "%.*s=%.*s;", SLICE_ARG(trailer[i].name),
                 SLICE_ARG(trailer[i].value));
    }
}

static void on_drained(void *user, void *stream)
{
    (void)user;
    ((struct one *)stream)->drained++;
}

static void on_closed(void *user, void *stream, int err)
{
    (void)user;
    ((struct one *)stream)->closed = err;
}

static void on_goaway(void *user, int32_t last, uint32_t code)
{
    (void)last;
    (void)code;
    ((struct side *)user)->goaways++;
}

static void on_pong(void *user)
{
    ((struct side *)user)->pongs++;
}

static bool on_misbehaved(void *user, uint32_t points)
{
    struct side *d = user;
    d->points += points;
    return d->most == 0 || d->points < d->most;
}

static void on_dirty(void *user)
{
    ((struct side *)user)->dirty++;
}

static const struct h2_events events = {.request = on_request,
                                        .malformed = on_malformed,
                                        .response = on_response,
                                        .data = on_data,
                                        .end = on_end,
                                        .drained = on_drained,
                                        .closed = on_closed,
                                        .goaway = on_goaway,
                                        .pong = on_pong,
                                        .misbehaved = on_misbehaved,
                                        .dirty = on_dirty};

static struct side server, client;
static char wire[40000];

/* Carries what one side has to say to the other; step bytes at a time. Bytes carried. */
static size_t carry(struct side *from, struct side *to, size_t step)
{
    size_t sum = 0;
    ssize_t n;
    while (from->h != NULL && (n = h2_output(from->h, wire, sizeof(wire))) > 0) {
        sum += (size_t)n;
        for (size_t at = 0; to->h != NULL && at < (size_t)n; at += step) {
            const size_t k = (size_t)n - at < step ? (size_t)n - at : step;
            char *copy = malloc(k); /* of exactly this size: reading on is seen */
            if (copy == NULL)
                tap_bail("no memory");
            memcpy(copy, wire + at, k);
            (void)h2_input(to->h, copy, k);
            free(copy);
        }
    }
    return sum;
}

static void talk_by(size_t step)
{
    while (carry(&client, &server, step) + carry(&server, &client, step) > 0)
        ;
}

static void talk(void)
{
    talk_by(sizeof(wire));
}

static void begin(void)
{
    server = client = (struct side){0};
    if (h2_new(H2_SERVER, &limits, &events, &server, &server.h) < 0 ||
        h2_new(H2_CLIENT, &limits, &events, &client, &client.h) < 0)
        tap_bail("h2_new");
}

static void finish(void)
{
    h2_free(&client.h);
    h2_free(&server.h);
}

static struct one *open_stream(const char *head, bool end)
{
    struct one *o = one_new(&client, 0);
    o->id = h2_open(client.h, slice_str(head), SLICE("https"), end, o);
    return o;
}

static int answer(struct one *o, const char *head, bool end)
{
    return h2_answer(server.h, o->id, slice_str(head), end);
}

#define GET "GET /a?b=c HTTP/1.1\r\nHost: example.com:8443\r\nX-One: 1\r\nConnection: close\r\n\r\n"

static void test_exchange(void)
{
    for (size_t step = 1; step < 3000; step = step * 7 + 1) {
        begin();
        tap_ok(server.dirty > 0 && client.dirty > 0, "settings wait for output");
        struct one *c = open_stream(GET, true);
        talk_by(step);
        struct one *s = &server.one[0];
        tap_is_str(slice_str(s->log),
                   "GET /a?b=c host=example.com port=8443 framing=0 len=0 n=2 end", "request");
        tap_is_int(answer(s, "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n", false), 0, "interim");
        tap_is_int(answer(s,
                          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\nConnection: "
                          "keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
                          false),
                   0, "head");
        tap_is_int(answer(s, "HTTP/1.1 200 OK\r\n\r\n", true), -ERR_NOENT, "one head only");
        tap_is_int(h2_data(server.h, s->id, "hello", 5, true, NULL, 0), 0, "data");
        tap_is_int(h2_data(server.h, s->id, "x", 1, true, NULL, 0), -ERR_NOENT,
                   "no more after the end");
        talk_by(step);
        tap_is_str(slice_str(c->log), "103 framing=0 len=0 n=1;200 framing=1 len=5 n=2;", "answer");
        tap_is_int(c->bytes, 5, "body");
        tap_ok(c->ended && c->closed == 0 && s->closed == 0, "both sides closed in peace");
        tap_is_int(h2_streams(server.h) + h2_streams(client.h), 0, "no stream is left");
        tap_is_int(server.points, 0, "no misbehaviour");
        finish();
    }
}

/* Bytes of an answer with this field and nothing else that is new. */
static size_t answer_size(const char *field)
{
    char head[200];
    struct one *c = open_stream(GET, true);
    talk();
    struct one *s = &server.one[server.n - 1];
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\n%s\r\n\r\n", field);
    tap_is_int(answer(s, head, true), 0, "answer with %s", field);
    const size_t n = carry(&server, &client, sizeof(wire));
    talk();
    tap_ok(c->ended && c->closed == 0, "which arrives");
    return n;
}

/* Frame head, :status and an index: what is in HPACK's table. */
static void test_table(void)
{
    enum { KNOWN = 9 + 2 };
    begin();
    talk();
    (void)answer_size("Server: some server of some origin");
    tap_is_int(answer_size("Server: some server of some origin"), KNOWN, "in the table");
    (void)answer_size("X-Own: some value of some origin");
    tap_is_int(answer_size("X-Own: some value of some origin"), KNOWN, "an unknown one, too");
    static const char *const changes[] = {"X-Request-Id: 0123456789abcdef",
                                          "x-request-id: 0123456789abcdef", "X-Real-IP: 192.0.2.1",
                                          "X-Forwarded-For: 192.0.2.1"};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        (void)answer_size(changes[i]);
        tap_ok(answer_size(changes[i]) > KNOWN + 8, "not worth a place there");
    }
    finish();
}

static void test_bodies(void)
{
    static char big[300000];
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(big); i++) {
        big[i] = (char)(i * 7 + i / 251);
        sum = sum * 31 + (unsigned char)big[i];
    }
    begin();
    struct one *c = open_stream("POST /up HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", false);
    int rc = h2_data(client.h, c->id, big, sizeof(big), false, NULL, 0);
    tap_is_int(rc, 1, "a long queue says so");
    const struct http_field trailer[] = {{SLICE("X-Sum"), SLICE("1"), 0, 0},
                                         {SLICE("content-length"), SLICE("1"), 0, 0}};
    rc = h2_data(client.h, c->id, NULL, 0, true, trailer, 2);
    tap_is_int(rc, 1, "still");
    tap_is_int(h2_queued(client.h, c->id), sizeof(big), "all of it is queued");
    server.hold = true;
    talk();
    struct one *s = &server.one[0];
    tap_is_int(s->bytes, 65536, "an unread body stops at the first window");
    tap_ok(!s->ended && c->drained == 0, "and the sender waits");
    server.hold = false;
    h2_consume(server.h, s->id, 65536);
    talk();
    tap_ok(s->bytes == sizeof(big) && s->sum == sum, "the whole body, in order");
    tap_ok(s->ended && s->trailers == 1, "sound trailers only");
    tap_ok(slice_ends(slice_str(s->log), SLICE("x-sum=1;")), "their text");
    tap_is_int(c->drained, 1, "drained once");
    answer(s, "HTTP/1.1 200 OK\r\n\r\n", false);
    server.hold = false;
    rc = h2_data(server.h, s->id, big, sizeof(big), true, trailer, 1);
    tap_is_int(rc, 1, "long answer");
    talk();
    tap_ok(c->bytes == sizeof(big) && c->sum == sum && c->trailers == 1, "it comes whole");
    tap_ok(c->closed == 0 && s->closed == 0, "closed");
    tap_is_int(server.points, 0, "no misbehaviour");
    finish();
}

/* Bytes that nobody reads do not narrow the connection for others. */
static void test_connection_window(void)
{
    static char block[60000];
    begin();
    for (int i = 0; i < 60; i++) {
        struct one *c = open_stream("POST / HTTP/1.1\r\nHost: a\r\n\r\n", false);
        h2_data(client.h, c->id, block, sizeof(block), false, NULL, 0);
        server.hold = true;
        talk();
        struct one *s = &server.one[server.n - 1];
        if (s->bytes != sizeof(block)) {
            tap_is_int(s->bytes, sizeof(block), "round %d", i);
            break;
        }
        h2_reset(i % 2 ? server.h : client.h, c->id, H2_CANCEL);
        talk();
    }
    tap_is_int(server.n, 60, "sixty times the window's share came through");
    finish();
}

static void test_websocket(void)
{
    begin();
    /* The client side has no extended CONNECT: bytes of a peer that has. */
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0";
    static const char head[] = "\0\0\x3f\1\4\0\0\0\1"
                               "\0\7:method\7CONNECT"
                               "\0\x09:protocol\x09websocket"
                               "\x87\x84"
                               "\1\3a.b";
    char frame[128];
    memcpy(frame, head, sizeof(head) - 1);
    frame[2] = (char)(sizeof(head) - 1 - 9);
    h2_free(&client.h);
    h2_input(server.h, hello, sizeof(hello) - 1);
    h2_input(server.h, frame, sizeof(head) - 1);
    struct one *s = &server.one[0];
    tap_is_str(slice_str(s->log), "GET / host=a.b port=0 framing=0 len=0 n=2 upgrade", "as GET");
    tap_is_int(answer(s,
                      "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
                      false),
               0, "101 is taken");
    tap_is_int(h2_data(server.h, s->id, "abc", 3, false, NULL, 0), 0, "and bytes");
    const ssize_t n = h2_output(server.h, wire, sizeof(wire));
    tap_ok(n > 12 && memcmp(wire + n - 12, "\0\0\3\0\0\0\0\0\1abc", 12) == 0, "DATA");
    bool found = false;
    for (ssize_t i = 0; i + 9 < n; i++)
        found = found || memcmp(wire + i, "\1\4\0\0\0\1\x88", 7) == 0;
    tap_ok(found, ":status 200 without END_STREAM");
    finish();
}

static void test_resets(void)
{
    begin();
    struct one *c = open_stream(GET, true);
    talk();
    struct one *s = &server.one[0];
    h2_reset(client.h, c->id, H2_CANCEL);
    talk();
    tap_is_int(s->closed, ERR_CLIENT_RESET, "the client cancels");
    tap_is_int(server.points, 1, "before the answer it costs a point");
    c = open_stream(GET, true);
    talk();
    s = &server.one[1];
    answer(s, "HTTP/1.1 200 OK\r\n\r\n", false);
    talk();
    h2_reset(client.h, c->id, H2_CANCEL);
    talk();
    tap_is_int(s->closed, ERR_CLIENT_RESET, "within the answer");
    tap_is_int(server.points, 1, "nothing");
    server.refuse = true;
    c = open_stream(GET, true);
    talk();
    tap_is_int(c->closed, ERR_UP_REFUSED, "refused");
    server.refuse = false;
    c = open_stream(GET, true);
    talk();
    s = &server.one[2];
    answer(s, "HTTP/1.1 200 OK\r\n\r\n", false);
    h2_reset(server.h, s->id, H2_INTERNAL_ERROR);
    talk();
    tap_is_int(c->closed, ERR_UP_STREAM_RESET, "cut by the server");
    tap_is_int(s->closed, ERR_INTERNAL, "who knows it");
    c = open_stream("POST / HTTP/1.1\r\nHost: a\r\n\r\n", false);
    talk();
    s = &server.one[3];
    answer(s, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
    h2_reset(server.h, s->id, H2_NO_ERROR);
    talk();
    tap_ok(c->closed == 0 && s->closed == 0, "an answer that wants no more of the body is one");
    c = open_stream(GET, true);
    h2_reset(client.h, c->id, H2_CANCEL);
    talk();
    tap_is_int(c->closed, ERR_UP_STREAM_RESET, "before it was sent");
    tap_is_int(h2_streams(client.h) + h2_streams(server.h), 0, "nothing left");
    tap_is_int(server.points, 1, "nothing of that costs");
    finish();
}

static void test_lengths(void)
{
    begin();
    struct one *c = open_stream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", false);
    h2_data(client.h, c->id, "abcd", 4, true, NULL, 0);
    talk();
    tap_is_int(server.one[0].closed, ERR_BAD_REQUEST, "a body that is too long");
    tap_is_int(server.one[0].bytes, 0, "is not given");
    c = open_stream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", false);
    h2_data(client.h, c->id, "ab", 2, true, NULL, 0);
    talk();
    tap_is_int(server.one[1].closed, ERR_BAD_REQUEST, "too short");
    tap_ok(!server.one[1].ended, "has no end");
    tap_is_int(server.points, 10, "each costs");
    c = open_stream(GET, true);
    talk();
    answer(&server.one[2], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false);
    h2_data(server.h, server.one[2].id, "ab", 2, true, NULL, 0);
    talk();
    tap_is_int(c->closed, ERR_UP_TRUNCATED, "an answer too short");
    c = open_stream("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true);
    talk();
    answer(&server.one[3], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true);
    talk();
    tap_ok(c->closed == 0 && strcmp(c->log, "200 framing=0 len=3 n=1 end;") == 0, "HEAD");
    c = open_stream("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true);
    talk();
    answer(&server.one[4], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false);
    h2_data(server.h, server.one[4].id, "abc", 3, true, NULL, 0);
    talk();
    tap_is_int(c->closed, ERR_UP_BAD_BODY, "a body where none may be");
    finish();
}

static void test_malformed(void)
{
    begin();
    server.keep = true;
    struct one *c = open_stream("GET / HTTP/1.1\r\nX: 1\r\n\r\n", true);
    talk();
    tap_ok(server.malformed == 1 && server.last_err == ERR_BAD_HOST, "no authority");
    answer(&server.one[0], "HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n", false);
    h2_data(server.h, server.one[0].id, "no", 2, true, NULL, 0);
    talk();
    tap_ok(c->closed == 0 && c->bytes == 2, "can be answered");
    server.keep = false;
    c = open_stream("GET / HTTP/1.1\r\nX: 1\r\n\r\n", true);
    talk();
    tap_ok(server.malformed == 2 && c->closed == ERR_UP_STREAM_RESET, "or reset");
    char head[12000] = "GET / HTTP/1.1\r\nHost: a\r\n";
    server.keep = true;
    for (int i = 0; i < 5; i++) {
        const size_t at = strlen(head);
        snprintf(head + at, sizeof(head) - at, "x%d: %02000d\r\n", i, i);
    }
    strcat(head, "\r\n");
    c = open_stream(head, true);
    talk();
    tap_ok(server.malformed == 3 && server.last_err == ERR_HEAD_TOO_LARGE, "too large");
    answer(&server.one[1], "HTTP/1.1 431 Large\r\n\r\n", true);
    talk();
    tap_is_int(c->closed, 0, "answered");
    c = open_stream("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", true);
    talk();
    tap_is_int(server.malformed, 4, "CONNECT is not taken");
    finish();
}

static void test_goaway(void)
{
    begin();
    struct one *c = open_stream(GET, true);
    talk();
    h2_goaway(server.h, false, H2_NO_ERROR);
    talk();
    tap_is_int(client.goaways, 1, "GOAWAY");
    tap_is_int(h2_room(client.h), 0, "no room then");
    tap_is_int(h2_open(client.h, SLICE(GET), SLICE("https"), true, c), -ERR_EOF, "nor streams");
    h2_goaway(server.h, true, H2_NO_ERROR);
    tap_is_int(h2_ping(client.h), 0, "ping");
    talk();
    tap_is_int(client.pongs, 1, "pong");
    tap_ok(!h2_finished(server.h), "a stream is open");
    answer(&server.one[0], "HTTP/1.1 204 No Content\r\n\r\n", true);
    talk();
    tap_ok(c->closed == 0 && h2_finished(server.h) && h2_finished(client.h), "then it is over");
    tap_ok(h2_error(server.h) == 0 && h2_error(client.h) == 0, "in peace");
    finish();
    begin();
    c = open_stream(GET, true);
    talk();
    finish();
    tap_is_int(server.one[0].closed, ERR_CLIENT_CLOSED, "the connection goes away: server");
    tap_is_int(c->closed, ERR_UP_RESET, "client");
}

/* Frames written by hand after a sound beginning. Frames until it was enough, 0 never. */
static unsigned flood(const char *frame, size_t n, unsigned most)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0";
    begin();
    server.most = 100;
    carry(&server, &(struct side){0}, 1);
    h2_input(server.h, hello, sizeof(hello) - 1);
    char copy[64];
    memcpy(copy, frame, n);
    unsigned i = 0;
    int rc = 0;
    for (; i < most && rc == 0; i++) {
        /* Stream ids go up where the frame begins one. */
        const uint32_t id = 2 * i + 1;
        if (n > 13 && copy[3] == 1) {
            copy[7] = (char)(id >> 8);
            copy[8] = (char)id;
            copy[n - 13 + 7] = (char)(id >> 8);
            copy[n - 13 + 8] = (char)id;
        }
        rc = h2_input(server.h, copy, n);
        ssize_t o;
        while ((o = h2_output(server.h, wire, sizeof(wire))) > 0)
            ;
        if (rc == 0)
            rc = h2_error(server.h);
    }
    tap_ok(rc == 0 || h2_finished(server.h), "after that it is over");
    if (rc != 0)
        tap_is_int(rc, -ERR_H2_ABUSE, "for abuse");
    finish();
    return rc == 0 ? 0 : i;
}

static void test_floods(void)
{
#define HEADERS "\0\0\6\1\5\0\0\0\1\x82\x84\x87\1\1a"
    static const struct {
        const char *name, *frame;
        size_t n;
        bool free;
    } f[] = {
#define F(name, text) name, "" text, sizeof(text) - 1
        {F("PING", "\0\0\x8\6\0\0\0\0\0\0\0\0\0\0\0\0\0"), false},
        {F("SETTINGS", "\0\0\0\4\0\0\0\0\0"), false},
        {F("PRIORITY", "\0\0\5\2\0\0\0\0\1\0\0\0\0\1"), false},
        {F("PRIORITY_UPDATE", "\0\0\7\x10\0\0\0\0\0\0\0\0\1u=1"), false},
        {F("WINDOW_UPDATE", "\0\0\4\x8\0\0\0\0\0\0\0\0\1"), false},
        {F("unknown frames", "\0\0\0\x4b\0\0\0\0\0"), false},
        {F("rapid reset", HEADERS "\0\0\4\3\0\0\0\0\1\0\0\0\x8"), false},
        {F("made you reset", HEADERS "\0\0\4\x8\0\0\0\0\1\x7f\xff\xff\xff"), false},
    };
    for (size_t i = 0; i < sizeof(f) / sizeof(f[0]); i++) {
        char frame[64];
        memcpy(frame, f[i].frame, f[i].n);
        if (frame[3] == 1)
            frame[2] = 6;
        const unsigned at = flood(frame, f[i].n, 2000);
        tap_ok(at > 10 && at <= 500, "%s: ends after %u", f[i].name, at);
    }
}

static void test_bad_bytes(void)
{
    begin();
    tap_is_int(h2_input(server.h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27), -ERR_H2_PROTO,
               "not HTTP/2");
    while (h2_output(server.h, wire, sizeof(wire)) > 0)
        ;
    tap_ok(h2_finished(server.h), "over");
    finish();
    begin();
    talk();
    /* DATA on a stream that never was. */
    h2_input(server.h, "\0\0\1\0\0\0\0\0\x9x", 10);
    while (h2_output(server.h, wire, sizeof(wire)) > 0)
        ;
    tap_is_int(h2_error(server.h), -ERR_H2_PROTO, "idle stream");
    tap_ok(h2_finished(server.h), "over");
    tap_is_int(h2_input(server.h, "x", 1), -ERR_H2_PROTO, "and stays so");
    finish();
}

/* Whatever allocation fails: no crash, nothing lost for good. */
static void test_no_memory(void)
{
    unsigned failed = 0;
    for (unsigned k = 1; k < 400; k++) {
        server = client = (struct side){0};
        alloc_fail_at(k);
        if (h2_new(H2_SERVER, &limits, &events, &server, &server.h) == 0 &&
            h2_new(H2_CLIENT, &limits, &events, &client, &client.h) == 0) {
            for (int i = 0; i < 3; i++) {
                struct one *c = open_stream("POST / HTTP/1.1\r\nHost: a\r\n\r\n", false);
                if (c->id < 0)
                    continue;
                const struct http_field trailer[] = {{SLICE("X-Sum"), SLICE("1"), 0, 0}};
                h2_data(client.h, c->id, GET, sizeof(GET) - 1, true, trailer, 1);
                talk();
                if (server.n == 0)
                    continue;
                struct one *s = &server.one[server.n - 1];
                answer(s, "HTTP/1.1 200 OK\r\nX-Long: abcdefghijklmnopqrst\r\n\r\n", false);
                h2_data(server.h, s->id, wire, 9000, true, trailer, 1);
                talk();
            }
        }
        failed += alloc_fail_countdown == 0;
        alloc_fail_at(0);
        finish();
        for (unsigned i = 0; i < server.n; i++)
            if (server.one[i].closed < 0)
                tap_ok(false, "stream without an end, allocation %u", k);
    }
    tap_ok(failed > 30, "%u allocations failed", failed);
}

int main(void)
{
    test_exchange();
    test_table();
    test_bodies();
    test_connection_window();
    test_websocket();
    test_resets();
    test_lengths();
    test_malformed();
    test_goaway();
    test_floods();
    test_bad_bytes();
    test_no_memory();
    return tap_done();
}
