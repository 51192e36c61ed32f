/* The store of the response cache: one shared mapping of its own that all workers read without a
 * lock and without a copy, and that no death of a worker can hurt. It knows keys, bytes, ages and
 * purges, no HTTP: what may be stored and served is its caller's business (worker/cache/).
 *
 * The life of a request at the store:
 *
 *   key = cache_key_begin/add/end
 *   cache_lookup            1: hit, pinned. meta + cache_body() iovecs -> writev -> cache_release
 *                           0: miss
 *   cache_claim             LEAD: fetch it.  FOLLOW: another worker does, follow.
 *                           AGAIN: it came meanwhile, look up.  ALONE: fetch without the store's
 * help leader                  cache_fill_head, then {cache_fill_space, recv, cache_fill_commit}*,
 *                           cache_fill_done | cache_fill_abort
 *   follower                {cache_follow_view, cache_follow_body -> writev, cache_follow_wait}*,
 *                           cache_follow_leave;  CACHE_ARRIVAL_ORPHANED: cache_follow_take
 *   every loop turn         cache_set_time; before sleeping cache_may_sleep; after it cache_woken
 *
 * Rules that hold everywhere:
 * - Nothing here ever fails a request: every negative answer means "go on without the cache".
 * - Nothing waits for another process; every loop is bounded.
 * - Bytes are read only while pinned and after their bounds and CRC were checked. What fails a
 * check is a miss, is counted (CACHE_CTR_CORRUPT) and taken out.
 * - Do not hand bytes of the mapping to MSG_ZEROCOPY, splice or sendfile: the kernel would go on
 *   reading them after the pin. writev copies and is right.
 * - A struct cache_worker belongs to one thread. A slot that died is swept with cache_reap before
 * the slot is used again.
 * - Times: wall clock in seconds since 1970, durations in seconds. Sizes: bytes. */
#ifndef SHM_CACHE_H
#define SHM_CACHE_H

#include "base/slice.h"

#include <sys/uio.h>

#define CACHE_SLOTS    256u   /* worker slots, as SHM_SLOTS */
#define CACHE_SITES    65536u /* values of the hash of a host */
#define CACHE_TAGS     32u    /* surrogate keys of one object */
#define CACHE_NAMES    24u    /* purge names one lookup may be tested for */
#define CACHE_SIZE_MIN (64u << 10)
#define CACHE_FOREVER  UINT32_MAX
#define CACHE_UNKNOWN  UINT64_MAX /* a body length nobody has said */

struct cache;        /* process-local handle of the mapping */
struct cache_worker; /* what one worker keeps for itself: slot, open slabs, cursors */

/* ---- the mapping ---------------------------------------------------------------------------- */

struct cache_options {
    uint64_t size;       /* bytes of data, from CACHE_SIZE_MIN; 2 to 4 % of metadata come on top */
    uint64_t max_object; /* largest body; 0: a quarter of size. Cut to half of size */
    uint32_t workers;    /* how many workers are expected; 0: 4. Decides the size of slabs */
    uint32_t slab;       /* bytes of a slab, a power of two from 4 KiB to 4 MiB; 0: fitting */
    uint32_t objects; /* to have index room for, 15 bytes each; 0: size / 1 KiB. Smaller ones than
                       * that on average crowd each other out: say more */
    uint32_t slots;   /* of workers, to CACHE_SLOTS; 0: CACHE_SLOTS */
    bool hugetlb;     /* try reserved huge pages first */
};

/* Makes an empty cache in a sealed memfd. -ERR_RANGE (options), -ERR_NOMEM, -ERR_SYS. */
int cache_create(const struct cache_options *o, struct cache **ret);
/* Maps an inherited fd, which belongs to the handle from then on (not on failure). The options with
 * which it was made are checked against the file and each other. -ERR_CORRUPT (also when it is of a
 * binary with another layout), -ERR_NOMEM, -ERR_SYS. */
