/* Copies that are asked for often are made anew at their coding's best, where time is cheap.
 * Workers count and ask; the helper takes a body out of the cache, a child of it does the work at
 * the lowest priority, and what is smaller takes the place of the copy. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/proc.h"
#include "worker/cache/coded.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECODE_QUEUE   64u
#define RECODE_ASK_MS  20u          /* between two requests of a worker */
#define RECODE_BODY    (8u << 20)   /* see recompress_size in keys.def */
#define RECODE_MEMORY  (128u << 20) /* of the child, above the body */
#define RECODE_CPU_S   120          /* after which it is given up */
#define RECODE_ALL     100000u      /* 100 % */
#define RECODE_MOST_MS 3600000u

/* What the helper and its child share: the body, and behind it room for what becomes of it. Of what
 * the child has written nothing is believed but that it is bytes. */
struct recode_area {
    size_t out; /* 0: nothing came of it */
    char bytes[];
};
struct recode {
    struct worker *w;
    struct worker_recode queue[RECODE_QUEUE]; /* a ring */
    unsigned first, n;
    struct timer due;
    /* the one that is being made */
    struct io io; /* pidfd of the child; -1: none */
    pid_t pid;
    struct worker_recode now;
    struct cache_hit of; /* version and size of the answer; not held */
    struct recode_area *area;
    size_t room; /* bytes behind the body: those of the copy */
};

/* ---- a worker asks ---- */

static struct worker *recode_worker;

static void recode_ask(const struct cache_store *st, const struct cache_hit *of, uint8_t coding)
{
    static uint64_t last_ms;
    const struct worker_recode m = {
        .cache = st->conf->id, .coding = coding, .k0 = of->key.k0, .k1 = of->key.k1};
    if (!recode_worker->boot->config->global.recompress_cpu || clock_ms() - last_ms < RECODE_ASK_MS)
        return;
    last_ms = clock_ms();
    (void)msg_send(recode_worker->channel.fd, W_RECODE, &m, sizeof m, NULL, 0);
}

void recode_init(struct worker *w)
{
    recode_worker = w;
    w->streams.recode = recode_ask;
}

/* ---- the child ---- */

static _Noreturn void recode_child(const struct recode *r)
{
    const struct codec *codec = codec_of((enum conf_coding)(r->now.coding - 1));
    struct recode_area *a = r->area;
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    const struct rlimit cpu = {RECODE_CPU_S, RECODE_CPU_S};
    struct codec_pool p;
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        (void)signal(fatal[i], SIG_DFL); /* its death is nobody's crash */
    if (proc_die_with_parent() < 0)
        _exit(1);
    (void)close_range(3, ~0u, 0);
    (void)setpriority(PRIO_PROCESS, 0, 19);
    (void)setrlimit(RLIMIT_CPU, &cpu);
    codec_pool_init(&p, RECODE_MEMORY);
    const struct codec_spec spec = {.level = codec->best, .size = r->of.size};
    struct codec_state *s = codec_get(&p, (enum conf_coding)(r->now.coding - 1), &spec);
    struct codec_io io = {
        .in = a->bytes, .nin = r->of.size, .out = a->bytes + r->of.size, .nout = r->room};
    /* No room left means that it did not become smaller. */
    if (s && codec->run(s, &io, CODEC_END) == 0)
        a->out = r->room - io.nout;
    _exit(0);
}

/* ---- the helper ---- */

static struct cache_worker *recode_cache(const struct recode *r, const struct cache **ret_c)
{
    *ret_c = r->w->boot->cache[r->now.cache];
    return r->w->joined[r->now.cache];
}

static size_t recode_size(const struct recode *r)
{
    return sizeof *r->area + r->of.size + r->room;
}

static void recode_unmap(struct recode *r)
{
    if (r->area)
        munmap(r->area, recode_size(r));
    r->area = NULL;
}

/* The body of the answer into the area. False: it is not there any more, or of no use. */
static bool recode_take(struct recode *r)
{
    const struct cache *c;
    struct cache_worker *w = recode_cache(r, &c);
    const struct cache_key key = {r->now.k0, r->now.k1};
    struct cache_hit copy;
    struct coded k;
    uint64_t seen, at = 0;
    cache_set_time(w, (uint32_t)(clock_cached.wall_ms / 1000));
    if (!cache_lookup(w, &key, &coded_beside, &r->of))
        return false;
    bool wanted = r->of.attr.type == CACHE_OBJECT && r->of.size && r->of.size <= RECODE_BODY &&
                  coded_find(w, c, &r->of, r->now.coding, &copy, &k, &seen);
    if (wanted) {
        wanted = !k.best;
        r->room = copy.size;
        cache_release(w, &copy);
    }
    void *p = wanted ? mmap(NULL, recode_size(r), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0)
                     : MAP_FAILED;
    r->area = p == MAP_FAILED ? NULL : p;
    while (r->area && at < r->of.size) {
        struct iovec v[16];
        size_t n;
        const int k_iov = cache_body(w, &r->of, at, r->of.size - at, v, 16, &n);
        if (k_iov <= 0)
            break;
        for (int i = 0; i < k_iov; at += v[i++].iov_len)
            memcpy(r->area->bytes + at, v[i].iov_base, v[i].iov_len);
    }
    cache_release(w, &r->of);
    if (!r->area || at < r->of.size) {
        recode_unmap(r);
        return false;
    }
    return true;
}

/* What has been made takes the place of the copy. What did not become smaller, or was the end of
 * the child, leaves word that it was tried. */
