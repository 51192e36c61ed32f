/* Request targets as routes see them, and authorities as Host carries them. */
#include "worker/http/uri.h"

#include "base/addr.h"
#include "base/err.h"
#include "worker/http/http.h"

#define URI_HOST_MAX 255u

static int uri_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/* Nothing to decode, merge or remove? Dots count only where they may be a segment. */
static bool uri_is_plain(struct slice path)
{
    for (size_t i = 0; i < path.n; i++) {
        if (path.p[i] == '%')
            return false;
        if (path.p[i] == '/' && i + 1 < path.n && (path.p[i + 1] == '/' || path.p[i + 1] == '.'))
            return false;
    }
    return true;
}

/* Decodes %XX at p (n bytes left) into out: one byte when unreserved, else "%XX" in upper case.
 * Bytes written or an error. */
static int uri_unescape(const char *p, size_t n, char *out)
{
    static const char upper[] = "0123456789ABCDEF";
    int hi = n >= 3 ? uri_hex(p[1]) : -1, lo = n >= 3 ? uri_hex(p[2]) : -1;
    if (hi < 0 || lo < 0 || hi + lo == 0)
        return -ERR_BAD_TARGET;
    char c = (char)(hi * 16 + lo);
    if (http_is(c, HTTP_CLASS_UNRESERVED)) {
        out[0] = c;
        return 1;
    }
    out[0] = '%';
    out[1] = upper[hi];
    out[2] = upper[lo];
    return 3;
}

int uri_normalize(struct slice path, struct arena *a, struct slice *ret)
{
    if (path.n == 1 && path.p[0] == '*') {
        *ret = path;
        return 0;
    }
    if (path.n == 0 || path.p[0] != '/')
        return -ERR_BAD_TARGET;
    *ret = path;
    if (uri_is_plain(path))
        return 0;
    char *out = arena_bytes(a, path.n); /* never longer than what came */
    if (out == NULL)
        return -ERR_NOMEM;
    /* out[0..o) ends in "/" whenever a segment begins; segment is where the current one begins. */
    size_t o = 1, segment = 1, i = 1;
    out[0] = '/';
    for (;;) {
        if (i < path.n && path.p[i] != '/') {
            if (path.p[i] != '%') {
                out[o++] = path.p[i++];
                continue;
            }
            int rc = uri_unescape(path.p + i, path.n - i, out + o);
            if (rc < 0)
                return rc;
            o += (size_t)rc;
            i += 3;
            continue;
        }
        size_t len = o - segment;
        if (len == 1 && out[segment] == '.') {
            o = segment;
        } else if (len == 2 && out[segment] == '.' && out[segment + 1] == '.') {
            if (segment == 1)
                return -ERR_BAD_TARGET;
            o = segment - 1;
            while (out[o - 1] != '/')
                o--;
        } else if (len > 0 && i < path.n) {
            out[o++] = '/';
        }
        if (i == path.n)
            break;
        segment = o;
        i++;
    }
    if (!slice_eq(slice_of(out, o), path))
        *ret = slice_of(out, o);
    return 0;
}

static int uri_port(struct slice s, uint16_t *ret)
{
    uint32_t v = 0;
    if (s.n > 5)
        return -ERR_BAD_HOST;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -ERR_BAD_HOST;
        v = v * 10 + (uint32_t)(s.p[i] - '0');
    }
    if (v > UINT16_MAX || (v == 0 && s.n > 0))
        return -ERR_BAD_HOST;
    *ret = (uint16_t)v;
    return 0;
}

int uri_authority(struct slice s, struct slice *ret_host, uint16_t *ret_port)
{
    size_t n = 0;
    if (s.n > 0 && s.p[0] == '[') {
        ptrdiff_t close = slice_chr(s, ']');
        union addr ip;
        /* Only what contains ":" is IPv6: [127.0.0.1] is nothing. */
        if (close < 0 || addr_parse_ip(slice_of(s.p + 1, (size_t)close - 1), &ip) < 0 ||
            ip.sa.sa_family != AF_INET6)
            return -ERR_BAD_HOST;
        n = (size_t)close + 1;
    } else {
        while (n < s.n && http_is(s.p[n], HTTP_CLASS_HOST))
            n++;
    }
    if (n == 0 || n > URI_HOST_MAX)
        return -ERR_BAD_HOST;
    uint16_t port = 0;
    if (n < s.n) {
        if (s.p[n] != ':' || uri_port(slice_of(s.p + n + 1, s.n - n - 1), &port) < 0)
            return -ERR_BAD_HOST;
    }
    *ret_host = slice_of(s.p, n);
    *ret_port = port;
    return 0;
}

int uri_host_lower(struct slice host, char *out, size_t cap)
{
    size_t n = host.n;
    if (n > 0 && host.p[n - 1] == '.')
        n--;
    if (n == 0 || n > cap || n > URI_HOST_MAX)
        return -ERR_BAD_HOST;
    for (size_t i = 0; i < n; i++) {
        char c = host.p[i];
        out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    return (int)n;
}