int cache_attach(int fd, struct cache **ret);
/* A cache in a file on tmpfs or hugetlbfs (live data in a disk's page cache would stall the loop).
 * An existing one is taken when it is whole, belongs to this user (mode 0600) and its geometry is
 * what o gives: *ret_kept is set and nothing in it is lost; run cache_reap_all before the first
 * worker. Else it is replaced by an empty one under the same name; a running process that maps the
 * old one is not disturbed. One of another geometry that is whole is the caller's: *ret_old, else
 * NULL. -ERR_INVAL (not such a file system, a link, or another's file). */
int cache_open_file(const char *path, const struct cache_options *o, struct cache **ret,
                    bool *ret_kept, struct cache **ret_old);
void cache_close(struct cache **c);
int cache_fd(const struct cache *c);
size_t cache_mapping_size(const struct cache *c);
/* Whether a cache made with these options would have the same geometry: a reload keeps it then. */
bool cache_fits(const struct cache *c, const struct cache_options *o);

/* How much of a body is summed on a hit. Heads, stored fields and page lists always are. */
enum cache_verify {
    CACHE_VERIFY_ALL,  /* each byte that is handed out: about 2 us for 64 KiB */
    CACHE_VERIFY_HEADS /* bodies not: a flipped bit in memory is served */
};
void cache_set_verify(struct cache *c, enum cache_verify v); /* of this process's handle */

/* How much of the cache the objects of one site may take, in thousandths of a percent; 100000: all
 * of it. What a site wants beyond takes the place of what it asked for least, or is not stored.
 * Sites of which a part of the hash is the same count as one: 16 bits, in caches below 128 MiB
 * fewer, but a counter for each 2 KiB. */
void cache_set_share(struct cache *c, uint32_t thousandths); /* of this process's handle */

/* ---- a worker's side ------------------------------------------------------------------------ */

/* Takes the rows of a slot that nobody lives in (never used, left, or reaped). owner: slot_oid, its
 * low byte is the slot. kick is called to wake a sleeping worker (write to its eventfd); may be
 * NULL. -ERR_RANGE, -ERR_NOMEM. */
int cache_join(struct cache *c, uint32_t owner, void (*kick)(void *arg, uint32_t slot), void *arg,
               struct cache_worker **ret);
/* Seals what is open and gives everything back. Hits, fills and follows must have ended. */
void cache_leave(struct cache_worker **w);
void cache_set_time(struct cache_worker *w, uint32_t wall_s);
/* A slice of the work of making room, some tens of microseconds at most: call it when a loop turn
 * has time left. Without it inserts do it. Returns whether there is more to do. */
bool cache_tidy(struct cache_worker *w);

/* ---- keys ----------------------------------------------------------------------------------- */

/* SipHash-1-3 with 128 bits of output, keyed per cache: no key text is stored, collisions cannot be
 * made. Parts are framed by their lengths: "a","bc" is another key than "ab","c". */
struct cache_key {
    uint64_t k0, k1;
};
struct cache_hash {
    uint64_t v0, v1, v2, v3, tail, n;
};
void cache_key_begin(const struct cache *c, struct cache_hash *h);
void cache_key_add(struct cache_hash *h, struct slice part);
struct cache_key cache_key_end(struct cache_hash *h);
/* A secondary key starts with its primary one and the salt of the variants' marker, then
 * cache_key_add of each selecting value. */
void cache_key_begin_variant(const struct cache *c, struct cache_key primary, uint64_t salt,
                             struct cache_hash *h);

/* ---- purging -------------------------------------------------------------------------------- */

/* A name that can be purged: a tag, a host, a path prefix, a URL. kind keeps them apart. */
uint64_t cache_name(const struct cache *c, uint32_t kind, struct slice text);
#define CACHE_NAME_ALL 0 /* every object of a site has this name without saying so */
/* O(1): everything that carries the name and was fetched before now is gone (soft: stale) for
 * lookups that begin after the return. site: below CACHE_SITES, or UINT32_MAX for all. */
