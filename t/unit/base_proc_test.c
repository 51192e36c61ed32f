/* Process helpers, each in a child where it changes the process. */
#include "base/err.h"
#include "base/proc.h"
#include "t/unit/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/base_proc_test.XXXXXX";

static const char *path_of(const char *name)
{
    static char path[100];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    if (!f)
        tap_bail("%s: %s", name, strerror(errno));
    fputs(text, f);
    fclose(f);
}

/* The exit status of fn in a child. */
static int run(int (*fn)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        tap_bail("fork");
    if (pid == 0)
        _exit(fn());
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_cgroup(void)
{
    mkdir(path_of("a"), 0700);
    mkdir(path_of("a/b"), 0700);
    put("a/b/cpu.max", "max 100000\n");
    put("a/cpu.max", "250000 100000\n");
    tap_is_int(proc_cgroup_cpus(dir, "/a/b"), 3, "2.5 CPUs of a parent are 3");
    put("a/b/cpu.max", "1000 100000\n");
    tap_is_int(proc_cgroup_cpus(dir, "/a/b/"), 1, "a hundredth is one");
    tap_is_int(proc_cgroup_cpus(dir, "/"), 0, "the root has no limit");
    tap_is_int(proc_cgroup_cpus(dir, "/a/../a"), 0, "paths outside the root are not followed");
    put("a/cpu.max", "junk\n");
    tap_is_int(proc_cgroup_cpus(dir, "/a"), 0, "nor is junk");
    tap_is_int(proc_cgroup_cpus(dir, "/nowhere"), 0, "nor a group that is not there");
}

static int pin_child(void)
{
    cpu_set_t set;
    int n = proc_cpu_count();
    int first = proc_pin(0), again = proc_pin(0);
    if (first < 0 || first != again || sched_getcpu() != first)
        return 1;
    if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) != 1)
        return 2;
    /* The count is that of the inherited mask, not of the narrowed one. */
    return n == proc_cpu_count() && proc_pin(-1) == -ERR_INVAL ? 0 : 3;
}

static int nofile_child(void)
{
    struct rlimit r = {64, 4096};
    if (geteuid() == 0 ? setrlimit(RLIMIT_NOFILE, &r) : (getrlimit(RLIMIT_NOFILE, &r), 0))
        return 1;
    if (proc_raise_nofile(128) < 128 || proc_raise_nofile(32) < 128)
        return 2;
    /* Root in a container may lack the capability to raise the hard limit. */
    r = (struct rlimit){128, 4097};
    bool may = setrlimit(RLIMIT_NOFILE, &r) == 0;
    if (geteuid() == 0 && proc_raise_nofile(8192) != (may ? 8192u : 4096u))
        return 3;
    uint64_t all = proc_raise_nofile(0);
    getrlimit(RLIMIT_NOFILE, &r);
    return all == r.rlim_cur && all >= 128 ? 0 : 4;
}

