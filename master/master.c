/* The master process: start, signals, stop. */
#include "master/master.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "base/proc.h"
#include "master/certs.h"
#include "master/cli.h"
#include "master/fdstore.h"
#include "master/supervise.h"
#include "master/ticket.h"
#include "master/upgrade.h"
#include "master/wait.h"
#include "rpctl/path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Time for workers to end after a stop's time is over: they are told, then killed by the
 * generation's own limit. */
#define STOP_NOTIFY "STOPPING=1"

struct master master;
static struct ev master_signals = {.fd = -1};

int master_snapshot(struct conf_snapshot **ret)
{
    if (master.conf_path)
        return conf_snapshot_file(master.conf_path, ret);
    char to[64];
    struct buf text;
    buf_init(&text, 0);
    /* Before an upgraded program has taken the welcome origin over, its port does not matter:
     * nothing is opened yet. */
    snprintf(to, sizeof(to), "http://127.0.0.1:%u",
             master.welcome.on ? (unsigned)master.welcome.port : 1u);
    struct conf_quick start = master.start;
    if (!start.to.p)
        start.to = slice_str(to);
    int rc = config_quick(&start, &text);
    if (rc == 0)
        rc = conf_snapshot_text(master.start.to.p ? "<command line>" : "<default>",
                                buf_slice(&text), ret);
    else if (rc == -ERR_INVAL)
        fprintf(stderr, "rpd: " SLICE_FMT "\n", SLICE_ARG(buf_slice(&text)));
    buf_fini(&text);
    return rc;
}

void master_kick_all(void)
{
    static const uint64_t one = 1;
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            const struct child *c = &g->child[i];
            if (c->pid != 0 && c->slot != UINT32_MAX &&
                write(master.kick[c->slot], &one, sizeof(one)) < 0)
                continue; /* full: it is awake already */
        }
    }
}

unsigned master_reopen(struct buf *out)
{
    unsigned failed = logfile_reopen(&master.logfiles, out);
    LIST_EACH(it, &master.generations)
    generation_reopen(CONTAINER(it, struct generation, link));
    if (master.live && master.live->config)
        generation_use_log(master.live);
    LOG_NOTICE("reopened", "log files reopened%s%s", failed ? ", but not " : "",
               failed && out->p ? out->p : "");
    return failed;
}

static void master_level_send(void)
{
    log_set_level(master.level);
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            if (g->child[i].pid != 0)
                child_send(&g->child[i], M_LOG_LEVEL);
        }
    }
}

static void master_level_back(struct ev_timer *t)
{
    (void)t;
    if (!master.live || !master.live->config)
        return;
    master.level = master.live->config->global.log_level;
    LOG_NOTICE("log_level", "log level is %s again", log_level_name(master.level));
    master_level_send();
}

void master_set_level(enum log_level lv, uint64_t for_ms)
{
    ev_timer_stop(&master.level_timer);
    master.level = lv;
    if (for_ms > 0)
        ev_timer_set(&master.level_timer, for_ms, master_level_back);
    if (for_ms > 0)
        LOG_NOTICE("log_level", "log level is %s for %" PRIu64 " ms", log_level_name(lv), for_ms);
    else
        LOG_NOTICE("log_level", "log level is %s from now on", log_level_name(lv));
    master_level_send();
}

/* ---- Stop ---- */

void master_check_done(void)
{
    if (master.stopping && list_empty(&master.generations))
        master.done = true;
}

static void master_stop_all(void)
{
    ev_timer_stop(&master.stop_timer);
    LIST_EACH_SAFE(it, tmp, &master.generations)
    generation_stop(CONTAINER(it, struct generation, link));
    master_check_done();
}

static void master_on_stop_timer(struct ev_timer *t)
{
    (void)t;
    LOG_WARN("stop_timeout", "the time for a graceful stop is over");
    master_stop_all();
}

void master_stop(bool now)
{
    if (!master.stopping) {
        LOG_NOTICE("stopping", now ? "stopping now" : "stopping gracefully");
        proc_sd_notify(STOP_NOTIFY);
        master.stopping = true;
        uint64_t ms =
            master.live && master.live->config ? master.live->config->global.stop_timeout : 30000;
        reload_abort("rpd is stopping");
        listener_release_held(&master.listeners);
        if (!now) {
            ev_timer_set(&master.stop_timer, ms, master_on_stop_timer);
            LIST_EACH_SAFE(it, tmp, &master.generations)
            {
                struct generation *g = CONTAINER(it, struct generation, link);
                if (g->state == GEN_LIVE || g->state == GEN_DRAINING)
                    generation_drain(g, NULL, ms, ms);
            }
        }
    }
    if (now && !master.now) {
        master.now = true;
        master_stop_all();
    }
    master_check_done();
}

/* ---- Signals ---- */

