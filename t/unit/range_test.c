/* Ranges: the grammar, what is satisfiable, merging, and the texts of answers. */
#include "worker/http/range.h"

#include "base/err.h"
#include "t/unit/tap.h"

/* want: NULL = ignored; else how it resolves: "W" whole, "U" unsatisfiable, or "first-last ..." */
static const struct {
    const char *in;
    uint64_t size;
    const char *want;
} row[] = {
    {"bytes=0-499", 10000, "0-499"},
    {"bytes=500-999", 10000, "500-999"},
    {"bytes=-500", 10000, "9500-9999"},
    {"bytes=9500-", 10000, "9500-9999"},
    {"bytes=0-0,-1", 10000, "0-0 9999-9999"},
    {"Bytes=0-0", 10, "0-0"},
    {"bytes=0-", 10, "0-9"},
    {"bytes=0-99999999999999999999999999", 10, "0-9"},
    {"bytes=99999999999999999999999999-", 10, "U"},
    {"bytes=-99999999999999999999999999", 10, "0-9"},
    {"bytes=-0", 10, "U"},
    {"bytes=10-", 10, "U"},
    {"bytes=10-,-0", 10, "U"},
    {"bytes=10-,3-4", 10, "3-4"},
    {"bytes=0-", 0, "U"},
    {"bytes=-5", 0, "W"},
    {"bytes=500-600,601-999", 10000, "500-999"},
    {"bytes=500-700,601-999", 10000, "500-999"},
    {"bytes=601-999,500-700", 10000, "500-999"},
    {"bytes=0-9,50-59", 10000, "0-59"},
    {"bytes=0-9,1000-1009", 10000, "0-9 1000-1009"},
    {"bytes=1000-1009,0-9", 10000, "1000-1009 0-9"},
    {"bytes=1000-1009,0-9,1005-1020", 10000, "1000-1020 0-9"},
    {"bytes=0-9,2000-2009,1000-1009,5-1500", 10000, "0-1500 2000-2009"},
    {"bytes=0-9,2000-2009,1000-1009,5-1999", 10000, "0-2009"},
    {"bytes= 0-1 , , 500-501 ,", 10000, "0-1 500-501"},
    {"bytes=0-0,1000-1000,2000-2000,3000-3000,4000-4000,5000-5000,6000-6000,7000-7000", 10000,
     "0-0 1000-1000 2000-2000 3000-3000 4000-4000 5000-5000 6000-6000 7000-7000"},
    {"bytes=0-0,1000-1000,2000-2000,3000-3000,4000-4000,5000-5000,6000-6000,7000-7000,8000-8000",
     10000, "W"},
    {"bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-", 10, "0-9"},
    {"bytes=", 10, NULL},
    {"bytes", 10, NULL},
    {"", 10, NULL},
    {"bytes=,", 10, NULL},
    {"bytes =0-1", 10, NULL},
    {"items=0-1", 10, NULL},
    {"bytes=1", 10, NULL},
    {"bytes=-", 10, NULL},
    {"bytes=--1", 10, NULL},
    {"bytes=5-4", 10, NULL},
    {"bytes=0-1,5-4", 10, NULL},
    {"bytes=0 - 1", 10, NULL},
    {"bytes=0-1-2", 10, NULL},
    {"bytes=0x0-1", 10, NULL},
    {"bytes=a-b", 10, NULL},
    {"bytes=0-1;2-3", 10, NULL},
    {"bytes=+0-1", 10, NULL},
};

static size_t show(const struct range_set *s, char *out, size_t cap)
{
    size_t n = 0;
    for (unsigned i = 0; i < s->n; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%llu-%llu", i > 0 ? " " : "",
                              (unsigned long long)s->r[i].first, (unsigned long long)s->r[i].last);
    return n;
}

static void rows(void)
{
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct range_specs specs;
        struct range_set set;
        char text[512];
        int rc = range_parse(slice_str(row[i].in), &specs);
        if (row[i].want == NULL) {
            tap_is_int(rc, -ERR_INVAL, "ignored: %s", row[i].in);
            continue;
        }
        enum range_answer a = rc < 0 ? RANGE_WAIT : range_resolve(&specs, row[i].size, 0, &set);
        size_t n = 0;
        if (a == RANGE_PARTIAL)
            n = show(&set, text, sizeof(text));
        else
            n = (size_t)snprintf(text, sizeof(text), "%s",
                                 a == RANGE_WHOLE           ? "W"
                                 : a == RANGE_UNSATISFIABLE ? "U"
                                                            : "?");
        tap_is_slice(slice_of(text, n), slice_str(row[i].want), "%s of %llu", row[i].in,
                     (unsigned long long)row[i].size);
    }
}

