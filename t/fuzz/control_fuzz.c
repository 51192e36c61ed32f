/* Fuzz target: any bytes on the control socket, as the master and as rpctl read them. */
#include "base/err.h"
#include "rpctl/proto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void request(const char *p, size_t n)
{
    struct proto_request r;
    struct buf out;
    const int rc = proto_request_decode(p, n, &r);
    if (rc == 0 && (r.argc < 0 || (unsigned)r.argc > PROTO_MAX_ARGS))
        abort();
    if (rc < 0 && rc != -ERR_AGAIN && rc != -ERR_PROTO)
        abort();
    if (rc < 0)
        return;
    /* What was understood can be said again, and is understood the same. */
    struct proto_request again;
    buf_init(&out, 0);
    if (proto_request_encode(&r, &out) < 0 || proto_request_decode(out.p, out.n, &again) < 0 ||
        again.argc != r.argc || again.flags != r.flags || again.timeout_ms != r.timeout_ms ||
        strcmp(again.cwd, r.cwd) != 0)
        abort();
    for (int i = 0; i < r.argc; i++) {
        if (strcmp(again.argv[i], r.argv[i]) != 0)
            abort();
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *const p = (const char *)data;
    struct proto_frame f;
    request(p, n);
    for (size_t at = 0; at < n; at += f.size) {
        if (proto_frame_decode(p + at, n - at, &f) < 0)
            break;
        if (f.size == 0 || f.size > n - at || f.payload.n > f.size)
            abort();
    }
    return 0;
}
