/* What rpctl and the master say to each other over the control socket.
 *
 * Request, one per connection: u32 length of what follows | u32 PROTO_MAGIC | u32 flags | u32
 * timeout in ms | working directory NUL | argument NUL | argument NUL ... Answer, frames until the
 * exit code: u8 type | u32 length | payload. Integers are in host order: both ends are on one
 * machine. */
#ifndef RPCTL_PROTO_H
#define RPCTL_PROTO_H

#include "base/buf.h"

#define PROTO_MAGIC       0x31647072u /* "rpd1" */
#define PROTO_MAX_REQUEST 65536u      /* length word included */
#define PROTO_MAX_ARGS    64u
#define PROTO_MAX_FRAME   (1u << 20) /* payload of one frame; longer texts are cut into several */

enum { PROTO_JSON = 1, PROTO_COLOUR = 2 };
enum proto_type {
    PROTO_OUT = 'O',      /* bytes for stdout */
    PROTO_ERR = 'E',      /* bytes for stderr */
    PROTO_EXIT = 'X',     /* u32 exit code; nothing follows */
    PROTO_KEEPALIVE = 'K' /* still at it */
};
/* Exit codes of rpctl and of verdicts (RPCTL). */
enum {
    PROTO_DONE = 0,
    PROTO_REFUSED = 1,
    PROTO_USAGE = 2,
    PROTO_NOT_RUNNING = 3,
    PROTO_PERMISSION = 4,
    PROTO_TIMEOUT = 5,
    PROTO_PARTLY = 6,
    PROTO_DEGRADED = 10,
    PROTO_CRITICAL = 11
};

struct proto_request {
    uint32_t flags;
    uint32_t timeout_ms; /* 0 = none */
    const char *cwd;     /* absolute, or "" */
    int argc;
    const char *argv[PROTO_MAX_ARGS];
};
/* Appends. -ERR_RANGE when it does not fit, -ERR_NOMEM. */
int proto_request_encode(const struct proto_request *r, struct buf *out);
/* From the first n bytes of a connection; the strings of *ret borrow from p. 0, -ERR_AGAIN (more
 * bytes needed), -ERR_PROTO. */
int proto_request_decode(const char *p, size_t n, struct proto_request *ret);

struct proto_frame {
    char type;
    struct slice payload; /* borrows from the input */
    size_t size;          /* bytes of the whole frame */
};
/* Appends payload as one or more frames; an empty payload is one frame. */
void proto_frame_encode(char type, struct slice payload, struct buf *out);
void proto_exit_encode(uint32_t code, struct buf *out);
/* 0, -ERR_AGAIN, -ERR_PROTO. */
int proto_frame_decode(const char *p, size_t n, struct proto_frame *ret);

#endif
