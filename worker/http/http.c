/* Methods, status texts, byte classes and known field names: the vocabulary of http.h. */
#include "worker/http/http.h"

#define HTTP_NAME_MAX 24u   /* room for the longest known field name; unit test checks it */

const unsigned char http_class[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0, /* 0x00 */
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, /* 0x10 */
     2, 15,  6,  3, 15,  7, 15, 15, 14, 14, 15, 15,  6, 31, 31,  6, /* 0x20 */
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31,  6, 14,  6, 14,  6,  6, /* 0x30 */
     6, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, /* 0x40 */
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31,  6,  6,  6,  7, 31, /* 0x50 */
     7, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, /* 0x60 */
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31,  6,  7,  6, 31,  0, /* 0x70 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0x80 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0x90 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xa0 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xb0 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xc0 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xd0 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xe0 */
     6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6, /* 0xf0 */
};

enum http_method http_method_of(struct slice t)
{
#define IS(literal, m) (memcmp(t.p, literal, sizeof(literal) - 1) == 0 ? (m) : HTTP_OTHER)
    switch (t.n) {
    case 3:
        return t.p[0] == 'G' ? IS("GET", HTTP_GET) : IS("PUT", HTTP_PUT);
    case 4:
        return t.p[0] == 'P' ? IS("POST", HTTP_POST) : IS("HEAD", HTTP_HEAD);
    case 5:
        if (t.p[0] == 'P')
            return IS("PATCH", HTTP_PATCH);
        return t.p[0] == 'T' ? IS("TRACE", HTTP_TRACE) : IS("QUERY", HTTP_QUERY);
    case 6:
        return IS("DELETE", HTTP_DELETE);
    case 7:
        return t.p[0] == 'O' ? IS("OPTIONS", HTTP_OPTIONS) : IS("CONNECT", HTTP_CONNECT);
    default:
        return HTTP_OTHER;
    }
#undef IS
}

bool http_method_safe(enum http_method m)
{
    switch (m) {
    case HTTP_GET:
    case HTTP_HEAD:
    case HTTP_OPTIONS:
    case HTTP_TRACE:
    case HTTP_QUERY:
        return true;
    case HTTP_POST:
    case HTTP_PUT:
    case HTTP_DELETE:
    case HTTP_PATCH:
    case HTTP_CONNECT:
    case HTTP_OTHER:
        return false;
    }
    return false;
}

bool http_method_idempotent(enum http_method m)
{
    return m == HTTP_PUT || m == HTTP_DELETE || http_method_safe(m);
}

struct slice http_status_text(unsigned status)
{
    switch (status) {
    case 100: return SLICE("Continue");
    case 101: return SLICE("Switching Protocols");
    case 102: return SLICE("Processing");
    case 103: return SLICE("Early Hints");
    case 200: return SLICE("OK");
    case 201: return SLICE("Created");
    case 202: return SLICE("Accepted");
    case 203: return SLICE("Non-Authoritative Information");
    case 204: return SLICE("No Content");
    case 205: return SLICE("Reset Content");
    case 206: return SLICE("Partial Content");
    case 207: return SLICE("Multi-Status");
    case 208: return SLICE("Already Reported");
    case 226: return SLICE("IM Used");
    case 300: return SLICE("Multiple Choices");
    case 301: return SLICE("Moved Permanently");
    case 302: return SLICE("Found");
    case 303: return SLICE("See Other");
    case 304: return SLICE("Not Modified");
    case 305: return SLICE("Use Proxy");
    case 307: return SLICE("Temporary Redirect");
    case 308: return SLICE("Permanent Redirect");
    case 400: return SLICE("Bad Request");
    case 401: return SLICE("Unauthorized");
    case 402: return SLICE("Payment Required");
    case 403: return SLICE("Forbidden");
    case 404: return SLICE("Not Found");
    case 405: return SLICE("Method Not Allowed");
    case 406: return SLICE("Not Acceptable");
    case 407: return SLICE("Proxy Authentication Required");
    case 408: return SLICE("Request Timeout");
    case 409: return SLICE("Conflict");
    case 410: return SLICE("Gone");
    case 411: return SLICE("Length Required");
    case 412: return SLICE("Precondition Failed");
    case 413: return SLICE("Content Too Large");
    case 414: return SLICE("URI Too Long");
    case 415: return SLICE("Unsupported Media Type");
    case 416: return SLICE("Range Not Satisfiable");
    case 417: return SLICE("Expectation Failed");
    case 421: return SLICE("Misdirected Request");
    case 422: return SLICE("Unprocessable Content");
    case 423: return SLICE("Locked");
    case 424: return SLICE("Failed Dependency");
    case 425: return SLICE("Too Early");
    case 426: return SLICE("Upgrade Required");
    case 428: return SLICE("Precondition Required");
    case 429: return SLICE("Too Many Requests");
    case 431: return SLICE("Request Header Fields Too Large");
    case 451: return SLICE("Unavailable For Legal Reasons");
    case 500: return SLICE("Internal Server Error");
    case 501: return SLICE("Not Implemented");
    case 502: return SLICE("Bad Gateway");
    case 503: return SLICE("Service Unavailable");
    case 504: return SLICE("Gateway Timeout");
    case 505: return SLICE("HTTP Version Not Supported");
    case 506: return SLICE("Variant Also Negotiates");
    case 507: return SLICE("Insufficient Storage");
    case 508: return SLICE("Loop Detected");
    case 511: return SLICE("Network Authentication Required");
    default: return SLICE("");
    }
}

