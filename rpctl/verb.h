/* The commands as a table: lookup, help and the nearest name for a typing error. */
#ifndef RPCTL_VERB_H
#define RPCTL_VERB_H

#include "base/buf.h"

enum verb_role { VERB_LOCAL, VERB_READ, VERB_OPERATE };
struct verb {
    const char *word;
    enum verb_role role;
    int least, most; /* arguments behind the word */
    const char *args, *help;
};
enum verb_id {
#define VERB(word, role, least, most, args, help) VERB_##word,
#include "rpctl/verb.def"
#undef VERB
    VERB__COUNT
};
const struct verb *verb_get(enum verb_id id);
/* The id, or -ERR_NOENT. */
int verb_find(const char *word);
/* The known word nearest to a mistyped one, or NULL when none is near. */
const char *verb_nearest(const char *word);
void verb_usage(enum verb_id id, struct buf *out); /* "usage: rpctl server NAME/SERVER ..." */
void verb_help(struct buf *out);                   /* all of them, aligned */
void verb_completion_bash(struct buf *out);

#endif
