/* The worker's door for the master: what runs in a child after fork, and the messages between the
 * two. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "config/certdir.h"
#include "config/config.h"
#include "shm/cache_promote.h"
#include "shm/segment.h"

enum worker_role { WORKER_SERVE, WORKER_HELPER };

struct worker_socket { /* one listening socket */
    int fd;
    /* Number of the worker that accepts from it; the others only while they cover for that one. */
    uint32_t owner;
    const struct conf_listen *listen;
    const struct conf_address *address;
};
struct worker_promote { /* a cache that takes the place of an old one */
    struct cache *from; /* NULL: it does not. The helper closes it when nobody uses it any more */
    const struct cache_promote_base *base;
};
struct worker_boot {
    enum worker_role role;
    uint32_t number; /* within the generation */
    uint32_t generation;
    uint32_t slot;
    struct segment *segment;
    const struct config *config;
    /* shm server id of each server, upstream by upstream, in config order */
    const uint32_t *server_id;
    const uint32_t *resolve_id; /* the same order; UINT32_MAX for literals */
    const uint32_t *series_id;  /* by conf_route.id */
    const uint32_t *cert_id;    /* shm row of each certificate section, by conf_certificate.id */
    struct cache *const *cache; /* by conf_cache.id; never NULL entries */
    const int *persist_fd;      /* by conf_cache.id: the directory it is kept in, or -1; helper */
    const struct worker_promote *promote; /* by conf_cache.id, of the helper */
    bool respawned; /* takes the place of a dead one: must start if it can at all */
    struct worker_socket *sock;
    size_t nsock;
    const int *log_fd;  /* by conf_log.id */
    const int *kick_fd; /* eventfd of each slot [SHM_SLOTS]: kick_fd[slot] is ours */
    int channel;        /* SOCK_SEQPACKET to the master */
    uid_t uid;          /* to drop to; (uid_t)-1 = stay */
    gid_t gid;
};
/* Runs until told to stop; returns the exit status. Called right after fork in the child. */
int worker_run(struct worker_boot *b);
/* The deep checks of preflight and `rpd -t`: regexes, log formats, ... Diagnostics into d. 0 or
 * -ERR_INVAL. */
int worker_check(const struct config *c, struct conf_diags *d);
/* Text for `rpctl explain`: METHOD URL, optional client address and listener. */
int worker_explain(const struct config *c, struct slice method, struct slice url, struct slice from,
                   struct buf *out);
/* Features and library versions for `rpd -V`, one "name version" per line. */
void worker_features(struct buf *out);

/* Messages. M_ = master to worker, W_ = worker to master. */
enum worker_msg {
    M_ACCEPT = 1, /* start accepting */
    M_DRAIN, /* payload struct worker_drain: stop accepting, finish, exit 0; one fd (optional): the
                channel to the successor, which takes idle connections and tunnels. Once more while
                draining: a newer successor */
    M_STOP,  /* end now: close everything, exit 0 */
    /* payload struct worker_reopen; fds: the error log's (perhaps), then log fds in order of
       conf_log.id. Several, when one message cannot carry all */
    M_REOPEN,
    M_LOG_LEVEL, /* payload struct worker_log_level */
    M_QUERY,     /* payload struct worker_query: answer with W_REPLY messages */
    /* fds: channels over which predecessors hand their idle connections and tunnels */
    M_ADOPT,
    M_COVER, /* payload struct worker_cover: accept from these workers' sockets too, no others */
    /* payload struct worker_cert; fds: certificate, and key unless it is in the same file; or an
       OCSP answer. Changed files, or those of W_CERT_OPEN: with text the last good ones of a pair,
       whose files are as text says. */
    M_CERT_FILES,
    /* payload struct worker_cert: the entry has gone from its directory, or text says why its files
       cannot be opened */
    M_CERT_GONE,
    M_RECODE,     /* payload struct worker_recode, to the helper: make this copy anew */
    W_READY = 64, /* contexts built, privileges dropped */
    W_FAILED,     /* payload: text; exits after it */
    W_REPLY,      /* payload: struct worker_reply followed by text */
    W_DRAINED,    /* nothing left; about to exit */
    /* payload struct worker_cert: open this entry of a directory for me; name "": the pair's files
       cannot be used (text), what were the last good ones? */
    W_CERT_OPEN,
    W_CERT_RESULT, /* payload struct worker_cert: what became of the files of a M_CERT_FILES */
    W_PROMOTED,    /* payload struct worker_promoted: how far the helper is with an old cache */
    W_RECODE       /* payload struct worker_recode: this copy is asked for often; for the helper */
};
struct worker_promoted {
    uint32_t cache;          /* conf_cache.id */
    uint8_t copied;          /* all that lay there at the beginning has been seen */
    uint8_t full;            /* not all had room */
    uint8_t ended;           /* nobody uses the old one any more, nor does the helper */
    uint64_t objects, bytes; /* copied */
    uint64_t left;           /* records still to be seen */
};
struct worker_drain {
    uint64_t request_ms, tunnel_ms; /* time left to each */
    uint8_t stopping;               /* the whole service stops */
};
struct worker_cover {
    uint64_t number[SHM_SLOTS / 64]; /* a bit per worker */
};
struct worker_reopen {
    int32_t error_log; /* 1 = first fd is the error log */
    int32_t nlog;
    int8_t
        has[256]; /* has[i] = 1: an fd for conf_log i follows, in order; others stay as they are */
};
struct worker_log_level {
    uint32_t level;  /* enum log_level */
    uint64_t for_ms; /* 0 = until changed */
};
#define WORKER_CERT_OCSP UINT32_MAX
struct worker_cert {
    uint32_t certificate;    /* index in config.certificate */
    uint32_t pair;           /* number of an explicit pair, or WORKER_CERT_OCSP; name is "" */
    uint32_t serial;         /* of the change; echoed; 0: the worker asked */
    int32_t ok;              /* W_CERT_RESULT */
    char name[CERTDIR_NAME]; /* entry of the section's directory; "" for a pair */
    char text[256];          /* what is wrong */
};
struct worker_recode {
    uint32_t cache;  /* index in config.cache */
    uint8_t coding;  /* 1 + enum conf_coding */
    uint8_t zero[3];
    uint64_t k0, k1; /* key of the answer that it is a copy of */
};
enum worker_query_kind { WQ_CONNS = 1, WQ_POOLS = 2, WQ_STATE = 3, WQ_CERTS = 4 };
struct worker_query {
    uint32_t id; /* echoed */
    uint32_t kind;
    uint32_t limit; /* most rows */
    uint32_t json;
    char filter[256]; /* of WQ_CERTS: part of a name; "" = all */
};
struct worker_reply {
    uint32_t id;
    uint32_t more; /* 1 = further messages follow */
};

#endif
