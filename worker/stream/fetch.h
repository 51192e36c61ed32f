/* The attempt at a server, between stream.c and fetch.c only. */
#ifndef WORKER_STREAM_FETCH_H
#define WORKER_STREAM_FETCH_H

#include "worker/stream/stream.h"

void fetch_begin(struct stream *s);
/* Gives up whatever the exchange holds of its upstream. err is the client's or our own fault, never
 * the server's. */
void fetch_cancel(struct stream *s, int err);
/* The answer with that status is complete: its connection goes back. */
void fetch_answered(struct stream *s, unsigned status);
/* The answer is not wanted after all. status: of it. */
void fetch_give_up(struct stream *s, unsigned status);
/* Asks anew, as if nobody had been asked, after fetch_give_up(). */
void fetch_restart(struct stream *s);
/* A tunnel from another worker: fd is the server's side, ours on success. */
int fetch_adopt(struct stream *s, int fd);
void fetch_on_timer(struct timer *t);
void fetch_on_wake(struct up_waiter *w);

void stream_set_state(struct stream *s, enum stream_state st);
void stream_over(struct stream *s, bool cut);
/* Counts and logs it: its client gets no more. */
void stream_settle(struct stream *s);
void stream_error(struct stream *s, int err);
/* A complete answer of our own. */
void stream_plain(struct stream *s, unsigned status, struct slice type, struct slice body);
const struct http_field *stream_field(const struct http_request *r, enum http_field_id id);

#endif
