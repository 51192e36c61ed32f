/* Throw-away children of the master. */
#include "master/job.h"

#include "base/err.h"
#include "base/proc.h"
#include "master/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB_TEXT_MAX ((size_t)15 << 20) /* fits into an answer on the control socket */

static struct list job_list = {&job_list, &job_list};

static void job_end(struct job *j)
{
    if (!j->exited || j->out.fd >= 0)
        return;
    ev_timer_stop(&j->limit);
    list_remove(&j->link);
    if (j->done)
        j->done(j);
    buf_fini(&j->text);
    free(j);
}

static void job_on_out(struct ev *e, uint32_t events)
{
    struct job *j = CONTAINER(e, struct job, out);
    (void)events;
    ssize_t n = -1;
    if (buf_reserve(&j->text, 65536)) {
        n = read(j->out.fd, j->text.p + j->text.n, 65536);
    } else {
        /* More than fits: the writer meets a closed pipe. */
        errno = EIO;
    }
    if (n > 0) {
        j->text.n += (size_t)n;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_close(&j->out);
    job_end(j);
}

static void job_on_limit(struct ev_timer *t)
{
    struct job *j = CONTAINER(t, struct job, limit);
    kill(j->pid, SIGKILL);
}

static struct job *job_fork(uint64_t limit_ms, void (*done)(struct job *j), void *done_arg,
                            int *ret_child_fd)
{
    int pipe_fd[2];
    struct job *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    j->out.fd = -1;
    list_init(&j->link);
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        free(j);
        return NULL;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        free(j);
        return NULL;
    }
    if (pid == 0) {
        int keep[1] = {pipe_fd[1]};
        free(j);
        child_clean(keep, 1);
        proc_die_with_parent();
        *ret_child_fd = pipe_fd[1];
        return NULL;
    }
    close(pipe_fd[1]);
    proc_nonblock(pipe_fd[0]);
    buf_init(&j->text, JOB_TEXT_MAX);
    j->pid = pid;
    j->done = done;
    j->arg = done_arg;
    list_append(&job_list, &j->link);
    ev_add(&j->out, pipe_fd[0], EPOLLIN, job_on_out);
    ev_timer_set(&j->limit, limit_ms, job_on_limit);
    return j;
}

static void job_write(int fd, struct slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        s.p += n;
        s.n -= (size_t)n;
    }
}

struct job *job_start(int (*run)(void *arg, struct buf *out), void *arg, uint64_t limit_ms,
                      void (*done)(struct job *j), void *done_arg)
{
    int fd = -1;
    struct job *j = job_fork(limit_ms, done, done_arg, &fd);
    if (j || fd < 0)
        return j;
    struct buf out;
    buf_init(&out, JOB_TEXT_MAX - 65536);
    int status = run(arg, &out);
    job_write(fd, buf_slice(&out));
    _exit(out.failed ? 1 : status & 0xff);
}

struct job *job_exec(const char *path, char *const *argv, uint64_t limit_ms,
                     void (*done)(struct job *j), void *done_arg)
{
    int fd = -1;
    struct job *j = job_fork(limit_ms, done, done_arg, &fd);
    if (j || fd < 0)
        return j;
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(path, argv);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", path, strerror(errno));
    _exit(127);
}

bool job_reaped(pid_t pid, int status)
{
    LIST_EACH(it, &job_list)
    {
        struct job *j = CONTAINER(it, struct job, link);
        if (j->pid != pid || j->exited)
            continue;
        j->exited = true;
        j->status = WIFEXITED(status) ? WEXITSTATUS(status) : JOB_KILLED;
        job_end(j);
        return true;
    }
    return false;
}

void job_cancel(const void *done_arg)
{
    LIST_EACH(it, &job_list)
    {
        struct job *j = CONTAINER(it, struct job, link);
        if (j->arg != done_arg)
            continue;
        j->arg = NULL;
        j->done = NULL;
        if (!j->exited)
            kill(j->pid, SIGKILL);
    }
}
