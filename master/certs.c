/* Watching certificate files and handing them to workers; see certs.h.
 *
 * A round looks at every file (stat, links followed), some hundred at a time. What has changed and
 * is still young is looked at once more a second later, because a certificate and its key are
 * usually renamed in one after the other; then both are opened and sent to every worker of the live
 * generation, which keeps what it has when they are no good. Of explicit pairs what the workers
 * have accepted is kept as a copy, for one that has to be replaced while the files are broken. */
#include "master/certs.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/table.h"
#include "config/certdir.h"
#include "master/certcopy.h"
#include "master/master.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOKS_PER_TICK 256u
#define TICK_MS        20u
#define SETTLE_MS      1000u
#define SENDS_PER_TICK 16u /* each costs a worker a fraction of a millisecond */
#define SEND_MS        50u

struct certs_file {         /* an explicit pair, an OCSP answer, or an entry of a directory */
    struct table_node node; /* certs_section.byname, of a directory */
    struct list all;        /* certs_section.files, latest seen last */
    struct list todo;       /* certs.settling or certs.due */
    struct certs_section *sec;
    struct certdir_look look, next; /* as the workers know it; as it was seen last */
    int error, next_error;          /* of these looks */
    uint64_t seen_ms;               /* when next was seen, while settling */
    uint32_t pair, round;
    uint32_t serial; /* of the latest change, 0: none yet */
    bool settling, due;
    bool told; /* what came of the change has been logged */
    /* Of an explicit pair: what the workers have, and what they are being sent. */
    struct certcopy good, trial;
    uint32_t trial_serial;
    uint64_t worker[SHM_SLOTS / 64]; /* while due: numbers of those that were not sent it yet */
    char name[];                     /* in its directory, else "" */
};
struct certs_section {
    const struct conf_certificate *conf;
    struct list files;
    struct table byname;
    bool unreadable; /* the directory, and it was said */
};
static struct certs {
    uint32_t generation;       /* 0: nothing is watched */
    struct certs_section *sec; /* [nsec] */
    size_t nsec;
    int64_t since_ms; /* wall clock: what changed later the workers may not have seen */
    struct list settling, due;
    struct ev_timer look_timer, settle_timer, send_timer;
    uint32_t serial;
    /* The round: where it is */
    uint32_t round;
    uint64_t round_ms;
    size_t at; /* section */
    DIR *dir;  /* of it, while it is being read */
} w;

/* The generation that is watched, or NULL when it serves no more. */
static struct generation *certs_live(void)
{
    struct generation *g = master.live;
    return g && g->config && w.generation && g->number == w.generation ? g : NULL;
}

/* Has the file surely been as it is since `ms` of the wall clock? The kernel's clock for files lags
 * a little, and some systems keep whole seconds only. */
static bool certs_older(const struct certdir_look *look, int64_t ms)
{
    int64_t slack_ms = look->changed_ns % 1000000000 == 0 ? 2000 : 50;
    return look->changed_ns / 1000000 + slack_ms < ms;
}

static uint64_t certs_interval(void)
{
    return master.live->config->global.certificate_check;
}

/* ---- files ---- */

static struct certs_file *certs_find(const struct certs_section *s, struct slice name,
                                     uint32_t pair)
{
    if (name.n == 0) {
        LIST_EACH(it, &s->files)
        {
            struct certs_file *f = CONTAINER(it, struct certs_file, all);
            if (!f->name[0] && f->pair == pair)
                return f;
        }
        return NULL;
    }
    struct table_node *at = table_first(&s->byname, table_hash(&s->byname, name));
    for (; at; at = table_next(at)) {
        struct certs_file *f = CONTAINER(at, struct certs_file, node);
        if (slice_eq(slice_str(f->name), name))
            return f;
    }
    return NULL;
}

static struct certs_file *certs_file_new(struct certs_section *s, struct slice name, uint32_t pair)
{
    struct certs_file *f = calloc(1, sizeof(*f) + name.n + 1);
    if (!f)
        return NULL;
    f->sec = s;
    f->pair = pair;
    f->round = w.round;
    f->good = f->trial = CERTCOPY_NONE;
    list_init(&f->todo);
    if (name.n)
        memcpy(f->name, name.p, name.n);
    list_append(&s->files, &f->all);
    if (name.n)
        table_put(&s->byname, &f->node, table_hash(&s->byname, name));
    return f;
}

