/* cache_fsck: every invariant of the cache; and cache_stat. */
#include "base/buf.h"
#include "shm/cache_layout.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FINDINGS_PRINTED 100

struct fsck {
    const struct cache *c;
    struct buf *out;
    bool still;
    int n;
};

__attribute__((format(printf, 2, 3))) static void finding(struct fsck *f, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    if (++f->n > FINDINGS_PRINTED)
        return;
    va_start(ap, fmt);
    if (vsnprintf(line, sizeof(line), fmt, ap) < 0)
        line[0] = '\0';
    va_end(ap);
    buf_str(f->out, line);
    buf_chr(f->out, '\n');
}

static void check_super(struct fsck *f)
{
    const struct cache *c = f->c;

    if (memcmp(c->base, &c->sb, sizeof(c->sb)) != 0)
        finding(f, "superblock A is not the one that was attached");
    if (memcmp(c->base + CACHE_SUPER_B, &c->sb, sizeof(c->sb)) != 0)
        finding(f, "superblock B is not the one that was attached");
}

/* Words in motion are looked at once more before they are called wrong. */
static void check_word(struct fsck *f, uint32_t b, uint32_t way)
{
    const struct cache *c = f->c;
    const _Atomic uint64_t *slot = &cache_bucket(c, b)->word[way];
    const uint64_t v = atomic_load(slot);
    const uint32_t slab = cache_word_slab(v);
    uint32_t at[2], code, woff;
    const char *wrong = NULL;
    struct cache_head h;
    uint64_t st;

    if (v == 0)
        return;
    if (slab >= c->sb.nslab) {
        wrong = "leads to no slab";
    } else if (code = cache_st_code(atomic_load(cache_slab_st(c, slab))),
               woff = atomic_load(&cache_slab(c, slab)->woff),
               code != CSLAB_OPEN && code != CSLAB_SEALED && code != CSLAB_EVICT) {
        wrong = "leads to a slab without records";
    } else if (cache_record_load(c, slab, cache_word_off(v),
                                 woff < c->sb.slab_size ? woff : c->sb.slab_size, &h) < 0) {
        wrong = "leads to no record";
    } else if (cache_buckets(c, &h.key, at),
               (at[0] != b && at[1] != b) || !cache_word_tag(v, &h.key)) {
        wrong = "is in a bucket of another key";
    } else if (!cache_record_sound(c, &h, true)) {
        wrong = "leads to a record whose parts are damaged";
    } else if (h.body != CACHE_NONE) {
        st = atomic_load(&cache_bodyd(c, h.body)->st);
        if (cache_st_gen(st) != h.body_gen ||
            (cache_st_code(st) != CBODY_LIVE && (f->still || cache_st_code(st) == CBODY_FREE)))
            wrong = "leads to a body that is another's or not there";
        for (uint32_t i = 0; !wrong && i < h.npages; i++) {
            uint32_t page;

            memcpy(&page, h.p + h.at_pages + 4u * i, 4);
            if (page >= c->npage ||
                atomic_load(&cache_page(c, page)->owner) != cache_page_owner(h.body, h.body_gen))
                wrong = "leads to a body that lost a page";
        }
    }
    if (wrong && atomic_load(slot) == v)
        finding(f, "index %" PRIu32 ".%" PRIu32 " %s", b, way, wrong);
    for (uint32_t i = 0; f->still && !wrong && i < 2 * CACHE_WAYS; i++) {
        const uint64_t o = atomic_load(&cache_bucket(c, at[i / CACHE_WAYS])->word[i % CACHE_WAYS]);

        if (o == v && (at[i / CACHE_WAYS] != b || i % CACHE_WAYS != way))
            finding(f, "index %" PRIu32 ".%" PRIu32 " is there twice", b, way);
    }
}

static void check_slabs(struct fsck *f)
{
    const struct cache *c = f->c;

    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        const uint64_t st = atomic_load(cache_slab_st(c, i));
        const uint32_t code = cache_st_code(st);
        uint32_t closed = 0;

        if (code > CSLAB_CLOSE) {
            finding(f, "slab %" PRIu32 " is in no state", i);
            continue;
        }
        if (f->still && (cache_st_owner(st) != 0 || code == CSLAB_OPEN || code == CSLAB_EVICT ||
                         code == CSLAB_POPEN || code == CSLAB_CLOSE))
            finding(f, "slab %" PRIu32 " is held by %08" PRIx32, i, cache_st_owner(st));
        for (uint32_t k = 0; k < c->slab_pages; k++)
            closed += atomic_load(&cache_page(c, i * c->slab_pages + k)->owner) == CPAGE_CLOSED;
        if (code == CSLAB_FREE && closed != c->slab_pages && atomic_load(cache_slab_st(c, i)) == st)
            finding(f, "slab %" PRIu32 " is free with pages that are not", i);
        if (code == CSLAB_PAGES && closed != 0 && atomic_load(cache_slab_st(c, i)) == st)
            finding(f, "slab %" PRIu32 " of pages has closed ones", i);
        if ((code == CSLAB_SEALED || code == CSLAB_OPEN) &&
            atomic_load(&cache_slab(c, i)->woff) > c->sb.slab_size)
            finding(f, "slab %" PRIu32 " ends behind its end", i);
    }
}

