/* Counter and gauge rows: access, sums, names. */
#include "shm/counter.h"

#include "shm/layout.h"

static const char *const counter_text[CTR__COUNT][2] = {
#define COUNTER(id, name, help) {name, help},
#define GAUGE(id, name, help)
#include "shm/counters.def"
#undef COUNTER
#undef GAUGE
};
static const char *const gauge_text[GAU__COUNT][2] = {
#define COUNTER(id, name, help)
#define GAUGE(id, name, help) {name, help},
#include "shm/counters.def"
#undef COUNTER
#undef GAUGE
};

struct counter_row *counter_row(struct segment *s, uint32_t slot)
{
    return slot < s->nslots ? layout_at(s, AREA_COUNTER, (size_t)slot * s->counter_stride) : NULL;
}

struct gauge_row *gauge_row(struct segment *s, uint32_t slot)
{
    return slot < s->nslots ? layout_gauge_row(s, slot) : NULL;
}

uint64_t counter_sum(const struct segment *s, enum counter c)
{
    const uint32_t bound = slot_bound(s);
    uint64_t sum = 0;

    if ((unsigned)c >= CTR__COUNT)
        return 0;
    for (uint32_t i = 0; i < bound; i++) {
        const struct counter_row *r = layout_at(s, AREA_COUNTER, (size_t)i * s->counter_stride);

        sum += atomic_load_explicit(&r->v[c], memory_order_relaxed);
    }
    return sum;
}

uint64_t gauge_sum(const struct segment *s, enum gauge g)
{
    const uint32_t bound = slot_bound(s);
    uint64_t sum = 0;

    if ((unsigned)g >= GAU__COUNT)
        return 0;
    for (uint32_t i = 0; i < bound; i++)
        sum += atomic_load_explicit(&layout_gauge_row(s, i)->v[g], memory_order_relaxed);
    /* A gauge torn between a slot that took and one that gave may look negative for a moment. */
    return (int64_t)sum < 0 ? 0 : sum;
}

const char *counter_name(enum counter c)
{
    return (unsigned)c < CTR__COUNT ? counter_text[c][0] : "";
}

const char *counter_help(enum counter c)
{
    return (unsigned)c < CTR__COUNT ? counter_text[c][1] : "";
}

const char *gauge_name(enum gauge g)
{
    return (unsigned)g < GAU__COUNT ? gauge_text[g][0] : "";
}

const char *gauge_help(enum gauge g)
{
    return (unsigned)g < GAU__COUNT ? gauge_text[g][1] : "";
}
