/* Fuzz target: any bytes as a configuration; what loads must dump to what loads to the same. */
#include "base/err.h"
#include "config/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct config *load(struct slice text)
{
    struct conf_snapshot *s;
    struct conf_diags d;
    struct config *c = NULL;
    struct buf out;
    if (conf_snapshot_text("fuzz", text, &s) < 0)
        return NULL;
    conf_diags_init(&d);
    buf_init(&out, 0);
    if ((config_load(s, &d, &c) == 0) != (c != NULL) || (c != NULL) != (d.errors == 0))
        abort();
    conf_diags_print(&d, &out);
    buf_fini(&out);
    conf_diags_fini(&d);
    conf_snapshot_free(&s);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config *a = load(slice_of((const char *)data, n));
    struct buf out;
    if (!a)
        return 0;
    buf_init(&out, 0);
    config_dump(a, false, false, &out);
    struct config *b = load(buf_slice(&out));
    if (!b || a->hash != b->hash)
        abort();
    buf_clear(&out);
    config_dump(a, true, true, &out);
    config_diff(a, b, &out);
    (void)config_memory_bound(a, &out);
    buf_fini(&out);
    config_free(&a);
    config_free(&b);
    return 0;
}
