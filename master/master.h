/* The master's state: there is one per process. Everything hangs here; single-threaded, never
 * blocks. */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "config/config.h"
#include "master/caches.h"
#include "master/control.h"
#include "master/generation.h"
#include "master/listener.h"
#include "master/logfile.h"
#include "master/reload.h"
#include "master/welcome.h"
#include "shm/counter.h"
#include "shm/server.h"
#include "shm/slot.h"

#include <limits.h>

struct master {
    /* How it was started */
    char exe[PATH_MAX]; /* absolute path of the program, resolved at start: what an upgrade runs */
    char **argv;        /* a copy of the arguments, for the same purpose */
    int argc;
    const char *conf_path; /* NULL: quick start instead */
    bool quick;
    struct conf_quick start; /* of a quick start; without `to` the welcome origin */
    bool foreground;
    char socket_path[108];   /* "" = none */
    char pid_path[PATH_MAX]; /* "" = none */
    int pid_fd, verdict_fd;  /* -1 = none */
    int old_log_fd; /* of the program before an upgrade, until a generation has its own; or -1 */
    uid_t uid;      /* of workers; (uid_t)-1 = ours */
    gid_t gid;
    bool user_known; /* from the program before an upgrade */
    uint64_t nofile;
    /* What lives */
    struct segment *segment;
    int kick[SHM_SLOTS];
    struct list generations; /* oldest first */
    struct generation *live; /* NULL before the first is */
    struct list listeners, logfiles, caches;
    struct welcome welcome;
    struct reload reload;
    uint64_t started_ms;
    int64_t started_wall_ms;
    uint32_t upgrades; /* binary upgrades this process went through */
    struct {
        uint32_t n; /* processes that died, since the start of the service */
        int64_t wall_ms;
        char last[256]; /* which, and of what */
    } deaths;
    enum log_level level; /* in force */
    struct ev_timer level_timer;
    /* The end */
    bool stopping, now;
    struct list stop_callers;
    struct ev_timer stop_timer;
    bool done;
    int status;
};
extern struct master master;

/* Everything from the first byte of configuration to the exit status. inherit: memfd of a binary
 * upgrade, or -1. */
int master_run(int inherit);
/* Begins the end: drains (or with now ends) every generation; the loop ends when the last child is
 * gone. */
void master_stop(bool now);
/* The verdict of a transaction: the first one decides about the start, the first after an upgrade
 * about the upgrade. */
void master_started(bool ok, struct slice text);
/* Called when a generation went away: may be the last. */
void master_check_done(void);
/* For ms, or (0) until the next reload that changes it. */
void master_set_level(enum log_level lv, uint64_t for_ms);
/* Wakes every living worker, as server_leave() asks of whoever reaps a slot. */
void master_kick_all(void);
/* Opens all log files again and hands them out. Number of failures, named in out. */
unsigned master_reopen(struct buf *out);
/* A snapshot of the configuration the program was started with, read anew. */
int master_snapshot(struct conf_snapshot **ret);

#endif
