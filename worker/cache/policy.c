/* RFC 9111, clause by clause; t/unit/cache_policy_test.c has a row for each. */
#include "worker/cache/policy.h"

#include "worker/http/http_date.h"

#define METHOD(m) (1u << (m))

void policy_rules_init(struct cache_rules *r)
{
    *r = (struct cache_rules){
        .methods = METHOD(HTTP_GET) | METHOD(HTTP_HEAD),
        .heuristic = 10000,
        .heuristic_max = 3600,
        .pass_ttl = 30,
        .max_object = 32u << 20,
        .min_uses = 1,
        .max_variants = 64,
        .client_control = true,
        .targeted = true,
        .codings = VARY_BR | VARY_GZIP | VARY_ZSTD,
        .collapse = true,
        .collapse_ms = 5000,
        .tell = true,
        .key = {.part = {{.kind = KEY_SCHEME},
                         {.kind = KEY_HOST},
                         {.kind = KEY_PATH},
                         {.kind = KEY_QUERY}},
                .n = 4,
                .query = true},
    };
}

const char *policy_reason_name(enum policy_reason r)
{
    static const char *const name[POLICY__COUNT] = {
#define POLICY_REASON(id, text) text,
        POLICY_REASONS(POLICY_REASON)
#undef POLICY_REASON
    };
    return (unsigned)r < POLICY__COUNT ? name[r] : "";
}

bool policy_reason_lasts(enum policy_reason r)
{
    switch (r) {
    case POLICY_NO_STORE:
    case POLICY_PRIVATE:
    case POLICY_SET_COOKIE:
    case POLICY_VARY:
    case POLICY_NOT_FRESH:
    case POLICY_NOT_UNDERSTOOD:
    case POLICY_STREAM:
    case POLICY_TOO_LARGE:
    case POLICY_STATUS:
    case POLICY_PARTIAL:
        return true;
    case POLICY_NONE:
    case POLICY_METHOD:
    case POLICY_REQUEST_BODY:
    case POLICY_UPGRADE:
    case POLICY_REQUEST_NO_STORE:
    case POLICY_HEAD:
    case POLICY_AUTHORIZATION: /* others may ask without */
    case POLICY__COUNT:
        return false;
    }
    return false;
}

/* ---- requests ---- */

static bool request_has_body(const struct http_request *r)
{
    return r->framing == HTTP_BODY_CHUNKED ||
           (r->framing == HTTP_BODY_LENGTH && r->content_length > 0);
}

void policy_request(const struct cache_rules *rules, const struct http_request *r,
                    struct policy_request *ret)
{
    *ret =
        (struct policy_request){.method = r->method, .invalidates = !http_method_safe(r->method)};
    for (size_t i = 0; i < r->nfield; i++) {
        ret->authorization |= r->field[i].id == FIELD_AUTHORIZATION;
        ret->range |= r->field[i].id == FIELD_RANGE;
    }
    ret->conditions = conditions_of(r);
    if ((rules->methods & METHOD(r->method)) == 0) {
        ret->reason = POLICY_METHOD;
        return;
    }
    /* The content of a GET has no meaning (RFC 9110 9.3.1), but servers may give it one. */
    if (r->method != HTTP_QUERY && request_has_body(r)) {
        ret->reason = POLICY_REQUEST_BODY;
        return;
    }
    if (r->has_upgrade) {
        ret->reason = POLICY_UPGRADE;
        return;
    }
    if (rules->client_control) {
        cache_control_of_request(r, &ret->cc);
        ret->only_if_cached = (ret->cc.has & CC_ONLY_IF_CACHED) != 0;
    }
    ret->lookup = true;
    if ((ret->cc.has & CC_NO_STORE) != 0)
        ret->reason = POLICY_REQUEST_NO_STORE;
    else if (r->method == HTTP_HEAD)
        ret->reason = POLICY_HEAD;
    else
        ret->store = true;
}

bool policy_fill_drops(const struct http_field *f)
{
    switch (f->id) {
    case FIELD_RANGE:
    case FIELD_IF_RANGE:
    case FIELD_IF_MATCH:
    case FIELD_IF_NONE_MATCH:
    case FIELD_IF_MODIFIED_SINCE:
    case FIELD_IF_UNMODIFIED_SINCE:
        return true;
    default:
        return false;
    }
}

