/* Access log formats: the compiler, the variables' values, and the printer. */
#include "worker/log/format.h"

#include "base/err.h"
#include "config/keys.h"

#include "worker/io/tls.h"
#include <stdio.h>

#define COMBINED                                                                                   \
    "%{client_ip} - - [%{time}] \"%{request}\" %{status} %{body_bytes} \"%{header.referer}\" "     \
    "\"%{header.user-agent}\""
#define VALUE_MIN 32u /* values are not cut shorter than this */

/* ---- values ---- */

static struct slice format_proto(const struct access_record *r)
{
    if (!r->req || !r->req->method_text.n)
        return SLICE_NONE;
    if (r->req->major == 2)
        return SLICE("HTTP/2.0");
    return r->req->minor ? SLICE("HTTP/1.1") : SLICE("HTTP/1.0");
}

/* All empty for a plain connection. */
static struct tls_info format_tls(const struct access_record *r)
{
    struct tls_info t;
    if (!r->link || !tls_describe(r->link, &t))
        t = (struct tls_info){.resumed = false};
    return t;
}

/* How a gRPC call failed although HTTP did not (the codes of gRPC's statuscodes.md). */
static struct slice format_grpc_reason(int status)
{
    static const char *const names[] = {"grpc_ok",
                                        "grpc_cancelled",
                                        "grpc_unknown",
                                        "grpc_invalid_argument",
                                        "grpc_deadline_exceeded",
                                        "grpc_not_found",
                                        "grpc_already_exists",
                                        "grpc_permission_denied",
                                        "grpc_resource_exhausted",
                                        "grpc_failed_precondition",
                                        "grpc_aborted",
                                        "grpc_out_of_range",
                                        "grpc_unimplemented",
                                        "grpc_internal",
                                        "grpc_unavailable",
                                        "grpc_data_loss",
                                        "grpc_unauthenticated"};
    if (status < (int)(sizeof(names) / sizeof(names[0])))
        return slice_str(names[status]);
    return SLICE("grpc_unknown");
}

static struct slice format_reason(const struct access_record *r)
{
    if (r->reason)
        return slice_str(err_reason(r->reason));
    return r->grpc_status > 0 ? format_grpc_reason(r->grpc_status) : SLICE_NONE;
}

/* Valid until the next call. */
static struct slice format_grpc(const struct access_record *r)
{
    static char text[12];
    if (r->grpc_status < 0)
        return SLICE_NONE;
    const int n = snprintf(text, sizeof(text), "%d", r->grpc_status);
    return slice_of(text, (size_t)n);
}

/* Likewise. */
static struct slice format_cache_age(const struct access_record *r)
{
    static char text[24];
    if (r->cache_age < 0)
        return SLICE_NONE;
    const int n = snprintf(text, sizeof(text), "%lld", (long long)r->cache_age);
    return slice_of(text, (size_t)n);
}

static struct slice format_field(const struct http_field *f, size_t n, const struct format_op *op)
{
    for (size_t i = 0; i < n; i++) {
        if (op->field ? f[i].id == op->field : slice_eq_ci(f[i].name, op->text))
            return f[i].value;
    }
    return SLICE_NONE;
}

#define VALUE_STR(x)     ((struct format_value){.kind = FORMAT_STR, .s = (x)})
#define VALUE_NUM(x)     ((struct format_value){.kind = FORMAT_NUM, .u = (x)})
#define VALUE_STATUS(x)  ((struct format_value){.kind = FORMAT_STATUS, .u = (x)})
#define VALUE_MS(x)      ((struct format_value){.kind = FORMAT_MS, .u = (x)})
#define VALUE_SEC(x)     ((struct format_value){.kind = FORMAT_SEC, .u = (x)})
#define VALUE_BOOL(x)    ((struct format_value){.kind = FORMAT_BOOL, .u = (x)})
#define VALUE_REQUEST(x) ((struct format_value){.kind = FORMAT_REQUEST, .u = (x)})

#define VAR(name, kind, value, doc)                                                                \
    static struct format_value get_##name(const struct access_record *r,                           \
                                          const struct format_env *e, const struct format_op *op)  \
    {                                                                                              \
        (void)r;                                                                                   \
        (void)e;                                                                                   \
        (void)op;                                                                                  \
        return VALUE_##kind(value);                                                                \
    }
#define VAR_FIELD VAR
#include "worker/log/vars.def"
#undef VAR
#undef VAR_FIELD

