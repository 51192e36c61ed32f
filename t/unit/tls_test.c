/* TLS links between our two sides, in one process: handshakes, resumption, ALPN, certificates of
 * both, bytes through small sockets, ends, plain HTTP, garbage, failing allocations. */
#include "t/unit/tls_fixture.h"

#include "base/arena.h"
#include "base/hash.h"
#include "shm/slot.h"
#include "shm/ticket.h"
#include "worker/io/tls_in.h"

#include <openssl/err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char config_text[] = "[global]\n"
                                  "certificate_check = 0\n"
                                  "[listen main]\n"
                                  "address = 127.0.0.1:18443\n"
                                  "tls = on\n"
                                  "[listen modern]\n"
                                  "address = 127.0.0.1:18444\n"
                                  "tls = on\n"
                                  "policy = modern\n"
                                  "protocols = http/1.1\n"
                                  "[listen required]\n"
                                  "address = 127.0.0.1:18445\n"
                                  "tls = on\n"
                                  "client_ca = @/ca.crt\n"
                                  "[listen optional]\n"
                                  "address = 127.0.0.1:18446\n"
                                  "tls = on\n"
                                  "client_ca = @/ca.crt\n"
                                  "client_verify = optional\n"
                                  "[listen by_id]\n"
                                  "address = 127.0.0.1:18447\n"
                                  "tls = on\n"
                                  "session_tickets = off\n"
                                  "[listen never]\n"
                                  "address = 127.0.0.1:18448\n"
                                  "tls = on\n"
                                  "session_tickets = off\n"
                                  "session_cache = off\n"
                                  "[listen only_b]\n"
                                  "address = 127.0.0.1:18449\n"
                                  "tls = on\n"
                                  "certificate = b.test\n"
                                  "[listen old]\n"
                                  "address = 127.0.0.1:18450\n"
                                  "tls = on\n"
                                  "certificate = old.test\n"
                                  "[listen empty]\n"
                                  "address = 127.0.0.1:18451\n"
                                  "tls = on\n"
                                  "certificate = empty\n"
                                  "[listen kernel]\n"
                                  "address = 127.0.0.1:18452\n"
                                  "tls = on\n"
                                  "ktls = on\n"
                                  "[listen plain]\n"
                                  "address = 127.0.0.1:18080\n"
                                  "[certificate a.test]\n"
                                  "pair = @/a.test.crt @/a.test.key\n"
                                  "default = on\n"
                                  "[certificate b.test]\n"
                                  "pair = @/b.test.crt @/b.test.key\n"
                                  "[certificate old.test]\n"
                                  "pair = @/old.test.crt @/old.test.key\n"
                                  "[certificate empty]\n"
                                  "directory = @/empty\n"
                                  "[upstream good]\n"
                                  "tls_ca = @/ca.crt\n"
                                  "server = https://127.0.0.1:1001 tls_name=a.test\n"
                                  "server = https://127.0.0.1:1002\n"
                                  "server = https://127.0.0.1:1003 tls_name=b.test\n"
                                  "server = https://127.0.0.1:1004 tls_name=else.test\n"
                                  "server = https://127.0.0.2:1005\n"
                                  "server = https://127.0.0.1:1006 tls_name=a.test "
                                  "tls_ca=@/other.crt\n"
                                  "server = https://127.0.0.1:1007 tls_name=old.test\n"
                                  "server = 127.0.0.1:1008\n"
                                  "[upstream shown]\n"
                                  "tls_ca = @/ca.crt\n"
                                  "tls_certificate = @/client.crt\n"
                                  "tls_key = @/client.key\n"
                                  "server = https://127.0.0.1:1011 tls_name=a.test\n"
                                  "[upstream stale]\n"
                                  "tls_ca = @/ca.crt\n"
                                  "tls_certificate = @/stale.crt\n"
                                  "tls_key = @/stale.key\n"
                                  "server = https://127.0.0.1:1021 tls_name=a.test\n"
                                  "[upstream careless]\n"
                                  "tls_verify = off\n"
                                  "server = https://127.0.0.1:1031 tls_name=else.test\n"
                                  "[host h]\n"
                                  "names = *\n"
                                  "upstream = good\n";
enum listen { MAIN, MODERN, REQUIRED, OPTIONAL, BY_ID, NEVER, ONLY_B, OLD, EMPTY, KERNEL, PLAIN };
enum upstream { GOOD, SHOWN, STALE, CARELESS };
enum server { BY_NAME, BY_IP, OTHER_NAME, WRONG_NAME, WRONG_IP, WRONG_CA, EXPIRED, NO_TLS };

static struct fix_tls f;
static struct segment *seg;
static struct loop loop;

struct both {
    struct link c, s;
    int ec, es;
};
enum { V12 = TLS1_2_VERSION, V13 = TLS1_3_VERSION };

