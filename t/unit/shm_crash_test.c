/* Death after every instruction: each operation on the segment runs in a child under
 * PTRACE_SINGLESTEP; whenever the segment has changed, a copy of it is checked, swept by the
 * reaper, and checked again. (CACHE.md, test plan T1) */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static struct segment *s;   /* the live one */
static struct segment copy; /* handle of the image */
static unsigned char *image, *last, *again;
static uint32_t mine, other, dead, server, spare_server, name;
static const struct server_policy pol = {.max_fails = 1, .window_ms = 1000, .eject_ms = 1000};
static struct resolve_answer old_answer = {.n = 1}, new_answer = {.n = 3};

static int clean(const char *op, const char *when, unsigned long step)
{
    struct buf b;
    const int n = (buf_init(&b, 0), segment_fsck(&copy, &b));

    if (n > 0)
        printf("# %s, %s, step %lu: %.*s\n", op, when, step, (int)(b.n > 0 ? b.n - 1 : 0), b.p);
    buf_fini(&b);
    return n;
}

/* One crash image: consistent as it is, and after the reaper; what others hold is untouched; the
 * reaper twice is the reaper once. */
static int judge(const char *op, unsigned long step)
{
    struct resolve_answer a;
    struct slot_view v;
    uint32_t id;
    int bad = clean(op, "as it is", step);

    memcpy(image, s->base, s->size);
    slot_reap(&copy, mine);
    slot_view(&copy, dead, &v);
    if (v.state == SLOT_DEAD || v.state == SLOT_REAPING)
        slot_reap(&copy, dead);
    bad += clean(op, "after the reaper", step);
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
    bad += clean(op, "after going on", step);
    return bad;
}

static void run(const char *op, void (*f)(void))
{
    unsigned long steps = 0, images = 0;
    int status, bad = 0;
    const pid_t pid = fork();

    if (pid < 0)
        tap_bail("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        raise(SIGSTOP);
        f();
        _exit(0);
    }
    memcpy(last, s->base, s->size);
    if (waitpid(pid, &status, 0) != pid)
        tap_bail("waitpid");
    if (!WIFSTOPPED(status)) {
        tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 77, "%s # SKIP no ptrace here", op);
        return;
    }
    while (WIFSTOPPED(status)) {
        if (memcmp(last, s->base, s->size) != 0) {
            memcpy(last, s->base, s->size);
            memcpy(image, s->base, s->size);
            bad += judge(op, steps);
            images++;
        }
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid)
            tap_bail("single step: %s", strerror(errno));
        steps++;
    }
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0 && bad == 0 && images > 0,
           "%s: %lu images in %lu instructions", op, images, steps);
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
static void do_reap(void)
{
    slot_reap(s, dead);
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
