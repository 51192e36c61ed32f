/* The only user of inih. It splits titles, names and values; we feed it one line at a time and take
 * care of the rest.
 *
 * inih as shipped cuts lines at 200 bytes and titles at 49, reports no positions, merges sections
 * of one name, sees a comment in ` ;` even inside quotes, accepts `key: value`, and has
 * continuation lines or not, as it was built. So our reader hands it lines that none of this can
 * touch: a title becomes a number, a value comes in pieces that fit its buffer, each under the
 * key's name again, with blanks and `;` replaced by control bytes (which a file may not contain)
 * that the handler puts back. */
#include "config/ini.h"

#include "base/buf.h"
#include "base/err.h"

#include <ini.h>
#include <stdio.h>

/* Stand-ins for bytes that inih would strip or take for a comment. */
enum { MASK_SPACE = 1, MASK_TAB = 2, MASK_SEMICOLON = 3 };

struct reader {
    struct slice rest; /* what of the file is still unread */
    uint32_t line;     /* number of the line last taken from rest */
    const struct conf_ini_ops *ops;
    void *user;
    int status; /* first negative result; ends the reading */
    /* The entry being fed. */
    struct buf value;  /* masked value */
    struct buf pieces; /* struct conf_ini_piece */
    size_t fed;        /* bytes of value handed to inih */
    bool feeding;
    struct buf got; /* value as the handler puts it together again */
    struct conf_ini_entry entry;
};

static void reader_fail(struct reader *r, int status)
{
    if (r->status == 0)
        r->status = status;
}

static void reader_bad(struct reader *r, uint32_t line, uint32_t col, const char *text)
{
    int k = r->ops->bad(r->user, line, col, text);
    if (k < 0)
        reader_fail(r, k);
}

/* The next line without its end; false at the end of the file. */
static bool take_line(struct reader *r, struct slice *ret)
{
    if (r->rest.n == 0)
        return false;
    const char *nl = memchr(r->rest.p, '\n', r->rest.n);
    size_t n = nl ? (size_t)(nl - r->rest.p) : r->rest.n;
    size_t step = nl ? n + 1 : n;
    *ret = slice_of(r->rest.p, n);
    r->rest = slice_of(r->rest.p + step, r->rest.n - step);
    r->line++;
    if (ret->n > 0 && ret->p[ret->n - 1] == '\r')
        ret->n--;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t indent_of(struct slice s)
{
    size_t i = 0;
    while (i < s.n && is_blank(s.p[i]))
        i++;
    return i;
}

/* Refuses what no line may contain. */
static bool line_ok(struct reader *r, struct slice s)
{
    if (s.n > CONF_INI_LINE_MAX) {
        reader_bad(
            r, r->line, CONF_INI_LINE_MAX + 1,
            "line longer than 16384 bytes; a line that begins with a blank continues the value");
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 ? c != 0x7f : c == '\t')
            continue;
        reader_bad(r, r->line, (uint32_t)i + 1,
                   c == 0 ? "NUL byte in the file" : "control byte in the file");
        return false;
    }
    return true;
}

/* Follows quotes: they open at the beginning of a word and after `=` inside one, as in
 * config/words.c. */
struct quotes {
    char open, prev;
    bool escaped;
};

/* True when c begins a comment. */
static bool quotes_feed(struct quotes *q, char c)
{
    if (q->open) {
        if (q->escaped)
            q->escaped = false;
        else if (c == '\\')
            q->escaped = true;
        else if (c == q->open)
            q->open = 0;
    } else if (c == ';' && is_blank(q->prev)) {
        return true;
    } else if ((c == '"' || c == '\'') && (is_blank(q->prev) || q->prev == '=')) {
        q->open = c;
    }
    q->prev = c;
    return false;
}

/* Adds the part of a line from byte `from` on to the masked value, up to a comment. */
static void add_piece(struct reader *r, struct quotes *q, struct slice s, size_t from)
{
    size_t end = from;
    bool comment = false;
    for (; end < s.n && !comment; end++)
        comment = quotes_feed(q, s.p[end]);
    if (comment)
        end--;
    while (end > from && is_blank(s.p[end - 1]) && !q->open)
        end--;
    if (end == from)
        return;
    if (r->value.n > 0)
        buf_chr(&r->value, MASK_SPACE);
    struct conf_ini_piece piece = {(uint32_t)r->value.n, r->line, (uint32_t)from + 1};
    buf_add(&r->pieces, slice_of((const char *)&piece, sizeof piece));
    for (size_t i = from; i < end; i++) {
        char c = s.p[i];
        buf_chr(&r->value, c == ' '    ? MASK_SPACE
                           : c == '\t' ? MASK_TAB
                           : c == ';'  ? MASK_SEMICOLON
                                       : c);
    }
}

