/* worker/log/format: every format to the byte, hostile values, lines that do not fit, diagnostics.
 */
#include "t/unit/log_fixture.h"
#include "worker/log/format.h"

#include <time.h>

static struct arena arena;
static struct stamp stamp;
static char text[65536];

static struct slice line_cap(const char *spec, const struct access_record *r, size_t cap)
{
    struct format f;
    struct conf_diags d;
    conf_diags_init(&d);
    if (format_compile(slice_str(spec), (struct conf_pos){"t.conf", 7, 1}, &d, &arena, &f) < 0)
        tap_bail("%s: %s", spec, d.n ? d.v[0].text : "?");
    conf_diags_fini(&d);
    const struct format_env e = {.stamp = &stamp, .pid = 4711, .worker = 2};
    return slice_of(text, format_line(&f, r, &e, text, cap));
}

static struct slice line_of(const char *spec, const struct access_record *r)
{
    return line_cap(spec, r, sizeof(text));
}

static void test_exact(void)
{
    struct fix f;
    fix_init(&f);
    tap_is_str(line_of("combined", &f.r),
               "192.0.2.7 - - [21/Nov/2026:02:50:00 +0000] \"GET /a%20b?q=1 HTTP/1.1\" 200 2000 "
               "\"http://a.test/x\" "
               "\"curl/7.88.1\"\n",
               "combined");
    tap_is_str(line_of("", &f.r),
               "192.0.2.7 - - [21/Nov/2026:02:50:00 +0000] \"GET /a%20b?q=1 HTTP/1.1\" 200 2000 "
               "\"http://a.test/x\" \"curl/7.88.1\"\n",
               "combined is the default");
    tap_is_str(
        line_of("json", &f.r),
        "{\"ts\":\"2026-11-21T02:50:00.123+00:00\",\"client\":\"192.0.2.7\",\"method\":\"GET\","
        "\"host\":\"shop.test\",\"uri\":\"/a%20b?q=1\",\"proto\":\"HTTP/"
        "1.1\",\"status\":200,\"reason\":null,"
        "\"bytes_in\":100,\"bytes_out\":2345,\"body_out\":2000,\"duration_ms\":12345.678,\"queue_"
        "ms\":null,"
        "\"connect_ms\":1.001,\"first_byte_ms\":0.020,\"upstream\":\"app\",\"server\":\"10.1.0.1:"
        "80\","
        "\"tries\":2,\"reused\":true,\"request_id\":\"id-1\",\"referer\":\"http://a.test/x\","
        "\"user_agent\":\"curl/7.88.1\",\"route\":\"shop/"
        "static\",\"listen\":\"http\",\"scheme\":\"http\",\"tls\":null,"
        "\"conn_requests\":3}\n",
        "json");
    tap_is_str(line_of("%{client_ip}|%{client_port}|%{peer_ip}|%{time}|%{time_iso}|%{msec}|%{"
                       "request}|%{method}|%{host}|%{uri}|"
                       "%{path}|%{query}|%{proto}|%{status}|%{reason}",
                       &f.r),
               "192.0.2.7|40000|10.0.0.1|21/Nov/2026:02:50:00 "
               "+0000|2026-11-21T02:50:00.123+00:00|1795229400.123|"
               "GET /a%20b?q=1 HTTP/1.1|GET|shop.test|/a%20b?q=1|/a%20b|q=1|HTTP/1.1|200|-\n",
               "every variable, first half");
    tap_is_str(
        line_of("%{bytes_in}|%{bytes_out}|%{body_bytes}|%{t_total}|%{t_queue}|%{t_connect}|%{t_"
                "first_byte}|%{upstream}|"
                "%{server}|%{tried}|%{tries}|%{reused}|%{request_id}|%{route}|%{listen}|%{scheme}|%"
                "{conn_requests}|%{pid}|"
                "%{worker}|%{header.host}|%{header.x-own}|%{header.nope}|%{resp_header.X-CACHE}",
                &f.r),
        "100|2345|2000|12345.678|-|1.001|0.020|app|10.1.0.1:80|10.1.0.2:80, "
        "10.1.0.1:80|2|1|id-1|shop/static|http|http|3|"
        "4711|2|shop.test:81|mine|-|hit\n",
        "every variable, second half");
    tap_is_str(line_of("%{tls_version}|%{tls_cipher}|%{tls_sni}|%{tls_alpn}|%{tls_resumed}|"
                       "%{client_cert_verify}|%{client_cert_subject}",
                       &f.r),
               "-|-|-|-|0|-|-\n", "a plain connection knows nothing of TLS");
    tap_is_str(line_of("100%% %{status}% %x%%{pid} %", &f.r), "100% 200% %x%{pid} %\n",
               "percent signs");
}

