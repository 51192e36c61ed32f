/* The records of a slab one after the other, for those who copy them to somewhere else. */
#include "base/err.h"
#include "shm/cache_layout.h"

enum cache_visit cache_visit_next(struct cache_worker *w, uint32_t slab, uint32_t end,
                                  uint32_t *off, unsigned *looks, struct cache_hit *ret)
{
    const struct cache *c = w->c;
    struct cache_head h;

    for (; *looks > 0; --*looks) {
        const uint32_t at = *off;
        uint64_t word;

        if (at >= end || cache_record_load(c, slab, at, end, &h) < 0)
            return CACHE_VISIT_END;
        *off += h.len;
        word = cache_word(&h.key, slab, at);
        if (!cache_index_slot(c, &h.key, word) || !cache_record_sound(c, &h, true) ||
            cache_purge_peek(c, &h, (const uint64_t *)(const void *)(h.p + h.at_tags)) == 2)
            continue;
        cache_pin_slab(w, slab); /* the hit's own */
        if (cache_hit_begin(w, &h, word, ret))
            return CACHE_VISIT_HIT;
        ret->word = 0;
        cache_unpin_slab(w, slab);
    }
    return CACHE_VISIT_MORE;
}
