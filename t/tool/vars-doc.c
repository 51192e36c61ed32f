/* Prints the variables of access log formats as an mdoc list, for rpd.conf(5). */
#include <stdio.h>

static void item(const char *name, const char *argument, const char *doc)
{
    printf(".It Li %%{%s%s}\n", name, argument);
    /* A line that begins with a dot or a quote would be a request. */
    printf("%s%s\n", doc[0] == '.' || doc[0] == '\'' ? "\\&" : "", doc);
}

int main(void)
{
    puts(".Bl -tag -width Ds");
#define VAR(name, kind, value, doc)       item(#name, "", doc);
#define VAR_FIELD(name, kind, value, doc) item(#name, ".FIELD", doc);
#include "worker/log/vars.def"
#undef VAR
#undef VAR_FIELD
    puts(".El");
    return fflush(stdout) == 0 ? 0 : 1;
}
