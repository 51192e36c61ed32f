/* Upstream groups of one worker: set-up, picking with accounting, the queue, addresses; see
 * upstream.h. */
#include "worker/upstream/upstream.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/resolve.h"
#include "worker/io/tls.h"
#include "worker/upstream/h2.h"

#include <string.h>
#include <unistd.h>

static enum up_speaks up_server_speaks(const struct conf_upstream *u, const struct conf_server *s)
{
    switch (u->k.protocol) {
    case CONF_UPROTO_H1:
        break;
    case CONF_UPROTO_H2:
    case CONF_UPROTO_H2C:
        return UP_SPEAKS_H2;
    case CONF_UPROTO_AUTO:
        return s->tls ? UP_SPEAKS_EITHER : UP_SPEAKS_H1;
    }
    return UP_SPEAKS_H1;
}

/* index: in its upstream; nth: of all servers */
static int up_server_init(struct up_server *s, struct upstream *u, const struct conf_server *conf,
                          const struct upstreams_env *env, size_t index, size_t nth)
{
    struct upstreams *us = u->all;
    s->conf = conf;
    s->group = u;
    s->id = env->server_id[nth];
    s->resolve_id = env->resolve_id[nth];
    s->row = server_row(us->segment, us->slot, s->id);
    list_init(&s->idle);
    list_init(&s->sessions);
    s->protocol = up_server_speaks(u->conf, conf);
    if (conf->tls) {
        s->tls = us->tls ? tls_client_of(us->tls, u->conf->id, index) : NULL;
        if (!s->tls)
            return -ERR_INVAL;
    }
    s->addr = ARENA_ARRAY(&us->arena, struct addr_any, conf->literal ? 1 : RESOLVE_ADDRS);
    if (!s->addr)
        return -ERR_NOMEM;
    if (conf->literal) {
        s->addr[0] = conf->addr;
        s->naddr = 1;
    }
    return 0;
}

static int upstream_init(struct upstreams *us, struct upstream *u, const struct conf_upstream *conf,
                         const struct upstreams_env *env, size_t first)
{
    u->conf = conf;
    u->all = us;
    u->n = conf->k.server.n;
    u->words = (u->n + 63) / 64;
    u->server = ARENA_ARRAY(&us->arena, struct up_server, u->n);
    list_init(&u->queue);
    list_init(&u->waking);
    uint32_t workers = env->workers ? env->workers : 1;
    u->queue_max = (uint32_t)((conf->k.queue + workers - 1) / workers);
    u->idle_share = (uint32_t)((conf->k.keepalive + workers - 1) / workers);
    if (!u->server)
        return -ERR_NOMEM;
    for (size_t i = 0; i < u->n; i++) {
        int e = up_server_init(&u->server[i], u, &conf->k.server.v[i], env, i, first + i);
        if (e < 0)
            return e;
        u->named = u->named || u->server[i].resolve_id != UINT32_MAX;
    }
    return balance_group_init(&u->balance, conf, us->segment, us->slot, env->server_id + first,
                              &us->arena);
}

/* Tunnels outlive their server's line in the configuration; what they count goes nowhere. */
static void upstream_init_removed(struct upstreams *us)
{
    static const struct conf_upstream conf = {.name = {"(removed)", 9}};
    static const struct conf_server server = {.name = {"(removed)", 9}};
    us->removed_server = (struct up_server){.conf = &server,
                                            .group = &us->removed,
                                            .id = UINT32_MAX,
                                            .resolve_id = UINT32_MAX,
                                            .row = &us->removed_row};
    list_init(&us->removed_server.idle);
    list_init(&us->removed_server.sessions);
    us->removed = (struct upstream){
        .conf = &conf, .all = us, .server = &us->removed_server, .n = 1, .words = 1};
    list_init(&us->removed.queue);
    list_init(&us->removed.waking);
}

