/* Between the tls_cert*.c files only: what the store of certificates is made of. */
#ifndef WORKER_IO_TLS_CERT_IN_H
#define WORKER_IO_TLS_CERT_IN_H

#include "base/table.h"
#include "config/certdir.h"
#include "shm/cert.h"
#include "worker/io/tls_in.h"
#include "worker/io/tls_scan.h"

/* ---- tls_cert_load.c: files to OpenSSL's objects ---- */

struct tls_pair { /* .cert NULL: nothing is loaded */
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
};
/* Certificates of authorities are the same in many files: they are kept once. */
#define TLS_ISSUERS 64u
struct tls_issuers {
    struct tls_issuer {
        X509 *cert;
        uint8_t *der;
        size_t n;
    } v[TLS_ISSUERS];
    unsigned next;
    SSL_CTX *probe; /* would a listener take the pair? */
};
void tls_cert_issuers_fini(struct tls_issuers *is);
/* From the bytes of the files; key .n 0 means that cert has it too. Checks that both belong
 * together and that the security level is met. 0; -ERR_NOMEM, -ERR_INVAL with *ret_why, which is a
 * fixed text. */
int tls_cert_load(struct slice cert, struct slice key, struct tls_issuers *is, struct tls_pair *ret,
                  const char **ret_why);
void tls_cert_unload(struct tls_pair *p);
/* Why a file without a certificate is none; has_key: there is a private key in it. */
const char *tls_cert_no_block(struct slice file, bool has_key);
/* What an administrator should know of a pair that can be used: "has ...", NULL when all is well.
 */
const char *tls_cert_remark(const struct tls_pair *p);

struct tls_staple {
    uint8_t *der;
    size_t n;
    int64_t until_s; /* 0 = no end is said */
};
/* Is it an answer about that certificate, good, and in force? Fills in until_s. 0; -ERR_NOENT is
 * about another one; -ERR_RANGE it has expired; -ERR_INVAL; with *ret_why. */
int tls_cert_staple_check(struct tls_staple *st, const X509 *cert, const char **ret_why);

/* ---- tls_cert_index.c: names ---- */

struct certs_name {
    struct table_node node;
    struct certs_ref *refs; /* who has it */
    uint32_t pins;          /* while names are put in */
    uint32_t n;
    char text[]; /* "www.example.org", "*.example.org" */
};
struct certs_ref {
    struct certs_ref *next; /* of the same name */
    struct certs_name *name;
    struct certs_entry *entry;
};
/* Gives the entry the names of the certificate, in place of those it had. 0; -ERR_NOMEM: it has the
 * old ones. */
int tls_cert_index_put(struct table *names, struct certs_entry *e, const struct tls_scan *scan);
void tls_cert_index_drop(struct table *names, struct certs_entry *e);
struct certs_name *tls_cert_index_find(const struct table *names, struct slice name);

/* ---- the store ---- */

struct certs_entry {        /* an explicit pair, or an entry of a directory */
    struct table_node node; /* certs_section.byname, in a directory */
    struct list all;        /* certs_section.entries */
    struct list used;       /* certs_section.used, in a directory, while loaded */
    uint64_t woke;          /* turn of the loop in which handshakes were told that it has come */
    struct list waiting;    /* tls_conn.waiting */
    struct list unasked;    /* tls_certs.unasked, while the master could not be asked */
    struct certs_section *sec;
    struct tls_pair pair;
    struct certs_ref *ref; /* [nref] */
    uint32_t nref;
    uint32_t nth; /* of an explicit pair */
    enum tls_key_type type;
    int64_t not_before_s, not_after_s;
    uint64_t wanted_ms; /* when the master was last asked for it, 0: not since the last answer */
    uint64_t failed_ms; /* when it could not be used, 0: it could */
    char *issuer;       /* NULL unknown */
    char *error;        /* of the latest failure; NULL none */
    char name[];        /* in its directory; "" for an explicit pair */
};
struct certs_section {
    struct tls_certs *certs;
    const struct conf_certificate *conf;
    struct list entries;
    struct table byname;
    struct list used; /* loaded ones of a directory, latest used first */
    uint32_t nentry, nref, nloaded, nfailed;
    struct certs_entry *first[TLS_KEY__COUNT]; /* what is given by default */
    struct certs_entry *soonest;               /* whose validity ends first */
    bool first_known, soonest_known;
    struct tls_staple staple;
    struct certs_entry *stapled; /* whose it is; NULL nobody's */
    char *error;                 /* of the latest failure of any of them; NULL none */
};
struct tls_certs {
    struct tls *t;
    struct certs_section *sec; /* [nsec] */
    size_t nsec;
    struct table names;
    uint64_t **only; /* [config.nlisten]: a bit per section, NULL = all of them */
    struct tls_issuers issuers;
    struct list unasked; /* entries, oldest first */
    struct timer ask_again;
    char *scratch; /* CERTDIR_FILE bytes, and TLS_SCAN_DER behind them */
};

struct certs_entry *tls_cert_entry_new(struct certs_section *s, struct slice name, uint32_t nth);
void tls_cert_entry_free(struct certs_entry *e);
struct certs_entry *tls_cert_entry_find(const struct certs_section *s, struct slice name);
/* Takes over what the scan says. 0, -ERR_NOMEM. */
int tls_cert_entry_scanned(struct certs_entry *e, const struct tls_scan *scan);
/* Reads, checks, swaps. size limits are the caller's; key .n 0: in the same file. keep: also one of
 * a directory stays loaded. -ERR_INVAL, -ERR_NOMEM: the old one stays; *ret_why. */
int tls_cert_entry_load(struct certs_entry *e, struct slice cert, struct slice key, bool keep,
                        const char **ret_why);
void tls_cert_entry_failed(struct certs_entry *e, const char *why);
/* All of a file; fd stays open. In memory of its own, to be given to tls_cert_file_free(). 0,
 * -ERR_INVAL, -ERR_RANGE, -ERR_SYS, -ERR_NOMEM. */
int tls_cert_file_read(int fd, struct slice *ret);
void tls_cert_file_free(struct slice *file); /* wiped: there may be a key in it */

/* ---- tls_cert_dir.c ---- */

/* Indexes a section's directory at the start, and with load = eager loads it. What cannot be used
 * is a warning: the directory may change at any time. -ERR_INVAL it cannot be read; -ERR_NOMEM. */
int tls_cert_dir_index(struct certs_section *s, bool strict, struct conf_diags *d);

/* ---- tls_cert_print.c ---- */

void tls_cert_row(struct certs_section *s);         /* to the segment */
const char *tls_cert_date(int64_t s, char out[16]); /* "2026-11-21" */

#endif
