/* Balancing: the view of a group, tiers, entering the picked server, the retry budget, and how
 * attempts end. */
#include "worker/upstream/balance.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "worker/upstream/balance_algo.h"

#include <sys/random.h>

#define LOAD_AGE_US   2000u
#define LOOK_AGE_MS   100u
#define PANIC_PERCENT 30u
#define RETRY_LEAST   3u
#define SMALL_GROUP   64u
#define ROUNDS        8u
#define SLOW_LEAST    10u /* percent of the weight at the beginning of slow start */

static const struct {
    const char *name;
    int (*pick)(struct balance_group *g, const struct balance_query *q);
} algorithms[] = {
#define BALANCE(id, function, text) [CONF_BALANCE_##id] = {text, balance_##function},
#include "worker/upstream/balance.def"
#undef BALANCE
};

const char *balance_name(enum conf_balance b)
{
    return (size_t)b < sizeof(algorithms) / sizeof(algorithms[0]) ? algorithms[b].name : "";
}

/* xorshift64*, Vigna 2016: cheap and good enough to spread load. */
uint64_t balance_random(struct balance_group *g)
{
    g->rng ^= g->rng >> 12;
    g->rng ^= g->rng << 25;
    g->rng ^= g->rng >> 27;
    return g->rng * 0x2545f4914f6cdd1dull;
}

int balance_group_init(struct balance_group *g, const struct conf_upstream *conf, struct segment *s,
                       uint32_t slot, const uint32_t *server_id, struct arena *a)
{
    uint32_t at = 0;

    memset(g, 0, sizeof(*g));
    g->segment = s;
    g->slot = slot;
    g->me = slot_owner_id(s, slot);
    g->conf = conf;
    g->n = conf->k.server.n;
    if (g->n > BALANCE_SERVERS)
        return -ERR_RANGE;
    g->server = ARENA_ARRAY(a, struct balance_server, g->n ? g->n : 1);
    g->order = ARENA_ARRAY(a, uint32_t, g->n ? g->n : 1);
    if (!g->server || !g->order)
        return -ERR_NOMEM;
    for (int backup = 0; backup < 2; backup++) {
        for (uint32_t i = 0; i < g->n; i++) {
            if (conf->k.server.v[i].backup == (backup != 0))
                g->order[at++] = i;
        }
        if (!backup)
            g->nprimary = at;
    }
    for (size_t i = 0; i < g->n; i++) {
        struct balance_server *b = &g->server[i];

        b->conf = &conf->k.server.v[i];
        b->id = server_id[i];
        b->backup = b->conf->backup;
        b->weight = (b->conf->weight ? b->conf->weight : 1) * 1000;
    }
    g->policy.max_fails = (uint32_t)conf->k.max_fails;
    g->policy.window_ms = (uint32_t)conf->k.fail_window;
    g->policy.eject_ms = (uint32_t)conf->k.eject_time;
    if (getrandom(&g->rng, sizeof(g->rng), GRND_NONBLOCK) != (ssize_t)sizeof(g->rng))
        g->rng = clock_us_now() ^ (uint64_t)slot << 48;
    g->rng |= 1;
    return 0;
}

static uint32_t full_weight(const struct balance_group *g, const struct balance_server *b)
{
    const uint32_t override = server_weight(g->segment, b->id);
    const uint32_t w = override ? override : b->conf->weight ? b->conf->weight : 1;

    return (w > 256 ? 256 : w) * 1000;
}

/* One look over all servers: who may be asked, and is it a panic. Far cheaper than asking shared
 * memory for each pick. */
