/* What lies where in the segment; for the files of shm/ and their tests only. Everybody else uses
 * the other headers.
 *
 * Rules: fixed-width words, no pointers, no bool or enum fields. Every value read from here may
 * have been scribbled on by a dying process: it is loaded once, masked or bounded, then used.
 * Positions come from the process-local handle, never from the segment. */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include "base/addr.h"
#include "base/hash.h"
#include "shm/abuse.h"
#include "shm/cert.h"
#include "shm/counter.h"
#include "shm/resolve.h"
#include "shm/segment.h"
#include "shm/server.h"
#include "shm/session.h"
#include "shm/slot.h"
#include "shm/ticket.h"

#include <stdatomic.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "shared words must be lock-free");

#define LAYOUT_MAGIC   0x31676573644d5052ull /* "RPMdseg1", little-endian */
#define LAYOUT_VERSION 2u
#define LAYOUT_SUPER_B 4096u /* offset of the second superblock */
#define LAYOUT_TRIES   8     /* bound of every CAS loop */

enum layout_area {
    AREA_HOT,
    AREA_SLOT,
    AREA_PANIC,
    AREA_COUNTER,
    AREA_GAUGE,
    AREA_SERVER_KEY,
    AREA_SERVER,
    AREA_SERVER_ROW,
    AREA_SERIES_HASH,
    AREA_SERIES_NAME,
    AREA_SERIES_SEEN,
    AREA_SERIES_ROW,
    AREA_NAME_HASH,
    AREA_NAME,
    AREA_SECRET,
    AREA_TICKET,
    AREA_CERT_KEY,
    AREA_CERT,
    AREA_ABUSE,
    AREA_SESSION_HEAD,
    AREA_SESSION_BODY,
    AREA__COUNT
};

/* Rows of each table. */
struct layout_counts {
    uint32_t slots, servers, series, names, certs, sessions, abusers, spare;
};

/* Immutable after creation, in two copies. crc covers everything before it. */
struct superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t abi; /* CRC32C of struct sizes and counter names: two binaries agree or do not share */
    uint64_t size;
    struct layout_counts count;
    uint64_t off[AREA__COUNT];
    uint32_t spare;
    uint32_t crc;
};
_Static_assert(sizeof(struct superblock) <= LAYOUT_SUPER_B, "superblock fits its page");
_Static_assert(offsetof(struct superblock, off) == 56, "superblock layout");

struct layout_hot {
    _Alignas(64) _Atomic uint32_t slot_bound;
    _Alignas(64) _Atomic uint32_t server_bound;
    _Atomic uint32_t series_count, name_count, cert_bound;
    _Alignas(64) _Atomic uint32_t server_epoch;
};
_Static_assert(sizeof(struct layout_hot) == 192, "hot words");

/* id = state:8 | incarnation:24 | pid:32: the only word that says who lives in the slot. */
struct slot_rec {
    _Alignas(64) _Atomic uint64_t id;
    _Atomic uint64_t started_ms, start_time;
    _Atomic uint32_t generation, worker;
    _Alignas(64) _Atomic uint64_t heartbeat_ms;
    _Atomic uint32_t session_place; /* it may own this place + 1; 0 = none */
};
_Static_assert(sizeof(struct slot_rec) == 128 && offsetof(struct slot_rec, heartbeat_ms) == 64,
               "slot layout");

#define SERVER_NAME_MAX 127u
struct server_rec {
    /* What each request reads; written only when something changes. */
    _Alignas(64) _Atomic uint64_t circuit; /* see server_circuit.c */
    _Atomic uint64_t window;
    _Atomic uint32_t probe_owner; /* slot_oid */
    _Atomic uint32_t admin;
    _Atomic uint32_t weight, last_error;
    _Atomic uint64_t want[SHM_SLOTS / 64]; /* bit per slot */
    _Alignas(64) _Atomic uint64_t since_ms;
    _Atomic uint64_t idle_note; /* ms:32 | noted_s:32 */
    _Atomic uint32_t used_gen;
    _Atomic uint32_t name_len;
    uint64_t spare[5];
    char name[SERVER_NAME_MAX + 1];
};
_Static_assert(sizeof(struct server_rec) == 256 && offsetof(struct server_rec, since_ms) == 64,
               "server layout");
