/* Log files: opened by the master (as root), inherited by workers, opened again after rotation.
 * Shared by path. */
#ifndef MASTER_LOGFILE_H
#define MASTER_LOGFILE_H

#include "base/list.h"
#include "config/config.h"

struct logfile {
    struct list link;
    char *path;
    int fd;
    unsigned refs;
};

/* Opens (or shares) path. "stdout" and "stderr" are 1 and 2; syslog is -1 in *ret_fd. 0 or -ERR_SYS
 * with errno, -ERR_NOMEM. */
int logfile_open(struct list *files, struct slice path, int *ret_fd);
void logfile_release(struct list *files, struct slice path);
int logfile_fd(const struct list *files, struct slice path);
/* All [log] sections of c into ret_fd[conf_log.id]. On failure nothing is held and a diagnostic
 * names the line. -ERR_INVAL. */
int logfile_open_all(struct list *files, const struct config *c, struct conf_diags *d, int *ret_fd);
void logfile_release_all(struct list *files, const struct config *c);
/* Opens every file anew; one that cannot be opened keeps its old descriptor and is named in out.
 * Old descriptors are closed, so every user takes the new ones with logfile_fd() at once. Returns
 * the number that failed. */
unsigned logfile_reopen(struct list *files, struct buf *out);

#endif
