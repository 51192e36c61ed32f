/* Socket addresses and address ranges. */
#include "base/addr.h"

#include "base/err.h"
#include "base/num.h"

#include <arpa/inet.h>
#include <stdio.h>

#define ADDR_NAME_MAX 253 /* longest DNS name in text */

/* inet_pton needs a NUL; a slice with one inside must not pass as its first half. */
static int addr_pton(int family, struct slice s, void *ret)
{
    char text[INET6_ADDRSTRLEN];
    if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
        return -ERR_INVAL;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    /* glibc's inet_pton is strict: four decimal octets without leading zeros. */
    return inet_pton(family, text, ret) == 1 ? 0 : -ERR_INVAL;
}

/* "80": 1 to 5 digits without leading zeros, at most 65535. */
static int addr_parse_port(struct slice s, uint16_t *ret_port)
{
    uint64_t v;
    if (s.n == 0 || s.n > 5 || (s.n > 1 && s.p[0] == '0'))
        return -ERR_INVAL;
    if (num_u64(s, &v) < 0 || v > 65535)
        return -ERR_INVAL;
    *ret_port = (uint16_t)v;
    return 0;
}

/* Cuts "NAME:PORT" or "[NAME]:PORT" at its colon; the name may be empty here. */
static int addr_cut(struct slice s, struct slice *ret_name, uint16_t *ret_port, bool *ret_bracket)
{
    size_t colon, from = 0, to;
    *ret_bracket = s.n > 0 && s.p[0] == '[';
    if (*ret_bracket) {
        ptrdiff_t close = slice_chr(s, ']');
        if (close < 0)
            return -ERR_INVAL;
        from = 1;
        to = (size_t)close;
        colon = to + 1;
    } else {
        ptrdiff_t at = slice_chr(s, ':');
        if (at < 0)
            return -ERR_INVAL;
        to = colon = (size_t)at;
    }
    if (colon >= s.n || s.p[colon] != ':')
        return -ERR_INVAL;
    *ret_name = slice_of(s.p + from, to - from);
    return addr_parse_port(slice_of(s.p + colon + 1, s.n - colon - 1), ret_port);
}

static int addr_parse_unix(struct slice path, struct addr_any *ret)
{
    *ret = (struct addr_any){0};
    if (path.n == 0 || path.p[0] != '/' || path.n >= sizeof(ret->u.un.sun_path) ||
        memchr(path.p, '\0', path.n))
        return -ERR_INVAL;
    ret->u.un.sun_family = AF_UNIX;
    memcpy(ret->u.un.sun_path, path.p, path.n);
    ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return 0;
}

int addr_parse(struct slice s, struct addr_any *ret)
{
    static const struct slice unix_prefix = {"unix:", 5};
    if (slice_starts(s, unix_prefix))
        return addr_parse_unix(slice_of(s.p + unix_prefix.n, s.n - unix_prefix.n), ret);

    struct slice name;
    uint16_t port;
    bool bracket;
    int rc = addr_cut(s, &name, &port, &bracket);
    if (rc < 0)
        return rc;
    *ret = (struct addr_any){0};
    if (bracket) {
        ret->u.in6.sin6_family = AF_INET6;
        ret->u.in6.sin6_port = htons(port);
        ret->len = sizeof(ret->u.in6);
        return addr_pton(AF_INET6, name, &ret->u.in6.sin6_addr);
    }
    ret->u.in.sin_family = AF_INET;
    ret->u.in.sin_port = htons(port);
    ret->len = sizeof(ret->u.in);
    if (name.n == 0 || slice_eq(name, SLICE("*")))
        return 0;
    return addr_pton(AF_INET, name, &ret->u.in.sin_addr);
}

static bool addr_name_ok(struct slice name)
{
    if (name.n == 0 || name.n > ADDR_NAME_MAX || name.p[0] == '.' || name.p[0] == '-')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '.' || c == '_';
        if (!ok)
            return false;
    }
    return true;
}

int addr_split(struct slice s, struct slice *ret_name, uint16_t *ret_port)
{
    struct slice name;
    uint16_t port;
    bool bracket;
    struct in6_addr in6;
    int rc = addr_cut(s, &name, &port, &bracket);
    if (rc < 0)
        return rc;
    if (port == 0 || (bracket ? addr_pton(AF_INET6, name, &in6) < 0 : !addr_name_ok(name)))
        return -ERR_INVAL;
    *ret_name = name;
    *ret_port = port;
    return 0;
}

int addr_parse_ip(struct slice s, union addr *ret)
{
    *ret = (union addr){0};
    if (addr_pton(AF_INET, s, &ret->in.sin_addr) == 0) {
        ret->in.sin_family = AF_INET;
        return 0;
    }
    if (addr_pton(AF_INET6, s, &ret->in6.sin6_addr) == 0) {
        ret->in6.sin6_family = AF_INET6;
        return 0;
    }
    return -ERR_INVAL;
}

/* The casts below go through void: the caller's sockaddr points to the family's own type. */
static const struct sockaddr_in *addr_in(const struct sockaddr *sa)
{
    return (const void *)sa;
}

static const struct sockaddr_in6 *addr_in6(const struct sockaddr *sa)
{
    return (const void *)sa;
}

