/* A generation: one configuration and the processes that run it. */
#include "master/generation.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "master/master.h"
#include "shm/cert.h"
#include "shm/resolve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* config/ may not include shm/, so it has the limits of the segment's tables a second time. */
_Static_assert(CONF_MOST_SERVERS == SHM_SERVERS && CONF_MOST_SERIES == SHM_SERIES &&
                   CONF_MOST_NAMES == SHM_NAMES,
               "the configuration's limits are not the segment's");

/* A process that was told to stop has so long before it is killed. */
#define STOP_GRACE_MS 5000
/* And one whose drain time is over, before it is told to stop: it ends by itself when its clock
 * says so. */
#define DRAIN_GRACE_MS 5000

static void generation_set_state(struct generation *g, enum gen_state to)
{
    MUST(gen_state_legal(g->state, to));
    g->state = to;
    g->since_ms = clock_ms();
}

static void generation_release(struct generation *g)
{
    if (g->holds)
        listener_release_all(&master.listeners, g->config);
    g->holds = false;
}

static int generation_open_logs(struct generation *g, struct conf_diags *d)
{
    struct slice path = g->config->global.error_log;
    int rc = logfile_open_all(&master.logfiles, g->config, d, g->log_fd);
    if (rc < 0)
        return rc;
    rc = logfile_open(&master.logfiles, path, &g->error_fd);
    if (rc < 0) {
        const struct conf_pos pos = {.file =
                                         g->config->path.n ? g->config->path.p : "<command line>"};
        conf_diag_add(d, CONF_ERROR, pos, NULL, "cannot open error log " SLICE_FMT ": %s",
                      SLICE_ARG(path), strerror(errno));
        logfile_release_all(&master.logfiles, g->config);
        return -ERR_INVAL;
    }
    g->holds_logs = true;
    return 0;
}

static void generation_release_logs(struct generation *g)
{
    if (!g->holds_logs)
        return;
    /* The last one leaves its error log open: the master writes there to its end. */
    bool last = master.generations.next == &g->link && g->link.next == &master.generations;
    if (!last || g->error_fd != log_fd())
        logfile_release(&master.logfiles, g->config->global.error_log);
    logfile_release_all(&master.logfiles, g->config);
    g->holds_logs = false;
}

void generation_use_log(const struct generation *g)
{
    /* In the background nobody reads stderr. */
    bool lost = g->error_fd == STDERR_FILENO && !master.foreground;
    if (g->error_fd < 0 || lost) {
        if (log_open_syslog("rpd") < 0)
            log_open_fd(STDERR_FILENO);
    } else {
        log_open_fd(g->error_fd);
    }
    log_set_level(ev_timer_running(&master.level_timer) ? master.level
                                                        : g->config->global.log_level);
}

static void generation_free(struct generation *g)
{
    generation_release(g);
    generation_release_logs(g);
    ev_timer_stop(&g->limit);
    list_remove(&g->link);
    caches_release(g);
    config_free(&g->config);
    conf_snapshot_free(&g->snapshot);
    free(g->server_id);
    free(g->resolve_id);
    free(g->series_id);
    free(g->cert_id);
    free(g->log_fd);
    free(g->child);
    free(g);
}

static int generation_children(struct generation *g, uint32_t n)
{
    g->child = calloc((size_t)n + 1, sizeof(*g->child)); /* none is left of some at an upgrade */
    if (!g->child)
        return -ERR_NOMEM;
    g->nchild = n;
    for (uint32_t i = 0; i < n; i++) {
        struct child *c = &g->child[i];
        c->gen = g;
        c->channel.fd = -1;
        c->slot = UINT32_MAX;
        c->number = i;
        c->role = WORKER_SERVE;
    }
    return 0;
}