_Static_assert(sizeof(struct server_row) == 128, "server row layout");

#define SERIES_NAME_MAX 119u
struct series_name_rec {
    _Atomic uint32_t len;
    uint32_t spare;
    char name[SERIES_NAME_MAX + 1];
};
_Static_assert(sizeof(struct series_name_rec) == 128, "series name layout");
_Static_assert(sizeof(struct series_row) == 1152, "series row layout");
_Static_assert(sizeof(union addr) == 28, "an address as it is stored");

#define RESOLVE_NAME_MAX 255u
struct resolve_stored {
    uint64_t resolved_ms, expires_ms;
    uint32_t n, error;
    union addr addr[RESOLVE_ADDRS];
};
#define RESOLVE_WORDS (sizeof(struct resolve_stored) / 8)
_Static_assert(sizeof(struct resolve_stored) == 472, "stored answer layout");
/* Two buffers: sequence number n shows buffer n & 1, its writer fills the other one. A death in the
 * middle leaves nothing. */
struct resolve_rec {
    _Alignas(64) _Atomic uint64_t state; /* sequence:32 | version:32 */
    _Atomic uint32_t writer;             /* slot_oid of who fills the hidden buffer */
    _Atomic uint32_t name_len;
    char name[RESOLVE_NAME_MAX + 1];
    _Atomic uint64_t buf[2][RESOLVE_WORDS];
};
_Static_assert(sizeof(struct resolve_rec) == 1216 && offsetof(struct resolve_rec, name) == 16,
               "resolver entry layout");

/* The number of a ring says which buffer shows it, as above; 0 = none yet. */
struct ticket_stored {
    uint32_t n, crc;
    struct ticket_key key[TICKET_KEYS];
};
#define TICKET_WORDS (sizeof(struct ticket_stored) / 8)
_Static_assert(sizeof(struct ticket_stored) == 360, "stored ring layout");
struct ticket_rec {
    _Alignas(64) _Atomic uint32_t seq;
    _Alignas(64) _Atomic uint64_t buf[2][TICKET_WORDS];
};
_Static_assert(sizeof(struct ticket_rec) == 832, "ring layout");

#define CERT_NAME_MAX 127u
struct cert_stored {
    uint32_t names, loaded, failed, spare;
    int64_t not_after_s;
    uint64_t changed_ms;
    char first_name[64], error[96];
};
#define CERT_WORDS (sizeof(struct cert_stored) / 8)
_Static_assert(sizeof(struct cert_stored) == 192, "stored certificate layout");
struct cert_rec {
    _Alignas(64) _Atomic uint64_t state; /* sequence:32 | 1 when something is shown */
    _Atomic uint32_t writer;             /* slot_oid of who fills the hidden buffer */
    _Atomic uint32_t used_gen;
    _Atomic uint32_t name_len;
    uint32_t spare;
    char name[CERT_NAME_MAX + 1];
    _Alignas(64) _Atomic uint64_t buf[2][CERT_WORDS];
};
_Static_assert(sizeof(struct cert_rec) == 576 && offsetof(struct cert_rec, name) == 24,
               "certificate layout");

#define ABUSE_WAYS   4u
#define SESSION_WAYS 4u
/* Heads and bodies apart, so that a search for what is not there touches two lines. A tag of 0 says
 * that the place is free. */
struct session_head {
    _Atomic uint64_t state; /* sequence:32 | slot_oid of who writes: nobody else reads or writes */
    _Atomic uint64_t tag, expires_ms;
    _Atomic uint64_t size; /* checksum:32 | bytes of the id:16 | bytes of the session:16 */
};
struct session_body {
    _Atomic uint64_t w[(SESSION_ID_MAX + SESSION_MAX) / 8]; /* id, session */
};
#define SESSION_WORDS ((SESSION_ID_MAX + SESSION_MAX) / 8)
_Static_assert(sizeof(struct session_head) == 32 && sizeof(struct session_body) == 512,
               "session layout");

