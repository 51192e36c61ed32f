/* The loop: edges, work left for the next turn, fairness, closing and burying inside a turn, events
 * that came too late. */
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/io/loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_TURNS 50

struct obj {
    struct io io;
    struct obj *victim;
    unsigned calls, again; /* again: how often to ask for another turn */
    uint8_t seen;          /* readiness ever seen */
    uint64_t turn[16];
    union {
        struct timer timer;
        struct loop_corpse corpse;
    };
};

static struct loop loop;
static unsigned turns_wanted, log_n;
static int order[64];

static void on_turn(void *arg)
{
    (void)arg;
    if (loop.turns >= turns_wanted)
        loop.stop = true;
}

/* Runs n turns; a byte in a pipe watched level-triggered keeps each of them from sleeping. */
static void turns(unsigned n)
{
    loop.stop = false;
    turns_wanted = (unsigned)loop.turns + n;
    if (loop_run(&loop) < 0)
        tap_bail("loop_run");
}

static void noop(struct io *io)
{
    (void)io;
}

static void start(struct io *awake, int pipe_fd[2])
{
    if (loop_init(&loop) < 0 || pipe(pipe_fd) || write(pipe_fd[1], "x", 1) != 1)
        tap_bail("set-up");
    *awake = (struct io){.fd = pipe_fd[0], .handler = noop};
    loop.on_turn = on_turn;
    if (io_add_level(&loop, awake, false) < 0)
        tap_bail("io_add_level");
    log_n = 0;
}

static void finish(int pipe_fd[2])
{
    loop_fini(&loop);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
}

static void record(struct io *io)
{
    struct obj *o = CONTAINER(io, struct obj, io);
    o->seen |= io->ready;
    if (o->calls < 16)
        o->turn[o->calls] = loop.turns;
    o->calls++;
    if (log_n < 64)
        order[log_n++] = io->kind;
    if (o->again) {
        o->again--;
        io_again(&loop, io);
        io_again(&loop, io); /* twice is once */
    }
}

static void pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd))
        tap_bail("socketpair");
}

static void test_edges(void)
{
    struct io awake;
    int p[2], s[2];
    start(&awake, p);
    pair(s);
    struct obj o = {.io = {.fd = s[0], .handler = record}};
    tap_is_int(io_add(&loop, &o.io), 0, "a connection is registered");
    turns(3);
    tap_ok(o.calls == 1 && o.seen == IO_WRITE, "the first edge says writable, once");
    o.io.ready = 0;
    if (write(s[1], "a", 1) != 1)
        tap_bail("write");
    turns(3);
    tap_ok(o.calls == 2 && (o.io.ready & IO_READ) && !(o.io.ready & IO_HUP),
           "bytes: one edge, readable");
    o.io.ready = 0;
    shutdown(s[1], SHUT_WR);
    turns(3);
    tap_ok(o.calls == 3 && (o.io.ready & (IO_READ | IO_HUP)) == (IO_READ | IO_HUP) &&
               !(o.io.ready & IO_ERR),
           "the peer finished sending: readable and hung up, not broken");
    close(s[1]);
    turns(3);
    tap_ok((o.io.ready & (IO_ERR | IO_WRITE)) == (IO_ERR | IO_WRITE),
           "the peer is gone: both directions are reported");
    unsigned calls = o.calls;
    io_close(&o.io);
    tap_ok(o.io.fd == -1, "closed");
    io_close(&o.io);
    io_again(&loop, &o.io);
    turns(2);
    tap_is_int(o.calls, calls, "a closed one cannot be queued");
    finish(p);
}

static void test_again(void)
{
    struct io awake;
    int p[2];
    start(&awake, p);
    struct obj a = {.io = {.fd = p[1], .handler = record, .kind = 1}, .again = 3};
    struct obj b = {.io = {.fd = p[1], .handler = record, .kind = 2}, .again = 1};
    io_again(&loop, &a.io);
    io_again(&loop, &b.io);
    turns(6);
    tap_ok(a.calls == 4 && b.calls == 2, "called once per request for it");
    tap_ok(a.turn[1] == a.turn[0] + 1 && a.turn[2] == a.turn[1] + 1,
           "one call per turn: others get theirs between");
    static const int want[] = {1, 2, 1, 2, 1, 1};
    bool ok = log_n == 6;
    for (unsigned i = 0; i < 6 && ok; i++)
        ok = order[i] == want[i];
    tap_ok(ok, "in the order of asking");
    /* A queue alone must not let the loop sleep: no other event is there. */
    io_remove(&loop, &awake);
    struct obj c = {.io = {.fd = p[1], .handler = record}, .again = 2};
    io_again(&loop, &c.io);
    turns(3);
    tap_is_int(c.calls, 3, "queued work is not slept over");
    struct obj d = {.io = {.fd = p[1], .handler = record}};
    io_again(&loop, &d.io);
    io_remove(&loop, &d.io);
    io_add_level(&loop, &awake, false);
    turns(2);
    tap_ok(d.calls == 0 && !d.io.queued, "removed: forgotten by the queue too");
    finish(p);
}

