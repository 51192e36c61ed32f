/* Upstream groups as one worker runs them: servers with their addresses and idle connections, the
 * queue for a free server, and the accounting of each attempt in shared memory. Choosing is
 * balance.h's, a request at a server is up.h's. */
#ifndef WORKER_UPSTREAM_UPSTREAM_H
#define WORKER_UPSTREAM_UPSTREAM_H

#include "base/arena.h"
#include "config/config.h"
#include "shm/counter.h"
#include "shm/server.h"
#include "worker/io/link.h"
#include "worker/upstream/balance.h"

struct up_conn;
struct tls;
struct tls_client;
enum up_speaks { UP_SPEAKS_H1, UP_SPEAKS_H2, UP_SPEAKS_EITHER /* TLS, and ALPN decides */ };
struct up_server {
    const struct conf_server *conf;
    struct upstream *group;
    uint32_t id;         /* shm server id */
    uint32_t resolve_id; /* UINT32_MAX: a literal address */
    uint32_t resolve_version;
    struct addr_any *addr;
    uint32_t naddr, next_addr;
    struct server_row *row;
    struct list idle; /* struct up_conn.node, newest first */
    uint32_t nidle;
    struct tls_client *tls; /* NULL: plain */
    struct list sessions;   /* struct up_h2.node, oldest first */
    uint32_t h2_most;       /* streams at once, as its last session said; 0 = not known */
    uint64_t h1_until_ms;   /* EITHER: it chose HTTP/1.1 */
    uint64_t tls_logged_ms;
    enum up_speaks protocol;
};
struct upstream {
    const struct conf_upstream *conf;
    struct upstreams *all;
    struct balance_group balance;
    struct up_server *server;
    size_t n, words;   /* words of a `tried` set */
    struct list queue; /* struct up_waiter.link, oldest first */
    uint32_t queued;
    uint32_t wakes; /* places that became free in this turn */
    bool in_wake;
    struct list waking; /* on upstreams.waking while wakes > 0 */
    uint32_t queue_max, idle_share;
    bool named; /* some server has a name that is resolved while we run */
};
struct up_waiter {
    struct list link;
    /* off the queue when called; may queue itself again with front = true */
    void (*wake)(struct up_waiter *w);
    bool picky; /* does not take every server: those behind it may find a place where it does not */
};
struct upstreams {
    struct loop *loop;
    struct segment *segment;
    struct counter_row *ctr;
    struct gauge_row *gau;
    uint32_t slot;
    const int *kick_fd;
    struct upstream *group; /* by conf_upstream.id */
    size_t n;
    struct upstream removed; /* tunnels taken over whose server no configuration names any more */
    struct up_server removed_server;
    struct server_row removed_row;
    struct list waking;
    struct list busy;  /* struct up_conn.node with a request on them */
    struct list dirty; /* struct up_h2.dirty: with output, or to be looked at */
    struct pool conns, sessions;
    struct tls *tls;
    struct arena arena;
    bool closing; /* draining: nothing goes back to the pools */
};

struct upstreams_env {
    struct loop *loop;
    const struct config *config;
    struct segment *segment;
    uint32_t slot;
    const uint32_t *server_id, *resolve_id; /* all servers in configuration order */
    const int *kick_fd;
    struct tls *tls; /* NULL: no server has TLS */
    uint32_t workers;
};
int upstreams_init(struct upstreams *us, const struct upstreams_env *env);
/* every connection, idle or not; the exchanges are over */
void upstreams_close(struct upstreams *us);
void upstreams_fini(struct upstreams *us);
/* End of a turn: gives places that became free to those who wait; output of HTTP/2 sessions. */
void upstreams_turn(struct upstreams *us);
/* Another worker gave a place back (our eventfd was kicked). */
void upstreams_kicked(struct upstreams *us);
/* Closes idle connections: at most `most`, oldest first; returns how many. */
unsigned upstreams_trim(struct upstreams *us, unsigned most);

/* A server for a request: its index, or -ERR_QUEUE_FULL (all are full: queue or refuse),
 * -ERR_NO_SERVER. Balanced by upstream_done(). */
int upstream_pick(struct upstream *u, uint64_t key_hash, const uint64_t *tried, bool *ret_probe);
/* How the attempt on that server ended: 0 or an enum err; status: of its answer, 0 = none. */
void upstream_done(struct upstream *u, int index, int err, unsigned status);
/* Waits for a place. -ERR_QUEUE_FULL when the queue is full. */
int upstream_wait(struct upstream *u, struct up_waiter *w, bool front);
void upstream_unwait(struct upstream *u, struct up_waiter *w);
/* The next address of the server; false when its name has none. */
bool up_server_address(struct up_server *s, struct addr_any *ret);

#endif
