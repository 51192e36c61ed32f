/* Methods, status texts, byte classes and known field names: the vocabulary of http.h. */
#include "worker/http/http.h"

#define HTTP_NAME_MAX 32u /* room for the longest known field name; unit test checks it */

/* clang-format off */
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
/* clang-format on */

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

/* clang-format off */
static const char *const http_status_table[500] = {
    [100 - 100] = "Continue",
    [101 - 100] = "Switching Protocols",
    [102 - 100] = "Processing",
    [103 - 100] = "Early Hints",
    [200 - 100] = "OK",
    [201 - 100] = "Created",
    [202 - 100] = "Accepted",
    [203 - 100] = "Non-Authoritative Information",
    [204 - 100] = "No Content",
    [205 - 100] = "Reset Content",
    [206 - 100] = "Partial Content",
    [207 - 100] = "Multi-Status",
    [208 - 100] = "Already Reported",
    [226 - 100] = "IM Used",
    [300 - 100] = "Multiple Choices",
    [301 - 100] = "Moved Permanently",
    [302 - 100] = "Found",
    [303 - 100] = "See Other",
    [304 - 100] = "Not Modified",
    [305 - 100] = "Use Proxy",
    [307 - 100] = "Temporary Redirect",
    [308 - 100] = "Permanent Redirect",
    [400 - 100] = "Bad Request",
    [401 - 100] = "Unauthorized",
    [402 - 100] = "Payment Required",
    [403 - 100] = "Forbidden",
    [404 - 100] = "Not Found",
    [405 - 100] = "Method Not Allowed",
    [406 - 100] = "Not Acceptable",
    [407 - 100] = "Proxy Authentication Required",
    [408 - 100] = "Request Timeout",
    [409 - 100] = "Conflict",
    [410 - 100] = "Gone",
    [411 - 100] = "Length Required",
    [412 - 100] = "Precondition Failed",
    [413 - 100] = "Content Too Large",
    [414 - 100] = "URI Too Long",
    [415 - 100] = "Unsupported Media Type",
    [416 - 100] = "Range Not Satisfiable",
    [417 - 100] = "Expectation Failed",
    [421 - 100] = "Misdirected Request",
    [422 - 100] = "Unprocessable Content",
    [423 - 100] = "Locked",
    [424 - 100] = "Failed Dependency",
    [425 - 100] = "Too Early",
    [426 - 100] = "Upgrade Required",
    [428 - 100] = "Precondition Required",
    [429 - 100] = "Too Many Requests",
    [431 - 100] = "Request Header Fields Too Large",
    [451 - 100] = "Unavailable For Legal Reasons",
    [500 - 100] = "Internal Server Error",
    [501 - 100] = "Not Implemented",
    [502 - 100] = "Bad Gateway",
    [503 - 100] = "Service Unavailable",
    [504 - 100] = "Gateway Timeout",
    [505 - 100] = "HTTP Version Not Supported",
    [506 - 100] = "Variant Also Negotiates",
    [507 - 100] = "Insufficient Storage",
    [508 - 100] = "Loop Detected",
    [511 - 100] = "Network Authentication Required",
};
/* clang-format on */

struct slice http_status_text(unsigned status)
{
    const char *text = status >= 100 && status < 600 ? http_status_table[status - 100] : NULL;
    return text != NULL ? slice_str(text) : SLICE("");
}

static const struct {
    char name[HTTP_NAME_MAX];
    uint8_t len, flags;
} http_field_table[FIELD__COUNT] = {
#define FIELD(id, text, fl) [FIELD_##id] = {text, sizeof(text) - 1, fl},
#include "worker/http/field.def"
#undef FIELD
};

uint8_t http_field_flags(uint8_t id)
{
    return id < FIELD__COUNT ? http_field_table[id].flags : 0;
}

