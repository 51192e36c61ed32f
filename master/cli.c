/* rpd's command line: options, and everything that ends without a service. */
#include "master/cli.h"

#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "config/config.h"
#include "master/master.h"
#include "rpctl/client.h"
#include "worker/worker.h"

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLI_SYSTEM_SOCKET "/run/rpd.sock"

static const char cli_usage[] =
    "usage: rpd [-F] [-c FILE]                  run (in the background without -F)\n"
    "       rpd [-F] [--from ADDRESS] --to URL  run in front of URL, without a file\n"
    "           [--tls-from ADDRESS --cert FILE [--key FILE]]  and with TLS\n"
    "       rpd [-F] --default                  run with a welcome page of its own on "
    "127.0.0.1:8080\n"
    "       rpd -t [-c FILE] [--json]           check the configuration: every problem, the memory "
    "bound, ok\n"
    "       rpd -T [-c FILE] [--origin] [--changed]\n"
    "                                           print the configuration in force, with defaults\n"
    "       rpd -s reload|quit|stop|reopen      tell the running rpd, as nginx does\n"
    "       rpd -V                              version, features and library versions\n"
    "\n"
    "Without -c the file is " RPD_SYSCONFDIR "/rpd/rpd.conf.\n"
    "Exit status: 0 done, 1 invalid configuration or failed start, 2 usage, 3 already running (-s: "
    "not running).\n";

bool cli_parse(int argc, char **argv, struct cli *ret)
{
    enum {
        OPT_FROM = 256,
        OPT_TO,
        OPT_TLS_FROM,
        OPT_CERT,
        OPT_KEY,
        OPT_DEFAULT,
        OPT_INHERIT,
        OPT_ORIGIN,
        OPT_CHANGED,
        OPT_JSON
    };
    static const struct option options[] = {
        {"from", required_argument, NULL, OPT_FROM},
        {"to", required_argument, NULL, OPT_TO},
        {"tls-from", required_argument, NULL, OPT_TLS_FROM},
        {"cert", required_argument, NULL, OPT_CERT},
        {"key", required_argument, NULL, OPT_KEY},
        {"default", no_argument, NULL, OPT_DEFAULT},
        {"inherit", required_argument, NULL, OPT_INHERIT},
        {"origin", no_argument, NULL, OPT_ORIGIN},
        {"changed", no_argument, NULL, OPT_CHANGED},
        {"json", no_argument, NULL, OPT_JSON},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"config", required_argument, NULL, 'c'},
        {"foreground", no_argument, NULL, 'F'},
        {NULL, 0, NULL, 0},
    };
    *ret = (struct cli){.inherit = -1};
    bool bad = false;
    int o;
    while ((o = getopt_long(argc, argv, "c:FtTVs:h", options, NULL)) != -1) {
        uint64_t n;
        switch (o) {
        case 'c':
            ret->file = optarg;
            break;
        case 'F':
            ret->foreground = true;
            break;
        case 't':
            ret->mode = CLI_CHECK;
            break;
        case 'T':
            ret->mode = CLI_DUMP;
            break;
        case 'V':
            ret->mode = CLI_VERSION;
            break;
        case 's':
            ret->mode = CLI_SIGNAL;
            ret->signal = optarg;
            break;
        case 'h':
            ret->mode = CLI_HELP;
            break;
        case OPT_FROM:
            ret->start.from = slice_str(optarg);
            break;
        case OPT_TO:
            ret->start.to = slice_str(optarg);
            break;
        case OPT_TLS_FROM:
            ret->start.tls_from = slice_str(optarg);
            break;
        case OPT_CERT:
            ret->start.cert = slice_str(optarg);
            break;
        case OPT_KEY:
            ret->start.key = slice_str(optarg);
            break;
        case OPT_DEFAULT:
            ret->quick_default = true;
            break;
        case OPT_ORIGIN:
            ret->origin = true;
            break;
        case OPT_CHANGED:
            ret->changed = true;
            break;
        case OPT_JSON:
            ret->json = true;
            break;
        case OPT_INHERIT:
            bad = bad || num_u64(slice_str(optarg), &n) < 0 || n > INT32_MAX;
            ret->inherit = bad ? -1 : (int)n;
            break;
        default:
            bad = true;
            break;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "rpd: what is \"%s\"?\n", argv[optind]);
        bad = true;
    }
    const struct conf_quick *q = &ret->start;
    bool quick = q->to.p || ret->quick_default;
    if ((ret->file && quick) || (q->to.p && ret->quick_default) ||
        (!quick && (q->from.p || q->tls_from.p || q->cert.p || q->key.p))) {
        fprintf(stderr, "rpd: a file (-c), --to and --default exclude one another; --from, "
                        "--tls-from, --cert and --key need --to or --default\n");
        bad = true;
    }
    if (!q->tls_from.p != !q->cert.p || (q->key.p && !q->cert.p)) {
        fprintf(stderr, "rpd: --tls-from and --cert need each other; --key goes with them\n");
        bad = true;
    }
    if (bad)
        fputs(cli_usage, stderr);
    return !bad;
}

