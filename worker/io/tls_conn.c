/* Connections over TLS: the handshake, the ops of their links, and the bytes between OpenSSL and
 * the socket; see tls.h.
 *
 * OpenSSL writes into one buffer of the process, and what a call has put there goes out with one
 * send(2); what the kernel does not take is copied to the connection, and link.unsent says how
 * much. So OpenSSL never sees a full socket, and a write is never half done inside it. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "worker/io/tls_in.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    CONN_FULL = 16384,         /* contents of a record, RFC 8446 5.1 */
    CONN_SMALL = 1300,         /* fits into one segment: the peer need not wait for a second one */
    CONN_FRESH = 40 * 1024,    /* small records at first: about an initial window and a bit */
    CONN_SILENCE_MS = 1000,    /* after it the congestion window may have shrunk */
    CONN_BATCH = 240 * 1024,   /* plaintext of one send() */
    CONN_WIRE = 288 * 1024,    /* its records, and a flight of a handshake */
    CONN_UNSENT_MAX = 1 << 20, /* a peer that provokes answers and reads none is cut off */
    CONN_READ_FIRST = 16 * 1024, /* so that tls_take_back() needs no more room */
    /* A call ends there although more has come: records of a byte, or of none for us, cost as much
     * as long ones, and others want their turn. */
    CONN_RECORDS = 128,
    CONN_FED_MAX = 256 * 1024
};

/* Records of the call that runs; empty between calls. */
static struct {
    size_t n;
    unsigned char b[CONN_WIRE];
} wire;
/* Where pieces that are too short for a record of their own are put together. */
static char stage[CONN_FULL];

/* ---- bytes ---- */