/* Gives servers, names under resolution and routes their places in the segment. */
static int generation_register(struct generation *g, struct conf_diags *d)
{
    const struct config *c = g->config;
    char name[512];
    size_t n = 0;
    for (size_t i = 0; i < c->nupstream; i++) {
        const struct conf_upstream *u = c->upstream[i];
        for (size_t j = 0; j < u->k.server.n; j++, n++) {
            const struct conf_server *s = &u->k.server.v[j];
            int len = snprintf(name, sizeof(name), SLICE_FMT "/" SLICE_FMT, SLICE_ARG(u->name),
                               SLICE_ARG(s->name));
            size_t len_cut = len < (int)sizeof(name) ? (size_t)len : sizeof(name) - 1;
            g->resolve_id[n] = UINT32_MAX;
            if (server_register(master.segment, s->key, slice_of(name, len_cut), g->number,
                                &g->server_id[n]) < 0) {
                conf_diag_add(d, CONF_ERROR, s->pos, NULL, "more than %u servers", SHM_SERVERS);
                return -ERR_INVAL;
            }
            if (!s->literal && resolve_register(master.segment, s->host, &g->resolve_id[n]) < 0) {
                conf_diag_add(d, CONF_ERROR, s->pos, NULL, "more than %u host names to resolve",
                              SHM_NAMES);
                return -ERR_INVAL;
            }
        }
    }
    for (size_t i = 0; i < c->nroute; i++)
        g->series_id[c->route[i]->id] = series_register(master.segment, c->route[i]->series);
    for (size_t i = 0; i < c->ncertificate; i++) {
        const struct conf_certificate *s = c->certificate[i];
        if (cert_register(master.segment, s->name, g->number, &g->cert_id[s->id]) < 0) {
            conf_diag_add(d, CONF_ERROR, s->pos, NULL, "more than %u [certificate] sections",
                          CERT_ROWS);
            return -ERR_INVAL;
        }
    }
    return 0;
}

static struct generation *generation_alloc(struct conf_snapshot *s, struct config *c)
{
    struct generation *g = calloc(1, sizeof(*g));
    if (!g) {
        config_free(&c);
        conf_snapshot_free(&s);
        return NULL;
    }
    list_init(&g->link);
    g->state = GEN_STARTING;
    g->since_ms = clock_ms();
    g->snapshot = s;
    g->config = c;
    return g;
}

int generation_new(uint32_t number, struct conf_snapshot *s, struct config *c, struct conf_diags *d,
                   struct generation **ret)
{
    struct generation *g = generation_alloc(s, c);
    *ret = NULL;
    if (!g)
        return -ERR_NOMEM;
    g->number = number;
    g->nworker = c->workers;
    g->server_id = calloc(c->nserver + 1, sizeof(*g->server_id));
    g->resolve_id = calloc(c->nserver + 1, sizeof(*g->resolve_id));
    g->series_id = calloc(c->nroute + 1, sizeof(*g->series_id));
    g->cert_id = calloc(c->ncertificate + 1, sizeof(*g->cert_id));
    g->log_fd = calloc(c->nlog + 1, sizeof(*g->log_fd));
    int rc = -ERR_NOMEM;
    if (g->server_id && g->resolve_id && g->series_id && g->cert_id && g->log_fd &&
        generation_children(g, g->nworker + 1) == 0) {
        struct child *helper = &g->child[g->nworker];
        helper->number = CHILD_HELPER;
        helper->role = WORKER_HELPER;
        rc = generation_register(g, d);
    }
    if (rc == 0)
        rc = caches_open(g, d);
    if (rc == 0)
        rc = generation_open_logs(g, d);
    if (rc == 0) {
        rc = listener_open_all(&master.listeners, c, d);
        g->holds = rc == 0;
    }
    if (rc < 0) {
        generation_free(g);
        return rc;
    }
    list_append(&master.generations, &g->link);
    *ret = g;
    return 0;
}

int generation_inherit(uint32_t number, uint32_t nchild, enum gen_state state,
                       struct generation **ret)
{
    struct generation *g = generation_alloc(NULL, NULL);
    *ret = NULL;
    if (!g || generation_children(g, nchild) < 0) {
        free(g);
        return -ERR_NOMEM;
    }
    g->number = number;
    g->nworker = nchild;
    g->state = state;
    g->error_fd = -1;
    list_append(&master.generations, &g->link);
    *ret = g;
    return 0;
}

