/* A cache on disk, written: the key of its files, its lock, and slab after slab as they fill. */
#include "shm/cache_persist_in.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_NAME  "cache.key"
#define KEY_NEW   "cache.key.new"
#define LOCK_NAME "lock"
#define KEY_MAGIC 0x3179656b63647072ull /* "rpdckey1" */
#define PAUSE_US  10000000u             /* after an error of the disk */
#define IDLE_MS   1000u
#define NAME_LEN  48

struct key_file {
    uint64_t magic, k0, k1;
    uint32_t format, crc;
};

void persist_say(struct cache_persist *p, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(line, sizeof(line), fmt, ap) < 0)
        line[0] = '\0';
    va_end(ap);
    if (p->o.say)
        p->o.say(p->o.arg, line);
}

/* ---- names: m-life-slab-gen_-end_-version.slab ---- */

void persist_name_text(const struct persist_name *n, char ret[CACHE_DISK_NAME])
{
    (void)snprintf(ret, CACHE_DISK_NAME, "%c-%08x-%06x-%06x-%06x-%012llx.slab", n->main ? 'm' : 's',
                   n->life, n->slab & 0xffffffu, n->gen & 0xffffffu, n->woff & 0xffffffu,
                   (unsigned long long)n->version & 0xffffffffffffull);
}

static bool hex(const char **p, unsigned digits, char end, uint64_t *ret)
{
    *ret = 0;
    for (; digits > 0; digits--, ++*p) {
        const char ch = **p;
        const int v = ch >= '0' && ch <= '9'   ? ch - '0'
                      : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
                                               : -1;

        if (v < 0)
            return false;
        *ret = *ret << 4 | (uint64_t)v;
    }
    return *(*p)++ == end;
}

bool persist_name_parse(const char *text, struct persist_name *ret)
{
    uint64_t life, slab, gen, woff;
    const char *p = text;

    memset(ret, 0, sizeof(*ret));
    if ((*p != 'm' && *p != 's') || p[1] != '-')
        return false;
    ret->main = *p == 'm';
    p += 2;
    if (!hex(&p, 8, '-', &life) || !hex(&p, 6, '-', &slab) || !hex(&p, 6, '-', &gen) ||
        !hex(&p, 6, '-', &woff) || !hex(&p, 12, '.', &ret->version) || strcmp(p, "slab") != 0)
        return false;
    ret->life = (uint32_t)life;
    ret->slab = (uint32_t)slab;
    ret->gen = (uint32_t)gen;
    ret->woff = (uint32_t)woff;
    return ret->version < PERSIST_VERSION;
}

uint64_t persist_key_id(const struct cache *c)
{
    static const char text[] = "rpd-cache-persist";

    return hash_sip13(&c->sb.key, text, sizeof(text) - 1);
}

/* ---- before others join the cache ---- */

static DIR *list(int dir)
{
    /* An open file of its own: the offset of `dir` is shared with other processes. */
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d && fd >= 0)
        close(fd);
    return d;
}

/* One that was made for us by hand: it has nothing of anybody. */
static bool empty(int dir)
{
    DIR *d = list(dir);
    struct dirent *e;
    bool none = d != NULL;

    while (d && (e = readdir(d)) != NULL)
        none = none && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    if (d)
        closedir(d);
    return none;
}

int cache_persist_dir(const char *path, uid_t uid, gid_t gid)
{
    const bool made = mkdir(path, 0700) == 0;
    struct stat st;
    int fd;

    if (!made && errno != EEXIST)
        return -ERR_SYS;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR || errno == ELOOP ? -ERR_INVAL : -ERR_SYS;
    if (uid != (uid_t)-1 && (made || empty(fd)) && fchown(fd, uid, gid) < 0) {
        close(fd);
        return -ERR_SYS;
    }
    if (fstat(fd, &st) < 0 || (st.st_mode & 022) != 0 ||
        (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != uid)) {
        close(fd);
        return -ERR_INVAL;
    }
    return fd;
}

