/* Watching over children: deaths, their causes in the log, respawning with back-off, the watchdog.
 */
#include "master/supervise.h"

#include "base/clock.h"
#include "base/err.h"
#include "master/job.h"
#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 1000
/* A look that comes this late means that the master itself stood still (stopped, suspended): nobody
 * else is to blame. */
#define LOOK_LATE_MS   2500
#define SPAWN_RETRY_MS 1000

static struct ev_timer supervise_timer;
static uint64_t supervise_last_ms;

static void supervise_respawn(struct ev_timer *t)
{
    struct child *c = CONTAINER(t, struct child, respawn);
    int rc = child_spawn(c);
    if (rc == 0) {
        LOG_NOTICE("worker_respawned", "%s of generation %u is pid %d now", child_name(c),
                   c->gen->number, (int)c->pid);
        return;
    }
    LOG_ERROR("worker_not_respawned", "%s of generation %u cannot be started: %s", child_name(c),
              c->gen->number, rc == -ERR_FULL ? "no free slot" : strerror(errno));
    ev_timer_set(&c->respawn, SPAWN_RETRY_MS, supervise_respawn);
}

/* The panic record, line by line: each is an entry that can be searched for. */
static void supervise_log_panic(const struct child *c, pid_t pid, char *panic)
{
    char *save = NULL;
    for (char *line = strtok_r(panic, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        LOG_ERROR("worker_panic", "%s pid %d: %s", child_name(c), (int)pid, line);
}

static void supervise_cause(int status, char *out, size_t n)
{
    if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        snprintf(out, n, "killed by signal %d (SIG%s)%s", WTERMSIG(status), name ? name : "?",
                 WCOREDUMP(status) ? ", core dumped" : "");
    } else {
        snprintf(out, n, "ended with status %d", WEXITSTATUS(status));
    }
}

/* Connections that the kernel gives to the sockets of a worker that is not there would wait for its
 * respawn, 10 s in a crash loop: the next one that serves takes them meanwhile. */
static void supervise_cover(struct generation *g)
{
    static struct worker_cover want[SHM_SLOTS];
    memset(want, 0, sizeof(want));
    for (uint32_t i = 0; i < g->nworker; i++) {
        uint32_t by = i;
        for (uint32_t k = 0; k < g->nworker && g->child[by].state != CHILD_SERVING; k++)
            by = (by + 1) % g->nworker;
        if (by != i)
            want[by].number[i / 64] |= (uint64_t)1 << i % 64;
    }
    for (uint32_t i = 0; i < g->nworker; i++) {
        struct child *c = &g->child[i];
        if (c->state != CHILD_SERVING || memcmp(&c->cover, &want[i], sizeof(want[i])) == 0)
            continue;
        c->cover = want[i];
        child_send(c, M_COVER);
    }
}

static void supervise_died(struct child *c, int status)
{
    static char panic[SLOT_PANIC_SIZE];
    char cause[128], text[768];
    struct generation *g = c->gen;
    pid_t pid = c->pid;
    bool expected =
        c->killed || c->state == CHILD_STOPPING || (c->state == CHILD_DRAINING && status == 0);
    supervise_cause(status, cause, sizeof(cause));
    child_bury(c, panic);
    snprintf(text, sizeof(text), "%s pid %d of generation %u %s%s%s", child_name(c), (int)pid,
             g->number, cause, c->failed[0] ? ": " : "", c->failed);
    if (expected) {
        LOG_INFO("worker_ended", "%s", text);
    } else {
        LOG_ERROR("worker_died", "%s", text);
        master.deaths.n++;
        master.deaths.wall_ms = clock_cached.wall_ms;
        snprintf(master.deaths.last, sizeof(master.deaths.last), "%.255s", text);
        for (char *p = master.deaths.last; *p; p++)
            *p = *p == '\n' ? ' ' : *p; /* it is a line of its own, in an upgrade too */
    }
    supervise_log_panic(c, pid, panic);
    if (g->state == GEN_STARTING) {
        reload_child_failed(g, c->failed[0] ? c->failed : text);
        return;
    }
    if (g->state != GEN_LIVE) {
        generation_check_gone(g);
        return;
    }
    if (!g->config) {
        LOG_ALERT("worker_lost",
                  "%s belongs to the program before the upgrade and cannot be replaced",
                  child_name(c));
        return;
    }
    supervise_cover(g);
    bool was = c->deaths.crash_loop;
    unsigned delay = deaths_add(&c->deaths, c->started_ms, clock_ms());
    if (c->deaths.crash_loop && !was)
        LOG_ALERT("crash_loop",
                  "%s of generation %u died more than %u times in %u s; next try in %u s",
                  child_name(c), g->number, DEATHS_BRAKE, DEATHS_WINDOW_MS / 1000, delay / 1000);
    ev_timer_set(&c->respawn, delay, supervise_respawn);
}

void supervise_reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *c = generation_find(pid);
        if (c)
            supervise_died(c, status);
        else if (!job_reaped(pid, status))
            welcome_reaped(&master.welcome, pid);
    }
}