static int drop_child(void)
{
    uid_t uid;
    gid_t gid;
    if (geteuid() != 0)
        return proc_drop(getuid(), getgid()) == 0 && proc_drop(0, 0) < 0 ? 0 : 1;
    if (proc_lookup_user("nobody", "", &uid, &gid) < 0)
        return 2;
    if (proc_drop(uid, gid) < 0 || getuid() != uid || getegid() != gid)
        return 3;
    if (getgroups(0, NULL) != 1 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 4;
    if (setuid(0) == 0 || setgid(0) == 0 || proc_drop(0, 0) == 0)
        return 5;
    return open("/etc/shadow", O_RDONLY) < 0 ? 0 : 6;
}

static void test_pidfile(void)
{
    char text[32] = "", want[32];
    pid_t holder = -1;
    int fd = proc_pidfile(path_of("pid"), NULL);
    tap_ok(fd >= 0, "a pidfile");
    tap_is_int(proc_pidfile(path_of("pid"), &holder), -ERR_EXIST, "a second holder is refused");
    tap_is_int(holder, getpid(), "and learns who has it");
    ssize_t n = pread(fd, text, sizeof(text), 0);
    snprintf(want, sizeof(want), "%d\n", (int)getpid());
    tap_is_str(slice_of(text, n > 0 ? (size_t)n : 0), want, "the pid in it");
    tap_ok(fcntl(fd, F_GETFD) & FD_CLOEXEC, "CLOEXEC");
    close(fd);
    put("pid", "999999999999\nmore, longer than a pid\n");
    fd = proc_pidfile(path_of("pid"), NULL);
    n = pread(fd, text, sizeof(text), 0);
    tap_is_str(slice_of(text, n > 0 ? (size_t)n : 0), want, "an old one is overwritten");
    close(fd);
    tap_is_int(proc_pidfile(path_of("no/pid"), NULL), -ERR_SYS, "no directory");
    if (symlink("/dev/null", path_of("link")) == 0)
        tap_is_int(proc_pidfile(path_of("link"), NULL), -ERR_SYS, "a link is not followed");
}

static int report[2]; /* the daemons' way to reach the test */

/* The starter's exit status is the verdict; the daemon tells about itself through the pipe. */
static int daemon_child(int verdict)
{
    int fd;
    if (proc_daemonize(&fd) < 0)
        return 100;
    pid_t me[2] = {getpid(), getsid(0)};
    if (verdict >= 0)
        proc_daemon_ready(fd, verdict);
    ssize_t ignored = write(report[1], me, sizeof(me));
    (void)ignored;
    _exit(0);
}

static int daemon_good(void)
{
    return daemon_child(0);
}

static int daemon_bad(void)
{
    return daemon_child(3);
}

static int daemon_dies(void)
{
    return daemon_child(-1);
}

static void test_daemon(void)
{
    pid_t who[2];
    if (pipe(report) < 0)
        tap_bail("pipe");
    tap_is_int(run(daemon_good), 0, "the starter exits with a good verdict");
    tap_ok(read(report[0], who, sizeof(who)) == sizeof(who) && who[0] != who[1] &&
               who[1] != getsid(0),
           "the daemon is in a session it does not lead");
    tap_is_int(run(daemon_bad), 3, "a bad verdict");
    tap_ok(read(report[0], who, sizeof(who)) == sizeof(who), "was given");
    tap_is_int(run(daemon_dies), 1, "no verdict is a failure");
    tap_ok(read(report[0], who, sizeof(who)) == sizeof(who), "of one that died");
    close(report[0]);
    close(report[1]);
}

static void test_notify(void)
{
    unsetenv("NOTIFY_SOCKET");
    tap_is_int(proc_sd_notify("READY=1"), 0, "nobody to notify");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path_of("notify"));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
        tap_bail("bind");
    setenv("NOTIFY_SOCKET", un.sun_path, 1);
    char text[64];
    tap_is_int(proc_sd_notify("READY=1"), 1, "notified");
    ssize_t n = recv(fd, text, sizeof(text), 0);
    tap_is_str(slice_of(text, n > 0 ? (size_t)n : 0), "READY=1", "with the state");
    int pair[2];
    if (pipe(pair) < 0)
        tap_bail("pipe");
    tap_is_int(proc_sd_notify_fd("FDSTORE=1", pair[0]), 1, "a descriptor");
    union {
        struct cmsghdr head;
        char bytes[64];
    } control;
    struct iovec iov = {text, sizeof(text)};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    int got = -1;
    n = recvmsg(fd, &h, 0);
    if (n > 0 && CMSG_FIRSTHDR(&h))
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(got));
    tap_ok(n == 9 && got > 2 && write(pair[1], "x", 1) == 1 && read(got, text, 1) == 1,
           "comes with the state");
    close(got);
    close(pair[0]);
    close(pair[1]);
    setenv("NOTIFY_SOCKET", "relative", 1);
    tap_is_int(proc_sd_notify("READY=1"), -ERR_SYS, "a relative path is refused");
    unsetenv("NOTIFY_SOCKET");
    close(fd);
}

