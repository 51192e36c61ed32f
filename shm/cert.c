/* Certificate rows: registry, publication by workers, reading. */
#include "shm/cert.h"

#include "base/err.h"
#include "base/hash.h"
#include "shm/layout.h"

static struct cert_rec *rec(const struct segment *s, uint32_t id)
{
    return layout_at(s, AREA_CERT, (size_t)id * sizeof(struct cert_rec));
}

uint32_t cert_count(const struct segment *s)
{
    return layout_min(atomic_load_explicit(&layout_hot(s)->cert_bound, memory_order_acquire),
                      s->ncerts);
}

static bool in_use(const struct segment *s, uint32_t id)
{
    return id < cert_count(s) &&
           atomic_load_explicit(&layout_words(s, AREA_CERT_KEY)[id], memory_order_acquire) != 0;
}

uint32_t cert_generation(const struct segment *s, uint32_t id)
{
    return in_use(s, id) ? atomic_load_explicit(&rec(s, id)->used_gen, memory_order_relaxed) : 0;
}

/* A free row becomes fresh before its key is stored: nobody looks at a row without one. */
static void reset(struct segment *s, uint32_t id, struct slice name)
{
    struct cert_rec *r = rec(s, id);
    const uint64_t seq = atomic_load(&r->state) >> 32;

    if (name.n > CERT_NAME_MAX)
        name.n = CERT_NAME_MAX;
    atomic_store(&r->state, seq << 32); /* nothing said */
    atomic_store(&r->writer, 0);
    memset(r->name, 0, sizeof(r->name));
    if (name.n > 0)
        memcpy(r->name, name.p, name.n);
    atomic_store_explicit(&r->name_len, (uint32_t)name.n, memory_order_relaxed);
}

int cert_register(struct segment *s, struct slice name, uint32_t generation, uint32_t *ret_id)
{
    _Atomic uint64_t *keys = layout_words(s, AREA_CERT_KEY);
    const uint32_t bound = cert_count(s);
    uint32_t id = bound;
    uint64_t key = hash_fixed(name.p, name.n);

    key = key ? key : 1;
    for (uint32_t i = 0; i < bound; i++) {
        const uint64_t k = atomic_load_explicit(&keys[i], memory_order_relaxed);

        if (k == key) {
            atomic_store_explicit(&rec(s, i)->used_gen, generation, memory_order_relaxed);
            *ret_id = i;
            return 0;
        }
        if (k == 0 && id == bound)
            id = i;
    }
    if (id == s->ncerts)
        return -ERR_FULL;
    reset(s, id, name);
    atomic_store_explicit(&rec(s, id)->used_gen, generation, memory_order_relaxed);
    atomic_store_explicit(&keys[id], key, memory_order_release);
    if (id == bound)
        atomic_store_explicit(&layout_hot(s)->cert_bound, id + 1, memory_order_release);
    *ret_id = id;
    return 0;
}

void cert_retire(struct segment *s, uint32_t oldest_living_generation)
{
    _Atomic uint64_t *keys = layout_words(s, AREA_CERT_KEY);
    uint32_t bound = cert_count(s);

    for (uint32_t i = 0; i < bound; i++) {
        if (atomic_load_explicit(&keys[i], memory_order_relaxed) != 0 &&
            atomic_load_explicit(&rec(s, i)->used_gen, memory_order_relaxed) <
                oldest_living_generation)
            atomic_store_explicit(&keys[i], 0, memory_order_release);
    }
    while (bound > 0 && atomic_load_explicit(&keys[bound - 1], memory_order_relaxed) == 0)
        bound--;
    atomic_store_explicit(&layout_hot(s)->cert_bound, bound, memory_order_release);
}

static void text_end(char *p, size_t n)
{
    const size_t len = strnlen(p, n - 1);

    memset(p + len, 0, n - len);
}

int cert_put(struct segment *s, slot_oid me, uint32_t id, const struct cert_state *st)
{
    struct cert_stored new = {st->names,       st->loaded,     st->failed, 0,
                              st->not_after_s, st->changed_ms, {0},        {0}};
    struct cert_rec *r;
    uint32_t owner = 0, seq;
    uint64_t w[CERT_WORDS];

    if (me == 0 || !in_use(s, id))
        return -ERR_RANGE;
    r = rec(s, id);
    if (!atomic_compare_exchange_strong(&r->writer, &owner, me) && owner != me)
        return -ERR_FULL;
    memcpy(new.first_name, st->first_name, sizeof(new.first_name));
    memcpy(new.error, st->error, sizeof(new.error));
    text_end(new.first_name, sizeof(new.first_name));
    text_end(new.error, sizeof(new.error));
    memcpy(w, &new, sizeof(w));
    seq = (uint32_t)(atomic_load(&r->state) >> 32) + 1;
    for (size_t i = 0; i < CERT_WORDS; i++)
        atomic_store_explicit(&r->buf[seq & 1][i], w[i], memory_order_release);
    atomic_store(&r->state, (uint64_t)seq << 32 | 1);
    atomic_store(&r->writer, 0);
    return 0;
}

bool cert_get(const struct segment *s, uint32_t id, struct slice *ret_name, struct cert_state *ret)
{
    const struct cert_rec *r;
    struct cert_stored st = {0};
    uint64_t state, again, w[CERT_WORDS];

    if (!in_use(s, id))
        return false;
    r = rec(s, id);
    *ret_name =
        slice_of(r->name, layout_min(atomic_load_explicit(&r->name_len, memory_order_relaxed),
                                     CERT_NAME_MAX));
    if (!ret)
        return true;
    state = atomic_load(&r->state);
    for (int t = 0; (uint32_t)state != 0; t++) {
        if (t == LAYOUT_TRIES)
            return false;
        for (size_t i = 0; i < CERT_WORDS; i++)
            w[i] = atomic_load_explicit(&r->buf[state >> 32 & 1][i], memory_order_acquire);
        again = atomic_load(&r->state);
        if (again == state) {
            memcpy(&st, w, sizeof(st));
            break;
        }
        state = again;
    }
    text_end(st.first_name, sizeof(st.first_name));
    text_end(st.error, sizeof(st.error));
    ret->names = st.names;
    ret->loaded = st.loaded;
    ret->failed = st.failed;
    ret->not_after_s = st.not_after_s;
    memcpy(ret->first_name, st.first_name, sizeof(ret->first_name));
    memcpy(ret->error, st.error, sizeof(ret->error));
    ret->changed_ms = st.changed_ms;
    return true;
}

void cert_reap(struct segment *s, uint32_t slot)
{
    const uint32_t n = cert_count(s);

    for (uint32_t i = 0; i < n; i++) {
        _Atomic uint32_t *writer = &rec(s, i)->writer;
        uint32_t owner = atomic_load(writer);

        if (owner != 0 && (owner & 0xff) == slot)
            atomic_compare_exchange_strong(writer, &owner, 0);
    }
}
