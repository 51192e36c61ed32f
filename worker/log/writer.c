/* The sink of one access log. */
#include "worker/log/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_STALLED 20u   /* ms: the reader is slow */
#define RETRY_TROUBLE 1000u /* ms: disk full, I/O error, no syslog */
#define POLL_CHUNK    256u  /* what a terminal that polls writable takes without blocking */

enum outcome { WROTE, STALLED, TROUBLE, GONE };

static enum writer_kind kind_of(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return WRITER_NONE;
    if (S_ISFIFO(st.st_mode))
        return WRITER_PIPE;
    if (S_ISSOCK(st.st_mode))
        return WRITER_SOCKET;
    return isatty(fd) ? WRITER_POLL : WRITER_FILE;
}

static void close_own(int *fd)
{
    if (*fd > 2)
        (void)close(*fd);
    *fd = -1;
}

static void attach(struct writer *w, int fd)
{
    w->fd = fd;
    w->kind = kind_of(fd);
    /* Without a pipe of our own we ask poll() first, which is nearly as good. */
    if (w->kind == WRITER_PIPE && pipe2(w->stage, O_CLOEXEC | O_NONBLOCK) < 0) {
        w->stage[0] = w->stage[1] = -1;
        w->kind = WRITER_POLL;
    }
}

static void detach(struct writer *w)
{
    close_own(&w->fd);
    close_own(&w->stage[0]);
    close_own(&w->stage[1]);
    w->staged = 0;
}

void writer_open(struct writer *w, int fd)
{
    *w = (struct writer){.fd = -1, .stage = {-1, -1}};
    attach(w, fd);
}

void writer_open_syslog(struct writer *w, const char *path)
{
    *w = (struct writer){.kind = WRITER_SYSLOG, .fd = -1, .stage = {-1, -1}, .path = path};
}

/* End of the whole lines within the first `most` bytes, or of the first line alone. */
static size_t whole_lines(const struct writer *w, size_t most)
{
    const char *const p = w->buf + w->off;
    const size_t n = w->end - w->off;
    if (n <= most)
        return n;
    const char *nl = memrchr(p, '\n', most);
    if (!nl)
        nl = memchr(p, '\n', n);
    return nl ? (size_t)(nl - p) + 1 : n;
}

static void drop_all(struct writer *w)
{
    for (const char *p = w->buf + w->off, *const end = w->buf + w->end; w->off < w->end && p < end;
         w->dropped++) {
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p)
            break;
        p++;
    }
    w->off = w->end = 0;
    w->partial = false;
    w->staged = 0;
}

static enum outcome outcome_of(int e)
{
    switch (e) {
    case EAGAIN:
    case EINTR:
    case ENOBUFS:
        return STALLED;
    case EPIPE:
    case EBADF:
    case ECONNRESET:
    case ENOTCONN:
        return GONE;
    default:
        return TROUBLE;
    }
}

static void took(struct writer *w, size_t n)
{
    w->off += n;
    w->partial = n > 0 ? w->buf[w->off - 1] != '\n' : w->partial;
    if (w->off == w->end)
        w->off = w->end = 0;
}

static enum outcome file_write(struct writer *w)
{
    const ssize_t n = write(w->fd, w->buf + w->off, w->end - w->off);
    if (n < 0)
        return outcome_of(errno);
    took(w, (size_t)n);
    /* A regular file takes less than all only when the disk is full or a limit is reached. */
    return w->end ? TROUBLE : WROTE;
}

/* O_NONBLOCK belongs to the open file, which other processes share, and between poll() and write()
 * another worker may fill the pipe. splice() can be told per call not to block, and moves one page
 * of a pipe to another as a whole, as PIPE_BUF promises. */
static enum outcome pipe_write(struct writer *w)
{
    if (!w->staged) {
        const ssize_t n = write(w->stage[1], w->buf + w->off, whole_lines(w, PIPE_BUF));
        if (n <= 0)
            return TROUBLE;
        w->staged = (size_t)n;
    }
    const ssize_t n = splice(w->stage[0], NULL, w->fd, NULL, w->staged, SPLICE_F_NONBLOCK);
    if (n < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM)) {
        /* The staged bytes are still in the buffer, too. */
        close_own(&w->stage[0]);
        close_own(&w->stage[1]);
        w->staged = 0;
        w->kind = WRITER_POLL;
        return WROTE;
    }
    if (n <= 0)
        return n < 0 ? outcome_of(errno) : STALLED;
    w->staged -= (size_t)n;
    took(w, (size_t)n);
    return WROTE;
}

static enum outcome poll_write(struct writer *w)
{
    struct pollfd p = {.fd = w->fd, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1)
        return STALLED;
    if (!(p.revents & POLLOUT))
        return GONE;
    const ssize_t n = write(w->fd, w->buf + w->off, whole_lines(w, POLL_CHUNK));
    if (n < 0)
        return outcome_of(errno);
    took(w, (size_t)n);
    return WROTE;
}

