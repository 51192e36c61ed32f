/* Encoded copies of stored answers: a body alone, under a key made of the answer's. Its head is the
 * answer's, at the moment it is used; so ages, renewals and purges of the answer are the copy's,
 * and a copy that was made of something else is none. */
#ifndef WORKER_CACHE_CODED_H
#define WORKER_CACHE_CODED_H

#include "shm/cache.h"

#define CODED_META 24u /* bytes of its meta */

struct coded {
    uint64_t version; /* of the answer it was made of (cache_hit.version) */
    uint64_t size;    /* of that one's body */
    uint8_t coding;   /* 1 + enum conf_coding */
    bool best;        /* made in the background: cannot become better */
};
/* For lookups of and for copies: see cache_scope.beside. */
extern const struct cache_scope coded_beside;
struct cache_key coded_key(const struct cache *c, struct cache_key of, uint8_t coding);
struct slice coded_write(const struct coded *k, char out[CODED_META]);
/* -ERR_CORRUPT: not what coded_write() wrote. */
int coded_read(struct slice meta, struct coded *ret);
/* Attributes of a copy of that answer: it need not live longer. */
void coded_attr(const struct cache_hit *of, struct cache_attr *ret);
/* The copy of an answer: 1, *ret is to be released; 0: there is none; *ret_seen is the version of
 * what stands in its place, 0 for nothing. */
int coded_find(struct cache_worker *w, const struct cache *c, const struct cache_hit *of,
               uint8_t coding, struct cache_hit *ret, struct coded *ret_coded, uint64_t *ret_seen);
/* The answer was renewed and has another version, but the same body: its copies are its again.
 * was: as it was found, still held. */
void coded_renew(struct cache_worker *w, const struct cache *c, const struct cache_hit *was,
                 unsigned codings);

/* How often copies were used lately, by one worker: a small table in which neighbours push each
 * other out. */
#define CODED_HEAT 512u
struct coded_heat {
    struct {
        uint32_t tag, n;
    } e[CODED_HEAT];
};
/* Once more. True: for the most-th time; counting begins anew. */
bool coded_hot(struct coded_heat *h, const struct cache_key *key, uint32_t most);

#endif
