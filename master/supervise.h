/* Watching over children: deaths, their causes in the log, respawning with back-off, the watchdog.
 */
#ifndef MASTER_SUPERVISE_H
#define MASTER_SUPERVISE_H

#include "master/child.h"

void supervise_init(void); /* starts the look every second */
void supervise_reap(void); /* after SIGCHLD: everybody who ended */
void supervise_ready(struct child *c);

#endif
