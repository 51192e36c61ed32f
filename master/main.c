/* rpd: the program's entry. Decides where the configuration comes from, then runs the master or a
 * command that ends at once. */
#include "base/err.h"
#include "base/log.h"
#include "base/proc.h"
#include "master/cli.h"
#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAIN_CONF RPD_SYSCONFDIR "/rpd/rpd.conf"

/* Descriptors 0 to 2 must exist, or the next file opened would become one of them. */
static void main_std_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

/* Copies of the arguments without --inherit, and the program's path: for the next upgrade. */
static int main_remember(int argc, char **argv)
{
    ssize_t n = readlink("/proc/self/exe", master.exe, sizeof(master.exe) - 1);
    if (n <= 0)
        return -ERR_SYS;
    master.exe[n] = '\0';
    /* After an upgrade in place the old file is gone, but its successor has its name. */
    char *deleted = strstr(master.exe, " (deleted)");
    if (deleted && deleted[10] == '\0')
        *deleted = '\0';
    master.argv = calloc((size_t)argc + 1, sizeof(*master.argv));
    if (!master.argv)
        return -ERR_NOMEM;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--inherit") == 0) {
            i++;
            continue;
        }
        master.argv[master.argc] = strdup(argv[i]);
        if (!master.argv[master.argc++])
            return -ERR_NOMEM;
    }
    return 0;
}

static int main_source(const struct cli *c)
{
    if (c->start.to.p || c->quick_default) {
        master.quick = true;
        master.start = c->start;
        if (c->start.to.p || c->inherit >= 0 || c->mode != CLI_RUN)
            return 0;
        if (welcome_open(&master.welcome) == 0)
            return 0;
        fprintf(stderr, "rpd: no socket for the welcome page: %s\n", strerror(errno));
        return -ERR_SYS;
    }
    master.conf_path = c->file ? c->file : MAIN_CONF;
    if (!c->file && access(MAIN_CONF, F_OK) < 0 && c->mode != CLI_VERSION && c->mode != CLI_HELP &&
        c->mode != CLI_SIGNAL) {
        fprintf(stderr,
                "rpd: there is no configuration %s\n"
                "  rpd --to http://127.0.0.1:3000   runs in front of an application without one\n"
                "  rpd -c FILE                      uses another file\n"
                "  rpd -F --default                 shows that it works\n",
                MAIN_CONF);
        return -ERR_NOENT;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct cli c;
    main_std_fds();
    if (main_remember(argc, argv) < 0) {
        fprintf(stderr, "rpd: cannot start: %s\n", strerror(errno));
        return 1;
    }
    proc_init_title(argc, argv);
    if (!cli_parse(argc, argv, &c))
        return PROTO_USAGE;
    master.foreground = c.foreground;
    if (main_source(&c) < 0)
        return PROTO_REFUSED;
    int status = c.mode == CLI_RUN ? master_run(c.inherit) : cli_do(&c);
    for (int i = 0; i < master.argc; i++)
        free(master.argv[i]);
    free(master.argv);
    return status;
}
