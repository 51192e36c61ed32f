/* Documentation made from the key table. */
#include "config/doc.h"

#include "config/load.h"

/* Keys that are no rows of the table: they are read before it. */
static const struct {
    const char *name, *syntax, *def, *doc;
} extra[] = {
    {"proxy", "url", "",
     "Quick start: the one server that every request goes to, as http://HOST:PORT, https://HOST, "
     "HOST:PORT or unix:/PATH; it takes the place of "
     "[listen], [host] and [upstream] sections."},
    {"listen", "address", "127.0.0.1:8080", "Quick start: the address to accept on."},
    {"include", "file ...", "",
     "Files to read in addition; *, ? and [...] name several, relative to the file's own "
     "directory, eight levels deep. Stands before "
     "any section or in [global]; the sections of all files count alike, in whatever order."},
};

#define MAN_COLUMNS 78

/* The input of mdoc for one character. */
static const char *man_char(char c)
{
    switch (c) {
    case '\\':
        return "\\e";
    case '-':
        return "\\-";
    case '~':
        return "\\(ti";
    case '^':
        return "\\(ha";
    case '`':
        return "\\(ga";
    case '\'':
        return "\\(aq";
    case '"':
        return "\\(dq";
    default:
        return NULL;
    }
}

/* Text for mdoc: short lines, each sentence on its own, none that begins like a macro. */
static void man_text(struct buf *out, const char *text)
{
    size_t col = 0;
    for (const char *p = text; *p; p++) {
        const char *escape = man_char(*p);
        if (*p == ' ') {
            bool sentence =
                p > text && p[-1] == '.' && ((p[1] >= 'A' && p[1] <= 'Z') || p[1] == '[');
            if (sentence || col + 1 + strcspn(p + 1, " ") > MAN_COLUMNS) {
                buf_chr(out, '\n');
                col = 0;
                continue;
            }
        }
        if (col == 0 && (*p == '.' || *p == '\''))
            buf_str(out, "\\&");
        if (escape)
            buf_str(out, escape);
        else
            buf_chr(out, *p);
        col += escape ? strlen(escape) : 1;
    }
    buf_chr(out, '\n');
}

/* "size ..." with its literal words marked: an argument is what the reader replaces. words: all are
 * literal. */
static void man_syntax(struct buf *out, const char *syntax, bool words)
{
    static const char *const literal[] = {"on", "off", "auto", "from"};
    struct slice rest = slice_str(syntax), w;
    while (slice_next(&rest, ' ', &w)) {
        bool lit = words;
        for (size_t i = 0; i < sizeof literal / sizeof literal[0]; i++)
            lit |= slice_eq(w, slice_str(literal[i]));
        if (slice_eq(w, SLICE("|")))
            buf_str(out, " \\*(Ba");
        else if (slice_eq(w, SLICE("...")))
            buf_str(out, " No ...");
        else
            buf_printf(out, "%s" SLICE_FMT, lit ? " Cm " : " Ar ", SLICE_ARG(w));
    }
}

static void man_begin(struct buf *out, const char *name, const char *syntax, bool words)
{
    buf_printf(out, ".It Ic %s Cm =", name);
    man_syntax(out, syntax, words);
    buf_chr(out, '\n');
}

static bool has_range(const struct conf_key *k)
{
    return (k->min != 0 || k->max != 0) && k->kind != CONF_KIND_OCTAL;
}

