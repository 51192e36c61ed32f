/* Balancing: shares by weight, backups, panic, places, slow start, ejection share, ip_hash's
 * stability, the retry budget, large groups. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/server.h"
#include "t/unit/tap.h"
#include "worker/upstream/balance.h"

#include <stdlib.h>

#define N 16u

static struct segment *s;
static struct arena arena;
static uint32_t slot, other;
static struct conf_server srv[BALANCE_SERVERS];
static struct conf_upstream up;
static uint32_t id[BALANCE_SERVERS];
static uint64_t now;

static void begin(uint32_t n)
{
    if (segment_create_sized(4, BALANCE_SERVERS, 2, 2, &s) < 0)
        tap_bail("segment");
    arena_init(&arena, NULL, 0, 0);
    slot_claim(s, 1, 0, &slot);
    slot_claim(s, 1, 1, &other);
    memset(srv, 0, sizeof(srv));
    memset(&up, 0, sizeof(up));
    up.k.server.v = srv;
    up.k.server.n = n;
    up.k.balance = CONF_BALANCE_RANDOM_TWO;
    up.k.max_fails = 1;
    up.k.fail_window = 10000;
    up.k.eject_time = 10000;
    up.k.eject_max = 50000;
    up.k.retry_budget = 20000;
    for (uint32_t i = 0; i < n; i++) {
        char name[32];
        const int len = snprintf(name, sizeof(name), "u/%u", i);

        srv[i].weight = 1;
        srv[i].key = 0x1234567 + (uint64_t)i * 7919;
        if (server_register(s, i + 1, slice_of(name, (size_t)len), 1, &id[i]) < 0)
            tap_bail("register");
    }
    now = 1000000;
    clock_cached.us = now * 1000;
    clock_cached.ms = now;
}

static void group(struct balance_group *g)
{
    if (balance_group_init(g, &up, s, slot, id, &arena) < 0)
        tap_bail("group");
    g->rng = 0x9e3779b97f4a7c15ull;
}

static void end(void)
{
    arena_fini(&arena);
    segment_close(&s);
}

static void pass(uint64_t ms)
{
    now += ms;
    clock_cached.ms = now;
    clock_cached.us = now * 1000;
}

static int pick(struct balance_group *g)
{
    bool probe;

    return balance_pick(g, 0, NULL, now, &probe);
}

static void done(struct balance_group *g, int i, int err)
{
    bool ejected;

    (void)balance_done(g, i, err, false, now, &ejected);
}

static void eject(struct balance_group *g, uint32_t i)
{
    (void)server_failed(s, id[i], &g->policy, now, true);
}

/* `load` requests are in flight all the time, the oldest ends first. */
static void shares(struct balance_group *g, uint32_t rounds, uint32_t load, uint32_t got[N])
{
    int *flight = calloc(load + 1, sizeof(int));
    uint32_t at = 0, held = 0;

    if (!flight)
        tap_bail("memory");
    memset(got, 0, N * sizeof(got[0]));
    for (uint32_t r = 0; r < rounds; r++) {
        if (held == load + 1) {
            done(g, flight[at], 0);
            held--;
        }
        flight[at] = pick(g);
        if (flight[at] < 0)
            tap_bail("pick: %d", flight[at]);
        got[flight[at]]++;
        at = (at + 1) % (load + 1);
        held++;
        clock_cached.us += 100;
    }
    while (held > 0) {
        at = (at + load) % (load + 1);
        done(g, flight[at], 0);
        held--;
    }
    free(flight);
}

static bool near(uint32_t got, double want, double percent)
{
    return (double)got > want * (1 - percent / 100) && (double)got < want * (1 + percent / 100);
}