static const struct variable {
    const char *name;
    struct format_value (*get)(const struct access_record *r, const struct format_env *e,
                               const struct format_op *op);
    bool field;
} variables[] = {
#define VAR(name, kind, value, doc)       {#name, get_##name, false},
#define VAR_FIELD(name, kind, value, doc) {#name, get_##name, true},
#include "worker/log/vars.def"
#undef VAR
#undef VAR_FIELD
};
#define NVARIABLES (sizeof(variables) / sizeof(variables[0]))

/* The JSON format: keys in order, each with the variable it shows. */
static const struct {
    const char *key, *var;
} json_keys[] = {
    {"{\"ts\":", "time_iso"},
    {",\"client\":", "client_ip"},
    {",\"method\":", "method"},
    {",\"host\":", "host"},
    {",\"uri\":", "uri"},
    {",\"proto\":", "proto"},
    {",\"status\":", "status"},
    {",\"reason\":", "reason"},
    {",\"bytes_in\":", "bytes_in"},
    {",\"bytes_out\":", "bytes_out"},
    {",\"body_out\":", "body_bytes"},
    {",\"duration_ms\":", "t_total"},
    {",\"queue_ms\":", "t_queue"},
    {",\"connect_ms\":", "t_connect"},
    {",\"first_byte_ms\":", "t_first_byte"},
    {",\"upstream\":", "upstream"},
    {",\"server\":", "server"},
    {",\"tries\":", "tries"},
    {",\"reused\":", "reused"},
    {",\"request_id\":", "request_id"},
    {",\"referer\":", "header.referer"},
    {",\"user_agent\":", "header.user-agent"},
    {",\"route\":", "route"},
    {",\"listen\":", "listen"},
    {",\"scheme\":", "scheme"},
    {",\"tls\":", "tls_version"},
    {",\"conn_requests\":", "conn_requests"},
};
#define NJSON (sizeof(json_keys) / sizeof(json_keys[0]))

/* ---- compiling ---- */

static bool find_variable(struct slice name, struct format_op *ret)
{
    for (size_t i = 0; i < NVARIABLES; i++) {
        const struct variable *const v = &variables[i];
        const struct slice own = slice_str(v->name);
        *ret = (struct format_op){.get = v->get};
        if (!v->field && slice_eq(own, name))
            return true;
        if (v->field && name.n > own.n + 1 && slice_starts(name, own) && name.p[own.n] == '.') {
            ret->text = slice_of(name.p + own.n + 1, name.n - own.n - 1);
            ret->field = http_field_id_of(ret->text);
            return true;
        }
    }
    return false;
}

static void unknown_variable(struct slice name, size_t at, struct conf_pos pos,
                             struct conf_diags *d)
{
    struct conf_near near;
    conf_near_init(&near, name);
    for (size_t i = 0; i < NVARIABLES; i++) {
        if (!variables[i].field)
            conf_near_try(&near, slice_str(variables[i].name));
    }
    if (near.best.p)
        conf_diag_add(d, CONF_ERROR, pos, NULL,
                      "format: unknown variable %%{%.*s} at byte %zu; did you mean %%{%.*s}?",
                      SLICE_ARG(name), at + 1, SLICE_ARG(near.best));
    else
        conf_diag_add(d, CONF_ERROR, pos, NULL, "format: unknown variable %%{%.*s} at byte %zu",
                      SLICE_ARG(name), at + 1);
}

static int compile_json(struct arena *a, struct format *ret)
{
    ret->op = ARENA_ARRAY(a, struct format_op, 2 * NJSON + 1);
    if (!ret->op)
        return -ERR_NOMEM;
    ret->json = true;
    for (size_t i = 0; i < NJSON; i++) {
        ret->op[ret->n++] = (struct format_op){.text = slice_str(json_keys[i].key)};
        if (!find_variable(slice_str(json_keys[i].var), &ret->op[ret->n++]))
            return -ERR_INTERNAL;
    }
    ret->op[ret->n++] = (struct format_op){.text = SLICE("}")};
    return 0;
}

