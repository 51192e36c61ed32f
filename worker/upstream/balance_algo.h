/* What a balancing algorithm sees; for balance*.c only. */
#ifndef WORKER_UPSTREAM_BALANCE_ALGO_H
#define WORKER_UPSTREAM_BALANCE_ALGO_H

#include "worker/upstream/balance.h"

/* One search: among which servers. The algorithm picks; balance.c enters the server, and asks again
 * with it in `skip` if that fails. */
struct balance_query {
    const uint32_t *member; /* indices of the tier: primaries or backups */
    uint32_t n;
    uint64_t skip[BALANCE_SERVERS / 64];
    uint64_t key_hash, now_ms, now_us;
    bool panic; /* ejected ones count as usable */
};

static inline bool balance_eligible(const struct balance_group *g, const struct balance_query *q,
                                    uint32_t index)
{
    const struct balance_server *s = &g->server[index];

    if (q->skip[index / 64] >> (index % 64) & 1 || s->unaddressed)
        return false;
    return s->cached == BALANCE_UP || s->cached == BALANCE_TRIAL ||
           (s->cached == BALANCE_EJECTED && q->panic);
}
/* Brings load and weight of a server up to date (2 ms). */
void balance_refresh(struct balance_group *g, const struct balance_query *q, uint32_t index);
/* Is a less loaded than b, for their weights? */
static inline bool balance_lighter(const struct balance_server *a, const struct balance_server *b)
{
    return (uint64_t)a->load * b->weight < (uint64_t)b->load * a->weight;
}
uint64_t balance_random(struct balance_group *g);

/* Each returns an eligible member's index, or -1 when there is none. */
#define BALANCE(id, function, name)                                                                \
    int balance_##function(struct balance_group *g, const struct balance_query *q);
#include "worker/upstream/balance.def"
#undef BALANCE

#endif
