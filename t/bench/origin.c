/* The benchmark's origin: GET /b/N is answered with N bytes, at as little cost as possible; GET
 * /c/N/ANY likewise, to be stored by caches; GET /t/N with N bytes of something like HTML. usage:
 * origin PORT */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BODY_MAX (4u << 20)
#define FDS      65536

struct conn {
    char head[2048];
    size_t have; /* bytes of an incomplete request */
    char answer[256];
    size_t answer_len;
    size_t answer_n, left; /* bytes of head and of body that are still to be sent */
    const char *body;
    bool busy;
};
static struct conn *conns[FDS];
static char *bodies[2]; /* of /b/ and /c/, and of /t/ */

/* True when all is out, false when the socket is full or gone. */
static bool push(int fd, struct conn *c)
{
    const size_t n = c->answer_len;
    while (c->answer_n > 0 || c->left > 0) {
        const struct iovec v[2] = {
            {.iov_base = c->answer + n - c->answer_n, .iov_len = c->answer_n},
            {.iov_base = (void *)(uintptr_t)c->body, .iov_len = c->left},
        };
        const ssize_t w = writev(fd, v, 2);
        if (w < 0)
            return false;
        const size_t head = (size_t)w < c->answer_n ? (size_t)w : c->answer_n;
        c->answer_n -= head;
        c->left -= (size_t)w - head;
        c->body += (size_t)w - head;
    }
    c->busy = false;
    return true;
}

/* Answers complete requests in order; the load generators do not pipeline bodies. */
static void answer(int fd, struct conn *c)
{
    while (!c->busy && c->have > 0) {
        const char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
        if (!end)
            return;
        const char *size = memmem(c->head, c->have, "/b/", 3);
        const char *stored = size ? NULL : memmem(c->head, c->have, "/c/", 3);
        const char *text = size || stored ? NULL : memmem(c->head, c->have, "/t/", 3);
        size = size ? size : stored ? stored : text;
        c->body = bodies[text != NULL];
        c->left = size ? strtoul(size + 3, NULL, 10) : 0;
        if (c->left > BODY_MAX)
            c->left = BODY_MAX;
        /* A head of the usual number of fields: proxies pay for each. */
        c->answer_n = c->answer_len = (size_t)snprintf(
            c->answer, sizeof(c->answer),
            "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: "
            "text/%s\r\nContent-Length: %zu\r\n"
            "Cache-Control: %s\r\nETag: \"b%zu\"\r\n\r\n",
            text ? "html" : "plain", c->left, stored ? "max-age=3600" : "no-store", c->left);
        const size_t used = (size_t)(end - c->head) + 4;
        memmove(c->head, c->head + used, c->have - used);
        c->have -= used;
        c->busy = true;
        if (!push(fd, c))
            return;
    }
}

static void drop(int fd)
{
    free(conns[fd]);
    conns[fd] = NULL;
    close(fd);
}

static void ready(int fd, uint32_t events)
{
    struct conn *c = conns[fd];
    if (!c)
        return;
    if ((events & EPOLLOUT) && c->busy && push(fd, c))
        answer(fd, c);
    for (;;) {
        const size_t room = sizeof(c->head) - c->have;
        const ssize_t r = room > 0 ? recv(fd, c->head + c->have, room, 0) : 0;
        if (r < 0 && errno == EAGAIN)
            return;
        if (r <= 0) {
            drop(fd);
            return;
        }
        c->have += (size_t)r;
        answer(fd, c);
        if ((size_t)r < room)
            return;
    }
}

/* Tags and words in no order: compresses to about a fifth, as pages do. */
static void make_text(char *to)
{
    static const char *const word[] = {"<div class=\"card\">",
                                       "</div>\n",
                                       "<a href=\"/item/",
                                       "\">",
                                       "</a>",
                                       "price ",
                                       "of the ",
                                       "article ",
                                       "17",
                                       "205",
                                       "new "};
    unsigned x = 12345;
    for (size_t n = 0; n < BODY_MAX;) {
        x = x * 1103515245u + 12345u;
        for (const char *w = word[(x >> 16) % 11]; *w && n < BODY_MAX; w++)
            to[n++] = *w;
    }
}

int main(int argc, char **argv)
{
    const int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
              ep = epoll_create1(0);
    const struct sockaddr_in a = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    signal(SIGPIPE, SIG_IGN);
    bodies[0] = malloc(BODY_MAX);
    bodies[1] = malloc(BODY_MAX);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (!bodies[0] || !bodies[1] || bind(listener, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(listener, 4096) < 0) {
        perror("origin");
        return 1;
    }
    memset(bodies[0], 'b', BODY_MAX);
    make_text(bodies[1]);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener}, got[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        const int n = epoll_wait(ep, got, 256, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.fd != listener) {
                ready(got[i].data.fd, got[i].events);
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                if (fd >= FDS || !(conns[fd] = calloc(1, sizeof(struct conn)))) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                ev = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
            }
        }
    }
}