static struct pool pool;
static struct obj *survivor;

static void kill_victim(struct io *io)
{
    struct obj *o = CONTAINER(io, struct obj, io);
    o->calls++;
    if (!o->victim)
        return;
    struct obj *v = o->victim;
    o->victim = NULL;
    survivor = o;
    io_close(&v->io);
    loop_bury(&loop, &v->corpse, v, &pool);
    tap_ok(pool.in_use == 2, "a buried object keeps its memory until the end of the turn");
}

/* Two connections become ready in the same turn; whichever comes first closes and buries the other
 * one, whose event is already on its way. */
static void test_stale(bool queued)
{
    struct io awake;
    int p[2], s[2], t[2];
    start(&awake, p);
    pool_init(&pool, "test objects", sizeof(struct obj));
    pair(s);
    pair(t);
    struct obj *a = pool_get(&pool), *b = pool_get(&pool);
    a->io = (struct io){.fd = s[0], .handler = kill_victim};
    b->io = (struct io){.fd = t[0], .handler = kill_victim};
    a->victim = b;
    b->victim = a;
    if (queued) {
        io_again(&loop, &a->io);
        io_again(&loop, &b->io);
    } else if (io_add(&loop, &a->io) < 0 || io_add(&loop, &b->io) < 0) {
        tap_bail("io_add");
    }
    turns(1);
    tap_is_int(pool.in_use, 1, "%s: the victim is freed when the turn is over",
               queued ? "queue" : "events");
    turns(2);
    tap_is_int(pool.in_use, 1, "and nothing touches it afterwards");
    loop_fini(&loop);
    struct obj *left = survivor == a ? a : b;
    io_close(&left->io);
    pool_put(&pool, left);
    pool_fini(&pool);
    close(s[1]);
    close(t[1]);
    close(p[0]);
    close(p[1]);
}

/* What no event leads to goes as soon as the handler returns: the next one of the turn has its
 * memory. */
static struct obj *alone;
static void bury_alone(struct io *io)
{
    (void)io;
    loop_bury_soon(&loop, &alone->corpse, alone, &pool);
    tap_is_int(pool.in_use, 1, "there until the handler returns");
}

static void find_none(struct io *io)
{
    (void)io;
    tap_is_int(pool.in_use, 0, "gone when the next one of the turn runs");
}

static void test_soon(bool queued)
{
    struct io io[2] = {{.handler = bury_alone}, {.handler = find_none}}, awake;
    int p[2], s[2][2];
    start(&awake, p);
    pool_init(&pool, "test objects", sizeof(struct obj));
    alone = pool_get(&pool);
    for (int i = 0; i < 2; i++) {
        pair(s[i]);
        io[i].fd = s[i][0];
        if (queued)
            io_again(&loop, &io[i]);
        else if (io_add(&loop, &io[i]) < 0)
            tap_bail("io_add");
    }
    turns(1);
    tap_is_int(pool.in_use, 0, "%s: buried soon", queued ? "queue" : "events");
    loop_fini(&loop);
    pool_fini(&pool);
    for (int i = 0; i < 2; i++) {
        close(s[i][0]);
        close(s[i][1]);
    }
    close(p[0]);
    close(p[1]);
}

static struct obj *timer_obj;
static void on_timer(struct timer *t)
{
    struct obj *o = CONTAINER(t, struct obj, timer);
    o->calls++;
    io_close(&o->io);
    loop_bury(&loop, &o->corpse, o,
              &pool); /* the timer it overlays has just fired, and is unlinked */
}

static void test_timer_burial(void)
{
    struct io awake;
    int p[2], s[2];
    start(&awake, p);
    pool_init(&pool, "test objects", sizeof(struct obj));
    pair(s);
    timer_obj = pool_get(&pool);
    timer_obj->io = (struct io){.fd = s[0], .handler = record};
    timer_init(&timer_obj->timer, on_timer);
    timer_set_at(&loop.timers, &timer_obj->timer, 0);
    io_remove(&loop, &awake);
    loop.stop = false;
    turns_wanted = MAX_TURNS;
    /* No event: the timer alone has to end the wait. The turn after the burial is the last one. */
    while (pool.in_use && loop.turns < MAX_TURNS) {
        turns_wanted = (unsigned)loop.turns + 1;
        loop.stop = false;
        if (loop_run(&loop) < 0)
            tap_bail("loop_run");
    }
    tap_ok(pool.in_use == 0 && loop.turns < MAX_TURNS,
           "a timer wakes the loop and may bury its own object");
    pool_fini(&pool);
    finish(p);
    close(s[1]);
}

int main(void)
{
    test_edges();
    test_again();
    test_stale(false);
    test_stale(true);
    test_soon(false);
    test_soon(true);
    test_timer_burial();
    return tap_done();
}
