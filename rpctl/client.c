/* One command to the master: connect, send, relay the answer to stdout and stderr. */
#include "rpctl/client.h"

#include "base/clock.h"
#include "base/err.h"
#include "rpctl/path.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The master sends a sign of life every 5 s; this much silence means it is stuck or gone. */
#define CLIENT_SILENCE_MS 20000

static int client_open(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(un.sun_path)) {
        errno = ENAMETOOLONG;
        return -ERR_SYS;
    }
    memcpy(un.sun_path, path, n + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -ERR_SYS;
    if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return saved == ENOENT || saved == ECONNREFUSED ? -ERR_NOENT : -ERR_SYS;
}

int client_connect(const char *path, char ret_path[108])
{
    if (path) {
        snprintf(ret_path, 108, "%s", path);
        return client_open(path);
    }
    int worst = -ERR_NOENT, saved = ENOENT;
    for (int nth = 0; path_socket(nth, ret_path); nth++) {
        if (ret_path[0] == '\0')
            continue;
        int fd = client_open(ret_path);
        if (fd >= 0)
            return fd;
        if (fd == -ERR_SYS) {
            worst = fd;
            saved = errno;
        }
    }
    path_socket(0, ret_path);
    errno = saved;
    return worst;
}

static int client_send(int fd, struct slice s)
{
    while (s.n > 0) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -ERR_EOF;
        s.p += n;
        s.n -= (size_t)n;
    }
    return 0;
}

/* Takes whole frames off the front of in. The exit code, or -1 to go on. */
static int client_frames(struct buf *in, struct buf *ret_out)
{
    size_t at = 0;
    struct proto_frame f;
    int rc;
    while ((rc = proto_frame_decode(in->p + at, in->n - at, &f)) == 0) {
        at += f.size;
        if (f.type == PROTO_EXIT) {
            uint32_t code;
            memcpy(&code, f.payload.p, sizeof(code));
            return (int)(code & 0xff);
        }
        if (ret_out && f.type == PROTO_OUT)
            buf_add(ret_out, f.payload);
        else if (f.type == PROTO_OUT)
            fwrite(f.payload.p, 1, f.payload.n, stdout);
        else if (f.type == PROTO_ERR)
            fwrite(f.payload.p, 1, f.payload.n, stderr);
    }
    if (rc == -ERR_PROTO) {
        fprintf(stderr, "rpctl: malformed answer\n");
        return PROTO_NOT_RUNNING;
    }
    memmove(in->p, in->p + at, in->n - at);
    in->n -= at;
    return -1;
}

static int client_relay(int fd, uint32_t timeout_ms, struct buf *in, struct buf *ret_out)
{
    uint64_t start = clock_us_now() / 1000;
    for (;;) {
        int wait = CLIENT_SILENCE_MS;
        if (timeout_ms > 0) {
            uint64_t spent = clock_us_now() / 1000 - start;
            if (spent >= timeout_ms)
                return PROTO_TIMEOUT;
            if (timeout_ms - spent < (uint64_t)wait)
                wait = (int)(timeout_ms - spent);
        }
        struct pollfd p = {fd, POLLIN, 0};
        int n = poll(&p, 1, wait);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return PROTO_TIMEOUT;
        if (!buf_reserve(in, 65536))
            return PROTO_REFUSED;
        ssize_t got = recv(fd, in->p + in->n, 65536, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            fprintf(stderr, "rpctl: rpd ended the connection without a verdict\n");
            return PROTO_NOT_RUNNING;
        }
        in->n += (size_t)got;
        int code = client_frames(in, ret_out);
        if (code >= 0)
            return code;
        fflush(stdout);
    }
}

int client_call(int fd, const struct proto_request *r, uint32_t timeout_ms, struct buf *ret_out)
{
    struct buf b;
    buf_init(&b, 0);
    int code = PROTO_REFUSED;
    if (proto_request_encode(r, &b) < 0) {
        fprintf(stderr, "rpctl: the command is too long\n");
        code = PROTO_USAGE;
    } else {
        /* A refusal at the door may have come already: read the verdict even when sending failed.
         */
        client_send(fd, buf_slice(&b));
        buf_clear(&b);
        code = client_relay(fd, timeout_ms, &b, ret_out);
        if (code == PROTO_TIMEOUT)
            fprintf(stderr, "rpctl: timed out, the result is unknown\n");
    }
    buf_fini(&b);
    close(fd);
    fflush(stdout);
    return code;
}
