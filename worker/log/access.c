/* Access log: which record goes where, under which conditions; syslog's framing. */
#include "worker/log/access.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/num.h"
#include "config/load.h"
#include "worker/log/format.h"
#include "worker/log/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#define STATUS_MAX 600u
#define ALWAYS     100000u /* of sample: thousandths of a percent */

const char *access_syslog_path = "/dev/log";

struct access_one {
    const struct conf_log *conf;
    struct format format;
    struct writer writer;
    uint64_t status[(STATUS_MAX + 63) / 64]; /* bits; meaningful when by_status */
    bool by_status, syslog;
    unsigned priority; /* syslog's, facility included */
    uint32_t spread;   /* sampling: the share not yet spent */
    uint64_t slower_us;
};
struct access_logs {
    struct arena arena;
    struct access_one *one;
    size_t n;
    const struct conf_logs *fallback; /* for records without a route */
    struct stamp stamp;               /* of the records' times */
    struct stamp now;                 /* for syslog */
    uint64_t pid, worker;
};

/* ---- compiling ---- */

/* Where a key of the section was given; else where the section is. */
static struct conf_pos pos_of(const struct conf_log *c, const char *key)
{
    for (const struct conf_origin *o = c->origin; o; o = o->next) {
        if (strcmp(o->key->name, key) == 0)
            return o->pos;
    }
    return c->pos;
}

static const struct {
    const char *name;
    int code;
} facilities[] = {
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
    {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},           {"kern", LOG_KERN},
    {"lpr", LOG_LPR},       {"mail", LOG_MAIL},         {"news", LOG_NEWS},
    {"syslog", LOG_SYSLOG}, {"user", LOG_USER},         {"uucp", LOG_UUCP},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
};

static void compile_sink(struct access_one *o, struct conf_diags *d)
{
    struct slice file = o->conf->k.file;
    o->syslog = slice_eq(file, SLICE("syslog")) || slice_starts(file, SLICE("syslog:"));
    o->priority = LOG_DAEMON | LOG_INFO;
    if (!o->syslog || file.n == 6)
        return;
    file = slice_of(file.p + 7, file.n - 7);
    for (size_t i = 0; i < sizeof(facilities) / sizeof(facilities[0]); i++) {
        if (slice_eq(file, slice_str(facilities[i].name))) {
            o->priority = (unsigned)facilities[i].code | LOG_INFO;
            return;
        }
    }
    conf_diag_add(
        d, CONF_ERROR, pos_of(o->conf, "file"), NULL,
        "log %.*s: unknown syslog facility \"%.*s\"; known are daemon, user, local0 to local7, ...",
        SLICE_ARG(o->conf->name), SLICE_ARG(file));
}

static void compile_status(struct access_one *o, struct conf_diags *d)
{
    for (size_t i = 0; i < o->conf->k.status.n; i++) {
        const struct slice w = o->conf->k.status.v[i];
        uint64_t from = 0, to = 0;
        if (w.n == 3 && w.p[0] >= '1' && w.p[0] <= '5' && w.p[1] == 'x' && w.p[2] == 'x') {
            from = (uint64_t)(w.p[0] - '0') * 100;
            to = from + 99;
        } else if (w.n == 3 && num_u64(w, &from) == 0 && from >= 100 && from < STATUS_MAX) {
            to = from;
        } else {
            conf_diag_add(
                d, CONF_ERROR, pos_of(o->conf, "status"), NULL,
                "log %.*s: status \"%.*s\" is neither a status such as 404 nor a class such as 5xx",
                SLICE_ARG(o->conf->name), SLICE_ARG(w));
            continue;
        }
        o->by_status = true;
        for (; from <= to; from++)
            o->status[from / 64] |= UINT64_C(1) << (from % 64);
    }
}