struct slice http_field_name(uint8_t id)
{
    return id < FIELD__COUNT ? slice_of(http_field_table[id].name, http_field_table[id].len)
                             : SLICE("");
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

/* Zero when the words are equal but for the case of letters. `lower` holds lower-case letters,
 * digits and "-": of these only letters have bit 0x40, and only there may bit 0x20 differ. */
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
        return AT(0) == 'v' ? FIELD_VIA : FIELD_AGE;
    case 4:
        return AT(0) == 'h'   ? FIELD_HOST
               : AT(0) == 'd' ? FIELD_DATE
               : AT(0) == 'e' ? FIELD_ETAG
                              : FIELD_VARY;
    case 5:
        return AT(0) == 'p' ? FIELD_PROXY : FIELD_RANGE;
    case 6:
        return AT(0) == 'c'   ? FIELD_COOKIE
               : AT(0) == 'e' ? FIELD_EXPECT
               : AT(0) == 's' ? FIELD_SERVER
                              : FIELD_PRAGMA;
    case 7:
        return AT(0) == 'r'   ? FIELD_REFERER
               : AT(0) == 't' ? FIELD_TRAILER
               : AT(0) == 'e' ? FIELD_EXPIRES
                              : FIELD_UPGRADE;
    case 8:
        return AT(3) == 'r' ? FIELD_IF_RANGE : FIELD_IF_MATCH;
    case 9:
        return AT(0) == 'f' ? FIELD_FORWARDED : FIELD_X_REAL_IP;
    case 10:
        return AT(0) == 'u'   ? FIELD_USER_AGENT
               : AT(0) == 'c' ? FIELD_CONNECTION
               : AT(0) == 's' ? FIELD_SET_COOKIE
                              : FIELD_KEEP_ALIVE;
    case 11:
        return AT(0) == 'r'   ? FIELD_RETRY_AFTER
               : AT(0) == 'g' ? FIELD_GRPC_STATUS
                              : FIELD_CLIENT_CERT;
    case 12:
        return AT(0) == 'c'   ? FIELD_CONTENT_TYPE
               : AT(0) == 'm' ? FIELD_MAX_FORWARDS
                              : FIELD_X_REQUEST_ID;
    case 13:
        return AT(0) == 'c'   ? AT(1) == 'a' ? FIELD_CACHE_CONTROL : FIELD_CONTENT_RANGE
               : AT(1) == 'c' ? FIELD_ACCEPT_RANGES
               : AT(0) == 'i' ? FIELD_IF_NONE_MATCH
               : AT(0) == 'l' ? FIELD_LAST_MODIFIED
                              : FIELD_AUTHORIZATION;
    case 14:
        return AT(0) == 'c' ? FIELD_CONTENT_LENGTH : FIELD_HTTP2_SETTINGS;
    case 15:
        return AT(0) == 'a'   ? FIELD_ACCEPT_ENCODING
               : AT(2) == 'f' ? FIELD_X_FORWARDED_FOR
                              : FIELD_X_CLIENT_VERIFY;
    case 16:
        return AT(0) == 'p'    ? FIELD_PROXY_CONNECTION
               : AT(0) == 'c'  ? FIELD_CONTENT_ENCODING
               : AT(2) == 'c'  ? FIELD_X_CLIENT_SUBJECT
               : AT(12) == 'h' ? FIELD_X_FORWARDED_HOST
                               : FIELD_X_FORWARDED_PORT;
    case 17:
        return AT(0) == 't'   ? FIELD_TRANSFER_ENCODING
               : AT(0) == 'c' ? FIELD_CLIENT_CERT_CHAIN
               : AT(0) == 'i' ? FIELD_IF_MODIFIED_SINCE
               : AT(2) == 'f' ? FIELD_X_FORWARDED_PROTO
                              : FIELD_X_ACCEL_BUFFERING;
    case 18:
        return FIELD_PROXY_AUTHENTICATE;
    case 19:
        return AT(0) == 'p' ? FIELD_PROXY_AUTHORIZATION : FIELD_IF_UNMODIFIED_SINCE;
    case 20:
        return FIELD_X_CLIENT_FINGERPRINT;
    case 25:
        return FIELD_STRICT_TRANSPORT_SECURITY;
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
