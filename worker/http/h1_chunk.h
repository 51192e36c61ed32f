/* Chunked transfer coding (RFC 9112 7.1): a resumable decoder that compacts in place, and the
 * writer. */
#ifndef WORKER_HTTP_H1_CHUNK_H
#define WORKER_HTTP_H1_CHUNK_H

#include "base/arena.h"
#include "worker/http/http.h"

/* Bytes of extension per chunk; a whole body may spend 16 KiB on them. */
#define H1_CHUNK_EXT_MAX 256u
#define H1_TRAILER_MAX   8192u
struct h1_chunk {
    uint8_t state;
    uint64_t left; /* of the current chunk */
    uint64_t data; /* decoded so far */
    uint32_t ext_total, ext_line;
    uint32_t trailer_n; /* bytes of trailer section gathered */
    uint8_t digits;
    char *trailer; /* grown in the arena given */
    size_t trailer_cap;
};
void h1_chunk_init(struct h1_chunk *c);
/* Decodes p[0..n) in place: decoded bytes are moved to the front of p. *ret_used: input bytes
 * consumed (always n unless the body ended), *ret_data: decoded bytes at p. Returns 1 when the body
 * has ended (its trailer section included), 0 to go on, -ERR_BAD_CHUNK, -ERR_BAD_TRAILER,
 * -ERR_NOMEM. Bare LF, empty sizes, sizes over 2^62, control bytes in extensions are refused. */
int h1_chunk_decode(struct h1_chunk *c, struct arena *a, char *p, size_t n, size_t *ret_used,
                    size_t *ret_data);
/* After the end: parses the gathered trailer section; fields that frame, route or authenticate (RFC
 * 9110 6.5.1) are dropped. Returns the number of fields put into field (room for max), or
 * -ERR_BAD_TRAILER. */
int h1_chunk_trailers(const struct h1_chunk *c, struct http_field *field, size_t max);
/* "1a2b\r\n" into out (20 bytes); returns its length. */
size_t h1_chunk_head(char *out, uint64_t size);
/* What follows a chunk's data (after_data) and, with end, ends the body: "0 CRLF", trailer fields,
 * CRLF. Without room for all of the trailers there are none: nobody may rely on them (RFC 9110
 * 6.5). Returns the length; cap is at least 7. */
size_t h1_chunk_tail(char *out, size_t cap, bool after_data, bool end,
                     const struct http_field *trailer, size_t ntrailer);

#endif
