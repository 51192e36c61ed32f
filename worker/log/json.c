/* The escaping of JSON strings for log lines. */
#include "worker/log/line.h"

/* Length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF),
 * 0 when there is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    const unsigned char c = p[0];
    const size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static size_t escape_one(const unsigned char *p, size_t n, char *out, size_t *ret_used)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    const size_t len = utf8_len(p, n);
    *ret_used = len ? len : 1;
    if (len == 0) {
        memcpy(out, "\xef\xbf\xbd", 3);
        return 3;
    }
    /* C1 control characters drive terminals, too. */
    const bool c1 = len == 2 && p[0] == 0xc2 && p[1] < 0xa0;
    if (len > 1 && !c1) {
        memcpy(out, p, len);
        return len;
    }
    for (size_t i = 0; len == 1 && i < sizeof(named) - 1; i += 2) {
        if ((char)p[0] == named[i]) {
            out[0] = '\\';
            out[1] = named[i + 1];
            return 2;
        }
    }
    const unsigned char c = c1 ? p[1] : p[0];
    memcpy(out, "\\u00", 4);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

void line_json(struct line *l, struct slice s)
{
    line_escaped(l, s, escape_one);
}
