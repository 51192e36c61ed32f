/* The segment: creation, attaching, refusal of damaged ones; slots and their life; fsck finds what
 * is planted. */
#include "base/buf.h"
#include "base/err.h"
#include "shm/crc32c.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static struct segment *make(void)
{
    struct segment *s;

    if (segment_create_sized(4, 4, 4, 4, &s) < 0)
        tap_bail("segment_create_sized");
    return s;
}

static int fsck(const struct segment *s)
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

static void test_default_size(void)
{
    struct segment *s, *t;
    struct rusage before, after;
    uint32_t id;
    int fd;

    getrusage(RUSAGE_SELF, &before);
    tap_is_int(segment_create(&s), 0, "the default geometry is created");
    tap_ok(server_register(s, 42, SLICE("app/10.0.0.1:80"), 1, &id) == 0 && id == 0,
           "a server is registered");
    fd = dup(segment_fd(s));
    tap_is_int(segment_attach(fd, &t), 0, "a second handle attaches");
    tap_is_str(server_name(t, 0), "app/10.0.0.1:80", "and sees the server");
    tap_ok(segment_size(t) == segment_size(s) && segment_size(s) > ((size_t)1 << 30),
           "the same size, mostly holes");
    tap_is_int(fsck(t), 0, "fsck is clean");
    getrusage(RUSAGE_SELF, &after);
    /* Sanitizers count their own memory; the bound is far below the segment's gigabytes anyway. */
    tap_ok(after.ru_maxrss - before.ru_maxrss < 65536, "little memory is touched (%ld KiB)",
           after.ru_maxrss - before.ru_maxrss);
    tap_ok(ftruncate(fd, 4096) < 0, "it cannot be shrunk");
    segment_close(&t);
    tap_ok(t == NULL && fcntl(fd, F_GETFD) < 0, "closing closes the fd");
    segment_close(&s);
}

