/* A worker process from fork to exit: what it is assembled from, in order; see worker.h. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/proc.h"
#include "shm/slot.h"
#include "worker/stream/cached.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static struct worker worker_self;

#define HEAP_BURST   512u   /* connections: less is not worth a look */
#define HEAP_TRIM_MS 10000u /* between two looks */

/* After a burst of connections what they held is given back to the kernel: in the middle of the
 * heap free() does not do it. */
static void worker_trim(struct worker *w)
{
    const uint32_t n = w->clients.n;
    if (n > w->conns_peak)
        w->conns_peak = n;
    if (w->conns_peak < HEAP_BURST || n > w->conns_peak / 4 ||
        clock_ms() - w->trimmed_ms < HEAP_TRIM_MS)
        return;
    w->conns_peak = n;
    w->trimmed_ms = clock_ms();
    malloc_trim(1 << 20);
}

static void worker_on_heartbeat(struct timer *t)
{
    struct worker *w = CONTAINER(t, struct worker, heartbeat);
    worker_trim(w);
    timer_set_at(&w->loop.timers, t, clock_ms() + w->boot->config->global.watchdog / 4);
}

/* What clients have taken opens windows towards servers. */
static void worker_output(struct worker *w)
{
    do {
        upstreams_turn(&w->upstreams);
        clients_turn(&w->clients);
    } while (!list_empty(&w->upstreams.dirty));
}

static void worker_on_turn(void *arg)
{
    struct worker *w = arg;
    slot_heartbeat(w->boot->segment, w->boot->slot, clock_ms());
    counter_add(w->ctr, CTR_TURNS, 1);
    if (w->draining)
        handover_send(&w->handover);
    if (w->caches.n)
        caches_turn(&w->caches, (uint32_t)(clock_cached.wall_ms / 1000));
    bool again = false;
    if (w->boot->role == WORKER_SERVE) {
        again = filters_turn(&w->filters);
        worker_output(w);
    }
    if (w->draining)
        drain_check(w);
    if (w->log_dirty)
        record_turn(w);
    if (again || (w->caches.n && !caches_may_sleep(&w->caches)))
        io_again(&w->loop, &w->kick);
}

static void worker_on_kick(struct io *io)
{
    struct worker *w = CONTAINER(io, struct worker, kick);
    uint64_t n;
    if (io->ready && read(io->fd, &n, sizeof n) > 0)
        upstreams_kicked(&w->upstreams);
}