static void test_shares(void)
{
    static const uint32_t weight[4] = {1, 2, 3, 4};
    struct balance_group g;
    uint32_t got[N];

    for (int b = CONF_BALANCE_RANDOM_TWO; b <= CONF_BALANCE_IP_HASH; b++) {
        for (uint32_t load = 0; load <= 200 && b != CONF_BALANCE_IP_HASH; load += 200) {
            const double tolerance = b == CONF_BALANCE_RANDOM_TWO ? 12 : 2;
            bool good = true;

            begin(4);
            for (uint32_t i = 0; i < 4; i++)
                srv[i].weight = weight[i];
            up.k.balance = (enum conf_balance)b;
            group(&g);
            shares(&g, 10000, load, got);
            for (uint32_t i = 0; i < 4; i++)
                good = good && near(got[i], weight[i] * 1000.0, tolerance);
            tap_ok(good, "%s, %u in flight: weights 1 2 3 4 get %u %u %u %u",
                   balance_name((enum conf_balance)b), load, got[0], got[1], got[2], got[3]);
            tap_is_int(server_active(s, id[0]) + server_active(s, id[3]), 0,
                       "and all is given back");
            end();
        }
    }
    begin(3);
    up.k.balance = CONF_BALANCE_ROUND_ROBIN;
    srv[0].weight = 3;
    group(&g);
    {
        char order[11] = {0};

        for (int i = 0; i < 10; i++) {
            const int k = pick(&g);

            order[i] = (char)('a' + k);
            done(&g, k, 0);
        }
        tap_is_str(slice_str(order), "abacaabaca", "round robin is smooth");
    }
    end();

    begin(2);
    up.k.balance = CONF_BALANCE_LEAST_CONN;
    group(&g);
    for (int i = 0; i < 5; i++)
        server_enter(s, other, id[0], 0);
    pass(3);
    shares(&g, 5, 100, got);
    tap_ok(got[0] == 0 && got[1] == 5, "least_conn sees the load that another worker made");
    server_set_weight(s, id[0], 256);
    pass(3);
    tap_is_int(pick(&g), 1, "five are more than none, whatever the weight");
    tap_is_int(pick(&g), 0, "five of the operator's weight 256 are less than one of 1");
    end();

    begin(2);
    group(&g);
    for (int i = 0; i < 50; i++)
        server_enter(s, other, id[0], 0);
    pass(3);
    shares(&g, 40, 100, got);
    tap_ok(got[0] == 0 && got[1] == 40, "random_two of two is the less loaded one");
    end();
}

static void test_tiers(void)
{
    struct balance_group g;
    uint32_t got[N];
    uint64_t tried = 0;
    bool probe;
    int i;

    begin(4);
    srv[2].backup = srv[3].backup = true;
    up.k.eject_max = 100000;
    group(&g);
    shares(&g, 100, 0, got);
    tap_ok(got[0] > 0 && got[1] > 0 && got[2] + got[3] == 0,
           "backups rest while a primary is well");
    tried = 3;
    i = balance_pick(&g, 0, &tried, now, &probe);
    tap_ok(i == 2 || i == 3, "a retry after all primaries goes to a backup");
    done(&g, i, 0);
    tried = 15;
    tap_is_int(balance_pick(&g, 0, &tried, now, &probe), -ERR_NO_SERVER,
               "after all of them, nowhere");
    eject(&g, 0);
    shares(&g, 100, 0, got);
    tap_ok(got[1] == 100, "an ejected server gets nothing");
    eject(&g, 1);
    shares(&g, 100, 0, got);
    tap_ok(got[2] > 0 && got[3] > 0 && got[0] + got[1] == 0, "no primary is well: backups");
    eject(&g, 2);
    eject(&g, 3);
    shares(&g, 100, 0, got);
    tap_ok(got[0] > 0 && got[1] > 0, "nobody is well: everybody is asked");
    server_set_admin(s, id[0], SERVER_ADMIN_DOWN);
    shares(&g, 100, 0, got);
    tap_ok(got[0] == 0 && got[1] == 100, "but not who is down by order");
    pass(10001);
    i = balance_pick(&g, 0, NULL, now, &probe);
    tap_ok(i == 1 && probe, "after its time one on trial gets a probe");
    done(&g, i, 0);
    tap_is_int(server_state(s, id[1], now), SERVER_UP, "which brings it back");
    tap_is_int(server_probe_owner(s, id[1]), 0, "and is over");
    end();

    begin(10);
    up.k.eject_max = 100000;
    group(&g);
    for (uint32_t k = 0; k < 7; k++)
        eject(&g, k);
    shares(&g, 200, 0, got);
    tap_ok(got[0] == 0 && got[7] + got[8] + got[9] == 200, "30 %% well: no panic");
    eject(&g, 7);
    shares(&g, 500, 0, got);
    tap_ok(got[0] > 0 && got[7] > 0 && got[9] > 0, "less: all are used");
    end();

    begin(3);
    group(&g);
    srv[0].down = true;
    g.server[1].unaddressed = true;
    shares(&g, 50, 0, got);
    tap_ok(got[2] == 50, "neither down nor without an address");
    server_set_admin(s, id[2], SERVER_ADMIN_DRAIN);
    tap_is_int(pick(&g), -ERR_NO_SERVER, "nor drained");
    end();
}

