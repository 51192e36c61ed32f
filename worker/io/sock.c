/* Sockets towards clients and servers; see sock.h. */
#include "worker/io/sock.h"

#include "base/err.h"

#include <errno.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static int sock_connect_error(int e)
{
    switch (e) {
    case ECONNREFUSED:
    case ENOENT:
        return -ERR_CONNECT_REFUSED;
    case EMFILE:
    case ENFILE:
    case EADDRNOTAVAIL: /* no local port is left: our want, not the server's fault */
        return -ERR_FD_LIMIT;
    default:
        return -ERR_CONNECT_FAILED;
    }
}

int sock_connect(const struct addr_any *to, bool *ret_done)
{
    *ret_done = false;
    int fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return sock_connect_error(errno);
    if (to->u.sa.sa_family != AF_UNIX) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (connect(fd, &to->u.sa, to->len) == 0) {
        *ret_done = true;
        return fd;
    }
    if (errno == EINPROGRESS)
        return fd;
    int e = errno;
    close(fd);
    /* A unix listener whose queue is full says EAGAIN at once. */
    return e == EAGAIN && to->u.sa.sa_family != AF_UNIX ? -ERR_FD_LIMIT : sock_connect_error(e);
}

int sock_connect_result(int fd)
{
    int e = 0;
    socklen_t n = sizeof e;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n))
        e = errno;
    return e ? sock_connect_error(e) : 0;
}

int sock_accept(int listener, union addr *ret_peer)
{
    socklen_t n = sizeof *ret_peer;
    memset(ret_peer, 0, sizeof *ret_peer);
    int fd = accept4(listener, &ret_peer->sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case EAGAIN:
        return -ERR_AGAIN;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return -ERR_FD_LIMIT;
    default:
        return -ERR_SYS;
    }
}

uint64_t sock_acked(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) ||
        n < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked)
        return 0;
    return info.tcpi_bytes_acked;
}

bool sock_unread(int fd, uint64_t before)
{
    uint64_t acked = sock_acked(fd);
    return acked && acked <= before + 1; /* the SYN counts as one (tcp(7), RFC 4898) */
}

bool sock_idle_alive(int fd)
{
    char c;
    ssize_t r = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
    return r < 0 && errno == EAGAIN;
}
