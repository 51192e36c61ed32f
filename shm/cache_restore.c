/* Files of a cache on disk, read: objects are put back as they come. Nothing in a file is believed
 * before its sum was checked, and nothing in it can do more than be refused. */
#include "shm/cache_persist_in.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/crc32c.h"

#include <stdlib.h>

static int by_version(const void *a, const void *b)
{
    const struct persist_old *x = a, *y = b;

    if (x->name.main != y->name.main)
        return x->name.main ? -1 : 1;
    return x->name.version < y->name.version ? -1 : x->name.version > y->name.version;
}

/* What was promoted first, each queue in the order of its age; of too much the newest. */
void persist_load_plan(struct cache_persist *p)
{
    uint64_t room = p->c->sb.data / 16 * 15;
    struct cache_head born = {.birth = 0};
    bool soft = !p->o.write_only;

    /* Restored objects must be stale: see cache_persist_adopt. */
    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        born.site = (uint16_t)i;
        soft = soft && cache_purge_peek(p->c, &born, NULL) == 1;
    }
    if (p->nold > 0)
        qsort(p->old, p->nold, sizeof(*p->old), by_version);
    for (int q = 1; q >= 0; q--) {
        for (size_t i = p->nold; i-- > 0;) {
            struct persist_old *o = &p->old[i];

            if (o->name.main != (q == 1) || o->bytes > room)
                continue;
            o->load = soft;
            room -= o->bytes;
        }
    }
    p->at_old = 0;
    p->st.loading = soft && p->nold > 0;
}

void persist_reader_start(struct persist_reader *r, const struct persist_name *name)
{
    memset(r, 0, offsetof(struct persist_reader, lead));
    r->name = *name;
    r->fill.body = CACHE_NONE;
}

static bool filling(const struct persist_reader *r)
{
    return r->part == PERSIST_BODY_PART;
}

void persist_reader_stop(struct cache_persist *p)
{
    if (filling(&p->r))
        cache_fill_abort(p->w, &p->r.fill, true, 0);
    p->r.part = PERSIST_LEAD_PART;
    p->r.have = 0;
}

static const struct persist_object *object_of(const struct persist_reader *r)
{
    return (const struct persist_object *)(const void *)r->lead;
}

static bool object_good(const struct persist_reader *r)
{
    const struct persist_object *o = object_of(r);

    return o->magic == PERSIST_M_OBJECT && o->type < CACHE_TYPE__COUNT && o->ntags <= CACHE_TAGS &&
           o->meta <= UINT16_MAX && o->size < 1ull << 40 && o->version != 0 &&
           o->version <= r->name.version;
}

static size_t lead_size(const struct persist_reader *r)
{
    const struct persist_object *o = object_of(r);

    return r->have < sizeof(*o) ? sizeof(*o) : sizeof(*o) + 8u * o->ntags + o->meta;
}

static void end_object(struct cache_persist *p, int rc)
{
    struct persist_reader *r = &p->r;

    if (rc == 0) {
        p->st.restored++;
        cache_count(p->w, CACHE_CTR_RESTORE, 1);
    } else {
        p->st.skipped++;
    }
    if (rc == -ERR_FULL)
        p->full = true;
    r->part = PERSIST_LEAD_PART;
    r->have = 0;
}

