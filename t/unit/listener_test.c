/* Listening sockets of the master: taken back without a trace when a generation fails, kept when
 * workers shrink, adopted, refused. */
#include "base/err.h"
#include "master/listener.h"
#include "t/unit/tap.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static struct list listeners;

static struct conf_address address_of(const char *text)
{
    struct conf_address a = {.text = slice_str(text),
                             .pos = {.file = "t.conf", .line = 7, .col = 3}};
    if (addr_parse(a.text, &a.addr) < 0)
        abort();
    return a;
}

/* A configuration of one listen section. */
struct fixture {
    struct conf_address address[2];
    struct conf_listen listen;
    struct conf_listen *all[1];
    struct config c;
};
static void fixture_set(struct fixture *f, const char *first, const char *second, uint32_t workers)
{
    memset(f, 0, sizeof(*f));
    f->address[0] = address_of(first);
    if (second)
        f->address[1] = address_of(second);
    f->listen.k.address = (struct conf_addrs){f->address, second ? 2 : 1};
    f->listen.k.backlog = 16;
    f->listen.k.mode = 0660;
    f->all[0] = &f->listen;
    f->c.listen = f->all;
    f->c.nlisten = 1;
    f->c.workers = workers;
}

static int open_all(const struct fixture *f, bool *ret_named)
{
    struct conf_diags d;
    conf_diags_init(&d);
    int rc = listener_open_all(&listeners, &f->c, &d);
    if (ret_named)
        *ret_named = d.n > 0 && d.v[0].pos.line == 7;
    conf_diags_fini(&d);
    return rc;
}

static unsigned count(void)
{
    unsigned n = 0;
    LIST_EACH(it, &listeners)
    n++;
    return n;
}

static bool can_connect(const struct addr_any *a)
{
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, &a->u.sa, a->len) == 0;
    close(fd);
    return ok;
}

/* A port of the loopback that was free a moment ago. */
static const char *free_port(char out[32])
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&in, n) < 0 || getsockname(fd, (struct sockaddr *)&in, &n) < 0)
        abort();
    close(fd);
    snprintf(out, 32, "127.0.0.1:%u", ntohs(in.sin_port));
    return out;
}

static void tcp(void)
{
    char one[32], two[32];
    struct fixture f, g;
    const char *bad = "";
    fixture_set(&f, free_port(one), NULL, 2);
    tap_is_int(open_all(&f, NULL), 0, "two sockets of an address");
    struct listener *l = listener_find(&listeners, slice_str(one));
    tap_ok(l && l->n == 2 && l->listening == 0, "are bound and do not listen");
    tap_ok(l && !can_connect(&l->addr), "so nobody can land in them");
    tap_is_int(listener_listen_all(&listeners, &f.c, &bad), 0, "listen");
    tap_ok(l && can_connect(&l->addr), "then one can");

    fixture_set(&g, one, free_port(two), 4);
    tap_is_int(open_all(&g, NULL), 0, "a second generation with an address and two workers more");
    tap_ok(l && l->n == 4 && l->listening == 2 && l->refs == 2, "new sockets beside the old");
    listener_release_all(&listeners, &g.c);
    tap_ok(l && l->n == 2 && l->refs == 1, "that is taken back leaves the old ones");
    tap_is_int(count(), 1, "and no new address");

    tap_is_int(open_all(&g, NULL), 0, "again");
    tap_is_int(listener_listen_all(&listeners, &g.c, &bad), 0, "and this time it serves");
    listener_release_all(&listeners, &f.c);
    tap_ok(l && l->n == 4 && l->refs == 1, "the first generation gone, all four stay");
    fixture_set(&f, one, NULL, 1);
    tap_is_int(open_all(&f, NULL), 0, "one worker");
    tap_is_int(listener_listen_all(&listeners, &f.c, &bad), 0, "serves");
    listener_release_all(&listeners, &g.c);
    tap_ok(l && l->n == 4, "all four sockets, for no queue may be orphaned");
    struct addr_any gone;
    addr_parse(slice_str(two), &gone);
    tap_ok(count() == 1 && !can_connect(&gone), "the address that nobody names refuses");
    listener_close_all(&listeners);
    tap_is_int(count(), 0, "nothing left");
}

