/* Cache directives: Cache-Control of requests and responses (RFC 9111 5.2), Pragma (5.4), and the
 * fields meant for some caches only: RPD-Cache-Control, CDN-Cache-Control (RFC 9213) and
 * Surrogate-Control (Edge Architecture 1.0). */
#ifndef WORKER_HTTP_CACHE_CONTROL_H
#define WORKER_HTTP_CACHE_CONTROL_H

#include "worker/http/http.h"

/* Directives, as bits of cache_control.has. */
enum {
    CC_NO_STORE = 1 << 0,
    CC_NO_CACHE = 1 << 1, /* without fields, or with ones that could not be read */
    CC_NO_CACHE_FIELDS = 1 << 2,
    CC_PRIVATE = 1 << 3, /* likewise */
    CC_PRIVATE_FIELDS = 1 << 4,
    CC_PUBLIC = 1 << 5,
    CC_MUST_REVALIDATE = 1 << 6,
    CC_PROXY_REVALIDATE = 1 << 7,
    CC_MUST_UNDERSTAND = 1 << 8,
    CC_NO_TRANSFORM = 1 << 9,
    CC_ONLY_IF_CACHED = 1 << 10,
    CC_IMMUTABLE = 1 << 11, /* RFC 8246 */
    CC_MAX_AGE = 1 << 12,
    CC_S_MAXAGE = 1 << 13,
    CC_MIN_FRESH = 1 << 14,
    CC_MAX_STALE = 1 << 15,              /* without a value: CC_FOREVER */
    CC_STALE_WHILE_REVALIDATE = 1 << 16, /* RFC 5861 */
    CC_STALE_IF_ERROR = 1 << 17
};

#define CC_FOREVER    2147483648u /* seconds; what does not fit is this (RFC 9111 1.2.2) */
#define CC_FIELDS_MAX 4u

struct cache_control {
    uint32_t has;
    /* Seconds. The first of several counts (4.2.1); a max-age or s-maxage that is no number is 0,
     * which is stale; the others are then not there. */
    uint32_t max_age, s_maxage, min_fresh, max_stale, stale_while_revalidate, stale_if_error;
    struct slice no_cache[CC_FIELDS_MAX], private_[CC_FIELDS_MAX]; /* lists of field names */
    uint8_t nno_cache, nprivate;
};

/* One value of Cache-Control, added to what others said. What cannot be understood is skipped to
 * the next comma; a quote that is never closed hides nothing. Starts with *c all zero. */
void cache_control_add(struct cache_control *c, struct slice value);
/* One value of a targeted field: a dictionary of structured fields (RFC 8941 3.2, RFC 9213 2.1),
 * the whole of which must be right. A known directive whose value has the wrong type is ignored; of
 * several the last counts. Number of members, or -ERR_INVAL; *c is then not to be used. */
int cache_control_add_targeted(struct cache_control *c, struct slice value);
/* One value of Surrogate-Control: as Cache-Control; max-age=60+30 allows 30 s of staleness; what is
 * directed to another surrogate (";name") is not for us. */
void cache_control_add_surrogate(struct cache_control *c, struct slice value);

/* All of a request: Cache-Control, or without it Pragma: no-cache. */
void cache_control_of_request(const struct http_request *r, struct cache_control *ret);

enum cache_control_source {
    CACHE_CONTROL_NONE,
    CACHE_CONTROL_PLAIN,     /* Cache-Control */
    CACHE_CONTROL_SURROGATE, /* the following replace Cache-Control and Expires */
    CACHE_CONTROL_CDN,
    CACHE_CONTROL_RPD
};
/* All of a response: of the fields that are valid and not empty the most specific one (RFC 9213
 * 2.2). targeted false: Cache-Control only. */
enum cache_control_source cache_control_of_response(const struct http_field *field, size_t n,
                                                    bool targeted, struct cache_control *ret);
/* Whether a field is named by no-cache="..." or private="...". */
bool cache_control_names(const struct cache_control *c, struct slice name);
/* Which of these fields this is; NONE: neither. */
enum cache_control_source cache_control_field(const struct http_field *f);

/* Delta-seconds: digits only, at most CC_FOREVER. -ERR_INVAL. */
int cache_control_seconds(struct slice s, uint32_t *ret);

#endif
