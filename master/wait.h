/* rpctl wait: callers who return when something is so. */
#ifndef MASTER_WAIT_H
#define MASTER_WAIT_H

#include "master/control.h"

void wait_start(struct conn *c);
void wait_check(void); /* something changed: look at all of them */

#endif
