/* Bytes per site. Two counters each, one per queue, which say at any time what the records are that
 * the index leads to, also after deaths: a record is counted before a word leads to it, and
 * uncounted by whoever takes the word away.
 *
 * What a worker is about to do stands in a note of its row, so that the reaper can end it. That
 * needs to know whether a counter has been changed already: its word says who changed it last, and
 * who changes it next tells the one before in his note.
 *
 * A counter: bytes / 8:42 | slot:8 | note:1 | seq:13.
 * A note's op: seq:13 | counter:17 | applied:1 | kind:2. */
#include "shm/cache_layout.h"

#include <stdlib.h>

enum { MADE, TAKEN };           /* notes: the record that comes, the one that goes */
enum { NONE, WATCH, ADD, SUB }; /* WATCH: its word is being changed */

#define APPLIED  4u
#define SEQS     0x1fffu
#define COUNTERS 0x1ffffu

/* ---- words ---- */

static uint64_t op_word(uint32_t kind, uint32_t counter, uint32_t seq)
{
    return (uint64_t)(seq & SEQS) << 20 | counter << 3 | kind;
}
static uint32_t op_kind(uint64_t op)
{
    return (uint32_t)op & 3u;
}
static uint32_t op_counter(uint64_t op)
{
    return (uint32_t)(op >> 3) & COUNTERS;
}
static uint32_t op_seq(uint64_t op)
{
    return (uint32_t)(op >> 20) & SEQS;
}
/* Who changed a counter last: its low 22 bits. */
static uint32_t tag_of(uint32_t slot, uint32_t note, uint32_t seq)
{
    return slot << 14 | note << 13 | seq;
}
static uint32_t counter_tag(uint64_t v)
{
    return (uint32_t)v & 0x3fffffu;
}

static _Atomic uint64_t *counter(const struct cache *c, uint32_t i)
{
    return cache_at(c, CACHE_AREA_SHARE, (i & (2 * c->sb.nshare - 1)) * sizeof(uint64_t));
}

static uint32_t counter_of(const struct cache *c, uint32_t queue, uint32_t site)
{
    return queue * c->sb.nshare + (site & (c->sb.nshare - 1));
}

static uint32_t counter_of_record(const struct cache *c, const struct cache_head *h, uint64_t word)
{
    const struct cache_slab *s = cache_slab(c, cache_word_slab(word));

    return counter_of(c, atomic_load_explicit(&s->queue, memory_order_relaxed) & 1u, h->site);
}

static _Atomic uint16_t *flag_of(const struct cache_head *h)
{
    return (_Atomic uint16_t *)(uintptr_t)(h->p + offsetof(struct cache_rec, counted));
}

/* ---- one change of a counter ---- */

static struct cache_note *note_of(const struct cache *c, uint32_t slot, uint32_t note)
{
    return &cache_row(c, slot)->note[note];
}

/* Notes what is to be done, with a number that the counter does not have from this note now. */
static void begin(struct cache *c, uint32_t slot, uint32_t note, uint32_t kind, uint32_t i)
{
    _Atomic uint64_t *op = &note_of(c, slot, note)->op;
    uint32_t seq = (op_seq(atomic_load(op)) + 1) & SEQS;

    if (counter_tag(atomic_load(counter(c, i))) == tag_of(slot, note, seq))
        seq = (seq + 1) & SEQS;
    atomic_store(op, op_word(kind, i, seq));
}

static void become(struct cache *c, uint32_t slot, uint32_t note, uint32_t kind)
{
    _Atomic uint64_t *op = &note_of(c, slot, note)->op;

    atomic_store(op, op_word(kind, 0, op_seq(atomic_load(op))));
}

/* Tells who changed the counter last that it is done, if he still waits for that. */
static void acknowledge(struct cache *c, uint32_t i, uint64_t v)
{
    const uint32_t tag = counter_tag(v), slot = tag >> 14, kinds[2] = {ADD, SUB};
    _Atomic uint64_t *op;

    if (slot >= c->sb.nslot)
        return;
    op = &note_of(c, slot, tag >> 13 & 1u)->op;
    for (int k = 0; k < 2; k++) {
        uint64_t expect = op_word(kinds[k], i, tag & SEQS);

        if (atomic_load(op) == expect)
            atomic_compare_exchange_strong(op, &expect, expect | APPLIED);
    }
}

/* The counter is looked at first: who changes it next has told so before. */
static bool applied(const struct cache *c, uint32_t slot, uint32_t note)
{
    const _Atomic uint64_t *op = &note_of(c, slot, note)->op;
    const uint64_t v = atomic_load(op);

    return counter_tag(atomic_load(counter(c, op_counter(v)))) == tag_of(slot, note, op_seq(v)) ||
           (atomic_load(op) & APPLIED) != 0;
}

/* Never below zero, which only damage could bring about. */
static uint64_t changed(uint64_t v, bool more, uint64_t units)
{
    if (more)
        return v + units;
    return v > units ? v - units : 0;
}

/* Does what the note says, once. */
static void apply(struct cache *c, uint32_t slot, uint32_t note, uint64_t bytes)
{
    const uint64_t op = atomic_load(&note_of(c, slot, note)->op), units = bytes / 8;
    const uint32_t tag = tag_of(slot, note, op_seq(op));
    _Atomic uint64_t *p = counter(c, op_counter(op));
    uint64_t v;

    if (applied(c, slot, note))
        return;
    v = atomic_load(p);
    do
        acknowledge(c, op_counter(op), v);
    while (!atomic_compare_exchange_weak(p, &v,
                                         changed(v >> 22, op_kind(op) == ADD, units) << 22 | tag));
}

/* ---- records ---- */