static void check_bodies(struct fsck *f)
{
    const struct cache *c = f->c;
    _Atomic uint64_t *slot;
    struct cache_head h;
    uint64_t word;

    for (uint32_t i = 0; i < c->sb.nbody; i++) {
        const uint64_t st = atomic_load(&cache_bodyd(c, i)->st);
        const uint32_t code = cache_st_code(st);

        if (code > CBODY_FREEING)
            finding(f, "body %" PRIu32 " is in no state", i);
        else if (code == CBODY_LIVE &&
                 !cache_index_body(c, i, cache_st_gen(st), &slot, &word, &h) &&
                 atomic_load(&cache_bodyd(c, i)->st) == st)
            finding(f, "body %" PRIu32 " lives, but nothing leads to it", i);
        else if (f->still && code != CBODY_LIVE && code != CBODY_FREE)
            finding(f, "body %" PRIu32 " is left in state %" PRIu32, i, code);
    }
}

static void check_flights(struct fsck *f)
{
    const struct cache *c = f->c;

    for (uint32_t i = 0; i < c->sb.nflight; i++) {
        const struct cache_flight *fl = cache_flight(c, i);
        const uint64_t st = atomic_load(&fl->st);
        uint64_t joined = 0;

        for (uint32_t k = 0; k < CACHE_SLOTS / 64; k++)
            joined |= atomic_load(&fl->joined[k]);
        if (cache_st_code(st) > CFLIGHT_ORPHAN)
            finding(f, "flight %" PRIu32 " is in no state", i);
        else if (f->still && (cache_st_code(st) != CFLIGHT_FREE || joined))
            finding(f, "flight %" PRIu32 " is left in state %" PRIu32, i, cache_st_code(st));
    }
}

static void check_rows(struct fsck *f)
{
    const struct cache *c = f->c;
    const uint32_t bound = cache_slot_bound(c);

    for (uint32_t i = 0; i < bound; i++) {
        uint32_t pins = 0;

        if (!f->still && atomic_load(&cache_row(c, i)->owner) != 0)
            continue;
        for (uint32_t k = 0; k < c->sb.nslab; k++)
            pins += atomic_load(&cache_slabpin(c, i)[k]) != 0;
        for (uint32_t k = 0; k < c->sb.nbodypin; k++)
            pins += atomic_load(&cache_bodypin(c, i)[k]) != 0;
        if (pins > 0)
            finding(f, "slot %" PRIu32 " is empty and has %" PRIu32 " pins", i, pins);
    }
}

static void check_shares(struct fsck *f)
{
    const struct cache *c = f->c;
    uint64_t *sum = malloc(2 * c->sb.nshare * sizeof(*sum));

    if (sum)
        cache_share_sum(c, sum);
    for (uint32_t i = 0; sum && i < c->sb.nshare; i++) {
        for (uint32_t q = 0; q < 2; q++) {
            const uint64_t want = sum[q * c->sb.nshare + i], have = cache_share_queue(c, q, i);

            if (want != have)
                finding(f, "site %" PRIu32 " is counted with %" PRIu64 " bytes, has %" PRIu64, i,
                        have, want);
        }
    }
    free(sum);
}

int cache_fsck(const struct cache *c, bool still, struct buf *out)
{
    struct fsck f = {c, out, still, 0};

    check_super(&f);
    for (uint32_t b = 0; b < c->sb.nbucket; b++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++)
            check_word(&f, b, i);
    }
    check_slabs(&f);
    check_bodies(&f);
    check_flights(&f);
    check_rows(&f);
    if (still)
        check_shares(&f);
    if (f.n > FINDINGS_PRINTED)
        buf_printf(out, "and %d more\n", f.n - FINDINGS_PRINTED);
    return f.n;
}

/* ---- figures ---- */

