/* What the master does for each command of rpctl: the table and the short ones. */
#include "master/verbs.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "base/proc.h"
#include "master/job.h"
#include "master/master.h"
#include "master/query.h"
#include "master/upgrade.h"
#include "master/wait.h"
#include "shm/metrics.h"

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define CHILD_LIMIT_MS 10000

/* ---- Commands that run in a throw-away child: they may be long or meet what is broken, and the
 * master must not. ---- */

static int verbs_config_job(void *arg, struct buf *out)
{
    const struct conn *c = arg;
    bool changed = false, origin = false;
    for (int i = 1; i < c->req.argc; i++) {
        changed = changed || strcmp(c->req.argv[i], "--changed") == 0;
        origin = origin || strcmp(c->req.argv[i], "--origin") == 0;
    }
    config_dump(master.live->config, origin, changed, out);
    return PROTO_DONE;
}

static int verbs_explain_job(void *arg, struct buf *out)
{
    const struct conn *c = arg;
    struct slice from = c->req.argc == 5 ? slice_str(c->req.argv[4]) : SLICE_NONE;
    int rc = worker_explain(master.live->config, slice_str(c->req.argv[1]),
                            slice_str(c->req.argv[2]), from, out);
    return rc < 0 ? PROTO_REFUSED : PROTO_DONE;
}

static int verbs_fsck_job(void *arg, struct buf *out)
{
    (void)arg;
    int n = segment_fsck(master.segment, out);
    if (n == 0)
        buf_str(out, "ok\n");
    return n == 0 ? PROTO_DONE : PROTO_REFUSED;
}

static int verbs_metrics_job(void *arg, struct buf *out)
{
    (void)arg;
    return metrics_render(master.segment, clock_us_now() / 1000, out) < 0 ? PROTO_REFUSED
                                                                          : PROTO_DONE;
}

static int verbs_stat_job(void *arg, struct buf *out)
{
    const struct conn *c = arg;
    char pattern[256] = "";
    if (c->req.argc > 1)
        snprintf(pattern, sizeof(pattern), strpbrk(c->req.argv[1], "*?[") ? "%s" : "*%s*",
                 c->req.argv[1]);
    return metrics_stat(master.segment, clock_us_now() / 1000, slice_str(pattern), out) < 0
               ? PROTO_REFUSED
               : PROTO_DONE;
}

/* The text of `stat` as an object: names may carry labels, values are numbers. */
static void verbs_stat_json(struct slice text, struct json *j)
{
    struct slice line;
    json_key(j, "stat");
    json_object(j);
    while (slice_next(&text, '\n', &line)) {
        size_t at = line.n;
        while (at > 0 && line.p[at - 1] != ' ')
            at--;
        char key[512];
        size_t n = at;
        while (n > 0 && line.p[n - 1] == ' ')
            n--;
        if (n == 0 || n >= sizeof(key))
            continue;
        memcpy(key, line.p, n);
        key[n] = '\0';
        uint64_t v;
        json_key(j, key);
        if (num_u64(slice_of(line.p + at, line.n - at), &v) == 0)
            json_u64(j, v);
        else
            json_str(j, slice_of(line.p + at, line.n - at));
    }
    json_end_object(j);
}

static void verbs_job_done(struct job *j)
{
    struct conn *c = j->arg;
    if (j->status == JOB_KILLED) {
        conn_say(c, PROTO_REFUSED, "%s crashed or took too long", c->req.argv[0]);
        return;
    }
    uint32_t code = (uint32_t)j->status;
    if (!conn_json(c)) {
        conn_finish(c, code, buf_slice(&j->text), SLICE_NONE);
        return;
    }
    struct buf b;
    struct json js;
    buf_init(&b, CONTROL_OUT_MAX - 65536);
    json_init(&js, &b);
    json_object(&js);
    json_ku64(&js, "v", 1);
    json_kbool(&js, "ok", code == PROTO_DONE);
    if (c->verb == VERB_stat)
        verbs_stat_json(buf_slice(&j->text), &js);
    else
        json_kstr(&js, "text", buf_slice(&j->text));
    json_end_object(&js);
    buf_chr(&b, '\n');
    if (b.failed)
        conn_say(c, PROTO_REFUSED, "the answer is too long");
    else
        conn_finish(c, code, buf_slice(&b), SLICE_NONE);
    buf_fini(&b);
}

