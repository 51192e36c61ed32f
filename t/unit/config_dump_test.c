/* What comes out of a configuration: dump and its round trip, diff, memory bound, generated
 * documentation; and loading with failing allocations. */
#include "config/doc.h"
#include "config/keys.h"
#include "t/unit/config_fixture.h"

#include <stdlib.h>

/* Every key of the table, each with a value that is not its default. */
static const char *const every_part[] = {
    "[global]\nuser = 12\ngroup = 13\nworkers = 3\ncpu_affinity = off\npid_file = off\n"
    "control_socket = '/run/a b'\ncontrol_readers = 5\ncontrol_operators = 6\nerror_log = syslog\n"
    "log_level = warn\ndrain_timeout = 90s\ndrain_tunnel_timeout = 1500ms\nstop_timeout = 0\n"
    "old_generations = 3\nstart_timeout = 31s\nwatchdog = 11s\nmax_connections = 9\n"
    "max_connections_per_client = 8\ntrusted_proxies = 10.0.0.0/8 ::1 unix\n"
    "nameservers = 1.1.1.1:53\nrlimit_nofile = 7777\n"
    "certificate_check = 0\nticket_rotation = 1h\n"
    "compress_memory = 1m\nrecompress_cpu = 5%\n"
    "[defaults]\nhead_timeout = 11s\nkeepalive_timeout = 61s\nkeepalive_requests = 999\n"
    "connection_age = 2h\nmax_request_line = 4k\nmax_field = 5k\nmax_head = 6k\nmax_fields = 99\n"
    "handshake_timeout = 11s\nh2_streams = 99\nh2_requests = 98\nh2_window = 64k\n"
    "h2_misbehaviour = 97\nhsts = 30d include_subdomains\nclient_cert = required\n"
    "client_cert_headers = on\n"
    "max_body = 0\nbody_timeout = 31s\nbody_min_rate = 0\nwrite_timeout = 61s\n"
    "connect_timeout = 4s\nfirst_byte_timeout = 61s\nread_timeout = 61s\nsend_timeout = 61s\n"
    "tunnel_timeout = 2h\nupgrade = websocket foo\nretry = 1 on 502 504\n"
    "host_header = app.example\nforwarded = on\nvia = off\nrequest_id = keep\n"
    "server_header = hide\naccess_log = b\nupstream = v\n"
    "compress = gz\ncache = c\nttl = 0\ncache_bypass = cookie.sid header.X-No query.a[b]\n"
    "cache_max_object = 1m\ncache_key = x %{path}\ncache_sort_query = off\n"
    "cache_ignore_query = z*\ncache_ignore_cookies = off\ncache_methods = GET\n"
    "cache_encodings = br\ncache_default_ttl = 410=1h\ncache_heuristic = 7%\n"
    "cache_heuristic_max = 3h\ncache_stale_while_revalidate = 2m\ncache_stale_if_error = 2d\n"
    "cache_pass_ttl = 3m\ncache_min_uses = 3\ncache_max_variants = 8\n"
    "cache_client_control = on\ncache_targeted = on\ncache_strip_set_cookie = off\n"
    "cache_collapse = on\ncache_collapse_timeout = 6s\ncache_status = on\n"
    "[listen l]\naddress = :80 unix:/run/l\nproxy_protocol = from 10.0.0.0/24 unix\nbacklog = 5\n"
    "mode = 0600\nmax_head = 7k\ntls = on\nprotocols = h2\npolicy = modern\ncertificate = d\n"
    "client_ca = '/ca b'\nclient_verify = optional\nsession_tickets = off\nsession_cache = off\n"
    "ktls = on\nhttps_redirect = 302\n"
    "[listen m]\naddress = [::1]:80\nproxy_protocol = on\ntls = on\ncertificate = c d\n"
    "[certificate c]\npair = /c.pem '/c key'\npair = /both.pem\ndefault = on\nocsp = /o\n"
    "[certificate d]\ndirectory = '/d d'\nload = eager\nmax_loaded = 5\n"
    "[cache c]\nsize = 1g\nfile = '/dev/shm/a b'\npersist = '/var/cache/a b'\n"
    "max_object = 5m\nmax_share = 50%\nhuge_pages = off\n"
    "key = %{host} %{path}\nsort_query = on\nignore_query = utm_* 'a[b]'\n"
    "ignore_cookies = _ga*\ndefault_ttl = 200 203=1m 404=0\nheuristic = 5%\n"
    "heuristic_max = 2h\nstale_while_revalidate = 1m\nstale_if_error = 1d\npass_ttl = 1m\n"
    "min_uses = 2\nmax_variants = 9\nclient_control = off\ntargeted = off\n"
    "strip_set_cookie = on\ncollapse = off\ncollapse_timeout = 5s\ncache_status = off\nverify = "
    "heads\nmethods = GET QUERY\nencodings = off\n"
    "purge_from = 10.0.0.0/8\npurge_token = 'a b'\ntags = xkey\n"
    "[cache d]\ntags = off\n"
    "[compress gz]\nalgorithms = gzip:9 br zstd:1\ntypes = text/* application/*+x\n"
    "min_size = 0\ncpu_low = 50%\ncpu_off = 51.5%\nstore = off\nrecompress_hits = 0\n"
    "recompress_size = 1k\n"
    "[compress none]\nalgorithms = off\ntypes = off\n",
    "[upstream v]\nserver = v.example:1 weight=256 max_conns=0 resolve=90s\nserver = [::1]:2 "
    "backup\n"
    "server = unix:/run/v down\nserver = https://[::1] tls_name=a.example tls_ca='/y z'\n"
    "server = https://w.example.:8443\nbalance = least_conn\nmax_conns = 5\nqueue = 6\n"
    "queue_timeout = 7s\nkeepalive = 8\nkeepalive_timeout = 9s\nmax_fails = 4\nfail_window = 11s\n"
    "eject_time = 12s\neject_max = 33.333%\nretry_budget = 1%\nslow_start = 0\nmax_head = 16k\n"
    "protocol = auto\ntls_ca = /z\ntls_name = v.example\ntls_certificate = /cc\ntls_key = /ck\n"
    "[upstream w]\nserver = https://w.example:1\ntls_verify = off\n"
    "[log main]\nfile = /var/log/m\n"
    "[log b]\nfile = '/var/log/a b'\nformat = \"%{x} \\\"%{y}\\\" \\\\;\\n\"\nsample = 0.5%\n"
    "status = 404 5xx\nslower = 100ms\nflush = 2s\n"
    "[host h]\nnames = a.example *.b.example ~^c;\\d{2}$ [::1] *\nlisten = m l\nupstream = w\n"
    "access_log += main\nupgrade = off\n"
    "[route h/r]\npath = /a /b/* \"~^/c d$\"\nmethod = GET PURGE\npriority = -7\n"
    "return = 200 \"a ; 'b' \\\"c\\\" ${RPD_TEST}\"\n"
    "[route h/s]\nmetrics = on\naccess_log = off\nretry = off\nupstream = off\n"
    "compress = none\ncache = off\nttl = off\ncache_bypass = off\n[route h/u]\npath = /u\ncache = "
    "d\n"
    "cache_key = %{path}\ncache_ignore_query += y\ncache_min_uses = 3\n"
    "[route */t]\npath = /t\nreturn = 301 https://%{host}/\nread_timeout = 1s\n"
    "[host i]\nnames = i\nlisten = l\naccess_log = off\n"};
