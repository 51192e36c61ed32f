/* Intrusive hash table; see table.h. */
#include "base/table.h"

#include "base/arena.h"
#include "base/err.h"

#include <stdlib.h>

int table_init(struct table *t, size_t expected)
{
    size_t places = 8;
    while (places < expected && places <= SIZE_MAX / 4 / sizeof(*t->place))
        places *= 2;
    *t = (struct table){0};
    t->place = alloc_should_fail() ? NULL : calloc(places, sizeof(*t->place));
    if (!t->place)
        return -ERR_NOMEM;
    t->mask = places - 1;
    hash_key_random(&t->key);
    return 0;
}

void table_fini(struct table *t)
{
    free(t->place);
    *t = (struct table){0};
}

uint64_t table_hash(const struct table *t, struct slice key)
{
    return hash_sip13(&t->key, key.p, key.n);
}

static void table_grow(struct table *t)
{
    size_t places = (t->mask + 1) * 2;
    struct table_node **v = alloc_should_fail() ? NULL : calloc(places, sizeof(*v));
    if (!v)
        return;
    for (size_t i = 0; i <= t->mask; i++) {
        for (struct table_node *n = t->place[i], *next; n; n = next) {
            next = n->next;
            n->next = v[n->hash & (places - 1)];
            v[n->hash & (places - 1)] = n;
        }
    }
    free(t->place);
    t->place = v;
    t->mask = places - 1;
}

void table_put(struct table *t, struct table_node *n, uint64_t hash)
{
    if (t->n > t->mask)
        table_grow(t);
    n->hash = hash;
    n->next = t->place[hash & t->mask];
    t->place[hash & t->mask] = n;
    t->n++;
}

void table_remove(struct table *t, struct table_node *n)
{
    for (struct table_node **at = &t->place[n->hash & t->mask]; *at; at = &(*at)->next) {
        if (*at != n)
            continue;
        *at = n->next;
        n->next = NULL;
        t->n--;
        return;
    }
}

static struct table_node *table_same(struct table_node *n, uint64_t hash)
{
    while (n && n->hash != hash)
        n = n->next;
    return n;
}

struct table_node *table_first(const struct table *t, uint64_t hash)
{
    return t->place ? table_same(t->place[hash & t->mask], hash) : NULL;
}

struct table_node *table_next(const struct table_node *n)
{
    return table_same(n->next, n->hash);
}
