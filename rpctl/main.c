/* rpctl: the operator's tool. Options and the commands that need no master; the rest goes over the
 * control socket. */
#include "base/err.h"
#include "base/json.h"
#include "base/num.h"
#include "rpctl/client.h"
#include "rpctl/verb.h"
#include "rpctl/warm.h"

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct options {
    const char *socket;
    uint32_t flags, timeout_ms;
};

static int say(struct buf *b, FILE *to, int code)
{
    fwrite(b->p, 1, b->n, to);
    buf_fini(b);
    return code;
}

/* Splits leading options from the command. Index of the command in argv, or -1 (usage error, told).
 */
static int options_parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        uint64_t ms;
        if (argv[i][0] != '-')
            return i;
        if (strcmp(argv[i], "--json") == 0) {
            o->flags |= PROTO_JSON;
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            static char help[] = "help";
            argv[i] = help;
            return i;
        } else if (strcmp(argv[i], "-V") == 0 || strcmp(argv[i], "--version") == 0) {
            printf("rpctl %s\n", PACKAGE_VERSION);
            exit(PROTO_DONE);
        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
            o->socket = argv[++i];
        } else if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc &&
                   num_duration(slice_str(argv[i + 1]), &ms) == 0 && ms > 0 && ms < UINT32_MAX) {
            o->timeout_ms = (uint32_t)ms;
            i++;
        } else {
            fprintf(stderr, "rpctl: option %s is not known or lacks its value; see rpctl help\n",
                    argv[i]);
            return -1;
        }
    }
    fprintf(stderr, "rpctl: which command? see rpctl help\n");
    return -1;
}

/* --json may stand behind the command too. */
static int options_behind(struct options *o, int argc, char **argv)
{
    int n = 0;
    for (int i = 0; i < argc; i++) {
        if (i > 0 && strcmp(argv[i], "--json") == 0)
            o->flags |= PROTO_JSON;
        else
            argv[n++] = argv[i];
    }
    return n;
}

/* The program beside this one, or the installed one. */
static void sibling(const char *name, char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 32);
    if (n > 0) {
        out[n] = '\0';
        char *slash = strrchr(out, '/');
        if (slash) {
            snprintf(slash + 1, 32, "%s", name);
            if (access(out, X_OK) == 0)
                return;
        }
    }
    snprintf(out, PATH_MAX, "%s/%s", RPD_SBINDIR, name);
}

static int not_running(const char *path)
{
    if (errno == EACCES || errno == EPERM) {
        fprintf(stderr, "rpctl: no permission for %s: %s\n", path, strerror(errno));
        return PROTO_PERMISSION;
    }
    fprintf(stderr, "rpctl: rpd is not running here: %s: %s\n", path, strerror(errno));
    return PROTO_NOT_RUNNING;
}

static int call(const struct options *o, int argc, char **argv, struct buf *ret_out, bool quiet)
{
    char path[108], cwd[PATH_MAX];
    struct proto_request r = {
        .flags = o->flags, .timeout_ms = o->timeout_ms, .cwd = getcwd(cwd, sizeof(cwd)) ? cwd : ""};
    if (r.cwd[0] != '/')
        r.cwd = "";
    if ((uint32_t)argc > PROTO_MAX_ARGS) {
        fprintf(stderr, "rpctl: too many arguments\n");
        return PROTO_USAGE;
    }
    if (isatty(STDOUT_FILENO))
        r.flags |= PROTO_COLOUR;
    for (int i = 0; i < argc; i++)
        r.argv[r.argc++] = argv[i];
    int fd = client_connect(o->socket, path);
    if (fd < 0)
        return quiet ? PROTO_NOT_RUNNING : not_running(path);
    return client_call(fd, &r, o->timeout_ms, ret_out);
}

/* rpd -t with the same file as the running master, unless told otherwise. */
static int check(const struct options *o, int argc, char **argv)
{
    char program[PATH_MAX];
    struct buf running;
    buf_init(&running, PATH_MAX);
    sibling("rpd", program);
    const char *file = argc > 1 ? argv[1] : NULL;
    if (!file) {
        static char word[] = "config", path_option[] = "--path";
        char *ask[] = {word, path_option};
        struct options plain = *o;
        plain.flags = 0;
        if (call(&plain, 2, ask, &running, true) == PROTO_DONE && running.n > 1) {
            running.p[running.n - 1] = '\0'; /* instead of the newline */
            file = running.p;
        }
    }
    const char *args[6] = {program, "-t"};
    int n = 2;
    if (o->flags & PROTO_JSON)
        args[n++] = "--json";
    if (file) {
        args[n++] = "-c";
        args[n++] = file;
    }
    char *exec_args[6];
    memcpy(exec_args, args, sizeof(exec_args));
    execv(program, exec_args);
    fprintf(stderr, "rpctl: cannot run %s: %s\n", program, strerror(errno));
    return PROTO_NOT_RUNNING;
}