static char every[8192];

static void test_round_trip(void)
{
    struct fixture a, b;
    struct buf first, second;
    (void)setenv("RPD_TEST", "${HOME}", 1);
    fixture_text(&a, slice_str(every));
    buf_init(&first, 0);
    buf_init(&second, 0);
    if (!tap_ok(a.c != NULL, "every key loads")) {
        tap_is_str(buf_slice(&a.out), "", "diagnostics");
        fixture_end(&a);
        return;
    }
    for (size_t i = 0; i < conf_key_count(); i++) {
        struct slice name = conf_key_name(conf_key_at(i));
        char text[64];
        (void)snprintf(text, sizeof text, "\n" SLICE_FMT " = ", SLICE_ARG(name));
        /* One needs a file, the other gives a warning. */
        if (!slice_eq(name, SLICE("error_page")) && !slice_eq(name, SLICE("tls_key_log")))
            tap_ok(strstr(every, text) != NULL, "the test has the key " SLICE_FMT, SLICE_ARG(name));
    }
    for (int changed = 0; changed < 2; changed++) {
        buf_clear(&first);
        config_dump(a.c, false, changed, &first);
        fixture_text(&b, buf_slice(&first));
        tap_is_str(b.out.n ? buf_slice(&b.out) : SLICE(""), "", "the dump loads");
        if (tap_ok(b.c != NULL, "the dump is a configuration")) {
            tap_ok(b.c->hash == a.c->hash, "to an equal configuration");
            buf_clear(&second);
            config_dump(b.c, false, changed, &second);
            tap_is_slice(buf_slice(&second), buf_slice(&first), "with an equal dump");
            buf_clear(&second);
            config_diff(a.c, b.c, &second);
            tap_is_int((long long)second.n, 0, "and no difference");
        }
        fixture_end(&b);
    }
    buf_clear(&first);
    config_dump(a.c, true, false, &first);
    buf_chr(&first, 0);
    tap_ok(strstr(first.p, "user = 12 ; t.conf:2\n") != NULL, "origin of a value");
    tap_ok(strstr(first.p, "[host h] ; t.conf:") != NULL, "origin of a section");
    first.n--;
    fixture_text(&b, buf_slice(&first));
    tap_ok(b.c && b.c->hash == a.c->hash, "with origins it loads, too");
    fixture_end(&b);
    fixture_end(&a);
    buf_fini(&first);
    buf_fini(&second);
}