static void certs_file_free(struct certs_file *f)
{
    certcopy_wipe(&f->good);
    certcopy_wipe(&f->trial);
    if (f->name[0])
        table_remove(&f->sec->byname, &f->node);
    list_remove(&f->all);
    list_remove(&f->todo);
    free(f);
}

/* "/etc/rpd/certs/example.org.pem", for the log. */
static const char *certs_path(const struct certs_file *f)
{
    static char text[PATH_MAX + CERTDIR_NAME + 2];
    const struct conf_certificate_keys *k = &f->sec->conf->k;
    if (f->name[0])
        snprintf(text, sizeof(text), SLICE_FMT "/%s", SLICE_ARG(k->directory), f->name);
    else
        snprintf(text, sizeof(text), SLICE_FMT,
                 SLICE_ARG(f->pair == WORKER_CERT_OCSP ? k->ocsp : k->pair.v[f->pair].cert));
    return text;
}

/* Paths and base of a file; false when its name is no entry's. dir: a descriptor of the section's
 * directory. */
static bool certs_where(const struct certs_file *f, struct certdir_paths *tmp, const char **cert,
                        const char **key)
{
    const struct conf_certificate_keys *k = &f->sec->conf->k;
    if (f->name[0]) {
        if (!certdir_paths(slice_str(f->name), tmp))
            return false;
        *cert = tmp->cert;
        *key = tmp->key;
    } else if (f->pair == WORKER_CERT_OCSP) {
        *cert = k->ocsp.p;
        *key = "";
    } else {
        *cert = k->pair.v[f->pair].cert.p;
        *key = k->pair.v[f->pair].key.p;
    }
    return true;
}