void supervise_ready(struct child *c)
{
    struct generation *g = c->gen;
    if (g->state == GEN_STARTING) {
        reload_child_ready(g);
    } else if (g->state == GEN_LIVE) {
        child_set_state(c, CHILD_SERVING);
        child_send(c, M_ACCEPT);
        supervise_cover(g); /* after it: at no time does nobody accept */
        reload_settled();
    }
}

/* User and system time of a process in clock ticks; 0 when it cannot be told. */
static uint64_t supervise_cpu(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name before it may hold anything */
    unsigned long long user = 0, sys = 0;
    if (!p ||
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &sys) != 2)
        return 0;
    return user + sys;
}

static void supervise_rates(struct child *c, uint64_t gap_ms)
{
    if (c->slot == UINT32_MAX)
        return;
    uint64_t requests = atomic_load_explicit(&counter_row(master.segment, c->slot)->v[CTR_REQUESTS],
                                             memory_order_relaxed);
    uint64_t ticks = supervise_cpu(c->pid);
    static long hz;
    if (hz == 0)
        hz = sysconf(_SC_CLK_TCK);
    c->requests_per_s =
        requests >= c->requests ? (uint32_t)((requests - c->requests) * 1000 / gap_ms) : 0;
    c->cpu_milli = c->cpu_ticks > 0 && ticks >= c->cpu_ticks
                       ? (uint32_t)((ticks - c->cpu_ticks) * 1000000 / (uint64_t)hz / gap_ms)
                       : 0;
    c->requests = requests;
    c->cpu_ticks = ticks;
}

static void supervise_watch(struct child *c, uint64_t watchdog_ms, uint64_t start_ms, uint64_t now)
{
    struct slot_view v;
    if (c->state == CHILD_STARTING) {
        if (c->gen->state == GEN_LIVE && now - c->started_ms > start_ms) {
            LOG_ERROR("worker_not_ready", "%s pid %d did not report ready and is killed",
                      child_name(c), (int)c->pid);
            child_kill(c, SIGKILL);
        }
        return;
    }
    deaths_survived(&c->deaths, c->started_ms, now);
    if (c->slot == UINT32_MAX)
        return;
    slot_view(master.segment, c->slot, &v);
    if (v.heartbeat_ms == 0 || v.heartbeat_ms + watchdog_ms > now) {
        c->late = 0;
        return;
    }
    if (++c->late < 2)
        return;
    LOG_ALERT("worker_hangs",
              "%s pid %d of generation %u has not turned its loop for %llu ms and is killed",
              child_name(c), (int)c->pid, c->gen->number,
              (unsigned long long)(now - v.heartbeat_ms));
    c->late = 0;
    child_kill(c, SIGKILL);
}

static void supervise_look(struct ev_timer *t)
{
    uint64_t now = clock_ms(), gap = now - supervise_last_ms;
    bool stood = gap > LOOK_LATE_MS;
    const struct config *c = master.live ? master.live->config : NULL;
    uint64_t watchdog = c ? c->global.watchdog : 10000, start = c ? c->global.start_timeout : 30000;
    supervise_last_ms = now;
    ev_timer_set(t, LOOK_MS, supervise_look);
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            struct child *ch = &g->child[i];
            if (ch->pid == 0)
                continue;
            supervise_rates(ch, gap > 0 ? gap : 1);
            if (stood)
                ch->late = 0;
            else
                supervise_watch(ch, watchdog, start, now);
        }
    }
}

void supervise_init(void)
{
    supervise_last_ms = clock_ms();
    ev_timer_set(&supervise_timer, LOOK_MS, supervise_look);
}