static void test_changed(void)
{
    struct fixture f;
    struct buf b;
    fixture_text(&f, SLICE("[global]\nworkers = 2\nuser = 1\nstop_timeout = 30s\n" REST));
    buf_init(&b, 0);
    if (f.c)
        config_dump(f.c, false, true, &b);
    tap_is_str(
        b.n ? buf_slice(&b) : buf_slice(&f.out),
        "[global]\nuser = 1\nworkers = 2\n\n[defaults]\n\n[listen l]\naddress = 127.0.0.1:80\n"
        "\n[upstream u]\nserver = 127.0.0.1:3000\n\n[host h]\nnames = *\nupstream = u\n",
        "what differs from the defaults");
    buf_fini(&b);
    fixture_end(&f);
}

static void differs(const char *from, const char *to, const char *want, const char *name)
{
    struct fixture a, b;
    struct buf out;
    fixture_text(&a, slice_str(from));
    fixture_text(&b, slice_str(to));
    buf_init(&out, 0);
    if (a.c && b.c)
        config_diff(a.c, b.c, &out);
    else
        buf_str(&out, "does not load");
    tap_is_str(out.n ? buf_slice(&out) : SLICE(""), want, "%s", name);
    buf_fini(&out);
    fixture_end(&a);
    fixture_end(&b);
}

