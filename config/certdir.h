/* How certificates lie in a directory: which of its files belong together, and how they are opened.
 * Both who reads such a directory and who watches it go by this. An entry is NAME.pem, NAME.crt,
 * NAME.cer or NAME.cert, whose key is in NAME.key or else in the same file; or a folder NAME with
 * fullchain.pem and privkey.pem. */
#ifndef CONFIG_CERTDIR_H
#define CONFIG_CERTDIR_H

#include "base/slice.h"

#include <stdint.h>

#define CERTDIR_NAME 224u          /* longest name of an entry, and its NUL */
#define CERTDIR_FILE (1024 * 1024) /* largest file that is read, in bytes */

enum certdir_kind { CERTDIR_NONE, CERTDIR_PLAIN, CERTDIR_FOLDER };
/* What a name in a directory is, by its looks: CERTDIR_FOLDER may be anything. Names with a slash,
 * with a dot at their beginning, or too long, are nothing. */
enum certdir_kind certdir_kind(struct slice name);

#define CERTDIR_PATH (CERTDIR_NAME + 16u)
struct certdir_paths {
    char cert[CERTDIR_PATH], key[CERTDIR_PATH]; /* relative to the directory */
};
/* False: the name is no entry's. */
bool certdir_paths(struct slice name, struct certdir_paths *ret);

/* What tells one state of the two files from another, links followed. */
struct certdir_look {
    struct certdir_file {
        uint64_t dev, ino;
        int64_t size, mtime_ns;
    } cert, key;        /* key: zeroes when it is in the same file */
    int64_t changed_ns; /* wall clock: the latest change of the files or of their places */
};
/* dir may be AT_FDCWD, and key "" or equal to cert, or a file that need not be there (optional).
 * 0; -ERR_NOENT, -ERR_SYS: see errno; -ERR_INVAL no regular file; -ERR_RANGE too large. */
int certdir_look(int dir, const char *cert, const char *key, bool optional,
                 struct certdir_look *ret);
/* Opens a regular file for reading; never waits. The fd, or negative as certdir_look(). */
int certdir_open(int dir, const char *path, size_t *ret_size);
/* Both files of an entry or pair, as certdir_look(). *ret_key is -1 when it is in the same file. */
int certdir_open_both(int dir, const char *cert, const char *key, bool optional, int *ret_cert,
                      int *ret_key);
/* "no such file", "is no regular file", of what certdir_look() and certdir_open() returned. */
const char *certdir_error(int e);

#endif