static ssize_t wire_send(struct link *k, const void *p, size_t n)
{
    ssize_t r;
    do
        r = send(k->io.fd, p, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    /* The queue is full after a short write as well: an edge will come (epoll(7)). */
    if (r < (ssize_t)n)
        k->io.ready &= (uint8_t)~IO_WRITE;
    if (r < 0)
        return errno == EAGAIN ? 0 : -ERR_SYS;
    return r;
}

/* Behind what is unsent already. 0, -ERR_NOMEM. */
static int conn_keep(struct tls_conn *c, const void *p, size_t n)
{
    struct link *k = c->k;
    if (n > CONN_UNSENT_MAX - k->unsent)
        return -ERR_NOMEM;
    if (c->out_off && k->unsent)
        memmove(c->out, c->out + c->out_off, k->unsent);
    c->out_off = 0;
    if (k->unsent + n > c->out_cap) {
        char *q = alloc_should_fail() ? NULL : realloc(c->out, k->unsent + n);
        if (!q)
            return -ERR_NOMEM;
        c->out = q;
        c->out_cap = (uint32_t)(k->unsent + n);
    }
    memcpy(c->out + k->unsent, p, n);
    k->unsent += (uint32_t)n;
    return 0;
}

/* Gives the kernel what the call has collected and keeps the rest. After a failure the connection
 * is of no use any more. 0, -ERR_SYS. */
static int conn_push(struct tls_conn *c)
{
    size_t n = wire.n;
    ssize_t r = 0;
    wire.n = 0;
    if (!n)
        return 0;
    if (!c->k->unsent)
        r = wire_send(c->k, wire.b, n);
    if (r >= 0 && ((size_t)r == n || conn_keep(c, wire.b + r, n - (size_t)r) == 0))
        return 0;
    c->wire_error = true;
    c->state = TLS_BROKEN;
    return -ERR_SYS;
}

/* close_notify. True: the socket is full (only with kTLS). */
static bool conn_notify(struct tls_conn *c)
{
    tls_error_none();
    int r = SSL_shutdown(c->ssl);
    bool full = r < 0 && SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_WRITE;
    tls_error_none();
    return full;
}

static int conn_finish(struct tls_conn *c)
{
    if (c->ktls && c->state == TLS_OPEN && conn_notify(c)) {
        c->k->unsent = 1; /* for those who wait: not everything is out */
        c->k->io.ready &= (uint8_t)~IO_WRITE;
        return -ERR_AGAIN;
    }
    c->fin_due = false;
    c->fin_done = true;
    return shutdown(c->k->io.fd, SHUT_WR) ? -ERR_SYS : 0;
}

/* With kTLS the kernel makes the records, and OpenSSL writes to the socket itself: what is unsent
 * is the contents of one write, to be tried again as it was. */
static int ktls_flush(struct tls_conn *c)
{
    size_t done;
    tls_error_none();
    /* Without contents it is close_notify, which conn_finish() tries again. */
    if (!c->out || SSL_write_ex(c->ssl, c->out, c->k->unsent, &done)) {
        c->k->unsent = 0;
        return 0;
    }
    c->k->io.ready &= (uint8_t)~IO_WRITE;
    if (SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_WRITE)
        return -ERR_AGAIN;
    tls_error_queue("the connection broke");
    c->wire_error = true;
    c->state = TLS_BROKEN;
    return -ERR_SYS;
}

static int conn_flush(struct link *k)
{
    struct tls_conn *c = k->tls;
    if (c->wire_error)
        return -ERR_SYS;
    if (k->unsent && c->ktls) {
        int e = ktls_flush(c);
        if (e < 0)
            return e;
    } else if (k->unsent) {
        ssize_t r = wire_send(k, c->out + c->out_off, k->unsent);
        if (r < 0) {
            c->wire_error = true;
            return -ERR_SYS;
        }
        c->out_off += (uint32_t)r;
        k->unsent -= (uint32_t)r;
        if (k->unsent)
            return -ERR_AGAIN;
    }
    free(c->out);
    c->out = NULL;
    c->out_off = c->out_cap = 0;
    return c->fin_due ? conn_finish(c) : 0;
}

/* ---- BIO ---- */

static int conn_bio_write(BIO *b, const char *p, size_t n, size_t *ret_n)
{
    struct tls_conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    *ret_n = 0;
    if (n > sizeof wire.b - wire.n && (conn_push(c) < 0 || n > sizeof wire.b))
        return 0;
    memcpy(wire.b + wire.n, p, n);
    wire.n += n;
    *ret_n = n;
    return 1;
}

/* The first bytes decide whether it is TLS at all: a client that begins with a letter speaks HTTP
 * (a record of a handshake begins with 22). False: they are kept for tls_take_back(). */
static bool conn_looks_like_tls(struct tls_conn *c, const char *p, size_t n)
{
    c->seen = true;
    unsigned lower = (unsigned char)p[0] | 0x20u;
    if (!c->server || lower < 'a' || lower > 'z')
        return true;
    c->first = alloc_should_fail() ? NULL : malloc(n);
    if (c->first) {
        memcpy(c->first, p, n);
        c->nfirst = (uint32_t)n;
        c->plain = true;
    } else {
        c->wire_error = true;
    }
    return false;
}

static int conn_bio_read(BIO *b, char *p, size_t n, size_t *ret_n)
{
    struct tls_conn *c = BIO_get_data(b);
    struct link *k = c->k;
    BIO_clear_retry_flags(b);
    *ret_n = 0;
    if (c->drained) { /* an edge will tell of more: no need to ask */
        BIO_set_retry_read(b);
        return 0;
    }
    if (c->fed >= CONN_FED_MAX) {
        io_again(c->t->env.loop, &k->io);
        BIO_set_retry_read(b);
        return 0;
    }
    if (!c->seen && n > CONN_READ_FIRST)
        n = CONN_READ_FIRST;
    ssize_t r;
    do
        r = recv(k->io.fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        k->io.ready &= (uint8_t)~IO_READ;
        if (errno == EAGAIN) {
            c->drained = true;
            BIO_set_retry_read(b);
        } else {
            c->wire_error = true;
        }
        return 0;
    }
    /* As in link.c: a short read means that the queue is empty; after a hang-up the end has still
     * to be read. */
    if ((size_t)r < n && !(k->io.ready & IO_HUP)) {
        k->io.ready &= (uint8_t)~IO_READ;
        c->drained = r > 0;
    }
    if (r == 0) {
        c->wire_eof = true;
        return 0;
    }
    if (!c->seen && !conn_looks_like_tls(c, p, (size_t)r))
        return 0;
    c->fed += (uint32_t)r;
    *ret_n = (size_t)r;
    return 1;
}

static long conn_bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH; /* conn_push() does it */
}

static int conn_bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

static BIO_METHOD *conn_bio(void)
{
    static BIO_METHOD *m;
    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link");
    if (m &&
        (!BIO_meth_set_write_ex(m, conn_bio_write) || !BIO_meth_set_read_ex(m, conn_bio_read) ||
         !BIO_meth_set_ctrl(m, conn_bio_ctrl) || !BIO_meth_set_create(m, conn_bio_create))) {
        BIO_meth_free(m);
        m = NULL;
    }
    return m;
}

/* ---- reading ---- */

