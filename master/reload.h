/* From a configuration to a serving generation: snapshot, preflight, sockets, fork, ready, accept,
 * drain, verdict. The start of the program, a reload and the first generation after a binary
 * upgrade are the same transaction. */
#ifndef MASTER_RELOAD_H
#define MASTER_RELOAD_H

#include "base/buf.h"
#include "master/ev.h"

struct child;
struct conn;
struct generation;
struct job;
struct conf_snapshot;

enum reload_phase {
    RELOAD_IDLE,
    RELOAD_PREFLIGHT,
    RELOAD_HELD, /* as many old generations drain as may */
    RELOAD_STARTING,
    RELOAD_HANDING /* the new generation accepts; the old one has been told to stop accepting */
};
struct reload {
    enum reload_phase phase;
    struct list callers; /* struct conn.wait: get the verdict of the one that runs */
    struct list queued;  /* of the next one */
    bool again;          /* a next one was asked for (also by a signal) */
    uint64_t started_us;
    struct conf_snapshot *snapshot; /* during preflight */
    struct generation *gen;         /* while starting */
    struct buf verdict;             /* while handing over */
    struct ev_timer limit;
    struct job *job;
    struct buf warned;     /* what the check said of the configuration that is starting */
    struct buf warnings;   /* of the one in force */
    struct ev_timer retry; /* after an upgrade whose first generation failed */
    /* the last result, for status */
    bool last_ok;
    char last_text[512];
    int64_t last_wall_ms; /* 0 = none yet */
    uint64_t count, failures;
};

void reload_init(void);
/* Asks for one; conn (may be NULL) waits for the verdict. While one runs the requests for the next
 * are put together. */
void reload_request(struct conn *conn);
bool reload_running(void);
void reload_child_ready(struct generation *g);
void reload_child_failed(struct generation *g, const char *text);
void reload_generation_gone(void);        /* one that drained: a reload may have waited for it */
void reload_child_heard(struct child *c); /* it has read M_DRAIN, or is gone */
void reload_settled(void);                /* a worker came back: waiters for health look again */
void reload_abort(const char *why);       /* the program ends */

#endif