static void look(struct balance_group *g, uint64_t now_ms)
{
    uint32_t in_service = 0, up = 0;

    g->epoch = server_epoch(g->segment);
    g->looked = true;
    g->looked_ms = now_ms;
    g->look_again_ms = now_ms + LOOK_AGE_MS;
    g->ejected = 0;
    g->max_weight = 1;
    for (size_t i = 0; i < g->n; i++) {
        struct balance_server *b = &g->server[i];
        const uint32_t weight = full_weight(g, b);
        uint64_t left;

        if (weight > g->max_weight)
            g->max_weight = weight;
        if (b->conf->down || server_admin(g->segment, b->id) != SERVER_ADMIN_READY) {
            b->cached = BALANCE_OUT;
            continue;
        }
        switch (server_state(g->segment, b->id, now_ms)) {
        case SERVER_EJECTED:
            b->cached = BALANCE_EJECTED;
            g->ejected++;
            left = server_ejected_for_ms(g->segment, b->id, now_ms);
            if (now_ms + left < g->look_again_ms)
                g->look_again_ms = now_ms + (left ? left : 1);
            break;
        case SERVER_HALF_OPEN:
            b->cached = BALANCE_TRIAL;
            g->ejected++;
            break;
        case SERVER_UP:
        case SERVER__COUNT:
            b->cached = BALANCE_UP;
            break;
        }
        if (!b->backup) {
            in_service++;
            up += b->cached == BALANCE_UP && !b->unaddressed;
        }
    }
    g->up = up;
    g->panic = in_service > 0 && (uint64_t)up * 100 < (uint64_t)in_service * PANIC_PERCENT;
}

static void look_if_due(struct balance_group *g, uint64_t now_ms)
{
    const bool moved = server_epoch(g->segment) != g->epoch;

    /* A large group that is being torn about is looked over once per millisecond; entering checks
     * the truth anyway. */
    if (!g->looked || now_ms >= g->look_again_ms || now_ms < g->looked_ms ||
        (moved && (g->n <= SMALL_GROUP || now_ms != g->looked_ms)))
        look(g, now_ms);
}

void balance_refresh(struct balance_group *g, const struct balance_query *q, uint32_t index)
{
    struct balance_server *b = &g->server[index];
    const uint64_t slow_ms = g->conf->k.slow_start;
    uint64_t since, weight;

    if (b->load_us != 0 && q->now_us >= b->load_us && q->now_us - b->load_us <= LOAD_AGE_US)
        return;
    b->load_us = q->now_us ? q->now_us : 1;
    b->load = server_active(g->segment, b->id);
    weight = full_weight(g, b);
    since = server_state_since_ms(g->segment, b->id);
    if (slow_ms > 0 && since != 0 && q->now_ms >= since && q->now_ms - since < slow_ms) {
        const uint64_t percent = SLOW_LEAST + (100 - SLOW_LEAST) * (q->now_ms - since) / slow_ms;

        weight = weight * percent / 100;
    }
    b->weight = (uint32_t)weight;
}

/* Takes a place at server i. False: *ret_full says whether for want of a place. */
static bool enter(struct balance_group *g, const struct balance_query *q, int i, bool *ret_probe,
                  bool *ret_full)
{
    struct balance_server *b = &g->server[i];
    const uint64_t max = b->conf->max_conns;

    if (!server_usable(g->segment, b->id, g->me, q->now_ms, ret_probe) && !q->panic) {
        g->look_again_ms = 0; /* the look is out of date, or the trial is somebody else's */
        return false;
    }
    if (server_enter(g->segment, g->slot, b->id, max > UINT32_MAX ? UINT32_MAX : (uint32_t)max) ==
        0) {
        b->load++;
        return true;
    }
    if (*ret_probe)
        server_probe_release(g->segment, b->id, g->me);
    *ret_probe = false;
    *ret_full = true;
    return false;
}

/* Picks and enters within one tier: the algorithm's choice, and the next ones when that cannot be
 * entered. After a few of these the group is as good as full: one pass over it finds the last
 * places, whatever the algorithm. */
static int pick_in(struct balance_group *g, struct balance_query *q, bool backups, bool *ret_probe,
                   bool *ret_full)
{
    q->member = backups ? g->order + g->nprimary : g->order;
    q->n = backups ? (uint32_t)g->n - g->nprimary : g->nprimary;
    for (uint32_t round = 0; round < q->n && round < ROUNDS; round++) {
        const int i = algorithms[g->conf->k.balance].pick(g, q);

        if (i < 0)
            return -1;
        if (enter(g, q, i, ret_probe, ret_full))
            return i;
        q->skip[i / 64] |= (uint64_t)1 << (i % 64);
    }
    if (q->n > ROUNDS) {
        const uint32_t from = (uint32_t)(balance_random(g) % q->n);

        for (uint32_t k = 0; k < q->n; k++) {
            const uint32_t i = q->member[(from + k) % q->n];

            if (balance_eligible(g, q, i) && enter(g, q, (int)i, ret_probe, ret_full))
                return (int)i;
        }
    }
    return -1;
}