static void test_diff(void)
{
    differs(REST, "; moved\n" HOST UPSTREAM LISTEN, "", "order and comments");
    differs(LISTEN HOST "[upstream u]\nserver = a:1\nserver = b:1 weight=2\n",
            LISTEN HOST "[upstream u]\nserver = b:1 weight=3\nserver = a:1\nserver = c:1\n",
            "upstream u: -server b:1 weight=2\nupstream u: +server b:1 weight=3\n"
            "upstream u: +server c:1\n",
            "servers");
    differs(LISTEN HOST "[upstream u]\nserver = a:1\nserver = b:1\n",
            LISTEN HOST "[upstream u]\nserver = b:1\nserver = a:1\n",
            "upstream u: server in another order\n", "order of servers");
    differs("[global]\nworkers = 2\n" REST, "[global]\nlog_level = info\nuser = 1\n" REST,
            "global: user unset -> 1 (takes effect at the next start or upgrade)\n"
            "global: workers 2 -> auto\nglobal: log_level notice -> info\n",
            "[global]");
    differs(REST, "[defaults]\nread_timeout = 9s\nmax_head = 64k\n" REST,
            "defaults: max_head 32k -> 64k\ndefaults: read_timeout 1m -> 9s\n",
            "what is inherited is told once");
    differs(REST, REST "read_timeout = 9s\n", "host h: read_timeout 1m -> 9s\n", "a host's key");
    differs(REST "[route h/a]\npath = /a\n[route h/b]\npath = /b\n",
            REST "[route h/b]\npath = /b /c/*\nvia = off\n[route h/d]\npath = /d\nreturn = 200\n"
                 "[host i]\nnames = i\nupstream = u\n",
            "-route h/a\nroute h/b: +path /c/*\nroute h/b: via on -> off\n+route h/d\n+host i\n",
            "routes and hosts");
    differs(REST "[upstream w]\nserver = a:1\n",
            LISTEN UPSTREAM "[upstream w]\nserver = a:1\n[host h]\nnames = *\nupstream = w\n",
            "host h: upstream u -> w\n", "a host's upstream");
    differs(REST "[log a]\nfile = /a\n", REST "[log a]\nfile = /b\n[listen m]\naddress = :81\n",
            "log a: file /a -> /b\n+listen m\n", "logs and listeners");
#define TLS(more) "[listen t]\naddress = :443\ntls = on\n" more "[certificate www]\n"
    differs(REST TLS("") "pair = /a /b\npair = /c\n",
            REST TLS("certificate = www\n") "pair = /a\npair = /c\ndefault = on\n",
            "certificate www: -pair /a /b\ncertificate www: +pair /a\n"
            "certificate www: default off -> on\nlisten t: certificate off -> www\n",
            "certificates and who uses them");
    differs(REST TLS("") "pair = /a /b\n",
            REST TLS(
                "protocols = http/1.1 h2\nclient_ca = /d\n[certificate x]\npair = /x\n") "directory"
                                                                                         " = /d\n",
            "+certificate x\ncertificate www: pair /a /b -> off\n"
            "certificate www: directory unset -> /d\nlisten t: client_ca unset -> /d\n",
            "a certificate more");
    differs(REST, LISTEN HOST "[upstream u]\nserver = https://127.0.0.1:3000\n",
            "upstream u: -server 127.0.0.1:3000\n"
            "upstream u: +server https://127.0.0.1:3000\n",
            "a server with TLS");
    differs(REST TLS("") "pair = /a\n[host i]\nnames = i\nupstream = u\nhsts = 1d\n",
            REST TLS("") "pair = /a\n[host i]\nnames = i\nupstream = u\n",
            "host i: hsts 1d -> unset\n", "hsts");
    differs(REST "cache = a\nttl = 1m\n[cache a]\npurge_token = x\ndefault_ttl = 404=1m 410=1m\n",
            REST "cache = b\nttl = 0\n[cache a]\npurge_token = y\nsize = 1g\n"
                 "default_ttl = 410=1m\n[cache b]\n[route h/r]\npath = /\ncache = a\n",
            "cache a: size 256m -> 1g\ncache a: another purge_token\n"
            "cache a: -default_ttl 404=1m\n+cache b\nhost h: cache a -> b\nhost h: ttl 1m -> "
            "0\n+route h/r\n",
            "caches");
    differs("[defaults]\ncache = a\ncache_min_uses = 2\n" REST
            "cache_ignore_query = x y\ncache_heuristic = 5%\n[cache a]\n[route h/r]\npath = /\n",
            "[defaults]\ncache = a\ncache_min_uses = 3\n" REST
            "cache_ignore_query = x\n[cache a]\n[route h/r]\npath = /\ncache_key = %{path}\n",
            "defaults: cache_min_uses 2 -> 3\nhost h: -cache_ignore_query y\n"
            "host h: cache_heuristic 5% -> unset\nroute h/r: cache_key unset -> %{path}\n",
            "what is said over a cache");
}

