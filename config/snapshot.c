/* Reads the configuration's files once: the main file, what it includes, and the error pages they
 * name. */
#include "config/snapshot.h"
#include "base/err.h"
#include "config/words.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Walks one file's entries for the files they name. */
struct walker {
    struct conf_snapshot *s;
    struct conf_snap_file *file;
    struct buf scratch;
    bool includes; /* here `include` is a key: before any section or in [global] */
};

static const char *say(struct conf_snapshot *s, const char *path, int error)
{
    return arena_printf(&s->arena, "cannot read %s: %s", path, strerror(error)).p;
}

/* Reads a file of `most` bytes at most into the arena. NULL, or what is wrong. */
static const char *slurp(struct conf_snapshot *s, const char *path, bool any_type, size_t most,
                         struct slice *ret)
{
    struct stat st;
    const char *error = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (any_type ? 0 : O_NONBLOCK));
    *ret = SLICE("");
    if (fd < 0)
        return say(s, path, errno);
    if (fstat(fd, &st) < 0) {
        error = say(s, path, errno);
        (void)close(fd);
        return error;
    }
    if (S_ISDIR(st.st_mode) || (!any_type && !S_ISREG(st.st_mode))) {
        (void)close(fd);
        return arena_printf(&s->arena, "cannot read %s: not a regular file", path).p;
    }
    struct buf b;
    buf_init(&b, 0);
    if (S_ISREG(st.st_mode) && st.st_size >= 0 && (uint64_t)st.st_size < most)
        (void)buf_reserve(&b, (size_t)st.st_size + 1);
    while (b.n <= most && buf_reserve(&b, 4096)) {
        ssize_t n = read(fd, b.p + b.n, b.cap - b.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            error = say(s, path, errno);
        if (n <= 0)
            break;
        b.n += (size_t)n;
    }
    if (b.failed)
        s->arena.failed = true;
    else if (b.n > most)
        error = arena_printf(&s->arena, "cannot read %s: more than %zu bytes", path, most).p;
    else if (b.n > 0)
        *ret = arena_dup(&s->arena, buf_slice(&b));
    buf_fini(&b);
    (void)close(fd);
    return error;
}

struct slice conf_snapshot_join(struct arena *a, const char *file, struct slice path)
{
    const char *slash = strrchr(file, '/');
    if ((path.n > 0 && path.p[0] == '/') || !slash)
        return arena_dup(a, path);
    return arena_printf(a, "%.*s/" SLICE_FMT, slash == file ? 0 : (int)(slash - file), file,
                        SLICE_ARG(path));
}

/* Index + 1 as a pointer: an index survives growth of the array, and the map takes no NULL. */
static void *index_pointer(size_t i)
{
    return (void *)(uintptr_t)(i + 1);
}

/* Reads a file unless it is there already. 0 with its index, -ERR_NOMEM, -ERR_FULL. */
static int add_file(struct conf_snapshot *s, const char *path, bool any_type, uint32_t *ret)
{
    char real[PATH_MAX];
    struct slice id = slice_str(realpath(path, real) ? real : path);
    void *old = map_get(&s->by_path, id);
    if (old) {
        *ret = (uint32_t)((uintptr_t)old - 1);
        return 0;
    }
    if (s->nfile >= CONF_SNAPSHOT_FILES)
        return -ERR_FULL;
    if (s->nfile == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        struct conf_snap_file **v = ARENA_ARRAY(&s->arena, struct conf_snap_file *, cap);
        if (!v)
            return -ERR_NOMEM;
        if (s->nfile)
            memcpy(v, s->file, s->nfile * sizeof *v);
        s->file = v;
        s->cap = cap;
    }
    struct conf_snap_file *f = ARENA_NEW(&s->arena, struct conf_snap_file);
    if (!f)
        return -ERR_NOMEM;
    f->path = arena_dup(&s->arena, slice_str(path)).p;
    f->real = arena_dup(&s->arena, id);
    f->error = slurp(s, path, any_type, CONF_SNAPSHOT_BYTES, &f->text);
    if (arena_failed(&s->arena))
        return -ERR_NOMEM;
    if (s->bytes + f->text.n > CONF_SNAPSHOT_BYTES) {
        f->error = "the configuration is larger than 16 MiB";
        f->text = SLICE("");
    }
    s->bytes += f->text.n;
    int k = map_put(&s->by_path, f->real, index_pointer(s->nfile), NULL);
    if (k < 0)
        return k;
    *ret = (uint32_t)s->nfile;
    s->file[s->nfile++] = f;
    return 0;
}

