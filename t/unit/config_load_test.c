/* Loading: sections, inheritance, routes and their order, checks across sections, includes, quick
 * start. */
#include "base/hash.h"
#include "t/unit/config_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_sections(void)
{
    says(REST "[hots x]\nnames = y\n",
         "t.conf:8:1: error: unknown section [hots]; did you mean [host]?\n    [hots x]\n    ^\n",
         "unknown section");
    says(REST "[limit main]\nrate = 1\n",
         "t.conf:8:1: error: unknown section [limit]; there are global, defaults, listen, "
         "certificate, cache, compress, host, route, upstream and log\n    [limit main]\n    ^\n",
         "section of a later version");
    says(REST "[global x]\n", "t.conf:8:1: error: [global] has no name\n    [global x]\n    ^\n",
         "name of [global]");
    says(REST "[host]\nnames = y\n",
         "t.conf:8:1: error: the name is missing: [host NAME]\n    [host]\n    ^\n", "no name");
    says(REST "[host a b]\n",
         "t.conf:8:1: error: bad name \"a b\": letters, digits, \"_\", \".\", \"*\" and \"-\", 59 "
         "at most\n"
         "    [host a b]\n    ^\n",
         "bad name");
    says(REST "[route h]\n",
         "t.conf:8:1: error: a route is written [route HOST/NAME], or [route */NAME] for every "
         "host\n"
         "    [route h]\n    ^\n",
         "route without host");
    says(REST "[log off]\n", "t.conf:8:1: error: \"off\" cannot be a name\n    [log off]\n    ^\n",
         "off as a name");
    says(REST "[host h]\nnames = z\nnmaes = z\n",
         "t.conf:8:1: error: section [host h] is given twice; the first one is at t.conf:5\n"
         "    [host h]\n    ^\n"
         "t.conf:10:1: error: unknown key \"nmaes\" in [host]; did you mean \"names\"?\n"
         "    nmaes = z\n    ^\n",
         "a section twice");
    says("[global]\n[global]\n" REST,
         "t.conf:2:1: error: section [global] is given twice; the first one is at t.conf:1\n"
         "    [global]\n    ^\n",
         "[global] twice");
}

static void test_keys(void)
{
    says("[defaults]\nconect_timeout = 1s\n" REST,
         "t.conf:2:1: error: unknown key \"conect_timeout\" in [defaults]; did you mean "
         "\"connect_timeout\"?\n    conect_timeout = 1s\n    ^\n",
         "unknown key");
    says("[global]\nbalance = ip_hash\n" REST,
         "t.conf:2:1: error: unknown key \"balance\" in [global]; it belongs in [upstream NAME]\n"
         "    balance = ip_hash\n    ^\n",
         "a key of another section");
    says("[global]\nbalanse = ip_hash\n" REST,
         "t.conf:2:1: error: unknown key \"balanse\" in [global]; did you mean \"balance\" of "
         "[upstream "
         "NAME]?\n    balanse = ip_hash\n    ^\n",
         "nearly a key of another section");
    says("[global]\nwaf = on\n" REST,
         "t.conf:2:1: error: unknown key \"waf\" in [global]\n    waf = on\n    ^\n",
         "a key of a later version");
    says("[global]\nworkers = 1\nuser = 1\nworkers = 2\n" REST,
         "t.conf:4:1: error: \"workers\" is given twice; the first time at t.conf:2\n"
         "    workers = 2\n    ^\n",
         "a key twice");
    says(LISTEN UPSTREAM "[host h]\nupstream = u\n",
         "t.conf:5:1: error: [host h] needs \"names\"\n    [host h]\n    ^\n", "a required key");
    says(LISTEN UPSTREAM "[host h]\nnames = off\nupstream = u\n",
         "t.conf:5:1: error: [host h] needs \"names\"\n    [host h]\n    ^\n",
         "a required key off");
    says("[defaults]\naccess_log = off\naccess_log = x\n[log x]\nfile = /x\n" REST, "",
         "a list may go on behind off");
    says("[log x]\nfile = /x\n[defaults]\naccess_log = x\naccess_log = off\n" REST,
         "t.conf:5:14: error: \"off\" clears \"access_log\" and stands alone\n"
         "    access_log = off\n                 ^\n",
         "off behind other values");
}

static void test_references(void)
{
    says(LISTEN UPSTREAM "[host h]\nnames = *\nupstream = vaa\n[upstream vva]\nserver = a:1\n",
         "t.conf:7:12: error: there is no [upstream vaa]; did you mean \"vva\"?\n"
         "    upstream = vaa\n               ^\n",
         "upstream");
    says(REST "[route g/x]\npath = /x\n",
         "t.conf:8:1: error: there is no [host g]\n    [route g/x]\n    ^\n", "host of a route");
    says(LISTEN UPSTREAM "[host h]\nnames = *\nupstream = u\nlisten = ll\n",
         "t.conf:8:10: error: there is no [listen ll]; did you mean \"l\"?\n"
         "    listen = ll\n             ^\n",
         "listener");
    says(LISTEN UPSTREAM "[host h]\nnames = *\nupstream = u 95%\n",
         "t.conf:7:14: error: \"upstream\" takes one name; requests cannot be split between "
         "upstreams\n"
         "    upstream = u 95%\n                 ^\n",
         "split");
    says(LISTEN "[host h]\nnames = *\n[route h/r]\npath = /x\n",
         "t.conf:5:1: error: [route h/r] has no upstream, and neither has its host; or give it "
         "return "
         "or metrics\n    [route h/r]\n    ^\n",
         "route that goes nowhere");
    says(LISTEN "[host h]\nnames = *\n[route */r]\npath = /x\n",
         "t.conf:5:1: error: [route */r] has no upstream in [host h]; give it an upstream, return "
         "or "
         "metrics\n    [route */r]\n    ^\n",
         "route of all hosts that goes nowhere");
    says(LISTEN "[host h]\nnames = *\n",
         "t.conf:3:1: warning: [host h] has neither an upstream nor routes: every request is "
         "answered "
         "with 404\n    [host h]\n    ^\n",
         "host that goes nowhere");
    says(REST "[route h/r]\npath = /x\nreturn = 200\nmetrics = on\n",
         "t.conf:8:1: error: [route h/r] has both return and metrics\n    [route h/r]\n    ^\n",
         "two answers");
}

