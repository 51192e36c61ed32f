/* The cache's mapping: geometry, create, attach, files; and joining it as a worker. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SEALS     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define HUGE_PAGE (2u << 20)
#define PAGE_MAX  (64u << 10)

static uint64_t align_to(uint64_t v, uint64_t a)
{
    return (v + a - 1) / a * a;
}

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static uint32_t pow2_down(uint64_t v)
{
    uint32_t p = 1;

    while ((uint64_t)p * 2 <= v)
        p *= 2;
    return p;
}

/* Two binaries share a mapping only when all structs are the same. */
static uint32_t abi_word(void)
{
    const uint32_t v[] = {sizeof(struct cache_super),
                          sizeof(struct cache_hot),
                          sizeof(struct cache_row),
                          sizeof(struct cache_note),
                          sizeof(struct cache_bucket),
                          sizeof(struct cache_ghost),
                          sizeof(struct cache_slab),
                          sizeof(struct cache_page),
                          sizeof(struct cache_bodyd),
                          sizeof(struct cache_flight),
                          sizeof(struct cache_mail),
                          sizeof(struct cache_rec),
                          sizeof(struct cache_rec_paged),
                          offsetof(struct cache_rec, part_crc),
                          CACHE_CTR__COUNT,
                          CACHE_SHARDS};

    return crc32c(v, sizeof(v));
}

/* Everything that follows from data, slab_size, nbucket, nslot, max_object. */
static int geometry(struct cache *c)
{
    struct cache_super *sb = &c->sb;
    uint64_t at = 2 * CACHE_SUPER_B;

    if (sb->slab_size < 4096 || sb->slab_size > (4u << 20) ||
        (sb->slab_size & (sb->slab_size - 1)) != 0 || sb->data % sb->slab_size != 0 ||
        sb->data / sb->slab_size < 16 || sb->data / sb->slab_size > (1u << 22) || sb->nbucket < 4 ||
        sb->nslot == 0 || sb->nslot > CACHE_SLOTS || sb->max_object == 0 ||
        sb->max_object > sb->data / 2 || sb->max_object >= (uint64_t)1 << 40)
        return -ERR_RANGE;
    sb->nslab = (uint32_t)(sb->data / sb->slab_size);
    sb->page_size = sb->slab_size / 8 > PAGE_MAX ? PAGE_MAX : sb->slab_size / 8;
    c->page_shift = (uint32_t)__builtin_ctz(sb->page_size);
    c->slab_pages = sb->slab_size / sb->page_size;
    if ((uint64_t)sb->nslab * c->slab_pages > UINT32_MAX / 2)
        return -ERR_RANGE;
    c->npage = sb->nslab * c->slab_pages;
    /* A record holds the list of its pages, a tail and the stored fields. */
    if (sb->max_object / sb->page_size * 4 > sb->slab_size / 4)
        return -ERR_RANGE;
    c->seal_bytes = (uint32_t)clamp(sb->data / 32, 2 * (uint64_t)sb->page_size, 64u << 20);
    sb->nghost = (sb->nbucket + 1) / 2;
    sb->nshare = pow2_down(clamp(sb->data / 2048, 64, CACHE_SITES));
    /* Names share places, so a purge of many reaches some objects that were not meant: n names
     * among m places catch a further one with (2n/m)^2. */
    sb->ngen = pow2_down(clamp(sb->data / 4096, 8192, 1u << 20));
    sb->nbody = c->npage;
    sb->nbodypin = sb->nbody < CACHE_BODYPINS ? sb->nbody : CACHE_BODYPINS;
    sb->nflight = (uint32_t)clamp(sb->data / sb->page_size / 4, 8, CACHE_FLIGHT_MAX) & ~7u;

    const uint64_t size[CACHE_AREA__COUNT] = {
        [CACHE_AREA_HOT] = sizeof(struct cache_hot),
        [CACHE_AREA_ROW] = (uint64_t)sb->nslot * sizeof(struct cache_row),
        [CACHE_AREA_GEN] = (uint64_t)sb->ngen * sizeof(struct cache_gen),
        [CACHE_AREA_INDEX] = (uint64_t)sb->nbucket * sizeof(struct cache_bucket),
        [CACHE_AREA_GHOST] = (uint64_t)sb->nghost * sizeof(struct cache_ghost),
        [CACHE_AREA_SHARE] = (uint64_t)sb->nshare * 2 * 8,
        [CACHE_AREA_STATE] = (uint64_t)sb->nslab * 8,
        [CACHE_AREA_SLAB] = (uint64_t)sb->nslab * sizeof(struct cache_slab),
        [CACHE_AREA_PAGE] = (uint64_t)c->npage * sizeof(struct cache_page),
        [CACHE_AREA_BODY] = (uint64_t)sb->nbody * sizeof(struct cache_bodyd),
        [CACHE_AREA_FLIGHT] = (uint64_t)sb->nflight * sizeof(struct cache_flight),
        [CACHE_AREA_MAIL] = (uint64_t)sb->nslot * sizeof(struct cache_mail),
        [CACHE_AREA_SLABPIN] = (uint64_t)sb->nslot * cache_pin_stride(sb->nslab),
        [CACHE_AREA_BODYPIN] = (uint64_t)sb->nslot * cache_pin_stride(sb->nbodypin),
        [CACHE_AREA_DATA] = sb->data};
    const uint64_t data_align = sb->data >= 4 * HUGE_PAGE ? HUGE_PAGE : 4096;

    for (int a = 0; a < CACHE_AREA__COUNT; a++) {
        at = align_to(at, a == CACHE_AREA_DATA ? data_align : 128);
        sb->off[a] = at;
        at += size[a];
    }
    sb->size = align_to(at, data_align);
    c->size = (size_t)sb->size;
    return 0;
}

