/* Consistency of a live segment. Words in motion are looked at twice, so that a finding is a
 * finding. */
#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "shm/layout.h"
#include "shm/segment.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FINDINGS_PRINTED 100 /* a destroyed segment must not fill the reader's memory */

struct fsck {
    const struct segment *s;
    struct buf *out;
    int n;
};

static void finding(struct fsck *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void finding(struct fsck *f, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    if (f->n++ >= FINDINGS_PRINTED)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    buf_str(f->out, line);
    buf_chr(f->out, '\n');
}

static uint64_t slot_word(const struct fsck *f, uint32_t slot)
{
    return atomic_load(&layout_slot(f->s, slot)->id);
}

static void check_super(struct fsck *f)
{
    struct superblock want;

    layout_superblock(f->s, &want);
    if (memcmp(f->s->base, &want, sizeof(want)) != 0)
        finding(f, "superblock A differs from what it was at creation");
    if (memcmp(f->s->base + LAYOUT_SUPER_B, &want, sizeof(want)) != 0)
        finding(f, "superblock B differs from what it was at creation");
}

static void check_bounds(struct fsck *f)
{
    const struct layout_hot *h = layout_hot(f->s);

    if (atomic_load(&h->slot_bound) > f->s->nslots)
        finding(f, "slot bound %" PRIu32 " is beyond the table", atomic_load(&h->slot_bound));
    if (atomic_load(&h->server_bound) > f->s->nservers)
        finding(f, "server bound %" PRIu32 " is beyond the table", atomic_load(&h->server_bound));
    if (atomic_load(&h->series_count) > f->s->nseries || atomic_load(&h->series_count) == 0)
        finding(f, "series count %" PRIu32 " is out of range", atomic_load(&h->series_count));
    if (atomic_load(&h->name_count) > f->s->nnames)
        finding(f, "name count %" PRIu32 " is beyond the table", atomic_load(&h->name_count));
    if (atomic_load(&h->cert_bound) > f->s->ncerts)
        finding(f, "certificate bound %" PRIu32 " is beyond the table",
                atomic_load(&h->cert_bound));
}

/* A FREE slot owns nothing: its gauges are zero. */
static void check_free_slot(struct fsck *f, uint32_t slot, uint64_t id)
{
    const struct gauge_row *g = layout_gauge_row(f->s, slot);
    const uint32_t servers = layout_server_bound(f->s);

    for (unsigned i = 0; i < GAU__COUNT; i++) {
        const uint64_t v = atomic_load(&g->v[i]);

        if (v != 0 && slot_word(f, slot) == id)
            finding(f, "slot %" PRIu32 ": free, but gauge %s is %" PRIu64, slot,
                    gauge_name((enum gauge)i), v);
    }
    for (uint32_t i = 0; i < servers; i++) {
        const struct server_row *r = layout_server_row(f->s, slot, i);
        const uint32_t a = atomic_load(&r->active), b = atomic_load(&r->idle),
                       c = atomic_load(&r->queued), d = atomic_load(&r->retrying);

        if ((a || b || c || d) && slot_word(f, slot) == id)
            finding(f,
                    "slot %" PRIu32 ": free, but server %" PRIu32 " has active %" PRIu32
                    " idle %" PRIu32 " queued %" PRIu32 " retrying %" PRIu32 " from it",
                    slot, i, a, b, c, d);
        if ((atomic_load(&layout_server(f->s, i)->want[slot / 64]) >> (slot % 64) & 1) &&
            slot_word(f, slot) == id)
            finding(f, "slot %" PRIu32 ": free, but wants a place at server %" PRIu32, slot, i);
    }
    if (atomic_load(&layout_slot(f->s, slot)->session_place) != 0 && slot_word(f, slot) == id)
        finding(f, "slot %" PRIu32 ": free, but is said to write a session", slot);
}

static void check_slots(struct fsck *f)
{
    const uint32_t bound = slot_bound(f->s);

    for (uint32_t i = 0; i < f->s->nslots; i++) {
        const uint64_t id = slot_word(f, i);
        const uint32_t st = slot_word_state(id);

        if (st >= SLOT__COUNT)
            finding(f, "slot %" PRIu32 ": state %" PRIu32 " does not exist", i, st);
        else if (st != SLOT_FREE && i >= slot_bound(f->s))
            finding(f, "slot %" PRIu32 ": in use beyond the bound", i);
        else if (st != SLOT_FREE && slot_word_inc(id) == 0)
            finding(f, "slot %" PRIu32 ": in use without an incarnation", i);
        if (st == SLOT_FREE && (id >> 32) != 0)
            finding(f, "slot %" PRIu32 ": free with process id %" PRIu32, i, (uint32_t)(id >> 32));
        if (st == SLOT_FREE && i < bound)
            check_free_slot(f, i, id);
        if (memchr(layout_at(f->s, AREA_PANIC, (size_t)i * SLOT_PANIC_SIZE), 0, SLOT_PANIC_SIZE) ==
            NULL)
            finding(f, "slot %" PRIu32 ": panic record without an end", i);
    }
}

/* An owner is nobody, or somebody, or dead and not swept yet. */
static bool owner_known(const struct fsck *f, uint32_t oid)
{
    const uint32_t slot = oid & 0xff;
    uint64_t w;

    if (oid == 0)
        return true;
    w = slot < f->s->nslots ? slot_word(f, slot) : 0;
    return slot < f->s->nslots && slot_word_state(w) != SLOT_FREE && slot_word_inc(w) == oid >> 8;
}

static void check_owner(struct fsck *f, const _Atomic uint32_t *word, const char *what, uint32_t id)
{
    const uint32_t oid = atomic_load(word);
    const uint32_t slot = oid & 0xff;

    if (!owner_known(f, oid) && atomic_load(word) == oid)
        finding(f, "%s %" PRIu32 ": owner %" PRIu32 "/%" PRIu32 " does not live", what, id, slot,
                oid >> 8);
}

static void check_name(struct fsck *f, const char *name, uint32_t len, uint32_t max,
                       const char *what, uint32_t id)
{
    if (len > max)
        finding(f, "%s %" PRIu32 ": name of %" PRIu32 " bytes", what, id, len);
    else if (name[len] != '\0' || memchr(name, 0, len) != NULL)
        finding(f, "%s %" PRIu32 ": name is not terminated where it should be", what, id);
}

static int cmp_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Two entries of one identity would split its counts. */
static void check_doubles(struct fsck *f, enum layout_area area, uint32_t n, const char *what)
{
    uint64_t *copy = calloc(n ? n : 1, sizeof(*copy));

    if (!copy) {
        finding(f, "%s: no memory to look for doubles", what);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        copy[i] = atomic_load(&layout_words(f->s, area)[i]);
    qsort(copy, n, sizeof(*copy), cmp_u64);
    for (uint32_t i = 1; i < n; i++) {
        if (copy[i] != 0 && copy[i] == copy[i - 1])
            finding(f, "%s: key %016" PRIx64 " is there twice", what, copy[i]);
    }
    free(copy);
}

static void check_servers(struct fsck *f)
{
    const uint32_t n = layout_server_bound(f->s);

    for (uint32_t i = 0; i < n; i++) {
        const struct server_rec *r = layout_server(f->s, i);

        if (atomic_load(&layout_words(f->s, AREA_SERVER_KEY)[i]) == 0)
            continue;
        check_name(f, r->name, atomic_load(&r->name_len), SERVER_NAME_MAX, "server", i);
        check_owner(f, &r->probe_owner, "probe of server", i);
        if (atomic_load(&r->admin) > SERVER_ADMIN_DOWN)
            finding(f, "server %" PRIu32 ": override %" PRIu32 " does not exist", i,
                    atomic_load(&r->admin));
        if (atomic_load(&r->last_error) >= ERR__COUNT)
            finding(f, "server %" PRIu32 ": last error %" PRIu32 " does not exist", i,
                    atomic_load(&r->last_error));
    }
    check_doubles(f, AREA_SERVER_KEY, n, "servers");
}

static void check_series(struct fsck *f)
{
    const uint32_t n = series_count(f->s);

    for (uint32_t i = 0; i < n; i++) {
        const struct series_name_rec *r = layout_series_name(f->s, i);

        check_name(f, r->name, atomic_load(&r->len), SERIES_NAME_MAX, "series", i);
    }
    check_doubles(f, AREA_SERIES_HASH, n, "series");
}

static void check_names(struct fsck *f)
{
    const uint32_t n = resolve_count(f->s);

    for (uint32_t i = 0; i < n; i++) {
        const struct resolve_rec *r = layout_name(f->s, i);
        const uint64_t state = atomic_load(&r->state);
        const uint64_t w1 = atomic_load(&r->buf[state >> 32 & 1][2]); /* n and error */
        struct resolve_stored st;

        memcpy(&st.n, &w1, sizeof(w1));
        check_name(f, r->name, atomic_load(&r->name_len), RESOLVE_NAME_MAX, "name", i);
        check_owner(f, &r->writer, "writer of name", i);
        if (state == 0 || atomic_load(&r->state) != state)
            continue;
        if (st.n > RESOLVE_ADDRS)
            finding(f, "name %" PRIu32 ": %" PRIu32 " addresses", i, st.n);
        if (st.error > 3)
            finding(f, "name %" PRIu32 ": error %" PRIu32 " does not exist", i, st.error);
        if ((uint32_t)state != 0 && st.n == 0)
            finding(f, "name %" PRIu32 ": resolved to nothing", i);
    }
    check_doubles(f, AREA_NAME_HASH, n, "names");
}

static void check_ticket(struct fsck *f)
{
    const struct ticket_rec *t = layout_at(f->s, AREA_TICKET, 0);
    const struct hash_key secret = layout_secret(f->s);
    struct ticket_ring ring;
    uint32_t seq = 0;

    if (secret.k0 == 0 && secret.k1 == 0)
        finding(f, "the secret of hashes is gone");
    if (atomic_load(&t->seq) != 0 && !ticket_get(f->s, &seq, &ring) &&
        !ticket_get(f->s, &seq, &ring))
        finding(f, "ticket ring %" PRIu32 " has a wrong checksum", atomic_load(&t->seq));
    explicit_bzero(&ring, sizeof(ring));
}

static void check_certs(struct fsck *f)
{
    const uint32_t n = cert_count(f->s);

    for (uint32_t i = 0; i < n; i++) {
        const struct cert_rec *r = layout_at(f->s, AREA_CERT, (size_t)i * sizeof(struct cert_rec));

        if (atomic_load(&layout_words(f->s, AREA_CERT_KEY)[i]) == 0)
            continue;
        check_name(f, r->name, atomic_load(&r->name_len), CERT_NAME_MAX, "certificate", i);
        check_owner(f, &r->writer, "writer of certificate", i);
        if ((uint32_t)atomic_load(&r->state) > 1)
            finding(f, "certificate %" PRIu32 ": state %" PRIu32 " does not exist", i,
                    (uint32_t)atomic_load(&r->state));
    }
    check_doubles(f, AREA_CERT_KEY, n, "certificates");
}

/* A place that somebody owns is noted in his slot, or the reaper would not find it; what one may
 * read is whole. */
static void check_session(struct fsck *f, uint32_t place)
{
    const struct session_head *h =
        layout_at(f->s, AREA_SESSION_HEAD, (size_t)place * sizeof(struct session_head));
    const struct session_body *b =
        layout_at(f->s, AREA_SESSION_BODY, (size_t)place * sizeof(struct session_body));
    const uint64_t state = atomic_load(&h->state);
    const uint32_t owner = session_owner(state);
    uint64_t tag, size, w[SESSION_WORDS];
    bool known, whole;

    if (owner != 0) {
        known = owner_known(f, owner);
        whole = known && atomic_load(&layout_slot(f->s, owner & 0xff)->session_place) == place + 1;
        if (!whole && atomic_load(&h->state) == state)
            finding(f, "session %" PRIu32 ": owner %" PRIu32 "/%" PRIu32 " does not %s", place,
                    owner & 0xff, owner >> 8, known ? "know of it" : "live");
        return;
    }
    tag = atomic_load(&h->tag);
    if (tag == 0)
        return;
    size = atomic_load(&h->size);
    for (size_t i = 0; i < SESSION_WORDS; i++)
        w[i] = atomic_load_explicit(&b->w[i], memory_order_acquire);
    whole = (size & 0xffff) > 0 && (size & 0xffff) <= SESSION_MAX && (size >> 16 & 0xffff) > 0 &&
            (size >> 16 & 0xffff) <= SESSION_ID_MAX &&
            session_sum(tag, (uint32_t)size, w) == size >> 32;
    if (!whole && atomic_load(&h->state) == state)
        finding(f, "session %" PRIu32 ": wrong size or checksum", place);
    explicit_bzero(w, sizeof(w));
}

int segment_fsck(const struct segment *s, struct buf *out)
{
    struct fsck f = {s, out, 0};

    check_super(&f);
    check_bounds(&f);
    check_slots(&f);
    check_servers(&f);
    check_series(&f);
    check_names(&f);
    check_ticket(&f);
    check_certs(&f);
    for (uint32_t i = 0; i < s->nsessions; i++)
        check_session(&f, i);
    if (f.n > FINDINGS_PRINTED)
        buf_printf(out, "and %d more\n", f.n - FINDINGS_PRINTED);
    return f.n;
}
