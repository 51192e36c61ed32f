/* The life of a connection to a server outside of a request: opened, pooled, reused, closed.
 * Between h1.c and conn.c only. */
#ifndef WORKER_UPSTREAM_CONN_H
#define WORKER_UPSTREAM_CONN_H

#include "worker/upstream/h1.h"

/* accounts, closes, buries; the exchange is not told */
void up_conn_close(struct up_conn *c);
/* the server closed, or spoke out of turn on, an idle connection */
void up_conn_idle_closed(struct up_conn *c);
/* the only place that changes c->state; the deadline is the caller's */
void up_set_state(struct up_conn *c, enum up_state st);
void up_on_event(struct io *io);
void up_on_timer(struct timer *t);

#endif
