/* Copies in memory of the files of a certificate; see certcopy.h. */
#include "master/certcopy.h"

#include "base/err.h"
#include "config/certdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static int certcopy_one(int from, int *ret)
{
    int fd = memfd_create("rpd-certificate", MFD_CLOEXEC);
    off_t at = 0;
    ssize_t n = -1;
    if (fd < 0)
        return -ERR_SYS;
    while (at <= CERTDIR_FILE && (n = sendfile(fd, from, &at, CERTDIR_FILE)) > 0)
        continue;
    /* Who gets it in a worker may read it, and nothing else. */
    if (n == 0 && fchmod(fd, 0400) == 0) {
        *ret = fd;
        return 0;
    }
    int rc = n < 0 ? -ERR_SYS : -ERR_RANGE;
    close(fd);
    return rc;
}

int certcopy_make(const int from[2], struct certcopy *ret)
{
    *ret = CERTCOPY_NONE;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        if (from[i] >= 0)
            rc = certcopy_one(from[i], &ret->fd[i]);
    }
    if (rc < 0)
        certcopy_wipe(ret);
    return rc;
}

int certcopy_open(const struct certcopy *c, int ret[2])
{
    ret[0] = ret[1] = -1;
    for (int i = 0; i < 2; i++) {
        char path[64];
        if (c->fd[i] < 0)
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd[i]);
        ret[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (ret[i] >= 0)
            continue;
        if (ret[0] >= 0)
            close(ret[0]);
        ret[0] = ret[1] = -1;
        return -ERR_SYS;
    }
    return 0;
}

void certcopy_wipe(struct certcopy *c)
{
    static const char zero[4096];
    struct stat st;
    for (int i = 0; i < 2; i++) {
        if (c->fd[i] < 0)
            continue;
        for (off_t at = 0; fstat(c->fd[i], &st) == 0 && at < st.st_size;) {
            off_t left = st.st_size - at;
            ssize_t n = pwrite(c->fd[i], zero,
                               left < (off_t)sizeof(zero) ? (size_t)left : sizeof(zero), at);
            if (n <= 0)
                break;
            at += n;
        }
        close(c->fd[i]);
        c->fd[i] = -1;
    }
}
