/* Writes the heads that go on: one pass of copies over the parsed fields, then what the proxy says
 * itself. */
#include "worker/http/forward.h"

#include "base/addr.h"
#include "base/num.h"

#define FORWARD_PSEUDONYM "rpd"
#define FORWARD_CHAIN_MAX 64u /* hops looked at in X-Forwarded-For, counted from the nearest */
#define BIT(id)           ((uint64_t)1 << FIELD_##id)

#define out_lit(o, literal) head_bytes((o), "" literal, sizeof(literal) - 1)

/* A field as it came: where ": " stands between name and value the three are one copy. */
static inline void out_field(struct head_out *o, const struct http_field *f)
{
    if (f->value.p == f->name.p + f->name.n + 2 && f->value.p[-2] == ':' && f->value.p[-1] == ' ') {
        head_bytes(o, f->name.p, f->name.n + 2 + f->value.n);
    } else {
        head_add(o, f->name);
        out_lit(o, ": ");
        head_add(o, f->value);
    }
    out_lit(o, "\r\n");
}

void head_u64(struct head_out *o, uint64_t v)
{
    char text[32];
    head_bytes(o, text, num_fmt_u64(text, v));
}

void head_field(struct head_out *o, struct slice name, struct slice value)
{
    head_add(o, name);
    out_lit(o, ": ");
    head_add(o, value);
    out_lit(o, "\r\n");
}

/* Values of all fields of this id, joined by ", "; whether there was one. */
static bool out_joined(struct head_out *o, const struct http_field *field, size_t n,
                       enum http_field_id id)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (field[i].id != id || field[i].value.n == 0)
            continue;
        if (any)
            out_lit(o, ", ");
        head_add(o, field[i].value);
        any = true;
    }
    return any;
}

static void out_via(struct head_out *o, const struct http_field *field, size_t n, bool present,
                    uint8_t major, uint8_t minor)
{
    out_lit(o, "Via: ");
    if (present && out_joined(o, field, n, FIELD_VIA))
        out_lit(o, ", ");
    if (major == 2)
        out_lit(o, "2.0 " FORWARD_PSEUDONYM "\r\n");
    else if (minor == 0)
        out_lit(o, "1.0 " FORWARD_PSEUDONYM "\r\n");
    else
        out_lit(o, "1.1 " FORWARD_PSEUDONYM "\r\n");
}

/* "Connection: a, b" of the options that are on; nothing when none is. */
static void out_connection(struct head_out *o, bool close, bool keep_alive, bool upgrade, bool te)
{
    if (!close && !keep_alive && !upgrade && !te)
        return;
    const struct {
        bool on;
        struct slice text;
    } option[] = {{close, SLICE("close")},
                  {keep_alive, SLICE("keep-alive")},
                  {upgrade, SLICE("upgrade")},
                  {te, SLICE("TE")}};
    bool any = false;
    out_lit(o, "Connection: ");
    for (size_t i = 0; i < sizeof(option) / sizeof(option[0]); i++) {
        if (!option[i].on)
            continue;
        if (any)
            out_lit(o, ", ");
        head_add(o, option[i].text);
        any = true;
    }
    out_lit(o, "\r\n");
}

/* RFC 7239: IPv6 is bracketed and quoted; what is no address (a unix peer) is "unknown". */
static void out_forwarded(struct head_out *o, const struct http_request *r,
                          const struct forward_request *f, bool present)
{
    const bool v6 = slice_chr(f->client_ip, ':') >= 0;
    out_lit(o, "Forwarded: ");
    if (present && f->trusted && out_joined(o, r->field, r->nfield, FIELD_FORWARDED))
        out_lit(o, ", ");
    if (f->client_ip.n == 0 || slice_starts(f->client_ip, SLICE("unix"))) {
        out_lit(o, "for=unknown");
    } else {
        head_add(o, v6 ? SLICE("for=\"[") : SLICE("for="));
        head_add(o, f->client_ip);
        head_add(o, v6 ? SLICE("]\"") : SLICE(""));
    }
    if (r->authority.n > 0) {
        /* Bytes of a host need no escape within quotes: neither '"' nor "\" is one. */
        const bool token = http_is_token(r->authority);
        head_add(o, token ? SLICE(";host=") : SLICE(";host=\""));
        head_add(o, r->authority);
        head_add(o, token ? SLICE("") : SLICE("\""));
    }
    out_lit(o, ";proto=");
    head_add(o, f->scheme);
    out_lit(o, "\r\n");
}