/* ---- what answers say ---- */

/* The fields that freshness and storability hang on, read once. */
struct answer {
    struct cache_control cc;
    enum cache_control_source source;
    struct slice etag;
    int64_t date, expires, modified;
    uint32_t age;
    bool has_date, has_expires, has_modified, set_cookie, vary_any;
};

/* Two different dates in one field count as none (Expires: as the past). */
static void answer_date(const struct http_field *f, int64_t now, bool *has, bool *bad, int64_t *ret)
{
    int64_t t;
    if (http_date_parse(f->value, now, &t) < 0 || (*has && t != *ret)) {
        *bad = true;
        return;
    }
    *has = true;
    *ret = t;
}

/* Age (5.1): the first member counts, if it is a number. */
static uint32_t answer_age(struct slice value)
{
    uint32_t v;
    ptrdiff_t comma = slice_chr(value, ',');
    if (comma >= 0)
        value = slice_trim(slice_of(value.p, (size_t)comma));
    return cache_control_seconds(value, &v) == 0 ? v : 0;
}

static void answer_vary(const struct http_field *f, struct answer *a)
{
    struct slice rest = f->value, name;
    while (slice_next(&rest, ',', &name))
        a->vary_any |= slice_eq(name, SLICE("*")) || !http_is_token(name);
}

static void answer_read(const struct cache_rules *rules, const struct http_field *field, size_t n,
                        int64_t now, struct answer *a)
{
    bool seen_age = false, bad_date = false, bad_expires = false, bad_modified = false;
    *a = (struct answer){0};
    a->source = cache_control_of_response(field, n, rules->targeted, &a->cc);
    for (size_t i = 0; i < n; i++) {
        const struct http_field *f = &field[i];
        switch (f->id) {
        case FIELD_AGE:
            if (!seen_age)
                a->age = answer_age(f->value);
            seen_age = true;
            break;
        case FIELD_DATE:
            answer_date(f, now, &a->has_date, &bad_date, &a->date);
            break;
        case FIELD_EXPIRES:
            answer_date(f, now, &a->has_expires, &bad_expires, &a->expires);
            break;
        case FIELD_LAST_MODIFIED:
            answer_date(f, now, &a->has_modified, &bad_modified, &a->modified);
            break;
        case FIELD_ETAG:
            a->etag = f->value;
            break;
        case FIELD_SET_COOKIE:
            a->set_cookie = true;
            break;
        case FIELD_VARY:
            answer_vary(f, a);
            break;
        default:
            break;
        }
    }
    if (bad_date || !a->has_date)
        a->date = now;
    a->has_date &= !bad_date;
    a->has_modified &= !bad_modified;
    /* An invalid date, the "0" of many, is a time in the past (5.3). */
    if (bad_expires) {
        a->has_expires = true;
        a->expires = INT64_MIN;
    }
    /* A targeted field replaces both (RFC 9213 2.2). */
    if (a->source > CACHE_CONTROL_PLAIN)
        a->has_expires = false;
}

void policy_validators(const struct http_field *field, size_t n, int64_t received,
                       struct conditions_validators *ret)
{
    struct answer a;
    const struct cache_rules rules = {.targeted = false};
    answer_read(&rules, field, n, received, &a);
    *ret = (struct conditions_validators){.etag = a.etag,
                                          .modified = a.has_modified ? a.modified : a.date,
                                          .date = a.date,
                                          .has_modified = a.has_modified};
}

/* ---- freshness (4.2) ---- */

/* RFC 9110 15.1; 206 is never stored. */
static bool status_is_heuristic(unsigned status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 300:
    case 301:
    case 308:
    case 404:
    case 405:
    case 410:
    case 414:
    case 501:
        return true;
    default:
        return false;
    }
}

static const struct policy_ttl *rules_ttl(const struct cache_rules *rules, unsigned status)
{
    for (size_t i = 0; i < rules->ndefault_ttl; i++) {
        if (rules->default_ttl[i].status == status)
            return &rules->default_ttl[i];
    }
    return NULL;
}

static uint32_t seconds_between(int64_t from, int64_t to)
{
    int64_t d;
    if (to <= from)
        return 0;
    if (__builtin_sub_overflow(to, from, &d) || d > (int64_t)CC_FOREVER)
        return CC_FOREVER;
    return (uint32_t)d;
}

