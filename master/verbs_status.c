/* rpctl status: health at a glance. */
#include "base/clock.h"
#include "base/json.h"
#include "base/num.h"
#include "master/master.h"
#include "master/supervise.h"
#include "master/verbs.h"
#include "shm/cert.h"

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* An old generation that still has requests so long after its drain time is stuck. */
#define STUCK_GRACE_MS 10000

/* "3d 4h", "12m 5s": two units are enough for a person. */
static const char *status_age(uint64_t ms)
{
    static char text[2][32];
    static unsigned turn;
    char *t = text[turn++ % 2];
    uint64_t s = ms / 1000;
    if (s >= 86400)
        snprintf(t, 32, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        snprintf(t, 32, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        snprintf(t, 32, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
    else
        snprintf(t, 32, "%" PRIu64 "s", s);
    return t;
}

static void health_note(struct buf *out, uint32_t *worst, uint32_t code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void health_note(struct buf *out, uint32_t *worst, uint32_t code, const char *fmt, ...)
{
    if (code > *worst)
        *worst = code;
    if (!out)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_printf(out, "%s\n", text);
}

static void health_upstreams(struct buf *out, uint32_t *worst)
{
    const struct generation *g = master.live;
    uint64_t now = clock_ms();
    size_t n = 0;
    for (size_t i = 0; i < g->config->nupstream; i++) {
        const struct conf_upstream *u = g->config->upstream[i];
        if (!verbs_upstream_usable(g, i))
            health_note(out, worst, PROTO_CRITICAL,
                        "upstream " SLICE_FMT ": no server is available", SLICE_ARG(u->name));
        for (size_t j = 0; j < u->k.server.n; j++, n++) {
            enum server_state st = server_state(master.segment, g->server_id[n], now);
            if (st != SERVER_UP)
                health_note(out, worst, PROTO_DEGRADED,
                            "upstream " SLICE_FMT ": server " SLICE_FMT " is %s",
                            SLICE_ARG(u->name), SLICE_ARG(u->k.server.v[j].name),
                            server_state_name(st));
        }
    }
}

#define HEALTH_WARNINGS 20u /* lines of the check of the configuration */
#define CERT_SOON_S     (14 * 86400)
#define CERT_URGENT_S   (7 * 86400)

static void health_certificate(struct slice name, const struct cert_state *st, int64_t now,
                               struct buf *out, uint32_t *worst)
{
    int64_t left = st->not_after_s - now;
    if (st->failed)
        health_note(out, worst, PROTO_DEGRADED, "certificate " SLICE_FMT ": %u cannot be used: %s",
                    SLICE_ARG(name), st->failed, st->error);
    if (st->not_after_s == 0 || left >= CERT_SOON_S)
        return;
    uint32_t code = left < CERT_URGENT_S ? PROTO_DEGRADED : PROTO_DONE;
    if (left <= 0)
        health_note(out, worst, code, "certificate " SLICE_FMT ": %s has expired", SLICE_ARG(name),
                    st->first_name);
    else
        health_note(out, worst, code, "certificate " SLICE_FMT ": %s expires in %s",
                    SLICE_ARG(name), st->first_name, status_age((uint64_t)left * 1000));
}

static void health_certificates(const struct generation *g, struct buf *out, uint32_t *worst)
{
    struct slice name;
    struct cert_state st;
    for (size_t i = 0; i < g->config->ncertificate; i++) {
        if (cert_get(master.segment, g->cert_id[i], &name, &st))
            health_certificate(g->config->certificate[i]->name, &st, clock_cached.wall_ms / 1000,
                               out, worst);
    }
}

/* What the check of the configuration in force warned of: "FILE:LINE:COLUMN: warning: TEXT". */
static void health_configuration(struct buf *out, uint32_t *worst)
{
    static const char mark[] = ": warning: ";
    struct slice rest = buf_slice(&master.reload.warnings), line;
    for (unsigned n = 0; n < HEALTH_WARNINGS && slice_next(&rest, '\n', &line);) {
        if (!memmem(line.p, line.n, mark, sizeof(mark) - 1))
            continue;
        health_note(out, worst, PROTO_DONE, SLICE_FMT, SLICE_ARG(line));
        n++;
    }
}

uint32_t verbs_health(struct buf *out, bool certificates)
{
    uint32_t worst = PROTO_DONE;
    const struct generation *g = master.live;
    if (!g) {
        health_note(out, &worst, PROTO_CRITICAL, "no generation serves");
        return worst;
    }
    for (uint32_t i = 0; i < g->nchild; i++) {
        const struct child *c = &g->child[i];
        if (c->deaths.crash_loop)
            health_note(out, &worst, PROTO_CRITICAL, "%s dies again and again", child_name(c));
        else if (c->state != CHILD_SERVING)
            health_note(out, &worst, PROTO_DEGRADED, "%s is not serving", child_name(c));
    }
    if (g->config) {
        health_upstreams(out, &worst);
        if (certificates)
            health_certificates(g, out, &worst);
        health_configuration(out, &worst);
    } else {
        health_note(out, &worst, PROTO_CRITICAL,
                    "generation %u is of the program before the upgrade; the new one has none yet",
                    g->number);
    }
    LIST_EACH(it, &master.generations)
    {
        const struct generation *o = CONTAINER(it, struct generation, link);
        struct generation_load load;
        if (o->state != GEN_DRAINING)
            continue;
        generation_load(o, &load);
        if (load.requests > load.tunnels &&
            clock_ms() > o->since_ms + o->drain.request_ms + STUCK_GRACE_MS)
            health_note(out, &worst, PROTO_DEGRADED,
                        "generation %u is stuck with %" PRIu64 " requests", o->number,
                        load.requests);
    }
    return worst;
}

static uint64_t child_gauge(const struct child *c, enum gauge g)
{
    return c->slot == UINT32_MAX ? 0
                                 : atomic_load_explicit(&gauge_row(master.segment, c->slot)->v[g],
                                                        memory_order_relaxed);
}

static const char *status_word(uint32_t code)
{
    return code == PROTO_DONE ? "healthy" : code == PROTO_DEGRADED ? "degraded" : "critical";
}

static void status_child_json(struct json *j, const struct child *c)
{
    json_object(j);
    json_kcstr(j, "worker", child_name(c));
    if (c->number != CHILD_HELPER)
        json_ku64(j, "number", c->number);
    json_ku64(j, "pid", (uint64_t)c->pid);
    json_kcstr(j, "state", child_state_name(c->state));
    json_kbool(j, "crash_loop", c->deaths.crash_loop);
    json_ku64(j, "deaths", c->deaths.n);
    json_ku64(j, "uptime_ms", c->pid ? clock_ms() - c->started_ms : 0);
    json_key(j, "cpu_percent");
    json_double(j, c->cpu_milli / 10.0);
    json_ku64(j, "connections", child_gauge(c, GAU_CONNS));
    json_ku64(j, "idle", child_gauge(c, GAU_CONNS_IDLE));
    json_ku64(j, "requests_in_flight", child_gauge(c, GAU_STREAMS));
    json_ku64(j, "requests_per_s", c->requests_per_s);
    json_end_object(j);
}

static void status_generations_json(struct json *j)
{
    json_key(j, "old_generations");
    json_array(j);
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        struct generation_load load;
        if (g->state != GEN_DRAINING && g->state != GEN_STOPPING)
            continue;
        generation_load(g, &load);
        json_object(j);
        json_ku64(j, "generation", g->number);
        json_kcstr(j, "state", gen_state_name(g->state));
        json_ku64(j, "age_ms", clock_ms() - g->since_ms);
        json_ku64(j, "processes", generation_living(g));
        json_ku64(j, "connections", load.connections);
        json_ku64(j, "requests", load.requests);
        json_ku64(j, "tunnels", load.tunnels);
        json_end_object(j);
    }
    json_end_array(j);
}

static void status_json(struct buf *out, uint32_t code, struct slice reasons)
{
    const struct generation *g = master.live;
    const struct reload *r = &master.reload;
    struct json j;
    struct slice line;
    json_init(&j, out);
    json_object(&j);
    json_ku64(&j, "v", 1);
    json_kcstr(&j, "status", status_word(code));
    json_kcstr(&j, "version", PACKAGE_VERSION);
    json_ku64(&j, "pid", (uint64_t)getpid());
    json_ku64(&j, "uptime_ms", clock_ms() - master.started_ms);
    json_ku64(&j, "upgrades", master.upgrades);
    json_ku64(&j, "generation", g ? g->number : 0);
    json_kbool(&j, "reloading", reload_running());
    json_kbool(&j, "stopping", master.stopping);
    json_key(&j, "workers");
    json_array(&j);
    /* Those that live: a place that waits for its next process shows in the warnings. */
    for (uint32_t i = 0; g && i < g->nchild; i++) {
        if (g->child[i].role == WORKER_SERVE && g->child[i].pid != 0)
            status_child_json(&j, &g->child[i]);
    }
    json_end_array(&j);
    json_key(&j, "helper");
    if (g && g->child[g->nchild - 1].role == WORKER_HELPER && g->child[g->nchild - 1].pid != 0)
        status_child_json(&j, &g->child[g->nchild - 1]);
    else
        json_null(&j);
    status_generations_json(&j);
    json_key(&j, "last_reload");
    json_object(&j);
    json_kbool(&j, "ok", r->last_ok);
    json_kcstr(&j, "message", r->last_text);
    json_key(&j, "unix_ms");
    json_i64(&j, r->last_wall_ms);
    json_ku64(&j, "count", r->count);
    json_ku64(&j, "failures", r->failures);
    json_end_object(&j);
    json_key(&j, "deaths");
    json_object(&j);
    json_ku64(&j, "count", master.deaths.n);
    json_kcstr(&j, "last", master.deaths.last);
    json_key(&j, "unix_ms");
    json_i64(&j, master.deaths.wall_ms);
    json_end_object(&j);
    json_ku64(&j, "connections", gauge_sum(master.segment, GAU_CONNS));
    json_ku64(&j, "requests_in_flight", gauge_sum(master.segment, GAU_STREAMS));
    json_ku64(&j, "tunnels", gauge_sum(master.segment, GAU_TUNNELS));
    json_ku64(&j, "requests", counter_sum(master.segment, CTR_REQUESTS));
    json_key(&j, "warnings");
    json_array(&j);
    while (slice_next(&reasons, '\n', &line))
        json_str(&j, line);
    json_end_array(&j);
    json_end_object(&j);
    buf_chr(out, '\n');
}

static void status_children_text(struct buf *out, const struct generation *g)
{
    buf_printf(out, "\n%-8s %8s %-10s %6s %12s %10s %10s %10s %8s\n", "worker", "pid", "state",
               "cpu%", "connections", "idle", "in flight", "req/s", "age");
    for (uint32_t i = 0; i < g->nchild; i++) {
        const struct child *c = &g->child[i];
        const char *state = c->deaths.crash_loop ? "crash_loop" : child_state_name(c->state);
        buf_printf(out, "%-8s %8d %-10s %6.1f %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10u %8s\n",
                   child_name(c), (int)c->pid, state, c->cpu_milli / 10.0,
                   child_gauge(c, GAU_CONNS), child_gauge(c, GAU_CONNS_IDLE),
                   child_gauge(c, GAU_STREAMS), c->requests_per_s,
                   c->pid ? status_age(clock_ms() - c->started_ms) : "-");
    }
}

static void status_old_text(struct buf *out)
{
    bool first = true;
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        struct generation_load load;
        if (g->state != GEN_DRAINING && g->state != GEN_STOPPING)
            continue;
        if (first)
            buf_printf(out, "\n%-14s %-10s %10s %12s %10s %10s %8s\n", "old generation", "state",
                       "processes", "connections", "requests", "tunnels", "age");
        first = false;
        generation_load(g, &load);
        buf_printf(out, "%-14u %-10s %10u %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8s\n",
                   g->number, gen_state_name(g->state), generation_living(g), load.connections,
                   load.requests, load.tunnels, status_age(clock_ms() - g->since_ms));
    }
}

static void status_text(struct buf *out, uint32_t code, struct slice reasons, bool colour)
{
    const struct generation *g = master.live;
    const struct reload *r = &master.reload;
    struct slice line;
    uint64_t rate = 0;
    for (uint32_t i = 0; g && i < g->nchild; i++)
        rate += g->child[i].requests_per_s;
    const char *on = !colour                  ? ""
                     : code == PROTO_DONE     ? "\033[32m"
                     : code == PROTO_DEGRADED ? "\033[33m"
                                              : "\033[31m";
    buf_printf(out, "status       %s%s%s\n", on, status_word(code), colour ? "\033[0m" : "");
    buf_printf(out, "version      rpd %s\n", PACKAGE_VERSION);
    buf_printf(out, "master       pid %d, up %s", (int)getpid(),
               status_age(clock_ms() - master.started_ms));
    if (master.upgrades)
        buf_printf(out, ", upgraded %u times", master.upgrades);
    buf_printf(out, "\ngeneration   %u%s%s\n", g ? g->number : 0,
               reload_running() ? " (reloading)" : "", master.stopping ? " (stopping)" : "");
    if (r->last_wall_ms)
        buf_printf(out, "last reload  %s ago: %s\n",
                   status_age((uint64_t)(clock_cached.wall_ms - r->last_wall_ms)), r->last_text);
    buf_printf(out,
               "load         %" PRIu64 " connections, %" PRIu64 " requests in flight, %" PRIu64
               " tunnels, %" PRIu64 " requests/s\nserved       %" PRIu64 " requests\n",
               gauge_sum(master.segment, GAU_CONNS), gauge_sum(master.segment, GAU_STREAMS),
               gauge_sum(master.segment, GAU_TUNNELS), rate,
               counter_sum(master.segment, CTR_REQUESTS));
    if (master.deaths.n)
        buf_printf(out, "deaths       %u of processes, the last one %s ago: %s\n", master.deaths.n,
                   status_age((uint64_t)(clock_cached.wall_ms - master.deaths.wall_ms)),
                   master.deaths.last);
    struct buf kept;
    buf_init(&kept, 0);
    if (g)
        caches_outlive(g, &kept);
    if (kept.n)
        buf_printf(out, "caches       kept over a restart: " SLICE_FMT "\n",
                   SLICE_ARG(buf_slice(&kept)));
    buf_fini(&kept);
    if (g)
        status_children_text(out, g);
    status_old_text(out);
    if (reasons.n > 0)
        buf_str(out, "\nwarnings\n");
    while (slice_next(&reasons, '\n', &line))
        buf_printf(out, "  " SLICE_FMT "\n", SLICE_ARG(line));
}

void verbs_status(struct conn *c)
{
    struct buf out, reasons;
    buf_init(&out, 0);
    buf_init(&reasons, 1 << 20);
    uint32_t code = verbs_health(&reasons, true);
    if (conn_json(c))
        status_json(&out, code, buf_slice(&reasons));
    else
        status_text(&out, code, buf_slice(&reasons), (c->req.flags & PROTO_COLOUR) != 0);
    conn_finish(c, code, buf_slice(&out), SLICE_NONE);
    buf_fini(&out);
    buf_fini(&reasons);
}
