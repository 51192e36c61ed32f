/* Reads INI text through inih, without its limits: see config/ini.c. */
#ifndef CONFIG_INI_H
#define CONFIG_INI_H

#include "base/slice.h"

#define CONF_INI_LINE_MAX  16384u /* bytes of one line of the file */
#define CONF_INI_VALUE_MAX 65536u /* bytes of one value with its continuation lines */
#define CONF_INI_NAME_MAX  40u    /* bytes of a key's name */
#define CONF_INI_TITLE_MAX 200u   /* bytes between the brackets */

/* A run of a value's bytes that stood together in the file: byte `off` of the value was at
 * line:col. */
struct conf_ini_piece {
    uint32_t off, line, col;
};
struct conf_ini_entry {
    struct slice name,
        value;          /* value: comments removed, lines joined by one blank; quotes still in it */
    bool append;        /* += */
    uint32_t line, col; /* of the name */
    uint32_t value_line, value_col; /* of the value, or of where it should be */
    const struct conf_ini_piece *piece;
    size_t npiece;
};
/* Called in the order of the file; all slices live until the callback returns. A negative result
 * ends the reading. */
struct conf_ini_ops {
    int (*section)(void *user, struct slice title, uint32_t line, uint32_t col);
    int (*entry)(void *user, const struct conf_ini_entry *e);
    int (*bad)(void *user, uint32_t line, uint32_t col, const char *text);
};
/* 0, -ERR_NOMEM, or what a callback returned. Malformed lines go to ops->bad and are skipped. */
int conf_ini_read(struct slice text, const struct conf_ini_ops *ops, void *user);

#endif
