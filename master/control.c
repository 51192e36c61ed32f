/* The control socket: connections, rights, requests and answers. */
#include "master/control.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "master/job.h"
#include "master/master.h"
#include "master/query.h"
#include "master/verbs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTROL_BACKLOG 64
#define CONTROL_GROUPS  256 /* supplementary groups looked at */

static struct {
    struct ev listener;
    struct list conns;
    unsigned n;
    struct sockfile_id file;
    bool readers_set, operators_set;
    gid_t readers, operators;
} control = {.listener = {.fd = -1}, .conns = {&control.conns, &control.conns}};

static void conn_free(struct conn *c)
{
    list_remove(&c->wait);
    list_remove(&c->link);
    ev_timer_stop(&c->timer);
    ev_timer_stop(&c->deadline);
    query_conn_gone(c);
    job_cancel(c);
    verbs_conn_gone(c);
    ev_close(&c->ev);
    buf_fini(&c->in);
    buf_fini(&c->out);
    free(c);
    control.n--;
}

/* Sends what it can. False when the connection was freed. */
static bool conn_flush(struct conn *c)
{
    while (c->sent < c->out.n) {
        ssize_t n =
            send(c->ev.fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            conn_free(c);
            return false;
        }
        c->sent += (size_t)n;
        c->progress_ms = clock_ms();
    }
    if (c->sent == c->out.n) {
        if (c->finished) {
            conn_free(c);
            return false;
        }
        buf_clear(&c->out);
        c->sent = 0;
    }
    ev_want(&c->ev, EPOLLIN | (c->out.n > 0 ? EPOLLOUT : 0));
    return true;
}

static void conn_on_timer(struct ev_timer *t)
{
    struct conn *c = CONTAINER(t, struct conn, timer);
    uint64_t quiet = clock_ms() - c->progress_ms;
    bool peers_turn = !c->running || c->out.n > 0;
    if (peers_turn && quiet >= CONTROL_IDLE_MS) {
        conn_free(c);
        return;
    }
    ev_timer_set(t, CONTROL_ALIVE_MS, conn_on_timer);
    if (c->running && !c->finished && c->out.n == 0) {
        proto_frame_encode(PROTO_KEEPALIVE, SLICE(""), &c->out);
        conn_flush(c);
    }
}

void conn_finish(struct conn *c, uint32_t code, struct slice out, struct slice err)
{
    if (c->finished)
        return;
    list_remove(&c->wait);
    ev_timer_stop(&c->deadline);
    if (out.n > 0)
        proto_frame_encode(PROTO_OUT, out, &c->out);
    if (err.n > 0)
        proto_frame_encode(PROTO_ERR, err, &c->out);
    proto_exit_encode(code, &c->out);
    if (c->out.failed) {
        /* Too long, or no memory: say that much, after what the peer already has whole frames of.
         */
        static const char text[] = "rpd: the answer is too long\n";
        size_t sent = c->sent;
        buf_fini(&c->out);
        buf_init(&c->out, 4096);
        c->sent = 0;
        if (sent == 0)
            proto_frame_encode(PROTO_ERR, slice_str(text), &c->out);
        proto_exit_encode(PROTO_REFUSED, &c->out);
    }
    c->finished = true;
    c->progress_ms = clock_ms();
    /* Sent from the loop, so that no caller ever finds the connection gone under its hands. */
    ev_want(&c->ev, EPOLLOUT);
}

void conn_say(struct conn *c, uint32_t code, const char *fmt, ...)
{
    char text[2048];
    struct buf b;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_init(&b, 0);
    if (conn_json(c)) {
        struct json j;
        json_init(&j, &b);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kbool(&j, "ok", code == PROTO_DONE);
        json_kcstr(&j, "message", text);
        json_end_object(&j);
    } else {
        buf_str(&b, text);
    }
    buf_chr(&b, '\n');
    bool to_err = code != PROTO_DONE && !conn_json(c);
    conn_finish(c, code, to_err ? SLICE_NONE : buf_slice(&b), to_err ? buf_slice(&b) : SLICE_NONE);
    buf_fini(&b);
}

void conn_usage(struct conn *c)
{
    struct buf b;
    buf_init(&b, 0);
    verb_usage(c->verb, &b);
    conn_finish(c, PROTO_USAGE, SLICE_NONE, buf_slice(&b));
    buf_fini(&b);
}

