/* worker/log/writer: batching, partial writes, sinks that stall or fail, syslog; nothing may block
 * (alarm() ends the test). */
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/log/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/rpd-log-test-XXXXXX";

/* A numbered line of n bytes; false when there was no room. */
static bool put(struct writer *w, unsigned number, size_t n, uint64_t now)
{
    size_t cap;
    char *p = writer_room(w, now, &cap);
    if (!p || cap < n)
        return false;
    memset(p, 'a' + (int)(number % 26), n);
    p[snprintf(p, n, "%08u", number)] = ' ';
    p[n - 1] = '\n';
    writer_commit(w, n, now);
    return true;
}

/* Counts whole lines of n bytes in s that carry numbers in rising order; -1 when something is
 * broken. */
static int whole(struct slice s, size_t n, unsigned *next)
{
    if (s.n % n)
        return -1;
    for (size_t i = 0; i < s.n; i += n) {
        const unsigned long got = strtoul(s.p + i, NULL, 10);
        if (s.p[i + n - 1] != '\n' || memchr(s.p + i, '\n', n - 1) || got < *next)
            return -1;
        *next = (unsigned)got + 1;
    }
    return (int)(s.n / n);
}

static int open_file(const char *name, char path[256])
{
    (void)snprintf(path, 256, "%s/%s", dir, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        tap_bail("%s: %s", path, strerror(errno));
    return fd;
}

static struct slice slurp(const char *path)
{
    static char data[1 << 20];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, data, sizeof(data));
    (void)close(fd);
    return slice_of(data, n < 0 ? 0 : (size_t)n);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void test_batching(void)
{
    char path[256];
    struct writer w;
    writer_open(&w, open_file("batch", path));
    tap_is_int(writer_flush(&w, 1000, 100, false), -1, "nothing to do");
    (void)put(&w, 0, 100, 1000);
    tap_is_int(size_of(path), 0, "a record waits");
    tap_is_int(writer_flush(&w, 1040, 100, false), 60, "until its time comes");
    (void)put(&w, 1, 100, 1090);
    tap_is_int(writer_flush(&w, 1090, 100, false), 10, "the oldest counts");
    tap_is_int(writer_flush(&w, 1100, 100, false), -1, "then all is written");
    tap_is_int(size_of(path), 200, "in the file");
    unsigned i = 2;
    for (; i < 2 + 327; i++)
        (void)put(&w, i, 100, 1100);
    tap_is_int(size_of(path), 200, "under 32 KiB wait");
    (void)put(&w, i, 100, 1100);
    tap_is_int(size_of(path), 200 + 32800, "32 KiB go at once");
    (void)put(&w, i + 1, 100, 1100);
    tap_is_int(writer_flush(&w, 1100, 100, true), -1, "force writes the rest");
    unsigned next = 0;
    tap_is_int(whole(slurp(path), 100, &next), (int)i + 2, "every line once, in order");
    writer_close(&w);
    tap_is_int(w.dropped, 0, "none dropped");
}

static void test_reopen(void)
{
    char a[256], b[256];
    struct writer w;
    writer_open(&w, open_file("old", a));
    (void)put(&w, 0, 50, 0);
    const int fd = open_file("new", b), old = w.fd;
    writer_reopen(&w, fd);
    tap_is_int(size_of(a), 50, "the old file gets what was waiting");
    tap_ok(fcntl(old, F_GETFD) < 0 && errno == EBADF, "and is closed");
    (void)put(&w, 1, 60, 0);
    writer_reopen(&w, -1);
    tap_is_int(size_of(b), 60, "reopening nothing keeps the file");
    (void)put(&w, 2, 60, 0);
    writer_close(&w);
    tap_is_int(size_of(b), 120, "closing writes the rest");
    tap_ok(fcntl(fd, F_GETFD) < 0, "and closes");
}

/* A file size limit stands in for a full disk: writes stop in the middle of a line, then fail. */
static void test_full_disk(void)
{
    char path[256], other[256];
    struct writer w;
    struct rlimit was, now = {.rlim_cur = 250};
    if (getrlimit(RLIMIT_FSIZE, &was) < 0)
        tap_bail("getrlimit");
    now.rlim_max = was.rlim_max;
    const int second = open_file("fresh", other);
    writer_open(&w, open_file("full", path));
    for (unsigned i = 0; i < 5; i++)
        (void)put(&w, i, 100, 1000);
    if (setrlimit(RLIMIT_FSIZE, &now) < 0)
        tap_bail("setrlimit");
    tap_is_int(writer_flush(&w, 1000, 10, true), 1000, "trouble: again in a second");
    tap_is_int(writer_flush(&w, 1500, 10, false), 500, "and not sooner");
    tap_is_int(w.dropped, 0, "waiting lines are kept");
    unsigned kept = 5, lost = 0;
    for (unsigned i = 5; i < 1000; i++) {
        if (put(&w, i, 100, 1600))
            kept++;
        else
            lost++;
    }
    tap_ok(kept > 300 && lost > 300 && w.dropped == lost,
           "a full buffer drops and counts: kept %u, lost %u", kept, lost);
    if (setrlimit(RLIMIT_FSIZE, &was) < 0)
        tap_bail("setrlimit");
    tap_is_int(writer_flush(&w, 3000, 10, false), -1, "room again: all is written");
    unsigned next = 0;
    tap_is_int(whole(slurp(path), 100, &next), (int)kept, "whole lines, none twice");

    (void)put(&w, 1000, 100, 3000);
    now.rlim_cur = (rlim_t)size_of(path) + 50;
    (void)setrlimit(RLIMIT_FSIZE, &now);
    (void)put(&w, 1001, 100, 3000);
    (void)writer_flush(&w, 3000, 10, true);
    w.dropped = 0;
    writer_reopen(&w, second);
    (void)setrlimit(RLIMIT_FSIZE, &was);
    writer_close(&w);
    next = 0;
    tap_is_int(whole(slurp(other), 100, &next), 1,
               "a new file does not begin with the rest of a line");
    tap_is_int(w.dropped, 1, "that line is counted");
}

static int pipe_room(int fd)
{
    return fcntl(fd, F_GETPIPE_SZ);
}

static void test_stalled_pipe(void)
{
    int p[2];
    struct writer w;
    static char data[1 << 20];
    if (pipe2(p, O_CLOEXEC) < 0)
        tap_bail("pipe2");
    writer_open(&w, dup(p[1]));
    tap_is_int(w.kind, WRITER_PIPE, "a pipe is known as one");
    tap_ok(!(fcntl(p[1], F_GETFL) & O_NONBLOCK), "it stays blocking for those who share it");
    unsigned i = 0;
    while (put(&w, i, 128, 1000))
        i++;
    tap_ok((int)i * 128 >= pipe_room(p[1]) / 2, "%u lines until pipe and buffer are full", i);
    tap_is_int(w.dropped, 1, "the next is dropped");
    tap_ok(writer_flush(&w, 2000, 10, true) > 0, "a stalled reader does not block a forced flush");
    if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0)
        tap_bail("fcntl");
    size_t n = 0;
    for (;;) {
        const ssize_t got = read(p[0], data + n, sizeof(data) - n);
        if (got > 0)
            n += (size_t)got;
        else if (writer_flush(&w, 3000, 10, true) < 0 && got < 0)
            break;
    }
    const ssize_t rest = read(p[0], data + n, sizeof(data) - n);
    n += rest > 0 ? (size_t)rest : 0;
    unsigned next = 0;
    tap_is_int(whole(slice_of(data, n), 128, &next), (int)i, "all that was kept arrives whole");
    tap_is_int(w.kind, WRITER_PIPE, "spliced throughout");
    (void)close(p[0]);
    w.dropped = 0;
    (void)put(&w, 1, 128, 4000);
    (void)put(&w, 2, 128, 4000);
    tap_is_int(writer_flush(&w, 4000, 10, true), -1, "a reader that is gone");
    tap_is_int(w.dropped, 2, "costs the lines");
    writer_close(&w);
    (void)close(p[1]);
}

