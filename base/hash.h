/* SipHash-1-3 (Aumasson, Bernstein 2012; reduced rounds) and a string map built on it. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

struct hash_key {
    uint64_t k0, k1;
};

void hash_key_random(struct hash_key *k); /* getrandom(2) */
uint64_t hash_sip13(const struct hash_key *k, const void *p, size_t n);
/* SipHash under a constant key: stable over processes and runs; for identities, never for tables
 * of hostile keys. */
uint64_t hash_fixed(const void *p, size_t n);

/* A map from byte strings to pointers. Keys are borrowed: they must outlive the map. */
struct map {
    struct map_entry *e;
    size_t n, mask;
    struct hash_key key;
};
struct map_entry {
    struct slice k;
    void *v;
};

int map_init(struct map *m, size_t expected);
void map_fini(struct map *m);
/* 0, or -ERR_EXIST (value untouched, the old one is in *ret_old if given), or -ERR_NOMEM. v must
 * not be NULL. */
int map_put(struct map *m, struct slice k, void *v, void **ret_old);
void *map_get(const struct map *m, struct slice k);

#endif
