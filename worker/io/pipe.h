/* Pipes for splice(2): bytes move from socket to socket inside the kernel. A few are kept for
 * reuse. */
#ifndef WORKER_IO_PIPE_H
#define WORKER_IO_PIPE_H

#include "worker/io/link.h"

#define PIPE_SIZE (256u * 1024u)
/* a smaller one (the user's share of pipe memory is used up) is worse than copying */
#define PIPE_LEAST (128u * 1024u)
#define PIPES_KEPT 32u

struct pipe {
    struct list link;
    int fd[2];
    uint32_t used; /* bytes inside */
};
struct pipes {
    struct pool pool;
    struct list spare;
    uint32_t nspare;
    bool refused; /* the system gave only small ones: do not ask again soon */
    uint64_t refused_ms;
};
void pipes_init(struct pipes *ps);
void pipes_fini(struct pipes *ps);
/* NULL when the system has none to give: copy instead. */
struct pipe *pipe_get(struct pipes *ps);
void pipe_put(struct pipes *ps, struct pipe *p); /* one that still holds bytes is closed */
/* Both links must have ops->splice. Bytes moved, 0 end of the source, -ERR_AGAIN, -ERR_SYS;
 * readiness flags are kept true. */
ssize_t pipe_fill(struct pipe *p, struct link *from, uint64_t most);
ssize_t pipe_drain(struct pipe *p, struct link *to, bool more);

#endif
