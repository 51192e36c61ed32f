/* Balancing: which server of a group gets the request. One file per algorithm; the table below names them all. */
#ifndef WORKER_UPSTREAM_BALANCE_H
#define WORKER_UPSTREAM_BALANCE_H

#include "config/config.h"
#include "shm/server.h"

/* One server as the balancer of a worker sees it. */
struct balance_server {
    const struct conf_server *conf;
    uint32_t id;                  /* shm server id */
    uint32_t weight;              /* effective: override, slow start */
    uint32_t load;                /* cached sum of requests in flight over all workers, plus our own since */
    int32_t rr_current;           /* smooth weighted round robin's state */
    bool backup;
};
struct balance_group {
    struct segment *segment;
    uint32_t slot;
    slot_oid me;
    const struct conf_upstream *conf;
    struct balance_server *server;
    size_t n;
    uint64_t load_refreshed_us;   /* loads are summed again when older than 2 ms */
    uint64_t rng;                 /* xorshift state */
    struct server_policy policy;
};
int balance_group_init(struct balance_group *g, const struct conf_upstream *conf, struct segment *s, uint32_t slot,
                       const uint32_t *server_id, struct arena *a);
/* Picks a server that is usable (admin ready, not ejected, address known), not in tried[] (bits by index), and below its max_conns, and
 * enters it (server_enter). Panic mode: when fewer than 30 % of the primaries are usable, all are used. Backups only when no primary
 * is usable. key_hash feeds ip_hash (rendezvous hashing with weights: a server that goes moves only its own keys).
 * Returns the index with *ret_probe, or -ERR_QUEUE_FULL (all usable ones are at max_conns: wait), or -ERR_NO_SERVER. */
int balance_pick(struct balance_group *g, uint64_t key_hash, const uint64_t *tried, uint64_t now_ms, bool *ret_probe);
/* Retry budget of the group: may one more retry be in flight? Sums active and retrying over the rows. */
bool balance_retry_allowed(struct balance_group *g);
/* How an attempt ended. Balances server_enter; returns a slot to kick or UINT32_MAX. err 0 = success, else enum err. gateway_status:
 * 502/503/504 from the server count as failures for ejection too. */
uint32_t balance_done(struct balance_group *g, int index, int err, bool gateway_status, uint64_t now_ms, bool *ret_ejected);

#endif
