/* Plain links and queued output; see link.h. */
#include "worker/io/link.h"

#include "base/arena.h"
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static ssize_t plain_recv(struct link *k, char *p, size_t n)
{
    ssize_t r;
    do
        r = recv(k->io.fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        k->io.ready &= (uint8_t)~IO_READ;
        return errno == EAGAIN ? -ERR_AGAIN : -ERR_SYS;
    }
    /* A short read means that the queue is empty (epoll(7)); after a hang-up the end has still to
     * be read. */
    if ((size_t)r < n && !(k->io.ready & IO_HUP))
        k->io.ready &= (uint8_t)~IO_READ;
    return r;
}

static ssize_t plain_writev(struct link *k, const struct iovec *iov, int n)
{
    struct msghdr m = {.msg_iovlen = (size_t)n};
    memcpy(&m.msg_iov, &iov, sizeof iov); /* sendmsg() does not write through it */
    ssize_t r;
    do {
        if (n == 1)
            r = send(k->io.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
        else
            r = sendmsg(k->io.fd, &m, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    if (r < 0) {
        k->io.ready &= (uint8_t)~IO_WRITE;
        return errno == EAGAIN ? -ERR_AGAIN : -ERR_SYS;
    }
    return r;
}

static int plain_shutdown(struct link *k)
{
    return shutdown(k->io.fd, SHUT_WR) ? -ERR_SYS : 0;
}

static void plain_close(struct link *k)
{
    io_close(&k->io);
}

const struct link_ops link_plain = {.recv = plain_recv,
                                    .writev = plain_writev,
                                    .shutdown = plain_shutdown,
                                    .close = plain_close,
                                    .splice = true};

static bool outq_reserve(struct outq *q, size_t more)
{
    if (q->off) {
        memmove(q->p, q->p + q->off, q->n - q->off);
        q->n -= q->off;
        q->off = 0;
    }
    if (more > UINT32_MAX / 2 - q->n)
        return false;
    size_t need = q->n + more;
    if (need <= q->cap)
        return true;
    size_t cap = need < 4096 ? 4096 : (need + 4095) & ~(size_t)4095;
    char *p = alloc_should_fail() ? NULL : realloc(q->p, cap);
    if (!p)
        return false;
    q->p = p;
    q->cap = (uint32_t)cap;
    return true;
}

int outq_add(struct outq *q, const struct iovec *iov, int n, size_t skip)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (total <= skip)
        return 0;
    if (!outq_reserve(q, total - skip))
        return -ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        size_t len = iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        memcpy(q->p + q->n, (const char *)iov[i].iov_base + skip, len - skip);
        q->n += (uint32_t)(len - skip);
        skip = 0;
    }
    return 0;
}

void outq_free(struct outq *q)
{
    free(q->p);
    *q = (struct outq){0};
}

ssize_t outq_flush(struct outq *q, struct link *k)
{
    ssize_t total = 0;
    if (k->unsent) {
        int e = k->ops->flush(k);
        if (e < 0)
            return e == -ERR_AGAIN ? 0 : e;
    }
    while (q->off < q->n) {
        struct iovec v = {q->p + q->off, q->n - q->off};
        ssize_t w = link_writev(k, &v, 1);
        if (w == -ERR_AGAIN)
            return total;
        if (w < 0)
            return w;
        q->off += (uint32_t)w;
        total += w;
    }
    if (q->p)
        outq_free(q);
    return total;
}

int link_send(struct link *k, struct outq *q, const struct iovec *iov, int n, uint64_t *ret_written)
{
    size_t total = 0, done = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (!outq_left(q) && total) {
        ssize_t w = link_writev(k, iov, n);
        if (w < 0 && w != -ERR_AGAIN)
            return (int)w;
        done = w > 0 ? (size_t)w : 0;
        if (ret_written)
            *ret_written += done;
    }
    if (done == total)
        return link_backlog(k, q) ? 1 : 0;
    int e = outq_add(q, iov, n, done);
    return e < 0 ? e : 1;
}
