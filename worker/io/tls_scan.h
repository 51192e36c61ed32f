/* Looks into PEM files and X.509 certificates without a library: which names, until when, what kind
 * of key. For the index of many thousand files, some microseconds each; whoever uses a certificate
 * has it parsed by OpenSSL. Nothing is allocated; every slice lies in what was passed in. */
#ifndef WORKER_IO_TLS_SCAN_H
#define WORKER_IO_TLS_SCAN_H

#include "base/slice.h"

#include <sys/types.h>

#define TLS_SCAN_NAME 254u         /* longest name of the DNS as text, and its NUL */
#define TLS_SCAN_DER  (64u * 1024) /* largest certificate */

enum tls_key_type { TLS_KEY_EC, TLS_KEY_RSA, TLS_KEY_OTHER, TLS_KEY__COUNT };

/* Cuts the next block "-----BEGIN LABEL-----" to "-----END LABEL-----" (RFC 7468) off *rest; what
 * is between blocks is skipped. 1; 0 there is none; -ERR_INVAL one that does not end. */
int tls_scan_block(struct slice *rest, struct slice *ret_label, struct slice *ret_body);
bool tls_scan_is_cert(struct slice label); /* CERTIFICATE and its old names */
bool tls_scan_is_key(struct slice label);  /* any label of a private key, EC PARAMETERS not */
bool tls_scan_is_encrypted(struct slice label, struct slice body);
/* The bytes of a block: how many; -ERR_INVAL; -ERR_RANGE more than cap. body.n bytes always
 * suffice. */
ssize_t tls_scan_base64(struct slice body, uint8_t *out, size_t cap);

struct tls_scan {
    struct slice issuer_o, issuer_cn; /* as they are in the certificate, perhaps hostile bytes */
    struct slice cn;                  /* of the subject */
    int64_t not_before_s, not_after_s;
    enum tls_key_type type;
    bool has_san;
    bool has_key;       /* tls_scan_file(): the file holds a private key */
    struct slice names; /* DER that is left for tls_scan_name() */
};
/* A certificate (RFC 5280 section 4.1) of which der.n bytes are given. 0, -ERR_INVAL. */
int tls_scan_der(struct slice der, struct tls_scan *ret);
/* The first certificate of a PEM file; scratch (TLS_SCAN_DER bytes) holds its DER and must live as
 * long as *ret. 0; -ERR_NOENT: no certificate in it; -ERR_INVAL; -ERR_RANGE. */
int tls_scan_file(struct slice file, uint8_t *scratch, struct tls_scan *ret);
/* The next name the certificate is for, lower case, without a dot at its end, NUL-terminated: the
 * DNS names of subjectAltName, or the subject's CN when there is no such extension (RFC 6125). What
 * is no host name, or has a `*` elsewhere than as its whole first label, is left out. */
bool tls_scan_name(struct tls_scan *s, char out[TLS_SCAN_NAME], size_t *ret_n);
/* Lower case, no dot at its end; length, or -ERR_INVAL. */
int tls_scan_host(struct slice text, char out[TLS_SCAN_NAME]);

/* PKCS#8 (RFC 5208): what kind of key it wraps. -ERR_INVAL when it is none, or of another
 * algorithm. ret_curve: the DER of the curve's OID, for an EC key. */
int tls_scan_pkcs8(struct slice der, enum tls_key_type *ret_type, struct slice *ret_curve,
                   struct slice *ret_key);

#endif
