/* A tunnel (after 101) that changes worker: described in bytes, left here, taken up there. */
#ifndef WORKER_STREAM_TUNNEL_H
#define WORKER_STREAM_TUNNEL_H

#include "worker/stream/stream.h"

/* Writes what the successor needs into out and the server's socket into *ret_fd (still ours).
 * Bytes, or -ERR_INVAL when the tunnel is not quiet (bytes are queued somewhere) or the description
 * does not fit. */
ssize_t tunnel_describe(const struct stream *s, char *out, size_t cap, int *ret_fd);
/* The successor has it: ends the exchange here without a log line and without ending the connection
 * to the server. */
void tunnel_leave(struct stream *s);
/* Takes a tunnel up in a new stream whose client is set. fd is ours only on success. -ERR_PROTO,
 * -ERR_NOMEM, -ERR_SYS. */
int tunnel_adopt(struct stream *s, const char *p, size_t n, int fd);

#endif
