/* Draining: a worker of an old generation, or of a service that stops, finishes what it has and
 * exits. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "worker/stream/cached.h"

#include <unistd.h>

/* How long an idle connection of a draining worker may still bring a request that was on its way.
 */
#define DRAIN_IDLE_MS 2000u

static void drain_on_requests_due(struct timer *t)
{
    struct worker *w = CONTAINER(t, struct worker, drain_due);
    unsigned n = clients_abort(&w->clients, ERR_DRAINED, false);
    cached_drop_all(&w->streams);
    if (n)
        LOG_WARN("drain_timeout",
                 "%u connections of generation %u were ended: the drain time is over", n,
                 w->boot->generation);
}

static void drain_on_tunnels_due(struct timer *t)
{
    struct worker *w = CONTAINER(t, struct worker, tunnel_due);
    unsigned n = clients_abort(&w->clients, ERR_DRAINED, true);
    if (n)
        LOG_WARN("drain_tunnel_timeout",
                 "%u tunnels of generation %u were ended: the drain time is over", n,
                 w->boot->generation);
}

void drain_init(struct worker *w)
{
    w->handover.io.fd = -1;
    timer_init(&w->drain_due, drain_on_requests_due);
    timer_init(&w->tunnel_due, drain_on_tunnels_due);
}

void drain_begin(struct worker *w, uint64_t request_ms, uint64_t tunnel_ms, int successor)
{
    bool again = w->draining;
    w->draining = true;
    if (w->boot->role == WORKER_HELPER) {
        if (successor >= 0)
            close(successor);
        w->loop.stop = true;
        channel_drained(w);
        return;
    }
    clients_drain(&w->clients);
    w->upstreams.closing = true;
    handovers_end(&w->clients);
    if (successor >= 0) {
        handover_close(&w->handover);
        (void)handover_open(&w->handover, &w->clients, successor);
    }
    if (again)
        return;
    timer_set_at(&w->loop.timers, &w->drain_due, clock_ms() + request_ms);
    timer_set_at(&w->loop.timers, &w->tunnel_due,
                 clock_ms() + (tunnel_ms > request_ms ? tunnel_ms : request_ms));
}

void drain_stop_now(struct worker *w)
{
    w->draining = true;
    if (w->boot->role == WORKER_SERVE) {
        clients_drain(&w->clients);
        w->upstreams.closing = true;
        unsigned n = clients_abort(&w->clients, ERR_DRAINED, true);
        if (n)
            LOG_NOTICE("stop_aborted", "%u connections were ended by a fast stop", n);
    }
    w->loop.stop = true;
}

void drain_check(struct worker *w)
{
    if (w->loop.stop || w->boot->role == WORKER_HELPER)
        return;
    clients_drain_idle(&w->clients, DRAIN_IDLE_MS);
    (void)upstreams_trim(&w->upstreams, UINT32_MAX);
    if (w->clients.n || w->streams.nsettled)
        return;
    handover_close(&w->handover);
    channel_drained(w);
    w->loop.stop = true;
}
