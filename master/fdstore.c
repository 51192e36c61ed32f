/* systemd's descriptor store; see fdstore.h. */
#include "master/fdstore.h"

#include "base/err.h"
#include "base/log.h"
#include "base/proc.h"
#include "master/caches.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDSTORE_PREFIX "rpd-cache-"
#define FDSTORE_MOST   1024u
#define FDSTORE_NAME   224u /* of a cache; systemd takes names of 255 bytes */

/* Its characters are those of a section's name. */
static bool fdstore_is_name(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr("_.*-", c)) ||
            c == '\0')
            return false;
    }
    return name.n > 0 && name.n <= FDSTORE_NAME;
}

static int fdstore_tell(const char *what, struct slice name, int fd)
{
    char text[FDSTORE_NAME + 64];
    snprintf(text, sizeof(text), "%s=1\nFDNAME=" FDSTORE_PREFIX SLICE_FMT, what, SLICE_ARG(name));
    return proc_sd_notify_fd(text, fd);
}

bool fdstore_on(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    return path && *path;
}

bool fdstore_put(struct slice name, int fd)
{
    char path[64];
    /* A file of its own, not a copy: the lock on ours is to end with the last of us. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = fdstore_is_name(name) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int rc = own < 0 ? -ERR_SYS : fdstore_tell("FDSTORE", name, own);
    if (rc < 0)
        LOG_WARN("cache_systemd", "cache " SLICE_FMT " cannot be given to systemd: %s",
                 SLICE_ARG(name), strerror(errno));
    if (own >= 0)
        close(own);
    return rc == 1;
}

void fdstore_drop(struct slice name)
{
    (void)fdstore_tell("FDSTOREREMOVE", name, -1);
}

void fdstore_take(void)
{
    static const char *names[FDSTORE_MOST];
    int first;
    unsigned n = proc_sd_listen_fds(&first, names, FDSTORE_MOST);
    for (unsigned i = 0; i < n; i++) {
        struct slice name = slice_str(names[i]);
        const bool ours = slice_starts(name, SLICE(FDSTORE_PREFIX));
        if (ours)
            name = slice_of(name.p + sizeof(FDSTORE_PREFIX) - 1,
                            name.n - (sizeof(FDSTORE_PREFIX) - 1));
        if (!ours || !fdstore_is_name(name)) {
            LOG_WARN("cache_systemd",
                     "descriptor %d, which was passed at the start, is none of ours (\"%.64s\")",
                     first + (int)i, names[i]);
        } else if (!caches_restored(name, first + (int)i)) {
            fdstore_drop(name);
        }
        close(first + (int)i);
    }
}
