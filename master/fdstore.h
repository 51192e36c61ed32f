/* systemd's descriptor store keeps the caches in memory over the death of the master and restarts
 * of the service: sd_notify(3) with FDSTORE=1, and back through LISTEN_FDS at the next start. */
#ifndef MASTER_FDSTORE_H
#define MASTER_FDSTORE_H

#include "base/slice.h"

#include <stdbool.h>

/* At the start of the first program, before anything is forked: what systemd kept for us becomes
 * caches (caches_restored); what cannot is logged, and closed. */
void fdstore_take(void);
/* Whether there is somebody to keep descriptors. */
bool fdstore_on(void);
/* Gives a cache's descriptor to be kept. False: it cannot be, which was logged. */
bool fdstore_put(struct slice name, int fd);
/* It need not be kept any longer. */
void fdstore_drop(struct slice name);

#endif