static void many(void)
{
    char text[1024];
    struct range_specs specs;
    size_t n = (size_t)snprintf(text, sizeof(text), "bytes=");
    for (unsigned i = 0; i < RANGE_SPECS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u-", i > 0 ? "," : "", i);
    tap_ok(range_parse(slice_of(text, n), &specs) == 0, "as many as are allowed");
    n += (size_t)snprintf(text + n, sizeof(text) - n, ",1-");
    tap_is_int(range_parse(slice_of(text, n), &specs), -ERR_INVAL, "one too many is ignored");
}

static void arriving(void)
{
    struct range_specs specs;
    struct range_set set;
    tap_ok(range_parse(SLICE("bytes=0-99,200-299"), &specs) == 0, "two ranges");
    tap_is_int(range_resolve(&specs, RANGE_UNKNOWN, 299, &set), RANGE_WAIT,
               "a byte is missing and the size unknown");
    tap_is_int(range_resolve(&specs, RANGE_UNKNOWN, 300, &set), RANGE_PARTIAL, "all have arrived");
    tap_is_int(range_parse(SLICE("bytes=-5"), &specs), 0, "a suffix");
    tap_is_int(range_resolve(&specs, RANGE_UNKNOWN, 300, &set), RANGE_WAIT,
               "a suffix waits for the size");
    tap_is_int(range_resolve(&specs, 1000, 300, &set), RANGE_PARTIAL, "a size that was announced");
}

static void texts(void)
{
    char text[1024];
    const struct range r = {0, 499};
    const struct slice boundary = SLICE("B");
    struct range_set set = {.r = {{0, 9}, {1000, 1099}}, .n = 2, .bytes = 110};
    struct head_out o = {.p = text, .cap = sizeof(text)};
    tap_is_slice(slice_of(text, range_content_range(text, r, 1234)), SLICE("bytes 0-499/1234"),
                 "Content-Range");
    tap_is_slice(slice_of(text, range_content_range(text, r, RANGE_UNKNOWN)),
                 SLICE("bytes 0-499/*"), "Content-Range of an unknown size");
    tap_is_slice(slice_of(text, range_unsatisfied(text, 1234)), SLICE("bytes */1234"),
                 "Content-Range of a 416");
    const struct range far = {UINT64_MAX - 2, UINT64_MAX - 1};
    tap_ok(range_content_range(text, far, UINT64_MAX - 1) < 80, "the longest one fits");
    range_part_head(&o, boundary, SLICE("text/plain"), set.r[0], 2000, true);
    size_t first = o.n;
    tap_is_slice(slice_of(text, first),
                 SLICE("--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-9/2000\r\n\r\n"),
                 "the first part");
    range_part_head(&o, boundary, SLICE("text/plain"), set.r[1], 2000, false);
    tap_ok(slice_starts(slice_of(text + first, o.n - first), SLICE("\r\n--B\r\n")), "the next");
    range_part_end(&o, boundary);
    tap_ok(slice_ends(slice_of(text, o.n), SLICE("\r\n--B--\r\n")), "the end");
    tap_is_int(range_multipart_length(&set, boundary, SLICE("text/plain"), 2000), o.n + 110,
               "the length is what is written");
    char a[RANGE_BOUNDARY_LEN], b[RANGE_BOUNDARY_LEN];
    range_boundary(1, 2, a);
    range_boundary(1, 3, b);
    tap_ok(memcmp(a, b, sizeof(a)) != 0 && http_is_token(slice_of(a, sizeof(a))), "boundaries");
}

static void requests(void)
{
    struct range_specs specs;
    struct http_field f[2] = {
        {.name = SLICE("Range"), .value = SLICE("bytes=0-1"), .id = FIELD_RANGE},
        {.name = SLICE("range"), .value = SLICE("bytes=0-1"), .id = FIELD_RANGE}};
    struct http_request r = {.method = HTTP_GET, .field = f, .nfield = 1};
    tap_is_int(range_of(&r, &specs), 0, "RFC 9110 14.2: GET");
    r.method = HTTP_HEAD;
    tap_is_int(range_of(&r, &specs), -ERR_NOENT, "RFC 9110 14.2: only GET");
    r.method = HTTP_QUERY;
    tap_is_int(range_of(&r, &specs), 0, "RFC 10008: as with GET with QUERY");
    r.method = HTTP_GET;
    r.nfield = 2;
    tap_is_int(range_of(&r, &specs), -ERR_NOENT, "two fields are ignored");
}

int main(void)
{
    rows();
    many();
    arriving();
    texts();
    requests();
    return tap_done();
}
