/* The error log: formats a line and hands it to a descriptor or to syslog in one system call. */
#include "base/log.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX    4096
#define LOG_SYSLOG_PATH "/dev/log"
#define LOG_FACILITY    3 /* daemon, RFC 3164 section 4.1.1 */

enum log_level log_threshold = LOG_LV_NOTICE;

static int log_out = 2;
static int log_socket = -1; /* a datagram socket towards syslog */
static bool log_to_syslog;
static char log_who[16] = "-";
static char log_ident[33];

/* Rows in the order of enum log_level; priorities are syslog's. */
static const struct {
    const char *name;
    int priority;
} log_levels[] = {{"alert", 1},  {"error", 3}, {"warn", 4},
                  {"notice", 5}, {"info", 6},  {"debug", 7}};
#define LOG_LEVELS (sizeof(log_levels) / sizeof(log_levels[0]))
_Static_assert(LOG_LEVELS == LOG_LV_DEBUG + 1, "a row for each level");

static void log_close_syslog(void)
{
    if (log_socket >= 0)
        close(log_socket);
    log_socket = -1;
    log_to_syslog = false;
}

void log_open_fd(int fd)
{
    log_close_syslog();
    log_out = fd;
}

static int log_connect(void)
{
    static const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = LOG_SYSLOG_PATH};
    if (log_socket >= 0)
        close(log_socket);
    log_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (log_socket < 0)
        return -ERR_SYS;
    if (connect(log_socket, (const struct sockaddr *)&to, sizeof(to)) < 0) {
        close(log_socket);
        log_socket = -1;
        return -ERR_SYS;
    }
    return 0;
}

int log_open_syslog(const char *ident)
{
    int rc = log_connect();
    if (rc < 0)
        return rc;
    snprintf(log_ident, sizeof(log_ident), "%s", ident);
    log_to_syslog = true;
    return 0;
}

int log_fd(void)
{
    return log_out;
}

void log_set_level(enum log_level lv)
{
    log_threshold = lv;
}

void log_set_who(const char *who)
{
    snprintf(log_who, sizeof(log_who), "%s", who);
}

int log_level_parse(struct slice s, enum log_level *ret_lv)
{
    for (size_t i = 0; i < LOG_LEVELS; i++) {
        if (slice_eq(s, slice_str(log_levels[i].name))) {
            *ret_lv = (enum log_level)i;
            return 0;
        }
    }
    return -ERR_INVAL;
}

const char *log_level_name(enum log_level lv)
{
    return (size_t)lv < LOG_LEVELS ? log_levels[lv].name : "-";
}

/* Copies text into room, bytes other than printable ASCII as \xNN: no message can end the line,
 * begin another one or steer a terminal. A text cut short ends in "...". Returns the length. */
static size_t log_escape(char *room, size_t size, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0, safe = 0; /* safe: where an ellipsis still fits */
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c < 0x7f;
        size_t need = plain ? 1 : 4;
        if (n + need > size) {
            memcpy(room + safe, "...", 3);
            return safe + 3;
        }
        if (plain) {
            room[n] = text[i];
        } else {
            room[n] = '\\';
            room[n + 1] = 'x';
            room[n + 2] = hex[c >> 4];
            room[n + 3] = hex[c & 15];
        }
        n += need;
        if (n + 3 <= size)
            safe = n;
    }
    return n;
}

static void log_send(const char *line, size_t n)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (log_socket >= 0 && send(log_socket, line, n, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return;
        /* A full queue loses the line rather than time; a new syslog daemon is found again. */
        if (log_socket >= 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EMSGSIZE))
            return;
        if (log_connect() < 0)
            return;
    }
}

/* The part of a line in front of the event id. */
static size_t log_prefix(char *room, size_t size, enum log_level lv)
{
    struct timespec ts;
    struct tm tm;
    int n;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (log_to_syslog) {
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        localtime_r(&ts.tv_sec, &tm);
        n = snprintf(room, size, "<%d>%.3s %2d %02d:%02d:%02d %s[%d]: %s [%s] ",
                     LOG_FACILITY * 8 + log_levels[lv].priority, months + (size_t)tm.tm_mon * 3,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, log_ident, (int)getpid(),
                     log_level_name(lv), log_who);
    } else {
        gmtime_r(&ts.tv_sec, &tm);
        n = snprintf(room, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s %d [%s] ",
                     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                     (int)(ts.tv_nsec / 1000000), log_level_name(lv), (int)getpid(), log_who);
    }
    return n > 0 ? (size_t)n : 0;
}

void log_line(enum log_level lv, const char *event, const char *fmt, ...)
{
    int saved = errno; /* callers log in the middle of error paths */
    char text[LOG_LINE_MAX], line[LOG_LINE_MAX];
    if ((size_t)lv >= LOG_LEVELS)
        lv = LOG_LV_ALERT;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t text_n = len < 0 ? 0 : (size_t)len;
    if (text_n >= sizeof(text))
        text_n = sizeof(text) - 1;

    size_t n = log_prefix(line, sizeof(line), lv);
    n += log_escape(line + n, 64, event, strlen(event));
    line[n++] = ':';
    line[n++] = ' ';
    n += log_escape(line + n, sizeof(line) - n - 1, text, text_n);
    if (log_to_syslog) {
        log_send(line, n);
    } else {
        line[n++] = '\n';
        ssize_t r;
        do
            r = write(log_out, line, n);
        while (r < 0 && errno == EINTR);
        /* A full disk or a full pipe loses the line: there is nobody left to tell. */
    }
    errno = saved;
}
