/* worker/log/access: which record goes to which log, conditions, sampling, reopening, syslog's
 * framing, diagnostics. */
#include "base/clock.h"
#include "t/unit/log_fixture.h"
#include "worker/log/access.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct conf_log logs[3];
static struct conf_log *log_ptr[3] = {&logs[0], &logs[1], &logs[2]};
static struct config conf;
static struct conf_diags diags;

static void reset(size_t n)
{
    conf_diags_fini(&diags);
    conf_diags_init(&diags);
    conf = (struct config){.log = log_ptr, .nlog = n};
    for (uint32_t i = 0; i < 3; i++) {
        logs[i] = (struct conf_log){
            .name = i == 0 ? SLICE("main") : SLICE("more"), .id = i, .pos = {"t.conf", i + 1, 1}};
        logs[i].k.file = SLICE("/x");
        logs[i].k.format = SLICE("%{status}");
        logs[i].k.sample = 100000;
        logs[i].k.flush = 1000;
    }
}

/* Pipes stand for files: what is written can be read without a name. */
static void pipes(int *ret_read, int *ret_write, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int p[2];
        if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
            tap_bail("pipe2");
        ret_read[i] = p[0];
        ret_write[i] = p[1];
    }
}

static struct slice written(int fd)
{
    static char data[65536];
    const ssize_t n = read(fd, data, sizeof(data));
    return slice_of(data, n < 0 ? 0 : (size_t)n);
}

static struct access_logs *open_logs(const int *fds)
{
    struct access_logs *l;
    if (access_logs_new(&conf, &diags, fds, &l) < 0)
        tap_bail("access_logs_new: %s", diags.n ? diags.v[0].text : "?");
    return l;
}

static void test_routing(void)
{
    struct fix f;
    int r[3], w[3];
    reset(3);
    logs[1].k.format = SLICE("b%{status} w%{worker}");
    pipes(r, w, 3);
    struct access_logs *l = open_logs(w);
    access_logs_set_worker(l, 5);
    fix_init(&f);
    f.route.scope.access_log = (struct conf_logs){.v = log_ptr, .n = 2};
    access_log(l, &f.r);
    f.route.scope.access_log = (struct conf_logs){.v = log_ptr + 1, .n = 1};
    f.r.status = 404;
    access_log(l, &f.r);
    f.route.scope.access_log.off = true;
    access_log(l, &f.r);
    f.route.scope.access_log = (struct conf_logs){0};
    access_log(l, &f.r);
    tap_is_int(access_logs_flush(l, clock_ms(), false), 1000,
               "records wait for the flush interval");
    tap_is_int(written(r[0]).n, 0, "nothing is written before");
    tap_is_int(access_logs_flush(l, clock_ms() + 1000, false), -1, "then they go");
    tap_is_str(written(r[0]), "200\n", "one log got what its routes said");
    tap_is_str(written(r[1]), "b200 w5\nb404 w5\n", "the other, too");
    tap_is_int(written(r[2]).n, 0, "the third nothing");
    f.r.route = NULL;
    access_log(l, &f.r);
    tap_is_int(access_logs_flush(l, 0, true), -1,
               "without a route and without a default there is no log");
    conf.defaults.access_log = (struct conf_logs){.v = log_ptr + 2, .n = 1};
    access_log(l, &f.r);
    (void)access_logs_flush(l, 0, true);
    tap_is_str(written(r[2]), "404\n", "the logs of [defaults] take what has no route");

    int r2[3], w2[3];
    pipes(r2, w2, 1);
    f.r.route = &f.route;
    f.route.scope.access_log = (struct conf_logs){.v = log_ptr, .n = 2};
    access_log(l, &f.r);
    w2[1] = w2[2] = -1;
    access_logs_reopen(l, w2);
    access_log(l, &f.r);
    (void)access_logs_flush(l, 0, true);
    tap_is_str(written(r[0]), "404\n", "reopened: the old one got what waited");
    tap_is_str(written(r2[0]), "404\n", "the new one what came");
    tap_is_str(written(r[1]), "b404 w5\nb404 w5\n", "and -1 keeps the old");
    (void)close(r[1]);
    access_log(l, &f.r);
    (void)access_logs_flush(l, 0, true);
    tap_is_int(access_logs_dropped(l), 1, "dropped records are counted");
    tap_is_int(access_logs_dropped(l), 0, "once");
    access_log(l, &f.r);
    access_logs_free(&l);
    tap_is_str(written(r2[0]), "404\n404\n", "the end writes what is left");
    tap_ok(fcntl(w2[0], F_GETFD) < 0, "and closes");
    (void)close(r[0]);
    (void)close(r[2]);
    (void)close(r2[0]);
}

