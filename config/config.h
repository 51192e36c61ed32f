/* The configuration as the program uses it: built once by config_load(), read-only afterwards,
 * inherited over fork. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/addr.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"

/* Limits of the machine's shared tables, which shm/segment.h has as SHM_SERVERS, SHM_SERIES and
 * SHM_NAMES. */
#define CONF_MOST_SERVERS 8192u /* of all upstreams; more are an error */
#define CONF_MOST_SERIES  8192u /* hosts and routes; those beyond share the series `other` */
#define CONF_MOST_NAMES   4096u /* servers given by name */
#define CONF_MOST_CACHES  64u   /* [cache] sections */

/* Where a value came from, for diagnostics, `rpd -T --origin` and `rpctl explain`. */
struct conf_pos {
    const char *file;   /* as opened; "<default>", "<command line>" */
    uint32_t line, col; /* from 1; 0 = built-in default */
};
struct conf_words {
    struct slice *v;
    size_t n;
    bool set, off; /* set: given at all; off: the single word `off` */
};
struct conf_cidrs {
    struct cidr *v;
    size_t n;
};
struct conf_address { /* one listener address */
    struct addr_any addr;
    struct slice text; /* canonical text, identity over reloads */
    struct conf_pos pos;
};
struct conf_addrs {
    struct conf_address *v;
    size_t n;
};
enum conf_proxyp { CONF_PROXYP_OFF, CONF_PROXYP_ON, CONF_PROXYP_FROM };
struct conf_proxy_protocol {
    enum conf_proxyp mode;
    struct conf_cidrs from;
};
enum conf_retry_on {
    CONF_RETRY_CONNECT = 1,
    CONF_RETRY_REUSED = 2,
    CONF_RETRY_RESET = 4,
    CONF_RETRY_502 = 8,
    CONF_RETRY_503 = 16,
    CONF_RETRY_504 = 32
};
struct conf_retry {
    uint32_t tries; /* further servers; 0 = never */
    uint32_t on;    /* enum conf_retry_on bits */
};
struct conf_error_page {
    uint16_t status[16]; /* exact; 400 with `class4`, 500 with `class5` for classes */
    uint8_t nstatus;
    bool class4, class5;
    struct slice file; /* path */
    struct slice body; /* contents, read at load (64 KiB at most) */
    struct slice type; /* media type from the extension: text/html, application/json, text/plain */
};
struct conf_error_pages {
    struct conf_error_page *v;
    size_t n;
};
enum conf_reqid { CONF_REQID_TRUSTED, CONF_REQID_MAKE, CONF_REQID_KEEP, CONF_REQID_OFF };
enum conf_srvhdr { CONF_SRVHDR_PASS, CONF_SRVHDR_HIDE };
enum conf_balance {
    CONF_BALANCE_RANDOM_TWO,
    CONF_BALANCE_ROUND_ROBIN,
    CONF_BALANCE_LEAST_CONN,
    CONF_BALANCE_IP_HASH
};

enum conf_proto { CONF_PROTO_H1 = 1, CONF_PROTO_H2 = 2 };
enum conf_policy { CONF_POLICY_INTERMEDIATE, CONF_POLICY_MODERN };
enum conf_verify { CONF_VERIFY_REQUIRED, CONF_VERIFY_OPTIONAL };
enum conf_hredir {
    CONF_HREDIR_AUTO = 0,
    CONF_HREDIR_OFF = 1,
    CONF_HREDIR_301 = 301, /* the others are the status */
    CONF_HREDIR_302 = 302,
    CONF_HREDIR_307 = 307,
    CONF_HREDIR_308 = 308
};
enum conf_ccert { CONF_CCERT_ANY, CONF_CCERT_REQUIRED };
enum conf_load_when { CONF_LOAD_LAZY, CONF_LOAD_EAGER };
enum conf_cache_verify { CONF_CACHE_VERIFY_ALL, CONF_CACHE_VERIFY_HEADS };
enum conf_uproto { CONF_UPROTO_H1, CONF_UPROTO_H2, CONF_UPROTO_H2C, CONF_UPROTO_AUTO };
struct conf_pair {          /* a certificate with its chain, and its key */
    struct slice cert, key; /* paths, NUL-terminated; equal when one file holds both */
    struct conf_pos pos;
};
struct conf_pairs {
    struct conf_pair *v;
    size_t n;
};
struct conf_certificate;
struct conf_certificates {
    struct conf_certificate **v;
    size_t n; /* 0 = all */
};
struct conf_hsts {
    uint64_t max_age_s;
    bool set; /* send the field */
    bool include_subdomains, preload;
};