static uint64_t bytes_of(const struct cache *c, const struct cache_head *h)
{
    return h->len + ((uint64_t)h->npages << c->page_shift);
}

void cache_share_count(struct cache *c, uint32_t slot, const struct cache_head *h, uint64_t word)
{
    atomic_store(&note_of(c, slot, MADE)->word, word);
    begin(c, slot, MADE, ADD, counter_of_record(c, h, word));
    apply(c, slot, MADE, bytes_of(c, h));
    atomic_store(flag_of(h), CACHE_COUNTED);
    become(c, slot, MADE, WATCH);
}

/* No word leads to it any more. Who sets the flag does it: the one who took the word away, or his
 * reaper, or the reaper of another who was about to. */
static void uncount(struct cache *c, uint32_t slot, uint32_t note, const struct cache_head *h,
                    uint64_t word)
{
    const uint16_t mine = (uint16_t)(CACHE_COUNTED_BY | slot);
    uint16_t flag = CACHE_COUNTED;

    if (!atomic_compare_exchange_strong(flag_of(h), &flag, mine) && flag != mine)
        return;
    begin(c, slot, note, SUB, counter_of_record(c, h, word));
    apply(c, slot, note, bytes_of(c, h));
    atomic_store(flag_of(h), 0);
}

void cache_share_made(struct cache *c, uint32_t slot, const struct cache_head *h, uint64_t word,
                      bool led_to)
{
    if (!led_to)
        uncount(c, slot, MADE, h, word);
    become(c, slot, MADE, NONE);
}

bool cache_share_swap(struct cache *c, uint32_t slot, _Atomic uint64_t *place, uint64_t old,
                      const struct cache_head *h, uint64_t new)
{
    uint64_t expect = old;
    bool done;

    atomic_store(&note_of(c, slot, TAKEN)->word, old);
    become(c, slot, TAKEN, WATCH);
    done = atomic_compare_exchange_strong(place, &expect, new);
    if (done)
        uncount(c, slot, TAKEN, h, old);
    become(c, slot, TAKEN, NONE);
    return done;
}

static void reap_note(struct cache *c, uint32_t slot, uint32_t note)
{
    const uint64_t word = atomic_load(&note_of(c, slot, note)->word);
    const uint32_t kind = op_kind(atomic_load(&note_of(c, slot, note)->op));
    struct cache_head h;

    if (kind == NONE || cache_word_slab(word) >= c->sb.nslab ||
        cache_record_load(c, cache_word_slab(word), cache_word_off(word), c->sb.slab_size, &h) < 0)
        return;
    if (kind == SUB) {
        uint16_t mine = (uint16_t)(CACHE_COUNTED_BY | slot);

        apply(c, slot, note, bytes_of(c, &h));
        atomic_compare_exchange_strong(flag_of(&h), &mine, 0);
        return;
    }
    if (kind == ADD) {
        if (!applied(c, slot, note))
            return;
        atomic_store(flag_of(&h), CACHE_COUNTED);
    }
    if (!cache_index_slot(c, &h.key, word))
        uncount(c, slot, note, &h, word);
}

/* TAKEN before MADE: a record that was made may be the one that was taken back. */
void cache_share_reap(struct cache *c, uint32_t slot)
{
    for (uint32_t note = TAKEN + 1; note-- > MADE;) {
        if (op_kind(atomic_load(&note_of(c, slot, note)->op)) == NONE)
            continue;
        reap_note(c, slot, note);
        become(c, slot, note, NONE);
    }
}

/* ---- what is counted ---- */

uint64_t cache_share_queue(const struct cache *c, uint32_t queue, uint32_t site)
{
    return atomic_load_explicit(counter(c, counter_of(c, queue, site)), memory_order_relaxed) >>
           22 << 3;
}

uint64_t cache_site_bytes(const struct cache *c, uint32_t site)
{
    return cache_share_queue(c, 0, site) + cache_share_queue(c, 1, site);
}

uint32_t cache_site_count(const struct cache *c)
{
    return c->sb.nshare;
}

void cache_set_share(struct cache *c, uint32_t thousandths)
{
    c->share = thousandths >= 100000 ? UINT64_MAX : c->sb.data * thousandths / 100000;
}

bool cache_share_admit(struct cache_worker *w, uint32_t site, uint64_t bytes)
{
    if (w->c->share == UINT64_MAX || cache_evict_site(w, site, bytes))
        return true;
    cache_count(w, CACHE_CTR_OVER_SHARE, 1);
    return false;
}

void cache_share_sum(const struct cache *c, uint64_t *ret)
{
    struct cache_head h;

    memset(ret, 0, 2 * c->sb.nshare * sizeof(*ret));
    for (uint32_t b = 0; b < c->sb.nbucket; b++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++) {
            const uint64_t v = atomic_load(&cache_bucket(c, b)->word[i]);

            if (v != 0 && cache_word_slab(v) < c->sb.nslab &&
                cache_record_load(c, cache_word_slab(v), cache_word_off(v), c->sb.slab_size, &h) ==
                    0)
                ret[counter_of_record(c, &h, v)] += bytes_of(c, &h);
        }
    }
}

int cache_share_repair(struct cache *c)
{
    const uint32_t n = 2 * c->sb.nshare;
    uint64_t *sum = malloc(2 * n * sizeof(*sum)), *before;
    int set = 0;

    if (!sum)
        return 0;
    before = sum + n;
    for (uint32_t i = 0; i < n; i++)
        before[i] = atomic_load(counter(c, i));
    cache_share_sum(c, sum);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t right = sum[i] / 8 << 22 | counter_tag(before[i]);

        if (before[i] != right)
            set += atomic_compare_exchange_strong(counter(c, i), &before[i], right);
    }
    free(sum);
    return set;
}
