/* Where the control socket is when nobody says: the system's place, then the user's own. */
#include "rpctl/path.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for "/rpd.sock" behind it. */
#define PATH_DIR_MAX (PATH_SIZE - 12)

static int path_own_dir(const char *dir, bool create)
{
    struct stat st;
    if (create && mkdir(dir, 0700) < 0 && errno != EEXIST)
        return -ERR_SYS;
    if (lstat(dir, &st) < 0)
        return -ERR_NOENT;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -ERR_INVAL;
    return 0;
}

static int path_dir(bool xdg, bool create, char ret[PATH_SIZE])
{
    int n;
    if (xdg) {
        const char *base = getenv("XDG_RUNTIME_DIR");
        struct stat st;
        if (!base || base[0] != '/' || stat(base, &st) < 0 || st.st_uid != geteuid())
            return -ERR_NOENT;
        n = snprintf(ret, PATH_SIZE, "%s/rpd", base);
    } else {
        n = snprintf(ret, PATH_SIZE, "/tmp/rpd-%u", (unsigned)geteuid());
    }
    if (n < 0 || n > PATH_DIR_MAX)
        return -ERR_INVAL;
    return path_own_dir(ret, create);
}

int path_runtime(bool create, char ret[PATH_SIZE])
{
    int rc = path_dir(true, create, ret);
    return rc == 0 ? rc : path_dir(false, create, ret);
}

bool path_socket(int nth, char ret[PATH_SIZE])
{
    char dir[PATH_SIZE];
    if (nth == 0) {
        snprintf(ret, PATH_SIZE, "%s", PATH_SYSTEM_SOCKET);
        return true;
    }
    if (nth > 2)
        return false;
    if (path_dir(nth == 1, false, dir) < 0)
        ret[0] = '\0'; /* not usable: the caller goes on to the next */
    else
        snprintf(ret, PATH_SIZE, "%.*s/rpd.sock", PATH_DIR_MAX, dir);
    return true;
}