static size_t count(struct access_logs *l, int fd)
{
    (void)access_logs_flush(l, 0, true);
    const struct slice s = written(fd);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static void test_conditions(void)
{
    struct fix f;
    int r, w;
    struct slice words[] = {SLICE("404"), SLICE("5xx")};
    fix_init(&f);
    reset(1);
    f.route.scope.access_log = (struct conf_logs){.v = log_ptr, .n = 1};
    logs[0].k.status = (struct conf_words){.v = words, .n = 2};
    pipes(&r, &w, 1);
    struct access_logs *l = open_logs(&w);
    for (unsigned status = 0; status < 1100; status++) {
        f.r.status = status;
        access_log(l, &f.r);
    }
    tap_is_int(count(l, r), 101, "404 and the 5xx");
    access_logs_free(&l);
    (void)close(r);

    reset(1);
    logs[0].k.slower = 10;
    pipes(&r, &w, 1);
    l = open_logs(&w);
    static const uint64_t took[] = {0, 9999, 10000, 10001, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        f.r.t_total = took[i];
        access_log(l, &f.r);
    }
    tap_is_int(count(l, r), 2, "10 ms or slower; what has no time is not slow");
    access_logs_free(&l);
    (void)close(r);

    static const uint32_t share[] = {0, 1000, 33333, 50000, 99999, 100000};
    static const size_t want[] = {0, 100, 3333, 5000, 9999, 10000};
    for (size_t k = 0; k < 6; k++) {
        reset(1);
        logs[0].k.sample = share[k];
        pipes(&r, &w, 1);
        l = open_logs(&w);
        size_t got = 0, last = 0, gap = 0;
        for (size_t i = 0; i < 10000; i++) {
            access_log(l, &f.r);
            if (i % 100 == 99) {
                last = count(l, r);
                got += last;
                gap = last > gap ? last : gap;
            }
        }
        tap_is_int(got, want[k], "a sample of %u thousandths of a percent", share[k]);
        tap_ok(gap <= share[k] / 1000 + 1, "is spread evenly (at most %zu of 100)", gap);
        access_logs_free(&l);
        (void)close(r);
    }
}

static void test_syslog(void)
{
    char dir[] = "/tmp/rpd-access-test-XXXXXX", want[200], got[300];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct fix f;
    fix_init(&f);
    if (!mkdtemp(dir))
        tap_bail("mkdtemp");
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/log", dir);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), none = -1;
    if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
        tap_bail("bind");
    access_syslog_path = un.sun_path;
    reset(1);
    logs[0].k.file = SLICE("syslog:local3");
    f.route.scope.access_log = (struct conf_logs){.v = log_ptr, .n = 1};
    struct access_logs *l = open_logs(&none);
    clock_cached.wall_ms = INT64_C(1793660405999); /* 2026-11-02T23:00:05Z */
    access_log(l, &f.r);
    (void)access_logs_flush(l, 0, true);
    const ssize_t n = recv(fd, got, sizeof(got), 0);
    (void)snprintf(want, sizeof(want), "<158>Nov  2 23:00:05 rpd[%d]: 200", (int)getpid());
    tap_is_str(slice_of(got, n < 0 ? 0 : (size_t)n), want, "local3.info, RFC 3164");
    access_logs_reopen(l, &none);
    access_log(l, &f.r);
    (void)access_logs_flush(l, 0, true);
    tap_ok(recv(fd, got, sizeof(got), 0) > 0, "connected anew");
    access_logs_free(&l);
    (void)close(fd);
    (void)unlink(un.sun_path);
    (void)rmdir(dir);
}

static void test_diagnostics(void)
{
    struct access_logs *l;
    struct slice words[] = {SLICE("404"), SLICE("6xx"), SLICE("42"), SLICE("4xy")};
    reset(2);
    logs[0].k.status = (struct conf_words){.v = words, .n = 4};
    logs[0].k.format = SLICE("%{statsu}");
    logs[1].k.file = SLICE("syslog:nowhere");
    tap_is_int(access_logs_new(&conf, &diags, NULL, &l), -ERR_INVAL, "refused");
    tap_ok(l == NULL, "nothing made");
    tap_is_int(diags.errors, 5, "all of it told");
    reset(2);
    tap_is_int(access_logs_new(&conf, &diags, NULL, &l), 0, "a check without descriptors");
    access_logs_free(&l);
    access_logs_free(&l);
    unsigned n = 1;
    for (; n < 100; n++) {
        alloc_fail_at(n);
        const int rc = access_logs_new(&conf, &diags, NULL, &l);
        alloc_fail_at(0);
        access_logs_free(&l);
        if (rc == 0)
            break;
        if (rc != -ERR_NOMEM)
            tap_bail("allocation %u: %d", n, rc);
    }
    tap_ok(n > 1 && n < 100, "%u failing allocations are survived", n - 1);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm(60);
    clock_update();
    conf_diags_init(&diags);
    test_routing();
    test_conditions();
    test_syslog();
    test_diagnostics();
    conf_diags_fini(&diags);
    return tap_done();
}
