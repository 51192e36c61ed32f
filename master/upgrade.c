/* Binary upgrade: the master executes the new program in its own place. */
#include "master/upgrade.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/num.h"
#include "base/proc.h"
#include "master/job.h"
#include "master/master.h"
#include "master/ticket.h"
#include "master/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define UPGRADE_LIMIT_MS 30000
#define UPGRADE_TEXT_MAX ((size_t)4 << 20)
#define UPGRADE_WORDS    10
#define UPGRADE_OPTION   "--inherit"

static struct {
    bool running;
    struct conn *conn;
} upgrade;

/* ---- The old program ---- */

static void upgrade_refuse(const char *why)
{
    struct conn *c = upgrade.conn;
    upgrade.running = false;
    upgrade.conn = NULL;
    LOG_ERROR("upgrade_failed", "%s", why);
    if (c)
        conn_say(c, PROTO_REFUSED, "error: %s; kept the running program", why);
}

/* Descriptors that live on over execve, and on the way back if it fails. */
static void upgrade_keep(bool on)
{
    proc_close_on_exec(segment_fd(master.segment), !on);
    for (size_t i = 0; i < SHM_SLOTS; i++)
        proc_close_on_exec(master.kick[i], !on);
    LIST_EACH(it, &master.listeners)
    {
        const struct listener *l = CONTAINER(it, struct listener, link);
        for (uint32_t i = 0; i < l->n; i++)
            proc_close_on_exec(l->fd[i], !on);
    }
    caches_pass(on);
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            if (g->child[i].channel.fd >= 0)
                proc_close_on_exec(g->child[i].channel.fd, !on);
        }
    }
    if (master.pid_fd >= 0)
        proc_close_on_exec(master.pid_fd, !on);
    if (control_fd() >= 0)
        proc_close_on_exec(control_fd(), !on);
    if (master.welcome.on)
        proc_close_on_exec(master.welcome.fd, !on);
    if (log_fd() > STDERR_FILENO)
        proc_close_on_exec(log_fd(), !on);
    if (upgrade.conn)
        proc_close_on_exec(control_conn_fd(upgrade.conn), !on);
}

/* The description: a word, then numbers; a text, as a listener's address, ends its line. One line
 * per thing, so that it can be read by eye and by a program that is older or newer: lines it does
 * not know are skipped. */
static void upgrade_describe(struct buf *b)
{
    buf_printf(b,
               "rpd-upgrade 1\nsegment %d\ncontrol %d\npidfile %d\nupgrades %u\nstarted %" PRIu64
               " %" PRId64 "\n",
               segment_fd(master.segment), control_fd(), master.pid_fd, master.upgrades + 1,
               master.started_ms, master.started_wall_ms);
    /* What only a restart changes comes from here and not from the configuration, which may have
     * changed, or be unreadable when the new program starts. */
    buf_printf(b, "user %" PRId64 " %" PRId64 "\nsocketpath %s\npidpath %s\n",
               master.uid == (uid_t)-1 ? -1 : (int64_t)master.uid,
               master.gid == (gid_t)-1 ? -1 : (int64_t)master.gid, master.socket_path,
               master.pid_path);
    if (master.deaths.n)
        buf_printf(b, "deaths %u %" PRId64 " =%s\n", master.deaths.n, master.deaths.wall_ms,
                   master.deaths.last);
    if (log_fd() > STDERR_FILENO)
        buf_printf(b, "log %d\n", log_fd());
    for (size_t i = 0; i < SHM_SLOTS; i++)
        buf_printf(b, "kick %zu %d\n", i, master.kick[i]);
    if (master.welcome.on)
        buf_printf(b, "welcome %d %d\n", master.welcome.fd, (int)master.welcome.pid);
    ticket_describe(master.segment, b);
    caches_describe(b);
    LIST_EACH(it, &master.listeners)
    {
        const struct listener *l = CONTAINER(it, struct listener, link);
        buf_printf(b, "listener %u %u %u %u %s\n", l->n, l->listening, l->listened_backlog, l->mode,
                   l->text);
        for (uint32_t i = 0; i < l->n; i++)
            buf_printf(b, "socket %d\n", l->fd[i]);
    }
    LIST_EACH(it, &master.generations)
    {
        const struct generation *g = CONTAINER(it, struct generation, link);
        buf_printf(b, "generation %u %d %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", g->number,
                   (int)g->state, generation_living(g), g->since_ms, g->drain.request_ms,
                   g->drain.tunnel_ms);
        for (uint32_t i = 0; i < g->nchild; i++) {
            const struct child *c = &g->child[i];
            if (c->pid != 0)
                buf_printf(b, "child %u %d %u %d %d %u %" PRIu64 "\n", c->number, (int)c->pid,
                           c->slot, c->channel.fd, (int)c->state, c->pending, c->started_ms);
        }
    }
    if (upgrade.conn)
        buf_printf(b, "caller %d %u\n", control_conn_fd(upgrade.conn), upgrade.conn->req.flags);
    buf_str(b, "end\n");
}

