/* Unix sockets as files: binding where a dead process left one behind, and never stealing a living
 * one's. */
#ifndef MASTER_SOCKFILE_H
#define MASTER_SOCKFILE_H

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct sockfile_id {
    dev_t dev;
    ino_t ino; /* 0 = unknown */
};
/* A bound, non-blocking stream socket with this mode; -1 with errno (EADDRINUSE: somebody listens
 * there, or it is no socket). */
int sockfile_bind(const struct sockaddr_un *un, socklen_t len, mode_t mode,
                  struct sockfile_id *ret_id);
/* Removes the file if it is still the one that was bound. */
void sockfile_unlink(const char *path, const struct sockfile_id *id);

#endif
