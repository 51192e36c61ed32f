/* The life of a connection to a server outside of a request: opened, secured, pooled, reused,
 * closed. Between the files of this folder only. */
#ifndef WORKER_UPSTREAM_CONN_H
#define WORKER_UPSTREAM_CONN_H

#include "worker/upstream/up.h"

/* ---- up.c ---- */

static inline struct loop *up_loop(const struct up_conn *c)
{
    return c->server->group->all->loop;
}
/* the only place that changes c->state; the deadline is the caller's */
void up_set_state(struct up_conn *c, enum up_state st);
/* a state of a request, with its deadline */
void up_enter(struct up_conn *c, enum up_state st);
/* all of the request has gone */
void up_request_complete(struct up_conn *c);
/* closes, detaches, then tells the exchange */
void up_fail(struct up_conn *c, int err);
void up_on_timer(struct timer *t);

/* ---- conn.c ---- */

/* A new connection to the next address, UP_CONNECTING, on no list. NULL with *ret_err. */
struct up_conn *up_conn_open(struct up_server *s, int *ret_err);
/* A place on an HTTP/2 session, from the pool, in UP_CONNECTING. NULL: no memory. */
struct up_conn *up_conn_stream(struct up_server *s);
/* it carries a request from here */
void up_conn_busy(struct up_conn *c);
/* accounts, closes, buries; the exchange is not told */
void up_conn_close(struct up_conn *c);
/* how long it may stay idle, ms */
uint64_t up_conn_idle_ms(const struct up_conn *c);
/* the server ended it while it was idle */
void up_conn_note_idle_close(const struct up_conn *c);
/* n more (less) idle ones of this server */
void up_conn_count_idle(struct up_server *s, int32_t n);
/* a request was put on an open one */
void up_conn_count_reuse(struct up_server *s);
/* transferred bytes into the counters of the worker and the server */
void up_conn_account(struct up_conn *c);

#endif
