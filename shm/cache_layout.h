/* What lies where in the cache's mapping; for shm/cache*.c and their tests only.
 *
 * The rules of shm/layout.h, and: a state word is owner:32 | generation:24 | state:8, the state's
 * code stands twice in its byte so that a flipped bit gives no other state. Zeroes are a valid,
 * empty cache. */
#ifndef SHM_CACHE_LAYOUT_H
#define SHM_CACHE_LAYOUT_H

#include "base/hash.h"
#include "shm/cache.h"

#include <stdatomic.h>

#define CACHE_MAGIC      0x3165686361647072ull /* "rpdache1" */
#define CACHE_VERSION    2u
#define CACHE_SUPER_B    4096u
#define CACHE_TRIES      8
#define CACHE_NONE       UINT32_MAX
#define CACHE_ALIGN      64u
#define CACHE_FLIGHT_MAX 4096u
#define CACHE_BODYPINS   16384u
#define CACHE_FREQ_MAX   3u
#define CACHE_SHARDS     64u /* of the purge counters: sites mod this */

enum cache_area {
    CACHE_AREA_HOT,
    CACHE_AREA_ROW,
    CACHE_AREA_GEN,
    CACHE_AREA_INDEX,
    CACHE_AREA_GHOST,
    CACHE_AREA_SHARE,
    CACHE_AREA_STATE,
    CACHE_AREA_SLAB,
    CACHE_AREA_PAGE,
    CACHE_AREA_BODY,
    CACHE_AREA_FLIGHT,
    CACHE_AREA_MAIL,
    CACHE_AREA_SLABPIN,
    CACHE_AREA_BODYPIN,
    CACHE_AREA_DATA,
    CACHE_AREA__COUNT
};

/* Immutable after creation, in two copies. crc covers everything before it. */
struct cache_super {
    uint64_t magic;
    uint32_t version, abi;
    uint64_t size; /* of the mapping */
    uint64_t data, max_object;
    uint32_t slab_size, page_size, nslab, nbucket, nghost, ngen, nbody, nbodypin, nflight, nslot;
    uint32_t nshare, zero;
    uint64_t off[CACHE_AREA__COUNT];
    struct hash_key key;
    uint32_t seed; /* of the records' CRCs */
    uint32_t crc;
};
_Static_assert(sizeof(struct cache_super) <= CACHE_SUPER_B, "superblock fits its page");

struct cache_seq {
    _Alignas(128) _Atomic uint64_t v;
};
struct cache_hot {
    struct cache_seq version, ticket;
    struct cache_seq evicted;   /* bytes that left the small queue: the ghosts' clock */
    struct cache_seq page_free; /* how often pages were given back */
    /* Highest slot ever used + 1, twice: a scan for pins must not end early by a flipped bit. */
    struct cache_seq slot_bound[2];
    struct cache_seq disk_files, disk_bytes, disk_pending; /* cache_stat; the persister's */
    struct cache_seq purge[CACHE_SHARDS];
};

/* A change of the bytes per site that is under way, see cache_share.c. */
struct cache_note {
    _Atomic uint64_t op, word;
};
struct cache_row {
    _Alignas(64) _Atomic uint32_t owner;
    _Atomic uint32_t asleep;
    struct cache_note note[2];
    _Alignas(64) _Atomic uint64_t ctr[CACHE_CTR__COUNT];
};

struct cache_gen {
    _Atomic uint64_t hard, soft;
};

#define CACHE_WAYS 8u
struct cache_bucket {
    _Alignas(64) _Atomic uint64_t word[CACHE_WAYS];
};
#define CACHE_GHOSTS 16u
struct cache_ghost {
    _Alignas(64) _Atomic uint32_t word[CACHE_GHOSTS];
};

