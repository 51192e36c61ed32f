/* The timer wheel: exact deadlines at every distance, lazy re-arming, callbacks that set and stop
 * timers, a clock that jumps, and a random comparison with a naive model. */
#include "t/unit/tap.h"
#include "worker/io/timer.h"

static struct timers wheel;
static unsigned fired;

static void on_fire(struct timer *t)
{
    (void)t;
    fired++;
}

/* Runs the wheel as the loop does: sleeps as long as timers_next() says, never longer. Returns when
 * `fired` grew or time is `until`. */
static uint64_t run_until_fired(uint64_t now, uint64_t until, unsigned *ret_wakes)
{
    unsigned before = fired;
    *ret_wakes = 0;
    while (fired == before && now < until) {
        int ms = timers_next(&wheel, now);
        if (ms < 0)
            return until;
        now += (uint64_t)ms;
        timers_run(&wheel, now);
        ++*ret_wakes;
    }
    return now;
}

static void test_distances(void)
{
    static const uint64_t far[] = {0,     1,     15,    16,    17,    31,    1000,   16367,
                                   16368, 16369, 16383, 16384, 16385, 60000, 3600000};
    bool early = false, late = false, busy = false;
    for (uint64_t start = 1000; start < 1040; start += 3) {
        for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
            struct timer t;
            unsigned wakes;
            timers_init(&wheel, start);
            timer_init(&t, on_fire);
            timer_set_at(&wheel, &t, start + far[i]);
            uint64_t at = run_until_fired(start, start + far[i] + 1000, &wakes);
            early = early || at < start + far[i];
            late = late || at > start + far[i] + 2 * TIMER_SLOT_MS;
            busy = busy || wakes > far[i] / (TIMER_SLOT_MS * (TIMER_SLOTS - 2)) + 3;
            timer_stop(&t);
        }
    }
    tap_ok(!early, "no timer fires before its deadline");
    tap_ok(!late, "none fires more than two slots late");
    tap_ok(!busy, "a far deadline wakes the loop once per turn of the wheel only");
}

static void test_empty(void)
{
    timers_init(&wheel, 5000);
    tap_is_int(timers_next(&wheel, 5000), -1, "nothing to wait for");
    timers_run(&wheel, 5000);
    timers_run(&wheel, 4000);
    tap_is_int(timers_next(&wheel, 5000), -1, "a clock that stands still does no harm");
}

static void test_rearm(void)
{
    struct timer t;
    unsigned wakes;
    timers_init(&wheel, 0);
    timer_init(&t, on_fire);
    fired = 0;
    tap_ok(!timer_is_set(&t), "off at first");
    timer_set_at(&wheel, &t, 100);
    const struct list *where = t.link.next;
    timer_set_at(&wheel, &t, 500);
    tap_ok(t.link.next == where, "moving it later does not touch the wheel");
    timers_run(&wheel, 200);
    tap_is_int(fired, 0, "the first deadline passes");
    timer_set_at(&wheel, &t, 300);
    uint64_t at = run_until_fired(200, 1000, &wakes);
    tap_ok(fired == 1 && at >= 300 && at < 332, "moved earlier again: fires then");
    tap_ok(!timer_is_set(&t), "off after it fired");
    timers_run(&wheel, 2000);
    tap_is_int(fired, 1, "once");

    timer_set_at(&wheel, &t, 3000);
    timer_off(&t);
    timers_run(&wheel, 4000);
    tap_is_int(fired, 1, "switched off without unlinking: does not fire");
    timer_set_at(&wheel, &t, 5000);
    timer_off(&t);
    timer_set_at(&wheel, &t, 4500);
    at = run_until_fired(4000, 6000, &wakes);
    tap_ok(fired == 2 && at >= 4500 && at < 4532, "off, then an earlier deadline: fires then");
    timer_set_at(&wheel, &t, 7000);
    timer_off(&t);
    timer_set_at(&wheel, &t, 9000);
    timers_run(&wheel, 8990);
    tap_is_int(fired, 2, "off, then a later deadline: not before");
    timers_run(&wheel, 9020);
    tap_is_int(fired, 3, "off, then a later deadline: fires then");
    timer_set_at(&wheel, &t, 9100);
    timer_stop(&t);
    timers_run(&wheel, 9200);
    tap_is_int(fired, 3, "stopped: does not fire");
    tap_ok(!list_linked(&t.link), "stopped: unlinked");
    timer_set_at(&wheel, &t, 100);
    timers_run(&wheel, 9240);
    tap_is_int(fired, 4, "a deadline in the past fires at once");
}