/* inet_ntop goes through printf; this is called for each logged request. */
static size_t addr_fmt_in(char *out, const void *octets)
{
    const unsigned char *b = octets;
    size_t n = 0;
    for (int i = 0; i < 4; i++) {
        unsigned v = b[i];
        if (v >= 100)
            out[n++] = (char)('0' + v / 100);
        if (v >= 10)
            out[n++] = (char)('0' + v / 10 % 10);
        out[n++] = (char)('0' + v % 10);
        out[n++] = '.';
    }
    out[--n] = '\0';
    return n;
}

static size_t addr_fmt_in6(char *out, size_t size, const struct in6_addr *a)
{
    if (!inet_ntop(AF_INET6, a, out, (socklen_t)size))
        out[0] = '\0';
    return strlen(out);
}

size_t addr_fmt(char out[128], const struct sockaddr *sa, socklen_t len)
{
    size_t n = 0;
    if (sa->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)sa;
        const size_t at = offsetof(struct sockaddr_un, sun_path);
        size_t max = (size_t)len > at ? (size_t)len - at : 0;
        if (max > sizeof(un->sun_path))
            max = sizeof(un->sun_path);
        size_t path = strnlen(un->sun_path, max);
        memcpy(out, "unix:", 5);
        memcpy(out + 5, un->sun_path, path);
        out[5 + path] = '\0';
        return 5 + path;
    }
    if (sa->sa_family == AF_INET) {
        n = addr_fmt_in(out, &addr_in(sa)->sin_addr);
    } else if (sa->sa_family == AF_INET6) {
        out[n++] = '[';
        n += addr_fmt_in6(out + n, 64, &addr_in6(sa)->sin6_addr);
        out[n++] = ']';
    } else {
        out[0] = '-';
        out[1] = '\0';
        return 1;
    }
    out[n++] = ':';
    return n + num_fmt_u64(out + n, addr_port(sa));
}

size_t addr_fmt_ip(char out[64], const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return addr_fmt_in(out, &addr_in(sa)->sin_addr);
    if (sa->sa_family == AF_INET6) {
        const struct in6_addr *a = &addr_in6(sa)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a))
            return addr_fmt_in(out, a->s6_addr + 12);
        return addr_fmt_in6(out, 64, a);
    }
    const char *text = sa->sa_family == AF_UNIX ? "unix:" : "-";
    size_t n = strlen(text);
    memcpy(out, text, n + 1);
    return n;
}

uint16_t addr_port(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return ntohs(addr_in(sa)->sin_port);
    if (sa->sa_family == AF_INET6)
        return ntohs(addr_in6(sa)->sin6_port);
    return 0;
}

/* Whether the first `bits` of two networks are equal. */
static bool cidr_same(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

int cidr_parse(struct slice s, struct cidr *ret)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct cidr c = {0};
    if (slice_eq(s, SLICE("unix"))) {
        c.family = AF_UNIX;
        *ret = c;
        return 0;
    }
    ptrdiff_t slash = slice_chr(s, '/');
    union addr a;
    int rc = addr_parse_ip(slash < 0 ? s : slice_of(s.p, (size_t)slash), &a);
    if (rc < 0)
        return rc;
    unsigned max = a.sa.sa_family == AF_INET ? 32 : 128;
    uint64_t bits = max;
    if (slash >= 0) {
        struct slice text = slice_of(s.p + slash + 1, s.n - (size_t)slash - 1);
        if (text.n > 3 || (text.n > 1 && text.p[0] == '0') || num_u64(text, &bits) < 0 ||
            bits > max)
            return -ERR_INVAL;
    }
    c.family = (uint8_t)a.sa.sa_family;
    c.bits = (uint8_t)bits;
    if (a.sa.sa_family == AF_INET)
        memcpy(c.net, &a.in.sin_addr, 4);
    else
        memcpy(c.net, &a.in6.sin6_addr, 16);
    for (unsigned i = c.bits; i < max; i++) {
        if (c.net[i / 8] & (0x80u >> (i % 8)))
            return -ERR_INVAL;
    }
    /* Mapped peers are compared as IPv4, so a range of them has to be IPv4 too. */
    if (c.family == AF_INET6 && c.bits >= 96 && memcmp(c.net, mapped, 12) == 0) {
        c.family = AF_INET;
        c.bits = (uint8_t)(c.bits - 96);
        memmove(c.net, c.net + 12, 4);
        memset(c.net + 4, 0, 12);
    }
    *ret = c;
    return 0;
}

/* The bytes and family a range is compared with; mapped IPv4 is taken as IPv4. */
static const uint8_t *cidr_peer(const struct sockaddr *sa, int *ret_family)
{
    *ret_family = sa->sa_family;
    if (sa->sa_family == AF_INET)
        return (const void *)&addr_in(sa)->sin_addr;
    if (sa->sa_family != AF_INET6)
        return NULL;
    const struct in6_addr *a = &addr_in6(sa)->sin6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(a))
        return a->s6_addr;
    *ret_family = AF_INET;
    return a->s6_addr + 12;
}

bool cidr_match_any(const struct cidr *c, size_t n, const struct sockaddr *sa)
{
    int family;
    const uint8_t *peer = cidr_peer(sa, &family);
    for (size_t i = 0; i < n; i++) {
        if (c[i].family != family)
            continue;
        if (family == AF_UNIX || (peer && cidr_same(c[i].net, peer, c[i].bits)))
            return true;
    }
    return false;
}