/* Codes, see cache_state(). */
enum cache_slab_state {
    CSLAB_FREE,
    CSLAB_OPEN,
    CSLAB_SEALED,
    CSLAB_EVICT,
    CSLAB_DRAIN,
    CSLAB_POPEN,
    CSLAB_PAGES,
    CSLAB_CLOSE
};
enum cache_body_state {
    CBODY_FREE,
    CBODY_FILL,
    CBODY_LIVE,
    CBODY_DYING,
    CBODY_LIMBO,
    CBODY_FREEING
};
enum cache_flight_state {
    CFLIGHT_FREE,
    CFLIGHT_CLAIM,
    CFLIGHT_FETCH,
    CFLIGHT_STREAM,
    CFLIGHT_DONE,
    CFLIGHT_FAILED,
    CFLIGHT_PASS,
    CFLIGHT_ORPHAN
};

/* A slab's state word is in an array of its own: scans read few lines. */
struct cache_slab {
    _Alignas(64) _Atomic uint64_t ticket; /* place in its queue */
    _Atomic uint64_t pages_bytes;         /* of pages its records lead to; advisory */
    _Atomic uint32_t woff;                /* records end here; its owner only */
    _Atomic uint32_t nrec;                /* how many there are; its owner only */
    _Atomic uint32_t live;                /* bytes of records in the index; advisory */
    _Atomic uint32_t used;                /* pages taken; advisory */
    _Atomic uint32_t npage;               /* pages opened: those behind woff, or all; advisory */
    _Atomic uint32_t queue;               /* 0 small, 1 main */
};

#define CPAGE_CLOSED 0u
#define CPAGE_OPEN   1u
struct cache_page {
    _Atomic uint64_t
        owner; /* CPAGE_*, or body:32 | gen:24 | 2: taken while the body has that gen */
    _Atomic uint32_t next;
    _Atomic uint32_t crc; /* of a full page */
};

struct cache_bodyd {
    _Alignas(64) _Atomic uint64_t st;
    _Atomic uint64_t size; /* bytes readable: lead and body */
    _Atomic uint64_t k0, k1;
    _Atomic uint32_t first, npages;
    _Atomic uint32_t flight; /* through which it arrives */
    _Atomic uint32_t ntags, lead;
};

struct cache_flight {
    _Alignas(64) _Atomic uint64_t st;
    _Atomic uint64_t k0, k1, birth;
    _Atomic uint32_t body, body_gen, outcome, head_crc;
    _Atomic uint64_t expect;
    _Alignas(64) _Atomic uint64_t joined[CACHE_SLOTS / 64];
    _Atomic uint64_t want[CACHE_SLOTS / 64];
    /* What followers must know of the head; meta and tags are in front of the body's first page. */
    _Alignas(64) _Atomic uint32_t type_site;
    _Atomic uint32_t user, base, fresh, swr, sie;
};
_Static_assert(sizeof(struct cache_flight) == 192 && offsetof(struct cache_flight, joined) == 64,
               "flight layout");

struct cache_mail {
    _Alignas(64) _Atomic uint64_t sum;
    _Alignas(64) _Atomic uint64_t bit[CACHE_FLIGHT_MAX / 64];
};

/* A record: this, struct cache_rec_paged if it has pages, then tags u64[ntags] · pages u32[npages],
 * padded to 8 · meta · body or the part of it behind the last full page. Immutable but for the last
 * eight bytes of this. */
struct cache_rec {
    uint32_t crc;  /* of the bytes from here to checked, then struct cache_rec_paged */
    uint32_t kind; /* len / 8 - 1:19 | padding at its end:3 | ntags:6 | type:2 | flags:2 */
    uint64_t k0, k1;
    uint64_t version_meta; /* version:48 | meta_len:16 */
    uint64_t birth_site;   /* birth:48 | site:16 */
    uint32_t base, fresh;
    uint32_t user;
    uint16_t swr, sie;
    uint32_t part_crc; /* tags, pages, meta */
    uint32_t tail_crc;
    _Atomic uint32_t checked; /* purge count it was tested against:31 | softly purged:1; one word,
                               * so that two who test at once leave no mixture */
    _Atomic uint8_t freq;
    uint8_t spare;
    _Atomic uint16_t counted; /* CACHE_COUNTED*, 0: not */
};
_Static_assert(sizeof(struct cache_rec) == 72 && offsetof(struct cache_rec, checked) == 64,
               "record layout");
