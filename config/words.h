/* Splits a value into words. */
#ifndef CONFIG_WORDS_H
#define CONFIG_WORDS_H

#include "base/arena.h"
#include "base/buf.h"
#include "config/ini.h"

struct conf_word {
    struct slice text;  /* quotes and escapes undone, ${ENV} replaced; NUL-terminated */
    uint32_t line, col; /* where it begins in the file */
    bool quoted;        /* began with a quote: `"off"` is a text, not the word off */
};
/* Words are separated by blanks. Quotes, double or single, open at the beginning of a word or
 * behind `=`; inside, a backslash makes a following quote, backslash or `$` plain, and n, t, r a
 * control character; before anything else it stands for itself (regular expressions). ${NAME} is
 * replaced by the environment's value and not split again. Problems go to bad (which may be NULL).
 * 0 with the words in the arena, -ERR_INVAL, -ERR_NOMEM. */
int conf_words_split(const struct conf_ini_entry *e, struct arena *a, struct buf *scratch,
                     void (*bad)(void *user, uint32_t line, uint32_t col, const char *text),
                     void *user, struct conf_word **ret, size_t *ret_n);
/* Writes a word so that conf_words_split() reads it again. */
void conf_words_put(struct buf *out, struct slice word);
/* The same for `name=value`, where only the value is quoted. */

#endif
