/* Nanoseconds per operation of the HTTP/1 parser and writer. Figures compare builds on one machine;
 * nothing is asserted. */
#include "worker/http/forward.h"
#include "worker/http/h1_chunk.h"
#include "worker/http/h1_head.h"
#include "worker/http/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 7
#define LOOPS  200000u

static const char small[] = "GET / HTTP/1.1\r\n"
                            "Host: 127.0.0.1:8080\r\n"
                            "User-Agent: wrk/4.1.0\r\n"
                            "Connection: keep-alive\r\n\r\n";
static const char browser[] =
    "GET /products/garden/tools?sort=price&page=2 HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/118.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Referer: https://www.example.com/products/garden\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=1f3c7a9be2d84f60; theme=dark; basket=42\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Server: origin\r\n"
                             "Date: Sat, 21 Nov 2026 03:00:00 GMT\r\n"
                             "Content-Type: text/html; charset=utf-8\r\n"
                             "Content-Length: 5120\r\n"
                             "Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT\r\n"
                             "Connection: keep-alive\r\n"
                             "ETag: \"655b2d00-1400\"\r\n"
                             "Accept-Ranges: bytes\r\n\r\n";

static const struct h1_limits limits = {8192, 16384, 32768, 100};
static struct http_field field[100];
static char out[65536];
static volatile uint64_t sink;

struct subject {
    const char *text;
    size_t n;
    struct http_request request;
    struct http_response response;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t bench_end(struct subject *s)
{
    size_t scan = 0, skip;
    return (uint64_t)h1_head_end(s->text, s->n, &limits, true, &scan, &skip);
}

static uint64_t bench_end_answer(struct subject *s)
{
    size_t scan = 0, skip;
    return (uint64_t)h1_head_end(s->text, s->n, &limits, false, &scan, &skip);
}

static uint64_t bench_request(struct subject *s)
{
    if (h1_parse_request(s->text, s->n, &limits, field, &s->request) < 0)
        abort();
    return s->request.nfield;
}

static uint64_t bench_response(struct subject *s)
{
    if (h1_parse_response(s->text, s->n, &limits, HTTP_GET, field, &s->response) < 0)
        abort();
    return s->response.nfield;
}

static uint64_t bench_forward(struct subject *s)
{
    const struct forward_request f = {.client_ip = SLICE("192.0.2.17"),
                                      .scheme = SLICE("http"),
                                      .listen_port = 8080,
                                      .via = true,
                                      .keep_alive = true,
                                      .framing = HTTP_BODY_NONE};
    struct head_out o = {out, 0, sizeof(out), false};
    forward_request_head(&o, &s->request, &f);
    return o.n;
}

static uint64_t bench_answer(struct subject *s)
{
    const struct forward_response f = {.status = 200,
                                       .via = true,
                                       .framing = HTTP_BODY_LENGTH,
                                       .write_length = true,
                                       .content_length = 5120};
    struct head_out o = {out, 0, sizeof(out), false};
    forward_response_head(&o, &s->response, &f, SLICE("Sat, 21 Nov 2026 03:00:00 GMT"));
    return o.n;
}

static uint64_t bench_uri(struct subject *s)
{
    struct slice ret = SLICE_NONE;
    uri_normalize(s->request.path, NULL, &ret);
    return ret.n;
}

/* 4 KiB of data in one chunk: the data is moved once, behind the size line. */
static uint64_t bench_chunk(struct subject *s)
{
    static char body[4200];
    static size_t n;
    (void)s;
    if (n == 0) {
        n = h1_chunk_head(body, 4096);
        memset(body + n, 'x', 4096);
        n += 4096;
        memcpy(body + n, "\r\n0\r\n\r\n", 7);
        n += 7;
    }
    memcpy(out, body, n);
    struct h1_chunk c;
    size_t used, data;
    h1_chunk_init(&c);
    if (h1_chunk_decode(&c, NULL, out, n, &used, &data) != 1)
        abort();
    return data;
}

/* The best of several rounds: what the machine does when nothing else disturbs it. */
static void run(const char *name, uint64_t (*op)(struct subject *), struct subject *s)
{
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t sum = 0, from = now_ns();
        for (unsigned i = 0; i < LOOPS; i++) {
            __asm__ volatile("" ::"r"(s) : "memory");
            sum += op(s);
        }
        uint64_t took = now_ns() - from;
        sink = sum;
        best = took < best ? took : best;
    }
    printf("%-36s %8.1f ns\n", name, (double)best / LOOPS);
}

int main(void)
{
    struct subject s = {.text = small, .n = sizeof(small) - 1};
    struct subject b = {.text = browser, .n = sizeof(browser) - 1};
    struct subject a = {.text = answer, .n = sizeof(answer) - 1};
    printf("small request: 3 fields, %zu bytes; browser: 15 fields, %zu bytes; answer: 8 fields, "
           "%zu bytes\n",
           s.n, b.n, a.n);
    run("small: find end", bench_end, &s);
    run("small: parse", bench_request, &s);
    run("small: forward", bench_forward, &s);
    run("browser: find end", bench_end, &b);
    run("browser: parse", bench_request, &b);
    run("browser: forward", bench_forward, &b);
    run("browser: normalise path", bench_uri, &b);
    run("answer: find end", bench_end_answer, &a);
    run("answer: parse", bench_response, &a);
    run("answer: forward", bench_answer, &a);
    run("chunk: 4 KiB, copied and decoded", bench_chunk, &a);
    return 0;
}