int cache_layout(struct cache *c, const struct cache_options *o)
{
    const uint32_t workers = o->workers == 0 ? 4 : o->workers;
    struct cache_super *sb = &c->sb;
    uint64_t slab = o->slab, objects = o->objects, list;

    if (o->size < CACHE_SIZE_MIN || o->size > (uint64_t)1 << 44)
        return -ERR_RANGE;
    /* Each worker has two slabs open, or four: a few percent of all at most. Rounding up to a power
     * of two halves the count. */
    if (slab == 0)
        slab = pow2_down(
            clamp(o->size / clamp(32u * (uint64_t)workers, 512, 8192), 16u << 10, 4u << 20));
    if (slab < 4096 || slab > (4u << 20) || (slab & (slab - 1)) != 0)
        return -ERR_RANGE;
    if (objects == 0)
        objects = clamp(o->size / 1024, 64, (uint64_t)1 << 31);
    sb->magic = CACHE_MAGIC;
    sb->version = CACHE_VERSION;
    sb->abi = abi_word();
    sb->slab_size = (uint32_t)slab;
    sb->data = o->size / slab * slab;
    sb->max_object = o->max_object == 0 ? sb->data / 4 : clamp(o->max_object, 1, sb->data / 2);
    /* The list of its pages takes a quarter of a slab at most. */
    list = slab / 16 * (slab / 8 > PAGE_MAX ? PAGE_MAX : slab / 8);
    if (sb->max_object > list)
        sb->max_object = list;
    /* At four fifths of its ways taken, one insert in six thousand crowds a neighbour out. */
    sb->nbucket = (uint32_t)clamp(objects * 10 / 8 / CACHE_WAYS + 1, 4, (uint64_t)1 << 29);
    sb->nslot = o->slots == 0 ? CACHE_SLOTS : o->slots;
    return geometry(c);
}

static uint32_t super_crc(const struct cache_super *sb)
{
    return crc32c(sb, offsetof(struct cache_super, crc));
}

static int map(struct cache *c)
{
    void *p = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c->fd, 0);

    if (p == MAP_FAILED)
        return errno == ENOMEM ? -ERR_NOMEM : -ERR_SYS;
    c->base = p;
    (void)madvise(p, c->size, MADV_DONTDUMP);
    (void)madvise(p, c->size, MADV_HUGEPAGE);
    return 0;
}

static int fill_super(struct cache *c)
{
    if (getrandom(&c->sb.seed, sizeof(c->sb.seed), 0) != sizeof(c->sb.seed))
        return -ERR_SYS;
    hash_key_random(&c->sb.key);
    c->sb.crc = super_crc(&c->sb);
    memcpy(c->base + CACHE_SUPER_B, &c->sb, sizeof(c->sb));
    memcpy(c->base, &c->sb, sizeof(c->sb));
    return 0;
}

void cache_rekey(struct cache *c, const struct hash_key *key)
{
    c->sb.key = *key;
    c->sb.crc = super_crc(&c->sb);
    memcpy(c->base + CACHE_SUPER_B, &c->sb, sizeof(c->sb));
    memcpy(c->base, &c->sb, sizeof(c->sb));
}

static struct cache *handle_new(void)
{
    struct cache *c = calloc(1, sizeof(*c));

    if (c) {
        c->fd = -1;
        c->share = UINT64_MAX;
    }
    return c;
}

