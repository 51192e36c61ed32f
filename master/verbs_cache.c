/* rpctl cache: what is stored, and purges. Walks over a cache run in a child that takes a worker
 * slot of its own, so that its death is swept like any worker's. */
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "master/job.h"
#include "master/master.h"
#include "master/verbs.h"
#include "shm/cache_meta.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WALK_LIMIT_MS 60000
#define WALK_STEP     4096u /* buckets at a time */
#define LIST_DEFAULT  100u
#define LIST_MOST     100000u

enum act { ACT_STAT, ACT_LIST, ACT_SHOW, ACT_PURGE, ACT_FSCK, ACT_WARM, ACT__COUNT };
static const char *const act_words[] = {"stat", "list", "show", "purge", "fsck", "warm"};

struct command {
    struct list link;  /* verbs_cache_running, while its child runs */
    struct conn *conn; /* NULL: gone */
    enum act act;
    bool json, soft, dry, repair, all;
    uint32_t slot; /* of the child; UINT32_MAX: none */
    uint32_t limit;
    struct slice name;           /* of the one cache; .p NULL: all */
    struct slice text;           /* PREFIX of list; the argument of a purge */
    const char *what;            /* is purged: "URL" ... */
    enum cache_kind kind;        /* of a purge */
    bool has_kind;               /* a purge says what */
    struct cache_meta_target at; /* of show and purge, but for tags */
};
static struct list verbs_cache_running = {&verbs_cache_running, &verbs_cache_running};

/* ---- What was asked ---- */

static bool command_purge_kind(struct command *m, const char *option, const char *value)
{
    static const struct {
        const char *option, *what;
        enum cache_kind kind;
    } kinds[] = {{"--prefix", "prefix", CACHE_KIND_PREFIX},
                 {"--host", "host", CACHE_KIND_HOST},
                 {"--tag", "tag", CACHE_KIND_TAG}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(option, kinds[i].option) != 0)
            continue;
        if (!value || m->has_kind)
            return false;
        m->kind = kinds[i].kind;
        m->what = kinds[i].what;
        m->text = slice_str(value);
        m->has_kind = true;
        return true;
    }
    return false;
}

/* One argument; how many were used, 0: it is not understood. */
static int command_option(struct command *m, const char *a, const char *next)
{
    uint64_t n;
    if (m->act == ACT_PURGE && strcmp(a, "--soft") == 0)
        m->soft = true;
    else if (m->act == ACT_PURGE && strcmp(a, "--dry-run") == 0)
        m->dry = true;
    else if (m->act == ACT_PURGE && strcmp(a, "--all") == 0 && !m->has_kind)
        m->all = m->has_kind = true;
    else if (m->act == ACT_PURGE && command_purge_kind(m, a, next))
        return 2;
    else if (m->act == ACT_FSCK && strcmp(a, "--repair") == 0)
        m->repair = true;
    else if (m->act == ACT_LIST && strcmp(a, "-n") == 0) {
        if (!next || num_u64(slice_str(next), &n) < 0 || n < 1 || n > LIST_MOST)
            return 0;
        m->limit = (uint32_t)n;
        return 2;
    } else if (m->act != ACT_STAT && m->act != ACT_FSCK && strcmp(a, "--cache") == 0 && next) {
        m->name = slice_str(next);
        return 2;
    } else if (a[0] == '-')
        return 0;
    else if ((m->act == ACT_STAT || m->act == ACT_FSCK) && !m->name.p)
        m->name = slice_str(a);
    else if (m->act != ACT_STAT && m->act != ACT_FSCK && !m->text.p && !m->has_kind) {
        m->text = slice_str(a);
        m->has_kind = true;
        m->kind = CACHE_KIND_URL;
        m->what = "URL";
    } else
        return 0;
    return 1;
}

static bool command_parse(struct command *m, const struct proto_request *r)
{
    for (m->act = 0; m->act < ACT__COUNT && strcmp(r->argv[1], act_words[m->act]) != 0; m->act++)
        ;
    if (m->act == ACT__COUNT)
        return false;
    m->limit = LIST_DEFAULT;
    for (int i = 2; i < r->argc;) {
        int used = command_option(m, r->argv[i], i + 1 < r->argc ? r->argv[i + 1] : NULL);
        if (used == 0)
            return false;
        i += used;
    }
    if (m->act == ACT_SHOW && !m->text.p)
        return false;
    return m->act != ACT_PURGE || m->has_kind;
}

