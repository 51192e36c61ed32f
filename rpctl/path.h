/* Where the control socket is when nobody says: the system's place, then the user's own. */
#ifndef RPCTL_PATH_H
#define RPCTL_PATH_H

#include <stdbool.h>

#define PATH_SYSTEM_SOCKET "/run/rpd.sock"
#define PATH_SIZE          108 /* of sockaddr_un */

/* The user's own directory for socket and pid file: $XDG_RUNTIME_DIR/rpd, or /tmp/rpd-UID. It must
 * be a directory of this user with mode 0700 (others could otherwise stand in for rpd). create
 * makes it. 0, -ERR_NOENT, -ERR_SYS; -ERR_INVAL: not ours. */
int path_runtime(bool create, char ret[PATH_SIZE]);
/* The socket for rpctl without -s: nth = 0, 1, 2 in the order in which they are tried. False when
 * there is no nth. */
bool path_socket(int nth, char ret[PATH_SIZE]);

#endif