static void master_on_signal(struct ev *e, uint32_t events)
{
    struct signalfd_siginfo s;
    struct buf b;
    (void)events;
    if (read(e->fd, &s, sizeof(s)) != sizeof(s))
        return;
    if (s.ssi_signo != SIGCHLD)
        LOG_INFO("signal", "signal %u from pid %d", s.ssi_signo, (int)s.ssi_pid);
    switch (s.ssi_signo) {
    case SIGCHLD:
        supervise_reap();
        wait_check();
        break;
    case SIGHUP:
        if (!master.stopping)
            reload_request(NULL);
        break;
    case SIGUSR1:
        buf_init(&b, 4096);
        master_reopen(&b);
        buf_fini(&b);
        break;
    case SIGUSR2:
        upgrade_request(NULL);
        break;
    case SIGQUIT:
        master_stop(false);
        break;
    case SIGTERM:
    case SIGINT:
        master_stop(true);
        break;
    default:
        break;
    }
}

static int master_signals_open(void)
{
    static const int taken[] = {SIGCHLD, SIGHUP,  SIGUSR1, SIGUSR2,
                                SIGQUIT, SIGTERM, SIGINT,  SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        sigaddset(&set, taken[i]);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -ERR_SYS : ev_add(&master_signals, fd, EPOLLIN, master_on_signal);
}

/* ---- Start ---- */

/* The verdict of the start; also of every later transaction, which is told to systemd only. */
void master_started(bool ok, struct slice text)
{
    static bool told;
    char line[600];
    if (master.live) {
        snprintf(line, sizeof(line), "READY=1\nMAINPID=%d\nSTATUS=generation %u%s", (int)getpid(),
                 master.live->number, ok ? "" : "; the last reload failed");
        proc_sd_notify(line);
    }
    if (!ok && !master.live && !master.stopping) {
        /* Workers of a start that failed are still on their way out; wait for them. */
        fprintf(stderr, SLICE_FMT, SLICE_ARG(text));
        master.status = PROTO_REFUSED;
        master_stop(true);
        return;
    }
    if (!ok || told)
        return;
    told = true;
    if (master.quick && master.upgrades == 0)
        cli_welcome();
    if (master.verdict_fd >= 0) {
        proc_daemon_ready(master.verdict_fd, 0);
        master.verdict_fd = -1;
    }
}

static int master_complain(int status, const char *what, const char *name)
{
    fprintf(stderr, "rpd: %s%s%s: %s\n", what, name[0] ? " " : "", name, strerror(errno));
    return status;
}

/* Socket and pid file: as configured; when nobody chose, an rpd that is not the system's has them
 * in the user's own place. */
static int master_paths(const struct conf_global_keys *g)
{
    char dir[PATH_SIZE];
    static const char system_pid[] = "/run/rpd.pid";
    bool own = master.quick || geteuid() != 0;
    bool socket_default = slice_eq(g->control_socket, SLICE(PATH_SYSTEM_SOCKET));
    bool pid_default = slice_eq(g->pid_file, slice_str(system_pid));
    if (g->control_socket.n >= sizeof(master.socket_path) ||
        g->pid_file.n >= sizeof(master.pid_path)) {
        fprintf(stderr, "rpd: control_socket or pid_file is too long\n");
        return -ERR_RANGE;
    }
    snprintf(master.socket_path, sizeof(master.socket_path), SLICE_FMT,
             SLICE_ARG(g->control_socket));
    snprintf(master.pid_path, sizeof(master.pid_path), SLICE_FMT, SLICE_ARG(g->pid_file));
    if (!own || (!socket_default && !pid_default))
        return 0;
    if (path_runtime(true, dir) < 0) {
        fprintf(
            stderr,
            "rpd: %s is not a directory of yours with mode 0700; set control_socket and pid_file\n",
            dir);
        return -ERR_SYS;
    }
    if (socket_default)
        snprintf(master.socket_path, sizeof(master.socket_path), "%.90s/rpd.sock", dir);
    if (pid_default)
        snprintf(master.pid_path, sizeof(master.pid_path), "%.90s/rpd.pid", dir);
    return 0;
}

static int master_user(const struct conf_global_keys *g)
{
    master.uid = (uid_t)-1;
    master.gid = (gid_t)-1;
    if (geteuid() != 0)
        return 0;
    const char *user = g->user.n ? g->user.p : "nobody";
    if (proc_lookup_user(user, g->group.n ? g->group.p : "", &master.uid, &master.gid) == 0)
        return 0;
    fprintf(stderr, "rpd: there is no user \"%s\" or group \"%s\"\n", user,
            g->group.n ? g->group.p : "");
    return -ERR_NOENT;
}

static int master_kicks(void)
{
    for (size_t i = 0; i < SHM_SLOTS; i++) {
        if (master.kick[i] >= 0)
            continue;
        master.kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (master.kick[i] < 0)
            return -ERR_SYS;
    }
    return 0;
}

static int master_pidfile(void)
{
    pid_t other = 0;
    if (master.pid_path[0] == '\0')
        return 0;
    master.pid_fd = proc_pidfile(master.pid_path, &other);
    if (master.pid_fd == -ERR_EXIST) {
        fprintf(stderr, "rpd: already running as pid %d (%s)\n", (int)other, master.pid_path);
        return PROTO_NOT_RUNNING;
    }
    return master.pid_fd < 0 ? master_complain(PROTO_REFUSED, "cannot write", master.pid_path) : 0;
}

/* What is needed before the first worker, in an order that makes failures cheap. Exit status, 0 =
 * go on. */
static int master_prepare(const struct config *c, bool inherited)
{
    master.nofile = proc_raise_nofile(c->global.rlimit_nofile);
    master.level = c->global.log_level;
    log_set_level(master.level);
    if (!master.user_known && master_user(&c->global) < 0)
        return PROTO_REFUSED;
    if (!inherited) {
        int status = master_pidfile();
        if (status != 0)
            return status;
        if (segment_create(&master.segment) < 0)
            return master_complain(PROTO_REFUSED, "cannot make the shared segment", "");
        if (master.socket_path[0] && control_open() < 0)
            return master_complain(PROTO_REFUSED, "cannot listen on control socket",
                                   master.socket_path);
    }
    if (master_kicks() < 0)
        return master_complain(PROTO_REFUSED, "cannot make an eventfd", "");
    control_configure(c);
    return 0;
}

static void master_fini(void)
{
    while (!list_empty(&master.stop_callers)) {
        struct conn *c = CONTAINER(master.stop_callers.next, struct conn, wait);
        conn_say(c, PROTO_DONE, "ok stopped");
    }
    certs_end();
    welcome_stop(&master.welcome);
    if (master.pid_fd >= 0) {
        unlink(master.pid_path); /* while it is locked: nobody else's */
        close(master.pid_fd);
    }
    control_close();
    listener_close_all(&master.listeners);
    ev_timer_stop(&master.level_timer);
    ticket_stop();
    if (master.segment)
        segment_close(&master.segment);
    for (size_t i = 0; i < SHM_SLOTS; i++) {
        if (master.kick[i] >= 0)
            close(master.kick[i]);
    }
    ev_close(&master_signals);
    ev_fini();
}

/* The configuration as it is now, for what the master itself needs; its diagnostics go to stderr.
 */
static struct config *master_load(void)
{
    struct conf_snapshot *s = NULL;
    struct conf_diags d;
    struct config *c = NULL;
    struct buf text;
    int rc = master_snapshot(&s);
    if (rc < 0) {
        if (!master.quick || rc != -ERR_INVAL) /* told already */
            fprintf(stderr, "rpd: %s\n", err_text(rc));
        return NULL;
    }
    buf_init(&text, 0);
    conf_diags_init(&d);
    if (config_load(s, &d, &c) < 0) {
        conf_diags_print(&d, &text);
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_slice(&text)));
        c = NULL;
    }
    conf_diags_fini(&d);
    buf_fini(&text);
    conf_snapshot_free(&s);
    return c;
}

