/* Servers: registry over reloads, places and who waits for them, the circuit's whole life,
 * overrides. */
#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

static struct segment *s;
static uint32_t slot[3];
static const struct server_policy pol = {.max_fails = 3, .window_ms = 10000, .eject_ms = 10000};

static void setup(void)
{
    if (segment_create_sized(4, 4, 4, 4, &s) < 0)
        tap_bail("segment");
    for (uint32_t i = 0; i < 3; i++)
        slot_claim(s, 1, i, &slot[i]);
}

static void test_registry(void)
{
    uint32_t a = 0, b = 0, c = 0, id;

    setup();
    tap_ok(server_register(s, 10, SLICE("u/a"), 1, &a) == 0 &&
               server_register(s, 20, SLICE("u/b"), 1, &b) == 0 && a != b,
           "two");
    tap_ok(server_register(s, 10, SLICE("u/a"), 2, &id) == 0 && id == a,
           "same key, same id in the next generation");
    tap_is_int(server_count(s), 2, "count");
    server_enter(s, slot[0], b, 0);
    server_row(s, slot[0], b)->requests = 5;
    server_set_admin(s, b, SERVER_ADMIN_DRAIN);
    server_retire(s, 2);
    tap_is_str(server_name(s, b), "u/b",
               "in use by nobody's configuration, but a request is on it");
    server_leave(s, slot[0], b);
    server_retire(s, 2);
    tap_ok(server_name(s, b).p == NULL && server_count(s) == 1, "retired when that is over");
    tap_is_str(server_name(s, a), "u/a", "the other one stays");
    tap_ok(server_register(s, 30, SLICE("u/c"), 2, &c) == 0 && c == b, "its place is used again");
    tap_ok(server_admin(s, c) == SERVER_ADMIN_READY && server_row(s, slot[0], c)->requests == 0,
           "as new");
    server_register(s, 40, SLICE("u/d"), 2, &id);
    server_register(s, 0, SLICE("u/e"), 2, &id);
    tap_is_int(server_register(s, 60, SLICE("u/f"), 2, &id), -ERR_FULL, "full");
    segment_close(&s);
}

static void test_places(void)
{
    uint32_t id;
    struct server_sum sum;

    setup();
    server_register(s, 10, SLICE("u/a"), 1, &id);
    tap_ok(server_enter(s, slot[0], id, 2) == 0 && server_enter(s, slot[1], id, 2) == 0,
           "two places");
    tap_is_int(server_enter(s, slot[2], id, 2), -ERR_FULL, "not a third");
    tap_is_int(server_active(s, id), 2, "and its try left nothing");
    server_want(s, slot[2], id);
    server_want(s, slot[0], id);
    tap_is_int(server_leave(s, slot[1], id), slot[2], "the next one after the leaver is told");
    tap_is_int(server_enter(s, slot[2], id, 2), 0, "and gets the place");
    tap_is_int(server_leave(s, slot[2], id), slot[0], "then the other");
    tap_is_int(server_leave(s, slot[0], id), UINT32_MAX, "then nobody");
    server_want(s, slot[0], id);
    server_unwant(s, slot[0], id);
    tap_ok(server_enter(s, slot[1], id, 0) == 0 && server_leave(s, slot[1], id) == UINT32_MAX,
           "wish taken back");
    server_row(s, slot[0], id)->bytes_in = 3;
    server_row(s, slot[1], id)->bytes_in = 4;
    server_row(s, slot[1], id)->idle = 2;
    server_sum(s, id, &sum);
    tap_ok(sum.bytes_in == 7 && sum.active == 0 && sum.idle == 2 && server_idle(s, id) == 2,
           "sums");
    tap_is_int(server_enter(s, 99, id, 0), -ERR_RANGE, "no such slot");
    segment_close(&s);
}