static bool answer_is_explicit(const struct answer *a)
{
    return (a->cc.has & (CC_S_MAXAGE | CC_MAX_AGE)) != 0 || a->has_expires;
}

/* 4.2.2 */
static uint32_t answer_heuristic(const struct cache_rules *rules, const struct answer *a)
{
    if (!a->has_modified)
        return 0;
    uint64_t v = (uint64_t)seconds_between(a->modified, a->date) * rules->heuristic / 100000;
    return v > rules->heuristic_max ? rules->heuristic_max : (uint32_t)v;
}

/* 4.2.1, in its order, after what the configuration says. */
static uint32_t answer_lifetime(const struct cache_rules *rules, unsigned status,
                                const struct answer *a, bool *ret_heuristic)
{
    const struct policy_ttl *ttl;
    *ret_heuristic = false;
    if (rules->has_ttl && ((status >= 200 && status <= 299) || status == 301 || status == 308))
        return rules->ttl;
    if ((a->cc.has & CC_S_MAXAGE) != 0)
        return a->cc.s_maxage;
    if ((a->cc.has & CC_MAX_AGE) != 0)
        return a->cc.max_age;
    if (a->has_expires)
        return seconds_between(a->date, a->expires);
    if ((ttl = rules_ttl(rules, status)) != NULL)
        return ttl->seconds;
    if (!status_is_heuristic(status) && (a->cc.has & CC_PUBLIC) == 0)
        return 0;
    *ret_heuristic = true;
    return answer_heuristic(rules, a);
}

/* 4.2.3: the second at which this answer's age was 0. */
static int64_t answer_base(const struct answer *a, const struct policy_times *t)
{
    int64_t apparent = seconds_between(a->date, t->received);
    int64_t corrected = (int64_t)a->age + seconds_between(t->requested, t->received);
    return t->received - (apparent > corrected ? apparent : corrected);
}

/* What lets a shared cache keep answers to requests with Authorization (3.5). */
static bool answer_is_shared(const struct answer *a)
{
    return (a->cc.has & (CC_PUBLIC | CC_S_MAXAGE | CC_MUST_REVALIDATE)) != 0;
}

static void answer_freshness(const struct cache_rules *rules, unsigned status,
                             const struct answer *a, const struct policy_times *times,
                             struct policy_stored *ret)
{
    const uint32_t has = a->cc.has;
    bool heuristic;
    *ret = (struct policy_stored){.base = answer_base(a, times)};
    ret->lifetime = answer_lifetime(rules, status, a, &heuristic);
    if (ret->lifetime > CC_FOREVER)
        ret->lifetime = CC_FOREVER;
    ret->stale_while_revalidate = (has & CC_STALE_WHILE_REVALIDATE) != 0
                                      ? a->cc.stale_while_revalidate
                                      : rules->stale_while_revalidate;
    ret->stale_if_error =
        (has & CC_STALE_IF_ERROR) != 0 ? a->cc.stale_if_error : rules->stale_if_error;
    if (heuristic)
        ret->flags |= POLICY_HEURISTIC;
    if ((has & CC_NO_CACHE) != 0)
        ret->flags |= POLICY_NO_CACHE;
    if ((has & CC_IMMUTABLE) != 0)
        ret->flags |= POLICY_IMMUTABLE;
    if (answer_is_shared(a))
        ret->flags |= POLICY_SHARED;
    if (a->etag.n > 0 || a->has_modified)
        ret->flags |= POLICY_VALIDATOR;
    /* s-maxage means proxy-revalidate (5.2.2.10), unless the same answer says itself for how long
     * it may be stale (RFC 5861 3, 4). */
    if ((has & (CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_S_MAXAGE | CC_NO_CACHE)) != 0)
        ret->flags |= POLICY_MUST_REVALIDATE;
    const bool strict = (has & (CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_NO_CACHE)) != 0;
    const bool implied = (has & CC_S_MAXAGE) != 0;
    if (strict || (implied && (has & CC_STALE_WHILE_REVALIDATE) == 0))
        ret->stale_while_revalidate = 0;
    if (strict || (implied && (has & CC_STALE_IF_ERROR) == 0))
        ret->stale_if_error = 0;
}

