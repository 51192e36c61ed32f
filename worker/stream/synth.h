/* Answers of our own: error pages and `return`. Texts only; status line and fields are the
 * caller's. */
#ifndef WORKER_STREAM_SYNTH_H
#define WORKER_STREAM_SYNTH_H

#include "config/config.h"

/* The body of an error answer and its media type: the scope's error_page for the status (exact
 * before class), with %{status},
 * %{reason} (the status in words) and %{request_id} replaced and escaped for its type; else a few
 * lines of plain text. err is an enum err of either sign, 0 = none: only what the client can have
 * caused is told, upstream and internal errors get a neutral sentence. No version is told. scope
 * may be NULL. head_only: *ret_body is empty. A caller that answers HEAD with Content-Length (it
 * must be GET's, RFC 9110 8.6) asks with false, uses the length and sends nothing of it. Results
 * live in the arena or in the configuration. 0 or -ERR_NOMEM. */
int synth_error(struct arena *a, const struct conf_scope_keys *scope, unsigned status, int err,
                struct slice request_id, bool head_only, struct slice *ret_type,
                struct slice *ret_body);

/* What templates may use; all as received, so percent-encoding is kept. %{uri} is path and query.
 */
struct synth_request {
    struct slice host; /* host[:port] */
    struct slice path;
    struct slice query; /* without "?" */
    bool has_query;
    struct slice scheme; /* "http" or "https" */
};
/* A route's `return`. Expands %{host} %{path} %{query} %{scheme} %{uri}; other %{...} stay as they
 * are. For a URL: *ret_location is fit for a header field (control bytes, blanks, backslashes and
 * bytes beyond ASCII are percent-encoded; a URL that begins with a variable does not become
 * "//host"), with a short text as body; else *ret_location is empty. Without text: status >= 400
 * leaves all results empty (the caller answers as with an error of its own: synth_error()), others
 * say the status in words. 1xx, 204, 205 and 304 never have a body or a type. 0 or -ERR_NOMEM. */
int synth_return(struct arena *a, const struct conf_return *r, const struct synth_request *q,
                 struct slice *ret_location, struct slice *ret_body, struct slice *ret_type);

#endif