static void test_unique(void)
{
    says(REST "[host i]\nnames = A.example a.example.\nupstream = u\n",
         "t.conf:9:19: error: name \"a.example\" is given twice\n"
         "    names = A.example a.example.\n                      ^\n",
         "a name twice");
    says(REST "[host i]\nnames = *\nupstream = u\nlisten = l\n",
         "t.conf:9:9: error: name \"*\" belongs to [host h] (t.conf:6) already, on listener l\n"
         "    names = *\n            ^\n",
         "a name of a host on all listeners");
    says(LISTEN "[listen m]\naddress = :81\n" UPSTREAM
                "[host a]\nnames = x\nlisten = l\nupstream = u\n[host b]\nnames = x\nlisten = m\n"
                "upstream = u\n",
         "", "the same name on different listeners");
    says(LISTEN "[listen m]\naddress = :81\n" UPSTREAM
                "[host a]\nnames = x\nlisten = l\nupstream = u\n[host b]\nnames = x\nlisten = m l\n"
                "upstream = u\n",
         "t.conf:12:9: error: name \"x\" belongs to [host a] (t.conf:8) already, on listener l\n"
         "    names = x\n            ^\n",
         "the same name on one of two listeners");
    says(LISTEN UPSTREAM "[host a]\nnames = x\nlisten = l\nupstream = u\n[host b]\nnames = x\n"
                         "upstream = u\n",
         "t.conf:10:9: error: name \"x\" belongs to [host a] (t.conf:6) already\n"
         "    names = x\n            ^\n",
         "a name of a host on one listener");
    says(REST "[listen m]\naddress = 127.0.0.1:80\n",
         "t.conf:9:11: error: address 127.0.0.1:80 is given twice; the first time at t.conf:2\n"
         "    address = 127.0.0.1:80\n              ^\n",
         "an address twice");
    says(REST "[listen m]\naddress = :80 [::]:80\n",
         "t.conf:2:11: warning: 127.0.0.1:80 takes its part of what 0.0.0.0:80 (t.conf:9) would "
         "receive\n    address = 127.0.0.1:80\n              ^\n",
         "an address below a wildcard");
    says(LISTEN HOST "[upstream u]\nserver = a:1\nserver = a:1 down\n",
         "t.conf:8:10: error: server a:1 is given twice in [upstream u]; the first time at "
         "t.conf:7\n"
         "    server = a:1 down\n             ^\n",
         "a server twice");
    says(LISTEN HOST "[upstream u]\nserver = a:1 down\n",
         "t.conf:6:1: error: every server of [upstream u] is down\n    [upstream u]\n    ^\n",
         "all down");
    says(REST "[route h/a]\npath = /x /y/*\nmethod = GET HEAD\n[route h/b]\nmethod = HEAD GET\n"
              "path = /y/* /x\n",
         "t.conf:13:8: error: path \"/y/*\" of [route h/b] is also in [route h/a] (t.conf:8), with "
         "the "
         "same methods and priority\n    path = /y/* /x\n           ^\n"
         "t.conf:13:13: error: path \"/x\" of [route h/b] is also in [route h/a] (t.conf:8), with "
         "the "
         "same methods and priority\n    path = /y/* /x\n                ^\n",
         "paths twice");
    says(REST
         "[route h/a]\npath = /x\n[route h/b]\npath = /x/*\n[route h/c]\npath = /x\npriority = 1\n"
         "[route h/d]\npath = /x\nmethod = GET\n",
         "", "paths that are not the same");
    says(REST "[route h/a]\nreturn = 200\n[route h/b]\nreturn = 201\n",
         "t.conf:10:1: error: [route h/b] matches what [route h/a] (t.conf:8) matches\n"
         "    [route h/b]\n    ^\n",
         "two routes without path");
}

static void test_global_checks(void)
{
    says("[defaults]\nmax_head = 1k\n" REST,
         "t.conf:2:1: error: max_request_line is larger than max_head\n    max_head = 1k\n    ^\n"
         "t.conf:2:1: error: max_field is larger than max_head\n    max_head = 1k\n    ^\n",
         "sizes that contradict");
    says("[global]\nuser = no-such-user-x\ngroup = no-such-group-x\nerror_log = a/b\n" REST,
         "t.conf:2:1: warning: there is no user \"no-such-user-x\" on this machine\n"
         "    user = no-such-user-x\n    ^\n"
         "t.conf:3:1: warning: there is no group \"no-such-group-x\" on this machine\n"
         "    group = no-such-group-x\n    ^\n"
         "t.conf:4:1: warning: error_log is relative to the directory that rpd is started in\n"
         "    error_log = a/b\n    ^\n",
         "users, groups, paths");
    says("",
         "t.conf: error: there is nothing to listen on; write \"proxy = http://HOST:PORT\", or "
         "[listen], "
         "[host] and [upstream] sections\n",
         "an empty file");
    says(LISTEN, "t.conf: warning: there is no [host]: every request is answered with 404\n",
         "no host");
}

