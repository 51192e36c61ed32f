/* Values: every kind good and bad, words, quotes, environment; the exact diagnostics. */
#include "t/unit/config_fixture.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define BAD(head, want) says(head "\n" REST, want, head)

static void test_scalars(void)
{
    struct fixture f;
    fixture_text(&f, SLICE("[global]\nuser = 12\ngroup = 13\nworkers = 7\ncpu_affinity = off\n"
                           "pid_file = off\ncontrol_socket = \"/run/a b.sock\"\nlog_level = debug\n"
                           "drain_timeout = 1500ms\nmax_connections = 5000\n"
                           "[defaults]\nmax_body = 3m\nvia = off\nforwarded = on\n"
                           "request_id = make\nserver_header = hide\nhost_header = server\n"
                           "[listen l]\naddress = 127.0.0.1:80\nmode = 0640\n"
                           "[upstream u]\nserver = 127.0.0.1:1\nbalance = ip_hash\n"
                           "eject_max = 12.5%\nretry_budget = 0%\n"
                           "[route h/r]\npath = /x\npriority = -3\n" HOST));
    if (!tap_ok(f.c != NULL, "scalars load")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct conf_global_keys *g = &f.c->global;
    const struct conf_scope_keys *s = &f.c->host[0]->scope;
    const struct conf_upstream_keys *u = &f.c->upstream[0]->k;
    tap_is_str(g->user, "12", "STR");
    tap_ok(g->user.p[2] == 0, "STR ends in NUL");
    tap_is_int(g->workers, 7, "WORKERS");
    tap_is_int(f.c->workers, 7, "workers resolved");
    tap_is_int(g->cpu_affinity, 0, "AUTO_OFF");
    tap_is_int((long long)g->pid_file.n, 0, "STR off");
    tap_is_str(g->control_socket, "/run/a b.sock", "STR quoted");
    tap_is_int(g->log_level, LOG_LV_DEBUG, "LOGLEVEL");
    tap_is_int((long long)g->drain_timeout, 1500, "MS");
    tap_is_int((long long)g->max_connections, 5000, "COUNT");
    tap_is_int((long long)g->stop_timeout, 30000, "a default");
    tap_is_int((long long)s->max_body, 3 << 20, "SIZE");
    tap_is_int(s->via, 0, "BOOL off");
    tap_is_int(s->forwarded, 1, "BOOL on");
    tap_is_int(s->request_id, CONF_REQID_MAKE, "request_id");
    tap_is_int(s->server_header, CONF_SRVHDR_HIDE, "server_header");
    tap_is_int(u->balance, CONF_BALANCE_IP_HASH, "balance");
    tap_is_int(u->eject_max, 12500, "PERCENT");
    tap_is_int(u->retry_budget, 0, "PERCENT of nothing");
    tap_is_int(f.c->listen[0]->k.mode, 0640, "OCTAL");
    tap_is_int(f.c->host[0]->route[0]->k.priority, -3, "INT");
    fixture_end(&f);
}

static void test_bad_scalars(void)
{
    BAD("[global]\nworkers = 0", "t.conf:2:11: error: \"workers\" must be between 1 and 80\n"
                                 "    workers = 0\n"
                                 "              ^\n");
    BAD("[global]\nworkers = many",
        "t.conf:2:11: error: \"workers\": \"many\" is not a number or auto\n"
        "    workers = many\n"
        "              ^\n");
    BAD("[global]\ncpu_affinity = on",
        "t.conf:2:16: error: \"cpu_affinity\": \"on\" is not auto or off\n"
        "    cpu_affinity = on\n"
        "                   ^\n");
    BAD("[global]\nlog_level = notise",
        "t.conf:2:13: error: \"log_level\": \"notise\" is not alert, "
        "error, warn, notice, info or debug; "
        "did you mean \"notice\"?\n"
        "    log_level = notise\n"
        "                ^\n");
    BAD("[global]\ndrain_timeout = 30",
        "t.conf:2:17: error: \"drain_timeout\": \"30\" is not a duration (250ms, 30s, 5m, 1h, 7d)\n"
        "    drain_timeout = 30\n"
        "                    ^\n");
    BAD("[global]\ndrain_timeout = 2d",
        "t.conf:2:17: error: \"drain_timeout\" must be between 0 and 1d\n"
        "    drain_timeout = 2d\n"
        "                    ^\n");
    BAD("[defaults]\nmax_body = 16q",
        "t.conf:2:12: error: \"max_body\": \"16q\" is not a size (512, 64k, 16m, 1g)\n"
        "    max_body = 16q\n"
        "               ^\n");
    BAD("[defaults]\nmax_body = 99999999999999999999",
        "t.conf:2:12: error: \"max_body\": \"99999999999999999999\" is not small enough\n"
        "    max_body = 99999999999999999999\n"
        "               ^\n");
    BAD("[global]\nold_generations = -1",
        "t.conf:2:19: error: \"old_generations\": \"-1\" is not a number\n"
        "    old_generations = -1\n"
        "                      ^\n");
    BAD("[defaults]\nvia = yes", "t.conf:2:7: error: \"via\": \"yes\" is not on or off\n"
                                 "    via = yes\n"
                                 "          ^\n");
    BAD("[global]\npid_file = a b",
        "t.conf:2:14: error: \"pid_file\" takes one value; quote it if the blank is part of it\n"
        "    pid_file = a b\n"
        "                 ^\n");
    BAD("[global]\nuser = ''", "t.conf:2:8: error: \"user\": \"\" is not a value: it is empty\n"
                               "    user = ''\n"
                               "           ^\n");
    BAD("[global]\nuser =", "t.conf:2:7: error: \"user\" has no value\n"
                            "    user =\n"
                            "          ^\n");
    BAD("[global]\nuser += 1", "t.conf:2:1: error: \"user\" is no list: write \"=\"\n"
                               "    user += 1\n"
                               "    ^\n");
    BAD("[defaults]\nhost_header = \"a\\r\\nX: y\"",
        "t.conf:2:15: error: \"host_header\": \"a??X: y\" is not a plain text: it has a control "
        "byte\n"
        "    host_header = \"a\\r\\nX: y\"\n"
        "                  ^\n");
    BAD("[defaults]\nhost_header = a/b",
        "t.conf:2:15: error: \"host_header\": \"a/b\" is not client, server or a host name\n"
        "    host_header = a/b\n"
        "                  ^\n");
    BAD("[log a]\nfile = syslog:locl0", "t.conf:2:8: error: \"file\": \"syslog:locl0\" is not a "
                                        "log: there is no such syslog facility\n"
                                        "    file = syslog:locl0\n"
                                        "           ^\n");
    BAD("[route h/a]\npath = /\npriority = 1001",
        "t.conf:3:12: error: \"priority\" must be between -1000 and 1000\n"
        "    priority = 1001\n"
        "               ^\n");
    BAD("[log a]\nfile = /x\nsample = 101%",
        "t.conf:3:10: error: \"sample\": \"101%\" is not a percentage from 0% to 100%\n"
        "    sample = 101%\n"
        "             ^\n");
    says("[listen l]\naddress = unix:/a\nmode = 0888\n" UPSTREAM HOST,
         "t.conf:3:8: error: \"mode\": \"0888\" is not an octal number (0660)\n"
         "    mode = 0888\n"
         "           ^\n",
         "octal");
    says("[listen l]\naddress = unix:/a\nmode = 01777\n" UPSTREAM HOST,
         "t.conf:3:8: error: \"mode\" must be between 00 and 0777\n"
         "    mode = 01777\n"
         "           ^\n",
         "octal range");
}

static void test_words(void)
{
    struct fixture f;
    (void)setenv("RPD_TEST_A", "x y;z", 1);
    (void)unsetenv("RPD_TEST_B");
    fixture_text(
        &f,
        SLICE("[log a]\nfile = /a${RPD_TEST_A}b\n[log b]\nfile = /b\nformat = \"/a\\\"\\\\\\t\\$"
              "{X}\\.'#;\" ; c\n[log c]\nfile = '/${RPD_TEST_A}'\n[log d]\n"
              "file = \"/\n   a ; b\"\n[log e]\nfile = /\ntt\n" REST));
    tap_is_str(f.out.n ? buf_slice(&f.out) : SLICE(""),
               "t.conf:13:3: error: expected \"=\" and a value\n    tt\n      ^\n", "one bad line");
    fixture_end(&f);
    fixture_text(
        &f,
        SLICE("[log a]\nfile = /a${RPD_TEST_A}b\n[log b]\nfile = /b\nformat = \"/a\\\"\\\\\\t\\$"
              "{X}\\.'#;\" ; c\n[log c]\nfile = '/${RPD_TEST_A}'\n[log d]\n"
              "file = \"/\n   a ; b\"\n" REST));
    if (tap_ok(f.c != NULL, "words load")) {
        tap_is_str(f.c->log[0]->k.file, "/ax y;zb", "environment in a bare word");
        tap_is_str(f.c->log[1]->k.format, "/a\"\\\t${X}\\.'#;", "escapes");
        tap_is_str(f.c->log[2]->k.file, "/x y;z", "environment in quotes");
        tap_is_str(f.c->log[3]->k.file, "/ a ; b", "quotes over two lines");
    }
    fixture_end(&f);
    BAD("[log a]\nfile = /${RPD_TEST_B}",
        "t.conf:2:9: error: environment variable RPD_TEST_B is not set\n"
        "    file = /${RPD_TEST_B}\n"
        "            ^\n");
    BAD("[log a]\nfile = ${RPD", "t.conf:2:8: error: \"}\" is missing after \"${\"\n"
                                 "    file = ${RPD\n"
                                 "           ^\n");
    (void)setenv("RPD_TEST_B", "a\nb", 1);
    BAD("[log a]\nfile = /${RPD_TEST_B}",
        "t.conf:2:9: error: control byte in the environment variable's value\n"
        "    file = /${RPD_TEST_B}\n"
        "            ^\n");
    BAD("[log a]\nfile = \"/a", "t.conf:2:8: error: the quote is not closed\n"
                                "    file = \"/a\n"
                                "           ^\n");
    BAD("[log a]\nfile = \"/a\"b", "t.conf:2:12: error: a blank is missing after the quote\n"
                                   "    file = \"/a\"b\n"
                                   "               ^\n");
    BAD("[log a]\nfile = /a # c", "t.conf:2:11: error: a comment at the end of a line begins with "
                                  "\";\"; quote the word if it is "
                                  "no comment\n"
                                  "    file = /a # c\n"
                                  "              ^\n");
    BAD("[global]\n\ttrusted_proxies =\t10.0.0.0/8\n\t\t\xc3\xa4 x",
        "t.conf:3:3: error: \"trusted_proxies\": \"\xc3\xa4\" is not an address range (10.0.0.0/8, "
        "2001:db8::/32, unix); bits behind the prefix must be zero\n"
        "    \t\t\xc3\xa4 x\n"
        "    \t\t^\n");
}

static void test_lists(void)
{
    struct fixture f;
    fixture_text(
        &f, SLICE("[global]\ntrusted_proxies = 10.0.0.0/8 ::1\ntrusted_proxies = unix\n"
                  "nameservers = 1.1.1.1 [::1]:53\n"
                  "[defaults]\nupgrade = off\nretry = 3 on connect 502\n"
                  "[listen l]\naddress = :80 [::1]:81\naddress = unix:/run/l.sock\n"
                  "proxy_protocol = from 10.0.0.0/24 ::1\n"
                  "[upstream u]\nserver = 10.0.0.1:80 weight=3 max_conns=5\nmax_conns = 77\n"
                  "server = App-1.Example.org:81 backup resolve=30s\nserver = unix:/run/app down\n"
                  "server = [::1]:82\n"
                  "[host h]\nnames = Www.Example.ORG. *.Example.org ~^A$ [::1]\nupstream = u\n"
                  "[route h/r]\npath = /a /b/* ~^/C\npath = /*\nmethod = GET HEAD\n"
                  "[route h/s]\npath = /s\nreturn = 404 \"go; away\"\n"
                  "[route h/t]\npath = /t\nreturn = 308 https://%{host}%{uri}\n"
                  "[route h/u]\npath = /u\nmetrics = on\naccess_log = off\nretry = off\n"));
    if (!tap_ok(f.c != NULL, "lists load")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct config *c = f.c;
    const struct conf_upstream *u = c->upstream[0];
    const struct conf_server *s = u->k.server.v;
    const struct conf_names *n = &c->host[0]->k.names;
    tap_is_int((long long)c->global.trusted_proxies.n, 3, "CIDRS");
    tap_is_int(c->global.trusted_proxies.v[2].family, AF_UNIX, "unix peers");
    tap_is_int((long long)c->global.nameservers.n, 2, "nameservers");
    tap_ok(c->defaults.upgrade.off && c->defaults.upgrade.set && c->defaults.upgrade.n == 0,
           "WORDS off");
    tap_is_int(c->defaults.retry.tries, 3, "RETRY tries");
    tap_is_int(c->defaults.retry.on, CONF_RETRY_CONNECT | CONF_RETRY_502, "RETRY conditions");
    tap_is_int((long long)c->listen[0]->k.address.n, 3, "ADDRS");
    tap_is_str(c->listen[0]->k.address.v[0].text, "0.0.0.0:80", "canonical address");
    tap_is_str(c->listen[0]->k.address.v[2].text, "unix:/run/l.sock", "unix address");
    tap_is_int(c->listen[0]->k.proxy_protocol.mode, CONF_PROXYP_FROM, "PROXYP mode");
    tap_is_int((long long)c->listen[0]->k.proxy_protocol.from.n, 2, "PROXYP ranges");
    tap_is_int((long long)u->k.server.n, 4, "SERVERS");
    tap_is_int(s[0].weight, 3, "weight");
    tap_is_int((long long)s[0].max_conns, 5, "max_conns of the line");
    tap_is_int((long long)s[1].max_conns, 77, "max_conns of the upstream");
    tap_ok(s[0].literal && !s[1].literal && s[2].literal && s[3].literal, "literal");
    tap_is_str(s[1].host, "App-1.Example.org", "host of a server");
    tap_is_int(s[1].port, 81, "port of a server");
    tap_ok(s[1].backup && s[2].down && !s[0].backup, "flags of servers");
    tap_is_int((long long)s[1].resolve_ms, 30000, "resolve");
    tap_is_str(s[2].host, "", "no host for unix");
    tap_is_str(s[3].host, "::1", "host of an IPv6 server");
    tap_is_int(ntohs(s[3].addr.u.in6.sin6_port), 82, "address of an IPv6 server");
    tap_ok(s[0].key != s[1].key && s[0].key != 0, "keys");
    tap_is_int((long long)n->n, 4, "HNAMES");
    tap_is_str(n->v[0].text, "www.example.org", "exact name, lower case, no dot at the end");
    tap_ok(n->v[1].kind == CONF_NAME_WILDCARD, "wildcard");
    tap_is_str(n->v[1].text, ".example.org", "wildcard without its star");
    tap_ok(n->v[2].kind == CONF_NAME_REGEX, "regex");
    tap_is_str(n->v[2].text, "^A$", "a regex keeps its case");
    tap_is_str(n->v[3].text, "[::1]", "an IPv6 name");
    const struct conf_route *r[4] = {0};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < c->host[0]->nroute; k++)
            if (c->host[0]->route[k]->name.p[0] == "rstu"[i])
                r[i] = c->host[0]->route[k];
    tap_is_int((long long)r[0]->k.path.n, 4, "PATH");
    tap_ok(r[0]->k.path.v[1].kind == CONF_PATH_PREFIX, "prefix");
    tap_is_str(r[0]->k.path.v[1].text, "/b/", "prefix without its star");
    tap_is_str(r[0]->k.path.v[2].text, "^/C", "path regex");
    tap_is_str(r[0]->k.path.v[3].text, "/", "prefix of everything");
    tap_is_int((long long)r[0]->k.method.n, 2, "method");
    tap_is_int(r[1]->k.return_.status, 404, "RETURN status");
    tap_is_str(r[1]->k.return_.text, "go; away", "RETURN text");
    tap_ok(!r[1]->k.return_.is_url && r[2]->k.return_.is_url, "RETURN url");
    tap_ok(r[3]->k.metrics && r[3]->scope.retry.tries == 0, "metrics, retry off");
    fixture_end(&f);
}

#define BAD_SERVER(value, col, text, caret)                                                        \
    says("[upstream u]\nserver = " value "\n" LISTEN HOST,                                         \
         "t.conf:2:" col ": error: \"server\": " text "\n    server = " value "\n    " caret       \
         "^\n",                                                                                    \
         "server " value)
#define C10 "         " /* blanks before column 10 */

static void test_bad_servers(void)
{
    BAD_SERVER("10.0.0.1", "10", "\"10.0.0.1\" lacks a port (HOST:PORT)", C10);
    BAD_SERVER("app:0", "10", "\"app:0\" is not HOST:PORT, [IPV6]:PORT or unix:/PATH", C10);
    BAD_SERVER("https://app/x", "10",
               "\"https://app/x\" has a path; write it as https://HOST or https://HOST:PORT", C10);
    BAD_SERVER("http://app:80/", "10",
               "\"http://app:80/\" has a path; write it as https://HOST or https://HOST:PORT", C10);
    BAD_SERVER("https://", "10", "\"https://\" lacks a host", C10);
    BAD_SERVER("https://unix:/x", "10",
               "\"https://unix:/x\" has a path; write it as https://HOST or https://HOST:PORT",
               C10);
    BAD_SERVER("app/x:80", "10", "\"app/x:80\" is not HOST:PORT, https://HOST[:PORT] or unix:/PATH",
               C10);
    BAD_SERVER("a:80 tls_name=b", "15",
               "\"tls_name=b\" is for servers with TLS; write https://HOST[:PORT]", C10 "     ");
    BAD_SERVER("https://a tls_name=b/c", "20", "\"tls_name=b/c\" is a URL, not a host name",
               C10 "          ");
    BAD_SERVER("https://a tls_ca=", "20", "\"tls_ca=\" is not a value: it is empty",
               C10 "          ");
    BAD_SERVER("a_b!:80", "10", "\"a_b!:80\" is not HOST:PORT, [IPV6]:PORT or unix:/PATH", C10);
    BAD_SERVER("1.2.3:80", "10", "\"1.2.3:80\" is not an IPv4 address", C10);
    BAD_SERVER("unix:app", "10", "\"unix:app\" needs an absolute path (unix:/run/app.sock)", C10);
    BAD_SERVER("a:80 weight=0", "15", "\"weight=0\" is not a weight from 1 to 256", C10 "     ");
    BAD_SERVER("a:80 weigth=2", "15",
               "\"weigth=2\" is not an option of a server (weight=N, backup, down, max_conns=N, "
               "resolve=DURATION, tls_name=NAME, tls_ca=FILE); did you mean \"weight=\"?",
               C10 "     ");
    BAD_SERVER("a:80 resolve=1ms", "15", "\"resolve=1ms\" is not a duration from 1s to 1d",
               C10 "     ");
}

static void test_tls(void)
{
    struct fixture f;
    fixture_text(&f, SLICE(REST "hsts = 365d preload include_subdomains\nclient_cert = required\n"
                                "[listen t]\naddress = :443\ntls = on\nprotocols = http/1.1\n"
                                "policy = modern\ncertificate = b\ncertificate = a\n"
                                "client_ca = /ca\nhttps_redirect = 307\n"
                                "[certificate a]\npair = a.pem a.key\npair = both.pem\n"
                                "[certificate b]\ndirectory = d\nload = eager\n"));
    if (!tap_ok(f.c != NULL, "TLS loads")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct config *c = f.c;
    const struct conf_listen_keys *l = &c->listen[1]->k;
    const struct conf_hsts *h = &c->host[0]->scope.hsts;
    tap_ok(l->tls && l->protocols == CONF_PROTO_H1 && l->policy == CONF_POLICY_MODERN, "listener");
    tap_is_int(l->https_redirect, 307, "https_redirect is the status");
    tap_is_str(l->client_ca, "/ca", "client_ca");
    tap_is_int((long long)l->certificate.n, 2, "CERTREFS");
    tap_ok(l->certificate.v[0] == c->certificate[1] && l->certificate.v[1] == c->certificate[0],
           "in order");
    tap_is_int((long long)c->listen[0]->k.certificate.n, 0, "unset");
    tap_ok(!c->listen[0]->k.tls && c->listen[0]->k.protocols == (CONF_PROTO_H1 | CONF_PROTO_H2) &&
               c->listen[0]->k.https_redirect == CONF_HREDIR_AUTO,
           "defaults");
    tap_is_int((long long)c->listen[0]->conn.h2_window, 1 << 20, "h2_window");
    const struct conf_pairs *p = &c->certificate[0]->k.pair;
    tap_is_int((long long)p->n, 2, "PAIRS");
    tap_is_str(p->v[0].cert, "a.pem", "cert");
    tap_is_str(p->v[0].key, "a.key", "key");
    tap_is_str(p->v[1].key, "both.pem", "key in the same file");
    tap_ok(p->v[1].cert.p[p->v[1].cert.n] == 0, "NUL-terminated");
    tap_is_int(p->v[1].pos.line, 21, "position");
    tap_is_str(c->certificate[1]->k.directory, "d", "directory");
    tap_is_int(c->certificate[1]->k.load, CONF_LOAD_EAGER, "load");
    tap_ok(h->set && h->include_subdomains && h->preload && h->max_age_s == 365 * 86400, "HSTS");
    tap_is_int(c->host[0]->scope.client_cert, CONF_CCERT_REQUIRED, "client_cert");
    fixture_end(&f);
    fixture_text(&f, SLICE("[defaults]\nhsts = 0\n" REST "[route h/r]\npath = /\nhsts = off\n"
                           "[listen t]\naddress = :443\ntls = on\n[certificate a]\npair = a\n"));
    if (tap_ok(f.c != NULL, "hsts loads")) {
        tap_ok(f.c->host[0]->scope.hsts.set && f.c->host[0]->scope.hsts.max_age_s == 0, "zero");
        tap_ok(!f.c->host[0]->route[0]->scope.hsts.set, "off");
    }
    fixture_end(&f);
}

static void test_cache(void)
{
    struct fixture f;
    fixture_text(&f, SLICE(REST "cache = a\nttl = 30d\ncache_bypass = cookie.s\n"
                                "cache_bypass = query.q\n[route h/r]\npath = /r\nttl = 0\n"
                                "cache = off\n[route h/s]\npath = /s\nttl = off\n"
                                "cache_bypass += header.X\n"
                                "[cache b]\n[cache a]\ndefault_ttl = 200 203=1m 404=10s\n"
                                "default_ttl = 500=0\ntags = off\nfile = x\n"
                                "[route h/t]\npath = /t\ncache = b\n"));
    if (!tap_ok(f.c != NULL, "a cache loads")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct config *c = f.c;
    const struct conf_scope_keys *h = &c->host[0]->scope;
    const struct conf_scope_keys *r = &c->host[0]->route[0]->scope;
    const struct conf_scope_keys *s = &c->host[0]->route[1]->scope;
    tap_ok(c->ncache == 2 && h->cache == c->cache[1] && !r->cache && s->cache == h->cache,
           "CACHEREF");
    tap_is_int(h->cache->id, 1, "id");
    tap_ok(h->ttl.set && h->ttl.ms == 30 * UINT64_C(86400000), "a ttl");
    tap_ok(r->ttl.set && r->ttl.ms == 0, "zero");
    tap_ok(!s->ttl.set, "off");
    tap_ok(h->cache_bypass.n == 2 && s->cache_bypass.n == 3, "cache_bypass");
    tap_is_str(s->cache_bypass.v[2], "header.X", "in order");
    const struct conf_cache_keys *k = &c->cache[1]->k, *d = &c->cache[0]->k;
    const struct conf_caching_keys *ck = &c->cache[1]->caching, *cd = &c->cache[0]->caching;
    static const struct conf_ttl want[] = {{200, 60}, {203, 60}, {404, 10}, {500, 0}};
    tap_is_int((long long)ck->default_ttl.n, 4, "TTLS");
    for (size_t i = 0; i < ck->default_ttl.n && i < 4; i++)
        tap_ok(ck->default_ttl.v[i].status == want[i].status &&
                   ck->default_ttl.v[i].seconds == want[i].seconds,
               "lifetime of status %u", want[i].status);
    tap_is_int((long long)k->tags.n, 0, "no tags");
    tap_is_str(k->file, "x", "file");
    tap_ok(d->size == 256 << 20 && d->max_object == 32 << 20 && d->huge_pages && cd->collapse &&
               cd->heuristic == 10000 && cd->min_uses == 1 && d->max_share == 100000 &&
               cd->client_control && !d->purge_token.n && !d->file.n && !cd->default_ttl.n,
           "defaults");
    tap_is_str(cd->key, "%{scheme} %{host} %{path} %{query}", "key");
    tap_ok(d->tags.n == 2 && slice_eq(d->tags.v[1], SLICE("Cache-Tag")), "tags");
    fixture_end(&f);
}

/* The route of this name, of the first host. */
static const struct conf_caching *caching_of(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nroute; i++)
        if (slice_eq(c->route[i]->name, slice_str(name)))
            return c->route[i]->caching;
    tap_bail("no route %s", name);
}

static void test_caching(void)
{
    struct fixture f;
    fixture_text(&f,
                 SLICE("[defaults]\ncache_ignore_query += d\ncache_stale_if_error = 1d\n" REST
                       "cache = a\ncache_heuristic = 5%\n"
                       "[route h/same]\npath = /same\nread_timeout = 9s\n"
                       "[route h/more]\npath = /more\ncache_ignore_query += r\n"
                       "[route h/key]\npath = /key\ncache_key = %{host}  %{path}\n"
                       "[route h/key2]\npath = /key2\ncache_key = %{host} %{path}\n"
                       "[route h/own]\npath = /own\ncache_ignore_query = off\ncache_min_uses = 2\n"
                       "[route h/other]\npath = /other\ncache = b\ncache_max_object = 1k\n"
                       "[route h/ttl]\npath = /ttl\nttl = 1m\n"
                       "[route h/none]\npath = /none\ncache = off\n"
                       "[cache a]\nignore_query = x y\nheuristic = 20%\nmin_uses = 3\n"
                       "[cache b]\nheuristic = 30%\n"));
    if (!tap_ok(f.c != NULL, "policy of routes loads")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct config *c = f.c;
    const struct conf_caching *h = c->host[0]->caching;
    tap_ok(h->cache == c->cache[0] && h->k.ignore_query.n == 3 && h->k.heuristic == 5000 &&
               h->k.min_uses == 3 && h->k.stale_if_error == 86400000,
           "a host: [cache], [defaults], its own");
    tap_is_str(h->k.ignore_query.v[2], "d", "+= of [defaults] adds to what the cache says");
    tap_ok(caching_of(c, "same") == h, "a route that says nothing shares its host's");
    const struct conf_caching *more = caching_of(c, "more");
    tap_ok(more->k.ignore_query.n == 4 && more->k.heuristic == 5000, "+= of a route");
    tap_ok(h->k.ignore_query.n == 3 && c->cache[0]->caching.ignore_query.n == 2,
           "leaves the others' lists alone");
    const struct conf_caching *key = caching_of(c, "key");
    tap_is_str(key->k.key, "%{host} %{path}", "a key");
    tap_is_int(key->key_pos.line, 21, "and where it stands");
    tap_ok(key == caching_of(c, "key2"), "who says the same shares");
    const struct conf_caching *own = caching_of(c, "own");
    tap_ok(own->k.ignore_query.n == 0 && own->k.min_uses == 2 && own->k.heuristic == 5000, "off");
    const struct conf_caching *other = caching_of(c, "other");
    tap_ok(other->cache == c->cache[1] && other->k.ignore_query.n == 1 &&
               other->k.heuristic == 5000 && other->k.min_uses == 1 && other->max_object == 1024,
           "another cache: what is said over it stays, the rest is its own");
    tap_ok(caching_of(c, "ttl")->ttl.ms == 60000 && caching_of(c, "ttl") != h, "ttl");
    tap_ok(!caching_of(c, "none")->cache, "no cache");
    bool ids = true;
    for (size_t i = 0; i < c->ncaching; i++)
        ids &= c->caching[i] && c->caching[i]->id == i;
    tap_ok(ids && c->ncaching == 10, "%zu of them, by id", c->ncaching);
    fixture_end(&f);
}

#define BAD_CACHE(line, want) says(REST "cache = c\n[cache c]\n" line "\n", want, line)

static void test_bad_cache(void)
{
    BAD_CACHE("default_ttl = 404",
              "t.conf:10:15: error: \"default_ttl\": \"404\" lacks a duration: STATUS ...=DURATION "
              "(200 404=1m)\n    default_ttl = 404\n                  ^\n");
    BAD_CACHE("default_ttl = 404=1m 410",
              "t.conf:10:22: error: \"default_ttl\": \"410\" lacks a duration: STATUS ...=DURATION "
              "(200 404=1m)\n    default_ttl = 404=1m 410\n                         ^\n");
    BAD_CACHE("default_ttl = 4xx=1m",
              "t.conf:10:15: error: \"default_ttl\": \"4xx=1m\" is not STATUS ...=DURATION "
              "(200 203 404=1m)\n    default_ttl = 4xx=1m\n                  ^\n");
    BAD_CACHE("default_ttl = 304=1m",
              "t.conf:10:15: error: \"default_ttl\": \"304=1m\" is about a stored answer, and not "
              "stored itself\n    default_ttl = 304=1m\n                  ^\n");
    BAD_CACHE("default_ttl = 200=1m 200=2m",
              "t.conf:10:22: error: \"default_ttl\": \"200=2m\" has a duration already\n"
              "    default_ttl = 200=1m 200=2m\n                         ^\n");
    BAD_CACHE("default_ttl = 200=1",
              "t.conf:10:15: error: \"default_ttl\": \"200=1\" lacks a duration in whole seconds "
              "behind \"=\" (404=1m)\n    default_ttl = 200=1\n                  ^\n");
    BAD_CACHE("methods = GET POST",
              "t.conf:10:15: error: \"methods\": \"POST\" is not GET, HEAD or QUERY\n"
              "    methods = GET POST\n                  ^\n");
    BAD_CACHE("encodings = deflate",
              "t.conf:10:13: error: \"encodings\": \"deflate\" is not br, gzip or zstd\n"
              "    encodings = deflate\n                ^\n");
    BAD_CACHE("size = 1k", "t.conf:10:8: error: \"size\" must be between 1m and 1024g\n"
                           "    size = 1k\n           ^\n");
    BAD_CACHE("[route h/r]\ncache_bypass = body.x",
              "t.conf:11:16: error: \"cache_bypass\": \"body.x\" is not cookie.NAME, header.NAME "
              "or query.NAME\n    cache_bypass = body.x\n                   ^\n");
    BAD_CACHE("[route h/r]\ncache_bypass = cookie.",
              "t.conf:11:16: error: \"cache_bypass\": \"cookie.\" lacks a name behind the dot\n"
              "    cache_bypass = cookie.\n                   ^\n");
    BAD_CACHE("[route h/r]\nttl = 1",
              "t.conf:11:7: error: \"ttl\": \"1\" is not a duration (250ms, 30s, 5m, 1h, 7d), or "
              "off\n    ttl = 1\n          ^\n");
    BAD_CACHE("[route h/r]\nttl = 9999d",
              "t.conf:11:7: error: \"ttl\": \"9999d\" is too long; ten years are the limit\n"
              "    ttl = 9999d\n          ^\n");
}

#define BAD_TLS(line, want) says(REST "[listen t]\naddress = :443\n" line "\n", want, line)

static void test_bad_tls(void)
{
    BAD_TLS("protocols = h3", "t.conf:10:13: error: \"protocols\": \"h3\" is not h2 or http/1.1\n"
                              "    protocols = h3\n                ^\n");
    BAD_TLS("protocols = off", "t.conf:10:13: error: \"protocols\": \"off\" is not h2 or http/1.1\n"
                               "    protocols = off\n                ^\n");
    BAD_TLS("policy = moderm",
            "t.conf:10:10: error: \"policy\": \"moderm\" is not intermediate or modern; did you "
            "mean \"modern\"?\n    policy = moderm\n             ^\n");
    BAD_TLS("https_redirect = 303",
            "t.conf:10:18: error: \"https_redirect\": \"303\" is not auto, off, 301, 302, 307 or "
            "308; did you mean \"301\"?\n    https_redirect = 303\n                     ^\n");
    BAD_TLS("h2_window = 1k", "t.conf:10:13: error: \"h2_window\" must be between 65535 and 16m\n"
                              "    h2_window = 1k\n                ^\n");
    BAD_TLS("client_cert = required",
            "t.conf:10:1: error: unknown key \"client_cert\" in [listen]; it belongs in [defaults] "
            "or [host NAME] or [route HOST/NAME]\n    client_cert = required\n    ^\n");
    BAD("[certificate c]\npair = a b c",
        "t.conf:1:1: warning: no listener with tls uses [certificate c]\n"
        "    [certificate c]\n    ^\n"
        "t.conf:2:12: error: \"pair\" is CERT.pem KEY.pem, or one file; use a line for each pair\n"
        "    pair = a b c\n               ^\n");
    BAD("[certificat c]\npair = a",
        "t.conf:1:1: error: unknown section [certificat]; did you mean [certificate]?\n"
        "    [certificat c]\n    ^\n");
    BAD("[defaults]\nhsts = 500ms",
        "t.conf:2:8: error: \"hsts\": \"500ms\" is not a duration in whole seconds (365d), or off\n"
        "    hsts = 500ms\n           ^\n");
    BAD("[defaults]\nhsts = 365d preloaded",
        "t.conf:2:13: error: \"hsts\": \"preloaded\" is not include_subdomains or preload\n"
        "    hsts = 365d preloaded\n                ^\n");
}

static void test_bad_lists(void)
{
    BAD("[global]\ntrusted_proxies = 10.0.0.1/8",
        "t.conf:2:19: error: \"trusted_proxies\": \"10.0.0.1/8\" is not an address range "
        "(10.0.0.0/8, "
        "2001:db8::/32, unix); bits behind the prefix must be zero\n"
        "    trusted_proxies = 10.0.0.1/8\n"
        "                      ^\n");
    BAD("[defaults]\nretry = 2 for 502", "t.conf:2:11: error: \"retry\": \"for\" should be \"on\" "
                                         "with one or more of connect, reused, "
                                         "reset, 502, 503, 504 behind it\n"
                                         "    retry = 2 for 502\n"
                                         "              ^\n");
    BAD("[defaults]\nretry = 2 on 500",
        "t.conf:2:14: error: \"retry\": \"500\" is not connect, reused, reset, 502, 503 or 504\n"
        "    retry = 2 on 500\n"
        "                 ^\n");
    BAD("[defaults]\naccess_log = man\n[log main]\nfile = /x",
        "t.conf:2:14: error: there is no [log man]; did you mean \"main\"?\n"
        "    access_log = man\n"
        "                 ^\n");
    BAD("[defaults]\naccess_log = x off\n[log x]\nfile = /x",
        "t.conf:2:16: error: there is no [log off]\n"
        "    access_log = x off\n"
        "                   ^\n");
    BAD("[host i]\nnames = a:80\nupstream = u",
        "t.conf:2:9: error: \"names\": \"a:80\" has a port; names are written without one\n"
        "    names = a:80\n"
        "            ^\n");
    BAD("[host i]\nnames = a.*.b",
        "t.conf:1:1: warning: [host i] has neither an upstream nor routes: every request is "
        "answered with 404\n"
        "    [host i]\n    ^\n"
        "t.conf:2:9: error: \"names\": \"a.*.b\" has a \"*\" that is not its whole first label\n"
        "    names = a.*.b\n"
        "            ^\n");
    BAD("[route h/r]\npath = a",
        "t.conf:2:8: error: \"path\": \"a\" does not begin with \"/\" (or with \"~\" for a regular "
        "expression)\n"
        "    path = a\n"
        "           ^\n");
    BAD("[route h/r]\npath = /a*", "t.conf:2:8: error: \"path\": \"/a*\" has a \"*\" that does not "
                                   "follow the last \"/\"; prefixes are "
                                   "written /prefix/*\n"
                                   "    path = /a*\n"
                                   "           ^\n");
    BAD("[route h/r]\npath = /a/../b",
        "t.conf:2:8: error: \"path\": \"/a/../b\" has a dot segment; "
        "paths are compared after these are "
        "resolved\n"
        "    path = /a/../b\n"
        "           ^\n");
    BAD("[route h/r]\npath = /\nreturn = 301",
        "t.conf:3:10: error: \"return\": \"301\" is a redirect and needs a URL behind it\n"
        "    return = 301\n"
        "             ^\n");
    BAD("[route h/r]\npath = /\nreturn = 302 /%{hots}",
        "t.conf:3:14: error: \"return\": \"/%{hots}\" has an unknown macro; there are %{host} "
        "%{path} "
        "%{query} %{scheme} %{uri}\n"
        "    return = 302 /%{hots}\n"
        "                 ^\n");
    BAD("[route h/r]\npath = /\nmethod = G/T",
        "t.conf:3:10: error: \"method\": \"G/T\" is not a method\n"
        "    method = G/T\n"
        "             ^\n");
    BAD("[log l]\nfile = /l\nstatus = 4x",
        "t.conf:3:10: error: \"status\": \"4x\" is not a status (404) or a class (5xx)\n"
        "    status = 4x\n"
        "             ^\n");
    says("[listen l]\naddress = 80\n" UPSTREAM HOST,
         "t.conf:2:11: error: \"address\": \"80\" lacks an address; \":PORT\" is every IPv4 "
         "address\n"
         "    address = 80\n"
         "              ^\n",
         "a port alone");
    says("[listen l]\naddress = localhost:80\n" UPSTREAM HOST,
         "t.conf:2:11: error: \"address\": \"localhost:80\" is not an address (IP:PORT, "
         "[IPV6]:PORT, "
         ":PORT, unix:/PATH)\n"
         "    address = localhost:80\n"
         "              ^\n",
         "a name to listen on");
    says("[listen l]\naddress = 127.0.0.1:0\n" UPSTREAM HOST,
         "t.conf:2:11: error: \"address\": \"127.0.0.1:0\" lacks a port\n"
         "    address = 127.0.0.1:0\n"
         "              ^\n",
         "port 0");
    says(
        "[listen l]\naddress = "
        "unix:/"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaa\n" UPSTREAM HOST,
        "t.conf:2:11: error: \"address\": "
        "\"unix:/"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaa\" is too long for a unix socket (107 bytes)\n"
        "    address = "
        "unix:/"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaa...\n"
        "              ^\n",
        "a unix path too long");
}

int main(void)
{
    test_scalars();
    test_bad_scalars();
    test_words();
    test_lists();
    test_tls();
    test_bad_tls();
    test_cache();
    test_caching();
    test_bad_cache();
    test_bad_servers();
    test_bad_lists();
    return tap_done();
}
