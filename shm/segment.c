/* The segment itself: create, seal, map, check, close. */
#include "shm/segment.h"

#include "base/err.h"
#include "base/hash.h"
#include "shm/crc32c.h"
#include "shm/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t align64(uint64_t v)
{
    return (v + 63u) & ~(uint64_t)63u;
}

/* Two binaries may share a segment only when all structs and the meaning of each counter are the
 * same. */
static uint32_t abi_word(void)
{
    static const char names[] =
#define COUNTER(id, name, help) name " "
#define GAUGE(id, name, help)   "g:" name " "
#include "shm/counters.def"
#undef COUNTER
#undef GAUGE
        "";
    const uint32_t v[] = {crc32c(names, sizeof(names)),
                          sizeof(struct layout_hot),
                          sizeof(struct slot_rec),
                          sizeof(struct server_rec),
                          sizeof(struct server_row),
                          sizeof(struct series_row),
                          sizeof(struct series_name_rec),
                          sizeof(struct resolve_rec),
                          sizeof(struct ticket_rec),
                          sizeof(struct cert_rec),
                          sizeof(struct session_head),
                          sizeof(struct session_body),
                          HIST_BUCKETS,
                          RESOLVE_ADDRS,
                          SLOT_PANIC_SIZE,
                          SHM_SLOTS,
                          SLOT__COUNT};

    return crc32c(v, sizeof(v));
}

static bool fits(uint32_t n, uint32_t max)
{
    return n > 0 && n <= max;
}

int layout_fill(struct segment *s, const struct layout_counts *c)
{
    const uint32_t nslots = c->slots, nservers = c->servers, nseries = c->series, nnames = c->names;

    if (!fits(nslots, SHM_SLOTS) || !fits(nservers, SHM_SERVERS) || !fits(nseries, SHM_SERIES) ||
        !fits(nnames, SHM_NAMES) || !fits(c->certs, CERT_ROWS) || !fits(c->sessions, SESSIONS) ||
        !fits(c->abusers, ABUSERS) || c->sessions % SESSION_WAYS != 0 ||
        c->abusers % ABUSE_WAYS != 0)
        return -ERR_RANGE;
    s->nslots = nslots;
    s->nservers = nservers;
    s->nseries = nseries;
    s->nnames = nnames;
    s->ncerts = c->certs;
    s->nsessions = c->sessions;
    s->nabuse = c->abusers;
    s->counter_stride = (uint32_t)align64(sizeof(struct counter_row));
    s->gauge_stride = (uint32_t)align64(sizeof(struct gauge_row));
    s->seen_words = (nseries + 511u) / 512u * 8u;
    /* A sum reads the same row of every slot: an odd number of lines between them spreads these
     * over the sets of the CPU caches. */
    s->server_stride = (size_t)nservers * sizeof(struct server_row) + 64u;

    const uint64_t size[AREA__COUNT] = {
        [AREA_HOT] = sizeof(struct layout_hot),
        [AREA_SLOT] = (uint64_t)nslots * sizeof(struct slot_rec),
        [AREA_PANIC] = (uint64_t)nslots * SLOT_PANIC_SIZE,
        [AREA_COUNTER] = (uint64_t)nslots * s->counter_stride,
        [AREA_GAUGE] = (uint64_t)nslots * s->gauge_stride,
        [AREA_SERVER_KEY] = (uint64_t)nservers * 8,
        [AREA_SERVER] = (uint64_t)nservers * sizeof(struct server_rec),
        [AREA_SERVER_ROW] = (uint64_t)nslots * s->server_stride,
        [AREA_SERIES_HASH] = (uint64_t)nseries * 8,
        [AREA_SERIES_NAME] = (uint64_t)nseries * sizeof(struct series_name_rec),
        [AREA_SERIES_SEEN] = (uint64_t)nslots * s->seen_words * 8,
        [AREA_SERIES_ROW] = (uint64_t)nslots * nseries * sizeof(struct series_row),
        [AREA_NAME_HASH] = (uint64_t)nnames * 8,
        [AREA_NAME] = (uint64_t)nnames * sizeof(struct resolve_rec),
        [AREA_SECRET] = sizeof(struct hash_key),
        [AREA_TICKET] = sizeof(struct ticket_rec),
        [AREA_CERT_KEY] = (uint64_t)c->certs * 8,
        [AREA_CERT] = (uint64_t)c->certs * sizeof(struct cert_rec),
        [AREA_ABUSE] = (uint64_t)c->abusers * 8,
        [AREA_SESSION_HEAD] = (uint64_t)c->sessions * sizeof(struct session_head),
        [AREA_SESSION_BODY] = (uint64_t)c->sessions * sizeof(struct session_body)};
    uint64_t at = 2 * LAYOUT_SUPER_B;

    for (int a = 0; a < AREA__COUNT; a++) {
        s->off[a] = at;
        at += align64(size[a]);
    }
    s->size = (size_t)((at + 4095u) & ~(uint64_t)4095u);
    return 0;
}