int cache_create(const struct cache_options *o, struct cache **ret)
{
    struct cache *c = handle_new();
    int rc;

    *ret = NULL;
    if (!c)
        return -ERR_NOMEM;
    rc = cache_layout(c, o);
    if (rc < 0)
        goto fail;
    if (o->hugetlb && c->size % HUGE_PAGE == 0) {
        c->fd = memfd_create("rpd-cache", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
        /* Reserved pages are claimed at mmap; when there are too few, ordinary memory does. */
        if (c->fd >= 0 &&
            (ftruncate(c->fd, (off_t)c->size) < 0 || fallocate(c->fd, 0, 0, (off_t)c->size) < 0)) {
            close(c->fd);
            c->fd = -1;
        }
    }
    rc = -ERR_SYS;
    if (c->fd < 0) {
        c->fd = memfd_create("rpd-cache", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (c->fd < 0 || ftruncate(c->fd, (off_t)c->size) < 0)
            goto fail;
    }
    if (fcntl(c->fd, F_ADD_SEALS, SEALS) < 0)
        goto fail;
    rc = map(c);
    if (rc >= 0)
        rc = fill_super(c);
    if (rc < 0)
        goto fail;
    *ret = c;
    return 0;
fail:
    cache_close(&c);
    return rc;
}

/* One of the two superblocks must be whole, and say what its own numbers lead to. */
static int load_super(struct cache *c, int fd)
{
    struct cache_super got;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -ERR_SYS;
    for (int i = 0; i < 2; i++) {
        if (pread(fd, &got, sizeof(got), i * (off_t)CACHE_SUPER_B) != (ssize_t)sizeof(got) ||
            got.magic != CACHE_MAGIC || got.version != CACHE_VERSION || got.abi != abi_word() ||
            got.crc != super_crc(&got))
            continue;
        c->sb = got;
        if (geometry(c) < 0 || memcmp(&c->sb, &got, sizeof(got)) != 0 || st.st_size < 0 ||
            (uint64_t)st.st_size != got.size)
            continue;
        return 0;
    }
    return -ERR_CORRUPT;
}

int cache_attach(int fd, struct cache **ret)
{
    struct cache *c = handle_new();
    int rc;

    *ret = NULL;
    if (!c)
        return -ERR_NOMEM;
    rc = load_super(c, fd);
    if (rc >= 0) {
        c->fd = fd;
        rc = map(c);
    }
    if (rc < 0) {
        c->fd = -1;
        cache_close(&c);
        return rc;
    }
    *ret = c;
    return 0;
}

bool cache_fits(const struct cache *c, const struct cache_options *o)
{
    struct cache other = {.fd = -1};

    return cache_layout(&other, o) >= 0 && other.sb.size == c->sb.size &&
           other.sb.data == c->sb.data && other.sb.slab_size == c->sb.slab_size &&
           other.sb.nbucket == c->sb.nbucket && other.sb.nslot == c->sb.nslot &&
           other.sb.max_object == c->sb.max_object;
}

static bool in_memory(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 &&
           (fs.f_type == TMPFS_MAGIC || fs.f_type == (__typeof__(fs.f_type))HUGETLBFS_MAGIC);
}

static bool own_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0 && st.st_nlink == 1;
}

/* Made beside the old one and put in its place, so that who maps the old one keeps it. */
static int make_file(const char *path, const struct cache_options *o, struct cache *c)
{
    char tmp[4096];
    int rc = -ERR_SYS;

    if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
        return -ERR_RANGE;
    rc = cache_layout(c, o);
    if (rc < 0)
        return rc;
    (void)unlink(tmp);
    c->fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (c->fd < 0)
        return -ERR_SYS;
    rc = -ERR_INVAL;
    if (!in_memory(c->fd))
        goto fail;
    /* All of it now: a full tmpfs would be a SIGBUS later. */
    rc = -ERR_NOMEM;
    if (ftruncate(c->fd, (off_t)c->size) < 0 || fallocate(c->fd, 0, 0, (off_t)c->size) < 0)
        goto fail;
    rc = map(c);
    if (rc >= 0)
        rc = fill_super(c);
    if (rc >= 0 && rename(tmp, path) < 0)
        rc = -ERR_SYS;
    if (rc >= 0)
        return 0;
fail:
    (void)unlink(tmp);
    return rc;
}

int cache_open_file(const char *path, const struct cache_options *o, struct cache **ret,
                    bool *ret_kept, struct cache **ret_old)
{
    struct cache *c;
    int fd, rc;

    *ret = *ret_old = NULL;
    *ret_kept = false;
    fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return -ERR_INVAL;
    if (fd >= 0) {
        if (!own_file(fd) || !in_memory(fd)) {
            close(fd);
            return -ERR_INVAL;
        }
        if (cache_attach(fd, &c) == 0) {
            if (cache_fits(c, o)) {
                *ret = c;
                *ret_kept = true;
                return 0;
            }
            *ret_old = c;
        } else {
            close(fd);
        }
    }
    c = handle_new();
    rc = c ? make_file(path, o, c) : -ERR_NOMEM;
    if (rc < 0) {
        cache_close(&c);
        cache_close(ret_old);
        return rc;
    }
    *ret = c;
    return 0;
}

void cache_close(struct cache **c)
{
    if (!*c)
        return;
    if ((*c)->base)
        munmap((*c)->base, (*c)->size);
    if ((*c)->fd >= 0)
        close((*c)->fd);
    free(*c);
    *c = NULL;
}

int cache_fd(const struct cache *c)
{
    return c->fd;
}

size_t cache_mapping_size(const struct cache *c)
{
    return c->size;
}

void cache_set_verify(struct cache *c, enum cache_verify v)
{
    c->verify = v;
}

int cache_join(struct cache *c, uint32_t owner, void (*kick)(void *arg, uint32_t slot), void *arg,
               struct cache_worker **ret)
{
    const uint32_t slot = owner & 0xffu;
    struct cache_worker *w;
    uint64_t bound;

    *ret = NULL;
    if (slot >= c->sb.nslot || owner == 0)
        return -ERR_RANGE;
    w = calloc(1, sizeof(*w));
    if (!w)
        return -ERR_NOMEM;
    w->slabpins = calloc(c->sb.nslab, sizeof(*w->slabpins));
    w->bodypins = calloc(c->sb.nbodypin, sizeof(*w->bodypins));
    w->followers = calloc(c->sb.nflight, sizeof(*w->followers));
    if (!w->slabpins || !w->bodypins || !w->followers) {
        free(w->slabpins);
        free(w->bodypins);
        free(w->followers);
        free(w);
        return -ERR_NOMEM;
    }
    w->c = c;
    w->slot = slot;
    w->owner = owner;
    w->kick = kick;
    w->kick_arg = arg;
    w->row = cache_row(c, slot);
    w->slabpin = cache_slabpin(c, slot);
    w->bodypin = cache_bodypin(c, slot);
    w->open[0].slab = w->open[1].slab = w->rest[0].slab = w->rest[1].slab = CACHE_NONE;
    w->ev.slab = w->popen = w->hole_slab = CACHE_NONE;
    w->hole_seq = UINT64_MAX;
    w->hand.slab = CACHE_NONE;
    /* Workers begin at different places, so that their claims rarely meet. */
    w->slab_hint = slot * 7919u % c->sb.nslab;
    w->body_hint = slot * 7919u % c->sb.nbody;
    w->low = (uint32_t)clamp(c->sb.nslab / 128, 2, 8);
    /* The bound before the first pin. */
    for (int i = 0; i < 2; i++) {
        bound = atomic_load(&cache_hot(c)->slot_bound[i].v);
        while (bound <= slot && !atomic_compare_exchange_weak(&cache_hot(c)->slot_bound[i].v,
                                                              &bound, (uint64_t)slot + 1))
            ;
    }
    /* Others read them all the time. */
    for (uint32_t i = 0; i < c->sb.nslab; i++)
        atomic_store_explicit(&w->slabpin[i], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < c->sb.nbodypin; i++)
        atomic_store_explicit(&w->bodypin[i], 0, memory_order_relaxed);
    atomic_store(&w->row->asleep, 0);
    atomic_store(&w->row->owner, owner);
    *ret = w;
    return 0;
}

void cache_leave(struct cache_worker **w)
{
    if (!*w)
        return;
    cache_evict_stop(*w);
    cache_slab_release_pages(*w);
    for (uint32_t q = 0; q < 2; q++)
        cache_slab_seal_own(*w, q);
    atomic_store(&(*w)->row->owner, 0);
    free((*w)->slabpins);
    free((*w)->bodypins);
    free((*w)->followers);
    free(*w);
    *w = NULL;
}

void cache_set_time(struct cache_worker *w, uint32_t wall_s)
{
    w->now_s = wall_s;
}

const char *cache_ctr_name(enum cache_ctr i)
{
    static const char *const names[CACHE_CTR__COUNT] = {
#define CACHE_CTR(id, name) [CACHE_CTR_##id] = name,
        CACHE_COUNTERS(CACHE_CTR)
#undef CACHE_CTR
    };

    return (unsigned)i < CACHE_CTR__COUNT ? names[i] : "broken";
}
