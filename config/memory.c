/* The most memory a configuration lets the workers use, and how it adds up. */
#include "base/num.h"
#include "base/proc.h"
#include "config/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

/* Bytes beyond the kernel's; measured figures stand in the tests of worker/client and
 * worker/stream. */
#define IDLE_BYTES   400u  /* an idle keep-alive connection gave its buffers back */
#define STREAM_BYTES 4096u /* an exchange without its heads and buffers */
#define UPLOAD_BYTES                                                                               \
    (192u << 10) /* a read that a slow server left, and what is kept to try again */
#define ANSWER_BYTES (256u << 10) /* a read that a slow client left; 64 KiB once it is known */
#define POOLED_BYTES 512u         /* an idle connection to a server */
#define QUEUED_BYTES 256u         /* a request in a queue, beside its stream */
#define TLS_BYTES    14848u       /* an idle TLS connection: OpenSSL's state, without buffers */
#define RECORD_BYTES 34816u       /* a TLS record each way, while something is under way */
#define H2_BYTES     26624u       /* an HTTP/2 session: nghttp2's state and its HPACK tables */
#define CERT_BYTES   7168u        /* a certificate with its chain, and its key */
#define CACHE_EXTRA  25u          /* a cache's metadata: 1/25 of its size, and */
#define CACHE_PINS   (12u << 20)  /* a fixed part, though never more than the size again */
#define RECODE_BYTES (144u << 20) /* the helper's child, with the body and room for its copy */
#define WORKER_BYTES (6ull << 20) /* process, tables, caches of free blocks */

static void row(struct buf *out, const char *what, uint64_t n, uint64_t each, uint64_t sum)
{
    char bytes[32];
    /* Few digits for a person; the exact number stands beside them. */
    unsigned shift = sum >= 10ull << 30 ? 30 : sum >= 10ull << 20 ? 20 : 10;
    num_fmt_size(bytes, sum >> shift << shift);
    buf_printf(out, "%-36s %12" PRIu64 " x %10" PRIu64 " = %14" PRIu64 " (%s)\n", what, n, each,
               sum, bytes);
}

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

