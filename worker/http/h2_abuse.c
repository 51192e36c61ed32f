/* The price list of HTTP/2 misbehaviour; see h2_abuse.h. curl, browsers, load generators and gRPC
 * stay far below 100 points in 30 s, a flood of anything is there within a few hundred frames. */
#include "worker/http/h2_abuse.h"

#define ABUSE_POINT 100u
enum {
    ABUSE_ALLOWANCE_FIRST = 40,
    ABUSE_ALLOWANCE_MAX = 2000,
    ABUSE_EARN_REQUEST = 6, /* WINDOW_UPDATE, PRIORITY, PRIORITY_UPDATE, late RST_STREAM, grease */
    ABUSE_EARN_FRAME = 3,   /* WINDOW_UPDATE twice, PING */
    ABUSE_EARN_BYTES = 64,  /* smaller DATA earns nothing: windows opened by bytes ask for it */
    ABUSE_SETTINGS_FREE = 3
};
/* Costs, in hundredths. */
enum {
    ABUSE_COST_UPDATE = 25, /* WINDOW_UPDATE, PRIORITY, PRIORITY_UPDATE without allowance */
    ABUSE_COST_FRAME = 100, /* PING, RST_STREAM and unknown frames without allowance */
    ABUSE_COST_RESET = 100, /* a stream given up before its answer began (CVE-2023-44487) */
    ABUSE_COST_EMPTY = 100,
    ABUSE_COST_SETTINGS = 300,
    ABUSE_COST_CONTINUATION = 100,
    ABUSE_COST_EMPTY_CONTINUATION = 500,
    ABUSE_COST_MALFORMED = 200,
    ABUSE_COST_REFUSED = 100,
    ABUSE_COST_LATE_DATA = 5, /* a window of 1 MiB in pieces of 512 bytes costs 100 points */
    ABUSE_COST_LATE_HEAD = 100,
    ABUSE_COST_BROKEN = 500
};
/* RFC 9113 6, RFC 9218 7.1 */
enum {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_PRIORITY,
    FRAME_RST_STREAM,
    FRAME_SETTINGS,
    FRAME_PUSH_PROMISE,
    FRAME_PING,
    FRAME_GOAWAY,
    FRAME_WINDOW_UPDATE,
    FRAME_CONTINUATION,
    FRAME_PRIORITY_UPDATE = 0x10
};
enum { FLAG_END_STREAM = 1, FLAG_ACK = 1 };

void h2_abuse_init(struct h2_abuse *a)
{
    *a = (struct h2_abuse){.allowance = ABUSE_ALLOWANCE_FIRST};
}

static uint32_t abuse_charge(struct h2_abuse *a, uint32_t hundredths)
{
    a->hundredths += hundredths;
    const uint32_t points = a->hundredths / ABUSE_POINT;
    a->hundredths %= ABUSE_POINT;
    return points;
}

static uint32_t abuse_charge_beyond(struct h2_abuse *a, uint32_t hundredths)
{
    if (a->allowance == 0)
        return abuse_charge(a, hundredths);
    a->allowance--;
    return 0;
}

static void abuse_allow(struct h2_abuse *a, uint32_t n)
{
    a->allowance = a->allowance + n < ABUSE_ALLOWANCE_MAX ? a->allowance + n : ABUSE_ALLOWANCE_MAX;
}

void h2_abuse_earn(struct h2_abuse *a, size_t bytes, bool end)
{
    if (end || bytes >= ABUSE_EARN_BYTES)
        abuse_allow(a, ABUSE_EARN_FRAME);
}

uint32_t h2_abuse_frame(struct h2_abuse *a, uint8_t type, uint8_t flags, size_t length,
                        bool unanswered)
{
    switch (type) {
    case FRAME_DATA:
        return length == 0 && (flags & FLAG_END_STREAM) == 0 ? abuse_charge(a, ABUSE_COST_EMPTY)
                                                             : 0;
    case FRAME_HEADERS:
        abuse_allow(a, ABUSE_EARN_REQUEST);
        return length == 0 ? abuse_charge(a, ABUSE_COST_EMPTY) : 0;
    case FRAME_PRIORITY:
    case FRAME_PRIORITY_UPDATE:
    case FRAME_WINDOW_UPDATE:
        return abuse_charge_beyond(a, ABUSE_COST_UPDATE);
    case FRAME_RST_STREAM:
        return unanswered ? abuse_charge(a, ABUSE_COST_RESET)
                          : abuse_charge_beyond(a, ABUSE_COST_FRAME);
    case FRAME_SETTINGS:
        if ((flags & FLAG_ACK) != 0 || ++a->settings <= ABUSE_SETTINGS_FREE)
            return 0;
        return abuse_charge(a, ABUSE_COST_SETTINGS);
    case FRAME_CONTINUATION:
        return abuse_charge(a,
                            length == 0 ? ABUSE_COST_EMPTY_CONTINUATION : ABUSE_COST_CONTINUATION);
    default: /* PING, GOAWAY, and whatever has no meaning here */
        return abuse_charge_beyond(a, ABUSE_COST_FRAME);
    }
}

uint32_t h2_abuse_add(struct h2_abuse *a, enum h2_abuse_kind kind)
{
    static const uint32_t cost[] = {[H2_ABUSE_EMPTY] = ABUSE_COST_EMPTY,
                                    [H2_ABUSE_MALFORMED] = ABUSE_COST_MALFORMED,
                                    [H2_ABUSE_REFUSED] = ABUSE_COST_REFUSED,
                                    [H2_ABUSE_LATE_DATA] = ABUSE_COST_LATE_DATA,
                                    [H2_ABUSE_LATE_HEAD] = ABUSE_COST_LATE_HEAD,
                                    [H2_ABUSE_BROKEN] = ABUSE_COST_BROKEN};
    return abuse_charge(a, cost[kind]);
}
