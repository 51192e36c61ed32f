/* Listening sockets: one SO_REUSEPORT socket per address and worker slot, owned by the master. */
#include "master/listener.h"

#include "base/err.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener *listener_find(const struct list *listeners, struct slice text)
{
    LIST_EACH(it, listeners)
    {
        struct listener *l = CONTAINER(it, struct listener, link);
        if (slice_eq(slice_str(l->text), text))
            return l;
    }
    return NULL;
}

static struct listener *listener_new(struct slice text)
{
    struct listener *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->text = strndup(text.p, text.n);
    if (!l->text) {
        free(l);
        return NULL;
    }
    list_init(&l->link);
    return l;
}

/* Room for n descriptors; new ones are -1. */
static int listener_room(struct listener *l, uint32_t n)
{
    if (n <= l->n)
        return 0;
    int *fd = realloc(l->fd, n * sizeof(*fd));
    if (!fd)
        return -ERR_NOMEM;
    l->fd = fd;
    for (uint32_t i = l->n; i < n; i++)
        fd[i] = -1;
    return 0;
}

static void listener_free(struct listener *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        close(l->fd[i]);
    if (l->is_unix && l->n > 0)
        sockfile_unlink(l->addr.u.un.sun_path, &l->file);
    list_remove(&l->link);
    free(l->fd);
    free(l->text);
    free(l);
}