static uint64_t mul(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

/* The same bound that workers derive when max_connections is 0: descriptors, half of them for
 * clients. */
static uint64_t connections(const struct config *c)
{
    struct rlimit r;
    if (c->global.max_connections)
        return c->global.max_connections;
    uint64_t fds = c->global.rlimit_nofile;
    if (fds == 0)
        fds = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_max != RLIM_INFINITY ? r.rlim_max
                                                                               : 1u << 20;
    return mul(fds, c->workers) / 2;
}

/* What the configuration lets come together. */
struct most {
    uint64_t conns, requests; /* of clients, and what they may ask at a time */
    uint64_t head, answer, window;
    uint64_t active, queued, pooled;
    uint64_t tls_conns, h2_conns;     /* of clients */
    uint64_t tls_servers, h2_servers; /* connections to them */
    uint64_t certificates;
};

static void most_of_listeners(const struct config *c, struct most *m)
{
    uint64_t streams = 1;
    m->head = c->defaults_conn.max_head;
    for (size_t i = 0; i < c->nlisten; i++) {
        const struct conf_listen *l = c->listen[i];
        if (l->conn.max_head > m->head)
            m->head = l->conn.max_head;
        if (l->k.tls)
            m->tls_conns = m->conns;
        if (!(l->k.protocols & CONF_PROTO_H2))
            continue;
        m->h2_conns = m->conns;
        if (l->conn.h2_streams > streams)
            streams = l->conn.h2_streams;
        if (l->conn.h2_window > m->window)
            m->window = l->conn.h2_window;
    }
    m->requests = mul(m->conns, streams); /* an HTTP/1 connection has one request at a time */
    for (size_t i = 0; i < c->ncertificate; i++) {
        const struct conf_certificate_keys *k = &c->certificate[i]->k;
        m->certificates = add(m->certificates, k->directory.n ? k->max_loaded : k->pair.n);
    }
    m->certificates = mul(m->certificates, c->workers);
}

static void most_of_upstreams(const struct config *c, struct most *m)
{
    m->answer = 32u << 10;
    for (size_t i = 0; i < c->nupstream; i++) {
        const struct conf_upstream *u = c->upstream[i];
        if (u->k.max_head > m->answer)
            m->answer = u->k.max_head;
        m->queued = add(m->queued, u->k.queue);
        for (size_t n = 0; n < u->k.server.n; n++) {
            const struct conf_server *s = &u->k.server.v[n];
            uint64_t busy = s->max_conns ? s->max_conns : m->requests;
            uint64_t links = add(busy < m->requests ? busy : m->requests, u->k.keepalive);
            m->active = add(m->active, busy);
            m->pooled = add(m->pooled, u->k.keepalive);
            if (s->tls)
                m->tls_servers = add(m->tls_servers, links);
            if (u->k.protocol == CONF_UPROTO_H2 || u->k.protocol == CONF_UPROTO_H2C ||
                (u->k.protocol == CONF_UPROTO_AUTO && s->tls))
                m->h2_servers = add(m->h2_servers, links);
        }
    }
    m->active = add(m->active, m->queued);
    if (m->active > m->requests)
        m->active = m->requests;
    if (m->queued > m->requests)
        m->queued = m->requests;
}

/* Whether any answer may be compressed. */
static bool compresses(const struct config *c)
{
    bool any = c->defaults.compress != NULL;
    for (size_t i = 0; i < c->nroute; i++)
        any |= c->route[i]->scope.compress != NULL;
    return any;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t config_memory_bound(const struct config *c, struct buf *out)
{
    struct most m = {.conns = connections(c)};
    uint64_t total = 0;
    most_of_listeners(c, &m);
    most_of_upstreams(c, &m);
    uint64_t each = 2 * m.head + 2 * m.answer + UPLOAD_BYTES + ANSWER_BYTES + STREAM_BYTES;
    const struct {
        const char *what;
        uint64_t n, each;
    } rows[] = {
        {"client connections", m.conns, IDLE_BYTES},
        {"TLS connections of clients", m.tls_conns, TLS_BYTES},
        {"HTTP/2 connections of clients", m.h2_conns, H2_BYTES},
        {"requests in flight", m.active, each},
        {"TLS connections that are busy", least(m.tls_conns, m.active), RECORD_BYTES},
        {"request bodies of HTTP/2 connections", least(m.h2_conns, m.active), m.window},
        {"requests waiting for a server", m.queued, QUEUED_BYTES},
        {"idle connections to servers", m.pooled, POOLED_BYTES},
        {"TLS connections to servers", m.tls_servers, TLS_BYTES + RECORD_BYTES},
        {"HTTP/2 connections to servers", m.h2_servers, H2_BYTES},
        {"certificates", m.certificates, CERT_BYTES},
        {"answers being compressed", compresses(c) ? c->workers : 0, c->global.compress_memory},
        {"copies being compressed anew", c->ncache && c->global.recompress_cpu, RECODE_BYTES},
        {"workers", c->workers, WORKER_BYTES},
        {"configuration", 1, c->arena.total},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t sum = mul(rows[i].n, rows[i].each);
        if (rows[i].n == 0)
            continue;
        row(out, rows[i].what, rows[i].n, rows[i].each, sum);
        total = add(total, sum);
    }
    for (size_t i = 0; i < c->ncache; i++) {
        char what[80];
        uint64_t size = c->cache[i]->k.size;
        (void)snprintf(what, sizeof what, "cache " SLICE_FMT, SLICE_ARG(c->cache[i]->name));
        size = add(size, size / CACHE_EXTRA + least(size, CACHE_PINS));
        row(out, what, 1, size, size);
        total = add(total, size);
    }
    row(out, "at most", 1, total, total);
    return total;
}