static void test_circuit(void)
{
    const slot_oid me = (setup(), slot_owner_id(s, slot[0])), you = slot_owner_id(s, slot[1]);
    const uint32_t e0 = server_epoch(s);
    uint64_t now = 1000000;
    uint32_t id;
    bool probe;

    server_register(s, 10, SLICE("u/a"), 1, &id);
    tap_ok(server_usable(s, id, me, now, &probe) && !probe && server_state(s, id, now) == SERVER_UP,
           "up at first");
    server_failed(s, id, &pol, now, true);
    server_failed(s, id, &pol, now, true);
    server_succeeded(s, id, &pol, now);
    tap_is_int(server_fails(s, id), 0, "a success ends a row of failures");
    tap_ok(!server_failed(s, id, &pol, now, true) && !server_failed(s, id, &pol, now, true),
           "two failures");
    tap_ok(!server_failed(s, id, &pol, now, false), "a third where no more may be ejected");
    tap_ok(server_failed(s, id, &pol, now, true), "a fourth ejects");
    tap_ok(server_epoch(s) != e0, "and everybody is told to look");
    tap_ok(server_state(s, id, now) == SERVER_EJECTED && !server_usable(s, id, me, now, &probe),
           "nothing goes there");
    tap_is_int(server_ejected_for_ms(s, id, now + 1), 9999, "for ten seconds");
    tap_is_int(server_state_since_ms(s, id), now, "since now");
    tap_ok(!server_failed(s, id, &pol, now + 1, true), "late failures do not prolong it");
    server_succeeded(s, id, &pol, now + 2);
    tap_is_int(server_state(s, id, now + 9999), SERVER_EJECTED, "nor do late successes end it");

    now += 10000;
    tap_is_int(server_state(s, id, now), SERVER_HALF_OPEN, "then it is on trial");
    tap_ok(server_usable(s, id, me, now, &probe) && probe, "one may try");
    tap_ok(!server_usable(s, id, you, now, &probe) && !probe &&
               !server_usable(s, id, me, now, &probe),
           "only one");
    server_probe_release(s, id, you);
    tap_ok(!server_usable(s, id, you, now, &probe), "and only he can give it back");
    server_probe_release(s, id, me);
    tap_ok(server_usable(s, id, you, now, &probe) && probe, "then another one tries");
    tap_ok(server_failed(s, id, &pol, now, false), "and fails: out again");
    tap_is_int(server_ejected_for_ms(s, id, now), 20000, "for twice as long");
    now += 20000;
    tap_ok(server_usable(s, id, you, now, &probe) && probe, "the second trial's owner");
    slot_set_state(s, slot[1], SLOT_DEAD);
    tap_ok(server_usable(s, id, me, now, &probe) && probe, "dies, and the next one takes over");
    server_succeeded(s, id, &pol, now);
    tap_ok(server_state(s, id, now) == SERVER_UP && server_usable(s, id, me, now, &probe) && !probe,
           "a success brings it back");
    tap_is_int(server_probe_owner(s, id), 0, "nobody owns a trial");
    for (int i = 0; i < 3; i++)
        server_failed(s, id, &pol, now + 1, true);
    tap_is_int(server_ejected_for_ms(s, id, now + 1), 30000, "an ejection soon after counts on");
    now += 40000;
    tap_ok(server_usable(s, id, me, now, &probe), "third trial");
    server_succeeded(s, id, &pol, now);
    server_succeeded(s, id, &pol, now + pol.window_ms);
    for (int i = 0; i < 3; i++)
        server_failed(s, id, &pol, now + pol.window_ms, true);
    tap_is_int(server_ejected_for_ms(s, id, now + pol.window_ms), 10000,
               "after a good window it begins anew");
    for (int i = 0; i < 100; i++) {
        now += 400000;
        server_failed(s, id, &pol, now, true);
    }
    tap_is_int(server_ejected_for_ms(s, id, now), 300000, "five minutes at most");
    segment_close(&s);
}

static void test_window(void)
{
    uint32_t id;
    uint64_t now = 5000;
    bool out = false;
    const struct server_policy p = {.max_fails = 1000, .window_ms = 10000, .eject_ms = 1000};

    setup();
    server_register(s, 10, SLICE("u/a"), 1, &id);
    for (int i = 0; i < 100; i++) {
        server_succeeded(s, id, &p, now);
        out |= server_failed(s, id, &p, now, true);
    }
    tap_ok(!out, "half of 200 failing is not over half");
    now += 10001;
    for (int i = 0; i < 19; i++)
        out |= server_failed(s, id, &p, now, true);
    tap_ok(!out, "19 failures are too few to judge");
    tap_ok(server_failed(s, id, &p, now, true), "20 are enough");
    segment_close(&s);

    setup();
    server_register(s, 10, SLICE("u/a"), 1, &id);
    now = 5000;
    for (int i = 0; i < 10; i++)
        out |= server_failed(s, id, &p, now, true);
    now += 10001;
    for (int i = 0; i < 10; i++)
        out |= server_failed(s, id, &p, now, true);
    tap_ok(!out, "failures of two windows are not added");
    for (int i = 0; i < 5000; i++)
        server_succeeded(s, id, &p, now);
    tap_is_int((int)(atomic_load(&layout_server(s, id)->window) & 0xfff) < 100, 1,
               "long windows are halved, not wrapped");
    {
        const struct server_policy never = {.max_fails = 0, .window_ms = 10000, .eject_ms = 1000};

        for (int i = 0; i < 3000; i++)
            out |= server_failed(s, id, &never, now, true);
        tap_ok(!out && server_fails(s, id) == 1023,
               "max_fails 0 never ejects; the count saturates");
    }
    segment_close(&s);
}

static void test_operator(void)
{
    uint32_t id;

    setup();
    clock_update();
    server_register(s, 10, SLICE("u/a"), 1, &id);
    server_set_admin(s, id, SERVER_ADMIN_DOWN);
    server_set_weight(s, id, 9);
    server_register(s, 10, SLICE("u/a"), 2, &id);
    tap_ok(server_admin(s, id) == SERVER_ADMIN_DOWN && server_weight(s, id) == 9,
           "overrides survive a reload");
    server_set_admin(s, id, SERVER_ADMIN_READY);
    tap_ok(server_state_since_ms(s, id) == clock_ms(), "coming back starts a slow start");
    server_set_last_error(s, id, -ERR_CONNECT_REFUSED);
    tap_is_int(server_last_error(s, id), ERR_CONNECT_REFUSED, "last error");
    tap_is_int(server_idle_allowance(s, id), 0, "idle time unknown");
    server_note_idle_close(s, id, 5000);
    server_note_idle_close(s, id, 8000);
    tap_is_int(server_idle_allowance(s, id), 5000, "the shortest wins");
    server_note_idle_close(s, id, 3000);
    tap_is_int(server_idle_allowance(s, id), 3000, "a shorter one too");
    clock_cached.ms += 600 * 1000;
    tap_is_int(server_idle_allowance(s, id), 6000, "old knowledge loosens");
    server_note_idle_close(s, id, 5500);
    tap_is_int(server_idle_allowance(s, id), 5500, "and gives way to new");
    clock_cached.ms += 3601 * 1000;
    tap_is_int(server_idle_allowance(s, id), 0, "and is forgotten");
    segment_close(&s);
}

int main(void)
{
    test_registry();
    test_places();
    test_circuit();
    test_window();
    test_operator();
    return tap_done();
}