static void test_inherit(void)
{
    struct fixture f;
    fixture_text(&f, SLICE("[route h/r]\nread_timeout = 4s\naccess_log += c\npath = /x\n"
                           "[host h]\nnames = h\nread_timeout = 3s\nupstream = v\naccess_log += b\n"
                           "[host i]\nnames = i\naccess_log = off\n"
                           "[route i/r]\naccess_log = c\n"
                           "[host j]\nnames = j\nupstream = off\naccess_log += c\n"
                           "[route */s]\npath = /s\nread_timeout = 9s\nupstream = u\n"
                           "[route j/s]\npath = /own\nreturn = 200\n"
                           "[defaults]\nread_timeout = 2s\nmax_head = 20k\naccess_log = a\n"
                           "upstream = u\n[listen m]\naddress = :82\nmax_head = 40k\n"
                           "[log a]\nfile = /a\n[log b]\nfile = /b\n[log c]\nfile = /c\n"
                           "[log main]\nfile = /m\n"
                           "[upstream v]\nserver = 127.0.0.1:9\n" LISTEN UPSTREAM));
    if (!tap_ok(f.c != NULL, "inheritance loads")) {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
        fixture_end(&f);
        return;
    }
    const struct conf_host *h = f.c->host[0], *i = f.c->host[1], *j = f.c->host[2];
    tap_is_int((long long)h->scope.read_timeout, 3000, "host over defaults");
    tap_is_int((long long)h->route[1]->scope.read_timeout, 9000, "route of all hosts over host");
    tap_is_str(h->route[0]->name, "r", "file order between two exact paths: own route");
    tap_is_int((long long)h->route[0]->scope.read_timeout, 4000, "route over host");
    tap_is_int((long long)i->scope.read_timeout, 2000, "from [defaults]");
    tap_is_int((long long)h->route[0]->scope.connect_timeout, 3000, "built in");
    const struct conf_logs *l = &h->route[0]->scope.access_log;
    tap_ok(l->n == 3 && l->v[0]->name.p[0] == 'a' && l->v[1]->name.p[0] == 'b' &&
               l->v[2]->name.p[0] == 'c',
           "lists append over two steps");
    tap_is_int((long long)h->scope.access_log.n, 2, "and leave the parent's alone");
    tap_is_int((long long)f.c->defaults.access_log.n, 1, "and [defaults]'");
    tap_ok(j->scope.access_log.n == 2 && j->scope.access_log.v[1]->name.p[0] == 'c' &&
               h->scope.access_log.v[1]->name.p[0] == 'b',
           "siblings do not share");
    tap_ok(i->scope.access_log.n == 0 && i->scope.access_log.off, "off clears");
    tap_ok(i->route[1]->scope.access_log.n == 1 && !i->route[1]->scope.access_log.off,
           "and set again");
    tap_is_str(h->upstream->name, "v", "a host's upstream");
    tap_is_str(i->upstream->name, "u", "the upstream of [defaults]");
    tap_ok(j->upstream == NULL && j->self->upstream == NULL, "no upstream");
    tap_is_str(h->route[0]->upstream->name, "v", "a route's upstream is its host's");
    tap_is_str(h->route[1]->upstream->name, "u", "a route's own");
    tap_ok(j->nroute == 1 && j->route[0]->k.return_.status == 200, "own route of the same name");
    tap_is_str(h->route[1]->series, "h/s", "series of a route");
    tap_is_str(h->self->series, "h", "series of a host");
    tap_ok(h->route[1]->host == h && i->route[1]->host == i, "copies belong to their host");
    tap_is_int((long long)f.c->listen[0]->conn.max_head, 40 << 10, "listener over defaults");
    tap_is_int((long long)f.c->listen[1]->conn.max_head, 20 << 10, "listener from defaults");
    tap_is_int((long long)f.c->nroute, 3 + 2 + 2 + 1, "all routes");
    bool ids = true;
    for (size_t n = 0; n < f.c->nroute; n++)
        ids &= f.c->route[n]->id == n;
    tap_ok(ids, "ids are indices");
    fixture_end(&f);
    fixture_text(&f, SLICE("[log main]\nfile = /x\n" REST));
    tap_ok(f.c && f.c->host[0]->scope.access_log.n == 1, "the log named main is the default");
    fixture_end(&f);
}

static void test_order(void)
{
    struct fixture f;
    fixture_text(&f, SLICE(REST "[route */star]\npath = /exact\nmethod = PUT\n"
                                "[route h/none]\n[route h/regex]\npath = ~^/e\n"
                                "[route h/short]\npath = /a/*\n[route h/long]\npath = /z/* /a/b/*\n"
                                "[route h/exact]\npath = ~x /exact\n"
                                "[route h/get]\npath = /exact\nmethod = GET\n"
                                "[route h/high]\npath = ~high\npriority = 5\n"
                                "[route h/low]\npath = /low\npriority = -5\n"
                                "[route */hidden]\npath = /low\npriority = -5\n"
                                "[route */half]\npath = /a/* /half\n"));
    struct buf b;
    buf_init(&b, 0);
    for (size_t i = 0; f.c && i < f.c->host[0]->nroute; i++)
        buf_printf(&b, SLICE_FMT " ", SLICE_ARG(f.c->host[0]->route[i]->name));
    tap_is_str(b.n ? buf_slice(&b) : buf_slice(&f.out),
               "high get star exact half long short regex none low ", "precedence");
    for (size_t i = 0; f.c && i < f.c->host[0]->nroute; i++)
        if (slice_eq(f.c->host[0]->route[i]->name, SLICE("half")))
            tap_is_int((long long)f.c->host[0]->route[i]->k.path.n, 1,
                       "an own route's path stays its");
    buf_fini(&b);
    fixture_end(&f);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        tap_bail("%s: %s", path, strerror(errno));
}

/* The diagnostics of a file, with its directory cut off. */
static void file_says(const char *dir, const char *want, const char *name)
{
    char path[512];
    struct fixture f;
    struct buf b;
    (void)snprintf(path, sizeof path, "%s/main.conf", dir);
    fixture_file(&f, path);
    buf_init(&b, 0);
    size_t n = strlen(dir);
    for (size_t i = 0; i < f.out.n;) {
        if (f.out.n - i > n && memcmp(f.out.p + i, dir, n) == 0 && f.out.p[i + n] == '/')
            i += n + 1;
        buf_chr(&b, f.out.p[i++]);
    }
    tap_is_str(b.n ? buf_slice(&b) : SLICE(""), want, "%s", name);
    tap_ok((f.status == 0) == (f.c != NULL), "%s: a configuration or an error", name);
    buf_fini(&b);
    fixture_end(&f);
}