static void recode_put(struct recode *r)
{
    const size_t out = r->area->out;
    const struct cache *c;
    struct cache_worker *w = recode_cache(r, &c);
    const struct cache_key key = {r->now.k0, r->now.k1};
    struct cache_hit of, copy;
    struct cache_attr attr;
    struct coded k;
    uint64_t seen;
    char meta[CODED_META];
    cache_set_time(w, (uint32_t)(clock_cached.wall_ms / 1000));
    if (!cache_lookup(w, &key, &coded_beside, &of))
        return;
    if (of.version == r->of.version && of.size == r->of.size &&
        coded_find(w, c, &of, r->now.coding, &copy, &k, &seen)) {
        k.best = true;
        coded_attr(&of, &attr);
        attr.birth = copy.attr.birth;
        counter_add(r->w->ctr, CTR_RECOMPRESS, 1);
        if (!out || out > r->room || out >= copy.size)
            (void)cache_refresh(w, &copy, &attr, NULL, 0, coded_write(&k, meta));
        else if (cache_insert(w, &copy.key, &attr, NULL, 0, coded_write(&k, meta),
                              slice_of(r->area->bytes + r->of.size, out)) == 0)
            counter_add(r->w->ctr, CTR_RECOMPRESS_SAVED, copy.size - out);
        cache_release(w, &copy);
    }
    cache_release(w, &of);
}

/* The share of a CPU that is allowed: after so much work so long a pause. */
static void recode_pause(struct recode *r, const struct rusage *u)
{
    const uint64_t used =
        (uint64_t)u->ru_utime.tv_sec * 1000 + (uint64_t)u->ru_utime.tv_usec / 1000 +
        (uint64_t)u->ru_stime.tv_sec * 1000 + (uint64_t)u->ru_stime.tv_usec / 1000;
    const uint32_t share = r->w->boot->config->global.recompress_cpu;
    const uint64_t wait = share ? used * (RECODE_ALL - share) / share : RECODE_MOST_MS;
    counter_add(r->w->ctr, CTR_RECOMPRESS_CPU, used);
    timer_set_at(&r->w->loop.timers, &r->due,
                 clock_ms() + (wait < RECODE_MOST_MS ? wait : RECODE_MOST_MS));
}

static void recode_on_exit(struct io *io)
{
    struct recode *r = CONTAINER(io, struct recode, io);
    struct rusage u;
    if (wait4(r->pid, NULL, WNOHANG, &u) != r->pid)
        return;
    io_remove(&r->w->loop, io);
    io_close(io);
    recode_put(r);
    recode_unmap(r);
    recode_pause(r, &u);
}

static void recode_start(struct recode *r)
{
    r->pid = fork();
    if (r->pid == 0)
        recode_child(r);
    const int fd = r->pid > 0 ? pidfd_open(r->pid, 0) : -1;
    r->io = (struct io){.fd = fd, .handler = recode_on_exit};
    if (fd >= 0 && io_add_level(&r->w->loop, &r->io, false) == 0)
        return;
    if (r->pid > 0) {
        (void)kill(r->pid, SIGKILL);
        (void)waitpid(r->pid, NULL, 0);
    }
    io_close(&r->io);
    recode_unmap(r);
    LOG_WARN("recode", "what is compressed cannot be compressed anew: %s", err_text(ERR_SYS));
}

static void recode_next(struct recode *r)
{
    while (r->n && r->io.fd < 0 && !timer_is_set(&r->due)) {
        r->now = r->queue[r->first];
        r->first = (r->first + 1) % RECODE_QUEUE;
        r->n--;
        if (recode_take(r))
            recode_start(r);
    }
}

static void recode_on_time(struct timer *t)
{
    recode_next(CONTAINER(t, struct recode, due));
}

void recode_message(struct worker *w, const struct msg *m)
{
    struct recode *r = w->recode;
    struct worker_recode q;
    if (!r || m->len < sizeof q)
        return;
    memcpy(&q, m->payload, sizeof q);
    if (q.cache >= w->boot->config->ncache || !helper_joined(w, q.cache) || !q.coding ||
        q.coding > CONF_CODING__COUNT || !codec_of((enum conf_coding)(q.coding - 1)) ||
        r->n == RECODE_QUEUE)
        return; /* who is hot will be asked for again */
    for (unsigned i = 0; i < r->n; i++)
        if (memcmp(&r->queue[(r->first + i) % RECODE_QUEUE], &q, sizeof q) == 0)
            return;
    r->queue[(r->first + r->n++) % RECODE_QUEUE] = q;
    recode_next(r);
}

int recode_helper_init(struct worker *w)
{
    struct recode *r = w->boot->config->ncache ? calloc(1, sizeof *r) : NULL;
    if (!w->boot->config->ncache)
        return 0;
    if (!r)
        return -ERR_NOMEM;
    r->w = w;
    r->io.fd = -1;
    timer_init(&r->due, recode_on_time);
    w->recode = r;
    (void)signal(SIGCHLD, SIG_DFL); /* its child is waited for */
    return 0;
}

void recode_helper_fini(struct worker *w)
{
    struct recode *r = w->recode;
    if (!r)
        return;
    timer_stop(&r->due);
    if (r->io.fd >= 0) {
        (void)kill(r->pid, SIGKILL);
        (void)waitpid(r->pid, NULL, 0);
        io_remove(&w->loop, &r->io);
        io_close(&r->io);
    }
    recode_unmap(r);
    free(r);
    w->recode = NULL;
}
