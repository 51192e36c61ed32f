/* rpctl cache warm: asks a running rpd for a list of URLs, so that it has them when clients come.
 */
#ifndef RPCTL_WARM_H
#define RPCTL_WARM_H

#include "base/slice.h"

struct warm {
    const char *file;         /* of URLs, one to a line; "-" is stdin */
    const char *const *field; /* "Name: value", sent with every request */
    int nfield;
    bool json;
};
/* address: as the master says it, IP:PORT or unix:/PATH. Prints what came of it; the exit code. */
int warm_run(const struct warm *w, struct slice address);

#endif
