/* What TLS keeps in the segment: ticket keys, sessions by id, certificate rows with their metrics;
 * none of it in a core dump. */
#include "base/buf.h"
#include "base/err.h"
#include "shm/layout.h"
#include "shm/metrics.h"
#include "t/unit/tap.h"

#include <inttypes.h>
#include <unistd.h>

static struct segment *s;
static uint32_t slot[3];
static slot_oid me, you;

static void setup(void)
{
    if (segment_create_sized(4, 4, 4, 4, &s) < 0)
        tap_bail("segment");
    for (uint32_t i = 0; i < 3; i++)
        slot_claim(s, 1, i, &slot[i]);
    me = slot_owner_id(s, slot[0]);
    you = slot_owner_id(s, slot[1]);
}

static int fsck(void)
{
    struct buf b;
    int n;

    buf_init(&b, 0);
    n = segment_fsck(s, &b);
    if (n > 0)
        printf("# %.*s\n", (int)(b.n > 0 ? b.n - 1 : 0), b.p);
    buf_fini(&b);
    return n;
}

static void ring_fill(struct ticket_ring *r, uint32_t n, uint8_t c)
{
    memset(r, 0, sizeof(*r));
    r->n = n;
    for (uint32_t i = 0; i < n && i < TICKET_KEYS; i++) {
        memset(r->key[i].name, c + (int)i, sizeof(r->key[i].name));
        memset(r->key[i].aes, c + (int)i, sizeof(r->key[i].aes));
        memset(r->key[i].hmac, c + (int)i, sizeof(r->key[i].hmac));
        r->key[i].made_ms = c + i;
    }
}

static bool same(const struct ticket_ring *a, const struct ticket_ring *b)
{
    return a->n == b->n && memcmp(a->key, b->key, sizeof(a->key)) == 0;
}

/* Does the shared memory hold 32 times this byte in a row, as a key of the tests does? */
static bool in_memory(uint8_t c)
{
    const unsigned char *p = layout_at(s, AREA_TICKET, 0);
    size_t row = 0;

    for (size_t i = 0; i < sizeof(struct ticket_rec) && row < 32; i++)
        row = p[i] == c ? row + 1 : 0;
    return row == 32;
}

static void test_tickets(void)
{
    struct ticket_ring a, b, got = {0};
    struct ticket_rec *t = (setup(), layout_at(s, AREA_TICKET, 0));
    uint32_t seq = 0, late = 0;

    tap_ok(!ticket_get(s, &seq, &got) && seq == 0, "no ring at first");
    ring_fill(&a, 1, 'a');
    ticket_put(s, &a);
    tap_ok(ticket_get(s, &seq, &got) && seq != 0 && same(&a, &got), "the first ring");
    tap_ok(!ticket_get(s, &seq, &got), "once");
    ring_fill(&b, 4, 'p');
    ticket_put(s, &b);
    tap_ok(ticket_get(s, &seq, &got) && same(&b, &got), "the next one");
    tap_ok(in_memory('p') && !in_memory('a'), "the one before is erased");
    tap_ok(ticket_get(s, &late, &got) && late == seq, "a newcomer gets it at once");
    t->buf[seq & 1][5] ^= 1;
    late = 0;
    memset(&got, 7, sizeof(got));
    tap_ok(!ticket_get(s, &late, &got) && late == 0 && got.n == 0x07070707,
           "a damaged ring is none, and nothing is touched");
    tap_is_int(fsck(), 1, "fsck sees it");
    ticket_put(s, &b);
    tap_ok(ticket_get(s, &seq, &got) && fsck() == 0, "until the next one");
    t->seq = UINT32_MAX;
    ticket_put(s, &a);
    tap_ok(ticket_get(s, &seq, &got) && seq != 0 && same(&a, &got), "the number comes around");
    b.n = 99;
    ticket_put(s, &b);
    tap_ok(ticket_get(s, &seq, &got) && got.n == TICKET_KEYS, "more than four are cut");
    segment_close(&s);
}