static void test_files(void)
{
    char dir[] = "/tmp/rpd-config-XXXXXX", path[600];
    struct fixture f;
    if (!mkdtemp(dir))
        tap_bail("mkdtemp: %s", strerror(errno));
    (void)snprintf(path, sizeof path, "%s/sites", dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/sites/dir.conf", dir);
    (void)mkdir(path, 0700);
    write_file(dir, "main.conf",
               "include = l.conf\n[global]\ninclude = sites/*.conf none/*.conf\n"
               "workers = 3\n[defaults]\nupstream = u\n");
    write_file(dir, "l.conf", LISTEN);
    write_file(dir, "sites/a.conf", "[host a]\nnames = a\nerror_page = 404,5xx ../page.html\n");
    write_file(dir, "sites/b.conf", "\xef\xbb\xbf" UPSTREAM);
    write_file(dir, "page.html", "<p>gone");
    file_says(dir, "", "includes, a glob, a directory that it names, a glob without a match");
    (void)snprintf(path, sizeof path, "%s/main.conf", dir);
    fixture_file(&f, path);
    if (tap_ok(f.c != NULL, "includes load")) {
        const struct conf_error_pages *p = &f.c->host[0]->scope.error_page;
        tap_is_int(f.c->workers, 3, "[global] goes on behind an include");
        tap_is_int((long long)p->n, 1, "an error page");
        tap_is_str(p->v[0].body, "<p>gone", "its body");
        tap_is_str(p->v[0].type, "text/html", "its type");
        tap_ok(p->v[0].nstatus == 1 && p->v[0].status[0] == 404 && p->v[0].class5 &&
                   !p->v[0].class4,
               "its statuses");
        tap_is_str(f.c->path, path, "the main file");
    }
    fixture_end(&f);

    write_file(dir, "sites/a.conf", "proxy = x:1\nworkers = 1\n[global]\nuser = 1\n");
    write_file(dir, "sites/b.conf", "[host a]\nnames = x\ninclude = c\n");
    file_says(
        dir,
        "main.conf:6:12: error: there is no [upstream u]\n    upstream = u\n               ^\n"
        "sites/a.conf:1:1: error: key \"proxy\" before any section\n    proxy = x:1\n    ^\n"
        "sites/a.conf:2:1: error: key \"workers\" before any section; it belongs in [global]\n"
        "    workers = 1\n    ^\n"
        "sites/a.conf:3:1: error: section [global] is given twice; the first one is at "
        "main.conf:2\n    [global]\n    ^\n"
        "sites/b.conf:3:1: error: include may stand before any section and in [global] only\n"
        "    include = c\n    ^\n",
        "positions in included files");

    write_file(dir, "main.conf", "include = a.conf\n" REST);
    write_file(dir, "a.conf", "include = b.conf\n");
    write_file(dir, "b.conf", "include = a.conf b.conf main.conf none.conf\n");
    file_says(dir,
              "b.conf:1:1: error: a.conf is included already at main.conf:1\n"
              "    include = a.conf b.conf main.conf none.conf\n    ^\n"
              "b.conf:1:1: error: b.conf is included already at a.conf:1\n"
              "    include = a.conf b.conf main.conf none.conf\n    ^\n"
              "b.conf:1:1: error: main.conf includes itself\n"
              "    include = a.conf b.conf main.conf none.conf\n    ^\n"
              "b.conf:1:1: error: cannot read none.conf: No such file or directory\n"
              "    include = a.conf b.conf main.conf none.conf\n    ^\n",
              "cycles");
    for (int i = 0; i < 9; i++) {
        char name[32], text[64];
        (void)snprintf(name, sizeof name, "d%d.conf", i);
        (void)snprintf(text, sizeof text, "include = d%d.conf\n", i + 1);
        write_file(dir, name, text);
    }
    write_file(dir, "d9.conf", "");
    write_file(dir, "main.conf", "include = d0.conf\n" REST);
    file_says(dir,
              "d7.conf:1:1: error: includes are nested deeper than 8\n"
              "    include = d8.conf\n    ^\n",
              "depth");
    write_file(dir, "main.conf",
               "[defaults]\nerror_page = 404 none.html\nerror_page = 4 x\n"
               "error_page = 404\n" REST);
    file_says(
        dir,
        "main.conf:2:18: error: cannot read none.html: No such file or directory\n"
        "    error_page = 404 none.html\n                     ^\n"
        "main.conf:3:14: error: \"error_page\": \"4\" is not a list of statuses (404,410 or 5xx)\n"
        "    error_page = 4 x\n                 ^\n"
        "main.conf:4:14: error: \"error_page\" is STATUS[,STATUS] FILE\n"
        "    error_page = 404\n                 ^\n",
        "error pages");
    (void)snprintf(path, sizeof path, "rm -rf '%s'", dir);
    if (system(path) != 0)
        tap_bail("cannot remove %s", dir);
    file_says(dir, "main.conf: error: cannot read main.conf: No such file or directory\n",
              "no main file");
    says("include = /etc/passwd\n" REST,
         "t.conf:1:1: error: include needs a configuration file, not a text\n"
         "    include = /etc/passwd\n    ^\n",
         "a text includes nothing");
    says("[defaults]\nerror_page = 404 /etc/passwd\n" REST,
         "t.conf:2:18: error: error pages need a configuration file, not a text\n"
         "    error_page = 404 /etc/passwd\n                     ^\n",
         "a text reads nothing");
}

static void test_named_files(void)
{
    char dir[] = "/tmp/rpd-config-XXXXXX", path[600];
    struct fixture f;
    if (!mkdtemp(dir))
        tap_bail("mkdtemp: %s", strerror(errno));
    (void)snprintf(path, sizeof path, "%s/sites", dir);
    (void)mkdir(path, 0700);
    write_file(dir, "main.conf",
               "include = sites/c.conf\n" REST "[upstream v]\nserver = https://a tls_ca=ca.pem\n"
               "tls_certificate = /abs/c.pem\n");
    write_file(dir, "sites/c.conf",
               "[listen t]\naddress = :443\ntls = on\nclient_ca = ../ca.pem\n"
               "[certificate c]\npair = c.pem key/c.pem\nocsp = off\n"
               "[certificate d]\ndirectory = d\n");
    (void)snprintf(path, sizeof path, "%s/main.conf", dir);
    fixture_file(&f, path);
    if (tap_ok(f.c != NULL, "files that are named load, whether they are there or not")) {
        const struct conf_server *v = f.c->upstream[1]->k.server.v;
        const struct {
            struct slice got;
            const char *want;
        } files[] = {{f.c->listen[0]->k.client_ca, "/sites/../ca.pem"},
                     {f.c->certificate[0]->k.pair.v[0].cert, "/sites/c.pem"},
                     {f.c->certificate[0]->k.pair.v[0].key, "/sites/key/c.pem"},
                     {f.c->certificate[1]->k.directory, "/sites/d"},
                     {v->tls_ca, "/ca.pem"}};
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            (void)snprintf(path, sizeof path, "%s%s", dir, files[i].want);
            tap_is_str(files[i].got, path, "relative to the file that names it");
            tap_ok(files[i].got.p[files[i].got.n] == 0, "ends in NUL");
        }
        tap_is_str(f.c->upstream[1]->k.tls_certificate, "/abs/c.pem", "absolute");
        tap_is_int((long long)f.c->certificate[0]->k.ocsp.n, 0, "off");
    } else {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
    }
    fixture_end(&f);
    (void)snprintf(path, sizeof path, "rm -rf '%s'", dir);
    if (system(path) != 0)
        tap_bail("cannot remove %s", dir);
}

