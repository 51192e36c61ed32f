/* An intrusive hash table from byte strings to objects that hold a struct table_node; unlike a map
 * things can be taken out. Nothing is allocated for an object, only the places grow. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include "base/hash.h"
#include "base/list.h"

struct table_node {
    struct table_node *next;
    uint64_t hash;
};
struct table {
    struct table_node **place;
    size_t n, mask;
    struct hash_key key;
};

/* Zeroed is empty; a table without a place is never searched. 0, -ERR_NOMEM. */
int table_init(struct table *t, size_t expected);
void table_fini(struct table *t); /* the objects are the caller's */
uint64_t table_hash(const struct table *t, struct slice key);
/* Adds; whether the key is there already is the caller's to know. Never fails: when there is no
 * memory for more places, chains grow longer. */
void table_put(struct table *t, struct table_node *n, uint64_t hash);
void table_remove(struct table *t, struct table_node *n);
/* The first object with that hash, and the next one: compare the keys. */
struct table_node *table_first(const struct table *t, uint64_t hash);
struct table_node *table_next(const struct table_node *n);

#endif
