/* Validation, merging and invalidation. */
#include "worker/cache/update.h"

#include "base/err.h"
#include "worker/http/etag.h"
#include "worker/http/uri.h"

static const struct http_field *update_find(const struct http_field *field, size_t n, uint8_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (field[i].id == id)
            return &field[i];
    }
    return NULL;
}

static const struct http_field *update_find_name(const struct http_field *field, size_t n,
                                                 struct slice name)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_eq_ci(field[i].name, name))
            return &field[i];
    }
    return NULL;
}

unsigned update_conditions(struct head_out *o, const struct http_field *stored, size_t n)
{
    const struct http_field *etag = update_find(stored, n, FIELD_ETAG);
    const struct http_field *modified = update_find(stored, n, FIELD_LAST_MODIFIED);
    unsigned written = 0;
    if (etag != NULL && etag->value.n > 0) {
        head_field(o, SLICE("If-None-Match"), etag->value);
        written++;
    }
    if (modified != NULL && modified->value.n > 0) {
        head_field(o, SLICE("If-Modified-Since"), modified->value);
        written++;
    }
    return written;
}

bool update_matches(const struct http_field *stored, size_t n, const struct http_response *r304)
{
    const struct http_field *was = update_find(stored, n, FIELD_ETAG);
    const struct http_field *is = update_find(r304->field, r304->nfield, FIELD_ETAG);
    struct etag a, b;
    if (is != NULL && is->value.n > 0) {
        if (was == NULL || !etag_parse(was->value, &a) || !etag_parse(is->value, &b))
            return was != NULL && slice_eq(was->value, is->value);
        /* Without quotes it is compared as it stands. */
        return b.weak || !b.quoted ? etag_eq_weak(a, b) : etag_eq_strong(a, b);
    }
    was = update_find(stored, n, FIELD_LAST_MODIFIED);
    is = update_find(r304->field, r304->nfield, FIELD_LAST_MODIFIED);
    return was == NULL || is == NULL || slice_eq(was->value, is->value);
}

/* Fields that the stored content depends upon (3.2): the 304 has no content they could speak of. */
static bool update_keeps_stored(const struct http_field *f)
{
    static const char *const of_content[] = {"content-encoding", "content-range", "content-digest",
                                             "content-md5"};
    if (f->id == FIELD_CONTENT_LENGTH)
        return true;
    for (size_t i = 0; i < sizeof(of_content) / sizeof(of_content[0]); i++) {
        if (slice_eq_ci(f->name, slice_str(of_content[i])))
            return true;
    }
    return false;
}

static bool update_takes(const struct cache_rules *rules, const struct cache_control *cc,
                         const struct http_field *f)
{
    return !update_keeps_stored(f) && policy_field(rules, cc, f) != POLICY_FIELD_DROP;
}

int update_merge(const struct cache_rules *rules, const struct cache_control *cc,
                 const struct http_field *stored, size_t n, const struct http_field *now,
                 size_t nnow, struct http_field *ret, size_t max)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        const struct http_field *by = update_find_name(now, nnow, stored[i].name);
        if (by != NULL && update_takes(rules, cc, by))
            continue;
        if (out == max)
            return -ERR_RANGE;
        ret[out++] = stored[i];
    }
    for (size_t i = 0; i < nnow; i++) {
        if (!update_takes(rules, cc, &now[i]))
            continue;
        if (out == max)
            return -ERR_RANGE;
        ret[out++] = now[i];
    }
    return (int)out;
}

enum update_head update_head(const struct http_field *stored, size_t n, uint64_t size,
                             const struct http_response *head)
{
    static const uint8_t validator[] = {FIELD_ETAG, FIELD_LAST_MODIFIED};
    if (head->status != 200)
        return UPDATE_HEAD_NOTHING;
    if (head->has_length && head->content_length != size)
        return UPDATE_HEAD_STALE;
    bool confirmed = head->has_length;
    for (size_t i = 0; i < sizeof(validator); i++) {
        const struct http_field *is = update_find(head->field, head->nfield, validator[i]);
        const struct http_field *was = update_find(stored, n, validator[i]);
        if (is == NULL)
            continue;
        if (was == NULL || !slice_eq(is->value, was->value))
            return UPDATE_HEAD_STALE;
        confirmed = true;
    }
    return confirmed ? UPDATE_HEAD_RENEW : UPDATE_HEAD_NOTHING;
}

