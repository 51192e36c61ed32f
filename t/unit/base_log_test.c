/* The error log: the line, levels, hostile bytes, cuts, one write each. */
#include "base/log.h"
#include "t/unit/tap.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static char got[8192];

/* A datagram pair: one read is one write. */
static struct slice take(int fd)
{
    ssize_t n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
    got[n > 0 ? n : 0] = '\0';
    return slice_of(got, n > 0 ? (size_t)n : 0);
}

/* From the level on; what stands before is checked by itself. */
static struct slice rest(struct slice line)
{
    const size_t stamp = sizeof("2026-11-21T02:50:00.123Z ") - 1;
    return line.n > stamp ? slice_of(line.p + stamp, line.n - stamp) : SLICE_NONE;
}

int main(void)
{
    int fd[2];
    char want[256], big[6000];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) < 0)
        tap_bail("socketpair");
    log_open_fd(fd[0]);
    tap_is_int(log_fd(), fd[0], "the descriptor");
    log_set_who("w3");
    errno = ENOENT;
    LOG_NOTICE("test_event", "hello %d", 5);
    tap_is_int(errno, ENOENT, "errno survives");
    struct slice line = take(fd[1]);
    bool stamp = line.n > 25;
    const char *pattern = "dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; stamp && pattern[i]; i++)
        stamp = pattern[i] == 'd' ? isdigit((unsigned char)line.p[i]) : line.p[i] == pattern[i];
    tap_ok(stamp, "a time stamp in UTC with milliseconds");
    snprintf(want, sizeof(want), "notice %d [w3] test_event: hello 5\n", (int)getpid());
    tap_is_str(rest(line), want, "the rest of the line");

    LOG_INFO("quiet", "x");
    tap_is_int(take(fd[1]).n, 0, "below the threshold nothing is written");
    log_set_level(LOG_LV_DEBUG);
    LOG_DEBUG("loud", "%s", "a\nb\r\x1b[0m\x7f\xc3\xa9");
    snprintf(want, sizeof(want), "debug %d [w3] loud: a\\x0ab\\x0d\\x1b[0m\\x7f\\xc3\\xa9\n",
             (int)getpid());
    tap_is_str(rest(take(fd[1])), want, "control bytes are escaped");

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    LOG_ERROR("big", "%s", big);
    line = take(fd[1]);
    tap_ok(line.n == 4096 && line.p[4095] == '\n' && slice_ends(line, SLICE("x...\n")),
           "a long line is cut and says so");
    memset(big, '\n', sizeof(big) - 1);
    LOG_ERROR("big", "%s", big);
    line = take(fd[1]);
    tap_ok(line.n <= 4096 && slice_ends(line, SLICE("\\x0a...\n")), "not inside an escape");
    LOG_ALERT("empty", "%s", "");
    snprintf(want, sizeof(want), "alert %d [w3] empty: \n", (int)getpid());
    tap_is_str(rest(take(fd[1])), want, "an empty message");

    enum log_level lv = LOG_LV_ALERT;
    tap_ok(log_level_parse(SLICE("warn"), &lv) == 0 && lv == LOG_LV_WARN, "a level by name");
    tap_ok(log_level_parse(SLICE("Warn"), &lv) < 0 && log_level_parse(SLICE(""), &lv) < 0,
           "no other names");
    for (int i = LOG_LV_ALERT; i <= LOG_LV_DEBUG; i++) {
        tap_ok(log_level_parse(slice_str(log_level_name((enum log_level)i)), &lv) == 0 &&
                   (int)lv == i,
               "level %d reparses", i);
    }

    /* A log nobody reads must not block: the queue is filled up, then written to. */
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 2000; i++)
        LOG_DEBUG("fill", "%s", big);
    tap_ok(true, "a full log does not block");
    close(fd[0]);
    close(fd[1]);
    return tap_done();
}