static void begin(struct both *b, enum listen l, enum upstream u, size_t nth, int version)
{
    fix_pair(&b->c, &b->s, 0);
    if (tls_accept(tls_server_of(f.tls, l), &b->s) < 0 ||
        tls_connect(tls_client_of(f.tls, u, nth), &b->c, true, true) < 0)
        tap_bail("no connection");
    if (version)
        SSL_set_max_proto_version(b->c.tls->ssl, version);
}

static void shake(struct both *b, enum listen l, enum upstream u, size_t nth, int version)
{
    begin(b, l, u, nth, version);
    fix_shake(&b->c, &b->s, &b->ec, &b->es);
}

static void end(struct both *b)
{
    fix_close(&b->c);
    fix_close(&b->s);
}

static void forget_session(enum upstream u, size_t nth)
{
    struct tls_client *c = tls_client_of(f.tls, u, nth);
    SSL_SESSION_free(c->session);
    c->session = NULL;
}

/* Something in each direction; a client learns of TLS 1.3 tickets by reading. */
static bool talk(struct both *b)
{
    char p[64];
    bool ok = fix_send(&b->c, "ping", 4) == 4 && fix_recv(&b->s, p, sizeof p) == 4 &&
              memcmp(p, "ping", 4) == 0;
    return ok && fix_send(&b->s, "pong!", 5) == 5 && fix_recv(&b->c, p, sizeof p) == 5 &&
           memcmp(p, "pong!", 5) == 0;
}

/* ---- handshakes ---- */

static void test_versions(void)
{
    struct both b;
    struct tls_info i;
    uint64_t before = fix_count(&f, CTR_TLS_HANDSHAKES);
    tap_ok(!tls_server_of(f.tls, PLAIN) && !tls_client_of(f.tls, GOOD, NO_TLS),
           "nothing for plain listeners and servers");
    fix_pair(&b.c, &b.s, 0);
    tap_ok(!tls_describe(&b.c, &i) && tls_covers(&b.c, SLICE("x")) && !tls_is_h2(&b.c) &&
               !tls_client_verified(&b.c),
           "a plain link is described as such");
    end(&b);
    for (int v = 0; v < 2; v++) {
        shake(&b, MAIN, GOOD, BY_NAME, v ? V12 : V13);
        tap_ok(b.ec == 0 && b.es == 0, "handshake: %d %d", b.ec, b.es);
        tap_ok(tls_describe(&b.s, &i), "described");
        tap_is_str(i.version, v ? "TLSv1.2" : "TLSv1.3", "version");
        tap_is_str(i.cipher, v ? "ECDHE-ECDSA-AES128-GCM-SHA256" : "TLS_AES_128_GCM_SHA256",
                   "cipher");
        tap_is_str(i.sni, "a.test", "name");
        tap_is_str(i.alpn, "h2", "protocol");
        tap_ok(i.verify.n == 0, "nobody asks for a certificate");
        tap_ok(!i.resumed && tls_is_h2(&b.s) && tls_is_h2(&b.c), "not resumed, h2 at both ends");
        tap_ok(tls_covers(&b.s, SLICE("a.test")) && !tls_covers(&b.s, SLICE("b.test")),
               "what its certificate is for");
        tap_ok(talk(&b), "and it carries bytes");
        end(&b);
        forget_session(GOOD, BY_NAME);
    }
    tap_is_int((long long)(fix_count(&f, CTR_TLS_HANDSHAKES) - before), 2, "counted");
    shake(&b, MODERN, GOOD, BY_NAME, V12);
    tap_is_int(b.es, -ERR_TLS_HANDSHAKE, "modern: TLS 1.2 is refused (%s)", tls_last_error());
    tap_is_int(b.ec, -ERR_UP_TLS, "and the client hears it");
    end(&b);
    shake(&b, MODERN, GOOD, BY_NAME, V13);
    tap_ok(b.es == 0 && tls_describe(&b.s, &i) && slice_eq(i.alpn, SLICE("http/1.1")) &&
               !tls_is_h2(&b.c),
           "a listener without h2 chooses http/1.1");
    end(&b);
    forget_session(GOOD, BY_NAME);
}

