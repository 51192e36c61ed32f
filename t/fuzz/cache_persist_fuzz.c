/* Files of a cache on disk: whatever stands in one, the reader refuses it or stores whole objects,
 * and the cache stays sound. First byte: 0 the file as it is, else payloads of blocks made here. */
#include "base/buf.h"
#include "base/err.h"
#include "shm/cache_persist_in.h"
#include "shm/crc32c.h"
#include "t/fuzz/fuzz.h"

#define LIFE    7u
#define VERSION 1000u

static unsigned char file[PERSIST_BLOCK + 128];
static struct cache *c;
static struct cache_worker *w;

static void no_names(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static size_t header(const struct cache_persist *p, unsigned char *to)
{
    struct persist_file f = {.magic = PERSIST_MAGIC,
                             .format = PERSIST_FORMAT,
                             .life = LIFE,
                             .key_id = p->key_id,
                             .version = VERSION};

    f.crc = crc32c(&f, offsetof(struct persist_file, crc));
    memcpy(to, &f, sizeof(f));
    return sizeof(f);
}

/* A block with right sums around n bytes, at `to`. */
static size_t block(unsigned char *to, uint32_t seq, bool last, const uint8_t *data, size_t n)
{
    struct persist_block b = {
        .magic = PERSIST_M_BLOCK, .seq = seq, .len = (uint32_t)n, .last = last};

    b.crc = crc32c(data, n);
    b.head_crc = crc32c_more(LIFE, &b, offsetof(struct persist_block, head_crc));
    memcpy(to, &b, sizeof(b));
    if (n > 0)
        memcpy(to + sizeof(b), data, n);
    return sizeof(b) + n;
}

static void whole_file(struct cache_persist *p, const uint8_t *data, size_t n)
{
    const char *why = NULL;

    while (!p->r.ended) {
        const long used = persist_reader_feed(p, data, n, &why);

        if (used < 0) {
            CHECK(used == -ERR_CORRUPT && why);
            return;
        }
        CHECK(used > 0 && (size_t)used <= n);
        data += used;
        n -= (size_t)used;
    }
}

/* Cut into two blocks where the first byte says. */
static void payloads(struct cache_persist *p, const uint8_t *data, size_t n, size_t cut)
{
    const char *why = NULL;
    size_t at = header(p, file);

    cut = cut < n ? cut : n;
    at += block(file + at, 0, false, data, cut);
    if (persist_reader_feed(p, file, at, &why) < 0)
        return;
    at = block(file, 1, true, data + cut, n - cut);
    (void)persist_reader_feed(p, file, at, &why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct cache_persist p;
    const struct cache_options o = {
        .size = 256u << 10, .slab = 16u << 10, .slots = 1, .workers = 1};
    const struct persist_name name = {.version = VERSION, .life = LIFE};
    struct buf out;

    if (n == 0 || n > PERSIST_BLOCK)
        return 0;
    CHECK(cache_create(&o, &c) == 0 && cache_join(c, 1u << 8, NULL, NULL, &w) == 0);
    cache_rekey(c, &(struct hash_key){1, 2});
    memset(&p, 0, sizeof(p));
    p.c = c;
    p.w = w;
    p.o.say = no_names;
    p.key_id = persist_key_id(c);
    persist_reader_start(&p.r, &name);
    if (data[0] == 0)
        whole_file(&p, data + 1, n - 1);
    else
        payloads(&p, data + 1, n - 1, data[0] * 8u);
    persist_reader_stop(&p);
    cache_leave(&w);
    buf_init(&out, 0);
    CHECK(cache_fsck(c, true, &out) == 0);
    buf_fini(&out);
    cache_close(&c);
    return 0;
}
