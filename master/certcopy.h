/* Copies in memory of the files of a certificate, for who has to have what was good before the
 * files were broken. The kernel copies: the master never has a key in its own memory, and no core
 * dump has it. */
#ifndef MASTER_CERTCOPY_H
#define MASTER_CERTCOPY_H

#include <stdbool.h>

/* Certificate, and key unless it is in the same file (-1); both -1: none. */
struct certcopy {
    int fd[2];
};
#define CERTCOPY_NONE ((struct certcopy){{-1, -1}})
static inline bool certcopy_is(const struct certcopy *c)
{
    return c->fd[0] >= 0;
}
/* Of open files, from their beginning. -ERR_SYS, -ERR_RANGE (larger than CERTDIR_FILE). */
int certcopy_make(const int from[2], struct certcopy *ret);
/* Descriptors for reading only, with which nobody can change the copy; as fd. -ERR_SYS. */
int certcopy_open(const struct certcopy *c, int ret[2]);
/* Overwrites the bytes. */
void certcopy_wipe(struct certcopy *c);

#endif
