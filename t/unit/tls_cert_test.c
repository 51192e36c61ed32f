/* The store of certificates: which is given for a name, what comes from the master and what is
 * refused, forms of keys, directories, stapling, memory that fails. */
#include "t/unit/tls_fixture.h"
#include "worker/io/tls_cert.h"
#include "worker/io/tls_in.h"

#include <fcntl.h>
#include <openssl/ocsp.h>
#include <openssl/rsa.h>
#include <sys/stat.h>

#define LISTEN                                                                                     \
    "[host h]\nnames = *\n[route h/x]\npath = /*\nreturn = 204\n[listen l]\naddress = "            \
    "127.0.0.1:9\ntls = on\n"

static struct loop loop;
static struct fix_tls f;
static EVP_PKEY *ec, *ec2, *rsa;

/* ---- files ---- */

static long serial = 100;

static void spew(const char *path, const char *p, size_t n)
{
    FILE *file = fopen(path, "w");
    if (!file || fwrite(p, 1, n, file) != n || fclose(file))
        tap_bail("%s", path);
}

/* One certificate, signed by itself. */
static X509 *make(EVP_PKEY *key, const char *names, long days)
{
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "O", MBSTRING_UTF8,
                               (const unsigned char *)"Test \"CA\"", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_gmtime_adj(X509_getm_notBefore(x), -90 * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(x), days * 86400L);
    X509_set_pubkey(x, key);
    if (names)
        fix_extension(x, x, NID_subject_alt_name, names);
    if (!X509_sign(x, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()))
        tap_bail("sign");
    return x;
}

static void put_cert(const char *path, X509 *x, bool append)
{
    FILE *file = fopen(path, append ? "a" : "w");
    if (!file || !PEM_write_X509(file, x) || fclose(file))
        tap_bail("%s", path);
}

static void put_key(const char *path, EVP_PKEY *k, bool append)
{
    FILE *file = fopen(path, append ? "a" : "w");
    if (!file || !PEM_write_PrivateKey(file, k, NULL, NULL, 0, NULL, NULL) || fclose(file))
        tap_bail("%s", path);
}

/* NAME with both; returns its serial. */
static long put_both(const char *name, EVP_PKEY *k, const char *names, long days)
{
    X509 *x = make(k, names, days);
    put_cert(fix_path(name), x, false);
    put_key(fix_path(name), k, true);
    X509_free(x);
    return serial;
}

/* ---- a client that says what it was given ---- */

struct asked {
    const char *sni, *sigalgs;
    long serial;  /* -1: no handshake */
    bool waited;  /* the server has no certificate yet */
    long stapled; /* bytes */
    SSL *ssl;
    SSL_CTX *ctx;
    struct link client, server;
    int es;
};
static unsigned woken;

static void on_io(struct io *io)
{
    (void)io;
    woken++;
}

static void ask_step(struct asked *a)
{
    int ec_ = -1;
    for (int i = 0; i < 12 && (ec_ != 1 || a->es != 0); i++) {
        ec_ = SSL_do_handshake(a->ssl);
        a->server.io.ready |= IO_READ | IO_WRITE;
        if (a->es == -ERR_AGAIN)
            a->es = tls_handshake(&a->server);
    }
    a->waited = a->es == -ERR_AGAIN;
    a->serial = -1;
    if (ec_ == 1 && a->es == 0) {
        X509 *x = SSL_get1_peer_certificate(a->ssl);
        const unsigned char *p;
        a->serial = x ? ASN1_INTEGER_get(X509_get0_serialNumber(x)) : -1;
        a->stapled = SSL_get_tlsext_status_ocsp_resp(a->ssl, &p);
        X509_free(x);
    }
}