int upstreams_init(struct upstreams *us, const struct upstreams_env *env)
{
    *us = (struct upstreams){.loop = env->loop,
                             .segment = env->segment,
                             .slot = env->slot,
                             .kick_fd = env->kick_fd,
                             .tls = env->tls};
    us->ctr = counter_row(us->segment, us->slot);
    us->gau = gauge_row(us->segment, us->slot);
    list_init(&us->waking);
    list_init(&us->busy);
    list_init(&us->dirty);
    pool_init(&us->sessions, "upstream sessions", up_h2_size);
    pool_init(&us->conns, "upstream connections", sizeof(struct up_conn));
    arena_init(&us->arena, NULL, 0, 0);
    upstream_init_removed(us);
    us->n = env->config->nupstream;
    us->group = ARENA_ARRAY(&us->arena, struct upstream, us->n ? us->n : 1);
    if (!us->group)
        return -ERR_NOMEM;
    size_t first = 0;
    for (size_t i = 0; i < us->n; i++) {
        const struct conf_upstream *conf = env->config->upstream[i];
        int e = upstream_init(us, &us->group[i], conf, env, first);
        if (e < 0)
            return e;
        first += conf->k.server.n;
    }
    return 0;
}

void upstreams_close(struct upstreams *us)
{
    (void)upstreams_trim(us, UINT32_MAX);
    while (!list_empty(&us->busy))
        up_abort(CONTAINER(us->busy.next, struct up_conn, node));
    (void)upstreams_trim(us, UINT32_MAX);
}

void upstreams_fini(struct upstreams *us)
{
    arena_fini(&us->arena);
    *us = (struct upstreams){0};
}

/* Takes over what the helper resolved since the last look. */
static void up_server_resolve(struct up_server *s)
{
    struct segment *seg = s->group->all->segment;
    struct resolve_answer a;
    if (resolve_version(seg, s->resolve_id) == s->resolve_version ||
        !resolve_read(seg, s->resolve_id, &a))
        return;
    s->resolve_version = a.version;
    s->naddr = a.n < RESOLVE_ADDRS ? a.n : RESOLVE_ADDRS;
    for (uint32_t i = 0; i < s->naddr; i++) {
        struct addr_any *to = &s->addr[i];
        *to = (struct addr_any){0};
        if (a.addr[i].sa.sa_family == AF_INET6) {
            to->len = sizeof to->u.in6;
            to->u.in6 = a.addr[i].in6;
            to->u.in6.sin6_port = htons(s->conf->port);
        } else {
            to->len = sizeof to->u.in;
            to->u.in = a.addr[i].in;
            to->u.in.sin_port = htons(s->conf->port);
        }
    }
}

static void upstream_resolve(struct upstream *u)
{
    for (size_t i = 0; i < u->n; i++) {
        if (u->server[i].resolve_id == UINT32_MAX)
            continue;
        up_server_resolve(&u->server[i]);
        u->balance.server[i].unaddressed = u->server[i].naddr == 0;
    }
}

int upstream_pick(struct upstream *u, uint64_t key_hash, const uint64_t *tried, bool *ret_probe)
{
    if (u->named)
        upstream_resolve(u);
    return balance_pick(&u->balance, key_hash, tried, clock_ms(), ret_probe);
}

static void upstream_kick(const struct upstreams *us, uint32_t slot)
{
    uint64_t one = 1;
    if (slot < SHM_SLOTS && slot != us->slot && us->kick_fd)
        (void)!write(us->kick_fd[slot], &one, sizeof one);
}

void upstream_done(struct upstream *u, int index, int err, unsigned status)
{
    struct upstreams *us = u->all;
    bool ejected = false, gateway = status == 502 || status == 503 || status == 504;
    uint32_t slot = balance_done(&u->balance, index, err, gateway, clock_ms(), &ejected);
    if (ejected) {
        counter_add(us->ctr, CTR_UP_EJECTS, 1);
        LOG_WARN("server_ejected", "upstream %.*s server %.*s after %s", SLICE_ARG(u->conf->name),
                 SLICE_ARG(u->server[index].conf->name), err ? err_reason(err) : "gateway status");
    }
    if (u->queued) {
        u->wakes++;
        if (!list_linked(&u->waking))
            list_append(&us->waking, &u->waking);
    }
    /* Its want bit is used up by now: it has to be told even if we take the place ourselves, or
     * nobody would tell it again. */
    upstream_kick(us, slot);
}

