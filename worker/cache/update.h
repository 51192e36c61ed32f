/* Stored answers that are confirmed, renewed or thrown out by later messages: validation (RFC 9111
 * 4.3), HEAD (4.3.5) and unsafe methods (4.4). */
#ifndef WORKER_CACHE_UPDATE_H
#define WORKER_CACHE_UPDATE_H

#include "worker/cache/policy.h"

/* Writes the conditions of a request that validates a stored answer (4.3.1): If-None-Match with its
 * ETag, If-Modified-Since with its Last-Modified, both as received. The client's own conditions are
 * not sent (policy_fill_drops). Number of fields; 0: it cannot be validated, fetch it anew. */
unsigned update_conditions(struct head_out *o, const struct http_field *stored, size_t n);

/* Whether a 304 to that request speaks of the stored answer (4.3.4): a strong ETag must be equal, a
 * weak one match, without ETag a Last-Modified be equal; a 304 that names none is taken at its
 * word. false: fetch anew, without conditions. */
bool update_matches(const struct http_field *stored, size_t n, const struct http_response *r304);

/* Merges the fields of a 304, or of a HEAD's answer, into the stored ones (3.2): each field of the
 * new answer replaces all of its name, but for what is not stored, the length, and what says how
 * the stored content is coded. Slices of both are borrowed. cc: of the new answer. Number of fields
 * in ret (room for max), or -ERR_RANGE: there is no room. Then policy_freshness, with the new
 * times. */
int update_merge(const struct cache_rules *rules, const struct cache_control *cc,
                 const struct http_field *stored, size_t n, const struct http_field *now,
                 size_t nnow, struct http_field *ret, size_t max);

enum update_head {
    UPDATE_HEAD_NOTHING, /* says nothing of the stored answer */
    UPDATE_HEAD_RENEW,   /* same content: merge */
    UPDATE_HEAD_STALE    /* another content: the stored answer is to be validated before use */
};
/* What a HEAD's answer means for a stored 200 of a GET with a body of that size (4.3.5). */
enum update_head update_head(const struct http_field *stored, size_t n, uint64_t size,
                             const struct http_response *head);

/* Whether the answer to an unsafe request invalidates (4.4): 2xx or 3xx. The target URI always
 * does; update_uri tells of others. */
bool update_invalidates(const struct policy_request *q, unsigned status);
/* Path and query of a Location or Content-Location when it is on the origin of the request,
 * relative references resolved against the request (RFC 3986 5.2) and normalised. 0, -ERR_NOENT:
 * another origin, or nothing to be made of it; -ERR_NOMEM. */
int update_uri(const struct key_input *in, struct slice value, struct arena *a,
               struct slice *ret_path, struct slice *ret_query, bool *ret_has_query);

#endif
