/* HTTP/1 on a connection to a server. Between the files of this folder only. */
#ifndef WORKER_UPSTREAM_H1_H
#define WORKER_UPSTREAM_H1_H

#include "worker/upstream/up.h"

extern const struct up_proto up_h1;

/* connected, and secured where that is due: its request goes out */
void up_h1_connected(struct up_conn *c);
/* its socket is ready while a request is on it */
void up_h1_event(struct up_conn *c);
/* Said the server nothing (new TLS tickets aside) while the connection was idle? */
bool up_h1_quiet(struct up_conn *c);

#endif
