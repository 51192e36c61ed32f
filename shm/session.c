/* TLS 1.2 sessions in the segment: a set-associative table with an owner word per place. */
#include "shm/session.h"

#include "base/err.h"
#include "base/hash.h"
#include "shm/crc32c.h"
#include "shm/layout.h"

static struct session_head *head(const struct segment *s, uint32_t place)
{
    return layout_at(s, AREA_SESSION_HEAD, (size_t)place * sizeof(struct session_head));
}

static struct session_body *body(const struct segment *s, uint32_t place)
{
    return layout_at(s, AREA_SESSION_BODY, (size_t)place * sizeof(struct session_body));
}

/* Ids of clients are hostile: the hash has a secret. Returns the first place of the set. */
static uint32_t place_of(const struct segment *s, const uint8_t *id, size_t nid, uint64_t *ret_tag)
{
    const struct hash_key k = layout_secret(s);
    const uint64_t h = hash_sip13(&k, id, nid);

    *ret_tag = h ? h : 1;
    return (uint32_t)((h >> 32) % (s->nsessions / SESSION_WAYS)) * SESSION_WAYS;
}

/* Becomes the writer of a place whose state was w. The slot says first which place it goes for, so
 * that the reaper has to look at one only. */
static bool take(struct segment *s, slot_oid me, uint32_t place, uint64_t w)
{
    atomic_store(&layout_slot(s, me & 0xff)->session_place, place + 1);
    if (session_owner(w) == 0 &&
        atomic_compare_exchange_strong(&head(s, place)->state, &w, w | (uint64_t)me))
        return true;
    atomic_store(&layout_slot(s, me & 0xff)->session_place, 0);
    return false;
}

static void give(struct segment *s, slot_oid me, uint32_t place)
{
    struct session_head *h = head(s, place);

    atomic_store(&h->state, session_next(atomic_load(&h->state)));
    atomic_store(&layout_slot(s, me & 0xff)->session_place, 0);
}

uint32_t session_sum(uint64_t tag, uint64_t size, const uint64_t *w)
{
    const uint64_t rest[2] = {tag, size};

    return crc32c(w, sizeof(uint64_t) * SESSION_WORDS) ^ crc32c(rest, sizeof(rest));
}

/* The place to write to: that of the same id, else the one that expires first; what is free expired
 * at 0. False when all are being written. */
static bool choose(struct segment *s, uint32_t set, uint64_t tag, uint32_t *ret_place,
                   uint64_t *ret_state)
{
    uint64_t best = UINT64_MAX;
    bool found = false;

    for (uint32_t i = set; i < set + SESSION_WAYS; i++) {
        const struct session_head *h = head(s, i);
        const uint64_t w = atomic_load(&h->state), t = atomic_load(&h->tag);
        const uint64_t e = t == 0 ? 0 : atomic_load(&h->expires_ms);

        if (session_owner(w) != 0)
            continue;
        if (t == tag || !found || e < best) {
            *ret_place = i;
            *ret_state = w;
            best = e;
            found = true;
        }
        if (t == tag)
            break;
    }
    return found;
}

int session_put(struct segment *s, slot_oid me, const uint8_t *id, size_t nid, const uint8_t *p,
                size_t n, uint64_t expires_ms)
{
    uint64_t w[SESSION_WORDS] = {0}, tag, state, size;
    uint32_t set, place;
    struct session_head *h;
    struct session_body *b;

    if (me == 0 || (me & 0xff) >= s->nslots || nid == 0 || nid > SESSION_ID_MAX || n == 0 ||
        n > SESSION_MAX)
        return -ERR_RANGE;
    set = place_of(s, id, nid, &tag);
    for (int t = 0;; t++) {
        if (t == LAYOUT_TRIES || !choose(s, set, tag, &place, &state))
            return -ERR_FULL;
        if (take(s, me, place, state))
            break;
    }
    size = (uint64_t)nid << 16 | (uint64_t)n;
    memcpy(w, id, nid);
    memcpy((unsigned char *)w + SESSION_ID_MAX, p, n);
    h = head(s, place);
    b = body(s, place);
    atomic_store_explicit(&h->tag, tag, memory_order_release);
    atomic_store_explicit(&h->expires_ms, expires_ms, memory_order_release);
    atomic_store_explicit(&h->size, (uint64_t)session_sum(tag, size, w) << 32 | size,
                          memory_order_release);
    for (size_t i = 0; i < SESSION_WORDS; i++)
        atomic_store_explicit(&b->w[i], w[i], memory_order_release);
    give(s, me, place);
    explicit_bzero(w, sizeof(w));
    return 0;
}

