/* Chunked coding: pieces of any size give what the whole gives; what is written is read back. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/h1_chunk.h"

#include <stdlib.h>

struct outcome {
    int rc;
    size_t used, ndata;
    char *data;
    struct h1_chunk c;
};

/* seed 0: all at once; else in pieces of 1 to 16 bytes. */
static void decode(struct arena *a, const char *p, size_t n, unsigned seed, struct outcome *o)
{
    memset(o, 0, sizeof(*o));
    h1_chunk_init(&o->c);
    o->data = malloc(n > 0 ? n : 1);
    CHECK(o->data != NULL);
    for (size_t at = 0; at < n && o->rc == 0;) {
        size_t take = n - at, used = 0, data = 0;
        if (seed != 0) {
            seed = seed * 1103515245u + 12345u;
            const size_t piece = 1 + (seed >> 16) % 16;
            take = take < piece ? take : piece;
        }
        char *copy = malloc(take);
        CHECK(copy != NULL);
        memcpy(copy, p + at, take);
        o->rc = h1_chunk_decode(&o->c, a, copy, take, &used, &data);
        CHECK(used <= take && data <= used);
        CHECK(o->rc != 0 || used == take);
        memcpy(o->data + o->ndata, copy, data);
        o->ndata += data;
        o->used += used;
        at += used;
        free(copy);
    }
}

static void written_is_read(struct arena *a, const char *p, size_t n)
{
    char *text = malloc(n + 64);
    CHECK(text != NULL);
    size_t k = n > 0 ? h1_chunk_head(text, n) : 0;
    if (n > 0) {
        memcpy(text + k, p, n);
        memcpy(text + k + n, "\r\n", 2);
        k += n + 2;
    }
    k += h1_chunk_head(text + k, 0);
    memcpy(text + k, "\r\n", 2);
    struct outcome o;
    decode(a, text, k + 2, 0, &o);
    CHECK(o.rc == 1 && o.used == k + 2 && o.ndata == n && memcmp(o.data, p, n) == 0);
    free(o.data);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    unsigned seed = 1;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    struct arena a;
    struct outcome whole, pieces;
    arena_init(&a, NULL, 0, 0);
    decode(&a, p, n, 0, &whole);
    decode(&a, p, n, seed | 1, &pieces);
    CHECK(whole.rc == pieces.rc && whole.ndata == pieces.ndata);
    CHECK(memcmp(whole.data, pieces.data, whole.ndata) == 0);
    CHECK(whole.c.data == whole.ndata);
    CHECK(whole.rc == 0 || whole.rc == 1 || whole.rc == -ERR_BAD_CHUNK ||
          whole.rc == -ERR_BAD_TRAILER);
    if (whole.rc == 1) {
        struct http_field field[20];
        CHECK(whole.used == pieces.used && whole.c.trailer_n == pieces.c.trailer_n);
        int k = h1_chunk_trailers(&whole.c, field, 20);
        CHECK(k == h1_chunk_trailers(&pieces.c, field, 20));
        for (int i = 0; i < k; i++)
            CHECK(http_is_token(field[i].name) && field[i].id != FIELD_TRANSFER_ENCODING &&
                  field[i].id != FIELD_CONTENT_LENGTH && field[i].id != FIELD_HOST);
        written_is_read(&a, whole.data, whole.ndata);
    }
    free(whole.data);
    free(pieces.data);
    arena_fini(&a);
    return 0;
}
