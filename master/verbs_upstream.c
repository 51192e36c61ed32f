/* rpctl upstream and rpctl server: what the segment knows of servers, and the operator's overrides.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "master/master.h"
#include "master/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#define WEIGHT_MAX 256u

static const char *const admin_names[] = {"ready", "drain", "down"};

size_t verbs_first_server(const struct generation *g, size_t upstream)
{
    size_t n = 0;
    for (size_t i = 0; i < upstream; i++)
        n += g->config->upstream[i]->k.server.n;
    return n;
}

bool verbs_upstream_usable(const struct generation *g, size_t upstream)
{
    const struct conf_upstream *u = g->config->upstream[upstream];
    const uint32_t *id = g->server_id + verbs_first_server(g, upstream);
    for (size_t j = 0; j < u->k.server.n; j++) {
        enum server_admin a = server_admin(master.segment, id[j]);
        if (!u->k.server.v[j].down && a == SERVER_ADMIN_READY &&
            server_state(master.segment, id[j], clock_ms()) != SERVER_EJECTED)
            return true;
    }
    return false;
}

static const char *upstream_state(const struct conf_server *s, uint32_t id)
{
    enum server_admin a = server_admin(master.segment, id);
    if (a != SERVER_ADMIN_READY)
        return admin_names[a];
    if (s->down)
        return "down";
    return server_state_name(server_state(master.segment, id, clock_ms()));
}

static uint32_t upstream_weight(const struct conf_server *s, uint32_t id)
{
    uint32_t w = server_weight(master.segment, id);
    return w ? w : s->weight;
}

static uint64_t upstream_first_byte(const struct server_sum *sum)
{
    uint64_t n = sum->requests > sum->failures ? sum->requests - sum->failures : 0;
    return n ? sum->first_byte_us / n : 0;
}

static void upstream_server_json(struct json *j, const struct conf_server *s, uint32_t id)
{
    struct server_sum sum;
    uint64_t now = clock_ms(), since = server_state_since_ms(master.segment, id);
    int err = server_last_error(master.segment, id);
    server_sum(master.segment, id, &sum);
    json_object(j);
    json_kstr(j, "server", s->name);
    json_kcstr(j, "state", upstream_state(s, id));
    json_kbool(j, "backup", s->backup);
    json_kbool(j, "override",
               server_admin(master.segment, id) != SERVER_ADMIN_READY ||
                   server_weight(master.segment, id) != 0);
    json_ku64(j, "weight", upstream_weight(s, id));
    json_ku64(j, "since_ms", since && since <= now ? now - since : 0);
    json_ku64(j, "ejected_for_ms", server_ejected_for_ms(master.segment, id, now));
    json_ku64(j, "active", sum.active);
    json_ku64(j, "idle", sum.idle);
    json_ku64(j, "queued", sum.queued);
    json_ku64(j, "requests", sum.requests);
    json_ku64(j, "failures", sum.failures);
    json_ku64(j, "connects", sum.connects);
    json_ku64(j, "reuses", sum.reuses);
    json_ku64(j, "first_byte_us", upstream_first_byte(&sum));
    json_kcstr(j, "last_error", err ? err_reason(err) : NULL);
    json_end_object(j);
}

static void upstream_server_text(struct buf *out, const struct conf_upstream *u,
                                 const struct conf_server *s, uint32_t id)
{
    struct server_sum sum;
    char name[256];
    int err = server_last_error(master.segment, id);
    bool override = server_admin(master.segment, id) != SERVER_ADMIN_READY ||
                    server_weight(master.segment, id) != 0;
    server_sum(master.segment, id, &sum);
    snprintf(name, sizeof(name), SLICE_FMT "/" SLICE_FMT, SLICE_ARG(u->name), SLICE_ARG(s->name));
    buf_printf(out,
               "%-36s %-10s %6u%s %7" PRIu64 " %6" PRIu64 " %6" PRIu64 " %10" PRIu64 " %9" PRIu64
               " %9.1f  %s%s\n",
               name, upstream_state(s, id), upstream_weight(s, id), override ? "*" : " ",
               sum.active, sum.idle, sum.queued, sum.requests, sum.failures,
               (double)upstream_first_byte(&sum) / 1000.0, err ? err_reason(err) : "-",
               s->backup ? " (backup)" : "");
}

void verbs_upstream(struct conn *c)
{
    const struct generation *g = master.live;
    const char *want = c->req.argc > 1 ? c->req.argv[1] : NULL;
    struct buf out;
    struct json j;
    bool json = conn_json(c), found = false;
    if (!g || !g->config) {
        conn_say(c, PROTO_REFUSED, "no configuration is in force yet");
        return;
    }
    buf_init(&out, CONTROL_OUT_MAX - 65536);
    json_init(&j, &out);
    if (json) {
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_key(&j, "upstreams");
        json_array(&j);
    } else {
        buf_printf(&out, "%-36s %-10s %6s  %7s %6s %6s %10s %9s %9s  %s\n", "server", "state",
                   "weight", "active", "idle", "queued", "requests", "failures", "first ms",
                   "last error");
    }
    for (size_t i = 0; i < g->config->nupstream; i++) {
        const struct conf_upstream *u = g->config->upstream[i];
        const uint32_t *id = g->server_id + verbs_first_server(g, i);
        if (want && !slice_eq(u->name, slice_str(want)))
            continue;
        found = true;
        if (json) {
            json_object(&j);
            json_kstr(&j, "name", u->name);
            json_kbool(&j, "usable", verbs_upstream_usable(g, i));
            json_key(&j, "servers");
            json_array(&j);
        }
        for (size_t k = 0; k < u->k.server.n; k++) {
            if (json)
                upstream_server_json(&j, &u->k.server.v[k], id[k]);
            else
                upstream_server_text(&out, u, &u->k.server.v[k], id[k]);
        }
        if (json) {
            json_end_array(&j);
            json_end_object(&j);
        }
    }
    if (json) {
        json_end_array(&j);
        json_end_object(&j);
        buf_chr(&out, '\n');
    }
    if (want && !found)
        conn_say(c, PROTO_REFUSED, "there is no upstream \"%.64s\"", want);
    else
        conn_finish(c, PROTO_DONE, buf_slice(&out), SLICE_NONE);
    buf_fini(&out);
}

/* NAME/SERVER in the live configuration. */
static bool server_lookup(struct slice want, uint32_t *ret_id)
{
    const struct generation *g = master.live;
    size_t n = 0;
    for (size_t i = 0; i < g->config->nupstream; i++) {
        const struct conf_upstream *u = g->config->upstream[i];
        for (size_t j = 0; j < u->k.server.n; j++, n++) {
            struct slice s = u->k.server.v[j].name;
            if (want.n == u->name.n + 1 + s.n && slice_starts(want, u->name) &&
                want.p[u->name.n] == '/' && slice_ends(want, s)) {
                *ret_id = g->server_id[n];
                return true;
            }
        }
    }
    return false;
}