static const struct {
    char name[HTTP_NAME_MAX];
    uint8_t flags;
} http_field_table[FIELD__COUNT] = {
#define FIELD(id, text, fl) [FIELD_##id] = {text, fl},
#include "worker/http/field.def"
#undef FIELD
};

uint8_t http_field_flags(uint8_t id)
{
    return id < FIELD__COUNT ? http_field_table[id].flags : 0;
}

static inline uint64_t http_load64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t http_load32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Zero when the words are equal but for the case of letters. `lower` holds lower-case letters, digits and "-": of these only
 * letters have bit 0x40, and only there may bit 0x20 differ. */
static inline uint64_t http_diff(uint64_t any, uint64_t lower)
{
    return (any ^ lower) & ~((lower & 0x4040404040404040u) >> 1);
}

/* n >= 2 bytes at p against the lower-case name; words overlap instead of a tail loop. */
static inline bool http_name_is(const char *p, size_t n, const char *lower)
{
    if (n >= 8) {
        uint64_t d = http_diff(http_load64(p + n - 8), http_load64(lower + n - 8));
        for (size_t i = 0; i + 8 < n; i += 8)
            d |= http_diff(http_load64(p + i), http_load64(lower + i));
        return d == 0;
    }
    if (n >= 4)
        return (http_diff(http_load32(p), http_load32(lower)) |
                http_diff(http_load32(p + n - 4), http_load32(lower + n - 4))) == 0;
    uint64_t d = 0;
    for (size_t i = 0; i < n; i++)
        d |= http_diff((unsigned char)p[i], (unsigned char)lower[i]);
    return d == 0;
}

/* The only known name of this length and with this byte; FIELD_UNKNOWN when there is none. */
static enum http_field_id http_field_candidate(const char *p, size_t n)
{
#define AT(i) (p[i] | 0x20)
    switch (n) {
    case 2:
        return FIELD_TE;
    case 3:
        return FIELD_VIA;
    case 4:
        return AT(0) == 'h' ? FIELD_HOST : FIELD_DATE;
    case 5:
        return FIELD_PROXY;
    case 6:
        return AT(0) == 'c' ? FIELD_COOKIE : AT(0) == 'e' ? FIELD_EXPECT : FIELD_SERVER;
    case 7:
        return AT(0) == 'r' ? FIELD_REFERER : AT(0) == 't' ? FIELD_TRAILER : FIELD_UPGRADE;
    case 9:
        return AT(0) == 'f' ? FIELD_FORWARDED : FIELD_X_REAL_IP;
    case 10:
        return AT(0) == 'u' ? FIELD_USER_AGENT : AT(0) == 'c' ? FIELD_CONNECTION : FIELD_KEEP_ALIVE;
    case 11:
        return FIELD_RETRY_AFTER;
    case 12:
        return AT(0) == 'c' ? FIELD_CONTENT_TYPE : AT(0) == 'm' ? FIELD_MAX_FORWARDS : FIELD_X_REQUEST_ID;
    case 13:
        return AT(0) == 'c' ? FIELD_CACHE_CONTROL : FIELD_AUTHORIZATION;
    case 14:
        return AT(0) == 'c' ? FIELD_CONTENT_LENGTH : FIELD_HTTP2_SETTINGS;
    case 15:
        return FIELD_X_FORWARDED_FOR;
    case 16:
        return AT(0) == 'p' ? FIELD_PROXY_CONNECTION : AT(12) == 'h' ? FIELD_X_FORWARDED_HOST : FIELD_X_FORWARDED_PORT;
    case 17:
        return AT(0) == 't' ? FIELD_TRANSFER_ENCODING : AT(2) == 'f' ? FIELD_X_FORWARDED_PROTO : FIELD_X_ACCEL_BUFFERING;
    case 18:
        return FIELD_PROXY_AUTHENTICATE;
    case 19:
        return FIELD_PROXY_AUTHORIZATION;
    default:
        return FIELD_UNKNOWN;
    }
#undef AT
}

uint8_t http_field_id_of(struct slice name)
{
    enum http_field_id id = http_field_candidate(name.p, name.n);
    if (id == FIELD_UNKNOWN || !http_name_is(name.p, name.n, http_field_table[id].name))
        return FIELD_UNKNOWN;
    return (uint8_t)id;
}

bool http_is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!http_is(s.p[i], HTTP_CLASS_TOKEN))
            return false;
    }
    return s.n > 0;
}
