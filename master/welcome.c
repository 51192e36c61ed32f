/* The built-in origin of `rpd --default`. */
#include "master/welcome.h"

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/proc.h"
#include "master/child.h"
#include "master/master.h"

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WELCOME_CONNS    512
#define WELCOME_HEAD     ((size_t)64 << 10)
#define WELCOME_AGAIN_MS 1000

struct welcome_conn {
    int fd;
    struct buf in; /* a request head that is not complete yet */
    uint64_t skip; /* bytes of its body that are still to come */
    struct buf out;
    size_t sent;
    bool close; /* after what is in out */
};
static struct welcome_conn welcome_conns[WELCOME_CONNS];
static size_t welcome_n;

static void welcome_drop(size_t i)
{
    struct welcome_conn *c = &welcome_conns[i];
    close(c->fd);
    buf_fini(&c->in);
    buf_fini(&c->out);
    *c = welcome_conns[--welcome_n];
}

static void welcome_escape(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '<':
            buf_str(out, "&lt;");
            break;
        case '>':
            buf_str(out, "&gt;");
            break;
        case '&':
            buf_str(out, "&amp;");
            break;
        case '\r':
            break;
        default:
            buf_chr(out, s.p[i]);
            break;
        }
    }
}

static void welcome_page(struct buf *out, struct slice head)
{
    buf_str(out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>rpd "
            "works</title>\n"
            "<style>body{font:16px/1.5 sans-serif;max-width:44em;margin:3em auto;padding:0 1em}"
            "pre{background:#f3f3f3;padding:1em;overflow:auto}</style></head>\n<body>\n<h1>rpd "
            "works</h1>\n"
            "<p>This page comes from a small origin inside rpd, and your request went the whole "
            "way to it through the proxy. "
            "This is how it arrived:</p>\n<pre>");
    welcome_escape(out, head);
    buf_str(out, "</pre>\n<p>Next: <code>rpd --to http://127.0.0.1:3000</code> puts rpd in front "
                 "of your application; "
                 "<code>rpctl status</code> shows what it does; the manual is in "
                 "<code>rpd.conf(5)</code>.</p>\n</body></html>\n");
}

/* The value of a field, or SLICE_NONE. Good enough behind rpd, which has checked the message. */
static struct slice welcome_field(struct slice head, struct slice name)
{
    struct slice line;
    while (slice_next(&head, '\n', &line)) {
        ptrdiff_t colon = slice_chr(line, ':');
        if (colon < 0 || !slice_eq_ci(slice_of(line.p, (size_t)colon), name))
            continue;
        struct slice v = slice_of(line.p + colon + 1, line.n - (size_t)colon - 1);
        if (v.n > 0 && v.p[v.n - 1] == '\r')
            v.n--;
        return slice_trim(v);
    }
    return SLICE_NONE;
}

/* Answers a whole head. */
static void welcome_answer(struct welcome_conn *c, struct slice head)
{
    struct buf page;
    struct slice length = welcome_field(head, SLICE("Content-Length"));
    buf_init(&page, 0);
    welcome_page(&page, slice_of(head.p, head.n - 2));
    c->skip = 0;
    for (size_t i = 0; i < length.n && i < 18 && length.p[i] >= '0' && length.p[i] <= '9'; i++)
        c->skip = c->skip * 10 + (uint64_t)(length.p[i] - '0');
    /* A chunked body is not decoded here: the connection ends with it. */
    c->close = slice_eq_ci(welcome_field(head, SLICE("Connection")), SLICE("close")) ||
               welcome_field(head, SLICE("Transfer-Encoding")).n > 0;
    buf_printf(
        &c->out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %zu\r\n"
        "Cache-Control: no-store\r\n%s\r\n",
        page.n, c->close ? "Connection: close\r\n" : "");
    if (!slice_starts(head, SLICE("HEAD ")))
        buf_add(&c->out, buf_slice(&page));
    buf_fini(&page);
}

/* Takes requests off the front of what came; false when the connection is to be dropped. */
static bool welcome_requests(struct welcome_conn *c)
{
    for (;;) {
        size_t n = c->skip < c->in.n ? (size_t)c->skip : c->in.n;
        const char *end = NULL;
        if (n > 0) {
            memmove(c->in.p, c->in.p + n, c->in.n - n);
            c->in.n -= n;
            c->skip -= n;
        }
        if (c->skip > 0 || c->in.n == 0 || c->close || c->out.n > WELCOME_HEAD)
            return true;
        end = memmem(c->in.p, c->in.n, "\r\n\r\n", 4);
        if (!end)
            return c->in.n < WELCOME_HEAD;
        n = (size_t)(end - c->in.p) + 4;
        welcome_answer(c, slice_of(c->in.p, n));
        memmove(c->in.p, c->in.p + n, c->in.n - n);
        c->in.n -= n;
        if (c->out.failed)
            return false;
    }
}

