/* One HTTP/2 client connection, between its files: h2.c (bytes, deadlines, the connection's life),
 * h2_stream.c (exchanges: what clients ask and what they are sent). */
#ifndef WORKER_CLIENT_H2_H
#define WORKER_CLIENT_H2_H

#include "worker/client/client.h"
#include "worker/http/h2.h"
#include "worker/http/h2_queue.h"

enum client_h2_goodbye { H2_STAYS, H2_NOTICE, H2_LEAVES };
struct client_h2 {
    struct client *c;
    struct h2 *h;
    struct list dirty;   /* clients.dirty or dirty_later */
    struct list streams; /* struct client_h2_stream.node */
    struct list ready;   /* those whose exchange is to be given what has come */
    uint32_t nstreams;
    uint32_t nrunning;   /* streams whose exchange is not over */
    uint32_t own_points; /* misbehaviour where the address has no account */
    uint64_t abuse_key;
    uint64_t got, sent; /* bytes of the connection */
    uint32_t drains;    /* exchanges that were told to go on */
    uint64_t stalled;   /* bytes that came while ours were not taken */
    uint8_t goodbye;    /* enum client_h2_goodbye */
    uint8_t ncovered;
    char covered[64]; /* the host last found to be under the connection's certificate */
    bool failed;      /* its exchanges have been told */
    bool abusive;     /* its budget is used up, and that was said */
};
struct client_h2_stream {
    struct timer timer; /* for the request's body, or for the client to read */
    struct list node, ready;
    struct client_h2 *conn;
    struct stream *s;           /* NULL: the exchange is over */
    struct h2_queue in;         /* body bytes that the exchange does not want yet */
    struct http_field *trailer; /* in the exchange's arena */
    size_t ntrailer;
    struct client_body body;
    uint64_t blocked_sent; /* conn.sent when the wait for the client began */
    size_t blocked_queue;
    int32_t id;
    bool gone;      /* HTTP/2 knows the stream no more */
    bool in_end;    /* the client finished its side */
    bool end_given; /* and the exchange knows */
    bool out_end;   /* we finished ours */
    bool tunnel, head, blocked;
};

/* h2.c */

void client_h2_dirty(struct client_h2 *conn);
/* No more requests than the client could not know about. */
void client_h2_goodbye(struct client *c);

/* h2_stream.c */

extern const struct h2_events client_h2_events;
/* Gives what has come to those of conn->ready; uses the scratch buffer. */
void client_h2_deliver(struct client_h2 *conn);
/* Ends every exchange, tunnels only when asked to. How many. */
unsigned client_h2_end_all(struct client_h2 *conn, int err, bool tunnels);

#endif
