/* Error log: one line per event, each with a stable event id that tests and alerts match.
 * Line: 2026-11-21T02:50:00.123Z level pid [w3] event_id: message (UTC; names of log_level_name)
 * Writes are one write(2) to an O_APPEND fd; a line is at most 4096 bytes. Only edges log
 * (master, worker assembly, client, stream, upstream); libraries return errors. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/slice.h"

enum log_level {
    LOG_LV_ALERT,
    LOG_LV_ERROR,
    LOG_LV_WARN,
    LOG_LV_NOTICE,
    LOG_LV_INFO,
    LOG_LV_DEBUG
};

extern enum log_level log_threshold; /* lines above it are not formatted */

void log_open_fd(int fd);               /* fd is borrowed; default 2 */
int log_open_syslog(const char *ident); /* sends to /dev/log instead */
int log_fd(void);
void log_set_level(enum log_level lv);
void log_set_who(const char *who); /* "master", "w3", "helper": shown in each line */
int log_level_parse(struct slice s, enum log_level *ret_lv);
const char *log_level_name(enum log_level lv);
/* One line, whatever the threshold; use the macros below. Bytes other than printable ASCII are
 * written as \xNN, so that a message is one line. Not for signal handlers. errno stays. */
void log_line(enum log_level lv, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_AT(lv, event, ...)                                                                     \
    do {                                                                                           \
        if ((lv) <= log_threshold)                                                                 \
            log_line((lv), (event), __VA_ARGS__);                                                  \
    } while (0)
#define LOG_ALERT(event, ...)  LOG_AT(LOG_LV_ALERT, event, __VA_ARGS__)
#define LOG_ERROR(event, ...)  LOG_AT(LOG_LV_ERROR, event, __VA_ARGS__)
#define LOG_WARN(event, ...)   LOG_AT(LOG_LV_WARN, event, __VA_ARGS__)
#define LOG_NOTICE(event, ...) LOG_AT(LOG_LV_NOTICE, event, __VA_ARGS__)
#define LOG_INFO(event, ...)   LOG_AT(LOG_LV_INFO, event, __VA_ARGS__)
#define LOG_DEBUG(event, ...)  LOG_AT(LOG_LV_DEBUG, event, __VA_ARGS__)

#endif