static void test_ejection(void)
{
    struct balance_group g;
    bool ejected;
    int out = 0;

    begin(4);
    group(&g);
    for (uint32_t i = 0; i < 4; i++) {
        server_enter(s, slot, id[i], 0);
        (void)balance_done(&g, (int)i, -ERR_CONNECT_REFUSED, false, now, &ejected);
        out += ejected;
    }
    tap_is_int(out, 2, "half the servers may be ejected, not more");
    tap_is_int(server_last_error(s, id[0]), ERR_CONNECT_REFUSED, "with a reason");
    tap_ok(server_row(s, slot, id[0])->requests == 1 && server_row(s, slot, id[0])->failures == 1,
           "and counted");
    end();

    begin(4);
    group(&g);
    server_enter(s, slot, id[0], 0);
    (void)balance_done(&g, 0, ERR_CLIENT_CLOSED, false, now, &ejected);
    server_enter(s, slot, id[0], 0);
    (void)balance_done(&g, 0, ERR_REUSED_CLOSED, false, now, &ejected);
    server_enter(s, slot, id[0], 0);
    (void)balance_done(&g, 0, ERR_NOMEM, false, now, &ejected);
    tap_ok(server_fails(s, id[0]) == 0 && server_row(s, slot, id[0])->failures == 0,
           "what is not the server's fault does not count");
    server_enter(s, slot, id[0], 0);
    (void)balance_done(&g, 0, 0, true, now, &ejected);
    tap_ok(ejected, "a gateway status does");
    end();

    begin(1);
    group(&g);
    done(&g, pick(&g), ERR_CONNECT_REFUSED);
    done(&g, pick(&g), ERR_CONNECT_REFUSED);
    tap_is_int(pick(&g), 0, "a single server is never given up");
    end();
}

static void test_places(void)
{
    struct balance_group g;
    bool ejected, probe;
    int i;

    begin(2);
    srv[0].max_conns = srv[1].max_conns = 2;
    group(&g);
    for (int k = 0; k < 4; k++)
        tap_ok(pick(&g) >= 0, "place %d", k);
    tap_is_int(pick(&g), -ERR_QUEUE_FULL, "all places are taken");
    server_want(s, other, id[1]);
    tap_is_int(balance_done(&g, 1, 0, false, now, &ejected), other, "who waits is told");
    tap_is_int(pick(&g), 1, "and the free place is found");
    done(&g, 0, ERR_CONNECT_FAILED);
    tap_is_int(pick(&g), -ERR_QUEUE_FULL, "the free place of an ejected one is none");
    pass(10001);
    server_enter(s, other, id[0], 0);
    tap_is_int(balance_pick(&g, 0, NULL, now, &probe), -ERR_QUEUE_FULL, "one on trial, but full");
    tap_is_int(server_probe_owner(s, id[0]), 0, "leaves no probe behind");
    server_leave(s, other, id[0]);
    i = balance_pick(&g, 0, NULL, now, &probe);
    tap_ok(i == 0 && probe, "then it is tried");
    tap_is_int(balance_pick(&g, 0, NULL, now, &probe), -ERR_QUEUE_FULL, "by one");
    (void)balance_done(&g, 0, ERR_CLIENT_CLOSED, false, now, &ejected);
    tap_ok(balance_pick(&g, 0, NULL, now, &probe) == 0 && probe,
           "whose client left: the next one tries");
    end();
}

static void test_slow_start(void)
{
    struct balance_group g;
    uint32_t early[N], late[N];

    begin(2);
    up.k.slow_start = 10000;
    up.k.balance = CONF_BALANCE_LEAST_CONN;
    group(&g);
    eject(&g, 0);
    pass(10001);
    done(&g, 0, 0); /* a trial that went well */
    server_succeeded(s, id[0], &g.policy, now);
    pass(1000);
    shares(&g, 1000, 0, early);
    pass(10000);
    shares(&g, 1000, 0, late);
    tap_ok(early[0] > 100 && early[0] < 250 && late[0] == 500,
           "slow start: %u of 1000 after a second, %u in the end", early[0], late[0]);
    end();
}