static void ask_begin(struct asked *a)
{
    fix_pair(&a->client, &a->server, 0);
    a->server.io.handler = on_io;
    a->es = tls_accept(tls_server_of(f.tls, 0), &a->server) < 0 ? -ERR_NOMEM : -ERR_AGAIN;
    a->ctx = SSL_CTX_new(TLS_client_method());
    a->ssl = SSL_new(a->ctx);
    SSL_set_fd(a->ssl, a->client.io.fd);
    SSL_set_connect_state(a->ssl);
    if (a->sni)
        SSL_set_tlsext_host_name(a->ssl, a->sni);
    if (a->sigalgs)
        SSL_set1_sigalgs_list(a->ssl, a->sigalgs);
    SSL_set_tlsext_status_type(a->ssl, TLSEXT_STATUSTYPE_ocsp);
    ask_step(a);
}

static void ask_end(struct asked *a)
{
    SSL_free(a->ssl);
    SSL_CTX_free(a->ctx);
    close(a->client.io.fd);
    fix_close(&a->server);
}

static long ask(const char *sni, const char *sigalgs)
{
    struct asked a = {.sni = sni, .sigalgs = sigalgs};
    ask_begin(&a);
    ask_end(&a);
    return a.serial;
}

static bool use(const char *sections, bool strict)
{
    static char text[8192];
    snprintf(text, sizeof text, "%s%s", LISTEN, sections);
    return fix_tls(&f, text, NULL, &loop, strict);
}

/* ---- from the master ---- */

static char wanted[300];
static unsigned nwanted;
static bool channel_full;

static bool want(void *arg, uint32_t certificate, struct slice name)
{
    (void)arg;
    if (channel_full)
        return false;
    nwanted++;
    snprintf(wanted, sizeof wanted, "%u:%.*s", certificate, SLICE_ARG(name));
    return true;
}

static int deliver(uint32_t certificate, const char *name, uint32_t pair, const char *cert,
                   const char *key, const char **ret_why)
{
    int c = open(fix_path(cert), O_RDONLY), k = key ? open(fix_path(key), O_RDONLY) : -1;
    if (c < 0 || (key && k < 0))
        tap_bail("%s", cert);
    return tls_cert_files(f.tls, certificate, slice_str(name), pair, c, k, ret_why);
}

static struct slice printed(const char *filter, bool json)
{
    static struct buf b;
    buf_fini(&b);
    buf_init(&b, 0);
    tls_cert_print(f.tls, slice_str(filter), 1000, json, &b);
    return buf_slice(&b);
}

static bool has(struct slice s, const char *what)
{
    return memmem(s.p, s.n, what, strlen(what)) != NULL;
}

/* ---- tests ---- */

