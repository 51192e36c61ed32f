/* Listening sockets: one SO_REUSEPORT socket per address and worker slot, owned by the master and
 * outliving every worker.
 *
 * A listener lives while a generation that may accept names its address (struct listener.refs).
 * Sockets are bound when a generation is made and start to listen only when it is about to accept:
 * until then no connection can land in a socket that nobody serves, and a generation that fails can
 * be taken back without losing one. The number of sockets never shrinks. */
#ifndef MASTER_LISTENER_H
#define MASTER_LISTENER_H

#include "base/list.h"
#include "config/config.h"
#include "master/sockfile.h"

struct listener {
    struct list link;
    char *text; /* canonical address, its identity */
    struct addr_any addr;
    bool is_unix;
    uint32_t backlog, mode; /* of the newest configuration that names it */
    uint32_t n, listening; /* sockets; the first `listening` of them listen with listened_backlog */
    uint32_t listened_backlog;
    int *fd;
    unsigned refs;
    bool held; /* inherited and not yet looked at by a configuration: counts as one reference */
    struct sockfile_id file; /* of the unix socket, so that only our own is removed */
};

/* Finds or binds the sockets of every address of c, for c->workers workers, and takes a reference
 * to each. On failure nothing changes and a diagnostic names the line. -ERR_INVAL, -ERR_NOMEM. */
int listener_open_all(struct list *listeners, const struct config *c, struct conf_diags *d);
/* Calls listen on what does not listen yet and applies backlog and mode. -ERR_SYS: *ret_text is the
 * address. */
int listener_listen_all(struct list *listeners, const struct config *c, const char **ret_text);
/* Gives c's references back; a listener without any is closed, and its unix socket file removed. */
void listener_release_all(struct list *listeners, const struct config *c);
struct listener *listener_find(const struct list *listeners, struct slice text);
/* An inherited one (binary upgrade), held, with room for n sockets. NULL when memory is out. Takes
 * text as a copy. */
struct listener *listener_adopt(struct list *listeners, struct slice text, uint32_t n);
/* Ends the hold on inherited listeners: those that no configuration names are closed. */
void listener_release_held(struct list *listeners);
/* At the end of the program: closes all, removes the files of unix sockets. */
void listener_close_all(struct list *listeners);

#endif