static void verbs_job(struct conn *c, int (*run)(void *arg, struct buf *out))
{
    if (!job_start(run, c, CHILD_LIMIT_MS, verbs_job_done, c))
        conn_say(c, PROTO_REFUSED, "cannot fork");
}

/* Only a generation of this program knows its configuration. */
static bool verbs_need_config(struct conn *c)
{
    if (master.live && master.live->config)
        return true;
    conn_say(c, PROTO_REFUSED, "no configuration is in force yet");
    return false;
}

static void verbs_config(struct conn *c)
{
    if (c->req.argc == 2 && strcmp(c->req.argv[1], "--path") == 0) {
        if (master.conf_path)
            conn_say(c, PROTO_DONE, "%s", master.conf_path);
        else
            conn_say(c, PROTO_REFUSED, "the configuration is from the command line");
        return;
    }
    for (int i = 1; i < c->req.argc; i++) {
        const char *a = c->req.argv[i];
        if (strcmp(a, "--effective") != 0 && strcmp(a, "--changed") != 0 &&
            strcmp(a, "--origin") != 0) {
            conn_usage(c);
            return;
        }
    }
    if (verbs_need_config(c))
        verbs_job(c, verbs_config_job);
}

static void verbs_explain(struct conn *c)
{
    if (c->req.argc == 4 || (c->req.argc == 5 && strcmp(c->req.argv[3], "--from") != 0))
        conn_usage(c);
    else if (verbs_need_config(c))
        verbs_job(c, verbs_explain_job);
}

static void verbs_fsck(struct conn *c)
{
    verbs_job(c, verbs_fsck_job);
}

static void verbs_metrics(struct conn *c)
{
    verbs_job(c, verbs_metrics_job);
}

static void verbs_stat(struct conn *c)
{
    verbs_job(c, verbs_stat_job);
}

/* ---- The rest ---- */

static void verbs_local(struct conn *c)
{
    conn_say(c, PROTO_USAGE, "%s is a command of rpctl itself", c->req.argv[0]);
}

static void verbs_conns(struct conn *c)
{
    query_start(c, WQ_CONNS);
}

static void verbs_cert(struct conn *c)
{
    const char *name = NULL;
    uint64_t n = 0;
    bool known = true;
    for (int i = 1; i < c->req.argc && known; i++) {
        const char *a = c->req.argv[i];
        if (strcmp(a, "-n") == 0 && n == 0 && i + 1 < c->req.argc)
            known = num_u64(slice_str(c->req.argv[++i]), &n) == 0 && n > 0 && n <= UINT32_MAX;
        else if (a[0] != '-' && !name)
            name = a;
        else
            known = false;
    }
    if (known)
        query_start_one(c, WQ_CERTS, name, (uint32_t)n);
    else
        conn_usage(c);
}

static void verbs_reload(struct conn *c)
{
    reload_request(c);
}

static void verbs_reopen(struct conn *c)
{
    struct buf b;
    buf_init(&b, 0);
    unsigned failed = master_reopen(&b);
    if (failed > 0)
        conn_say(c, PROTO_PARTLY, "not reopened: " SLICE_FMT, SLICE_ARG(buf_slice(&b)));
    else
        conn_say(c, PROTO_DONE, "ok log files reopened");
    buf_fini(&b);
}

static void verbs_log(struct conn *c)
{
    enum log_level lv;
    uint64_t ms = 0;
    if (strcmp(c->req.argv[1], "level") != 0 || c->req.argc == 4 ||
        (c->req.argc == 5 && strcmp(c->req.argv[3], "--for") != 0)) {
        conn_usage(c);
    } else if (log_level_parse(slice_str(c->req.argv[2]), &lv) < 0) {
        conn_say(c, PROTO_REFUSED,
                 "\"%.32s\" is no level: alert, error, warn, notice, info or debug",
                 c->req.argv[2]);
    } else if (c->req.argc == 5 && (num_duration(slice_str(c->req.argv[4]), &ms) < 0 || ms == 0)) {
        conn_say(c, PROTO_REFUSED, "\"%.32s\" is no duration", c->req.argv[4]);
    } else {
        master_set_level(lv, ms);
        conn_say(c, PROTO_DONE, "ok log level %s%s%s", log_level_name(lv), ms ? " for " : "",
                 ms ? c->req.argv[4] : "");
    }
}

