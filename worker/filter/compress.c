/* Compression of answers: an encoder in the place of the client's side. Which answers get one is
 * compress_head.c's to say. */
#include "worker/filter/compress.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"

/* Bytes encoded per exchange and turn; some milliseconds. Then others get theirs. */
#define COMPRESS_BUDGET (256u * 1024u)
/* Room in front of a flush, see codec.h. */
#define COMPRESS_ROOM 64u

/* One answer that is being encoded: stream.filter. */
struct compress {
    const struct stream_client *next;
    struct stream *s;
    struct filters *all;
    struct codec_state *codec;
    void (*copy)(struct stream *s, struct slice bytes, bool end);
    struct list dirty;
    uint64_t in, out;
    size_t turn_in; /* since its last turn in the list */
    uint8_t coding; /* enum conf_coding */
    bool eager;     /* each piece goes out at once */
    bool fresh;     /* something came since the last turn */
    bool waits;     /* the exchange was told to pause, and is to be told to go on */
};

void compress_init(struct filters *f)
{
    pool_init(&f->pool, "compressed answers", sizeof(struct compress));
    list_init(&f->dirty);
}

static void compress_count(const struct compress *c)
{
    static const enum counter in[] = {[CONF_CODING_BR] = CTR_COMPRESS_BR_IN,
                                      [CONF_CODING_GZIP] = CTR_COMPRESS_GZIP_IN,
                                      [CONF_CODING_ZSTD] = CTR_COMPRESS_ZSTD_IN},
                              out[] = {[CONF_CODING_BR] = CTR_COMPRESS_BR_OUT,
                                       [CONF_CODING_GZIP] = CTR_COMPRESS_GZIP_OUT,
                                       [CONF_CODING_ZSTD] = CTR_COMPRESS_ZSTD_OUT};
    struct counter_row *ctr = c->all->env->ctr;
    counter_add(ctr, CTR_COMPRESS_ANSWERS, 1);
    counter_add(ctr, in[c->coding], c->in);
    counter_add(ctr, out[c->coding], c->out);
}

/* ---- bytes ---- */

/* What has come out goes on to the client's side, and a head with it. 0, 1 or negative as send().
 */
static int compress_emit(struct compress *c, struct stream_out *o, size_t n)
{
    o->data = c->all->out;
    o->n = n;
    c->out += n;
    c->s->body_out += n;
    if (c->copy && (n || o->end))
        c->copy(c->s, slice_of(o->data, n), o->end);
    const int e = c->next->send(c->s, o);
    o->resp = NULL;
    o->wire = NULL;
    o->fwd = NULL;
    return e;
}

/* Encodes one piece behind the *used bytes of the buffer, which is emptied as it fills. 0, 1 or
 * negative as send(). */
static int compress_piece(struct compress *c, const char *p, size_t n, enum codec_op op,
                          struct stream_out *o, size_t *used)
{
    struct codec_io io = {.in = p, .nin = n};
    int e, sent = 0;
    do {
        if (FILTER_OUT - *used < COMPRESS_ROOM) {
            const int k = compress_emit(c, o, *used);
            if (k < 0)
                return k;
            sent |= k;
            *used = 0;
        }
        io.out = c->all->out + *used;
        io.nout = FILTER_OUT - *used;
        e = c->codec->codec->run(c->codec, &io, op);
        *used = FILTER_OUT - io.nout;
    } while (e == 1);
    if (e == 0)
        return sent;
    c->s->reason = -e; /* what has gone cannot be taken back */
    return e;
}

static void compress_mark(struct compress *c, bool fresh)
{
    c->fresh |= fresh;
    if (!list_linked(&c->dirty))
        list_append(&c->all->dirty, &c->dirty);
}

/* A turn's share is used up: the exchange pauses as it does for a slow client. */
static int compress_pause(struct compress *c, int sent)
{
    if (sent)
        c->waits = false; /* the client says when to go on */
    if (sent || c->turn_in < COMPRESS_BUDGET)
        return sent;
    c->waits = true;
    compress_mark(c, false);
    return 1;
}

static int compress_send(struct stream *s, const struct stream_out *o)
{
    struct compress *c = s->filter;
    struct stream_out out = {.resp = o->resp, .wire = o->wire, .fwd = o->fwd};
    const struct iovec one = {(void *)(uintptr_t)o->data, o->n};
    const struct iovec *v = o->iov ? o->iov : &one;
    const int n = o->iov ? o->niov : 1;
    const enum codec_op last = o->end ? CODEC_END : c->eager && o->n ? CODEC_FLUSH : CODEC_RUN;
    size_t used = 0;
    int sent = 0;
    if (o->taken)
        *o->taken = o->n;
    c->in += o->n;
    c->turn_in += o->n;
    s->plain += o->n;
    s->body_out -= o->n; /* who sends counts what he gave us */
    for (int i = 0; i < n; i++) {
        const int e = compress_piece(c, v[i].iov_base, v[i].iov_len, i + 1 == n ? last : CODEC_RUN,
                                     &out, &used);
        if (e < 0)
            return e;
        sent |= e;
    }
    out.end = o->end;
    out.trailer = o->trailer;
    out.ntrailer = o->ntrailer;
    if (used || out.resp || out.wire || o->end) {
        const int e = compress_emit(c, &out, used);
        if (e < 0)
            return e;
        sent |= e;
    }
    if (o->end) {
        list_remove(&c->dirty);
        return sent;
    }
    if (o->n && !c->eager)
        compress_mark(c, true);
    return compress_pause(c, sent);
}