static int include_add(struct walker *w, struct conf_snap_include *inc, size_t *cap,
                       const char *path)
{
    uint32_t index;
    int k = add_file(w->s, path, false, &index);
    if (k == -ERR_FULL)
        inc->error = "more than 10000 files";
    if (k < 0)
        return k == -ERR_FULL ? 0 : k;
    if (inc->n == *cap) {
        *cap = *cap ? *cap * 2 : 8;
        uint32_t *v = ARENA_ARRAY(&w->s->arena, uint32_t, *cap);
        if (!v)
            return -ERR_NOMEM;
        if (inc->n)
            memcpy(v, inc->file, inc->n * sizeof *v);
        inc->file = v;
    }
    inc->file[inc->n++] = index;
    return 0;
}

static int include_glob(struct walker *w, struct conf_snap_include *inc, size_t *cap,
                        struct slice pattern)
{
    glob_t g = {0};
    struct stat st;
    int status = 0, k = glob(pattern.p, 0, NULL, &g);
    if (k == GLOB_NOSPACE)
        status = -ERR_NOMEM;
    else if (k != 0 && k != GLOB_NOMATCH)
        inc->error = arena_printf(&w->s->arena, "cannot read what %s names", pattern.p).p;
    for (size_t i = 0; k == 0 && i < g.gl_pathc && status == 0 && !inc->error; i++)
        if (stat(g.gl_pathv[i], &st) == 0 && !S_ISDIR(st.st_mode))
            status = include_add(w, inc, cap, g.gl_pathv[i]);
    globfree(&g);
    return status;
}

static int walk_include(struct walker *w, const struct conf_word *word, size_t n)
{
    struct conf_snap_include *inc = ARENA_NEW(&w->s->arena, struct conf_snap_include);
    size_t cap = 0;
    if (!inc)
        return -ERR_NOMEM;
    if (w->file->last)
        w->file->last->next = inc;
    else
        w->file->first = inc;
    w->file->last = inc;
    if (w->s->text_only) {
        inc->error = "include needs a configuration file, not a text";
        return 0;
    }
    for (size_t i = 0; i < n && !inc->error; i++) {
        struct slice path = conf_snapshot_join(&w->s->arena, w->file->path, word[i].text);
        if (!path.p)
            return -ERR_NOMEM;
        int k = strpbrk(path.p, "*?[") ? include_glob(w, inc, &cap, path)
                                       : include_add(w, inc, &cap, path.p);
        if (k < 0)
            return k;
    }
    return 0;
}

static int walk_page(struct walker *w, struct slice name)
{
    struct conf_snapshot *s = w->s;
    struct slice path = conf_snapshot_join(&s->arena, w->file->path, name);
    if (!path.p)
        return -ERR_NOMEM;
    if (s->text_only || map_get(&s->pages, path))
        return 0;
    struct conf_snap_page *page = ARENA_NEW(&s->arena, struct conf_snap_page);
    if (!page)
        return -ERR_NOMEM;
    page->path = path;
    if (s->npage >= CONF_SNAPSHOT_FILES)
        page->error = "more than 10000 files";
    else
        page->error = slurp(s, path.p, false, CONF_PAGE_BYTES, &page->body);
    if (arena_failed(&s->arena))
        return -ERR_NOMEM;
    if (s->bytes + page->body.n > CONF_SNAPSHOT_BYTES) {
        page->error = "the configuration is larger than 16 MiB";
        page->body = SLICE("");
    }
    s->bytes += page->body.n;
    s->npage++;
    return map_put(&s->pages, path, page, NULL);
}