struct conf_ttl {
    uint16_t status;
    uint32_t seconds;
};
struct conf_ttls {
    struct conf_ttl *v;
    size_t n;
};
struct conf_ms_opt {
    uint64_t ms;
    bool set; /* 0 is a value as well */
};
struct conf_cache;
enum conf_coding { CONF_CODING_BR, CONF_CODING_GZIP, CONF_CODING_ZSTD, CONF_CODING__COUNT };
struct conf_codings { /* the best liked first, each once */
    struct conf_coding_level {
        enum conf_coding coding;
        int level;
    } * v;
    size_t n;
};
struct conf_compress;

enum conf_name_kind { CONF_NAME_EXACT, CONF_NAME_WILDCARD, CONF_NAME_REGEX, CONF_NAME_ANY };
struct conf_name {
    enum conf_name_kind kind;
    struct slice text; /* lower case; wildcard without "*" (".example.org"), regex without "~" */
    struct conf_pos pos;
};
struct conf_names {
    struct conf_name *v;
    size_t n;
};
enum conf_path_kind { CONF_PATH_EXACT, CONF_PATH_PREFIX, CONF_PATH_REGEX };
struct conf_path {
    enum conf_path_kind kind;
    struct slice text; /* prefix without the "*" ("/static/"), regex without "~" */
    struct conf_pos pos;
};
struct conf_paths {
    struct conf_path *v;
    size_t n;
};
struct conf_return {
    uint16_t status;   /* 0 = not set */
    struct slice text; /* body or URL template */
    bool is_url;
};
struct conf_server {   /* one line of an upstream */
    struct slice name; /* "10.0.0.1:80", as written; shown by rpctl */
    struct slice host; /* name to resolve and the Host of host_header=server; empty for unix */
    uint16_t port;
    bool literal; /* addr is filled in; else host must be resolved */
    struct addr_any addr;
    uint32_t weight; /* 1..256 */
    bool backup, down;
    uint64_t max_conns;  /* from the option or the upstream's key */
    uint64_t resolve_ms; /* 0 = the record's TTL */
    uint64_t key; /* hash_fixed of upstream name and server name: identity in shared memory */
    struct conf_pos pos;
    bool own_max_conns; /* max_conns is the line's own */
    bool tls;           /* https:// */
    /* With tls, resolved: the line's own, the upstream's key, else the host without a final dot
     * (also when that is an IP address, which is not for SNI), and "" for the system's
     * authorities. NUL-terminated. */
    struct slice tls_name, tls_ca;
    bool own_tls_name, own_tls_ca;
};
struct conf_servers {
    struct conf_server *v;
    size_t n;
};
struct conf_log;
struct conf_logs {
    struct conf_log **v;
    size_t n;
    bool off;
};
struct conf_listen;
struct conf_listens {
    struct conf_listen **v;
    size_t n; /* 0 = all */
};

#include "config/model.h" /* struct conf_global, conf_conn, conf_scope, ... made from keys.def */

struct conf_origin;  /* which keys a section gave, and where: for the dump */
struct conf_builtin; /* values of all keys when nothing is said: for the dump */

