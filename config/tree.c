/* From the snapshot's bytes to sections and entries: titles, known keys, includes, repetitions. */
#include "base/err.h"
#include "config/load.h"

#include <stdarg.h>
#include <stdio.h>

#define NAME_LONGEST 59u /* so that "HOST/NAME" fits a series in shared memory */

/* The source line of a position as a text, or NULL. */
static const char *source_line(struct conf_load *x, struct conf_pos pos)
{
    size_t i = 0;
    while (i < x->snap->nfile && x->file[i].path != pos.file)
        i++;
    if (i == x->snap->nfile || pos.line == 0)
        return NULL;
    struct conf_load_file *f = &x->file[i];
    struct slice text = x->snap->file[i]->text;
    if (!f->line_at) {
        uint32_t n = 1;
        for (const char *p = text.p; p && (p = memchr(p, '\n', text.n - (size_t)(p - text.p))); p++)
            n++;
        f->line_at = arena_alloc(&x->tree, (n + 1) * sizeof *f->line_at);
        if (!f->line_at)
            return NULL;
        f->line_at[f->nline++] = 0;
        for (const char *p = text.p; p && (p = memchr(p, '\n', text.n - (size_t)(p - text.p))); p++)
            f->line_at[f->nline++] = (uint32_t)(p + 1 - text.p);
        f->line_at[f->nline] = (uint32_t)text.n + 1;
    }
    if (pos.line > f->nline)
        return NULL;
    uint32_t from = f->line_at[pos.line - 1], to = f->line_at[pos.line] - 1;
    if (pos.line == 1 && slice_starts(text, SLICE("\xef\xbb\xbf")))
        from += 3;
    buf_clear(&x->text);
    for (uint32_t k = from; k < to; k++)
        if (text.p[k] != '\r' || k + 1 < to)
            buf_chr(&x->text, text.p[k] ? text.p[k] : '?');
    buf_chr(&x->text, 0);
    return x->text.failed ? NULL : x->text.p;
}

__attribute__((format(printf, 4, 0))) static void report(struct conf_load *x,
                                                         enum conf_diag_level lv,
                                                         struct conf_pos pos, const char *fmt,
                                                         va_list ap)
{
    char text[1024];
    if (x->muted)
        return;
    (void)vsnprintf(text, sizeof text, fmt, ap);
    conf_diag_add(x->d, lv, pos, x->d->n < 1000 ? source_line(x, pos) : NULL, "%s", text);
}

void conf_load_error(struct conf_load *x, struct conf_pos pos, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(x, CONF_ERROR, pos, fmt, ap);
    va_end(ap);
}

void conf_load_warn(struct conf_load *x, struct conf_pos pos, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(x, CONF_WARNING, pos, fmt, ap);
    va_end(ap);
}

struct conf_pos conf_load_word_pos(const struct conf_entry *e, const struct conf_word *w)
{
    return (struct conf_pos){e->pos.file, w->line, w->col};
}

struct conf_pos conf_load_value_pos(const struct conf_entry *e)
{
    return (struct conf_pos){e->pos.file, e->value_line, e->value_col};
}

static struct conf_pos here(const struct conf_load *x, uint32_t line, uint32_t col)
{
    return (struct conf_pos){x->file[x->current_file].path, line, col};
}

static int on_bad(void *user, uint32_t line, uint32_t col, const char *text)
{
    struct conf_load *x = user;
    conf_load_error(x, here(x, line, col), "%s", text);
    return 0;
}

static void on_bad_word(void *user, uint32_t line, uint32_t col, const char *text)
{
    (void)on_bad(user, line, col, text);
}

static bool name_ok(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              strchr("_.*-", c)))
            return false;
    }
    return s.n > 0 && s.n <= NAME_LONGEST;
}

