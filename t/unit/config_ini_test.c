/* The INI reader: every trap of inih, positions, hostile bytes. */
#include "base/arena.h"
#include "config/ini.h"
#include "t/unit/config_fixture.h"

#include <stdio.h>
#include <stdlib.h>

/* Writes down what the reader reports. */
struct record {
    struct buf out;
    int stop_at; /* entries until the callback gives up */
};

static int on_section(void *user, struct slice title, uint32_t line, uint32_t col)
{
    struct record *r = user;
    buf_printf(&r->out, "[%u:%u " SLICE_FMT "]", line, col, SLICE_ARG(title));
    return 0;
}

static int on_entry(void *user, const struct conf_ini_entry *e)
{
    struct record *r = user;
    buf_printf(&r->out, "(%u:%u " SLICE_FMT "%s %u:%u <" SLICE_FMT ">)", e->line, e->col,
               SLICE_ARG(e->name), e->append ? "+" : "", e->value_line, e->value_col,
               SLICE_ARG(e->value));
    for (size_t i = 1; i < e->npiece; i++)
        buf_printf(&r->out, "{%u=%u:%u}", e->piece[i].off, e->piece[i].line, e->piece[i].col);
    return r->stop_at && --r->stop_at == 0 ? -ERR_INVAL : 0;
}

static int on_bad(void *user, uint32_t line, uint32_t col, const char *text)
{
    struct record *r = user;
    buf_printf(&r->out, "!%u:%u %s!", line, col, text);
    return 0;
}

static const struct conf_ini_ops ops = {on_section, on_entry, on_bad};

static void reads(struct slice text, const char *want, const char *name)
{
    struct record r = {0};
    buf_init(&r.out, 0);
    int k = conf_ini_read(text, &ops, &r);
    tap_ok(k == 0, "%s: status", name);
    tap_is_str(r.out.n ? buf_slice(&r.out) : SLICE(""), want, "%s", name);
    buf_fini(&r.out);
}
#define READS(text, want, name) reads(SLICE(text), want, name)

static void test_forms(void)
{
    READS("", "", "empty file");
    READS("a=1", "(1:1 a 1:3 <1>)", "no end of line");
    READS("\xef\xbb\xbf[s]\na = 1\n", "[1:1 s](2:1 a 2:5 <1>)", "byte order mark");
    READS("[s]\r\na = 1 2\r\n\r\n", "[1:1 s](2:1 a 2:5 <1 2>)", "CRLF");
    READS("[a b]\nx=1\n[a b]\ny=2\n", "[1:1 a b](2:1 x 2:3 <1>)[3:1 a b](4:1 y 4:3 <2>)",
          "sections of one name stay apart");
    READS("[ a ] ; why\nx=1", "[1:1 a](2:1 x 2:3 <1>)", "comment behind a title");
    READS("[a] x", "!1:5 nothing may follow \"]\" but a comment!", "text behind a title");
    READS("[a", "!1:3 \"]\" is missing!", "title without end");
    READS("x =\ny=", "(1:1 x 1:4 <>)(2:1 y 2:3 <>)", "empty values");
    READS("x += 1\nx+=2", "(1:1 x+ 1:6 <1>)(2:1 x+ 2:4 <2>)", "append");
    READS("; c\n# d\n  ; e\nx = 1", "(4:1 x 4:5 <1>)", "comment lines");
    READS("x = 1 ; c\ny = a;b #c", "(1:1 x 1:5 <1>)(2:1 y 2:5 <a;b #c>)", "comments behind values");
    READS("x = \"a ; b\" ; c", "(1:1 x 1:5 <\"a ; b\">)", "semicolon in double quotes");
    READS("x = 'a ; b' o=\"; \" ; c", "(1:1 x 1:5 <'a ; b' o=\"; \">)",
          "semicolon in other quotes");
    READS("x = \"a \\\" ; b\" ; c", "(1:1 x 1:5 <\"a \\\" ; b\">)", "escaped quote");
    READS("x = it's ; c", "(1:1 x 1:5 <it's>)", "apostrophe inside of a word");
    READS("x = [a:b]=c:d", "(1:1 x 1:5 <[a:b]=c:d>)", "value with separators");
}

static void test_errors(void)
{
    READS("x: 1", "!1:2 keys are written with \"=\", not with \":\"!", "colon");
    READS("xy", "!1:3 expected \"=\" and a value!", "no separator");
    READS("Xy = 1", "!1:1 expected \"key = value\" or \"[section]\"!", "upper case");
    READS("x-y = 1", "!1:2 expected \"=\"; keys are lower case with underscores!", "dash");
    READS("x y = 1", "!1:3 expected \"=\"; keys are lower case with underscores!", "two words");
    READS("= 1", "!1:1 a key is missing before \"=\"!", "no key");
}

static void test_continuation(void)
{
    READS("x = a\n  b ; c\n\td\ny = e", "(1:1 x 1:5 <a b d>){2=2:3}{4=3:2}(4:1 y 4:5 <e>)",
          "continuation lines");
    READS("x =\n a\n b", "(1:1 x 2:2 <a b>){2=3:2}", "value begins on the second line");
    READS("x = a\n ; no\n # no\n b", "(1:1 x 1:5 <a b>){2=4:2}", "comments between");
    READS("x = \"a;\n  ; b\"\ny=1", "(1:1 x 1:5 <\"a; ; b\">){4=2:3}(3:1 y 3:3 <1>)",
          "inside of quotes nothing is a comment");
    READS("x = a\n\n b", "(1:1 x 1:5 <a>)!3:3 expected \"=\" and a value!", "a blank line ends it");
    READS("[s]\n  x = 1\n  y = 2\n    3\n  z = 4",
          "[1:1 s](2:3 x 2:7 <1>)(3:3 y 3:7 <2 3>){2=4:5}(5:3 z 5:7 <4>)", "indented sections");
    READS("x = 1\n  y = 2",
          "!2:3 an indented line continues the value above; take the indentation away if this is a "
          "key!(1:1 x 1:5 <1>)",
          "one key below another");
    READS("x = 1\n  y=2", "(1:1 x 1:5 <1 y=2>){2=2:3}", "an option on a line of its own");
}

