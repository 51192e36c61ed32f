/* Throw-away children of the master: whatever may block, crash or take long runs there and hands
 * back text and a status. */
#ifndef MASTER_JOB_H
#define MASTER_JOB_H

#include "base/buf.h"
#include "master/ev.h"

#include <sys/types.h>

#define JOB_KILLED 255 /* status of one that took too long or died by a signal */

struct job {
    struct list link;
    pid_t pid;
    struct ev out;
    struct ev_timer limit;
    struct buf text; /* what it wrote */
    bool exited;
    int status;                  /* exit status, JOB_KILLED */
    void (*done)(struct job *j); /* called once, when it has ended and all was read; the job is
                                    freed after it */
    void *arg;                   /* the caller's; set to NULL by whoever goes away first */
};
/* Runs run(arg, out) in a forked child; out and the return value (0..254) come back. The child
 * holds no descriptor of the master and dies with it. NULL when there is no memory or no process to
 * be had. */
struct job *job_start(int (*run)(void *arg, struct buf *out), void *arg, uint64_t limit_ms,
                      void (*done)(struct job *j), void *done_arg);
/* The same for a program: its stdout and stderr are the text. argv ends in NULL. */
struct job *job_exec(const char *path, char *const *argv, uint64_t limit_ms,
                     void (*done)(struct job *j), void *done_arg);
bool job_reaped(pid_t pid, int status);
/* Forgets and kills those of this caller: done is not called for them. */
void job_cancel(const void *done_arg);

#endif