static int cli_check(const struct cli *c)
{
    struct conf_snapshot *s = NULL;
    struct conf_diags d;
    struct config *conf = NULL;
    struct buf text, table;
    uint64_t bound = 0;
    buf_init(&text, 0);
    buf_init(&table, 0);
    conf_diags_init(&d);
    int rc = master_snapshot(&s);
    if (rc == 0)
        rc = config_load(s, &d, &conf);
    if (rc == 0)
        rc = worker_check(conf, &d);
    conf_diags_print(&d, &text);
    bool ok = rc == 0 && d.errors == 0;
    if (ok)
        bound = config_memory_bound(conf, &table);
    if (c->json) {
        struct json j;
        struct buf out;
        buf_init(&out, 0);
        json_init(&j, &out);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kbool(&j, "ok", ok);
        json_ku64(&j, "errors", d.errors);
        json_ku64(&j, "warnings", d.warnings);
        json_ku64(&j, "memory_bound", bound);
        json_kstr(&j, "text", buf_slice(&text));
        json_end_object(&j);
        printf(SLICE_FMT "\n", SLICE_ARG(buf_slice(&out)));
        buf_fini(&out);
    } else {
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_slice(&text)));
        if (ok) {
            char size[32];
            num_fmt_size(size, bound >> 20 << 20);
            printf(SLICE_FMT "memory bound: %s\nok\n", SLICE_ARG(buf_slice(&table)), size);
        } else {
            size_t n = d.errors ? d.errors : 1;
            if (d.errors == 0)
                fprintf(stderr, "rpd: %s\n", err_text(rc));
            fprintf(stderr, "%zu error%s\n", n, n == 1 ? "" : "s");
        }
    }
    buf_fini(&text);
    buf_fini(&table);
    conf_diags_fini(&d);
    config_free(&conf);
    conf_snapshot_free(&s);
    return ok ? 0 : 1;
}

/* The configuration without a service around it; diagnostics on stderr. */
static struct config *cli_load(void)
{
    struct conf_snapshot *s = NULL;
    struct conf_diags d;
    struct config *c = NULL;
    struct buf text;
    buf_init(&text, 0);
    conf_diags_init(&d);
    int rc = master_snapshot(&s);
    if (rc == 0)
        rc = config_load(s, &d, &c);
    if (rc < 0) {
        conf_diags_print(&d, &text);
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_slice(&text)));
        if (d.errors == 0)
            fprintf(stderr, "rpd: %s\n", err_text(rc));
    }
    buf_fini(&text);
    conf_diags_fini(&d);
    conf_snapshot_free(&s);
    return rc == 0 ? c : NULL;
}

static int cli_dump(const struct cli *c)
{
    struct buf out;
    struct config *conf = cli_load();
    if (!conf)
        return 1;
    buf_init(&out, 0);
    config_dump(conf, c->origin, c->changed, &out);
    fwrite(out.p, 1, out.n, stdout);
    buf_fini(&out);
    config_free(&conf);
    return 0;
}

static int cli_version(void)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "rpd %s\n", PACKAGE_VERSION);
#ifdef __clang__
    buf_printf(&b, "compiler clang %s\n", __clang_version__);
#else
    buf_printf(&b, "compiler gcc %s\n", __VERSION__);
#endif
    worker_features(&b);
#ifdef RPD_INIH_VERSION
    buf_str(&b, "inih " RPD_INIH_VERSION "\n");
#else
    buf_str(&b, "inih\n");
#endif
#ifdef RPD_DEBUG
    buf_str(&b, "debug assertions on\n");
#endif
    buf_printf(&b, "configured with %s\n",
               RPD_CONFIGURE_FLAGS[0] ? RPD_CONFIGURE_FLAGS : "nothing in particular");
    buf_printf(&b, "configuration " RPD_SYSCONFDIR "/rpd/rpd.conf\n");
    fwrite(b.p, 1, b.n, stdout);
    buf_fini(&b);
    return 0;
}