/* What a read that failed means from now on: 1 nothing (would block), else what recv returns. */
static int conn_read_end(struct tls_conn *c)
{
    switch (SSL_get_error(c->ssl, -1)) {
    case SSL_ERROR_WANT_READ:
        return 1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        break;
    }
    if (c->wire_eof && !c->wire_error && !ERR_peek_error()) {
        /* The end without close_notify. Requests say how long they are, and clients that hang up
         * so are many; of an answer it may cut off the end (RFC 8446 6.1). */
        return c->server ? 0 : -ERR_SYS;
    }
    tls_error_queue("the connection broke");
    c->state = TLS_BROKEN;
    return -ERR_SYS;
}

static ssize_t conn_recv(struct link *k, char *p, size_t n)
{
    struct tls_conn *c = k->tls;
    size_t got = 0;
    int records = 0;
    if (c->state != TLS_OPEN && c->end == 1)
        return -ERR_SYS;
    c->drained = false;
    c->fed = 0;
    tls_error_none();
    while (c->end == 1 && got < n && records < CONN_RECORDS) {
        size_t r;
        records++;
        if (SSL_read_ex(c->ssl, p + got, n - got, &r)) {
            got += r;
            if (c->drained && !SSL_has_pending(c->ssl))
                break;
            continue;
        }
        c->end = conn_read_end(c);
        if (c->end == 1) {
            if (c->ktls)
                k->io.ready &= (uint8_t)~IO_READ;
            break;
        }
        tls_error_none();
    }
    conn_push(c); /* answers to key updates, alerts; a failure shows with the next call */
    if (got && (got == n || records == CONN_RECORDS) && SSL_has_pending(c->ssl))
        k->io.ready |= IO_READ; /* what OpenSSL has read ahead makes no edge */
    if (c->end == 1)
        return got ? (ssize_t)got : -ERR_AGAIN;
    if (got) {
        k->io.ready |= IO_READ; /* the end is still to be told */
        return (ssize_t)got;
    }
    if (!(k->io.ready & IO_HUP))
        k->io.ready &= (uint8_t)~IO_READ;
    return c->end;
}

/* ---- writing ---- */

/* A position in an iovec array. */
struct gather {
    const struct iovec *v, *end;
    size_t off;
};

static bool gather_more(struct gather *g)
{
    while (g->v < g->end && g->off == g->v->iov_len) {
        g->v++;
        g->off = 0;
    }
    return g->v < g->end;
}

/* At most `want` bytes in one piece, copied together only where they are not; 0: nothing left. */
static size_t gather_next(struct gather *g, size_t want, const char **ret_p)
{
    size_t n = 0;
    while (n < want && gather_more(g)) {
        const char *p = (const char *)g->v->iov_base + g->off;
        size_t left = g->v->iov_len - g->off;
        if (n == 0 && (left >= want || g->v + 1 == g->end)) {
            n = left < want ? left : want;
            g->off += n;
            *ret_p = p;
            return n;
        }
        size_t m = left < want - n ? left : want - n;
        memcpy(stage + n, p, m);
        n += m;
        g->off += m;
    }
    *ret_p = stage;
    return n;
}

/* Contents of the next record: short ones until the congestion window has opened, because a record
 * can only be used when all of it has come. */
static size_t conn_record(const struct tls_conn *c)
{
    return c->fresh < CONN_FRESH ? CONN_SMALL : CONN_FULL;
}

static void conn_wrote(struct tls_conn *c, size_t n)
{
    c->fresh += n < CONN_FRESH - c->fresh ? (uint32_t)n : CONN_FRESH - c->fresh;
}

static void conn_woke(struct tls_conn *c)
{
    uint32_t now = (uint32_t)clock_ms();
    if (now - c->wrote_ms > CONN_SILENCE_MS)
        c->fresh = 0;
    c->wrote_ms = now;
}

static ssize_t ktls_writev(struct tls_conn *c, struct gather *g)
{
    size_t taken = 0, m, done;
    const char *p;
    tls_error_none();
    while (!c->k->unsent && (m = gather_next(g, CONN_FULL, &p)) > 0) {
        taken += m;
        if (SSL_write_ex(c->ssl, p, m, &done))
            continue;
        c->k->io.ready &= (uint8_t)~IO_WRITE;
        if (SSL_get_error(c->ssl, 0) != SSL_ERROR_WANT_WRITE || conn_keep(c, p, m) < 0) {
            tls_error_queue("the connection broke");
            c->wire_error = true;
            c->state = TLS_BROKEN;
            return -ERR_SYS;
        }
    }
    return (ssize_t)taken;
}

