/* Process helpers: CPUs and limits, privileges, pidfile, daemon, notification, titles. */
#include "base/proc.h"

#include "base/asan.h"
#include "base/err.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROC_CGROUP_ROOT "/sys/fs/cgroup"
#define PROC_NOFILE_MAX  ((uint64_t)1 << 20)
#define PROC_CPU_SETS    8 /* 8192 CPUs, the most a Linux kernel can be built for */
#define PROC_PATH_MAX    4096
#define PROC_LISTEN_FD   3 /* the first of those that systemd passes */

extern char **environ;

/* The area of argv and environ that titles are written into. */
static char *proc_title_area;
static size_t proc_title_size;
static char **proc_environ; /* our copy stays known after setenv(3) has moved on to its own */

/* The affinity mask at the first look: pinning narrows the process's own. */
static cpu_set_t proc_cpus[PROC_CPU_SETS];
static bool proc_cpus_known;

static void proc_read_cpus(void)
{
    if (proc_cpus_known)
        return;
    if (sched_getaffinity(0, sizeof(proc_cpus), proc_cpus) < 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        for (size_t i = 0; i < (n > 0 ? (size_t)n : 1); i++)
            CPU_SET_S(i, sizeof(proc_cpus), proc_cpus);
    }
    proc_cpus_known = true;
}

/* Reads a small file of /proc or /sys. Its text without the final newline, or SLICE_NONE. */
static struct slice proc_read(const char *path, char *room, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SLICE_NONE;
    ssize_t n = read(fd, room, size);
    close(fd);
    if (n <= 0)
        return SLICE_NONE;
    if (room[n - 1] == '\n')
        n--;
    return slice_of(room, (size_t)n);
}

/* Calls fn with the text of `file` of a cgroup and of each of its parents; the least answer that
 * is not 0. */
static uint64_t proc_cgroup_min(const char *root, const char *path, const char *file,
                                uint64_t (*fn)(struct slice text))
{
    char dir[PROC_PATH_MAX], full[PROC_PATH_MAX + 64], text[256];
    uint64_t least = 0;
    /* A process outside its cgroup namespace's root sees "/.."; only the root is known then. */
    int n = snprintf(dir, sizeof(dir), "%s", strstr(path, "/..") ? "/" : path);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return 0;
    for (;;) {
        size_t len = strlen(dir);
        while (len > 0 && dir[len - 1] == '/')
            dir[--len] = '\0';
        n = snprintf(full, sizeof(full), "%s%s/%s", root, dir, file);
        if (n > 0 && (size_t)n < sizeof(full)) {
            struct slice s = proc_read(full, text, sizeof(text));
            uint64_t v = s.n > 0 ? fn(s) : 0;
            if (v > 0 && (least == 0 || v < least))
                least = v;
        }
        char *slash = strrchr(dir, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

/* cpu.max: "QUOTA PERIOD" in microseconds, or "max PERIOD". */
static uint64_t proc_cpu_max(struct slice text)
{
    struct slice quota, period;
    uint64_t q, p;
    if (!slice_next(&text, ' ', &quota) || !slice_next(&text, ' ', &period))
        return 0;
    if (num_u64(quota, &q) < 0 || num_u64(period, &p) < 0 || p == 0)
        return 0;
    uint64_t cpus = q / p + (q % p > 0 ? 1 : 0);
    return cpus > 0 ? cpus : 1;
}

uint64_t proc_cgroup_cpus(const char *root, const char *path)
{
    return proc_cgroup_min(root, path, "cpu.max", proc_cpu_max);
}

/* The path of the v2 hierarchy (the line "0::PATH") of this process. */
static bool proc_own_cgroup(char *ret, size_t size)
{
    char text[PROC_PATH_MAX];
    struct slice rest = proc_read("/proc/self/cgroup", text, sizeof(text));
    struct slice line;
    while (slice_next(&rest, '\n', &line)) {
        if (slice_starts(line, SLICE("0::")) && line.n - 3 < size) {
            memcpy(ret, line.p + 3, line.n - 3);
            ret[line.n - 3] = '\0';
            return true;
        }
    }
    return false;
}

int proc_cpu_count(void)
{
    char path[PROC_PATH_MAX];
    proc_read_cpus();
    int cpus = CPU_COUNT_S(sizeof(proc_cpus), proc_cpus);
    uint64_t quota =
        proc_own_cgroup(path, sizeof(path)) ? proc_cgroup_cpus(PROC_CGROUP_ROOT, path) : 0;
    if (quota > 0 && quota < (uint64_t)cpus)
        cpus = (int)quota;
    return cpus > 0 ? cpus : 1;
}

int proc_pin(int nth)
{
    proc_read_cpus();
    int cpus = CPU_COUNT_S(sizeof(proc_cpus), proc_cpus);
    if (nth < 0 || cpus == 0)
        return -ERR_INVAL;
    int left = nth % cpus;
    for (size_t i = 0; i < sizeof(proc_cpus) * 8; i++) {
        if (!CPU_ISSET_S(i, sizeof(proc_cpus), proc_cpus) || left-- > 0)
            continue;
        cpu_set_t one[PROC_CPU_SETS];
        CPU_ZERO_S(sizeof(one), one);
        CPU_SET_S(i, sizeof(one), one);
        return sched_setaffinity(0, sizeof(one), one) < 0 ? -ERR_SYS : (int)i;
    }
    return -ERR_INTERNAL;
}

uint64_t proc_raise_nofile(uint64_t want)
{
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) < 0)
        return 0;
    bool root = geteuid() == 0;
    if (want == 0)
        want = root || now.rlim_max > PROC_NOFILE_MAX ? PROC_NOFILE_MAX : now.rlim_max;
    if (now.rlim_cur >= want)
        return now.rlim_cur;
    struct rlimit next = {want, now.rlim_max > want ? now.rlim_max : want};
    if (root && setrlimit(RLIMIT_NOFILE, &next) == 0)
        return next.rlim_cur;
    /* Not root, or above fs.nr_open: what the hard limit leaves. */
    next.rlim_max = now.rlim_max;
    next.rlim_cur = want < now.rlim_max ? want : now.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &next) == 0 ? next.rlim_cur : now.rlim_cur;
}