static void test_quick(void)
{
    struct fixture f;
    struct buf b;
    fixture_text(&f, SLICE("proxy = http://127.0.0.1:3000/\n[log main]\nfile = /x\n"));
    if (tap_ok(f.c != NULL, "quick start loads")) {
        tap_is_str(f.c->listen[0]->k.address.v[0].text, "127.0.0.1:8080", "default address");
        tap_is_str(f.c->upstream[0]->k.server.v[0].name, "127.0.0.1:3000", "server");
        tap_ok(f.c->host[0]->k.names.v[0].kind == CONF_NAME_ANY, "catch-all");
        tap_ok(f.c->host[0]->upstream == f.c->upstream[0], "upstream");
    }
    uint64_t hash = f.c ? f.c->hash : 0;
    fixture_end(&f);
    buf_init(&b, 0);
    tap_is_int(config_quick(&(struct conf_quick){.to = SLICE("http://127.0.0.1:3000")}, &b), 0,
               "config_quick");
    buf_str(&b, "[log main]\nfile = /x\n");
    fixture_text(&f, buf_slice(&b));
    tap_ok(f.c && f.c->hash == hash, "the command line says the same");
    fixture_end(&f);
    static const struct {
        const char *to, *want;
    } quick[] = {{"http://[::1]", "[::1]:80"}, {"http://app", "app:80"},
                 {"https://app", "app:443"},   {"https://[::1]:444/", "[::1]:444"},
                 {"app:81", "app:81"},         {"unix:/run/app.sock", "unix:/run/app.sock"}};
    for (size_t i = 0; i < sizeof quick / sizeof quick[0]; i++) {
        buf_clear(&b);
        tap_is_int(config_quick(
                       &(struct conf_quick){.from = SLICE(":9"), .to = slice_str(quick[i].to)}, &b),
                   0, "%s", quick[i].to);
        fixture_text(&f, buf_slice(&b));
        if (tap_ok(f.c != NULL, "%s loads", quick[i].to)) {
            tap_is_str(f.c->upstream[0]->k.server.v[0].name, quick[i].want, "%s server",
                       quick[i].to);
            tap_is_str(f.c->listen[0]->k.address.v[0].text, "0.0.0.0:9", "address");
        }
        fixture_end(&f);
    }
    static const char *const wrong[] = {"https://app/x", "http://app/x", "app:80/x", "http://", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        buf_clear(&b);
        tap_is_int(config_quick(&(struct conf_quick){.to = slice_str(wrong[i])}, &b), -ERR_INVAL,
                   "refused: %s", wrong[i]);
        tap_ok(b.n > 0 && b.p[0] != '[', "with a reason");
    }
    buf_fini(&b);
    says("proxy = https://a/b\n",
         "t.conf:1:9: error: \"proxy\": the URL may not have a path; write http://HOST:PORT\n"
         "    proxy = https://a/b\n            ^\n",
         "https");
    says("proxy = a:1\nproxy = b:1\n",
         "t.conf:2:1: error: \"proxy\" is given twice; the first time in line 1\n"
         "    proxy = b:1\n    ^\n",
         "proxy twice");
    says("proxy = a:1 b:1\n",
         "t.conf:1:13: error: \"proxy\" takes one URL\n"
         "    proxy = a:1 b:1\n                ^\n",
         "two URLs");
    says("listen = :1\n",
         "t.conf:1:1: error: \"listen\" needs \"proxy = http://HOST:PORT\" beside it\n"
         "    listen = :1\n    ^\n",
         "listen alone");
    says("proxy = a:1\n" HOST,
         "t.conf:2:1: error: [host] cannot be combined with \"proxy =\" before the first section "
         "(line "
         "1)\n    [host h]\n    ^\n"
         "t.conf:4:12: error: there is no [upstream u]\n    upstream = u\n               ^\n",
         "together with sections");
    says("proxy = a\n",
         "t.conf:1:9: error: \"server\": \"a\" lacks a port (HOST:PORT)\n"
         "    proxy = a\n            ^\n",
         "no port");
    says("prxy = a\n",
         "t.conf:1:1: error: key \"prxy\" before any section; only proxy, listen and include may "
         "stand "
         "here\n    prxy = a\n    ^\n",
         "another key");
}