static void test_memory(void)
{
    struct fixture f;
    struct buf b;
    uint64_t bound = 0;
    buf_init(&b, 0);
    fixture_text(&f, SLICE("[global]\nmax_connections = 1000\nworkers = 2\n" REST));
    if (f.c)
        bound = config_memory_bound(f.c, &b);
    tap_ok(bound > (1000 * 400) && bound < (3ull << 30), "bound of 1000 connections: %llu",
           (unsigned long long)bound);
    buf_chr(&b, 0);
    tap_ok(strstr(b.p, "client connections") && strstr(b.p, "at most"), "its table");
    tap_ok(strstr(b.p, "HTTP/2") && !strstr(b.p, "TLS"), "with HTTP/2, without TLS");
    fixture_end(&f);
    fixture_text(&f, SLICE("[global]\nmax_connections = 1000\nworkers = 2\n" LISTEN
                           "protocols = http/1.1\n" UPSTREAM HOST));
    buf_clear(&b);
    uint64_t plain = f.c ? config_memory_bound(f.c, &b) : 0;
    buf_chr(&b, 0);
    tap_ok(plain > 0 && plain < bound - (1ull << 30), "HTTP/1 alone needs less: %llu",
           (unsigned long long)plain);
    tap_ok(!strstr(b.p, "HTTP/2"), "and says nothing of HTTP/2");
    fixture_end(&f);
    fixture_text(&f, SLICE("[global]\nmax_connections = 1000\nworkers = 2\n" LISTEN
                           "protocols = http/1.1\ntls = on\n[certificate c]\ndirectory = /d\n"
                           "max_loaded = 50\n" HOST "[upstream u]\nserver = https://a\n"
                           "protocol = h2\n"));
    buf_clear(&b);
    uint64_t tls = f.c ? config_memory_bound(f.c, &b) : 0;
    buf_chr(&b, 0);
    tap_ok(tls > plain + (1000 * 14000), "TLS needs more: %llu", (unsigned long long)tls);
    tap_ok(strstr(b.p, "TLS connections of clients                   1000 x      14848"),
           "clients");
    tap_ok(strstr(b.p, "TLS connections to servers                   1064 x"), "servers");
    tap_ok(strstr(b.p, "HTTP/2 connections to servers                1064 x"), "of HTTP/2");
    tap_ok(strstr(b.p, "certificates                                  100 x"), "certificates");
    tap_ok(!strstr(b.p, "cache"), "no cache");
    tap_ok(strstr(b.p, "answers being compressed                        2 x   67108864"),
           "what compresses");
    fixture_end(&f);
    fixture_text(&f, SLICE("[global]\nmax_connections = 1000\nworkers = 2\n" LISTEN
                           "protocols = http/1.1\n" UPSTREAM HOST
                           "cache = main\n[cache main]\nsize = 100m\n"));
    buf_clear(&b);
    uint64_t cached = f.c ? config_memory_bound(f.c, &b) : 0;
    buf_chr(&b, 0);
    /* And what compresses its copies anew: 144 MiB. */
    tap_ok(cached >= plain + (260ull << 20) && cached < plain + (261ull << 20),
           "a cache and its metadata: %llu", (unsigned long long)(cached - plain));
    tap_ok(strstr(b.p, "cache main "), "in the table");
    fixture_end(&f);
    fixture_text(&f, SLICE("[global]\nmax_connections = 100000000\nworkers = 2\n[defaults]\n"
                           "max_head = 256k\n" LISTEN HOST
                           "[upstream u]\nserver = a:1\nmax_conns = 0\nkeepalive = 100000\n"));
    buf_clear(&b);
    tap_ok(f.c && config_memory_bound(f.c, &b) > bound, "the largest does not overflow");
    fixture_end(&f);
    buf_fini(&b);
}

static void test_doc(void)
{
    struct buf b;
    struct fixture f, g;
    buf_init(&b, 0);
    conf_doc_sample(&b);
    fixture_text(&f, buf_slice(&b));
    tap_is_str(f.out.n ? buf_slice(&f.out) : SLICE(""), "", "the sample loads");
    fixture_text(&g, SLICE("[listen main]\naddress = 127.0.0.1:8080\n[upstream app]\n"
                           "server = 127.0.0.1:3000\n[host app]\nnames = *\nupstream = app\n"));
    tap_ok(f.c && g.c && f.c->hash == g.c->hash, "and sets nothing but its example");
    fixture_end(&g);
    fixture_end(&f);
    buf_clear(&b);
    conf_doc_man(&b);
    buf_chr(&b, 0);
    bool all = true, lines = true;
    for (size_t i = 0; i < conf_key_count(); i++) {
        struct slice name = conf_key_name(conf_key_at(i));
        char text[64];
        (void)snprintf(text, sizeof text, "\n.It Ic " SLICE_FMT " Cm =", SLICE_ARG(name));
        all &= strstr(b.p, text) != NULL;
    }
    for (const char *p = b.p; (p = strchr(p, '\n')); p++)
        lines &= p[1] != '\n' && p[1] != ' ' && p[1] != '\'';
    tap_ok(all, "the manual has every key");
    tap_ok(lines, "no line of it that mdoc would take for something else");
    buf_clear(&b);
    conf_doc_words(&b);
    tap_ok(slice_starts(buf_slice(&b), SLICE("- global defaults listen ")), "words");
    buf_fini(&b);
}

