/* Nanoseconds to build one access log line, by format, and to log one record to /dev/null, batching
 * included. */
#include "base/clock.h"
#include "t/unit/log_fixture.h"
#include "worker/log/format.h"

#include <fcntl.h>

#define LINES 1000000u

static void show(const char *what, uint64_t us, size_t n)
{
    printf("%-32s %7.1f ns", what, (double)us * 1000 / LINES);
    if (n)
        printf("  (%zu bytes)", n);
    printf("\n");
}

static void bench(const char *what, const char *spec, struct access_record *r)
{
    static struct stamp stamp;
    static char out[16384];
    struct arena a;
    struct conf_diags d;
    struct format f;
    arena_init(&a, NULL, 0, 0);
    conf_diags_init(&d);
    if (format_compile(slice_str(spec), (struct conf_pos){0}, &d, &a, &f) < 0)
        tap_bail("format");
    const struct format_env e = {.stamp = &stamp, .pid = 1};
    size_t n = 0;
    const int64_t start = r->wall_ms;
    const uint64_t from = clock_us_now();
    for (unsigned i = 0; i < LINES; i++) {
        r->wall_ms = start + i / 50; /* 50 000 lines a second */
        n = format_line(&f, r, &e, out, sizeof(out));
    }
    show(what, clock_us_now() - from, n);
    conf_diags_fini(&d);
    arena_fini(&a);
}

int main(void)
{
    struct fix f;
    fix_init(&f);
    f.field[2].value = SLICE("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
                             "Gecko) Chrome/120.0 Safari/537.36");
    f.field[1].value = SLICE("https://shop.example.com/category/shoes?page=2");
    f.req.target = SLICE("/category/shoes/item-48151623?color=red&size=42");
    bench("combined", "combined", &f.r);
    bench("json", "json", &f.r);
    bench("custom, 5 variables", "%{time_iso} %{status} %{t_total} %{route} %{request_id}", &f.r);
    f.field[2].value =
        SLICE("\xd0\x9c\xd0\xbe\xd0\xb7\xd0\xb8\xd0\xbb\xd0\xbb\xd0\xb0 \"\\\x01 \xff\xfe");
    bench("combined, odd bytes", "combined", &f.r);
    bench("json, odd bytes", "json", &f.r);

    struct conf_log log = {
        .name = SLICE("main"),
        .k = {.file = SLICE("/dev/null"), .format = SLICE("combined"), .sample = 100000}};
    struct conf_log *logp = &log;
    const struct config c = {.log = &logp, .nlog = 1};
    struct conf_diags d;
    struct access_logs *l;
    const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    conf_diags_init(&d);
    if (access_logs_new(&c, &d, &fd, &l) < 0)
        tap_bail("access_logs_new");
    f.route.scope.access_log = (struct conf_logs){.v = &logp, .n = 1};
    const uint64_t from = clock_us_now();
    for (unsigned i = 0; i < LINES; i++)
        access_log(l, &f.r);
    show("access_log() to /dev/null", clock_us_now() - from, 0);
    access_logs_free(&l);
    conf_diags_fini(&d);
    return 0;
}
