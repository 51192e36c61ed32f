/* The life of a generation and of a child process: names, legal steps, back-off. No side effects,
 * so that it can be tested alone. */
#include "master/gen_state.h"

static const char *const gen_names[GEN__COUNT] = {"starting", "live", "draining", "stopping",
                                                  "gone"};
static const char *const child_names[CHILD__COUNT] = {"none",    "starting", "ready",
                                                      "serving", "draining", "stopping"};

/* Bit t of row f: the step f -> t is legal. */
static const unsigned gen_steps[GEN__COUNT] = {
    [GEN_STARTING] = 1u << GEN_LIVE | 1u << GEN_STOPPING,
    [GEN_LIVE] = 1u << GEN_DRAINING | 1u << GEN_STOPPING,
    [GEN_DRAINING] = 1u << GEN_STOPPING | 1u << GEN_GONE,
    [GEN_STOPPING] = 1u << GEN_GONE,
    [GEN_GONE] = 0,
};
static const unsigned child_steps[CHILD__COUNT] = {
    [CHILD_NONE] = 1u << CHILD_STARTING,
    [CHILD_STARTING] = 1u << CHILD_READY | 1u << CHILD_STOPPING | 1u << CHILD_NONE,
    [CHILD_READY] =
        1u << CHILD_SERVING | 1u << CHILD_DRAINING | 1u << CHILD_STOPPING | 1u << CHILD_NONE,
    [CHILD_SERVING] = 1u << CHILD_DRAINING | 1u << CHILD_STOPPING | 1u << CHILD_NONE,
    [CHILD_DRAINING] = 1u << CHILD_STOPPING | 1u << CHILD_NONE,
    [CHILD_STOPPING] = 1u << CHILD_NONE,
};

const char *gen_state_name(enum gen_state s)
{
    return s < GEN__COUNT ? gen_names[s] : "-";
}

const char *child_state_name(enum child_state s)
{
    return s < CHILD__COUNT ? child_names[s] : "-";
}

bool gen_state_legal(enum gen_state from, enum gen_state to)
{
    return from < GEN__COUNT && to < GEN__COUNT && (gen_steps[from] >> to & 1u) != 0;
}

bool child_state_legal(enum child_state from, enum child_state to)
{
    return from < CHILD__COUNT && to < CHILD__COUNT && (child_steps[from] >> to & 1u) != 0;
}

unsigned deaths_add(struct deaths *d, unsigned long long started_ms, unsigned long long now_ms)
{
    enum { RING = DEATHS_BRAKE + 1, FIRST_MS = 100, MOST_MS = 10000 };
    deaths_survived(d, started_ms, now_ms);
    d->at_ms[d->n % RING] = now_ms;
    d->n++;
    d->row++;
    /* The ring holds one death more than the brake allows: its oldest entry says how long they
     * took. */
    if (d->n >= RING && now_ms - d->at_ms[d->n % RING] <= DEATHS_WINDOW_MS)
        d->crash_loop = true;
    if (d->crash_loop)
        return MOST_MS;
    unsigned delay = 0;
    for (unsigned i = 1; i < d->row && delay < MOST_MS; i++)
        delay = delay == 0 ? FIRST_MS : delay * 2;
    return delay < MOST_MS ? delay : MOST_MS;
}

void deaths_survived(struct deaths *d, unsigned long long started_ms, unsigned long long now_ms)
{
    if (now_ms - started_ms < DEATHS_WINDOW_MS)
        return;
    d->row = 0;
    d->crash_loop = false;
}