/* Of an object of pages. Its meta usually stands in front of the body (CACHE_REC_LEAD): lead = tags
 * and meta there. */
struct cache_rec_paged {
    uint64_t size_gen; /* body size:40 | body gen:24 */
    uint32_t body, lead;
};
_Static_assert(sizeof(struct cache_rec_paged) == 16, "record layout");
#define CACHE_COUNTED    1u
#define CACHE_COUNTED_BY 0x100u /* | slot: which takes it off */
#define CACHE_REC_LEAD   1u
#define CACHE_REC_PAGED  2u

struct cache {
    int fd;
    enum cache_verify verify;
    size_t size;
    unsigned char *base;
    struct cache_super sb; /* the process's own copy: never read again from the mapping */
    uint32_t page_shift, slab_pages, npage;
    uint64_t share;      /* most bytes of a site; UINT64_MAX: all */
    uint32_t seal_bytes; /* a slab is sealed when its records lead to that much in pages */
};

/* What remains of a header once it was checked. */
struct cache_head {
    struct cache_key key;
    uint64_t version, birth, size;
    uint32_t body, body_gen, base, fresh, swr, sie, user, part_crc, tail_crc, len, ntags, npages;
    uint32_t meta_len, lead, tail_len;
    uint32_t at_tags, at_pages, at_meta, at_tail; /* offsets in the record */
    uint16_t site;
    uint8_t type, flags;
    const unsigned char *p;
};

struct cache_open {
    uint32_t slab, woff, nrec; /* slab CACHE_NONE: none open */
    uint64_t pages_bytes;
};
struct cache_evict {
    uint32_t slab, off, nrec, queue; /* slab CACHE_NONE: none */
    bool broken;                     /* its records cannot be walked to the end */
    bool hollow;                     /* with many holes: what is left is moved as it is */
};
/* Where the search for objects of a site that has too much goes on. */
struct cache_hand {
    uint64_t ticket[2]; /* from which the next slab is sought, per queue */
    uint64_t st;        /* of the slab, when it was chosen */
    uint32_t slab, off, queue;
};

struct cache_worker {
    struct cache *c;
    uint32_t slot, owner, now_s;
    void (*kick)(void *arg, uint32_t slot);
    void *kick_arg;
    _Atomic uint32_t *slabpin, *bodypin; /* the rows in the mapping ... */
    uint32_t *slabpins, *bodypins;       /* ... and the truth about them */
    uint16_t *followers;                 /* per flight, of this worker */
    struct cache_row *row;
    struct cache_open open[2], rest[2]; /* rest: the one before, for what fits its end */
    struct cache_evict ev;
    struct cache_hand hand;
    uint32_t popen, popen_next;    /* slab whose pages are handed out in order */
    uint32_t hole_slab, hole_page; /* where the last hole was found */
    uint64_t hole_seq;             /* page_free when none was found */
    uint32_t body_hint, slab_hint;
    uint32_t nfree, low; /* as of the last scan; below low room is made ahead */
    uint64_t queue_bytes[2];
};

/* ---- access ---- */

