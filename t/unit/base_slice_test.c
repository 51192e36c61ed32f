/* Slices and lists. */
#include "base/list.h"
#include "base/slice.h"
#include "t/unit/tap.h"

struct node {
    int value;
    struct list link;
};

static int list_sum(struct list *head)
{
    int digits = 0;
    LIST_EACH(it, head)
    digits = digits * 10 + CONTAINER(it, struct node, link)->value;
    return digits;
}

static void test_list(void)
{
    struct list head;
    struct node n[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    list_init(&head);
    tap_ok(list_empty(&head) && !LIST_FIRST(&head, struct node, link), "empty list");
    list_remove(&n[0].link);
    tap_ok(!list_linked(&n[0].link), "removing an unlinked node does nothing");
    list_append(&head, &n[0].link);
    list_append(&head, &n[1].link);
    list_push(&head, &n[2].link);
    list_append(&head, &n[3].link);
    tap_is_int(list_sum(&head), 3124, "push and append");
    list_remove(&n[0].link);
    tap_is_int(list_sum(&head), 324, "remove from the middle");
    LIST_EACH_SAFE(it, tmp, &head)
    list_remove(it);
    tap_ok(list_empty(&head), "removing while walking");
}

static void test_next(void)
{
    struct slice rest = SLICE(" a ,, b c\t,\t,d"), item;
    const char *const want[] = {"a", "b c", "d"};
    for (int i = 0; i < 3; i++) {
        tap_ok(slice_next(&rest, ',', &item), "item %d is there", i);
        tap_is_str(item, want[i], "item %d", i);
    }
    tap_ok(!slice_next(&rest, ',', &item), "then nothing is left");
    rest = SLICE(" , ,");
    tap_ok(!slice_next(&rest, ',', &item), "a list of nothing has no items");
}

int main(void)
{
    tap_ok(slice_eq(SLICE_NONE, SLICE("")), "none equals empty");
    tap_ok(!slice_eq(SLICE("ab"), SLICE("abc")), "lengths differ");
    tap_ok(slice_eq_ci(SLICE("Content-LENGTH"), SLICE("content-length")), "case is ignored");
    tap_ok(!slice_eq_ci(SLICE("a["), SLICE("a{")), "only letters have a case");
    tap_ok(!slice_eq_ci(SLICE("\xc0"), SLICE("\xe0")), "only ASCII letters have a case");
    tap_ok(slice_starts(SLICE("abc"), SLICE("ab")) && !slice_starts(SLICE("a"), SLICE("ab")),
           "starts");
    tap_ok(slice_ends(SLICE("abc"), SLICE("bc")) && !slice_ends(SLICE("c"), SLICE("bc")), "ends");
    tap_ok(slice_starts(SLICE_NONE, SLICE_NONE) && slice_ends(SLICE_NONE, SLICE_NONE), "nothing");
    tap_is_int(slice_cmp(SLICE("a"), SLICE("b")), -1, "a < b");
    tap_is_int(slice_cmp(SLICE("ab"), SLICE("a")), 1, "ab > a");
    tap_is_int(slice_cmp(SLICE("\xff"), SLICE("a")), 1, "bytes are unsigned");
    tap_is_int(slice_cmp(SLICE_NONE, SLICE("")), 0, "empty ones are equal");
    tap_is_str(slice_trim(SLICE(" \tx y\t ")), "x y", "trim");
    tap_is_str(slice_trim(SLICE(" \t ")), "", "trim to nothing");
    tap_is_str(slice_trim(SLICE("\nx\r")), "\nx\r", "line ends are not OWS");
    tap_is_int(slice_chr(SLICE("a:b:"), ':'), 1, "first of two");
    tap_is_int(slice_chr(SLICE_NONE, ':'), -1, "not there");
    test_next();
    test_list();
    return tap_done();
}