struct segment {
    int fd;
    size_t size;
    unsigned char *base;
    uint32_t nslots, nservers, nseries, nnames, ncerts, nsessions, nabuse;
    uint32_t counter_stride, gauge_stride, seen_words;
    size_t server_stride; /* bytes of one slot's server rows */
    uint64_t off[AREA__COUNT];
};

/* Fills everything of s but fd and base from the counts. -ERR_RANGE. */
int layout_fill(struct segment *s, const struct layout_counts *c);
void layout_superblock(const struct segment *s, struct superblock *ret);

static inline void *layout_at(const struct segment *s, enum layout_area a, size_t offset)
{
    return s->base + s->off[a] + offset;
}
static inline struct layout_hot *layout_hot(const struct segment *s)
{
    return layout_at(s, AREA_HOT, 0);
}
static inline struct slot_rec *layout_slot(const struct segment *s, uint32_t slot)
{
    return layout_at(s, AREA_SLOT, (size_t)slot * sizeof(struct slot_rec));
}
static inline struct server_rec *layout_server(const struct segment *s, uint32_t id)
{
    return layout_at(s, AREA_SERVER, (size_t)id * sizeof(struct server_rec));
}
static inline struct server_row *layout_server_row(const struct segment *s, uint32_t slot,
                                                   uint32_t id)
{
    return layout_at(s, AREA_SERVER_ROW, slot * s->server_stride + id * sizeof(struct server_row));
}
static inline struct gauge_row *layout_gauge_row(const struct segment *s, uint32_t slot)
{
    return layout_at(s, AREA_GAUGE, (size_t)slot * s->gauge_stride);
}
static inline struct series_row *layout_series_row(const struct segment *s, uint32_t slot,
                                                   uint32_t id)
{
    return layout_at(s, AREA_SERIES_ROW,
                     ((size_t)slot * s->nseries + id) * sizeof(struct series_row));
}
static inline struct series_name_rec *layout_series_name(const struct segment *s, uint32_t id)
{
    return layout_at(s, AREA_SERIES_NAME, (size_t)id * sizeof(struct series_name_rec));
}
static inline struct resolve_rec *layout_name(const struct segment *s, uint32_t id)
{
    return layout_at(s, AREA_NAME, (size_t)id * sizeof(struct resolve_rec));
}
/* The identity words of servers, series and names stand in arrays of their own so that a search
 * reads few lines. */
static inline _Atomic uint64_t *layout_words(const struct segment *s, enum layout_area a)
{
    return layout_at(s, a, 0);
}
static inline uint32_t layout_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Random since creation: hashes of what strangers choose are keyed with it, alike in all workers.
 */
static inline struct hash_key layout_secret(const struct segment *s)
{
    const _Atomic uint64_t *w = layout_words(s, AREA_SECRET);

    return (struct hash_key){atomic_load_explicit(&w[0], memory_order_relaxed),
                             atomic_load_explicit(&w[1], memory_order_relaxed)};
}

/* Of the slot's id word. */
static inline uint32_t slot_word_state(uint64_t w)
{
    return (uint32_t)(w & 0xff);
}
static inline uint32_t slot_word_inc(uint64_t w)
{
    return (uint32_t)(w >> 8) & 0xffffffu;
}
/* Where and how far a resolver entry or server is in use; scribbled counts are cut to the table. */
static inline uint32_t layout_server_bound(const struct segment *s)
{
    return layout_min(atomic_load_explicit(&layout_hot(s)->server_bound, memory_order_acquire),
                      s->nservers);
}
void server_reap(struct segment *s,
                 uint32_t slot); /* steps of slot_reap: every word of the dead slot */
void resolve_reap(struct segment *s, uint32_t slot);
void cert_reap(struct segment *s, uint32_t slot);
void session_reap(struct segment *s, uint32_t slot);

/* Of a place's state word: its owner, and the word that gives it back. */
static inline uint32_t session_owner(uint64_t w)
{
    return (uint32_t)w;
}
static inline uint64_t session_next(uint64_t w)
{
    return ((w >> 32) + 1) << 32;
}
/* The checksum of a place; w: SESSION_WORDS words, size without its checksum. */
uint32_t session_sum(uint64_t tag, uint64_t size, const uint64_t *w);

#endif
