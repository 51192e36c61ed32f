/* rpctl cache warm: asks a running rpd for a list of URLs, so that it has them when clients come.
 */
#include "rpctl/warm.h"

#include "base/addr.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "rpctl/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WARM_AT_ONCE 16
#define WARM_IDLE_MS 60000
#define WARM_LINE    8192u /* the longest URL */
#define WARM_TOLD    20u   /* failures that are told one by one */

struct fetch {
    int fd; /* -1: free */
    char url[WARM_LINE];
    struct buf request;
    size_t sent;
    char head[16]; /* the first bytes: "HTTP/1.1 200" */
    size_t nhead;
    uint64_t bytes, touched_ms;
};

struct run {
    const struct warm *w;
    struct addr_any to;
    FILE *in;
    struct fetch *fetch; /* [WARM_AT_ONCE] */
    unsigned busy;
    bool end; /* of the list */
    uint64_t urls, good, bytes, failed;
};

static uint64_t warm_now(void)
{
    return clock_us_now() / 1000;
}

static void warm_failed(struct run *r, const char *url, const char *why)
{
    if (++r->failed <= WARM_TOLD)
        fprintf(stderr, "rpctl: %s: %s\n", url, why);
    else if (r->failed == WARM_TOLD + 1)
        fprintf(stderr, "rpctl: ... and more\n");
}

/* "https://host/path" -> the request. False: no URL. */
static bool warm_request(const struct run *r, struct slice url, struct buf *out)
{
    bool https = slice_starts(url, SLICE("https://"));
    if (!https && !slice_starts(url, SLICE("http://")))
        return false;
    size_t skip = https ? 8 : 7;
    struct slice rest = slice_of(url.p + skip, url.n - skip);
    ptrdiff_t end = slice_chr(rest, '#');
    if (end >= 0)
        rest.n = (size_t)end;
    size_t host = 0;
    while (host < rest.n && rest.p[host] != '/' && rest.p[host] != '?')
        host++;
    for (size_t i = 0; i < rest.n; i++) {
        if ((unsigned char)rest.p[i] <= ' ' || rest.p[i] == 0x7f)
            return false;
    }
    if (host == 0)
        return false;
    buf_str(out, "GET ");
    if (host == rest.n || rest.p[host] != '/')
        buf_chr(out, '/');
    buf_add(out, slice_of(rest.p + host, rest.n - host));
    buf_printf(out,
               " HTTP/1.1\r\nHost: " SLICE_FMT "\r\nUser-Agent: rpctl-cache-warm\r\n"
               "Connection: close\r\n",
               (int)host, rest.p);
    if (https)
        buf_str(out, "X-Forwarded-Proto: https\r\n");
    for (int i = 0; i < r->w->nfield; i++)
        buf_printf(out, "%s\r\n", r->w->field[i]);
    buf_str(out, "\r\n");
    return !out->failed;
}

static void warm_end(struct run *r, struct fetch *f, const char *why)
{
    unsigned status = 0;
    if (!why && (f->nhead < 12 || sscanf(f->head, "HTTP/1.%*1u %3u", &status) != 1))
        why = "no answer";
    char text[32];
    if (!why && status >= 300) {
        snprintf(text, sizeof(text), "status %u", status);
        why = text;
    }
    if (why)
        warm_failed(r, f->url, why);
    else
        r->good++;
    r->bytes += f->bytes;
    close(f->fd);
    f->fd = -1;
    r->busy--;
}

/* The next line that is a URL. False: there is none. */
static bool warm_line(struct run *r, char *line)
{
    while (fgets(line, WARM_LINE, r->in)) {
        size_t n = strlen(line);
        bool whole = n > 0 && line[n - 1] == '\n';
        if (!whole && !feof(r->in)) {
            r->urls++;
            snprintf(line + 60, 4, "...");
            warm_failed(r, line, "too long");
            for (int c = 0; c != '\n' && c != EOF; c = getc(r->in))
                ;
            continue;
        }
        struct slice s = slice_trim(slice_of(line, n - whole));
        if (s.n > 0 && s.p[s.n - 1] == '\r')
            s.n--;
        memmove(line, s.p, s.n);
        line[s.n] = '\0';
        if (s.n > 0 && line[0] != '#')
            return true;
    }
    return false;
}