static bool command_wants(const struct command *m, struct slice cache)
{
    return !m->name.p || slice_eq(m->name, cache);
}

/* Whether a cache limits what one host may take: naming hosts takes a look at what is stored. */
static bool command_shares(void)
{
    const struct config *c = master.live->config;
    bool any = false;
    for (size_t i = 0; i < c->ncache; i++)
        any |= c->cache[i]->k.max_share < 100000;
    return any;
}

/* What cannot be said of any cache. NULL: fine. */
static const char *command_problem(struct command *m)
{
    const struct config *c = master.live->config;
    bool known = !m->name.p;
    uint64_t name;
    for (size_t i = 0; i < c->ncache; i++)
        known |= slice_eq(m->name, c->cache[i]->name);
    if (c->ncache == 0)
        return "there is no cache: the configuration has no [cache NAME]";
    if (!known)
        return "there is no such cache";
    if (m->act != ACT_SHOW && m->act != ACT_PURGE)
        return NULL;
    if (m->all)
        return NULL;
    if (m->kind == CACHE_KIND_TAG)
        return m->text.n > 0 ? NULL : "the tag is empty";
    if (cache_meta_parse(m->text, &m->at) < 0)
        return "this is no URL: https://HOST/PATH?QUERY";
    if (m->kind == CACHE_KIND_HOST && (m->at.path.n > 1 || m->at.query.p))
        return "this is no host name";
    int rc = cache_meta_name(master.live->cache[0], m->kind, &m->at, &name);
    if (rc == -ERR_INVAL)
        return "a prefix is a directory: https://HOST/DIR/";
    return rc < 0 ? "it is too long, or too deep" : NULL;
}

/* ---- In the child ---- */

struct found { /* by list: printed in the order of URLs */
    char *url;
    uint64_t size;
    uint32_t age;
    int64_t left; /* of its freshness */
    uint16_t status;
    bool soft;
    const char *cache;
};

struct walk {
    const struct command *m;
    struct cache_worker *w;
    struct cache *cache;
    const char *cache_name;
    uint64_t name; /* to be looked for */
    uint32_t site; /* UINT32_MAX: all */
    int64_t now;
    /* What came of it */
    uint64_t objects, bytes, corrupt;
    struct found *found;
    size_t nfound, cap;
    bool more, failed;
    struct json *json; /* of show */
    struct buf *out;
};

static bool walk_matches(const struct walk *k, const struct cache_hit *h,
                         const struct cache_meta_view *v)
{
    const struct command *m = k->m;
    struct cache_meta_target t;
    uint64_t names[CACHE_NAMES];
    if (m->all)
        return true;
    if (k->site != UINT32_MAX && h->attr.site != k->site)
        return false;
    if (m->kind == CACHE_KIND_TAG) {
        for (unsigned i = 0; i < h->ntags; i++) {
            if (h->tags[i] == k->name)
                return true;
        }
        return false;
    }
    if (cache_meta_parse(v->url, &t) < 0)
        return false;
    unsigned n = cache_meta_names(k->cache, t.host, t.path, t.query, names);
    for (unsigned i = 0; i < n; i++) {
        if (names[i] == k->name)
            return true;
    }
    return false;
}

/* rpctl cache list: "https://host/a", "//host/a" and "host/a" are beginnings of the same. */
static bool walk_begins(struct slice url, struct slice prefix)
{
    if (prefix.n == 0 || slice_starts(url, prefix))
        return true;
    for (size_t i = 0; i + 2 < url.n; i++) {
        if (url.p[i] == ':' && url.p[i + 1] == '/' && url.p[i + 2] == '/')
            return slice_starts(slice_of(url.p + i + 3, url.n - i - 3), prefix);
    }
    return false;
}

