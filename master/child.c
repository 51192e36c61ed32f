/* One worker or helper process: fork, channel, messages, end. */
#include "master/child.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/proc.h"
#include "master/certs.h"
#include "master/master.h"
#include "master/query.h"
#include "master/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct msg child_msg; /* 64 KiB: not for the stack */

const char *child_name(const struct child *c)
{
    static char name[16];
    if (c->number == CHILD_HELPER)
        return "helper";
    snprintf(name, sizeof(name), "w%u", c->number);
    return name;
}

void child_set_state(struct child *c, enum child_state to)
{
    if (c->state == to)
        return;
    MUST(child_state_legal(c->state, to));
    c->state = to;
}

static int child_by_number(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

void child_clean(int *keep, size_t n)
{
    static const int ignored[] = {SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGPIPE};
    sigset_t none;
    /* Ctrl-C goes to the whole foreground group: the master decides what it means. */
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    unsigned from = 3;
    qsort(keep, n, sizeof(*keep), child_by_number);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    close_range(from, ~0u, 0);
}

/* The sockets of every address, each with the number of the worker that accepts from it: its own
 * modulo the number of workers, so that sockets left over from a time of more workers are served
 * too. A worker has them all, to cover for others. A unix socket is shared by all. */
static size_t child_sockets(const struct child *c, struct worker_socket *out)
{
    const struct config *conf = c->gen->config;
    size_t n = 0;
    if (c->role == WORKER_HELPER)
        return 0;
    for (size_t i = 0; i < conf->nlisten; i++) {
        const struct conf_listen *s = conf->listen[i];
        for (size_t j = 0; j < s->k.address.n; j++) {
            const struct listener *l = listener_find(&master.listeners, s->k.address.v[j].text);
            for (uint32_t k = 0; l && k < l->n; k++, n++) {
                if (out)
                    out[n] = (struct worker_socket){l->fd[k], k % c->gen->nworker, s,
                                                    &s->k.address.v[j]};
            }
        }
    }
    return n;
}

/* Everything in the new process. */
static _Noreturn void child_run(struct child *c, int channel)
{
    struct generation *g = c->gen;
    size_t nsock = child_sockets(c, NULL), n = 0;
    struct worker_socket *sock = calloc(nsock + 1, sizeof(*sock));
    const bool helper = c->role == WORKER_HELPER;
    int *keep =
        calloc(nsock + g->config->nlog + SHM_SLOTS + 3 * caches_keep(g, NULL) + 4, sizeof(*keep));
    struct worker_promote *promote = calloc(g->config->ncache + 1, sizeof(*promote));
    if (!sock || !keep || !promote)
        _exit(1);
    caches_enter(g, helper);
    caches_promotions(g, promote);
    child_sockets(c, sock);
    for (size_t i = 0; i < nsock; i++)
        keep[n++] = sock[i].fd;
    for (size_t i = 0; i < g->config->nlog; i++)
        keep[n++] = g->log_fd[i];
    for (size_t i = 0; i < SHM_SLOTS; i++)
        keep[n++] = master.kick[i];
    n += caches_keep(g, keep + n);
    if (helper)
        n += caches_keep_helper(g, keep + n);
    keep[n++] = channel;
    keep[n++] = segment_fd(master.segment);
    keep[n++] = g->error_fd;
    child_clean(keep, n);
    free(keep);
    if (!master.foreground) {
        /* A pipe or terminal of the starter must not be held open by the service. */
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; null >= 0 && fd < 3; fd++)
            dup2(null, fd);
        if (null > 2)
            close(null);
    }
    generation_use_log(g);
    log_set_who(child_name(c));
    panic_attach(slot_panic_record(master.segment, c->slot), SLOT_PANIC_SIZE);
    panic_install();
    struct worker_boot b = {
        .role = c->role,
        .number = helper ? 0 : c->number,
        .generation = g->number,
        .slot = c->slot,
        .segment = master.segment,
        .config = g->config,
        .server_id = g->server_id,
        .resolve_id = g->resolve_id,
        .series_id = g->series_id,
        .cert_id = g->cert_id,
        .cache = g->cache,
        .persist_fd = helper ? g->persist : NULL,
        .promote = helper ? promote : NULL,
        .respawned = g->state != GEN_STARTING,
        .sock = sock,
        .nsock = nsock,
        .log_fd = g->log_fd,
        .kick_fd = master.kick,
        .channel = channel,
        .uid = master.uid,
        .gid = master.gid,
    };
    int status = worker_run(&b);
    free(sock);
    free(promote);
    exit(status);
}

static void child_on_channel(struct ev *e, uint32_t events);