static void skip_tried(const struct balance_group *g, struct balance_query *q,
                       const uint64_t *tried)
{
    const size_t words = (g->n + 63) / 64;

    if (tried)
        memcpy(q->skip, tried, words * sizeof(q->skip[0]));
    else
        memset(q->skip, 0, words * sizeof(q->skip[0]));
}

int balance_pick(struct balance_group *g, uint64_t key_hash, const uint64_t *tried, uint64_t now_ms,
                 bool *ret_probe)
{
    struct balance_query q;
    bool full = false;
    int i;

    *ret_probe = false;
    look_if_due(g, now_ms);
    q.key_hash = key_hash;
    q.now_ms = now_ms;
    q.now_us = clock_us();
    q.panic = g->panic && (g->up > 0 || g->nprimary == g->n);
    skip_tried(g, &q, tried);
    i = pick_in(g, &q, false, ret_probe, &full);
    if (i < 0 && !full)
        i = pick_in(g, &q, true, ret_probe, &full);
    if (i < 0 && !full && g->panic && !q.panic) {
        /* Neither a primary nor a backup is well: everybody who is not out by order is tried. */
        q.panic = true;
        skip_tried(g, &q, tried);
        i = pick_in(g, &q, false, ret_probe, &full);
        if (i < 0 && !full)
            i = pick_in(g, &q, true, ret_probe, &full);
    }
    return i >= 0 ? i : full ? -ERR_QUEUE_FULL : -ERR_NO_SERVER;
}

static void budget_sums(struct balance_group *g)
{
    const uint64_t now = clock_us();

    if (g->n > SMALL_GROUP && g->sums_us != 0 && now >= g->sums_us &&
        now - g->sums_us <= LOAD_AGE_US)
        return;
    g->sums_us = now;
    g->active = g->retrying = 0;
    for (size_t i = 0; i < g->n; i++) {
        struct server_sum sum;

        server_sum(g->segment, g->server[i].id, &sum);
        g->active += sum.active;
        g->retrying += sum.retrying;
    }
}

bool balance_retry_allowed(struct balance_group *g)
{
    uint64_t most;

    budget_sums(g);
    most = g->active * g->conf->k.retry_budget / 100000;
    return g->retrying < (most > RETRY_LEAST ? most : RETRY_LEAST);
}

static bool server_fault(int err, bool gateway_status)
{
    if (err < 0)
        err = -err;
    if (err == 0)
        return gateway_status;
    /* A connection that a server ends in good order takes what was on its way with it. */
    return err_source(err) == ERR_SRC_UPSTREAM && err != ERR_REUSED_CLOSED &&
           err != ERR_REUSED_LOST && err != ERR_UP_REFUSED;
}

static void row_add(_Atomic uint64_t *v)
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

uint32_t balance_done(struct balance_group *g, int index, int err, bool gateway_status,
                      uint64_t now_ms, bool *ret_ejected)
{
    struct balance_server *b;
    struct server_row *row;

    *ret_ejected = false;
    if (index < 0 || (size_t)index >= g->n)
        return UINT32_MAX;
    b = &g->server[index];
    row = server_row(g->segment, g->slot, b->id);
    if (!row)
        return UINT32_MAX;
    row_add(&row->requests);
    if (server_fault(err, gateway_status)) {
        uint64_t most;

        row_add(&row->failures);
        if (err != 0)
            server_set_last_error(g->segment, b->id, err);
        look_if_due(g, now_ms);
        most = (uint64_t)g->n * g->conf->k.eject_max / 100000;
        *ret_ejected = server_failed(g->segment, b->id, &g->policy, now_ms, g->ejected < most);
        if (*ret_ejected)
            g->look_again_ms = 0;
    } else if (err == 0) {
        server_succeeded(g->segment, b->id, &g->policy, now_ms);
    }
    /* If it was the trial, it is over, also when it said nothing. */
    server_probe_release(g->segment, b->id, g->me);
    if (b->load > 0)
        b->load--;
    return server_leave(g->segment, g->slot, b->id);
}
