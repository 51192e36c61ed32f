/* The least a proxy can do: bytes of each client to a server connection of its own and back, unread. What it costs is the floor
 * that proxies are measured against. usage: relay PORT ORIGIN-PORT */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 65536
static int peer[FDS];
static char buf[256 << 10];

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void move(int from)
{
    const int to = peer[from];
    const ssize_t r = to > 0 ? recv(from, buf, sizeof(buf), MSG_DONTWAIT) : -1;
    if (to <= 0 || (r < 0 && errno == EAGAIN))
        return;
    if (r <= 0) {
        peer[from] = peer[to] = 0;
        close(from);
        close(to);
        return;
    }
    for (ssize_t at = 0; at < r;) {
        const ssize_t w = send(to, buf + at, (size_t)(r - at), MSG_DONTWAIT);
        if (w > 0) {
            at += w;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = to, .events = POLLOUT}, 1, -1);
        } else {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
    const struct sockaddr_in here = loopback(argv[1]), origin = loopback(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (const struct sockaddr *)&here, sizeof(here)) < 0 || listen(listener, 4096) < 0) {
        perror("relay");
        return 1;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener}, got[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        const int n = epoll_wait(ep, got, 256, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.fd != listener) {
                move(got[i].data.fd);
                continue;
            }
            for (int client; (client = accept4(listener, NULL, NULL, 0)) >= 0;) {
                const int server = socket(AF_INET, SOCK_STREAM, 0);
                if (server < 0 || server >= FDS || client >= FDS ||
                    connect(server, (const struct sockaddr *)&origin, sizeof(origin)) < 0) {
                    close(client);
                    close(server);
                    continue;
                }
                peer[client] = server;
                peer[server] = client;
                const int both[2] = {client, server};
                for (int k = 0; k < 2; k++) {
                    setsockopt(both[k], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                    ev = (struct epoll_event){.events = EPOLLIN, .data.fd = both[k]};
                    epoll_ctl(ep, EPOLL_CTL_ADD, both[k], &ev);
                }
            }
        }
    }
}
