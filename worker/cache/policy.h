/* What RFC 9111 says about a request, an answer and a stored answer: may it be looked up, may it be
 * stored, how long is it fresh, may it be used now. Pure: the caller brings the time. */
#ifndef WORKER_CACHE_POLICY_H
#define WORKER_CACHE_POLICY_H

#include "worker/cache/vary.h"
#include "worker/http/cache_control.h"
#include "worker/http/cache_status.h"
#include "worker/http/conditions.h"

/* How long an answer of a status is fresh that says nothing itself. */
struct policy_ttl {
    uint16_t status;
    uint32_t seconds;
};

/* What the configuration of a route says. policy_rules_init gives the defaults. */
struct cache_rules {
    uint32_t methods; /* bits 1 << enum http_method of those answered from the store: GET and
                       * HEAD, perhaps QUERY */
    bool has_ttl;     /* ttl replaces what answers of status 2xx, 301 and 308 say of freshness */
    uint32_t ttl;     /* seconds */
    const struct policy_ttl *default_ttl;
    size_t ndefault_ttl;
    uint32_t heuristic; /* part of the time since the last modification, thousandths of a percent */
    uint32_t heuristic_max; /* seconds */
    uint32_t stale_while_revalidate,
        stale_if_error;    /* seconds, for answers that say nothing of it */
    uint32_t pass_ttl;     /* seconds that a key is remembered as not cacheable (hit-for-miss) */
    uint64_t max_object;   /* bytes of a body */
    uint32_t min_uses;     /* requests for a key before it is stored */
    uint32_t max_variants; /* of one key */
    bool client_control;   /* Cache-Control of requests counts */
    bool targeted;         /* RPD-Cache-Control, CDN-Cache-Control and Surrogate-Control count */
    bool strip_set_cookie; /* store answers with Set-Cookie, without it */
    unsigned codings;      /* VARY_BR ...: see vary.h */
    bool collapse;         /* requests for what is on its way wait for it */
    uint32_t collapse_ms;  /* how long, for its head */
    bool tell;             /* clients see Cache-Status */
    struct key_template key;
    struct key_rules key_rules;
};
void policy_rules_init(struct cache_rules *r);

/* ---- requests ---- */

/* Why something is not so; a word for logs and the detail of Cache-Status. */
#define POLICY_REASONS(X)                                                                          \
    X(NONE, "")                                                                                    \
    X(METHOD, "method")                                                                            \
    X(REQUEST_BODY, "request-body")                                                                \
    X(UPGRADE, "upgrade")                                                                          \
    X(REQUEST_NO_STORE, "request-no-store")                                                        \
    X(HEAD, "head")                                                                                \
    X(STATUS, "status")                                                                            \
    X(PARTIAL, "partial-content")                                                                  \
    X(NOT_UNDERSTOOD, "not-understood")                                                            \
    X(NO_STORE, "no-store")                                                                        \
    X(PRIVATE, "private")                                                                          \
    X(AUTHORIZATION, "authorization")                                                              \
    X(SET_COOKIE, "set-cookie")                                                                    \
    X(VARY, "vary")                                                                                \
    X(NOT_FRESH, "no-freshness")                                                                   \
    X(STREAM, "event-stream")                                                                      \
    X(TOO_LARGE, "too-large")
enum policy_reason {
#define POLICY_REASON(id, text) POLICY_##id,
    POLICY_REASONS(POLICY_REASON)
#undef POLICY_REASON
        POLICY__COUNT
};
const char *policy_reason_name(enum policy_reason r);
/* Whether the next answer for this key will likely be refused for the same reason, so that a
 * hit-for-miss marker saves its requests from waiting for each other. */
bool policy_reason_lasts(enum policy_reason r);

