/* Directories of certificates; see certdir.h. */
#include "config/certdir.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const certdir_suffix[] = {".pem", ".crt", ".cer", ".cert"};
#define CERTDIR_SUFFIXES (sizeof certdir_suffix / sizeof certdir_suffix[0])

/* Length of the suffix of a certificate's file name, 0 = none. */
static size_t certdir_suffix_of(struct slice name)
{
    for (size_t i = 0; i < CERTDIR_SUFFIXES; i++) {
        struct slice s = slice_str(certdir_suffix[i]);
        if (name.n > s.n && slice_ends(name, s))
            return s.n;
    }
    return 0;
}

enum certdir_kind certdir_kind(struct slice name)
{
    if (name.n == 0 || name.n >= CERTDIR_NAME || name.p[0] == '.' || slice_chr(name, '/') >= 0 ||
        slice_chr(name, '\0') >= 0)
        return CERTDIR_NONE;
    return certdir_suffix_of(name) ? CERTDIR_PLAIN : CERTDIR_FOLDER;
}

bool certdir_paths(struct slice name, struct certdir_paths *ret)
{
    int n = (int)name.n;
    switch (certdir_kind(name)) {
    case CERTDIR_NONE:
        return false;
    case CERTDIR_PLAIN:
        snprintf(ret->cert, sizeof ret->cert, "%.*s", n, name.p);
        snprintf(ret->key, sizeof ret->key, "%.*s.key", n - (int)certdir_suffix_of(name), name.p);
        break;
    case CERTDIR_FOLDER:
        snprintf(ret->cert, sizeof ret->cert, "%.*s/fullchain.pem", n, name.p);
        snprintf(ret->key, sizeof ret->key, "%.*s/privkey.pem", n, name.p);
        break;
    }
    return true;
}

static int certdir_errno(void)
{
    return errno == ENOENT || errno == ENOTDIR ? -ERR_NOENT : -ERR_SYS;
}

static int certdir_regular(const struct stat *st)
{
    return !S_ISREG(st->st_mode) ? -ERR_INVAL : st->st_size > CERTDIR_FILE ? -ERR_RANGE : 0;
}

static int64_t certdir_ns(const struct timespec *t)
{
    return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

static int certdir_stat(int dir, const char *path, struct certdir_file *ret, int64_t *changed_ns)
{
    struct stat st;
    if (fstatat(dir, path, &st, 0))
        return certdir_errno();
    int64_t mtime_ns = certdir_ns(&st.st_mtim), ctime_ns = certdir_ns(&st.st_ctim);
    *ret = (struct certdir_file){
        .dev = st.st_dev, .ino = st.st_ino, .size = st.st_size, .mtime_ns = mtime_ns};
    if (mtime_ns > *changed_ns)
        *changed_ns = mtime_ns;
    if (ctime_ns > *changed_ns)
        *changed_ns = ctime_ns;
    return certdir_regular(&st);
}

int certdir_look(int dir, const char *cert, const char *key, bool optional,
                 struct certdir_look *ret)
{
    memset(ret, 0, sizeof *ret);
    int e = certdir_stat(dir, cert, &ret->cert, &ret->changed_ns);
    if (e < 0 || !key[0] || strcmp(cert, key) == 0)
        return e;
    e = certdir_stat(dir, key, &ret->key, &ret->changed_ns);
    return e == -ERR_NOENT && optional ? 0 : e;
}

int certdir_open(int dir, const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return certdir_errno();
    int e = fstat(fd, &st) ? -ERR_SYS : certdir_regular(&st);
    if (e < 0) {
        close(fd);
        return e;
    }
    *ret_size = (size_t)st.st_size;
    return fd;
}

int certdir_open_both(int dir, const char *cert, const char *key, bool optional, int *ret_cert,
                      int *ret_key)
{
    size_t size;
    *ret_key = -1;
    *ret_cert = certdir_open(dir, cert, &size);
    if (*ret_cert < 0 || !key[0] || strcmp(cert, key) == 0)
        return *ret_cert < 0 ? *ret_cert : 0;
    *ret_key = certdir_open(dir, key, &size);
    if (*ret_key >= 0)
        return 0;
    int e = *ret_key;
    *ret_key = -1;
    if (e == -ERR_NOENT && optional)
        return 0;
    close(*ret_cert);
    *ret_cert = -1;
    return e;
}

const char *certdir_error(int e)
{
    return e == -ERR_INVAL   ? "is no regular file"
           : e == -ERR_RANGE ? "is larger than 1 MiB"
           : e == -ERR_NOENT ? "is not there"
                             : strerror(errno);
}