static void taken(void)
{
    char one[32], other[32];
    struct fixture f;
    bool named = false;
    struct addr_any a;
    const int on = 1;
    addr_parse(slice_str(free_port(one)), &a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd, &a.u.sa, a.len) < 0 || listen(fd, 1) < 0)
        abort();
    fixture_set(&f, free_port(other), one, 2);
    tap_is_int(open_all(&f, &named), -ERR_INVAL,
               "an address that another program shares with SO_REUSEPORT is taken");
    tap_ok(named, "the diagnostic names the line");
    tap_is_int(count(), 0, "and what was opened before it is closed");
    close(fd);
}

static void unix_socket(void)
{
    char dir[] = "/tmp/rpd-listener-XXXXXX", path[64], text[80];
    struct fixture f;
    struct stat st;
    const char *bad = "";
    bool named = false;
    if (!mkdtemp(dir))
        abort();
    snprintf(path, sizeof(path), "%s/s", dir);
    snprintf(text, sizeof(text), "unix:%s", path);
    fixture_set(&f, text, NULL, 3);
    tap_is_int(open_all(&f, NULL), 0, "a unix socket");
    struct listener *l = listener_find(&listeners, slice_str(text));
    tap_ok(l && l->n == 1, "is one for all workers");
    tap_is_int(listener_listen_all(&listeners, &f.c, &bad), 0, "listens");
    tap_ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0660, "with its mode");

    /* A second program: the file of a living one stays. */
    struct list none;
    list_init(&none);
    struct conf_diags d;
    conf_diags_init(&d);
    tap_is_int(listener_open_all(&none, &f.c, &d), -ERR_INVAL, "a living one is not replaced");
    conf_diags_fini(&d);
    tap_ok(l && can_connect(&l->addr), "and lives on");

    /* A dead one: the file without its listener. */
    char moved[80];
    snprintf(moved, sizeof(moved), "%s/moved", dir);
    if (rename(path, moved) < 0)
        abort();
    listener_close_all(&listeners);
    tap_ok(stat(moved, &st) == 0, "only the file that was bound is removed");
    if (rename(moved, path) < 0)
        abort();
    tap_is_int(open_all(&f, NULL), 0, "a dead one is replaced");
    listener_close_all(&listeners);
    tap_ok(stat(path, &st) < 0 && errno == ENOENT, "the end removes the file");

    FILE *file = fopen(path, "w");
    if (file)
        fclose(file);
    tap_is_int(open_all(&f, &named), -ERR_INVAL, "what is no socket is left alone");
    tap_ok(named && stat(path, &st) == 0 && S_ISREG(st.st_mode), "and named");
    unlink(path);
    rmdir(dir);
}

static void held(void)
{
    char one[32];
    struct fixture f;
    const char *bad = "";
    fixture_set(&f, free_port(one), NULL, 1);
    open_all(&f, NULL);
    listener_listen_all(&listeners, &f.c, &bad);
    struct listener *l = listener_find(&listeners, slice_str(one));
    int fd = l ? dup(l->fd[0]) : -1;
    listener_close_all(&listeners);
    l = listener_adopt(&listeners, slice_str(one), 1);
    tap_ok(l && l->held && l->refs == 1, "an inherited listener is held");
    if (l) {
        l->addr = f.address[0].addr;
        l->fd[l->n++] = fd;
        l->listening = 1;
    }
    tap_is_int(open_all(&f, NULL), 0, "a configuration that names it");
    tap_ok(l && l->n == 1 && l->refs == 2, "uses it");
    listener_release_all(&listeners, &f.c);
    tap_ok(l && can_connect(&l->addr), "one that fails gives it back unharmed");
    listener_release_held(&listeners);
    tap_is_int(count(), 0, "and without any it is closed");
}

int main(void)
{
    list_init(&listeners);
    tcp();
    taken();
    unix_socket();
    held();
    return tap_done();
}
