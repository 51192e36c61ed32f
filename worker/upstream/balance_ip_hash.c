/* ip_hash: weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer
 * and Schomaker 2005). Each server draws a number from the key and its own identity; the best draw
 * wins. A server that goes moves only its own keys, one that comes back takes only these, and all
 * workers agree without talking. */
#include "worker/upstream/balance_algo.h"

static uint64_t mix(uint64_t x)
{
    for (int i = 0; i < 3; i++) {
        x ^= x >> 29;
        x *= 0x9e3779b97f4a7c15ull;
        x ^= x >> 32;
    }
    return x;
}

/* -log2 of v / 2^64: exponent from the leading zeros; mantissa by a parabola, within 0.008. Any
 * growing function keeps the promise above, this one also keeps the shares within a percent of the
 * weights, and every build computes the same. */
static double minus_log2(uint64_t v)
{
    const int zeros = __builtin_clzll(v | 1);
    const double f = (double)((v << zeros) << 1) / 18446744073709551616.0;

    return (double)(zeros + 1) - (f + 0.3431 * f * (1.0 - f));
}

int balance_ip_hash(struct balance_group *g, const struct balance_query *q)
{
    double most = -1;
    int best = -1;

    for (uint32_t i = 0; i < q->n; i++) {
        const uint32_t index = q->member[i];
        const struct balance_server *s = &g->server[index];
        double cost, score;

        if (!balance_eligible(g, q, index))
            continue;
        balance_refresh(g, q, index);
        cost = minus_log2(mix(q->key_hash ^ mix(s->conf->key)));
        score = (double)s->weight / (cost > 1e-9 ? cost : 1e-9);
        if (score > most) {
            most = score;
            best = (int)index;
        }
    }
    return best;
}
