/* From an exchange to its line in the access log. */
#include "worker/state.h"

#include "base/clock.h"
#include "worker/stream/cached.h"

static struct worker *record_worker;

static void record_on_due(struct timer *t)
{
    record_turn(CONTAINER(t, struct worker, log_due));
}

void record_init(struct worker *w)
{
    record_worker = w;
    timer_init(&w->log_due, record_on_due);
}

void record_turn(struct worker *w)
{
    w->log_dirty = false;
    int ms = access_logs_flush(w->logs, clock_ms(), false);
    counter_add(w->ctr, CTR_LOG_DROPPED, access_logs_dropped(w->logs));
    if (ms >= 0)
        timer_set_at(&w->loop.timers, &w->log_due, clock_ms() + (uint64_t)ms);
}

void record_log(const struct stream *s)
{
    struct worker *w = record_worker;
    if (s->scope && s->scope->access_log.off)
        return;
    const struct access_record r = {
        .req = s->malformed ? NULL : &s->req,
        .line = s->line,
        .resp = s->have_resp && s->kept ? &s->resp : NULL,
        .route = s->route,
        .client_ip = s->client_ip,
        .peer_ip = s->peer->ip,
        .client_port = s->peer->port,
        .link = s->peer->link,
        .listen = s->peer->listen->name,
        .scheme = s->peer->scheme,
        .request_id = s->request_id,
        .upstream = s->upstream ? s->upstream->conf->name : SLICE_NONE,
        .server = s->server >= 0 ? s->upstream->server[s->server].conf->name : SLICE_NONE,
        .tried = s->tried_text,
        .tries = s->tries,
        .reused = s->reused,
        .status = s->status,
        .reason = s->reason,
        .grpc_status = s->grpc_status,
        .bytes_in = s->bytes_in,
        .bytes_out = s->bytes_out,
        .body_out = s->body_out,
        .t_queue = s->queue_us,
        .t_connect = s->connect_us,
        .t_first_byte = s->first_us,
        .t_total = s->end_us,
        .cache = cached_word(s),
        .cache_age = cached_age(s),
        .encoding = s->coding ? codec_of((enum conf_coding)(s->coding - 1))->name : SLICE_NONE,
        .plain = s->plain,
        .conn_requests = s->nth,
        .wall_ms = s->wall_ms,
    };
    access_log(w->logs, &r);
    w->log_dirty = true;
}
