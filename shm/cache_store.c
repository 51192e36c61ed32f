/* Hits and inserts: the public side of what is complete. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

static _Atomic uint8_t *freq_of(const unsigned char *rec)
{
    return (_Atomic uint8_t *)(uintptr_t)(rec + offsetof(struct cache_rec, freq));
}

bool cache_hit_begin(struct cache_worker *w, const struct cache_head *h, uint64_t word,
                     struct cache_hit *ret)
{
    const struct cache *c = w->c;
    uint32_t page;

    memset(ret, 0, sizeof(*ret));
    if (h->body != CACHE_NONE) {
        uint64_t st;
        uint32_t code;

        cache_body_pin(w, h->body);
        st = atomic_load(&cache_bodyd(c, h->body)->st);
        code = cache_st_code(st);
        /* FILL: published a moment ago, complete. Else it is being taken away. */
        if (cache_st_gen(st) != h->body_gen || (code != CBODY_LIVE && code != CBODY_FILL)) {
            cache_body_unpin(w, h->body);
            return false;
        }
    }
    ret->attr = (struct cache_attr){.type = h->type,
                                    .site = h->site,
                                    .user = h->user,
                                    .base = h->base,
                                    .fresh = h->fresh,
                                    .swr = h->swr,
                                    .sie = h->sie,
                                    .birth = h->birth};
    ret->version = h->version;
    ret->size = h->size;
    ret->tags = (const uint64_t *)(const void *)(h->p + h->at_tags);
    ret->ntags = h->ntags;
    ret->key = h->key;
    ret->word = word;
    ret->rec = h->p;
    ret->tail = h->p + h->at_tail;
    ret->pages = (const uint32_t *)(const void *)(h->p + h->at_pages);
    ret->slab = cache_word_slab(word);
    ret->len = h->len;
    ret->body = h->body;
    ret->body_gen = h->body_gen;
    ret->lead = h->lead;
    ret->npages = h->npages;
    ret->at_page = CACHE_NONE;
    ret->meta = slice_of((const char *)h->p + h->at_meta, h->meta_len);
    if (h->flags & CACHE_REC_LEAD) {
        memcpy(&page, ret->pages, 4);
        if (h->npages == 0 || page >= c->npage) {
            cache_body_unpin(w, h->body);
            return false;
        }
        ret->meta.p = (const char *)cache_page_data(c, page) + h->lead - h->meta_len;
    }
    return true;
}

/* Takes out what failed a check; the hit, if there is one, is still to be released. */
static void damaged(struct cache_worker *w, const struct cache_key *key, uint64_t word,
                    const struct cache_head *h)
{
    _Atomic uint64_t *slot = cache_index_slot(w->c, key, word);

    cache_count(w, CACHE_CTR_CORRUPT, 1);
    if (slot && !cache_index_swap(w->c, w->owner, slot, word, h, 0, false))
        (void)cache_share_swap(w->c, w->slot, slot, word, h, 0);
}

int cache_lookup(struct cache_worker *w, const struct cache_key *key,
                 const struct cache_scope *scope, struct cache_hit *ret)
{
    struct cache_head h;
    _Atomic uint64_t *slot;
    uint64_t word;
    uint8_t freq;
    int gone;
    const bool counts = !scope || !scope->beside;

    if (!cache_index_find(w, key, &h, &word, &slot)) {
        cache_count(w, CACHE_CTR_MISS, counts);
        return 0;
    }
    if (!cache_hit_begin(w, &h, word, ret))
        goto miss;
    if (!cache_record_sound(w->c, &h, w->c->verify == CACHE_VERIFY_ALL)) {
        damaged(w, key, word, &h);
        goto gone;
    }
    if (scope && !scope->beside) {
        gone = cache_purge_test(w->c, scope, &h, ret->tags);
        if (gone == 2) {
            cache_count(w, CACHE_CTR_PURGED, 1);
            (void)cache_index_swap(w->c, w->owner, slot, word, &h, 0, false);
            goto gone;
        }
        ret->soft = gone == 1;
    }
    freq = atomic_load_explicit(freq_of(h.p), memory_order_relaxed);
    if (freq < CACHE_FREQ_MAX)
        atomic_store_explicit(freq_of(h.p), (uint8_t)(freq + 1), memory_order_relaxed);
    cache_count(w, CACHE_CTR_HIT, counts);
    return 1;
gone:
    if (h.body != CACHE_NONE)
        cache_body_unpin(w, h.body);
miss:
    cache_unpin_slab(w, cache_word_slab(word));
    cache_count(w, CACHE_CTR_MISS, counts);
    return 0;
}

