/* The vocabulary: methods, statuses, classes, and every known field found by its name. */
#include "worker/http/http.h"

#include "t/unit/tap.h"

static const struct {
    const char *name;
    uint8_t id, flags;
} known[] = {
#define FIELD(id, name, flags) {name, FIELD_##id, flags},
#include "worker/http/field.def"
#undef FIELD
};

static void test_fields(void)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char text[64];
        const size_t n = strlen(known[i].name);
        tap_ok(n < 32, "%s fits in the table", known[i].name);
        memcpy(text, known[i].name, n);
        tap_is_int(http_field_id_of(slice_of(text, n)), known[i].id, "%s", known[i].name);
        tap_is_int(http_field_flags(known[i].id), known[i].flags, "%s: flags", known[i].name);
        for (size_t k = 0; k < n; k++) {
            if (text[k] >= 'a' && text[k] <= 'z')
                text[k] = (char)(text[k] - 0x20);
        }
        tap_is_int(http_field_id_of(slice_of(text, n)), known[i].id, "%s in capitals",
                   known[i].name);
        /* Any other byte anywhere makes it another name. */
        bool other = true;
        for (size_t k = 0; k < n; k++) {
            const char was = text[k];
            for (int c = 0; c < 256; c++) {
                text[k] = (char)c;
                const bool same = slice_eq_ci(slice_of(text, n), slice_str(known[i].name));
                other = other && (http_field_id_of(slice_of(text, n)) == known[i].id) == same;
            }
            text[k] = was;
        }
        tap_ok(other, "%s and nothing else", known[i].name);
    }
    tap_is_int(http_field_id_of(SLICE("")), FIELD_UNKNOWN, "the empty name");
    tap_is_int(http_field_id_of(SLICE("x")), FIELD_UNKNOWN, "a short name");
    tap_is_int(http_field_id_of(SLICE("a-very-long-name-of-no-importance")), FIELD_UNKNOWN,
               "a long name");
}

static void test_methods(void)
{
    static const struct {
        const char *text;
        enum http_method m;
        bool safe, idempotent;
    } want[] = {
        {"GET", HTTP_GET, true, true},           {"HEAD", HTTP_HEAD, true, true},
        {"POST", HTTP_POST, false, false},       {"PUT", HTTP_PUT, false, true},
        {"DELETE", HTTP_DELETE, false, true},    {"OPTIONS", HTTP_OPTIONS, true, true},
        {"PATCH", HTTP_PATCH, false, false},     {"TRACE", HTTP_TRACE, true, true},
        {"CONNECT", HTTP_CONNECT, false, false}, {"QUERY", HTTP_QUERY, true, true},
        {"get", HTTP_OTHER, false, false},       {"GETS", HTTP_OTHER, false, false},
        {"", HTTP_OTHER, false, false},          {"PURGE", HTTP_OTHER, false, false},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        enum http_method m = http_method_of(slice_str(want[i].text));
        tap_is_int(m, want[i].m, "method %s", want[i].text);
        tap_is_int(http_method_safe(m), want[i].safe, "%s safe", want[i].text);
        tap_is_int(http_method_idempotent(m), want[i].idempotent, "%s idempotent", want[i].text);
    }
}

static void test_bytes(void)
{
    bool ok = true;
    for (int c = 0; c < 256; c++) {
        const char ch = (char)c;
        const bool alnum =
            (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool tchar = alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
        ok = ok && http_is(ch, HTTP_CLASS_TOKEN) == tchar;
        ok = ok && http_is(ch, HTTP_CLASS_VALUE) == (c == '\t' || (c >= 0x20 && c != 0x7f));
        ok = ok && http_is(ch, HTTP_CLASS_URI) == (c > 0x20 && c != 0x7f && c != '#');
        ok = ok && http_is(ch, HTTP_CLASS_HOST) ==
                       (alnum || (c != 0 && strchr("-._~!$&'()*+;=", c) != NULL));
        ok = ok && http_is(ch, HTTP_CLASS_UNRESERVED) == (alnum || (c != 0 && strchr("-._~", c)));
    }
    tap_ok(ok, "classes of bytes");
    tap_ok(http_is_token(SLICE("abc-1")), "a token");
    tap_ok(!http_is_token(SLICE("")) && !http_is_token(SLICE("a b")), "no tokens");
    tap_is_str(http_status_text(404), "Not Found", "404");
    tap_is_str(http_status_text(100), "Continue", "100");
    tap_is_str(http_status_text(599), "", "599");
    tap_is_str(http_status_text(0), "", "0");
    tap_is_str(http_status_text(600), "", "600");
}

int main(void)
{
    test_fields();
    test_methods();
    test_bytes();
    return tap_done();
}