/* ---- invalidation ---- */

bool update_invalidates(const struct policy_request *q, unsigned status)
{
    return q->invalidates && status >= 200 && status <= 399;
}

/* Whether "//authority" is the request's own. */
static bool update_same_host(const struct key_input *in, struct slice authority)
{
    const uint16_t usual = slice_eq(in->scheme, SLICE("https")) ? 443 : 80;
    char lower[256];
    struct slice host;
    uint16_t port;
    if (uri_authority(authority, &host, &port) < 0)
        return false;
    int len = uri_host_lower(host, lower, sizeof(lower));
    if (len < 0 || !slice_eq(slice_of(lower, (size_t)len), in->host))
        return false;
    return (port != 0 ? port : usual) == (in->req->port != 0 ? in->req->port : usual);
}

/* Length of "scheme:" at the beginning, 0 when there is none. */
static size_t update_scheme(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = (char)(s.p[i] | 0x20);
        if (s.p[i] == ':')
            return i > 0 ? i + 1 : 0;
        bool letter = c >= 'a' && c <= 'z';
        bool other =
            (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '+' || s.p[i] == '-' || s.p[i] == '.';
        if (!letter && !(other && i > 0))
            return 0;
    }
    return 0;
}

static struct slice update_from(struct slice s, size_t n)
{
    return slice_of(s.p + n, s.n - n);
}

/* A relative path behind the last "/" of the request's (RFC 3986 5.2.3). */
static int update_relative(struct slice base, struct slice rest, struct arena *a, struct slice *ret)
{
    size_t dir = base.n;
    while (dir > 0 && base.p[dir - 1] != '/')
        dir--;
    if (dir == 0)
        return -ERR_NOENT;
    char *p = arena_bytes(a, dir + rest.n);
    if (p == NULL)
        return -ERR_NOMEM;
    memcpy(p, base.p, dir);
    memcpy(p + dir, rest.p, rest.n);
    *ret = slice_of(p, dir + rest.n);
    return 0;
}

int update_uri(const struct key_input *in, struct slice value, struct arena *a,
               struct slice *ret_path, struct slice *ret_query, bool *ret_has_query)
{
    struct slice s = value, query = SLICE_NONE;
    ptrdiff_t at = slice_chr(s, '#');
    if (at >= 0)
        s.n = (size_t)at;
    size_t scheme = update_scheme(s);
    if (scheme > 0) {
        if (!slice_eq_ci(slice_of(s.p, scheme - 1), in->scheme))
            return -ERR_NOENT;
        s = update_from(s, scheme);
        if (!slice_starts(s, SLICE("//")))
            return -ERR_NOENT;
    }
    if ((at = slice_chr(s, '?')) >= 0) {
        query = update_from(s, (size_t)at + 1);
        s.n = (size_t)at;
    }
    *ret_has_query = at >= 0;
    if (slice_starts(s, SLICE("//"))) {
        struct slice authority = update_from(s, 2);
        ptrdiff_t slash = slice_chr(authority, '/');
        s = slash < 0 ? SLICE("/") : update_from(authority, (size_t)slash);
        authority.n = slash < 0 ? authority.n : (size_t)slash;
        if (!update_same_host(in, authority))
            return -ERR_NOENT;
    } else if (s.n == 0) {
        if (!*ret_has_query && value.n == 0)
            return -ERR_NOENT;
        s = in->req->path;
        if (!*ret_has_query) {
            query = in->req->query;
            *ret_has_query = in->req->has_query;
        }
    } else if (s.p[0] != '/') {
        int rc = update_relative(in->req->path, s, a, &s);
        if (rc < 0)
            return rc;
    }
    int rc = uri_normalize(s, a, ret_path);
    *ret_query = query;
    return rc == -ERR_BAD_TARGET ? -ERR_NOENT : rc;
}
