/* A request, an answer and a record for tests of the access log. */
#ifndef T_UNIT_LOG_FIXTURE_H
#define T_UNIT_LOG_FIXTURE_H

#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/log/access.h"

struct fix {
    struct http_field field[8], resp_field[2];
    struct http_request req;
    struct http_response resp;
    struct conf_route route;
    struct access_record r;
};

static inline void fix_field(struct http_field *f, const char *name, struct slice value)
{
    *f = (struct http_field){.name = slice_str(name), .value = value};
    f->id = http_field_id_of(f->name);
}

/* 2026-11-21T02:50:00.123Z; TZ is set to UTC. */
static inline void fix_init(struct fix *f)
{
    *f = (struct fix){0};
    if (setenv("TZ", "UTC", 1) < 0)
        tap_bail("setenv");
    fix_field(&f->field[0], "Host", SLICE("shop.test:81"));
    fix_field(&f->field[1], "Referer", SLICE("http://a.test/x"));
    fix_field(&f->field[2], "User-Agent", SLICE("curl/7.88.1"));
    fix_field(&f->field[3], "X-Own", SLICE("mine"));
    fix_field(&f->resp_field[0], "X-Cache", SLICE("hit"));
    f->req = (struct http_request){.method = HTTP_GET,
                                   .method_text = SLICE("GET"),
                                   .target = SLICE("/a%20b?q=1"),
                                   .path = SLICE("/a%20b"),
                                   .query = SLICE("q=1"),
                                   .has_query = true,
                                   .host = SLICE("shop.test"),
                                   .minor = 1,
                                   .field = f->field,
                                   .nfield = 4};
    f->resp = (struct http_response){.status = 200, .field = f->resp_field, .nfield = 1};
    f->route.series = SLICE("shop/static");
    f->r = (struct access_record){.req = &f->req,
                                  .resp = &f->resp,
                                  .route = &f->route,
                                  .client_ip = SLICE("192.0.2.7"),
                                  .peer_ip = SLICE("10.0.0.1"),
                                  .client_port = 40000,
                                  .listen = SLICE("http"),
                                  .scheme = SLICE("http"),
                                  .request_id = SLICE("id-1"),
                                  .upstream = SLICE("app"),
                                  .server = SLICE("10.1.0.1:80"),
                                  .tried = SLICE("10.1.0.2:80, 10.1.0.1:80"),
                                  .tries = 2,
                                  .reused = true,
                                  .status = 200,
                                  .bytes_in = 100,
                                  .bytes_out = 2345,
                                  .body_out = 2000,
                                  .t_queue = UINT64_MAX,
                                  .t_connect = 1001,
                                  .t_first_byte = 20,
                                  .t_total = 12345678,
                                  .conn_requests = 3,
                                  .wall_ms = INT64_C(1795229400123)};
}

#endif
