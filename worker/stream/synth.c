/* Answers of our own: error pages and `return`. */
#include "worker/stream/synth.h"

#include "base/err.h"
#include "worker/http/http.h"

#define TEXT_PLAIN SLICE("text/plain; charset=utf-8")

enum escape { ESC_NONE, ESC_HTML, ESC_JSON, ESC_URL };

/* Text is laid out twice: once to count, once into memory of that size. */
struct sink {
    char *p; /* NULL while counting */
    size_t n;
};

static void put(struct sink *to, const char *p, size_t n)
{
    if (to->p && n)
        memcpy(to->p + to->n, p, n);
    to->n += n;
}

static void put_str(struct sink *to, const char *s)
{
    put(to, s, strlen(s));
}

static void put_hex(struct sink *to, const char *before, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF";
    put_str(to, before);
    put(to, &hex[c >> 4], 1);
    put(to, &hex[c & 15], 1);
}

static void put_html(struct sink *to, char c)
{
    switch (c) {
    case '&':
        put_str(to, "&amp;");
        break;
    case '<':
        put_str(to, "&lt;");
        break;
    case '>':
        put_str(to, "&gt;");
        break;
    case '"':
        put_str(to, "&quot;");
        break;
    case '\'':
        put_str(to, "&#39;");
        break;
    default:
        put(to, &c, 1);
        break;
    }
}

static void put_escaped(struct sink *to, struct slice s, enum escape esc)
{
    if (esc == ESC_NONE) {
        put(to, s.p, s.n);
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        switch (esc) {
        case ESC_NONE:
            break;
        case ESC_HTML:
            put_html(to, s.p[i]);
            break;
        case ESC_JSON:
            if (c < 0x20 || c == 0x7f)
                put_hex(to, "\\u00", c);
            else if (c == '"' || c == '\\')
                put(to, c == '"' ? "\\\"" : "\\\\", 2);
            else
                put(to, s.p + i, 1);
            break;
        case ESC_URL:
            /* Browsers read a backslash as a slash. */
            if (c <= 0x20 || c >= 0x7f || c == '\\')
                put_hex(to, "%", c);
            else
                put(to, s.p + i, 1);
            break;
        }
    }
}

struct variable {
    struct slice name, value;
};

/* Replaces the %{name} of vars in text; escapes values, and for ESC_URL the whole. */
static void expand(struct sink *to, struct slice text, const struct variable *var, size_t nvar,
                   enum escape esc)
{
    const char *p = text.p;
    const char *const end = text.p + text.n;
    while (p < end) {
        const char *const open = memmem(p, (size_t)(end - p), "%{", 2);
        const char *const close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;
        const char *const stop = close ? open : end;
        put_escaped(to, slice_of(p, (size_t)(stop - p)), esc == ESC_URL ? ESC_URL : ESC_NONE);
        if (!close)
            return;
        const struct slice name = slice_of(open + 2, (size_t)(close - open) - 2);
        size_t i = 0;
        while (i < nvar && !slice_eq(var[i].name, name))
            i++;
        if (i < nvar) {
            put_escaped(to, var[i].value, esc);
            p = close + 1;
        } else {
            /* Not ours: the "%{" stays, and a name may begin inside it. */
            put_escaped(to, slice_of(open, 2), esc == ESC_URL ? ESC_URL : ESC_NONE);
            p = open + 2;
        }
    }
}

static int expand_dup(struct arena *a, struct slice text, const struct variable *var, size_t nvar,
                      enum escape esc, struct slice *ret)
{
    struct sink to = {0};
    if (esc != ESC_URL && slice_chr(text, '%') < 0) {
        *ret = text; /* the configuration's, which outlives the exchange */
        return 0;
    }
    expand(&to, text, var, nvar, esc);
    char *const p = arena_bytes(a, to.n + 1);
    if (!p)
        return -ERR_NOMEM;
    to = (struct sink){.p = p};
    expand(&to, text, var, nvar, esc);
    p[to.n] = '\0';
    *ret = slice_of(p, to.n);
    return 0;
}

static struct slice reason_of(unsigned status)
{
    const struct slice s = http_status_text(status);
    return s.n ? s : SLICE("Unassigned");
}

/* One sentence for the client, NULL for none. Where we connect to and why that fails is the
 * operator's business: the log has it. */