static void test_bytes(void)
{
    READS("x = a\0b\ny = 1", "!1:6 NUL byte in the file!(2:1 y 2:5 <1>)", "NUL byte");
    READS("x = a\x01\ny = 1", "!1:6 control byte in the file!(2:1 y 2:5 <1>)",
          "the reader's own marks");
    READS("x = a\rb\ny = 1", "!1:6 control byte in the file!(2:1 y 2:5 <1>)", "bare CR");
    READS("x = a\x7f", "!1:6 control byte in the file!", "DEL");
    READS("x = a\n \x02\n b", "!2:2 control byte in the file!(1:1 x 1:5 <a b>){2=3:2}",
          "control byte in a continuation");
    READS("x = \xc3\xa4\xff", "(1:1 x 1:5 <\xc3\xa4\xff>)", "bytes beyond ASCII pass");
}

/* Values far longer than inih's line, with blanks and semicolons at every place where it could be
 * cut. */
static void test_long(void)
{
    for (size_t n = 150; n < 460; n += 7) {
        struct buf text, want;
        buf_init(&text, 0);
        buf_init(&want, 0);
        buf_str(&text, "[s]\nkey = \"");
        for (size_t i = 0; i < n; i++)
            buf_chr(&text, i % 3 == 0 ? ' ' : i % 3 == 1 ? ';' : 'x');
        buf_str(&text, "\"\nz = 1\n");
        buf_str(&want, "[1:1 s](2:1 key 2:7 <");
        buf_add(&want, slice_of(text.p + 10, n + 2));
        buf_str(&want, ">)(3:1 z 3:5 <1>)");
        buf_chr(&want, 0);
        reads(buf_slice(&text), want.p, "long value");
        buf_fini(&text);
        buf_fini(&want);
    }
}

static void test_limits(void)
{
    struct buf b;
    buf_init(&b, 0);
    buf_str(&b, "x = ");
    for (int i = 0; i < 16384; i++)
        buf_chr(&b, 'a');
    buf_str(&b, "\ny = 1\n");
    reads(buf_slice(&b),
          "!1:16385 line longer than 16384 bytes; a line that begins with a blank continues the "
          "value!(2:1 y 2:5 <1>)",
          "line too long");
    buf_clear(&b);
    buf_str(&b, "x = a\n");
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 8000; k++)
            buf_chr(&b, k ? 'a' : ' ');
        buf_chr(&b, '\n');
    }
    buf_str(&b, "y = 1\n");
    reads(buf_slice(&b), "!1:1 value longer than 65536 bytes!(11:1 y 11:5 <1>)", "value too long");
    buf_clear(&b);
    for (int i = 0; i < 41; i++)
        buf_chr(&b, 'k');
    buf_str(&b, " = 1\n[");
    for (int i = 0; i < 201; i++)
        buf_chr(&b, 't');
    buf_str(&b, "]\n[");
    for (int i = 0; i < 200; i++)
        buf_chr(&b, 't');
    buf_str(&b, "]\n");
    struct record r = {0};
    buf_init(&r.out, 0);
    tap_ok(conf_ini_read(buf_slice(&b), &ops, &r) == 0, "long names: status");
    tap_ok(slice_starts(buf_slice(&r.out),
                        SLICE("!1:1 the name of the key is longer than 40 bytes!!2:1 section "
                              "title longer than 200 bytes![3:1 ttt")),
           "long names are refused, not cut");
    buf_fini(&r.out);
    buf_fini(&b);
}

static void test_stop(void)
{
    struct record r = {.stop_at = 2};
    buf_init(&r.out, 0);
    tap_is_int(conf_ini_read(SLICE("a=1\nb=2\nc=3"), &ops, &r), -ERR_INVAL, "a callback ends it");
    tap_is_str(buf_slice(&r.out), "(1:1 a 1:3 <1>)(2:1 b 2:3 <2>)", "nothing is read behind that");
    buf_fini(&r.out);
}

/* Every beginning of a text is read without harm. */
static void test_splits(void)
{
    static const char text[] =
        "\xef\xbb\xbf[s] ; c\r\nx += \"a ; \\\" b\"\n  'c ;\n ' ; d\n[t]\ny=\n";
    for (size_t n = 0; n < sizeof text; n++) {
        char *copy = malloc(n ? n : 1);
        struct record r = {0};
        if (!copy)
            tap_bail("no memory");
        memcpy(copy, text, n);
        buf_init(&r.out, 0);
        int k = conf_ini_read(slice_of(copy, n), &ops, &r);
        if (k != 0)
            tap_ok(false, "beginning of %zu bytes", n);
        buf_fini(&r.out);
        free(copy);
    }
    tap_ok(true, "every beginning");
}

int main(void)
{
    test_forms();
    test_errors();
    test_continuation();
    test_bytes();
    test_long();
    test_limits();
    test_stop();
    test_splits();
    return tap_done();
}
