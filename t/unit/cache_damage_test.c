/* Damage: bits are flipped all over the mapping between operations. Allowed is a miss, something
 * taken out, an object refused while it is read; never a signal, an endless loop, or a byte that
 * was not stored. Each round works on a copy, so that each begins with a sound cache. */
#include "t/unit/cache_fixture.h"

#include <signal.h>
#include <unistd.h>

#define KEYS 200u

static struct cache *c;
static unsigned char *sound, *image;
static char buf[40000];
static uint64_t seed = 88172645463325252ull;
static unsigned refused, wrong, missed;

static size_t size_of(uint64_t id)
{
    return id % 5 == 0 ? 9000 + id * 97 : id * 7;
}

static void on_signal(int sig)
{
    static const char text[] = "Bail out! a signal after damage\n";

    (void)!write(1, text, sizeof(text) - 1);
    _exit(128 + sig);
}

static void get(struct cache_worker *w, uint64_t id)
{
    const struct cache_scope s = {0};
    const struct cache_key k = fx_key(w->c, id);
    struct cache_hit h;
    uint64_t version;
    int rc;

    if (!cache_lookup(w, &k, &s, &h)) {
        missed++;
        return;
    }
    rc = fx_check(w, &h, id, &version);
    refused += rc == 0;
    wrong += rc < 0;
    cache_release(w, &h);
}

/* A fetch and who follows it, on whatever is there. */
static void stream(struct cache_worker *w, struct cache_worker *x, uint64_t id)
{
    const struct cache_key k = fx_key(w->c, id);
    const struct cache_attr a = {.fresh = 9};
    struct cache_fill f;
    struct cache_follow g, h;
    struct cache_view v;
    struct iovec iov[4];
    struct fx_meta m;
    size_t n;

    if (cache_claim(w, &k, NULL, UINT64_MAX, &f, &g) == CACHE_FOLLOW) {
        cache_follow_leave(w, &g);
        return;
    }
    if (cache_claim(x, &k, NULL, UINT64_MAX, &(struct cache_fill){0}, &h) != CACHE_FOLLOW)
        h.flight = CACHE_NONE;
    fx_bytes(buf, id, 1, 0, size_of(id));
    if (cache_fill_head(w, &f, &a, NULL, 0, fx_meta(&m, id, 1, size_of(id)), CACHE_UNKNOWN) == 0 &&
        cache_fill_append(w, &f, slice_of(buf, size_of(id))) == 0) {
        if (h.flight != CACHE_NONE) {
            cache_follow_view(x, &h, &v);
            if (v.attached)
                (void)cache_follow_body(x, &h, 0, v.size, iov, 4, &n);
        }
        (void)cache_fill_done(w, &f);
    } else {
        cache_fill_abort(w, &f, true, 0);
    }
    if (h.flight != CACHE_NONE)
        cache_follow_leave(x, &h);
}

static void flip(const struct cache *d)
{
    const uint64_t how = fx_rnd(&seed) % 4, data = d->sb.off[CACHE_AREA_DATA];
    /* Half of it in what rules the rest. */
    const uint64_t at = fx_rnd(&seed) % (fx_rnd(&seed) % 2 ? data : d->size);

    if (how == 0)
        d->base[at] = (unsigned char)fx_rnd(&seed);
    else
        d->base[at] ^= (unsigned char)(1u << fx_rnd(&seed) % 8);
}

int main(int argc, char **argv)
{
    const unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    const struct cache_options o = {.size = 1u << 20, .slab = 16384, .slots = 4, .objects = 400};
    uint64_t kick[CACHE_SLOTS / 64];
    struct cache_worker *w, *x;
    unsigned findings = 0, repaired = 0, unsound = 0;
    struct cache copy;

    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGALRM, on_signal);
    if (cache_create(&o, &c) < 0 || cache_join(c, 1u << 8, NULL, NULL, &w) < 0)
        tap_bail("set-up");
    for (uint64_t i = 0; i < KEYS; i++)
        (void)fx_put(w, i, 1, size_of(i), buf, 0);
    cache_leave(&w);
    sound = aligned_alloc(4096, c->size);
    image = aligned_alloc(4096, c->size);
    if (!sound || !image)
        tap_bail("memory");
    memcpy(sound, c->base, c->size);
    copy = *c;
    copy.fd = -1;
    copy.base = image;
    for (unsigned r = 0; r < rounds; r++) {
        struct buf b;

        alarm(20);
        memcpy(image, sound, c->size);
        if (cache_join(&copy, 1u << 8, NULL, NULL, &w) < 0 ||
            cache_join(&copy, 1u << 8 | 1, NULL, NULL, &x) < 0)
            tap_bail("join");
        for (unsigned i = 0; i < 300; i++) {
            const uint64_t id = fx_rnd(&seed) % KEYS;

            /* From one bit per round to a few thousand. */
            for (unsigned k = 0; i % 20 == 0 && k < (1u << r % 8); k++)
                flip(&copy);
            switch (fx_rnd(&seed) % 12) {
            case 0:
            case 1:
                (void)fx_put(x, id, 1, size_of(id), buf, 0);
                break;
            case 2:
                stream(w, x, id);
                break;
            case 3:
                (void)cache_evict_step(w, 8);
                break;
            case 4:
                cache_purge(&copy, 5, id, false);
                break;
            default:
                get(fx_rnd(&seed) % 2 ? w : x, id);
            }
        }
        /* A worker dies on top of it; then fsck tells, repair takes out. */
        if (r % 2)
            cache_reap(&copy, 0, kick);
        buf_init(&b, 0);
        findings += cache_fsck(&copy, false, &b) > 0;
        repaired += cache_repair(x) > 0;
        buf_fini(&b);
        for (uint64_t i = 0; i < KEYS; i++)
            get(x, i);
        cache_leave(&w);
        cache_leave(&x);
    }
    alarm(0);
    /* Damage only between uses: then repair must leave a cache that fsck finds sound. */
    for (unsigned r = 0; r < rounds / 4; r++) {
        struct buf b;

        memcpy(image, sound, c->size);
        for (unsigned k = 0; k < 20; k++)
            copy.base[copy.sb.off[CACHE_AREA_INDEX] +
                      fx_rnd(&seed) %
                          (copy.sb.off[CACHE_AREA_STATE] - copy.sb.off[CACHE_AREA_INDEX])] ^= 4;
        if (cache_join(&copy, 1u << 8, NULL, NULL, &w) < 0)
            tap_bail("join");
        (void)cache_repair(w);
        cache_leave(&w);
        buf_init(&b, 0);
        unsound += cache_fsck(&copy, true, &b) > 0;
        if (b.n > 0)
            printf("# " SLICE_FMT "\n", (int)(b.n < 300 ? b.n - 1 : 300), b.p);
        buf_fini(&b);
    }
    tap_is_int(wrong, 0, "%u rounds: no byte that was not stored (%u missed, %u refused)", rounds,
               missed, refused);
    tap_ok(findings > 0 && repaired > 0, "fsck told (%u), repair took out (%u)", findings,
           repaired);
    tap_is_int(unsound, 0, "a damaged index is sound after repair");
    free(sound);
    free(image);
    cache_close(&c);
    return tap_done();
}