static void test_absent(void)
{
    struct fix f;
    fix_init(&f);
    const struct access_record r = {.line = SLICE("\x16\x03\x01 bad\r\n"),
                                    .client_ip = SLICE("::1"),
                                    .reason = -ERR_BAD_LINE,
                                    .status = 400,
                                    .t_queue = UINT64_MAX,
                                    .t_connect = UINT64_MAX,
                                    .t_first_byte = UINT64_MAX,
                                    .t_total = 5,
                                    .wall_ms = 1000};
    tap_is_str(line_of("combined", &r),
               "::1 - - [01/Jan/1970:00:00:01 +0000] \"\\x16\\x03\\x01 bad\\x0D\\x0A\" 400 0 \"-\" "
               "\"-\"\n",
               "a malformed head");
    tap_is_str(
        line_of("%{reason} %{method} %{host} %{proto} %{route} %{header.host} %{resp_header.x}",
                &r),
        "bad_request_line - - - - - -\n", "nothing is known");
    f.req.method_text = SLICE_NONE;
    tap_is_str(line_of("%{request} %{proto}", &f.r), "- -\n",
               "a head that stopped before its method");
    f.r.status = 0;
    tap_is_str(line_of("%{status} %{resp_header.x-cache}", &f.r), "000 hit\n", "no status");
}

static void test_times(void)
{
    struct fix f;
    fix_init(&f);
    const int64_t at[] = {1795229400123, 1795229401999, 1795229399000, 1795230299999,
                          1795230300000, 86399999,      86400000};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        f.r.wall_ms = at[i];
        const time_t when = (time_t)(at[i] / 1000);
        struct tm tm;
        char want[128], clf[40], iso[40];
        (void)gmtime_r(&when, &tm);
        (void)strftime(clf, sizeof(clf), "%d/%b/%Y:%H:%M:%S +0000", &tm);
        (void)strftime(iso, sizeof(iso), "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(want, sizeof(want), "%s %s.%03d+00:00\n", clf, iso, (int)(at[i] % 1000));
        tap_is_str(line_of("%{time} %{time_iso}", &f.r), want, "time %lld", (long long)at[i]);
    }
    /* Berlin falls back from summer time within the hour; Kathmandu is 5:45 off. */
    if (setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1) < 0)
        tap_bail("setenv");
    tzset();
    stamp = (struct stamp){0};
    f.r.wall_ms = INT64_C(1792889999000);
    tap_is_str(line_of("%{time}", &f.r), "25/Oct/2026:02:59:59 +0200\n",
               "a second before the zone changes");
    f.r.wall_ms += 1000;
    tap_is_str(line_of("%{time}", &f.r), "25/Oct/2026:02:00:00 +0100\n", "and when it has");
    if (setenv("TZ", "NPT-5:45", 1) < 0)
        tap_bail("setenv");
    tzset();
    stamp = (struct stamp){0};
    f.r.wall_ms = INT64_C(1795229400123);
    tap_is_str(line_of("%{time_iso}", &f.r), "2026-11-21T08:35:00.123+05:45\n", "an odd zone");
    f.r.wall_ms += 61000;
    tap_is_str(line_of("%{time_iso}", &f.r), "2026-11-21T08:36:01.123+05:45\n", "patched");
    if (setenv("TZ", "UTC", 1) < 0)
        tap_bail("setenv");
    tzset();
    stamp = (struct stamp){0};
}

