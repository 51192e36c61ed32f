/* What workers and master have to agree about in the cache: the head of the meta that stands with
 * each stored answer, and the names under which it can be purged.
 *
 * Meta of a CACHE_OBJECT: struct cache_meta, then one behind the other, without padding:
 *
 *   url      "https://host:port/path?query", for people
 *   fields   the status line and the fields as clients get them, whole lines
 *   server   the Server line, if any
 *   hsts     the Strict-Transport-Security line, if any
 *   secret   lines that clients do not get (tags, orders to caches)
 *
 * The other types of cache.h have meta of their own. */
#ifndef SHM_CACHE_META_H
#define SHM_CACHE_META_H

#include "shm/cache.h"

#define CACHE_META_VERSION 2u
#define CACHE_META_URL     8192u /* bytes of a URL that has a name of its own */
#define CACHE_META_DEPTH   16u   /* directories of a path that have a name, the first ones */

struct cache_meta { /* to be copied out: the mapping aligns nothing */
    uint16_t version;
    uint16_t status;
    uint8_t major; /* of the protocol that it came in */
    uint8_t zero;
    uint16_t url, fields, server, hsts, secret; /* bytes; all of meta has 64 KiB at most */
};
void cache_meta_init(struct cache_meta *m, unsigned status, unsigned major, size_t url,
                     size_t fields, size_t server, size_t hsts, size_t secret);
/* Whether m, copied from the beginning of n bytes, describes exactly them. */
bool cache_meta_fits(const struct cache_meta *m, size_t n);
/* Writes the URL. query without "?"; its .p NULL: none. The length, or 0: more than cap. */
size_t cache_meta_url(char *out, size_t cap, struct slice scheme, struct slice host,
                      struct slice path, struct slice query);

/* An object as rpctl sees it, during cache_walk. */
struct cache_meta_view {
    struct cache_meta m; /* zeroes and no texts: a type that has no URL */
    struct slice url, fields, server, hsts, secret;
    bool soft; /* softly purged */
};
/* Checks the stored fields of the hit and what was purged of it. 0 with *ret; -ERR_NOENT: purged;
 * -ERR_CORRUPT. */
int cache_meta_look(struct cache_worker *w, const struct cache_hit *h, struct cache_meta_view *ret);

/* The sites that take most. */
struct cache_meta_share {
    uint32_t site; /* below cache_site_count */
    uint64_t bytes;
    char host[256]; /* one that is counted there, without port; "": none was found */
};
/* At most max of those with `least` bytes or more, the largest first. Returns how many. Walks the
 * index until it has met all of them. w NULL: they are not named. */
unsigned cache_meta_shares(const struct cache *c, struct cache_worker *w, uint64_t least,
                           struct cache_meta_share *ret, unsigned max);

/* ---- names ----
 * They say nothing of scheme and port: who purges http://host/a also purges https://host:8443/a.
 * Paths and queries are compared with %XX of unreserved characters as these characters, other %XX
 * in upper case. */

enum cache_kind {
    CACHE_KIND_TAG,    /* "tag", as in Surrogate-Key */
    CACHE_KIND_URL,    /* "host/path?query" */
    CACHE_KIND_PREFIX, /* "host/dir/": a directory of the path */
    CACHE_KIND_HOST    /* "host" */
};
/* All names of a URL: URL, host, and prefixes from "/" on; at most CACHE_NAMES. host: with or
 * without port; query as the key has it. For cache_scope.names. */
unsigned cache_meta_names(const struct cache *c, struct slice host, struct slice path,
                          struct slice query, uint64_t *ret);
/* Where a host is counted, for cache_attr.site, cache_scope.site and cache_claim. */
uint32_t cache_meta_site(struct slice host);

/* "https://host:port/path?query#fragment", without scheme too, as people write it, in its parts:
 * they lie in text, path is "/" when there is none. -ERR_INVAL. */
struct cache_meta_target {
    struct slice scheme, host, path, query; /* scheme may be empty; query as for cache_meta_url */
};
int cache_meta_parse(struct slice text, struct cache_meta_target *ret);
/* The one name of a kind; for PREFIX the path must end in "/". 0 with *ret, -ERR_RANGE: too long or
 * too deep, -ERR_INVAL: no such prefix. */
int cache_meta_name(const struct cache *c, enum cache_kind kind, const struct cache_meta_target *t,
                    uint64_t *ret);

#endif
