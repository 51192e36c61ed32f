/* What of a client's HTTP/2 frames counts as misbehaviour, and how much: the one place that weighs
 * them. */
#ifndef WORKER_HTTP_H2_ABUSE_H
#define WORKER_HTTP_H2_ABUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hundredths of a point. What honest clients do too is free as long as they do it in step with
 * requests and answers: those earn an allowance. */
struct h2_abuse {
    uint32_t allowance, hundredths, settings;
};
/* What cannot be seen from a frame's header. */
enum h2_abuse_kind {
    H2_ABUSE_EMPTY,     /* DATA of nothing but padding */
    H2_ABUSE_MALFORMED, /* a head that is not sound */
    H2_ABUSE_REFUSED,   /* more streams than allowed */
    H2_ABUSE_LATE_DATA, /* for a stream that is closed: some may be on its way after our reset */
    H2_ABUSE_LATE_HEAD, /* likewise; more than trailers nobody has to send */
    H2_ABUSE_BROKEN     /* a stream error, made to have us reset the stream (CVE-2025-8671) */
};
void h2_abuse_init(struct h2_abuse *a);
/* A frame came; unanswered: it is of a stream whose answer has not begun. Each returns the whole
 * points that are due now. */
uint32_t h2_abuse_frame(struct h2_abuse *a, uint8_t type, uint8_t flags, size_t length,
                        bool unanswered);
uint32_t h2_abuse_add(struct h2_abuse *a, enum h2_abuse_kind kind);
/* We sent HEADERS, or so much DATA: a client may well have something to say to that. */
void h2_abuse_earn(struct h2_abuse *a, size_t bytes, bool end);

#endif
