/* Field lines into slices, and the fields that frame a message or steer its connection. */
#include "worker/http/h1_fields.h"

#include "base/err.h"
#include "worker/http/h1_scan.h"

#define H1_LENGTH_MAX ((uint64_t)1 << 62)
#define H1_OPTIONS_MAX                                                                             \
    64u /* Connection options that name a field: each costs a walk over all fields */
#define BIT(id) ((uint64_t)1 << FIELD_##id)

/* Fields that Connection cannot take away: a client (or a server) that names them would change how
 * the message is framed or routed, shed the credentials others check, or the addresses that this
 * proxy vouches for. RFC 9110 7.6.1 forbids senders to name fields meant for all recipients; the
 * well-known attack strips X-Forwarded-For that way. */
#define H1_NOT_NOMINABLE                                                                           \
    (BIT(HOST) | BIT(CONTENT_LENGTH) | BIT(TRANSFER_ENCODING) | BIT(CONTENT_TYPE) | BIT(TRAILER) | \
     BIT(EXPECT) | BIT(DATE) | BIT(VIA) | BIT(MAX_FORWARDS) | BIT(X_REQUEST_ID) |                  \
     BIT(AUTHORIZATION) | BIT(COOKIE) | BIT(CACHE_CONTROL))

/* CGI and its kin turn "-" into "_": X_Forwarded_For from a stranger would pass for the field this
 * proxy writes. */
static uint8_t h1_fields_alias_flags(struct slice name)
{
    char dashed[32];
    if (name.n > sizeof(dashed) || memchr(name.p, '_', name.n) == NULL)
        return 0;
    for (size_t i = 0; i < name.n; i++)
        dashed[i] = name.p[i] == '_' ? '-' : name.p[i];
    uint8_t id = http_field_id_of(slice_of(dashed, name.n));
    if (id == FIELD_CONTENT_LENGTH)
        return FIELD_HOP;
    return http_field_flags(id);
}

/* Why a line ends where it should not: q is the offending byte. */
static int h1_fields_stray(const char *q, const char *end)
{
    if (q < end && (*q == '\n' || (*q == '\r' && !(q + 1 < end && q[1] == '\n'))))
        return -ERR_BARE_LF;
    return -ERR_BAD_FIELD;
}

static inline void h1_fields_put(struct h1_fields *f, struct slice name, struct slice value,
                                 bool plain)
{
    struct http_field *h = &f->field[f->n];
    h->name = name;
    h->value = value;
    h->id = http_field_id_of(name);
    if (h->id != FIELD_UNKNOWN) {
        uint64_t bit = (uint64_t)1 << h->id;
        h->flags = http_field_flags(h->id);
        if ((f->seen & bit) == 0)
            f->first[h->id] = (uint16_t)f->n;
        f->repeated |= f->seen & bit;
        f->seen |= bit;
    } else {
        h->flags = plain ? 0 : h1_fields_alias_flags(name);
    }
    f->n++;
}

void h1_fields_add(struct h1_fields *f, struct slice name, struct slice value)
{
    h1_fields_put(f, name, value, false);
}

int h1_fields_parse(struct h1_fields *f, const char *p, const char *end, uint32_t max_field,
                    uint32_t max_fields)
{
    f->n = 0;
    f->seen = f->repeated = 0;
    if (max_fields > HTTP_FIELDS_MAX)
        max_fields = HTTP_FIELDS_MAX;
    while (p < end) {
        bool plain;
        const char *colon = h1_scan_name(p, end, &plain);
        if (colon == end || *colon != ':' || colon == p) {
            if (colon == p && (*p == ' ' || *p == '\t'))
                return -ERR_OBS_FOLD;
            return h1_fields_stray(colon, end);
        }
        const char *v = colon + 1;
        while (v < end && (*v == ' ' || *v == '\t'))
            v++;
        const char *q = h1_scan_value(v, end);
        if (end - q < 2 || q[0] != '\r' || q[1] != '\n')
            return h1_fields_stray(q, end);
        if ((size_t)(q - p) > max_field || f->n == max_fields)
            return -ERR_HEAD_TOO_LARGE;
        const char *e = q;
        while (e > v && (e[-1] == ' ' || e[-1] == '\t'))
            e--;
        h1_fields_put(f, slice_of(p, (size_t)(colon - p)), slice_of(v, (size_t)(e - v)), plain);
        p = q + 2;
    }
    return 0;
}