/* The fields by which the server learns who asked; seen: known ids the request has. */
static void out_origin_of(struct head_out *o, const struct http_request *r,
                          const struct forward_request *f, uint64_t seen)
{
    const uint64_t kept = f->trusted ? seen : 0;
    out_lit(o, "X-Forwarded-For: ");
    if ((kept & BIT(X_FORWARDED_FOR)) != 0 &&
        out_joined(o, r->field, r->nfield, FIELD_X_FORWARDED_FOR))
        out_lit(o, ", ");
    head_add(o, f->client_ip);
    out_lit(o, "\r\n");
    if ((kept & BIT(X_FORWARDED_PROTO)) == 0) {
        out_lit(o, "X-Forwarded-Proto: ");
        head_add(o, f->scheme);
        out_lit(o, "\r\n");
    }
    if ((kept & BIT(X_FORWARDED_HOST)) == 0 && r->authority.n > 0) {
        out_lit(o, "X-Forwarded-Host: ");
        head_add(o, r->authority);
        out_lit(o, "\r\n");
    }
    if ((kept & BIT(X_FORWARDED_PORT)) == 0) {
        out_lit(o, "X-Forwarded-Port: ");
        head_u64(o, f->listen_port);
        out_lit(o, "\r\n");
    }
    if (f->real_ip.p != NULL || (kept & BIT(X_REAL_IP)) == 0) {
        out_lit(o, "X-Real-IP: ");
        head_add(o, f->real_ip.p != NULL ? f->real_ip : f->client_ip);
        out_lit(o, "\r\n");
    }
    if (f->forwarded)
        out_forwarded(o, r, f, (seen & BIT(FORWARDED)) != 0);
}

/* What the server is told of the client's certificate. */
static void out_cert(struct head_out *o, const struct forward_request *f)
{
    if (f->cert.verify.p == NULL)
        return;
    head_field(o, SLICE("X-Client-Verify"), f->cert.verify);
    if (f->cert.subject.n > 0)
        head_field(o, SLICE("X-Client-Subject"), f->cert.subject);
    if (f->cert.fingerprint.n > 0)
        head_field(o, SLICE("X-Client-Fingerprint"), f->cert.fingerprint);
    if (f->cert.der.n > 0) {
        out_lit(o, "Client-Cert: :");
        head_add(o, f->cert.der);
        out_lit(o, ":\r\n");
    }
}

static void out_body(struct head_out *o, bool chunked, bool length, uint64_t n)
{
    if (chunked) {
        out_lit(o, "Transfer-Encoding: chunked\r\n");
    } else if (length) {
        out_lit(o, "Content-Length: ");
        head_u64(o, n);
        out_lit(o, "\r\n");
    }
}

/* Known fields of a request that are not copied because they are written anew, or not at all. */
static uint64_t forward_request_skips(const struct http_request *r, const struct forward_request *f)
{
    uint64_t skip = BIT(HOST) | BIT(CONTENT_LENGTH) | BIT(X_FORWARDED_FOR);
    const uint64_t cert = BIT(CLIENT_CERT) | BIT(CLIENT_CERT_CHAIN) | BIT(X_CLIENT_VERIFY) |
                          BIT(X_CLIENT_SUBJECT) | BIT(X_CLIENT_FINGERPRINT);
    if (!f->trusted)
        skip |= BIT(X_FORWARDED_PROTO) | BIT(X_FORWARDED_HOST) | BIT(X_FORWARDED_PORT) |
                BIT(X_REAL_IP) | BIT(FORWARDED) | cert;
    if (f->cert.verify.p != NULL)
        skip |= cert;
    if (f->real_ip.p != NULL)
        skip |= BIT(X_REAL_IP);
    if (f->forwarded)
        skip |= BIT(FORWARDED);
    if (f->via)
        skip |= BIT(VIA);
    if (f->request_id.p != NULL)
        skip |= BIT(X_REQUEST_ID);
    /* On HTTP/1.0 it was ignored (RFC 9110 10.1.1); as HTTP/1.1 it would come to life. */
    if (f->drop_expect || r->minor == 0)
        skip |= BIT(EXPECT);
    if (f->framing != HTTP_BODY_CHUNKED)
        skip |= BIT(TRAILER);
    return skip;
}

