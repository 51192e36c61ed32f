/* random_two: two servers drawn at random by weight; the less loaded one wins (Mitzenmacher 2001,
 * the power of two choices). A look at two servers costs the same in a group of two and of
 * thousands. */
#include "worker/upstream/balance_algo.h"

#define DRAWS 16  /* draws for one candidate before the search becomes a scan */
#define SMALL 64u /* servers that a scan may always cost */

/* A draw by weight: uniform, accepted with probability weight / greatest weight. When luck runs
 * out: in a large group the last one that could serve, weight or not; -1 in a small one and when no
 * draw hit one that could serve. */
static int draw(struct balance_group *g, const struct balance_query *q, int not )
{
    int last = -1;

    for (int i = 0; i < DRAWS; i++) {
        const uint64_t r = balance_random(g);
        const uint32_t index = q->member[(uint32_t)((r >> 32) * q->n >> 32)];

        if ((int)index == not || !balance_eligible(g, q, index))
            continue;
        balance_refresh(g, q, index);
        if ((r & 0xffffffffu) * g->max_weight >> 32 < g->server[index].weight)
            return (int)index;
        last = (int)index;
    }
    return q->n > SMALL ? last : -1;
}

/* When draws fail (few eligible ones among many, or very unlike weights): one pass that keeps each
 * with the right probability. */
static int scan(struct balance_group *g, const struct balance_query *q, int not )
{
    uint64_t total = 0;
    int chosen = -1;

    for (uint32_t i = 0; i < q->n; i++) {
        const uint32_t index = q->member[i];

        if ((int)index == not || !balance_eligible(g, q, index))
            continue;
        balance_refresh(g, q, index);
        total += g->server[index].weight;
        if (balance_random(g) % total < g->server[index].weight)
            chosen = (int)index;
    }
    return chosen;
}

int balance_random_two(struct balance_group *g, const struct balance_query *q)
{
    int a, b;

    if (q->n == 0)
        return -1;
    a = draw(g, q, -1);
    if (a < 0)
        a = scan(g, q, -1);
    if (a < 0 || q->n == 1)
        return a;
    b = draw(g, q, a);
    if (b < 0 && q->n <= SMALL)
        b = scan(g, q, a);
    return b >= 0 && balance_lighter(&g->server[b], &g->server[a]) ? b : a;
}