static void id_make(uint8_t id[32], uint32_t i)
{
    memset(id, 0, 32);
    memcpy(id, &i, sizeof(i));
}

static void test_sessions(void)
{
    uint8_t id[33] = "the id of a session, of 32 bytes", data[SESSION_MAX + 1], out[SESSION_MAX];
    uint32_t places;
    int found = 0;

    setup();
    places = s->nsessions;
    memset(data, 'x', sizeof(data));
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), -ERR_NOENT, "not there");
    tap_is_int(session_put(s, me, id, 32, data, SESSION_MAX, 100), 0, "stored");
    tap_ok(session_get(s, id, 32, 99, out, sizeof(out)) == SESSION_MAX &&
               memcmp(out, data, SESSION_MAX) == 0,
           "found");
    tap_is_int(session_get(s, id, 32, 100, out, sizeof(out)), -ERR_NOENT, "until it expires");
    tap_is_int(session_get(s, id, 31, 99, out, sizeof(out)), -ERR_NOENT, "a shorter id is another");
    tap_is_int(session_get(s, id, 32, 99, out, SESSION_MAX - 1), -ERR_RANGE, "no room");
    tap_ok(session_put(s, you, id, 32, data, 1, 200) == 0 &&
               session_get(s, id, 32, 150, out, sizeof(out)) == 1,
           "replaced by another worker");
    session_remove(s, me, id, 32);
    tap_is_int(session_get(s, id, 32, 150, out, sizeof(out)), -ERR_NOENT, "removed");
    for (uint32_t i = 0; i < places; i++) {
        const struct session_body *b =
            layout_at(s, AREA_SESSION_BODY, (size_t)i * sizeof(struct session_body));

        for (size_t k = 0; k < SESSION_WORDS; k++)
            found += b->w[k] != 0;
    }
    /* The first of the two was in the same place. */
    tap_is_int(found, 0, "and erased");
    session_remove(s, me, id, 32);
    tap_is_int(session_put(s, me, id, 32, data, SESSION_MAX + 1, 1), -ERR_RANGE, "too long");
    tap_ok(session_put(s, me, id, 33, data, 1, 1) == -ERR_RANGE &&
               session_put(s, me, id, 0, data, 1, 1) == -ERR_RANGE &&
               session_put(s, me, id, 32, data, 0, 1) == -ERR_RANGE,
           "no such id, no session");
    tap_ok(session_put(s, 0, id, 32, data, 1, 1) == -ERR_RANGE &&
               session_put(s, 200, id, 32, data, 1, 1) == -ERR_RANGE,
           "no such worker");
    tap_ok(session_get(s, id, 0, 0, out, sizeof(out)) == -ERR_NOENT &&
               session_get(s, id, 33, 0, out, sizeof(out)) == -ERR_NOENT,
           "hostile ids are not there");

    /* More than fit: those that expire last stay. */
    for (uint32_t i = 0; i < 200; i++) {
        id_make(id, i);
        memcpy(data, &i, sizeof(i));
        if (session_put(s, me, id, 32, data, 40 + i, 1000 + i) != 0)
            tap_bail("put");
    }
    found = 0;
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t k;
        ssize_t n;

        id_make(id, i);
        n = session_get(s, id, 32, 0, out, sizeof(out));
        if (n < 0)
            continue;
        memcpy(&k, out, sizeof(k));
        found += k == i && n == 40 + (ssize_t)i;
        if (k != i || i < 150)
            found += 1000;
    }
    tap_is_int(found, places, "a full table holds the latest");
    tap_is_int(fsck(), 0, "fsck is clean");
    segment_close(&s);
}

static struct session_head *head_of(uint32_t place)
{
    return layout_at(s, AREA_SESSION_HEAD, (size_t)place * sizeof(struct session_head));
}

