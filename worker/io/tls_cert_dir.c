/* A directory of certificates as it is at the start: each file is looked into, none is parsed in
 * earnest; see tls_cert_in.h. */
#include "worker/io/tls_cert_in.h"

#include "base/arena.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WARNINGS_MOST 10u /* of a directory; the rest is counted */

struct dir_index {
    struct certs_section *s;
    struct conf_diags *d;
    struct conf_pos pos;
    int fd;
    unsigned warned;
    struct certs_entry *expired; /* one of those */
    unsigned nexpired;
    int64_t now_s;
};

static void dir_warn(struct dir_index *x, const char *name, const char *what)
{
    if (x->warned++ < WARNINGS_MOST)
        conf_diag_add(x->d, CONF_WARNING, x->pos, NULL, SLICE_FMT "/%s %s",
                      SLICE_ARG(x->s->conf->k.directory), name, what);
}

/* The bytes of a file, in the store's scratch memory. */
static int dir_read(struct dir_index *x, const char *path, struct slice *ret)
{
    size_t size, n = 0;
    int fd = certdir_open(x->fd, path, &size);
    if (fd < 0)
        return fd;
    while (n < size) {
        ssize_t got = read(fd, x->s->certs->scratch + n, size - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    *ret = slice_of(x->s->certs->scratch, n);
    return 0;
}

static int dir_entry(struct dir_index *x, const char *name)
{
    struct certdir_paths p;
    struct slice file = SLICE_NONE;
    struct tls_scan scan;
    if (!certdir_paths(slice_str(name), &p))
        return 0;
    bool folder = certdir_kind(slice_str(name)) == CERTDIR_FOLDER;
    int e = dir_read(x, p.cert, &file);
    if (e < 0) {
        if (!folder || e != -ERR_NOENT)
            dir_warn(x, p.cert, certdir_error(e));
        return 0;
    }
    e = tls_scan_file(file, (uint8_t *)x->s->certs->scratch + CERTDIR_FILE, &scan);
    bool with_key = e == 0 && scan.has_key;
    explicit_bzero(x->s->certs->scratch, file.n);
    if (e < 0) {
        /* A .pem may hold anything else, such as a key alone or parameters. */
        if (e != -ERR_NOENT || !slice_ends(slice_str(name), SLICE(".pem")))
            dir_warn(x, p.cert,
                     e == -ERR_NOENT ? "holds no certificate (PEM)"
                                     : "holds a certificate that cannot be read");
        return 0;
    }
    if (!with_key && faccessat(x->fd, p.key, F_OK, 0)) {
        if (!slice_ends(slice_str(name), SLICE(".pem")))
            dir_warn(x, p.cert, "has no key beside it and is left out");
        return 0;
    }
    struct certs_entry *c = tls_cert_entry_new(x->s, slice_str(name), 0);
    if (!c || tls_cert_entry_scanned(c, &scan) < 0) {
        tls_cert_entry_free(c);
        return -ERR_NOMEM;
    }
    if (c->not_after_s <= x->now_s) {
        x->expired = c;
        x->nexpired++;
    }
    return 0;
}

static int dir_eager(struct dir_index *x)
{
    struct certs_section *s = x->s;
    LIST_EACH(it, &s->entries)
    {
        struct certs_entry *c = CONTAINER(it, struct certs_entry, all);
        struct certdir_paths p;
        struct slice cert = SLICE_NONE, key = SLICE_NONE;
        const char *why = NULL;
        int fd[2];
        if (s->nloaded >= s->conf->k.max_loaded)
            break;
        certdir_paths(slice_str(c->name), &p);
        int e = certdir_open_both(x->fd, p.cert, p.key, true, &fd[0], &fd[1]);
        if (e < 0) {
            dir_warn(x, p.cert, certdir_error(e));
            continue;
        }
        e = tls_cert_file_read(fd[0], &cert);
        if (e == 0 && fd[1] >= 0)
            e = tls_cert_file_read(fd[1], &key);
        why = e < 0 ? certdir_error(e) : NULL;
        if (e == 0)
            e = tls_cert_entry_load(c, cert, key, true, &why);
        if (e < 0)
            dir_warn(x, p.cert, why);
        tls_cert_file_free(&cert);
        tls_cert_file_free(&key);
        close(fd[0]);
        if (fd[1] >= 0)
            close(fd[1]);
        if (e == -ERR_NOMEM)
            return e;
    }
    return 0;
}

static int dir_all(struct dir_index *x, DIR *dir)
{
    const struct dirent *at;
    int e = 0;
    while (e == 0 && (at = readdir(dir)) != NULL) {
        enum certdir_kind kind = certdir_kind(slice_str(at->d_name));
        if (kind == CERTDIR_NONE || (kind == CERTDIR_FOLDER && at->d_type == DT_REG) ||
            (kind == CERTDIR_PLAIN && at->d_type == DT_DIR))
            continue;
        e = dir_entry(x, at->d_name);
    }
    if (e == 0 && x->s->conf->k.load == CONF_LOAD_EAGER)
        e = dir_eager(x);
    return e;
}

int tls_cert_dir_index(struct certs_section *s, bool strict, struct conf_diags *d)
{
    struct slice path = s->conf->k.directory;
    struct dir_index x = {.s = s,
                          .d = d,
                          .pos = tls_pos(s->conf->origin, s->conf->pos, "directory"),
                          .now_s = (int64_t)time(NULL)};
    char date[16];
    if (table_init(&s->byname, 1024) < 0)
        return -ERR_NOMEM;
    DIR *dir = opendir(path.p);
    if (!dir) {
        conf_diag_add(d, strict ? CONF_ERROR : CONF_WARNING, x.pos, NULL,
                      "cannot read directory " SLICE_FMT ": %s", SLICE_ARG(path), strerror(errno));
        return strict ? -ERR_INVAL : 0;
    }
    x.fd = dirfd(dir);
    int e = dir_all(&x, dir);
    closedir(dir);
    if (x.warned > WARNINGS_MOST)
        conf_diag_add(d, CONF_WARNING, x.pos, NULL, SLICE_FMT ": %u more files cannot be used",
                      SLICE_ARG(path), x.warned - WARNINGS_MOST);
    if (x.nexpired)
        conf_diag_add(d, CONF_WARNING, x.pos, NULL,
                      SLICE_FMT ": %u certificates have expired, one of them %s on %s",
                      SLICE_ARG(path), x.nexpired, x.expired->name,
                      tls_cert_date(x.expired->not_after_s, date));
    if (e == 0 && s->nentry == 0)
        conf_diag_add(d, CONF_WARNING, x.pos, NULL, "there is no certificate in " SLICE_FMT,
                      SLICE_ARG(path));
    return e;
}