static void compress_flush(struct compress *c)
{
    struct stream_out out = {.resp = NULL};
    size_t used = 0;
    int e = compress_piece(c, NULL, 0, CODEC_FLUSH, &out, &used);
    if (e >= 0 && used)
        e = compress_emit(c, &out, used);
    if (e < 0)
        stream_client_failed(c->s, ERR_CLIENT_CLOSED);
}

bool compress_turn(struct filters *f)
{
    struct list now;
    list_init(&now);
    if (list_empty(&f->dirty))
        return false;
    now = f->dirty;
    now.next->prev = now.prev->next = &now;
    list_init(&f->dirty);
    while (!list_empty(&now)) {
        struct compress *c = CONTAINER(now.next, struct compress, dirty);
        const bool waits = c->waits;
        list_remove(&c->dirty);
        c->turn_in = 0;
        c->waits = false;
        if (waits || c->fresh) {
            /* The server may go on in a moment: a flush costs bytes, so the next turn sees whether
             * something more has come. */
            if (!c->eager)
                compress_mark(c, waits);
            c->fresh = c->fresh && waits;
            if (waits)
                stream_drained(c->s);
        } else {
            compress_flush(c);
        }
    }
    return !list_empty(&f->dirty);
}

/* ---- the rest of a client's side ---- */

static void compress_want_body(struct stream *s)
{
    const struct compress *c = s->filter;
    c->next->want_body(s);
}

static int compress_send_pipe(struct stream *s, struct pipe *p, bool end)
{
    (void)s;
    (void)p;
    (void)end;
    return -ERR_INVAL;
}

static bool compress_can_pipe(const struct stream *s)
{
    (void)s;
    return false; /* the bytes have to be seen */
}

static void compress_tunnel(struct stream *s)
{
    const struct compress *c = s->filter;
    c->next->tunnel(s);
}

static void compress_shut(struct stream *s)
{
    const struct compress *c = s->filter;
    c->next->shut(s);
}

void compress_forget(struct stream *s)
{
    struct compress *c = s->filter;
    list_remove(&c->dirty);
    codec_put(&c->all->codecs, c->codec);
    s->filter = NULL;
    s->client_ops = c->next;
    s->coding = 0;
    pool_put(&c->all->pool, c);
}

static void compress_over(struct stream *s, bool cut)
{
    compress_count(s->filter);
    compress_forget(s);
    s->client_ops->over(s, cut);
}

static const struct stream_client compress_ops = {.send = compress_send,
                                                  .want_body = compress_want_body,
                                                  .send_pipe = compress_send_pipe,
                                                  .can_pipe = compress_can_pipe,
                                                  .tunnel = compress_tunnel,
                                                  .shut = compress_shut,
                                                  .over = compress_over};

int compress_begin(struct stream *s, const struct compress_how *how)
{
    struct filters *f = s->env->filters;
    const struct conf_compress_keys *k = &s->scope->compress->k;
    const struct codec *codec = codec_of(how->level->coding);
    const uint32_t busy = cpu_share(&f->cpu, clock_us());
    struct codec_spec spec = {.level = how->level->level, .small = how->eager, .size = how->size};
    if (busy >= k->cpu_off && !how->must) {
        counter_add(f->env->ctr, CTR_COMPRESS_BUSY, 1);
        return -ERR_FULL;
    }
    if (busy >= k->cpu_low && spec.level > codec->fastest)
        spec.level = codec->fastest;
    DEBUG_MUST(!s->filter);
    struct codec_state *st = codec_get(&f->codecs, how->level->coding, &spec);
    struct compress *c = st ? pool_get(&f->pool) : NULL;
    if (!c) {
        if (st)
            codec_put(&f->codecs, st);
        counter_add(f->env->ctr, CTR_COMPRESS_NOMEM, 1);
        return -ERR_NOMEM;
    }
    *c = (struct compress){.next = s->client_ops,
                           .s = s,
                           .all = f,
                           .codec = st,
                           .copy = how->copy,
                           .coding = (uint8_t)how->level->coding,
                           .eager = how->eager};
    list_init(&c->dirty);
    s->filter = c;
    s->client_ops = &compress_ops;
    return 0;
}
