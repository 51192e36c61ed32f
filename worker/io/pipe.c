/* Pipes for splice(2); see pipe.h. */
#include "worker/io/pipe.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIPE_REFUSED_MS 1000u

void pipes_init(struct pipes *ps)
{
    *ps = (struct pipes){0};
    pool_init(&ps->pool, "pipes", sizeof(struct pipe));
    list_init(&ps->spare);
}

static void pipe_close(struct pipes *ps, struct pipe *p)
{
    close(p->fd[0]);
    close(p->fd[1]);
    pool_put(&ps->pool, p);
}

void pipes_fini(struct pipes *ps)
{
    while (!list_empty(&ps->spare)) {
        struct pipe *p = CONTAINER(ps->spare.next, struct pipe, link);
        list_remove(&p->link);
        pipe_close(ps, p);
    }
}

struct pipe *pipe_get(struct pipes *ps)
{
    if (!list_empty(&ps->spare)) {
        struct pipe *p = CONTAINER(ps->spare.next, struct pipe, link);
        list_remove(&p->link);
        ps->nspare--;
        return p;
    }
    if (ps->refused && clock_ms() - ps->refused_ms < PIPE_REFUSED_MS)
        return NULL;
    struct pipe *p = pool_get(&ps->pool);
    if (!p)
        return NULL;
    if (pipe2(p->fd, O_NONBLOCK | O_CLOEXEC)) {
        pool_put(&ps->pool, p);
        return NULL;
    }
    int size = fcntl(p->fd[1], F_SETPIPE_SZ, (int)PIPE_SIZE);
    ps->refused = size < (int)PIPE_LEAST;
    if (ps->refused) {
        ps->refused_ms = clock_ms();
        pipe_close(ps, p);
        return NULL;
    }
    return p;
}

void pipe_put(struct pipes *ps, struct pipe *p)
{
    if (!p)
        return;
    if (p->used || ps->nspare >= PIPES_KEPT) {
        pipe_close(ps, p);
        return;
    }
    list_push(&ps->spare, &p->link);
    ps->nspare++;
}

ssize_t pipe_fill(struct pipe *p, struct link *from, uint64_t most)
{
    size_t n = most < PIPE_SIZE ? (size_t)most : PIPE_SIZE;
    ssize_t r;
    do
        r = splice(from->io.fd, NULL, p->fd[1], NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        from->io.ready &= (uint8_t)~IO_READ;
        return errno == EAGAIN ? -ERR_AGAIN : -ERR_SYS;
    }
    p->used += (uint32_t)r;
    return r;
}

ssize_t pipe_drain(struct pipe *p, struct link *to, bool more)
{
    ssize_t r;
    do
        r = splice(p->fd[0], NULL, to->io.fd, NULL, p->used,
                   SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0u));
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        to->io.ready &= (uint8_t)~IO_WRITE;
        return errno == EAGAIN ? -ERR_AGAIN : -ERR_SYS;
    }
    p->used -= (uint32_t)r;
    return r;
}