/* The lead is complete. n bytes of payload follow here; returns how many of them were used. */
static size_t begin_object(struct cache_persist *p, const unsigned char *bytes, size_t n)
{
    struct persist_reader *r = &p->r;
    const struct persist_object *o = object_of(r);
    const unsigned char *tags = r->lead + sizeof(*o), *meta = tags + 8u * o->ntags;
    const struct cache_key key = {o->k0, o->k1};
    const struct cache_attr attr = {
        .type = o->type, .site = o->site, .user = o->user, .base = o->base, .fresh = o->fresh};
    const struct slice m = slice_of((const char *)meta, o->meta);
    int rc;

    if (8u * (uint64_t)o->ntags + o->meta + o->size < p->c->sb.page_size && o->size <= n) {
        struct cache_parts parts = {.key = &key,
                                    .attr = &attr,
                                    .tags = (const uint64_t *)(const void *)tags,
                                    .ntags = o->ntags,
                                    .body = CACHE_NONE,
                                    .meta = m,
                                    .tail = slice_of((const char *)bytes, o->size),
                                    .size = o->size,
                                    .version = o->version,
                                    .main = r->name.main};
        const size_t used = (size_t)o->size;

        end_object(p, cache_store_record(p->w, &parts));
        return used;
    }
    cache_fill_private(p->w, &key, o->site, &r->fill);
    r->fill.attr.birth = 0;
    r->fill.version = o->version;
    r->fill.main = r->name.main;
    r->left = o->size;
    rc = cache_fill_head(p->w, &r->fill, &attr, (const uint64_t *)(const void *)tags, o->ntags, m,
                         o->size);
    r->part = PERSIST_BODY_PART;
    if (rc < 0) {
        cache_fill_abort(p->w, &r->fill, true, 0);
        r->part = PERSIST_SKIP_PART;
        p->full = p->full || rc == -ERR_FULL;
    }
    return 0;
}

static size_t body_part(struct cache_persist *p, const unsigned char *bytes, size_t n)
{
    struct persist_reader *r = &p->r;
    const size_t take = n < r->left ? n : (size_t)r->left;
    int rc;

    if (filling(r) && take > 0) {
        rc = cache_fill_append(p->w, &r->fill, slice_of((const char *)bytes, take));
        if (rc < 0) {
            cache_fill_abort(p->w, &r->fill, true, 0);
            r->part = PERSIST_SKIP_PART;
            p->full = p->full || rc == -ERR_FULL;
        }
    }
    r->left -= take;
    if (r->left == 0)
        end_object(p, filling(r) ? cache_fill_done(p->w, &r->fill) : -ERR_RANGE);
    return take;
}

static bool take_payload(struct cache_persist *p, const unsigned char *bytes, size_t n)
{
    struct persist_reader *r = &p->r;

    while (n > 0 || (r->part != PERSIST_LEAD_PART && r->left == 0)) {
        size_t used;

        if (r->part == PERSIST_LEAD_PART) {
            const size_t missing = lead_size(r) - r->have;

            used = n < missing ? n : missing;
            memcpy(r->lead + r->have, bytes, used);
            r->have += (uint32_t)used;
            if (r->have == sizeof(struct persist_object) && !object_good(r))
                return false;
            if (r->have >= sizeof(struct persist_object) && r->have == lead_size(r))
                used += begin_object(p, bytes + used, n - used);
        } else {
            used = body_part(p, bytes, n);
        }
        bytes += used;
        n -= used;
    }
    return true;
}

static long refuse(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -ERR_CORRUPT;
}