static int upgrade_memfd(void)
{
    struct buf b;
    int fd = memfd_create("rpd-upgrade", 0);
    if (fd < 0)
        return -ERR_SYS;
    buf_init(&b, UPGRADE_TEXT_MAX);
    upgrade_describe(&b);
    bool ok = !b.failed && write(fd, b.p, b.n) == (ssize_t)b.n;
    if (b.p)
        explicit_bzero(b.p, b.n); /* ticket keys are in it */
    buf_fini(&b);
    if (ok)
        return fd;
    close(fd);
    return -ERR_SYS;
}

static void upgrade_exec(void)
{
    char number[16];
    if (reload_running() || master.stopping || !master.live) {
        upgrade_refuse("a reload or stop has begun meanwhile");
        return;
    }
    if (verbs_cache_busy()) { /* the new program would not know whose its slot is */
        upgrade_refuse("rpctl cache is at work; try again");
        return;
    }
    int fd = upgrade_memfd();
    char **argv = calloc((size_t)master.argc + 3, sizeof(*argv));
    if (fd < 0 || !argv) {
        if (fd >= 0)
            close(fd);
        free(argv);
        upgrade_refuse("cannot write down the state");
        return;
    }
    static char option[] = UPGRADE_OPTION;
    snprintf(number, sizeof(number), "%d", fd);
    int n = 0;
    argv[n++] = master.argv[0];
    argv[n++] = option;
    argv[n++] = number;
    for (int i = 1; i < master.argc; i++)
        argv[n++] = master.argv[i];
    LOG_NOTICE("upgrade_exec", "becoming %s", master.exe);
    proc_sd_notify("RELOADING=1");
    upgrade_keep(true);
    execv(master.exe, argv);
    char why[128];
    snprintf(why, sizeof(why), "cannot run the new program: %s", strerror(errno));
    upgrade_keep(false);
    close(fd);
    free(argv);
    proc_sd_notify("READY=1");
    upgrade_refuse(why);
}

static void upgrade_checked(struct job *j)
{
    if (j->status == 0) {
        upgrade_exec();
        return;
    }
    char why[1024];
    struct slice text = slice_trim(buf_slice(&j->text));
    size_t n = text.n < 800 ? text.n : 800;
    while (n > 0 && text.p[n - 1] == '\n')
        n--;
    snprintf(why, sizeof(why),
             "the new program does not accept the configuration (status %d): %.*s", j->status,
             (int)n, text.p);
    upgrade_refuse(why);
}

void upgrade_request(struct conn *conn)
{
    static char test[] = "-t";
    if (upgrade.running || reload_running() || master.stopping || !master.live) {
        if (conn)
            conn_say(conn, PROTO_REFUSED, "busy with %s; try again",
                     upgrade.running ? "an upgrade" : "a reload, start or stop");
        else
            LOG_WARN("upgrade_refused", "busy with a reload, an upgrade, the start or the stop");
        return;
    }
    upgrade.running = true;
    upgrade.conn = conn;
    /* The same arguments, and -t: the new program checks the configuration it will run with. */
    char **argv = calloc((size_t)master.argc + 2, sizeof(*argv));
    struct job *j = NULL;
    if (argv) {
        int n = 0;
        argv[n++] = master.argv[0];
        argv[n++] = test;
        for (int i = 1; i < master.argc; i++)
            argv[n++] = master.argv[i];
        j = job_exec(master.exe, argv, UPGRADE_LIMIT_MS, upgrade_checked, &upgrade);
        free(argv);
    }
    if (!j)
        upgrade_refuse("cannot fork");
}

void upgrade_conn_gone(const struct conn *conn)
{
    if (upgrade.conn == conn)
        upgrade.conn = NULL;
}

/* ---- The new program ---- */

struct upgrade_reader {
    struct generation *gen;
    struct listener *listener;
    uint32_t children; /* read of gen */
    int pid_fd, control_fd, segment_fd;
    int caller_fd;
    uint32_t caller_flags;
    struct ticket_ring tickets;
    uint64_t ticket_period_ms;
    bool complete;
};

/* A descriptor that is really open; sets its close-on-exec flag. -1 when it is not. */
static int upgrade_fd(uint64_t n)
{
    if (n > INT32_MAX || fcntl((int)n, F_GETFD) < 0)
        return -1;
    proc_close_on_exec((int)n, true);
    return (int)n;
}

