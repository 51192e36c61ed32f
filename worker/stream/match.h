/* Regular expressions: the door to PCRE2. Patterns are compiled once (JIT where the system allows
 * it); a match allocates nothing and is bounded, so that no subject can burn CPU. Bytes, never UTF.
 * Scratch memory is one block per process, made on first use. */
#ifndef WORKER_STREAM_MATCH_H
#define WORKER_STREAM_MATCH_H

#include "base/slice.h"

#define MATCH_GROUPS  32u     /* capture groups a pattern may have, the whole match (0) included */
#define MATCH_LIMIT   100000u /* PCRE2 match limit: backtracking points per match */
#define MATCH_DEPTH   1000u   /* PCRE2 depth limit, where JIT is not in use */
#define MATCH_ERR_MAX 160u

struct match;
struct match_groups {
    struct slice group[MATCH_GROUPS]; /* slices of the subject; .p NULL when a group took no part */
    unsigned n;                       /* groups of the pattern, 0 included */
};

/* Anchoring is the pattern's own business; `$` matches at the very end only. -ERR_INVAL: err says
 * why in words and *ret_offset where (bytes into the pattern); -ERR_NOMEM: err says so too. */
int match_compile(struct slice pattern, bool caseless, struct match **ret, char err[MATCH_ERR_MAX],
                  size_t *ret_offset);
void match_free(struct match **m);
/* 1 it matches, 0 it does not, -ERR_RANGE the limits were reached, -ERR_NOMEM. A caller that guards
 * something must treat errors as errors, not as "does not match". */
int match_try(const struct match *m, struct slice subject);
/* Errors count as no match: for choices where nothing is at stake. */
bool match_test(const struct match *m, struct slice subject);
/* As match_try, with the captures. */
int match_capture(const struct match *m, struct slice subject, struct match_groups *ret);
/* Number of the group `(?<name>...)`, or -ERR_NOENT. */
int match_group(const struct match *m, struct slice name);
const char *
match_version(void); /* "10.42 2022-12-11"; with " (no JIT)" where the library lacks it */

#endif
