/* Keys: SipHash-1-3 with 128 bits of output (Aumasson, Bernstein 2012) over length-framed parts. */
#include "shm/cache_layout.h"

static uint64_t rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void round_of(struct cache_hash *h)
{
    h->v0 += h->v1;
    h->v2 += h->v3;
    h->v1 = rotl(h->v1, 13) ^ h->v0;
    h->v3 = rotl(h->v3, 16) ^ h->v2;
    h->v0 = rotl(h->v0, 32);
    h->v2 += h->v1;
    h->v0 += h->v3;
    h->v1 = rotl(h->v1, 17) ^ h->v2;
    h->v3 = rotl(h->v3, 21) ^ h->v0;
    h->v2 = rotl(h->v2, 32);
}

static void word(struct cache_hash *h, uint64_t m)
{
    h->v3 ^= m;
    round_of(h);
    h->v0 ^= m;
    h->n += 8;
}

void cache_key_begin(const struct cache *c, struct cache_hash *h)
{
    const struct hash_key *k = &c->sb.key;

    h->v0 = k->k0 ^ 0x736f6d6570736575u;
    h->v1 = k->k1 ^ 0x646f72616e646f6du ^ 0xee;
    h->v2 = k->k0 ^ 0x6c7967656e657261u;
    h->v3 = k->k1 ^ 0x7465646279746573u;
    h->tail = h->n = 0;
}

/* Each part is its length and its bytes, the last word filled with zeroes: parts begin at a word.
 */
void cache_key_add(struct cache_hash *h, struct slice part)
{
    uint64_t m;

    word(h, part.n);
    for (; part.n >= 8; part.n -= 8, part.p += 8) {
        memcpy(&m, part.p, 8);
        word(h, m);
    }
    if (part.n > 0) {
        m = 0;
        memcpy(&m, part.p, part.n);
        word(h, m);
    }
}

struct cache_key cache_key_end(struct cache_hash *h)
{
    struct cache_key k;

    word(h, h->n << 56);
    h->v2 ^= 0xee;
    for (int i = 0; i < 3; i++)
        round_of(h);
    k.k0 = h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
    h->v1 ^= 0xdd;
    for (int i = 0; i < 3; i++)
        round_of(h);
    k.k1 = h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
    return k;
}

void cache_key_begin_variant(const struct cache *c, struct cache_key primary, uint64_t salt,
                             struct cache_hash *h)
{
    cache_key_begin(c, h);
    h->v3 ^= 1; /* apart from primary keys, whatever those are made of */
    word(h, primary.k0);
    word(h, primary.k1);
    word(h, salt);
}

uint64_t cache_name(const struct cache *c, uint32_t kind, struct slice text)
{
    struct cache_hash h;
    uint64_t name;

    cache_key_begin(c, &h);
    h.v3 ^= 2;
    word(&h, kind);
    cache_key_add(&h, text);
    name = cache_key_end(&h).k0;
    return name == CACHE_NAME_ALL ? 1 : name;
}
