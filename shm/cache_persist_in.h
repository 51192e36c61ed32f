/* Files of a cache on disk: their format, and what writer and reader share. Little endian.
 *
 * FORMAT: file header, then blocks. The payloads of a file's blocks in a row are objects in a row:
 * header, tags u64[ntags], meta, body. The last block says so; a file without one was cut off. */
#ifndef SHM_CACHE_PERSIST_IN_H
#define SHM_CACHE_PERSIST_IN_H

#include "shm/cache_disk.h"
#include "shm/cache_layout.h"
#include "shm/cache_persist.h"

#define PERSIST_MAGIC    0x3162616c73647072ull /* "rpdslab1" */
#define PERSIST_FORMAT   2u
#define PERSIST_BLOCK    (256u << 10) /* of payload, at most */
#define PERSIST_VERSION  (1ull << 47) /* objects have versions below */
#define PERSIST_M_BLOCK  0x6b6c4270u
#define PERSIST_M_OBJECT 0x6a624f70u

struct persist_file {
    uint64_t magic;
    uint32_t format, life; /* life: which mapping it is from */
    uint64_t key_id;       /* which key: objects of another one are found by nobody */
    uint64_t version;      /* the highest in it */
    uint32_t main;         /* 1: from the main queue */
    uint32_t crc;          /* of all before it */
};
struct persist_block {
    uint32_t magic, seq, len, last;
    uint32_t crc;      /* of the payload */
    uint32_t head_crc; /* of all before it */
};
struct persist_object {
    uint32_t magic;
    uint8_t type, ntags;
    uint16_t site;
    uint32_t meta, user;
    uint64_t k0, k1, size, version;
    uint32_t base, fresh;
};
_Static_assert(sizeof(struct persist_file) == 40 && sizeof(struct persist_block) == 24 &&
                   sizeof(struct persist_object) == 56,
               "format of files");

#define PERSIST_LEAD (sizeof(struct persist_object) + 8u * CACHE_TAGS + UINT16_MAX)

/* What a file's name says. */
struct persist_name {
    uint64_t version;
    uint32_t life, slab, gen, woff;
    bool main;
};
struct persist_old {
    struct persist_name name;
    uint64_t bytes;
    bool load; /* it fits and is still to be read */
};

/* What is on disk of a slab: its first woff bytes while it has this generation. */
struct persist_slab {
    struct persist_name name;
    uint64_t bytes; /* of the file; 0: there was nothing to write */
    uint64_t when;  /* us, when it was written or first seen */
    uint32_t woff;  /* up to where it was gone through */
    bool known, have;
};

/* The object of a file that is being put together. */
enum persist_part { PERSIST_LEAD_PART, PERSIST_BODY_PART, PERSIST_SKIP_PART };
struct persist_reader {
    enum persist_part part;
    struct persist_name name;
    uint32_t seq;
    uint64_t at, left; /* of the file; of the body */
    struct cache_fill fill;
    uint32_t have; /* bytes in lead */
    bool headed, ended;
    _Alignas(8) unsigned char lead[PERSIST_LEAD];
};

struct cache_persist {
    struct cache *c;
    struct cache_worker *w;
    struct cache_persist_options o;
    struct cache_disk *disk;
    int dir, lock;
    uint32_t life;
    uint64_t key_id;
    struct cache_persist_stat st;

    struct persist_slab *slab;  /* nslab */
    struct persist_old *old;    /* files that are not of a slab of this cache */
    size_t nold, at_old;        /* at_old: which is read next */
    bool opened, reading, full; /* a file is; a block of it; the cache */
    struct persist_reader r;

    /* writer */
    enum persist_job { PERSIST_NOTHING, PERSIST_WRITE, PERSIST_COMMIT, PERSIST_REMOVE } job;
    uint32_t cursor, seen;   /* seen: slabs looked at since there was something to do */
    uint64_t counted;        /* slabs that were to be written, of those seen */
    uint64_t not_before;     /* us: the rate, or a pause after an error */
    bool writing, flushed;   /* a slab; all of it is out */
    bool wrote;              /* something, since all slabs were seen */
    struct persist_name cur; /* what is being written: up to its woff */
    uint64_t cur_bytes;
    uint32_t off, seq, objects;
    bool in_object;
    struct cache_hit hit;
    uint64_t body_at;
    uint32_t lead_n, lead_at;
    _Alignas(8) unsigned char lead[PERSIST_LEAD];
};

__attribute__((format(printf, 2, 3))) void persist_say(struct cache_persist *p, const char *fmt,
                                                       ...);
void persist_name_text(const struct persist_name *n, char ret[CACHE_DISK_NAME]);
bool persist_name_parse(const char *text, struct persist_name *ret);
uint64_t persist_key_id(const struct cache *c);

/* ---- cache_restore.c ---- */

/* Sorts p->old and marks what is to be read. */
void persist_load_plan(struct cache_persist *p);
enum cache_persist_next persist_load_step(struct cache_persist *p, uint64_t until_us);
void persist_reader_start(struct persist_reader *r, const struct persist_name *name);
void persist_reader_stop(struct cache_persist *p);
/* The beginning of a file at p->r.at: as much as is there of n bytes. Returns how many bytes were
 * used; 0 with p->r.ended at the end; -ERR_CORRUPT with *ret_why. */
long persist_reader_feed(struct cache_persist *p, const unsigned char *bytes, size_t n,
                         const char **ret_why);

#endif