/* A worker is in the middle of writing to every place. */
static void test_session_owners(void)
{
    uint8_t id[32] = {1}, data[100] = {0}, out[SESSION_MAX];
    uint32_t mine = UINT32_MAX;

    setup();
    session_put(s, me, id, 32, data, 100, 1000);
    for (uint32_t i = 0; i < s->nsessions; i++) {
        if (head_of(i)->tag != 0)
            mine = i;
        head_of(i)->state |= you;
    }
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), -ERR_NOENT, "nobody reads");
    tap_is_int(session_put(s, me, id, 32, data, 100, 1000), -ERR_FULL, "nobody writes");
    session_remove(s, me, id, 32);
    tap_ok(head_of(mine)->tag != 0 && layout_slot(s, slot[0])->session_place == 0,
           "nobody removes; and nothing is noted");
    for (uint32_t i = 0; i < s->nsessions; i++) {
        if (i != mine)
            head_of(i)->state = 0;
    }
    layout_slot(s, slot[1])->session_place = mine + 1;
    tap_is_int(fsck(), 0, "fsck: one place may be in work");
    tap_is_int(session_put(s, me, id, 32, data, 50, 1000), 0, "another place is taken");
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), 50, "and found");
    session_remove(s, me, id, 32);
    head_of(mine)->size ^= 1;
    slot_set_state(s, slot[1], SLOT_DEAD);
    slot_reap(s, slot[1]);
    tap_ok(head_of(mine)->tag == 0 && (uint32_t)head_of(mine)->state == 0 &&
               layout_slot(s, slot[1])->session_place == 0,
           "what a dead one left half written is free");
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), -ERR_NOENT, "not found");
    tap_is_int(fsck(), 0, "fsck is clean");

    session_put(s, me, id, 32, data, 100, 1000);
    for (uint32_t i = 0; i < s->nsessions; i++) {
        if (head_of(i)->tag != 0)
            mine = i;
    }
    head_of(mine)->expires_ms = 2000; /* not part of the sum: a wrong time is no torn session */
    ((struct session_body *)layout_at(s, AREA_SESSION_BODY,
                                      (size_t)mine * sizeof(struct session_body)))
        ->w[9] ^= 1u << 20;
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), -ERR_CORRUPT, "a flipped bit is seen");
    tap_is_int(fsck(), 1, "by fsck too");
    tap_is_int(session_put(s, me, id, 32, data, 100, 1000), 0, "and written over");
    tap_is_int(session_get(s, id, 32, 0, out, sizeof(out)), 100, "as new");
    segment_close(&s);
}

static bool has(struct buf *b, const char *line)
{
    buf_chr(b, '\0');
    b->n--;
    return b->failed ? false : strstr(b->p, line) != NULL;
}

