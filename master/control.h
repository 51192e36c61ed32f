/* The control socket: rpctl's connections, their rights, their requests and answers. Hostile or
 * slow peers cost a bounded buffer and a bounded time, never a wait. */
#ifndef MASTER_CONTROL_H
#define MASTER_CONTROL_H

#include "config/config.h"
#include "master/ev.h"
#include "rpctl/proto.h"
#include "rpctl/verb.h"

#include <sys/types.h>

#define CONTROL_CONNS    64u
#define CONTROL_OUT_MAX  ((size_t)16 << 20)
#define CONTROL_IDLE_MS  30000 /* to send a request, and to take a piece of the answer */
#define CONTROL_ALIVE_MS 5000  /* between signs of life while a command runs */

struct conn {
    struct ev ev;
    struct list link;
    struct list wait;    /* whatever the command waits in */
    enum verb_role role; /* VERB_LOCAL = nothing allowed */
    pid_t pid;
    uid_t uid;
    struct buf in, out;
    size_t sent;
    struct proto_request req; /* borrows from in */
    enum verb_id verb;
    bool running;  /* a command was begun */
    bool finished; /* its exit code is in out */
    struct ev_timer timer;
    uint64_t progress_ms; /* when the peer last sent or took something */
    /* `wait` */
    struct ev_timer deadline;
    enum { WAIT_GENERATION, WAIT_HEALTHY, WAIT_IDLE } wait_for;
    uint32_t wait_generation;
};

/* Binds and listens on master.socket_path. -ERR_SYS with errno. */
int control_open(void);
/* Takes an inherited listening socket. */
int control_adopt(int fd);
int control_fd(void);
/* Who may come in: groups of c, mode of the socket. */
void control_configure(const struct config *c);
/* Ends with what is left to be sent sent as far as the peers take it. */
void control_close(void);
/* A caller that waited through a binary upgrade: a connection whose command runs. NULL when memory
 * is out. */
struct conn *control_adopt_conn(int fd, uint32_t flags);
/* Takes the connection away without a word to the peer: its fd, for the upgrade. */
int control_conn_fd(const struct conn *c);

static inline bool conn_json(const struct conn *c)
{
    return (c->req.flags & PROTO_JSON) != 0;
}
/* Queues the answer; the connection ends when it is sent. out, err may be empty. */
void conn_finish(struct conn *c, uint32_t code, struct slice out, struct slice err);
/* One line: on stdout when code is 0, else on stderr; or {"v":1,"ok":...,"message":...}. */
void conn_say(struct conn *c, uint32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conn_usage(struct conn *c);
/* The verdict of a reload or upgrade: text is one or more lines. */
void conn_reload_verdict(struct conn *c, bool ok, uint32_t generation, uint64_t ms,
                         struct slice text);

#endif
