/* Hit ratio: synthetic traces replayed against the cache and against an ideal S3-FIFO of the same
 * bytes (no headers, no slabs, no slack) simulated here. (CACHE.md 2.9, T6) */
#include "t/unit/cache_fixture.h"

#include <math.h>
#include <unistd.h>

#define IDS 400000u

enum where { OUT, SMALL, MAIN };
struct ideal {
    uint8_t *where, *freq;
    uint64_t *ghosted; /* clock + 1 when it left the small queue */
    uint32_t *queue[2];
    size_t head[2], tail[2];
    uint64_t bytes[2], size, clock;
};
static uint32_t *size_of;
static struct ideal id;
static char body[1u << 20];

static void push(struct ideal *s, int q, uint32_t k)
{
    s->queue[q][s->tail[q]++ % IDS] = k;
    s->bytes[q] += size_of[k];
    s->where[k] = q ? MAIN : SMALL;
}

static void ideal_evict(struct ideal *s)
{
    const int q = s->bytes[0] > s->size / 10 || s->head[1] == s->tail[1] ? 0 : 1;
    const uint32_t k = s->queue[q][s->head[q]++ % IDS];

    s->bytes[q] -= size_of[k];
    if (s->freq[k] > 0) {
        s->freq[k] = q ? (uint8_t)(s->freq[k] - 1) : 0;
        push(s, 1, k);
        return;
    }
    s->where[k] = OUT;
    if (q == 0) {
        s->clock += size_of[k];
        s->ghosted[k] = s->clock;
    }
}

static bool ideal_get(struct ideal *s, uint32_t k)
{
    if (s->where[k] != OUT) {
        if (s->freq[k] < 3)
            s->freq[k]++;
        return true;
    }
    while (s->bytes[0] + s->bytes[1] + size_of[k] > s->size)
        ideal_evict(s);
    s->freq[k] = 0;
    push(s, s->ghosted[k] && s->clock - s->ghosted[k] < s->size * 9 / 10, k);
    return false;
}

static void ideal_init(struct ideal *s, uint64_t size)
{
    memset(s->where, 0, IDS);
    memset(s->freq, 0, IDS);
    memset(s->ghosted, 0, IDS * sizeof(*s->ghosted));
    memset(s->head, 0, sizeof(s->head));
    memset(s->tail, 0, sizeof(s->tail));
    s->bytes[0] = s->bytes[1] = s->clock = 0;
    s->size = size;
}

/* ---- traces ---- */

static uint64_t seed;
static double *cdf;

static double unit(void)
{
    return (double)(fx_rnd(&seed) >> 11) / 9007199254740992.0;
}

static void zipf_init(uint32_t n, double alpha)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        cdf[i] = sum += pow(i + 1, -alpha);
    for (uint32_t i = 0; i < n; i++)
        cdf[i] /= sum;
}