void cache_purge(struct cache *c, uint32_t site, uint64_t name, bool soft);
/* The count an object is born with: read it before the origin is asked, so that a purge during the
 * fetch reaches the answer (cache_claim does that for fills; inserts pass it in cache_attr.birth).
 */
uint64_t cache_birth(const struct cache *c, uint32_t site);

/* Whose purges concern a lookup. names is called only when something was purged since the object
 * was last tested, and fills at most CACHE_NAMES hashes; the object's tags are tested besides. */
struct cache_scope {
    uint32_t site;
    unsigned (*names)(const void *arg, uint64_t *ret); /* may be NULL */
    const void *arg;
    bool beside; /* for what stands beside an object: no purge is looked at, nothing counted */
};

/* Whether what was born then, with these tags and the names of scope, was purged since, be it
 * softly. */
bool cache_purged(const struct cache *c, const struct cache_scope *scope, const uint64_t *tags,
                  unsigned ntags, uint64_t birth);

/* ---- objects -------------------------------------------------------------------------------- */

enum cache_type {
    CACHE_OBJECT,  /* a response */
    CACHE_VARY,    /* marker at a primary key: meta says which fields select, see
                      cache_key_begin_variant */
    CACHE_PASS,    /* hit-for-miss: requests for this key are not collapsed and not stored */
    CACHE_ENCODED, /* the body of a response once more, in another coding: worker/cache/coded.h */
    CACHE_TYPE__COUNT
};

/* What the store keeps for its caller. */
struct cache_attr {
    uint8_t type;
    uint16_t site;     /* hash of the host, below CACHE_SITES */
    uint32_t user;     /* status, flags ... */
    uint32_t base;     /* wall clock second at which its age was 0 */
    uint32_t fresh;    /* freshness lifetime */
    uint32_t swr, sie; /* stale-while-revalidate, -if-error; rounded down to 1/2048 */
    uint64_t birth;    /* cache_birth() before the fetch */
};

struct cache_hit {
    struct cache_attr attr;
    uint64_t version;  /* grows with each store into the cache */
    bool soft;         /* softly purged: stale whatever attr says */
    uint64_t size;     /* of the body */
    struct slice meta; /* as given to insert; in the mapping, until cache_release */
    const uint64_t *tags;
    unsigned ntags;
    struct cache_key key;
    /* The store's own. */
    uint64_t word;
    const unsigned char *rec;
    const unsigned char *tail;
    const uint32_t *pages;
    uint32_t slab, len, body, body_gen, lead, npages, at_page, at_index, checked;
};

/* 1: *ret is a pinned hit, cache_release ends it; 0: miss. scope NULL: no purge is looked at. Does
 * not ask whether it is fresh. */
int cache_lookup(struct cache_worker *w, const struct cache_key *key,
                 const struct cache_scope *scope, struct cache_hit *ret);
void cache_release(struct cache_worker *w, struct cache_hit *h);
/* Pieces of body bytes [off, off+n), cut to the body's end, in at most max iovecs. Returns how many
 * were filled; *ret_n = their bytes, which may be less than n. -ERR_CORRUPT: the object was damaged
 * (it has been taken out); end the response as broken. */
int cache_body(struct cache_worker *w, struct cache_hit *h, uint64_t off, uint64_t n,
               struct iovec *iov, int max, size_t *ret_n);
/* Slow clients: a hit pins the slab its head lies in. When cache_hit_wanted says that others wait
 * for that slab, copy what of the record is still needed into a buffer of cache_hit_detach_size
 * bytes (at most a page and the list of pages) and the pin is gone; the hit remains usable, buf
 * must outlive it. meta and tags are no longer valid. */
bool cache_hit_wanted(const struct cache_worker *w, const struct cache_hit *h);
size_t cache_hit_detach_size(const struct cache_hit *h);
void cache_hit_detach(struct cache_worker *w, struct cache_hit *h, void *buf);

