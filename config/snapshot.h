/* The bytes a load works on. Inside of config/ only; the public part is in config/config.h. */
#ifndef CONFIG_SNAPSHOT_H
#define CONFIG_SNAPSHOT_H

#include "base/hash.h"
#include "config/config.h"
#include "config/ini.h"

#define CONF_SNAPSHOT_BYTES (16u << 20) /* of all files together */
#define CONF_SNAPSHOT_FILES 10000u
#define CONF_INCLUDE_DEPTH  8u
#define CONF_PAGE_BYTES     65536u /* of one error page */

struct conf_snap_file {
    const char *path;  /* as opened */
    struct slice real; /* canonical path: identity */
    struct slice text;
    const char *error; /* why it could not be read, or NULL */
    struct conf_snap_include *first, *last;
};
/* One `include` line, in the order of the file. */
struct conf_snap_include {
    uint32_t *file; /* indices of what it names */
    size_t n;
    const char *error;
    struct conf_snap_include *next;
};
struct conf_snap_page {
    struct slice path;
    struct slice body;
    const char *error;
};
struct conf_snapshot {
    struct arena arena;
    struct conf_snap_file **file; /* [0] is the main file */
    size_t nfile, cap;
    struct map by_path; /* real -> struct conf_snap_file, index + 1 */
    struct map pages;   /* path -> struct conf_snap_page */
    size_t bytes, npage;
    bool text_only; /* no file may be named by it */
};

/* An error page read with the snapshot, or NULL. path as conf_snapshot_join() gave it. */
const struct conf_snap_page *conf_snapshot_page(const struct conf_snapshot *s, struct slice path);
/* A path relative to the directory of the file that names it. NUL-terminated; .p NULL: no memory.
 */
struct slice conf_snapshot_join(struct arena *a, const char *file, struct slice path);

#endif