int proc_lookup_user(const char *user, const char *group, uid_t *ret_uid, gid_t *ret_gid)
{
    errno = 0;
    const struct passwd *pw = getpwnam(user);
    if (!pw)
        return errno == ENOMEM ? -ERR_NOMEM : -ERR_NOENT;
    uid_t uid = pw->pw_uid;
    gid_t gid = pw->pw_gid;
    if (group && *group) {
        const struct group *gr = getgrnam(group);
        if (!gr)
            return -ERR_NOENT;
        gid = gr->gr_gid;
    }
    *ret_uid = uid;
    *ret_gid = gid;
    return 0;
}

/* Empty permitted, effective and inheritable sets, whatever the ids were before. */
static int proc_drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return syscall(SYS_capset, &head, data) < 0 ? -ERR_SYS : 0;
}

int proc_drop(uid_t uid, gid_t gid)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    if (geteuid() == 0 && setgroups(1, &gid) < 0)
        return -ERR_SYS;
    if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -ERR_SYS;
    if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
        return -ERR_SYS;
    if (r != uid || e != uid || s != uid || rg != gid || eg != gid || sg != gid)
        return -ERR_SYS;
    if (uid != 0) {
        if (proc_drop_capabilities() < 0)
            return -ERR_SYS;
        if (setuid(0) == 0 || seteuid(0) == 0 || (gid != 0 && setgid(0) == 0))
            return -ERR_SYS;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -ERR_SYS;
    /* Neither core files nor ptrace by other processes of the user. The leak checker of a
     * sanitized build traces its own process and needs the opposite. */
    return prctl(PR_SET_DUMPABLE, BASE_ASAN, 0, 0, 0) < 0 ? -ERR_SYS : 0;
}

int proc_die_with_parent(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -ERR_SYS : 0;
}

/* The pid in a pidfile another process holds, 0 when it says nothing sensible. */
static pid_t proc_pidfile_read(int fd)
{
    char text[32];
    uint64_t pid;
    ssize_t n = pread(fd, text, sizeof(text), 0);
    if (n > 0 && text[n - 1] == '\n')
        n--;
    if (n <= 0 || num_u64(slice_of(text, (size_t)n), &pid) < 0 || pid > INT32_MAX)
        return 0;
    return (pid_t)pid;
}

int proc_pidfile(const char *path, pid_t *ret_pid)
{
    /* Another process may remove the file between open and lock; then it is tried again. */
    for (int attempt = 0; attempt < 100; attempt++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        if (fd < 0)
            return -ERR_SYS;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int rc = errno == EWOULDBLOCK ? -ERR_EXIST : -ERR_SYS;
            if (rc == -ERR_EXIST && ret_pid)
                *ret_pid = proc_pidfile_read(fd);
            close(fd);
            return rc;
        }
        struct stat here, there;
        if (fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino &&
            here.st_dev == there.st_dev) {
            int rc = proc_pidfile_write(fd);
            if (rc == 0)
                return fd;
            close(fd);
            return rc;
        }
        close(fd);
    }
    return -ERR_SYS;
}

int proc_pidfile_write(int fd)
{
    char text[32];
    size_t n = num_fmt_u64(text, (uint64_t)getpid());
    text[n++] = '\n';
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, n, 0) != (ssize_t)n)
        return -ERR_SYS;
    return 0;
}

/* Points the descriptors from..to at /dev/null. */
static int proc_null_fds(int from, int to)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -ERR_SYS;
    for (int fd = from; fd <= to; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    return 0;
}

