/* Keys and meta of encoded copies; see coded.h. */
#include "worker/cache/coded.h"

#include "base/err.h"

#include <string.h>

#define CODED_SALT UINT64_C(0x1c0ded) /* markers of Vary have random ones, from all of 64 bits */

/* Looked for beside an answer: neither a hit nor a miss of the cache, and nothing to be purged for
 * itself. */
const struct cache_scope coded_beside = {.beside = true};

struct cache_key coded_key(const struct cache *c, struct cache_key of, uint8_t coding)
{
    const char which = (char)coding;
    struct cache_hash h;
    cache_key_begin_variant(c, of, CODED_SALT, &h);
    cache_key_add(&h, slice_of(&which, 1));
    return cache_key_end(&h);
}

struct slice coded_write(const struct coded *k, char out[CODED_META])
{
    memset(out, 0, CODED_META);
    memcpy(out, &k->version, 8);
    memcpy(out + 8, &k->size, 8);
    out[16] = (char)k->coding;
    out[17] = (char)k->best;
    return slice_of(out, CODED_META);
}

int coded_read(struct slice meta, struct coded *ret)
{
    if (meta.n != CODED_META)
        return -ERR_CORRUPT;
    memcpy(&ret->version, meta.p, 8);
    memcpy(&ret->size, meta.p + 8, 8);
    ret->coding = (uint8_t)meta.p[16];
    ret->best = meta.p[17] != 0;
    return 0;
}

void coded_attr(const struct cache_hit *of, struct cache_attr *ret)
{
    *ret = of->attr;
    ret->type = CACHE_ENCODED;
    ret->user = 0;
}

int coded_find(struct cache_worker *w, const struct cache *c, const struct cache_hit *of,
               uint8_t coding, struct cache_hit *ret, struct coded *ret_coded, uint64_t *ret_seen)
{
    const struct cache_key key = coded_key(c, of->key, coding);
    *ret_seen = 0;
    if (!cache_lookup(w, &key, &coded_beside, ret))
        return 0;
    *ret_seen = ret->version;
    if (ret->attr.type == CACHE_ENCODED && coded_read(ret->meta, ret_coded) == 0 &&
        ret_coded->version == of->version && ret_coded->size == of->size &&
        ret_coded->coding == coding)
        return 1;
    cache_release(w, ret);
    return 0;
}

void coded_renew(struct cache_worker *w, const struct cache *c, const struct cache_hit *was,
                 unsigned codings)
{
    struct cache_hit now, copy;
    struct cache_attr attr;
    char meta[CODED_META];
    if (!cache_lookup(w, &was->key, &coded_beside, &now))
        return;
    coded_attr(&now, &attr);
    for (unsigned coding = 1; codings; coding++, codings >>= 1) {
        struct coded k;
        uint64_t seen;
        if (!(codings & 1) || !coded_find(w, c, was, (uint8_t)coding, &copy, &k, &seen))
            continue;
        k.version = now.version;
        (void)cache_refresh(w, &copy, &attr, NULL, 0, coded_write(&k, meta));
        cache_release(w, &copy);
    }
    cache_release(w, &now);
}

bool coded_hot(struct coded_heat *h, const struct cache_key *key, uint32_t most)
{
    const uint32_t tag = (uint32_t)key->k1, i = (uint32_t)(key->k1 >> 32) % CODED_HEAT;
    if (h->e[i].tag != tag || !h->e[i].n) {
        h->e[i].tag = tag;
        h->e[i].n = 0;
    }
    if (++h->e[i].n < most)
        return false;
    h->e[i].n = 0;
    return true;
}
