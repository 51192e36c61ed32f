/* The event loop of a worker: one epoll, edge-triggered connections registered once, timers, work
 * left for the next turn, and objects that are freed when the turn is over, so that an event of
 * this turn can never meet a reused object. */
#ifndef WORKER_IO_LOOP_H
#define WORKER_IO_LOOP_H

#include "base/list.h"
#include "base/pool.h"
#include "worker/io/timer.h"

enum {
    IO_READ = 1,  /* may be readable: an edge came and no read has come up short since */
    IO_WRITE = 2, /* may be writable */
    IO_HUP = 4,   /* the peer finished sending, or reset: reads must go on to the end */
    IO_ERR = 8    /* EPOLLHUP or EPOLLERR: both directions are gone */
};
struct io {
    int fd; /* -1 once closed */
    uint8_t ready;
    uint8_t kind; /* free for the owner */
    bool queued;  /* on the loop's list for the next turn */
    void (*handler)(struct io *io);
    struct list again;
};

/* The largest head that can be configured (256 KiB), kept from earlier reads, and a read behind it.
 */
#define LOOP_SCRATCH (512u * 1024u)
struct loop {
    int ep;
    bool stop;
    struct timers timers;
    struct list again;          /* struct io.again: called in the next turn without waiting */
    struct list dead;           /* struct loop_corpse: until the turn is over */
    struct list done;           /* the same, until the handler returns */
    void (*on_turn)(void *arg); /* end of each turn */
    void *arg;
    uint64_t turns;
    char *scratch;      /* LOOP_SCRATCH bytes, valid during one handler: reads land here first */
    char *scratch_head; /* LOOP_SCRATCH bytes: heads being written */
};
/* Overlays a part of a dead object that stale events do not read (its timer, once stopped). */
struct loop_corpse {
    struct list link;
    struct pool *pool;
    void *obj;
};

int loop_init(struct loop *l);
void loop_fini(struct loop *l);
/* Runs until l->stop. 0, or -ERR_SYS. */
int loop_run(struct loop *l);

/* Both directions, edge-triggered; once in a connection's life. 0 or -ERR_SYS. */
int io_add(struct loop *l, struct io *io);
/* Level-triggered, input only: listeners, channels. exclusive: EPOLLEXCLUSIVE, for sockets shared
 * by workers. */
int io_add_level(struct loop *l, struct io *io, bool exclusive);
void io_remove(struct loop *l, struct io *io);
/* Calls the handler again in the next turn: a budget ran out, there is more to do. */
void io_again(struct loop *l, struct io *io);
void io_close(struct io *io); /* closes the fd and forgets queued work */
/* Gives obj back to its pool at the end of the turn; c lies somewhere inside it. */
void loop_bury(struct loop *l, struct loop_corpse *c, void *obj, struct pool *pool);
/* The same as soon as the handler that runs returns: for what no event leads to. Much of it comes
 * and goes in a turn, and what is taken again at once is still in the CPU's cache. */
void loop_bury_soon(struct loop *l, struct loop_corpse *c, void *obj, struct pool *pool);
void loop_bury_dead(struct loop *l); /* all of it now, outside of a turn */

#endif