static int upgrade_listener(struct upgrade_reader *r, const uint64_t *v, size_t n,
                            struct slice text)
{
    struct addr_any addr;
    if (n < 4 || v[0] == 0 || v[0] > SHM_SLOTS || v[1] > v[0] || addr_parse(text, &addr) < 0)
        return -ERR_CORRUPT;
    r->listener = listener_adopt(&master.listeners, text, (uint32_t)v[0]);
    if (!r->listener)
        return -ERR_NOMEM;
    r->listener->addr = addr;
    r->listener->is_unix = addr.u.sa.sa_family == AF_UNIX;
    r->listener->listening = (uint32_t)v[1];
    r->listener->listened_backlog = r->listener->backlog = (uint32_t)v[2];
    r->listener->mode = (uint32_t)v[3];
    struct stat st;
    if (r->listener->is_unix && lstat(addr.u.un.sun_path, &st) == 0)
        r->listener->file = (struct sockfile_id){st.st_dev, st.st_ino};
    return 0;
}

static int upgrade_generation(struct upgrade_reader *r, const uint64_t *v, size_t n)
{
    if (n < 6 || v[1] >= GEN__COUNT || v[2] > SHM_SLOTS)
        return -ERR_CORRUPT;
    int rc = generation_inherit((uint32_t)v[0], (uint32_t)v[2], (enum gen_state)v[1], &r->gen);
    if (rc < 0)
        return rc;
    r->children = 0;
    r->gen->since_ms = v[3];
    r->gen->drain = (struct worker_drain){.request_ms = v[4], .tunnel_ms = v[5]};
    if (r->gen->state == GEN_LIVE)
        master.live = r->gen;
    return 0;
}

static int upgrade_child(struct upgrade_reader *r, const uint64_t *v, size_t n)
{
    if (n < 7 || !r->gen || r->children >= r->gen->nchild || v[4] >= CHILD__COUNT || v[1] == 0 ||
        v[1] > INT32_MAX)
        return -ERR_CORRUPT;
    struct child *c = &r->gen->child[r->children++];
    c->number = (uint32_t)v[0];
    c->role = c->number == CHILD_HELPER ? WORKER_HELPER : WORKER_SERVE;
    c->pid = (pid_t)v[1];
    c->slot = v[2] < SHM_SLOTS ? (uint32_t)v[2] : UINT32_MAX;
    c->state = (enum child_state)v[4];
    c->pending = (uint32_t)v[5];
    c->drain = r->gen->drain;
    c->started_ms = v[6];
    int fd = upgrade_fd(v[3]); /* an old child may have closed its end already */
    return fd >= 0 ? child_watch(c, fd) : 0;
}

static void upgrade_path(char *out, size_t size, struct slice text)
{
    if (text.n < size)
        snprintf(out, size, SLICE_FMT, SLICE_ARG(text));
}

static void upgrade_log(int fd)
{
    if (fd < 0)
        return;
    master.old_log_fd = fd;
    log_open_fd(fd);
}

static int upgrade_line(struct upgrade_reader *r, struct slice word, const uint64_t *v, size_t n,
                        struct slice text)
{
    if (slice_eq(word, SLICE("segment")) && n == 1)
        r->segment_fd = upgrade_fd(v[0]);
    else if (slice_eq(word, SLICE("control")) && n == 1)
        r->control_fd = upgrade_fd(v[0]);
    else if (slice_eq(word, SLICE("pidfile")) && n == 1)
        r->pid_fd = upgrade_fd(v[0]);
    else if (slice_eq(word, SLICE("log")) && n == 1)
        upgrade_log(upgrade_fd(v[0]));
    else if (slice_eq(word, SLICE("user")) && n == 2) {
        master.uid = (uid_t)v[0];
        master.gid = (gid_t)v[1];
        master.user_known = true;
    } else if (slice_eq(word, SLICE("socketpath")))
        upgrade_path(master.socket_path, sizeof(master.socket_path), text);
    else if (slice_eq(word, SLICE("pidpath")))
        upgrade_path(master.pid_path, sizeof(master.pid_path), text);
    else if (slice_eq(word, SLICE("upgrades")) && n == 1)
        master.upgrades = (uint32_t)v[0];
    else if (slice_eq(word, SLICE("started")) && n == 2) {
        master.started_ms = v[0];
        master.started_wall_ms = (int64_t)v[1];
    } else if (slice_eq(word, SLICE("deaths")) && n == 2 && slice_starts(text, SLICE("="))) {
        master.deaths.n = (uint32_t)v[0];
        master.deaths.wall_ms = (int64_t)v[1];
        upgrade_path(master.deaths.last, sizeof(master.deaths.last),
                     slice_of(text.p + 1, text.n - 1));
    } else if (slice_eq(word, SLICE("kick")) && n == 2 && v[0] < SHM_SLOTS)
        master.kick[v[0]] = upgrade_fd(v[1]);
    else if (slice_eq(word, SLICE("welcome")) && n == 2 && upgrade_fd(v[0]) >= 0)
        return welcome_adopt(&master.welcome, (int)v[0], (pid_t)v[1]);
    else if (slice_eq(word, SLICE("ticket")) && n == 2) {
        if (ticket_parse(v[0], text, &r->tickets))
            r->ticket_period_ms = v[1];
    } else if (slice_eq(word, SLICE("cache")) && n == 5)
        caches_adopt(upgrade_fd(v[0]), v + 1, n - 1, text);
    else if (slice_eq(word, SLICE("listener")))
        return upgrade_listener(r, v, n, text);
    else if (slice_eq(word, SLICE("socket")) && n == 1 && r->listener) {
        int fd = upgrade_fd(v[0]);
        if (fd < 0)
            return -ERR_CORRUPT;
        r->listener->fd[r->listener->n++] = fd;
    } else if (slice_eq(word, SLICE("generation")))
        return upgrade_generation(r, v, n);
    else if (slice_eq(word, SLICE("child")))
        return upgrade_child(r, v, n);
    else if (slice_eq(word, SLICE("caller")) && n == 2) {
        r->caller_fd = upgrade_fd(v[0]);
        r->caller_flags = (uint32_t)v[1];
    } else if (slice_eq(word, SLICE("end")))
        r->complete = true;
    return 0;
}

