/* Typed messages over a SOCK_SEQPACKET pair (master <-> child), with file descriptors. */
#ifndef BASE_MSG_H
#define BASE_MSG_H

#include <stddef.h>
#include <stdint.h>

#define MSG_MAX_PAYLOAD 65000
#define MSG_MAX_FDS     64

struct msg {
    uint32_t type;
    uint32_t len; /* payload bytes */
    int nfds;
    int fds[MSG_MAX_FDS]; /* received fds are the caller's to close; CLOEXEC */
    _Alignas(16) unsigned char payload[MSG_MAX_PAYLOAD]; /* read in place as the structs it holds */
};

int msg_pair(int ret_fd[2]); /* non-blocking, CLOEXEC */
/* 0, -ERR_AGAIN, -ERR_EOF (peer gone), -ERR_SYS. Fds stay the caller's. */
int msg_send(int fd, uint32_t type, const void *payload, size_t len, const int *fds, int nfds);
/* 0 and *m filled, -ERR_AGAIN, -ERR_EOF, -ERR_PROTO (truncated or short: fds were closed). */
int msg_recv(int fd, struct msg *m);

#endif
