/* The life of a generation and of a child process: names and legal steps. */
#ifndef MASTER_GEN_STATE_H
#define MASTER_GEN_STATE_H

#include <stdbool.h>

enum gen_state {
    GEN_STARTING, /* children forked, not all of them ready */
    GEN_LIVE,     /* accepts; at most one generation */
    GEN_DRAINING, /* finishes what it has */
    GEN_STOPPING, /* told to end now, or failed at the start */
    GEN_GONE,     /* its last child was reaped */
    GEN__COUNT
};
enum child_state {
    CHILD_NONE, /* no process: before the fork, after the death, while waiting for the next try */
    CHILD_STARTING,
    CHILD_READY, /* reported ready, not accepting yet */
    CHILD_SERVING,
    CHILD_DRAINING,
    CHILD_STOPPING,
    CHILD__COUNT
};
const char *gen_state_name(enum gen_state s);
const char *child_state_name(enum child_state s);
bool gen_state_legal(enum gen_state from, enum gen_state to);
bool child_state_legal(enum child_state from, enum child_state to);

/* Deaths of one worker in a row: how long to wait before the next try, and whether it is a crash
 * loop. */
#define DEATHS_BRAKE     5u     /* more than so many deaths ... */
#define DEATHS_WINDOW_MS 10000u /* ... in so long is a crash loop */
struct deaths {
    unsigned long long at_ms[DEATHS_BRAKE + 1]; /* ring of the last deaths */
    unsigned n;   /* deaths ever; n % (DEATHS_BRAKE + 1) is the next place */
    unsigned row; /* deaths in a row, each within DEATHS_WINDOW_MS of its start */
    bool crash_loop;
};
/* Records a death of a process started at started_ms; returns the delay in ms before the next
 * start: 0, 100, 200, 400 ... 10 s; 10 s in a crash loop. */
unsigned deaths_add(struct deaths *d, unsigned long long started_ms, unsigned long long now_ms);
/* A process that has lived for DEATHS_WINDOW_MS ends the loop. */
void deaths_survived(struct deaths *d, unsigned long long started_ms, unsigned long long now_ms);

#endif
