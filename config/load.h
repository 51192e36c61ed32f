/* What the files of config/ share while a configuration is loaded. Inside of config/ only. */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include "base/hash.h"
#include "config/keys.h"
#include "config/snapshot.h"
#include "config/words.h"

/* One `key = value` as it stands in a file. */
struct conf_entry {
    const struct conf_key *key;
    struct conf_pos pos; /* of the key */
    uint32_t value_line, value_col;
    struct conf_word *word;
    size_t nword; /* 0: the value was refused */
    bool append;  /* += */
    bool first;   /* of its key in the section */
    struct conf_origin *origin;
    struct conf_entry *next;
};
struct conf_section {
    enum conf_sect kind;
    struct slice name;        /* "HOST/NAME" of a route */
    struct slice host, route; /* the two parts of it */
    struct conf_pos pos;
    struct conf_entry *first, **last;
    struct conf_section *next;
    void *object; /* what it became; of a second section of a name: the first one */
    uint32_t seq; /* order of reading */
};
/* Where a value came from; kept with the configuration for `rpd -T --origin`. */
struct conf_origin {
    const struct conf_key *key;
    struct conf_pos pos;
    size_t items; /* of a list: how many this line gave */
    struct conf_origin *next;
};

/* The groups' values when nothing is said. */
struct conf_builtin {
    struct conf_global_keys global;
    struct conf_conn_keys conn;
    struct conf_scope_keys scope;
    struct conf_upstream *scope_up;
    struct conf_listen_keys listen;
    struct conf_certificate_keys certificate;
    struct conf_cache_keys cache;
    struct conf_caching_keys caching;
    struct conf_compress_keys compress;
    struct conf_host_keys host;
    struct conf_route_keys route;
    struct conf_upstream_keys upstream;
    struct conf_log_keys log;
};
const void *conf_builtin_group(const struct conf_builtin *b, enum conf_group g);

struct conf_load_file {
    const char *path; /* in the configuration's arena: positions outlive the snapshot */
    const struct conf_snap_include *include; /* next record */
    bool entered;
    struct conf_pos entered_from;
    uint32_t *line_at; /* offsets of lines, made for the first diagnostic */
    uint32_t nline;
};

struct conf_load {
    const struct conf_snapshot *snap;
    struct conf_diags *d;
    struct config *c;
    struct arena tree; /* sections and entries: gone after the load */
    struct buf scratch, text;
    struct conf_load_file *file; /* as snap->file */
    /* Reading */
    uint32_t current_file, depth;
    struct conf_section *sect; /* open section, NULL before the first */
    struct conf_section *sections, **last_section;
    size_t nsection;
    bool skipping; /* inside of a section with a bad title */
    struct map by_title;
    const struct conf_section *seen_in[CONF_KEYS_MAX];
    const struct conf_entry *seen[CONF_KEYS_MAX];
    struct conf_entry *quick_proxy, *quick_listen;
    struct conf_section *defaults, *global;
    const struct conf_section **host_sect; /* by conf_host.id */
    /* Objects by name */
    struct map logs, upstreams, certificates, caches, compresses, listens, hosts;
    struct map cachings; /* by all they say */
    bool bad_upstream;   /* a reference was refused: what lacks one is not told in addition */
    bool muted;          /* values that were reported already are parsed once more */
    struct conf_builtin *builtin;
};

