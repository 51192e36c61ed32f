/* Access log: formats compiled once, records batched per log, written without ever blocking the
 * loop. */
#ifndef WORKER_LOG_ACCESS_H
#define WORKER_LOG_ACCESS_H

#include "config/config.h"
#include "worker/http/http.h"
#include "worker/io/link.h"

/* Everything a record can say. Filled by the stream; slices live until access_log() returns. Times
 * in microseconds, UINT64_MAX = did not happen. */
struct access_record {
    const struct http_request
        *req;          /* may be NULL: the head was malformed; then line holds what came */
    struct slice line; /* first line received, for malformed heads */
    const struct http_response *resp; /* the origin's head, or NULL */
    const struct conf_route *route;   /* NULL when none was found */
    struct slice client_ip, peer_ip;  /* client: after trusted_proxies and PROXY protocol */
    uint16_t client_port;
    const struct link *link; /* the client's, for what TLS knows; NULL or plain: nothing */
    struct slice listen;     /* listener's name */
    struct slice scheme;
    struct slice request_id;
    struct slice upstream; /* upstream's name or "" */
    struct slice server;   /* server that answered, or last tried */
    struct slice tried;    /* "a:80, b:80" when several */
    unsigned tries;
    bool reused;     /* pooled upstream connection */
    unsigned status; /* sent to the client, 0 = none */
    int reason;      /* enum err, 0 = normal end */
    int grpc_status; /* -1 = none */
    uint64_t bytes_in, bytes_out, body_out;
    uint64_t t_queue, t_connect, t_first_byte,
        t_total;            /* queue wait, connect, request sent -> first byte, whole */
    uint64_t conn_requests; /* nth request on its connection */
    struct slice cache;     /* what the cache did; .p NULL: the route has none */
    int64_t cache_age;      /* of what it gave, in seconds; -1: nothing */
    struct slice encoding;  /* what the body was encoded into here; .p NULL: nothing */
    uint64_t plain;         /* bytes of it before */
    int64_t wall_ms;        /* when the request head was complete */
};

struct access_logs;
/* Where the syslog daemon listens; tests put their own there before access_logs_new(). */
extern const char *access_syslog_path;
/* Compiles all [log] sections; fds[i] belongs to config.log[i] (opened by the master; -1 = syslog)
 * and is taken over (0 to 2 are never closed). Diagnostics for bad formats, statuses and facilities
 * (also used by preflight with fds NULL). The configuration is borrowed. -ERR_INVAL, -ERR_NOMEM. */
int access_logs_new(const struct config *c, struct conf_diags *d, const int *fds,
                    struct access_logs **ret);
void access_logs_free(struct access_logs **l); /* after one last attempt to write */
/* What %{worker} shows; 0 until then. */
void access_logs_set_worker(struct access_logs *l, unsigned number);
/* Appends one record to each log the route wants, after its conditions. Without a route: to those
 * of [defaults]. Reads clock_cached. Writes at once only when 32 KiB are full. */
void access_log(struct access_logs *l, const struct access_record *r);
/* Called by the loop: writes what is due. Returns milliseconds until the next flush is due, or -1
 * when all is empty. */
int access_logs_flush(struct access_logs *l, uint64_t now_ms, bool all);
/* New fds after a reopen (closes the old ones after flushing to them). -1 keeps the old one; syslog
 * connects anew. */
void access_logs_reopen(struct access_logs *l, const int *fds);
uint64_t access_logs_dropped(struct access_logs *l); /* since the last call */

#endif
