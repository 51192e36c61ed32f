/* TAP for unit tests: header only, the plan is printed at the end by tap_done(). */
#ifndef T_UNIT_TAP_H
#define T_UNIT_TAP_H

#include "base/slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TAP_UNUSED __attribute__((unused))

static int tap_count_ TAP_UNUSED;
static int tap_failed_ TAP_UNUSED;

/* A '#' in a name would start a directive, so it is masked. */
__attribute__((format(printf, 4, 0))) static TAP_UNUSED void
tap_line_(bool ok, const char *file, int line, const char *fmt, va_list ap)
{
    char name[256];
    if (vsnprintf(name, sizeof(name), fmt, ap) < 0)
        name[0] = '\0';
    for (char *p = name; *p; p++) {
        if (*p == '#' || *p == '\n' || *p == '\r')
            *p = '_';
    }
    tap_count_++;
    printf("%sok %d - %s\n", ok ? "" : "not ", tap_count_, name);
    if (!ok) {
        tap_failed_++;
        printf("# failed at %s:%d\n", file, line);
    }
    fflush(stdout);
}

__attribute__((format(printf, 4, 5))) static TAP_UNUSED bool tap_ok_(bool ok, const char *file,
                                                                     int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tap_line_(ok, file, line, fmt, ap);
    va_end(ap);
    return ok;
}

__attribute__((format(printf, 5, 6))) static TAP_UNUSED bool
tap_is_int_(long long got, long long want, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tap_line_(got == want, file, line, fmt, ap);
    va_end(ap);
    if (got != want)
        printf("#   got %lld, want %lld\n", got, want);
    return got == want;
}

static TAP_UNUSED void tap_show_(const char *label, struct slice s)
{
    printf("#   %s (%zu): ", label, s.n);
    for (size_t i = 0; i < s.n && i < 400; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f && c != '\\')
            putchar(c);
        else
            printf("\\x%02x", c);
    }
    putchar('\n');
}

__attribute__((format(printf, 5, 6))) static TAP_UNUSED bool
tap_is_slice_(struct slice got, struct slice want, const char *file, int line, const char *fmt, ...)
{
    bool ok = slice_eq(got, want);
    va_list ap;
    va_start(ap, fmt);
    tap_line_(ok, file, line, fmt, ap);
    va_end(ap);
    if (!ok) {
        tap_show_("got ", got);
        tap_show_("want", want);
    }
    return ok;
}

/* Prints the plan; returns the exit status for main. */
static TAP_UNUSED int tap_done(void)
{
    printf("1..%d\n", tap_count_);
    if (tap_failed_ > 0)
        printf("# %d of %d failed\n", tap_failed_, tap_count_);
    fflush(stdout);
    return tap_failed_ > 0 ? 1 : 0;
}

/* Ends the test at once: for a set-up step that must work. */
#define tap_bail(...)                                                                              \
    do {                                                                                           \
        printf("Bail out! ");                                                                      \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        fflush(stdout);                                                                            \
        exit(99);                                                                                  \
    } while (0)

static TAP_UNUSED int tap_skip_all(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    return 0;
}

/* Each returns whether it passed, and takes a printf-style name. */
#define tap_ok(cond, ...) tap_ok_((cond) ? true : false, __FILE__, __LINE__, __VA_ARGS__)
#define tap_is_int(got, want, ...)                                                                 \
    tap_is_int_((long long)(got), (long long)(want), __FILE__, __LINE__, __VA_ARGS__)
#define tap_is_slice(got, want, ...) tap_is_slice_((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define tap_is_str(got_slice, want, ...)                                                           \
    tap_is_slice_((got_slice), slice_str(want), __FILE__, __LINE__, __VA_ARGS__)

#endif
