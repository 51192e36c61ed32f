/* Histograms at every edge, series, resolver entries, and metrics as text. */
#include "base/buf.h"
#include "base/err.h"
#include "shm/layout.h"
#include "shm/metrics.h"
#include "t/unit/tap.h"

#include <stdlib.h>

static void test_hist(void)
{
    uint64_t lower = 0, b[HIST_BUCKETS] = {0};
    int bad_edge = 0, bad_width = 0;

    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        const uint64_t up = hist_upper_us(i);

        bad_edge += hist_bucket(lower) != i || hist_bucket(up) != i ||
                    (i + 1 < HIST_BUCKETS && hist_bucket(up + 1) != i + 1);
        /* The middle of a bucket is at most 12.5 % off any value in it. */
        if (lower > 0 && (double)(up - lower) / 2 / (double)lower > 0.125)
            bad_width++;
        lower = up + 1;
    }
    tap_is_int(bad_edge, 0, "each edge falls into its bucket, its neighbour into the next");
    tap_is_int(bad_width, 0, "no bucket is wider than a quarter of its lower edge");
    tap_ok(hist_upper_us(HIST_BUCKETS - 1) >= 3600000000ull, "an hour fits");
    tap_is_int(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1, "what is longer lands in the last");
    for (uint64_t v = 0, n = 0; v < (uint64_t)1 << 34; v += 1 + v / 97, n++) {
        if (n > 0 && hist_bucket(v) < hist_bucket(v - 1))
            bad_edge++;
    }
    tap_is_int(bad_edge, 0, "monotone");

    tap_is_int(hist_quantile(b, 0.5), 0, "no samples, no quantile");
    for (uint64_t v = 1; v <= 10000; v++)
        b[hist_bucket(v)]++;
    for (int q = 1; q <= 100; q++) {
        const double want = q * 100.0, got = (double)hist_quantile(b, q / 100.0);

        if (got < want * 0.875 || got > want * 1.125)
            bad_edge++;
    }
    tap_is_int(bad_edge, 0, "all percentiles of a uniform distribution within 12.5 %%");
    tap_ok(hist_quantile(b, -1) <= 1 && hist_quantile(b, 2) >= 10000, "odd arguments are cut");
    tap_is_int(hist_below(b, hist_upper_us(20)), (long long)hist_upper_us(20),
               "at an edge the count is exact");
    {
        uint64_t before = 0;

        for (uint64_t us = 0; us < 20000; us += 7) {
            const uint64_t n = hist_below(b, us);

            if (n < before || n > 10000 || (us <= 10000 && (double)n + 400 < (double)us * 0.875))
                bad_edge++;
            before = n;
        }
    }
    tap_is_int(bad_edge, 0, "in between it grows and stays near");
    tap_is_int(hist_below(b, UINT64_MAX), 10000, "all are below infinity");
}

static void test_series(void)
{
    struct segment *s;
    struct series_sum sum;
    uint32_t a, slot, slot2;
    char longname[200];

    if (segment_create_sized(4, 4, 4, 4, &s) < 0)
        tap_bail("segment");
    slot_claim(s, 1, 0, &slot);
    slot_claim(s, 1, 1, &slot2);
    tap_is_int(series_count(s), 1, "series 0 is there");
    tap_is_str(series_name(s, 0), "other", "and called other");
    a = series_register(s, SLICE("shop/static"));
    tap_is_int(a, 1, "the next id");
    tap_is_int(series_register(s, SLICE("shop/static")), 1, "the same id again");
    memset(longname, 'n', sizeof(longname));
    tap_is_int(series_register(s, slice_of(longname, sizeof(longname))), 2, "a long name");
    tap_is_int(series_name(s, 2).n, 119, "is cut");
    tap_is_int(series_register(s, slice_of(longname, 150)), 2, "and found by its cut form");
    tap_is_int(series_register(s, SLICE("x")), 3, "the last one");
    tap_is_int(series_register(s, SLICE("y")), 0, "a full table gives 'other'");
    tap_ok(series_name(s, 9).p == NULL, "no name for an id that is not there");

    for (uint32_t i = 0; i < 10; i++) {
        struct series_row *r = series_row(s, i % 2 ? slot : slot2, a);

        r->requests++;
        r->bytes_out += 100;
        r->status[2]++;
        hist_add(&r->total, 1000 * (i + 1));
    }
    series_sum(s, a, &sum);
    tap_ok(sum.requests == 10 && sum.bytes_out == 1000 && sum.status[2] == 10 &&
               sum.sum_us == 55000,
           "sums over slots");
    slot_reap(s, slot);
    series_sum(s, a, &sum);
    tap_is_int(sum.requests, 10, "a death takes nothing away");
    series_sum(s, 3, &sum);
    tap_is_int(sum.requests, 0, "a series nobody touched");
    segment_close(&s);
}