static ssize_t conn_writev(struct link *k, const struct iovec *iov, int n)
{
    struct tls_conn *c = k->tls;
    struct gather g = {.v = iov, .end = iov + n};
    size_t taken = 0;
    if (c->state != TLS_OPEN)
        return -ERR_SYS;
    if (k->unsent) {
        int e = conn_flush(k);
        if (e < 0)
            return e;
    }
    if (c->ktls)
        return ktls_writev(c, &g);
    conn_woke(c);
    tls_error_none();
    do {
        size_t batch = 0, m, done;
        const char *p;
        while (batch < CONN_BATCH && (m = gather_next(&g, conn_record(c), &p)) > 0) {
            if (!SSL_write_ex(c->ssl, p, m, &done) || done != m) {
                tls_error_queue("a record could not be made");
                c->state = TLS_BROKEN;
                wire.n = 0;
                return -ERR_SYS;
            }
            conn_wrote(c, m);
            batch += m;
        }
        taken += batch;
        if (conn_push(c) < 0)
            return -ERR_SYS;
    } while (!k->unsent && gather_more(&g));
    return (ssize_t)taken;
}

static int conn_shutdown(struct link *k)
{
    struct tls_conn *c = k->tls;
    if (c->fin_due || c->fin_done)
        return 0;
    if (c->state == TLS_OPEN && !c->ktls) { /* else once OpenSSL has nothing else to write */
        conn_notify(c);
        if (conn_push(c) < 0)
            return -ERR_SYS;
    }
    c->fin_due = true;
    int e = conn_flush(k);
    return e == -ERR_AGAIN ? 0 : e;
}

/* ---- life ---- */

static void conn_free(struct tls_conn *c)
{
    struct link *k = c->k;
    tls_certs_forget(c);
    /* A session is good for the next connection although this one may end without ceremony. */
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c->ssl);
    wire.n = 0;
    if (c->server && c->t->env.gau)
        gauge_add(c->t->env.gau, GAU_TLS_CONNS, -1);
    free(c->out);
    free(c->first);
    free(c->sni);
    free(c->text);
    k->tls = NULL;
    k->ops = &link_plain;
    k->unsent = 0;
    pool_put(&c->t->conns, c);
}

static void conn_count(const struct tls_conn *c, enum counter n)
{
    if (c->t->env.ctr)
        counter_add(c->t->env.ctr, n, 1);
}

static void conn_close(struct link *k)
{
    struct tls_conn *c = k->tls;
    if (c->state == TLS_OPEN && !k->cut && !k->unsent && !c->wire_eof && !c->wire_error &&
        !c->fin_done) {
        conn_notify(c);
        if (wire.n)
            wire_send(k, wire.b, wire.n);
    }
    conn_free(c);
    io_close(&k->io);
}

static const struct link_ops conn_ops = {.recv = conn_recv,
                                         .writev = conn_writev,
                                         .flush = conn_flush,
                                         .shutdown = conn_shutdown,
                                         .close = conn_close,
                                         .splice = false};

int tls_conn_new(struct tls *t, SSL_CTX *ctx, struct link *k, bool ktls, struct tls_conn **ret)
{
    BIO_METHOD *m = conn_bio();
    struct tls_conn *c = m ? pool_get(&t->conns) : NULL;
    if (!c)
        return -ERR_NOMEM;
    tls_error_none();
    BIO *b = ktls ? BIO_new_socket(k->io.fd, BIO_NOCLOSE) : BIO_new(m);
    c->ssl = SSL_new(ctx);
    if (!b || !c->ssl || !SSL_set_app_data(c->ssl, c)) {
        BIO_free(b);
        SSL_free(c->ssl);
        pool_put(&t->conns, c);
        tls_error_none();
        return -ERR_NOMEM;
    }
    c->k = k;
    c->t = t;
    c->end = 1;
    c->wrote_ms = (uint32_t)clock_ms();
    list_init(&c->waiting);
    c->ktls = ktls;
    if (!ktls)
        BIO_set_data(b, c);
    SSL_set_bio(c->ssl, b, b);
    k->ops = &conn_ops;
    k->tls = c;
    k->unsent = 0;
    *ret = c;
    return 0;
}

int tls_accept(struct tls_server *s, struct link *k)
{
    struct tls_conn *c;
    int e = tls_conn_new(s->t, s->ctx, k, s->ktls, &c);
    if (e < 0)
        return e;
    c->server = s;
    SSL_set_accept_state(c->ssl);
    if (s->t->env.gau)
        gauge_add(s->t->env.gau, GAU_TLS_CONNS, 1);
    return 0;
}