/* The kernel says per mapping how much of it stands in huge pages. */
static uint64_t huge_bytes(const struct cache *c)
{
    FILE *in = fopen("/proc/self/smaps", "re");
    uint64_t total = 0, kib;
    bool ours = false;
    char line[512];

    while (in && fgets(line, sizeof(line), in)) {
        char *end;
        const unsigned long long at = strtoull(line, &end, 16);

        if (end > line && *end == '-')
            ours = at >= (uintptr_t)c->base && at < (uintptr_t)c->base + c->size;
        else if (ours && (strncmp(line, "ShmemPmdMapped:", 15) == 0 ||
                          strncmp(line, "FilePmdMapped:", 14) == 0 ||
                          strncmp(line, "Shared_Hugetlb:", 15) == 0 ||
                          strncmp(line, "Private_Hugetlb:", 16) == 0)) {
            kib = strtoull(strchr(line, ':') + 1, NULL, 10);
            total += kib * 1024;
        }
    }
    if (in)
        fclose(in);
    return total;
}

static void stat_slab(const struct cache *c, uint32_t i, struct cache_stat *ret)
{
    const struct cache_slab *s = cache_slab(c, i);
    const uint32_t q = atomic_load(&s->queue) & 1u, woff = atomic_load(&s->woff);
    const uint64_t bytes =
        (woff < c->sb.slab_size ? woff : c->sb.slab_size) + atomic_load(&s->pages_bytes);

    switch (cache_st_code(atomic_load(cache_slab_st(c, i)))) {
    case CSLAB_FREE:
        ret->slabs_free++;
        return;
    case CSLAB_OPEN:
        ret->slabs_open++;
        break;
    case CSLAB_SEALED:
    case CSLAB_EVICT:
        ++*(q ? &ret->slabs_main : &ret->slabs_small);
        break;
    case CSLAB_POPEN:
    case CSLAB_PAGES:
        ret->slabs_paged++;
        return;
    default:
        ret->slabs_draining++;
        return;
    }
    *(q ? &ret->main_bytes : &ret->small_bytes) += bytes;
}

void cache_stat(const struct cache *c, struct cache_stat *ret)
{
    const uint32_t bound = cache_slot_bound(c);

    memset(ret, 0, sizeof(*ret));
    ret->size = c->sb.data;
    ret->mapping = c->sb.size;
    ret->slab = c->sb.slab_size;
    ret->page = c->sb.page_size;
    ret->slabs = c->sb.nslab;
    ret->max_object = c->sb.max_object;
    ret->index_room = (uint64_t)c->sb.nbucket * CACHE_WAYS;
    ret->pages = c->npage;
    ret->huge = huge_bytes(c);
    ret->disk_files = atomic_load(&cache_hot(c)->disk_files.v);
    ret->disk_bytes = atomic_load(&cache_hot(c)->disk_bytes.v);
    ret->disk_pending = atomic_load(&cache_hot(c)->disk_pending.v);
    for (uint32_t i = 0; i < c->sb.nslab; i++)
        stat_slab(c, i, ret);
    for (uint32_t b = 0; b < c->sb.nbucket; b++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++)
            ret->objects +=
                atomic_load_explicit(&cache_bucket(c, b)->word[i], memory_order_relaxed) != 0;
    }
    for (uint32_t i = 0; i < c->npage; i++) {
        const uint64_t o = atomic_load_explicit(&cache_page(c, i)->owner, memory_order_relaxed);

        ret->pages_used += o != CPAGE_CLOSED && !cache_body_page_is_free(c, o);
    }
    for (uint32_t i = 0; i < c->sb.nbody; i++)
        ret->bodies += cache_st_code(atomic_load(&cache_bodyd(c, i)->st)) != CBODY_FREE;
    for (uint32_t i = 0; i < c->sb.nflight; i++)
        ret->flights += cache_st_code(atomic_load(&cache_flight(c, i)->st)) != CFLIGHT_FREE;
    for (uint32_t s = 0; s < bound; s++) {
        for (int i = 0; i < CACHE_CTR__COUNT; i++)
            ret->ctr[i] += atomic_load_explicit(&cache_row(c, s)->ctr[i], memory_order_relaxed);
    }
}

void cache_stat_encoded(const struct cache *c, struct cache_stat *ret)
{
    struct cache_head h;

    ret->encoded = ret->encoded_bytes = 0;
    for (uint64_t i = 0; i < (uint64_t)c->sb.nbucket * CACHE_WAYS; i++) {
        const uint64_t word = atomic_load(
            &cache_bucket(c, (uint32_t)(i / CACHE_WAYS))->word[(uint32_t)(i % CACHE_WAYS)]);

        /* What is overwritten while it is read has no sum that fits. */
        if (word == 0 || cache_word_slab(word) >= c->sb.nslab ||
            cache_record_load(c, cache_word_slab(word), cache_word_off(word), c->sb.slab_size, &h) <
                0 ||
            h.type != CACHE_ENCODED)
            continue;
        ret->encoded++;
        ret->encoded_bytes += h.size;
    }
}