static void h1_fields_nominate(struct h1_fields *f, struct slice name)
{
    for (size_t i = 0; i < f->n; i++) {
        struct http_field *h = &f->field[i];
        if (h->name.n != name.n || (h->flags & FIELD_OWN) != 0 ||
            (H1_NOT_NOMINABLE >> h->id & 1) != 0)
            continue;
        if (slice_eq_ci(h->name, name))
            h->flags |= FIELD_NOMINATED;
    }
}

int h1_fields_connection(struct h1_fields *f, struct h1_connection *ret)
{
    unsigned named = 0;
    *ret = (struct h1_connection){false, false, false};
    if (!h1_fields_has(f, FIELD_CONNECTION))
        return 0;
    for (size_t i = f->first[FIELD_CONNECTION]; i < f->n; i++) {
        struct slice rest = f->field[i].value, option;
        if (f->field[i].id != FIELD_CONNECTION)
            continue;
        while (slice_next(&rest, ',', &option)) {
            if (slice_eq_ci(option, SLICE("keep-alive")))
                ret->keep_alive = true;
            else if (slice_eq_ci(option, SLICE("close")))
                ret->close = true;
            else if (slice_eq_ci(option, SLICE("upgrade")))
                ret->upgrade = true;
            else if (++named > H1_OPTIONS_MAX)
                return -ERR_BAD_FIELD;
            else
                h1_fields_nominate(f, option);
        }
        if (!h1_fields_repeats(f, FIELD_CONNECTION))
            break;
    }
    return 0;
}

int h1_fields_length(const struct h1_fields *f, uint64_t *ret)
{
    if (h1_fields_repeats(f, FIELD_CONTENT_LENGTH))
        return -ERR_BAD_LENGTH;
    struct slice v = h1_fields_value(f, FIELD_CONTENT_LENGTH);
    uint64_t sum = 0;
    if (v.n == 0)
        return -ERR_BAD_LENGTH;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return -ERR_BAD_LENGTH;
        const uint64_t digit = (uint64_t)(v.p[i] - '0');
        /* Before the multiplication: after it the sum may have wrapped to something small. */
        if (sum > (H1_LENGTH_MAX - digit) / 10)
            return -ERR_BAD_LENGTH;
        sum = sum * 10 + digit;
    }
    *ret = sum;
    return 0;
}

bool h1_fields_chunked(const struct h1_fields *f)
{
    return !h1_fields_repeats(f, FIELD_TRANSFER_ENCODING) &&
           slice_eq_ci(h1_fields_value(f, FIELD_TRANSFER_ENCODING), SLICE("chunked"));
}

struct slice h1_fields_upgrade(const struct h1_fields *f)
{
    if (!h1_fields_has(f, FIELD_UPGRADE) || h1_fields_repeats(f, FIELD_UPGRADE))
        return SLICE_NONE;
    struct slice v = h1_fields_value(f, FIELD_UPGRADE);
    struct slice rest = v, item;
    while (slice_next(&rest, ',', &item)) {
        if (item.n >= 3 && slice_eq_ci(slice_of(item.p, 3), SLICE("h2c")))
            return SLICE_NONE;
    }
    return v.n > 0 ? v : SLICE_NONE;
}

bool h1_fields_lists(const struct h1_fields *f, enum http_field_id id, struct slice word)
{
    if (!h1_fields_has(f, id))
        return false;
    for (size_t i = f->first[id]; i < f->n; i++) {
        struct slice rest = f->field[i].value, item;
        if (f->field[i].id != id)
            continue;
        while (slice_next(&rest, ',', &item)) {
            if (slice_eq_ci(item, word))
                return true;
        }
    }
    return false;
}

bool h1_fields_event_stream(const struct h1_fields *f)
{
    if (h1_fields_has(f, FIELD_X_ACCEL_BUFFERING) &&
        slice_eq_ci(h1_fields_value(f, FIELD_X_ACCEL_BUFFERING), SLICE("no")))
        return true;
    if (!h1_fields_has(f, FIELD_CONTENT_TYPE))
        return false;
    const struct slice type = h1_fields_value(f, FIELD_CONTENT_TYPE),
                       want = SLICE("text/event-stream");
    return type.n >= want.n && slice_eq_ci(slice_of(type.p, want.n), want) &&
           (type.n == want.n || type.p[want.n] == ';' || type.p[want.n] == ' ' ||
            type.p[want.n] == '\t');
}
