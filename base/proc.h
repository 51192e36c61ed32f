/* Process helpers: privileges, limits, CPUs, pidfile, daemon, sd_notify, titles. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include "base/slice.h"

#include <sys/types.h>

/* Usable CPUs: min(affinity mask, ceil(cgroup v2 cpu.max quota)), >= 1 */
int proc_cpu_count(void);
/* To the nth CPU of the inherited mask, modulo its size; the CPU or -ERR_SYS */
int proc_pin(int nth);
/* Raises soft (and hard, as root) RLIMIT_NOFILE, never lowers it; returns what holds.
 * want 0 = the hard limit, but at most 1M; 1M as root. */
uint64_t proc_raise_nofile(uint64_t want);
/* Least limit of a cgroup v2 and its parents, 0 = none. root is where cgroup2 is mounted, path as
 * in /proc/self/cgroup. CPUs are rounded up. */
uint64_t proc_cgroup_cpus(const char *root, const char *path);
/* Resolves user/group names; group empty = the user's own. -ERR_NOENT. */
int proc_lookup_user(const char *user, const char *group, uid_t *ret_uid, gid_t *ret_gid);
/* setgroups, setresgid, setresuid, no way back is verified; no capabilities, PR_SET_NO_NEW_PRIVS,
 * not dumpable. Without root only the ids the process has already can be asked for. -ERR_SYS: do
 * not go on. */
int proc_drop(uid_t uid, gid_t gid);
/* Not used for workers: they drain; for preflight children */
int proc_die_with_parent(void);
/* Opens and locks (flock) a pidfile and writes the pid. fd, -ERR_EXIST (other holder's pid in
 * *ret_pid, 0 = unknown), -ERR_SYS. The lock belongs to the open file: a forked child has to close
 * the fd, or it holds the lock on. */
int proc_pidfile(const char *path, pid_t *ret_pid);
int proc_pidfile_write(int fd);
/* Detaches: double fork; the first process waits on a socket for the verdict of the last.
 * Returns in the daemon only, with the write end; proc_daemon_ready(fd, status) lets the starter
 * exit with status and, for status 0, leaves the terminal (stdout and stderr become /dev/null).
 * Without a verdict the starter exits with 1. The working directory stays, because paths of the
 * command line may be relative to it. */
int proc_daemonize(int *ret_verdict_fd);
void proc_daemon_ready(int verdict_fd, int status);
/* NOTIFY_SOCKET datagram; 0 when unset, 1 when sent, -ERR_SYS */
int proc_sd_notify(const char *state);
/* The same with a descriptor, which stays the caller's. */
int proc_sd_notify_fd(const char *state, int fd);
/* Descriptors that were passed to this very process (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), at
 * most max: from *ret_first on. They are closed on exec from now on. ret_names: what names each, ""
 * when nothing does; static, until the next call. */
unsigned proc_sd_listen_fds(int *ret_first, const char **ret_names, unsigned max);
void proc_set_title(const char *title); /* prctl name + argv area */
/* Makes room for titles: argv's strings and the environment move to the heap. First thing in main.
 */
void proc_init_title(int argc, char **argv);
int proc_close_on_exec(int fd, bool on);
int proc_nonblock(int fd);

#endif
