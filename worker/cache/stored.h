/* What is kept of an answer beside its body: written once in the form in which clients get it, read
 * without a copy. */
#ifndef WORKER_CACHE_STORED_H
#define WORKER_CACHE_STORED_H

#include "base/arena.h"
#include "worker/cache/cache.h"

struct stored {
    unsigned status;
    uint8_t major;       /* of the protocol it came in, for Via */
    struct slice url;    /* as purges name it */
    struct slice fields; /* status line and fields, whole lines */
    struct slice server; /* the Server line, behind them */
    struct slice hsts;   /* the Strict-Transport-Security line, behind that */
    struct slice secret; /* lines that clients do not see */
    struct policy_stored policy;
};

/* Bits of cache_attr.user: status, policy flags. */
static inline uint32_t stored_user(unsigned status, uint16_t flags)
{
    return (uint32_t)flags << 16 | (status & 0xffffu);
}

struct stored_tags {
    uint64_t v[CACHE_TAGS];
    unsigned n;
};

/* Writes the meta of an answer into o, which is empty; its fields as far as they are stored. date:
 * for answers without Date. tags: of the fields that the cache's configuration names. False: too
 * large. */
bool stored_write(struct head_out *o, const struct cache_store *st, const struct cache_rules *rules,
                  const struct cache_control *cc, const struct cache_target *target,
                  const struct http_response *r, struct slice date, struct stored_tags *tags);
/* Of a hit or a view. -ERR_CORRUPT: not what stored_write wrote. */
int stored_read(struct slice meta, const struct cache_attr *attr, struct stored *ret);
/* Attributes for cache_insert and its like; birth is not set. */
void stored_attr(const struct policy_stored *p, unsigned status, uint32_t site,
                 struct cache_attr *ret);
/* Fields of a stored answer, secret ones included, as a message of its own in the arena. */
int stored_parse(const struct stored *s, struct arena *a, struct http_response *ret);
/* Whether this field's words are tags, or nobody's business but a cache's. */
bool stored_hides(const struct cache_store *st, const struct cache_rules *rules,
                  const struct cache_control *cc, const struct http_field *f);

/* The marker of an answer that varies: a salt and the fields that select. */
struct stored_vary {
    uint64_t salt;
    uint32_t variants;
    struct vary vary;
};
size_t stored_vary_write(const struct stored_vary *v, char out[16 + VARY_SPEC_MAX + VARY_MAX]);
int stored_vary_read(struct slice meta, struct stored_vary *ret);

#endif
