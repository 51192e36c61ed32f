/* Assertions and the panic record: everything from the first signal on is async-signal-safe. */
#include "base/panic.h"

#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PANIC_STACK   ((size_t)65536)
#define PANIC_FRAMES  48
#define PANIC_MODULES 16

/* Loaded objects, captured at install: dladdr(3) takes locks. */
struct panic_module {
    uintptr_t base, end;
    const char *name;
};

static const struct {
    int number;
    const char *name;
} panic_signals[] = {{SIGSEGV, "SIGSEGV"},
                     {SIGBUS, "SIGBUS"},
                     {SIGFPE, "SIGFPE"},
                     {SIGILL, "SIGILL"},
                     {SIGABRT, "SIGABRT"}};
#define PANIC_SIGNALS (sizeof(panic_signals) / sizeof(panic_signals[0]))

static char *panic_record;
static size_t panic_size, panic_used;
static volatile sig_atomic_t panic_busy;
static bool panic_installed;
static struct sigaction panic_before[PANIC_SIGNALS];
static struct panic_module panic_modules[PANIC_MODULES];
static size_t panic_module_count;
static _Alignas(64) char panic_stack[PANIC_STACK];

/* A line that is being composed; it goes to the record and to stderr when it ends. */
static char panic_line[512];
static size_t panic_line_n;

static void panic_put(const char *text)
{
    for (; *text && panic_line_n < sizeof(panic_line) - 1; text++) {
        unsigned char c = (unsigned char)*text;
        panic_line[panic_line_n++] = c >= 0x20 && c < 0x7f ? *text : '?';
    }
}

static void panic_put_number(uintptr_t v, unsigned base)
{
    char text[24];
    size_t at = sizeof(text) - 1;
    text[at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    if (base == 16)
        panic_put("0x");
    panic_put(text + at);
}

static void panic_end_line(void)
{
    panic_line[panic_line_n++] = '\n';
    if (panic_record) {
        size_t room = panic_size - 1 - panic_used;
        size_t n = panic_line_n < room ? panic_line_n : room;
        memcpy(panic_record + panic_used, panic_line, n);
        panic_used += n;
        panic_record[panic_used] = '\0';
    }
    ssize_t ignored = write(STDERR_FILENO, panic_line, panic_line_n);
    (void)ignored;
    panic_line_n = 0;
}

static void panic_put_address(uintptr_t at)
{
    for (size_t i = 0; i < panic_module_count; i++) {
        const struct panic_module *m = &panic_modules[i];
        if (at < m->base || at >= m->end)
            continue;
        panic_put(m->name);
        panic_put("+");
        panic_put_number(at - m->base, 16);
        return;
    }
    panic_put_number(at, 16);
}

static void panic_write(int sig, const siginfo_t *info)
{
    panic_put("signal ");
    for (size_t i = 0; i < PANIC_SIGNALS; i++) {
        if (panic_signals[i].number == sig)
            panic_put(panic_signals[i].name);
    }
    if (info->si_code > 0) {
        panic_put(" address ");
        panic_put_address((uintptr_t)info->si_addr);
    } else {
        panic_put(" sent by pid ");
        panic_put_number((uintptr_t)info->si_pid, 10);
    }
    panic_put(" pid ");
    panic_put_number((uintptr_t)getpid(), 10);
    panic_end_line();
    void *frames[PANIC_FRAMES];
    int n = backtrace(frames, PANIC_FRAMES);
    for (int i = 0; i < n; i++) {
        panic_put("frame ");
        panic_put_number((uintptr_t)i, 10);
        panic_put(" ");
        panic_put_address((uintptr_t)frames[i]);
        panic_end_line();
    }
}

static void panic_restore(void)
{
    for (size_t i = 0; i < PANIC_SIGNALS; i++)
        sigaction(panic_signals[i].number, &panic_before[i], NULL);
}

static void panic_handle(int sig, siginfo_t *info, void *ucontext)
{
    (void)ucontext;
    /* What was there before is normally the default; a sanitizer's own reporter in its builds. */
    panic_restore();
    /* A fault inside this handler: what has been written so far has to do. */
    if (!panic_busy) {
        panic_busy = 1;
        panic_line_n = 0;
        panic_write(sig, info);
    }
    /* A fault of the code comes again when the handler returns; one sent by a process does not. */
    if (info->si_code <= 0)
        raise(sig);
}

static int panic_add_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (panic_module_count == PANIC_MODULES)
        return 1;
    uintptr_t end = info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && info->dlpi_addr + ph->p_vaddr + ph->p_memsz > end)
            end = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
    }
    const char *name = info->dlpi_name && info->dlpi_name[0] ? info->dlpi_name : "rpd";
    const char *slash = strrchr(name, '/');
    panic_modules[panic_module_count++] =
        (struct panic_module){info->dlpi_addr, end, slash ? slash + 1 : name};
    return 0;
}

void panic_attach(char *record, size_t n)
{
    panic_record = n > 0 ? record : NULL;
    panic_size = n;
    panic_used = 0;
    if (panic_record)
        panic_record[0] = '\0';
}

void panic_install(void)
{
    if (panic_installed)
        return;
    panic_installed = true;
    /* The first backtrace() loads the unwinder, which allocates: here, not in a handler. */
    void *frame;
    backtrace(&frame, 1);
    dl_iterate_phdr(panic_add_module, NULL);
    /* A stack of its own, for faults that come from a stack that ran out. */
    stack_t stack = {.ss_sp = panic_stack, .ss_size = sizeof(panic_stack)};
    sigaltstack(&stack, NULL);
    struct sigaction sa = {.sa_sigaction = panic_handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < PANIC_SIGNALS; i++)
        sigaction(panic_signals[i].number, &sa, &panic_before[i]);
}

_Noreturn void panic_fail(const char *cond, const char *file, int line, const char *func)
{
    if (!panic_busy) {
        panic_line_n = 0;
        panic_put("assertion ");
        panic_put(cond);
        panic_put(" at ");
        panic_put(file);
        panic_put(":");
        panic_put_number((uintptr_t)line, 10);
        panic_put(" ");
        panic_put(func);
        panic_end_line();
    }
    abort();
}