static void walk_add(struct walk *k, const struct cache_hit *h, const struct cache_meta_view *v)
{
    if (k->nfound == k->m->limit) {
        k->more = true;
        return;
    }
    if (k->nfound == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 256;
        struct found *p = realloc(k->found, cap * sizeof(*p));
        k->failed |= !p;
        if (!p)
            return;
        k->found = p;
        k->cap = cap;
    }
    char *url = strndup(v->url.p, v->url.n);
    k->failed |= !url;
    if (!url)
        return;
    int64_t age = k->now - h->attr.base;
    k->found[k->nfound++] = (struct found){.url = url,
                                           .size = h->size,
                                           .age = age < 0 ? 0 : (uint32_t)age,
                                           .left = (int64_t)h->attr.fresh - age,
                                           .status = v->m.status,
                                           .soft = v->soft,
                                           .cache = k->cache_name};
}

/* Lines as they are, but for bytes that would speak to a terminal. */
static void put_plain(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\r')
            continue;
        buf_chr(out, (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : s.p[i]);
    }
}

static void show_text(const struct walk *k, const struct cache_hit *h,
                      const struct cache_meta_view *v)
{
    struct buf *out = k->out;
    char size[32];
    int64_t age = k->now - h->attr.base, left = (int64_t)h->attr.fresh - age;
    num_fmt_size(size, h->size);
    buf_str(out, k->objects > 1 ? "\nurl      " : "url      ");
    put_plain(out, v->url);
    buf_printf(out,
               "\ncache    %s\nstatus   %u\nbody     %s\nage      %" PRId64
               " s\nfresh    %s%" PRId64
               " s%s\nstale    %u s while it is asked for anew, %u s when servers fail\n"
               "tags     %u\n\n",
               k->cache_name, v->m.status, size, age, left < 0 ? "stale for " : "for another ",
               left < 0 ? -left : left, v->soft ? ", softly purged" : "", h->attr.swr, h->attr.sie,
               h->ntags);
    const struct slice part[] = {v->fields, v->server, v->hsts, v->secret};
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
        put_plain(out, part[i]);
}

static void show_json(const struct walk *k, const struct cache_hit *h,
                      const struct cache_meta_view *v)
{
    struct json *j = k->json;
    struct buf head;
    int64_t age = k->now - h->attr.base;
    buf_init(&head, 0);
    buf_add(&head, v->fields);
    buf_add(&head, v->server);
    buf_add(&head, v->hsts);
    buf_add(&head, v->secret);
    json_object(j);
    json_kstr(j, "url", v->url);
    json_kcstr(j, "cache", k->cache_name);
    json_ku64(j, "status", v->m.status);
    json_ku64(j, "bytes", h->size);
    json_key(j, "age_s");
    json_i64(j, age);
    json_key(j, "fresh_s");
    json_i64(j, (int64_t)h->attr.fresh - age);
    json_ku64(j, "stale_while_revalidate_s", h->attr.swr);
    json_ku64(j, "stale_if_error_s", h->attr.sie);
    json_kbool(j, "softly_purged", v->soft);
    json_ku64(j, "tags", h->ntags);
    json_kstr(j, "head", head.n ? buf_slice(&head) : SLICE(""));
    json_end_object(j);
    buf_fini(&head);
}

static void walk_object(void *arg, struct cache_hit *h)
{
    struct walk *k = arg;
    struct cache_meta_view v;
    int rc = cache_meta_look(k->w, h, &v);
    k->corrupt += rc == -ERR_CORRUPT;
    /* What a purge has just reached is to be counted, and need not take room any longer. */
    bool gone = rc == -ERR_NOENT && k->m->act == ACT_PURGE && !k->m->dry && !k->m->soft;
    if ((rc < 0 && !gone) || h->attr.type != CACHE_OBJECT)
        return;
    if (k->m->act == ACT_LIST) {
        if (walk_begins(v.url, k->m->text))
            walk_add(k, h, &v);
        return;
    }
    if (!walk_matches(k, h, &v))
        return;
    k->objects++;
    k->bytes += h->size;
    if (k->m->act == ACT_SHOW && k->json)
        show_json(k, h, &v);
    else if (k->m->act == ACT_SHOW)
        show_text(k, h, &v);
    else if (gone)
        cache_drop(k->w, h);
}