static void warm_begin(struct run *r, struct fetch *f)
{
    while (!r->end) {
        if (!warm_line(r, f->url)) {
            r->end = true;
            return;
        }
        r->urls++;
        buf_clear(&f->request);
        if (!warm_request(r, slice_str(f->url), &f->request)) {
            warm_failed(r, f->url, "not http://HOST/PATH or https://HOST/PATH");
            continue;
        }
        f->fd = socket(r->to.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (f->fd >= 0 && connect(f->fd, &r->to.u.sa, r->to.len) < 0 && errno != EINPROGRESS) {
            close(f->fd);
            f->fd = -1;
        }
        if (f->fd < 0) {
            warm_failed(r, f->url, strerror(errno));
            continue;
        }
        f->sent = f->nhead = 0;
        f->bytes = 0;
        f->touched_ms = warm_now();
        r->busy++;
        return;
    }
}

static void warm_send(struct run *r, struct fetch *f)
{
    ssize_t n = send(f->fd, f->request.p + f->sent, f->request.n - f->sent, MSG_NOSIGNAL);
    if (n >= 0)
        f->sent += (size_t)n;
    else if (errno != EAGAIN && errno != EINTR)
        warm_end(r, f, strerror(errno));
}

static void warm_receive(struct run *r, struct fetch *f)
{
    static char buf[256 << 10];
    ssize_t n = recv(f->fd, buf, sizeof(buf), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        warm_end(r, f, n < 0 ? strerror(errno) : NULL);
        return;
    }
    f->bytes += (uint64_t)n;
    for (ssize_t i = 0; i < n && f->nhead < sizeof(f->head) - 1; i++)
        f->head[f->nhead++] = buf[i];
    f->head[f->nhead] = '\0';
}

static void warm_turn(struct run *r)
{
    struct pollfd p[WARM_AT_ONCE];
    for (int i = 0; i < WARM_AT_ONCE; i++) {
        struct fetch *f = &r->fetch[i];
        if (f->fd < 0)
            warm_begin(r, f);
        p[i] = (struct pollfd){f->fd, f->fd >= 0 && f->sent < f->request.n ? POLLOUT : POLLIN, 0};
    }
    if (r->busy == 0)
        return;
    int n = poll(p, WARM_AT_ONCE, 1000);
    uint64_t now = warm_now();
    for (int i = 0; i < WARM_AT_ONCE; i++) {
        struct fetch *f = &r->fetch[i];
        if (f->fd < 0 || p[i].fd < 0)
            continue;
        if (n > 0 && p[i].revents != 0) {
            f->touched_ms = now;
            if (p[i].events == POLLOUT)
                warm_send(r, f);
            else
                warm_receive(r, f);
        } else if (now - f->touched_ms > WARM_IDLE_MS) {
            warm_end(r, f, "timed out");
        }
    }
}

static int warm_verdict(const struct run *r)
{
    struct buf b;
    char size[32];
    unsigned shift = r->bytes >= 10u << 20 ? 20 : r->bytes >= 10u << 10 ? 10 : 0;
    buf_init(&b, 0);
    num_fmt_size(size, r->bytes >> shift << shift);
    if (r->w->json) {
        struct json j;
        json_init(&j, &b);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kbool(&j, "ok", r->failed == 0);
        json_ku64(&j, "urls", r->urls);
        json_ku64(&j, "fetched", r->good);
        json_ku64(&j, "failed", r->failed);
        json_ku64(&j, "bytes", r->bytes);
        json_end_object(&j);
        buf_chr(&b, '\n');
    } else {
        buf_printf(&b, "fetched %" PRIu64 " of %" PRIu64 " URLs (%s)", r->good, r->urls, size);
        if (r->failed > 0)
            buf_printf(&b, ", %" PRIu64 " failed", r->failed);
        buf_chr(&b, '\n');
    }
    fwrite(b.p, 1, b.n, stdout);
    buf_fini(&b);
    return r->failed == 0 ? PROTO_DONE : r->good > 0 ? PROTO_PARTLY : PROTO_REFUSED;
}

int warm_run(const struct warm *w, struct slice address)
{
    struct run r = {.w = w};
    for (int i = 0; i < w->nfield; i++) {
        const char *colon = strchr(w->field[i], ':');
        if (!colon || colon == w->field[i] || strpbrk(w->field[i], "\r\n")) {
            fprintf(stderr, "rpctl: \"%.64s\" is not \"Name: value\"\n", w->field[i]);
            return PROTO_USAGE;
        }
    }
    if (addr_parse(address, &r.to) < 0) {
        fprintf(stderr, "rpctl: cannot connect to " SLICE_FMT "\n", SLICE_ARG(address));
        return PROTO_REFUSED;
    }
    r.in = strcmp(w->file, "-") == 0 ? stdin : fopen(w->file, "re");
    if (!r.in) {
        fprintf(stderr, "rpctl: %s: %s\n", w->file, strerror(errno));
        return PROTO_REFUSED;
    }
    r.fetch = calloc(WARM_AT_ONCE, sizeof(*r.fetch));
    if (!r.fetch)
        return PROTO_REFUSED;
    for (int i = 0; i < WARM_AT_ONCE; i++) {
        r.fetch[i].fd = -1;
        buf_init(&r.fetch[i].request, 0);
    }
    do
        warm_turn(&r);
    while (r.busy > 0 || !r.end);
    for (int i = 0; i < WARM_AT_ONCE; i++)
        buf_fini(&r.fetch[i].request);
    free(r.fetch);
    if (r.in != stdin)
        fclose(r.in);
    return warm_verdict(&r);
}
