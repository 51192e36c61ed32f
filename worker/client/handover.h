/* Connections handed from a draining worker to its successor: idle kept ones and quiet tunnels
 * change process with nothing lost, so that neither holds an old generation alive nor notices the
 * reload. Requests in progress are finished where they are. */
#ifndef WORKER_CLIENT_HANDOVER_H
#define WORKER_CLIENT_HANDOVER_H

#include "worker/client/client.h"

struct handover {
    struct io io; /* SOCK_SEQPACKET to the successor; fd -1 = none */
    struct clients *all;
    bool full; /* the successor is slow: go on when writable */
};
struct handover_in {
    struct io io; /* from a predecessor */
    struct clients *all;
    struct handover_in *next;
};

/* Draining side. fd becomes ours. */
int handover_open(struct handover *h, struct clients *cs, int fd);
void handover_close(struct handover *h);
/* Gives away what can be given now: each turn of a draining worker. */
void handover_send(struct handover *h);
/* Successor's side. fd becomes ours. -ERR_NOMEM, -ERR_SYS. */
int handover_accept(struct clients *cs, int fd);

#endif