static void test_alpn(void)
{
    static const struct {
        const char *wire;
        unsigned n;
        const char *want; /* NULL: refused */
    } t[] = {{"\x08http/1.1\x02h2", 12, "h2"},
             {"\x08http/1.1", 9, "http/1.1"},
             {"\x02h3\x08http/1.1", 12, "http/1.1"},
             {"\x02h3", 3, NULL},
             {"\x08http/1.0", 9, NULL}};
    struct both b;
    struct tls_info i;
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        begin(&b, MAIN, GOOD, BY_NAME, 0);
        SSL_set_alpn_protos(b.c.tls->ssl, (const unsigned char *)t[k].wire, t[k].n);
        fix_shake(&b.c, &b.s, &b.ec, &b.es);
        if (t[k].want)
            tap_ok(b.es == 0 && tls_describe(&b.s, &i) && slice_eq(i.alpn, slice_str(t[k].want)),
                   "ALPN %zu: %s", k, t[k].want);
        else
            tap_ok(b.es == -ERR_TLS_HANDSHAKE && b.ec == -ERR_UP_TLS &&
                       strstr(tls_last_error(), "no application protocol (the peer "),
                   "ALPN %zu: refused, the client hears why: %s", k, tls_last_error());
        end(&b);
    }
    begin(&b, MAIN, GOOD, BY_NAME, 0);
    SSL_set_alpn_protos(b.c.tls->ssl, NULL, 0);
    fix_shake(&b.c, &b.s, &b.ec, &b.es);
    tap_ok(b.es == 0 && tls_describe(&b.s, &i) && i.alpn.n == 0 && !tls_is_h2(&b.s),
           "no ALPN is no h2");
    end(&b);
    forget_session(GOOD, BY_NAME);
}

