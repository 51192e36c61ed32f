/* The key table as data: keys.def, the sections, and lookups. Inside of config/ only. */
#ifndef CONFIG_KEYS_H
#define CONFIG_KEYS_H

#include "config/config.h"

enum conf_group {
    CONF_GROUP_GLOBAL,
    CONF_GROUP_LISTEN,
    CONF_GROUP_CONN,
    CONF_GROUP_SCOPE,
    CONF_GROUP_CERTIFICATE,
    CONF_GROUP_CACHE,
    CONF_GROUP_CACHING, /* what [cache] says of answers */
    CONF_GROUP_OVER,    /* the same keys, of hosts and routes: over what [cache] says */
    CONF_GROUP_COMPRESS,
    CONF_GROUP_HOST,
    CONF_GROUP_ROUTE,
    CONF_GROUP_SCOPE_UP,
    CONF_GROUP_UPSTREAM,
    CONF_GROUP_LOG,
    CONF_GROUP__COUNT
};
/* Sections as written in a file. NONE: before the first one. */
enum conf_sect {
    CONF_SECT_NONE,
    CONF_SECT_GLOBAL,
    CONF_SECT_DEFAULTS,
    CONF_SECT_LISTEN,
    CONF_SECT_CERTIFICATE,
    CONF_SECT_CACHE,
    CONF_SECT_COMPRESS,
    CONF_SECT_HOST,
    CONF_SECT_ROUTE,
    CONF_SECT_UPSTREAM,
    CONF_SECT_LOG,
    CONF_SECT__COUNT
};
enum conf_kind_id {
    CONF_KIND_STR,
    CONF_KIND_FILE,
    CONF_KIND_TEXT,
    CONF_KIND_COUNT,
    CONF_KIND_SIZE,
    CONF_KIND_MS,
    CONF_KIND_OCTAL,
    CONF_KIND_INT,
    CONF_KIND_PERCENT,
    CONF_KIND_WORKERS,
    /* One word of a few: kinds_word.c. */
    CONF_KIND_BOOL,
    CONF_KIND_AUTO_OFF,
    CONF_KIND_LOGLEVEL,
    CONF_KIND_ENUM_REQID,
    CONF_KIND_ENUM_SRVHDR,
    CONF_KIND_ENUM_BALANCE,
    CONF_KIND_ENUM_POLICY,
    CONF_KIND_ENUM_VERIFY,
    CONF_KIND_ENUM_HREDIR,
    CONF_KIND_ENUM_CCERT,
    CONF_KIND_ENUM_LOAD,
    CONF_KIND_ENUM_UPROTO,
    CONF_KIND_ENUM_CVERIFY,
    /* Lists and what has a grammar of its own. */
    CONF_KIND_CIDRS,
    CONF_KIND_WORDS,
    CONF_KIND_ADDRS,
    CONF_KIND_PROXYP,
    CONF_KIND_RETRY,
    CONF_KIND_ERRPAGE,
    CONF_KIND_LOGREFS,
    CONF_KIND_HNAMES,
    CONF_KIND_LISTENREFS,
    CONF_KIND_PATH,
    CONF_KIND_RETURN,
    CONF_KIND_UPREF,
    CONF_KIND_SERVERS,
    CONF_KIND_PROTOS,
    CONF_KIND_CERTREFS,
    CONF_KIND_PAIRS,
    CONF_KIND_HSTS,
    CONF_KIND_TTLS,
    CONF_KIND_MSOPT,
    CONF_KIND_CACHEREF,
    CONF_KIND_COMPRESSREF,
    CONF_KIND_CODINGS,
    CONF_KIND__COUNT
};

struct conf_key {
    const char *name; /* of the member; conf_key_name() is the text form */
    enum conf_group group;
    enum conf_kind_id kind;
    const char *def;
    int64_t min, max;
    unsigned flags;
    const char *doc;
    size_t off;  /* in the group's struct */
    uint32_t id; /* index in the table */
};
struct conf_sect_info {
    const char *name;
    unsigned groups; /* bits 1 << enum conf_group */
    bool named;
    const char *title; /* "[listen NAME]" */
    const char *doc;
};

#define CONF_KEYS_MAX 256u

size_t conf_key_count(void);
const struct conf_key *conf_key_at(size_t i);
struct slice conf_key_name(const struct conf_key *k); /* "return" for return_ */
/* Of a key of CONF_GROUP_OVER the one of [cache] that it stands for, with which it shares all but
 * the name; of others itself. */
const struct conf_key *conf_key_base(const struct conf_key *k);
/* Its bit in conf_caching.given; for keys of CONF_GROUP_OVER. */
uint64_t conf_key_over(const struct conf_key *k);
/* The key of this name that may stand in the section, or NULL. */
const struct conf_key *conf_key_find(enum conf_sect sect, struct slice name);
const struct conf_sect_info *conf_sect_info(enum conf_sect sect);
enum conf_sect conf_sect_find(struct slice name); /* CONF_SECT_NONE: unknown */
/* The hint for an unknown key, appended to out: "; did you mean ...?" or "; it belongs in ...". */
void conf_key_hint(enum conf_sect sect, struct slice name, struct buf *out);

/* Edit distance with transpositions (optimal string alignment), for did-you-mean; names over 63
 * bytes are never near. */
unsigned conf_near_distance(struct slice a, struct slice b);
/* Keeps the best candidate: call for each, then read best (NULL when nothing is near enough). */
struct conf_near {
    struct slice want, best;
    unsigned distance;
};
void conf_near_init(struct conf_near *n, struct slice want);
void conf_near_try(struct conf_near *n, struct slice candidate);

/* Sizes of the groups' structs, and the struct of a group inside each object is found by its owner.
 */
size_t conf_group_size(enum conf_group g);

#endif
