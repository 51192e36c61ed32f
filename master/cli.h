/* rpd's command line: its options and everything that ends without a service (-t, -T, -V, -s, -h).
 */
#ifndef MASTER_CLI_H
#define MASTER_CLI_H

#include "config/config.h"

enum cli_mode { CLI_RUN, CLI_CHECK, CLI_DUMP, CLI_VERSION, CLI_SIGNAL, CLI_HELP };
struct cli {
    enum cli_mode mode;
    const char *file;        /* -c; NULL = not given */
    struct conf_quick start; /* quick start; NUL-terminated */
    const char *signal;      /* -s */
    bool foreground, quick_default, json, origin, changed;
    int inherit; /* --inherit: -1 = none */
};
/* False: usage error, told on stderr. */
bool cli_parse(int argc, char **argv, struct cli *ret);
/* All but CLI_RUN. The exit status. */
int cli_do(const struct cli *c);
/* What a newcomer may try, printed when a quick start is ready. */
void cli_welcome(void);

#endif