/* Stores a complete object (copied). Replaces what has the key. 0, -ERR_RANGE (too large, too many
 * tags, or more than the share of its site), -ERR_FULL (no room just now), -ERR_EXIST (a newer one
 * came in between). */
int cache_insert(struct cache_worker *w, const struct cache_key *key, const struct cache_attr *attr,
                 const uint64_t *tags, unsigned ntags, struct slice meta, struct slice body);
/* New meta and attributes for the object of a hit (a 304 came); its body is kept, bodies of pages
 * without a copy. The hit remains what it was and must be released. -ERR_NOENT: it was replaced or
 * removed meanwhile; -ERR_RANGE, -ERR_FULL. */
int cache_refresh(struct cache_worker *w, const struct cache_hit *h, const struct cache_attr *attr,
                  const uint64_t *tags, unsigned ntags, struct slice meta);
/* Removes the object of a hit, or whatever has the key. 1 removed, 0 nothing there. */
int cache_drop(struct cache_worker *w, struct cache_hit *h);
int cache_remove(struct cache_worker *w, const struct cache_key *key);
/* How often this key was missed lately (this one included; 1..7, 7 also for what was evicted a
 * short time ago): for min_uses. Lossy, never wrong by more than a neighbour's hash. */
unsigned cache_uses(struct cache_worker *w, const struct cache_key *key);

/* Calls fn for objects in the index from *cursor on (0 first), at most n buckets; sets *cursor. The
 * hit is valid during the call. Returns false when the end was reached. */
bool cache_walk(struct cache_worker *w, uint64_t *cursor, unsigned n,
                void (*fn)(void *arg, struct cache_hit *h), void *arg);

/* ---- objects that are arriving -------------------------------------------------------------- */

enum cache_claimed {
    CACHE_LEAD,   /* *ret_fill is yours: end it with done or abort */
    CACHE_FOLLOW, /* *ret_follow is yours: end it with leave */
    CACHE_AGAIN,  /* a version newer than seen is stored: look up */
    CACHE_ALONE   /* the table is full: fetch for yourself */
};

struct cache_fill {
    struct cache_key key;
    struct cache_attr attr;
    uint32_t flight, flight_gen; /* flight UINT32_MAX: nobody can follow */
    uint32_t body, body_gen;
    uint32_t page, room; /* current page, bytes free in it */
    uint32_t first, npages, ntags, lead;
    uint64_t size, expect; /* lead + body bytes */
    uint64_t version;      /* of an object that comes back from disk; 0: a new one */
    bool headed, orphaned;
    bool main; /* with version: it had earned its place in the main queue */
};

struct cache_follow {
    uint32_t flight, flight_gen;
    uint32_t body, body_gen;
    uint32_t at_page, at_index;
    uint64_t seen_state, seen_size;
    bool attached;
};

enum cache_arrival {
    CACHE_ARRIVAL_WAITING,  /* no head yet */
    CACHE_ARRIVAL_STREAM,   /* head known, body grows */
    CACHE_ARRIVAL_DONE,     /* complete: if attached, read it to its end; else look up */
    CACHE_ARRIVAL_FAILED,   /* the fetch failed with outcome */
    CACHE_ARRIVAL_PASS,     /* not cacheable: all go to the origin, not one by one */
    CACHE_ARRIVAL_ORPHANED, /* the leader died; cache_follow_take, or treat as failed */
    CACHE_ARRIVAL_GONE      /* the place was given to another: look up, else claim again */
};

struct cache_view {
    enum cache_arrival state;
    bool attached;    /* attr, meta, size are valid (also when DONE, FAILED or ORPHANED) */
    uint64_t size;    /* body bytes that can be read */
    uint64_t expect;  /* total as announced, or CACHE_UNKNOWN */
    uint32_t outcome; /* of FAILED and PASS: what the leader said */
    struct cache_attr attr;
    struct slice meta; /* valid until cache_follow_leave */
    const uint64_t *tags;
    unsigned ntags;
};