static void test_quick_tls(void)
{
    struct fixture f;
    struct buf b;
    buf_init(&b, 0);
    struct conf_quick q = {
        .to = SLICE("https://app"), .tls_from = SLICE("127.0.0.1:443"), .cert = SLICE("a b.pem")};
    tap_is_int(config_quick(&q, &b), 0, "a TLS listener alone");
    fixture_text(&f, buf_slice(&b));
    if (tap_ok(f.c && f.c->nlisten == 1 && f.c->ncertificate == 1, "loads")) {
        const struct conf_pair *p = f.c->certificate[0]->k.pair.v;
        tap_ok(f.c->listen[0]->k.tls && f.c->certificate[0]->k.default_, "TLS, default");
        tap_is_str(p->cert, "a b.pem", "certificate");
        tap_is_str(p->key, "a b.pem", "its key in the same file");
        tap_ok(f.c->upstream[0]->k.server.v[0].tls, "TLS to the server");
    }
    fixture_end(&f);
    buf_clear(&b);
    q.from = SLICE(":80");
    q.key = SLICE("b.pem");
    tap_is_int(config_quick(&q, &b), 0, "both listeners");
    fixture_text(&f, buf_slice(&b));
    if (tap_ok(f.c && f.c->nlisten == 2 && f.c->ncertificate == 1, "load")) {
        tap_ok(!f.c->listen[0]->k.tls && f.c->listen[1]->k.tls, "plain, then TLS");
        tap_is_str(f.c->certificate[0]->k.pair.v[0].key, "b.pem", "key");
    }
    fixture_end(&f);
    struct conf_quick bad[] = {q, q};
    bad[0].cert = SLICE("");
    bad[1].tls_from = SLICE("");
    for (int i = 0; i < 2; i++) {
        buf_clear(&b);
        tap_is_int(config_quick(&bad[i], &b), -ERR_INVAL, "one without the other");
        tap_is_str(b.n ? buf_slice(&b) : SLICE(""),
                   "--tls-from and --cert need each other, and --key needs both", "says so");
    }
    buf_fini(&b);
}

#define CERT "[certificate c]\npair = /c.pem /c.key\n"
#define TLS  "[listen t]\naddress = :443\ntls = on\n"

/* Lines 1 to 7 are REST, 8 to 10 the listener, 11 and 12 the certificate. */
static void test_tls_checks(void)
{
    says(REST TLS CERT, "", "TLS");
    says(REST TLS,
         "t.conf:10:1: error: [listen t] has tls, but there is no [certificate NAME]\n"
         "    tls = on\n    ^\n",
         "without a certificate");
    says(REST CERT,
         "t.conf:8:1: warning: no listener with tls uses [certificate c]\n"
         "    [certificate c]\n    ^\n",
         "a certificate without TLS");
    says(REST TLS "[certificate c]\ndefault = on\n",
         "t.conf:11:1: error: [certificate c] needs \"pair = CERT KEY\" or \"directory = PATH\"\n"
         "    [certificate c]\n    ^\n",
         "an empty certificate");
    says(REST TLS CERT "directory = /d\n",
         "t.conf:13:1: error: [certificate c] has both pair and directory; make two sections\n"
         "    directory = /d\n    ^\n",
         "pair and directory");
    says(REST TLS "[certificate c]\ndirectory = /d\nocsp = /o\n",
         "t.conf:13:1: error: ocsp needs a pair\n    ocsp = /o\n    ^\n", "ocsp");
    says(REST TLS CERT "load = eager\nmax_loaded = 5\n",
         "t.conf:13:1: warning: load has an effect on a directory only\n    load = eager\n    ^\n"
         "t.conf:14:1: warning: max_loaded has an effect on a directory only\n"
         "    max_loaded = 5\n    ^\n",
         "keys of a directory");
    says(REST TLS CERT "default = on\n[certificate d]\npair = /d\ndefault = on\n",
         "t.conf:16:1: error: [certificate d] and [certificate c] (t.conf:11) are both the default "
         "of [listen t]\n    default = on\n    ^\n",
         "two defaults");
    says(REST TLS "certificate = c\n[listen v]\naddress = :444\ntls = on\ncertificate = d\n" CERT
                  "default = on\n[certificate d]\npair = /d\ndefault = on\n",
         "", "two defaults of two listeners");
    says(REST TLS "certificate = d\n" CERT,
         "t.conf:11:15: error: there is no [certificate d]\n"
         "    certificate = d\n                  ^\n",
         "reference");
    says(REST TLS "client_verify = optional\n" CERT,
         "t.conf:11:1: error: client_verify needs \"client_ca = FILE\" beside it\n"
         "    client_verify = optional\n    ^\n",
         "client_verify");
    says(LISTEN "policy = modern\nclient_ca = /x\nktls = on\nsession_cache = off\n" UPSTREAM HOST,
         "t.conf:3:1: error: policy has no meaning in [listen l] without \"tls = on\"\n"
         "    policy = modern\n    ^\n"
         "t.conf:4:1: error: client_ca has no meaning in [listen l] without \"tls = on\"\n"
         "    client_ca = /x\n    ^\n"
         "t.conf:5:1: error: ktls has no meaning in [listen l] without \"tls = on\"\n"
         "    ktls = on\n    ^\n"
         "t.conf:6:1: error: session_cache has no meaning in [listen l] without \"tls = on\"\n"
         "    session_cache = off\n    ^\n",
         "keys of TLS on a plain listener");
    says(LISTEN "protocols = h2\nhttps_redirect = 301\n" UPSTREAM HOST, "", "of all listeners");
    says("[global]\ntls_key_log = /x\n" REST,
         "t.conf:2:1: warning: tls_key_log: whoever reads /x can read all traffic; for debugging "
         "only\n    tls_key_log = /x\n    ^\n",
         "tls_key_log");
}

