/* Session ticket keys: when a new one is made and when an old one goes. */
#include "master/ticket.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "master/ev.h"

#include <inttypes.h>
#include <sys/random.h>

/* The wall clock may be set meanwhile, and timers do not count the sleep of the machine: it is
 * looked at that often at least. */
#define TICKET_LOOK_MS  60000
#define TICKET_RETRY_MS 1000
#define TICKET_SECRET   offsetof(struct ticket_key, made_ms) /* name and both keys, in a row */
_Static_assert(TICKET_SECRET == 80, "the random bytes of a key");

static struct {
    struct segment *segment; /* NULL: no tickets wanted so far */
    uint64_t period_ms;
    struct ev_timer timer;
    bool failed; /* the log has been told */
} keeper;

static void drop(struct ticket_ring *r, uint32_t i)
{
    r->n--;
    memmove(&r->key[i], &r->key[i + 1], (r->n - i) * sizeof(r->key[0]));
    explicit_bzero(&r->key[r->n], sizeof(r->key[0]));
}

int ticket_rotate(struct ticket_ring *r, uint64_t now_ms, uint64_t period_ms,
                  int (*random)(void *p, size_t n))
{
    struct ticket_key k = {.made_ms = now_ms};
    int changed = 0, rc;

    for (uint32_t i = 0; i < r->n;) {
        /* From the future: the clock was set back. It must not live longer than any other key. */
        if (r->key[i].made_ms > now_ms) {
            r->key[i].made_ms = now_ms;
            changed = 1;
        }
        if (now_ms - r->key[i].made_ms >= TICKET_PERIODS * period_ms) {
            drop(r, i);
            changed = 1;
        } else {
            i++;
        }
    }
    if (r->n > 0 && now_ms - r->key[0].made_ms < period_ms)
        return changed;
    rc = random(&k, TICKET_SECRET);
    if (rc < 0)
        return rc;
    if (r->n == TICKET_KEYS)
        drop(r, TICKET_KEYS - 1);
    memmove(&r->key[1], &r->key[0], r->n * sizeof(r->key[0]));
    r->key[0] = k;
    r->n++;
    explicit_bzero(&k, sizeof(k));
    return 1;
}

uint64_t ticket_due_ms(const struct ticket_ring *r, uint64_t now_ms, uint64_t period_ms)
{
    uint64_t due = r->n > 0 ? UINT32_MAX : 0;

    for (uint32_t i = 0; i < r->n; i++) {
        const uint64_t lives = i == 0 ? period_ms : TICKET_PERIODS * period_ms;
        const uint64_t age = r->key[i].made_ms > now_ms ? 0 : now_ms - r->key[i].made_ms;
        const uint64_t left = age < lives ? lives - age : 0;

        due = left < due ? left : due;
    }
    return due;
}

/* Never waits: early at boot the kernel may have no randomness yet. */
static int ticket_random(void *p, size_t n)
{
    return getrandom(p, n, GRND_NONBLOCK) == (ssize_t)n ? 0 : -ERR_SYS;
}

static void look(struct ev_timer *t)
{
    const uint64_t now = (uint64_t)clock_cached.wall_ms;
    struct ticket_ring r = {0}, old;
    uint32_t seq = 0;
    uint64_t due;
    int rc;

    (void)ticket_get(keeper.segment, &seq, &r);
    old = r;
    rc = ticket_rotate(&r, now, keeper.period_ms, ticket_random);
    if (rc > 0 || r.n != old.n)
        ticket_put(keeper.segment, &r);
    if (rc > 0 && memcmp(r.key[0].name, old.key[0].name, sizeof(old.key[0].name)) != 0)
        LOG_INFO("ticket_rotated", "a new key for session tickets; %" PRIu32 " older accepted",
                 r.n - 1);
    if (rc < 0 && !keeper.failed)
        LOG_WARN("ticket_failed", "no randomness for a session ticket key; trying again");
    keeper.failed = rc < 0;
    due = rc < 0 ? TICKET_RETRY_MS : ticket_due_ms(&r, now, keeper.period_ms);
    ev_timer_set(t, due < TICKET_LOOK_MS ? due : TICKET_LOOK_MS, look);
    explicit_bzero(&r, sizeof(r));
    explicit_bzero(&old, sizeof(old));
}

static bool wanted(const struct config *c)
{
    for (size_t i = 0; i < c->nlisten; i++) {
        if (c->listen[i]->k.tls && c->listen[i]->k.session_tickets)
            return true;
    }
    return false;
}

void ticket_configure(struct segment *s, const struct config *c)
{
    keeper.period_ms = c->global.ticket_rotation;
    if (keeper.segment || wanted(c)) {
        keeper.segment = s;
        look(&keeper.timer);
    }
}

void ticket_stop(void)
{
    ev_timer_stop(&keeper.timer);
    keeper.segment = NULL;
}

void ticket_describe(const struct segment *s, struct buf *out)
{
    struct ticket_ring r = {0};
    uint32_t seq = 0;

    if (!keeper.segment || !ticket_get(s, &seq, &r))
        return;
    for (uint32_t i = 0; i < r.n; i++) {
        const uint8_t *p = (const uint8_t *)&r.key[i];

        buf_printf(out, "ticket %" PRIu64 " %" PRIu64 " k", r.key[i].made_ms, keeper.period_ms);
        for (size_t k = 0; k < TICKET_SECRET; k++)
            buf_printf(out, "%02x", p[k]);
        buf_chr(out, '\n');
    }
    explicit_bzero(&r, sizeof(r));
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ticket_parse(uint64_t made_ms, struct slice text, struct ticket_ring *r)
{
    uint8_t bytes[TICKET_SECRET];
    bool ok = text.n == 1 + 2 * TICKET_SECRET && text.p[0] == 'k' && r->n < TICKET_KEYS;

    for (size_t i = 0; ok && i < TICKET_SECRET; i++) {
        const int hi = nibble(text.p[1 + 2 * i]), lo = nibble(text.p[2 + 2 * i]);

        ok = hi >= 0 && lo >= 0;
        bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    if (ok) {
        memcpy(&r->key[r->n], bytes, sizeof(bytes));
        r->key[r->n++].made_ms = made_ms;
    }
    explicit_bzero(bytes, sizeof(bytes));
    return ok;
}

void ticket_adopt(struct segment *s, const struct ticket_ring *r, uint64_t period_ms)
{
    struct ticket_ring there;
    uint32_t seq = 0;

    if (r->n == 0 || period_ms == 0)
        return;
    if (!ticket_get(s, &seq, &there))
        ticket_put(s, r);
    keeper.segment = s;
    keeper.period_ms = period_ms;
    look(&keeper.timer);
}
