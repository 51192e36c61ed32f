/* Accept-Encoding: the table of RFC 9110 12.5.3 and of what clients send. */
#include "t/unit/tap.h"
#include "worker/http/accept_encoding.h"

#define NONE "(none)"

static void says(const char *one, const char *two, unsigned br, unsigned gzip, unsigned zstd,
                 unsigned identity)
{
    struct http_field f[2];
    struct http_request r = {.field = f};
    struct accept_encoding a;
    const char *const v[] = {one, two};
    for (size_t i = 0; i < 2; i++)
        if (v[i] && strcmp(v[i], NONE) != 0)
            f[r.nfield++] = (struct http_field){.name = SLICE("accept-encoding"),
                                                .value = slice_str(v[i]),
                                                .id = FIELD_ACCEPT_ENCODING};
    accept_encoding_of(&r, &a);
    tap_ok(a.q[ACCEPT_BR] == br && a.q[ACCEPT_GZIP] == gzip && a.q[ACCEPT_ZSTD] == zstd &&
               a.q[ACCEPT_IDENTITY] == identity,
           "%s%s%s", one, two ? " | " : "", two ? two : "");
    if (a.q[ACCEPT_BR] != br || a.q[ACCEPT_GZIP] != gzip || a.q[ACCEPT_ZSTD] != zstd ||
        a.q[ACCEPT_IDENTITY] != identity)
        printf("#   got br %u gzip %u zstd %u identity %u\n", a.q[ACCEPT_BR], a.q[ACCEPT_GZIP],
               a.q[ACCEPT_ZSTD], a.q[ACCEPT_IDENTITY]);
}

int main(void)
{
    /* identity 1: not named, the last resort */
    says(NONE, NULL, 0, 0, 0, 1);
    says("", NULL, 0, 0, 0, 1);
    says(",, ,", NULL, 0, 0, 0, 1);
    says("gzip", NULL, 0, 1000, 0, 1);
    says("GZIP", NULL, 0, 1000, 0, 1);
    says("x-gzip", NULL, 0, 1000, 0, 1);
    says("gzip, deflate, br, zstd", NULL, 1000, 1000, 1000, 1);
    says("gzip", "br", 1000, 1000, 0, 1);
    says("br;q=0.5,gzip;q=0.25;x=1", NULL, 500, 250, 0, 1);
    says("br ; q = 0.125 , gzip;q=1.000", NULL, 125, 1000, 0, 1);
    says("br;Q=0.9", NULL, 900, 0, 0, 1);
    says("br;a=b;q=0.3", NULL, 300, 0, 0, 1);
    says("br;q=0", NULL, 0, 0, 0, 1);
    says("br;q=0.000, gzip;q=0.001", NULL, 0, 1, 0, 1);
    says("*", NULL, 1000, 1000, 1000, 1000);
    says("*;q=0.4, gzip;q=0", NULL, 400, 0, 400, 400);
    says("*;q=0", NULL, 0, 0, 0, 0);
    says("*;q=0, gzip", NULL, 0, 1000, 0, 0);
    says("identity;q=0, gzip", NULL, 0, 1000, 0, 0);
    says("identity, gzip;q=0.5", NULL, 0, 500, 0, 1000);
    says("*;q=0, identity;q=0.2", NULL, 0, 0, 0, 200);
    says("gzip;q=0, gzip", NULL, 0, 0, 0, 1); /* refused and wanted: refused */
    says("gzip;q=0.3, gzip;q=0.6", NULL, 0, 600, 0, 1);
    says("gzip;q=0.3, x-gzip;q=0", NULL, 0, 0, 0, 1);
    /* What is no weight is a refusal. */
    says("gzip;q=", NULL, 0, 0, 0, 1);
    says("gzip;q=x", NULL, 0, 0, 0, 1);
    says("gzip;q=2", NULL, 0, 0, 0, 1);
    says("gzip;q=1.001", NULL, 0, 0, 0, 1);
    says("gzip;q=0.1234", NULL, 0, 0, 0, 1);
    says("gzip;q=.5", NULL, 0, 0, 0, 1);
    says("gzip;q=-1", NULL, 0, 0, 0, 1);
    says("gzip;q=1.", NULL, 0, 1000, 0, 1);
    says("gzip;", NULL, 0, 1000, 0, 1);
    says("gzipx, xbr, zst, ;q=1, =", NULL, 0, 0, 0, 1);
    return tap_done();
}
