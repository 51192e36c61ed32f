/* A client connection before it speaks HTTP: the PROXY protocol's header, the TLS handshake, and
 * which protocol follows. */
#include "worker/client/client.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "worker/http/proxyp.h"
#include "worker/io/tls.h"

#include <errno.h>
#include <sys/socket.h>

#define OPEN_PEEK (128u * 1024u) /* more than any PROXY header */

static void open_deadline(struct client *c, uint64_t ms)
{
    timer_set_at(&c->all->loop->timers, &c->timer, clock_ms() + ms);
}

/* ---- TLS ---- */

/* The link is plain again and has the client's first bytes in `in`: it is told, in plain. */
static void open_plain_http(struct client *c)
{
    char *p = c->all->loop->scratch;
    size_t n = tls_take_back(&c->link, p, LOOP_SCRATCH);
    c->peer.plain_on_tls = true;
    client_set_state(c, CLIENT_HEAD);
    client_set_proto(c, &client_h1_proto);
    if (!n || client_keep(c, p, n) < 0) {
        client_close(c);
        return;
    }
    client_h1_resume(c);
}

static void open_failed(struct client *c, int err)
{
    LOG_INFO("tls_handshake", "client %.*s: listener %.*s: %s%s%s", SLICE_ARG(c->peer.ip),
             SLICE_ARG(c->peer.listen->name), err_text(err), err == -ERR_TLS_HANDSHAKE ? ": " : "",
             err == -ERR_TLS_HANDSHAKE ? tls_last_error() : "");
    client_close(c);
}

static void open_handshake(struct client *c)
{
    int e = tls_handshake(&c->link);
    if (e == -ERR_AGAIN)
        return;
    if (e == -ERR_TLS_PLAIN) {
        open_plain_http(c);
        return;
    }
    if (e < 0) {
        open_failed(c, e);
        return;
    }
    c->peer.scheme = SLICE("https");
    c->head_since_ms = 0;
    c->born_ms = clock_ms(); /* the time for a head begins now */
    client_set_state(c, CLIENT_HEAD);
    if (tls_is_h2(&c->link))
        client_h2_start(c, NULL, 0);
    else
        client_h1_start(c);
}

static void open_established(struct client *c)
{
    const struct clients *cs = c->all;
    const struct conf_listen *l = c->peer.listen;
    if (!l->k.tls) {
        client_set_state(c, CLIENT_HEAD);
        client_h1_start(c);
        return;
    }
    client_set_state(c, CLIENT_HANDSHAKE);
    open_deadline(c, l->conn.handshake_timeout);
    if (tls_accept(tls_server_of(cs->tls, l->id), &c->link) < 0) {
        counter_add(cs->ctr, CTR_NOMEM, 1);
        client_close(c);
        return;
    }
    open_handshake(c);
}

/* ---- PROXY protocol ---- */

/* The header is looked at in the socket and taken when it is whole: what follows is TLS's or
 * HTTP's. */
static void open_proxy(struct client *c)
{
    struct clients *cs = c->all;
    struct proxyp h;
    char *p = cs->loop->scratch;
    int fd = c->link.io.fd;
    if (!(c->link.io.ready & IO_READ))
        return;
    c->link.io.ready &= (uint8_t)~IO_READ;
    ssize_t n = recv(fd, p, OPEN_PEEK, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int used = n > 0 ? proxyp_parse(p, (size_t)n, &h) : -ERR_BAD_PROXY;
    if (used == -ERR_AGAIN && !(c->link.io.ready & IO_HUP))
        return;
    if (used < 0 || recv(fd, p, (size_t)used, 0) != used) {
        if (n > 0) {
            counter_add(cs->ctr, CTR_BAD_REQUESTS, 1);
            LOG_INFO("proxy_protocol", "client %.*s: listener %.*s: %s", SLICE_ARG(c->peer.ip),
                     SLICE_ARG(c->peer.listen->name), err_text(ERR_BAD_PROXY));
        }
        client_close(c);
        return;
    }
    if (!h.local && h.src.sa.sa_family != AF_UNSPEC) {
        client_set_peer(c, &h.src);
        if (addr_port(&h.dst.sa))
            c->peer.listen_port = addr_port(&h.dst.sa);
        if (!client_count_address(c)) {
            counter_add(cs->ctr, CTR_CONN_REFUSED, 1);
            client_close(c);
            return;
        }
    }
    c->link.io.ready |= IO_READ;
    open_established(c);
}

/* ---- between accept and protocol ---- */

static void client_open_event(struct io *io)
{
    struct client *c = CONTAINER(io, struct client, link.io);
    if (c->state == CLIENT_PROXY)
        open_proxy(c);
    else if (c->state == CLIENT_HANDSHAKE)
        open_handshake(c);
}

void client_open_start(struct client *c, bool proxy)
{
    c->link.io.ready |= IO_READ | IO_WRITE;
    if (!proxy) {
        open_established(c);
        return;
    }
    open_deadline(c, c->peer.listen->conn.head_timeout);
    open_proxy(c);
}

static void client_open_timer(struct timer *t)
{
    struct client *c = CONTAINER(t, struct client, timer);
    if (c->state == CLIENT_HANDSHAKE) {
        counter_add(c->all->ctr, CTR_TLS_FAILED, 1);
        open_failed(c, -ERR_TLS_TIME);
    } else {
        client_close(c);
    }
}

static unsigned client_open_kill(struct client *c, int err, bool tunnels)
{
    (void)err;
    (void)tunnels;
    client_close(c);
    return 0;
}

static void client_open_closed(struct client *c)
{
    (void)c;
}

static void client_open_print(const struct client *c, struct json *j, struct buf *out)
{
    (void)c;
    (void)j;
    (void)out;
}

const struct client_proto client_open_proto = {.name = "-",
                                               .event = client_open_event,
                                               .timer = client_open_timer,
                                               .kill = client_open_kill,
                                               .closed = client_open_closed,
                                               .print = client_open_print};
