/* Field lines of HTTP/1 heads and trailers (RFC 9112 5), and what several fields together say about
 * a connection. */
#ifndef WORKER_HTTP_H1_FIELDS_H
#define WORKER_HTTP_H1_FIELDS_H

#include "worker/http/http.h"

_Static_assert(FIELD__COUNT <= 64, "known fields fit in a mask");

struct h1_fields {
    struct http_field *field;
    size_t n;
    uint64_t seen, repeated;      /* bit = enum http_field_id */
    uint16_t first[FIELD__COUNT]; /* index of the first one; only where seen */
};
static inline bool h1_fields_has(const struct h1_fields *f, enum http_field_id id)
{
    return (f->seen >> id & 1) != 0;
}
static inline bool h1_fields_repeats(const struct h1_fields *f, enum http_field_id id)
{
    return (f->repeated >> id & 1) != 0;
}
/* Value of the first field of this id, which must have been seen. */
static inline struct slice h1_fields_value(const struct h1_fields *f, enum http_field_id id)
{
    return f->field[f->first[id]].value;
}

/* Parses the lines of [p, end), each ended by CR LF, into f->field (room for max_fields). 0,
 * -ERR_BAD_FIELD, -ERR_OBS_FOLD, -ERR_BARE_LF, -ERR_HEAD_TOO_LARGE (a line over max_field bytes, or
 * too many). On errors f holds the lines before. */
int h1_fields_parse(struct h1_fields *f, const char *p, const char *end, uint32_t max_field,
                    uint32_t max_fields);

/* One more field, already known to be sound, where there is room for it (the caller's to see to);
 * f starts with n, seen and repeated 0. */
void h1_fields_add(struct h1_fields *f, struct slice name, struct slice value);

/* Connection options (RFC 9110 7.6.1). */
struct h1_connection {
    bool close, keep_alive, upgrade;
};
/* Reads every Connection field and marks the fields it names FIELD_NOMINATED. 0, or -ERR_BAD_FIELD
 * when it names too many. */
int h1_fields_connection(struct h1_fields *f, struct h1_connection *ret);

/* One Content-Length of digits, at most 2^62. Call when seen. 0 or -ERR_BAD_LENGTH. */
int h1_fields_length(const struct h1_fields *f, uint64_t *ret);
/* Whether Transfer-Encoding is one line that says "chunked" and no more. Call when seen. */
bool h1_fields_chunked(const struct h1_fields *f);
/* The Upgrade field, when it may be honoured: one line, not empty, and not h2c, which would tunnel
 * requests past the routes. */
struct slice h1_fields_upgrade(const struct h1_fields *f);
/* Whether the comma-separated list of any field with this id holds the word (any case). */
bool h1_fields_lists(const struct h1_fields *f, enum http_field_id id, struct slice word);
/* Whether the content is to be passed on as it comes: server-sent events, or the server says so. */
bool h1_fields_event_stream(const struct h1_fields *f);

#endif