/* Splits and checks a title; reports and returns false when it is bad. */
static bool title_parse(struct conf_load *x, struct slice title, struct conf_pos pos,
                        struct conf_section *s)
{
    size_t i = 0;
    while (i < title.n && title.p[i] != ' ' && title.p[i] != '\t')
        i++;
    struct slice kind = slice_of(title.p, i);
    s->name = slice_trim(slice_of(title.p + i, title.n - i));
    s->kind = conf_sect_find(kind);
    if (s->kind == CONF_SECT_NONE) {
        struct conf_near near;
        conf_near_init(&near, kind);
        for (size_t k = CONF_SECT_GLOBAL; k < CONF_SECT__COUNT; k++)
            conf_near_try(&near, slice_str(conf_sect_info((enum conf_sect)k)->name));
        if (near.best.p)
            conf_load_error(x, pos,
                            "unknown section [" SLICE_FMT "]; did you mean [" SLICE_FMT "]?",
                            SLICE_ARG(kind), SLICE_ARG(near.best));
        else
            conf_load_error(x, pos,
                            "unknown section [" SLICE_FMT
                            "]; there are global, defaults, listen, certificate, "
                            "cache, compress, host, route, upstream and log",
                            SLICE_ARG(kind));
        return false;
    }
    const struct conf_sect_info *info = conf_sect_info(s->kind);
    if (!info->named && s->name.n > 0) {
        conf_load_error(x, pos, "%s has no name", info->title);
        return false;
    }
    if (info->named && s->name.n == 0) {
        conf_load_error(x, pos, "the name is missing: %s", info->title);
        return false;
    }
    if (!info->named)
        return true;
    s->route = s->name;
    if (s->kind == CONF_SECT_ROUTE) {
        ptrdiff_t slash = slice_chr(s->name, '/');
        if (slash <= 0) {
            conf_load_error(
                x, pos, "a route is written [route HOST/NAME], or [route */NAME] for every host");
            return false;
        }
        s->host = slice_of(s->name.p, (size_t)slash);
        s->route = slice_of(s->name.p + slash + 1, s->name.n - (size_t)slash - 1);
    }
    if ((s->host.n > 0 && !name_ok(s->host)) || !name_ok(s->route)) {
        conf_load_error(x, pos,
                        "bad name \"" SLICE_FMT
                        "\": letters, digits, \"_\", \".\", \"*\" and \"-\", %u at most",
                        SLICE_ARG(s->name), NAME_LONGEST);
        return false;
    }
    if (slice_eq(s->name, SLICE("off"))) {
        conf_load_error(x, pos, "\"off\" cannot be a name");
        return false;
    }
    return true;
}

static struct conf_section *section_add(struct conf_load *x, const struct conf_section *from)
{
    struct conf_section *s = ARENA_NEW(&x->tree, struct conf_section);
    if (!s)
        return NULL;
    *s = *from;
    s->last = &s->first;
    *x->last_section = s;
    x->last_section = &s->next;
    s->seq = (uint32_t)x->nsection++;
    return s;
}

static int on_section(void *user, struct slice title, uint32_t line, uint32_t col)
{
    struct conf_load *x = user;
    struct conf_section s = {.pos = here(x, line, col)};
    struct slice text = arena_dup(&x->c->arena, title);
    void *old = NULL;
    if (!text.p)
        return -ERR_NOMEM;
    x->sect = NULL;
    x->skipping = true;
    if (!title_parse(x, text, s.pos, &s))
        return 0;
    struct slice id =
        arena_printf(&x->tree, "%s " SLICE_FMT, conf_sect_info(s.kind)->name, SLICE_ARG(s.name));
    struct conf_section *own = section_add(x, &s);
    if (!own || !id.p)
        return -ERR_NOMEM;
    int k = map_put(&x->by_title, id, own, &old);
    if (k == -ERR_NOMEM)
        return k;
    if (k == -ERR_EXIST) {
        const struct conf_section *first = old;
        conf_load_error(x, s.pos,
                        "section [" SLICE_FMT "] is given twice; the first one is at %s:%u",
                        SLICE_ARG(text), first->pos.file, first->pos.line);
        own->kind = CONF_SECT_NONE; /* its keys are still checked, its values go nowhere */
        own->object = old;
    } else if (s.kind == CONF_SECT_GLOBAL) {
        x->global = own;
    } else if (s.kind == CONF_SECT_DEFAULTS) {
        x->defaults = own;
    }
    x->sect = own;
    x->skipping = false;
    return 0;
}