int child_spawn(struct child *c)
{
    int pair[2];
    if (slot_claim(master.segment, c->gen->number, c->number, &c->slot) < 0)
        return -ERR_FULL;
    if (msg_pair(pair) < 0) {
        slot_reap(master.segment, c->slot);
        return -ERR_SYS;
    }
    fflush(NULL); /* or both processes would write what is still buffered */
    pid_t pid = fork();
    if (pid < 0) {
        close(pair[0]);
        close(pair[1]);
        slot_reap(master.segment, c->slot);
        return -ERR_SYS;
    }
    if (pid == 0)
        child_run(c, pair[1]);
    close(pair[1]);
    c->pid = pid;
    c->pending = 0;
    c->cover = (struct worker_cover){0};
    c->late = 0;
    c->killed = false;
    c->failed[0] = '\0';
    c->requests = atomic_load_explicit(&counter_row(master.segment, c->slot)->v[CTR_REQUESTS],
                                       memory_order_relaxed);
    c->cpu_ticks = 0;
    c->requests_per_s = c->cpu_milli = 0;
    c->started_ms = clock_ms();
    child_set_state(c, CHILD_STARTING);
    slot_set_pid(master.segment, c->slot, pid);
    return child_watch(c, pair[0]);
}

int child_watch(struct child *c, int fd)
{
    return ev_add(&c->channel, fd, EPOLLIN | (c->pending ? EPOLLOUT : 0), child_on_channel);
}

/* The descriptors of a reopened set of logs, as many to a message as it can carry. What a full
 * channel did not take goes again from the start: a log that is opened twice is none the worse. */
static int child_send_reopen(const struct child *c)
{
    const struct generation *g = c->gen;
    size_t nlog = g->config ? g->config->nlog : 0, i = 0;
    bool error_log = g->error_fd > STDERR_FILENO;
    int rc = 0;
    while (rc == 0 && (i < nlog || error_log)) {
        struct worker_reopen r = {.error_log = error_log, .nlog = (int32_t)nlog};
        int fds[MSG_MAX_FDS], n = 0;
        if (error_log)
            fds[n++] = g->error_fd;
        error_log = false;
        for (; i < nlog && i < sizeof(r.has) && n < MSG_MAX_FDS; i++) {
            if (g->log_fd[i] < 0)
                continue;
            r.has[i] = 1;
            fds[n++] = g->log_fd[i];
        }
        rc = msg_send(c->channel.fd, M_REOPEN, &r, sizeof(r), fds, n);
    }
    return rc;
}

/* Descriptors that only a message was going to use. */
static void child_drop_fds(struct child *c, enum worker_msg type)
{
    if (type == M_DRAIN && c->has_successor) {
        close(c->successor);
        c->has_successor = false;
    }
    if (type == M_ADOPT) {
        for (unsigned i = 0; i < c->nadopt; i++)
            close(c->adopt[i]);
        c->nadopt = 0;
    }
}

void child_introduce(struct child *from, struct child *to)
{
    int fd[2];
    if (to->nadopt == CHILD_ADOPT || from->has_successor || to->channel.fd < 0 || msg_pair(fd) < 0)
        return;
    from->successor = fd[0];
    from->has_successor = true;
    to->adopt[to->nadopt++] = fd[1];
    child_send(to, M_ADOPT);
}

static int child_send_one(const struct child *c, enum worker_msg type)
{
    struct worker_log_level lv = {.level = (uint32_t)master.level};
    switch (type) {
    case M_DRAIN:
        return msg_send(c->channel.fd, M_DRAIN, &c->drain, sizeof(c->drain), &c->successor,
                        c->has_successor ? 1 : 0);
    case M_ADOPT:
        return msg_send(c->channel.fd, M_ADOPT, NULL, 0, c->adopt, (int)c->nadopt);
    case M_REOPEN:
        return child_send_reopen(c);
    case M_COVER:
        return msg_send(c->channel.fd, M_COVER, &c->cover, sizeof(c->cover), NULL, 0);
    case M_LOG_LEVEL:
        return msg_send(c->channel.fd, M_LOG_LEVEL, &lv, sizeof(lv), NULL, 0);
    case M_ACCEPT:
    case M_STOP:
        return msg_send(c->channel.fd, type, NULL, 0, NULL, 0);
    case M_QUERY:
    case M_CERT_FILES:
    case M_CERT_GONE:
    case M_RECODE:
    case W_READY:
    case W_FAILED:
    case W_REPLY:
    case W_DRAINED:
    case W_CERT_OPEN:
    case W_CERT_RESULT:
    case W_PROMOTED:
    case W_RECODE:
        break;
    }
    return -ERR_INVAL;
}

/* In this order: an accept that was never taken is void once the child has to drain. */
static void child_flush(struct child *c)
{
    static const enum worker_msg order[] = {M_STOP,  M_ACCEPT, M_COVER,    M_ADOPT,
                                            M_DRAIN, M_REOPEN, M_LOG_LEVEL};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        uint32_t bit = 1u << order[i];
        if (!(c->pending & bit))
            continue;
        int rc = child_send_one(c, order[i]);
        if (rc == -ERR_AGAIN)
            break;
        c->pending &= ~bit; /* sent, or the peer is gone and SIGCHLD is on its way */
        child_drop_fds(c, order[i]);
    }
    ev_want(&c->channel, EPOLLIN | (c->pending ? EPOLLOUT : 0));
}