static void man_key(struct buf *out, const struct conf_key *k)
{
    struct buf name;
    buf_init(&name, 0);
    buf_add(&name, conf_key_name(k));
    buf_chr(&name, 0);
    if (!name.failed) {
        man_begin(out, name.p, conf_kind_of(k)->syntax,
                  k->kind >= CONF_KIND_BOOL && k->kind < CONF_KIND_CIDRS);
        man_text(out, k->doc);
    }
    buf_fini(&name);
    if (k->group == CONF_GROUP_OVER) {
        buf_str(out, "Default: what\n");
        buf_printf(out, ".Ic %s\nof the\n.Ic [cache]\nsection says.\n", conf_key_base(k)->name);
    } else if (k->def[0]) {
        buf_str(out, "Default:\n.Ql ");
        man_text(out, k->def);
        out->n -= out->n > 0 && !out->failed; /* its end of line */
        buf_str(out, " .\n");
    }
    if (has_range(k)) {
        buf_str(out, "From ");
        conf_kind_number(k->kind, k->min, out);
        buf_str(out, " to ");
        conf_kind_number(k->kind, k->max, out);
        buf_str(out, ".\n");
    }
    if (k->flags & F_REQUIRED)
        buf_str(out, "Required.\n");
    if (k->flags & F_LIST)
        buf_str(out, "May be repeated.\n");
    if (k->flags & F_RESTART)
        buf_str(out, "A change takes effect at the next start or\n.Cm rpctl upgrade .\n");
}

/* The groups in the order of the manual, under the headings of where they may stand. */
static const struct {
    enum conf_group group;
    const char *heading, *title, *intro;
} chapters[] = {
    {CONF_GROUP_GLOBAL, "Section [global]", "global", "The process as a whole."},
    {CONF_GROUP_CONN, "Sections [defaults] and [listen NAME]: client connections", "defaults",
     "What stands in [defaults] holds for every listener that does not say otherwise."},
    {CONF_GROUP_SCOPE, "Sections [defaults], [host NAME] and [route HOST/NAME]", "defaults",
     "These keys inherit from [defaults] to the host to the route. A list replaces the inherited "
     "one, or is added to it with +=; the value off clears it."},
    {CONF_GROUP_SCOPE_UP, NULL, "defaults", NULL},
    {CONF_GROUP_OVER, "Sections [defaults], [host NAME] and [route HOST/NAME]: caching", "defaults",
     "These keys inherit likewise. Each goes before the key of the [cache] section that has its "
     "name without cache_; a list with += adds to what that one, or who is inherited from, says."},
    {CONF_GROUP_LISTEN, "Section [listen NAME]", "listen main",
     "Addresses that clients connect to."},
    {CONF_GROUP_CERTIFICATE, "Section [certificate NAME]", "certificate main",
     "Certificates and their keys. Listeners with tls choose among them by the name that the "
     "client "
     "sends: an exact name first, then a wildcard, then the section with default = on. Files are "
     "read again when they change."},
    {CONF_GROUP_CACHE, "Section [cache NAME]", "cache main",
     "A store of answers, in memory that all workers share. It is used where cache = NAME says "
     "so."},
    {CONF_GROUP_CACHING, NULL, "cache main", NULL},
    {CONF_GROUP_COMPRESS, "Section [compress NAME]", "compress standard",
     "How answers are compressed, where compress = NAME says so; the one named standard is used "
     "where nothing is said."},
    {CONF_GROUP_UPSTREAM, "Section [upstream NAME]", "upstream app",
     "A group of servers that answer alike."},
    {CONF_GROUP_HOST, "Section [host NAME]", "host app",
     "A site: its host names and where its requests go."},
    {CONF_GROUP_ROUTE, "Section [route HOST/NAME]", "route app/api",
     "A part of a host. HOST is the name of the host's section, or * for every host. The order of "
     "routes in the files does not matter: the higher priority is tried "
     "first, then exact paths, then the longest prefix, then regular expressions, then routes with "
     "a method before those without one."},
    {CONF_GROUP_LOG, "Section [log NAME]", "log main",
     "An access log. The one named main is used where access_log is not set."},
};
#define CHAPTERS (sizeof chapters / sizeof chapters[0])

