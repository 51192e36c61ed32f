/* A generation: one configuration and the processes that run it. */
#ifndef MASTER_GENERATION_H
#define MASTER_GENERATION_H

#include "master/caches.h"
#include "master/child.h"

struct generation {
    struct list link; /* master.generations, oldest first */
    uint32_t number;
    enum gen_state state;
    struct conf_snapshot *snapshot; /* owned; NULL when inherited over a binary upgrade */
    struct config *config;          /* owned; NULL when inherited */
    bool holds;                     /* listeners and log files are referenced */
    bool holds_logs;
    uint32_t *server_id, *resolve_id; /* [config.nserver] */
    uint32_t *series_id;              /* [config.nroute] */
    uint32_t *cert_id;                /* [config.ncertificate] */
    struct cache_home **home;         /* [config.ncache] */
    struct cache **cache;             /* theirs */
    int *persist;                     /* [config.ncache]: directories on disk, or -1 */
    int *log_fd;                      /* [config.nlog] */
    int error_fd;                     /* of the error log; -1 = syslog */
    struct child *child;              /* [nchild], the helper last */
    uint32_t nchild;
    uint32_t nworker;
    uint64_t since_ms;     /* of the present state */
    struct ev_timer limit; /* end of the drain time, then of the stop time */
    struct worker_drain drain;
};

/* Makes a generation of c: registers its names in the segment, opens its sockets and log files.
 * Takes snapshot and config over, also on failure. -ERR_INVAL (diagnostics say why), -ERR_NOMEM,
 * -ERR_FULL. */
int generation_new(uint32_t number, struct conf_snapshot *s, struct config *c, struct conf_diags *d,
                   struct generation **ret);
/* One of which only processes are known: nchild of them, to be filled in. */
int generation_inherit(uint32_t number, uint32_t nchild, enum gen_state state,
                       struct generation **ret);
/* When its children are filled in: limits run on where they were. */
void generation_resume(struct generation *g);
/* The error log and its level as the generation's configuration wants them, for this process. */
void generation_use_log(const struct generation *g);
/* Forks all children. On failure the ones forked are ended and the generation goes away by itself.
 */
int generation_start(struct generation *g);
bool generation_ready(const struct generation *g); /* every child is */
/* Ready -> live: sockets listen, children accept. -ERR_SYS: *ret_text names the address. */
int generation_accept(struct generation *g, const char **ret_text);
/* Live -> draining. What no other generation needs of sockets is closed. successor (may be NULL):
 * the generation that takes over idle connections and tunnels. */
void generation_drain(struct generation *g, struct generation *successor, uint64_t request_ms,
                      uint64_t tunnel_ms);
/* A draining one gets a newer successor for what it can hand over; its time goes on. */
void generation_reintroduce(struct generation *g, struct generation *successor);
void generation_stop(
    struct generation *g); /* M_STOP, and SIGKILL for what is still there 5 s later */
void generation_kill(struct generation *g); /* a start that failed: SIGKILL */
/* A child was reaped: frees the generation when it was the last one. */
void generation_check_gone(struct generation *g);
uint32_t generation_living(const struct generation *g);
/* What its workers hold, from the segment. */
struct generation_load {
    uint64_t connections, requests, tunnels;
};
void generation_load(const struct generation *g, struct generation_load *ret);
/* New descriptors after a reopen. */
void generation_reopen(struct generation *g);
struct child *generation_find(pid_t pid); /* in all generations */
struct generation *generation_oldest_draining(unsigned *ret_count);

#endif