static bool has(const struct buf *b, const char *line)
{
    char *text = strndup(b->p, b->n), want[300];
    bool found;

    if (!text)
        tap_bail("memory");
    snprintf(want, sizeof(want), "\n%s\n", line);
    found = strstr(text, want) != NULL || strncmp(text, want + 1, strlen(want + 1)) == 0;
    free(text);
    return found;
}

/* Each sample line is NAME{...} VALUE, each metric has HELP and TYPE first, histograms cumulate. */
static int lint(const struct buf *b)
{
    struct slice rest = slice_of(b->p, b->n), line;
    char metric[128] = "";
    uint64_t last = 0;
    int bad = 0;

    while (slice_next(&rest, '\n', &line)) {
        if (slice_starts(line, SLICE("# TYPE "))) {
            snprintf(metric, sizeof(metric), "%.*s", (int)(strcspn(line.p + 7, " ")), line.p + 7);
        } else if (!slice_starts(line, SLICE("# HELP "))) {
            const char *sp = memrchr(line.p, ' ', line.n);

            if (strncmp(line.p, metric, strlen(metric)) != 0 || !sp || sp + 1 == line.p + line.n)
                bad++;
            if (memmem(line.p, line.n, "_bucket{", 8) && sp) {
                const uint64_t v = strtoull(sp + 1, NULL, 10);

                if (memmem(line.p, line.n, "le=\"0.001\"", 10))
                    last = 0;
                bad += v < last;
                last = v;
            }
        }
    }
    return bad;
}

static void test_metrics(void)
{
    struct segment *s;
    struct series_row *r;
    uint32_t slot, id, ser;
    struct buf b;

    if (segment_create_sized(4, 4, 4, 4, &s) < 0)
        tap_bail("segment");
    slot_claim(s, 1, 0, &slot);
    counter_add(counter_row(s, slot), CTR_REQUESTS, 17);
    gauge_add(gauge_row(s, slot), GAU_CONNS, 3);
    ser = series_register(s, SLICE("we\"ird\\\n"));
    r = series_row(s, slot, ser);
    r->requests = 3;
    r->status[5] = 3;
    hist_add(&r->total, 800);
    hist_add(&r->total, 2000);
    hist_add(&r->total, 90000000);
    server_register(s, 5, SLICE("app/unix:/run/a.sock"), 1, &id);
    server_enter(s, slot, id, 0);
    server_row(s, slot, id)->requests = 9;
    server_set_weight(s, id, 7);

    buf_init(&b, 0);
    tap_is_int(metrics_render(s, 1000, &b), 0, "renders");
    tap_ok(has(&b, "rpd_requests_total 17"), "a counter");
    tap_ok(has(&b, "# TYPE rpd_requests_total counter"), "with its type");
    tap_ok(has(&b, "rpd_connections 3"), "a gauge");
    tap_ok(has(&b, "rpd_processes{state=\"starting\"} 1"), "processes");
    tap_ok(has(&b, "rpd_route_requests_total{route=\"we\\\"ird\\\\\\n\"} 3"),
           "a route's name is escaped");
    tap_ok(has(&b, "rpd_route_responses_total{route=\"we\\\"ird\\\\\\n\",class=\"5xx\"} 3"),
           "status classes");
    tap_ok(
        has(&b, "rpd_request_duration_seconds_bucket{route=\"we\\\"ird\\\\\\n\",le=\"0.001\"} 1"),
        "first edge");
    tap_ok(has(&b, "rpd_request_duration_seconds_bucket{route=\"we\\\"ird\\\\\\n\",le=\"60\"} 2"),
           "last edge");
    tap_ok(has(&b, "rpd_request_duration_seconds_bucket{route=\"we\\\"ird\\\\\\n\",le=\"+Inf\"} 3"),
           "infinity");
    tap_ok(has(&b, "rpd_request_duration_seconds_sum{route=\"we\\\"ird\\\\\\n\"} 90.002800"),
           "sum");
    tap_ok(has(&b, "rpd_server_requests_total{upstream=\"app\",server=\"unix:/run/a.sock\"} 9"),
           "a server");
    tap_ok(has(&b, "rpd_server_connections_active{upstream=\"app\",server=\"unix:/run/a.sock\"} 1"),
           "its requests in flight");
    tap_ok(has(&b, "rpd_server_up{upstream=\"app\",server=\"unix:/run/a.sock\"} 1"), "its state");
    tap_is_int(lint(&b), 0, "every line in its place");

    buf_clear(&b);
    tap_is_int(metrics_stat(s, 1000, SLICE_NONE, &b), 0, "plain lines");
    tap_ok(has(&b, "rpd_requests_total 17") && b.p[0] != '#', "with the same numbers");
    buf_clear(&b);
    metrics_stat(s, 1000, SLICE("rpd_requests_*"), &b);
    tap_is_str(buf_slice(&b), "rpd_requests_total 17\nrpd_requests_in_flight 0\n",
               "filtered by a pattern");
    buf_clear(&b);
    metrics_stat(s, 1000, SLICE("rpd_server_weight*unix*"), &b);
    tap_is_str(buf_slice(&b),
               "rpd_server_weight_override{upstream=\"app\",server=\"unix:/run/a.sock\"} 7\n",
               "over the labels too");
    buf_fini(&b);
    buf_init(&b, 200);
    tap_is_int(metrics_render(s, 1000, &b), -ERR_NOMEM, "a buffer that is too small says so");
    buf_fini(&b);
    segment_close(&s);
}