static void test_certs(void)
{
    struct cert_state st = {.names = 3,
                            .loaded = 2,
                            .failed = 1,
                            .not_after_s = 2000000000,
                            .first_name = "a.example",
                            .error = "no such file",
                            .changed_ms = 77},
                      got;
    uint32_t a = 9, b = 9, c = 9, id;
    struct slice name;
    char longer[300];
    struct buf out;

    setup();
    memset(longer, 'n', sizeof(longer));
    tap_ok(!cert_get(s, 0, &name, &got) && cert_count(s) == 0, "none at first");
    tap_ok(cert_register(s, SLICE("main"), 1, &a) == 0 &&
               cert_register(s, SLICE("other"), 1, &b) == 0 && a != b,
           "two");
    tap_ok(cert_register(s, SLICE("main"), 2, &id) == 0 && id == a && cert_count(s) == 2 &&
               cert_generation(s, a) == 2 && cert_generation(s, b) == 1,
           "a reload finds it again");
    tap_ok(cert_get(s, a, &name, &got) && slice_eq(name, SLICE("main")) && got.changed_ms == 0 &&
               got.names == 0,
           "nobody has said anything of it");
    tap_is_int(cert_put(s, me, a, &st), 0, "a worker says something");
    tap_ok(cert_get(s, a, &name, &got) && got.names == 3 && got.loaded == 2 && got.failed == 1 &&
               got.not_after_s == 2000000000 && got.changed_ms == 77 &&
               strcmp(got.first_name, "a.example") == 0 && strcmp(got.error, "no such file") == 0,
           "that is read");
    memset(st.error, 'e', sizeof(st.error));
    memset(st.first_name, 'f', sizeof(st.first_name));
    tap_ok(cert_put(s, you, a, &st) == 0 && cert_get(s, a, &name, &got) &&
               strlen(got.error) == sizeof(got.error) - 1 &&
               strlen(got.first_name) == sizeof(got.first_name) - 1,
           "texts without an end get one");
    tap_ok(cert_put(s, me, 3, &st) == -ERR_RANGE && cert_put(s, me, 99, &st) == -ERR_RANGE &&
               cert_put(s, 0, a, &st) == -ERR_RANGE,
           "no such row, no such worker");
    ((struct cert_rec *)layout_at(s, AREA_CERT, 0))[a].writer = you;
    tap_is_int(cert_put(s, me, a, &st), -ERR_FULL, "another worker is writing");
    slot_set_state(s, slot[1], SLOT_DEAD);
    slot_reap(s, slot[1]);
    strcpy(st.first_name, "b.example");
    tap_is_int(cert_put(s, me, a, &st), 0, "until it is reaped");

    buf_init(&out, 0);
    metrics_render(s, 0, &out);
    tap_ok(has(&out, "# TYPE rpd_certificate_not_after_seconds gauge\n"
                     "rpd_certificate_not_after_seconds{certificate=\"main\"} 2000000000\n"),
           "metrics: its end");
    tap_ok(has(&out, "\nrpd_certificate_failed{certificate=\"main\"} 1\n"), "metrics: failures");
    tap_ok(!has(&out, "certificate=\"other\""), "metrics: not what is unknown");
    st.not_after_s = 0;
    st.failed = 0;
    cert_put(s, me, b, &st);
    buf_clear(&out);
    metrics_render(s, 0, &out);
    tap_ok(has(&out, "rpd_certificate_failed{certificate=\"other\"} 0\n") &&
               !has(&out, "rpd_certificate_not_after_seconds{certificate=\"other\"}"),
           "metrics: no end, but no failure either");
    buf_fini(&out);

    cert_retire(s, 2);
    tap_ok(!cert_get(s, b, &name, &got) && cert_generation(s, b) == 0 && cert_count(s) == 1 &&
               cert_get(s, a, &name, &got),
           "one that no living generation has is gone");
    tap_ok(cert_register(s, slice_of(longer, sizeof(longer)), 3, &c) == 0 && c == b &&
               cert_get(s, c, &name, &got) && name.n == 127 && got.changed_ms == 0,
           "its row is used again, as new; a long name is cut");
    tap_ok(cert_register(s, slice_of(longer, sizeof(longer) - 1), 3, &id) == 0 && id != c,
           "but compared as a whole");
    cert_register(s, SLICE("d"), 3, &id);
    tap_is_int(cert_register(s, SLICE("e"), 3, &id), -ERR_FULL, "full");
    tap_is_int(fsck(), 0, "fsck is clean");
    segment_close(&s);
}

/* VmFlags of the mapping: dd = not in core dumps (proc(5)). */
static void test_no_dump(void)
{
    char line[512], start[40];
    bool inside = false, found = false, hidden = false;
    FILE *f = (setup(), fopen("/proc/self/smaps", "re"));

    snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)s->base);
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, start, strlen(start)) == 0)
            inside = found = true;
        if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            hidden = strstr(line, " dd") != NULL;
            inside = false;
        }
    }
    if (f)
        fclose(f);
    tap_ok(found && hidden, "the segment is in no core dump%s", f ? "" : " # SKIP no smaps here");
    segment_close(&s);
}

int main(void)
{
    test_tickets();
    test_sessions();
    test_session_owners();
    test_certs();
    test_no_dump();
    return tap_done();
}
