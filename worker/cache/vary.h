/* Vary (RFC 9111 4.1): which request fields select among the answers of one key, and their values
 * in a form in which equal means the same. */
#ifndef WORKER_CACHE_VARY_H
#define WORKER_CACHE_VARY_H

#include "worker/cache/key.h"

#define VARY_MAX      8u   /* fields that may select */
#define VARY_SPEC_MAX 512u /* bytes of a spec */

/* Codings that clients and this site have in common. */
enum { VARY_BR = 1, VARY_GZIP = 2, VARY_ZSTD = 4, VARY_NO_IDENTITY = 8 };

struct vary {                    /* names lie in text: never copied */
    struct slice name[VARY_MAX]; /* lower case, ascending, each once */
    unsigned n;
    char text[VARY_SPEC_MAX];
    size_t used;
};
/* Adds what the fields of a response say to *v, which starts zeroed or holds the union so far. 0,
 * -ERR_INVAL: "*", which nothing matches, or no field name; -ERR_FULL: too many or too long. After
 * an error do not store. */
int vary_add(struct vary *v, const struct http_field *field, size_t n);
/* "accept-encoding,cookie": to be kept beside the key; and back. vary_text returns its length; out:
 * VARY_SPEC_MAX + VARY_MAX bytes. */
size_t vary_text(const struct vary *v, char *out);
int vary_parse(struct vary *v, struct slice text);

struct vary_rules {
    const struct key_rules *key; /* cookies that do not count */
    unsigned codings;            /* bits of the above that count; 0: Accept-Encoding as it is */
};
/* The secondary key's text for a request: one line per field. -ERR_RANGE: it does not fit. */
int vary_build(const struct vary *v, const struct vary_rules *rules, const struct http_request *r,
               struct head_out *o);

/* What of `codings` the client takes (RFC 9110 12.5.3). */
unsigned vary_codings(const struct http_request *r, unsigned codings);
/* The Accept-Encoding that stands for a class: a server must see this and not the client's, or it
 * might answer one of a class with what others of it cannot read. out: 48 bytes. */
size_t vary_accept_encoding(unsigned class_, char *out);

#endif