static void test_choice(void)
{
    long e = put_both("ec.pem", ec, "DNS:www.a.test,DNS:*.a.test", 30);
    long r = put_both("rsa.pem", rsa, "DNS:www.a.test,DNS:*.a.test", 30);
    long x = put_both("x.pem", ec2, "DNS:x.a.test", 30);
    long d = put_both("d.pem", ec, "DNS:d.test", 30);
    long later = put_both("later.pem", ec2, "DNS:d.test", 300);
    if (!use("[certificate a]\npair = @/ec.pem\npair = @/rsa.pem\n"
             "[certificate x]\npair = @/x.pem\n"
             "[certificate d]\npair = @/d.pem\ndefault = on\n[certificate e]\npair = @/later.pem\n",
             true))
        tap_bail("configuration");
    tap_is_int(ask("www.a.test", NULL), e, "ECDSA for a client that takes both");
    tap_is_int(ask("www.a.test", "RSA-PSS+SHA256"), r, "RSA for one that takes that only");
    tap_is_int(ask("WWW.A.test", NULL), e, "upper case");
    tap_is_int(ask("y.a.test", NULL), e, "a wildcard");
    tap_is_int(ask("x.a.test", NULL), x, "an exact name goes before a wildcard");
    tap_is_int(ask("x.a.test", "RSA-PSS+SHA256"), -1, "also when its kind of key does not suit");
    tap_is_int(ask("a.test", NULL), d, "a wildcard is not for its parent");
    tap_is_int(ask("x.y.a.test", NULL), d, "nor for two labels");
    tap_is_int(ask(NULL, NULL), d, "no name: the default");
    tap_is_int(ask("other.test", NULL), d, "an unknown name");
    tap_is_int(ask("d.test", NULL), later, "of two for a name, the one that is valid longer");

    const struct conf_listen *l = f.conf->listen[0];
    tap_ok(tls_certs_have(f.tls, l, SLICE("y.a.test")), "have a wildcard");
    tap_ok(!tls_certs_have(f.tls, l, SLICE("a.test")), "have not");
    tap_ok(!tls_certs_have(f.tls, l, SLICE("*.a.test")), "a client's * is no wildcard");
    tap_ok(!tls_certs_have(f.tls, l, SLICE("")), "no name is not had");
    tap_ok(tls_certs_any(f.tls, l, SLICE("")), "but something is given");
    tap_ok(tls_certs_same(f.tls, l, SLICE("y.a.test"), SLICE("z.a.test")), "same");
    tap_ok(!tls_certs_same(f.tls, l, SLICE("y.a.test"), SLICE("x.a.test")), "not the same");
    tap_ok(tls_certs_same(f.tls, l, SLICE(""), SLICE("nobody.test")), "both the default");
    tap_ok(has(printed("", false), "www.a.test,*.a.test ecdsa issuer=\"Test \"CA\"\""), "print");
    tap_ok(has(printed("q.a.test", false), "x.a.test") == false &&
               has(printed("q.a.test", false), "*.a.test"),
           "print what a wildcard is for");
    tap_ok(has(printed("d.test", true), "\"names\":[\"d.test\"]"), "print as JSON");
    tap_is_str(printed("none.such", true), "{\"v\":1,\"certificates\":[],\"more\":0}\n",
               "print nothing");
    fix_tls_free(&f);

    char some[64];
    snprintf(some, sizeof some, "certificate = x\n");
    char text[512];
    snprintf(text, sizeof text,
             "%s[certificate a]\npair = @/ec.pem\n[certificate x]\npair = @/x.pem\n", some);
    if (!use(text, true))
        tap_bail("configuration");
    tap_is_int(ask("x.a.test", NULL), x, "a listener with sections of its own");
    tap_ok(!tls_certs_have(f.tls, f.conf->listen[0], SLICE("www.a.test")), "has no others");
    fix_tls_free(&f);
}

