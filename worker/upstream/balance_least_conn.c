/* least_conn: the fewest requests in flight for its weight, over all workers. Equals take turns by
 * smooth weighted round robin, so that an idle group does not send everything to its first server.
 */
#include "worker/upstream/balance_algo.h"

int balance_least_conn(struct balance_group *g, const struct balance_query *q)
{
    int64_t total = 0;
    int least = -1, best = -1;

    for (uint32_t i = 0; i < q->n; i++) {
        const uint32_t index = q->member[i];

        if (!balance_eligible(g, q, index))
            continue;
        balance_refresh(g, q, index);
        if (least < 0 || balance_lighter(&g->server[index], &g->server[least]))
            least = (int)index;
    }
    if (least < 0)
        return -1;
    for (uint32_t i = 0; i < q->n; i++) {
        const uint32_t index = q->member[i];
        struct balance_server *s = &g->server[index];

        if (!balance_eligible(g, q, index) || balance_lighter(&g->server[least], s))
            continue;
        total += s->weight;
        s->rr_current += s->weight;
        if (best < 0 || s->rr_current > g->server[best].rr_current)
            best = (int)index;
    }
    g->server[best].rr_current -= total;
    return best;
}