/* The kind of the open section, also when it is a second one of its name. */
static enum conf_sect open_kind(const struct conf_load *x)
{
    if (!x->sect)
        return CONF_SECT_NONE;
    return x->sect->kind == CONF_SECT_NONE ? ((const struct conf_section *)x->sect->object)->kind
                                           : x->sect->kind;
}

static int on_entry(void *user, const struct conf_ini_entry *e);
static const struct conf_ini_ops ops = {on_section, on_entry, on_bad};

static int read_file(struct conf_load *x, uint32_t index)
{
    const struct conf_snap_file *f = x->snap->file[index];
    x->file[index].entered = true;
    x->file[index].include = f->first;
    x->current_file = index;
    x->sect = NULL;
    x->skipping = false;
    return conf_ini_read(f->text, &ops, x);
}

/* The open section goes on behind the include. */
static int on_include(struct conf_load *x, struct conf_pos pos, size_t nword)
{
    struct conf_load_file *f = &x->file[x->current_file];
    const struct conf_snap_include *inc = f->include;
    struct conf_section *sect = x->sect;
    uint32_t index = x->current_file;
    int k = 0;
    if (!inc)
        return -ERR_INTERNAL;
    f->include = inc->next;
    if (nword == 0)
        conf_load_error(x, pos, "include needs a file");
    if (inc->error)
        conf_load_error(x, pos, "%s", inc->error);
    if (inc->n > 0 && x->depth >= CONF_INCLUDE_DEPTH) {
        conf_load_error(x, pos, "includes are nested deeper than %u", CONF_INCLUDE_DEPTH);
        return 0;
    }
    for (size_t i = 0; i < inc->n && k == 0; i++) {
        struct conf_load_file *to = &x->file[inc->file[i]];
        const struct conf_snap_file *file = x->snap->file[inc->file[i]];
        if (file->error) {
            conf_load_error(x, pos, "%s", file->error);
        } else if (to->entered) {
            if (to->entered_from.line)
                conf_load_error(x, pos, "%s is included already at %s:%u", file->path,
                                to->entered_from.file, to->entered_from.line);
            else
                conf_load_error(x, pos, "%s includes itself", file->path);
        } else {
            to->entered_from = pos;
            x->depth++;
            k = read_file(x, inc->file[i]);
            x->depth--;
        }
    }
    x->current_file = index;
    x->sect = sect;
    x->skipping = false;
    return k;
}

static const struct conf_entry *seen_before(const struct conf_load *x, const struct conf_key *key)
{
    if (x->seen_in[key->id] == x->sect)
        return x->seen[key->id];
    if (x->sect->kind != CONF_SECT_GLOBAL) /* the only one that may go on behind other sections */
        return NULL;
    for (const struct conf_entry *e = x->sect->first; e; e = e->next)
        if (e->key == key)
            return e;
    return NULL;
}

static struct conf_entry *entry_add(struct conf_load *x, struct conf_section *s,
                                    const struct conf_entry *from)
{
    struct conf_entry *e = ARENA_NEW(&x->tree, struct conf_entry);
    if (!e)
        return NULL;
    *e = *from;
    e->next = NULL;
    if (s) {
        *s->last = e;
        s->last = &e->next;
    }
    return e;
}

/* Keys before any section. */
static int on_quick(struct conf_load *x, struct slice name, const struct conf_entry *e)
{
    struct conf_entry **at = slice_eq(name, SLICE("proxy"))    ? &x->quick_proxy
                             : slice_eq(name, SLICE("listen")) ? &x->quick_listen
                                                               : NULL;
    if (x->current_file != 0 || !at) {
        buf_clear(&x->scratch);
        conf_key_hint(CONF_SECT_NONE, name, &x->scratch);
        conf_load_error(x, e->pos, "key \"" SLICE_FMT "\" before any section" SLICE_FMT "%s",
                        SLICE_ARG(name), SLICE_ARG(buf_slice(&x->scratch)),
                        x->current_file == 0 && x->scratch.n == 0
                            ? "; only proxy, listen and include may stand here"
                            : "");
    } else if (*at) {
        conf_load_error(x, e->pos, "\"" SLICE_FMT "\" is given twice; the first time in line %u",
                        SLICE_ARG(name), (*at)->pos.line);
    } else {
        *at = entry_add(x, NULL, e);
        if (!*at)
            return -ERR_NOMEM;
    }
    return 0;
}