/* One cache from end to end. False: it cannot be joined. */
static bool walk_cache(struct walk *k, size_t i)
{
    const struct generation *g = master.live;
    const struct command *m = k->m;
    uint64_t cursor = 0;
    if (cache_join(g->cache[i], slot_owner_id(master.segment, m->slot), NULL, NULL, &k->w) < 0)
        return false;
    cache_set_time(k->w, (uint32_t)k->now);
    k->cache = g->cache[i];
    k->cache_name = g->config->cache[i]->name.p;
    k->site = UINT32_MAX;
    if ((m->act == ACT_PURGE || m->act == ACT_SHOW) && !m->all) {
        if (m->kind == CACHE_KIND_TAG)
            k->name = cache_name(k->cache, CACHE_KIND_TAG, m->text);
        else
            (void)cache_meta_name(k->cache, m->kind, &m->at, &k->name);
        if (m->kind != CACHE_KIND_TAG)
            k->site = cache_meta_site(m->at.host);
    }
    while (cache_walk(k->w, &cursor, WALK_STEP, walk_object, k))
        ;
    cache_leave(&k->w);
    return true;
}

static int by_url(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int d = strcmp(x->url, y->url);
    return d ? d : strcmp(x->cache, y->cache);
}

static void list_json(const struct walk *k, struct json *j)
{
    json_key(j, "objects");
    json_array(j);
    for (size_t i = 0; i < k->nfound; i++) {
        const struct found *f = &k->found[i];
        json_object(j);
        json_kcstr(j, "url", f->url);
        json_kcstr(j, "cache", f->cache);
        json_ku64(j, "status", f->status);
        json_ku64(j, "bytes", f->size);
        json_ku64(j, "age_s", f->age);
        json_key(j, "fresh_s");
        json_i64(j, f->left);
        json_kbool(j, "softly_purged", f->soft);
        json_end_object(j);
    }
    json_end_array(j);
    json_kbool(j, "more", k->more);
}

static void list_text(const struct walk *k)
{
    if (k->nfound > 0)
        buf_printf(k->out, "%-12s %6s %12s %10s %12s  %s\n", "cache", "status", "bytes", "age s",
                   "fresh s", "url");
    for (size_t i = 0; i < k->nfound; i++) {
        const struct found *f = &k->found[i];
        buf_printf(k->out, "%-12s %6u %12" PRIu64 " %10u %12" PRId64 "%s ", f->cache, f->status,
                   f->size, f->age, f->left, f->soft ? "*" : " ");
        put_plain(k->out, slice_str(f->url));
        buf_chr(k->out, '\n');
    }
    if (k->more)
        buf_printf(k->out, "... and more; -n says how many are shown\n");
}

/* "1284 objects (41m)", few digits for a person. */
static void put_sum(struct buf *out, uint64_t objects, uint64_t bytes)
{
    char size[32];
    unsigned shift = bytes >= 10ull << 30   ? 30
                     : bytes >= 10ull << 20 ? 20
                     : bytes >= 10ull << 10 ? 10
                                            : 0;
    num_fmt_size(size, bytes >> shift << shift);
    buf_printf(out, "%" PRIu64 " object%s (%s)", objects, objects == 1 ? "" : "s", size);
}

static void purge_json(const struct walk *k, struct json *j)
{
    json_kcstr(j, "what", k->m->all ? "all" : k->m->what);
    if (!k->m->all)
        json_kstr(j, "name", k->m->text);
    json_kbool(j, "soft", k->m->soft);
    json_kbool(j, "dry_run", k->m->dry);
    json_ku64(j, "objects", k->objects);
    json_ku64(j, "bytes", k->bytes);
}

static void purge_text(const struct walk *k)
{
    buf_str(k->out, k->m->dry ? "would purge " : "purged ");
    put_sum(k->out, k->objects, k->bytes);
    buf_str(k->out, k->m->soft ? " softly\n" : "\n");
}

