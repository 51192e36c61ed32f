/* Cache keys: which parts of a request choose what is answered from the store, as a text. */
#ifndef WORKER_CACHE_KEY_H
#define WORKER_CACHE_KEY_H

#include "base/arena.h"
#include "worker/http/forward.h"

#define KEY_PARTS_MAX  16u
#define KEY_PARAMS_MAX 256u /* parameters of a query that are sorted; more are left as they are */
#define KEY_DEFAULT    "%{scheme} %{host} %{path} %{query}"

enum key_kind {
    KEY_LITERAL,
    KEY_SCHEME,
    KEY_HOST, /* lower case, with a port that is not the scheme's */
    KEY_PATH, /* as forwarded, but for %XX of unreserved characters */
    KEY_QUERY,
    KEY_METHOD, /* HEAD is GET */
    KEY_HEADER, /* %{header.name}: all lines of it */
    KEY_COOKIE  /* %{cookie.name} */
};
struct key_part {
    enum key_kind kind;
    struct slice text; /* literal; name of header or cookie */
};
struct key_template {
    struct key_part part[KEY_PARTS_MAX];
    unsigned n;
    bool query;        /* %{query} is in it */
    struct slice mark; /* before every key but those of KEY_DEFAULT; see key_build */
};
/* Template of literal text and %{variables}; "%%" is a percent sign, spaces separate. Names are
 * copied to the arena. -ERR_INVAL: unknown variable, no closing brace, or nothing in it (*ret_at:
 * offset of it), -ERR_FULL: more than KEY_PARTS_MAX, -ERR_NOMEM. */
int key_template_parse(struct slice text, struct arena *a, struct key_template *ret,
                       size_t *ret_at);

/* Patterns with "*" for any run of bytes. */
bool key_glob(struct slice pattern, struct slice s);

struct key_rules {
    const struct slice
        *ignore_query; /* patterns of parameter names that do not count; "*": none does */
    size_t nignore_query;
    const struct slice *ignore_cookie; /* likewise, for Vary: Cookie */
    size_t nignore_cookie;
    bool sort_query;
};

struct key_input {
    struct slice scheme;
    const struct http_request *req;
    struct slice host; /* lower case (uri_host_lower) */
};
/* The key's text: each variable ends with a space, bytes that are no text are %XX, so that
 * different requests never make the same text. Routes may share a store and build keys differently:
 * the text of the template stands before the key, so that no request of one route can be made to
 * meet the answers of another. sort_query and ignore_query need no such mark, as servers get the
 * query as the key has it. Queries in the method QUERY add what describes their
 * content; the content itself is the caller's to hash behind it (RFC 10008 2.7). o must be empty;
 * -ERR_RANGE: it does not fit, do not use the cache. */
int key_build(const struct key_template *t, const struct key_rules *rules,
              const struct key_input *in, struct head_out *o);

/* Of a key's text what the request made, without a mark and the final space: for people. */
struct slice key_shown(const struct key_template *t, struct slice text);

/* The query without what does not count, sorted if the rules say so, parameters of one name in
 * their order. It should also be what servers get: else one who chooses an ignored parameter
 * chooses what others are served. Nothing is written when nothing is left; whether there was
 * anything. */
bool key_query(const struct key_rules *rules, struct slice query, struct head_out *o);
/* Cookies of a request that count, as "a=1; b=2". Whether there is any. */
bool key_cookies(const struct key_rules *rules, const struct http_request *r, struct head_out *o);

#endif
