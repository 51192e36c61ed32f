/* What a worker process is made of. Between the files of worker/ only. */
#ifndef WORKER_STATE_H
#define WORKER_STATE_H

#include "base/msg.h"
#include "worker/cache/cache.h"
#include "worker/client/handover.h"
#include "worker/filter/filter.h"
#include "worker/io/tls.h"
#include "worker/log/access.h"
#include "worker/upstream/upstream.h"
#include "worker/worker.h"

struct worker {
    struct worker_boot *boot;
    struct loop loop;
    struct io channel, kick;
    struct timer heartbeat, log_due, drain_due, tunnel_due, level_due;
    struct counter_row *ctr;
    struct stream_env streams;
    struct tls *tls; /* made as root, before anything else; NULL in the helper */
    struct upstreams upstreams;
    struct caches caches;
    struct filters filters;
    struct clients clients;
    struct handover handover;
    struct access_logs *logs;
    struct persists *persists; /* the helper's, as what follows */
    struct recode *recode;
    struct cache_worker **joined; /* by conf_cache.id; helper_joined() */
    struct resolver *resolver;
    struct timer resolve_due;
    struct list watched; /* the resolver's sockets */
    struct pool watches;
    enum log_level level_before;
    bool log_dirty, draining, orphan, ready_sent;
    uint32_t conns_peak; /* since the heap was trimmed */
    uint64_t trimmed_ms;
    int status;
};

/* channel.c */
int channel_open(struct worker *w);
void channel_ready(struct worker *w);
void channel_failed(struct worker *w, const char *text);
void channel_drained(struct worker *w);

/* certfile.c */
/* As root, before anything else. Negative: the master has been told why. */
int certfile_init(struct worker *w);
void certfile_message(struct worker *w, const struct msg *m); /* M_CERT_FILES, M_CERT_GONE */

/* drain.c */
void drain_init(struct worker *w);
/* successor: channel or -1; ours */
void drain_begin(struct worker *w, uint64_t request_ms, uint64_t tunnel_ms, int successor);
void drain_stop_now(struct worker *w);
void drain_check(struct worker *w); /* each turn: is anything left? */

/* record.c */
void record_log(const struct stream *s);
void record_turn(struct worker *w);
void record_init(struct worker *w);

/* persist.c */
int persist_init(struct worker *w);
void persist_fini(struct worker *w);

/* recode.c */
void recode_init(struct worker *w);       /* a worker may ask */
int recode_helper_init(struct worker *w); /* the helper does it */
void recode_helper_fini(struct worker *w);
void recode_message(struct worker *w, const struct msg *m); /* M_RECODE */

/* helper.c */
int helper_init(struct worker *w);
void helper_fini(struct worker *w);
/* The helper's side of a cache, for all that it does there: a slot has one. NULL: not to be had,
 * which was logged. */
struct cache_worker *helper_joined(struct worker *w, size_t cache);

#endif