/* A copy of one place as it was at one moment. False: it is another id's, or free, or written too
 * often to be read. */
static bool copy(const struct segment *s, uint32_t place, uint64_t tag, uint64_t *ret_expires_ms,
                 uint64_t *ret_size, uint64_t w[SESSION_WORDS])
{
    const struct session_head *h = head(s, place);
    const struct session_body *b = body(s, place);
    uint64_t state = atomic_load(&h->state);

    for (int t = 0; t < LAYOUT_TRIES; t++) {
        uint64_t again;

        if (session_owner(state) != 0 || atomic_load_explicit(&h->tag, memory_order_acquire) != tag)
            return false;
        *ret_expires_ms = atomic_load_explicit(&h->expires_ms, memory_order_acquire);
        *ret_size = atomic_load_explicit(&h->size, memory_order_acquire);
        for (size_t i = 0; i < SESSION_WORDS; i++)
            w[i] = atomic_load_explicit(&b->w[i], memory_order_acquire);
        again = atomic_load(&h->state);
        if (again == state)
            return true;
        state = again;
    }
    return false;
}

ssize_t session_get(struct segment *s, const uint8_t *id, size_t nid, uint64_t now_ms, uint8_t *out,
                    size_t cap)
{
    uint64_t w[SESSION_WORDS], tag, expires_ms, size;
    uint32_t set;
    ssize_t rc = -ERR_NOENT;

    if (nid == 0 || nid > SESSION_ID_MAX)
        return -ERR_NOENT;
    set = place_of(s, id, nid, &tag);
    for (uint32_t i = set; i < set + SESSION_WAYS; i++) {
        size_t n;

        if (!copy(s, i, tag, &expires_ms, &size, w) || expires_ms <= now_ms)
            continue;
        n = size & 0xffff;
        if (n == 0 || n > SESSION_MAX || session_sum(tag, (uint32_t)size, w) != size >> 32) {
            rc = -ERR_CORRUPT;
            continue;
        }
        if ((size >> 16 & 0xffff) != nid || memcmp(w, id, nid) != 0)
            continue; /* another id with the same hash */
        rc = n > cap ? -ERR_RANGE : (ssize_t)n;
        if (rc > 0)
            memcpy(out, (const unsigned char *)w + SESSION_ID_MAX, n);
        break;
    }
    explicit_bzero(w, sizeof(w));
    return rc;
}

/* For the one who owns the place. The tag first: a place without one is free, whatever else it
 * says. */
static void erase(struct segment *s, uint32_t place)
{
    struct session_head *h = head(s, place);
    struct session_body *b = body(s, place);

    atomic_store_explicit(&h->tag, 0, memory_order_release);
    atomic_store_explicit(&h->expires_ms, 0, memory_order_release);
    atomic_store_explicit(&h->size, 0, memory_order_release);
    for (size_t i = 0; i < SESSION_WORDS; i++)
        atomic_store_explicit(&b->w[i], 0, memory_order_release);
}

void session_remove(struct segment *s, slot_oid me, const uint8_t *id, size_t nid)
{
    uint64_t tag;
    uint32_t set;

    if (me == 0 || (me & 0xff) >= s->nslots || nid == 0 || nid > SESSION_ID_MAX)
        return;
    set = place_of(s, id, nid, &tag);
    for (uint32_t i = set; i < set + SESSION_WAYS; i++) {
        const struct session_head *h = head(s, i);
        const uint64_t w = atomic_load(&h->state);

        /* Another writer between the two looks makes take() fail. */
        if (atomic_load(&h->tag) != tag || !take(s, me, i, w))
            continue;
        erase(s, i);
        give(s, me, i);
    }
}

void session_reap(struct segment *s, uint32_t slot)
{
    _Atomic uint32_t *note = &layout_slot(s, slot)->session_place;
    const uint32_t place = atomic_load(note) - 1; /* 0 becomes one beyond every table */

    if (place < s->nsessions) {
        _Atomic uint64_t *state = &head(s, place)->state;
        uint64_t w = atomic_load(state);

        /* Half written: nobody else touches it before its owner word is free. */
        if (session_owner(w) != 0 && (session_owner(w) & 0xff) == slot) {
            erase(s, place);
            atomic_compare_exchange_strong(state, &w, session_next(w));
        }
    }
    atomic_store(note, 0);
}
