/* Sockets: connecting, refusals, and whether a peer that went away can have read our last bytes. */
#include "worker/io/sock.h"

#include "base/err.h"
#include "t/unit/tap.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

struct pair {
    int ours, theirs;
};

static int listener(struct addr_any *ret)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret = (struct addr_any){.len = sizeof ret->u.in};
    ret->u.in =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, &ret->u.sa, ret->len) || listen(fd, 8) || getsockname(fd, &ret->u.sa, &ret->len))
        return -1;
    return fd;
}

static bool wait_event(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 5000) == 1;
}

/* A connection that carried five bytes there and two back, all acknowledged. */
static struct pair make_pair(int l, const struct addr_any *a)
{
    char b[16];
    bool done;
    union addr peer;
    struct pair p = {.ours = sock_connect(a, &done)};
    tap_ok(p.ours >= 0 && wait_event(p.ours, POLLOUT), "connects");
    tap_is_int(sock_connect_result(p.ours), 0, "and says so");
    tap_ok(wait_event(l, POLLIN), "one waits");
    p.theirs = sock_accept(l, &peer);
    tap_ok(p.theirs >= 0 && peer.sa.sa_family == AF_INET, "accepted");
    tap_is_int(write(p.ours, "12345", 5), 5, "there");
    tap_ok(wait_event(p.theirs, POLLIN) && read(p.theirs, b, sizeof b) == 5, "read");
    tap_is_int(write(p.theirs, "ok", 2), 2, "and back");
    tap_ok(sock_idle_alive(p.ours) == !wait_event(p.ours, POLLIN), "unread bytes are not idle");
    tap_is_int(read(p.ours, b, sizeof b), 2, "read");
    tap_ok(sock_idle_alive(p.ours), "idle and alive");
    return p;
}

int main(void)
{
    struct addr_any a, closed;
    union addr peer;
    char b[16];
    bool done;
    int l = listener(&a);
    tap_is_int(sock_accept(fcntl(l, F_SETFL, O_NONBLOCK) == 0 ? l : -1, &peer), -ERR_AGAIN,
               "nobody waits");

    struct pair p = make_pair(l, &a);
    close(p.theirs);
    tap_ok(wait_event(p.ours, POLLRDHUP), "the peer closes");
    tap_ok(!sock_idle_alive(p.ours), "not alive");
    tap_is_int(write(p.ours, "abc", 3), 3, "bytes behind that");
    tap_ok(wait_event(p.ours, POLLERR | POLLHUP), "are refused");
    tap_ok(sock_unread(p.ours, 5), "and were read by nobody");
    tap_ok(!sock_unread(p.ours, 0), "those before them were");
    close(p.ours);

    p = make_pair(l, &a);
    tap_is_int(write(p.ours, "abc", 3), 3, "bytes");
    tap_ok(wait_event(p.theirs, POLLIN) && read(p.theirs, b, sizeof b) == 3, "that are read");
    close(p.theirs);
    tap_ok(wait_event(p.ours, POLLRDHUP), "before the peer closes");
    tap_ok(!sock_unread(p.ours, 5), "may have been acted upon");
    close(p.ours);

    int s = listener(&closed);
    close(s);
    int fd = sock_connect(&closed, &done);
    if (fd >= 0) {
        tap_ok(wait_event(fd, POLLOUT), "an answer");
        tap_is_int(sock_connect_result(fd), -ERR_CONNECT_REFUSED, "refused");
        close(fd);
    } else {
        tap_is_int(fd, -ERR_CONNECT_REFUSED, "refused at once");
    }
    struct addr_any none = {.len = sizeof none.u.un};
    none.u.un = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    tap_is_int(sock_connect(&none, &done), -ERR_CONNECT_REFUSED, "no unix socket");
    close(l);
    return tap_done();
}