static void test_names(void)
{
    struct both b;
    struct tls_info i;
    shake(&b, MAIN, GOOD, OTHER_NAME, 0);
    tap_ok(b.ec == 0 && b.es == 0 && tls_describe(&b.s, &i), "another name, another certificate");
    tap_is_str(i.sni, "b.test", "names are folded to lower case without their dot");
    end(&b);
    shake(&b, MAIN, GOOD, BY_IP, 0);
    tap_ok(b.ec == 0 && tls_describe(&b.s, &i) && i.sni.n == 0,
           "an address is checked but not sent (%s)", tls_last_error());
    end(&b);
    shake(&b, ONLY_B, GOOD, BY_NAME, 0);
    tap_is_int(b.ec, -ERR_UP_CERT, "an unknown name gets a certificate, which is not for it");
    end(&b);
    for (int named = 0; named < 2; named++) {
        shake(&b, EMPTY, GOOD, named ? BY_NAME : BY_IP, 0);
        tap_is_int(b.ec, -ERR_UP_TLS, "no certificate at all: the client is told");
        tap_is_int(b.es, -ERR_TLS_HANDSHAKE, "and the log");
        end(&b);
    }
    tap_ok(tls_server_has(tls_server_of(f.tls, ONLY_B), SLICE("b.test")) &&
               !tls_server_has(tls_server_of(f.tls, ONLY_B), SLICE("a.test")),
           "which names a listener has");
    static const struct {
        enum listen l;
        enum server s;
        const char *why;
    } bad[] = {{MAIN, WRONG_NAME, "hostname mismatch (tls_name "},
               {MAIN, WRONG_IP, "IP address mismatch"},
               {MAIN, WRONG_CA, "unable to get local issuer certificate (tls_ca "},
               {OLD, EXPIRED, "certificate has expired"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        begin(&b, bad[k].l, GOOD, bad[k].s, 0);
        const char *said = NULL;
        char text[128] = "";
        for (int j = 0; j < 20 && !said; j++) {
            b.ec = tls_handshake(&b.c);
            if (b.ec != -ERR_AGAIN)
                said = strncpy(text, tls_last_error(), sizeof text - 1);
            b.es = tls_handshake(&b.s);
            b.c.io.ready |= IO_READ;
        }
        tap_ok(b.ec == -ERR_UP_CERT && strncmp(text, bad[k].why, strlen(bad[k].why)) == 0,
               "%s: %d %s", bad[k].why, b.ec, text);
        tap_ok(b.es == -ERR_TLS_HANDSHAKE || b.es == 0, "the server gets an alert");
        end(&b);
    }
    shake(&b, MAIN, CARELESS, 0, 0);
    tap_ok(b.ec == 0 && b.es == 0, "tls_verify = off takes anything");
    end(&b);
}

/* ---- resumption ---- */

static bool resumed(enum listen l, enum upstream u, int version, bool *ret_server)
{
    struct both b;
    struct tls_info i = {0}, j = {0};
    shake(&b, l, u, BY_NAME, version);
    bool ok =
        b.ec == 0 && b.es == 0 && talk(&b) && tls_describe(&b.s, &i) && tls_describe(&b.c, &j);
    if (!ok)
        printf("# %d %d %s\n", b.ec, b.es, tls_last_error());
    end(&b);
    if (ret_server)
        *ret_server = i.resumed;
    return ok && i.resumed && j.resumed && i.sni.n;
}

static void test_resumption(void)
{
    struct both b;
    struct ticket_ring r = {.n = 1};
    memset(r.key, 5, sizeof r.key);
    for (int v = V12; v <= V13; v++) {
        forget_session(GOOD, BY_NAME);
        tap_ok(!resumed(MAIN, GOOD, v, NULL), "%x: the first is whole", (unsigned)v);
        tap_ok(resumed(MAIN, GOOD, v, NULL), "tickets");
        tap_ok(resumed(MAIN, GOOD, v, NULL), "again");
        tap_ok(!resumed(REQUIRED, GOOD, v, NULL), "not at another listener");
        for (int l = MAIN; l <= BY_ID; l += BY_ID - MAIN) {
            struct tls_info i = {.resumed = true};
            forget_session(GOOD, BY_NAME);
            resumed((enum listen)l, GOOD, v, NULL);
            begin(&b, (enum listen)l, GOOD, BY_NAME, v);
            char other[] = "b.test";
            SSL_set_tlsext_host_name(b.c.tls->ssl, other);
            SSL_set1_host(b.c.tls->ssl, "b.test");
            fix_shake(&b.c, &b.s, &b.ec, &b.es);
            tap_ok(b.ec == 0 && b.es == 0 && tls_describe(&b.s, &i) && !i.resumed,
                   "not for another name");
            end(&b);
        }
        forget_session(GOOD, BY_NAME);
        resumed(BY_ID, GOOD, v, NULL);
        tap_ok(resumed(BY_ID, GOOD, v, NULL), "ids, in the shared cache");
        forget_session(GOOD, BY_NAME);
        resumed(NEVER, GOOD, v, NULL);
        tap_ok(!resumed(NEVER, GOOD, v, NULL), "neither");
    }
    /* The connection ended without a word: still good. */
    forget_session(GOOD, BY_NAME);
    shake(&b, MAIN, GOOD, BY_NAME, V12);
    close(b.c.io.fd);
    b.c.io.fd = -1;
    char p[16];
    tap_is_int(fix_recv(&b.s, p, sizeof p), 0, "a client that hangs up");
    b.c.ops->close(&b.c);
    fix_close(&b.s);
    tap_ok(resumed(MAIN, GOOD, V12, NULL), "its session is good nevertheless");
    ticket_put(seg, &r);
    tap_ok(!resumed(MAIN, GOOD, V12, NULL), "the master's keys replace the worker's own");
    /* Another process: another struct tls over the same segment. */
    struct fix_tls g, keep = f;
    if (!fix_tls(&g, config_text, seg, &loop, true))
        tap_bail("second struct tls");
    struct tls_client *from = tls_client_of(f.tls, GOOD, BY_NAME);
    SSL_SESSION_up_ref(from->session);
    SSL_SESSION *s = from->session;
    f = g;
    f.env.ctr = &f.ctr;
    tls_client_of(f.tls, GOOD, BY_NAME)->session = s;
    tap_ok(resumed(MAIN, GOOD, V12, NULL), "another worker takes the ticket");
    fix_tls_free(&g);
    f = keep;
}

static void test_rotation(void)
{
    struct ticket_ring r = {.n = 1};
    memset(r.key, 7, sizeof r.key);
    ticket_put(seg, &r);
    forget_session(GOOD, BY_NAME);
    resumed(MAIN, GOOD, V12, NULL);
    r.n = 2;
    r.key[1] = r.key[0];
    memset(&r.key[0], 9, sizeof r.key[0]);
    ticket_put(seg, &r);
    tap_ok(resumed(MAIN, GOOD, V12, NULL), "a ticket of the key before is taken");
    r.n = 1;
    ticket_put(seg, &r);
    tap_ok(resumed(MAIN, GOOD, V12, NULL), "and was renewed under the new one");
    memset(&r.key[0], 11, sizeof r.key[0]);
    ticket_put(seg, &r);
    tap_ok(!resumed(MAIN, GOOD, V12, NULL), "a ticket of a forgotten key is not");
    forget_session(GOOD, BY_NAME);
}

/* ---- certificates of clients ---- */

static void test_mutual(void)
{
    struct both b;
    struct tls_info i;
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    for (int v = V12; v <= V13; v++) {
        shake(&b, REQUIRED, SHOWN, 0, v);
        tap_ok(b.es == 0 && b.ec == 0 && tls_client_verified(&b.s) && tls_describe(&b.s, &i),
               "required, and shown (%s)", tls_last_error());
        tap_is_str(i.verify, "ok", "verified");
        tap_is_str(i.subject, "CN=client,O=rpd\\, tests", "subject");
        tap_is_str(i.issuer, "CN=ca,O=rpd\\, tests", "issuer");
        tap_ok(i.serial.n == 4 && i.serial.p[0] == '1' && i.fingerprint.n == 64,
               "serial and fingerprint");
        struct slice der = tls_client_der(&b.s, &a);
        tap_ok(der.n > 400 && der.n % 4 == 0 && slice_starts(der, SLICE("MII")), "its DER");
        tap_ok(talk(&b), "bytes");
        end(&b);
        shake(&b, REQUIRED, SHOWN, 0, v);
        tap_ok(b.es == 0 && tls_client_verified(&b.s) && tls_describe(&b.s, &i) && i.resumed,
               "resumed, still verified");
        tap_is_str(i.subject, "CN=client,O=rpd\\, tests", "the subject is known");
        end(&b);
        shake(&b, REQUIRED, GOOD, BY_NAME, v);
        tap_is_int(b.es, -ERR_TLS_HANDSHAKE, "required, none shown: %s", tls_last_error());
        end(&b);
        shake(&b, REQUIRED, STALE, 0, v);
        tap_is_int(b.es, -ERR_TLS_HANDSHAKE, "required, an expired one: %s", tls_last_error());
        end(&b);
        for (int again = 0; again < 2; again++) {
            shake(&b, OPTIONAL, STALE, 0, v);
            tap_ok(b.es == 0 && b.ec == 0 && !tls_client_verified(&b.s) && tls_describe(&b.s, &i) &&
                       i.resumed == again,
                   "optional, an expired one");
            tap_is_str(i.verify, "failed:certificate has expired", "the reason");
            tap_ok(talk(&b), "bytes");
            end(&b);
        }
        shake(&b, OPTIONAL, GOOD, BY_NAME, v);
        tap_ok(b.es == 0 && !tls_client_verified(&b.s) && tls_describe(&b.s, &i) &&
                   slice_eq(i.verify, SLICE("none")) && !tls_client_der(&b.s, &a).n,
               "optional, none");
        end(&b);
        forget_session(SHOWN, 0);
        forget_session(STALE, 0);
        forget_session(GOOD, BY_NAME);
    }
    arena_fini(&a);
}

/* ---- bytes ---- */

struct pump {
    struct link link;
    struct pump *peer;
    uint64_t tx, rx, want; /* bytes */
    uint32_t seed_tx, seed_rx;
    unsigned calls, empty; /* of recv, and of those that would block */
    bool open, fin, eof, bad;
};

static uint8_t pattern(uint64_t at, uint32_t seed)
{
    uint64_t x = (at / 7 + seed) * 0x9e3779b97f4a7c15ull;
    return (uint8_t)(x >> 56 ^ at);
}

static uint32_t random_to(uint32_t n)
{
    static uint64_t x = 88172645463325252ull;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 20) % n;
}