static int upgrade_read(struct upgrade_reader *r, struct slice all)
{
    struct slice line, word;
    while (slice_next(&all, '\n', &line)) {
        uint64_t v[UPGRADE_WORDS];
        size_t n = 0;
        struct slice rest = line, kind = SLICE_NONE;
        if (!slice_next(&rest, ' ', &kind))
            continue;
        while (n < UPGRADE_WORDS) {
            struct slice before = rest;
            if (!slice_next(&rest, ' ', &word))
                break;
            if (num_u64(word, &v[n]) < 0) {
                /* "-1" for what there is not; else it is the text at the end. */
                if (!slice_eq(word, SLICE("-1"))) {
                    rest = slice_trim(before);
                    break;
                }
                v[n] = UINT64_MAX;
            }
            n++;
        }
        int rc = upgrade_line(r, kind, v, n, rest);
        if (rc < 0)
            return rc;
    }
    return r->complete ? 0 : -ERR_CORRUPT;
}

/* A segment of another layout stays with the old children; nothing of theirs is looked up in the
 * new one. */
static int upgrade_segment(int fd)
{
    if (fd >= 0 && segment_attach(fd, &master.segment) == 0)
        return 0;
    if (fd >= 0)
        close(fd);
    LOG_NOTICE("upgrade_segment",
               "the segment of the old program has another layout: a new one is made");
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++)
            g->child[i].slot = UINT32_MAX;
    }
    /* Old workers still read theirs: a slot of the new segment must not share one with them. */
    for (size_t i = 0; i < SHM_SLOTS; i++) {
        if (master.kick[i] >= 0)
            close(master.kick[i]);
        master.kick[i] = -1;
    }
    caches_forget();
    return segment_create(&master.segment);
}

int upgrade_inherit(int fd, struct conn **ret_conn)
{
    struct upgrade_reader r = {.pid_fd = -1, .control_fd = -1, .segment_fd = -1, .caller_fd = -1};
    off_t size = lseek(fd, 0, SEEK_END);
    *ret_conn = NULL;
    /* In the background nobody reads stderr; what the old program wrote to follows below. */
    if (!master.foreground)
        log_open_syslog("rpd");
    if (size <= 0 || (size_t)size > UPGRADE_TEXT_MAX)
        return -ERR_CORRUPT;
    char *text = malloc((size_t)size);
    if (!text)
        return -ERR_NOMEM;
    int rc = pread(fd, text, (size_t)size, 0) == size
                 ? upgrade_read(&r, slice_of(text, (size_t)size))
                 : -ERR_SYS;
    explicit_bzero(text, (size_t)size);
    free(text);
    close(fd);
    if (rc == 0)
        rc = upgrade_segment(r.segment_fd);
    if (rc < 0)
        return rc;
    ticket_adopt(master.segment, &r.tickets, r.ticket_period_ms);
    explicit_bzero(&r.tickets, sizeof(r.tickets));
    LIST_EACH(it, &master.generations)
    generation_resume(CONTAINER(it, struct generation, link));
    master.pid_fd = r.pid_fd;
    if (r.control_fd >= 0)
        control_adopt(r.control_fd);
    if (r.caller_fd >= 0)
        *ret_conn = control_adopt_conn(r.caller_fd, r.caller_flags);
    return 0;
}