/* seen: version of the stale object that is being revalidated; 0: none. scope: what was asked for
 * before a purge that concerns it is not followed; NULL: site 0, no purge is looked at. */
enum cache_claimed cache_claim(struct cache_worker *w, const struct cache_key *key,
                               const struct cache_scope *scope, uint64_t seen,
                               struct cache_fill *ret_fill, struct cache_follow *ret_follow);
/* A fill that nobody can follow, after ALONE: stored when done. */
void cache_fill_private(struct cache_worker *w, const struct cache_key *key, uint32_t site,
                        struct cache_fill *ret);
/* The head is known: followers see it. expect: body length or CACHE_UNKNOWN. attr->birth is
 * ignored, the fill has it. meta (and tags) must fit into a page. After -ERR_RANGE (too large,
 * also for its site's share) or -ERR_FULL abort the fill with PASS. */
int cache_fill_head(struct cache_worker *w, struct cache_fill *f, const struct cache_attr *attr,
                    const uint64_t *tags, unsigned ntags, struct slice meta, uint64_t expect);
/* Where the next body bytes may be received to: never empty on 0. -ERR_FULL no room,
 * -ERR_RANGE more than max_object or than the share of its site. */
int cache_fill_space(struct cache_worker *w, struct cache_fill *f, struct iovec *ret);
/* n bytes of that space are filled: readers see them. */
void cache_fill_commit(struct cache_worker *w, struct cache_fill *f, size_t n);
/* Both for bytes that lie elsewhere. */
int cache_fill_append(struct cache_worker *w, struct cache_fill *f, struct slice bytes);
/* The leader's own client reads as a follower does (its pin keeps the bytes beyond
 * cache_fill_done). After cache_fill_head. */
void cache_fill_follow(struct cache_worker *w, const struct cache_fill *f,
                       struct cache_follow *ret);
/* Complete: it becomes a hit for everybody, followers finish. Ends the fill in every case. 0, or as
 * cache_insert when it could not be stored (followers are served all the same). */
int cache_fill_done(struct cache_worker *w, struct cache_fill *f);
/* pass: not cacheable, followers go alone; else failed. outcome: told to followers. */
void cache_fill_abort(struct cache_worker *w, struct cache_fill *f, bool pass, uint32_t outcome);
/* Whether anybody follows: a leader whose client has gone goes on then. */
bool cache_fill_followed(const struct cache_worker *w, const struct cache_fill *f);

void cache_follow_view(struct cache_worker *w, struct cache_follow *f, struct cache_view *ret);
/* Of an attached follower: as cache_body, within view.size. */
int cache_follow_body(struct cache_worker *w, struct cache_follow *f, uint64_t off, uint64_t n,
                      struct iovec *iov, int max, size_t *ret_n);
/* Asks to be woken at the next change since the last view. false: something has changed already,
 * look again. */
bool cache_follow_wait(struct cache_worker *w, struct cache_follow *f);
void cache_follow_leave(struct cache_worker *w, struct cache_follow *f);
/* Of an ORPHANED arrival: become its leader, at byte view.size of the body. One of the followers
 * gets it: 0. The follow remains and is left as usual. -ERR_AGAIN: another one has it, view again;
 * -ERR_NOENT: nothing to take over. */
int cache_follow_take(struct cache_worker *w, struct cache_follow *f, struct cache_fill *ret);

/* Before the worker blocks: true when nothing has been noted for it (others kick it from then on).
 * After it woke, and once per turn: cache_woken takes up to max flight numbers
 * (cache_follow.flight) that changed. */
bool cache_may_sleep(struct cache_worker *w);
unsigned cache_woken(struct cache_worker *w, uint32_t *ret_flights, unsigned max);

/* ---- death, checks, figures ----------------------------------------------------------------- */

/* Sweeps all that a dead slot left. Any process may run it, again after its own death. The slots to
 * be kicked afterwards are in kick (a bit each). */