void conn_reload_verdict(struct conn *c, bool ok, uint32_t generation, uint64_t ms,
                         struct slice text)
{
    struct buf b;
    uint32_t code = ok ? PROTO_DONE : PROTO_REFUSED;
    if (!conn_json(c)) {
        conn_finish(c, code, ok ? text : SLICE_NONE, ok ? SLICE_NONE : text);
        return;
    }
    struct json j;
    buf_init(&b, 0);
    json_init(&j, &b);
    json_object(&j);
    json_ku64(&j, "v", 1);
    json_kbool(&j, "ok", ok);
    json_ku64(&j, "generation", generation);
    json_ku64(&j, "ms", ms);
    json_kstr(&j, "message",
              slice_of(text.p, text.n > 0 && text.p[text.n - 1] == '\n' ? text.n - 1 : text.n));
    json_end_object(&j);
    buf_chr(&b, '\n');
    conn_finish(c, code, buf_slice(&b), SLICE_NONE);
    buf_fini(&b);
}

/* Who did what, whole: "server app/10.0.0.1:80 drain". */
static void conn_log(const struct conn *c, const struct verb *v)
{
    char words[512];
    size_t n = 0;
    words[0] = '\0';
    for (int i = 1; i < c->req.argc && n < sizeof words; i++)
        n += (size_t)snprintf(words + n, sizeof words - n, " %s", c->req.argv[i]);
    LOG_AT(v->role == VERB_OPERATE ? LOG_LV_NOTICE : LOG_LV_DEBUG, "control", "uid %u pid %d: %s%s",
           (unsigned)c->uid, (int)c->pid, v->word, words);
}

/* Runs the command of a complete request. */
static void conn_begin(struct conn *c)
{
    c->running = true;
    int id = verb_find(c->req.argv[0]);
    if (id < 0) {
        const char *near = verb_nearest(c->req.argv[0]);
        conn_say(c, PROTO_USAGE, "unknown command \"%.64s\"%s%s", c->req.argv[0],
                 near ? "; did you mean " : "", near ? near : "");
        return;
    }
    c->verb = (enum verb_id)id;
    const struct verb *v = verb_get(c->verb);
    if (v->role == VERB_OPERATE && c->role != VERB_OPERATE) {
        LOG_WARN("control_refused", "uid %u pid %d may not %s", (unsigned)c->uid, (int)c->pid,
                 v->word);
        conn_say(c, PROTO_PERMISSION, "rpd: uid %u may not %s", (unsigned)c->uid, v->word);
        return;
    }
    if (c->req.argc - 1 < v->least || c->req.argc - 1 > v->most) {
        conn_usage(c);
        return;
    }
    conn_log(c, v);
    if (master.done || (master.stopping && v->role == VERB_OPERATE && c->verb != VERB_stop)) {
        conn_say(c, PROTO_REFUSED, "rpd is stopping");
        return;
    }
    verbs_run(c);
}

static void conn_read(struct conn *c)
{
    char rest[512];
    if (c->running) {
        /* Nothing more is expected: either the end, or a peer that talks too much. */
        ssize_t n = recv(c->ev.fd, rest, sizeof(rest), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || n > 0)
            conn_free(c);
        return;
    }
    if (!buf_reserve(&c->in, PROTO_MAX_REQUEST - c->in.n)) {
        conn_free(c);
        return;
    }
    ssize_t n = recv(c->ev.fd, c->in.p + c->in.n, PROTO_MAX_REQUEST - c->in.n, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_free(c);
        return;
    }
    c->in.n += (size_t)n;
    int rc = proto_request_decode(c->in.p, c->in.n, &c->req);
    if (rc == -ERR_AGAIN && c->in.n < PROTO_MAX_REQUEST)
        return;
    if (rc < 0) {
        LOG_WARN("control_malformed", "uid %u pid %d sent a malformed request", (unsigned)c->uid,
                 (int)c->pid);
        conn_free(c);
        return;
    }
    c->progress_ms = clock_ms();
    conn_begin(c);
}