void conf_doc_man(struct buf *out)
{
    buf_str(out, ".\\\" Made from config/keys.def by config-doc; changes belong there.\n");
    buf_str(out, ".Ss Before any section\n.Bl -tag -width Ds\n");
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        man_begin(out, extra[i].name, extra[i].syntax, false);
        man_text(out, extra[i].doc);
        if (extra[i].def[0])
            buf_printf(out, "Default:\n.Ql %s .\n", extra[i].def);
    }
    for (size_t c = 0; c < CHAPTERS; c++) {
        if (chapters[c].heading) {
            buf_str(out, ".El\n.Ss ");
            man_text(out, chapters[c].heading);
            man_text(out, chapters[c].intro);
            buf_str(out, ".Bl -tag -width Ds\n");
        }
        for (size_t i = 0; i < conf_key_count(); i++)
            if (conf_key_at(i)->group == chapters[c].group)
                man_key(out, conf_key_at(i));
    }
    buf_str(out, ".El\n");
}

/* A comment broken at blanks. */
static void comment(struct buf *out, const char *text)
{
    size_t col = 0;
    struct slice rest = slice_str(text), w;
    while (slice_next(&rest, ' ', &w)) {
        if (col > 0 && col + 1 + w.n > 96) {
            buf_chr(out, '\n');
            col = 0;
        }
        buf_str(out, col ? " " : "# ");
        col += (col ? 1 : 2) + w.n;
        buf_add(out, w);
    }
    buf_chr(out, '\n');
}

void conf_doc_sample(struct buf *out)
{
    bool body = false;
    buf_str(out,
            "# rpd.conf: every key at its default, with `;` before it. rpd.conf(5) says more; `rpd "
            "-t` checks,\n"
            "# `rpctl reload` takes it over. The four sections with values are a working proxy.\n");
    for (size_t c = 0; c < CHAPTERS; c++) {
        enum conf_group g = chapters[c].group;
        if (g == CONF_GROUP_OVER) {
            buf_chr(out, '\n');
            comment(out, chapters[c].intro);
        } else if (chapters[c].heading && g != CONF_GROUP_SCOPE) {
            buf_chr(out, '\n');
            comment(out, chapters[c].intro);
            body = g != CONF_GROUP_ROUTE && g != CONF_GROUP_LOG && g != CONF_GROUP_CERTIFICATE &&
                   g != CONF_GROUP_CACHE && g != CONF_GROUP_COMPRESS;
            buf_printf(out, "%s[%s]\n", body ? "" : ";", chapters[c].title);
            if (g == CONF_GROUP_LISTEN)
                buf_str(out, "address = 127.0.0.1:8080\n");
            if (g == CONF_GROUP_UPSTREAM)
                buf_str(out, "server = 127.0.0.1:3000\n");
            if (g == CONF_GROUP_HOST)
                buf_str(out, "names = *\nupstream = app\n");
            if (g == CONF_GROUP_GLOBAL) {
                comment(out, extra[2].doc);
                buf_printf(out, ";include = conf.d/*.conf\n");
            }
        }
        for (size_t i = 0; i < conf_key_count(); i++) {
            const struct conf_key *k = conf_key_at(i);
            struct slice name = conf_key_name(k);
            if (k->group != g)
                continue;
            comment(out, k->doc);
            buf_printf(out, ";" SLICE_FMT " = %s\n", SLICE_ARG(name),
                       k->def[0] ? k->def : conf_kind_of(k)->syntax);
        }
    }
}

void conf_doc_words(struct buf *out)
{
    buf_chr(out, '-');
    for (size_t s = CONF_SECT_GLOBAL; s < CONF_SECT__COUNT; s++)
        buf_printf(out, " %s", conf_sect_info((enum conf_sect)s)->name);
    buf_chr(out, '\n');
    for (size_t s = CONF_SECT_GLOBAL; s < CONF_SECT__COUNT; s++) {
        buf_str(out, conf_sect_info((enum conf_sect)s)->name);
        if (s == CONF_SECT_GLOBAL)
            buf_str(out, " include");
        for (size_t i = 0; i < conf_key_count(); i++) {
            struct slice name = conf_key_name(conf_key_at(i));
            if (conf_sect_info((enum conf_sect)s)->groups & (1u << conf_key_at(i)->group))
                buf_printf(out, " " SLICE_FMT, SLICE_ARG(name));
        }
        buf_chr(out, '\n');
    }
}
