/* Preconditions: one pass finds which there are, then at most two of them are looked at. */
#include "worker/http/conditions.h"

#include "worker/http/etag.h"
#include "worker/http/http_date.h"

/* A date is strong only when the representation cannot have changed twice within its second, seen
 * by a clock that may differ (RFC 9110 8.8.2.2). */
#define CONDITIONS_CLOCK_S 60

unsigned conditions_of(const struct http_request *r)
{
    unsigned has = 0;
    for (size_t i = 0; i < r->nfield; i++) {
        switch (r->field[i].id) {
        case FIELD_IF_MATCH:
            has |= CONDITIONS_IF_MATCH;
            break;
        case FIELD_IF_UNMODIFIED_SINCE:
            has |= CONDITIONS_IF_UNMODIFIED;
            break;
        case FIELD_IF_NONE_MATCH:
            has |= CONDITIONS_IF_NONE_MATCH;
            break;
        case FIELD_IF_MODIFIED_SINCE:
            has |= CONDITIONS_IF_MODIFIED;
            break;
        case FIELD_IF_RANGE:
            has |= CONDITIONS_IF_RANGE;
            break;
        default:
            break;
        }
    }
    return has;
}

/* The date of the only field of this id. */
static bool conditions_date(const struct http_request *r, uint8_t id, int64_t now, int64_t *ret)
{
    const struct http_field *found = NULL;
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id != id)
            continue;
        if (found != NULL)
            return false;
        found = &r->field[i];
    }
    return found != NULL && http_date_parse(found->value, now, ret) == 0;
}

/* Whether any tag of the list is the representation's. "*" is any representation at all. */
static bool conditions_lists(const struct http_request *r, uint8_t id, struct slice etag,
                             bool strong)
{
    struct etag own, other;
    bool have = etag_parse(etag, &own);
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id != id)
            continue;
        struct slice rest = r->field[i].value;
        if (slice_eq(rest, SLICE("*")))
            return true;
        while (have && etag_next(&rest, &other)) {
            if (strong ? etag_eq_strong(own, other) : etag_eq_weak(own, other))
                return true;
        }
    }
    return false;
}

enum conditions_result conditions_evaluate(const struct http_request *r,
                                           const struct conditions_validators *v, unsigned status,
                                           int64_t now)
{
    const unsigned has = conditions_of(r);
    /* RFC 10008: as with GET */
    const bool reads = r->method == HTTP_GET || r->method == HTTP_HEAD || r->method == HTTP_QUERY;
    int64_t date;
    if (has == 0 || status < 200 || status > 299)
        return CONDITIONS_PASS;
    if (has & CONDITIONS_IF_MATCH) {
        if (!conditions_lists(r, FIELD_IF_MATCH, v->etag, true))
            return CONDITIONS_FAILED;
    } else if ((has & CONDITIONS_IF_UNMODIFIED) && v->has_modified &&
               conditions_date(r, FIELD_IF_UNMODIFIED_SINCE, now, &date) && v->modified > date) {
        return CONDITIONS_FAILED;
    }
    if (has & CONDITIONS_IF_NONE_MATCH) {
        if (!conditions_lists(r, FIELD_IF_NONE_MATCH, v->etag, false))
            return CONDITIONS_PASS;
        return reads ? CONDITIONS_NOT_MODIFIED : CONDITIONS_FAILED;
    }
    if ((has & CONDITIONS_IF_MODIFIED) && reads &&
        conditions_date(r, FIELD_IF_MODIFIED_SINCE, now, &date) && v->modified <= date)
        return CONDITIONS_NOT_MODIFIED;
    return CONDITIONS_PASS;
}

bool conditions_if_range(const struct http_request *r, const struct conditions_validators *v,
                         int64_t now)
{
    const struct http_field *found = NULL;
    struct etag own, other;
    int64_t date;
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id != FIELD_IF_RANGE)
            continue;
        if (found != NULL)
            return false;
        found = &r->field[i];
    }
    if (found == NULL)
        return true;
    if (http_date_parse(found->value, now, &date) == 0)
        return v->has_modified && v->modified == date &&
               v->date - v->modified >= CONDITIONS_CLOCK_S;
    return etag_parse(found->value, &other) && etag_parse(v->etag, &own) &&
           etag_eq_strong(own, other);
}

bool conditions_304_keeps(const struct http_field *f)
{
    static const char *const about_content[] = {
        "content-language",
        "content-md5",
        "content-digest",
        "repr-digest",
    };
    if (f->id == FIELD_CONTENT_TYPE || f->id == FIELD_CONTENT_LENGTH ||
        f->id == FIELD_CONTENT_ENCODING || f->id == FIELD_CONTENT_RANGE ||
        f->id == FIELD_ACCEPT_RANGES)
        return false;
    if (f->id != FIELD_UNKNOWN)
        return true;
    for (size_t i = 0; i < sizeof(about_content) / sizeof(about_content[0]); i++) {
        if (slice_eq_ci(f->name, slice_str(about_content[i])))
            return false;
    }
    return true;
}