static int run_walk(void *arg, struct buf *out)
{
    struct command *m = arg;
    struct json j;
    struct walk k = {.m = m, .now = clock_cached.wall_ms / 1000, .out = out};
    json_init(&j, out);
    if (m->json) {
        k.json = &j;
        json_object(&j);
        json_ku64(&j, "v", 1);
        if (m->act == ACT_SHOW) {
            json_key(&j, "objects");
            json_array(&j);
        }
    }
    for (size_t i = 0; i < master.live->config->ncache; i++) {
        if (command_wants(m, master.live->config->cache[i]->name) && !walk_cache(&k, i))
            k.failed = true;
    }
    if (m->act == ACT_LIST && k.nfound > 1)
        qsort(k.found, k.nfound, sizeof(*k.found), by_url);
    if (m->json && m->act == ACT_SHOW)
        json_end_array(&j);
    if (m->json && m->act == ACT_LIST)
        list_json(&k, &j);
    else if (m->json && m->act == ACT_PURGE)
        purge_json(&k, &j);
    else if (m->act == ACT_LIST)
        list_text(&k);
    else if (m->act == ACT_PURGE)
        purge_text(&k);
    bool missing = m->act == ACT_SHOW && k.objects == 0;
    if (m->json) {
        json_ku64(&j, "corrupt", k.corrupt);
        json_kbool(&j, "ok", !missing && !k.failed);
        json_end_object(&j);
        buf_chr(out, '\n');
    } else if (missing) {
        buf_str(out, "not stored\n");
    }
    if (!m->json && k.corrupt > 0) {
        buf_printf(out, "%" PRIu64 " could not be read; rpctl cache fsck says more\n", k.corrupt);
    }
    if (k.failed)
        return PROTO_PARTLY;
    return missing ? PROTO_REFUSED : PROTO_DONE;
}

/* ---- stat ---- */

/* Why there are none: the first line of a file of the kernel. */
static void huge_reason(uint64_t huge, bool wanted, char *out, size_t n)
{
    char mode[128] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, mode, sizeof(mode) - 1) : 0;
    if (fd >= 0)
        close(fd);
    mode[got > 0 ? got : 0] = '\0';
    char *in = strchr(mode, '['), *end = in ? strchr(in, ']') : NULL;
    if (end)
        *end = '\0';
    if (huge > 0 || !wanted)
        snprintf(out, n, "%s", huge > 0 ? "" : " (huge_pages = off)");
    else
        snprintf(out, n,
                 " (none: vm.nr_hugepages has too few, and transparent_hugepage/shmem_enabled is "
                 "%s)",
                 end ? in + 1 : "not there");
}

/* Hosts that take more than half of what one may. */
#define STAT_SITES 16u
struct stat_sites {
    struct cache_meta_share site[STAT_SITES];
    unsigned n;
};

static void stat_sites(const struct command *m, struct cache *c, const struct conf_cache *o,
                       uint64_t size, struct stat_sites *ret)
{
    struct cache_worker *w = NULL;
    ret->n = 0;
    if (o->k.max_share >= 100000)
        return;
    if (m->slot != UINT32_MAX &&
        cache_join(c, slot_owner_id(master.segment, m->slot), NULL, NULL, &w) < 0)
        w = NULL;
    ret->n = cache_meta_shares(c, w, size / 200000 * o->k.max_share, ret->site, STAT_SITES);
    cache_leave(&w);
}

static void stat_json(const struct cache_home *h, const struct conf_cache *o,
                      const struct cache_stat *s, const struct stat_sites *sites, struct json *j)
{
    json_object(j);
    json_kstr(j, "name", o->name);
    json_kstr(j, "file", h->file);
    json_kbool(j, "kept_by_systemd", h->stored);
    json_ku64(j, "size", s->size);
    json_ku64(j, "mapping", s->mapping);
    json_ku64(j, "huge", s->huge);
    json_ku64(j, "max_object", s->max_object);
    json_ku64(j, "objects", s->objects);
    json_ku64(j, "index_room", s->index_room);
    json_ku64(j, "encoded", s->encoded);
    json_ku64(j, "encoded_bytes", s->encoded_bytes);
    json_ku64(j, "small_queue_bytes", s->small_bytes);
    json_ku64(j, "main_queue_bytes", s->main_bytes);
    json_ku64(j, "slab_bytes", s->slab);
    json_ku64(j, "slabs", s->slabs);
    json_ku64(j, "slabs_free", s->slabs_free);
    json_ku64(j, "slabs_paged", s->slabs_paged);
    json_ku64(j, "slabs_draining", s->slabs_draining);
    json_ku64(j, "pages", s->pages);
    json_ku64(j, "pages_used", s->pages_used);
    json_kstr(j, "persist", o->k.persist);
    json_ku64(j, "disk_files", s->disk_files);
    json_ku64(j, "disk_bytes", s->disk_bytes);
    json_ku64(j, "disk_pending", s->disk_pending);
    json_key(j, "promotion"); /* from the cache before */
    json_object(j);
    json_kbool(j, "running", h->from && !h->moved.copied);
    json_ku64(j, "objects", h->moved.objects);
    json_ku64(j, "bytes", h->moved.bytes);
    json_ku64(j, "left", h->moved.left);
    json_end_object(j);
    json_ku64(j, "bodies", s->bodies);
    json_ku64(j, "arriving", s->flights);
    json_key(j, "max_share_percent");
    json_double(j, o->k.max_share / 1000.0);
    json_key(j, "shares");
    json_array(j);
    for (unsigned i = 0; i < sites->n; i++) {
        json_object(j);
        json_kcstr(j, "host", sites->site[i].host);
        json_ku64(j, "bytes", sites->site[i].bytes);
        json_end_object(j);
    }
    json_end_array(j);
    for (int i = 0; i < CACHE_CTR__COUNT; i++)
        json_ku64(j, cache_ctr_name((enum cache_ctr)i), s->ctr[i]);
    json_end_object(j);
}

