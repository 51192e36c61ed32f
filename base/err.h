/* Errors: one table (err.def), its enum, and what each row says. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

enum err {
    ERR_OK = 0,
#define ERR(name, reason, source, retry, status, text) ERR_##name,
#include "base/err.def"
#undef ERR
    ERR__COUNT
};

enum err_source { ERR_SRC_SELF, ERR_SRC_CLIENT, ERR_SRC_UPSTREAM };
enum err_retry { ERR_RETRY_NEVER, ERR_RETRY_ALWAYS, ERR_RETRY_IDEMPOTENT };

/* All take the positive code or its negation. Out of range counts as ERR_INTERNAL. */
const char *err_reason(int e); /* stable word: "connect_refused"; "-" for ERR_OK */
const char *err_text(int e);   /* a sentence without a full stop */
enum err_source err_source(int e);
enum err_retry err_retry(int e);
int err_status(int e); /* HTTP status to answer with; 0: close without an answer */

#endif