struct conf_listen {
    struct slice name;
    struct conf_pos pos;
    struct conf_listen_keys k;
    struct conf_conn_keys conn; /* resolved: defaults, then this section */
    uint32_t id;                /* index in config.listen */
    const struct conf_origin *origin;
};
struct conf_certificate {
    struct slice name;
    struct conf_pos pos;
    struct conf_certificate_keys k;
    uint32_t id; /* index in config.certificate */
    const struct conf_origin *origin;
};
struct conf_cache {
    struct slice name;
    struct conf_pos pos;
    struct conf_cache_keys k;
    struct conf_caching_keys caching; /* where hosts and routes say nothing else */
    uint32_t id;                      /* index in config.cache */
    const struct conf_origin *origin;
};
/* What holds for the answers of a route: its cache, and that cache's keys with what [defaults], the
 * host and the route say over them. One for all that say the same. */
struct conf_caching {
    struct conf_cache *cache; /* NULL: none; the rest then only for who inherits it */
    struct conf_caching_keys k;
    uint64_t given; /* said over the cache's: bits of conf_key_over() */
    struct conf_ms_opt ttl;
    uint64_t max_object;     /* 0: the cache's */
    struct conf_pos key_pos; /* of `key` or `cache_key` */
    uint32_t id;             /* index in config.caching */
};
struct conf_compress {
    struct slice name;
    struct conf_pos pos; /* line 0: the one that exists without being written */
    struct conf_compress_keys k;
    uint32_t id; /* index in config.compress */
    const struct conf_origin *origin;
};
struct conf_upstream {
    struct slice name;
    struct conf_pos pos;
    struct conf_upstream_keys k;
    uint32_t id;
    const struct conf_origin *origin;
};
struct conf_route {
    struct slice name;      /* NAME of [route HOST/NAME]; "" for a host's own (implicit) route */
    struct conf_host *host; /* NULL for a route of all hosts */
    struct conf_pos pos;
    struct conf_route_keys k;
    struct conf_scope_keys scope;   /* fully resolved: defaults -> host -> route. For route of all
                                       hosts: per host copies are made */
    struct conf_upstream *upstream; /* resolved: own, the host's, [defaults]'; may be NULL only with
                                       return or metrics */
    const struct conf_caching *caching; /* resolved: [cache], then defaults -> host -> route */
    struct slice series;                /* name in metrics and logs: "HOST/NAME" or "HOST" */
    uint32_t id;                        /* index in config.route */
    const struct conf_origin *origin;
};
struct conf_host {
    struct slice name;
    struct conf_pos pos;
    struct conf_host_keys k;
    struct conf_scope_keys scope;       /* resolved: defaults -> host */
    const struct conf_caching *caching; /* likewise, over its [cache] */
    struct conf_upstream *upstream;
    struct conf_route **route; /* own routes and copies of the `*` ones, in order of precedence (see
                                  CONFIG rule 3) */
    size_t nroute;             /* not counting `self` */
    struct conf_route
        *self; /* what the host says when no route matches; upstream may be NULL -> 404 */
    uint32_t id;
    const struct conf_origin *origin;
};
struct conf_log {
    struct slice name;
    struct conf_pos pos;
    struct conf_log_keys k;
    uint32_t id;
    const struct conf_origin *origin;
};

struct config {
    struct arena arena;
    struct conf_global_keys global;
    struct conf_listen **listen;
    size_t nlisten;
    struct conf_certificate **certificate;
    size_t ncertificate;
    struct conf_cache **cache;
    size_t ncache;
    struct conf_caching **caching; /* each once; those of [cache] sections first */
    size_t ncaching;
    struct conf_compress **compress; /* standard included */
    size_t ncompress;
    struct conf_upstream **upstream;
    size_t nupstream;
    struct conf_host **host;
    size_t nhost;
    struct conf_route **route; /* all routes of all hosts, selfs included */
    size_t nroute;
    struct conf_log **log;
    size_t nlog;
    size_t nserver;                  /* of all upstreams */
    uint32_t workers;                /* resolved number */
    struct slice path;               /* main file, "" when from the command line */
    uint64_t hash;                   /* of the effective configuration, error pages included */
    struct conf_scope_keys defaults; /* as [defaults] leaves them, for the dump and the diff */
    struct conf_conn_keys defaults_conn;
    struct conf_upstream *defaults_upstream;
    const struct conf_caching *defaults_caching;
    const struct conf_origin *global_origin, *defaults_origin;
    const struct conf_builtin *builtin;
};

