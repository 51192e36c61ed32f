/* Access log formats: compiled once into a list of operations, then run for each record. */
#ifndef WORKER_LOG_FORMAT_H
#define WORKER_LOG_FORMAT_H

#include "worker/log/access.h"
#include "worker/log/line.h"
#include "worker/log/stamp.h"

enum format_kind {
    FORMAT_STR,
    FORMAT_NUM,
    FORMAT_STATUS,
    FORMAT_MS,
    FORMAT_SEC,
    FORMAT_BOOL,
    FORMAT_REQUEST
};
struct format_value {
    enum format_kind kind;
    uint64_t u;
    struct slice s; /* .p NULL or empty: absent */
};
struct format_env { /* what a line needs beside its record */
    struct stamp *stamp;
    uint64_t pid, worker;
};
struct format_op {
    struct format_value (*get)(const struct access_record *r, const struct format_env *e,
                               const struct format_op *op); /* NULL: text */
    struct slice text;                                      /* literal, or the field's name */
    uint8_t field; /* enum http_field_id of the field, 0 = compare names */
};
struct format {
    struct format_op *op;
    size_t n;
    bool json;
};

/* spec: "combined", "json", or text with %{variables} (%% is a percent sign). Memory is the
 * arena's; spec is borrowed. Bad ones are diagnostics at pos. 0, -ERR_INVAL, -ERR_NOMEM. */
int format_compile(struct slice spec, struct conf_pos pos, struct conf_diags *d, struct arena *a,
                   struct format *ret);
/* Writes the record with its final newline to at most cap bytes of out. Values are cut when the
 * whole would not fit. Returns the length, or 0 when it cannot be made to fit. */
size_t format_line(const struct format *f, const struct access_record *r,
                   const struct format_env *e, char *out, size_t cap);

#endif