static void pump_write(struct pump *p)
{
    static char b[300000];
    struct link *k = &p->link;
    while (p->tx < p->want && (k->io.ready & IO_WRITE)) {
        size_t n = random_to(4) ? random_to(3000) : random_to(sizeof b);
        n = n < p->want - p->tx ? n + 1 : (size_t)(p->want - p->tx);
        n = n < p->want - p->tx ? n : (size_t)(p->want - p->tx);
        for (size_t i = 0; i < n; i++)
            b[i] = (char)pattern(p->tx + i, p->seed_tx);
        size_t cut = random_to((uint32_t)n + 1), mid = cut + random_to((uint32_t)(n - cut) + 1);
        const struct iovec v[4] = {{b, cut}, {b, 0}, {b + cut, mid - cut}, {b + mid, n - mid}};
        ssize_t w = link_writev(k, v, 4);
        if (w == -ERR_AGAIN)
            break;
        if (w < 0) {
            p->bad = true;
            break;
        }
        p->tx += (uint64_t)w;
    }
    if (k->unsent && (k->io.ready & IO_WRITE) && k->ops->flush(k) == -ERR_SYS)
        p->bad = true;
    if (p->tx == p->want && !p->fin) {
        p->fin = true;
        k->ops->shutdown(k);
    }
}

static void pump_read(struct pump *p)
{
    static char b[100000];
    while (!p->eof && !p->bad && (p->link.io.ready & IO_READ)) {
        size_t n = random_to(3) ? random_to(500) + 1 : random_to(sizeof b) + 1;
        ssize_t r = link_recv(&p->link, b, n);
        p->calls++;
        if (r == -ERR_AGAIN) {
            p->empty++;
            break;
        }
        p->bad = p->bad || r < 0 || r > (ssize_t)n;
        p->eof = r == 0;
        for (ssize_t i = 0; i < r; i++)
            p->bad = p->bad || (uint8_t)b[i] != pattern(p->rx + (uint64_t)i, p->seed_rx);
        p->rx += r > 0 ? (uint64_t)r : 0;
    }
}

static void pump_event(struct io *io)
{
    struct pump *p = CONTAINER(io, struct pump, link.io);
    int e = p->open ? 0 : tls_handshake(&p->link);
    p->open = e == 0;
    p->bad = p->bad || (e < 0 && e != -ERR_AGAIN);
    if (p->open) {
        pump_read(p);
        pump_write(p);
    }
    bool done = p->eof && p->fin && !p->link.unsent;
    if (p->bad || p->peer->bad || (done && p->peer->eof && p->peer->fin && !p->peer->link.unsent))
        loop.stop = true;
}

