/* Assertions and the panic record: what a dying worker leaves for its master. */
#ifndef BASE_PANIC_H
#define BASE_PANIC_H

#include <stddef.h>

/* An invariant that must hold: checked in every build, ends the process with a record. */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            panic_fail(#cond, __FILE__, __LINE__, __func__);                                       \
    } while (0)
/* For hot paths: checked in debug and sanitized builds only. */
#ifdef RPD_DEBUG
#define DEBUG_MUST(cond) MUST(cond)
#else
#define DEBUG_MUST(cond) ((void)(0 && (cond))) /* not evaluated, and its names count as used */
#endif

/* The record is text in memory of the caller (a slot in the segment), at most n bytes,
 * NUL-terminated. NULL = stderr only. Handlers for SEGV, BUS, FPE, ILL, ABRT write signal, address,
 * backtrace. */
void panic_attach(char *record, size_t n);
void panic_install(void);
_Noreturn void panic_fail(const char *cond, const char *file, int line, const char *func);

#endif
