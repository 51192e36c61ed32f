/* One log line while it is built: numbers and escaped text. JSON's escaping is in json.c. */
#include "worker/log/line.h"

#define EACH(byte) (0x0101010101010101u * (uint64_t)(byte))

/* Eight bytes at a time: a borrow can only come from a byte that is itself a hit, so "any" is
 * exact. */
static bool dirty8(uint64_t w)
{
    const uint64_t quote = w ^ EACH('"'), back = w ^ EACH('\\'), del = w ^ EACH(0x7f);
    const uint64_t low = (w - EACH(0x20)) & ~w;
    return ((w | low | ((quote - EACH(1)) & ~quote) | ((back - EACH(1)) & ~back) |
             ((del - EACH(1)) & ~del)) &
            EACH(0x80)) != 0;
}

static bool dirty(unsigned char c)
{
    return c < 0x20 || c >= 0x7f || c == '"' || c == '\\';
}

size_t line_clean(struct slice s)
{
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        if (dirty8(w))
            break;
    }
    while (i < s.n && !dirty((unsigned char)s.p[i]))
        i++;
    return i;
}

void line_num(struct line *l, uint64_t v)
{
    char t[20];
    size_t at = sizeof(t);
    do {
        t[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    line_raw(l, t + at, sizeof(t) - at);
}

void line_milli(struct line *l, uint64_t v)
{
    const unsigned f = (unsigned)(v % 1000);
    const char t[4] = {'.', (char)('0' + f / 100), (char)('0' + f / 10 % 10), (char)('0' + f % 10)};
    line_num(l, v / 1000);
    line_raw(l, t, 4);
}

void line_escaped(struct line *l, struct slice s, line_escape *escape)
{
    size_t clean = line_clean(s);
    if (clean == s.n && s.n <= l->vmax) {
        line_raw(l, s.p, s.n);
        return;
    }
    size_t left = l->vmax - 3;
    for (size_t i = 0; i < s.n && !l->full;) {
        size_t run = clean - i;
        if (run) {
            run = run > left ? left : run;
            line_raw(l, s.p + i, run);
            left -= run;
            i += run;
            if (i < clean) {
                line_raw(l, "...", 3);
                return;
            }
            continue;
        }
        char t[LINE_ESCAPED_MAX];
        size_t used;
        const size_t n = escape((const unsigned char *)s.p + i, s.n - i, t, &used);
        if (left < n) {
            line_raw(l, "...", 3);
            return;
        }
        line_raw(l, t, n);
        left -= n;
        i += used;
        clean = i + line_clean(slice_of(s.p + i, s.n - i));
    }
}

static size_t escape_hex(const unsigned char *p, size_t n, char *out, size_t *ret_used)
{
    static const char hex[] = "0123456789ABCDEF";
    (void)n;
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[*p >> 4];
    out[3] = hex[*p & 15];
    *ret_used = 1;
    return 4;
}

void line_text(struct line *l, struct slice s)
{
    line_escaped(l, s, escape_hex);
}