size_t tls_take_back(struct link *k, char *p, size_t cap)
{
    struct tls_conn *c = k->tls;
    if (!c)
        return 0;
    size_t n = c->nfirst < cap ? c->nfirst : cap;
    if (n)
        memcpy(p, c->first, n);
    conn_free(c);
    return n;
}

/* ---- handshake ---- */

static int conn_established(struct tls_conn *c)
{
    const unsigned char *p;
    unsigned n;
    bool resumed = SSL_session_reused(c->ssl);
    if (c->server && resumed) {
        int e = tls_info_recheck(c);
        if (e < 0)
            return e;
    }
    if (c->client)
        tls_client_established(c);
    SSL_get0_alpn_selected(c->ssl, &p, &n);
    c->h2 = n == 2 && memcmp(p, "h2", 2) == 0;
    c->state = TLS_OPEN;
    conn_count(c, c->server ? CTR_TLS_HANDSHAKES : CTR_UP_TLS_HANDSHAKES);
    if (c->server && resumed)
        conn_count(c, CTR_TLS_RESUMED);
    if (SSL_has_pending(c->ssl))
        c->k->io.ready |= IO_READ; /* the first request came with the end of the handshake */
    return 0;
}

/* The text, the counters and the code of a handshake that is over. */
static int conn_refused(struct tls_conn *c)
{
    c->state = TLS_BROKEN;
    if (c->plain) {
        tls_error_none();
        tls_error_set("plain HTTP");
        conn_count(c, CTR_TLS_PLAIN);
        return -ERR_TLS_PLAIN;
    }
    if (c->why) {
        tls_error_none();
        tls_error_set(c->why);
    } else if (c->wire_error && !ERR_peek_error()) {
        tls_error_set("the connection broke");
    } else if (c->wire_eof && !ERR_peek_error()) {
        tls_error_set("the peer closed the connection");
    } else {
        tls_error_queue("unknown error");
    }
    if (!c->server) {
        conn_count(c, CTR_UP_TLS_FAILED);
        return tls_client_failed(c);
    }
    if (!c->seen) /* nobody began one: a health check, a port scan */
        return -ERR_SYS;
    conn_count(c, CTR_TLS_FAILED);
    return -ERR_TLS_HANDSHAKE;
}

/* With kTLS the first bytes are looked at where they lie. 0 it is TLS; -ERR_AGAIN; -ERR_SYS. */
static int ktls_first(struct tls_conn *c)
{
    struct io *io = &c->k->io;
    ssize_t n = recv(io->fd, stage, CONN_READ_FIRST, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        io->ready &= (uint8_t)~IO_READ;
        return -ERR_AGAIN;
    }
    c->wire_eof = n == 0;
    if (n <= 0)
        return -ERR_SYS;
    if (conn_looks_like_tls(c, stage, (size_t)n))
        return 0;
    c->wire_error = c->wire_error || recv(io->fd, stage, (size_t)n, 0) != n;
    return -ERR_SYS;
}

/* The socket BIO keeps no flags of ours: what it waits for tells. */
static void ktls_blocked(struct tls_conn *c, int why)
{
    if (c->ktls && why == SSL_ERROR_WANT_READ)
        c->k->io.ready &= (uint8_t)~IO_READ;
    if (c->ktls && why == SSL_ERROR_WANT_WRITE)
        c->k->io.ready &= (uint8_t)~IO_WRITE;
}

int tls_handshake(struct link *k)
{
    struct tls_conn *c = k->tls;
    if (c->state == TLS_OPEN)
        return 0;
    if (c->state == TLS_BROKEN)
        return -ERR_SYS;
    if (k->unsent) {
        int e = conn_flush(k);
        if (e == -ERR_SYS)
            return conn_refused(c);
    }
    if (c->ktls && !c->seen) {
        int e = ktls_first(c);
        if (e < 0)
            return e == -ERR_AGAIN ? e : conn_refused(c);
    }
    c->drained = false;
    c->fed = 0;
    tls_error_none();
    int r = SSL_do_handshake(c->ssl);
    int why = r == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, r);
    int e = conn_push(c);
    ktls_blocked(c, why);
    if (r == 1 && e == 0 && conn_established(c) == 0)
        return 0;
    if (e == 0 && (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ||
                   why == SSL_ERROR_WANT_X509_LOOKUP))
        return -ERR_AGAIN;
    return conn_refused(c);
}

bool tls_is_h2(const struct link *k)
{
    return k->tls && k->tls->h2;
}