/* An error or warning at a position of a file; the source line is looked up. */
void conf_load_error(struct conf_load *x, struct conf_pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conf_load_warn(struct conf_load *x, struct conf_pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct conf_pos conf_load_word_pos(const struct conf_entry *e, const struct conf_word *w);
struct conf_pos conf_load_value_pos(const struct conf_entry *e);

/* Reads all files into sections (tree.c). 0 or -ERR_NOMEM. */
int conf_tree_read(struct conf_load *x);
/* Enters what a section says about one group into its struct (build.c). */
void conf_apply(struct conf_load *x, const struct conf_section *s, enum conf_group g, void *dst);
/* Adds a section as if a file had it (quick start). NULL: no memory. */
struct conf_section *conf_tree_section(struct conf_load *x, enum conf_sect kind, const char *name,
                                       struct conf_pos pos);
struct conf_entry *conf_tree_entry(struct conf_load *x, struct conf_section *s, const char *key,
                                   const struct conf_entry *from);

/* Turns `proxy =` and `listen =` into sections (quick.c). */
void conf_quick_build(struct conf_load *x);

/* Builds objects from sections (build.c). 0 or -ERR_NOMEM. */
int conf_build(struct conf_load *x);

/* What holds for answers (caching.c): first those of the [cache] sections, when they are filled. 0
 * or -ERR_NOMEM. */
int conf_caching_begin(struct conf_load *x);
/* Of a section with this resolved scope. over: what goes before the [cache], from [defaults] to the
 * section itself; entries may be NULL. from: of the section before it, or NULL. NULL: no memory. */
const struct conf_caching *conf_caching_of(struct conf_load *x, const struct conf_scope_keys *scope,
                                           const struct conf_section *const *over, size_t nover,
                                           const struct conf_caching *from);
/* config.caching, when no more are made. 0 or -ERR_NOMEM. */
int conf_caching_end(struct conf_load *x);

/* Checks across sections (check.c). 0 or -ERR_NOMEM. */
int conf_check(struct conf_load *x);

/* Those of TLS and HTTP/2 (check_tls.c). */
void conf_check_tls(struct conf_load *x);
/* Those of caches (check_cache.c). 0 or -ERR_NOMEM. */
int conf_check_cache(struct conf_load *x);
/* Those of compression (check_compress.c). 0 or -ERR_NOMEM. */
int conf_check_compress(struct conf_load *x);
/* Whether a value is another one than the built-in. Not whether it was given: a dump gives all. */
bool conf_check_differs(struct conf_load *x, enum conf_sect sect, const char *key,
                        const void *group);
/* Position of a key as the section gives it, or of the section. */
struct conf_pos conf_check_pos(const struct conf_origin *o, const char *key,
                               struct conf_pos section);

/* One route of a host while routes are put in order (order.c). */
struct conf_rank {
    struct conf_route *route;
    bool star; /* a copy of a route of all hosts */
    uint32_t seq;
    int kind;      /* of its best path; 3: it has none */
    size_t length; /* of its longest prefix */
};
/* Reports routes that can never match, drops what a host's own route says of the copies of `*`
 * routes, and sorts by precedence. map: made by the caller, for all hosts. *n may shrink. 0 or
 * -ERR_NOMEM. */
int conf_order(struct conf_load *x, struct map *m, const struct conf_host *h, struct conf_rank *r,
               size_t *n);

/* Kinds (kinds.c). */
struct conf_kind {
    const char *syntax; /* for the manual */
    size_t size;
    bool lines; /* printed with one line per item */
    /* Parses the entry into *dst, adding to what is there unless e->first && !e->append. False:
     * reported. */
    bool (*parse)(struct conf_load *x, const struct conf_entry *e, void *dst);
    size_t (*count)(const void *v); /* items to print; 0 = unset or empty */
    void (*item)(const void *v, size_t i, struct buf *out);
};
const struct conf_kind *conf_kind_of(const struct conf_key *k);
/* Parses the key's default into *dst. Internal error when it does not parse. */
bool conf_kind_default(struct conf_load *x, const struct conf_key *k, void *dst);
bool conf_kind_equal(const struct conf_key *k, const void *a, const void *b, struct buf *scratch);
/* All items separated by one blank; "off" for an empty list. */
void conf_kind_print(const struct conf_key *k, const void *v, struct buf *out);
/* The number in base units as the kind writes it. */
void conf_kind_number(enum conf_kind_id kind, int64_t v, struct buf *out);

/* For parsers: exactly one word, or an error and NULL. */
const struct conf_word *conf_kind_one(struct conf_load *x, const struct conf_entry *e);
/* Makes room for one more item in a list whose first members are pointer and count; fresh: other
 * owners share the array. The new item, zeroed, or NULL. */
void *conf_kind_grow(struct conf_load *x, void *list, size_t item_size, bool fresh);
bool conf_kind_is_off(const struct conf_entry *e);

#endif