void forward_request_head(struct head_out *o, const struct http_request *r,
                          const struct forward_request *f)
{
    head_add(o, r->method_text);
    out_lit(o, " ");
    if (f->target.p != NULL) {
        head_add(o, f->target);
    } else {
        head_add(o, r->path);
        if (r->has_query) {
            out_lit(o, "?");
            head_add(o, r->query);
        }
    }
    out_lit(o, " HTTP/1.1\r\nHost: ");
    head_add(o, f->host.p != NULL ? f->host : r->authority);
    out_lit(o, "\r\n");

    const uint64_t skip = forward_request_skips(r, f);
    const uint8_t unwanted = FIELD_HOP | FIELD_NOMINATED;
    uint64_t seen = 0;
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *h = &r->field[i];
        const uint64_t bit = (uint64_t)1 << h->id;
        seen |= bit;
        if ((h->flags & unwanted) != 0 || (skip & bit) != 0)
            continue;
        /* "X_Forwarded_For" and its like: the server may read them as what this proxy says. */
        if (h->id == FIELD_UNKNOWN && (h->flags & FIELD_OWN) != 0 &&
            (!f->trusted || f->cert.verify.p != NULL))
            continue;
        out_field(o, h);
    }
    out_origin_of(o, r, f, seen);
    out_cert(o, f);
    if (f->via)
        out_via(o, r->field, r->nfield, (seen & BIT(VIA)) != 0, r->major, r->minor);
    if (f->request_id.p != NULL)
        head_field(o, SLICE("X-Request-Id"), f->request_id);
    out_connection(o, !f->keep_alive, false, f->upgrade, r->te_trailers);
    if (f->upgrade)
        head_field(o, SLICE("Upgrade"), r->upgrade);
    if (r->te_trailers)
        out_lit(o, "TE: trailers\r\n");
    out_body(o, f->framing == HTTP_BODY_CHUNKED, f->framing == HTTP_BODY_LENGTH, f->content_length);
    out_lit(o, "\r\n");
}

unsigned forward_via_count(const struct http_request *r)
{
    unsigned n = 0;
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice rest = r->field[i].value, hop;
        if (r->field[i].id != FIELD_VIA)
            continue;
        while (slice_next(&rest, ',', &hop)) {
            /* received-protocol RWS received-by [ RWS comment ] */
            size_t at = 0, from;
            while (at < hop.n && hop.p[at] != ' ' && hop.p[at] != '\t')
                at++;
            while (at < hop.n && (hop.p[at] == ' ' || hop.p[at] == '\t'))
                at++;
            from = at;
            while (at < hop.n && hop.p[at] != ' ' && hop.p[at] != '\t')
                at++;
            n += slice_eq_ci(slice_of(hop.p + from, at - from), SLICE(FORWARD_PSEUDONYM));
        }
    }
    return n;
}

/* The nearest hops of a chain, whatever their number: a ring. */
struct forward_chain {
    struct slice hop[FORWARD_CHAIN_MAX];
    size_t n;
};

static void forward_chain_add(struct forward_chain *c, struct slice hop)
{
    c->hop[c->n++ % FORWARD_CHAIN_MAX] = hop;
}

/* The address of "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80", any of them
 * quoted. */
static bool forward_hop_ip(struct slice hop, struct slice *ret_ip, union addr *ret)
{
    if (hop.n >= 2 && hop.p[0] == '"' && hop.p[hop.n - 1] == '"')
        hop = slice_of(hop.p + 1, hop.n - 2);
    ptrdiff_t end;
    if (hop.n > 0 && hop.p[0] == '[') {
        if ((end = slice_chr(hop, ']')) < 0)
            return false;
        hop = slice_of(hop.p + 1, (size_t)end - 1);
    } else if ((end = slice_chr(hop, ':')) >= 0 &&
               slice_chr(slice_of(hop.p + end + 1, hop.n - (size_t)end - 1), ':') < 0) {
        hop = slice_of(hop.p, (size_t)end); /* one colon: a port */
    }
    *ret_ip = hop;
    return addr_parse_ip(hop, ret) == 0;
}

/* Elements of a Forwarded value, quoted strings respected; each adds its "for", or an empty hop
 * when it has none. */