long persist_reader_feed(struct cache_persist *p, const unsigned char *bytes, size_t n,
                         const char **ret_why)
{
    struct persist_reader *r = &p->r;
    struct persist_file f;
    struct persist_block b;
    size_t at = 0;

    if (!r->headed) {
        if (n < sizeof(f))
            return refuse(ret_why, "it is cut off");
        memcpy(&f, bytes, sizeof(f));
        if (f.magic != PERSIST_MAGIC || f.crc != crc32c(&f, offsetof(struct persist_file, crc)))
            return refuse(ret_why, "it is no such file, or damaged");
        if (f.format != PERSIST_FORMAT)
            return refuse(ret_why, "it is of another version of rpd");
        if (f.key_id != p->key_id || f.life != r->name.life || f.version != r->name.version ||
            f.main != r->name.main)
            return refuse(ret_why, "it is another cache's");
        r->headed = true;
        at = sizeof(f);
    }
    if (n - at < sizeof(b))
        return refuse(ret_why, "it is cut off");
    memcpy(&b, bytes + at, sizeof(b));
    at += sizeof(b);
    if (b.magic != PERSIST_M_BLOCK || b.seq != r->seq || b.len > PERSIST_BLOCK || b.last > 1 ||
        b.head_crc != crc32c_more(r->name.life, &b, offsetof(struct persist_block, head_crc)))
        return refuse(ret_why, "a block is damaged");
    if (n - at < b.len)
        return refuse(ret_why, "it is cut off");
    if (crc32c(bytes + at, b.len) != b.crc)
        return refuse(ret_why, "a block is damaged");
    if (!take_payload(p, bytes + at, b.len))
        return refuse(ret_why, "an object is malformed");
    r->seq++;
    at += b.len;
    if (b.last) {
        if (r->have != 0 || r->part != PERSIST_LEAD_PART)
            return refuse(ret_why, "its last object is cut off");
        r->ended = true;
    }
    return (long)at;
}

/* The file at p->at_old is done with, for good or bad. */
static void next_file(struct cache_persist *p, const char *why, const char *detail)
{
    char name[CACHE_DISK_NAME];

    if (why) {
        persist_name_text(&p->r.name, name);
        persist_say(p, "%s is refused after %u blocks: %s%s%s", name, p->r.seq, why,
                    detail ? ": " : "", detail ? detail : "");
        p->st.refused++;
        cache_count(p->w, CACHE_CTR_REFUSED, 1);
    }
    persist_reader_stop(p);
    p->opened = false;
    p->old[p->at_old++].load = false;
}

static void ended(struct cache_persist *p)
{
    p->st.loading = false;
    p->at_old = p->nold;
    /* Nothing more comes to fill them up soon. */
    cache_slab_seal_own(p->w, 0);
    cache_slab_seal_own(p->w, 1);
    cache_slab_release_pages(p->w);
    persist_say(p, "%llu objects are back from %zu files, %llu were left, %llu files were refused",
                (unsigned long long)p->st.restored, p->nold, (unsigned long long)p->st.skipped,
                (unsigned long long)p->st.refused);
}

enum cache_persist_next persist_load_step(struct cache_persist *p, uint64_t until_us)
{
    const size_t most = sizeof(struct persist_file) + sizeof(struct persist_block) + PERSIST_BLOCK;
    const char *why = NULL;
    char name[CACHE_DISK_NAME];
    uint32_t slab;
    int error;
    long n;

    for (;;) {
        if (p->reading) {
            if (cache_disk_busy(p->disk))
                return CACHE_PERSIST_WAIT;
            p->reading = false;
            n = cache_disk_result(p->disk, &error);
            if (n < 0) {
                next_file(p, "it cannot be read", error ? strerror(error) : "no file of ours");
                continue;
            }
            n = persist_reader_feed(p, cache_disk_buf(p->disk), (size_t)n, &why);
            if (n < 0 || p->r.ended)
                next_file(p, n < 0 ? why : NULL, NULL);
            else
                p->r.at += (uint64_t)n;
            /* What lives in the cache by now is worth more than what is on disk. */
            if (p->full || cache_slab_scan(p->w, &slab) <= p->w->low) {
                persist_reader_stop(p);
                ended(p);
                return CACHE_PERSIST_MORE;
            }
            if (clock_us_now() >= until_us)
                return CACHE_PERSIST_MORE;
        }
        while (p->at_old < p->nold && !p->old[p->at_old].load)
            p->at_old++;
        if (p->at_old == p->nold) {
            ended(p);
            return CACHE_PERSIST_MORE;
        }
        if (!p->opened)
            persist_reader_start(&p->r, &p->old[p->at_old].name);
        p->opened = true;
        persist_name_text(&p->r.name, name);
        cache_disk_read(p->disk, name, p->r.at, most);
        p->reading = true;
    }
}