int generation_start(struct generation *g)
{
    for (uint32_t i = 0; i < g->nchild; i++) {
        int rc = child_spawn(&g->child[i]);
        if (rc < 0) {
            generation_kill(g);
            return rc;
        }
    }
    return 0;
}

bool generation_ready(const struct generation *g)
{
    for (uint32_t i = 0; i < g->nchild; i++) {
        if (g->child[i].state != CHILD_READY && g->child[i].state != CHILD_SERVING)
            return false;
    }
    return true;
}

int generation_accept(struct generation *g, const char **ret_text)
{
    if (listener_listen_all(&master.listeners, g->config, ret_text) < 0)
        return -ERR_SYS;
    generation_set_state(g, GEN_LIVE);
    for (uint32_t i = 0; i < g->nchild; i++) {
        child_set_state(&g->child[i], CHILD_SERVING);
        child_send(&g->child[i], M_ACCEPT);
    }
    return 0;
}

static void generation_on_limit(struct ev_timer *t)
{
    struct generation *g = CONTAINER(t, struct generation, limit);
    struct generation_load load;
    generation_load(g, &load);
    if (g->state == GEN_DRAINING) {
        LOG_WARN("drain_overdue",
                 "generation %u is over its drain time and is told to stop: %llu connections, %llu "
                 "requests, "
                 "%llu tunnels",
                 g->number, (unsigned long long)load.connections, (unsigned long long)load.requests,
                 (unsigned long long)load.tunnels);
        generation_stop(g);
        return;
    }
    for (uint32_t i = 0; i < g->nchild; i++) {
        struct child *c = &g->child[i];
        if (c->pid == 0)
            continue;
        LOG_WARN("child_killed", "%s pid %d of generation %u did not stop and is killed",
                 child_name(c), (int)c->pid, g->number);
        c->killed = true;
        child_kill(c, SIGKILL);
    }
}

void generation_resume(struct generation *g)
{
    uint64_t longest =
        g->drain.request_ms > g->drain.tunnel_ms ? g->drain.request_ms : g->drain.tunnel_ms;
    uint64_t end = g->since_ms + longest + DRAIN_GRACE_MS;
    if (g->state == GEN_DRAINING)
        ev_timer_set(&g->limit, end > clock_ms() ? end - clock_ms() : 0, generation_on_limit);
    else if (g->state != GEN_LIVE)
        ev_timer_set(&g->limit, STOP_GRACE_MS, generation_on_limit);
}

void generation_drain(struct generation *g, struct generation *successor, uint64_t request_ms,
                      uint64_t tunnel_ms)
{
    uint64_t longest = request_ms > tunnel_ms ? request_ms : tunnel_ms;
    if (g->state == GEN_LIVE)
        generation_set_state(g, GEN_DRAINING);
    g->drain = (struct worker_drain){
        .request_ms = request_ms, .tunnel_ms = tunnel_ms, .stopping = successor == NULL};
    if (master.live == g)
        master.live = NULL;
    for (uint32_t i = 0; i < g->nchild; i++) {
        struct child *c = &g->child[i];
        ev_timer_stop(&c->respawn);
        if (c->pid == 0)
            continue;
        if (c->state == CHILD_STARTING) {
            c->killed = true; /* it holds nothing yet */
            child_kill(c, SIGKILL);
            continue;
        }
        c->drain = g->drain;
        if (c->state != CHILD_STOPPING)
            child_set_state(c, CHILD_DRAINING);
        if (c->slot != UINT32_MAX)
            slot_set_state(master.segment, c->slot, SLOT_DRAINING);
        if (successor && c->role == WORKER_SERVE)
            child_introduce(c, &successor->child[c->number % successor->nworker]);
        child_send(c, M_DRAIN);
    }
    /* Workers close their own copies when their queues are empty; with ours gone too, what no
     * configuration names any more refuses new connections instead of letting them wait for nobody.
     */
    generation_release(g);
    ev_timer_set(&g->limit, longest + DRAIN_GRACE_MS, generation_on_limit);
    generation_check_gone(g);
}