void cache_release(struct cache_worker *w, struct cache_hit *h)
{
    if (!h->word)
        return;
    if (h->body != CACHE_NONE)
        cache_body_unpin(w, h->body);
    if (h->slab != CACHE_NONE)
        cache_unpin_slab(w, h->slab);
    h->word = 0;
}

int cache_body(struct cache_worker *w, struct cache_hit *h, uint64_t off, uint64_t n,
               struct iovec *iov, int max, size_t *ret_n)
{
    const struct cache *c = w->c;
    const uint64_t full = (uint64_t)h->npages << c->page_shift;
    size_t got = 0;
    int k = 0;

    *ret_n = 0;
    if (off >= h->size || max <= 0)
        return 0;
    if (n > h->size - off)
        n = h->size - off;
    if (h->body != CACHE_NONE) {
        off += h->lead;
        if (off < full) {
            const uint64_t part = n < full - off ? n : full - off;

            k = cache_body_iov(c, h->body, h->body_gen,
                               atomic_load(&cache_bodyd(c, h->body)->first), h->pages, h->npages,
                               &h->at_page, &h->at_index, h->npages, off, part, iov, max, &got);
            if (k < 0) {
                struct cache_head head;

                if (cache_record_load(c, cache_word_slab(h->word), cache_word_off(h->word),
                                      c->sb.slab_size, &head) == 0)
                    damaged(w, &h->key, h->word, &head);
                return k;
            }
            *ret_n = got;
            if (got < part || got == n || k == max)
                return k;
            off += got;
            n -= got;
        }
        off -= full;
    }
    iov[k] = (struct iovec){(void *)(uintptr_t)(h->tail + off), n};
    *ret_n += n;
    return k + 1;
}

bool cache_hit_wanted(const struct cache_worker *w, const struct cache_hit *h)
{
    const uint32_t code = h->slab == CACHE_NONE
                              ? CSLAB_FREE
                              : cache_st_code(atomic_load_explicit(cache_slab_st(w->c, h->slab),
                                                                   memory_order_relaxed));

    return code == CSLAB_DRAIN || code == CSLAB_EVICT;
}

static size_t list_size(const struct cache_hit *h)
{
    return ((size_t)h->npages * 4 + 7u) & ~(size_t)7u;
}

size_t cache_hit_detach_size(const struct cache_hit *h)
{
    return list_size(h) + (size_t)(h->rec + h->len - h->tail);
}

void cache_hit_detach(struct cache_worker *w, struct cache_hit *h, void *buf)
{
    const size_t list = list_size(h);

    if (h->slab == CACHE_NONE)
        return;
    memcpy(buf, h->pages, (size_t)h->npages * 4);
    memcpy((unsigned char *)buf + list, h->tail, (size_t)(h->rec + h->len - h->tail));
    h->pages = buf;
    h->tail = (const unsigned char *)buf + list;
    h->meta = SLICE_NONE;
    h->tags = NULL;
    h->ntags = 0;
    cache_unpin_slab(w, h->slab);
    h->slab = CACHE_NONE;
}

/* Writes a record into the queue's open slab. *ret: its header as it was read back. It is counted
 * for its site: cache_share_made is to follow. len: cache_record_size, not 0. */
static int store(struct cache_worker *w, uint32_t queue, const struct cache_parts *p, uint32_t len,
                 struct cache_head *ret, uint64_t *ret_word)
{
    struct cache *c = w->c;
    uint32_t slab, off;
    int rc;

    rc = cache_slab_reserve(w, queue, len, true, &slab, &off);
    if (rc < 0) {
        cache_count(w, CACHE_CTR_NO_ROOM, 1);
        return rc;
    }
    cache_record_write(c, cache_slab_data(c, slab) + off, len, p);
    rc = cache_record_load(c, slab, off, c->sb.slab_size, ret);
    if (rc < 0)
        return rc;
    cache_slab_took(w, queue, slab, len, (uint64_t)ret->npages << c->page_shift);
    *ret_word = cache_word(p->key, slab, off);
    cache_share_count(c, w->slot, ret, *ret_word);
    return 0;
}