int format_compile(struct slice spec, struct conf_pos pos, struct conf_diags *d, struct arena *a,
                   struct format *ret)
{
    *ret = (struct format){0};
    if (slice_eq(spec, SLICE("json")))
        return compile_json(a, ret);
    if (!spec.n || slice_eq(spec, SLICE("combined")))
        spec = SLICE(COMBINED);
    if (!memmem(spec.p, spec.n, "%{", 2)) {
        conf_diag_add(d, CONF_ERROR, pos, NULL,
                      "format: \"%.*s\" is neither combined nor json, and has no %%{variables}",
                      SLICE_ARG(spec));
        return -ERR_INVAL;
    }
    /* Each operation takes two bytes of the spec at least, but for a last literal byte. */
    ret->op = ARENA_ARRAY(a, struct format_op, spec.n + 1);
    if (!ret->op)
        return -ERR_NOMEM;
    int rc = 0;
    const char *const end = spec.p + spec.n;
    for (const char *p = spec.p, *lit = spec.p; p < end || lit < end;) {
        const char *const pc = p < end ? memchr(p, '%', (size_t)(end - p)) : NULL;
        const bool var = pc && pc + 1 < end && pc[1] == '{';
        const bool twice = pc && pc + 1 < end && pc[1] == '%';
        if (pc && !var && !twice) {
            p = pc + 1;
            continue;
        }
        /* Of "%%" the first sign ends the literal before it and the second is skipped. */
        const char *const stop = !pc ? end : var ? pc : pc + 1;
        if (stop > lit)
            ret->op[ret->n++] = (struct format_op){.text = slice_of(lit, (size_t)(stop - lit))};
        if (!pc)
            break;
        p = lit = pc + 2;
        if (!var)
            continue;
        const char *const close = memchr(p, '}', (size_t)(end - p));
        if (!close) {
            conf_diag_add(d, CONF_ERROR, pos, NULL, "format: %%{ at byte %zu is not closed",
                          (size_t)(pc - spec.p) + 1);
            return -ERR_INVAL;
        }
        const struct slice name = slice_of(p, (size_t)(close - p));
        if (!find_variable(name, &ret->op[ret->n++])) {
            unknown_variable(name, (size_t)(pc - spec.p), pos, d);
            rc = -ERR_INVAL;
        }
        p = lit = close + 1;
    }
    return rc;
}

/* ---- printing ---- */

static void print_request(struct line *l, const struct access_record *r)
{
    if (!r->req || !r->req->method_text.n) {
        if (r->line.n)
            line_text(l, r->line);
        else
            line_chr(l, '-');
        return;
    }
    line_text(l, r->req->method_text);
    line_chr(l, ' ');
    line_text(l, r->req->target);
    line_chr(l, ' ');
    line_raw(l, format_proto(r).p, 8);
}

static void print_text(struct line *l, const struct format_value *v, const struct access_record *r)
{
    switch (v->kind) {
    case FORMAT_STR:
        if (v->s.n)
            line_text(l, v->s);
        else
            line_chr(l, '-');
        return;
    case FORMAT_NUM:
    case FORMAT_BOOL:
        line_num(l, v->u);
        return;
    case FORMAT_STATUS:
        if (v->u)
            line_num(l, v->u);
        else
            line_raw(l, "000", 3);
        return;
    case FORMAT_MS:
        if (v->u == UINT64_MAX)
            line_chr(l, '-');
        else
            line_milli(l, v->u);
        return;
    case FORMAT_SEC:
        line_milli(l, v->u);
        return;
    case FORMAT_REQUEST:
        print_request(l, r);
        return;
    }
}

static void print_json(struct line *l, const struct format_value *v)
{
    switch (v->kind) {
    case FORMAT_STR:
    case FORMAT_REQUEST:
        if (v->s.n) {
            line_chr(l, '"');
            line_json(l, v->s);
            line_chr(l, '"');
        } else {
            line_raw(l, "null", 4);
        }
        return;
    case FORMAT_NUM:
    case FORMAT_STATUS:
        line_num(l, v->u);
        return;
    case FORMAT_MS:
    case FORMAT_SEC:
        if (v->u == UINT64_MAX)
            line_raw(l, "null", 4);
        else
            line_milli(l, v->u);
        return;
    case FORMAT_BOOL:
        if (v->u)
            line_raw(l, "true", 4);
        else
            line_raw(l, "false", 5);
        return;
    }
}

static void run(const struct format *f, const struct access_record *r, const struct format_env *e,
                struct line *l)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct format_op *const op = &f->op[i];
        if (!op->get) {
            line_raw(l, op->text.p, op->text.n);
            continue;
        }
        const struct format_value v = op->get(r, e, op);
        if (f->json)
            print_json(l, &v);
        else
            print_text(l, &v, r);
    }
    line_chr(l, '\n');
}

size_t format_line(const struct format *f, const struct access_record *r,
                   const struct format_env *e, char *out, size_t cap)
{
    struct line l = {.p = out, .end = out + cap, .vmax = SIZE_MAX};
    run(f, r, e, &l);
    /* Rare: values of strangers are too long for the sink. Shorten them until the line fits. */
    for (size_t vmax = cap / 2; l.full && vmax >= VALUE_MIN; vmax /= 2) {
        l = (struct line){.p = out, .end = out + cap, .vmax = vmax};
        run(f, r, e, &l);
    }
    return l.full ? 0 : (size_t)(l.p - out);
}
