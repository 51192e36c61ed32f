/* A link carries bytes: plain TCP or unix here, TLS and others behind the same calls. It keeps the
 * edge-triggered readiness flags of its io true to what the kernel said last. */
#ifndef WORKER_IO_LINK_H
#define WORKER_IO_LINK_H

#include "worker/io/loop.h"

#include <sys/types.h>
#include <sys/uio.h>

struct link;
struct link_ops {
    /* > 0 bytes; 0 the peer finished sending; -ERR_AGAIN; -ERR_SYS the link is broken. */
    ssize_t (*recv)(struct link *k, char *p, size_t n);
    /* Bytes taken (may be short), -ERR_AGAIN, -ERR_SYS. What a TLS link took may still be on its
     * way to the kernel: link.unsent. */
    ssize_t (*writev)(struct link *k, const struct iovec *iov, int n);
    /* NULL where nothing is ever unsent. Writes what is: 0 all of it, -ERR_AGAIN, -ERR_SYS. */
    int (*flush)(struct link *k);
    int (*shutdown)(struct link *k); /* no more writes */
    void (*close)(struct link *k);   /* also io_close(); a TLS one says goodbye unless cut */
    /* the fd's bytes are the bytes: splice(2) may be used on it */
    bool splice;
};
struct tls_conn;
struct link {
    struct io io;
    const struct link_ops *ops;
    struct tls_conn *tls; /* NULL: plain; see tls.h */
    uint32_t unsent;      /* bytes taken by writev that the kernel has not got yet */
    bool cut;             /* what was sent is not the whole: the end must not look like one */
};
extern const struct link_ops link_plain;

static inline ssize_t link_recv(struct link *k, char *p, size_t n)
{
    return k->ops->recv(k, p, n);
}
static inline ssize_t link_writev(struct link *k, const struct iovec *iov, int n)
{
    return k->ops->writev(k, iov, n);
}

/* Bytes that the kernel did not take yet. Heap memory is held only while there are any. */
struct outq {
    char *p;
    uint32_t off, n, cap;
};
/* Appends what is behind the first `skip` bytes of iov. -ERR_NOMEM. */
int outq_add(struct outq *q, const struct iovec *iov, int n, size_t skip);
/* Writes as much as the link takes, what is unsent first; frees the memory when empty. Bytes
 * written (0 possible), -ERR_SYS. */
ssize_t outq_flush(struct outq *q, struct link *k);
void outq_free(struct outq *q);
static inline size_t outq_left(const struct outq *q)
{
    return q->n - q->off;
}
/* Bytes that the kernel has not got: a link is written out when this is 0. */
static inline size_t link_backlog(const struct link *k, const struct outq *q)
{
    return k->unsent + outq_left(q);
}
/* Writes iov behind what is queued; queues the rest. 0 the kernel has everything, 1 there is a
 * backlog, -ERR_SYS, -ERR_NOMEM. *ret_written (may be NULL) grows by the bytes the link took. */
int link_send(struct link *k, struct outq *q, const struct iovec *iov, int n,
              uint64_t *ret_written);

#endif