static uint32_t zipf(uint32_t n)
{
    const double u = unit();
    uint32_t low = 0, high = n - 1;

    while (low < high) {
        const uint32_t mid = (low + high) / 2;

        if (cdf[mid] < u)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static uint32_t web_size(void)
{
    /* Log-normal around 8 KiB, and one in two hundred of some hundred KiB. */
    const double g = sqrt(-2 * log(1 - unit())) * cos(6.283185307 * unit()), v = exp(9.0 + 1.2 * g);

    if (fx_rnd(&seed) % 200 == 0)
        return 100000 + (uint32_t)(fx_rnd(&seed) % 800000);
    return v < 200 ? 200 : v > 900000 ? 900000 : (uint32_t)v;
}

enum kind { ZIPF, CHURN, SCAN, MIXED };
static uint32_t next_id(enum kind kind, uint32_t i)
{
    static uint32_t scan;

    switch (kind) {
    case CHURN: /* popularity moves on, and one in seven is asked for once */
        if (fx_rnd(&seed) % 7 == 0)
            return 200000 + i % 200000;
        return (zipf(40000) + i / 8) % 200000;
    case SCAN: /* every now and then all of a part is read once */
        if (i % 40000 >= 30000)
            return 200000 + scan++ % 150000;
        return zipf(50000);
    case ZIPF:
    case MIXED:
        break;
    }
    return zipf(60000);
}

static void replay(const char *what, enum kind kind, uint64_t bytes, uint32_t requests,
                   double allow)
{
    const struct cache_options o = {.size = bytes, .workers = 2, .slots = 2};
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    uint64_t hits = 0, ideal_hits = 0, hit_bytes = 0, ideal_bytes = 0, all = 0, failed = 0;
    struct cache_worker *w[2];
    struct cache_stat st;
    struct cache *c;
    double ours, best;

    seed = 88172645463325252ull;
    for (uint32_t i = 0; i < IDS; i++)
        size_of[i] = kind == MIXED ? web_size() : 300 + (uint32_t)(fx_rnd(&seed) % 3000);
    ideal_init(&id, bytes);
    if (cache_create(&o, &c) < 0 || cache_join(c, 1u << 8, NULL, NULL, &w[0]) < 0 ||
        cache_join(c, 1u << 8 | 1, NULL, NULL, &w[1]) < 0)
        tap_bail("cache");
    for (uint32_t i = 0; i < requests; i++) {
        const uint32_t k = next_id(kind, i);
        const struct cache_key key = fx_key(c, k);
        const bool late = i > requests / 4;
        struct cache_worker *x = w[i % 2];
        struct cache_hit h;

        if (cache_lookup(x, &key, NULL, &h)) {
            hits += late;
            hit_bytes += late ? size_of[k] : 0;
            cache_release(x, &h);
        } else {
            failed += cache_insert(x, &key, &a, NULL, 0, SLICE(""), slice_of(body, size_of[k])) < 0;
        }
        if (ideal_get(&id, k)) {
            ideal_hits += late;
            ideal_bytes += late ? size_of[k] : 0;
        }
        all += late ? size_of[k] : 0;
    }
    cache_stat(c, &st);
    ours = 100.0 * (double)hits / (requests - requests / 4 - 1);
    best = 100.0 * (double)ideal_hits / (requests - requests / 4 - 1);
    tap_ok(ours > best - allow,
           "%s, %llu MiB: %.2f %% of requests hit, ideal %.2f; bytes %.2f, ideal %.2f", what,
           (unsigned long long)bytes >> 20, ours, best, 100.0 * (double)hit_bytes / (double)all,
           100.0 * (double)ideal_bytes / (double)all);
    printf(
        "# copied %.3f of what was evicted; %llu not stored; %u of %u slabs free, small %llu KiB, "
        "main %llu KiB, pages %llu of %llu\n",
        (double)st.ctr[CACHE_CTR_COPY_BYTES] / ((double)st.ctr[CACHE_CTR_EVICT_BYTES] + 1),
        (unsigned long long)failed, st.slabs_free, st.slabs,
        (unsigned long long)st.small_bytes / 1024, (unsigned long long)st.main_bytes / 1024,
        (unsigned long long)st.pages_used, (unsigned long long)st.pages);
    tap_is_int(failed, 0, "%s: everything was stored", what);
    cache_leave(&w[0]);
    cache_leave(&w[1]);
    cache_close(&c);
}

int main(void)
{
    size_of = malloc(IDS * sizeof(*size_of));
    cdf = malloc(IDS * sizeof(*cdf));
    id.where = malloc(IDS);
    id.freq = malloc(IDS);
    id.ghosted = malloc(IDS * sizeof(*id.ghosted));
    id.queue[0] = malloc(IDS * sizeof(uint32_t));
    id.queue[1] = malloc(IDS * sizeof(uint32_t));
    if (!size_of || !cdf || !id.where || !id.freq || !id.ghosted || !id.queue[0] || !id.queue[1])
        tap_bail("memory");
    memset(body, 'b', sizeof(body));
    zipf_init(60000, 0.9);
    /* What is lost is mostly room: heads, and the ends of slabs of few records. */
    replay("zipf", ZIPF, 16u << 20, 400000, 1.0);
    replay("zipf", ZIPF, 64u << 20, 300000, 1.0);
    zipf_init(40000, 0.8);
    replay("churn", CHURN, 16u << 20, 400000, 1.0);
    zipf_init(50000, 0.9);
    replay("scan", SCAN, 16u << 20, 400000, 1.0);
    zipf_init(60000, 0.9);
    /* Few objects for their bytes: a ghost's place is rarely wanted by another, so that its age has
     * to take it away. */
    replay("mixed sizes", MIXED, 64u << 20, 250000, 1.0);
    replay("mixed sizes", MIXED, 16u << 20, 150000, 1.0);
    free(size_of);
    free(cdf);
    free(id.where);
    free(id.freq);
    free(id.ghosted);
    free(id.queue[0]);
    free(id.queue[1]);
    return tap_done();
}