static enum outcome socket_write(struct writer *w)
{
    const ssize_t n =
        send(w->fd, w->buf + w->off, whole_lines(w, PIPE_BUF), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return outcome_of(errno);
    took(w, (size_t)n);
    return WROTE;
}

static bool syslog_connect(struct writer *w)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    const size_t n = strlen(w->path);
    if (n >= sizeof(un.sun_path))
        return false;
    memcpy(un.sun_path, w->path, n);
    w->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd >= 0 && connect(w->fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
        return true;
    close_own(&w->fd);
    return false;
}

static enum outcome syslog_write(struct writer *w)
{
    if (w->fd < 0 && !syslog_connect(w))
        return TROUBLE;
    const size_t n = whole_lines(w, 1);
    if (send(w->fd, w->buf + w->off, n - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno == EMSGSIZE) {
            w->dropped++;
            took(w, n);
            return WROTE;
        }
        if (outcome_of(errno) == STALLED)
            return STALLED;
        close_own(&w->fd); /* the daemon went away, perhaps to come back under the same name */
        return TROUBLE;
    }
    took(w, n);
    return WROTE;
}

static enum outcome write_some(struct writer *w)
{
    switch (w->kind) {
    case WRITER_FILE:
        return file_write(w);
    case WRITER_PIPE:
        return pipe_write(w);
    case WRITER_POLL:
        return poll_write(w);
    case WRITER_SOCKET:
        return socket_write(w);
    case WRITER_SYSLOG:
        return syslog_write(w);
    case WRITER_NONE:
        return GONE;
    }
    return GONE;
}

/* Writes until all is written or the sink will not take more. Bounded: every turn but a few empties
 * some of the buffer. */
static void drain(struct writer *w, uint64_t now_ms)
{
    while (w->end) {
        switch (write_some(w)) {
        case WROTE:
            continue;
        case STALLED:
            w->retry_ms = now_ms + RETRY_STALLED;
            return;
        case TROUBLE:
            w->retry_ms = now_ms + RETRY_TROUBLE;
            return;
        case GONE:
            drop_all(w);
            return;
        }
    }
    w->retry_ms = 0;
}

void writer_close(struct writer *w)
{
    if (w->end)
        drain(w, 0);
    if (w->end)
        drop_all(w);
    detach(w);
    free(w->buf);
    w->buf = NULL;
    w->kind = WRITER_NONE;
}

/* After a partial write the rest of a line would make no sense in another file. */
static void skip_partial(struct writer *w)
{
    if (!w->end || !w->partial)
        return;
    w->dropped++;
    took(w, whole_lines(w, 1));
}

void writer_reopen(struct writer *w, int fd)
{
    w->retry_ms = 0;
    if (w->end)
        drain(w, 0);
    if (w->kind == WRITER_SYSLOG) {
        close_own(&w->fd);
    } else if (fd >= 0 && fd != w->fd) {
        skip_partial(w);
        detach(w);
        attach(w, fd);
    }
    w->retry_ms = 0;
}

char *writer_room(struct writer *w, uint64_t now_ms, size_t *ret_cap)
{
    const size_t most = w->kind == WRITER_FILE ? WRITER_LINE : PIPE_BUF;
    if (w->kind == WRITER_NONE || (!w->buf && !(w->buf = malloc(WRITER_CAP)))) {
        w->dropped++;
        return NULL;
    }
    if (WRITER_CAP - w->end < most) {
        if (now_ms >= w->retry_ms)
            drain(w, now_ms);
        if (w->off) {
            memmove(w->buf, w->buf + w->off, w->end - w->off);
            w->end -= w->off;
            w->off = 0;
        }
        if (WRITER_CAP - w->end < WRITER_LINE_MIN) {
            w->dropped++;
            return NULL;
        }
    }
    *ret_cap = WRITER_CAP - w->end < most ? WRITER_CAP - w->end : most;
    return w->buf + w->end;
}

void writer_commit(struct writer *w, size_t n, uint64_t now_ms)
{
    if (!w->end)
        w->first_ms = now_ms;
    w->end += n;
    if (w->end - w->off >= WRITER_FULL && now_ms >= w->retry_ms)
        drain(w, now_ms);
}

int writer_flush(struct writer *w, uint64_t now_ms, uint64_t interval_ms, bool force)
{
    if (!w->end)
        return -1;
    uint64_t due = w->end - w->off >= WRITER_FULL ? now_ms : w->first_ms + interval_ms;
    due = due < w->retry_ms ? w->retry_ms : due;
    if (force || now_ms >= due) {
        drain(w, now_ms);
        if (!w->end)
            return -1;
        due = w->retry_ms;
    }
    const uint64_t wait = due > now_ms ? due - now_ms : 1;
    return wait < INT_MAX ? (int)wait : INT_MAX;
}
