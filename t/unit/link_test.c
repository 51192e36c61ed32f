/* Links and queued output: short writes at every split, readiness flags, broken peers, failing
 * allocations; pipes for splice(2). */
#include "base/arena.h"
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/io/link.h"
#include "worker/io/pipe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* A link into memory that takes at most `room` bytes per call and `budget` altogether, then would
 * block. */
struct fake {
    struct link link;
    char got[4096];
    size_t n, room, budget;
    bool broken;
};

static ssize_t fake_writev(struct link *k, const struct iovec *iov, int n)
{
    struct fake *f = CONTAINER(k, struct fake, link);
    size_t taken = 0;
    if (f->broken)
        return -ERR_SYS;
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < iov[i].iov_len && taken < f->room && f->budget;
             j++, taken++, f->budget--)
            f->got[f->n++] = ((const char *)iov[i].iov_base)[j];
    return taken ? (ssize_t)taken : -ERR_AGAIN;
}
static ssize_t fake_recv(struct link *k, char *p, size_t n)
{
    (void)k, (void)p, (void)n;
    return -ERR_AGAIN;
}
static int fake_shutdown(struct link *k)
{
    (void)k;
    return 0;
}
static void fake_close(struct link *k)
{
    (void)k;
}
static const struct link_ops fake_ops = {
    .recv = fake_recv, .writev = fake_writev, .shutdown = fake_shutdown, .close = fake_close};

static void fake_init(struct fake *f, size_t room, size_t budget)
{
    *f =
        (struct fake){.link = {.io = {.fd = -1}, .ops = &fake_ops}, .room = room, .budget = budget};
}

static char text[] = "The quick brown fox jumps over the lazy dog";

static struct iovec part(size_t from, size_t to)
{
    return (struct iovec){text + from, to - from};
}

/* Every way to cut a message into three pieces (empty ones too), with every number of bytes that
 * the kernel takes at once. */
static void test_splits(void)
{
    const size_t n = 12;
    bool whole = true, counted = true, said = true, freed = true;
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++)
            for (size_t take = 0; take <= n; take++) {
                struct fake f;
                struct outq q = {0};
                uint64_t written = 0;
                fake_init(&f, take ? take : 1, take);
                const struct iovec v[3] = {part(0, a), part(a, b), part(b, n)};
                int e = link_send(&f.link, &q, v, 3, &written);
                counted = counted && written == take && outq_left(&q) == n - take;
                said = said && e == (take < n);
                f.budget = 1000;
                ssize_t w = outq_flush(&q, &f.link);
                counted = counted && w == (ssize_t)(n - take);
                whole = whole && f.n == n && memcmp(f.got, text, n) == 0;
                freed = freed && !q.p && !q.cap && !outq_left(&q);
            }
    tap_ok(whole, "every split and every short write: the bytes arrive whole and in order");
    tap_ok(counted, "and are counted");
    tap_ok(said, "1 is said while something is queued");
    tap_ok(freed, "an empty queue owns no memory");
}

static void test_order(void)
{
    struct fake f;
    struct outq q = {0};
    uint64_t written = 0;
    fake_init(&f, 100, 5);
    struct iovec v = part(0, 10);
    tap_is_int(link_send(&f.link, &q, &v, 1, &written), 1, "backed up");
    f.budget = 100;
    v = part(10, 20);
    tap_is_int(link_send(&f.link, &q, &v, 1, &written), 1,
               "what follows waits behind it, though the kernel has room again");
    tap_is_int((long long)written, 5, "nothing overtakes");
    f.budget = 7;
    tap_is_int(outq_flush(&q, &f.link), 7, "a flush takes what it gets");
    v = part(20, 30);
    tap_is_int(link_send(&f.link, &q, &v, 1, NULL), 1, "more behind a half-flushed queue");
    v = part(0, 0);
    tap_is_int(link_send(&f.link, &q, &v, 1, NULL), 1, "nothing to send, but something is queued");
    f.budget = 100;
    tap_is_int(outq_flush(&q, &f.link), 18, "the rest");
    tap_ok(f.n == 30 && memcmp(f.got, text, 30) == 0, "in order");
    tap_is_int(link_send(&f.link, &q, &v, 1, NULL), 0, "nothing to send, nothing queued");
    tap_is_int(outq_flush(&q, &f.link), 0, "an empty flush");
}

static void test_failures(void)
{
    struct fake f;
    struct outq q = {0};
    fake_init(&f, 100, 4);
    struct iovec v = part(0, 10);
    alloc_fail_at(1);
    uint64_t written = 0;
    tap_is_int(link_send(&f.link, &q, &v, 1, &written), -ERR_NOMEM, "no memory for the rest");
    alloc_fail_at(0);
    tap_ok(!q.p && written == 4, "and nothing is half queued");
    f.budget = 0;
    tap_is_int(link_send(&f.link, &q, &v, 1, NULL), 1, "queued");
    f.broken = true;
    tap_is_int(outq_flush(&q, &f.link), -ERR_SYS, "a broken link is told by the flush");
    outq_free(&q);
    tap_is_int(link_send(&f.link, &q, &v, 1, NULL), -ERR_SYS, "and by a send");
    outq_free(&q);
    tap_ok(!q.p && !outq_left(&q), "freeing twice does no harm");
    const struct iovec big = {text, (size_t)UINT32_MAX};
    q.n = 0;
    f.broken = false;
    tap_is_int(outq_add(&q, &big, 1, 0), -ERR_NOMEM, "more than a queue can count is refused");
}