int access_logs_new(const struct config *c, struct conf_diags *d, const int *fds,
                    struct access_logs **ret)
{
    *ret = NULL;
    struct access_logs *l = calloc(1, sizeof(*l));
    if (!l)
        return -ERR_NOMEM;
    arena_init(&l->arena, NULL, 0, 0);
    l->fallback = &c->defaults.access_log;
    l->pid = (uint64_t)getpid();
    l->one = ARENA_ARRAY(&l->arena, struct access_one, c->nlog + 1);
    int rc = l->one ? 0 : -ERR_NOMEM;
    const size_t errors = d->errors;
    for (; rc == 0 && l->n < c->nlog; l->n++) {
        struct access_one *const o = &l->one[l->n];
        o->conf = c->log[l->n];
        o->slower_us = o->conf->k.slower * 1000;
        compile_sink(o, d);
        compile_status(o, d);
        if (format_compile(o->conf->k.format, pos_of(o->conf, "format"), d, &l->arena,
                           &o->format) == -ERR_NOMEM)
            rc = -ERR_NOMEM;
        writer_open(&o->writer, -1);
    }
    if (rc == 0 && d->errors > errors)
        rc = -ERR_INVAL;
    if (rc < 0) {
        access_logs_free(&l);
        return rc;
    }
    /* Descriptors are taken over by what succeeds only. */
    for (size_t i = 0; fds && i < l->n; i++) {
        if (l->one[i].syslog)
            writer_open_syslog(&l->one[i].writer, access_syslog_path);
        else
            writer_open(&l->one[i].writer, fds[i]);
    }
    *ret = l;
    return 0;
}

void access_logs_free(struct access_logs **pl)
{
    struct access_logs *const l = *pl;
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++)
        writer_close(&l->one[i].writer);
    arena_fini(&l->arena);
    free(l);
    *pl = NULL;
}

void access_logs_set_worker(struct access_logs *l, unsigned number)
{
    l->worker = number;
}

/* ---- records ---- */

static bool wanted(struct access_one *o, const struct access_record *r)
{
    if (o->by_status &&
        (r->status >= STATUS_MAX || !(o->status[r->status / 64] >> (r->status % 64) & 1)))
        return false;
    if (o->slower_us && (r->t_total == UINT64_MAX || r->t_total < o->slower_us))
        return false;
    if (o->conf->k.sample >= ALWAYS)
        return true;
    /* Spread evenly: exactly the share, over any stretch of records. */
    o->spread += o->conf->k.sample;
    if (o->spread < ALWAYS)
        return false;
    o->spread -= ALWAYS;
    return true;
}

static void append(struct access_logs *l, struct access_one *o, const struct access_record *r)
{
    const struct format_env e = {.stamp = &l->stamp, .pid = l->pid, .worker = l->worker};
    const uint64_t now = clock_ms();
    size_t cap, head = 0;
    char *const p = writer_room(&o->writer, now, &cap);
    if (!p)
        return;
    if (o->syslog) {
        /* RFC 3164 4.1, as local senders write it: without a host name. */
        const struct slice at = stamp_bsd(&l->now, clock_cached.wall_ms);
        const int n = snprintf(p, cap, "<%u>%.*s rpd[%llu]: ", o->priority, SLICE_ARG(at),
                               (unsigned long long)l->pid);
        if (n < 0 || (size_t)n >= cap)
            return;
        head = (size_t)n;
    }
    const size_t n = format_line(&o->format, r, &e, p + head, cap - head);
    if (n)
        writer_commit(&o->writer, head + n, now);
    else
        o->writer.dropped++;
}

void access_log(struct access_logs *l, const struct access_record *r)
{
    const struct conf_logs *const to = r->route ? &r->route->scope.access_log : l->fallback;
    for (size_t i = 0; i < to->n && !to->off; i++) {
        const uint32_t id = to->v[i]->id;
        if (id < l->n && wanted(&l->one[id], r))
            append(l, &l->one[id], r);
    }
}

int access_logs_flush(struct access_logs *l, uint64_t now_ms, bool all)
{
    int next = -1;
    for (size_t i = 0; i < l->n; i++) {
        const int wait = writer_flush(&l->one[i].writer, now_ms, l->one[i].conf->k.flush, all);
        if (wait >= 0 && (next < 0 || wait < next))
            next = wait;
    }
    return next;
}

void access_logs_reopen(struct access_logs *l, const int *fds)
{
    for (size_t i = 0; i < l->n; i++)
        writer_reopen(&l->one[i].writer, fds[i]);
}

uint64_t access_logs_dropped(struct access_logs *l)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        n += l->one[i].writer.dropped;
        l->one[i].writer.dropped = 0;
    }
    return n;
}