static const char *sentence(unsigned status, int err)
{
    const int e = err < 0 ? -err : err;
    if (e == 0)
        return NULL;
    if (err_source(e) == ERR_SRC_CLIENT || e == ERR_NO_ROUTE || e == ERR_NO_HOST || e == ERR_LOOP)
        return err_text(e);
    switch (status) {
    case 502:
        return "the server behind this address could not be reached or gave no valid answer";
    case 503:
        return "the service is not available at the moment, please try again later";
    case 504:
        return "the server behind this address took too long to answer";
    default:
        return "the request could not be completed";
    }
}

/* Exact statuses before classes; the first line that fits wins. */
static const struct conf_error_page *page_of(const struct conf_scope_keys *scope, unsigned status)
{
    const struct conf_error_page *class = NULL;
    for (size_t i = 0; scope && i < scope->error_page.n; i++) {
        const struct conf_error_page *const p = &scope->error_page.v[i];
        for (size_t k = 0; k < p->nstatus; k++) {
            if (p->status[k] == status)
                return p;
        }
        if (!class && ((p->class4 && status / 100 == 4) || (p->class5 && status / 100 == 5)))
            class = p;
    }
    return class;
}

static enum escape escape_of(struct slice type)
{
    if (slice_starts(type, SLICE("text/html")))
        return ESC_HTML;
    return slice_starts(type, SLICE("application/json")) ? ESC_JSON : ESC_NONE;
}

int synth_error(struct arena *a, const struct conf_scope_keys *scope, unsigned status, int err,
                struct slice request_id, bool head_only, struct slice *ret_type,
                struct slice *ret_body)
{
    const struct conf_error_page *const page = page_of(scope, status);
    *ret_type = page ? page->type : TEXT_PLAIN;
    *ret_body = SLICE_NONE;
    if (head_only)
        return 0;
    const struct slice reason = reason_of(status);
    if (page) {
        const struct slice code = arena_printf(a, "%u", status);
        if (!code.p)
            return -ERR_NOMEM;
        const struct variable var[] = {
            {SLICE("status"), code}, {SLICE("reason"), reason}, {SLICE("request_id"), request_id}};
        return expand_dup(a, page->body, var, 3, escape_of(page->type), ret_body);
    }
    const char *const why = sentence(status, err);
    const struct slice body =
        arena_printf(a, "%u %.*s\n%s%s%s%.*s%s", status, SLICE_ARG(reason), why ? why : "",
                     why ? "\n" : "", request_id.n ? "request id: " : "", (int)request_id.n,
                     request_id.n ? request_id.p : "", request_id.n ? "\n" : "");
    if (!body.p)
        return -ERR_NOMEM;
    *ret_body = body;
    return 0;
}

/* A Location that begins with a value of the client's must not begin with "//", which names another
 * host. */
static struct slice one_slash(struct slice text, struct slice value, const char *variable)
{
    if (slice_starts(text, slice_str(variable))) {
        while (value.n > 1 && value.p[0] == '/' && value.p[1] == '/')
            value = slice_of(value.p + 1, value.n - 1);
    }
    return value;
}

static bool bodiless(unsigned status)
{
    return status < 200 || status == 204 || status == 205 || status == 304;
}

int synth_return(struct arena *a, const struct conf_return *r, const struct synth_request *q,
                 struct slice *ret_location, struct slice *ret_body, struct slice *ret_type)
{
    *ret_location = *ret_body = *ret_type = SLICE_NONE;
    struct slice uri = q->path;
    if (q->has_query) {
        uri = arena_printf(a, "%.*s?%.*s", SLICE_ARG(q->path), (int)q->query.n,
                           q->query.n ? q->query.p : "");
        if (!uri.p)
            return -ERR_NOMEM;
    }
    struct variable var[] = {{SLICE("host"), q->host},
                             {SLICE("path"), q->path},
                             {SLICE("query"), q->query},
                             {SLICE("scheme"), q->scheme},
                             {SLICE("uri"), uri}};
    const size_t nvar = sizeof(var) / sizeof(var[0]);
    if (r->is_url) {
        var[1].value = one_slash(r->text, q->path, "%{path}");
        var[4].value = one_slash(r->text, uri, "%{uri}");
        if (expand_dup(a, r->text, var, nvar, ESC_URL, ret_location) < 0)
            return -ERR_NOMEM;
    } else if (r->text.n && !bodiless(r->status)) {
        *ret_type = TEXT_PLAIN;
        return expand_dup(a, r->text, var, nvar, ESC_NONE, ret_body);
    }
    if (bodiless(r->status) || (r->status >= 400 && !r->is_url))
        return 0;
    *ret_body = arena_printf(a, "%u %.*s\n", r->status, SLICE_ARG(reason_of(r->status)));
    *ret_type = TEXT_PLAIN;
    return ret_body->p ? 0 : -ERR_NOMEM;
}
