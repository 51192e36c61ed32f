/* The most memory a configuration lets the workers use, and how it adds up. */
#include "base/num.h"
#include "base/proc.h"
#include "config/config.h"

#include <inttypes.h>
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

uint64_t config_memory_bound(const struct config *c, struct buf *out)
{
    uint64_t head = c->defaults_conn.max_head, answer = 32u << 10, active = 0, queued = 0,
             pooled = 0, total = 0;
    uint64_t conns = connections(c);
    for (size_t i = 0; i < c->nlisten; i++)
        if (c->listen[i]->conn.max_head > head)
            head = c->listen[i]->conn.max_head;
    for (size_t i = 0; i < c->nupstream; i++) {
        const struct conf_upstream *u = c->upstream[i];
        if (u->k.max_head > answer)
            answer = u->k.max_head;
        queued = add(queued, u->k.queue);
        for (size_t n = 0; n < u->k.server.n; n++) {
            active = add(active, u->k.server.v[n].max_conns ? u->k.server.v[n].max_conns : conns);
            pooled = add(pooled, u->k.keepalive);
        }
    }
    active = add(active, queued);
    if (active > conns)
        active = conns; /* an HTTP/1 connection has one request at a time */
    if (queued > conns)
        queued = conns;
    uint64_t each = 2 * head + 2 * answer + UPLOAD_BYTES + ANSWER_BYTES + STREAM_BYTES;
    const struct {
        const char *what;
        uint64_t n, each;
    } rows[] = {{"client connections", conns, IDLE_BYTES},
                {"requests in flight", active, each},
                {"requests waiting for a server", queued, QUEUED_BYTES},
                {"idle connections to servers", pooled, POOLED_BYTES},
                {"workers", c->workers, WORKER_BYTES},
                {"configuration", 1, c->arena.total}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t sum = mul(rows[i].n, rows[i].each);
        row(out, rows[i].what, rows[i].n, rows[i].each, sum);
        total = add(total, sum);
    }
    row(out, "at most", 1, total, total);
    return total;
}