static void forward_chain_forwarded(struct forward_chain *c, struct slice value)
{
    struct slice hop = SLICE("");
    size_t from = 0;
    bool quoted = false;
    for (size_t i = 0; i <= value.n; i++) {
        const char ch = i < value.n ? value.p[i] : ',';
        if (quoted && i < value.n) {
            if (ch == '\\' && i + 1 < value.n)
                i++;
            else if (ch == '"')
                quoted = false;
            continue;
        }
        if (ch == '"')
            quoted = true;
        if (ch != ',' && ch != ';')
            continue;
        struct slice pair = slice_trim(slice_of(value.p + from, i - from));
        if (pair.n >= 4 && slice_eq_ci(slice_of(pair.p, 4), SLICE("for=")))
            hop = slice_of(pair.p + 4, pair.n - 4);
        from = i + 1;
        if (ch == ',') {
            forward_chain_add(c, hop);
            hop = SLICE("");
        }
    }
}

bool forward_client_of(const struct http_request *r, const struct cidr *trusted, size_t ntrusted,
                       struct slice *ret_ip)
{
    struct forward_chain c;
    c.n = 0;
    bool xff = false, forwarded = false;
    for (size_t i = 0; i < r->nfield; i++) {
        xff = xff || r->field[i].id == FIELD_X_FORWARDED_FOR;
        forwarded = forwarded || r->field[i].id == FIELD_FORWARDED;
    }
    if (!xff && !forwarded)
        return false;
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice rest = r->field[i].value, hop;
        if (xff && r->field[i].id == FIELD_X_FORWARDED_FOR) {
            while (slice_next(&rest, ',', &hop))
                forward_chain_add(&c, hop);
        } else if (!xff && r->field[i].id == FIELD_FORWARDED) {
            forward_chain_forwarded(&c, rest);
        }
    }
    const size_t oldest = c.n > FORWARD_CHAIN_MAX ? c.n - FORWARD_CHAIN_MAX : 0;
    bool found = false;
    for (size_t i = c.n; i > oldest; i--) {
        struct slice ip;
        union addr a;
        if (!forward_hop_ip(c.hop[(i - 1) % FORWARD_CHAIN_MAX], &ip, &a))
            break;
        *ret_ip = ip;
        found = true;
        if (!cidr_match_any(trusted, ntrusted, &a.sa))
            break;
    }
    return found;
}

void forward_response_head(struct head_out *o, const struct http_response *r,
                           const struct forward_response *f, struct slice date)
{
    uint64_t skip = BIT(CONTENT_LENGTH), seen = 0;
    if (f->via)
        skip |= BIT(VIA);
    if (f->hide_server)
        skip |= BIT(SERVER);
    if (f->request_id.p != NULL)
        skip |= BIT(X_REQUEST_ID);
    if (f->hsts.p != NULL)
        skip |= BIT(STRICT_TRANSPORT_SECURITY);
    if (f->framing != HTTP_BODY_CHUNKED)
        skip |= BIT(TRAILER);
    out_lit(o, "HTTP/1.1 ");
    head_u64(o, f->status);
    out_lit(o, " ");
    head_add(o,
             f->status == r->status && r->reason.n > 0 ? r->reason : http_status_text(f->status));
    out_lit(o, "\r\n");
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *h = &r->field[i];
        const uint64_t bit = (uint64_t)1 << h->id;
        seen |= bit;
        if ((h->flags & (FIELD_HOP | FIELD_NOMINATED)) == 0 && (skip & bit) == 0)
            out_field(o, h);
    }
    if ((seen & BIT(DATE)) == 0 && date.n > 0 && f->status >= 200)
        head_field(o, SLICE("Date"), date);
    if (f->via)
        out_via(o, r->field, r->nfield, (seen & BIT(VIA)) != 0, r->major, r->minor);
    if (f->request_id.p != NULL)
        head_field(o, SLICE("X-Request-Id"), f->request_id);
    if (f->hsts.p != NULL)
        head_field(o, SLICE("Strict-Transport-Security"), f->hsts);
    if (f->lines.p != NULL)
        head_add(o, f->lines);
    out_connection(o, f->close, f->keep_alive && !f->close, f->upgrade, false);
    if (f->upgrade)
        head_field(o, SLICE("Upgrade"), r->upgrade);
    out_body(o, f->framing == HTTP_BODY_CHUNKED, f->write_length, f->content_length);
    out_lit(o, "\r\n");
}