/* ---- JSON, checked by a strict reader of its own (RFC 8259) ---- */

static const unsigned char *json_string(const unsigned char *p, const unsigned char *end)
{
    if (p == end || *p++ != '"')
        return NULL;
    while (p < end && *p != '"') {
        if (*p < 0x20 || *p == 0x7f)
            return NULL;
        if (*p == '\\') {
            if (end - p < 2 || !strchr("\"\\/bfnrtu", p[1]))
                return NULL;
            if (p[1] == 'u' &&
                (end - p < 6 || strspn((const char *)p + 2, "0123456789abcdefABCDEF") < 4))
                return NULL;
            p += p[1] == 'u' ? 6 : 2;
        } else if (*p < 0x80) {
            p++;
        } else {
            const int more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0xc2 ? 1 : -1;
            if (more < 0 || end - p <= more)
                return NULL;
            for (int i = 1; i <= more; i++) {
                if ((p[i] & 0xc0) != 0x80)
                    return NULL;
            }
            p += more + 1;
        }
    }
    return p < end ? p + 1 : NULL;
}

/* One flat object and a newline; the number of its keys, -1 when it is not valid. */
static int json_valid(struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    const unsigned char *const end = p + s.n;
    int keys = 0;
    if (s.n < 3 || *p++ != '{')
        return -1;
    for (;; p++, keys++) {
        p = json_string(p, end);
        if (!p || p == end || *p++ != ':' || p == end)
            return -1;
        if (*p == '"') {
            p = json_string(p, end);
            if (!p)
                return -1;
        } else {
            const size_t n = strspn((const char *)p, "0123456789.truefalsn");
            const bool word = (n == 4 && (!memcmp(p, "true", 4) || !memcmp(p, "null", 4))) ||
                              (n == 5 && !memcmp(p, "false", 5));
            if (n == 0 || (!word && strspn((const char *)p, "0123456789.") != n))
                return -1;
            p += n;
        }
        if (p == end || (*p != ',' && *p != '}'))
            return -1;
        if (*p == '}')
            return end - p == 2 && p[1] == '\n' ? keys + 1 : -1;
    }
}

static bool printable(struct slice s)
{
    for (size_t i = 0; i + 1 < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] >= 0x7f)
            return false;
    }
    return s.n > 0 && s.p[s.n - 1] == '\n';
}

static void test_hostile(void)
{
    struct fix f;
    fix_init(&f);
    f.field[2].value = SLICE("a\"b\\c\x1b[2J\x7f\xff\n\t\xc3\xa9");
    tap_is_str(line_of("\"%{header.user-agent}\"", &f.r),
               "\"a\\x22b\\x5Cc\\x1B[2J\\x7F\\xFF\\x0A\\x09\\xC3\\xA9\"\n", "text is escaped");
    struct slice s = line_of("json", &f.r);
    const struct slice want = SLICE("\"a\\\"b\\\\c\\u001b[2J\\u007f\xef\xbf\xbd\\n\\t\xc3\xa9\"");
    tap_ok(memmem(s.p, s.n, want.p, want.n) != NULL, "JSON is escaped");
    static const struct slice odd[] = {
        {"\xc2\x85", 2}, {"\xed\xa0\x80", 3}, {"\xf4\x90\x80\x80", 4}, {"\xe0\x80\xaf", 3},
        {"\xc0\xaf", 2}, {"\xf0\x9f\x98", 3}, {"\xf0\x9f\x98\x80", 4}, {"\0\0", 2},
        {"\xe2\x82", 2}, {"\x80", 1}};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        f.field[2].value = odd[i];
        tap_is_int(json_valid(line_of("json", &f.r)), 27, "odd value %zu is valid JSON", i);
    }
    static char noise[300];
    uint32_t x = 1;
    unsigned bad = 0;
    for (int round = 0; round < 3000; round++) {
        const size_t n = (x >> 8) % sizeof(noise);
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525u + 1013904223u;
            noise[i] = (char)(x >> 24);
        }
        x = x * 1664525u + 1013904223u;
        f.field[2].value = f.req.target = f.r.request_id = slice_of(noise, n);
        bad += json_valid(line_of("json", &f.r)) != 27;
        bad += !printable(line_of("combined", &f.r));
        const size_t cap = 700 + (x >> 8) % 400;
        s = line_cap("json", &f.r, cap);
        bad += s.n > cap || json_valid(s) != 27;
    }
    tap_is_int(bad, 0, "random bytes give valid JSON and printable text, cut or not");
}