/* Two writers on one full pipe, as two workers on one stdout. */
static void test_shared_pipe(void)
{
    int p[2];
    struct writer w[2];
    static char data[1 << 20];
    if (pipe2(p, O_CLOEXEC) < 0 || fcntl(p[0], F_SETFL, O_NONBLOCK) < 0)
        tap_bail("pipe2");
    writer_open(&w[0], dup(p[1]));
    writer_open(&w[1], p[1]);
    size_t n = 0, sent = 0;
    for (unsigned i = 0; i < 4000; i++) {
        sent += put(&w[i % 2], i, 100, i);
        (void)writer_flush(&w[i % 2], i, 3, i % 7 == 0);
        if (i % 50 == 0) {
            const ssize_t got = read(p[0], data + n, 3000);
            n += got > 0 ? (size_t)got : 0;
        }
    }
    for (bool more = true; more;) {
        more = writer_flush(&w[0], 5000, 3, true) >= 0;
        more = writer_flush(&w[1], 5000, 3, true) >= 0 || more;
        ssize_t got;
        while ((got = read(p[0], data + n, sizeof(data) - n)) > 0)
            n += (size_t)got;
    }
    unsigned broken = 0;
    for (size_t i = 0; i + 100 <= n; i += 100)
        broken += data[i + 99] != '\n' || memchr(data + i, '\n', 99) != NULL;
    tap_is_int(broken, 0, "lines of two writers never mix");
    tap_is_int(n, sent * 100, "and none is lost but what was dropped");
    writer_close(&w[0]);
    writer_close(&w[1]);
    (void)close(p[0]);
}