static int on_entry(void *user, const struct conf_ini_entry *ie)
{
    struct conf_load *x = user;
    struct conf_entry e = {.pos = here(x, ie->line, ie->col),
                           .value_line = ie->value_line,
                           .value_col = ie->value_col,
                           .append = ie->append};
    enum conf_sect kind = open_kind(x);
    bool include = slice_eq(ie->name, SLICE("include"));
    if (x->skipping)
        return 0;
    if (!include && x->sect) {
        e.key = conf_key_find(kind, ie->name);
        if (!e.key) {
            buf_clear(&x->scratch);
            conf_key_hint(kind, ie->name, &x->scratch);
            conf_load_error(x, e.pos, "unknown key \"" SLICE_FMT "\" in [%s]" SLICE_FMT,
                            SLICE_ARG(ie->name), conf_sect_info(kind)->name,
                            SLICE_ARG(buf_slice(&x->scratch)));
            return 0;
        }
    }
    int k = conf_words_split(ie, &x->c->arena, &x->scratch, on_bad_word, x, &e.word, &e.nword);
    if (k == -ERR_NOMEM)
        return k;
    if (include && (!x->sect || kind == CONF_SECT_GLOBAL))
        return on_include(x, e.pos, k < 0 ? 1 : e.nword);
    if (include) {
        conf_load_error(x, e.pos, "include may stand before any section and in [global] only");
        return 0;
    }
    if (!x->sect)
        return k < 0 ? 0 : on_quick(x, ie->name, &e);
    struct slice name = conf_key_name(e.key);
    const struct conf_entry *old = seen_before(x, e.key);
    if (e.append && !(e.key->flags & F_LIST)) {
        conf_load_error(x, e.pos, "\"" SLICE_FMT "\" is no list: write \"=\"", SLICE_ARG(name));
        return 0;
    }
    if (old && !(e.key->flags & F_LIST)) {
        conf_load_error(x, e.pos, "\"" SLICE_FMT "\" is given twice; the first time at %s:%u",
                        SLICE_ARG(name), old->pos.file, old->pos.line);
        return 0;
    }
    /* A value that was refused leaves an entry without words: the key was not forgotten. */
    if (k == 0 && e.nword == 0)
        conf_load_error(x, conf_load_value_pos(&e), "\"" SLICE_FMT "\" has no value",
                        SLICE_ARG(name));
    e.first = !old;
    struct conf_entry *own = entry_add(x, x->sect, &e);
    if (!own)
        return -ERR_NOMEM;
    if (!old) {
        x->seen_in[e.key->id] = x->sect;
        x->seen[e.key->id] = own;
    }
    return 0;
}

struct conf_section *conf_tree_section(struct conf_load *x, enum conf_sect kind, const char *name,
                                       struct conf_pos pos)
{
    struct conf_section s = {
        .kind = kind, .name = slice_str(name), .route = slice_str(name), .pos = pos};
    return section_add(x, &s);
}

struct conf_entry *conf_tree_entry(struct conf_load *x, struct conf_section *s, const char *key,
                                   const struct conf_entry *from)
{
    struct conf_entry e = *from;
    e.key = conf_key_find(s->kind, slice_str(key));
    e.first = true;
    e.append = false;
    return entry_add(x, s, &e);
}

int conf_tree_read(struct conf_load *x)
{
    x->file = ARENA_ARRAY(&x->tree, struct conf_load_file, x->snap->nfile);
    if (!x->file)
        return -ERR_NOMEM;
    for (size_t i = 0; i < x->snap->nfile; i++) {
        x->file[i].path = arena_dup(&x->c->arena, slice_str(x->snap->file[i]->path)).p;
        if (!x->file[i].path)
            return -ERR_NOMEM;
    }
    if (x->snap->file[0]->error) {
        conf_load_error(x, (struct conf_pos){x->file[0].path, 0, 0}, "%s", x->snap->file[0]->error);
        return 0;
    }
    return read_file(x, 0);
}
