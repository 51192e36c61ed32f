/* The life of generations and children: which steps are legal; back-off and the crash-loop brake.
 */
#include "master/gen_state.h"
#include "t/unit/tap.h"

#include <string.h>

static void steps(void)
{
    static const struct {
        enum gen_state from, to;
    } legal[] = {{GEN_STARTING, GEN_LIVE}, {GEN_STARTING, GEN_STOPPING}, {GEN_LIVE, GEN_DRAINING},
                 {GEN_LIVE, GEN_STOPPING}, {GEN_DRAINING, GEN_STOPPING}, {GEN_DRAINING, GEN_GONE},
                 {GEN_STOPPING, GEN_GONE}};
    unsigned n = 0, wrong = 0;
    for (int f = 0; f < GEN__COUNT; f++) {
        for (int t = 0; t < GEN__COUNT; t++)
            n += gen_state_legal((enum gen_state)f, (enum gen_state)t);
    }
    for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++)
        wrong += !gen_state_legal(legal[i].from, legal[i].to);
    tap_is_int(wrong, 0, "every step a generation takes is legal");
    tap_is_int(n, sizeof(legal) / sizeof(legal[0]), "and no other");
    tap_ok(!gen_state_legal(GEN__COUNT, GEN_LIVE) && !gen_state_legal(GEN_LIVE, GEN__COUNT),
           "nothing leads out of the table");
    wrong = 0;
    for (int f = 0; f < CHILD__COUNT; f++) {
        /* A process may die in any state, and only a fork begins a life. */
        wrong += child_state_legal((enum child_state)f, CHILD_NONE) != (f != CHILD_NONE);
        wrong += child_state_legal((enum child_state)f, CHILD_STARTING) != (f == CHILD_NONE);
    }
    tap_is_int(wrong, 0, "a child may die in any state, and starts from none");
    tap_ok(!child_state_legal(CHILD_STARTING, CHILD_SERVING), "none serves before it is ready");
    tap_ok(!child_state_legal(CHILD_DRAINING, CHILD_SERVING), "none comes back from draining");
    wrong = 0;
    for (int i = 0; i < GEN__COUNT; i++)
        wrong += strlen(gen_state_name((enum gen_state)i)) < 4;
    for (int i = 0; i < CHILD__COUNT; i++)
        wrong += strlen(child_state_name((enum child_state)i)) < 4;
    tap_is_int(wrong, 0, "all have names");
    tap_is_str(slice_str(gen_state_name(GEN__COUNT)), "-", "an unknown one has none");
}

static void back_off(void)
{
    struct deaths d = {0};
    /* Each life lasts 3 s: never six deaths in 10 s. */
    static const unsigned want[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    unsigned long long now = 1000;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        unsigned long long started = now;
        now += 3000;
        tap_is_int(deaths_add(&d, started, now), want[i], "death %zu waits %u ms", i + 1, want[i]);
        now += want[i];
    }
    tap_ok(!d.crash_loop, "which is no crash loop");
    now += DEATHS_WINDOW_MS;
    tap_is_int(deaths_add(&d, now - DEATHS_WINDOW_MS, now), 0, "a life of 10 s begins anew");
}

static void brake(void)
{
    struct deaths d = {0};
    unsigned long long now = 5000;
    for (unsigned i = 0; i < DEATHS_BRAKE; i++) {
        deaths_add(&d, now, now + 1);
        now += 1000;
    }
    tap_ok(!d.crash_loop, "five deaths in 10 s are none");
    tap_is_int(deaths_add(&d, now, now + 1), 10000, "the sixth waits 10 s");
    tap_ok(d.crash_loop, "and is a crash loop");
    now += 10001;
    tap_is_int(deaths_add(&d, now, now + 5), 10000, "so does the next");
    deaths_survived(&d, now, now + DEATHS_WINDOW_MS - 1);
    tap_ok(d.crash_loop, "a life of nearly 10 s does not end it");
    deaths_survived(&d, now, now + DEATHS_WINDOW_MS);
    tap_ok(!d.crash_loop, "one of 10 s does");
    tap_is_int(deaths_add(&d, now, now + DEATHS_WINDOW_MS), 0,
               "then the next death is the first again");
}

int main(void)
{
    steps();
    back_off();
    brake();
    return tap_done();
}