static void test_tls_host_checks(void)
{
    says(REST "hsts = 1d\n" TLS CERT, "", "hsts of a host with TLS");
    says(REST "hsts = 1d\nlisten = l\n[route h/r]\npath = /r\nhsts = 2d\n" TLS CERT,
         "t.conf:8:1: warning: hsts: no listener with tls serves [host h]; it is sent over TLS "
         "only\n    hsts = 1d\n    ^\n"
         "t.conf:12:1: warning: hsts: no listener with tls serves [host h]; it is sent over TLS "
         "only\n    hsts = 2d\n    ^\n",
         "hsts of a host without");
    says("[defaults]\nhsts = 1d\n" REST "listen = l\n" TLS CERT, "", "hsts of [defaults]");
    says("[defaults]\nhsts = 1d\n" REST,
         "t.conf:2:1: warning: hsts: there is no listener with tls; it is sent over TLS only\n"
         "    hsts = 1d\n    ^\n",
         "hsts of [defaults] without TLS");
    says(REST "client_cert = required\n" TLS CERT,
         "t.conf:8:1: error: client_cert: no listener of [host h] has tls and client_ca, so nobody "
         "can show a certificate\n    client_cert = required\n    ^\n",
         "client_cert without client_ca");
    says(REST "[route h/r]\npath = /r\nclient_cert = required\n",
         "t.conf:10:1: error: client_cert: no listener of [host h] has tls and client_ca, so "
         "nobody can show a certificate\n    client_cert = required\n    ^\n",
         "of a route");
    says("[defaults]\nclient_cert = required\n" REST "[route h/r]\npath = /r\n",
         "t.conf:2:1: error: client_cert: no listener of [host h] has tls and client_ca, so nobody "
         "can show a certificate\n    client_cert = required\n    ^\n",
         "of [defaults], told once");
    says(REST "client_cert = required\n" TLS "client_ca = /x\n" CERT, "", "with client_ca");
}

static void test_tls_server_checks(void)
{
    struct fixture f;
    says(LISTEN HOST UPSTREAM "protocol = h2\n",
         "t.conf:8:1: error: protocol h2 needs TLS, which server 127.0.0.1:3000 has not: write "
         "https://, or h2c for HTTP/2 without TLS\n    protocol = h2\n    ^\n",
         "h2 without TLS");
    says(LISTEN HOST "[upstream u]\nserver = https://a\nprotocol = h2c\n",
         "t.conf:8:1: error: protocol h2c is HTTP/2 without TLS, which server a:443 has: use h2\n"
         "    protocol = h2c\n    ^\n",
         "h2c with TLS");
    says(LISTEN HOST "[upstream u]\nserver = https://a\nserver = b:1\nprotocol = auto\n", "",
         "auto of both");
    says(LISTEN HOST UPSTREAM "tls_name = a\ntls_verify = off\n",
         "t.conf:8:1: warning: tls_name has no effect: no server of [upstream u] is https://\n"
         "    tls_name = a\n    ^\n"
         "t.conf:9:1: warning: tls_verify has no effect: no server of [upstream u] is https://\n"
         "    tls_verify = off\n    ^\n",
         "keys of TLS without a TLS server");
    says(LISTEN HOST "[upstream u]\nserver = https://a\ntls_key = /k\n",
         "t.conf:8:1: error: tls_key needs \"tls_certificate = FILE\" beside it\n"
         "    tls_key = /k\n    ^\n",
         "tls_key");
    says(LISTEN HOST "[upstream u]\nserver = https://a\ntls_ca = /k\ntls_verify = off\n",
         "t.conf:8:1: warning: tls_ca has no effect with \"tls_verify = off\"\n"
         "    tls_ca = /k\n    ^\n",
         "tls_ca");
    says(LISTEN HOST "[upstream u]\nserver = https://a\nserver = a:443\n",
         "t.conf:8:10: error: server a:443 is given twice in [upstream u]; the first time at "
         "t.conf:7\n    server = a:443\n             ^\n",
         "a server with and without TLS");
    fixture_text(&f, SLICE(LISTEN HOST
                           "[upstream u]\ntls_name = n.example\ntls_ca = /ca\n"
                           "server = https://a.example.\n"
                           "server = https://b.example:8443 tls_name=own.example tls_ca=\"/o wn\"\n"
                           "server = http://c.example\nserver = http://[::2]:81\n"
                           "[upstream v]\nserver = https://A.example. tls_ca=/v\n"
                           "server = https://[::1]\n"));
    if (tap_ok(f.c != NULL, "servers with TLS load")) {
        static const struct {
            const char *name, *host, *tls_name, *tls_ca;
            uint16_t port;
            bool tls;
        } want[] = {{"a.example.:443", "a.example.", "n.example", "/ca", 443, true},
                    {"b.example:8443", "b.example", "own.example", "/o wn", 8443, true},
                    {"c.example:80", "c.example", "", "", 80, false},
                    {"[::2]:81", "::2", "", "", 81, false},
                    {"A.example.:443", "A.example.", "A.example", "/v", 443, true},
                    {"[::1]:443", "::1", "::1", "", 443, true}};
        for (size_t i = 0; i < 6; i++) {
            const struct conf_server *s =
                i < 4 ? &f.c->upstream[0]->k.server.v[i] : &f.c->upstream[1]->k.server.v[i - 4];
            tap_is_str(s->name, want[i].name, "name");
            tap_is_str(s->host, want[i].host, "host");
            tap_is_str(s->tls_name, want[i].tls_name, "tls_name");
            tap_is_str(s->tls_ca, want[i].tls_ca, "tls_ca");
            tap_is_int(s->port, want[i].port, "port");
            tap_ok(s->tls == want[i].tls, "tls");
            tap_ok(s->literal == (s->host.p[0] == ':'), "an address");
        }
    } else {
        tap_is_str(buf_slice(&f.out), "", "diagnostics");
    }
    fixture_end(&f);
}

