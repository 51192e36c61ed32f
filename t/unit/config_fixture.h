/* Loads configurations in tests: from a text, with all diagnostics as one text. */
#ifndef T_UNIT_CONFIG_FIXTURE_H
#define T_UNIT_CONFIG_FIXTURE_H

#include "base/err.h"
#include "config/config.h"
#include "t/unit/tap.h"

struct fixture {
    struct conf_snapshot *snap;
    struct conf_diags diags;
    struct config *c;
    struct buf out; /* the diagnostics */
    int status;
};

static TAP_UNUSED void fixture_finish(struct fixture *f)
{
    if (f->status == 0)
        f->status = config_load(f->snap, &f->diags, &f->c);
    conf_diags_print(&f->diags, &f->out);
}

static TAP_UNUSED void fixture_text(struct fixture *f, struct slice text)
{
    *f = (struct fixture){0};
    conf_diags_init(&f->diags);
    buf_init(&f->out, 0);
    f->status = conf_snapshot_text("t.conf", text, &f->snap);
    fixture_finish(f);
}

static TAP_UNUSED void fixture_file(struct fixture *f, const char *path)
{
    *f = (struct fixture){0};
    conf_diags_init(&f->diags);
    buf_init(&f->out, 0);
    f->status = conf_snapshot_file(path, &f->snap);
    fixture_finish(f);
}

static TAP_UNUSED void fixture_end(struct fixture *f)
{
    config_free(&f->c);
    conf_snapshot_free(&f->snap);
    conf_diags_fini(&f->diags);
    buf_fini(&f->out);
}

/* The text has exactly these diagnostics; "" means it loads without any. */
static TAP_UNUSED void says(const char *text, const char *want, const char *name)
{
    struct fixture f;
    fixture_text(&f, slice_str(text));
    tap_is_str(f.out.n ? buf_slice(&f.out) : SLICE(""), want, "%s", name);
    tap_ok((f.status == 0) == (f.c != NULL), "%s: a configuration or an error", name);
    fixture_end(&f);
}

/* The rest of a configuration that is complete. */
#define LISTEN   "[listen l]\naddress = 127.0.0.1:80\n"
#define UPSTREAM "[upstream u]\nserver = 127.0.0.1:3000\n"
#define HOST     "[host h]\nnames = *\nupstream = u\n"
#define REST     LISTEN UPSTREAM HOST

#endif
