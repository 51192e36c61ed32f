/* Binary upgrade: the master executes the new program in its own place, with the sockets, the
 * segment and the children of the old.
 *
 * The pid stays; so the old children remain our children. The new program gets a description of
 * everything (a memfd, see upgrade.c), starts a generation of its own with the configuration read
 * anew, and then drains the old one. If that first generation fails, the old children serve on and
 * the start is tried again every 10 s. */
#ifndef MASTER_UPGRADE_H
#define MASTER_UPGRADE_H

struct conn;

/* Checks the new program by letting it check the configuration, then becomes it. conn (may be NULL)
 * gets the verdict: a refusal from the old program, everything else from the new one. */
void upgrade_request(struct conn *conn);
void upgrade_conn_gone(const struct conn *conn);
/* In the new program: takes over what the memfd describes. -ERR_CORRUPT, -ERR_NOMEM. *ret_conn: the
 * caller, or NULL. */
int upgrade_inherit(int fd, struct conn **ret_conn);

#endif