static struct timer other, self;
static unsigned self_fired;

static void stop_other(struct timer *t)
{
    (void)t;
    fired++;
    timer_stop(&other);
}
static void set_again(struct timer *t)
{
    self_fired++;
    timer_set_at(&wheel, t, 0);
}

static void test_callbacks(void)
{
    struct timer a;
    timers_init(&wheel, 0);
    fired = self_fired = 0;
    timer_init(&a, stop_other);
    timer_init(&other, on_fire);
    timer_set_at(&wheel, &a, 40);
    timer_set_at(&wheel, &other, 40);
    timers_run(&wheel, 64);
    tap_is_int(fired, 1, "a timer stopped by another one of the same slot does not fire");

    timer_init(&self, set_again);
    timer_set_at(&wheel, &self, 70);
    timers_run(&wheel, 80);
    tap_is_int(self_fired, 1, "one that sets itself into the past fires once per pass");
    timers_run(&wheel, 96);
    tap_is_int(self_fired, 2, "and again in the next slot");
    timer_stop(&self);
}

static void test_jump(void)
{
    static struct timer t[3];
    timers_init(&wheel, 0);
    fired = 0;
    static const uint64_t at[] = {50, 20000, 900000};
    for (int i = 0; i < 3; i++) {
        timer_init(&t[i], on_fire);
        timer_set_at(&wheel, &t[i], at[i]);
    }
    timers_run(&wheel, 800000);
    tap_is_int(fired, 2, "a process that stood still: what is due fires, once");
    timers_run(&wheel, 890000);
    tap_is_int(fired, 2, "and nothing else");
    timers_run(&wheel, 900016);
    tap_is_int(fired, 3, "the last one in time");
    tap_is_int(timers_next(&wheel, 900016), -1, "nothing is left");
}

/* ---- against a model ---- */

#define MODEL 64
static struct timer mt[MODEL];
static uint64_t want[MODEL]; /* TIMER_NEVER = off */
static uint64_t model_now;
static bool model_early, model_unknown;

static void model_fire(struct timer *t)
{
    size_t i = (size_t)(t - mt);
    model_unknown = model_unknown || want[i] == TIMER_NEVER;
    model_early = model_early || want[i] > model_now;
    want[i] = TIMER_NEVER;
}

static uint64_t rng = 88172645463325252u;
static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static void test_model(void)
{
    bool late = false, asleep = false;
    model_now = 1234567;
    timers_init(&wheel, model_now);
    for (size_t i = 0; i < MODEL; i++) {
        timer_init(&mt[i], model_fire);
        want[i] = TIMER_NEVER;
    }
    for (int step = 0; step < 300000; step++) {
        size_t i = rnd() % MODEL;
        switch (rnd() % 8) {
        case 0:
            timer_stop(&mt[i]);
            want[i] = TIMER_NEVER;
            break;
        case 1:
            timer_off(&mt[i]);
            want[i] = TIMER_NEVER;
            break;
        case 2:
        case 3:
        case 4:
        case 5:
            want[i] = model_now + rnd() % (rnd() % 4 ? 500 : 40000);
            timer_set_at(&wheel, &mt[i], want[i]);
            break;
        default: {
            int ms = timers_next(&wheel, model_now);
            uint64_t forward = rnd() % (rnd() % 8 ? 40 : 30000);
            uint64_t first = TIMER_NEVER;
            for (size_t j = 0; j < MODEL; j++)
                first = want[j] < first ? want[j] : first;
            /* The loop must not sleep past a deadline by more than a slot. */
            if (first != TIMER_NEVER &&
                (ms < 0 || model_now + (uint64_t)ms >
                               (first > model_now ? first : model_now) + 2 * TIMER_SLOT_MS))
                asleep = true;
            model_now += forward;
            timers_run(&wheel, model_now);
            for (size_t j = 0; j < MODEL; j++)
                late = late || (want[j] != TIMER_NEVER && want[j] + 2 * TIMER_SLOT_MS < model_now);
        }
        }
    }
    tap_ok(!model_early, "300000 random steps: none early");
    tap_ok(!model_unknown, "none that was off");
    tap_ok(!late, "none forgotten");
    tap_ok(!asleep, "the loop never sleeps past a deadline");
}

int main(void)
{
    test_empty();
    test_distances();
    test_rearm();
    test_callbacks();
    test_jump();
    test_model();
    return tap_done();
}