/* nginx's words in ours. */
static int cli_signal(const struct cli *c)
{
    static const struct {
        const char *word;
        const char *command[2];
    } words[] = {{"reload", {"reload", NULL}},
                 {"quit", {"stop", NULL}},
                 {"stop", {"stop", "--now"}},
                 {"reopen", {"reopen", NULL}}};
    char path[PATH_MAX] = "", used[108];
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(c->signal, words[i].word) != 0)
            continue;
        struct proto_request r = {.cwd = "",
                                  .argc = words[i].command[1] ? 2 : 1,
                                  .argv = {words[i].command[0], words[i].command[1]}};
        /* The socket that the configuration names, when it can be read; else wherever rpd is found.
         */
        struct config *conf =
            access(master.conf_path ? master.conf_path : "", R_OK) == 0 ? cli_load() : NULL;
        if (conf && !slice_eq(conf->global.control_socket, SLICE(CLI_SYSTEM_SOCKET)))
            snprintf(path, sizeof(path), SLICE_FMT, SLICE_ARG(conf->global.control_socket));
        config_free(&conf);
        int fd = client_connect(path[0] ? path : NULL, used);
        if (fd < 0) {
            fprintf(stderr, "rpd: not running here: %s: %s\n", used, strerror(errno));
            return errno == EACCES ? PROTO_PERMISSION : PROTO_NOT_RUNNING;
        }
        return client_call(fd, &r, 0, NULL);
    }
    fprintf(stderr, "rpd: -s reload, quit, stop or reopen\n");
    return PROTO_USAGE;
}

int cli_do(const struct cli *c)
{
    switch (c->mode) {
    case CLI_CHECK:
        return cli_check(c);
    case CLI_DUMP:
        return cli_dump(c);
    case CLI_VERSION:
        return cli_version();
    case CLI_SIGNAL:
        return cli_signal(c);
    case CLI_HELP:
        fputs(cli_usage, stdout);
        return 0;
    case CLI_RUN:
        break;
    }
    return PROTO_USAGE;
}

/* What to type for the rpctl beside this program: its word alone where rpd is installed, else its
 * path. */
static const char *cli_rpctl(char *ret, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", ret, size - 1);
    char *slash = n > 0 ? memrchr(ret, '/', (size_t)n) : NULL;
    if (!slash || (size_t)(slash - ret) + sizeof("/rpctl") > size)
        return "rpctl";
    memcpy(slash, "/rpctl", sizeof("/rpctl"));
    return access(ret, X_OK) < 0 || strcmp(ret, RPD_SBINDIR "/rpctl") == 0 ? "rpctl" : ret;
}

/* The URL that reaches a listener from this machine. False: it has no address that fits. */
static bool cli_url(const struct conf_listen *l, bool local, char *ret, size_t size)
{
    if (l->k.address.n == 0 || l->k.address.v[0].text.n > 128)
        return false;
    struct slice at = l->k.address.v[0].text, any = SLICE("0.0.0.0:");
    const char *host = "";
    if (local && slice_starts(at, any)) {
        host = "127.0.0.1";
        at = slice_of(at.p + any.n - 1, at.n - any.n + 1);
    }
    snprintf(ret, size, "%s://%s" SLICE_FMT "/", l->k.tls ? "https" : "http", host, SLICE_ARG(at));
    return true;
}

void cli_welcome(void)
{
    char beside[PATH_MAX], url[200];
    const struct config *c = master.live->config;
    for (size_t i = 0; i < c->nlisten; i++)
        if (cli_url(c->listen[i], false, url, sizeof(url)))
            fprintf(stderr, "rpd answers on %s\n", url);
    for (size_t i = 0; i < c->nlisten; i++)
        if (cli_url(c->listen[i], true, url, sizeof(url)))
            fprintf(stderr, "  try    curl %s %s\n", c->listen[i]->k.tls ? "-ik" : "-i", url);
    const char *rpctl = cli_rpctl(beside, sizeof(beside));
    fprintf(stderr, "         %s -s %s status\n", rpctl, master.socket_path);
    if (master.foreground)
        fprintf(stderr, "  stop   Ctrl-C\n");
    else
        fprintf(stderr, "  stop   %s -s %s stop\n", rpctl, master.socket_path);
}