static void test_keys(void)
{
    char *p;
    EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY *p384 = EVP_EC_gen("P-384");
    struct {
        const char *what;
        EVP_PKEY *key;
        bool old, good;
    } t[] = {{"EC, PKCS 8", ec, false, true},      {"EC, SEC 1", ec, true, true},
             {"P-384, PKCS 8", p384, false, true}, {"RSA, PKCS 8", rsa, false, true},
             {"RSA, PKCS 1", rsa, true, true},     {"Ed25519", ed, false, true}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        X509 *x = make(t[i].key, "DNS:k.test", 30);
        put_cert(fix_path("k.crt"), x, false);
        X509_free(x);
        put_key(fix_path("k.key"), ec2, false); /* one that does not belong to it comes first */
        BIO *file = BIO_new_file(fix_path("k.key"), "a");
        if (t[i].old)
            PEM_write_bio_PrivateKey_traditional(file, t[i].key, NULL, NULL, 0, NULL, NULL);
        else
            PEM_write_bio_PrivateKey(file, t[i].key, NULL, NULL, 0, NULL, NULL);
        BIO_free(file);
        if (!use("[certificate k]\npair = @/k.crt @/k.key\n", true)) {
            tap_ok(false, "%s", t[i].what);
            continue;
        }
        tap_is_int(ask("k.test", NULL), serial, "%s", t[i].what);
        fix_tls_free(&f);
    }
    /* What is wrong, and said to be so. */
    X509 *x = make(ec, "DNS:k.test", 30);
    put_cert(fix_path("k.crt"), x, false);
    put_key(fix_path("other.key"), ec2, false);
    FILE *file = fopen(fix_path("secret.key"), "w");
    PEM_write_PKCS8PrivateKey(file, ec, EVP_aes_128_cbc(), NULL, 0, NULL, (p = (char[]){"secret"}));
    fclose(file);
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    put_both("weak.pem", weak, "DNS:w.test", 30);
    put_key(fix_path("key.pem"), ec, false);
    spew(fix_path("empty.pem"), "", 0);
    mkdir(fix_path("folder.pem"), 0700);
    static const char *const bad[] = {"pair = @/k.crt @/other.key",
                                      "pair = @/k.crt @/secret.key",
                                      "pair = @/k.crt",
                                      "pair = @/weak.pem",
                                      "pair = @/key.pem",
                                      "pair = @/empty.pem",
                                      "pair = @/none.pem",
                                      "pair = @/k.crt @/none.key",
                                      "pair = @/folder.pem",
                                      "directory = @/none",
                                      "pair = /dev/zero"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[certificate k]\n%s\n[certificate good]\npair = @/ec.pem\n",
                 bad[i]);
        tap_ok(!use(text, true), "refused: %s", bad[i]);
        if (!use(text, false)) {
            tap_ok(false, "a worker that replaces another starts with %s", bad[i]);
            continue;
        }
        tap_ok(ask("www.a.test", NULL) > 0, "a worker that replaces another serves the rest");
        fix_tls_free(&f);
    }
    X509_free(x);
    EVP_PKEY_free(weak);
    EVP_PKEY_free(ed);
    EVP_PKEY_free(p384);
}

/* A file in another form than it should be: the DER of all of it. */
static void put_der(const char *name, X509 *x, EVP_PKEY *k)
{
    unsigned char *der = NULL;
    int n = x ? i2d_X509(x, &der) : i2d_PrivateKey(k, &der);
    if (n <= 0)
        tap_bail("DER");
    spew(fix_path(name), (const char *)der, (size_t)n);
    OPENSSL_free(der);
}

/* What somebody who made a mistake with his files is told. */
static void test_messages(void)
{
    X509 *x = make(ec, "DNS:m.test", 30), *other = make(ec2, "DNS:ca.test", 30);
    X509 *early = make(ec, "DNS:m.test", 30), *bare = make(ec, NULL, 30);
    X509 *sold = make(ec, "DNS:m.test", 30), *sha1 = make(rsa, "DNS:m.test", 30);
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    X509_gmtime_adj(X509_getm_notBefore(early), 86400L);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(bare), "CN", MBSTRING_UTF8,
                               (const unsigned char *)"m.test", -1, -1, 0);
    fix_extension(sold, sold, NID_info_access, "caIssuers;URI:http://ca.test/ca.cer");
    X509_NAME_add_entry_by_txt(X509_get_subject_name(other), "CN", MBSTRING_UTF8,
                               (const unsigned char *)"CA", -1, -1, 0);
    X509_set_issuer_name(sha1,
                         X509_get_subject_name(other)); /* a root's own signature is nobody's */
    if (!X509_sign(early, ec, EVP_sha256()) || !X509_sign(bare, ec, EVP_sha256()) ||
        !X509_sign(sold, ec, EVP_sha256()) || !X509_sign(other, ec2, EVP_sha256()) ||
        !X509_sign(sha1, rsa, EVP_sha1()))
        tap_bail("sign");
    put_cert(fix_path("m.crt"), x, false);
    put_key(fix_path("m.key"), ec, false);
    put_key(fix_path("m2.key"), ec2, false);
    put_der("m.der", x, NULL);
    put_der("m.key.der", NULL, ec);
    put_cert(fix_path("m.order"), other, false);
    put_cert(fix_path("m.order"), x, true);
    put_cert(fix_path("m.chain"), x, false);
    put_cert(fix_path("m.chain"), other, true);
    put_cert(fix_path("m.early"), early, false);
    put_cert(fix_path("m.bare"), bare, false);
    put_cert(fix_path("m.sold"), sold, false);
    put_cert(fix_path("m.sha1"), sha1, false);
    put_key(fix_path("m.rsa"), rsa, false);
    put_both("m.weak", weak, "DNS:m.test", 30);
    static const struct {
        const char *pair, *says;
        bool refused;
    } t[] = {{"@/m.crt @/m2.key", "m2.key: the private key does not belong", true},
             {"@/m.order @/m.key", "belongs to a later certificate of the file", true},
             {"@/m.der @/m.key", "m.key: it is DER, not PEM", true},
             {"@/m.crt @/m.key.der", "the private key is DER, not PEM", true},
             {"@/m.key @/m.crt", "the certificate is the first file", true},
             {"@/m.weak", "the key is too short", true},
             {"@/m.sha1 @/m.rsa", "signed with SHA-1", true},
             {"@/m.chain @/m.key", "m.chain has a chain that is not in order", false},
             {"@/m.early @/m.key", "m.early is not valid before 2", false},
             {"@/m.bare @/m.key", "m.bare has no subjectAltName", false},
             {"@/m.sold @/m.key", "m.sold has no chain", false},
             {"@/m.crt @/m.key", "", false}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[certificate m]\npair = %s\n", t[i].pair);
        bool used = use(text, true);
        tap_ok(used != t[i].refused, "%s is %s", t[i].pair, t[i].refused ? "refused" : "taken");
        tap_ok(t[i].says[0] ? strstr(fix_said, t[i].says) != NULL : !fix_said[0], "and says: %s",
               t[i].says);
        if (used)
            fix_tls_free(&f);
    }
    X509 *all[] = {x, other, early, bare, sold, sha1};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        X509_free(all[i]);
    EVP_PKEY_free(weak);
}

