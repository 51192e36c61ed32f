/* Death after every instruction: each operation on the segment runs in a child under
 * PTRACE_SINGLESTEP; whenever the segment has changed, a copy of it is checked, swept by the
 * reaper, and checked again. (CACHE.md, test plan T1) */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"
#include "t/unit/single_step.h"

#include <stdlib.h>

static struct segment *s;   /* the live one */
static struct segment copy; /* handle of the image */
static unsigned char *image, *last, *again;
static uint32_t mine, other, dead, server, spare_server, name, cert, half_place;
static const struct server_policy pol = {.max_fails = 1, .window_ms = 1000, .eject_ms = 1000};
static struct resolve_answer old_answer = {.n = 1}, new_answer = {.n = 3};
static struct ticket_ring rings[2];
static const struct cert_state certs[2] = {
    {.names = 1, .not_after_s = 1, .first_name = "old", .error = "old", .changed_ms = 1},
    {.names = 2, .not_after_s = 2, .first_name = "new", .error = "new", .changed_ms = 2}};
static const uint8_t id_kept[4] = "kept", id_written[4] = "writ", id_new[4] = "newc";
static uint8_t sessions[2][200]; /* of id_written: the old one and the new one; id_kept has [0] */
#define CLIENT 0x1234567800000077ull /* its abuse key */

static int clean(const char *op, const char *when, unsigned long step)
{
    struct buf b;
    const int n = (buf_init(&b, 0), segment_fsck(&copy, &b));

    if (n > 0)
        printf("# %s, %s, step %lu: %.*s\n", op, when, step, (int)(b.n > 0 ? b.n - 1 : 0), b.p);
    buf_fini(&b);
    return n;
}

static bool ring_is(const struct ticket_ring *r, int which)
{
    return r->n == rings[which].n && memcmp(r->key, rings[which].key, sizeof(r->key)) == 0;
}

/* What TLS shares: the old or the new, never a mixture; what nobody touches stays. */
static int judge_tls(const char *op, unsigned long step)
{
    struct ticket_ring r = {0};
    struct cert_state st;
    struct slice n;
    uint8_t out[SESSION_MAX];
    uint32_t seq = 0, i;
    const uint32_t points = abuse_points(&copy, CLIENT, 0);
    ssize_t len;
    int bad = 0;

    bad += !ticket_get(&copy, &seq, &r) || (!ring_is(&r, 0) && !ring_is(&r, 1));
    bad += !cert_get(&copy, cert, &n, &st) || !slice_eq(n, SLICE("main")) || st.names < 1 ||
           st.names > 2 || strcmp(st.error, certs[st.names - 1].error) != 0 ||
           strcmp(st.first_name, certs[st.names - 1].first_name) != 0 ||
           st.not_after_s != certs[st.names - 1].not_after_s;
    bad += points != 10 && points != 15;
    len = session_get(&copy, id_kept, 4, 0, out, sizeof(out));
    bad += len != 100 || memcmp(out, sessions[0], 100) != 0;
    len = session_get(&copy, id_written, 4, 0, out, sizeof(out));
    i = len == 200;
    bad +=
        len != -ERR_NOENT && ((len != 100 && len != 200) || memcmp(out, sessions[i], (size_t)len));
    len = session_get(&copy, id_new, 4, 0, out, sizeof(out));
    bad += len != -ERR_NOENT && (len != 200 || memcmp(out, sessions[1], 200) != 0);
    if (bad > 0)
        printf("# %s, step %lu: torn or lost: ring %u, certificate %u, points %u, session %zd\n",
               op, step, r.n, st.names, points, len);
    return bad;
}

/* And life goes on, for a worker in another slot. */
static int go_on_tls(slot_oid me)
{
    uint8_t out[SESSION_MAX];
    struct ticket_ring r;
    uint32_t seq = 0, id;
    int bad = 0;

    ticket_put(&copy, &rings[1]);
    bad += !ticket_get(&copy, &seq, &r) || !ring_is(&r, 1);
    bad += cert_put(&copy, me, cert, &certs[1]) != 0 ||
           cert_register(&copy, SLICE("main"), 4, &id) != 0 || id != cert;
    for (int i = 0; i < 2; i++) {
        const uint8_t *session = i ? id_new : id_written;

        bad += session_put(&copy, me, session, 4, sessions[1], 200, 9) != 0 ||
               session_get(&copy, session, 4, 0, out, sizeof(out)) != 200 ||
               memcmp(out, sessions[1], 200) != 0;
        session_remove(&copy, me, session, 4);
        bad += session_get(&copy, session, 4, 0, out, sizeof(out)) != -ERR_NOENT;
    }
    bad += abuse_add(&copy, CLIENT, 1, 0) < 11;
    return bad;
}

/* One crash image: consistent as it is, and after the reaper; what others hold is untouched; the
 * reaper twice is the reaper once. */