int cache_store_record(struct cache_worker *w, struct cache_parts *p)
{
    const uint32_t len = cache_record_size(w->c, p);
    struct cache_head h;
    uint64_t word;
    uint32_t queue;
    int rc;

    if (len == 0 ||
        !cache_share_admit(w, p->attr->site, len + ((uint64_t)p->npages << w->c->page_shift)))
        return -ERR_RANGE;
    queue = p->main || cache_ghost_take(w, p->key);
    if (p->version == 0)
        p->version = atomic_fetch_add(&cache_hot(w->c)->version.v, 1) + 1;
    rc = store(w, queue, p, len, &h, &word);
    if (rc == 0) {
        rc = cache_index_publish(w, &h, word);
        cache_share_made(w->c, w->slot, &h, word, rc == 0);
    }
    if (rc == 0)
        cache_count(w, CACHE_CTR_INSERT, 1);
    cache_evict_pace(w, len);
    return rc;
}

int cache_insert(struct cache_worker *w, const struct cache_key *key, const struct cache_attr *attr,
                 const uint64_t *tags, unsigned ntags, struct slice meta, struct slice body)
{
    struct cache_parts p = {.key = key,
                            .attr = attr,
                            .tags = tags,
                            .ntags = ntags,
                            .body = CACHE_NONE,
                            .meta = meta,
                            .tail = body,
                            .size = body.n};
    struct cache_fill f;
    int rc;

    if (8u * (uint64_t)ntags + meta.n + body.n < w->c->sb.page_size)
        return cache_store_record(w, &p);
    cache_fill_private(w, key, attr->site, &f);
    f.attr.birth = attr->birth;
    rc = cache_fill_head(w, &f, attr, tags, ntags, meta, body.n);
    if (rc == 0)
        rc = cache_fill_append(w, &f, body);
    if (rc == 0)
        return cache_fill_done(w, &f);
    cache_fill_abort(w, &f, true, 0);
    return rc;
}

int cache_refresh(struct cache_worker *w, const struct cache_hit *h, const struct cache_attr *attr,
                  const uint64_t *tags, unsigned ntags, struct slice meta)
{
    const bool paged = h->body != CACHE_NONE;
    struct cache_parts p = {.key = &h->key,
                            .attr = attr,
                            .tags = tags,
                            .pages = h->pages,
                            .ntags = ntags,
                            .npages = h->npages,
                            .body = h->body,
                            .body_gen = h->body_gen,
                            .lead = h->lead,
                            .meta = meta,
                            .size = h->size};
    struct cache_head old, new;
    _Atomic uint64_t *slot;
    uint64_t word;
    uint32_t len;
    bool done;
    int rc;

    if (h->slab == CACHE_NONE ||
        cache_record_load(w->c, h->slab, cache_word_off(h->word), w->c->sb.slab_size, &old) < 0)
        return -ERR_NOENT;
    p.tail = slice_of((const char *)h->tail, old.tail_len);
    p.version = atomic_fetch_add(&cache_hot(w->c)->version.v, 1) + 1;
    /* What is worth asking the origin about has been used: to the main queue. */
    len = cache_record_size(w->c, &p);
    rc = len == 0 ? -ERR_RANGE : store(w, 1, &p, len, &new, &word);
    if (rc < 0)
        return rc;
    slot = cache_index_slot(w->c, &h->key, h->word);
    done = slot && cache_index_swap(w->c, w->owner, slot, h->word, &old, word, paged);
    cache_share_made(w->c, w->slot, &new, word, done);
    if (!done) {
        cache_count(w, CACHE_CTR_RACE, 1);
        return -ERR_NOENT;
    }
    cache_count(w, CACHE_CTR_REFRESH, 1);
    cache_evict_pace(w, new.len);
    return 0;
}

static int drop(struct cache_worker *w, const struct cache_key *key, uint64_t word,
                const struct cache_head *h)
{
    _Atomic uint64_t *slot = cache_index_slot(w->c, key, word);

    if (!slot || !cache_index_swap(w->c, w->owner, slot, word, h, 0, false))
        return 0;
    cache_count(w, CACHE_CTR_REMOVE, 1);
    return 1;
}

int cache_drop(struct cache_worker *w, struct cache_hit *h)
{
    struct cache_head old;

    if (h->slab == CACHE_NONE ||
        cache_record_load(w->c, h->slab, cache_word_off(h->word), w->c->sb.slab_size, &old) < 0)
        return 0;
    return drop(w, &h->key, h->word, &old);
}

int cache_remove(struct cache_worker *w, const struct cache_key *key)
{
    _Atomic uint64_t *slot;
    struct cache_head h;
    uint64_t word;
    int n;

    if (!cache_index_find(w, key, &h, &word, &slot))
        return 0;
    n = drop(w, key, word, &h);
    cache_unpin_slab(w, cache_word_slab(word));
    return n;
}
