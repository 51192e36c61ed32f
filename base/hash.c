/* SipHash-1-3 and the string map. */
#include "base/hash.h"

#include "base/arena.h"
#include "base/err.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

static uint64_t hash_rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* One SipRound (section 2.1 of the paper). */
#define HASH_ROUND(v0, v1, v2, v3)                                                                 \
    do {                                                                                           \
        v0 += v1;                                                                                  \
        v2 += v3;                                                                                  \
        v1 = hash_rotl(v1, 13) ^ v0;                                                               \
        v3 = hash_rotl(v3, 16) ^ v2;                                                               \
        v0 = hash_rotl(v0, 32);                                                                    \
        v2 += v1;                                                                                  \
        v0 += v3;                                                                                  \
        v1 = hash_rotl(v1, 17) ^ v2;                                                               \
        v3 = hash_rotl(v3, 21) ^ v0;                                                               \
        v2 = hash_rotl(v2, 32);                                                                    \
    } while (0)

uint64_t hash_sip13(const struct hash_key *k, const void *p, size_t n)
{
    uint64_t v0 = k->k0 ^ 0x736f6d6570736575u, v1 = k->k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = k->k0 ^ 0x6c7967656e657261u, v3 = k->k1 ^ 0x7465646279746573u;
    const unsigned char *in = p ? p : ""; /* an empty key may have no address */
    const unsigned char *end = in + (n & ~(size_t)7);
    for (; in != end; in += 8) {
        uint64_t m;
        memcpy(&m, in, 8);
        m = le64toh(m);
        v3 ^= m;
        HASH_ROUND(v0, v1, v2, v3);
        v0 ^= m;
    }
    uint64_t last = (uint64_t)n << 56;
    for (size_t i = n & 7; i > 0; i--)
        last |= (uint64_t)in[i - 1] << (8 * (i - 1));
    v3 ^= last;
    HASH_ROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xff;
    HASH_ROUND(v0, v1, v2, v3);
    HASH_ROUND(v0, v1, v2, v3);
    HASH_ROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t hash_fixed(const void *p, size_t n)
{
    static const struct hash_key key = {0x7270642d6964656eu, 0x746974792d6b6579u};
    return hash_sip13(&key, p, n);
}

void hash_key_random(struct hash_key *k)
{
    size_t done = 0;
    while (done < sizeof(*k)) {
        ssize_t r = getrandom((char *)k + done, sizeof(*k) - done, 0);
        if (r > 0)
            done += (size_t)r;
        else if (errno != EINTR)
            break;
    }
    if (done == sizeof(*k))
        return;
    /* A sandbox without getrandom: the kernel's 16 random bytes of exec, stirred with the time. */
    const void *seed = (const void *)(uintptr_t)getauxval(AT_RANDOM);
    if (seed)
        memcpy(k, seed, sizeof(*k));
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    k->k0 ^= hash_sip13(k, &ts, sizeof(ts));
    k->k1 ^= hash_sip13(k, &ts, sizeof(ts));
}

/* A table of 2^x places, at least twice `n`. */
static int map_resize(struct map *m, size_t n)
{
    size_t places = 8;
    while (places / 2 < n) {
        if (places > SIZE_MAX / 4 / sizeof(struct map_entry))
            return -ERR_NOMEM;
        places *= 2;
    }
    struct map_entry *e = alloc_should_fail() ? NULL : calloc(places, sizeof(*e));
    if (!e)
        return -ERR_NOMEM;
    size_t mask = places - 1;
    for (size_t i = 0; m->e && i <= m->mask; i++) {
        if (!m->e[i].v)
            continue;
        size_t at = hash_sip13(&m->key, m->e[i].k.p, m->e[i].k.n) & mask;
        while (e[at].v)
            at = (at + 1) & mask;
        e[at] = m->e[i];
    }
    free(m->e);
    m->e = e;
    m->mask = mask;
    return 0;
}

int map_init(struct map *m, size_t expected)
{
    *m = (struct map){0};
    hash_key_random(&m->key);
    return map_resize(m, expected);
}

void map_fini(struct map *m)
{
    free(m->e);
    *m = (struct map){0};
}

/* The place of key k, or the free one where it belongs. The table is never full. */
static struct map_entry *map_find(const struct map *m, struct slice k)
{
    size_t at = hash_sip13(&m->key, k.p, k.n) & m->mask;
    while (m->e[at].v && !slice_eq(m->e[at].k, k))
        at = (at + 1) & m->mask;
    return &m->e[at];
}

int map_put(struct map *m, struct slice k, void *v, void **ret_old)
{
    if (!m->e || m->n + 1 > (m->mask + 1) / 2) {
        int rc = map_resize(m, m->n + 1);
        if (rc < 0)
            return rc;
    }
    struct map_entry *e = map_find(m, k);
    if (e->v) {
        if (ret_old)
            *ret_old = e->v;
        return -ERR_EXIST;
    }
    *e = (struct map_entry){k, v};
    m->n++;
    return 0;
}

void *map_get(const struct map *m, struct slice k)
{
    return m->n > 0 ? map_find(m, k)->v : NULL;
}