void verbs_server(struct conn *c)
{
    const char *name = c->req.argv[1], *what = c->req.argv[2];
    uint64_t weight = 0;
    uint32_t id;
    int admin = -1;
    for (int i = 0; i < 3; i++) {
        if (strcmp(what, admin_names[i]) == 0)
            admin = i;
    }
    if (admin < 0 ? strcmp(what, "weight") != 0 || c->req.argc != 4 : c->req.argc != 3) {
        conn_usage(c);
        return;
    }
    if (!master.live || !master.live->config) {
        conn_say(c, PROTO_REFUSED, "no configuration is in force yet");
    } else if (!server_lookup(slice_str(name), &id)) {
        conn_say(c, PROTO_REFUSED, "there is no server \"%.128s\"; see rpctl upstream", name);
    } else if (admin < 0 && strcmp(c->req.argv[3], "default") != 0 &&
               (num_u64(slice_str(c->req.argv[3]), &weight) < 0 || weight == 0 ||
                weight > WEIGHT_MAX)) {
        conn_say(c, PROTO_REFUSED, "a weight is 1 to %u, or default", WEIGHT_MAX);
    } else if (admin < 0) {
        server_set_weight(master.segment, id, (uint32_t)weight);
        conn_say(c, PROTO_DONE, "ok server %.128s weight %.16s", name, c->req.argv[3]);
    } else {
        server_set_admin(master.segment, id, (enum server_admin)admin);
        /* Queued requests may find a place now. */
        master_kick_all();
        conn_say(c, PROTO_DONE, "ok server %.128s %s", name, what);
    }
}
