/* Session ticket keys over days of a virtual clock: when they are made, how long they are accepted,
 * clocks that jump, no randomness; and over an upgrade. */
#include "base/clock.h"
#include "base/err.h"
#include "master/ev.h"
#include "master/ticket.h"
#include "t/unit/tap.h"

#define HOUR   3600000ull
#define PERIOD (8 * HOUR)

static uint8_t count; /* each key is made of its number */
static bool dry;

static int numbers(void *p, size_t n)
{
    if (dry)
        return -ERR_SYS;
    memset(p, ++count, n);
    return 0;
}

static int rotate(struct ticket_ring *r, uint64_t now)
{
    return ticket_rotate(r, now, PERIOD, numbers);
}

static bool is(const struct ticket_ring *r, uint32_t n, uint8_t first)
{
    bool ok = r->n == n;

    for (uint32_t i = 0; ok && i < n; i++)
        ok = r->key[i].name[0] == first - i && r->key[i].hmac[31] == first - i;
    return ok;
}

static void test_days(void)
{
    struct ticket_ring r = {0};
    const uint64_t start = 1700000000000;
    uint64_t now = start, accepted = 0;
    int wrong = 0, made = 0;

    tap_is_int(ticket_due_ms(&r, now, PERIOD), 0, "an empty ring is due");
    tap_ok(rotate(&r, now) == 1 && is(&r, 1, 1), "the first key");
    tap_is_int(ticket_due_ms(&r, now, PERIOD), PERIOD, "next in a period");
    tap_is_int(rotate(&r, now + PERIOD - 1), 0, "nothing before");
    tap_ok(rotate(&r, now + PERIOD) == 1 && is(&r, 2, 2), "a second key");
    rotate(&r, now + 2 * PERIOD);
    tap_ok(is(&r, 3, 3), "a third");
    rotate(&r, now + 3 * PERIOD);
    tap_ok(is(&r, 3, 4), "a fourth; the first is over");

    /* A week, woken by what ticket_due_ms() says and by a look every minute. */
    now += 3 * PERIOD;
    for (const uint64_t end = now + 7 * 24 * HOUR; now < end;) {
        const uint64_t due = ticket_due_ms(&r, now, PERIOD);
        const uint8_t before = count;
        int rc;

        now += due < 60000 ? due : 60000;
        rc = rotate(&r, now);
        made += count != before;
        wrong += rc != (count != before) || r.n != 3 || now - r.key[0].made_ms >= PERIOD;
        for (uint32_t i = 0; i < r.n; i++)
            accepted = now - r.key[i].made_ms > accepted ? now - r.key[i].made_ms : accepted;
    }
    tap_is_int(wrong, 0, "in a week the first key was never older than a period");
    tap_is_int(made, 21, "21 keys were made");
    tap_ok(accepted < 3 * PERIOD && accepted >= 3 * PERIOD - 60000,
           "and each was accepted for three periods");
}

static void test_jumps(void)
{
    struct ticket_ring r = {0};
    const uint64_t now = 1700000000000;

    count = 0;
    rotate(&r, now);
    tap_ok(rotate(&r, now - 100 * HOUR) == 1 && is(&r, 1, 1) &&
               r.key[0].made_ms == now - 100 * HOUR,
           "clock set back: the key begins its life again");
    tap_is_int(rotate(&r, now - 100 * HOUR + PERIOD), 1, "and lives no longer than any other");
    tap_ok(rotate(&r, now + 1000 * HOUR) == 1 && is(&r, 1, 3),
           "slept for weeks: all old keys are over");
    rotate(&r, now + 1000 * HOUR + PERIOD);
    tap_is_int(ticket_rotate(&r, now + 1000 * HOUR + PERIOD, 60000, numbers), 1,
               "a shorter period: the old one is over");
    tap_ok(is(&r, 1, 4), "at once");
    tap_is_int(ticket_due_ms(&r, now + 1000 * HOUR + PERIOD, 60000), 60000, "and the next is soon");
    for (uint64_t i = 1; i <= 5; i++) /* four keys, when the period grows meanwhile */
        ticket_rotate(&r, now + 1000 * HOUR + PERIOD + i * 60000, i < 3 ? 60000 : 50000 + i,
                      numbers);
    tap_ok(r.n <= TICKET_KEYS && is(&r, r.n, count), "whatever the periods, they fit");

    r.n = TICKET_KEYS;
    for (uint32_t i = 0; i < TICKET_KEYS; i++)
        r.key[i].made_ms = now - PERIOD - i;
    tap_ok(rotate(&r, now) == 1 && r.n == TICKET_KEYS && r.key[0].made_ms == now &&
               r.key[3].made_ms == now - PERIOD - 2,
           "a full ring loses its oldest");
}