static void test_directory(void)
{
    const char *why;
    mkdir(fix_path("d"), 0700);
    long a = put_both("d/a.test.pem", ec, "DNS:a.test", 30);
    X509 *x = make(ec2, "DNS:b.test", 30);
    long b = serial;
    put_cert(fix_path("d/b.test.crt"), x, false);
    put_key(fix_path("d/b.test.key"), ec2, false);
    put_cert(fix_path("d/chain.pem"), x, false);  /* no key: not served */
    put_cert(fix_path("d/lonely.crt"), x, false); /* neither, and said */
    put_cert(fix_path("d/.hidden.pem"), x, false);
    put_key(fix_path("d/key.pem"), ec, false);
    mkdir(fix_path("d/live"), 0700);
    mkdir(fix_path("d/nothing"), 0700);
    put_cert(fix_path("d/live/fullchain.pem"), x, false);
    put_key(fix_path("d/live/privkey.pem"), ec2, false);
    X509_free(x);
    if (!use("[certificate d]\ndirectory = @/d\nmax_loaded = 1\n", true))
        tap_bail("configuration");
    f.tls->env.want_files = want;
    tap_ok(has(printed("", false), "a.test ecdsa") && has(printed("", false), "/d/live\n"),
           "indexed");
    tap_ok(!has(printed("", false), "chain") && !has(printed("", false), "lonely") &&
               !has(printed("", false), "hidden") && !has(printed("", false), "key.pem"),
           "and nothing else");
    tap_is_int(ask(NULL, NULL), -1, "a directory is no default by itself");

    struct asked one = {.sni = "a.test"}, two = {.sni = "a.test"};
    nwanted = 0;
    ask_begin(&one);
    tap_ok(one.waited, "the handshake waits");
    tap_is_str(slice_str(wanted), "0:a.test.pem", "for the file");
    ask_begin(&two);
    tap_ok(two.waited && nwanted == 1, "another waits with it, the master is asked once");
    tap_is_int(deliver(0, "a.test.pem", 0, "d/a.test.pem", NULL, &why), 0, "it comes");
    timers_init(&loop.timers, clock_ms());
    tap_ok(one.server.io.queued && two.server.io.queued, "both are woken");
    ask_step(&one);
    tap_is_int(one.serial, a, "and goes on");
    ask_end(&two); /* gone while woken */
    ask_end(&one);
    list_init(&loop.again);
    tap_is_int(ask("a.test", NULL), a, "again without the master");
    tap_is_int(nwanted, 1, "which was not asked");
    tap_ok(has(printed("a.test", false), " loaded "), "print: loaded");

    one = (struct asked){.sni = "b.test"};
    ask_begin(&one);
    /* live and b.test.crt are equal but for their names: the first by name is used. */
    tap_is_str(slice_str(wanted), "0:b.test.crt", "the other");
    deliver(0, "b.test.crt", 0, "d/b.test.crt", "d/b.test.key", &why);
    ask_step(&one);
    tap_is_int(one.serial, b, "from two files");
    ask_end(&one);
    list_init(&loop.again);
    tap_ok(has(printed("a.test", false), " not_loaded "), "no more than max_loaded are kept");

    one = (struct asked){.sni = "a.test"};
    ask_begin(&one);
    tap_ok(one.waited, "it waits again");
    tls_cert_gone(f.tls, 0, SLICE("a.test.pem"), 0, NULL);
    ask_step(&one);
    tap_is_int(one.serial, -1, "a file that has gone is given no more");
    ask_end(&one);
    list_init(&loop.again);
    tap_ok(!tls_certs_have(f.tls, f.conf->listen[0], SLICE("a.test")), "nor had");

    /* While it runs: new, changed, broken. */
    long n = put_both("d/new.pem", ec, "DNS:new.test,DNS:a.test", 30);
    tap_is_int(deliver(0, "new.pem", 0, "d/new.pem", NULL, &why), 0, "a new file");
    tap_ok(has(printed("new.pem", false), " not_loaded "), "is only looked at");
    tap_is_int(deliver(0, "x.pem", 0, "d/key.pem", NULL, &why), -ERR_NOENT, "no certificate");
    tap_is_int(deliver(0, "x.crt", 0, "d/lonely.crt", NULL, &why), -ERR_NOENT, "no key yet");
    tap_is_int(deliver(0, "../x.crt", 0, "d/new.pem", NULL, &why), -ERR_NOENT, "no name");
    tap_is_int(deliver(7, "new.pem", 0, "d/new.pem", NULL, &why), -ERR_NOENT, "no section");
    one = (struct asked){.sni = "new.test"};
    channel_full = true;
    ask_begin(&one);
    tap_ok(one.waited, "the channel is full");
    channel_full = false;
    nwanted = 0;
    timers_run(&loop.timers, clock_ms() + 100);
    tap_is_int(nwanted, 1, "the master is asked later");
    deliver(0, "new.pem", 0, "d/new.pem", NULL, &why);
    ask_step(&one);
    tap_is_int(one.serial, n, "and it comes");
    ask_end(&one);
    list_init(&loop.again);
    X509 *wrong = make(ec2, "DNS:new.test", 30);
    put_cert(fix_path("d/new.pem"), wrong, false);
    put_key(fix_path("d/new.pem"), ec, true);
    X509_free(wrong);
    tap_is_int(deliver(0, "new.pem", 0, "d/new.pem", NULL, &why), -ERR_INVAL, "another's key");
    tap_is_str(slice_str(why), "the private key does not belong to the certificate", "is said");
    tap_ok(has(printed("new", false), ": the private key does not belong"), "and printed");
    tap_is_int(ask("new.test", NULL), n, "the last good one stays");
    tap_is_int(ask("a.test", NULL), n, "with all its names");
    n = put_both("d/new.pem", rsa, "DNS:newer.test", 60);
    tap_is_int(deliver(0, "new.pem", 0, "d/new.pem", NULL, &why), 0, "a good one");
    tap_is_int(ask("newer.test", NULL), n, "takes over, with another kind of key");
    tap_ok(!tls_certs_have(f.tls, f.conf->listen[0], SLICE("new.test")), "and other names");
    tap_ok(!has(printed("new", false), "private key"), "the error is forgotten");
    fix_tls_free(&f);

    if (!use("[certificate d]\ndirectory = @/d\nload = eager\n", true))
        tap_bail("configuration");
    tap_is_int(ask("newer.test", NULL), n, "load = eager needs nobody");
    tap_is_int(ask("b.test", NULL), b, "for any of them");
    fix_tls_free(&f);
}

