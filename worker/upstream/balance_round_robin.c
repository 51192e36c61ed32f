/* round_robin: smooth weighted round robin. Each turn every server gains its weight, the richest
 * serves and pays the sum: a server of weight 3 among ones serves every other time or so and never
 * three times in a row. */
#include "worker/upstream/balance_algo.h"

int balance_round_robin(struct balance_group *g, const struct balance_query *q)
{
    int64_t total = 0;
    int best = -1;

    for (uint32_t i = 0; i < q->n; i++) {
        const uint32_t index = q->member[i];
        struct balance_server *s = &g->server[index];

        if (!balance_eligible(g, q, index))
            continue;
        balance_refresh(g, q, index);
        total += s->weight;
        s->rr_current += s->weight;
        if (best < 0 || s->rr_current > g->server[best].rr_current)
            best = (int)index;
    }
    if (best >= 0)
        g->server[best].rr_current -= total;
    return best;
}