static void test_cut(void)
{
    struct fix f;
    fix_init(&f);
    static char big[20000];
    memset(big, 'x', sizeof(big));
    f.req.target = f.field[1].value = f.field[2].value = slice_of(big, sizeof(big));
    struct slice s = line_cap("combined", &f.r, 4096);
    tap_ok(s.n > 1500 && s.n <= 4096 && s.p[s.n - 1] == '\n', "a long line is cut to %zu", s.n);
    tap_ok(memmem(s.p, s.n, "xxx... HTTP/1.1\" 200 2000 \"xxx", 30) != NULL, "value by value");
    memset(big, '\x01', sizeof(big));
    s = line_cap("json", &f.r, 4096);
    tap_is_int(json_valid(s), 27, "cut JSON is valid");
    tap_ok(s.n <= 4096, "and fits");
    s = line_cap("combined", &f.r, 65536);
    tap_ok(s.n == 0 || s.n <= 65536, "60000 escaped bytes");
    tap_ok(s.n > 10000, "use the room there is: %zu", s.n);
    tap_is_int(line_cap("json", &f.r, 100).n, 0, "no room at all");
    tap_is_int(line_cap("%{status}", &f.r, 4).n, 4, "just enough");
    tap_is_int(line_cap("%{status}", &f.r, 3).n, 0, "one byte short");
}

static const char *complaint(const char *spec, struct conf_diags *d)
{
    struct format f;
    const int rc =
        format_compile(slice_str(spec), (struct conf_pos){"t.conf", 7, 3}, d, &arena, &f);
    return rc == -ERR_INVAL && d->n ? d->v[d->n - 1].text : "accepted";
}

static void test_diagnostics(void)
{
    struct conf_diags d;
    conf_diags_init(&d);
    tap_is_str(slice_str(complaint("%{status} %{stauts}", &d)),
               "format: unknown variable %{stauts} at byte 11; did you mean %{status}?",
               "did you mean");
    tap_is_int(d.v[0].pos.line, 7, "at its line");
    tap_is_str(slice_str(complaint("%{completely_other_thing}", &d)),
               "format: unknown variable %{completely_other_thing} at byte 1", "nothing near");
    tap_is_str(slice_str(complaint("x %{status", &d)), "format: %{ at byte 3 is not closed",
               "not closed");
    tap_ok(strstr(complaint("combind", &d), "neither combined nor json") != NULL, "a word");
    tap_ok(strstr(complaint("%{header.}", &d), "unknown variable") != NULL, "a field without name");
    tap_ok(strstr(complaint("%{header}", &d), "unknown variable") != NULL, "a field without dot");
    tap_ok(strstr(complaint("%{}", &d), "unknown variable") != NULL, "an empty name");
    const size_t before = d.n;
    (void)complaint("%{a1} %{status} %{b2}", &d);
    tap_is_int(d.n - before, 2, "all of one format at once");
    conf_diags_fini(&d);
}

int main(void)
{
    arena_init(&arena, NULL, 0, 0);
    test_exact();
    test_absent();
    test_times();
    test_hostile();
    test_cut();
    test_diagnostics();
    arena_fini(&arena);
    return tap_done();
}
