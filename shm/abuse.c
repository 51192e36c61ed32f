/* Points of misbehaviour in the segment: sets of four words, each changed by one CAS. */
#include "shm/abuse.h"

#include "base/hash.h"
#include "shm/layout.h"

/* A word: tag:18 | points:26 (6 of them a fraction) | time:20 in eighths of a second, which come
 * around every 36 hours. Time stands still within an eighth, so that many small steps cannot add up
 * to nothing but rounding. */
#define TAG_MASK    0x3ffffu
#define POINTS_MASK 0x3ffffffu
#define TIME_MASK   0xfffffu
#define FRACTION    6
#define UNIT_MS     125u
#define WINDOW      (ABUSE_WINDOW_MS / UNIT_MS)
_Static_assert(ABUSE_WINDOW_MS % UNIT_MS == 0, "whole units");
_Static_assert(ABUSE_POINTS_MAX == POINTS_MASK >> FRACTION, "the most a word holds");

static uint32_t tag_of(uint64_t w)
{
    return (uint32_t)(w >> 46) & TAG_MASK;
}

static uint32_t unit_of(uint64_t now_ms)
{
    return (uint32_t)(now_ms / UNIT_MS) & TIME_MASK;
}

/* What is left of a word's points, with the fraction. */
static uint32_t left(uint64_t w, uint32_t unit)
{
    const uint32_t age = (unit - (uint32_t)w) & TIME_MASK;
    const uint64_t points = (uint32_t)(w >> 20) & POINTS_MASK;

    /* Another worker's clock may be a moment ahead. */
    if (age > TIME_MASK - WINDOW)
        return (uint32_t)points;
    return age >= WINDOW ? 0 : (uint32_t)(points * (WINDOW - age) / WINDOW);
}

static _Atomic uint64_t *set_of(const struct segment *s, uint64_t key)
{
    return layout_words(s, AREA_ABUSE) + (key >> 32) % (s->nabuse / ABUSE_WAYS) * ABUSE_WAYS;
}

uint64_t abuse_key(const struct segment *s, const union addr *a)
{
    const struct hash_key k = layout_secret(s);
    uint8_t id[9] = {0};
    uint64_t h;

    if (a->sa.sa_family == AF_INET) {
        id[0] = 4;
        memcpy(id + 1, &a->in.sin_addr, 4);
    } else if (a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
        id[0] = 4;
        memcpy(id + 1, &a->in6.sin6_addr.s6_addr[12], 4);
    } else if (a->sa.sa_family == AF_INET6) {
        id[0] = 6;
        memcpy(id + 1, &a->in6.sin6_addr, 8);
    } else {
        return 0;
    }
    h = hash_sip13(&k, id, sizeof(id));
    return h ? h : 1;
}

uint32_t abuse_points(const struct segment *s, uint64_t address_key, uint64_t now_ms)
{
    const _Atomic uint64_t *set = set_of(s, address_key);
    uint32_t most = 0;

    if (address_key == 0)
        return 0;
    for (uint32_t i = 0; i < ABUSE_WAYS; i++) {
        const uint64_t w = atomic_load_explicit(&set[i], memory_order_relaxed);
        const uint32_t p = left(w, unit_of(now_ms));

        if (tag_of(w) == (address_key & TAG_MASK) && p > most)
            most = p;
    }
    return most >> FRACTION;
}

uint32_t abuse_add(struct segment *s, uint64_t address_key, uint32_t points, uint64_t now_ms)
{
    _Atomic uint64_t *set = set_of(s, address_key);
    const uint32_t unit = unit_of(now_ms);
    const uint64_t tag = address_key & TAG_MASK,
                   more = (uint64_t)layout_min(points, ABUSE_POINTS_MAX) << FRACTION;
    uint64_t sum = 0;

    if (address_key == 0)
        return 0;
    for (int t = 0; t < LAYOUT_TRIES; t++) {
        uint32_t at = 0, least = UINT32_MAX, had = 0;
        uint64_t old = 0, time = unit;

        for (uint32_t i = 0; i < ABUSE_WAYS; i++) {
            const uint64_t w = atomic_load_explicit(&set[i], memory_order_relaxed);
            const uint32_t p = left(w, unit);

            if (tag_of(w) == tag && p > 0) {
                at = i;
                old = w;
                had = p;
                break;
            }
            if (p < least) {
                least = p;
                at = i;
                old = w;
            }
        }
        sum = had + more;
        if (sum > POINTS_MASK)
            sum = POINTS_MASK;
        if (had > 0 && ((unit - (uint32_t)old) & TIME_MASK) > TIME_MASK - WINDOW)
            time = old & TIME_MASK; /* ahead of us: not backwards */
        if (atomic_compare_exchange_strong(&set[at], &old, tag << 46 | sum << 20 | time))
            break;
    }
    return (uint32_t)(sum >> FRACTION);
}