static void test_ip_hash(void)
{
    enum { KEYS = 20000 };
    static int was[KEYS];
    struct balance_group g, h;
    uint32_t got[N] = {0}, moved = 0, wrong = 0;
    bool probe;

    begin(8);
    up.k.balance = CONF_BALANCE_IP_HASH;
    up.k.eject_max = 100000;
    srv[7].weight = 3;
    group(&g);
    group(&h);
    for (uint64_t k = 0; k < KEYS; k++) {
        was[k] = balance_pick(&g, k * 0x10001, NULL, now, &probe);
        got[was[k]]++;
        done(&g, was[k], 0);
        wrong += balance_pick(&h, k * 0x10001, NULL, now, &probe) != was[k];
        done(&h, was[k], 0);
    }
    tap_is_int(wrong, 0, "two workers agree");
    tap_ok(near(got[0], 2000, 8) && near(got[3], 2000, 8) && near(got[7], 6000, 5),
           "shares by weight: %u %u %u", got[0], got[3], got[7]);
    eject(&g, 3);
    for (uint64_t k = 0; k < KEYS; k++) {
        const int i = balance_pick(&g, k * 0x10001, NULL, now, &probe);

        moved += i != was[k];
        wrong += i != was[k] && was[k] != 3;
        done(&g, i, 0);
    }
    tap_ok(wrong == 0 && moved == got[3], "a server that goes moves its own keys only");
    pass(10001);
    server_succeeded(s, id[3], &g.policy, now);
    for (uint64_t k = 0; k < KEYS; k++) {
        const int i = balance_pick(&g, k * 0x10001, NULL, now, &probe);

        wrong += i != was[k];
        done(&g, i, 0);
    }
    tap_is_int(wrong, 0, "and gets them back");
    end();
}

static void test_budget(void)
{
    struct balance_group g;

    begin(2);
    group(&g);
    tap_ok(balance_retry_allowed(&g), "the first retry");
    server_row(s, other, id[1])->retrying = 2;
    tap_ok(balance_retry_allowed(&g), "three are always allowed");
    server_row(s, slot, id[0])->retrying = 1;
    tap_ok(!balance_retry_allowed(&g), "a fourth is not");
    server_row(s, other, id[0])->active = 19;
    tap_ok(!balance_retry_allowed(&g), "20 %% of 19 are no more than three");
    server_row(s, slot, id[1])->active = 1;
    tap_ok(balance_retry_allowed(&g), "of 20 they are four");
    end();
}

static void test_large(void)
{
    struct balance_group g;
    struct conf_upstream too_many;
    uint64_t start, spent;
    uint32_t outside = 0;

    begin(BALANCE_SERVERS);
    group(&g);
    done(&g, pick(&g), 0);
    start = clock_us_now();
    for (int i = 0; i < 100000; i++)
        done(&g, pick(&g), 0);
    spent = clock_us_now() - start;
    /* A scan of 8192 servers costs some microseconds; two draws cost far below one, also under a
     * sanitizer. */
    tap_ok(spent < 1000000, "100000 picks out of %u servers in %llu us", BALANCE_SERVERS,
           (unsigned long long)spent);
    for (uint32_t i = 0; i < BALANCE_SERVERS; i++) {
        if (i != 17 && i != 8000)
            server_set_admin(s, id[i], SERVER_ADMIN_DRAIN);
    }
    pass(1);
    for (int i = 0; i < 50; i++) {
        const int k = pick(&g);

        outside += k != 17 && k != 8000;
        done(&g, k, 0);
    }
    tap_is_int(outside, 0, "the last two of thousands are found");
    for (uint32_t i = 0; i < BALANCE_SERVERS; i++) {
        server_set_admin(s, id[i], SERVER_ADMIN_READY);
        srv[i].max_conns = 1;
        server_row(s, other, id[i])->active = 1;
    }
    server_row(s, other, id[4711])->active = 0;
    pass(200);
    tap_is_int(pick(&g), 4711, "the last free place is found");
    tap_is_int(pick(&g), -ERR_QUEUE_FULL, "and then there is none");
    too_many = up;
    too_many.k.server.n = BALANCE_SERVERS + 1;
    tap_is_int(balance_group_init(&g, &too_many, s, slot, id, &arena), -ERR_RANGE,
               "too large a group");
    alloc_fail_at(1);
    tap_is_int(balance_group_init(&g, &up, s, slot, id, &arena), -ERR_NOMEM, "no memory");
    alloc_fail_at(0);
    end();
}

int main(void)
{
    test_shares();
    test_tiers();
    test_ejection();
    test_places();
    test_slow_start();
    test_ip_hash();
    test_budget();
    test_large();
    return tap_done();
}
