/* The ring of session ticket keys in the segment. */
#include "shm/ticket.h"

#include "shm/crc32c.h"
#include "shm/layout.h"

static struct ticket_rec *rec(const struct segment *s)
{
    return layout_at(s, AREA_TICKET, 0);
}

static uint32_t sum_of(const struct ticket_stored *st)
{
    return crc32c(&st->key, sizeof(st->key)) ^ st->n;
}

void ticket_put(struct segment *s, const struct ticket_ring *r)
{
    struct ticket_rec *t = rec(s);
    const uint32_t seq = atomic_load(&t->seq);
    const uint32_t next = seq == UINT32_MAX ? 2 : seq + 1; /* never 0, and the other buffer */
    struct ticket_stored st = {.n = layout_min(r->n, TICKET_KEYS)};
    uint64_t w[TICKET_WORDS];

    memcpy(st.key, r->key, st.n * sizeof(st.key[0]));
    st.crc = sum_of(&st);
    memcpy(w, &st, sizeof(w));
    for (size_t i = 0; i < TICKET_WORDS; i++)
        atomic_store_explicit(&t->buf[next & 1][i], w[i], memory_order_release);
    atomic_store(&t->seq, next);
    /* A key that is over must not be found in memory: whoever reads the old ring meanwhile sees
     * afterwards that the number is another one. */
    for (size_t i = 0; i < TICKET_WORDS; i++)
        atomic_store_explicit(&t->buf[~next & 1][i], 0, memory_order_release);
    explicit_bzero(&st, sizeof(st));
    explicit_bzero(w, sizeof(w));
}

bool ticket_get(const struct segment *s, uint32_t *seq, struct ticket_ring *ret)
{
    const struct ticket_rec *t = rec(s);
    uint32_t now = atomic_load_explicit(&t->seq, memory_order_acquire);
    bool found = false;

    for (int i = 0; now != *seq && now != 0 && i < LAYOUT_TRIES; i++) {
        struct ticket_stored st;
        uint64_t w[TICKET_WORDS];
        uint32_t again;

        for (size_t k = 0; k < TICKET_WORDS; k++)
            w[k] = atomic_load_explicit(&t->buf[now & 1][k], memory_order_acquire);
        again = atomic_load(&t->seq);
        memcpy(&st, w, sizeof(st));
        explicit_bzero(w, sizeof(w));
        found = again == now && st.n <= TICKET_KEYS && st.crc == sum_of(&st);
        if (found) {
            ret->n = st.n;
            memcpy(ret->key, st.key, sizeof(ret->key));
            *seq = now;
        }
        explicit_bzero(&st, sizeof(st));
        if (found || again == now)
            break;
        now = again;
    }
    return found;
}
