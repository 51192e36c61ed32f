/* Which route answers a request: host tables (exact, wildcard by labels, regex), then per-host path
 * tables. Compiled once per worker from the configuration; regexes through match.c (PCRE2). No
 * linear scan over hosts or prefix routes. */
#ifndef WORKER_STREAM_ROUTE_H
#define WORKER_STREAM_ROUTE_H

#include "config/config.h"

struct route_table;
struct buf;

/* Compiles; a regex that does not compile or a name that two hosts of a listener claim is a
 * diagnostic at its position (preflight uses this too). The configuration is borrowed and must
 * outlive the table. -ERR_INVAL, -ERR_NOMEM. */
int route_table_new(const struct config *c, struct conf_diags *d, struct route_table **ret);
void route_table_free(struct route_table **t);

struct route_query {
    const struct conf_listen *listen; /* NULL: the first */
    struct slice host; /* lower case, no port, no trailing dot; "" when the request has none */
    struct slice path; /* normalised */
    struct slice method;
};
/* The winning route, or -ERR_NO_HOST, -ERR_NO_ROUTE, -ERR_METHOD_REFUSED (a path matched but no
 * method, and the host itself has no upstream; *ret_allow lists the methods and is valid until the
 * next call), -ERR_INTERNAL (a regex went over its limits: nothing is let through on that account).
 * Precedence: CONFIG rule 3; among equals the order of conf_host.route. A route for GET answers
 * HEAD too. *ret may be a host's `self`; once the host is known it is that on errors also, for
 * error pages and the log; else NULL. */
int route_find(const struct route_table *t, const struct route_query *q,
               const struct conf_route **ret, struct slice *ret_allow);
/* The same, told step by step with file:line: for `rpctl explain`. */
void route_explain(const struct route_table *t, const struct route_query *q, struct buf *out);

#endif
