/* Records: how one is written, and every check before one is believed. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

#define LOW40 0xffffffffffull
#define LOW48 0xffffffffffffull

uint16_t cache_record_short(uint32_t s)
{
    uint32_t e = 0;

    if (s == CACHE_FOREVER)
        return UINT16_MAX;
    while (s >> e > 0x7ff)
        e++;
    return (uint16_t)(e << 11 | s >> e);
}

uint32_t cache_record_long(uint16_t v)
{
    const uint32_t e = v >> 11;

    return v == UINT16_MAX || e > 21 ? CACHE_FOREVER : (uint32_t)(v & 0x7ffu) << e;
}

static uint32_t head_crc(const struct cache *c, const struct cache_rec *r,
                         const struct cache_rec_paged *paged)
{
    const uint32_t crc =
        crc32c_more(c->sb.seed, &r->kind,
                    offsetof(struct cache_rec, checked) - offsetof(struct cache_rec, kind));

    return r->kind & CACHE_REC_PAGED ? crc32c_more(crc, paged, sizeof(*paged)) : crc;
}

/* From body size, lead, tags and page size: where each part of the record begins. Returns its
 * length without padding. */
static uint64_t arrange(const struct cache *c, struct cache_head *h)
{
    const bool paged = (h->flags & CACHE_REC_PAGED) != 0;
    const uint64_t stream = h->lead + h->size;
    uint64_t at = sizeof(struct cache_rec) + (paged ? sizeof(struct cache_rec_paged) : 0);

    h->at_tags = (uint32_t)at;
    at += 8u * h->ntags;
    h->npages = paged ? (uint32_t)(stream >> c->page_shift) : 0;
    h->tail_len = paged ? (uint32_t)(stream & (c->sb.page_size - 1)) : (uint32_t)h->size;
    h->at_pages = (uint32_t)at;
    at += 4ull * ((h->npages + 1u) & ~1u);
    h->at_meta = (uint32_t)at;
    if (!(h->flags & CACHE_REC_LEAD))
        at += h->meta_len;
    h->at_tail = (uint32_t)at;
    return at + h->tail_len;
}

/* What only objects of pages have; *p is what follows the head. */
static void load_paged(const struct cache_rec_paged *p, struct cache_head *ret)
{
    ret->size = p->size_gen & LOW40;
    ret->body_gen = (uint32_t)(p->size_gen >> 40);
    ret->body = p->body;
    ret->lead = p->lead;
}

int cache_record_load(const struct cache *c, uint32_t slab, uint32_t off, uint32_t end,
                      struct cache_head *ret)
{
    struct cache_rec_paged paged = {.body = CACHE_NONE};
    struct cache_rec r;
    uint64_t fixed = sizeof(r), at;
    uint32_t padding;

    if (end > c->sb.slab_size || off + fixed > end || (off & 7u) != 0)
        return -ERR_CORRUPT;
    ret->p = cache_slab_data(c, slab) + off;
    /* What stands behind is written to by readers. */
    memcpy(&r, ret->p, offsetof(struct cache_rec, checked));
    if (r.kind & CACHE_REC_PAGED) {
        fixed += sizeof(paged);
        if (off + fixed > end)
            return -ERR_CORRUPT;
        memcpy(&paged, ret->p + sizeof(r), sizeof(paged));
    }
    if (r.crc != head_crc(c, &r, &paged))
        return -ERR_CORRUPT;
    ret->key = (struct cache_key){r.k0, r.k1};
    ret->flags = r.kind & 3u;
    ret->type = r.kind >> 2 & 3u;
    ret->ntags = r.kind >> 4 & 63u;
    padding = r.kind >> 10 & 7u;
    ret->len = ((r.kind >> 13) + 1) << 3;
    ret->version = r.version_meta & LOW48;
    ret->meta_len = (uint32_t)(r.version_meta >> 48);
    ret->birth = r.birth_site & LOW48;
    ret->site = (uint16_t)(r.birth_site >> 48);
    ret->base = r.base;
    ret->fresh = r.fresh;
    ret->user = r.user;
    ret->swr = cache_record_long(r.swr);
    ret->sie = cache_record_long(r.sie);
    ret->part_crc = r.part_crc;
    ret->tail_crc = r.tail_crc;
    load_paged(&paged, ret);
    if (ret->ntags > CACHE_TAGS || ret->len > end - off || ret->type >= CACHE_TYPE__COUNT)
        return -ERR_CORRUPT;
    if (ret->flags & CACHE_REC_PAGED) {
        if (ret->body >= c->sb.nbody || ret->size > c->sb.max_object ||
            ret->lead >= c->sb.page_size ||
            ((ret->flags & CACHE_REC_LEAD) && ret->meta_len > ret->lead))
            return -ERR_CORRUPT;
    } else {
        /* The body of an inline record is what the other parts leave of it. */
        at = fixed + 8u * ret->ntags + ret->meta_len + padding;
        if (ret->flags != 0 || at > ret->len)
            return -ERR_CORRUPT;
        ret->size = ret->len - at;
    }
    return arrange(c, ret) + padding == ret->len ? 0 : -ERR_CORRUPT;
}

