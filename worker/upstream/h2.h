/* HTTP/2 towards servers: sessions, and requests as their streams. Between the files of this folder
 * only. */
#ifndef WORKER_UPSTREAM_H2_H
#define WORKER_UPSTREAM_H2_H

#include "worker/upstream/up.h"

extern const struct up_proto up_h2;
extern const size_t up_h2_size; /* of struct up_h2 */

/* A place on a session that is there or on its way; NULL when none has room. */
struct up_conn *up_h2_join(struct up_server *s, unsigned flags);
/* A place on a new session. NULL with *ret_err (negative). */
struct up_conn *up_h2_open(struct up_server *s, int *ret_err);

/* ---- of the connection that carries it ---- */

void up_h2_connected(struct up_h2 *h);
/* The server chose HTTP/1.1: those who wait go on with connections of their own. h is gone. */
void up_h2_declined(struct up_h2 *h);
/* It did not come about: all who wait fail with this positive enum err. h is gone. */
void up_h2_failed(struct up_h2 *h, int err);
void up_h2_event(struct up_h2 *h); /* h may be gone */
void up_h2_idle_over(struct up_h2 *h);

/* ---- up.c ---- */

/* The time of a request is up: a session that said nothing since it began may be dead, and gets no
 * more of them. */
void up_h2_late(struct up_conn *c);

/* ---- upstream.c ---- */

/* Output of all sessions that have some; closes those that have ended. */
void up_h2_turn(struct upstreams *us);
/* Closes at most `most` sessions of a server that carry no stream; returns how many. */
unsigned up_h2_trim(struct up_server *s, unsigned most);

#endif