/* The bytes of every file a load touches, read once; respawns and preflight parse the same bytes.
 */
struct conf_snapshot;
/* Text that is used instead of a file (quick start, embedded default), with a name for diagnostics.
 */
int conf_snapshot_text(const char *name, struct slice text, struct conf_snapshot **ret);
/* Reads path and everything it includes. Unreadable files are diagnostics of config_load(), not
 * errors here. */
int conf_snapshot_file(const char *path, struct conf_snapshot **ret);
void conf_snapshot_free(struct conf_snapshot **s);

enum conf_diag_level { CONF_ERROR, CONF_WARNING };
struct conf_diag {
    enum conf_diag_level level;
    struct conf_pos pos;
    const char *text; /* message with its hint, without position */
    const char *line; /* the source line, for the caret; may be NULL */
};
struct conf_diags {
    struct arena arena;
    struct conf_diag *v;
    size_t n, cap, errors, warnings;
};
void conf_diags_init(struct conf_diags *d);
void conf_diags_fini(struct conf_diags *d);
void conf_diag_add(struct conf_diags *d, enum conf_diag_level lv, struct conf_pos pos,
                   const char *line, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* FILE:LINE:COL: error: text, the line, a caret; sorted by file and line. */
void conf_diags_print(const struct conf_diags *d, struct buf *out);

/* Parses and cross-checks; every problem goes to d. 0 with *ret set (also when there are warnings),
 * -ERR_INVAL with *ret NULL when there are errors, -ERR_NOMEM. No DNS, no root, no side effect. */
int config_load(const struct conf_snapshot *s, struct conf_diags *d, struct config **ret);
void config_free(struct config **c);
/* Whether the listener takes requests for the host. */
static inline bool conf_host_on(const struct conf_host *h, const struct conf_listen *l)
{
    for (size_t i = 0; i < h->k.listen.n; i++)
        if (h->k.listen.v[i] == l)
            return true;
    return h->k.listen.n == 0;
}
/* Effective configuration as INI that loads again (`rpd -T`); origin: a comment with file:line
 * after each value; changed: only what differs from the defaults. */
void config_dump(const struct config *c, bool origin, bool changed, struct buf *out);
/* What holds for the answers of a route, as keys with where each was said, two blanks before each;
 * only what is not built in, and the key. */
void config_print_caching(const struct config *c, const struct conf_route *r, struct buf *out);
/* One line per difference, for the verdict of a reload: "upstream app: +server 10.0.0.3:80". ""
 * when equal. */
void config_diff(const struct config *a, const struct config *b, struct buf *out);
/* The most memory the configuration allows workers to use, in bytes, and a table of how it adds up.
 */
uint64_t config_memory_bound(const struct config *c, struct buf *out);
/* What the command line says instead of a file; empty: not given. */
struct conf_quick {
    struct slice to;   /* URL of the server */
    struct slice from; /* address to accept on; default 127.0.0.1:8080 unless tls_from is given */
    struct slice tls_from;  /* address to accept TLS on; needs cert */
    struct slice cert, key; /* PEM files; without key, cert holds both */
};
/* INI text for `rpd --from A --to URL --tls-from A --cert FILE --key FILE`. 0; -ERR_INVAL with what
 * is wrong in out; -ERR_NOMEM. */
int config_quick(const struct conf_quick *q, struct buf *out);

#endif