static const char *few_digits(char out[32], uint64_t bytes)
{
    unsigned shift = bytes >= 10ull << 30 ? 30 : bytes >= 10ull << 20 ? 20 : 10;
    num_fmt_size(out, bytes >> shift << shift);
    return out;
}

static void promotion_text(const struct cache_home *h, struct buf *out)
{
    const struct worker_promoted *m = &h->moved;
    buf_str(out, "promoted    ");
    put_sum(out, m->objects, m->bytes);
    buf_str(out, " from the old one");
    if (m->copied)
        buf_str(out, m->full ? ", as many as fit\n" : "\n");
    else
        buf_printf(out, "; %" PRIu64 " to go\n", m->left);
}

static void stat_text(const struct cache_home *h, const struct conf_cache *o,
                      const struct cache_stat *s, const struct stat_sites *sites, struct buf *out)
{
    char a[32], b[32], c[32], why[256];
    uint64_t hits = s->ctr[CACHE_CTR_HIT], asked = hits + s->ctr[CACHE_CTR_MISS];
    uint64_t used = s->small_bytes + s->main_bytes;
    huge_reason(s->huge, o->k.huge_pages, why, sizeof(why));
    buf_printf(out, "%scache       " SLICE_FMT "\nin          %s\n", out->n ? "\n" : "",
               SLICE_ARG(o->name),
               h->file.n    ? h->file.p
               : h->refused ? "memory: its file cannot be had, see the log"
               : h->stored  ? "memory, which systemd keeps over a restart"
                            : "memory");
    buf_printf(out, "size        %s, of which %s used (%.1f %%), and %s to find it\n",
               few_digits(a, s->size), few_digits(b, used),
               s->size ? 100.0 * (double)used / (double)s->size : 0.0,
               few_digits(c, s->mapping - s->size));
    buf_printf(out, "huge pages  %s%s\n", few_digits(a, s->huge), why);
    if (o->k.persist.n > 0)
        buf_printf(out,
                   "on disk     %s in %" PRIu64 " files in " SLICE_FMT "; %" PRIu64
                   " slabs to be written\n",
                   few_digits(a, s->disk_bytes), s->disk_files, SLICE_ARG(o->k.persist),
                   s->disk_pending);
    if (h->from || h->moved.objects > 0)
        promotion_text(h, out);
    buf_printf(out, "objects     %" PRIu64 " of at most %" PRIu64 ", up to %s each\n", s->objects,
               s->index_room, few_digits(a, s->max_object));
    buf_printf(out, "encoded     %" PRIu64 " of these, %s, beside what they were made of\n",
               s->encoded, few_digits(a, s->encoded_bytes));
    buf_printf(out,
               "slabs       %u of %s: %u free, %u small queue, %u main queue, %u paged, %u "
               "draining\n",
               s->slabs, few_digits(a, s->slab), s->slabs_free, s->slabs_small, s->slabs_main,
               s->slabs_paged, s->slabs_draining);
    for (unsigned i = 0; i < sites->n; i++)
        buf_printf(out, "share       %.1f %% of at most %.1f %%: %s\n",
                   100.0 * (double)sites->site[i].bytes / (double)s->size, o->k.max_share / 1000.0,
                   sites->site[i].host[0] ? sites->site[i].host : "a host that could not be named");
    buf_printf(out, "lookups     %" PRIu64 ", %.2f %% hits\narriving    %" PRIu64 "\n", asked,
               asked ? 100.0 * (double)hits / (double)asked : 0.0, s->flights);
    for (int i = 0; i < CACHE_CTR__COUNT; i++) {
        if (s->ctr[i] > 0)
            buf_printf(out, "  %-20s %" PRIu64 "\n", cache_ctr_name((enum cache_ctr)i), s->ctr[i]);
    }
}

