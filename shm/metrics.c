/* Metrics as text: one walk over the segment, written either for Prometheus or as plain lines. */
#include "shm/metrics.h"

#include "base/err.h"
#include "shm/cert.h"
#include "shm/counter.h"
#include "shm/server.h"
#include "shm/slot.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct writer {
    const struct segment *s;
    uint64_t now_ms;
    struct buf *out;
    bool stat;
    char pattern[256]; /* "" = all */
    struct buf line;   /* of stat: a name with its labels */
};

static const uint64_t edges_us[] = {1000,    2500,    5000,     10000,    25000,
                                    50000,   100000,  250000,   500000,   1000000,
                                    2500000, 5000000, 10000000, 30000000, 60000000};

/* Label values: backslash, quote and newline are escaped; other control bytes and what is not ASCII
 * go out as they are only when they cannot end a line, so they become '?'. */
static void add_escaped(struct buf *b, struct slice v)
{
    for (size_t i = 0; i < v.n; i++) {
        const unsigned char c = (unsigned char)v.p[i];

        if (c == '\\' || c == '"') {
            buf_chr(b, '\\');
            buf_chr(b, (char)c);
        } else if (c == '\n') {
            buf_str(b, "\\n");
        } else {
            buf_chr(b, c < 0x20 || c >= 0x7f ? '?' : (char)c);
        }
    }
}

struct label {
    const char *name;
    struct slice value;
};

