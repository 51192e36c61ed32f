/* What HTTP messages are made of, whatever the version: methods, fields, framing, and a parsed
 * head. No I/O. */
#ifndef WORKER_HTTP_HTTP_H
#define WORKER_HTTP_HTTP_H

#include "base/slice.h"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH,
    HTTP_TRACE,
    HTTP_CONNECT,
    HTTP_QUERY,
    HTTP_OTHER
};
enum http_method http_method_of(struct slice token); /* case-sensitive; HTTP_OTHER when unknown */
bool http_method_idempotent(enum http_method m);     /* RFC 9110 9.2.2; OTHER is not */
bool http_method_safe(enum http_method m);
struct slice http_status_text(unsigned status); /* "Not Found"; "" when unknown */

enum { FIELD_HOP = 1, FIELD_OWN = 2, FIELD_NOMINATED = 4 /* named by Connection: not forwarded */ };
enum http_field_id {
    FIELD_UNKNOWN = 0,
#define FIELD(id, name, flags) FIELD_##id,
#include "worker/http/field.def"
#undef FIELD
    FIELD__COUNT
};
struct http_field {
    struct slice name, value; /* as received; value without surrounding OWS */
    uint8_t id;               /* enum http_field_id */
    uint8_t flags; /* of the table, or FIELD_NOMINATED; an unknown name that reads like one of the
                    * table once "_" is taken for "-" (CGI does that) is FIELD_OWN or FIELD_HOP when
                    * that one is written by the proxy */
};
/* In any case of letters: length and a byte choose the only candidate, one comparison follows. */
uint8_t http_field_id_of(struct slice name);
uint8_t http_field_flags(uint8_t id);
struct slice http_field_name(uint8_t id); /* in lower case; empty: FIELD_UNKNOWN */
bool http_is_token(struct slice s);
/* What each byte may be part of. */
extern const unsigned char http_class[256];
enum {
    HTTP_CLASS_TOKEN = 1, /* tchar (RFC 9110 5.6.2) */
    HTTP_CLASS_VALUE = 2, /* HTAB, SP, VCHAR, obs-text */
    HTTP_CLASS_URI = 4,   /* what a request target may hold: no SP, control byte, DEL, "#"; raw 0x80
                             and above pass */
    HTTP_CLASS_HOST = 8,  /* reg-name without "%" and ",", which servers read differently */
    HTTP_CLASS_UNRESERVED = 16 /* RFC 3986 2.3 */
};
static inline bool http_is(char c, unsigned char classes)
{
    return (http_class[(unsigned char)c] & classes) != 0;
}

enum http_framing {
    HTTP_BODY_NONE,   /* no body at all */
    HTTP_BODY_LENGTH, /* content_length bytes; 0 when "Content-Length: 0" was sent */
    HTTP_BODY_CHUNKED,
    HTTP_BODY_CLOSE /* answers only: until the connection closes */
};
#define HTTP_FIELDS_MAX 1000u

enum http_target_form { HTTP_TARGET_ORIGIN, HTTP_TARGET_ABSOLUTE, HTTP_TARGET_ASTERISK };
struct http_request {
    enum http_method method;
    struct slice method_text;
    struct slice target; /* as received */
    enum http_target_form form;
    struct slice path;  /* "/a/b" as received (percent-encoding kept); "*" for asterisk form */
    struct slice query; /* without "?"; .p NULL when there is none */
    bool has_query;
    struct slice
        host; /* host without port, as received ("[::1]" with its brackets; "" when HTTP/1.0 had
               * none); from the absolute form when that is used (RFC 9112 3.2.2) */
    struct slice authority; /* host[:port] as it will be forwarded */
    uint16_t port;          /* 0 = none given */
    uint8_t major;          /* 2: HTTP/2; else HTTP/1 */
    uint8_t minor;          /* HTTP/1.minor; 0 or 1; 1 with HTTP/2 (what HTTP/1.1 can do, it can) */
    bool keep_alive;        /* client wants the connection to persist */
    bool expect_continue;
    bool te_trailers;
    bool has_upgrade; /* Connection: upgrade and an Upgrade field, HTTP/1.1 */
    struct slice upgrade;
    enum http_framing framing;
    uint64_t content_length;
    struct http_field *field;
    size_t nfield;
    size_t head_size; /* bytes of the head including the empty line */
};
struct http_response {
    unsigned status;
    struct slice reason;
    uint8_t major; /* as of a request */
    uint8_t minor;
    bool keep_alive;      /* the connection may be reused after the body */
    uint32_t keepalive_s; /* Keep-Alive: timeout=N; 0 = not said */
    bool has_upgrade;
    struct slice upgrade;
    enum http_framing framing;
    bool has_length; /* content_length was sent (also on HEAD and 304) */
    uint64_t content_length;
    bool event_stream; /* Content-Type: text/event-stream or X-Accel-Buffering: no */
    struct http_field *field;
    size_t nfield;
    size_t head_size;
};

#endif