static int run_stat(void *arg, struct buf *out)
{
    const struct command *m = arg;
    const struct generation *g = master.live;
    struct stat_sites sites;
    struct cache_stat s;
    struct json j;
    json_init(&j, out);
    if (m->json) {
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kbool(&j, "ok", true);
        json_key(&j, "caches");
        json_array(&j);
    }
    for (size_t i = 0; i < g->config->ncache; i++) {
        if (!command_wants(m, g->config->cache[i]->name))
            continue;
        cache_stat(g->cache[i], &s);
        stat_sites(m, g->cache[i], g->config->cache[i], s.size, &sites);
        cache_stat_encoded(g->cache[i], &s);
        if (m->json)
            stat_json(g->home[i], g->config->cache[i], &s, &sites, &j);
        else
            stat_text(g->home[i], g->config->cache[i], &s, &sites, out);
    }
    if (m->json) {
        json_end_array(&j);
        json_end_object(&j);
        buf_chr(out, '\n');
    }
    return PROTO_DONE;
}

/* ---- fsck ---- */

static int run_fsck(void *arg, struct buf *out)
{
    const struct command *m = arg;
    const struct generation *g = master.live;
    struct buf text;
    struct json j;
    uint64_t bad = 0, repaired = 0;
    struct cache_worker *w;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < g->config->ncache; i++) {
        if (!command_wants(m, g->config->cache[i]->name))
            continue;
        if (m->repair &&
            cache_join(g->cache[i], slot_owner_id(master.segment, m->slot), NULL, NULL, &w) == 0) {
            repaired += (uint64_t)cache_repair(w);
            cache_leave(&w);
        }
        bad += (uint64_t)cache_fsck(g->cache[i], false, &text);
    }
    if (m->json) {
        json_init(&j, out);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kbool(&j, "ok", bad == 0);
        json_ku64(&j, "findings", bad);
        json_ku64(&j, "repaired", repaired);
        json_kstr(&j, "text", text.n ? buf_slice(&text) : SLICE(""));
        json_end_object(&j);
        buf_chr(out, '\n');
    } else {
        buf_add(out, buf_slice(&text));
        if (m->repair)
            buf_printf(out, "%" PRIu64 " taken out\n", repaired);
        if (bad == 0)
            buf_str(out, "ok\n");
    }
    buf_fini(&text);
    return bad == 0 ? PROTO_DONE : PROTO_REFUSED;
}

/* ---- In the master ---- */

/* At once, and for all that any process uses: what the child counts afterwards is gone already. */
static void purge(const struct command *m)
{
    LIST_EACH(it, &master.caches)
    {
        const struct cache_home *h = CONTAINER(it, struct cache_home, link);
        uint64_t name = CACHE_NAME_ALL;
        uint32_t site = UINT32_MAX;
        if (!command_wants(m, h->name))
            continue;
        if (!m->all && m->kind == CACHE_KIND_TAG)
            name = cache_name(h->cache, CACHE_KIND_TAG, m->text);
        else if (!m->all && cache_meta_name(h->cache, m->kind, &m->at, &name) < 0)
            continue;
        else if (!m->all)
            site = cache_meta_site(m->at.host);
        cache_purge(h->cache, site, name, m->soft);
    }
    LOG_NOTICE(
        "cache_purge", "purged%s %s " SLICE_FMT, m->soft ? " softly" : "", m->all ? "all" : m->what,
        SLICE_ARG(m->all ? SLICE("") : slice_of(m->text.p, m->text.n > 500 ? 500 : m->text.n)));
}

