/* Balancing: which server of a group gets the request. One file per algorithm; the table below
 * names them all. */
#ifndef WORKER_UPSTREAM_BALANCE_H
#define WORKER_UPSTREAM_BALANCE_H

#include "config/config.h"
#include "shm/server.h"

enum balance_cached { BALANCE_OUT, BALANCE_UP, BALANCE_TRIAL, BALANCE_EJECTED };

/* One server as the balancer of a worker sees it. */
struct balance_server {
    const struct conf_server *conf;
    uint32_t id; /* shm server id */
    uint32_t
        weight; /* thousandths: configured or the operator's, reduced during slow start; never 0 */
    uint32_t load;      /* cached sum of requests in flight over all workers, plus our own since */
    int64_t rr_current; /* smooth weighted round robin's state */
    uint64_t load_us;   /* when load and weight were looked at; again when older than 2 ms */
    enum balance_cached cached; /* as of the last look over the group */
    bool backup;
    bool unaddressed; /* set by the owner while no address of it is known: passed over */
};
struct balance_group {
    struct segment *segment;
    uint32_t slot;
    slot_oid me;
    const struct conf_upstream *conf;
    struct balance_server *server;
    size_t n;
    uint32_t *order; /* indices: primaries, then backups */
    uint32_t nprimary;
    uint32_t max_weight; /* of any server, thousandths */
    uint64_t rng;        /* xorshift state, never 0; tests set it */
    struct server_policy policy;
    /* The last look over the group; taken again when server_epoch() moved, an ejection ended, or
     * 100 ms passed. */
    uint32_t epoch;
    uint64_t look_again_ms, looked_ms;
    uint32_t ejected; /* of all servers */
    uint32_t up;      /* primaries that are well */
    bool looked, panic;
    uint64_t sums_us; /* retry budget: when active and retrying were summed */
    uint64_t active, retrying;
};
/* server_id: shm ids in the order of conf's servers. The arena holds the arrays. -ERR_NOMEM,
 * -ERR_RANGE (over BALANCE_SERVERS). */
#define BALANCE_SERVERS SHM_SERVERS
int balance_group_init(struct balance_group *g, const struct conf_upstream *conf, struct segment *s,
                       uint32_t slot, const uint32_t *server_id, struct arena *a);
/* The algorithm's name as in the configuration. */
const char *balance_name(enum conf_balance b);
/* Picks a server that is usable (admin ready, not ejected, address known), not in tried[] (bits by
 * index), and below its max_conns, and enters it (server_enter). Panic mode: when fewer than 30 %
 * of the primaries are usable, all are used. Backups only when no primary is usable. key_hash feeds
 * ip_hash (rendezvous hashing with weights: a server that goes moves only its own keys). A retry
 * whose primaries are all tried may go to a backup. Returns the index with *ret_probe, or
 * -ERR_QUEUE_FULL (all usable ones are at max_conns: wait), or -ERR_NO_SERVER. */
int balance_pick(struct balance_group *g, uint64_t key_hash, const uint64_t *tried, uint64_t now_ms,
                 bool *ret_probe);
/* Retry budget of the group: may one more retry be in flight? Sums active and retrying over the
 * rows; for large groups at most every 2 ms. The caller counts its retries in server_row.retrying.
 */
bool balance_retry_allowed(struct balance_group *g);
/* How an attempt ended. Balances server_enter; returns a slot to kick or UINT32_MAX. err 0 =
 * success, else enum err (either sign): one of UPSTREAM source counts against the server
 * (reused_closed excepted), any other says nothing about it. gateway_status: 502/503/504 from the
 * server count as failures for ejection too. Counts requests and failures in the server's row. */
uint32_t balance_done(struct balance_group *g, int index, int err, bool gateway_status,
                      uint64_t now_ms, bool *ret_ejected);

#endif
