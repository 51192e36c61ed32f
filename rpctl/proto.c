/* What rpctl and the master say to each other: encoding and decoding, no I/O. */
#include "rpctl/proto.h"

#include "base/err.h"

#define PROTO_FIXED      (4 * sizeof(uint32_t))
#define PROTO_FRAME_HEAD (1 + sizeof(uint32_t))

static void proto_u32(struct buf *out, uint32_t v)
{
    buf_add(out, slice_of((const char *)&v, sizeof(v)));
}

static uint32_t proto_get(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

int proto_request_encode(const struct proto_request *r, struct buf *out)
{
    size_t n = PROTO_FIXED + strlen(r->cwd) + 1;
    if (r->argc < 1 || (uint32_t)r->argc > PROTO_MAX_ARGS)
        return -ERR_RANGE;
    for (int i = 0; i < r->argc; i++) {
        size_t len = strlen(r->argv[i]) + 1;
        if (len > PROTO_MAX_REQUEST || n + len > PROTO_MAX_REQUEST)
            return -ERR_RANGE;
        n += len;
    }
    if (n > PROTO_MAX_REQUEST)
        return -ERR_RANGE;
    proto_u32(out, (uint32_t)(n - sizeof(uint32_t)));
    proto_u32(out, PROTO_MAGIC);
    proto_u32(out, r->flags);
    proto_u32(out, r->timeout_ms);
    buf_add(out, slice_of(r->cwd, strlen(r->cwd) + 1));
    for (int i = 0; i < r->argc; i++)
        buf_add(out, slice_of(r->argv[i], strlen(r->argv[i]) + 1));
    return out->failed ? -ERR_NOMEM : 0;
}

int proto_request_decode(const char *p, size_t n, struct proto_request *ret)
{
    *ret = (struct proto_request){.cwd = ""};
    if (n < sizeof(uint32_t))
        return -ERR_AGAIN;
    size_t size = proto_get(p);
    if (size > PROTO_MAX_REQUEST - sizeof(uint32_t) || size < PROTO_FIXED - sizeof(uint32_t) + 3)
        return -ERR_PROTO;
    size += sizeof(uint32_t);
    if (n >= 2 * sizeof(uint32_t) && proto_get(p + 4) != PROTO_MAGIC)
        return -ERR_PROTO;
    if (n < size)
        return -ERR_AGAIN;
    if (n > size || p[size - 1] != '\0')
        return -ERR_PROTO;
    ret->flags = proto_get(p + 8);
    ret->timeout_ms = proto_get(p + 12);
    const char *at = p + PROTO_FIXED, *end = p + size;
    ret->cwd = at;
    if (at[0] != '\0' && at[0] != '/')
        return -ERR_PROTO;
    at += strlen(at) + 1;
    while (at < end) {
        if ((uint32_t)ret->argc == PROTO_MAX_ARGS)
            return -ERR_PROTO;
        ret->argv[ret->argc++] = at;
        at += strlen(at) + 1;
    }
    return ret->argc > 0 && ret->argv[0][0] != '\0' ? 0 : -ERR_PROTO;
}

void proto_frame_encode(char type, struct slice payload, struct buf *out)
{
    do {
        size_t n = payload.n < PROTO_MAX_FRAME ? payload.n : PROTO_MAX_FRAME;
        buf_chr(out, type);
        proto_u32(out, (uint32_t)n);
        if (n > 0) {
            buf_add(out, slice_of(payload.p, n));
            payload.p += n;
        }
        payload.n -= n;
    } while (payload.n > 0);
}

void proto_exit_encode(uint32_t code, struct buf *out)
{
    proto_frame_encode(PROTO_EXIT, slice_of((const char *)&code, sizeof(code)), out);
}

int proto_frame_decode(const char *p, size_t n, struct proto_frame *ret)
{
    if (n < 1)
        return -ERR_AGAIN;
    if (p[0] != PROTO_OUT && p[0] != PROTO_ERR && p[0] != PROTO_EXIT && p[0] != PROTO_KEEPALIVE)
        return -ERR_PROTO;
    if (n < PROTO_FRAME_HEAD)
        return -ERR_AGAIN;
    uint32_t len = proto_get(p + 1);
    if (len > PROTO_MAX_FRAME || (p[0] == PROTO_EXIT && len != sizeof(uint32_t)))
        return -ERR_PROTO;
    if (n < PROTO_FRAME_HEAD + len)
        return -ERR_AGAIN;
    ret->type = p[0];
    ret->payload = slice_of(p + PROTO_FRAME_HEAD, len);
    ret->size = PROTO_FRAME_HEAD + len;
    return 0;
}
