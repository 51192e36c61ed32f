/* The least a proxy can do, as the floor that proxies are measured against.
 *   relay pass PORT ORIGIN-PORT   bytes of each client to a server connection of its own and back,
 * unread relay hit PORT SIZE           a canned answer of SIZE bytes to whatever is read */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 65536
static int peer[FDS]; /* the other side of a pair; 0: none */
static char buf[256 << 10];
static char *canned;
static size_t canned_n;

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* All of it, waiting when the socket is full. */
static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        const ssize_t w = send(fd, p, n, MSG_DONTWAIT);
        if (w >= 0) {
            p += w;
            n -= (size_t)w;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        } else {
            return false;
        }
    }
    return true;
}

static void drop(int fd)
{
    const int other = peer[fd];
    peer[fd] = 0;
    close(fd);
    if (other) {
        peer[other] = 0;
        close(other);
    }
}

static void ready(int fd)
{
    /* An event of a pair that was dropped in this round finds no peer. */
    if (!canned && !peer[fd])
        return;
    const ssize_t r = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (r < 0 && errno == EAGAIN)
        return;
    if (r <= 0 || !(canned ? write_all(fd, canned, canned_n) : write_all(peer[fd], buf, (size_t)r)))
        drop(fd);
}

static void watch(int ep, int fd)
{
    const int one = 1;
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void take(int ep, int client, const struct sockaddr_in *origin)
{
    if (!canned) {
        const int server = socket(AF_INET, SOCK_STREAM, 0);
        if (client >= FDS || server < 0 || server >= FDS ||
            connect(server, (const struct sockaddr *)origin, sizeof *origin) < 0) {
            close(client);
            if (server >= 0)
                close(server);
            return;
        }
        peer[client] = server;
        peer[server] = client;
        watch(ep, server);
    }
    watch(ep, client);
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[1], "pass") != 0 && strcmp(argv[1], "hit") != 0)) {
        fprintf(stderr, "usage: relay pass PORT ORIGIN-PORT | relay hit PORT SIZE\n");
        return 2;
    }
    const struct sockaddr_in here = loopback(argv[2]), origin = loopback(argv[3]);
    if (strcmp(argv[1], "hit") == 0) {
        const size_t size = strtoul(argv[3], NULL, 10);
        canned = malloc(size + 256);
        if (!canned)
            return 1;
        canned_n = (size_t)sprintf(canned,
                                   "HTTP/1.1 200 OK\r\nContent-Type: "
                                   "application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
                                   size);
        memset(canned + canned_n, 'b', size);
        canned_n += size;
    }
    signal(SIGPIPE, SIG_IGN);
    const int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
              ep = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)&here, sizeof here) < 0 ||
        listen(listener, 4096) < 0) {
        perror("relay");
        return 1;
    }
    struct epoll_event got[256];
    watch(ep, listener);
    for (;;) {
        const int n = epoll_wait(ep, got, 256, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.fd != listener) {
                ready(got[i].data.fd);
                continue;
            }
            for (int client; (client = accept4(listener, NULL, NULL, 0)) >= 0;)
                take(ep, client, &origin);
        }
    }
}