static void pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd))
        tap_bail("socketpair");
}

static void test_plain(void)
{
    int s[2];
    char b[64];
    pair(s);
    struct link k = {.io = {.fd = s[0], .ready = IO_READ | IO_WRITE}, .ops = &link_plain};
    tap_ok(link_recv(&k, b, sizeof b) == -ERR_AGAIN && !(k.io.ready & IO_READ),
           "nothing there: the flag is cleared");
    if (write(s[1], "abcdef", 6) != 6)
        tap_bail("write");
    k.io.ready |= IO_READ;
    tap_ok(link_recv(&k, b, 4) == 4 && (k.io.ready & IO_READ), "a full read: there may be more");
    tap_ok(link_recv(&k, b, 4) == 2 && !(k.io.ready & IO_READ), "a short read: there is no more");
    if (write(s[1], "g", 1) != 1)
        tap_bail("write");
    k.io.ready |= IO_READ | IO_HUP;
    tap_ok(link_recv(&k, b, 4) == 1 && (k.io.ready & IO_READ),
           "a short read after a hang-up: the end has still to be read");
    static char much[1 << 20];
    struct iovec v = {much, sizeof much};
    ssize_t w, total = 0;
    while ((w = link_writev(&k, &v, 1)) > 0)
        total += w;
    tap_ok(w == -ERR_AGAIN && total > 0 && !(k.io.ready & IO_WRITE),
           "a full socket: would block, the flag is cleared");
    shutdown(s[1], SHUT_WR);
    tap_is_int(link_recv(&k, b, 4), 0, "the end");
    close(s[1]);
    tap_is_int(link_writev(&k, &v, 1), -ERR_SYS, "a peer that is gone is an error, not a signal");
    const struct iovec two[2] = {{much, 1}, {much, 1}};
    tap_is_int(link_writev(&k, two, 2), -ERR_SYS, "with several pieces too");
    close(s[0]);
}

static void test_pipe(void)
{
    struct pipes ps;
    int in[2], out[2];
    pipes_init(&ps);
    struct pipe *p = pipe_get(&ps);
    if (!p) {
        printf("# this system gives no large pipes\n");
        pipes_fini(&ps);
        pool_fini(&ps.pool);
        return;
    }
    pair(in);
    pair(out);
    struct link from = {.io = {.fd = in[0], .ready = IO_READ}, .ops = &link_plain};
    struct link to = {.io = {.fd = out[0], .ready = IO_WRITE}, .ops = &link_plain};
    tap_ok(pipe_fill(p, &from, 100) == -ERR_AGAIN && !(from.io.ready & IO_READ),
           "nothing there: the flag is cleared");
    from.io.ready = IO_READ;
    if (write(in[1], "hello, world", 12) != 12)
        tap_bail("write");
    tap_ok(pipe_fill(p, &from, 5) == 5 && p->used == 5, "no more than asked for");
    tap_ok(pipe_drain(p, &to, false) == 5 && p->used == 0, "emptied into the other side");
    char b[64];
    tap_ok(read(out[1], b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0, "the bytes are the bytes");
    tap_ok(pipe_fill(p, &from, 1000) == 7 && p->used == 7, "the rest");
    static char much[1 << 20];
    while (write(out[0], much, sizeof much) > 0)
        continue;
    tap_ok(pipe_drain(p, &to, false) == -ERR_AGAIN && p->used == 7 && !(to.io.ready & IO_WRITE),
           "a full socket: would block, the flag is cleared, the bytes stay");
    close(out[1]);
    tap_is_int(pipe_drain(p, &to, false), -ERR_SYS,
               "a peer that is gone is an error, not a signal");
    pipe_put(&ps, p);
    tap_ok(ps.nspare == 0 && ps.pool.in_use == 0,
           "a pipe that holds bytes of one exchange is not used for another");
    p = pipe_get(&ps);
    shutdown(in[1], SHUT_WR);
    tap_is_int(pipe_fill(p, &from, 100), 0, "the end of the source");
    close(in[1]);
    struct pipe *first = p;
    pipe_put(&ps, p);
    tap_ok(ps.nspare == 1 && pipe_get(&ps) == first && ps.nspare == 0,
           "an empty one is kept and used again");
    pipe_put(&ps, first);
    pipe_put(&ps, NULL);
    alloc_fail_at(1);
    p = pipe_get(&ps);
    tap_ok(p == first, "a kept one needs no memory");
    tap_ok(!pipe_get(&ps), "no memory, no pipe");
    alloc_fail_at(0);
    pipe_put(&ps, p);
    pipes_fini(&ps);
    tap_is_int(ps.pool.in_use, 0, "all are given back");
    pool_fini(&ps.pool);
    close(in[0]);
    close(out[0]);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* splice(2) has no MSG_NOSIGNAL; workers ignore it too */
    test_splits();
    test_order();
    test_failures();
    test_plain();
    test_pipe();
    return tap_done();
}
