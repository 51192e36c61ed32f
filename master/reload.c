/* From a configuration to a serving generation. No step waits: a message, an exit or a timer moves
 * on to the next. */
#include "master/reload.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/proc.h"
#include "master/certs.h"
#include "master/job.h"
#include "master/master.h"
#include "master/query.h"
#include "master/ticket.h"
#include "master/wait.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_MS 10000
/* A worker that takes longer to hear that it has to drain is busy; the verdict does not wait for it
 * any more. */
#define HEARD_MS 2000

static struct reload *const r = &master.reload;

static void reload_begin(void);

static uint64_t reload_timeout(void)
{
    return master.live && master.live->config ? master.live->config->global.start_timeout : 30000;
}

void reload_init(void)
{
    list_init(&r->callers);
    list_init(&r->queued);
}

bool reload_running(void)
{
    return r->phase != RELOAD_IDLE;
}

void reload_settled(void)
{
    wait_check();
}

/* Every caller gets the same answer. text: lines for a person; the first is the summary. */
static void reload_answer(bool ok, struct slice text)
{
    uint64_t ms = (clock_us_now() - r->started_us) / 1000;
    while (!list_empty(&r->callers)) {
        struct conn *c = CONTAINER(r->callers.next, struct conn, wait);
        list_remove(&c->wait);
        conn_reload_verdict(c, ok, master.live ? master.live->number : 0, ms, text);
    }
}

static void reload_remember(bool ok, struct slice text)
{
    r->last_ok = ok;
    r->last_wall_ms = clock_cached.wall_ms;
    r->count++;
    r->failures += !ok;
    size_t n = 0;
    for (size_t i = 0; i < text.n && n + 2 < sizeof(r->last_text); i++) {
        if (text.p[i] != '\n') {
            r->last_text[n++] = text.p[i];
        } else if (i + 1 < text.n) {
            r->last_text[n++] = ';';
            r->last_text[n++] = ' ';
        }
    }
    r->last_text[n] = '\0';
}

/* The end of a transaction; begins the next when one was asked for meanwhile. */
static void reload_done(bool ok, struct slice text)
{
    r->phase = RELOAD_IDLE;
    r->gen = NULL;
    ev_timer_stop(&r->limit);
    reload_remember(ok, text);
    reload_answer(ok, text);
    master_started(ok, text);
    wait_check();
    if (r->again && !master.stopping)
        reload_begin();
}

static void reload_on_retry(struct ev_timer *t)
{
    (void)t;
    reload_request(NULL);
}

static void reload_fail(struct slice text)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_add(&b, text);
    if (b.n > 0 && b.p[b.n - 1] != '\n')
        buf_chr(&b, '\n');
    if (master.live)
        buf_printf(&b, "kept generation %u\n", master.live->number);
    else
        buf_str(&b, "not started\n");
    /* At the start the text goes to the terminal, as it is, by master_started(). */
    for (size_t at = 0; master.live && at < b.n;) {
        size_t end = at;
        while (end < b.n && b.p[end] != '\n')
            end++;
        LOG_ERROR("reload_failed", "%.*s", (int)(end - at), b.p + at);
        at = end + 1;
    }
    /* After an upgrade the old processes serve on, but there is nobody to replace them: try until
     * it works. */
    if (master.live && !master.live->config && !master.stopping)
        ev_timer_set(&r->retry, RETRY_MS, reload_on_retry);
    reload_done(false, buf_slice(&b));
    buf_fini(&b);
}

static void reload_give_up(const char *text)
{
    struct generation *g = r->gen;
    r->gen = NULL;
    if (g)
        generation_kill(g);
    reload_fail(slice_str(text));
}

