/* Certificates of a worker: which pair is given for which name, loaded when first needed, swapped
 * when their files change. For the tls*.c files, and for worker/ (messages to and from the master).
 */
#ifndef WORKER_IO_TLS_CERT_H
#define WORKER_IO_TLS_CERT_H

#include "worker/io/tls.h"

/* ---- worker/channel.c ---- */

/* Files of certificate section `certificate` that are new or have changed, or that were asked for:
 * name as in tls_env.want_files, "" and number for an explicit pair. The fds are taken over; key_fd
 * is -1 when the key is in the same file. Reads, checks that key and certificate belong together,
 * swaps; on any fault the last good one stays. 0; -ERR_NOENT no certificate with a key, and there
 * was none before; else negative, with a text for the log in *ret_why. */
int tls_cert_files(struct tls *t, uint32_t certificate, struct slice name, uint32_t pair,
                   int cert_fd, int key_fd, const char **ret_why);
/* The entry has gone from its directory (why NULL), or the files cannot be opened: then, and for an
 * explicit pair, the last good one stays. */
void tls_cert_gone(struct tls *t, uint32_t certificate, struct slice name, uint32_t pair,
                   const char *why);
/* The explicit pairs that could not be loaded, and why. */
void tls_cert_missing(const struct tls *t,
                      void (*fn)(void *arg, uint32_t certificate, uint32_t pair, const char *why),
                      void *arg);
/* Stapled answer: new bytes of the section's ocsp file; fd is taken over. */
int tls_cert_ocsp(struct tls *t, uint32_t certificate, int fd, const char **ret_why);
/* For `rpctl cert`: one line (or JSON object) per certificate: names, issuer, days left, key type,
 * source, loaded or not, last error. filter: part of a name, or empty. */
void tls_cert_print(const struct tls *t, struct slice filter, uint32_t limit, bool json,
                    struct buf *out);

#endif