/* The master says where, the tool asks: a proxy need not be a client of itself. */
static int warm(const struct options *o, int argc, char **argv)
{
    static char word[] = "cache", address_of[] = "warm";
    char *ask[] = {word, address_of};
    const char *field[PROTO_MAX_ARGS];
    struct warm w = {.field = field, .json = (o->flags & PROTO_JSON) != 0};
    struct options plain = *o;
    struct buf address;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-H") == 0 && i + 1 < argc && w.nfield < (int)PROTO_MAX_ARGS)
            field[w.nfield++] = argv[++i];
        else if (!w.file && (argv[i][0] != '-' || argv[i][1] == '\0'))
            w.file = argv[i];
        else
            argc = 0; /* not understood */
    }
    if (!w.file || argc == 0) {
        struct buf b;
        buf_init(&b, 0);
        verb_usage(VERB_cache, &b);
        return say(&b, stderr, PROTO_USAGE);
    }
    plain.flags = 0;
    buf_init(&address, 4096);
    int code = call(&plain, 2, ask, &address, false);
    if (code == PROTO_DONE)
        code = warm_run(&w, slice_of(address.p, address.n > 0 ? address.n - 1 : 0));
    buf_fini(&address);
    return code;
}

static int version(const struct options *o, int argc, char **argv)
{
    struct buf b;
    buf_init(&b, 0);
    int code = call(o, argc, argv, &b, true);
    if (code == PROTO_DONE)
        return say(&b, stdout, code);
    buf_clear(&b);
    if (o->flags & PROTO_JSON) {
        struct json j;
        json_init(&j, &b);
        json_object(&j);
        json_ku64(&j, "v", 1);
        json_kcstr(&j, "rpctl", PACKAGE_VERSION);
        json_kcstr(&j, "rpd", NULL);
        json_end_object(&j);
        buf_chr(&b, '\n');
    } else {
        buf_printf(&b, "rpctl %s\n%s", PACKAGE_VERSION,
                   code == PROTO_NOT_RUNNING ? "rpd is not running here\n" : "");
    }
    return say(&b, stdout, PROTO_DONE);
}

static int local(enum verb_id id, const struct options *o, int argc, char **argv)
{
    struct buf b;
    buf_init(&b, 0);
    if (id == VERB_check)
        return check(o, argc, argv);
    if (id == VERB_completion) {
        if (strcmp(argv[1], "bash") != 0) {
            fprintf(stderr, "rpctl: there is completion for bash only\n");
            return PROTO_USAGE;
        }
        verb_completion_bash(&b);
        return say(&b, stdout, PROTO_DONE);
    }
    int which = argc > 1 ? verb_find(argv[1]) : -ERR_NOENT;
    if (which >= 0) {
        verb_usage((enum verb_id)which, &b);
        buf_printf(&b, "  %s\n", verb_get((enum verb_id)which)->help);
    } else {
        verb_help(&b);
    }
    return say(&b, stdout, PROTO_DONE);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    int at = options_parse(&o, argc, argv);
    if (at < 0)
        return PROTO_USAGE;
    argv += at;
    argc = options_behind(&o, argc - at, argv);
    int id = verb_find(argv[0]);
    if (id < 0) {
        const char *near = verb_nearest(argv[0]);
        fprintf(stderr, "rpctl: unknown command \"%s\"", argv[0]);
        if (near)
            fprintf(stderr, "; did you mean \"%s\"?\n", near);
        else
            fprintf(stderr, "; see rpctl help\n");
        return PROTO_USAGE;
    }
    const struct verb *v = verb_get((enum verb_id)id);
    if (argc - 1 < v->least || argc - 1 > v->most) {
        struct buf b;
        buf_init(&b, 0);
        verb_usage((enum verb_id)id, &b);
        return say(&b, stderr, PROTO_USAGE);
    }
    if (v->role == VERB_LOCAL)
        return local((enum verb_id)id, &o, argc, argv);
    if (id == VERB_cache && strcmp(argv[1], "warm") == 0)
        return warm(&o, argc, argv);
    if (id == VERB_version)
        return version(&o, argc, argv);
    return call(&o, argc, argv, NULL, false);
}
