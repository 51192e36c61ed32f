/* Connections handed from a draining worker to its successor; see handover.h. */
#include "worker/client/handover.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/msg.h"
#include "worker/stream/tunnel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDOVER_IDLE   1u
#define HANDOVER_TUNNEL 2u
#define HANDOVER_NAME   128u

/* Both sides may be of different builds (binary upgrade): the size is the version. */
struct handover_client {
    uint32_t size;
    uint32_t requests, max_requests;
    uint16_t listen_port;
    uint16_t name_len;
    uint64_t age_ms;
    union addr peer;
    char name[HANDOVER_NAME]; /* of the listener */
};

static struct msg handover_msg;

static void handover_forget(struct client *c)
{
    /* The successor holds the same socket: closing ours does not end it, but it would stay in our
     * epoll set. */
    io_remove(c->all->loop, &c->link.io);
    client_close(c);
}

static bool handover_describe(const struct client *c, struct handover_client *d)
{
    const struct slice name = c->peer.listen->name;
    /* The state of HTTP/2 is in its library. */
    if (name.n > HANDOVER_NAME || !c->link.ops->splice || c->h2)
        return false;
    *d = (struct handover_client){.size = sizeof *d,
                                  .requests = c->requests,
                                  .max_requests = c->max_requests,
                                  .listen_port = c->peer.listen_port,
                                  .name_len = (uint16_t)name.n,
                                  .age_ms = clock_ms() - c->born_ms,
                                  .peer = c->peer.addr};
    memcpy(d->name, name.p, name.n);
    return true;
}

/* 0 given away; 1 this one stays here; -ERR_AGAIN try later; other errors: the successor is gone.
 */
static int handover_idle(struct handover *h, struct client *c)
{
    struct handover_client d;
    if (c->in_n || link_backlog(&c->link, &c->out) || !handover_describe(c, &d))
        return 1;
    int e = msg_send(h->io.fd, HANDOVER_IDLE, &d, sizeof d, &c->link.io.fd, 1);
    if (e == 0)
        handover_forget(c);
    return e;
}

static int handover_tunnel(struct handover *h, struct client *c)
{
    struct handover_client d;
    int fds[2] = {c->link.io.fd, -1};
    char *at = (char *)handover_msg.payload;
    if (c->in_n || link_backlog(&c->link, &c->out) || c->shut_after || !c->stream ||
        !handover_describe(c, &d))
        return 1;
    memcpy(at, &d, sizeof d);
    ssize_t n = tunnel_describe(c->stream, at + sizeof d, MSG_MAX_PAYLOAD - sizeof d, &fds[1]);
    if (n < 0)
        return 1;
    int e = msg_send(h->io.fd, HANDOVER_TUNNEL, at, sizeof d + (size_t)n, fds, 2);
    if (e < 0)
        return e;
    tunnel_leave(c->stream);
    handover_forget(c);
    return 0;
}

void handover_close(struct handover *h)
{
    if (h->io.fd < 0)
        return;
    h->all->handing = false;
    io_close(&h->io);
}

void handover_send(struct handover *h)
{
    struct clients *cs = h->all;
    if (!cs || h->io.fd < 0 || h->full)
        return;
    for (int pass = 0; pass < (cs->ntunnel ? 2 : 1); pass++) {
        struct list *head = pass ? &cs->active : &cs->idle;
        LIST_EACH_SAFE(it, tmp, head)
        {
            struct client *c = CONTAINER(it, struct client, node);
            if (pass && c->state != CLIENT_TUNNEL)
                continue;
            int e = pass ? handover_tunnel(h, c) : handover_idle(h, c);
            if (e == -ERR_AGAIN) {
                h->full = true;
                return;
            }
            if (e < 0) {
                LOG_NOTICE("handover_lost", "the successor is gone; connections are finished here");
                handover_close(h);
                return;
            }
        }
    }
}

static void handover_on_writable(struct io *io)
{
    struct handover *h = CONTAINER(io, struct handover, io);
    if (io->ready & IO_HUP) {
        handover_close(h);
        return;
    }
    h->full = false;
    handover_send(h);
}

