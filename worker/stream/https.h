/* What an exchange has to do with TLS: plain HTTP sent to https, the client's certificate, HSTS. */
#ifndef WORKER_STREAM_HTTPS_H
#define WORKER_STREAM_HTTPS_H

#include "worker/stream/stream.h"

/* For each host the TLS listener that serves it; made once per worker. -ERR_NOMEM. */
int https_init(struct stream_env *e);
void https_fini(struct stream_env *e);
/* The routed request came in plain and belongs to https: the status of the redirect and in
 * *ret_location where to; 0 it is fine here; -ERR_TLS_PLAIN, -ERR_NOMEM. Requests under
 * /.well-known/acme-challenge/ stay: authorities ask in plain (RFC 8555 8.3). */
int https_redirect(struct stream *s, struct slice *ret_location);
/* -ERR_CLIENT_CERT when the route wants a certificate and there is none that was verified. */
int https_check(const struct stream *s);
/* Value of Strict-Transport-Security (RFC 6797), .p NULL when none is due. */
struct slice https_hsts(struct stream *s);
/* What the server is told of the client's certificate, when the route says so. */
void https_forward(struct stream *s, struct forward_request *f);

#endif