static void reload_on_limit(struct ev_timer *t)
{
    char text[256], missing[160] = "";
    size_t n = 0;
    (void)t;
    for (uint32_t i = 0; r->gen && i < r->gen->nchild; i++) {
        const struct child *c = &r->gen->child[i];
        if (c->state == CHILD_STARTING && n < 100)
            n += (size_t)snprintf(missing + n, sizeof(missing) - n, " %s", child_name(c));
    }
    snprintf(text, sizeof(text), "error: not ready in time:%s", missing);
    reload_give_up(text);
}

static void reload_note_restart(const struct config *old, const struct config *new, struct buf *out)
{
    static const struct {
        const char *name;
        size_t at;
    } key[] = {
        {"user", offsetof(struct conf_global_keys, user)},
        {"group", offsetof(struct conf_global_keys, group)},
        {"pid_file", offsetof(struct conf_global_keys, pid_file)},
        {"control_socket", offsetof(struct conf_global_keys, control_socket)},
    };
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
        const struct slice *a = (const void *)((const char *)&old->global + key[i].at);
        const struct slice *b = (const void *)((const char *)&new->global + key[i].at);
        if (!slice_eq(*a, *b))
            buf_printf(out, "global %s: takes effect at a restart\n", key[i].name);
    }
}

/* Both generations listen on the same sockets: until a worker has read that it has to drain, it may
 * still accept and answer as of old. The verdict waits for that, so that whoever has it sees the
 * new configuration only. */
static void reload_drain(struct generation *old, struct generation *g)
{
    static const struct worker_query heard = {.id = QUERY_HEARD};
    const struct conf_global_keys *k = &g->config->global;
    bool living = generation_living(old) > 0;
    for (uint32_t i = 0; i < old->nchild; i++)
        old->child[i].draining_unheard =
            old->child[i].role == WORKER_SERVE && old->child[i].state == CHILD_SERVING;
    generation_drain(old, g, k->drain_timeout, k->drain_tunnel_timeout);
    if (!living)
        return; /* nor is the generation any more */
    for (uint32_t i = 0; i < old->nchild; i++) {
        struct child *c = &old->child[i];
        if (c->draining_unheard)
            c->draining_unheard = child_query(c, &heard) == 0;
    }
}

/* Drains what served until now; ends the oldest when there are too many. */
static void reload_hand_over(struct generation *g)
{
    const struct conf_global_keys *k = &g->config->global;
    LIST_EACH_SAFE(it, tmp, &master.generations)
    {
        struct generation *o = CONTAINER(it, struct generation, link);
        if (o != g && o->state == GEN_DRAINING)
            generation_reintroduce(o, g);
        if (o != g && o->state == GEN_LIVE)
            reload_drain(o, g);
    }
    unsigned n;
    struct generation *oldest;
    while ((oldest = generation_oldest_draining(&n)) && n > k->old_generations) {
        struct generation_load load;
        generation_load(oldest, &load);
        LOG_WARN("generation_ended",
                 "generation %u is ended because more than %" PRIu64 " drain: it held %" PRIu64
                 " connections, %" PRIu64 " requests, %" PRIu64 " tunnels",
                 oldest->number, k->old_generations, load.connections, load.requests, load.tunnels);
        generation_stop(oldest);
    }
}

static void reload_finish(void)
{
    struct buf text = r->verdict;
    r->verdict = (struct buf){0};
    LOG_NOTICE("generation_live", "%.*s", (int)(text.n - 1), text.p);
    reload_done(true, buf_slice(&text));
    buf_fini(&text);
}

static void reload_on_heard_limit(struct ev_timer *t)
{
    (void)t;
    reload_finish();
}

static bool reload_heard(void)
{
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            if (g->child[i].draining_unheard)
                return false;
        }
    }
    return true;
}

void reload_child_heard(struct child *c)
{
    if (!c->draining_unheard)
        return;
    c->draining_unheard = false;
    if (r->phase == RELOAD_HANDING && reload_heard())
        reload_finish();
}

