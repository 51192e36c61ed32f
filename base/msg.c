/* Typed messages with descriptors over a SOCK_SEQPACKET pair. */
#include "base/msg.h"

#include "base/err.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct msg_head {
    uint32_t type;
    uint32_t len;
};

/* cmsg(3): the buffer has to be aligned like its header. */
union msg_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
};

int msg_pair(int ret_fd[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fd) < 0)
        return -ERR_SYS;
    return 0;
}

static int msg_error(void)
{
    switch (errno) {
    case EAGAIN:
    case ENOBUFS:
    case ETOOMANYREFS: /* descriptors in flight: over when the peer has read */
        return -ERR_AGAIN;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        return -ERR_EOF;
    default:
        return -ERR_SYS;
    }
}

int msg_send(int fd, uint32_t type, const void *payload, size_t len, const int *fds, int nfds)
{
    if (len > MSG_MAX_PAYLOAD || nfds < 0 || nfds > MSG_MAX_FDS)
        return -ERR_INVAL;
    struct msg_head head = {type, (uint32_t)len};
    struct iovec iov[2] = {{&head, sizeof(head)}, {NULL, len}};
    memcpy(&iov[1].iov_base, &payload, sizeof(payload)); /* an iovec has no const */
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = len > 0 ? 2 : 1};
    union msg_control control;
    if (nfds > 0) {
        memset(&control, 0, sizeof(control));
        h.msg_control = control.bytes;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? msg_error() : 0;
}

/* Gathers the descriptors of a received message. One too many is closed; false then. */
static bool msg_take_fds(struct msghdr *h, struct msg *m)
{
    bool whole = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (m->nfds < MSG_MAX_FDS) {
                m->fds[m->nfds++] = fd;
            } else {
                close(fd);
                whole = false;
            }
        }
    }
    return whole;
}

int msg_recv(int fd, struct msg *m)
{
    struct msg_head head;
    struct iovec iov[2] = {{&head, sizeof(head)}, {m->payload, sizeof(m->payload)}};
    union msg_control control;
    struct msghdr h = {.msg_iov = iov,
                       .msg_iovlen = 2,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control)};
    m->type = m->len = 0;
    m->nfds = 0;
    ssize_t n;
    do
        n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return msg_error();
    bool whole = msg_take_fds(&h, m);
    /* An empty record cannot be told from the end; msg_send never makes one. */
    if (n == 0 && m->nfds == 0)
        return -ERR_EOF;
    if (whole && !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && (size_t)n >= sizeof(head) &&
        head.len == (size_t)n - sizeof(head)) {
        m->type = head.type;
        m->len = head.len;
        return 0;
    }
    for (int i = 0; i < m->nfds; i++)
        close(m->fds[i]);
    m->nfds = 0;
    return -ERR_PROTO;
}
