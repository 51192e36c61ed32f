/* The sink of one access log: gathers whole lines and writes them without ever blocking. What
 * cannot be written is dropped and counted. Files are appended to in large writes; pipes, terminals
 * and stream sockets, whose reader may stall, get whole lines of at most PIPE_BUF bytes at a time;
 * syslog gets a datagram per line. SIGPIPE must be ignored by the process. */
#ifndef WORKER_LOG_WRITER_H
#define WORKER_LOG_WRITER_H

#include "base/slice.h"

#define WRITER_CAP      (64u * 1024)
#define WRITER_FULL     (32u * 1024) /* written at once from here on */
#define WRITER_LINE     (16u * 1024) /* longest line in a file */
#define WRITER_LINE_MIN 512u         /* less room than that is none */

enum writer_kind {
    WRITER_NONE,
    WRITER_FILE, /* regular files and devices such as /dev/null */
    WRITER_PIPE,
    WRITER_POLL, /* terminals: asked with poll() before each write */
    WRITER_SOCKET,
    WRITER_SYSLOG
};
struct writer {
    enum writer_kind kind;
    int fd;            /* owned, but for 0 to 2; -1 = none */
    int stage[2];      /* WRITER_PIPE: our own non-blocking pipe, spliced into fd */
    size_t staged;     /* bytes of the first lines that are in it */
    const char *path;  /* WRITER_SYSLOG: the socket; borrowed */
    char *buf;         /* WRITER_CAP bytes, made when the first line comes */
    size_t off, end;   /* unwritten: buf[off..end) */
    bool partial;      /* the first unwritten byte continues a line */
    uint64_t first_ms; /* when the oldest unwritten line came */
    uint64_t retry_ms; /* no attempt before */
    uint64_t dropped;  /* lines, since the owner looked */
};

/* Takes fd, whatever it is; -1: every line is dropped. */
void writer_open(struct writer *w, int fd);
/* Sends to a datagram socket such as /dev/log, found (again) whenever it is missing. */
void writer_open_syslog(struct writer *w, const char *path);
/* One last attempt, then closes; unwritten lines count as dropped. */
void writer_close(struct writer *w);
/* Writes to the old fd what it takes, then goes on with the new one and the rest. The same fd or
 * -1: nothing changes but that a sink in trouble is tried again at once; syslog connects anew. */
void writer_reopen(struct writer *w, int fd);
/* Where the next line may be built and how long it may be; NULL: no room, the line is dropped and
 * counted. */
char *writer_room(struct writer *w, uint64_t now_ms, size_t *ret_cap);
/* n bytes of it are a line, its newline included. May write. */
void writer_commit(struct writer *w, size_t n, uint64_t now_ms);
/* Writes what is due (force: everything, whatever the time). Returns milliseconds until it wants to
 * be called again, -1 = never. */
int writer_flush(struct writer *w, uint64_t now_ms, uint64_t interval_ms, bool force);

#endif