/* Both ways at once through a real loop, edge-triggered: a lost edge stands still (and the alarm
 * ends the test), a flag that lies spins (and is counted). */
static void test_pump(enum listen l, int buf, uint64_t up, uint64_t down, int version)
{
    struct pump c = {.want = up, .seed_tx = 1, .seed_rx = 2};
    struct pump s = {.want = down, .seed_tx = 2, .seed_rx = 1};
    c.peer = &s;
    s.peer = &c;
    fix_pair(&c.link, &s.link, buf);
    c.link.io.ready = s.link.io.ready = 0;
    c.link.io.handler = s.link.io.handler = pump_event;
    if (tls_accept(tls_server_of(f.tls, l), &s.link) < 0 ||
        tls_connect(tls_client_of(f.tls, GOOD, BY_NAME), &c.link, true, true) < 0 ||
        io_add(&loop, &c.link.io) < 0 || io_add(&loop, &s.link.io) < 0)
        tap_bail("no connection");
    SSL_set_max_proto_version(c.link.tls->ssl, version);
    loop.stop = false;
    alarm(60);
    loop_run(&loop);
    alarm(0);
    tap_ok(!c.bad && !s.bad && c.rx == down && s.rx == up, "%x, buffers of %d: %llu up, %llu down",
           (unsigned)version, buf, (unsigned long long)s.rx, (unsigned long long)c.rx);
    tap_ok(c.empty <= c.calls / 2 + 20 && s.empty <= s.calls / 2 + 20,
           "reads find something: %u of %u, %u of %u do not", c.empty, c.calls, s.empty, s.calls);
    fix_close(&c.link);
    fix_close(&s.link);
}

static void test_unsent(enum listen l)
{
    struct both b;
    static char big[400000];
    static char got[sizeof big];
    fix_pair(&b.c, &b.s, 20000);
    tls_accept(tls_server_of(f.tls, l), &b.s);
    tls_connect(tls_client_of(f.tls, GOOD, BY_NAME), &b.c, true, true);
    fix_shake(&b.c, &b.s, &b.ec, &b.es);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)pattern(i, 5);
    ssize_t w = fix_send(&b.s, big, sizeof big);
    tap_ok(w > 16384 && w < (ssize_t)sizeof big && b.s.unsent > 0 && !(b.s.io.ready & IO_WRITE),
           "a full socket: %zd taken, %u unsent", w, b.s.unsent);
    uint32_t unsent = b.s.unsent;
    tap_ok(fix_send(&b.s, "x", 1) == -ERR_AGAIN && b.s.unsent == unsent,
           "nothing more is taken while something is unsent");
    tap_is_int(b.s.ops->flush(&b.s), -ERR_AGAIN, "flush would block");
    tap_is_int(b.s.ops->shutdown(&b.s), 0, "the end waits behind it");
    size_t n = 0;
    int e = -ERR_AGAIN;
    for (int i = 0; i < 1000 && n < (size_t)w; i++) {
        ssize_t r = fix_recv(&b.c, got + n, sizeof got - n);
        n += r > 0 ? (size_t)r : 0;
        e = b.s.unsent ? b.s.ops->flush(&b.s) : e;
    }
    tap_ok(n == (size_t)w && memcmp(got, big, n) == 0 && e == 0 && !b.s.unsent,
           "everything arrives: %zu", n);
    tap_is_int(fix_recv(&b.c, got, 10), 0, "then the end");
    tap_ok(fix_send(&b.c, "bye", 3) == 3 && fix_recv(&b.s, got, 10) == 3,
           "the other direction is still open");
    end(&b);
}

/* ---- ends ---- */

static void test_ends(void)
{
    struct both b;
    char p[64];
    for (int v = V12; v <= V13; v++) {
        shake(&b, MAIN, GOOD, BY_NAME, v);
        fix_send(&b.s, "part", 4);
        close(b.s.io.fd);
        b.s.io.fd = -1;
        tap_ok(fix_recv(&b.c, p, sizeof p) == 4 && fix_recv(&b.c, p, sizeof p) == -ERR_SYS &&
                   fix_recv(&b.c, p, sizeof p) == -ERR_SYS,
               "a server's answer without close_notify is cut off");
        b.s.ops->close(&b.s);
        fix_close(&b.c);
        shake(&b, MAIN, GOOD, BY_NAME, v);
        fix_send(&b.s, "whole", 5);
        fix_close(&b.s);
        tap_ok(fix_recv(&b.c, p, sizeof p) == 5 && (b.c.io.ready & IO_READ) &&
                   fix_recv(&b.c, p, sizeof p) == 0 && fix_recv(&b.c, p, sizeof p) == 0,
               "with close_notify, which close sends, it is whole");
        fix_close(&b.c);
        shake(&b, MAIN, GOOD, BY_NAME, v);
        /* A byte of a record is changed on its way. */
        fix_send(&b.c, "hello", 5);
        ssize_t n = recv(b.s.io.fd, p, sizeof p, 0);
        p[n - 1] ^= 1;
        if (send(b.c.io.fd, p, (size_t)n, 0) != n)
            tap_bail("send");
        tap_ok(fix_recv(&b.s, p, sizeof p) == -ERR_SYS && fix_send(&b.s, "x", 1) == -ERR_SYS,
               "a forged record ends the connection: %s", tls_last_error());
        tap_ok(fix_recv(&b.c, p, sizeof p) < 0, "the peer is told");
        end(&b);
        forget_session(GOOD, BY_NAME);
    }
    tap_ok(ERR_peek_error() == 0, "OpenSSL's queue of errors is empty");
}

