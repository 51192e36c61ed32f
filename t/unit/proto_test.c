/* The control protocol: requests and frames there and back, cut at every byte, with every length
 * wrong, and under failing memory. */
#include "base/arena.h"
#include "base/err.h"
#include "rpctl/proto.h"
#include "rpctl/verb.h"
#include "t/unit/tap.h"

static void round_trip(void)
{
    struct proto_request r = {.flags = PROTO_JSON,
                              .timeout_ms = 1500,
                              .cwd = "/tmp",
                              .argc = 3,
                              .argv = {"server", "app/1.2.3.4:80", ""}};
    struct proto_request got;
    struct buf b;
    buf_init(&b, 0);
    tap_is_int(proto_request_encode(&r, &b), 0, "encode");
    unsigned early = 0;
    for (size_t cut = 0; cut < b.n; cut++) {
        /* A copy of exactly this size, so that a sanitizer sees a byte read too far. */
        char *copy = malloc(cut + 1);
        if (!copy)
            abort();
        memcpy(copy, b.p, cut);
        early += proto_request_decode(copy, cut, &got) != -ERR_AGAIN;
        free(copy);
    }
    tap_is_int(early, 0, "every beginning asks for more");
    tap_is_int(proto_request_decode(b.p, b.n, &got), 0, "decode");
    tap_is_int(got.flags, PROTO_JSON, "flags");
    tap_is_int(got.timeout_ms, 1500, "time-out");
    tap_is_str(slice_str(got.cwd), "/tmp", "directory");
    tap_is_int(got.argc, 3, "arguments");
    tap_is_str(slice_str(got.argv[1]), "app/1.2.3.4:80", "the second");
    tap_is_str(slice_str(got.argv[2]), "", "an empty one");
    buf_chr(&b, 'x');
    tap_is_int(proto_request_decode(b.p, b.n, &got), -ERR_PROTO, "a byte too many");
    buf_fini(&b);
}

static int decode_changed(const struct buf *b, size_t at, unsigned char byte)
{
    struct proto_request got;
    char *copy = malloc(b->n);
    if (!copy)
        abort();
    memcpy(copy, b->p, b->n);
    copy[at] = (char)byte;
    int rc = proto_request_decode(copy, b->n, &got);
    free(copy);
    return rc;
}

static void refusals(void)
{
    struct proto_request r = {.cwd = "", .argc = 1, .argv = {"status"}};
    struct buf b;
    buf_init(&b, 0);
    proto_request_encode(&r, &b);
    tap_is_int(decode_changed(&b, 4, 'x'), -ERR_PROTO, "wrong magic");
    tap_is_int(decode_changed(&b, 2, 0xff), -ERR_PROTO, "a length past the limit");
    tap_is_int(decode_changed(&b, 0, 1), -ERR_PROTO, "a length below the least");
    tap_is_int(decode_changed(&b, b.n - 1, 'x'), -ERR_PROTO, "no NUL at the end");
    tap_is_int(decode_changed(&b, 16, 'x'), -ERR_PROTO, "a directory that is not absolute");
    tap_is_int(decode_changed(&b, 17, 0), -ERR_PROTO, "an empty command");
    buf_clear(&b);
    r.argc = 0;
    tap_is_int(proto_request_encode(&r, &b), -ERR_RANGE, "no command");
    r.argc = (int)PROTO_MAX_ARGS + 1;
    tap_is_int(proto_request_encode(&r, &b), -ERR_RANGE, "too many arguments");
    static char big[PROTO_MAX_REQUEST];
    memset(big, 'a', sizeof(big) - 1);
    r = (struct proto_request){.cwd = "", .argc = 1, .argv = {big}};
    tap_is_int(proto_request_encode(&r, &b), -ERR_RANGE, "an argument that is too long");
    big[PROTO_MAX_REQUEST - 18] = '\0';
    tap_is_int(proto_request_encode(&r, &b), 0, "the longest that fits");
    struct proto_request got;
    tap_is_int(proto_request_decode(b.p, b.n, &got), 0, "is understood");
    buf_fini(&b);
    unsigned lost = 0;
    for (unsigned nth = 1; nth < 4; nth++) {
        buf_init(&b, 0);
        r = (struct proto_request){.cwd = "", .argc = 1, .argv = {"status"}};
        alloc_fail_at(nth);
        int rc = proto_request_encode(&r, &b);
        alloc_fail_at(0);
        lost += rc != 0 && rc != -ERR_NOMEM;
        buf_fini(&b);
    }
    tap_is_int(lost, 0, "without memory: no memory, nothing else");
}