static int judge(const char *op, unsigned long step, unsigned long nth_image)
{
    struct resolve_answer a;
    struct slot_view v;
    uint32_t id;
    int bad = clean(op, "as it is", step) + judge_tls(op, step);

    (void)nth_image;

    memcpy(image, s->base, s->size);
    slot_reap(&copy, mine);
    slot_view(&copy, dead, &v);
    if (v.state == SLOT_DEAD || v.state == SLOT_REAPING)
        slot_reap(&copy, dead);
    bad += clean(op, "after the reaper", step) + judge_tls(op, step);
    memcpy(again, image, s->size);
    slot_reap(&copy, mine);
    slot_reap(&copy, dead);
    bad += memcmp(again, image, s->size) != 0;
    bad += server_active(&copy, server) != 1 ||
           atomic_load(&layout_server_row(&copy, other, server)->active) != 1;
    if (!resolve_read(&copy, name, &a) ||
        !((a.n == 1 && a.version == 1) || (a.n == 3 && a.version == 2)) ||
        a.addr[a.n - 1].in.sin_addr.s_addr != htonl(a.n)) {
        printf("# %s, step %lu: a torn answer: %u addresses, version %u\n", op, step, a.n,
               a.version);
        bad++;
    }
    /* And life goes on. */
    if (server_register(&copy, 77, SLICE("u/77"), 3, &id) < 0 ||
        server_register(&copy, 77, SLICE("u/77"), 3, &spare_server) < 0 || id != spare_server ||
        !slice_eq(server_name(&copy, id), SLICE("u/77")))
        bad++;
    if (slot_claim(&copy, 3, 0, &id) < 0 ||
        resolve_publish(&copy, slot_owner_id(&copy, id), name, &new_answer) != 0 ||
        server_enter(&copy, id, server, 2) < 0)
        bad++;
    (void)series_register(&copy, SLICE("later"));
    bad += go_on_tls(slot_owner_id(&copy, id));
    bad += clean(op, "after going on", step);
    return bad;
}

static void run(const char *op, void (*f)(void))
{
    const struct single_step x = {
        .live = s->base, .size = s->size, .last = last, .image = image, .judge = judge};

    single_step(&x, op, f);
}

static void do_claim(void)
{
    uint32_t i;

    (void)slot_claim(s, 2, 5, &i);
}
static void do_states(void)
{
    (void)slot_set_state(s, mine, SLOT_DRAINING);
    (void)slot_set_state(s, mine, SLOT_DEAD);
}
static void do_register(void)
{
    uint32_t id;

    (void)server_register(s, 555, SLICE("u/a new server"), 2, &id);
}
static void do_retire(void)
{
    uint32_t id;

    server_retire(s, 2);
    (void)server_register(s, 556, SLICE("u/in a used place"), 2, &id);
}
static void do_places(void)
{
    (void)server_enter(s, mine, server, 5);
    (void)server_enter(s, mine, server, 2); /* full: taken back */
    server_want(s, mine, server);
    (void)server_leave(s, mine, server);
    server_unwant(s, mine, server);
}
static void do_circuit(void)
{
    bool probe;
    const slot_oid me = slot_owner_id(s, mine);

    server_succeeded(s, server, &pol, 100);
    (void)server_failed(s, server, &pol, 100, true);
    (void)server_usable(s, server, me, 2000, &probe);
    (void)server_failed(s, server, &pol, 2000, true);
    (void)server_usable(s, server, me, 9000, &probe);
    server_probe_release(s, server, me);
    (void)server_usable(s, server, me, 9000, &probe);
    server_succeeded(s, server, &pol, 9000);
    server_set_last_error(s, server, ERR_CONNECT_REFUSED);
    server_note_idle_close(s, server, 1000);
    server_set_admin(s, server, SERVER_ADMIN_DRAIN);
    server_set_weight(s, server, 3);
}
static void do_publish(void)
{
    (void)resolve_publish(s, slot_owner_id(s, mine), name, &new_answer);
}
static void do_registries(void)
{
    uint32_t id;

    (void)resolve_register(s, SLICE("another.example"), &id);
    (void)series_register(s, SLICE("route/of a newcomer"));
    hist_add(&series_row(s, mine, 1)->total, 5);
    counter_add(counter_row(s, mine), CTR_REQUESTS, 1);
    gauge_add(gauge_row(s, mine), GAU_CONNS, 1);
    slot_heartbeat(s, mine, 9);
}
static void do_tickets(void)
{
    ticket_put(s, &rings[1]);
}
static void do_session_put(void)
{
    (void)session_put(s, slot_owner_id(s, mine), id_written, 4, sessions[1], 200, 9);
    (void)session_put(s, slot_owner_id(s, mine), id_new, 4, sessions[1], 200, 9);
}
static void do_session_remove(void)
{
    session_remove(s, slot_owner_id(s, mine), id_written, 4);
}
static void do_cert_put(void)
{
    (void)cert_put(s, slot_owner_id(s, mine), cert, &certs[1]);
}
static void do_cert_registry(void)
{
    uint32_t id;

    (void)cert_register(s, SLICE("another"), 3, &id);
    cert_retire(s, 2);
    (void)cert_register(s, SLICE("in a used place"), 3, &id);
}
static void do_abuse(void)
{
    (void)abuse_add(s, CLIENT, 5, 0);
}
static void do_reap(void)
{
    slot_reap(s, dead);
}

