/* Scanners for HTTP/1 heads: 16 bytes a step where SSE2 is there (every x86-64), a class table
 * elsewhere and at the end. */
#ifndef WORKER_HTTP_H1_SCAN_H
#define WORKER_HTTP_H1_SCAN_H

#include "worker/http/http.h"

#ifdef __SSE2__
#include <emmintrin.h>

static inline __m128i h1_scan_load(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* Bit i is set when byte i of v is at most `most` (unsigned). */
static inline __m128i h1_scan_at_most(__m128i v, char most)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(most)), v);
}

static inline unsigned h1_scan_mask(__m128i v)
{
    return (unsigned)_mm_movemask_epi8(v);
}
#endif

/* First byte of [p, end) that no field value may hold; end when there is none. */
static inline const char *h1_scan_value(const char *p, const char *end)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i v = h1_scan_load(p);
        unsigned m = h1_scan_mask(
            _mm_or_si128(h1_scan_at_most(v, 0x1f), _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f))));
        if (m == 0) {
            p += 16;
            continue;
        }
        p += __builtin_ctz(m);
        if (*p != '\t')
            return p;
        p++;
    }
#endif
    while (p < end && http_is(*p, HTTP_CLASS_VALUE))
        p++;
    return p;
}

/* First byte of [p, end) that no request target may hold; end when there is none. */
static inline const char *h1_scan_target(const char *p, const char *end)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i v = h1_scan_load(p);
        unsigned m = h1_scan_mask(_mm_or_si128(
            h1_scan_at_most(v, 0x20), _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)),
                                                   _mm_cmpeq_epi8(v, _mm_set1_epi8('#')))));
        if (m != 0)
            return p + __builtin_ctz(m);
        p += 16;
    }
#endif
    while (p < end && http_is(*p, HTTP_CLASS_URI))
        p++;
    return p;
}

/* The LF of this line, or end. */
static inline const char *h1_scan_lf(const char *p, const char *end)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        unsigned m = h1_scan_mask(_mm_cmpeq_epi8(h1_scan_load(p), _mm_set1_epi8('\n')));
        if (m != 0)
            return p + __builtin_ctz(m);
        p += 16;
    }
#endif
    while (p < end && *p != '\n')
        p++;
    return p;
}

/* First byte of [p, end) that no token may hold. *ret_plain: the name is of letters and "-" only
 * (false when not known). */
static inline const char *h1_scan_name(const char *p, const char *end, bool *ret_plain)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i v = h1_scan_load(p);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
        unsigned good = h1_scan_mask(_mm_or_si128(h1_scan_at_most(letter, 'z' - 'a'),
                                                  _mm_cmpeq_epi8(v, _mm_set1_epi8('-'))));
        unsigned bad = ~good & 0xffffu;
        if (bad == 0) {
            p += 16;
            continue;
        }
        p += __builtin_ctz(bad);
        if (*p == ':') {
            *ret_plain = true;
            return p;
        }
        break;
    }
#endif
    *ret_plain = false;
    while (p < end && http_is(*p, HTTP_CLASS_TOKEN))
        p++;
    return p;
}

#endif