void generation_reintroduce(struct generation *g, struct generation *successor)
{
    for (uint32_t i = 0; i < g->nchild; i++) {
        struct child *c = &g->child[i];
        if (c->pid == 0 || c->state != CHILD_DRAINING || c->role != WORKER_SERVE)
            continue;
        child_introduce(c, &successor->child[c->number % successor->nworker]);
        child_send(c, M_DRAIN);
    }
}

void generation_stop(struct generation *g)
{
    if (g->state == GEN_STOPPING)
        return;
    generation_set_state(g, GEN_STOPPING);
    if (master.live == g)
        master.live = NULL;
    for (uint32_t i = 0; i < g->nchild; i++) {
        struct child *c = &g->child[i];
        ev_timer_stop(&c->respawn);
        if (c->pid == 0)
            continue;
        child_set_state(c, CHILD_STOPPING);
        child_send(c, M_STOP);
    }
    generation_release(g);
    ev_timer_set(&g->limit, STOP_GRACE_MS, generation_on_limit);
    generation_check_gone(g);
}

void generation_kill(struct generation *g)
{
    if (g->state != GEN_STOPPING)
        generation_set_state(g, GEN_STOPPING);
    for (uint32_t i = 0; i < g->nchild; i++) {
        struct child *c = &g->child[i];
        ev_timer_stop(&c->respawn);
        c->killed = true;
        child_kill(c, SIGKILL);
    }
    generation_release(g);
    generation_check_gone(g);
}

uint32_t generation_living(const struct generation *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->nchild; i++)
        n += g->child[i].pid != 0;
    return n;
}

void generation_check_gone(struct generation *g)
{
    if (g->state == GEN_STARTING || g->state == GEN_LIVE || generation_living(g) > 0)
        return;
    LOG_INFO("generation_gone", "generation %u is gone", g->number);
    generation_set_state(g, GEN_GONE);
    generation_free(g);
    uint32_t oldest = UINT32_MAX;
    bool inherited = false;
    LIST_EACH(it, &master.generations)
    {
        const struct generation *o = CONTAINER(it, struct generation, link);
        if (o->number < oldest)
            oldest = o->number;
        inherited |= !o->config;
    }
    if (!inherited)
        caches_inherited_gone();
    if (oldest != UINT32_MAX) {
        server_retire(master.segment, oldest);
        cert_retire(master.segment, oldest);
    }
    reload_generation_gone();
    master_check_done();
}

void generation_load(const struct generation *g, struct generation_load *ret)
{
    *ret = (struct generation_load){0};
    for (uint32_t i = 0; i < g->nchild; i++) {
        if (g->child[i].pid == 0 || g->child[i].slot == UINT32_MAX)
            continue;
        const struct gauge_row *r = gauge_row(master.segment, g->child[i].slot);
        ret->connections += atomic_load_explicit(&r->v[GAU_CONNS], memory_order_relaxed);
        ret->requests += atomic_load_explicit(&r->v[GAU_STREAMS], memory_order_relaxed);
        ret->tunnels += atomic_load_explicit(&r->v[GAU_TUNNELS], memory_order_relaxed);
    }
}

void generation_reopen(struct generation *g)
{
    for (size_t i = 0; g->config && i < g->config->nlog; i++)
        g->log_fd[i] = logfile_fd(&master.logfiles, g->config->log[i]->k.file);
    if (g->config)
        g->error_fd = logfile_fd(&master.logfiles, g->config->global.error_log);
    for (uint32_t i = 0; g->config && i < g->nchild; i++) {
        if (g->child[i].pid != 0)
            child_send(&g->child[i], M_REOPEN);
    }
}

struct child *generation_find(pid_t pid)
{
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            if (g->child[i].pid == pid)
                return &g->child[i];
        }
    }
    return NULL;
}

struct generation *generation_oldest_draining(unsigned *ret_count)
{
    struct generation *oldest = NULL;
    *ret_count = 0;
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        if (g->state != GEN_DRAINING)
            continue;
        if (!oldest)
            oldest = g;
        ++*ret_count;
    }
    return oldest;
}