static void test_pairs(void)
{
    const char *why;
    long a = put_both("p.pem", ec, "DNS:p.test", 30);
    if (!use("[certificate p]\npair = @/p.pem\n", true))
        tap_bail("configuration");
    struct asked kept = {.sni = "p.test"};
    ask_begin(&kept);
    long b = put_both("p.pem", ec2, "DNS:p.test,DNS:q.test", 60);
    tap_is_int(deliver(0, "", 0, "p.pem", NULL, &why), 0, "a changed pair");
    tap_is_int(ask("q.test", NULL), b, "is given");
    tap_is_int(kept.serial, a, "a connection from before");
    char c[8] = "";
    tap_ok(SSL_write(kept.ssl, "ping", 4) == 4 && fix_recv(&kept.server, c, sizeof c) == 4,
           "goes on");
    ask_end(&kept);
    tls_cert_gone(f.tls, 0, SLICE(""), 0, "is not there");
    tap_is_int(ask("q.test", NULL), b, "a file that has gone: the last good one stays");
    tap_ok(has(printed("", false), ": is not there"), "is said");
    tap_is_int(deliver(0, "", 5, "p.pem", NULL, &why), -ERR_NOENT, "there is no fifth pair");
    tap_is_int((long long)fix_count(&f, CTR_CERT_RELOADS), 1, "reloads are counted");
    tap_is_int((long long)fix_count(&f, CTR_CERT_FAILS), 1, "failures too");
    fix_tls_free(&f);
}