void layout_superblock(const struct segment *s, struct superblock *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->magic = LAYOUT_MAGIC;
    ret->version = LAYOUT_VERSION;
    ret->abi = abi_word();
    ret->size = s->size;
    ret->count = (struct layout_counts){.slots = s->nslots,
                                        .servers = s->nservers,
                                        .series = s->nseries,
                                        .names = s->nnames,
                                        .certs = s->ncerts,
                                        .sessions = s->nsessions,
                                        .abusers = s->nabuse};
    memcpy(ret->off, s->off, sizeof(ret->off));
    ret->crc = crc32c(ret, offsetof(struct superblock, crc));
}

static int map(struct segment *s)
{
    void *p = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);

    if (p == MAP_FAILED)
        return errno == ENOMEM ? -ERR_NOMEM : -ERR_SYS;
    s->base = p;
    /* It holds keys, and a core file of gigabytes of holes helps nobody. */
    (void)madvise(p, s->size, MADV_DONTDUMP);
    return 0;
}

static int create(const struct layout_counts *c, struct segment **ret)
{
    struct segment *s = calloc(1, sizeof(*s));
    struct superblock sb;
    struct hash_key secret;
    int rc;

    *ret = NULL;
    if (!s)
        return -ERR_NOMEM;
    s->fd = -1;
    rc = layout_fill(s, c);
    if (rc < 0)
        goto fail;
    s->fd = memfd_create("rpd-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    rc = -ERR_SYS;
    if (s->fd < 0 || ftruncate(s->fd, (off_t)s->size) < 0 || fcntl(s->fd, F_ADD_SEALS, SEALS) < 0)
        goto fail;
    rc = map(s);
    if (rc < 0)
        goto fail;
    layout_superblock(s, &sb);
    (void)series_register(s, SLICE("other"));
    hash_key_random(&secret);
    atomic_store(&layout_words(s, AREA_SECRET)[0], secret.k0);
    atomic_store(&layout_words(s, AREA_SECRET)[1], secret.k1);
    memcpy(s->base + LAYOUT_SUPER_B, &sb, sizeof(sb));
    memcpy(s->base, &sb, sizeof(sb));
    *ret = s;
    return 0;
fail:
    segment_close(&s);
    return rc;
}

int segment_create(struct segment **ret)
{
    static const struct layout_counts c = {.slots = SHM_SLOTS,
                                           .servers = SHM_SERVERS,
                                           .series = SHM_SERIES,
                                           .names = SHM_NAMES,
                                           .certs = CERT_ROWS,
                                           .sessions = SESSIONS,
                                           .abusers = ABUSERS};

    return create(&c, ret);
}

int segment_create_sized(uint32_t nslots, uint32_t nservers, uint32_t nseries, uint32_t nnames,
                         struct segment **ret)
{
    const struct layout_counts c = {.slots = nslots,
                                    .servers = nservers,
                                    .series = nseries,
                                    .names = nnames,
                                    .certs = 4,
                                    .sessions = 2 * SESSION_WAYS,
                                    .abusers = 2 * ABUSE_WAYS};

    return create(&c, ret);
}

int segment_attach(int fd, struct segment **ret)
{
    struct segment *s = calloc(1, sizeof(*s));
    struct superblock sb, other, want;
    struct stat st;
    int rc = -ERR_CORRUPT;

    *ret = NULL;
    if (!s)
        return -ERR_NOMEM;
    s->fd = -1;
    /* pread first: a file that is too short must not become a SIGBUS. */
    if (fstat(fd, &st) < 0 || pread(fd, &sb, sizeof(sb), 0) != (ssize_t)sizeof(sb) ||
        pread(fd, &other, sizeof(other), LAYOUT_SUPER_B) != (ssize_t)sizeof(other))
        goto fail;
    if (sb.magic != LAYOUT_MAGIC || sb.version != LAYOUT_VERSION ||
        sb.crc != crc32c(&sb, offsetof(struct superblock, crc)) ||
        memcmp(&sb, &other, sizeof(sb)) != 0)
        goto fail;
    if (layout_fill(s, &sb.count) < 0)
        goto fail;
    layout_superblock(s, &want);
    if (memcmp(&sb, &want, sizeof(sb)) != 0 || st.st_size < 0 || (uint64_t)st.st_size != s->size ||
        (fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        goto fail;
    s->fd = fd;
    rc = map(s);
    if (rc < 0) {
        s->fd = -1;
        goto fail;
    }
    *ret = s;
    return 0;
fail:
    segment_close(&s);
    return rc;
}

void segment_close(struct segment **s)
{
    if (!*s)
        return;
    if ((*s)->base)
        munmap((*s)->base, (*s)->size);
    if ((*s)->fd >= 0)
        close((*s)->fd);
    free(*s);
    *s = NULL;
}

int segment_fd(const struct segment *s)
{
    return s->fd;
}

size_t segment_size(const struct segment *s)
{
    return s->size;
}