static void many_args(void)
{
    struct proto_request got;
    char text[16 + 1 + 2 * (PROTO_MAX_ARGS + 1)];
    uint32_t magic = PROTO_MAGIC, n = sizeof(text) - 4;
    memset(text, 0, sizeof(text));
    memcpy(text, &n, 4);
    memcpy(text + 4, &magic, 4);
    for (size_t i = 17; i < sizeof(text); i += 2)
        text[i] = 'a';
    tap_is_int(proto_request_decode(text, sizeof(text), &got), -ERR_PROTO,
               "one argument more than is allowed");
    n -= 2;
    memcpy(text, &n, 4);
    tap_is_int(proto_request_decode(text, sizeof(text) - 2, &got), 0, "as many as are allowed");
    tap_is_int(got.argc, PROTO_MAX_ARGS, "all there");
}

static void frames(void)
{
    struct proto_frame f;
    struct buf b, big;
    buf_init(&b, 0);
    buf_init(&big, 0);
    proto_frame_encode(PROTO_OUT, SLICE("hello"), &b);
    proto_frame_encode(PROTO_KEEPALIVE, SLICE(""), &b);
    proto_exit_encode(10, &b);
    tap_is_int(proto_frame_decode(b.p, b.n, &f), 0, "first frame");
    tap_is_str(f.payload, "hello", "its payload");
    size_t at = f.size;
    tap_is_int(proto_frame_decode(b.p + at, b.n - at, &f), 0, "second frame");
    tap_is_int(f.type, PROTO_KEEPALIVE, "is a sign of life");
    at += f.size;
    unsigned early = 0;
    for (size_t cut = at; cut < b.n; cut++)
        early += proto_frame_decode(b.p + at, cut - at, &f) != -ERR_AGAIN;
    tap_is_int(early, 0, "every beginning of the last asks for more");
    tap_is_int(proto_frame_decode(b.p + at, b.n - at, &f), 0, "last frame");
    tap_ok(f.type == PROTO_EXIT && f.payload.n == 4 && f.payload.p[0] == 10, "is the exit code");
    tap_is_int(proto_frame_decode("Z\0\0\0\0", 5, &f), -ERR_PROTO, "an unknown type");
    tap_is_int(proto_frame_decode("O\xff\xff\xff\xff", 5, &f), -ERR_PROTO,
               "a frame past the limit");
    tap_is_int(proto_frame_decode("X\5\0\0\0aaaaa", 10, &f), -ERR_PROTO,
               "an exit code of five bytes");
    buf_clear(&b);
    if (!buf_reserve(&big, 3 * PROTO_MAX_FRAME))
        abort();
    memset(big.p, 'x', 3 * PROTO_MAX_FRAME - 1);
    big.n = 3 * PROTO_MAX_FRAME - 1;
    proto_frame_encode(PROTO_ERR, buf_slice(&big), &b);
    size_t total = 0, n = 0;
    for (at = 0; at < b.n && proto_frame_decode(b.p + at, b.n - at, &f) == 0; at += f.size, n++)
        total += f.payload.n;
    tap_ok(n == 3 && total == big.n && at == b.n, "a long text is cut into frames");
    buf_fini(&b);
    buf_fini(&big);
}

static void verbs(void)
{
    struct buf b;
    tap_is_int(verb_find("status"), VERB_status, "a command");
    tap_is_int(verb_find("statsu"), -ERR_NOENT, "no command");
    static const char *const near[][2] = {{"statsu", "status"}, {"relaod", "reload"},
                                          {"relod", "reload"},  {"upstreams", "upstream"},
                                          {"sotp", "stop"},     {"metric", "metrics"}};
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        const char *got = verb_nearest(near[i][0]);
        tap_is_str(slice_str(got ? got : "nothing"), near[i][1], "%s is near %s", near[i][0],
                   near[i][1]);
    }
    tap_ok(verb_nearest("frobnicate") == NULL, "nothing is near frobnicate");
    tap_ok(verb_nearest("a word that is much longer than any command of ours") == NULL,
           "nor near a sentence");
    buf_init(&b, 0);
    verb_help(&b);
    unsigned missing = 0;
    for (int i = 0; i < VERB__COUNT; i++)
        missing += memmem(b.p, b.n, verb_get((enum verb_id)i)->word,
                          strlen(verb_get((enum verb_id)i)->word)) == NULL;
    tap_is_int(missing, 0, "help names every command");
    buf_fini(&b);
}

int main(void)
{
    round_trip();
    refusals();
    many_args();
    frames();
    verbs();
    return tap_done();
}
