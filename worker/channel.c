/* The channel to the master: what it tells a worker to do, and what a worker answers; see worker.h
 * for the messages. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "worker/io/tls_cert.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct msg channel_msg;

static void channel_reopen(struct worker *w, const struct msg *m)
{
    const struct worker_reopen *r = (const void *)m->payload;
    int fds[256], at = 0;
    size_t nlog = w->boot->config->nlog;
    if (m->len < sizeof *r || nlog > 256)
        goto bad;
    if (r->error_log) {
        if (at >= m->nfds)
            goto bad;
        int to = log_fd();
        if (to > STDERR_FILENO) {
            dup3(m->fds[at], to, O_CLOEXEC);
            close(m->fds[at]);
        } else {
            log_open_fd(m->fds[at]);
        }
        at++;
    }
    for (size_t i = 0; i < nlog; i++)
        fds[i] = r->has[i] && at < m->nfds ? m->fds[at++] : -1;
    if (w->logs)
        access_logs_reopen(w->logs, fds);
    for (; at < m->nfds; at++)
        close(m->fds[at]);
    return;
bad:
    for (int i = at; i < m->nfds; i++)
        close(m->fds[i]);
}

static void channel_level_back(struct timer *t)
{
    struct worker *w = CONTAINER(t, struct worker, level_due);
    log_set_level(w->level_before);
}

static void channel_level(struct worker *w, const struct msg *m)
{
    const struct worker_log_level *l = (const void *)m->payload;
    if (m->len < sizeof *l || l->level > LOG_LV_DEBUG)
        return;
    if (!timer_is_set(&w->level_due))
        w->level_before = log_threshold;
    log_set_level((enum log_level)l->level);
    if (l->for_ms)
        timer_set_at(&w->loop.timers, &w->level_due, clock_ms() + l->for_ms);
    else
        timer_stop(&w->level_due);
}

struct channel_pools {
    struct buf *out;
    struct json *json;
};

static void channel_pool(const struct pool *p, void *arg)
{
    const struct channel_pools *c = arg;
    if (!c->json) {
        buf_printf(c->out, "%s size=%zu in_use=%u peak=%u slabs=%u\n", p->name, p->size, p->in_use,
                   p->peak, p->slabs);
        return;
    }
    json_object(c->json);
    json_kcstr(c->json, "pool", p->name);
    json_ku64(c->json, "size", p->size);
    json_ku64(c->json, "in_use", p->in_use);
    json_ku64(c->json, "peak", p->peak);
    json_ku64(c->json, "slabs", p->slabs);
    json_end_object(c->json);
}

static void channel_state(const struct worker *w, bool as_json, struct buf *out)
{
    uint32_t by_client[CLIENT__COUNT] = {0}, by_stream[STREAM__COUNT] = {0};
    const struct list *heads[] = {&w->clients.idle, &w->clients.active};
    for (int h = 0; h < 2; h++)
        LIST_EACH(it, heads[h])
    by_client[CONTAINER(it, struct client, node)->state]++;
    LIST_EACH(it, &w->streams.all)
    by_stream[CONTAINER(it, struct stream, all)->state]++;
    struct json j;
    json_init(&j, out);
    if (as_json)
        json_object(&j);
    for (unsigned i = 0; i < CLIENT__COUNT + STREAM__COUNT; i++) {
        bool client = i < CLIENT__COUNT;
        uint32_t n = client ? by_client[i] : by_stream[i - CLIENT__COUNT];
        const char *name = client ? client_state_name((enum client_state)i)
                                  : stream_state_name((enum stream_state)(i - CLIENT__COUNT));
        char key[48];
        size_t at = 0;
        for (const char *p = client ? "client_" : "stream_"; *p; p++)
            key[at++] = *p;
        for (const char *p = name; *p && at < sizeof key - 1; p++)
            key[at++] = *p;
        key[at] = '\0';
        if (as_json)
            json_ku64(&j, key, n);
        else if (n)
            buf_printf(out, "%s %u\n", key, n);
    }
    if (as_json)
        json_end_object(&j);
}

static void channel_reply(struct worker *w, uint32_t id, struct slice text)
{
    static struct {
        struct worker_reply head;
        char text[MSG_MAX_PAYLOAD - sizeof(struct worker_reply)];
    } r;
    do {
        size_t n = text.n < sizeof r.text ? text.n : sizeof r.text;
        r.head = (struct worker_reply){.id = id, .more = text.n > n};
        if (n)
            memcpy(r.text, text.p, n);
        if (msg_send(w->channel.fd, W_REPLY, &r, sizeof r.head + n, NULL, 0) < 0) {
            /* The master is slow: better a short answer than a worker that waits. */
            r.head.more = 0;
            (void)msg_send(w->channel.fd, W_REPLY, &r, sizeof r.head, NULL, 0);
            return;
        }
        text.p += n;
        text.n -= n;
    } while (text.n);
}