static inline void *cache_at(const struct cache *c, enum cache_area a, size_t off)
{
    return c->base + c->sb.off[a] + off;
}
static inline struct cache_hot *cache_hot(const struct cache *c)
{
    return cache_at(c, CACHE_AREA_HOT, 0);
}
static inline struct cache_row *cache_row(const struct cache *c, uint32_t slot)
{
    return cache_at(c, CACHE_AREA_ROW, slot * sizeof(struct cache_row));
}
static inline struct cache_bucket *cache_bucket(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_INDEX, i * sizeof(struct cache_bucket));
}
static inline _Atomic uint64_t *cache_slab_st(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_STATE, i * sizeof(uint64_t));
}
static inline struct cache_slab *cache_slab(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_SLAB, i * sizeof(struct cache_slab));
}
static inline struct cache_page *cache_page(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_PAGE, i * sizeof(struct cache_page));
}
static inline struct cache_bodyd *cache_bodyd(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_BODY, i * sizeof(struct cache_bodyd));
}
static inline struct cache_flight *cache_flight(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_FLIGHT, i * sizeof(struct cache_flight));
}
static inline struct cache_mail *cache_mail(const struct cache *c, uint32_t slot)
{
    return cache_at(c, CACHE_AREA_MAIL, slot * sizeof(struct cache_mail));
}
static inline size_t cache_pin_stride(uint32_t n)
{
    return ((size_t)n * 4 + 63u) & ~(size_t)63u;
}
static inline _Atomic uint32_t *cache_slabpin(const struct cache *c, uint32_t slot)
{
    return cache_at(c, CACHE_AREA_SLABPIN, slot * cache_pin_stride(c->sb.nslab));
}
static inline _Atomic uint32_t *cache_bodypin(const struct cache *c, uint32_t slot)
{
    return cache_at(c, CACHE_AREA_BODYPIN, slot * cache_pin_stride(c->sb.nbodypin));
}
static inline unsigned char *cache_slab_data(const struct cache *c, uint32_t slab)
{
    return cache_at(c, CACHE_AREA_DATA, (size_t)slab * c->sb.slab_size);
}
static inline unsigned char *cache_page_data(const struct cache *c, uint32_t page)
{
    return cache_at(c, CACHE_AREA_DATA, (size_t)page << c->page_shift);
}

/* ---- words ---- */

static inline uint32_t cache_shard(uint32_t site)
{
    return site % CACHE_SHARDS;
}

