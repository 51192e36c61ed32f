/* The thread that does the disk's part of keeping a cache on disk. */
#include "shm/cache_disk.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_NAME "slab.new"

enum job { JOB_NONE, JOB_WRITE, JOB_COMMIT, JOB_ABANDON, JOB_UNLINK, JOB_READ };

struct cache_disk {
    int dir, event;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t given;
    enum job job; /* this and quit under the lock; all below is the thread's while it has a job */
    bool quit;
    char name[CACHE_DISK_NAME], victim[CACHE_DISK_NAME];
    uint64_t at;
    size_t n, cap;
    long rc;
    int error;
    int out, in;                   /* files open for writing and reading, or -1 */
    char in_name[CACHE_DISK_NAME]; /* which the latter is */
    unsigned char *buf;
};

static int failed(struct cache_disk *d, int rc)
{
    d->error = errno;
    return rc;
}

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static long do_write(struct cache_disk *d)
{
    size_t done = 0;

    if (d->out < 0) {
        (void)unlinkat(d->dir, NEW_NAME, 0);
        d->out =
            openat(d->dir, NEW_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (d->out < 0)
        return failed(d, -ERR_SYS);
    while (done < d->n) {
        const ssize_t k = write(d->out, d->buf + done, d->n - done);

        if (k > 0)
            done += (size_t)k;
        else if (k == 0 || errno != EINTR)
            return failed(d, -ERR_SYS);
    }
    return 0;
}

static long do_commit(struct cache_disk *d)
{
    long rc = 0;

    if (d->out < 0)
        return -ERR_INVAL;
    if (fdatasync(d->out) < 0 || renameat(d->dir, NEW_NAME, d->dir, d->name) < 0)
        rc = failed(d, -ERR_SYS);
    drop(&d->out);
    if (rc < 0)
        (void)unlinkat(d->dir, NEW_NAME, 0);
    else if (d->victim[0])
        (void)unlinkat(d->dir, d->victim, 0);
    return rc;
}

static long do_read(struct cache_disk *d)
{
    struct stat st;
    size_t got = 0;

    if (d->in >= 0 && strcmp(d->in_name, d->name) != 0)
        drop(&d->in);
    if (d->in < 0) {
        d->in = openat(d->dir, d->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (d->in < 0)
            return failed(d, -ERR_SYS);
        if (fstat(d->in, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
            drop(&d->in);
            return -ERR_INVAL;
        }
        memcpy(d->in_name, d->name, sizeof(d->name));
        (void)posix_fadvise(d->in, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    while (got < d->n) {
        const ssize_t k = pread(d->in, d->buf + got, d->n - got, (off_t)(d->at + got));

        if (k > 0)
            got += (size_t)k;
        else if (k == 0)
            break;
        else if (errno != EINTR)
            return failed(d, -ERR_SYS);
    }
    return (long)got;
}

static long run(struct cache_disk *d, enum job job)
{
    switch (job) {
    case JOB_WRITE:
        return do_write(d);
    case JOB_COMMIT:
        return do_commit(d);
    case JOB_READ:
        return do_read(d);
    case JOB_UNLINK:
        if (unlinkat(d->dir, d->name, 0) < 0 && errno != ENOENT)
            return failed(d, -ERR_SYS);
        return 0;
    case JOB_NONE:
    case JOB_ABANDON:
        break;
    }
    if (d->out >= 0)
        (void)unlinkat(d->dir, NEW_NAME, 0);
    drop(&d->out);
    return 0;
}

static void *disk_thread(void *arg)
{
    const uint64_t one = 1;
    struct cache_disk *d = arg;
    enum job job;

    for (;;) {
        pthread_mutex_lock(&d->lock);
        while (d->job == JOB_NONE && !d->quit)
            pthread_cond_wait(&d->given, &d->lock);
        job = d->job;
        pthread_mutex_unlock(&d->lock);
        if (job == JOB_NONE)
            break;
        d->error = 0;
        d->rc = run(d, job);
        pthread_mutex_lock(&d->lock);
        d->job = JOB_NONE;
        pthread_mutex_unlock(&d->lock);
        (void)!write(d->event, &one, sizeof(one));
    }
    (void)run(d, JOB_ABANDON);
    return NULL;
}

static void give(struct cache_disk *d, enum job job, const char *name)
{
    if (name)
        (void)snprintf(d->name, sizeof(d->name), "%s", name);
    pthread_mutex_lock(&d->lock);
    d->job = job;
    pthread_cond_signal(&d->given);
    pthread_mutex_unlock(&d->lock);
}

static void disk_free(struct cache_disk *d)
{
    drop(&d->dir);
    drop(&d->event);
    drop(&d->out);
    drop(&d->in);
    free(d->buf);
    free(d);
}

int cache_disk_open(int dir, size_t cap, struct cache_disk **ret)
{
    struct cache_disk *d = calloc(1, sizeof(*d));
    sigset_t all, before;
    int rc;

    *ret = NULL;
    if (!d)
        return -ERR_NOMEM;
    d->out = d->in = -1;
    d->cap = cap;
    d->dir = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    d->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->buf = malloc(cap);
    if (d->dir < 0 || d->event < 0 || !d->buf) {
        rc = d->buf ? -ERR_SYS : -ERR_NOMEM;
        disk_free(d);
        return rc;
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->given, NULL);
    /* Signals are the loop's business. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    rc = pthread_create(&d->thread, NULL, disk_thread, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&d->given);
        pthread_mutex_destroy(&d->lock);
        disk_free(d);
        return -ERR_NOMEM;
    }
    *ret = d;
    return 0;
}

void cache_disk_close(struct cache_disk **d)
{
    struct cache_disk *x = *d;

    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    x->quit = true;
    pthread_cond_signal(&x->given);
    pthread_mutex_unlock(&x->lock);
    pthread_join(x->thread, NULL);
    pthread_cond_destroy(&x->given);
    pthread_mutex_destroy(&x->lock);
    disk_free(x);
    *d = NULL;
}

int cache_disk_fd(const struct cache_disk *d)
{
    return d->event;
}

bool cache_disk_busy(struct cache_disk *d)
{
    uint64_t n;
    bool busy;

    pthread_mutex_lock(&d->lock);
    busy = d->job != JOB_NONE;
    pthread_mutex_unlock(&d->lock);
    if (!busy)
        (void)!read(d->event, &n, sizeof(n));
    return busy;
}

unsigned char *cache_disk_buf(struct cache_disk *d)
{
    return d->buf;
}

long cache_disk_result(const struct cache_disk *d, int *ret_errno)
{
    *ret_errno = d->error;
    return d->rc;
}

void cache_disk_write(struct cache_disk *d, size_t n)
{
    d->n = n <= d->cap ? n : d->cap;
    give(d, JOB_WRITE, NULL);
}

void cache_disk_commit(struct cache_disk *d, const char *name, const char *victim)
{
    (void)snprintf(d->victim, sizeof(d->victim), "%s", victim ? victim : "");
    give(d, JOB_COMMIT, name);
}

void cache_disk_abandon(struct cache_disk *d)
{
    give(d, JOB_ABANDON, NULL);
}

void cache_disk_unlink(struct cache_disk *d, const char *name)
{
    give(d, JOB_UNLINK, name);
}

void cache_disk_read(struct cache_disk *d, const char *name, uint64_t at, size_t n)
{
    d->at = at;
    d->n = n <= d->cap ? n : d->cap;
    give(d, JOB_READ, name);
}