/* The starter's end: waits for the verdict and exits with it. */
static _Noreturn void proc_await_verdict(int fd, pid_t child)
{
    unsigned char status = 1;
    ssize_t n;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    do
        n = read(fd, &status, 1);
    while (n < 0 && errno == EINTR);
    _exit(n == 1 ? status : 1);
}

int proc_daemonize(int *ret_verdict_fd)
{
    int fds[2];
    /* A pipe in use, a socket in kind: a starter that is gone must not raise SIGPIPE here. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -ERR_SYS;
    fflush(NULL); /* or each process would write what is buffered */
    pid_t child = fork();
    if (child < 0) {
        close(fds[0]);
        close(fds[1]);
        return -ERR_SYS;
    }
    if (child > 0) {
        close(fds[1]);
        proc_await_verdict(fds[0], child);
    }
    close(fds[0]);
    /* A session without a terminal, and a member that cannot acquire one as its leader. */
    setsid();
    child = fork();
    if (child != 0)
        _exit(child < 0);
    if (proc_null_fds(0, 0) < 0)
        _exit(1);
    *ret_verdict_fd = fds[1];
    return 0;
}

void proc_daemon_ready(int verdict_fd, int status)
{
    unsigned char byte = (unsigned char)status;
    ssize_t n;
    if (status == 0)
        proc_null_fds(1, 2);
    do
        n = send(verdict_fd, &byte, 1, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    close(verdict_fd);
}

int proc_sd_notify(const char *state)
{
    return proc_sd_notify_fd(state, -1);
}

int proc_sd_notify_fd(const char *state, int passed)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || !*path)
        return 0;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || n >= sizeof(un.sun_path))
        return -ERR_SYS;
    memcpy(un.sun_path, path, n);
    if (path[0] == '@')
        un.sun_path[0] = '\0'; /* the abstract namespace */
    struct iovec iov = {.iov_len = strlen(state)};
    memcpy(&iov.iov_base, &state, sizeof(state)); /* an iovec has no const */
    struct msghdr h = {.msg_name = &un,
                       .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n),
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (passed >= 0) {
        h.msg_control = control.bytes;
        h.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed, sizeof(int));
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -ERR_SYS;
    ssize_t sent = sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    return sent < 0 ? -ERR_SYS : 1;
}

static uint64_t proc_env_number(const char *name)
{
    const char *text = getenv(name);
    uint64_t n;
    return text && num_u64(slice_str(text), &n) == 0 ? n : 0;
}

unsigned proc_sd_listen_fds(int *ret_first, const char **ret_names, unsigned max)
{
    const uint64_t pid = proc_env_number("LISTEN_PID"), count = proc_env_number("LISTEN_FDS");
    const char *env = getenv("LISTEN_FDNAMES");
    static char *names; /* of any length: what is cut off is the name of another one */
    unsigned n = 0;
    free(names);
    names = strdup(env ? env : "");
    *ret_first = PROC_LISTEN_FD;
    if (pid != (uint64_t)getpid() || !names)
        return 0;
    for (char *at = names; n < count && n < max; n++) {
        if (proc_close_on_exec(PROC_LISTEN_FD + (int)n, true) < 0)
            break;
        char *end = strchrnul(at, ':');
        ret_names[n] = at;
        at = *end ? end + 1 : end;
        *end = '\0';
    }
    return n;
}

void proc_init_title(int argc, char **argv)
{
    char *start = argc > 0 ? argv[0] : NULL, *end = start;
    if (!start || proc_environ)
        return;
    /* The kernel lays the strings out one behind the other; what is contiguous is ours. */
    for (int i = 0; i < argc; i++) {
        if (argv[i] == end)
            end += strlen(argv[i]) + 1;
    }
    for (char **e = environ; e && *e; e++) {
        if (*e == end)
            end += strlen(*e) + 1;
    }
    /* Copies first: afterwards nothing may point into the area. They live as long as we do. */
    size_t count = 0;
    while (environ && environ[count])
        count++;
    char **copy = calloc(count + 1, sizeof(*copy));
    if (!copy)
        return;
    for (size_t i = 0; i < count; i++) {
        copy[i] = strdup(environ[i]);
        if (!copy[i])
            return;
    }
    for (int i = 0; i < argc; i++) {
        char *own = strdup(argv[i]);
        if (!own)
            return;
        argv[i] = own;
    }
    environ = proc_environ = copy;
    proc_title_area = start;
    proc_title_size = (size_t)(end - start);
}

void proc_set_title(const char *title)
{
    char name[16];
    snprintf(name, sizeof(name), "%s", title);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (proc_title_size < 2)
        return;
    size_t n = strlen(title);
    if (n > proc_title_size - 1)
        n = proc_title_size - 1;
    memcpy(proc_title_area, title, n);
    memset(proc_title_area + n, 0, proc_title_size - n);
}

int proc_close_on_exec(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return -ERR_SYS;
    flags = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
    return fcntl(fd, F_SETFD, flags) < 0 ? -ERR_SYS : 0;
}

int proc_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -ERR_SYS;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -ERR_SYS : 0;
}