static inline uint64_t cache_st(uint32_t owner, uint32_t gen, uint32_t code)
{
    return (uint64_t)owner << 32 | (uint64_t)(gen & 0xffffffu) << 8 | code << 4 | code;
}
/* The code, or UINT32_MAX when the byte is none. */
static inline uint32_t cache_st_code(uint64_t st)
{
    return (st & 15u) == (st >> 4 & 15u) ? (uint32_t)(st & 15u) : UINT32_MAX;
}
static inline uint32_t cache_st_gen(uint64_t st)
{
    return (uint32_t)(st >> 8) & 0xffffffu;
}
static inline uint32_t cache_st_owner(uint64_t st)
{
    return (uint32_t)(st >> 32);
}
/* Owner word of a page. */
static inline uint64_t cache_page_owner(uint32_t body, uint32_t gen)
{
    return (uint64_t)body << 32 | (uint64_t)(gen & 0xffffffu) << 8 | 2u;
}
/* Index word: tag:20 | slab:22 | offset/8:19 | 0:2 | 1. Never 0. */
static inline uint64_t cache_word(const struct cache_key *k, uint32_t slab, uint32_t off)
{
    return (k->k1 >> 44) << 44 | (uint64_t)slab << 22 | (uint64_t)(off >> 3) << 3 | 1u;
}
static inline uint32_t cache_word_slab(uint64_t w)
{
    return (uint32_t)(w >> 22) & 0x3fffffu;
}
static inline uint32_t cache_word_off(uint64_t w)
{
    return ((uint32_t)(w >> 3) & 0x7ffffu) << 3;
}
static inline bool cache_word_tag(uint64_t w, const struct cache_key *k)
{
    return ((w ^ k->k1) >> 44) == 0 && (w & 7u) == 1u;
}
static inline void cache_buckets(const struct cache *c, const struct cache_key *k, uint32_t ret[2])
{
    ret[0] = (uint32_t)(((k->k0 & 0xffffffffu) * c->sb.nbucket) >> 32);
    ret[1] = (uint32_t)(((k->k0 >> 32) * c->sb.nbucket) >> 32);
    if (ret[1] == ret[0])
        ret[1] = ret[0] + 1 == c->sb.nbucket ? 0 : ret[0] + 1;
}
static inline void cache_count(struct cache_worker *w, enum cache_ctr i, uint64_t n)
{
    _Atomic uint64_t *v = &w->row->ctr[i];

    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline uint32_t cache_slot_bound(const struct cache *c)
{
    const uint64_t a = atomic_load(&cache_hot(c)->slot_bound[0].v),
                   b = atomic_load(&cache_hot(c)->slot_bound[1].v), m = a > b ? a : b;

    return m < c->sb.nslot ? (uint32_t)m : c->sb.nslot;
}

/* ---- pins: the count goes up before the word that led here is read again ---- */

static inline void cache_pin_slab(struct cache_worker *w, uint32_t slab)
{
    atomic_exchange(&w->slabpin[slab], ++w->slabpins[slab]);
}
static inline void cache_unpin_slab(struct cache_worker *w, uint32_t slab)
{
    atomic_store_explicit(&w->slabpin[slab], --w->slabpins[slab], memory_order_release);
}
static inline uint32_t cache_bodypin_of(const struct cache *c, uint32_t body)
{
    return body % c->sb.nbodypin;
}

/* ---- cache_record.c ---- */

/* Checks the header at off of a slab (of `end` bytes) into *ret. -ERR_CORRUPT. */
int cache_record_load(const struct cache *c, uint32_t slab, uint32_t off, uint32_t end,
                      struct cache_head *ret);
/* Tags, pages and meta; with body also its inline bytes. The body must be pinned. */
bool cache_record_sound(const struct cache *c, const struct cache_head *h, bool body);
uint16_t
cache_record_short(uint32_t seconds); /* 5 bits of exponent, 11 of mantissa, rounded down */
uint32_t cache_record_long(uint16_t v);
struct cache_parts { /* of which a record is made */
    const struct cache_key *key;
    const struct cache_attr *attr;
    const uint64_t *tags;
    const uint32_t *pages; /* or, pages NULL and npages > 0: the chain from `first` */
    uint32_t ntags, npages, first, body, body_gen, lead;
    struct slice meta, tail;
    uint64_t size, version; /* version 0: the next */
    bool lead_meta;         /* meta stands in front of the body: summed, not copied */
    bool main;              /* to the main queue, whatever the ghosts say */
};
/* Bytes of the record, 0 when there can be none. */
uint32_t cache_record_size(const struct cache *c, const struct cache_parts *p);
/* Writes it at dst (cache_record_size bytes). */
void cache_record_write(const struct cache *c, unsigned char *dst, uint32_t len,
                        const struct cache_parts *p);

/* ---- cache_index.c ---- */

/* Finds the newest valid record of the key; its slab is pinned. *ret_slot is where the word stands.
 */
bool cache_index_find(struct cache_worker *w, const struct cache_key *key, struct cache_head *ret,
                      uint64_t *ret_word, _Atomic uint64_t **ret_slot);
/* The place of exactly this word, or NULL. */
_Atomic uint64_t *cache_index_slot(const struct cache *c, const struct cache_key *key,
                                   uint64_t word);
/* old -> new (0: nothing). Claims the old record's body first and gives it up, unless same_body. h:
 * the old record's header; its slab is pinned or owned. */
bool cache_index_swap(struct cache *c, uint32_t owner, _Atomic uint64_t *slot, uint64_t old,
                      const struct cache_head *h, uint64_t new, bool same_body);
/* Makes `word`, a complete record with header h, what the key leads to. 0, -ERR_EXIST, -ERR_FULL.
 */
int cache_index_publish(struct cache_worker *w, const struct cache_head *h, uint64_t word);
/* Takes a damaged word out. */
void cache_index_damaged(struct cache_worker *w, _Atomic uint64_t *slot, uint64_t word);
/* Every word that leads into the slab, which nobody else may change. */
void cache_index_sweep(struct cache *c, uint32_t owner, uint32_t slab);
/* Whether the index leads to a record with this body. ret_slot, ret_word, ret_head as of it. */
bool cache_index_body(const struct cache *c, uint32_t body, uint32_t gen,
                      _Atomic uint64_t **ret_slot, uint64_t *ret_word, struct cache_head *ret_head);

/* ---- cache_store.c ---- */

/* From a checked header whose slab is pinned: pins the body. false: it is going away. */
bool cache_hit_begin(struct cache_worker *w, const struct cache_head *h, uint64_t word,
                     struct cache_hit *ret);
/* Writes and publishes; sets p->version. As cache_insert. */
int cache_store_record(struct cache_worker *w, struct cache_parts *p);

/* ---- cache_share.c ---- */

/* A record that nothing leads to yet is counted for its site. Ended by cache_share_made. */
void cache_share_count(struct cache *c, uint32_t slot, const struct cache_head *h, uint64_t word);
/* led_to: a word led to it, whatever came of that; else it is not counted any more. */
void cache_share_made(struct cache *c, uint32_t slot, const struct cache_head *h, uint64_t word,
                      bool led_to);
/* *place: old -> new (0: nothing), and the old record is not counted any more. h: its header; its
 * slab is pinned or owned. */
bool cache_share_swap(struct cache *c, uint32_t slot, _Atomic uint64_t *place, uint64_t old,
                      const struct cache_head *h, uint64_t new);
uint64_t cache_share_queue(const struct cache *c, uint32_t queue, uint32_t site);
/* Whether the site may store so much more within its share, which makes room for it. If not, that
 * is counted. */
bool cache_share_admit(struct cache_worker *w, uint32_t site, uint64_t bytes);
/* Ends what a dead slot had begun; before its pins go. */
void cache_share_reap(struct cache *c, uint32_t slot);
/* What the counters should say, 2 * nshare. */
void cache_share_sum(const struct cache *c, uint64_t *ret);
/* Sets the counters that are wrong and do not change meanwhile. Returns how many. */
int cache_share_repair(struct cache *c);

/* ---- cache_slab.c ---- */

bool cache_slab_pinned(const struct cache *c, uint32_t slab);
/* Room for len bytes in the worker's open slab of the queue; *ret_slab, *ret_off. forced: make room
 * by evicting. -ERR_FULL. cache_slab_took makes them part of it. */
int cache_slab_reserve(struct cache_worker *w, uint32_t queue, uint32_t len, bool forced,
                       uint32_t *ret_slab, uint32_t *ret_off);
void cache_slab_took(struct cache_worker *w, uint32_t queue, uint32_t slab, uint32_t len,
                     uint64_t pages_bytes);
void cache_slab_seal(struct cache *c, uint32_t slab, uint32_t owner);
void cache_slab_seal_own(struct cache_worker *w, uint32_t queue);
/* DRAIN or PAGES -> FREE when nothing in it is pinned or used; DRAIN -> PAGES when only pages are.
 */
bool cache_slab_close(struct cache *c, uint32_t owner, uint32_t slab);
/* CLOSE (of anyone dead) or DRAIN that cannot be freed -> PAGES. */
void cache_slab_reopen(struct cache *c, uint32_t slab, uint64_t st);
/* Counts states; *ret_free = a free one or CACHE_NONE. */
uint32_t cache_slab_scan(struct cache_worker *w, uint32_t *ret_free);
void cache_slab_release_pages(struct cache_worker *w); /* gives the half-used page slab back */

/* ---- cache_body.c ---- */

int cache_body_new(struct cache_worker *w, const struct cache_key *k, uint32_t flight,
                   uint32_t *ret_body, uint32_t *ret_gen);
/* A page for the body. -ERR_FULL. */
int cache_body_page(struct cache_worker *w, uint32_t body, uint32_t gen, uint32_t *ret_page);
bool cache_body_claim(struct cache *c, uint32_t owner, uint32_t body,
                      uint32_t gen); /* LIVE->DYING */
/* -> LIMBO, and free if nobody reads. from: the state word's code it is in, by owner. */
void cache_body_release(struct cache *c, uint32_t owner, uint32_t body, uint32_t gen,
                        enum cache_body_state from);
void cache_body_try_free(struct cache *c, uint32_t owner, uint32_t body);
bool cache_body_pinned(const struct cache *c, uint32_t body);
void cache_body_pin(struct cache_worker *w, uint32_t body);
void cache_body_unpin(struct cache_worker *w, uint32_t body);
void cache_body_free_page(struct cache *c, uint32_t page, uint32_t body, uint32_t gen);
bool cache_body_page_is_free(const struct cache *c, uint64_t owner);
/* Pieces of the stream (lead and body) of a chain, [at, at+n). *page, *index: a cursor. */
int cache_body_iov(const struct cache *c, uint32_t body, uint32_t gen, uint32_t first,
                   const uint32_t *pages, uint32_t npages, uint32_t *page, uint32_t *index,
                   uint64_t full, uint64_t at, uint64_t n, struct iovec *iov, int max,
                   size_t *ret_n);

/* ---- cache_evict.c ---- */

/* Works on up to n records. Returns false when nothing can be evicted. */
bool cache_evict_step(struct cache_worker *w, unsigned n);
/* Evicts until a slab is free (*ret) or a bound is met. */
bool cache_evict_slab(struct cache_worker *w, uint32_t *ret);
void cache_evict_pace(struct cache_worker *w, uint32_t bytes);
void cache_evict_stop(struct cache_worker *w);
/* Room for more bytes of a site within its share, by taking out what it asked for least. false:
 * there is too little of it to be found just now. */
bool cache_evict_site(struct cache_worker *w, uint32_t site, uint64_t bytes);
bool cache_ghost_take(struct cache_worker *w, const struct cache_key *k);
void cache_ghost_put(struct cache_worker *w, const struct cache_key *k);

/* ---- cache_visit.c ---- */

enum cache_visit { CACHE_VISIT_END, CACHE_VISIT_MORE, CACHE_VISIT_HIT };
/* From the record at *off of a pinned slab on, whose records end at `end`: the next one that the
 * index leads to, that is whole and that no purge of all or of a tag has reached. HIT: *ret, to be
 * released. At most *looks are looked at (MORE). Both are counted on. */
enum cache_visit cache_visit_next(struct cache_worker *w, uint32_t slab, uint32_t end,
                                  uint32_t *off, unsigned *looks, struct cache_hit *ret);

/* ---- others ---- */

/* Whether a purge reaches the record: 0 no, 1 soft, 2 gone. */
int cache_purge_test(const struct cache *c, const struct cache_scope *scope,
                     const struct cache_head *h, const uint64_t *tags);
/* The same for tags and the name all objects have, without a note on the record. */
int cache_purge_peek(const struct cache *c, const struct cache_head *h, const uint64_t *tags);
int cache_layout(struct cache *c, const struct cache_options *o);
/* Gives a cache that nobody else uses yet another key. */
void cache_rekey(struct cache *c, const struct hash_key *key);
/* Notes a change of the flight for the slots in bits; adds those that sleep to kick. */
void cache_flight_note(struct cache *c, uint32_t flight, const uint64_t bits[CACHE_SLOTS / 64],
                       uint64_t kick[CACHE_SLOTS / 64]);
/* A flight that has ended and that nobody follows becomes free. */
void cache_flight_close(struct cache *c, uint32_t owner, uint32_t flight);
/* A body that is LIVE without a record that leads to it is given up. */
void cache_reap_unreached(struct cache *c, uint32_t owner, uint32_t body);

#endif