static void test_listen_fds(void)
{
    const char *names[8];
    char pid[16];
    int first;
    tap_is_int(proc_sd_listen_fds(&first, names, 8), 0, "none are passed");
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "a:b c:more", 1);
    int high = fcntl(0, F_DUPFD, 100);
    int kept[2] = {fcntl(3, F_DUPFD, 100), fcntl(4, F_DUPFD, 100)};
    tap_ok(dup2(high, 3) == 3 && dup2(high, 4) == 4, "two");
    tap_is_int(proc_sd_listen_fds(&first, names, 8), 2, "two are taken");
    tap_ok(first == 3 && strcmp(names[0], "a") == 0 && strcmp(names[1], "b c") == 0, "by name");
    tap_ok(fcntl(3, F_GETFD) & FD_CLOEXEC, "no other program gets them");
    tap_is_int(proc_sd_listen_fds(&first, names, 1), 1, "no more than there is room for");
    setenv("LISTEN_FDS", "4000000000", 1);
    tap_ok(proc_sd_listen_fds(&first, names, 8) <= 8, "a wrong count");
    setenv("LISTEN_FDS", "-1", 1);
    tap_is_int(proc_sd_listen_fds(&first, names, 8), 0, "no count");
    setenv("LISTEN_FDS", "2", 1);
    unsetenv("LISTEN_FDNAMES");
    tap_ok(proc_sd_listen_fds(&first, names, 8) == 2 && names[1][0] == '\0', "without names");
    static char many[20000];
    memset(many, 'x', sizeof(many) - 1);
    many[9000] = ':';
    setenv("LISTEN_FDNAMES", many, 1);
    tap_ok(proc_sd_listen_fds(&first, names, 8) == 2 && strlen(names[0]) == 9000 &&
               strlen(names[1]) == sizeof(many) - 9002,
           "of long names none is cut to another one");
    unsetenv("LISTEN_FDNAMES");
    setenv("LISTEN_PID", "1", 1);
    tap_is_int(proc_sd_listen_fds(&first, names, 8), 0, "another process's");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    for (int i = 0; i < 2; i++) {
        if (kept[i] >= 0)
            dup2(kept[i], 3 + i);
        else
            close(3 + i);
    }
    close(high);
}

static void test_title(int argc, char **argv)
{
    char line[256] = "", name[32] = "";
    setenv("BASE_PROC_TEST", "kept", 1);
    proc_init_title(argc, argv);
    proc_set_title("rpd: a title that is longer than a process name");
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = read(fd, line, sizeof(line) - 1);
    close(fd);
    tap_ok(n > 0 && strncmp(line, "rpd: a title that is longer", 27) == 0, "the title is shown");
    prctl(PR_GET_NAME, name, 0, 0, 0);
    tap_is_str(slice_str(name), "rpd: a title th", "and the name");
    tap_ok(strstr(argv[0], "base_proc_test") && getenv("PATH") && *getenv("PATH") == '/',
           "arguments and environment survive");
    const char *kept = getenv("BASE_PROC_TEST");
    tap_is_str(slice_str(kept), "kept", "each variable");
}

int main(int argc, char **argv)
{
    test_title(argc, argv);
    if (!mkdtemp(dir))
        tap_bail("mkdtemp");
    test_cgroup();
    tap_ok(proc_cpu_count() >= 1 && proc_cpu_count() <= sysconf(_SC_NPROCESSORS_CONF), "CPUs");
    tap_is_int(run(pin_child), 0, "pinning");
    tap_is_int(run(nofile_child), 0, "descriptors");
    uid_t uid = 99;
    gid_t gid = 99;
    tap_ok(proc_lookup_user("root", "", &uid, &gid) == 0 && uid == 0 && gid == 0, "root is known");
    tap_is_int(proc_lookup_user("no-such-user", NULL, &uid, &gid), -ERR_NOENT, "an unknown user");
    tap_is_int(proc_lookup_user("root", "no-such-group", &uid, &gid), -ERR_NOENT, "or group");
    tap_is_int(run(drop_child), 0, "privileges are dropped for good");
    tap_is_int(run(proc_die_with_parent), 0, "dying with the parent can be asked for");
    test_pidfile();
    test_daemon();
    test_notify();
    test_listen_fds();
    int fd = open("/dev/null", O_RDONLY);
    tap_ok(proc_close_on_exec(fd, true) == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) &&
               proc_close_on_exec(fd, false) == 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC) &&
               proc_nonblock(fd) == 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) &&
               proc_nonblock(-1) == -ERR_SYS,
           "descriptor flags");
    static const char *const made[] = {"a/b/cpu.max", "a/b",  "a/cpu.max", "a",
                                       "pid",         "link", "notify",    "."};
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        remove(path_of(made[i]));
    rmdir(dir);
    return tap_done();
}