static void conn_on_event(struct ev *e, uint32_t events)
{
    struct conn *c = CONTAINER(e, struct conn, ev);
    if (events & EPOLLOUT) {
        conn_flush(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        conn_read(c);
}

/* Root and our own user operate; others by group, the peer's primary or any supplementary one. */
static void conn_rights(struct conn *c)
{
    struct ucred cred = {0};
    socklen_t n = sizeof(cred);
    gid_t groups[CONTROL_GROUPS];
    c->role = VERB_LOCAL;
    c->uid = (uid_t)-1;
    if (getsockopt(c->ev.fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return;
    c->pid = cred.pid;
    c->uid = cred.uid;
    if (cred.uid == 0 || cred.uid == geteuid()) {
        c->role = VERB_OPERATE;
        return;
    }
    n = sizeof(groups);
    size_t count = 0;
    if (getsockopt(c->ev.fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) == 0)
        count = n / sizeof(groups[0]);
    for (size_t i = 0; i <= count; i++) {
        gid_t g = i < count ? groups[i] : cred.gid;
        if (control.operators_set && g == control.operators)
            c->role = VERB_OPERATE;
        else if (control.readers_set && g == control.readers && c->role == VERB_LOCAL)
            c->role = VERB_READ;
    }
}

static struct conn *conn_new(int fd)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    list_init(&c->wait);
    buf_init(&c->in, PROTO_MAX_REQUEST);
    buf_init(&c->out, CONTROL_OUT_MAX);
    if (ev_add(&c->ev, fd, EPOLLIN, conn_on_event) < 0) {
        free(c);
        return NULL;
    }
    c->progress_ms = clock_ms();
    conn_rights(c);
    list_append(&control.conns, &c->link);
    control.n++;
    ev_timer_set(&c->timer, CONTROL_ALIVE_MS, conn_on_timer);
    return c;
}

/* Makes room by ending the connection that has been waiting longest to say what it wants. */
static bool control_room(void)
{
    if (control.n < CONTROL_CONNS)
        return true;
    LOG_WARN("control_full", "more than %u connections on the control socket", CONTROL_CONNS);
    LIST_EACH(it, &control.conns)
    {
        struct conn *c = CONTAINER(it, struct conn, link);
        if (!c->running) {
            conn_free(c);
            return true;
        }
    }
    return false;
}

static void control_on_accept(struct ev *e, uint32_t events)
{
    (void)events;
    int fd = accept4(e->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct conn *c = control_room() ? conn_new(fd) : NULL;
    if (!c) {
        close(fd);
        return;
    }
    if (c->role == VERB_LOCAL) {
        /* Strangers are told at the door: they cannot hold a place. */
        c->running = true;
        LOG_WARN("control_refused", "uid %u pid %d may not use the control socket",
                 (unsigned)c->uid, (int)c->pid);
        conn_say(c, PROTO_PERMISSION, "rpd: uid %u may not use the control socket",
                 (unsigned)c->uid);
    }
}

int control_open(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", master.socket_path);
    int fd = sockfile_bind(&un, sizeof(un), 0600, &control.file);
    if (fd < 0)
        return -ERR_SYS;
    if (listen(fd, CONTROL_BACKLOG) < 0) {
        int saved = errno;
        sockfile_unlink(master.socket_path, &control.file);
        close(fd);
        errno = saved;
        return -ERR_SYS;
    }
    return ev_add(&control.listener, fd, EPOLLIN, control_on_accept);
}

int control_adopt(int fd)
{
    struct stat st;
    if (lstat(master.socket_path, &st) == 0)
        control.file = (struct sockfile_id){st.st_dev, st.st_ino};
    return ev_add(&control.listener, fd, EPOLLIN, control_on_accept);
}

int control_fd(void)
{
    return control.listener.fd;
}

static bool control_group(struct slice name, gid_t *ret_gid)
{
    uid_t uid;
    if (name.n == 0)
        return false;
    if (proc_lookup_user("root", name.p, &uid, ret_gid) == 0)
        return true;
    LOG_WARN("control_group", "there is no group " SLICE_FMT, SLICE_ARG(name));
    return false;
}

void control_configure(const struct config *c)
{
    control.readers_set = control_group(c->global.control_readers, &control.readers);
    control.operators_set = control_group(c->global.control_operators, &control.operators);
    /* With groups anybody may knock; who it is decides what is answered. */
    if (control.listener.fd >= 0)
        chmod(master.socket_path, control.readers_set || control.operators_set ? 0666 : 0600);
}

void control_close(void)
{
    if (control.listener.fd >= 0) {
        ev_close(&control.listener);
        sockfile_unlink(master.socket_path, &control.file);
    }
    LIST_EACH_SAFE(it, tmp, &control.conns)
    {
        struct conn *c = CONTAINER(it, struct conn, link);
        if (conn_flush(c))
            conn_free(c);
    }
}

struct conn *control_adopt_conn(int fd, uint32_t flags)
{
    struct conn *c = conn_new(fd);
    if (!c)
        return NULL;
    c->running = true;
    c->verb = VERB_upgrade;
    c->req.flags = flags;
    return c;
}

int control_conn_fd(const struct conn *c)
{
    return c->ev.fd;
}