/* Lines 1 to 7 are REST. */
static void test_cache_checks(void)
{
    says(REST "cache = main\nttl = 30d\ncache_bypass = cookie.sid\n[cache main]\n", "", "a cache");
    says(REST "cache = mian\n[cache main]\n",
         "t.conf:8:9: error: there is no [cache mian]; did you mean \"main\"?\n"
         "    cache = mian\n            ^\n"
         "t.conf:9:1: warning: no host or route uses [cache main]\n    [cache main]\n    ^\n",
         "an unknown cache");
    says("[defaults]\ncache = main\n" REST "[cache main]\n", "", "used by [defaults]");
    says(REST "[route h/r]\npath = /r\ncache = main\n[cache main]\nsize = 1m\n", "",
         "the default of max_object gives way to a small size");
    says(REST "cache = main\n[cache main]\nsize = 10m\nmax_object = 6m\n",
         "t.conf:11:1: error: max_object of [cache main] is more than half of its size\n"
         "    max_object = 6m\n    ^\n",
         "size and max_object");
    says(REST "cache = main\n[cache main]\nmax_share = 0.5%\n",
         "t.conf:10:1: error: max_share of [cache main] is less than 1%\n"
         "    max_share = 0.5%\n    ^\n",
         "a share of nothing");
    says(REST "cache = a\n[route h/r]\npath = /\ncache = b\n"
              "[cache a]\nfile = /x/y\n[cache b]\nfile = /x/y\n",
         "t.conf:15:1: error: file /x/y is that of [cache a] (t.conf:12) already\n"
         "    file = /x/y\n    ^\n",
         "one file for two caches");
    says(REST "[route */r]\npath = /\nreturn = 200 x\ncache = main\n[host i]\nnames = i\n"
              "upstream = u\ncache = main\n[cache main]\n",
         "t.conf:11:1: warning: cache: [route */r] has no upstream; what rpd says itself is not "
         "stored\n    cache = main\n    ^\n",
         "cache of a route that answers itself");
    says(REST "ttl = 1d\n[route h/r]\npath = /r\ncache_bypass = query.x\n",
         "t.conf:8:1: warning: ttl has no effect without \"cache = NAME\"\n    ttl = 1d\n    ^\n"
         "t.conf:11:1: warning: cache_bypass has no effect without \"cache = NAME\"\n"
         "    cache_bypass = query.x\n    ^\n",
         "keys without a cache");
    says(REST "cache_key = %{path}\n[route h/r]\npath = /r\ncache_max_object = 1k\n"
              "cache_ignore_query += a\n",
         "t.conf:8:1: warning: cache_key has no effect without \"cache = NAME\"\n"
         "    cache_key = %{path}\n    ^\n"
         "t.conf:11:1: warning: cache_max_object has no effect without \"cache = NAME\"\n"
         "    cache_max_object = 1k\n    ^\n"
         "t.conf:12:1: warning: cache_ignore_query has no effect without \"cache = NAME\"\n"
         "    cache_ignore_query += a\n    ^\n",
         "policy without a cache");
    says(REST "cache = main\ncache_min_uses = 9\ncache_methods = POST\n[route h/r]\npath = /r\n"
              "[route h/s]\npath = /s\ncache_key = x\ncache_max_object = 33m\n[cache main]\n",
         "t.conf:9:18: error: \"cache_min_uses\" must be between 1 and 7\n"
         "    cache_min_uses = 9\n                     ^\n"
         "t.conf:10:17: error: \"cache_methods\": \"POST\" is not GET, HEAD or QUERY\n"
         "    cache_methods = POST\n                    ^\n"
         "t.conf:16:1: warning: cache_max_object is more than the max_object of [cache main], "
         "which is the limit\n    cache_max_object = 33m\n    ^\n",
         "policy of a host is told of once");
    says("[defaults]\nttl = 0\n" REST "[route */r]\npath = /r\nttl = 1s\n[route h/s]\n"
         "path = /s\ncache = main\n[cache main]\n",
         "", "a cache somewhere is enough for [defaults] and routes of all hosts");
    says(REST "cache = main\n[cache main]\ncollapse = off\ncollapse_timeout = 1s\n",
         "t.conf:11:1: warning: collapse_timeout has no effect with \"collapse = off\"\n"
         "    collapse_timeout = 1s\n    ^\n",
         "collapse_timeout without collapse");
    struct buf b;
    struct fixture f;
    buf_init(&b, 0);
    buf_str(&b, REST);
    for (int i = 0; i < 65; i++)
        buf_printf(&b, "[route h/r%d]\npath = /%d\ncache = c%d\n[cache c%d]\n", i, i, i, i);
    fixture_text(&f, buf_slice(&b));
    buf_chr(&f.out, 0);
    tap_ok(!f.c && strstr(f.out.p, "error: 65 caches; 64 is the limit"), "too many caches");
    fixture_end(&f);
    buf_fini(&b);
}

static void test_many_diagnostics(void)
{
    struct fixture f;
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 1500; i++)
        buf_str(&b, "x\n");
    fixture_text(&f, buf_slice(&b));
    tap_ok(f.c == NULL && f.diags.errors == 1500, "all are counted");
    tap_ok(slice_ends(buf_slice(&f.out), SLICE("\n... and 1400 more\n")), "a hundred are printed");
    fixture_end(&f);
    buf_fini(&b);
}

static void test_example(void)
{
    char path[512];
    struct fixture f;
    const char *src = getenv("RPD_SRCDIR");
    if (!src)
        src = getenv("srcdir");
    (void)snprintf(path, sizeof path, "%s/t/etc/three-sites.conf", src ? src : ".");
    fixture_file(&f, path);
    tap_is_str(f.out.n ? buf_slice(&f.out) : SLICE(""), "", "the three sites load");
    tap_ok(f.c && f.c->nhost == 3 && f.c->nroute == 3 + 3 + 2 + 2 + 3, "hosts and routes");
    fixture_end(&f);
}

int main(void)
{
    test_sections();
    test_keys();
    test_references();
    test_unique();
    test_global_checks();
    test_inherit();
    test_order();
    test_files();
    test_named_files();
    test_quick();
    test_quick_tls();
    test_tls_checks();
    test_tls_host_checks();
    test_tls_server_checks();
    test_cache_checks();
    test_many_diagnostics();
    test_example();
    return tap_done();
}