static void channel_query(struct worker *w, const struct msg *m)
{
    const struct worker_query *q = (const void *)m->payload;
    struct buf b;
    struct json j;
    if (m->len < sizeof *q)
        return;
    buf_init(&b, 512u << 10);
    json_init(&j, &b);
    struct channel_pools cp = {.out = &b, .json = q->json ? &j : NULL};
    switch (w->boot->role == WORKER_SERVE ? q->kind : 0) {
    case WQ_CONNS:
        clients_print(&w->clients, q->limit, q->json, &b);
        break;
    case WQ_POOLS:
        if (q->json)
            json_array(&j);
        pool_each(channel_pool, &cp);
        if (q->json)
            json_end_array(&j);
        break;
    case WQ_STATE:
        channel_state(w, q->json, &b);
        break;
    case WQ_CERTS:
        tls_cert_print(w->tls, slice_of(q->filter, strnlen(q->filter, sizeof q->filter)), q->limit,
                       q->json, &b);
        break;
    default:
        break;
    }
    channel_reply(w, q->id, buf_slice(&b));
    buf_fini(&b);
}

static void channel_message(struct worker *w, const struct msg *m)
{
    const struct worker_drain *d = (const void *)m->payload;
    switch (m->type) {
    case M_ACCEPT:
        w->accepted = true;
        if (w->boot->role == WORKER_SERVE && !w->draining && clients_accept_start(&w->clients) < 0)
            LOG_ALERT("accept_start", "cannot watch the listening sockets");
        return;
    case M_DRAIN:
        if (m->len >= sizeof *d)
            drain_begin(w, d->request_ms, d->tunnel_ms, m->nfds ? m->fds[0] : -1);
        return;
    case M_STOP:
        drain_stop_now(w);
        return;
    case M_REOPEN:
        channel_reopen(w, m);
        return;
    case M_COVER:
        if (w->boot->role == WORKER_SERVE && m->len >= sizeof(struct worker_cover) &&
            clients_cover(&w->clients, ((const struct worker_cover *)m->payload)->number) < 0)
            LOG_ALERT("accept_start", "cannot watch the listening sockets");
        return;
    case M_LOG_LEVEL:
        channel_level(w, m);
        return;
    case M_QUERY:
        channel_query(w, m);
        return;
    case M_CERT_FILES:
    case M_CERT_GONE:
        certfile_message(w, m);
        return;
    case M_RECODE:
        recode_message(w, m);
        return;
    case M_ADOPT:
        for (int i = 0; i < m->nfds; i++) {
            if (w->boot->role == WORKER_SERVE)
                (void)handover_accept(&w->clients, m->fds[i]);
            else
                close(m->fds[i]);
        }
        return;
    default:
        for (int i = 0; i < m->nfds; i++)
            close(m->fds[i]);
        LOG_ERROR("channel_type", "unknown message %u from the master", m->type);
    }
}

/* Without a master nobody will replace us: finish what there is, as configured, and go. */
static void channel_orphaned(struct worker *w)
{
    const struct conf_global_keys *g = &w->boot->config->global;
    io_remove(&w->loop, &w->channel);
    if (w->draining)
        return;
    w->orphan = true;
    LOG_WARN("master_gone", "the master is gone; finishing and leaving");
    drain_begin(w, g->drain_timeout, g->drain_tunnel_timeout, -1);
}

static void channel_on_event(struct io *io)
{
    struct worker *w = CONTAINER(io, struct worker, channel);
    for (int i = 0; i < 16; i++) {
        int e = msg_recv(io->fd, &channel_msg);
        if (e == -ERR_AGAIN)
            return;
        if (e == -ERR_PROTO) {
            LOG_ERROR("channel_proto", "malformed message from the master");
            continue;
        }
        if (e < 0) {
            channel_orphaned(w);
            return;
        }
        channel_message(w, &channel_msg);
    }
}

int channel_open(struct worker *w)
{
    timer_init(&w->level_due, channel_level_back);
    w->channel = (struct io){.fd = w->boot->channel, .handler = channel_on_event};
    return io_add_level(&w->loop, &w->channel, false);
}

void channel_ready(struct worker *w)
{
    if (w->ready_sent)
        return;
    w->ready_sent = true;
    (void)msg_send(w->boot->channel, W_READY, NULL, 0, NULL, 0);
}

void channel_failed(struct worker *w, const char *text)
{
    w->ready_sent = true;
    (void)msg_send(w->boot->channel, W_FAILED, text, strlen(text), NULL, 0);
}

void channel_drained(struct worker *w)
{
    if (!w->orphan)
        (void)msg_send(w->boot->channel, W_DRAINED, NULL, 0, NULL, 0);
}