/* -1 when it cannot be opened; AT_FDCWD when the file lies in no directory of ours. */
static int certs_dir(const struct certs_file *f)
{
    if (!f->name[0])
        return AT_FDCWD;
    return open(f->sec->conf->k.directory.p, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void certs_dir_close(int dir)
{
    if (dir >= 0)
        close(dir);
}

static int certs_look(const struct certs_file *f, int dir, struct certdir_look *ret)
{
    struct certdir_paths p;
    const char *cert, *key;
    if (!certs_where(f, &p, &cert, &key))
        return -ERR_NOENT;
    return certdir_look(dir, cert, key, f->name[0] != '\0', ret);
}

/* ---- sending ---- */

static void certs_on_send(struct ev_timer *t);

static void certs_send_soon(struct certs_file *f)
{
    if (f->due)
        return;
    f->due = true;
    f->settling = false;
    list_remove(&f->todo);
    list_append(&w.due, &f->todo);
    if (!ev_timer_running(&w.send_timer))
        ev_timer_set(&w.send_timer, 0, certs_on_send);
}

/* One message about the file as it is now. 0, -ERR_AGAIN the channel is full. */
static int certs_send_one(const struct certs_file *f, struct child *c, uint32_t serial,
                          const int fd[2], const char *error)
{
    struct worker_cert m = {.certificate = f->sec->conf->id, .pair = f->pair, .serial = serial};
    int nfds = fd[0] < 0 ? 0 : fd[1] < 0 ? 1 : 2;
    memcpy(m.name, f->name, strlen(f->name));
    snprintf(m.text, sizeof(m.text), "%s", error);
    return msg_send(c->channel.fd, nfds ? M_CERT_FILES : M_CERT_GONE, &m, sizeof(m), fd, nfds);
}

/* Opens both files. Returns "" when that worked or an entry of a directory has gone (fd[0] is -1
 * then), else what is wrong. */
static const char *certs_open(const struct certs_file *f, int fd[2])
{
    struct certdir_paths p;
    const char *cert, *key, *error = "";
    int dir = certs_dir(f), e = dir == -1 ? -ERR_SYS : 0;
    fd[0] = fd[1] = -1;
    if (e == 0)
        e = certs_where(f, &p, &cert, &key)
                ? certdir_open_both(dir, cert, key, f->name[0] != '\0', &fd[0], &fd[1])
                : -ERR_NOENT;
    if (e < 0 && (e != -ERR_NOENT || !f->name[0]))
        error = certdir_error(e);
    certs_dir_close(dir);
    return error;
}

static void certs_close(const int fd[2])
{
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
    }
}

static bool certs_is_pair(const struct certs_file *f)
{
    return !f->name[0] && f->pair != WORKER_CERT_OCSP;
}

/* As certs_open(), but of a pair a copy is handed out, always the same of one change: what a worker
 * has found good is then what is kept. */
static const char *certs_open_change(struct certs_file *f, int fd[2])
{
    if (certs_is_pair(f) && certcopy_is(&f->trial) && f->trial_serial == f->serial &&
        certcopy_open(&f->trial, fd) == 0)
        return "";
    const char *error = certs_open(f, fd);
    certcopy_wipe(&f->trial);
    if (!certs_is_pair(f) || fd[0] < 0 || certcopy_make(fd, &f->trial) < 0)
        return error;
    int copy[2];
    f->trial_serial = f->serial;
    if (certcopy_open(&f->trial, copy) < 0) {
        certcopy_wipe(&f->trial);
        return error;
    }
    certs_close(fd);
    fd[0] = copy[0];
    fd[1] = copy[1];
    return "";
}

static void certs_accepted(struct certs_file *f)
{
    if (!certcopy_is(&f->trial) || f->trial_serial != f->serial)
        return;
    certcopy_wipe(&f->good);
    f->good = f->trial;
    f->trial = CERTCOPY_NONE;
}

static void certs_log_bad(struct certs_file *f, const char *why)
{
    if (f->told)
        return;
    f->told = true;
    LOG_ERROR("certificate_bad", "certificate " SLICE_FMT ": %s: %s; the last good one stays",
              SLICE_ARG(f->sec->conf->name), certs_path(f), why);
}

/* To every worker that has not got it. True: all have. */
static bool certs_send(struct generation *g, struct certs_file *f)
{
    int fd[2];
    bool all = true;
    const char *error = certs_open_change(f, fd);
    if (error[0])
        certs_log_bad(f, error);
    for (uint32_t i = 0; i < g->nworker; i++) {
        uint64_t *word = &f->worker[i / 64], bit = (uint64_t)1 << i % 64;
        struct child *c = &g->child[i];
        if (!(*word & bit))
            continue;
        if (c->pid != 0 && c->channel.fd >= 0 &&
            certs_send_one(f, c, f->serial, fd, error) == -ERR_AGAIN)
            all = false;
        else
            *word &= ~bit;
    }
    bool gone = fd[0] < 0 && !error[0];
    certs_close(fd);
    if (!all)
        return false;
    list_remove(&f->todo);
    f->due = false;
    if (gone) {
        LOG_NOTICE("certificate_gone", "certificate " SLICE_FMT ": %s is not there any more",
                   SLICE_ARG(f->sec->conf->name), certs_path(f));
        certs_file_free(f);
    }
    return true;
}

static void certs_on_send(struct ev_timer *t)
{
    struct generation *g = certs_live();
    unsigned n = 0;
    if (!g)
        return;
    LIST_EACH_SAFE(it, tmp, &w.due)
    {
        if (n++ == SENDS_PER_TICK || !certs_send(g, CONTAINER(it, struct certs_file, todo)))
            break;
    }
    if (!list_empty(&w.due))
        ev_timer_set(t, SEND_MS, certs_on_send);
}

/* ---- changes ---- */

static bool certs_same(const struct certdir_look *a, int ae, const struct certdir_look *b, int be)
{
    return ae == be && memcmp(&a->cert, &b->cert, sizeof(a->cert)) == 0 &&
           memcmp(&a->key, &b->key, sizeof(a->key)) == 0;
}

/* Changed, and settled: it goes to the workers. */
static void certs_changed(const struct generation *g, struct certs_file *f)
{
    f->look = f->next;
    f->error = f->next_error;
    f->serial = ++w.serial ? w.serial : ++w.serial;
    f->told = false;
    for (uint32_t i = 0; i < g->nworker; i++)
        f->worker[i / 64] |= (uint64_t)1 << i % 64;
    certs_send_soon(f);
}

static void certs_settle(struct certs_file *f, const struct certdir_look *look, int e)
{
    f->next = *look;
    f->next_error = e;
    f->seen_ms = clock_ms();
    f->settling = true;
    f->due = false;
    list_remove(&f->todo);
    list_append(&w.settling, &f->todo); /* in order of time */
}

static void certs_on_settle(struct ev_timer *t)
{
    const struct generation *g = certs_live();
    uint64_t now = clock_ms();
    unsigned n = 0;
    if (!g)
        return;
    while (!list_empty(&w.settling) && n++ < LOOKS_PER_TICK) {
        struct certs_file *f = CONTAINER(w.settling.next, struct certs_file, todo);
        struct certdir_look look = {0};
        if (f->seen_ms + SETTLE_MS > now) {
            ev_timer_set(t, f->seen_ms + SETTLE_MS - now, certs_on_settle);
            return;
        }
        int dir = certs_dir(f);
        int e = dir == -1 ? -ERR_SYS : certs_look(f, dir, &look);
        certs_dir_close(dir);
        if (certs_same(&f->next, f->next_error, &look, e))
            certs_changed(g, f);
        else
            certs_settle(f, &look, e);
    }
    if (!list_empty(&w.settling))
        ev_timer_set(t, TICK_MS, certs_on_settle);
}

/* Copies what the workers have read at their start. */
static void certs_keep_first(struct certs_file *f)
{
    struct certdir_look after;
    int fd[2];
    if (!certs_is_pair(f) || certs_open(f, fd)[0])
        return;
    (void)certcopy_make(fd, &f->good);
    certs_close(fd);
    /* Changed meanwhile: the next round sees it too. */
    if (certs_look(f, AT_FDCWD, &after) < 0 || !certs_same(&f->look, 0, &after, 0))
        certcopy_wipe(&f->good);
}

/* What a round found; fresh: for the first time. */
static void certs_saw(const struct generation *g, struct certs_file *f, bool fresh,
                      const struct certdir_look *look, int e)
{
    f->round = w.round;
    list_remove(&f->all);
    list_append(&f->sec->files, &f->all);
    if (f->settling)
        return; /* another clock decides */
    if (fresh && w.round == 1 && e == 0 && certs_older(look, w.since_ms)) {
        f->look = *look; /* the workers have read it so */
        certs_keep_first(f);
        return;
    }
    if (!fresh && certs_same(&f->look, f->error, look, e))
        return;
    if (e == 0 && certs_older(look, clock_cached.wall_ms - SETTLE_MS)) {
        f->next = *look;
        f->next_error = e;
        certs_changed(g, f);
        return;
    }
    certs_settle(f, look, e);
    if (!ev_timer_running(&w.settle_timer))
        ev_timer_set(&w.settle_timer, SETTLE_MS, certs_on_settle);
}

/* ---- a round ---- */

static void certs_look_at(const struct generation *g, struct certs_section *s, struct slice name,
                          uint32_t pair, int dir)
{
    struct certs_file *f = certs_find(s, name, pair);
    struct certdir_look look;
    bool fresh = !f;
    if (fresh)
        f = certs_file_new(s, name, pair);
    if (!f)
        return; /* no memory: the next round tries again */
    int e = certs_look(f, dir, &look);
    if (e == -ERR_NOENT && name.n) {
        if (fresh) /* a folder without certificates, a link to nowhere */
            certs_file_free(f);
        return; /* otherwise it has not been seen, and goes at the end */
    }
    certs_saw(g, f, fresh, &look, e);
}

/* The next names of the directory. True: it is read to its end. */
static bool certs_read_dir(const struct generation *g, struct certs_section *s, unsigned *budget)
{
    const struct dirent *at;
    while (*budget > 0) {
        errno = 0;
        at = readdir(w.dir);
        if (!at)
            return true;
        enum certdir_kind kind = certdir_kind(slice_str(at->d_name));
        if (kind == CERTDIR_NONE || (kind == CERTDIR_FOLDER && at->d_type == DT_REG) ||
            (kind == CERTDIR_PLAIN && at->d_type == DT_DIR))
            continue;
        --*budget;
        certs_look_at(g, s, slice_str(at->d_name), 0, dirfd(w.dir));
    }
    return false;
}

/* Entries that this round did not meet are at the front of the list. */
static void certs_sweep(const struct generation *g, struct certs_section *s)
{
    LIST_EACH_SAFE(it, tmp, &s->files)
    {
        struct certs_file *f = CONTAINER(it, struct certs_file, all);
        if (f->round == w.round)
            return;
        if (!f->name[0] || f->settling)
            continue;
        memset(&f->next, 0, sizeof(f->next));
        f->next_error = -ERR_NOENT;
        f->round = w.round;
        certs_changed(g, f);
    }
}

/* Opens the directory. False: there is none, or it cannot be read, which is said once. */
static bool certs_open_dir(struct certs_section *s)
{
    if (s->conf->k.directory.n == 0)
        return false;
    w.dir = opendir(s->conf->k.directory.p);
    if (!w.dir && !s->unreadable)
        LOG_ERROR("certificate_bad", "certificate " SLICE_FMT ": cannot read " SLICE_FMT ": %s",
                  SLICE_ARG(s->conf->name), SLICE_ARG(s->conf->k.directory), strerror(errno));
    s->unreadable = !w.dir;
    return w.dir != NULL;
}

/* True: the section is done. */
static bool certs_look_section(const struct generation *g, struct certs_section *s,
                               unsigned *budget)
{
    if (!w.dir) {
        for (uint32_t i = 0; i < s->conf->k.pair.n; i++)
            certs_look_at(g, s, SLICE_NONE, i, AT_FDCWD);
        if (s->conf->k.ocsp.n)
            certs_look_at(g, s, SLICE_NONE, WORKER_CERT_OCSP, AT_FDCWD);
        *budget -= s->conf->k.pair.n < *budget ? (unsigned)s->conf->k.pair.n : *budget;
        if (!certs_open_dir(s))
            return true;
    }
    if (!certs_read_dir(g, s, budget))
        return false;
    bool whole = errno == 0;
    closedir(w.dir);
    w.dir = NULL;
    if (whole)
        certs_sweep(g, s);
    return true;
}

static void certs_on_look(struct ev_timer *t)
{
    const struct generation *g = certs_live();
    unsigned budget = LOOKS_PER_TICK;
    if (!g) {
        certs_end();
        return;
    }
    if (w.at == 0 && !w.dir) {
        w.round++;
        w.round_ms = clock_ms();
    }
    while (w.at < w.nsec && budget > 0) {
        if (certs_look_section(g, &w.sec[w.at], &budget))
            w.at++;
    }
    if (w.at < w.nsec) {
        ev_timer_set(t, TICK_MS, certs_on_look);
        return;
    }
    w.at = 0;
    uint64_t took = clock_ms() - w.round_ms, every = certs_interval();
    ev_timer_set(t, took < every ? every - took : TICK_MS, certs_on_look);
}

/* ---- what workers say ---- */

/* The entry, also when no round has met it yet. */
static struct certs_file *certs_meet(struct certs_section *s, struct slice name)
{
    struct certs_file *f = certs_find(s, name, 0);
    if (f)
        return f;
    f = certs_file_new(s, name, 0);
    int dir = f ? certs_dir(f) : -1;
    int e = dir >= 0 ? certs_look(f, dir, &f->look) : -ERR_NOENT;
    certs_dir_close(dir);
    if (f && e == -ERR_NOENT) {
        certs_file_free(f);
        return NULL;
    }
    if (f)
        f->error = e;
    return f;
}

/* A worker that took the place of a dead one cannot use the files of a pair as they are now. */
static void certs_asked_good(struct child *c, const struct worker_cert *m)
{
    struct certs_file *f = NULL;
    int fd[2];
    if (c->gen == certs_live() && m->certificate < w.nsec)
        f = certs_find(&w.sec[m->certificate], SLICE_NONE, m->pair);
    if (!f || !certcopy_is(&f->good) || certcopy_open(&f->good, fd) < 0)
        return;
    if (certs_send_one(f, c, 0, fd, m->text) == 0)
        LOG_NOTICE("certificate_last_good",
                   "certificate " SLICE_FMT ": %s pid %d gets the last good files of %s",
                   SLICE_ARG(f->sec->conf->name), child_name(c), (int)c->pid, certs_path(f));
    certs_close(fd);
}

static void certs_asked(struct child *c, const struct worker_cert *m)
{
    const struct config *conf = c->gen->config;
    bool live = c->gen == certs_live();
    struct slice name = slice_str(m->name);
    struct certs_file *f = NULL, *own = NULL;
    struct certs_section one = {0};
    int fd[2];
    if (!conf) {
        struct worker_cert no = *m;
        snprintf(no.text, sizeof(no.text), "rpd is being upgraded");
        (void)msg_send(c->channel.fd, M_CERT_GONE, &no, sizeof(no), NULL, 0);
        return;
    }
    if (m->certificate >= conf->ncertificate || certdir_kind(name) == CERTDIR_NONE ||
        conf->certificate[m->certificate]->k.directory.n == 0) {
        LOG_WARN("certificate_refused", "%s pid %d asked for a certificate that is not its own",
                 child_name(c), (int)c->pid);
        return;
    }
    if (live)
        f = certs_meet(&w.sec[m->certificate], name);
    if (!f) { /* it has gone, or is of an old generation */
        one.conf = conf->certificate[m->certificate];
        f = own = calloc(1, sizeof(*f) + name.n + 1);
        if (!f)
            return;
        f->sec = &one;
        f->good = f->trial = CERTCOPY_NONE;
        memcpy(f->name, name.p, name.n);
    }
    const char *error = certs_open(f, fd);
    if (certs_send_one(f, c, 0, fd, error) == -ERR_AGAIN && !own) {
        f->worker[c->number / 64] |= (uint64_t)1 << c->number % 64;
        certs_send_soon(f);
    }
    certs_close(fd);
    free(own);
}

static void certs_result(const struct child *c, const struct worker_cert *m)
{
    if (c->gen != certs_live() || m->certificate >= w.nsec)
        return;
    struct certs_file *f = certs_find(&w.sec[m->certificate], slice_str(m->name), m->pair);
    if (!f || (m->serial != 0 && m->serial != f->serial))
        return;
    if (!m->ok) {
        certs_log_bad(f, m->text);
        return;
    }
    certs_accepted(f);
    if (!f->told) {
        f->told = true;
        LOG_NOTICE("certificate_reloaded", "certificate " SLICE_FMT ": %s is in use now",
                   SLICE_ARG(f->sec->conf->name), certs_path(f));
    }
}

void certs_message(struct child *c, const struct msg *m)
{
    struct worker_cert in;
    if (m->len != sizeof(in)) {
        LOG_WARN("channel_malformed", "%s pid %d sent a malformed message", child_name(c),
                 (int)c->pid);
        return;
    }
    memcpy(&in, m->payload, sizeof(in));
    in.name[sizeof(in.name) - 1] = '\0';
    in.text[sizeof(in.text) - 1] = '\0';
    if (m->type == W_CERT_OPEN && !in.name[0])
        certs_asked_good(c, &in);
    else if (m->type == W_CERT_OPEN)
        certs_asked(c, &in);
    else
        certs_result(c, &in);
}

/* ---- begin and end ---- */

void certs_end(void)
{
    ev_timer_stop(&w.look_timer);
    ev_timer_stop(&w.settle_timer);
    ev_timer_stop(&w.send_timer);
    if (w.dir)
        closedir(w.dir);
    for (size_t i = 0; i < w.nsec; i++) {
        LIST_EACH_SAFE(it, tmp, &w.sec[i].files)
        certs_file_free(CONTAINER(it, struct certs_file, all));
        table_fini(&w.sec[i].byname);
    }
    free(w.sec);
    w = (struct certs){.serial = w.serial};
}

void certs_begin(const struct generation *g)
{
    const struct config *conf = g->config;
    uint64_t first_ms = clock_ms();
    certs_end();
    if (!conf || conf->ncertificate == 0)
        return;
    w.sec = calloc(conf->ncertificate, sizeof(*w.sec));
    if (!w.sec)
        return;
    list_init(&w.settling);
    list_init(&w.due);
    for (; w.nsec < conf->ncertificate; w.nsec++) {
        struct certs_section *s = &w.sec[w.nsec];
        list_init(&s->files);
        s->conf = conf->certificate[w.nsec];
        if (table_init(&s->byname, 8) < 0) {
            certs_end();
            return;
        }
    }
    w.generation = g->number;
    for (uint32_t i = 0; i < g->nworker; i++) {
        if (g->child[i].started_ms < first_ms)
            first_ms = g->child[i].started_ms;
    }
    w.since_ms = clock_cached.wall_ms - (int64_t)(clock_ms() - first_ms);
    if (conf->global.certificate_check)
        ev_timer_set(&w.look_timer, 0, certs_on_look);
}