static void test_dry(void)
{
    struct ticket_ring r = {0};
    const uint64_t now = 1700000000000;

    count = 0;
    dry = true;
    tap_ok(rotate(&r, now) == -ERR_SYS && r.n == 0, "no randomness, no key");
    dry = false;
    rotate(&r, now);
    dry = true;
    tap_ok(rotate(&r, now + PERIOD) == -ERR_SYS && is(&r, 1, 1), "the old one serves on");
    tap_ok(rotate(&r, now + 3 * PERIOD) == -ERR_SYS && r.n == 0, "but not for ever");
    dry = false;
}

static struct segment *segment(void)
{
    struct segment *s;

    if (segment_create_sized(1, 1, 1, 1, &s) < 0)
        tap_bail("segment");
    return s;
}

static void test_keeper(void)
{
    struct conf_listen plain = {0}, tls = {0}, *listen[2] = {&plain, &tls};
    struct config c = {.listen = listen, .nlisten = 1};
    struct segment *s = segment(), *t = segment();
    struct ticket_ring r = {0}, again = {0}, parsed = {0};
    struct slice all, line, word;
    uint32_t seq = 0;
    struct buf text;
    int bad = 0;

    if (ev_init() < 0)
        tap_bail("ev_init");
    buf_init(&text, 0);
    c.global.ticket_rotation = PERIOD;
    tls.k.tls = tls.k.session_tickets = true;
    ticket_configure(s, &c);
    ticket_describe(s, &text);
    tap_ok(!ticket_get(s, &seq, &r) && text.n == 0, "without TLS there are no keys");
    c.nlisten = 2;
    ticket_configure(s, &c);
    tap_ok(ticket_get(s, &seq, &r) && r.n == 1 &&
               r.key[0].made_ms == (uint64_t)clock_cached.wall_ms,
           "with it there is one");
    tap_ok(memcmp(r.key[0].aes, r.key[0].hmac, 32) != 0, "of random bytes");
    ticket_configure(s, &c);
    tap_ok(!ticket_get(s, &seq, &again), "a reload keeps it");
    c.nlisten = 1;
    r.key[0].made_ms -= PERIOD;
    ticket_put(s, &r);
    ticket_configure(s, &c);
    tap_ok(ticket_get(s, &seq, &again) && again.n == 2 &&
               memcmp(&again.key[1], &r.key[0], sizeof(r.key[0])) == 0,
           "one that is due is followed by another, also when TLS is switched off meanwhile");

    ticket_describe(s, &text);
    all = buf_slice(&text);
    while (slice_next(&all, '\n', &line)) {
        const size_t n = line.n;

        bad += !slice_next(&line, ' ', &word) || !slice_eq(word, SLICE("ticket"));
        (void)slice_next(&line, ' ', &word);
        bad += n < 160 || !slice_next(&line, ' ', &word) || !slice_eq(word, SLICE("28800000"));
        bad += !ticket_parse(again.key[parsed.n].made_ms, slice_trim(line), &parsed);
    }
    tap_ok(bad == 0 && parsed.n == 2 &&
               memcmp(parsed.key, again.key, sizeof(again.key[0]) * 2) == 0,
           "over an upgrade they go as text");
    tap_ok(!ticket_parse(1, SLICE("k00"), &parsed) &&
               !ticket_parse(1, slice_of(text.p, 161), &parsed) && parsed.n == 2,
           "other text is none");
    ticket_stop();
    ticket_adopt(t, &parsed, PERIOD);
    seq = 0;
    tap_ok(ticket_get(t, &seq, &r) && r.n == 2 && memcmp(r.key, again.key, sizeof(r.key)) == 0,
           "a new segment gets them");
    parsed.key[0].aes[0] ^= 1;
    ticket_adopt(t, &parsed, PERIOD);
    tap_ok(!ticket_get(t, &seq, &r), "one that has a ring keeps its own");
    parsed.n = 0;
    ticket_stop();
    ticket_adopt(s, &parsed, PERIOD);
    buf_clear(&text);
    ticket_describe(s, &text);
    tap_is_int(text.n, 0, "an old program that had none leaves none");
    buf_fini(&text);
    segment_close(&s);
    segment_close(&t);
    ev_fini();
}

int main(void)
{
    clock_update();
    test_days();
    test_jumps();
    test_dry();
    test_keeper();
    return tap_done();
}