static void put_ocsp(const char *name, X509 *x, EVP_PKEY *k, int status, long next_s)
{
    OCSP_BASICRESP *b = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), x, x);
    ASN1_TIME *now = X509_gmtime_adj(NULL, -7200), *next = X509_gmtime_adj(NULL, next_s);
    OCSP_basic_add1_status(b, id, status, 0, status == V_OCSP_CERTSTATUS_REVOKED ? now : NULL, now,
                           next);
    OCSP_basic_sign(b, x, k, EVP_sha256(), NULL, 0);
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, b);
    unsigned char *der = NULL;
    int n = i2d_OCSP_RESPONSE(r, &der);
    spew(fix_path(name), (char *)der, (size_t)n);
    OPENSSL_free(der);
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(b);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
}

static long stapled(const char *sigalgs)
{
    struct asked a = {.sni = "o.test", .sigalgs = sigalgs};
    ask_begin(&a);
    ask_end(&a);
    return a.serial < 0 ? -2 : a.stapled;
}

static void test_ocsp(void)
{
    const char *why;
    static const char conf[] = "[certificate o]\npair = @/o.pem\npair = @/o2.pem\nocsp = @/o.der\n";
    X509 *x = make(ec, "DNS:o.test", 30), *y = make(ec, "DNS:o.test", 40);
    struct stat st;
    put_cert(fix_path("o.pem"), x, false);
    put_key(fix_path("o.pem"), ec, true);
    put_both("o2.pem", rsa, "DNS:o.test", 30);
    put_ocsp("o.der", x, ec, V_OCSP_CERTSTATUS_GOOD, 86400);
    stat(fix_path("o.der"), &st);
    if (!use(conf, true))
        tap_bail("configuration");
    tap_is_int(stapled(NULL), st.st_size, "stapled");
    tap_is_int(stapled("RSA-PSS+SHA256"), -1, "not with the other certificate");
    tap_ok(has(printed("", false), "loaded,stapled"), "print");
    put_ocsp("o.der", x, ec, V_OCSP_CERTSTATUS_REVOKED, 86400);
    tap_is_int(tls_cert_ocsp(f.tls, 0, open(fix_path("o.der"), O_RDONLY), &why), -ERR_INVAL,
               "revoked");
    tap_is_int(stapled(NULL), -1, "is not sent along");
    put_ocsp("o.der", y, ec, V_OCSP_CERTSTATUS_GOOD, 86400);
    tap_is_int(tls_cert_ocsp(f.tls, 0, open(fix_path("o.der"), O_RDONLY), &why), -ERR_INVAL,
               "of another certificate");
    tap_is_int(stapled(NULL), -1, "is not sent along either");
    put_cert(fix_path("o.pem"), y, false);
    put_key(fix_path("o.pem"), ec, true);
    tap_is_int(deliver(0, "", 0, "o.pem", NULL, &why), 0, "that certificate comes");
    tap_ok(stapled(NULL) > 0, "and has it now");
    fix_tls_free(&f);
    put_ocsp("o.der", y, ec, V_OCSP_CERTSTATUS_GOOD, -60);
    tap_ok(use(conf, true), "an expired one is no error");
    tap_is_int(stapled(NULL), -1, "nor sent along");
    fix_tls_free(&f);
    spew(fix_path("o.der"), "0\1x", 3);
    tap_ok(!use(conf, true), "rubbish is");
    X509_free(x);
    X509_free(y);
}