static bool load_key(int dir, struct hash_key *ret)
{
    const int fd = openat(dir, KEY_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct key_file k;
    bool good;

    if (fd < 0)
        return false;
    good = read(fd, &k, sizeof(k)) == (ssize_t)sizeof(k) && k.magic == KEY_MAGIC &&
           k.format == PERSIST_FORMAT && k.crc == crc32c(&k, offsetof(struct key_file, crc));
    close(fd);
    *ret = (struct hash_key){k.k0, k.k1};
    return good;
}

static int save_key(int dir, const struct hash_key *key)
{
    struct key_file k = {
        .magic = KEY_MAGIC, .k0 = key->k0, .k1 = key->k1, .format = PERSIST_FORMAT};
    int fd;
    bool good;

    k.crc = crc32c(&k, offsetof(struct key_file, crc));
    (void)unlinkat(dir, KEY_NEW, 0);
    fd = openat(dir, KEY_NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -ERR_SYS;
    good = write(fd, &k, sizeof(k)) == (ssize_t)sizeof(k) && fsync(fd) == 0;
    close(fd);
    if (!good || renameat(dir, KEY_NEW, dir, KEY_NAME) < 0) {
        (void)unlinkat(dir, KEY_NEW, 0);
        return -ERR_SYS;
    }
    return 0;
}

int cache_persist_adopt(int dir, struct cache *c, bool kept)
{
    _Atomic uint64_t *version = &cache_hot(c)->version.v;
    struct persist_name n;
    struct hash_key key;
    struct dirent *e;
    uint64_t top = 0;
    DIR *d;

    if (!load_key(dir, &key)) {
        const int rc = save_key(dir, &c->sb.key);

        if (rc < 0)
            return rc;
        key = c->sb.key;
    }
    if (kept)
        return key.k0 == c->sb.key.k0 && key.k1 == c->sb.key.k1 ? 0 : save_key(dir, &c->sb.key);
    cache_rekey(c, &key);
    /* What is stored from now on is newer than all that comes back, and what comes back was born
     * before this purge. */
    d = list(dir);
    while (d && (e = readdir(d)) != NULL) {
        if (persist_name_parse(e->d_name, &n) && n.version > top)
            top = n.version;
    }
    if (d)
        closedir(d);
    if (atomic_load(version) < top)
        atomic_store(version, top);
    cache_purge(c, UINT32_MAX, CACHE_NAME_ALL, true);
    return 0;
}

/* ---- open ---- */

static void figures(const struct cache_persist *p)
{
    struct cache_hot *hot = cache_hot(p->c);

    atomic_store(&hot->disk_files.v, p->st.files);
    atomic_store(&hot->disk_bytes.v, p->st.bytes);
    atomic_store(&hot->disk_pending.v, p->st.pending);
}

static void count_file(struct cache_persist *p, bool more, uint64_t bytes)
{
    p->st.files += more ? 1 : UINT64_MAX;
    p->st.bytes += more ? bytes : 0 - bytes;
    figures(p);
}

/* Of the slab as it is now, written by a process before this one. */
static bool is_current(struct cache_persist *p, const struct persist_name *n)
{
    uint64_t st;

    if (n->life != p->life || n->slab >= p->c->sb.nslab)
        return false;
    st = atomic_load(cache_slab_st(p->c, n->slab));
    return cache_st_gen(st) == n->gen && !p->slab[n->slab].have &&
           (cache_st_code(st) == CSLAB_OPEN || cache_st_code(st) == CSLAB_SEALED ||
            cache_st_code(st) == CSLAB_EVICT);
}

static int read_dir(struct cache_persist *p)
{
    DIR *d = list(p->dir);
    size_t cap = 0;
    struct dirent *e;
    struct stat st;

    if (!d)
        return -ERR_SYS;
    while ((e = readdir(d)) != NULL) {
        struct persist_name n;

        if (!persist_name_parse(e->d_name, &n) ||
            fstatat(p->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size < 0)
            continue;
        if (is_current(p, &n)) {
            p->slab[n.slab] = (struct persist_slab){.name = n,
                                                    .bytes = (uint64_t)st.st_size,
                                                    .when = clock_us_now(),
                                                    .woff = n.woff,
                                                    .known = true,
                                                    .have = true};
            count_file(p, true, (uint64_t)st.st_size);
            continue;
        }
        if (p->nold == cap) {
            const size_t want = cap ? cap * 2 : 64;
            struct persist_old *more = realloc(p->old, want * sizeof(*more));

            if (!more)
                break; /* the rest is found at the next start */
            p->old = more;
            cap = want;
        }
        p->old[p->nold++] = (struct persist_old){.name = n, .bytes = (uint64_t)st.st_size};
        count_file(p, true, (uint64_t)st.st_size);
    }
    closedir(d);
    return 0;
}

int cache_persist_open(int dir, struct cache_worker *w, const struct cache_persist_options *o,
                       struct cache_persist **ret)
{
    struct cache_persist *p = calloc(1, sizeof(*p));
    int rc = -ERR_NOMEM;

    *ret = NULL;
    if (!p)
        return -ERR_NOMEM;
    p->dir = dir;
    p->lock = -1;
    p->w = w;
    p->c = w->c;
    p->o = *o;
    if (p->o.limit == 0)
        p->o.limit = p->c->sb.data;
    if (p->o.rate == 0)
        p->o.rate = p->c->sb.data / 64 > 4u << 20 ? p->c->sb.data / 64 : 4u << 20;
    if (p->o.open_ms == 0)
        p->o.open_ms = 3000;
    /* The seed of its sums is made with each mapping. */
    p->life = crc32c(&p->c->sb.seed, sizeof(p->c->sb.seed));
    p->key_id = persist_key_id(p->c);
    p->hit.word = 0;
    p->slab = calloc(p->c->sb.nslab, sizeof(*p->slab));
    if (!p->slab)
        goto fail;
    rc = -ERR_SYS;
    p->lock = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->lock < 0)
        goto fail;
    if (flock(p->lock, LOCK_EX | LOCK_NB) < 0) {
        rc = errno == EWOULDBLOCK ? -ERR_AGAIN : -ERR_SYS;
        goto fail;
    }
    rc = cache_disk_open(
        dir, sizeof(struct persist_file) + sizeof(struct persist_block) + PERSIST_BLOCK, &p->disk);
    if (rc >= 0)
        rc = read_dir(p);
    if (rc < 0)
        goto fail;
    persist_reader_start(&p->r, &(struct persist_name){0});
    persist_load_plan(p);
    *ret = p;
    return 0;
fail:
    cache_persist_close(&p);
    return rc;
}

/* ---- the slab that is being written ---- */

static void leave_object(struct cache_persist *p)
{
    cache_release(p->w, &p->hit);
    p->in_object = false;
}

static void leave_slab(struct cache_persist *p)
{
    leave_object(p);
    if (p->writing)
        cache_unpin_slab(p->w, p->cur.slab);
    p->writing = false;
}

void cache_persist_close(struct cache_persist **p)
{
    struct cache_persist *x = *p;

    if (!x)
        return;
    if (x->disk) {
        leave_slab(x);
        persist_reader_stop(x);
        x->st.files = x->st.bytes = x->st.pending = 0;
        figures(x);
    }
    cache_disk_close(&x->disk);
    if (x->lock >= 0)
        close(x->lock);
    free(x->slab);
    free(x->old);
    free(x);
    *p = NULL;
}

/* Pins the slab if it is still what it was. */
static bool enter_slab(struct cache_persist *p, uint32_t slab, uint64_t st, uint32_t woff)
{
    cache_pin_slab(p->w, slab);
    if (atomic_load(cache_slab_st(p->c, slab)) != st) {
        cache_unpin_slab(p->w, slab);
        return false;
    }
    p->cur = (struct persist_name){
        .life = p->life,
        .slab = slab,
        .gen = cache_st_gen(st),
        .woff = woff,
        .main = (atomic_load_explicit(&cache_slab(p->c, slab)->queue, memory_order_relaxed) & 1u)};
    p->writing = true;
    p->flushed = false;
    p->off = p->seq = p->objects = 0;
    p->cur_bytes = 0;
    return true;
}

/* Stands in the file's header and name. */
static uint64_t highest(const struct cache_persist *p)
{
    struct cache_head h;
    uint64_t top = 0;

    for (uint32_t off = 0; off < p->cur.woff; off += h.len) {
        if (cache_record_load(p->c, p->cur.slab, off, p->cur.woff, &h) < 0)
            break;
        if (h.version > top && h.version < PERSIST_VERSION && h.type != CACHE_PASS)
            top = h.version;
    }
    return top;
}

/* Up to the next record that is worth it, into p->lead and p->hit. At most a few are looked at.
 * false: the slab has ended. */
static bool next_object(struct cache_persist *p, unsigned *looks)
{
    const struct cache_hit *h = &p->hit;
    struct persist_object o;
    enum cache_visit next;

    for (;;) {
        next = cache_visit_next(p->w, p->cur.slab, p->cur.woff, &p->off, looks, &p->hit);
        if (next != CACHE_VISIT_HIT)
            return next == CACHE_VISIT_MORE;
        if (h->attr.type != CACHE_PASS && h->version < PERSIST_VERSION)
            break;
        cache_release(p->w, &p->hit);
        --*looks;
    }
    o = (struct persist_object){.magic = PERSIST_M_OBJECT,
                                .type = h->attr.type,
                                .site = h->attr.site,
                                .ntags = (uint8_t)h->ntags,
                                .meta = (uint32_t)h->meta.n,
                                .user = h->attr.user,
                                .k0 = h->key.k0,
                                .k1 = h->key.k1,
                                .size = h->size,
                                .version = h->version,
                                .base = h->attr.base,
                                .fresh = h->attr.fresh};
    memcpy(p->lead, &o, sizeof(o));
    memcpy(p->lead + sizeof(o), h->tags, 8u * h->ntags);
    if (h->meta.n > 0)
        memcpy(p->lead + sizeof(o) + 8u * h->ntags, h->meta.p, h->meta.n);
    p->lead_n = (uint32_t)(sizeof(o) + 8u * h->ntags + h->meta.n);
    p->lead_at = 0;
    p->body_at = 0;
    p->in_object = true;
    p->objects++;
    return true;
}

/* Bytes of the object into room. -ERR_CORRUPT: its body is damaged, the file cannot go on. */
static long object_bytes(struct cache_persist *p, unsigned char *to, size_t room)
{
    struct iovec iov[16];
    size_t n = p->lead_n - p->lead_at, got;
    int k;

    if (n > 0) {
        n = n < room ? n : room;
        memcpy(to, p->lead + p->lead_at, n);
        p->lead_at += (uint32_t)n;
        return (long)n;
    }
    k = cache_body(p->w, &p->hit, p->body_at, room, iov, 16, &got);
    if (k < 0)
        return -ERR_CORRUPT;
    for (int i = 0; i < k; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    p->body_at += got;
    return (long)got;
}

static size_t file_header(const struct cache_persist *p, unsigned char *to)
{
    struct persist_file f = {.magic = PERSIST_MAGIC,
                             .format = PERSIST_FORMAT,
                             .life = p->life,
                             .key_id = p->key_id,
                             .version = p->cur.version,
                             .main = p->cur.main};

    f.crc = crc32c(&f, offsetof(struct persist_file, crc));
    memcpy(to, &f, sizeof(f));
    return sizeof(f);
}

/* The next block into the disk's buffer: bytes, 0 when nothing of the slab is worth a file,
 * negative when it has to be given up. */
static long make_block(struct cache_persist *p)
{
    unsigned char *buf = cache_disk_buf(p->disk);
    const size_t head = p->seq == 0 ? file_header(p, buf) : 0;
    unsigned char *to = buf + head + sizeof(struct persist_block);
    struct persist_block b = {.magic = PERSIST_M_BLOCK, .seq = p->seq};
    unsigned looks = 4096;

    while (b.len < PERSIST_BLOCK && !b.last) {
        long n;

        if (!p->in_object) {
            b.last = !next_object(p, &looks);
            if (!p->in_object && !b.last)
                break; /* so many dead ones: another slice */
            continue;
        }
        if (p->lead_at == p->lead_n && p->body_at == p->hit.size) {
            leave_object(p);
            continue;
        }
        n = object_bytes(p, to + b.len, PERSIST_BLOCK - b.len);
        if (n <= 0)
            return -ERR_CORRUPT;
        b.len += (uint32_t)n;
    }
    p->flushed = b.last;
    if (p->flushed && p->objects == 0)
        return 0;
    b.crc = crc32c(to, b.len);
    b.head_crc = crc32c_more(p->life, &b, offsetof(struct persist_block, head_crc));
    memcpy(to - sizeof(b), &b, sizeof(b));
    p->seq++;
    return (long)(head + sizeof(b) + b.len);
}

/* ---- steps ---- */

static void remove_file(struct cache_persist *p, const struct persist_name *n, uint64_t bytes)
{
    char name[CACHE_DISK_NAME];

    persist_name_text(n, name);
    count_file(p, false, bytes);
    cache_disk_unlink(p->disk, name);
    p->job = PERSIST_REMOVE;
}

/* One of the files from before the start. */
static bool remove_old(struct cache_persist *p)
{
    if (p->nold == 0 || p->st.loading)
        return false;
    p->nold--;
    remove_file(p, &p->old[p->nold].name, p->old[p->nold].bytes);
    return true;
}

static void disk_failed(struct cache_persist *p, int error)
{
    if (p->st.errors++ == 0 || error != ENOSPC)
        persist_say(p, "the disk says: %s", error ? strerror(error) : "no such file");
    p->not_before = clock_us_now() + PAUSE_US;
}

static void job_ended(struct cache_persist *p)
{
    struct persist_slab *s = &p->slab[p->cur.slab];
    int error;
    const long rc = cache_disk_result(p->disk, &error);

    switch (p->job) {
    case PERSIST_NOTHING:
        break;
    case PERSIST_REMOVE:
        if (rc < 0)
            disk_failed(p, error);
        break;
    case PERSIST_WRITE:
        if (rc < 0) {
            disk_failed(p, error);
            leave_slab(p);
            cache_disk_abandon(p->disk);
            p->job = PERSIST_REMOVE;
            return;
        }
        break;
    case PERSIST_COMMIT:
        if (rc < 0) {
            disk_failed(p, error);
            break;
        }
        if (s->have && s->bytes > 0)
            count_file(p, false, s->bytes);
        *s = (struct persist_slab){.name = p->cur,
                                   .bytes = p->cur_bytes,
                                   .when = clock_us_now(),
                                   .woff = p->cur.woff,
                                   .known = true,
                                   .have = true};
        count_file(p, true, p->cur_bytes);
        p->st.written += p->cur_bytes;
        p->wrote = true;
        cache_count(p->w, CACHE_CTR_PERSIST, p->cur_bytes);
        break;
    }
    p->job = PERSIST_NOTHING;
}

/* One block of the slab that is being written, or its end. */
static void write_some(struct cache_persist *p)
{
    struct persist_slab *s = &p->slab[p->cur.slab];
    const uint64_t st = atomic_load(cache_slab_st(p->c, p->cur.slab));
    const uint32_t code = cache_st_code(st);
    char name[CACHE_DISK_NAME], victim[CACHE_DISK_NAME];
    uint64_t now;
    long n;

    if (p->flushed) {
        persist_name_text(&p->cur, name);
        persist_name_text(&s->name, victim);
        leave_slab(p);
        cache_disk_commit(p->disk, name,
                          s->have && s->bytes > 0 && strcmp(name, victim) != 0 ? victim : NULL);
        p->job = PERSIST_COMMIT;
        return;
    }
    /* Who makes room waits for nobody: what was begun is given up. */
    n = cache_st_gen(st) == p->cur.gen && (code == CSLAB_OPEN || code == CSLAB_SEALED)
            ? make_block(p)
            : -ERR_AGAIN;
    if (n > 0) {
        p->cur_bytes += (uint64_t)n;
        now = clock_us_now();
        p->not_before =
            (p->not_before > now ? p->not_before : now) + (uint64_t)n * 1000000u / p->o.rate;
        cache_disk_write(p->disk, (size_t)n);
        p->job = PERSIST_WRITE;
        return;
    }
    leave_slab(p);
    if (n == 0 && !s->have)
        *s = (struct persist_slab){.name = p->cur, .known = true, .have = true};
    if (n == 0) { /* a file from when there was less of it may stay */
        s->when = clock_us_now();
        s->woff = p->cur.woff;
    }
    if (p->seq > 0) {
        cache_disk_abandon(p->disk);
        p->job = PERSIST_REMOVE;
    }
}

/* Whether slab i gave something to do. */
static bool look_at(struct cache_persist *p, uint32_t i, uint64_t now)
{
    struct persist_slab *s = &p->slab[i];
    const uint64_t st = atomic_load_explicit(cache_slab_st(p->c, i), memory_order_acquire);
    const uint32_t code = cache_st_code(st);
    uint32_t woff;
    uint64_t bytes;

    if (s->have && (cache_st_gen(st) != s->name.gen || code == CSLAB_FREE || code == CSLAB_PAGES ||
                    code == CSLAB_POPEN)) {
        s->have = s->known = false;
        if (s->bytes > 0)
            remove_file(p, &s->name, s->bytes);
        return s->bytes > 0;
    }
    if (code != CSLAB_OPEN && code != CSLAB_SEALED)
        return false;
    woff = atomic_load_explicit(&cache_slab(p->c, i)->woff, memory_order_acquire);
    if (woff == 0 || woff > p->c->sb.slab_size || (s->have && s->woff == woff))
        return false;
    if (!s->known) {
        s->known = true;
        s->when = now;
    }
    if (code == CSLAB_OPEN && now - s->when < (uint64_t)p->o.open_ms * 1000) {
        p->counted++;
        return false;
    }
    bytes = woff + atomic_load_explicit(&cache_slab(p->c, i)->pages_bytes, memory_order_relaxed);
    if (p->st.bytes + bytes > p->o.limit + (s->have ? s->bytes : 0))
        return remove_old(p);
    p->counted++;
    if (!enter_slab(p, i, st, woff))
        return false;
    p->cur.version = highest(p);
    return true;
}

static enum cache_persist_next write_step(struct cache_persist *p, uint64_t until)
{
    for (uint64_t now = clock_us_now();; now = clock_us_now()) {
        if (p->job != PERSIST_NOTHING) {
            if (cache_disk_busy(p->disk))
                return CACHE_PERSIST_WAIT;
            job_ended(p);
            continue;
        }
        if (now < p->not_before)
            return CACHE_PERSIST_IDLE;
        if (now >= until)
            return CACHE_PERSIST_MORE;
        if (p->writing) {
            write_some(p);
            continue;
        }
        for (int k = 0; k < 1024 && !p->writing && p->job == PERSIST_NOTHING; k++) {
            if (p->seen++ == p->c->sb.nslab) {
                const bool again = p->wrote;

                p->st.pending = p->counted;
                p->st.looks++;
                p->seen = 0;
                p->counted = 0;
                p->wrote = false;
                figures(p);
                if (p->st.pending == 0 && remove_old(p))
                    break;
                if (again)
                    break;
                return CACHE_PERSIST_IDLE;
            }
            (void)look_at(p, p->cursor, now);
            p->cursor = p->cursor + 1 == p->c->sb.nslab ? 0 : p->cursor + 1;
        }
    }
}

enum cache_persist_next cache_persist_step(struct cache_persist *p, uint64_t budget_us)
{
    const uint64_t until = clock_us_now() + budget_us;

    return p->st.loading ? persist_load_step(p, until) : write_step(p, until);
}

int cache_persist_fd(const struct cache_persist *p)
{
    return cache_disk_fd(p->disk);
}

unsigned cache_persist_wait_ms(const struct cache_persist *p)
{
    const uint64_t now = clock_us_now();

    if (p->not_before > now)
        return (unsigned)((p->not_before - now) / 1000 + 1);
    return p->o.open_ms < IDLE_MS ? p->o.open_ms : IDLE_MS;
}

void cache_persist_stat(const struct cache_persist *p, struct cache_persist_stat *ret)
{
    *ret = p->st;
}