struct policy_request {
    struct cache_control cc;
    enum http_method method;
    unsigned conditions; /* bits of conditions_of */
    bool lookup;         /* may be answered from the store */
    bool store;          /* its answer may be stored */
    bool only_if_cached; /* not in the store: 504 (RFC 9111 5.2.1.7) */
    bool authorization, range;
    bool invalidates;          /* unsafe: see policy_invalidates */
    enum policy_reason reason; /* why not lookup, or not store */
};
void policy_request(const struct cache_rules *rules, const struct http_request *r,
                    struct policy_request *ret);
/* Fields of the client that a request made to fill the store goes without, as what comes must be
 * the whole answer and serve everybody. */
bool policy_fill_drops(const struct http_field *f);

/* ---- answers ---- */

/* What is remembered of an answer, in 16 bits. */
enum {
    POLICY_NO_CACHE = 1 << 0,        /* each use needs validation */
    POLICY_MUST_REVALIDATE = 1 << 1, /* never stale: must-revalidate, proxy-revalidate, s-maxage */
    POLICY_IMMUTABLE = 1 << 2,
    POLICY_SHARED = 1 << 3,    /* said to be for everybody: also for requests with
                                * Authorization (3.5) */
    POLICY_HEURISTIC = 1 << 4, /* freshness was guessed */
    POLICY_VALIDATOR = 1 << 5  /* has ETag or Last-Modified */
};
struct policy_stored {
    int64_t base;                                    /* second since 1970 at which its age was 0 */
    uint32_t lifetime;                               /* seconds of freshness */
    uint32_t stale_while_revalidate, stale_if_error; /* seconds from then on */
    uint16_t flags;
};
struct policy_times {
    int64_t requested, received; /* seconds since 1970: request sent, head of the answer there */
};
/* May this answer be stored (RFC 9111 3), and as what? POLICY_NONE: yes, *ret is set (when it is
 * not fresh at all it can be validated). Any other reason: no. The head is the server's, as
 * received. That the body was complete and is not larger than max_object is still the caller's to
 * see. */
enum policy_reason policy_response(const struct cache_rules *rules, const struct policy_request *q,
                                   const struct http_response *resp,
                                   const struct policy_times *times, struct policy_stored *ret);
/* Freshness and age alone, for the fields of a stored answer that a 304 has renewed. status: the
 * stored one. */
void policy_freshness(const struct cache_rules *rules, unsigned status,
                      const struct http_field *field, size_t n, const struct policy_times *times,
                      struct policy_stored *ret);
/* Validators of an answer with these fields, received then. */
void policy_validators(const struct http_field *field, size_t n, int64_t received,
                       struct conditions_validators *ret);

enum policy_field {
    POLICY_FIELD_KEEP,
    POLICY_FIELD_INTERNAL, /* stored, but not for clients: what surrogates are told */
    POLICY_FIELD_DROP      /* not stored (3.1) */
};
/* cc: of the answer. */
enum policy_field policy_field(const struct cache_rules *rules, const struct cache_control *cc,
                               const struct http_field *f);

/* ---- stored answers ---- */

enum policy_decision {
    POLICY_FRESH,                  /* serve */
    POLICY_STALE,                  /* serve: the client takes stale ones (max-stale) */
    POLICY_STALE_WHILE_REVALIDATE, /* serve, and validate in the background */
    POLICY_VALIDATE,               /* ask first, with its validators if it has any */
    POLICY_MISS                    /* as if it were not there */
};
struct policy_use {
    enum policy_decision decision;
    bool stale_if_error;       /* VALIDATE: serve it when the server fails (policy_is_failure) */
    bool gateway_timeout;      /* only-if-cached, and it cannot be served: 504 */
    uint32_t age;              /* for the Age field */
    int64_t ttl;               /* remaining freshness, negative when stale */
    enum cache_status_fwd fwd; /* why it is not simply served */
};
/* soft: it was purged softly and is stale whatever its age. */
void policy_use(const struct policy_request *q, const struct policy_stored *s, bool soft,
                int64_t now, struct policy_use *ret);
/* What counts as a failure of the server for stale-if-error (RFC 5861 4). 0: no answer at all. */
bool policy_is_failure(unsigned status);

#endif