static void test_plain(enum listen l)
{
    struct link c, s;
    char p[16384];
    static const char get[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    fix_pair(&c, &s, 0);
    tls_accept(tls_server_of(f.tls, l), &s);
    tap_is_int(tls_handshake(&s), -ERR_AGAIN, "nothing yet");
    if (send(c.io.fd, get, sizeof get - 1, 0) < 0)
        tap_bail("send");
    s.io.ready |= IO_READ;
    tap_is_int(tls_handshake(&s), -ERR_TLS_PLAIN, "plain HTTP");
    size_t n = tls_take_back(&s, p, sizeof p);
    tap_is_slice(slice_of(p, n), SLICE("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), "taken back");
    tap_ok(s.ops == &link_plain && !s.tls && link_writev(&s, &(struct iovec){p, 3}, 1) == 3 &&
               recv(c.io.fd, p, 64, 0) == 3,
           "the link is plain again");
    fix_close(&c);
    fix_close(&s);
    fix_pair(&c, &s, 0);
    tls_accept(tls_server_of(f.tls, l), &s);
    close(c.io.fd);
    c.io.fd = -1;
    tap_is_int(tls_handshake(&s), -ERR_SYS, "a port scan is no failed handshake");
    fix_close(&s);
}

/* ---- hostile beginnings ---- */

/* What a client says, whole, then each beginning of it, then with a byte changed. */
static void test_garbage(void)
{
    struct link c, s;
    struct both b;
    static uint8_t hello[4096], copy[4096];
    begin(&b, MAIN, GOOD, BY_NAME, 0);
    tls_handshake(&b.c);
    ssize_t n = recv(b.s.io.fd, hello, sizeof hello, 0);
    end(&b);
    if (n < 100)
        tap_bail("no hello");
    bool waits = true, ends = true, clean = true;
    for (ssize_t i = 1; i < n; i++) {
        fix_pair(&c, &s, 0);
        tls_accept(tls_server_of(f.tls, MAIN), &s);
        if (send(c.io.fd, hello, (size_t)i, 0) != i)
            tap_bail("send");
        waits = waits && tls_handshake(&s) == -ERR_AGAIN;
        fix_close(&c);
        s.io.ready |= IO_READ | IO_HUP;
        ends = ends && tls_handshake(&s) == -ERR_TLS_HANDSHAKE && tls_handshake(&s) == -ERR_SYS;
        clean = clean && ERR_peek_error() == 0;
        fix_close(&s);
    }
    tap_ok(waits, "every beginning of a hello waits for more");
    tap_ok(ends && clean, "and its end ends the handshake");
    unsigned refused = 0, survived = 0;
    for (ssize_t i = 0; i < n * 4; i++) {
        memcpy(copy, hello, (size_t)n);
        copy[i / 4] ^= (uint8_t)(1u << (random_to(8)));
        fix_pair(&c, &s, 0);
        tls_accept(tls_server_of(f.tls, MAIN), &s);
        if (send(c.io.fd, copy, (size_t)n, 0) != n)
            tap_bail("send");
        int e = tls_handshake(&s);
        refused += e == -ERR_TLS_HANDSHAKE || e == -ERR_TLS_PLAIN;
        survived += e < 0;
        clean = clean && ERR_peek_error() == 0;
        fix_close(&c);
        fix_close(&s);
    }
    tap_ok(clean && refused > 50 && survived == (unsigned)n * 4, "changed bytes: %u of %zd refused",
           refused, n * 4);
    for (int i = 0; i < 300; i++) {
        for (size_t j = 0; j < sizeof copy; j++)
            copy[j] = (uint8_t)random_to(256);
        if (i & 1)
            memcpy(copy, "\x16\x03\x01\x02", 4);
        fix_pair(&c, &s, 0);
        tls_accept(tls_server_of(f.tls, MAIN), &s);
        size_t m = random_to(sizeof copy) + 1;
        if (send(c.io.fd, copy, m, 0) != (ssize_t)m)
            tap_bail("send");
        int e = tls_handshake(&s);
        clean = clean && e < 0 && ERR_peek_error() == 0;
        fix_close(&c);
        fix_close(&s);
    }
    tap_ok(clean, "noise");
}

/* ---- memory that is not there ---- */

static void test_allocations(void)
{
    bool ok = true;
    unsigned n;
    for (n = 1; n < 40; n++) {
        struct both b;
        static char big[300000];
        fix_pair(&b.c, &b.s, 8000);
        alloc_fail_at(n);
        int e = tls_accept(tls_server_of(f.tls, REQUIRED), &b.s);
        int g = tls_connect(tls_client_of(f.tls, SHOWN, 0), &b.c, true, true);
        ok = ok && (e == 0 || (e == -ERR_NOMEM && !b.s.tls && b.s.ops == &link_plain));
        ok = ok && (g == 0 || (g == -ERR_NOMEM && !b.c.tls && b.c.ops == &link_plain));
        if (e == 0 && g == 0) {
            fix_shake(&b.c, &b.s, &b.ec, &b.es);
            struct tls_info i;
            if (b.es == 0 && tls_describe(&b.s, &i))
                ok = ok && (slice_eq(i.verify, SLICE("ok")) || slice_eq(i.verify, SLICE("none")));
            if (b.es == 0) {
                ssize_t w = fix_send(&b.s, big, sizeof big);
                ok = ok && (w > 0 || w == -ERR_SYS);
            }
        }
        bool used = !alloc_should_fail() && alloc_fail_countdown == 0;
        alloc_fail_at(0);
        end(&b);
        if (!used && n > 1)
            break;
    }
    tap_ok(ok && ERR_peek_error() == 0, "connections survive failing allocations (%u)", n);
    struct fix_tls g;
    for (n = 1; n < 200; n++) {
        alloc_fail_at(0);
        struct conf_diags d;
        struct tls *t = NULL;
        conf_diags_init(&d);
        alloc_fail_at(n);
        int e = tls_new(&f.env, true, &d, &t);
        alloc_fail_at(0);
        conf_diags_fini(&d);
        if (e == 0) {
            tls_free(&t);
            break;
        }
        ok = ok && !t;
    }
    (void)g;
    tap_ok(ok && n > 3 && n < 200, "tls_new() fails as a whole %u times", n - 1);
}

static void make_certificates(void)
{
    struct fix_cert ca, other, c;
    ca = fix_make("ca", NULL, NULL, 30, "SHA256");
    other = fix_make("other", NULL, NULL, 30, "SHA256");
    c = fix_make("a.test", "DNS:a.test,DNS:*.a.test,IP:127.0.0.1", &ca, 30, "SHA256");
    fix_cert_free(&c);
    c = fix_make("b.test", "DNS:b.test", &ca, 30, "SHA256");
    fix_cert_free(&c);
    c = fix_make("old.test", "DNS:old.test", &ca, -1, "SHA256");
    fix_cert_free(&c);
    c = fix_make("client", "email:client@a.test", &ca, 30, "SHA256");
    fix_cert_free(&c);
    c = fix_make("stale", "email:stale@a.test", &ca, -1, "SHA256");
    fix_cert_free(&c);
    fix_cert_free(&ca);
    fix_cert_free(&other);
}

int main(void)
{
    uint32_t slot;
    signal(SIGPIPE, SIG_IGN);
    clock_update();
    fix_begin();
    make_certificates();
    if (mkdir(fix_path("empty"), 0700))
        tap_bail("mkdir");
    if (segment_create_sized(4, 4, 4, 4, &seg) < 0 || slot_claim(seg, 1, UINT32_MAX, &slot) < 0 ||
        loop_init(&loop) < 0)
        tap_bail("segment");
    if (!fix_tls(&f, config_text, seg, &loop, true))
        tap_bail("configuration");
    f.env.slot = slot;
    test_versions();
    test_alpn();
    test_names();
    test_resumption();
    test_rotation();
    test_mutual();
    /* The way to a kernel's TLS, whether this one has it or not. */
    tls_server_of(f.tls, KERNEL)->ktls = true;
    static const enum listen ways[] = {MAIN, KERNEL};
    for (int i = 0; i < 2; i++) {
        test_pump(ways[i], 0, 3000000, 5000000, V13);
        test_pump(ways[i], 5000, 300000, 700000, V13);
        test_pump(ways[i], 4000, 200000, 300000, V12);
        test_unsent(ways[i]);
        test_plain(ways[i]);
    }
    test_ends();
    test_garbage();
    test_allocations();
    tap_is_int((long long)atomic_load(&f.gau.v[GAU_TLS_CONNS]), 0, "no connection is left");
    fix_tls_free(&f);
    loop_fini(&loop);
    segment_close(&seg);
    fix_end();
    return tap_done();
}