/* One bound TCP socket; errno tells. */
static int listener_bind_tcp(const struct addr_any *a, bool reuseport)
{
    const int on = 1;
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* TCP_NODELAY is inherited by accepted sockets: one call here saves one for every connection.
     */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (!reuseport || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
        (a->u.sa.sa_family != AF_INET6 ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
        /* Accepted when the request is there: a worker is woken once, not twice. Who says nothing
         * is accepted a second later. */
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof(on)) == 0 &&
        bind(fd, &a->u.sa, a->len) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* SO_REUSEPORT would let a second rpd of the same user share the port in silence. A bind without it
 * finds out, unless the port is our own already (0.0.0.0:80 beside 127.0.0.1:80). */
static bool listener_taken(const struct list *listeners, const struct addr_any *a)
{
    LIST_EACH(it, listeners)
    {
        const struct listener *l = CONTAINER(it, struct listener, link);
        if (!l->is_unix && addr_port(&l->addr.u.sa) == addr_port(&a->u.sa))
            return false;
    }
    int fd = listener_bind_tcp(a, false);
    if (fd < 0)
        return errno == EADDRINUSE;
    close(fd);
    return false;
}

/* Binds sockets up to n. On failure those that are new are closed again. */
static int listener_grow(const struct list *listeners, struct listener *l, uint32_t n)
{
    uint32_t had = l->n;
    if (l->is_unix)
        n = 1; /* there is no SO_REUSEPORT for unix sockets: all workers share one */
    if (n <= had)
        return 0;
    if (had == 0 && !l->is_unix && listener_taken(listeners, &l->addr)) {
        errno = EADDRINUSE;
        return -ERR_SYS;
    }
    if (listener_room(l, n) < 0) {
        errno = ENOMEM;
        return -ERR_NOMEM;
    }
    while (l->n < n) {
        int fd = l->is_unix ? sockfile_bind(&l->addr.u.un, l->addr.len, 0600, &l->file)
                            : listener_bind_tcp(&l->addr, true);
        if (fd < 0) {
            int saved = errno;
            while (l->n > had)
                close(l->fd[--l->n]);
            errno = saved;
            return -ERR_SYS;
        }
        l->fd[l->n++] = fd;
    }
    return 0;
}

static int listener_open(struct list *listeners, const struct conf_address *a, uint32_t workers,
                         struct conf_diags *d)
{
    struct listener *l = listener_find(listeners, a->text);
    if (!l) {
        l = listener_new(a->text);
        if (!l)
            return -ERR_NOMEM;
        l->addr = a->addr;
        l->is_unix = a->addr.u.sa.sa_family == AF_UNIX;
    }
    if (listener_grow(listeners, l, workers) < 0) {
        conf_diag_add(d, CONF_ERROR, a->pos, NULL, "cannot bind " SLICE_FMT ": %s",
                      SLICE_ARG(a->text), strerror(errno));
        if (!list_linked(&l->link))
            listener_free(l);
        return -ERR_INVAL;
    }
    if (!list_linked(&l->link))
        list_append(listeners, &l->link);
    l->refs++;
    return 0;
}

/* Takes back what was opened for c up to (not including) address j of listen section i. */
static void listener_undo(struct list *listeners, const struct config *c, size_t i, size_t j)
{
    for (size_t s = 0; s < c->nlisten; s++) {
        for (size_t k = 0; k < c->listen[s]->k.address.n; k++) {
            if (s > i || (s == i && k >= j))
                return;
            struct listener *l = listener_find(listeners, c->listen[s]->k.address.v[k].text);
            if (l && l->refs > 0)
                l->refs--;
        }
    }
}

/* Sockets that were bound but never listened belong to nobody once a generation is taken back. */
static void listener_trim(struct list *listeners)
{
    LIST_EACH_SAFE(it, tmp, listeners)
    {
        struct listener *l = CONTAINER(it, struct listener, link);
        if (l->refs == 0) {
            listener_free(l);
            continue;
        }
        while (l->n > l->listening && l->listening > 0)
            close(l->fd[--l->n]);
    }
}

int listener_open_all(struct list *listeners, const struct config *c, struct conf_diags *d)
{
    int rc = 0;
    for (size_t i = 0; i < c->nlisten; i++) {
        for (size_t j = 0; j < c->listen[i]->k.address.n; j++) {
            rc = listener_open(listeners, &c->listen[i]->k.address.v[j], c->workers, d);
            if (rc < 0) {
                listener_undo(listeners, c, i, j);
                listener_trim(listeners);
                return rc;
            }
        }
    }
    return rc;
}

static int listener_start(struct listener *l)
{
    uint32_t from = l->backlog == l->listened_backlog ? l->listening : 0;
    for (uint32_t i = from; i < l->n; i++) {
        if (listen(l->fd[i], (int)l->backlog) < 0)
            return -ERR_SYS;
    }
    l->listening = l->n;
    l->listened_backlog = l->backlog;
    if (l->is_unix && chmod(l->addr.u.un.sun_path, (mode_t)l->mode) < 0)
        return -ERR_SYS;
    return 0;
}

int listener_listen_all(struct list *listeners, const struct config *c, const char **ret_text)
{
    for (size_t i = 0; i < c->nlisten; i++) {
        const struct conf_listen *s = c->listen[i];
        for (size_t j = 0; j < s->k.address.n; j++) {
            struct listener *l = listener_find(listeners, s->k.address.v[j].text);
            if (!l)
                continue;
            l->backlog = (uint32_t)s->k.backlog;
            l->mode = s->k.mode;
            *ret_text = l->text;
            if (listener_start(l) < 0)
                return -ERR_SYS;
        }
    }
    return 0;
}

void listener_release_all(struct list *listeners, const struct config *c)
{
    listener_undo(listeners, c, c->nlisten, 0);
    listener_trim(listeners);
}

struct listener *listener_adopt(struct list *listeners, struct slice text, uint32_t n)
{
    struct listener *l = listener_find(listeners, text);
    if (!l) {
        l = listener_new(text);
        if (!l)
            return NULL;
        l->refs = 1;
        l->held = true;
        list_append(listeners, &l->link);
    }
    return listener_room(l, n) < 0 ? NULL : l;
}

void listener_release_held(struct list *listeners)
{
    LIST_EACH_SAFE(it, tmp, listeners)
    {
        struct listener *l = CONTAINER(it, struct listener, link);
        if (!l->held)
            continue;
        l->held = false;
        if (--l->refs == 0)
            listener_free(l);
    }
}

void listener_close_all(struct list *listeners)
{
    LIST_EACH_SAFE(it, tmp, listeners)
    listener_free(CONTAINER(it, struct listener, link));
}
