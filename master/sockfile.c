/* Unix sockets as files. */
#include "master/sockfile.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

/* Removes the file of a socket nobody listens on any more. False (errno EADDRINUSE) when it must
 * stay. */
static bool sockfile_unlink_stale(const struct sockaddr_un *un, socklen_t len)
{
    struct stat st;
    if (lstat(un->sun_path, &st) < 0)
        return errno == ENOENT;
    if (S_ISSOCK(st.st_mode)) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return false;
        bool dead = connect(fd, (const struct sockaddr *)un, len) < 0 && errno == ECONNREFUSED;
        close(fd);
        if (dead)
            return unlink(un->sun_path) == 0 || errno == ENOENT;
    }
    errno = EADDRINUSE;
    return false;
}

int sockfile_bind(const struct sockaddr_un *un, socklen_t len, mode_t mode,
                  struct sockfile_id *ret_id)
{
    struct stat st;
    *ret_id = (struct sockfile_id){0};
    if (!sockfile_unlink_stale(un, len))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    mode_t old = umask(0777 & ~mode);
    int rc = bind(fd, (const struct sockaddr *)un, len);
    int saved = errno;
    umask(old);
    if (rc < 0) {
        close(fd);
        errno = saved;
        return -1;
    }
    if (lstat(un->sun_path, &st) == 0)
        *ret_id = (struct sockfile_id){st.st_dev, st.st_ino};
    return fd;
}

void sockfile_unlink(const char *path, const struct sockfile_id *id)
{
    struct stat st;
    if (id->ino != 0 && lstat(path, &st) == 0 && st.st_dev == id->dev && st.st_ino == id->ino)
        unlink(path);
}