static int master_begin(const struct config *c, int inherit)
{
    struct conn *caller = NULL;
    if (inherit < 0 && !master.foreground && proc_daemonize(&master.verdict_fd) < 0)
        return master_complain(PROTO_REFUSED, "cannot go to the background", "");
    if (ev_init() < 0 || master_signals_open() < 0)
        return master_complain(PROTO_REFUSED, "cannot start", "");
    proc_set_title("rpd: master");
    log_set_who("master");
    if (inherit >= 0) {
        int rc = upgrade_inherit(inherit, &caller);
        if (rc < 0) {
            fprintf(stderr, "rpd: cannot take over from the old program: %s\n", err_text(rc));
            return PROTO_REFUSED;
        }
    }
    int status = c ? master_prepare(c, inherit >= 0) : master_kicks() < 0 ? PROTO_REFUSED : 0;
    if (status != 0)
        return status;
    if (master.welcome.on)
        welcome_start(&master.welcome);
    supervise_init();
    /* Children of the old program may have died while nobody waited. */
    supervise_reap();
    LOG_NOTICE("start", "rpd is starting, pid %d, %" PRIu64 " file descriptors per process",
               (int)getpid(), master.nofile);
    reload_request(caller);
    while (!master.done)
        ev_turn();
    LOG_NOTICE("stopped", "rpd has stopped");
    return master.status;
}

int master_run(int inherit)
{
    list_init(&master.generations);
    list_init(&master.listeners);
    list_init(&master.logfiles);
    list_init(&master.caches);
    list_init(&master.stop_callers);
    reload_init();
    clock_update();
    master.pid_fd = master.verdict_fd = master.old_log_fd = -1;
    master.started_ms = clock_ms();
    master.started_wall_ms = clock_cached.wall_ms;
    for (size_t i = 0; i < SHM_SLOTS; i++)
        master.kick[i] = -1;
    if (inherit < 0)
        fdstore_take();
    struct config *c = master_load();
    if (!c && inherit < 0)
        return PROTO_REFUSED;
    int status = PROTO_REFUSED;
    if (!c || master_paths(&c->global) == 0 || inherit >= 0)
        status = master_begin(c, inherit);
    config_free(&c);
    master_fini();
    if (master.verdict_fd >= 0)
        proc_daemon_ready(master.verdict_fd, status);
    return status;
}