void policy_freshness(const struct cache_rules *rules, unsigned status,
                      const struct http_field *field, size_t n, const struct policy_times *times,
                      struct policy_stored *ret)
{
    struct answer a;
    answer_read(rules, field, n, times->received, &a);
    answer_freshness(rules, status, &a, times, ret);
}

/* ---- storing (3) ---- */

/* Set-Cookie is for one client unless the answer says that it is for all, or that the field is to
 * be left out. */
static bool answer_cookie_allowed(const struct cache_rules *rules, const struct answer *a)
{
    return !a->set_cookie || rules->strip_set_cookie ||
           (a->cc.has & (CC_PUBLIC | CC_S_MAXAGE)) != 0 ||
           cache_control_names(&a->cc, SLICE("set-cookie"));
}

static enum policy_reason answer_status(unsigned status, const struct answer *a)
{
    if (status < 200 || status == 304)
        return POLICY_STATUS;
    if (status == 206)
        return POLICY_PARTIAL;
    /* 416 and what nobody has defined: their rules are not known here. */
    if ((a->cc.has & CC_MUST_UNDERSTAND) != 0 && (status == 416 || http_status_text(status).n == 0))
        return POLICY_NOT_UNDERSTOOD;
    return POLICY_NONE;
}

enum policy_reason policy_response(const struct cache_rules *rules, const struct policy_request *q,
                                   const struct http_response *resp,
                                   const struct policy_times *times, struct policy_stored *ret)
{
    struct answer a;
    *ret = (struct policy_stored){0};
    if (!q->store)
        return q->reason;
    answer_read(rules, resp->field, resp->nfield, times->received, &a);
    enum policy_reason why = answer_status(resp->status, &a);
    if (why != POLICY_NONE)
        return why;
    /* Understood, must-understand lifts no-store (5.2.2.3). */
    if ((a.cc.has & CC_NO_STORE) != 0 && (a.cc.has & CC_MUST_UNDERSTAND) == 0)
        return POLICY_NO_STORE;
    if ((a.cc.has & CC_PRIVATE) != 0)
        return POLICY_PRIVATE;
    if (q->authorization && !answer_is_shared(&a))
        return POLICY_AUTHORIZATION;
    if (!answer_cookie_allowed(rules, &a))
        return POLICY_SET_COOKIE;
    if (a.vary_any)
        return POLICY_VARY;
    if (resp->event_stream)
        return POLICY_STREAM;
    if (resp->has_length && resp->content_length > rules->max_object)
        return POLICY_TOO_LARGE;
    if (!status_is_heuristic(resp->status) && (a.cc.has & CC_PUBLIC) == 0 &&
        !answer_is_explicit(&a) && rules_ttl(rules, resp->status) == NULL &&
        !(rules->has_ttl && resp->status <= 299))
        return POLICY_STATUS;
    answer_freshness(rules, resp->status, &a, times, ret);
    /* What is neither fresh, nor can be validated, nor may be stale will never be used. */
    const int64_t age = times->received - ret->base;
    const bool usable = (ret->flags & POLICY_NO_CACHE) == 0 &&
                        (age < (int64_t)ret->lifetime || ret->stale_while_revalidate > 0 ||
                         ret->stale_if_error > 0);
    return usable || (ret->flags & POLICY_VALIDATOR) != 0 ? POLICY_NONE : POLICY_NOT_FRESH;
}

enum policy_field policy_field(const struct cache_rules *rules, const struct cache_control *cc,
                               const struct http_field *f)
{
    static const char *const internal[] = {"surrogate-key", "cache-tag", "surrogate-capability",
                                           "x-accel-expires"};
    if ((f->flags & (FIELD_HOP | FIELD_NOMINATED)) != 0)
        return POLICY_FIELD_DROP;
    /* The store knows the length and the age. Trailer announces what was not stored. */
    if (f->id == FIELD_AGE || f->id == FIELD_CONTENT_LENGTH || f->id == FIELD_TRAILER)
        return POLICY_FIELD_DROP;
    if (f->id == FIELD_SET_COOKIE && rules->strip_set_cookie)
        return POLICY_FIELD_DROP;
    if ((cc->nno_cache > 0 || cc->nprivate > 0) && cache_control_names(cc, f->name))
        return POLICY_FIELD_DROP;
    if (f->id != FIELD_UNKNOWN)
        return POLICY_FIELD_KEEP;
    enum cache_control_source source = cache_control_field(f);
    if (source == CACHE_CONTROL_RPD || source == CACHE_CONTROL_SURROGATE)
        return POLICY_FIELD_INTERNAL;
    if (slice_eq_ci(f->name, SLICE("proxy-authentication-info")))
        return POLICY_FIELD_DROP;
    for (size_t i = 0; i < sizeof(internal) / sizeof(internal[0]); i++) {
        if (slice_eq_ci(f->name, slice_str(internal[i])))
            return POLICY_FIELD_INTERNAL;
    }
    return POLICY_FIELD_KEEP;
}

