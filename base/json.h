/* JSON writer (RFC 8259) into a buf; commas and nesting are kept for the caller. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"

#define JSON_DEPTH 32
struct json {
    struct buf *out;
    uint8_t depth;
    bool first[JSON_DEPTH];
    bool after_key;
};

void json_init(struct json *j, struct buf *out);
void json_object(struct json *j);     /* { */
void json_end_object(struct json *j); /* } */
void json_array(struct json *j);
void json_end_array(struct json *j);
void json_key(struct json *j, const char *key);
void json_str(struct json *j, struct slice s); /* bytes that are not UTF-8 become U+FFFD */
void json_cstr(struct json *j, const char *s); /* NULL → null */
void json_u64(struct json *j, uint64_t v);
void json_i64(struct json *j, int64_t v);
void json_double(struct json *j, double v); /* three decimals, never NaN */
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
/* key and value at once */
void json_kstr(struct json *j, const char *key, struct slice s);
void json_kcstr(struct json *j, const char *key, const char *s);
void json_ku64(struct json *j, const char *key, uint64_t v);
void json_kbool(struct json *j, const char *key, bool v);
/* Only the escaped contents of a string, without quotes: for log formats. */
void json_escape(struct buf *out, struct slice s);

#endif