static void test_memory(void)
{
    const char *why;
    static const char conf[] =
        "[certificate p]\npair = @/ec.pem\n[certificate d]\ndirectory = @/d\n"
        "load = eager\n";
    struct conf_diags d;
    struct tls *t = NULL;
    unsigned n, failed = 0;
    if (!use(conf, true))
        tap_bail("configuration");
    /* Only what tls_new() does: the configuration is there. */
    for (n = 1; n < 2000; n++) {
        conf_diags_init(&d);
        alloc_fail_at(n);
        int e = tls_new(&f.env, true, &d, &t);
        bool reached = alloc_fail_countdown == 0;
        alloc_fail_at(0);
        failed += e < 0;
        if (e == 0)
            tls_free(&t);
        conf_diags_fini(&d);
        if (!reached)
            break;
    }
    tap_ok(n > 20 && n < 2000 && failed > 10, "%u failing allocations at the start, %u fatal", n,
           failed);
    unsigned bad = 0;
    long now = ask("www.a.test", NULL);
    put_both("ec.pem", ec2, "DNS:www.a.test,DNS:new.a.test", 31);
    for (n = 1; n < 200; n++) {
        alloc_fail_at(n);
        int e = deliver(0, "", 0, "ec.pem", NULL, &why);
        bool reached = alloc_fail_countdown == 0;
        alloc_fail_at(0);
        long got = ask("www.a.test", NULL);
        bad += got != (e < 0 ? now : serial);
        if (e == 0)
            now = serial;
        if (!reached)
            break;
    }
    tap_ok(n > 3 && n < 200 && bad == 0, "%u failing allocations at a change", n);
    tap_ok(tls_certs_have(f.tls, f.conf->listen[0], SLICE("new.a.test")), "in the end it is there");
    fix_tls_free(&f);
}

int main(void)
{
    clock_update();
    fix_begin();
    if (loop_init(&loop) < 0)
        tap_bail("loop");
    ec = EVP_EC_gen("P-256");
    ec2 = EVP_EC_gen("P-256");
    rsa = EVP_RSA_gen(2048);
    test_choice();
    test_keys();
    test_messages();
    test_directory();
    test_pairs();
    test_ocsp();
    test_memory();
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ec2);
    EVP_PKEY_free(rsa);
    loop_fini(&loop);
    fix_end();
    return tap_done();
}