int handover_open(struct handover *h, struct clients *cs, int fd)
{
    *h = (struct handover){.io = {.fd = fd, .handler = handover_on_writable}, .all = cs};
    cs->handing = io_add(cs->loop, &h->io) == 0;
    if (cs->handing)
        return 0;
    close(fd);
    h->io.fd = -1;
    return -ERR_SYS;
}

/* ---- the successor ---- */

/* Does the listener still have an address of that port? Where the PROXY protocol is spoken, the
 * port is not ours. */
static bool handover_port(const struct conf_listen *l, uint16_t port)
{
    if (l->k.proxy_protocol.mode != CONF_PROXYP_OFF)
        return true;
    for (size_t i = 0; i < l->k.address.n; i++)
        if (addr_port(&l->k.address.v[i].addr.u.sa) == port)
            return true;
    return false;
}

static const struct conf_listen *handover_listener(const struct clients *cs, struct slice name,
                                                   uint16_t port)
{
    for (size_t i = 0; i < cs->config->nlisten; i++)
        if (slice_eq(cs->config->listen[i]->name, name) &&
            handover_port(cs->config->listen[i], port))
            return cs->config->listen[i];
    return NULL;
}

static int handover_take(struct clients *cs, const struct msg *m)
{
    struct handover_client d;
    bool tunnel = m->type == HANDOVER_TUNNEL;
    if (m->len < sizeof d || m->nfds != (tunnel ? 2 : 1))
        return -ERR_PROTO;
    memcpy(&d, m->payload, sizeof d);
    if (d.size != sizeof d || d.name_len > HANDOVER_NAME)
        return -ERR_PROTO;
    const struct conf_listen *l =
        handover_listener(cs, slice_of(d.name, d.name_len), d.listen_port);
    if (!l && tunnel)
        l = cs->config->listen[0];
    if (!l)
        return -ERR_NOENT;
    struct client *c = client_adopt(cs, l, m->fds[0], &d.peer, d.listen_port, d.age_ms);
    if (!c)
        return -ERR_NOMEM;
    c->requests = d.requests;
    c->max_requests = d.max_requests;
    if (!tunnel) {
        client_h1_resume(c);
        return 0;
    }
    int e = client_h1_resume_tunnel(c, (const char *)m->payload + sizeof d, m->len - sizeof d,
                                    m->fds[1]);
    if (e < 0) {
        client_close(c);
        close(m->fds[1]);
        LOG_WARN("handover_refused", "a tunnel could not be taken over: %s", err_text(e));
    }
    return 1; /* the descriptors are dealt with */
}

static void handover_on_readable(struct io *io)
{
    struct handover_in *h = CONTAINER(io, struct handover_in, io);
    for (int i = 0; i < 64; i++) {
        int e = msg_recv(io->fd, &handover_msg);
        if (e == -ERR_AGAIN && !h->all->draining)
            return;
        if (e == -ERR_PROTO)
            continue;
        if (e < 0) {
            io_remove(h->all->loop, io);
            close(io->fd);
            io->fd = -1; /* the few bytes stay until the process ends: a stale event may still point
                            here */
            return;
        }
        e = handover_take(h->all, &handover_msg);
        for (int k = 0; e < 0 && k < handover_msg.nfds; k++)
            close(handover_msg.fds[k]);
    }
}

int handover_accept(struct clients *cs, int fd)
{
    struct handover_in *h = calloc(1, sizeof *h);
    if (!h) {
        close(fd);
        return -ERR_NOMEM;
    }
    h->io = (struct io){.fd = fd, .handler = handover_on_readable};
    h->all = cs;
    h->next = cs->handovers;
    cs->handovers = h;
    if (io_add_level(cs->loop, &h->io, false) == 0)
        return 0;
    close(fd);
    h->io.fd = -1;
    return -ERR_SYS;
}

void handovers_end(struct clients *cs)
{
    for (struct handover_in *h = cs->handovers; h; h = h->next) {
        /* What is queued can still be read after this; who sends more is told, and keeps it. */
        if (h->io.fd >= 0)
            shutdown(h->io.fd, SHUT_RD);
        while (h->io.fd >= 0)
            handover_on_readable(&h->io);
    }
}

void handovers_free(struct clients *cs)
{
    while (cs->handovers) {
        struct handover_in *h = cs->handovers;
        cs->handovers = h->next;
        if (h->io.fd >= 0)
            close(h->io.fd);
        free(h);
    }
}