/* Asks the other workers to tell us of a free place, or no longer. */
static void upstream_want(struct upstream *u, bool want)
{
    for (size_t i = 0; i < u->n; i++) {
        if (want)
            server_want(u->all->segment, u->all->slot, u->server[i].id);
        else
            server_unwant(u->all->segment, u->all->slot, u->server[i].id);
    }
}

int upstream_wait(struct upstream *u, struct up_waiter *w, bool front)
{
    if (!front && u->queued >= u->queue_max) {
        counter_add(u->all->ctr, CTR_UP_QUEUE_FULL, 1);
        return -ERR_QUEUE_FULL;
    }
    if (front)
        list_push(&u->queue, &w->link);
    else
        list_append(&u->queue, &w->link);
    gauge_add(u->all->gau, GAU_QUEUED, 1);
    if (u->queued++ == 0 && !u->in_wake)
        upstream_want(u, true);
    if (!front) {
        counter_add(u->all->ctr, CTR_UP_QUEUED, 1);
        /* A place may have become free on another worker between our look and our want bit: look
         * once more. */
        u->wakes++;
        if (!list_linked(&u->waking))
            list_append(&u->all->waking, &u->waking);
    }
    return 0;
}

void upstream_unwait(struct upstream *u, struct up_waiter *w)
{
    if (!list_linked(&w->link))
        return;
    list_remove(&w->link);
    gauge_add(u->all->gau, GAU_QUEUED, -1);
    if (--u->queued == 0 && !u->in_wake)
        upstream_want(u, false);
}

/* Wakes as many waiters as places became free. One that finds no place puts itself back in front,
 * which ends the round; one that is picky is passed over and stays in front. The want bits are set
 * before the tries: whoever leaves after a try in vain sees them. */
static void upstream_wake(struct upstream *u)
{
    struct list passed;
    list_init(&passed);
    u->in_wake = true;
    upstream_want(u, true);
    while (u->wakes && !list_empty(&u->queue)) {
        struct up_waiter *w = CONTAINER(u->queue.next, struct up_waiter, link);
        u->wakes--;
        upstream_unwait(u, w);
        w->wake(w);
        if (u->queue.next != &w->link)
            continue;
        if (!w->picky)
            break;
        list_remove(&w->link);
        list_append(&passed, &w->link);
        u->wakes++;
    }
    while (!list_empty(&passed)) {
        struct list *last = passed.prev;
        list_remove(last);
        list_push(&u->queue, last);
    }
    u->wakes = 0;
    u->in_wake = false;
    if (!u->queued)
        upstream_want(u, false);
}

void upstreams_turn(struct upstreams *us)
{
    while (!list_empty(&us->waking)) {
        struct upstream *u = CONTAINER(us->waking.next, struct upstream, waking);
        list_remove(&u->waking);
        upstream_wake(u);
    }
    up_h2_turn(us);
}

void upstreams_kicked(struct upstreams *us)
{
    for (size_t i = 0; i < us->n; i++) {
        struct upstream *u = &us->group[i];
        if (!u->queued)
            continue;
        u->wakes += u->queued;
        if (!list_linked(&u->waking))
            list_append(&us->waking, &u->waking);
    }
}

unsigned upstreams_trim(struct upstreams *us, unsigned most)
{
    unsigned closed = 0;
    for (size_t i = 0; i < us->n && closed < most; i++)
        for (size_t j = 0; j < us->group[i].n && closed < most; j++) {
            struct list *idle = &us->group[i].server[j].idle;
            while (!list_empty(idle) && closed < most) {
                up_abort(CONTAINER(idle->prev, struct up_conn, node));
                closed++;
            }
            closed += up_h2_trim(&us->group[i].server[j], most - closed);
        }
    return closed;
}

bool up_server_address(struct up_server *s, struct addr_any *ret)
{
    if (!s->naddr)
        return false;
    *ret = s->addr[s->next_addr++ % s->naddr];
    return true;
}