static void test_socket(void)
{
    int p[2];
    struct writer w;
    static char data[1 << 20];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
        tap_bail("socketpair");
    writer_open(&w, p[1]);
    unsigned i = 0;
    while (put(&w, i, 200, 1000))
        i++;
    tap_ok(w.dropped == 1, "a stalled socket does not block (%u lines)", i);
    size_t n = 0;
    for (;;) {
        const ssize_t got = recv(p[0], data + n, sizeof(data) - n, MSG_DONTWAIT);
        if (got > 0)
            n += (size_t)got;
        else if (writer_flush(&w, 2000, 10, true) < 0)
            break;
    }
    const ssize_t rest = recv(p[0], data + n, sizeof(data) - n, MSG_DONTWAIT);
    n += rest > 0 ? (size_t)rest : 0;
    unsigned next = 0;
    tap_is_int(whole(slice_of(data, n), 200, &next), (int)i, "all arrives in order");
    writer_close(&w);
    (void)close(p[0]);
}

static int syslogd(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
        tap_bail("bind %s: %s", path, strerror(errno));
    return fd;
}

static void test_syslog(void)
{
    char path[256], data[300];
    struct writer w;
    (void)snprintf(path, sizeof(path), "%s/log", dir);
    writer_open_syslog(&w, path);
    (void)put(&w, 0, 100, 1000);
    tap_is_int(writer_flush(&w, 1000, 10, true), 1000, "no daemon: again in a second");
    int d = syslogd(path);
    (void)put(&w, 1, 100, 1500);
    tap_is_int(writer_flush(&w, 2000, 10, false), -1, "it came");
    tap_is_int(recv(d, data, sizeof(data), 0), 99, "a datagram per line, without newline");
    tap_ok(strncmp(data, "00000000 ", 9) == 0, "what waited comes first");
    tap_is_int(recv(d, data, sizeof(data), 0), 99, "then the next");
    unsigned i = 2;
    while (put(&w, i, 100, 3000))
        i++;
    tap_ok(w.dropped == 1, "a stalled daemon does not block (%u lines)", i);
    (void)close(d);
    (void)unlink(path);
    (void)writer_flush(&w, 4000, 10, true);
    d = syslogd(path);
    tap_ok(writer_flush(&w, 6000, 10, true) != 1000, "another daemon under the same name");
    tap_is_int(recv(d, data, sizeof(data), 0), 99, "is found");
    writer_close(&w);
    (void)close(d);
    (void)unlink(path);
}

static void test_nowhere(void)
{
    struct writer w;
    writer_open(&w, -1);
    tap_ok(!put(&w, 0, 100, 0), "no descriptor, no room");
    tap_is_int(w.dropped, 1, "counted");
    tap_is_int(writer_flush(&w, 0, 0, true), -1, "nothing to wait for");
    writer_close(&w);
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    writer_open(&w, null);
    tap_is_int(w.kind, WRITER_FILE, "/dev/null takes large writes");
    tap_ok(put(&w, 0, 100, 0), "and lines");
    writer_close(&w);
    tap_is_int(w.dropped, 0, "none dropped");
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)alarm(60);
    if (!mkdtemp(dir))
        tap_bail("mkdtemp");
    test_batching();
    test_reopen();
    test_full_disk();
    test_stalled_pipe();
    test_shared_pipe();
    test_socket();
    test_syslog();
    test_nowhere();
    static const char *const files[] = {"batch", "old", "new", "full", "fresh"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        (void)unlink(path);
    }
    tap_ok(rmdir(dir) == 0, "nothing is left behind");
    return tap_done();
}