/* Loads with the n-th allocation failing. 1: nothing was left to fail. */
static int load_failing(unsigned n, uint64_t want, unsigned *failed)
{
    struct conf_snapshot *s = NULL;
    struct conf_diags d;
    struct config *c = NULL;
    bool left = false;
    conf_diags_init(&d);
    alloc_fail_at(n);
    int k = conf_snapshot_text("t.conf", slice_str(every), &s);
    if (k == 0)
        k = config_load(s, &d, &c);
    for (unsigned i = 0; i < n; i++)
        left |= alloc_should_fail();
    alloc_fail_at(0);
    bool ok = (k == 0) == (c != NULL) && (k == 0 || k == -ERR_NOMEM) && (!c || c->hash == want);
    *failed += k < 0;
    if (!ok)
        tap_ok(false, "allocation %u: status %d", n, k);
    config_free(&c);
    conf_diags_fini(&d);
    conf_snapshot_free(&s);
    return ok ? left : -1;
}

/* Every allocation fails once: an error, no crash, no leak; and what loads is right. */
static void test_allocations(void)
{
    struct fixture f;
    unsigned n = 1, failed = 0;
    (void)setenv("RPD_TEST", "x", 1);
    fixture_text(&f, slice_str(every));
    uint64_t want = f.c ? f.c->hash : 0;
    fixture_end(&f);
    while (load_failing(n, want, &failed) == 0)
        n++;
    tap_ok(failed > 30, "%u of %u allocations failed one by one", failed, n);
}

/* Each line of a key that is repeated has its own. */
static void test_origins(void)
{
    static const char text[] = "[log one]\nfile = /one\n[log two]\nfile = /two\n"
                               "[listen l]\naddress = 127.0.0.1:1\naddress = 127.0.0.1:2 "
                               "127.0.0.1:3\naddress = 127.0.0.1:4\n"
                               "[upstream u]\nserver = 127.0.0.1:5\nserver = 127.0.0.1:6\n"
                               "[host h]\nnames = a.example\nnames = b.example\nupstream = u\n";
    static const char *const wanted[] = {"address = 127.0.0.1:1 ; t.conf:6\n",
                                         "address = 127.0.0.1:2 ; t.conf:7\n",
                                         "address = 127.0.0.1:3 ; t.conf:7\n",
                                         "address = 127.0.0.1:4 ; t.conf:8\n",
                                         "server = 127.0.0.1:5 ; t.conf:10\n",
                                         "server = 127.0.0.1:6 ; t.conf:11\n",
                                         "names = a.example b.example ; t.conf:13, t.conf:14\n"};
    struct fixture f;
    struct buf b;
    buf_init(&b, 0);
    fixture_text(&f, slice_str(text));
    if (tap_ok(f.c != NULL, "loads")) {
        config_dump(f.c, true, false, &b);
        buf_chr(&b, 0);
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
            tap_ok(strstr(b.p, wanted[i]) != NULL, "%.*s", (int)strlen(wanted[i]) - 1, wanted[i]);
    }
    fixture_end(&f);
    buf_fini(&b);
}

int main(void)
{
    for (size_t i = 0, n = 0; i < sizeof every_part / sizeof every_part[0]; i++)
        n += (size_t)snprintf(every + n, sizeof every - n, "%s", every_part[i]);
    test_round_trip();
    test_changed();
    test_origins();
    test_diff();
    test_memory();
    test_doc();
    test_allocations();
    return tap_done();
}
