/* Sockets towards clients and servers. */
#ifndef WORKER_IO_SOCK_H
#define WORKER_IO_SOCK_H

#include "base/addr.h"

/* Begins a connection, non-blocking, CLOEXEC, TCP_NODELAY. The fd; *ret_done says whether it is
 * connected already (unix sockets). -ERR_FD_LIMIT, -ERR_CONNECT_REFUSED, -ERR_CONNECT_FAILED. */
int sock_connect(const struct addr_any *to, bool *ret_done);
/* After writability: 0 when connected, else -ERR_CONNECT_REFUSED or -ERR_CONNECT_FAILED. */
int sock_connect_result(int fd);
/* One connection: fd, CLOEXEC and non-blocking; -ERR_AGAIN none waiting, -ERR_FD_LIMIT, -ERR_SYS
 * (try the next one). *ret_peer: family AF_UNIX for unix peers. */
int sock_accept(int listener, union addr *ret_peer);
/* Of a connection that ended: can the peer have read anything behind the first `before` bytes we
 * sent? True when its TCP acknowledged none of it; false for unix sockets, which cannot tell. */
bool sock_unread(int fd, uint64_t before);
/* Bytes that the peer's TCP has acknowledged, the SYN included; 0 where that is not known (unix
 * sockets). */
uint64_t sock_acked(int fd);
/* Has the peer of an idle connection closed it or sent something? One recv(MSG_PEEK). */
bool sock_idle_alive(int fd);

#endif
