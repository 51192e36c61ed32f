/* Heads that the proxy writes: the request as a server gets it, the answer as the client gets it
 * (RFC 9110 7.6). */
#ifndef WORKER_HTTP_FORWARD_H
#define WORKER_HTTP_FORWARD_H

#include "worker/http/http.h"

/* Bytes under construction in a fixed buffer; overflow is sticky and checked once. */
struct head_out {
    char *p;
    size_t n, cap;
    bool overflow;
};
/* Inline: of what is a literal at the caller the copy becomes a store or two. */
static inline void head_bytes(struct head_out *o, const char *p, size_t n)
{
    if (__builtin_expect(n > o->cap - o->n, 0)) {
        o->overflow = true;
        return;
    }
    if (n > 0)
        memcpy(o->p + o->n, p, n);
    o->n += n;
}
static inline void head_add(struct head_out *o, struct slice s)
{
    head_bytes(o, s.p, s.n);
}
void head_u64(struct head_out *o, uint64_t v);
void head_field(struct head_out *o, struct slice name, struct slice value);

struct forward_request {
    struct slice client_ip; /* text of the (possibly PROXY-conveyed) peer */
    struct slice scheme;    /* "http" or "https" */
    uint16_t listen_port;
    bool trusted; /* the peer is in trusted_proxies: its X-Forwarded-* and Forwarded are kept */
    bool forwarded, via;     /* write Forwarded; write Via */
    struct slice host;       /* Host to send; .p NULL = the request's authority */
    struct slice request_id; /* .p NULL = none; replaces X-Request-Id */
    struct slice target;     /* .p NULL = origin form of the request's own target */
    bool upgrade;            /* send Connection: upgrade and Upgrade */
    bool keep_alive; /* HTTP/1.1 to the server, persistent unless false (Connection: close) */
    enum http_framing framing; /* how the body will be sent: NONE, LENGTH, CHUNKED */
    uint64_t content_length;
    bool drop_expect; /* the 100-continue was answered here */
    /* What TLS says of the client's certificate, written when verify.p is not NULL (empty ones are
     * left out); der: base64 (RFC 9440). Never taken from clients that are not trusted. */
    struct {
        struct slice verify, subject, fingerprint, der;
    } cert;
    struct slice real_ip; /* what X-Real-IP says: the address a trusted chain conveys; .p NULL =
                           * client_ip, unless trusted and the field was sent */
};
/* Drops hop-by-hop and nominated fields and what the proxy writes itself; keeps order and spelling
 * of the rest. Host is always written, first; empty when there is no authority (HTTP/1.0) and
 * f->host is not given. Via says the version received. Nothing in f is checked for CR or LF: that
 * is its origin's job. Overflow: see o. Max-Forwards is left to the caller. Via loops are the
 * caller's to find: forward_via_count(). */
void forward_request_head(struct head_out *o, const struct http_request *r,
                          const struct forward_request *f);
/* Number of times our own pseudonym, "rpd", stands in Via. */
unsigned forward_via_count(const struct http_request *r);
/* The address a trusted chain conveys: walks X-Forwarded-For (or Forwarded) from the right past
 * trusted addresses. false when there is none; *ret points into the request (brackets and port
 * removed). An entry that is no address ends the walk. Call only when the peer itself is trusted.
 */
struct cidr;
bool forward_client_of(const struct http_request *r, const struct cidr *trusted, size_t ntrusted,
                       struct slice *ret_ip);

struct forward_response {
    unsigned status; /* as received unless changed */
    bool via, hide_server;
    enum http_framing framing; /* how the body goes to this client: NONE, LENGTH, CHUNKED, CLOSE */
    bool write_length; /* Content-Length is written (LENGTH, or HEAD/304 that carried one) */
    uint64_t content_length;
    bool close;              /* Connection: close */
    bool keep_alive;         /* Connection: keep-alive, for HTTP/1.0 clients that asked */
    bool upgrade;            /* 101: Connection: upgrade and Upgrade kept */
    struct slice request_id; /* .p NULL = none */
    struct slice hsts;  /* Strict-Transport-Security in place of the origin's; .p NULL = none */
    struct slice lines; /* more fields, whole lines; .p NULL = none */
};
/* Status line is HTTP/1.1 always (RFC 9112 2.3); the origin's reason is kept with its status. Adds
 * Date when the origin sent none (not to 1xx; date empty = never). */
void forward_response_head(struct head_out *o, const struct http_response *r,
                           const struct forward_response *f, struct slice date);

#endif
