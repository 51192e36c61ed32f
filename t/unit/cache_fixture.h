/* What the cache's tests share: objects whose bytes follow from key and version, and their check.
 */
#ifndef T_UNIT_CACHE_FIXTURE_H
#define T_UNIT_CACHE_FIXTURE_H

#include "base/buf.h"
#include "base/err.h"
#include "shm/cache_layout.h"
#include "t/unit/tap.h"

static TAP_UNUSED uint64_t fx_rnd(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static TAP_UNUSED struct cache_key fx_key(const struct cache *c, uint64_t id)
{
    struct cache_hash h;

    cache_key_begin(c, &h);
    cache_key_add(&h, slice_of((const char *)&id, sizeof(id)));
    return cache_key_end(&h);
}

/* Byte i of the object (id, version). */
static inline unsigned char fx_byte(uint64_t id, uint64_t version, uint64_t i)
{
    uint64_t x = (id * 0x9e3779b97f4a7c15u) ^ (version * 0xd6e8feb86659fd93u) ^ (i >> 3);

    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 29;
    return (unsigned char)(x >> (8 * (i & 7)));
}

static TAP_UNUSED void fx_bytes(char *to, uint64_t id, uint64_t version, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)fx_byte(id, version, from + i);
}

struct fx_meta {
    uint64_t id, version, size;
    char text[16];
};

static TAP_UNUSED struct slice fx_meta(struct fx_meta *m, uint64_t id, uint64_t version,
                                       uint64_t size)
{
    *m = (struct fx_meta){id, version, size, "etag etc."};
    return slice_of((const char *)m, sizeof(*m));
}

/* Stores object (id, version) of size bytes; buf has room for it. */
static TAP_UNUSED int fx_put(struct cache_worker *w, uint64_t id, uint64_t version, size_t size,
                             char *buf, uint64_t birth)
{
    const struct cache_key k = fx_key(w->c, id);
    const struct cache_attr a = {.fresh = CACHE_FOREVER, .user = (uint32_t)version, .birth = birth};
    struct fx_meta m;

    fx_bytes(buf, id, version, 0, size);
    return cache_insert(w, &k, &a, NULL, 0, fx_meta(&m, id, version, size), slice_of(buf, size));
}

static TAP_UNUSED bool fx_iov_good(const struct cache *c, const struct iovec *v, int n, uint64_t id,
                                   uint64_t version, uint64_t off)
{
    for (int i = 0; i < n; i++) {
        const unsigned char *p = v[i].iov_base;

        if (p < c->base || p + v[i].iov_len > c->base + c->size)
            return false;
        for (size_t k = 0; k < v[i].iov_len; k++, off++) {
            if (p[k] != fx_byte(id, version, off))
                return false;
        }
    }
    return true;
}

/* The bytes of a hit. 1 right, 0 damaged and told so, -1 wrong. */
static TAP_UNUSED int fx_check(struct cache_worker *w, struct cache_hit *h, uint64_t id,
                               uint64_t *ret_version)
{
    struct fx_meta m;
    struct iovec v[7];
    uint64_t off = 0;
    size_t n;

    if (h->meta.n != sizeof(m))
        return -1;
    memcpy(&m, h->meta.p, sizeof(m));
    *ret_version = m.version;
    if (m.id != id || m.size != h->size)
        return -1;
    while (off < h->size) {
        const int k = cache_body(w, h, off, h->size - off, v, 7, &n);

        if (k == -ERR_CORRUPT)
            return 0;
        if (k <= 0 || !fx_iov_good(w->c, v, k, id, m.version, off))
            return -1;
        off += n;
    }
    return off == h->size ? 1 : -1;
}

/* Looks up and checks: version of the object, 0 miss, -1 wrong bytes. */
static TAP_UNUSED int64_t fx_get(struct cache_worker *w, uint64_t id, const struct cache_scope *s)
{
    const struct cache_key k = fx_key(w->c, id);
    struct cache_hit h;
    uint64_t version = 0;
    int rc;

    if (!cache_lookup(w, &k, s, &h))
        return 0;
    rc = fx_check(w, &h, id, &version);
    cache_release(w, &h);
    return rc > 0 ? (int64_t)version : rc;
}

static TAP_UNUSED int fx_fsck(const struct cache *c, bool still)
{
    struct buf b;
    int n;

    buf_init(&b, 0);
    n = cache_fsck(c, still, &b);
    if (n > 0)
        printf("# fsck: " SLICE_FMT "\n", (int)(b.n < 400 ? b.n - 1 : 400), b.p);
    buf_fini(&b);
    return n;
}

#endif
