/* The built-in origin of `rpd --default`: a small process of its own that answers every request
 * with a page showing it as it arrived, so that the whole way through the proxy is used. */
#ifndef MASTER_WELCOME_H
#define MASTER_WELCOME_H

#include "master/ev.h"

#include <sys/types.h>

struct welcome {
    bool on;
    int fd; /* listening socket on an ephemeral port of the loopback, kept by the master */
    uint16_t port;
    pid_t pid; /* 0 = none */
    struct ev_timer again;
};
/* Opens the socket; the process is started by welcome_start(). -ERR_SYS. */
int welcome_open(struct welcome *w);
int welcome_adopt(struct welcome *w, int fd, pid_t pid);
void welcome_start(struct welcome *w);
void welcome_reaped(struct welcome *w, pid_t pid);
void welcome_stop(struct welcome *w);

#endif