static bool welcome_readable(struct welcome_conn *c)
{
    char rest[16384];
    if (c->close) {
        ssize_t n = recv(c->fd, rest, sizeof(rest), MSG_DONTWAIT);
        return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
    }
    if (!buf_reserve(&c->in, sizeof(rest)))
        return false;
    ssize_t n = recv(c->fd, c->in.p + c->in.n, sizeof(rest), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    c->in.n += (size_t)n;
    return welcome_requests(c);
}

static bool welcome_writable(struct welcome_conn *c)
{
    while (c->sent < c->out.n) {
        ssize_t n =
            send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
    }
    buf_clear(&c->out);
    c->sent = 0;
    if (c->close)
        shutdown(c->fd,
                 SHUT_WR); /* and read on until the peer closes: no reset for what it still sends */
    return c->close || welcome_requests(c);
}

static void welcome_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct welcome_conn *c = &welcome_conns[welcome_n++];
    *c = (struct welcome_conn){.fd = fd};
    buf_init(&c->in, 4 * WELCOME_HEAD);
    buf_init(&c->out, 8 * WELCOME_HEAD);
}

static _Noreturn void welcome_serve(int listener)
{
    static struct pollfd p[WELCOME_CONNS + 1];
    for (;;) {
        size_t n = welcome_n;
        p[0] = (struct pollfd){.fd = n < WELCOME_CONNS ? listener : -1, .events = POLLIN};
        for (size_t i = 0; i < n; i++)
            p[i + 1] =
                (struct pollfd){.fd = welcome_conns[i].fd,
                                .events = (short)(welcome_conns[i].out.n > 0 ? POLLOUT : POLLIN)};
        if (poll(p, n + 1, -1) < 0)
            continue;
        for (size_t i = n; i-- > 0;) {
            struct welcome_conn *c = &welcome_conns[i];
            bool ok = true;
            if (p[i + 1].revents & (POLLIN | POLLHUP | POLLERR))
                ok = welcome_readable(c);
            if (ok && c->out.n > 0)
                ok = welcome_writable(c);
            if (!ok)
                welcome_drop(i);
        }
        if (p[0].revents)
            welcome_accept(listener);
    }
}

static void welcome_on_again(struct ev_timer *t)
{
    welcome_start(CONTAINER(t, struct welcome, again));
}

int welcome_open(struct welcome *w)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(in);
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->fd < 0)
        return -ERR_SYS;
    if (bind(w->fd, (struct sockaddr *)&in, n) < 0 || listen(w->fd, 512) < 0 ||
        getsockname(w->fd, (struct sockaddr *)&in, &n) < 0) {
        close(w->fd);
        w->fd = -1;
        return -ERR_SYS;
    }
    w->on = true;
    w->port = ntohs(in.sin_port);
    return 0;
}

int welcome_adopt(struct welcome *w, int fd, pid_t pid)
{
    struct sockaddr_in in;
    socklen_t n = sizeof(in);
    if (getsockname(fd, (struct sockaddr *)&in, &n) < 0 || n != sizeof(in))
        return -ERR_SYS;
    w->on = true;
    w->fd = fd;
    w->port = ntohs(in.sin_port);
    w->pid = pid;
    return 0;
}

void welcome_start(struct welcome *w)
{
    if (!w->on || w->pid != 0)
        return;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        ev_timer_set(&w->again, WELCOME_AGAIN_MS, welcome_on_again);
        return;
    }
    if (pid > 0) {
        w->pid = pid;
        return;
    }
    int keep[1] = {w->fd};
    child_clean(keep, 1);
    proc_die_with_parent();
    log_set_who("welcome");
    proc_set_title("rpd: welcome origin");
    if (master.uid != (uid_t)-1 && proc_drop(master.uid, master.gid) < 0)
        _exit(1);
    /* Changing the user undoes the wish to die with the parent. */
    proc_die_with_parent();
    welcome_serve(w->fd);
}

void welcome_reaped(struct welcome *w, pid_t pid)
{
    if (!w->on || pid != w->pid)
        return;
    w->pid = 0;
    if (!master.stopping)
        ev_timer_set(&w->again, 0, welcome_on_again);
}

void welcome_stop(struct welcome *w)
{
    if (!w->on)
        return;
    w->on = false;
    ev_timer_stop(&w->again);
    if (w->pid > 0 && kill(w->pid, SIGKILL) == 0)
        waitpid(w->pid, NULL, 0); /* at the very end, and at once: nobody else would reap it */
    close(w->fd);
    w->fd = -1;
}