static union addr v4(uint32_t last)
{
    union addr a = {0};

    a.in.sin_family = AF_INET;
    a.in.sin_addr.s_addr = htonl(0x0a000000 + last);
    return a;
}

static void test_resolve(void)
{
    struct segment *s;
    struct resolve_answer a = {0}, got;
    uint32_t id, other, slot, slot2;
    slot_oid me, you;

    if (segment_create_sized(4, 4, 4, 2, &s) < 0)
        tap_bail("segment");
    slot_claim(s, 1, UINT32_MAX, &slot);
    slot_claim(s, 2, UINT32_MAX, &slot2);
    me = slot_owner_id(s, slot);
    you = slot_owner_id(s, slot2);
    tap_is_int(resolve_register(s, SLICE("a.example"), &id), 0, "register");
    tap_is_int(resolve_register(s, SLICE("b.example"), &other), 0, "another");
    tap_ok(resolve_register(s, SLICE("a.example"), &other) == 0 && other == id, "found again");
    tap_is_int(resolve_register(s, SLICE("c.example"), &other), -ERR_FULL, "full");
    tap_is_int(resolve_register(s, SLICE(""), &other), -ERR_INVAL, "empty");
    tap_ok(resolve_version(s, id) == 0 && resolve_read(s, id, &got) && got.n == 0 &&
               got.version == 0,
           "never resolved");
    a.error = 1;
    resolve_publish(s, me, id, &a);
    tap_ok(resolve_version(s, id) == 0 && resolve_read(s, id, &got) && got.error == 1,
           "a failure is told");
    a.error = 0;
    a.n = 3;
    a.addr[0] = v4(1);
    a.addr[1] = v4(2);
    a.addr[1].in.sin_port = 99;
    a.addr[2].sa.sa_family = AF_UNIX;
    a.expires_ms = 500;
    resolve_publish(s, me, id, &a);
    tap_ok(resolve_version(s, id) == 1 && resolve_read(s, id, &got) && got.n == 2 &&
               got.error == 0 && got.expires_ms == 500 && got.addr[1].in.sin_port == 0,
           "two addresses, without a port; the odd one is dropped");
    a.n = 2;
    a.addr[0] = v4(2);
    a.addr[1] = v4(1);
    resolve_publish(s, me, id, &a);
    tap_ok(resolve_version(s, id) == 1 && resolve_read(s, id, &got) &&
               got.addr[0].in.sin_addr.s_addr == v4(1).in.sin_addr.s_addr,
           "another order is no change");
    a.addr[1] = v4(3);
    resolve_publish(s, me, id, &a);
    tap_ok(resolve_version(s, id) == 2 && resolve_read(s, id, &got) && got.n == 2,
           "another address is");
    a.error = 2;
    a.n = 0;
    resolve_publish(s, me, id, &a);
    tap_ok(resolve_version(s, id) == 2 && resolve_read(s, id, &got) && got.n == 2 && got.error == 2,
           "a failure keeps the addresses");
    atomic_store(&layout_name(s, id)->writer, you);
    tap_is_int(resolve_publish(s, me, id, &a), -ERR_AGAIN, "another helper is writing");
    slot_set_state(s, slot2, SLOT_DEAD);
    tap_is_int(resolve_publish(s, me, id, &a), 0, "a dead one is passed over");
    tap_is_int(resolve_publish(s, me, 77, &a), -ERR_RANGE, "no such name");
    segment_close(&s);
}

int main(void)
{
    test_hist();
    test_series();
    test_metrics();
    test_resolve();
    return tap_done();
}