static void reload_all_ready(void)
{
    struct generation *g = r->gen, *old = master.live;
    const char *address = "";
    char why[256];
    struct buf text;
    /* Before the first handshake. */
    ticket_configure(master.segment, g->config);
    if (generation_accept(g, &address) < 0) {
        snprintf(why, sizeof(why), "error: cannot listen on %s: %s", address, strerror(errno));
        reload_give_up(why);
        return;
    }
    buf_init(&text, 1 << 20);
    buf_printf(&text, "ok generation %u (%" PRIu64 " ms)", g->number,
               (clock_us_now() - r->started_us) / 1000);
    struct buf diff;
    buf_init(&diff, 1 << 20);
    if (old && old->config) {
        config_diff(old->config, g->config, &diff);
        reload_note_restart(old->config, g->config, &diff);
    }
    caches_note(g, !old, &diff);
    if (old && old->config && diff.n == 0)
        buf_str(&text, ": no change");
    for (size_t i = 0; i < diff.n; i++) {
        if (i == 0)
            buf_str(&text, ": ");
        if (diff.p[i] == '\n')
            buf_str(&text, i + 1 < diff.n ? "; " : "");
        else
            buf_chr(&text, diff.p[i]);
    }
    buf_fini(&diff);
    buf_chr(&text, '\n');
    master.live = g;
    struct buf before = r->warnings;
    r->warnings = r->warned;
    r->warned = before;
    caches_store(g);
    certs_begin(g);
    generation_use_log(g);
    if (master.old_log_fd >= 0)
        close(master.old_log_fd);
    master.old_log_fd = -1;
    r->gen = NULL;
    r->verdict = text;
    r->phase = RELOAD_HANDING;
    ev_timer_set(&r->limit, HEARD_MS, reload_on_heard_limit);
    reload_hand_over(g);
    listener_release_held(&master.listeners);
    control_configure(g->config);
    if (reload_heard())
        reload_finish();
}

void reload_child_ready(struct generation *g)
{
    if (g == r->gen && generation_ready(g))
        reload_all_ready();
}

void reload_child_failed(struct generation *g, const char *text)
{
    char line[768];
    if (g != r->gen)
        return;
    snprintf(line, sizeof(line), "error: %s", text);
    reload_give_up(line);
}

static void reload_fork(void)
{
    struct conf_diags d;
    struct config *c = NULL;
    struct buf text;
    buf_init(&text, 1 << 20);
    conf_diags_init(&d);
    int rc = config_load(r->snapshot, &d, &c);
    if (rc == 0) {
        uint32_t number = 1;
        LIST_EACH(it, &master.generations)
        {
            const struct generation *o = CONTAINER(it, struct generation, link);
            if (o->number >= number && o->state != GEN_STOPPING)
                number = o->number + 1;
        }
        if (master.live && master.live->number >= number)
            number = master.live->number + 1;
        rc = generation_new(number, r->snapshot, c, &d, &r->gen);
    } else {
        conf_snapshot_free(&r->snapshot);
    }
    r->snapshot = NULL;
    if (rc == 0) {
        r->phase = RELOAD_STARTING;
        ev_timer_set(&r->limit, reload_timeout(), reload_on_limit);
        rc = generation_start(r->gen);
        if (rc < 0) {
            r->gen = NULL;
            buf_printf(&text, "error: cannot start workers: %s",
                       rc == -ERR_FULL ? "no free slot" : strerror(errno));
        }
    } else {
        conf_diags_print(&d, &text);
        if (text.n == 0)
            buf_printf(&text, "error: %s", err_text(rc));
    }
    conf_diags_fini(&d);
    if (rc < 0)
        reload_fail(buf_slice(&text));
    buf_fini(&text);
}

static void reload_on_held(struct ev_timer *t)
{
    (void)t;
    reload_fork();
}

/* As many old generations drain as may: ending one before its time would cost its requests, so the
 * reload waits for the oldest to finish, and no longer than that one's requests have. */
