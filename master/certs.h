/* Certificate files: the master looks whether they change and opens for the workers what these may
 * not read. It never looks into them. */
#ifndef MASTER_CERTS_H
#define MASTER_CERTS_H

#include "master/generation.h"

/* From now on the files of this generation, which has just become the live one, are watched, and
 * those of no other. */
void certs_begin(const struct generation *g);
void certs_end(void); /* of the program */
/* W_CERT_OPEN and W_CERT_RESULT. */
void certs_message(struct child *c, const struct msg *m);

#endif