void child_send(struct child *c, enum worker_msg type)
{
    if (c->channel.fd < 0)
        return;
    c->pending |= 1u << type;
    if (type == M_DRAIN || type == M_STOP)
        c->pending &= ~(1u << M_ACCEPT);
    child_flush(c);
}

int child_query(struct child *c, const struct worker_query *q)
{
    if (c->channel.fd < 0)
        return -ERR_EOF;
    return msg_send(c->channel.fd, M_QUERY, q, sizeof(*q), NULL, 0);
}

void child_kill(struct child *c, int sig)
{
    if (c->pid > 0)
        kill(c->pid, sig);
}

static void child_ready(struct child *c)
{
    if (c->state != CHILD_STARTING)
        return;
    child_set_state(c, CHILD_READY);
    if (c->slot != UINT32_MAX)
        slot_set_state(master.segment, c->slot, SLOT_LIVE);
    supervise_ready(c);
}

/* Between two children of a generation; what the helper has no room for is said again. */
static void child_recode(const struct child *c, const struct msg *m)
{
    for (uint32_t i = 0; m->len == sizeof(struct worker_recode) && i < c->gen->nchild; i++) {
        const struct child *helper = &c->gen->child[i];
        if (helper->role == WORKER_HELPER && helper->channel.fd >= 0)
            (void)msg_send(helper->channel.fd, M_RECODE, m->payload, m->len, NULL, 0);
    }
}

/* Who serves clients, and who asks name servers, each may ask for what its role needs. */
static bool child_may(const struct child *c, uint32_t type)
{
    static const uint32_t of[] = {
        [WORKER_SERVE] = 1u << (W_CERT_OPEN - W_READY) | 1u << (W_CERT_RESULT - W_READY) |
                         1u << (W_RECODE - W_READY),
        [WORKER_HELPER] = 1u << (W_PROMOTED - W_READY),
    };
    const uint32_t all = 1u << (W_READY - W_READY) | 1u << (W_FAILED - W_READY) |
                         1u << (W_REPLY - W_READY) | 1u << (W_DRAINED - W_READY);
    return type >= W_READY && type <= W_RECODE && ((of[c->role] | all) >> (type - W_READY) & 1u);
}

static void child_message(struct child *c, const struct msg *m)
{
    if (!child_may(c, m->type)) {
        LOG_WARN("channel_refused", "%s pid %d sent a message of type %u, which is not its own",
                 child_name(c), (int)c->pid, m->type);
        return;
    }
    switch (m->type) {
    case W_READY:
        child_ready(c);
        break;
    case W_FAILED:
        snprintf(c->failed, sizeof(c->failed), "%.*s",
                 (int)(m->len < sizeof(c->failed) ? m->len : sizeof(c->failed) - 1),
                 (const char *)m->payload);
        break;
    case W_REPLY:
        query_reply(c, m);
        break;
    case W_CERT_OPEN:
    case W_CERT_RESULT:
        certs_message(c, m);
        break;
    case W_PROMOTED:
        caches_promoted(c, m);
        break;
    case W_RECODE:
        child_recode(c, m);
        break;
    default:
        break; /* W_DRAINED: the exit follows */
    }
}

/* Returns false when the channel is at its end. */
static bool child_read(struct child *c)
{
    for (int i = 0; i < 64; i++) {
        int rc = msg_recv(c->channel.fd, &child_msg);
        if (rc == -ERR_AGAIN)
            return true;
        if (rc == -ERR_PROTO) {
            LOG_WARN("channel_malformed", "%s pid %d sent a malformed message", child_name(c),
                     (int)c->pid);
            continue;
        }
        if (rc < 0)
            return false;
        for (int k = 0; k < child_msg.nfds; k++)
            close(child_msg.fds[k]); /* no message of a worker carries any */
        child_message(c, &child_msg);
        if (c->channel.fd < 0)
            return false;
    }
    return true;
}

static void child_on_channel(struct ev *e, uint32_t events)
{
    struct child *c = CONTAINER(e, struct child, channel);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !child_read(c)) {
        if (c->channel.fd >= 0)
            ev_close(&c->channel); /* it is going; waitpid says how */
        return;
    }
    if (events & EPOLLOUT)
        child_flush(c);
}

void child_bury(struct child *c, char panic[SLOT_PANIC_SIZE])
{
    if (c->channel.fd >= 0) {
        child_read(c);
        if (c->channel.fd >= 0)
            ev_close(&c->channel);
    }
    query_child_gone(c);
    child_drop_fds(c, M_DRAIN);
    child_drop_fds(c, M_ADOPT);
    panic[0] = '\0';
    if (c->slot != UINT32_MAX) {
        memcpy(panic, slot_panic_record(master.segment, c->slot), SLOT_PANIC_SIZE);
        panic[SLOT_PANIC_SIZE - 1] = '\0';
        slot_set_state(master.segment, c->slot, SLOT_DEAD);
        caches_reap(c->slot);
        slot_reap(master.segment, c->slot);
        master_kick_all();
    }
    c->pid = 0;
    c->pending = 0;
    c->slot = UINT32_MAX;
    child_set_state(c, CHILD_NONE);
}