static int attach_copy(const struct segment *from, size_t flip, bool seal, size_t size)
{
    int fd = memfd_create("copy", MFD_ALLOW_SEALING | MFD_CLOEXEC), rc;
    struct segment *t = NULL;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        tap_bail("memfd");
    for (size_t at = 0; at < size && at < from->size;) {
        const ssize_t n =
            pwrite(fd, from->base + at, (size < from->size ? size : from->size) - at, (off_t)at);

        if (n <= 0)
            tap_bail("pwrite");
        at += (size_t)n;
    }
    if (flip != SIZE_MAX) {
        const unsigned char c = from->base[flip] ^ 0x10;

        if (pwrite(fd, &c, 1, (off_t)flip) != 1)
            tap_bail("pwrite");
    }
    if (seal && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        tap_bail("seals");
    rc = segment_attach(fd, &t);
    if (rc == 0)
        segment_close(&t);
    else
        close(fd);
    return rc;
}

static void test_attach(void)
{
    struct segment *s = make(), *t;
    int bad = 0, pipes[2];

    tap_is_int(crc32c("123456789", 9), 0xe3069283, "CRC32C of the standard text");
    tap_is_int(attach_copy(s, SIZE_MAX, true, s->size), 0, "a faithful copy attaches");
    tap_is_int(attach_copy(s, SIZE_MAX, false, s->size), -ERR_CORRUPT, "without seals it does not");
    tap_is_int(attach_copy(s, SIZE_MAX, true, s->size - 4096), -ERR_CORRUPT, "nor when cut");
    tap_is_int(attach_copy(s, SIZE_MAX, true, 100), -ERR_CORRUPT, "nor when much too short");
    tap_is_int(attach_copy(s, SIZE_MAX, true, s->size + 4096), -ERR_CORRUPT, "nor when too long");
    for (size_t i = 0; i < sizeof(struct superblock); i++) {
        bad += attach_copy(s, i, true, s->size) != -ERR_CORRUPT;
        bad += attach_copy(s, LAYOUT_SUPER_B + i, true, s->size) != -ERR_CORRUPT;
    }
    tap_is_int(bad, 0, "a flipped bit in any byte of either superblock is seen");
    tap_is_int(segment_attach(-1, &t), -ERR_CORRUPT, "no fd");
    if (pipe(pipes) == 0) {
        tap_is_int(segment_attach(pipes[0], &t), -ERR_CORRUPT, "not a file");
        close(pipes[0]);
        close(pipes[1]);
    }
    tap_is_int(segment_create_sized(0, 1, 1, 1, &t), -ERR_RANGE, "no slots");
    tap_is_int(segment_create_sized(SHM_SLOTS + 1, 1, 1, 1, &t), -ERR_RANGE, "too many slots");
    segment_close(&s);
}

static void test_slots(void)
{
    struct segment *s = make();
    struct slot_view v;
    uint32_t a, b, id;
    slot_oid oid;
    bool probe;

    tap_is_int(slot_claim(s, 7, 3, &a), 0, "claim");
    tap_ok(a == 0 && slot_bound(s) == 1, "the first slot, bound 1");
    slot_set_pid(s, a, getpid());
    slot_view(s, a, &v);
    tap_ok(v.state == SLOT_STARTING && v.generation == 7 && v.worker == 3 && v.pid == getpid() &&
               v.incarnation == 1,
           "view of a starting slot");
    tap_ok(slot_start_time(s, a) > 0, "start time is known");
    oid = slot_owner_id(s, a);
    tap_ok(oid == (0u | 1u << 8) && slot_alive(s, oid), "owner id lives");
    tap_ok(!slot_alive(s, 0) && !slot_alive(s, oid + 0x100) && !slot_alive(s, 3) &&
               !slot_alive(s, 0xff),
           "others do not");
    tap_is_int(slot_set_state(s, a, SLOT_REAPING), -ERR_INVAL,
               "starting -> reaping is not for callers");
    tap_is_int(slot_set_state(s, a, SLOT_FREE), -ERR_INVAL, "nor is -> free");
    tap_is_int(slot_set_state(s, a, SLOT_LIVE), 0, "starting -> live");
    tap_is_int(slot_set_state(s, a, SLOT_LIVE), 0, "live -> live is nothing");
    tap_is_int(slot_set_state(s, a, SLOT_DRAINING), 0, "live -> draining");
    tap_is_int(slot_set_state(s, a, SLOT_LIVE), -ERR_INVAL, "no way back");
    tap_is_int(slot_set_state(s, 99, SLOT_LIVE), -ERR_RANGE, "no such slot");
    slot_heartbeat(s, a, 12345);
    strcpy(slot_panic_record(s, a), "boom");

    server_register(s, 9, SLICE("u/s"), 1, &id);
    gauge_add(gauge_row(s, a), GAU_CONNS, 5);
    counter_add(counter_row(s, a), CTR_REQUESTS, 5);
    server_enter(s, a, id, 0);
    server_want(s, a, id);
    atomic_store(&layout_server(s, id)->circuit, (uint64_t)1 << 24); /* open until ms 1 */
    tap_ok(server_usable(s, id, oid, 100, &probe) && probe, "takes the trial");
    tap_is_int(fsck(s), 0, "fsck: a live slot may own things");
    tap_is_int(slot_set_state(s, a, SLOT_DEAD), 0, "draining -> dead");
    tap_is_int(fsck(s), 0, "fsck: so may one not reaped yet");
    tap_ok(!slot_alive(s, oid), "but it is not alive");
    slot_reap(s, a);
    slot_view(s, a, &v);
    tap_ok(v.state == SLOT_FREE && v.pid == 0, "reaped");
    tap_ok(gauge_sum(s, GAU_CONNS) == 0 && server_active(s, id) == 0 &&
               server_probe_owner(s, id) == 0,
           "gauges, places and trial are free");
    tap_is_int(counter_sum(s, CTR_REQUESTS), 5, "counters stay");
    tap_is_str(slice_str(slot_panic_record(s, a)), "boom", "and so does the panic record");
    slot_reap(s, a);
    tap_is_int(fsck(s), 0, "reaping again changes nothing");
    tap_ok(server_leave(s, a, id) == UINT32_MAX && server_active(s, id) == 0,
           "nobody wants a place; a count never wraps");

    tap_ok(slot_claim(s, 8, 0, &b) == 0 && b == a && slot_owner_id(s, b) != oid,
           "the slot is reused under a new incarnation");
    tap_is_str(slice_str(slot_panic_record(s, b)), "", "with an empty panic record");
    for (int i = 0; i < 3; i++)
        tap_is_int(slot_claim(s, 8, 1, &b), 0, "claim %d more", i);
    tap_is_int(slot_claim(s, 8, 1, &b), -ERR_FULL, "no slot left");
    tap_is_int(slot_bound(s), 4, "bound");
    slot_set_state(s, 2, SLOT_DEAD);
    atomic_store(&layout_slot(s, 2)->id,
                 atomic_load(&layout_slot(s, 2)->id) + 1); /* a reaper died here */
    slot_reap(s, 2);
    slot_view(s, 2, &v);
    tap_is_int(v.state, SLOT_FREE, "a second reaper finishes what one left");
    segment_close(&s);
}

static void test_fsck(void)
{
    struct segment *s = make();
    struct session_head *head = layout_at(s, AREA_SESSION_HEAD, 0);
    struct cert_rec *certs = layout_at(s, AREA_CERT, 0);
    uint32_t a, id, id2, name, cert, cert2, place = 0;
    struct resolve_answer ans = {.n = 1};
    struct buf b;

    slot_claim(s, 1, 0, &a);
    slot_claim(s, 1, 1, &id);
    server_register(s, 1, SLICE("u/a"), 1, &id);
    server_register(s, 2, SLICE("u/b"), 1, &id2);
    series_register(s, SLICE("x"));
    resolve_register(s, SLICE("a.example"), &name);
    ans.addr[0].in.sin_family = AF_INET;
    resolve_publish(s, slot_owner_id(s, a), name, &ans);
    cert_register(s, SLICE("main"), 1, &cert);
    cert_register(s, SLICE("other"), 1, &cert2);
    session_put(s, slot_owner_id(s, a), (const uint8_t *)"id", 2, (const uint8_t *)"session", 7, 9);
    while (place < s->nsessions - 1 && head[place].tag == 0)
        place++;
    tap_is_int(fsck(s), 0, "clean to begin with");
    printf("# findings from here on are planted\n");
#define PLANT(lvalue, value, text)                                                                 \
    do {                                                                                           \
        unsigned char keep_[8];                                                                    \
        unsigned char *const at_ = (unsigned char *)(uintptr_t) & (lvalue);                        \
        memcpy(keep_, at_, sizeof(lvalue));                                                        \
        (lvalue) = (value);                                                                        \
        tap_is_int(fsck(s), 1, "found: " text);                                                    \
        memcpy(at_, keep_, sizeof(lvalue));                                                        \
        tap_is_int(fsck(s), 0, "and gone again");                                                  \
    } while (0)
    PLANT(s->base[20], 99, "superblock A");
    PLANT(s->base[LAYOUT_SUPER_B + 20], 99, "superblock B");
    PLANT(layout_slot(s, 3)->id, 77, "illegal state");
    PLANT(layout_slot(s, 3)->id, SLOT_LIVE | 1u << 8, "slot beyond the bound");
    PLANT(layout_hot(s)->slot_bound, 5, "bound beyond the table");
    PLANT(layout_server(s, id)->probe_owner, 1u | 9u << 8, "dead owner");
    PLANT(layout_server(s, id)->admin, 3, "override");
    PLANT(layout_server(s, id)->last_error, 100000, "last error");
    PLANT(layout_server(s, id)->name_len, 2, "name length");
    PLANT(layout_server(s, id)->name_len, 1u << 30, "name length beyond the field");
    PLANT(layout_words(s, AREA_SERVER_KEY)[id], 2, "key twice");
    PLANT(layout_series_name(s, 1)->len, 119, "series name");
    PLANT(layout_name(s, name)->writer, 0xff, "writer that does not exist");
    PLANT(layout_name(s, name)->name_len, 256, "resolver name");
    PLANT(layout_name(s, name)->buf[1][2], 17, "too many addresses");
    PLANT(layout_hot(s)->cert_bound, 5, "certificates beyond the table");
    PLANT(certs[cert].writer, 0xff, "writer of a certificate");
    PLANT(certs[cert].state, 7, "state of a certificate");
    PLANT(certs[cert].name_len, 200, "name of a certificate");
    PLANT(layout_words(s, AREA_CERT_KEY)[cert2], layout_words(s, AREA_CERT_KEY)[cert],
          "certificate twice");
    PLANT(head[place].state, slot_owner_id(s, a), "a session's owner that does not know of it");
    PLANT(head[place].state, 3u | 1u << 8, "a session's owner that does not live");
    PLANT(head[place].size, 7, "a session's size");
    PLANT(head[place].tag, 7, "a session's hash");
    slot_reap(s, 1);
    PLANT(layout_slot(s, 1)->session_place, 1, "free slot that writes a session");
    PLANT(layout_gauge_row(s, 1)->v[GAU_CONNS], 1, "gauge of a free slot");
    PLANT(layout_server_row(s, 1, id2)->idle, 1, "server gauge of a free slot");
    PLANT(layout_server(s, id2)->want[0], 2, "want bit of a free slot");

    /* Scribble everywhere: whatever is found, nothing may crash or run away. */
    buf_init(&b, 1u << 20);
    memset(s->base, 0xff, s->size);
    tap_ok(segment_fsck(s, &b) > 10 && b.n < 65536, "a destroyed segment is survived");
    for (uint32_t i = 0; i < 300; i++) {
        uint8_t bytes[SESSION_MAX] = {0};
        struct ticket_ring ring;
        struct cert_state state = {0};
        struct slice text;
        uint32_t seq = 0;
        struct slot_view v;
        struct server_sum sum;
        struct series_sum ss;

        slot_view(s, i, &v);
        server_sum(s, i, &sum);
        series_sum(s, i, &ss);
        (void)resolve_read(s, i, &ans);
        (void)cert_get(s, i, &text, &state);
        (void)cert_put(s, i | 1u << 8, i, &state);
        (void)cert_register(s, SLICE("x"), i, &id);
        (void)session_put(s, i | 1u << 8, bytes, 1 + i % 32, bytes, 300, i);
        (void)session_get(s, bytes, 1 + i % 32, i, bytes, sizeof(bytes));
        session_remove(s, i | 1u << 8, bytes, 1 + i % 32);
        (void)abuse_add(s, i | (uint64_t)i << 32, i, i);
        (void)ticket_get(s, &seq, &ring);
        (void)server_name(s, i);
        (void)series_name(s, i);
        (void)server_leave(s, i, i);
        slot_reap(s, i);
    }
    tap_ok(ans.n <= RESOLVE_ADDRS, "all readers survive it");
    buf_fini(&b);
    segment_close(&s);
}

int main(void)
{
    test_default_size();
    test_attach();
    test_slots();
    test_fsck();
    return tap_done();
}
