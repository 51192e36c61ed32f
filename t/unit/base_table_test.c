/* base/table: put, find, take out, growth with and without memory. */
#include "base/arena.h"
#include "base/err.h"
#include "base/table.h"
#include "t/unit/tap.h"

struct item {
    struct table_node node;
    char key[16];
    bool in;
};

static struct item item[5000];

static struct item *find(const struct table *t, const char *key)
{
    uint64_t h = table_hash(t, slice_str(key));
    for (struct table_node *n = table_first(t, h); n; n = table_next(n)) {
        struct item *it = CONTAINER(n, struct item, node);
        if (strcmp(it->key, key) == 0)
            return it;
    }
    return NULL;
}

static unsigned wrong(const struct table *t)
{
    unsigned bad = 0;
    for (size_t i = 0; i < 5000; i++)
        bad += find(t, item[i].key) != (item[i].in ? &item[i] : NULL);
    return bad;
}

int main(void)
{
    struct table t = {0};
    tap_ok(table_first(&t, 1) == NULL, "a zeroed table is empty");
    alloc_fail_at(1);
    tap_is_int(table_init(&t, 1), -ERR_NOMEM, "no memory");
    alloc_fail_at(0);
    tap_is_int(table_init(&t, 1), 0, "init");
    for (size_t i = 0; i < 5000; i++) {
        snprintf(item[i].key, sizeof(item[i].key), "key-%zu", i);
        if (i % 1000 == 0)
            alloc_fail_at(1); /* a growth that fails is made up for by the next */
        table_put(&t, &item[i].node, table_hash(&t, slice_str(item[i].key)));
        item[i].in = true;
    }
    alloc_fail_at(0);
    tap_is_int(t.n, 5000, "all are in");
    tap_is_int(wrong(&t), 0, "each is found");
    tap_ok(t.mask >= 4095, "it grew");
    for (size_t i = 0; i < 5000; i += 3) {
        table_remove(&t, &item[i].node);
        item[i].in = false;
    }
    tap_is_int(t.n, 5000 - 1667, "a third is out");
    tap_is_int(wrong(&t), 0, "those are not found, the others are");
    table_remove(&t, &item[0].node);
    tap_is_int(t.n, 5000 - 1667, "taking out what is not in changes nothing");
    table_fini(&t);
    tap_ok(t.place == NULL, "fini");
    return tap_done();
}
