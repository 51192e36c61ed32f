/* What the master does for each command of rpctl. */
#ifndef MASTER_VERBS_H
#define MASTER_VERBS_H

#include "master/control.h"

struct generation;

void verbs_run(struct conn *c); /* c->verb with c->req: allowed, number of arguments checked */
void verbs_conn_gone(const struct conn *c);

/* verbs_status.c */
void verbs_status(struct conn *c);
/* 0, PROTO_DEGRADED or PROTO_CRITICAL; one line per reason into out (may be NULL).
 * certificates: theirs too, which no waiting mends. */
uint32_t verbs_health(struct buf *out, bool certificates);
/* verbs_cache.c */
void verbs_cache(struct conn *c);
void verbs_cache_conn_gone(const struct conn *c);
/* A child that walks over a cache has not ended yet. */
bool verbs_cache_busy(void);
/* verbs_upstream.c */
void verbs_upstream(struct conn *c);
void verbs_server(struct conn *c);
/* May any server of the upstream get requests? */
bool verbs_upstream_usable(const struct generation *g, size_t upstream);
/* Position of the first server of an upstream in the generation's list of ids. */
size_t verbs_first_server(const struct generation *g, size_t upstream);

#endif
