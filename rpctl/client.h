/* One command to the master: connect, send, relay the answer to stdout and stderr. */
#ifndef RPCTL_CLIENT_H
#define RPCTL_CLIENT_H

#include "rpctl/proto.h"

/* Connects to path, or without one (NULL) to the first place where a master answers. fd; -ERR_NOENT
 * when nobody listens, -ERR_SYS with errno otherwise (EACCES: no permission). The place used is
 * left in ret_path. */
int client_connect(const char *path, char ret_path[108]);
/* Sends the request and copies what comes back: to stdout and stderr, or into *ret_out if given.
 * Returns the exit code; PROTO_TIMEOUT when no verdict came in timeout_ms (0 = none) or the master
 * went silent. Closes fd. */
int client_call(int fd, const struct proto_request *r, uint32_t timeout_ms, struct buf *ret_out);

#endif
