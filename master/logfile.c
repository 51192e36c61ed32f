/* Log files: opened by the master, inherited by workers, opened again after rotation. */
#include "master/logfile.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* True for names that are no files; *ret_fd says what to use. */
static bool logfile_special(struct slice path, int *ret_fd)
{
    *ret_fd = -1;
    if (slice_eq(path, SLICE("stdout")))
        *ret_fd = STDOUT_FILENO;
    else if (slice_eq(path, SLICE("stderr")) || path.n == 0)
        *ret_fd = STDERR_FILENO;
    else if (!slice_eq(path, SLICE("syslog")) && !slice_starts(path, SLICE("syslog:")))
        return false;
    return true;
}

static struct logfile *logfile_find(const struct list *files, struct slice path)
{
    LIST_EACH(it, files)
    {
        struct logfile *f = CONTAINER(it, struct logfile, link);
        if (slice_eq(slice_str(f->path), path))
            return f;
    }
    return NULL;
}

/* Not blocking: a pipe whose reader is gone is an error, not a halt. */
static int logfile_open_path(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

int logfile_open(struct list *files, struct slice path, int *ret_fd)
{
    if (logfile_special(path, ret_fd))
        return 0;
    struct logfile *f = logfile_find(files, path);
    if (!f) {
        f = calloc(1, sizeof(*f));
        if (f)
            f->path = strndup(path.p, path.n);
        if (!f || !f->path) {
            free(f);
            errno = ENOMEM;
            return -ERR_NOMEM;
        }
        f->fd = logfile_open_path(f->path);
        if (f->fd < 0) {
            int saved = errno;
            free(f->path);
            free(f);
            errno = saved;
            return -ERR_SYS;
        }
        list_append(files, &f->link);
    }
    f->refs++;
    *ret_fd = f->fd;
    return 0;
}

void logfile_release(struct list *files, struct slice path)
{
    struct logfile *f = logfile_find(files, path);
    if (!f || --f->refs > 0)
        return;
    list_remove(&f->link);
    close(f->fd);
    free(f->path);
    free(f);
}

int logfile_fd(const struct list *files, struct slice path)
{
    int fd;
    if (logfile_special(path, &fd))
        return fd;
    const struct logfile *f = logfile_find(files, path);
    return f ? f->fd : -1;
}

int logfile_open_all(struct list *files, const struct config *c, struct conf_diags *d, int *ret_fd)
{
    for (size_t i = 0; i < c->nlog; i++) {
        if (logfile_open(files, c->log[i]->k.file, &ret_fd[i]) == 0)
            continue;
        conf_diag_add(d, CONF_ERROR, c->log[i]->pos, NULL, "cannot open log file " SLICE_FMT ": %s",
                      SLICE_ARG(c->log[i]->k.file), strerror(errno));
        while (i > 0)
            logfile_release(files, c->log[--i]->k.file);
        return -ERR_INVAL;
    }
    return 0;
}

void logfile_release_all(struct list *files, const struct config *c)
{
    for (size_t i = 0; i < c->nlog; i++)
        logfile_release(files, c->log[i]->k.file);
}

unsigned logfile_reopen(struct list *files, struct buf *out)
{
    unsigned failed = 0;
    LIST_EACH(it, files)
    {
        struct logfile *f = CONTAINER(it, struct logfile, link);
        int fd = logfile_open_path(f->path);
        if (fd < 0) {
            buf_printf(out, "%s%s: %s", failed ? "; " : "", f->path, strerror(errno));
            failed++;
            continue;
        }
        /* The number stays: whoever writes to it, the master's own log too, writes to the new file.
         */
        if (dup3(fd, f->fd, O_CLOEXEC) < 0) {
            buf_printf(out, "%s%s: %s", failed ? "; " : "", f->path, strerror(errno));
            failed++;
        }
        close(fd);
    }
    return failed;
}
