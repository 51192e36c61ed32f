/* Prints documentation made from the key table: config-doc man|sample|words; `check FILE` loads a
 * file. Runs at build time. */
#include "base/err.h"
#include "config/config.h"
#include "config/doc.h"

#include <stdio.h>

static int check(const char *path, struct buf *out)
{
    struct conf_snapshot *s;
    struct conf_diags d;
    struct config *c = NULL;
    conf_diags_init(&d);
    int k = conf_snapshot_file(path, &s);
    if (k == 0)
        k = config_load(s, &d, &c);
    conf_diags_print(&d, out);
    if (c)
        config_dump(c, false, true, out);
    config_free(&c);
    conf_diags_fini(&d);
    conf_snapshot_free(&s);
    return k;
}

int main(int argc, char **argv)
{
    struct buf out;
    int k = 0;
    buf_init(&out, 0);
    if (argc == 2 && strcmp(argv[1], "man") == 0) {
        conf_doc_man(&out);
    } else if (argc == 2 && strcmp(argv[1], "sample") == 0) {
        conf_doc_sample(&out);
    } else if (argc == 2 && strcmp(argv[1], "words") == 0) {
        conf_doc_words(&out);
    } else if (argc == 3 && strcmp(argv[1], "check") == 0) {
        k = check(argv[2], &out);
    } else {
        (void)fputs("usage: config-doc man|sample|words|check FILE\n", stderr);
        return 2;
    }
    bool ok = !out.failed && fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0;
    buf_fini(&out);
    return ok && k == 0 ? 0 : 1;
}
