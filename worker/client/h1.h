/* One HTTP/1 client connection, between its files: h1.c (events, heads, deadlines, the end of an
 * exchange), h1_body.c (what clients send behind a head), h1_answer.c (what they are sent). */
#ifndef WORKER_CLIENT_H1_H
#define WORKER_CLIENT_H1_H

#include "worker/client/client.h"

#define CLIENT_READ_BODY (128u * 1024u)
#define CLIENT_BUDGET    8 /* reads in one go before others get their turn */

static inline const struct conf_scope_keys *client_scope(const struct client *c)
{
    return c->stream && c->stream->scope ? c->stream->scope : NULL;
}

/* Bytes wait for the client to read. */
static inline bool client_backed_up(const struct client *c)
{
    return link_backlog(&c->link, &c->out) || (c->pipe && c->pipe->used) || c->more;
}

/* There is something to read that the exchange would take now. */
static inline bool client_wanted(const struct client *c)
{
    if (!c->stream || !stream_wants_body(c->stream))
        return false;
    return c->state == CLIENT_TUNNEL ? !c->eof : c->body && !c->body_done;
}

static inline void client_body_free(struct client *c)
{
    pool_put(&c->all->bodies, c->body);
    c->body = NULL;
}

/* h1.c */

/* The one place that decides which deadline runs. */
void client_rearm(struct client *c);
void client_h1_over(struct stream *s, bool cut);

/* h1_body.c */

void client_read_body(struct client *c);
void client_read_tunnel(struct client *c);
/* After stream_begin(): body bytes that came with the head. Returns the bytes used. */
size_t client_first_body(struct client *c, char *p, size_t n);

/* h1_answer.c */

/* client_process() is done with the connection: what has been gathered goes out. Returns as
 * link_send(). */
int client_flush(struct client *c);
int client_h1_send_pipe(struct stream *s, struct pipe *p, bool end);
void client_h1_tunnel(struct stream *s);

#endif