static int walk_section(void *user, struct slice title, uint32_t line, uint32_t col)
{
    struct walker *w = user;
    (void)line;
    (void)col;
    w->includes = slice_eq(title, SLICE("global"));
    return 0;
}

static int walk_entry(void *user, const struct conf_ini_entry *e)
{
    struct walker *w = user;
    struct conf_word *word;
    size_t n;
    bool include = w->includes && slice_eq(e->name, SLICE("include"));
    if (!include && !slice_eq(e->name, SLICE("error_page")))
        return 0;
    int k = conf_words_split(e, &w->s->arena, &w->scratch, NULL, NULL, &word, &n);
    if (k == -ERR_NOMEM)
        return k;
    if (include)
        return walk_include(w, word,
                            k < 0 ? 0 : n); /* also when malformed: lines and records go in step */
    return k == 0 && n == 2 ? walk_page(w, word[1].text) : 0;
}

static int walk_bad(void *user, uint32_t line, uint32_t col, const char *text)
{
    (void)user;
    (void)line;
    (void)col;
    (void)text;
    return 0; /* config_load() tells */
}

static int walk(struct conf_snapshot *s)
{
    static const struct conf_ini_ops ops = {walk_section, walk_entry, walk_bad};
    int k = 0;
    for (size_t i = 0; i < s->nfile && k == 0; i++) {
        struct walker w = {.s = s, .file = s->file[i], .includes = true};
        buf_init(&w.scratch, 0);
        k = conf_ini_read(s->file[i]->text, &ops, &w);
        buf_fini(&w.scratch);
    }
    return k;
}

static struct conf_snapshot *snapshot_new(void)
{
    if (alloc_should_fail())
        return NULL;
    struct conf_snapshot *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    arena_init(&s->arena, NULL, 0, 0);
    if (map_init(&s->by_path, 16) < 0 || map_init(&s->pages, 16) < 0)
        conf_snapshot_free(&s);
    return s;
}

int conf_snapshot_text(const char *name, struct slice text, struct conf_snapshot **ret)
{
    struct conf_snapshot *s = snapshot_new();
    int k = -ERR_NOMEM;
    *ret = NULL;
    if (!s)
        return k;
    s->text_only = true;
    struct conf_snap_file *f = ARENA_NEW(&s->arena, struct conf_snap_file);
    s->file = ARENA_ARRAY(&s->arena, struct conf_snap_file *, 1);
    if (f && s->file) {
        f->path = arena_dup(&s->arena, slice_str(name)).p;
        f->text = SLICE("");
        if (text.n > CONF_SNAPSHOT_BYTES)
            f->error = "the configuration is larger than 16 MiB";
        else if (text.n > 0)
            f->text = arena_dup(&s->arena, text);
        s->file[0] = f;
        s->nfile = s->cap = 1;
        k = arena_failed(&s->arena) ? -ERR_NOMEM : walk(s);
    }
    if (k == 0 && arena_failed(&s->arena))
        k = -ERR_NOMEM;
    if (k < 0)
        conf_snapshot_free(&s);
    *ret = s;
    return k;
}

int conf_snapshot_file(const char *path, struct conf_snapshot **ret)
{
    struct conf_snapshot *s = snapshot_new();
    uint32_t index;
    *ret = NULL;
    if (!s)
        return -ERR_NOMEM;
    int k = add_file(s, path, true, &index);
    if (k == 0)
        k = walk(s);
    if (k == 0 && arena_failed(&s->arena))
        k = -ERR_NOMEM;
    if (k < 0)
        conf_snapshot_free(&s);
    *ret = s;
    return k;
}

void conf_snapshot_free(struct conf_snapshot **s)
{
    if (!*s)
        return;
    map_fini(&(*s)->by_path);
    map_fini(&(*s)->pages);
    arena_fini(&(*s)->arena);
    free(*s);
    *s = NULL;
}

const struct conf_snap_page *conf_snapshot_page(const struct conf_snapshot *s, struct slice path)
{
    return map_get(&s->pages, path);
}