static void head(struct writer *w, const char *name, const char *type, const char *help)
{
    if (!w->stat)
        buf_printf(w->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static bool wanted(struct writer *w, const char *name, const char *full)
{
    return w->pattern[0] == '\0' || fnmatch(w->pattern, name, 0) == 0 ||
           fnmatch(w->pattern, full, 0) == 0;
}

/* One sample. l may be NULL when n is 0. value is printed as it is. */
static void sample(struct writer *w, const char *name, const struct label *l, size_t n,
                   const char *value)
{
    struct buf *b = w->stat ? &w->line : w->out;

    if (w->stat)
        buf_clear(b);
    buf_str(b, name);
    for (size_t i = 0; i < n; i++) {
        buf_chr(b, i == 0 ? '{' : ',');
        buf_str(b, l[i].name);
        buf_str(b, "=\"");
        add_escaped(b, l[i].value);
        buf_chr(b, '"');
    }
    if (n > 0)
        buf_chr(b, '}');
    if (w->stat) {
        buf_chr(b, '\0');
        if (b->failed) {
            w->out->failed = true;
            return;
        }
        if (!wanted(w, name, b->p))
            return;
        buf_add(w->out, slice_of(b->p, b->n - 1));
        b = w->out;
    }
    buf_chr(b, ' ');
    buf_str(b, value);
    buf_chr(b, '\n');
}

static void sample_u64(struct writer *w, const char *name, const struct label *l, size_t n,
                       uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, v);
    sample(w, name, l, n, text);
}

/* Microseconds as seconds, exact. */
static void sample_us(struct writer *w, const char *name, const struct label *l, size_t n,
                      uint64_t us)
{
    char text[40];

    snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
    sample(w, name, l, n, text);
}

static void write_globals(struct writer *w)
{
    for (unsigned i = 0; i < CTR__COUNT; i++) {
        head(w, counter_name((enum counter)i), "counter", counter_help((enum counter)i));
        sample_u64(w, counter_name((enum counter)i), NULL, 0, counter_sum(w->s, (enum counter)i));
    }
    for (unsigned i = 0; i < GAU__COUNT; i++) {
        head(w, gauge_name((enum gauge)i), "gauge", gauge_help((enum gauge)i));
        sample_u64(w, gauge_name((enum gauge)i), NULL, 0, gauge_sum(w->s, (enum gauge)i));
    }
}

static void write_slots(struct writer *w)
{
    uint32_t count[SLOT__COUNT] = {0};
    const uint32_t bound = slot_bound(w->s);

    for (uint32_t i = 0; i < bound; i++) {
        struct slot_view v;

        slot_view(w->s, i, &v);
        if ((unsigned)v.state < SLOT__COUNT)
            count[v.state]++;
    }
    head(w, "rpd_processes", "gauge", "Worker and helper processes by state");
    for (unsigned i = SLOT_STARTING; i < SLOT__COUNT; i++) {
        const struct label l = {"state", slice_str(slot_state_name((enum slot_state)i))};

        sample_u64(w, "rpd_processes", &l, 1, count[i]);
    }
}

static void write_histogram(struct writer *w, const struct label *route,
                            const struct series_sum *sum)
{
    const char *name = "rpd_request_duration_seconds";
    struct label l[2] = {*route, {"le", SLICE_NONE}};
    uint64_t total = 0;
    char text[32];

    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        total += sum->bucket[i];
    if (w->stat) {
        static const struct {
            const char *text;
            double q;
        } q[] = {{"0.5", 0.5}, {"0.95", 0.95}, {"0.99", 0.99}};

        l[1].name = "quantile";
        for (size_t i = 0; i < sizeof(q) / sizeof(q[0]); i++) {
            l[1].value = slice_str(q[i].text);
            sample_us(w, name, l, 2, hist_quantile(sum->bucket, q[i].q));
        }
    } else {
        for (size_t i = 0; i < sizeof(edges_us) / sizeof(edges_us[0]); i++) {
            snprintf(text, sizeof(text), "%g", (double)edges_us[i] / 1e6);
            l[1].value = slice_str(text);
            sample_u64(w, "rpd_request_duration_seconds_bucket", l, 2,
                       hist_below(sum->bucket, edges_us[i]));
        }
        l[1].value = SLICE("+Inf");
        sample_u64(w, "rpd_request_duration_seconds_bucket", l, 2, total);
    }
    sample_us(w, "rpd_request_duration_seconds_sum", route, 1, sum->sum_us);
    sample_u64(w, "rpd_request_duration_seconds_count", route, 1, total);
}

enum series_part {
    SERIES_REQUESTS,
    SERIES_IN,
    SERIES_OUT,
    SERIES_STATUS,
    SERIES_CACHED,
    SERIES_CACHED_BYTES,
    SERIES_TIME,
    SERIES__PARTS
};

static void write_series_part(struct writer *w, enum series_part part)
{
    static const char *const class[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    static const char *const cache[SERIES_CACHE_BYTES] = {
        [SERIES_CACHE_HITS] = "hit",
        [SERIES_CACHE_MISSES] = "miss",
        [SERIES_CACHE_STALE] = "stale",
        [SERIES_CACHE_REVALIDATED] = "revalidated",
        [SERIES_CACHE_COLLAPSED] = "collapsed",
    };
    const uint32_t n = series_count(w->s);
    struct series_sum sum;

    for (uint32_t id = 0; id < n; id++) {
        struct label l[2] = {{"route", series_name(w->s, id)}, {"class", SLICE_NONE}};

        series_sum(w->s, id, &sum);
        if (sum.requests == 0)
            continue;
        switch (part) {
        case SERIES_REQUESTS:
            sample_u64(w, "rpd_route_requests_total", l, 1, sum.requests);
            break;
        case SERIES_IN:
            sample_u64(w, "rpd_route_received_bytes_total", l, 1, sum.bytes_in);
            break;
        case SERIES_OUT:
            sample_u64(w, "rpd_route_sent_bytes_total", l, 1, sum.bytes_out);
            break;
        case SERIES_STATUS:
            for (int i = 0; i < 6; i++) {
                l[1].value = slice_str(class[i]);
                sample_u64(w, "rpd_route_responses_total", l, 2, sum.status[i]);
            }
            break;
        case SERIES_CACHED:
            l[1].name = "cache";
            for (int i = 0; i < SERIES_CACHE_BYTES; i++) {
                l[1].value = slice_str(cache[i]);
                if (sum.cache[i])
                    sample_u64(w, "rpd_route_cache_total", l, 2, sum.cache[i]);
            }
            break;
        case SERIES_CACHED_BYTES:
            if (sum.cache[SERIES_CACHE_BYTES])
                sample_u64(w, "rpd_route_cache_bytes_total", l, 1, sum.cache[SERIES_CACHE_BYTES]);
            break;
        case SERIES_TIME:
            write_histogram(w, l, &sum);
            break;
        case SERIES__PARTS:
            break;
        }
    }
}

/* The format wants all samples of a metric together. */
static void write_series(struct writer *w)
{
    head(w, "rpd_route_requests_total", "counter", "Requests of the route");
    write_series_part(w, SERIES_REQUESTS);
    head(w, "rpd_route_received_bytes_total", "counter",
         "Bytes received from clients of the route");
    write_series_part(w, SERIES_IN);
    head(w, "rpd_route_sent_bytes_total", "counter", "Bytes sent to clients of the route");
    write_series_part(w, SERIES_OUT);
    head(w, "rpd_route_responses_total", "counter",
         "Answers of the route by status class; none: ended without an answer");
    write_series_part(w, SERIES_STATUS);
    head(w, "rpd_route_cache_total", "counter", "Answers of the route by what the cache did");
    write_series_part(w, SERIES_CACHED);
    head(w, "rpd_route_cache_bytes_total", "counter",
         "Bytes of bodies of the route that came from the cache");
    write_series_part(w, SERIES_CACHED_BYTES);
    head(w, "rpd_request_duration_seconds", "histogram",
         "Time from the complete request head to the last byte sent");
    write_series_part(w, SERIES_TIME);
}

static const struct server_metric {
    const char *name, *type, *help;
} server_metrics[] = {
    {"rpd_server_up", "gauge", "1: gets requests; 0: ejected, in trial, drained or down"},
    {"rpd_server_state", "gauge", "0 up, 1 ejected, 2 in trial"},
    {"rpd_server_admin", "gauge", "Operator's override: 0 ready, 1 drain, 2 down"},
    {"rpd_server_weight_override", "gauge", "Operator's weight; 0: as configured"},
    {"rpd_server_connections_active", "gauge", "Requests in flight to the server"},
    {"rpd_server_connections_idle", "gauge", "Pooled idle connections to the server"},
    {"rpd_server_queue_length", "gauge", "Requests waiting for a place at the server"},
    {"rpd_server_requests_total", "counter", "Requests sent to the server"},
    {"rpd_server_failures_total", "counter", "Requests the server failed"},
    {"rpd_server_connects_total", "counter", "Connections opened to the server"},
    {"rpd_server_reuses_total", "counter", "Requests sent on a pooled connection"},
    {"rpd_server_received_bytes_total", "counter", "Bytes received from the server"},
    {"rpd_server_sent_bytes_total", "counter", "Bytes sent to the server"},
};

static uint64_t server_value(struct writer *w, uint32_t id, size_t metric,
                             const struct server_sum *sum)
{
    const enum server_state st = server_state(w->s, id, w->now_ms);
    const enum server_admin ad = server_admin(w->s, id);

    switch (metric) {
    case 0:
        return st == SERVER_UP && ad == SERVER_ADMIN_READY;
    case 1:
        return (uint64_t)st;
    case 2:
        return (uint64_t)ad;
    case 3:
        return server_weight(w->s, id);
    case 4:
        return sum->active;
    case 5:
        return sum->idle;
    case 6:
        return sum->queued;
    case 7:
        return sum->requests;
    case 8:
        return sum->failures;
    case 9:
        return sum->connects;
    case 10:
        return sum->reuses;
    case 11:
        return sum->bytes_in;
    default:
        return sum->bytes_out;
    }
}

static void write_servers(struct writer *w)
{
    const uint32_t n = server_count(w->s);

    for (size_t m = 0; m < sizeof(server_metrics) / sizeof(server_metrics[0]); m++) {
        head(w, server_metrics[m].name, server_metrics[m].type, server_metrics[m].help);
        for (uint32_t id = 0; id < n; id++) {
            const struct slice full = server_name(w->s, id);
            const ptrdiff_t cut = slice_chr(full, '/');
            struct label l[2] = {{"upstream", full}, {"server", SLICE_NONE}};
            struct server_sum sum;

            if (full.n == 0)
                continue;
            /* Registered as UPSTREAM/SERVER; a unix server has slashes of its own behind the first
             * one. */
            if (cut >= 0) {
                l[0].value = slice_of(full.p, (size_t)cut);
                l[1].value = slice_of(full.p + cut + 1, full.n - (size_t)cut - 1);
            }
            server_sum(w->s, id, &sum);
            sample_u64(w, server_metrics[m].name, l, 2, server_value(w, id, m, &sum));
        }
    }
}

static void write_certificate(struct writer *w, const char *name,
                              int64_t (*value)(const struct cert_state *))
{
    const uint32_t n = cert_count(w->s);

    for (uint32_t id = 0; id < n; id++) {
        struct label l = {"certificate", SLICE_NONE};
        struct cert_state st;
        char text[24];

        /* A row that no worker wrote yet says nothing. */
        if (!cert_get(w->s, id, &l.value, &st) || st.changed_ms == 0 || value(&st) < 0)
            continue;
        snprintf(text, sizeof(text), "%" PRId64, value(&st));
        sample(w, name, &l, 1, text);
    }
}

static int64_t cert_end(const struct cert_state *st)
{
    return st->not_after_s == 0 ? -1 : st->not_after_s;
}

static int64_t cert_failed(const struct cert_state *st)
{
    return st->failed;
}

static void write_certificates(struct writer *w)
{
    head(w, "rpd_certificate_not_after_seconds", "gauge",
         "Unix time at which the first certificate of the section expires");
    write_certificate(w, "rpd_certificate_not_after_seconds", cert_end);
    head(w, "rpd_certificate_failed", "gauge", "Files of the section that could not be used");
    write_certificate(w, "rpd_certificate_failed", cert_failed);
}

static int write_all(struct writer *w)
{
    buf_init(&w->line, 0);
    write_globals(w);
    write_slots(w);
    write_series(w);
    write_servers(w);
    write_certificates(w);
    buf_fini(&w->line);
    return w->out->failed ? -ERR_NOMEM : 0;
}

int metrics_render(const struct segment *s, uint64_t now_ms, struct buf *out)
{
    struct writer w = {.s = s, .now_ms = now_ms, .out = out};

    return write_all(&w);
}

int metrics_stat(const struct segment *s, uint64_t now_ms, struct slice pattern, struct buf *out)
{
    struct writer w = {.s = s, .now_ms = now_ms, .out = out, .stat = true};

    if (pattern.n >= sizeof(w.pattern))
        return -ERR_INVAL;
    if (pattern.n > 0)
        memcpy(w.pattern, pattern.p, pattern.n);
    return write_all(&w);
}
