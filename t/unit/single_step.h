/* An operation on shared memory, dying after each of its instructions: it runs in a child under
 * PTRACE_SINGLESTEP, and whenever the memory has changed a copy of it is judged. */
#ifndef T_UNIT_SINGLE_STEP_H
#define T_UNIT_SINGLE_STEP_H

#include "t/unit/tap.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct single_step {
    const unsigned char *live;
    size_t size;
    unsigned char *last, *image; /* of size bytes; judge sees image and may change it */
    /* How much is wrong with it. */
    int (*judge)(const char *op, unsigned long step, unsigned long nth_image);
};

/* One TAP line: f changed the memory at least once, and no image of it was wrong. */
static void single_step(const struct single_step *x, const char *op, void (*f)(void))
{
    unsigned long steps = 0, images = 0;
    int status, bad = 0;
    const pid_t pid = fork();

    if (pid < 0)
        tap_bail("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        raise(SIGSTOP);
        f();
        _exit(0);
    }
    memcpy(x->last, x->live, x->size);
    if (waitpid(pid, &status, 0) != pid)
        tap_bail("waitpid");
    if (!WIFSTOPPED(status)) {
        tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 77, "%s # SKIP no ptrace here", op);
        return;
    }
    while (WIFSTOPPED(status) && bad < 5) {
        if (memcmp(x->last, x->live, x->size) != 0) {
            memcpy(x->last, x->live, x->size);
            memcpy(x->image, x->live, x->size);
            bad += x->judge(op, steps, images);
            images++;
        }
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid)
            tap_bail("single step: %s", strerror(errno));
        steps++;
    }
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0 && bad == 0 && images > 0,
           "%s: %lu images in %lu instructions", op, images, steps);
}

#endif