static void command_free(struct command *m)
{
    list_remove(&m->link);
    if (m->slot != UINT32_MAX) {
        slot_set_state(master.segment, m->slot, SLOT_DEAD);
        caches_reap(m->slot);
        slot_reap(master.segment, m->slot);
        master_kick_all();
    }
    free(m);
}

static void command_done(struct job *j)
{
    struct command *m = j->arg;
    struct conn *c = m->conn;
    if (c && j->status == JOB_KILLED)
        conn_say(c, m->act == ACT_PURGE && !m->dry ? PROTO_PARTLY : PROTO_REFUSED,
                 m->act == ACT_PURGE && !m->dry ? "purged, but counting what was took too long"
                                                : "it crashed or took too long");
    else if (c)
        conn_finish(c, (uint32_t)j->status, buf_slice(&j->text), SLICE_NONE);
    command_free(m);
}

/* The address that `rpctl cache warm` sends its requests to. */
static void warm_address(struct conn *c)
{
    const struct config *k = master.live->config;
    for (size_t i = 0; i < k->nlisten; i++) {
        const struct conf_listen *l = k->listen[i];
        if (l->k.tls || l->k.proxy_protocol.mode == CONF_PROXYP_ON ||
            !(l->k.protocols & CONF_PROTO_H1))
            continue;
        conn_say(c, PROTO_DONE, SLICE_FMT, SLICE_ARG(l->k.address.v[0].text));
        return;
    }
    conn_say(c, PROTO_REFUSED, "there is no listener for plain HTTP/1 to send requests to");
}

void verbs_cache(struct conn *c)
{
    struct command *m = calloc(1, sizeof(*m));
    if (!m) {
        conn_say(c, PROTO_REFUSED, "no memory");
        return;
    }
    list_init(&m->link);
    m->conn = c;
    m->slot = UINT32_MAX;
    m->json = conn_json(c);
    const char *problem = NULL;
    bool known = command_parse(m, &c->req);
    bool changes = known && ((m->act == ACT_PURGE && !m->dry) || m->repair);
    if (!known)
        conn_usage(c);
    else if (changes && c->role != VERB_OPERATE)
        conn_say(c, PROTO_PERMISSION, "rpd: uid %u may not change a cache", (unsigned)c->uid);
    else if (changes && master.stopping)
        conn_say(c, PROTO_REFUSED, "rpd is stopping");
    else if (!master.live || !master.live->config)
        conn_say(c, PROTO_REFUSED, "no configuration is in force yet");
    else if ((problem = command_problem(m)))
        conn_say(c, PROTO_REFUSED, "%s", problem);
    else if (m->act == ACT_WARM)
        warm_address(c);
    else
        goto run;
    free(m);
    return;
run:
    if (changes && m->act == ACT_PURGE)
        purge(m);
    bool joins = m->act == ACT_STAT ? command_shares() : m->act != ACT_FSCK || m->repair;
    bool joined =
        joins && slot_claim(master.segment, master.live->number, UINT32_MAX, &m->slot) == 0;
    if (!joined)
        m->slot = UINT32_MAX;
    if (joins && !joined && m->act != ACT_STAT) {
        conn_say(c, PROTO_REFUSED, "no free slot for this; try again");
        free(m);
        return;
    }
    list_append(&verbs_cache_running, &m->link);
    struct job *j = job_start(m->act == ACT_STAT   ? run_stat
                              : m->act == ACT_FSCK ? run_fsck
                                                   : run_walk,
                              m, WALK_LIMIT_MS, command_done, m);
    if (!j) {
        conn_say(c, PROTO_REFUSED, "cannot fork");
        command_free(m);
        return;
    }
    if (m->slot != UINT32_MAX)
        slot_set_pid(master.segment, m->slot, j->pid);
}

void verbs_cache_conn_gone(const struct conn *c)
{
    LIST_EACH(it, &verbs_cache_running)
    {
        struct command *m = CONTAINER(it, struct command, link);
        if (m->conn == c)
            m->conn = NULL;
    }
}

bool verbs_cache_busy(void)
{
    return !list_empty(&verbs_cache_running);
}