/* The master's signals are the master's: a worker is told by messages. */
static void worker_signals(void)
{
    static const int ignored[] = {SIGPIPE,  SIGHUP, SIGUSR1, SIGUSR2,
                                  SIGWINCH, SIGINT, SIGQUIT, SIGCHLD};
    struct sigaction sa = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        sigaction(ignored[i], &sa, NULL);
    sa.sa_handler = SIG_DFL;
    sigaction(SIGTERM, &sa, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void worker_name(const struct worker_boot *b)
{
    static char who[24], title[48];
    if (b->role == WORKER_HELPER)
        snprintf(who, sizeof who, "helper");
    else
        snprintf(who, sizeof who, "w%u", b->number);
    snprintf(title, sizeof title, "rpd: %s (generation %u)",
             b->role == WORKER_HELPER ? "helper" : who, b->generation);
    log_set_who(who);
    proc_set_title(title);
}

static int worker_privileges(const struct worker_boot *b)
{
    if (b->uid == (uid_t)-1)
        return 0;
    int e = proc_drop(b->uid, b->gid);
    if (e == 0)
        /* A core of a process that changed its user is off by default; ours holds nobody's keys but
         * our own. */
        prctl(PR_SET_DUMPABLE, 0);
    return e;
}

static uint64_t worker_nofile(void)
{
    struct rlimit r;
    return getrlimit(RLIMIT_NOFILE, &r) ? 1024 : (uint64_t)r.rlim_cur;
}

static int worker_routes(struct worker *w)
{
    struct conf_diags d;
    conf_diags_init(&d);
    int e = route_table_new(w->boot->config, &d, &w->streams.routes);
    if (e == 0)
        e = access_logs_new(w->boot->config, &d, w->boot->log_fd, &w->logs);
    if (e < 0) {
        struct buf b;
        buf_init(&b, MSG_MAX_PAYLOAD - 1);
        conf_diags_print(&d, &b);
        buf_chr(&b, '\0');
        channel_failed(w, b.n > 1 && b.p ? b.p : err_text(e));
        buf_fini(&b);
    }
    conf_diags_fini(&d);
    return e;
}

static int worker_serve_init(struct worker *w)
{
    struct worker_boot *b = w->boot;
    const struct upstreams_env ue = {.loop = &w->loop,
                                     .config = b->config,
                                     .segment = b->segment,
                                     .slot = b->slot,
                                     .server_id = b->server_id,
                                     .resolve_id = b->resolve_id,
                                     .kick_fd = b->kick_fd,
                                     .tls = w->tls,
                                     .workers = b->config->workers};
    int e = upstreams_init(&w->upstreams, &ue);
    if (e < 0)
        return e;
    const struct caches_env cae = {.config = b->config,
                                   .cache = b->cache,
                                   .owner = slot_owner_id(b->segment, b->slot),
                                   .kick_fd = b->kick_fd};
    e = caches_init(&w->caches, &cae);
    if (e < 0)
        return e;
    w->streams = (struct stream_env){.loop = &w->loop,
                                     .config = b->config,
                                     .segment = b->segment,
                                     .upstreams = &w->upstreams,
                                     .caches = &w->caches,
                                     .ctr = w->ctr,
                                     .gau = gauge_row(b->segment, b->slot),
                                     .tls = w->tls,
                                     .series_id = b->series_id,
                                     .slot = b->slot,
                                     .log = record_log};
    e = stream_env_init(&w->streams);
    if (e < 0)
        return e;
    e = filters_init(&w->filters, &w->streams);
    if (e < 0)
        return e;
    e = worker_routes(w);
    if (e < 0)
        return e;
    access_logs_set_worker(w->logs, b->number);
    record_init(w);
    recode_init(w);
    const struct clients_env ce = {.loop = &w->loop,
                                   .stream = &w->streams,
                                   .config = b->config,
                                   .ctr = w->ctr,
                                   .gau = w->streams.gau,
                                   .tls = w->tls,
                                   .nofile = worker_nofile(),
                                   .number = b->number};
    e = clients_init(&w->clients, &ce);
    for (size_t i = 0; e == 0 && i < b->nsock; i++)
        e = clients_listen(&w->clients, i, b->nsock, b->sock[i].fd, b->sock[i].listen,
                           b->sock[i].address, b->sock[i].owner);
    if (e < 0)
        return e;
    w->kick = (struct io){.fd = b->kick_fd[b->slot], .handler = worker_on_kick};
    return io_add_level(&w->loop, &w->kick, false);
}

/* The heap breathes with the load: giving memory back to the kernel at each lull and asking for it
 * again a moment later costs more than the requests in between (a brk or mmap and its faults). */
static void worker_heap(void)
{
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
    mallopt(M_TOP_PAD, 256 << 10);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
}

static int worker_init(struct worker *w)
{
    struct worker_boot *b = w->boot;
    worker_heap();
    panic_attach(slot_panic_record(b->segment, b->slot), SLOT_PANIC_SIZE);
    panic_install();
    worker_signals();
    worker_name(b);
    int e = loop_init(&w->loop);
    if (e < 0)
        return e;
    list_init(&w->watched);
    w->ctr = counter_row(b->segment, b->slot);
    w->loop.on_turn = worker_on_turn;
    w->loop.arg = w;
    drain_init(w);
    e = channel_open(w);
    if (e < 0)
        return e;
    if (b->role == WORKER_SERVE && b->config->global.cpu_affinity)
        (void)proc_pin((int)b->number);
    if (b->role == WORKER_SERVE) {
        e = certfile_init(w);
        if (e < 0)
            return e;
    }
    e = worker_privileges(b);
    if (e < 0) {
        channel_failed(w, "cannot change to the configured user");
        return e;
    }
    e = b->role == WORKER_HELPER ? helper_init(w) : worker_serve_init(w);
    if (e < 0)
        return e;
    timer_init(&w->heartbeat, worker_on_heartbeat);
    worker_on_heartbeat(&w->heartbeat);
    slot_heartbeat(b->segment, b->slot, clock_ms());
    return 0;
}

/* Whatever was taken must have been put back: a leak that nobody sees is a leak that stays. */
static void worker_pool_fini(struct pool *p)
{
    if (p->in_use)
        LOG_ALERT("leak", "%u objects of pool %s were never given back", p->in_use, p->name);
    else if (p->name)
        pool_fini(p);
}

static void worker_fini(struct worker *w)
{
    if (w->boot->role == WORKER_HELPER) {
        helper_fini(w);
        loop_fini(&w->loop);
        return;
    }
    (void)clients_abort(&w->clients, ERR_DRAINED, true); /* none are left unless the loop failed */
    cached_drop_all(&w->streams);
    if (w->logs) {
        (void)access_logs_flush(w->logs, clock_ms(), true);
        access_logs_free(&w->logs);
    }
    upstreams_close(&w->upstreams);
    loop_bury_dead(&w->loop);
    route_table_free(&w->streams.routes);
    stream_env_fini(&w->streams);
    filters_fini(&w->filters);
    clients_fini(&w->clients);
    struct pool *const pools[] = {
        &w->streams.pool,   &w->streams.pipes.pool, &w->filters.pool,      &w->clients.pool,
        &w->clients.bodies, &w->upstreams.conns,    &w->upstreams.sessions};
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        worker_pool_fini(pools[i]);
    upstreams_fini(&w->upstreams);
    caches_fini(&w->caches);
    tls_free(&w->tls);
    loop_fini(&w->loop);
}

int worker_run(struct worker_boot *b)
{
    struct worker *w = &worker_self;
    w->boot = b;
    int e = worker_init(w);
    if (e < 0) {
        LOG_ERROR("worker_init", "worker %u of generation %u cannot start: %s", b->number,
                  b->generation, err_text(e));
        if (!w->ready_sent)
            channel_failed(w, err_text(e));
        return 1;
    }
    if (b->role == WORKER_SERVE)
        channel_ready(w);
    e = loop_run(&w->loop);
    if (e < 0)
        LOG_ALERT("loop_failed", "the event loop failed: %s", err_text(e));
    worker_fini(w);
    return e < 0 ? 1 : w->status;
}
