/* Panic records: children die in each way and leave text in shared memory. */
#include "base/asan.h"
#include "base/panic.h"
#include "t/unit/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORD 4096
static char *record;

static void die_assert(void)
{
    MUST(1 + 1 == 3);
}

static void die_segv(void)
{
    /* The address is made at run time, so that no compiler knows it is bad. */
    volatile uintptr_t at = 16;
    *(volatile int *)at = 1;
}

static void die_abort(void)
{
    abort();
}

static void die_kill(void)
{
    raise(SIGBUS);
}

static int deep(volatile char *before)
{
    volatile char room[4096];
    room[0] = before ? before[0] : 1;
    int below = room[0] ? deep(room) : 0;
    return below + room[0];
}

static void die_stack(void)
{
    deep(NULL);
}

/* Runs fn in a child; the signal it died of, or the negative exit status. */
static int run(void (*fn)(void), size_t n)
{
    memset(record, 'Z', RECORD);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        tap_bail("fork");
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        panic_attach(record, n);
        panic_install();
        panic_install();
        fn();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static bool has(const char *what)
{
    return strstr(record, what) != NULL;
}

/* With a sanitizer its own reporter ends the process after us, with an exit status. */
static bool ended_by(int got, int sig)
{
    return got == sig || (BASE_ASAN && got < 0);
}

int main(void)
{
    record = mmap(NULL, RECORD, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (record == MAP_FAILED)
        tap_bail("mmap");

    tap_ok(ended_by(run(die_assert, RECORD), SIGABRT), "a failed assertion aborts");
    tap_ok(has("assertion 1 + 1 == 3 at ") && has("base_panic_test.c:") && has(" die_assert\n"),
           "it is named");
    tap_ok(has("signal SIGABRT"), "and the signal");
    tap_ok(has("frame 1 ") && has("rpd+0x"), "frames relative to their module");

    tap_ok(ended_by(run(die_segv, RECORD), SIGSEGV), "a bad access dies of SIGSEGV");
    tap_ok(has("signal SIGSEGV address 0x10 pid "), "with its address");
    tap_ok(ended_by(run(die_abort, RECORD), SIGABRT), "abort");
    tap_ok(has("signal SIGABRT sent by pid "), "is one sent by a process");
    tap_ok(ended_by(run(die_kill, RECORD), SIGBUS), "a signal that was raised still kills");
    tap_ok(has("signal SIGBUS sent by pid "), "and is recorded");
    tap_ok(ended_by(run(die_stack, RECORD), SIGSEGV), "a stack that ran out");
    tap_ok(has("signal SIGSEGV address ") && has("frame 2 "), "leaves a record as well");

    run(die_assert, 40);
    tap_ok(record[39] == '\0' && strlen(record) == 39 && record[40] == 'Z',
           "a small record is cut");
    run(die_assert, 0);
    tap_ok(record[0] == 'Z', "no record, no write");
    return tap_done();
}
