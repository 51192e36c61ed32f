/* JSON writer. */
#include "base/json.h"

#include "base/panic.h"

#include <math.h>

#define JSON_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void json_init(struct json *j, struct buf *out)
{
    *j = (struct json){.out = out};
    j->first[0] = true;
}

/* What stands between the previous value and the next. */
static void json_separate(struct json *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (!j->first[j->depth])
        buf_chr(j->out, ',');
    j->first[j->depth] = false;
}

static void json_open(struct json *j, char c)
{
    json_separate(j);
    MUST(j->depth + 1 < JSON_DEPTH);
    j->first[++j->depth] = true;
    buf_chr(j->out, c);
}

static void json_close(struct json *j, char c)
{
    MUST(j->depth > 0 && !j->after_key);
    j->depth--;
    buf_chr(j->out, c);
}

void json_object(struct json *j)
{
    json_open(j, '{');
}

void json_end_object(struct json *j)
{
    json_close(j, '}');
}

void json_array(struct json *j)
{
    json_open(j, '[');
}

void json_end_array(struct json *j)
{
    json_close(j, ']');
}

/* Length of the well-formed UTF-8 sequence at p (Unicode table 3-7), or 0. */
static size_t json_utf8(const unsigned char *p, size_t n)
{
    unsigned lo = 0x80, hi = 0xbf;
    size_t len;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (n < len)
        return 0;
    if (p[0] == 0xe0)
        lo = 0xa0; /* overlong */
    else if (p[0] == 0xed)
        hi = 0x9f; /* surrogates */
    else if (p[0] == 0xf0)
        lo = 0x90; /* overlong */
    else if (p[0] == 0xf4)
        hi = 0x8f; /* above U+10FFFF */
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return len;
}

static void json_control(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    size_t n = 2;
    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    default:
        n = sizeof(text);
        break;
    }
    buf_add(out, slice_of(text, n));
}

void json_escape(struct buf *out, struct slice s)
{
    size_t plain = 0; /* start of what can be copied as it is */
    size_t i = 0;
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        if (c >= 0x80) {
            size_t len = json_utf8((const unsigned char *)s.p + i, s.n - i);
            if (len > 0) {
                i += len;
                continue;
            }
        }
        buf_add(out, slice_of(s.p + plain, i - plain));
        if (c >= 0x80)
            buf_str(out, JSON_REPLACEMENT);
        else
            json_control(out, c);
        plain = ++i;
    }
    if (s.n > plain)
        buf_add(out, slice_of(s.p + plain, s.n - plain));
}

void json_key(struct json *j, const char *key)
{
    json_separate(j);
    buf_chr(j->out, '"');
    json_escape(j->out, slice_str(key));
    buf_str(j->out, "\":");
    j->after_key = true;
}

void json_str(struct json *j, struct slice s)
{
    json_separate(j);
    buf_chr(j->out, '"');
    json_escape(j->out, s);
    buf_chr(j->out, '"');
}

void json_cstr(struct json *j, const char *s)
{
    if (s)
        json_str(j, slice_str(s));
    else
        json_null(j);
}

void json_u64(struct json *j, uint64_t v)
{
    json_separate(j);
    buf_u64(j->out, v);
}

void json_i64(struct json *j, int64_t v)
{
    json_separate(j);
    if (v < 0)
        buf_chr(j->out, '-');
    buf_u64(j->out, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

void json_double(struct json *j, double v)
{
    /* JSON has no word for what is not a number. */
    if (!isfinite(v)) {
        json_null(j);
        return;
    }
    json_separate(j);
    buf_printf(j->out, "%.3f", v);
}

void json_bool(struct json *j, bool v)
{
    json_separate(j);
    buf_str(j->out, v ? "true" : "false");
}

void json_null(struct json *j)
{
    json_separate(j);
    buf_str(j->out, "null");
}

void json_kstr(struct json *j, const char *key, struct slice s)
{
    json_key(j, key);
    json_str(j, s);
}

void json_kcstr(struct json *j, const char *key, const char *s)
{
    json_key(j, key);
    json_cstr(j, s);
}

void json_ku64(struct json *j, const char *key, uint64_t v)
{
    json_key(j, key);
    json_u64(j, v);
}

void json_kbool(struct json *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool(j, v);
}