/* `name =` or `name +=` at the beginning of an unquoted continuation line is most likely an
 * indented key. */
static bool looks_like_entry(struct slice s)
{
    size_t i = 0;
    while (i < s.n && ((s.p[i] >= 'a' && s.p[i] <= 'z') || s.p[i] == '_'))
        i++;
    if (i == 0 || i >= s.n || !is_blank(s.p[i]))
        return false;
    while (i < s.n && is_blank(s.p[i]))
        i++;
    if (i < s.n && s.p[i] == '+')
        i++;
    return i < s.n && s.p[i] == '=';
}

/* Continuation lines: deeper than the key itself. */
static void add_continuations(struct reader *r, struct quotes *q, size_t indent)
{
    for (;;) {
        struct slice rest = r->rest, s;
        uint32_t line = r->line;
        if (!take_line(r, &s))
            return;
        size_t in = indent_of(s);
        if (in <= indent || in == s.n) {
            r->rest = rest;
            r->line = line;
            return;
        }
        if (!line_ok(r, s))
            continue;
        if (!q->open && (s.p[in] == ';' || s.p[in] == '#'))
            continue;
        if (!q->open && looks_like_entry(slice_of(s.p + in, s.n - in))) {
            reader_bad(r, r->line, (uint32_t)in + 1,
                       "an indented line continues the value above; take the indentation away if "
                       "this is a key");
            continue;
        }
        q->prev = ' ';
        add_piece(r, q, s, in);
    }
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Splits `name [+]= value` and gathers the value. False when the line was no entry. */
static bool begin_entry(struct reader *r, struct slice s, size_t indent)
{
    size_t i = indent;
    while (i < s.n && name_char(s.p[i]))
        i++;
    struct slice name = slice_of(s.p + indent, i - indent);
    while (i < s.n && is_blank(s.p[i]))
        i++;
    bool append = i < s.n && s.p[i] == '+';
    if (append)
        i++;
    uint32_t col = (uint32_t)i + 1;
    if (i >= s.n)
        return reader_bad(r, r->line, col, "expected \"=\" and a value"), false;
    if (s.p[i] != '=') {
        const char *why = s.p[i] == ':' ? "keys are written with \"=\", not with \":\""
                          : name.n == 0 ? "expected \"key = value\" or \"[section]\""
                                        : "expected \"=\"; keys are lower case with underscores";
        return reader_bad(r, r->line, col, why), false;
    }
    if (name.n == 0)
        return reader_bad(r, r->line, (uint32_t)indent + 1, "a key is missing before \"=\""), false;
    if (name.n > CONF_INI_NAME_MAX)
        return reader_bad(r, r->line, (uint32_t)indent + 1,
                          "the name of the key is longer than 40 bytes"),
               false;
    do
        i++;
    while (i < s.n && is_blank(s.p[i]));

    buf_clear(&r->value);
    buf_clear(&r->pieces);
    buf_clear(&r->got);
    r->entry = (struct conf_ini_entry){.name = name,
                                       .append = append,
                                       .line = r->line,
                                       .col = (uint32_t)indent + 1,
                                       .value_line = r->line,
                                       .value_col = (uint32_t)i + 1};
    struct quotes q = {.prev = ' '};
    add_piece(r, &q, s, i);
    add_continuations(r, &q, indent);
    if (r->value.failed || r->pieces.failed) {
        if (r->value.n + CONF_INI_LINE_MAX < CONF_INI_VALUE_MAX)
            return reader_fail(r, -ERR_NOMEM), false;
        r->value.failed = false;
        return reader_bad(r, r->entry.line, r->entry.col, "value longer than 65536 bytes"), false;
    }
    r->fed = 0;
    r->feeding = true;
    return true;
}

static bool begin_title(struct reader *r, struct slice s, size_t indent)
{
    struct quotes q = {.prev = 0};
    size_t end = indent + 1;
    while (end < s.n && s.p[end] != ']')
        end++;
    if (end == s.n)
        return reader_bad(r, r->line, (uint32_t)s.n + 1, "\"]\" is missing"), false;
    for (size_t i = end + 1; i < s.n; i++) {
        if (quotes_feed(&q, s.p[i]) || (s.p[i] == '#' && is_blank(s.p[i - 1])))
            break;
        if (!is_blank(s.p[i]))
            return reader_bad(r, r->line, (uint32_t)i + 1,
                              "nothing may follow \"]\" but a comment"),
                   false;
    }
    struct slice title = slice_trim(slice_of(s.p + indent + 1, end - indent - 1));
    if (title.n > CONF_INI_TITLE_MAX)
        return reader_bad(r, r->line, (uint32_t)indent + 1, "section title longer than 200 bytes"),
               false;
    int k = r->ops->section(r->user, title, r->line, (uint32_t)indent + 1);
    if (k < 0)
        return reader_fail(r, k), false;
    return true;
}

/* The next piece of the value as a whole entry: the key's name, `=`, and as much as fits. */
static char *feed_piece(struct reader *r, char *str, size_t size)
{
    size_t head = r->entry.name.n + 1, left = r->value.n - r->fed;
    if (size < head + 5)
        return reader_fail(r, -ERR_INTERNAL), NULL;
    size_t n = size - head - 4 < left ? size - head - 4
                                      : left; /* room for an end of line that we do not send, too */
    memcpy(str, r->entry.name.p, r->entry.name.n);
    str[head - 1] = '=';
    if (n > 0)
        memcpy(str + head, r->value.p + r->fed, n);
    str[head + n] = 0;
    r->fed += n;
    return str;
}

static char *feed_line(char *str, int num, void *user)
{
    struct reader *r = user;
    struct slice s;
    if (num < 2 || r->status < 0)
        return NULL;
    if (r->feeding)
        return feed_piece(r, str, (size_t)num);
    for (;;) {
        if (!take_line(r, &s))
            return NULL;
        if (!line_ok(r, s)) {
            if (r->status < 0)
                return NULL;
            continue;
        }
        size_t in = indent_of(s);
        if (in == s.n || s.p[in] == ';' || s.p[in] == '#')
            continue;
        if (s.p[in] == '[') {
            if (begin_title(r, s, in)) {
                (void)snprintf(str, (size_t)num, "[%u]", (unsigned)r->line);
                return str;
            }
        } else if (begin_entry(r, s, in)) {
            return feed_piece(r, str, (size_t)num);
        }
        if (r->status < 0)
            return NULL;
    }
}

static int take_value(void *user, const char *section, const char *name, const char *value)
{
    struct reader *r = user;
    (void)section; /* a number; the title itself went to the callback */
    if (!name || !r->feeding)
        return 1; /* some builds announce sections */
    for (const char *p = value ? value : ""; *p; p++)
        buf_chr(&r->got, *p == MASK_SPACE       ? ' '
                         : *p == MASK_TAB       ? '\t'
                         : *p == MASK_SEMICOLON ? ';'
                                                : *p);
    if (r->got.failed)
        return reader_fail(r, -ERR_NOMEM), 1;
    if (r->fed < r->value.n)
        return 1;
    r->feeding = false;
    r->entry.value = buf_slice(&r->got);
    r->entry.piece = (const void *)r->pieces.p;
    r->entry.npiece = r->pieces.n / sizeof(struct conf_ini_piece);
    if (r->entry.npiece > 0) {
        r->entry.value_line = r->entry.piece[0].line;
        r->entry.value_col = r->entry.piece[0].col;
    }
    int k = r->ops->entry(r->user, &r->entry);
    if (k < 0)
        reader_fail(r, k);
    return 1;
}

int conf_ini_read(struct slice text, const struct conf_ini_ops *ops, void *user)
{
    struct reader r = {.rest = text, .ops = ops, .user = user};
    if (slice_starts(r.rest, SLICE("\xef\xbb\xbf")))
        r.rest = slice_of(r.rest.p + 3, r.rest.n - 3);
    buf_init(&r.value, CONF_INI_VALUE_MAX);
    buf_init(&r.pieces, 0);
    buf_init(&r.got, 0);
    int k = ini_parse_stream(feed_line, &r, take_value, &r);
    if (r.status == 0 && k != 0)
        r.status = k == -2 ? -ERR_NOMEM : -ERR_INTERNAL;
    buf_fini(&r.value);
    buf_fini(&r.pieces);
    buf_fini(&r.got);
    return r.status;
}