/* ---- using what is stored (4) ---- */

/* What the client asks of an answer that is fresh by itself (5.2.1). */
static bool request_content_with(const struct policy_request *q, const struct policy_stored *s,
                                 const struct policy_use *u)
{
    if ((q->cc.has & CC_NO_CACHE) != 0)
        return false;
    if ((q->cc.has & CC_MIN_FRESH) != 0 && u->ttl < (int64_t)q->cc.min_fresh)
        return false;
    /* A reload asks max-age=0; of what is immutable it can learn nothing (RFC 8246 2). */
    if ((q->cc.has & CC_MAX_AGE) != 0 && u->age > q->cc.max_age &&
        (s->flags & POLICY_IMMUTABLE) == 0)
        return false;
    return true;
}

static enum policy_decision policy_decide(const struct policy_request *q,
                                          const struct policy_stored *s, bool soft,
                                          struct policy_use *u)
{
    const bool fresh = !soft && u->ttl > 0;
    /* Staleness: how long ago it stopped being fresh; purged softly, just now. */
    const int64_t stale = u->ttl > 0 ? 0 : -u->ttl;
    if ((s->flags & POLICY_NO_CACHE) != 0) {
        u->fwd = CACHE_STATUS_STALE;
        return POLICY_VALIDATE;
    }
    if (fresh) {
        if (request_content_with(q, s, u))
            return POLICY_FRESH;
        u->fwd = CACHE_STATUS_REQUEST;
        return POLICY_VALIDATE;
    }
    u->fwd = CACHE_STATUS_STALE;
    u->stale_if_error = stale < (int64_t)s->stale_if_error;
    if ((s->flags & POLICY_MUST_REVALIDATE) == 0 && (q->cc.has & CC_STALE_IF_ERROR) != 0)
        u->stale_if_error |= stale < (int64_t)q->cc.stale_if_error;
    const bool asks_fresh = (q->cc.has & (CC_NO_CACHE | CC_MIN_FRESH)) != 0 ||
                            ((q->cc.has & CC_MAX_AGE) != 0 && u->age > q->cc.max_age &&
                             (q->cc.has & CC_MAX_STALE) == 0);
    if (asks_fresh)
        return POLICY_VALIDATE;
    if (stale < (int64_t)s->stale_while_revalidate)
        return POLICY_STALE_WHILE_REVALIDATE;
    if ((q->cc.has & CC_MAX_STALE) != 0 && (s->flags & POLICY_MUST_REVALIDATE) == 0 && !soft &&
        (q->cc.max_stale == CC_FOREVER || stale <= (int64_t)q->cc.max_stale))
        return POLICY_STALE;
    return POLICY_VALIDATE;
}

void policy_use(const struct policy_request *q, const struct policy_stored *s, bool soft,
                int64_t now, struct policy_use *ret)
{
    *ret = (struct policy_use){.age = seconds_between(s->base, now)};
    ret->ttl = (int64_t)s->lifetime - (int64_t)ret->age;
    /* An age that cannot be counted any more is never fresh (1.2.2). */
    if (ret->age == CC_FOREVER && ret->ttl >= 0)
        ret->ttl = -1;
    if (q->authorization && (s->flags & POLICY_SHARED) == 0) {
        ret->decision = POLICY_MISS;
        ret->fwd = CACHE_STATUS_REQUEST;
    } else {
        ret->decision = policy_decide(q, s, soft, ret);
    }
    const bool served = ret->decision != POLICY_VALIDATE && ret->decision != POLICY_MISS;
    ret->gateway_timeout = q->only_if_cached && !served;
}

bool policy_is_failure(unsigned status)
{
    return status == 0 || status == 500 || status == 502 || status == 503 || status == 504;
}