static void verbs_show_panic(struct conn *c)
{
    struct buf b;
    struct json j;
    unsigned n = 0;
    buf_init(&b, CONTROL_OUT_MAX - 65536);
    json_init(&j, &b);
    if (conn_json(c)) {
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_key(&j, "panics");
        json_array(&j);
    }
    /* Emptied when a slot is claimed anew: what is there is of the last dead process of each slot.
     */
    for (uint32_t i = 0; i < slot_bound(master.segment); i++) {
        const char *text = slot_panic_record(master.segment, i);
        size_t len = strnlen(text, SLOT_PANIC_SIZE - 1);
        if (len == 0)
            continue;
        n++;
        if (conn_json(c)) {
            json_object(&j);
            json_ku64(&j, "slot", i);
            json_kstr(&j, "text", slice_of(text, len));
            json_end_object(&j);
        } else {
            buf_printf(&b, "slot %u\n", i);
            buf_add(&b, slice_of(text, len));
            buf_chr(&b, '\n');
        }
    }
    if (conn_json(c)) {
        json_end_array(&j);
        json_end_object(&j);
        buf_chr(&b, '\n');
    } else if (n == 0) {
        buf_str(&b, "no panic records\n");
    }
    conn_finish(c, PROTO_DONE, buf_slice(&b), SLICE_NONE);
    buf_fini(&b);
}

static void verbs_show(struct conn *c)
{
    const char *what = c->req.argv[1];
    if (strcmp(what, "pools") == 0)
        query_start(c, WQ_POOLS);
    else if (strcmp(what, "states") == 0)
        query_start(c, WQ_STATE);
    else if (strcmp(what, "panic") == 0)
        verbs_show_panic(c);
    else
        conn_usage(c);
}

static void verbs_stop(struct conn *c)
{
    bool now = c->req.argc > 1;
    if (now && strcmp(c->req.argv[1], "--now") != 0) {
        conn_usage(c);
        return;
    }
    list_append(&master.stop_callers, &c->wait);
    master_stop(now);
}

static void verbs_upgrade(struct conn *c)
{
    upgrade_request(c);
}

static void verbs_version(struct conn *c)
{
    struct buf b;
    buf_init(&b, 0);
    if (conn_json(c)) {
        struct json j;
        json_init(&j, &b);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kcstr(&j, "rpd", PACKAGE_VERSION);
        json_ku64(&j, "pid", (uint64_t)getpid());
        json_kcstr(&j, "path", master.exe);
        json_end_object(&j);
        buf_chr(&b, '\n');
    } else {
        buf_printf(&b, "rpd %s pid %d %s\n", PACKAGE_VERSION, (int)getpid(), master.exe);
    }
    conn_finish(c, PROTO_DONE, buf_slice(&b), SLICE_NONE);
    buf_fini(&b);
}

static void verbs_wait(struct conn *c)
{
    wait_start(c);
}

void verbs_run(struct conn *c)
{
    static void (*const run[VERB__COUNT])(struct conn * c) = {
        [VERB_cache] = verbs_cache,     [VERB_cert] = verbs_cert,
        [VERB_check] = verbs_local,     [VERB_completion] = verbs_local,
        [VERB_config] = verbs_config,   [VERB_conns] = verbs_conns,
        [VERB_explain] = verbs_explain, [VERB_fsck] = verbs_fsck,
        [VERB_help] = verbs_local,      [VERB_log] = verbs_log,
        [VERB_metrics] = verbs_metrics, [VERB_reload] = verbs_reload,
        [VERB_reopen] = verbs_reopen,   [VERB_server] = verbs_server,
        [VERB_show] = verbs_show,       [VERB_stat] = verbs_stat,
        [VERB_status] = verbs_status,   [VERB_stop] = verbs_stop,
        [VERB_upgrade] = verbs_upgrade, [VERB_upstream] = verbs_upstream,
        [VERB_version] = verbs_version, [VERB_wait] = verbs_wait,
    };
    run[c->verb](c);
}

void verbs_conn_gone(const struct conn *c)
{
    upgrade_conn_gone(c);
    verbs_cache_conn_gone(c);
}
