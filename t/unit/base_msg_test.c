/* Messages: payloads, descriptors, a full queue, the end, and what a hostile peer may send. */
#include "base/err.h"
#include "base/msg.h"
#include "t/unit/tap.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct msg m;

/* The number a new descriptor would get: the same before and after means nothing leaked. */
static int next_fd(void)
{
    int fd = open("/dev/null", O_RDONLY);
    close(fd);
    return fd;
}

static void test_plain(void)
{
    static unsigned char big[MSG_MAX_PAYLOAD + 1];
    int fd[2];
    tap_is_int(msg_pair(fd), 0, "pair");
    tap_ok((fcntl(fd[0], F_GETFD) & FD_CLOEXEC) && (fcntl(fd[1], F_GETFL) & O_NONBLOCK), "flags");
    tap_is_int(msg_recv(fd[1], &m), -ERR_AGAIN, "nothing yet");
    tap_is_int(msg_send(fd[0], 7, "hello", 5, NULL, 0), 0, "send");
    tap_is_int(msg_send(fd[0], 8, NULL, 0, NULL, 0), 0, "send an empty one");
    tap_is_int(msg_recv(fd[1], &m), 0, "receive");
    tap_ok(m.type == 7 && m.len == 5 && memcmp(m.payload, "hello", 5) == 0 && m.nfds == 0, "whole");
    tap_ok(msg_recv(fd[1], &m) == 0 && m.type == 8 && m.len == 0, "the empty one");
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (unsigned char)(i % 251);
    tap_is_int(msg_send(fd[0], 9, big, MSG_MAX_PAYLOAD, NULL, 0), 0, "the largest");
    tap_ok(msg_recv(fd[1], &m) == 0 && m.len == MSG_MAX_PAYLOAD &&
               memcmp(m.payload, big, MSG_MAX_PAYLOAD) == 0,
           "arrives");
    tap_is_int(msg_send(fd[0], 9, big, sizeof(big), NULL, 0), -ERR_INVAL, "one byte more");
    int rc = 0, sent = 0;
    for (; sent < 100000 && rc == 0; sent++)
        rc = msg_send(fd[0], 1, big, 1000, NULL, 0);
    tap_is_int(rc, -ERR_AGAIN, "a full queue says so after %d", sent);
    close(fd[0]);
    while ((rc = msg_recv(fd[1], &m)) == 0)
        sent--;
    tap_is_int(rc, -ERR_EOF, "then the end");
    tap_is_int(sent, 1, "after all that was sent");
    tap_is_int(msg_send(fd[1], 1, NULL, 0, NULL, 0), -ERR_EOF, "nobody to send to, and no SIGPIPE");
    close(fd[1]);
}

static void test_fds(void)
{
    int fd[2], many[MSG_MAX_FDS], p[2];
    msg_pair(fd);
    if (pipe(p) < 0)
        tap_bail("pipe");
    int before = next_fd();
    for (int i = 0; i < MSG_MAX_FDS; i++)
        many[i] = p[1];
    tap_is_int(msg_send(fd[0], 1, "x", 1, many, MSG_MAX_FDS), 0, "64 descriptors");
    tap_ok(msg_recv(fd[1], &m) == 0 && m.nfds == MSG_MAX_FDS, "arrive");
    tap_ok(fcntl(m.fds[63], F_GETFD) & FD_CLOEXEC, "with CLOEXEC");
    tap_ok(write(m.fds[63], "y", 1) == 1, "and work");
    for (int i = 0; i < m.nfds; i++)
        close(m.fds[i]);
    tap_is_int(msg_send(fd[0], 1, "x", 1, many, MSG_MAX_FDS + 1), -ERR_INVAL, "65 do not");
    tap_is_int(next_fd(), before, "nothing leaked");
    close(p[0]);
    close(p[1]);
    close(fd[0]);
    close(fd[1]);
}

/* Sends raw bytes with n copies of descriptor 0. */
static void raw(int fd, void *data, size_t len, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 200)];
    } control;
    memset(&control, 0, sizeof(control));
    struct iovec iov = {data, len};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n > 0) {
        h.msg_control = control.bytes;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memset(CMSG_DATA(c), 0, sizeof(int) * n);
    }
    if (sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
        tap_bail("sendmsg");
}

static void test_hostile(void)
{
    static unsigned char big[MSG_MAX_PAYLOAD + 100];
    uint32_t head[3] = {5, 4, 0};
    int fd[2];
    msg_pair(fd);
    int before = next_fd();
    raw(fd[0], head, 7, 2);
    tap_is_int(msg_recv(fd[1], &m), -ERR_PROTO, "shorter than a head");
    raw(fd[0], head, 11, 2);
    tap_is_int(msg_recv(fd[1], &m), -ERR_PROTO, "shorter than it says");
    head[1] = 3;
    raw(fd[0], head, 12, 2);
    tap_is_int(msg_recv(fd[1], &m), -ERR_PROTO, "longer than it says");
    tap_ok(m.nfds == 0 && m.len == 0, "and nothing is handed over");
    head[1] = sizeof(big) - 8;
    memcpy(big, head, 8);
    raw(fd[0], big, sizeof(big), 1);
    tap_is_int(msg_recv(fd[1], &m), -ERR_PROTO, "longer than is allowed");
    head[1] = 4;
    raw(fd[0], head, 12, 100);
    tap_is_int(msg_recv(fd[1], &m), -ERR_PROTO, "more descriptors than are allowed");
    tap_is_int(next_fd(), before, "every descriptor was closed");
    raw(fd[0], head, 12, 0);
    tap_is_int(msg_recv(fd[1], &m), 0, "a good one still passes");
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    test_plain();
    test_fds();
    test_hostile();
    return tap_done();
}