/* The page the lead is in, or NULL. */
static const unsigned char *lead_of(const struct cache *c, const struct cache_head *h)
{
    uint32_t page;

    if (h->npages == 0)
        return NULL;
    memcpy(&page, h->p + h->at_pages, 4);
    return page < c->npage && atomic_load(&cache_page(c, page)->owner) ==
                                  cache_page_owner(h->body, h->body_gen)
               ? cache_page_data(c, page)
               : NULL;
}

bool cache_record_sound(const struct cache *c, const struct cache_head *h, bool body)
{
    const uint32_t inline_end = h->at_tail;
    uint32_t crc = crc32c_more(c->sb.seed, h->p + h->at_tags, inline_end - h->at_tags);

    if (h->flags & CACHE_REC_LEAD) {
        const unsigned char *lead = lead_of(c, h);

        if (!lead)
            return false;
        crc = crc32c_more(crc, lead + h->lead - h->meta_len, h->meta_len);
    }
    return crc == h->part_crc &&
           (!body || crc32c_more(c->sb.seed, h->p + h->at_tail, h->tail_len) == h->tail_crc);
}

static void head_of(const struct cache_parts *p, struct cache_head *h)
{
    memset(h, 0, sizeof(*h));
    h->body = p->body;
    h->size = p->size;
    h->lead = p->body == CACHE_NONE ? 0 : p->lead;
    h->ntags = p->ntags;
    h->meta_len = (uint32_t)p->meta.n;
    h->flags = (uint8_t)((p->lead_meta ? CACHE_REC_LEAD : 0) |
                         (p->body == CACHE_NONE ? 0 : CACHE_REC_PAGED));
}

uint32_t cache_record_size(const struct cache *c, const struct cache_parts *p)
{
    struct cache_head h;
    uint64_t len;

    if (p->ntags > CACHE_TAGS || p->meta.n > UINT16_MAX || p->size > c->sb.max_object ||
        p->tail.n > c->sb.slab_size || p->attr->type >= CACHE_TYPE__COUNT)
        return 0;
    head_of(p, &h);
    len = (arrange(c, &h) + 7u) & ~7ull;
    return len > c->sb.slab_size ? 0 : (uint32_t)len;
}

static void copy_pages(const struct cache *c, unsigned char *dst, uint32_t n, const uint32_t *pages,
                       uint32_t first)
{
    uint32_t page = first;

    for (uint32_t i = 0; i < n; i++) {
        if (pages)
            page = pages[i];
        memcpy(dst + 4u * i, &page, 4);
        if (!pages && page < c->npage)
            page = atomic_load(&cache_page(c, page)->next);
    }
}

void cache_record_write(const struct cache *c, unsigned char *dst, uint32_t len,
                        const struct cache_parts *p)
{
    const struct cache_attr *a = p->attr;
    uint32_t padding;
    struct cache_head h;
    struct cache_rec_paged paged = {.body = p->body, .lead = p->lead};
    struct cache_rec r = {.k0 = p->key->k0,
                          .k1 = p->key->k1,
                          .base = a->base,
                          .fresh = a->fresh,
                          .swr = cache_record_short(a->swr),
                          .sie = cache_record_short(a->sie),
                          .user = a->user};

    head_of(p, &h);
    padding = len - (uint32_t)arrange(c, &h);
    r.kind =
        ((len >> 3) - 1) << 13 | padding << 10 | h.ntags << 4 | (uint32_t)a->type << 2 | h.flags;
    r.version_meta = (p->version & LOW48) | (uint64_t)h.meta_len << 48;
    r.birth_site = (a->birth & LOW48) | (uint64_t)a->site << 48;
    paged.size_gen = (p->size & LOW40) | (uint64_t)p->body_gen << 40;
    if (h.flags & CACHE_REC_PAGED)
        memcpy(dst + sizeof(r), &paged, sizeof(paged));
    if (h.ntags > 0)
        memcpy(dst + h.at_tags, p->tags, 8u * h.ntags);
    memset(dst + h.at_pages, 0, h.at_meta - h.at_pages);
    copy_pages(c, dst + h.at_pages, h.npages, p->pages, p->first);
    if (!p->lead_meta && p->meta.n > 0)
        memcpy(dst + h.at_meta, p->meta.p, p->meta.n);
    r.part_crc = crc32c_more(c->sb.seed, dst + h.at_tags, h.at_tail - h.at_tags);
    if (p->lead_meta)
        r.part_crc = crc32c_more(r.part_crc, p->meta.p, p->meta.n);
    memset(dst + h.at_tail + h.tail_len, 0, padding);
    if (h.tail_len > 0)
        memcpy(dst + h.at_tail, p->tail.p, h.tail_len);
    r.tail_crc = crc32c_more(c->sb.seed, dst + h.at_tail, h.tail_len);
    /* Never tested: a purge between the fetch and now must be seen. */
    atomic_init(&r.checked, (uint32_t)a->birth << 1);
    r.crc = head_crc(c, &r, &paged);
    memcpy(dst, &r, sizeof(r));
}
