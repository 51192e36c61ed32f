/* Resolved addresses: registry, publication by a helper, reading by workers. */
#include "shm/resolve.h"

#include "base/err.h"
#include "base/hash.h"
#include "shm/layout.h"

uint32_t resolve_count(const struct segment *s)
{
    return layout_min(atomic_load_explicit(&layout_hot(s)->name_count, memory_order_acquire),
                      s->nnames);
}

struct slice resolve_name(const struct segment *s, uint32_t id)
{
    const struct resolve_rec *r;

    if (id >= resolve_count(s))
        return SLICE_NONE;
    r = layout_name(s, id);
    return slice_of(r->name, layout_min(atomic_load_explicit(&r->name_len, memory_order_relaxed),
                                        RESOLVE_NAME_MAX));
}

int resolve_register(struct segment *s, struct slice name, uint32_t *ret_id)
{
    _Atomic uint64_t *hash = layout_words(s, AREA_NAME_HASH);
    const uint32_t n = resolve_count(s);
    struct resolve_rec *r;
    uint64_t h;

    if (name.n == 0 || name.n > RESOLVE_NAME_MAX)
        return -ERR_INVAL;
    h = hash_fixed(name.p, name.n);
    h = h ? h : 1;
    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load_explicit(&hash[i], memory_order_relaxed) == h &&
            slice_eq(resolve_name(s, i), name)) {
            *ret_id = i;
            return 0;
        }
    }
    if (n == s->nnames)
        return -ERR_FULL;
    r = layout_name(s, n);
    memset(r->name, 0, sizeof(r->name));
    memcpy(r->name, name.p, name.n);
    atomic_store_explicit(&r->name_len, (uint32_t)name.n, memory_order_relaxed);
    atomic_store_explicit(&r->writer, 0, memory_order_relaxed);
    atomic_store_explicit(&r->state, 0, memory_order_relaxed);
    atomic_store_explicit(&hash[n], h, memory_order_relaxed);
    atomic_store_explicit(&layout_hot(s)->name_count, n + 1, memory_order_release);
    *ret_id = n;
    return 0;
}

static bool addr_same(const union addr *a, const union addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0 &&
           a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}

/* Servers of names often rotate their answers: the same addresses in another order are no change.
 */
static bool same_set(const struct resolve_stored *a, const struct resolve_stored *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t j = 0;

        while (j < b->n && !addr_same(&a->addr[i], &b->addr[j]))
            j++;
        if (j == b->n)
            return false;
    }
    return true;
}

/* Keeps what a worker may connect to: known families, no port, no doubles. */
static void add_clean(struct resolve_stored *to, const union addr *from)
{
    union addr a = {0};

    if (from->sa.sa_family == AF_INET) {
        a.in.sin_family = AF_INET;
        a.in.sin_addr = from->in.sin_addr;
    } else if (from->sa.sa_family == AF_INET6) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_addr = from->in6.sin6_addr;
        a.in6.sin6_scope_id = from->in6.sin6_scope_id;
    } else {
        return;
    }
    for (uint32_t i = 0; i < to->n; i++) {
        if (addr_same(&to->addr[i], &a))
            return;
    }
    if (to->n < RESOLVE_ADDRS)
        to->addr[to->n++] = a;
}

static void load(const struct resolve_rec *r, uint32_t seq, struct resolve_stored *ret)
{
    uint64_t w[RESOLVE_WORDS];

    for (size_t i = 0; i < RESOLVE_WORDS; i++)
        w[i] = atomic_load_explicit(&r->buf[seq & 1][i], memory_order_acquire);
    memcpy(ret, w, sizeof(*ret));
    ret->n = layout_min(ret->n, RESOLVE_ADDRS);
}

int resolve_publish(struct segment *s, slot_oid me, uint32_t id, const struct resolve_answer *a)
{
    struct resolve_rec *r;
    struct resolve_stored old, new = {0};
    uint32_t owner, seq, version;
    uint64_t state, w[RESOLVE_WORDS];

    if (id >= resolve_count(s) || me == 0)
        return -ERR_RANGE;
    r = layout_name(s, id);
    owner = atomic_load(&r->writer);
    if (owner != me) {
        if (owner != 0 && slot_alive(s, owner))
            return -ERR_AGAIN;
        if (!atomic_compare_exchange_strong(&r->writer, &owner, me))
            return -ERR_AGAIN;
    }
    state = atomic_load(&r->state);
    seq = (uint32_t)(state >> 32);
    version = (uint32_t)state;
    load(r, seq, &old);
    for (uint32_t i = 0; a->error == 0 && i < layout_min(a->n, RESOLVE_ADDRS); i++)
        add_clean(&new, &a->addr[i]);
    new.resolved_ms = a->resolved_ms;
    new.expires_ms = a->expires_ms;
    new.error = a->error > 0 ? (uint32_t)a->error : a->error < 0 || new.n == 0;
    if (new.n == 0 || (version != 0 && same_set(&new, &old))) {
        if (version != 0) {
            memcpy(new.addr, old.addr, sizeof(new.addr));
            new.n = old.n;
        }
        if (new.error != 0 && version != 0)
            new.resolved_ms = old.resolved_ms;
    } else {
        version = version == UINT32_MAX ? 1 : version + 1;
    }
    memcpy(w, &new, sizeof(w));
    for (size_t i = 0; i < RESOLVE_WORDS; i++)
        atomic_store_explicit(&r->buf[(seq + 1) & 1][i], w[i], memory_order_release);
    atomic_store(&r->state, (uint64_t)(seq + 1) << 32 | version);
    atomic_store(&r->writer, 0);
    return 0;
}

uint32_t resolve_version(const struct segment *s, uint32_t id)
{
    if (id >= s->nnames)
        return 0;
    return (uint32_t)atomic_load_explicit(&layout_name(s, id)->state, memory_order_acquire);
}

bool resolve_read(const struct segment *s, uint32_t id, struct resolve_answer *ret)
{
    const struct resolve_rec *r;
    struct resolve_stored st, clean = {0};
    uint64_t state, again;

    memset(ret, 0, sizeof(*ret));
    if (id >= resolve_count(s))
        return false;
    r = layout_name(s, id);
    state = atomic_load(&r->state);
    for (int i = 0; i < LAYOUT_TRIES; i++) {
        load(r, (uint32_t)(state >> 32), &st);
        again = atomic_load(&r->state);
        /* The writer of the next number fills the other buffer; only the one after it comes back to
         * this one. */
        if (again == state)
            break;
        state = again;
        if (i == LAYOUT_TRIES - 1)
            return false;
    }
    for (uint32_t i = 0; i < st.n; i++)
        add_clean(&clean, &st.addr[i]);
    ret->version = (uint32_t)state;
    ret->n = clean.n;
    memcpy(ret->addr, clean.addr, sizeof(ret->addr));
    ret->resolved_ms = st.resolved_ms;
    ret->expires_ms = st.expires_ms;
    ret->error = st.error > 3 ? 3 : (int)st.error;
    return true;
}

void resolve_reap(struct segment *s, uint32_t slot)
{
    const uint32_t n = resolve_count(s);

    for (uint32_t i = 0; i < n; i++) {
        _Atomic uint32_t *writer = &layout_name(s, i)->writer;
        uint32_t owner = atomic_load(writer);

        if (owner != 0 && (owner & 0xff) == slot)
            atomic_compare_exchange_strong(writer, &owner, 0);
    }
}