static void reload_hold_or_fork(void)
{
    unsigned n;
    const struct generation *oldest = generation_oldest_draining(&n);
    const struct config *c = master.live ? master.live->config : NULL;
    uint64_t now = clock_us_now() / 1000;
    if (!oldest || !c || n < c->global.old_generations ||
        oldest->since_ms + oldest->drain.request_ms <= now) {
        reload_fork();
        return;
    }
    r->phase = RELOAD_HELD;
    LOG_INFO("reload_held", "%u generations drain; waiting for generation %u", n, oldest->number);
    ev_timer_set(&r->limit, oldest->since_ms + oldest->drain.request_ms - now, reload_on_held);
}

void reload_generation_gone(void)
{
    if (r->phase != RELOAD_HELD)
        return;
    ev_timer_stop(&r->limit);
    reload_hold_or_fork();
}

/* In the preflight child: the same checks as rpd -t. */
static int reload_preflight(void *arg, struct buf *out)
{
    struct conf_diags d;
    struct config *c = NULL;
    conf_diags_init(&d);
    int rc = config_load(arg, &d, &c);
    if (rc == 0)
        rc = worker_check(c, &d);
    conf_diags_print(&d, out);
    return rc == 0 && d.errors == 0 ? 0 : 1;
}

static void reload_preflight_done(struct job *j)
{
    if (r->job != j)
        return;
    r->job = NULL;
    if (j->status == 0) {
        if (j->text.n > 0)
            LOG_WARN("config_warning", "%.*s", (int)(j->text.n < 3000 ? j->text.n : 3000),
                     j->text.p);
        buf_clear(&r->warned);
        buf_add(&r->warned, buf_slice(&j->text));
        reload_hold_or_fork();
        return;
    }
    conf_snapshot_free(&r->snapshot);
    if (j->status == JOB_KILLED)
        buf_str(&j->text, "error: the check of the configuration crashed or took too long");
    reload_fail(buf_slice(&j->text));
}

static void reload_begin(void)
{
    char text[128];
    r->again = false;
    r->started_us = clock_us_now();
    ev_timer_stop(&r->retry);
    while (!list_empty(&r->queued)) {
        struct list *n = r->queued.next;
        list_remove(n);
        list_append(&r->callers, n);
    }
    r->phase = RELOAD_PREFLIGHT;
    if (master.live) {
        snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, r->started_us);
        proc_sd_notify(text);
    }
    /* Reading a pipe may last for ever, and everything would stand still. */
    struct stat st;
    if (master.conf_path && stat(master.conf_path, &st) == 0 && !S_ISREG(st.st_mode)) {
        snprintf(text, sizeof(text), "error: %.90s is not a regular file", master.conf_path);
        reload_fail(slice_str(text));
        return;
    }
    int rc = master_snapshot(&r->snapshot);
    if (rc < 0) {
        reload_fail(slice_str(err_text(rc)));
        return;
    }
    r->job = job_start(reload_preflight, r->snapshot, reload_timeout(), reload_preflight_done, r);
    if (!r->job) {
        conf_snapshot_free(&r->snapshot);
        reload_fail(SLICE("error: cannot fork the check of the configuration"));
    }
}

void reload_request(struct conn *conn)
{
    if (conn)
        list_append(&r->queued, &conn->wait);
    r->again = true;
    if (r->phase == RELOAD_IDLE)
        reload_begin();
}

void reload_abort(const char *why)
{
    r->again = false;
    while (!list_empty(&r->queued)) {
        struct list *n = r->queued.next;
        list_remove(n);
        list_append(&r->callers, n);
    }
    ev_timer_stop(&r->retry);
    if (r->phase == RELOAD_IDLE)
        return;
    if (r->phase == RELOAD_HANDING) {
        reload_finish();
        return;
    }
    job_cancel(r);
    r->job = NULL;
    conf_snapshot_free(&r->snapshot);
    reload_give_up(why);
}