/* The corpse left a place half written, and a row of which it is the writer. */
static void setup_tls(void)
{
    const slot_oid me = slot_owner_id(s, mine), corpse = slot_owner_id(s, dead);
    const uint8_t id_half[4] = "half";
    struct session_head *h = layout_at(s, AREA_SESSION_HEAD, 0);
    uint32_t id;

    /* Which ids share a set is the same in each run. */
    layout_words(s, AREA_SECRET)[0] = layout_words(s, AREA_SECRET)[1] = 5;
    memset(sessions[0], 'o', sizeof(sessions[0]));
    memset(sessions[1], 'n', sizeof(sessions[1]));
    for (uint32_t i = 0; i < 2; i++) {
        rings[i].n = 1 + i;
        for (uint32_t k = 0; k < rings[i].n; k++)
            memset(&rings[i].key[k], 0x40 + (int)(4 * i + k), sizeof(rings[i].key[k]));
    }
    ticket_put(s, &rings[0]);
    cert_register(s, SLICE("unused"), 1, &id);
    cert_register(s, SLICE("main"), 2, &cert);
    cert_put(s, me, cert, &certs[0]);
    atomic_store(&((struct cert_rec *)layout_at(s, AREA_CERT, 0))[id].writer, corpse);
    abuse_add(s, CLIENT, 10, 0);
    session_put(s, corpse, id_half, 4, sessions[0], 100, 9);
    for (half_place = 0; h[half_place].tag == 0;)
        half_place++;
    session_put(s, slot_owner_id(s, other), id_kept, 4, sessions[0], 100, 9);
    session_put(s, me, id_written, 4, sessions[0], 100, 9);
    atomic_fetch_or(&h[half_place].state, corpse);
    atomic_fetch_add(&h[half_place].size, 1);
    atomic_store(&layout_slot(s, dead)->session_place, half_place + 1);
}

static void setup(void)
{
    bool probe;
    uint32_t id;

    segment_close(&s);
    if (segment_create_sized(5, 4, 4, 3, &s) < 0)
        tap_bail("segment");
    copy = *s;
    copy.fd = -1;
    free(image);
    free(last);
    free(again);
    image = malloc(s->size);
    last = malloc(s->size);
    again = malloc(s->size);
    if (!image || !last || !again)
        tap_bail("memory");
    copy.base = image;
    slot_claim(s, 1, 0, &mine);
    slot_claim(s, 1, 1, &other);
    slot_claim(s, 1, 2, &dead);
    slot_set_state(s, mine, SLOT_LIVE);
    server_register(s, 1, SLICE("u/one"), 2, &server);
    server_register(s, 2, SLICE("u/two"), 1, &id);
    series_register(s, SLICE("r"));
    resolve_register(s, SLICE("a.example"), &name);
    for (uint32_t i = 0; i < 3; i++) {
        old_answer.addr[i].in.sin_family = new_answer.addr[i].in.sin_family = AF_INET;
        old_answer.addr[i].in.sin_addr.s_addr = htonl(i + 1);
        new_answer.addr[i].in.sin_addr.s_addr = htonl(i + 1);
    }
    resolve_publish(s, slot_owner_id(s, mine), name, &old_answer);
    server_enter(s, other, server, 0);
    /* The corpse holds one of everything. */
    server_enter(s, dead, server, 0);
    server_want(s, dead, server);
    gauge_add(gauge_row(s, dead), GAU_CONNS, 4);
    atomic_store(&layout_server_row(s, dead, id)->idle, 7);
    atomic_store(&layout_server_row(s, dead, id)->retrying, 1);
    (void)server_failed(s, id, &pol, 1, true);
    (void)server_usable(s, id, slot_owner_id(s, dead), 1000000, &probe);
    atomic_store(&layout_name(s, name)->writer, slot_owner_id(s, dead));
    setup_tls();
    slot_set_state(s, dead, SLOT_DEAD);
}

int main(void)
{
    static const struct {
        const char *op;
        void (*f)(void);
    } ops[] = {{"slot_claim", do_claim},
               {"slot_set_state", do_states},
               {"server_register", do_register},
               {"server_retire", do_retire},
               {"server_enter, want, leave", do_places},
               {"circuit and overrides", do_circuit},
               {"resolve_publish", do_publish},
               {"registries and rows", do_registries},
               {"ticket_put", do_tickets},
               {"session_put", do_session_put},
               {"session_remove", do_session_remove},
               {"cert_put", do_cert_put},
               {"cert_register, cert_retire", do_cert_registry},
               {"abuse_add", do_abuse},
               {"slot_reap", do_reap}};

    clock_update();
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        setup();
        run(ops[i].op, ops[i].f);
    }
    segment_close(&s);
    free(image);
    free(last);
    free(again);
    return tap_done();
}