void cache_reap(struct cache *c, uint32_t slot, uint64_t kick[CACHE_SLOTS / 64]);
/* After all processes are gone (a file that was kept): all slots, and objects that nothing leads
 * to.
 */
void cache_reap_all(struct cache *c);

/* Checks every invariant; one line per finding into out. Returns how many. still: no process uses
 * the cache and every slot was reaped, so that nothing may be in motion. */
struct buf;
int cache_fsck(const struct cache *c, bool still, struct buf *out);
/* Takes out what is damaged: index words that lead nowhere, bodies nobody leads to, slabs in an
 * impossible state, pins of slots nobody uses. w's process only must be sane. Returns how many. */
int cache_repair(struct cache_worker *w);

#define CACHE_COUNTERS(X)                                                                          \
    X(HIT, "hits")                                                                                 \
    X(MISS, "misses")                                                                              \
    X(INSERT, "inserts")                                                                           \
    X(REPLACE, "replaced")                                                                         \
    X(REFRESH, "refreshed")                                                                        \
    X(REMOVE, "removed")                                                                           \
    X(PURGED, "purged_met")                                                                        \
    X(CROWDED, "crowded_out")                                                                      \
    X(EVICT, "evicted")                                                                            \
    X(PROMOTE, "promoted")                                                                         \
    X(KEEP, "kept")                                                                                \
    X(EVICT_BYTES, "evicted_bytes")                                                                \
    X(COPY_BYTES, "copied_bytes")                                                                  \
    X(LEAD, "fills")                                                                               \
    X(FOLLOW, "follows")                                                                           \
    X(DONE, "fills_done")                                                                          \
    X(FAILED, "fills_failed")                                                                      \
    X(TAKEOVER, "fills_taken_over")                                                                \
    X(NO_ROOM, "no_room")                                                                          \
    X(OVER_SHARE, "refused_over_share")                                                            \
    X(RACE, "lost_races")                                                                          \
    X(PERSIST, "persisted_bytes")                                                                  \
    X(REFUSED, "refused_files")                                                                    \
    X(RESTORE, "restored")                                                                         \
    X(CORRUPT, "corrupt")

enum cache_ctr {
#define CACHE_CTR(id, name) CACHE_CTR_##id,
    CACHE_COUNTERS(CACHE_CTR)
#undef CACHE_CTR
        CACHE_CTR__COUNT
};
const char *cache_ctr_name(enum cache_ctr i);

struct cache_stat {
    uint64_t size, mapping; /* bytes of data; of everything */
    uint32_t slab, page;    /* bytes */
    uint32_t slabs, slabs_free, slabs_open, slabs_small, slabs_main, slabs_paged, slabs_draining;
    uint64_t small_bytes, main_bytes; /* in the two queues, bodies included */
    uint64_t objects, index_room;
    uint64_t encoded, encoded_bytes; /* of the objects: encoded copies of others, their bodies */
    uint64_t pages, pages_used, bodies, flights;
    uint64_t max_object;
    uint64_t huge; /* bytes backed by huge pages */
    /* Of the persister: what it has on disk, and slabs that are not there as they are. */
    uint64_t disk_files, disk_bytes, disk_pending;
    uint64_t ctr[CACHE_CTR__COUNT];
};
/* Walks descriptors and index: for people, not for each request. */
void cache_stat(const struct cache *c, struct cache_stat *ret);
/* Sets encoded and encoded_bytes, which cache_stat leaves at 0. Reads heads of records that nobody
 * holds, as cache_fsck does: the count is right when nothing moves. */
void cache_stat_encoded(const struct cache *c, struct cache_stat *ret);

/* Bytes of a site: heads, stored fields and bodies of what can be found. */
uint64_t cache_site_bytes(const struct cache *c, uint32_t site);
/* Sites below this number are counted each for itself, others with them: by their remainder. */
uint32_t cache_site_count(const struct cache *c);

#endif
