/* The commands as a table: lookup, help and the nearest name for a typing error. */
#include "rpctl/verb.h"

#include "base/err.h"

static const struct verb verb_table[] = {
#define VERB(word, role, least, most, args, help) {#word, VERB_##role, least, most, args, help},
#include "rpctl/verb.def"
#undef VERB
};

const struct verb *verb_get(enum verb_id id)
{
    return &verb_table[id];
}

int verb_find(const char *word)
{
    for (int i = 0; i < VERB__COUNT; i++) {
        if (strcmp(verb_table[i].word, word) == 0)
            return i;
    }
    return -ERR_NOENT;
}

/* Edits (insert, delete, replace, swap of neighbours) between two short words: Damerau, restricted.
 */
static unsigned verb_distance(const char *a, size_t na, const char *b, size_t nb)
{
    enum { LEN = 24 };
    unsigned d[LEN + 1][LEN + 1];
    if (na > LEN || nb > LEN)
        return LEN;
    for (unsigned i = 0; i <= na; i++)
        d[i][0] = i;
    for (unsigned j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[na][nb];
}

const char *verb_nearest(const char *word)
{
    const char *best = NULL;
    size_t n = strlen(word);
    unsigned least = n <= 4 ? 2 : 3; /* one edit in a short word, two in a long one */
    for (int i = 0; i < VERB__COUNT; i++) {
        unsigned d = verb_distance(word, n, verb_table[i].word, strlen(verb_table[i].word));
        if (d < least) {
            least = d;
            best = verb_table[i].word;
        }
    }
    return best;
}

void verb_usage(enum verb_id id, struct buf *out)
{
    const struct verb *v = &verb_table[id];
    buf_printf(out, "usage: rpctl %s%s%s\n", v->word, v->args[0] ? " " : "", v->args);
    if (id == VERB_cache)
        buf_str(out,
                "       rpctl cache stat [NAME]\n"
                "       rpctl cache list [PREFIX] [-n N] [--cache NAME]\n"
                "       rpctl cache show URL [--cache NAME]\n"
                "       rpctl cache purge URL|--prefix URL|--host HOST|--tag TAG|--all [--soft] "
                "[--dry-run] [--cache NAME]\n"
                "       rpctl cache fsck [NAME] [--repair]\n"
                "       rpctl cache warm FILE [-H FIELD ...]\n");
}

void verb_help(struct buf *out)
{
    buf_str(out,
            "usage: rpctl [-s SOCKET] [--json] [--timeout DURATION] COMMAND [ARGUMENT ...]\n\n");
    for (int i = 0; i < VERB__COUNT; i++) {
        const struct verb *v = &verb_table[i];
        size_t n = strlen(v->word) + strlen(v->args) + 1;
        buf_printf(out, "  %s %s", v->word, v->args);
        if (n > 42)
            buf_printf(out, "\n  %*s", 42, "");
        else
            buf_printf(out, "%*s", (int)(42 - n), "");
        buf_printf(out, "  %s\n", v->help);
    }
    buf_str(out, "\nexit status: 0 done, 1 refused and nothing changed, 2 usage, 3 not running, 4 "
                 "permission,\n"
                 "5 timed out, 6 partly done; status: 0 healthy, 10 degraded, 11 critical\n");
}

void verb_completion_bash(struct buf *out)
{
    buf_str(out,
            "# bash completion for rpctl\n_rpctl() {\n"
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= i\n"
            "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
            "        case ${COMP_WORDS[i]} in\n"
            "        -s | --timeout) ((i++)) ;;\n"
            "        -*) ;;\n"
            "        *) command=${COMP_WORDS[i]}; break ;;\n"
            "        esac\n"
            "    done\n"
            "    case $prev in\n"
            "    -s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
            "    --for | --timeout) return ;;\n"
            "    esac\n"
            "    case $command in\n"
            "    '') COMPREPLY=($(compgen -W \"");
    for (int i = 0; i < VERB__COUNT; i++)
        buf_printf(out, "%s ", verb_table[i].word);
    buf_str(
        out,
        "-s --json --timeout\" -- \"$cur\")) ;;\n"
        "    cache)\n"
        "        case $prev in\n"
        "        cache) COMPREPLY=($(compgen -W \"stat list show purge fsck warm\" -- \"$cur\")) "
        ";;\n"
        "        warm) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
        "        stat | fsck | --cache) COMPREPLY=($(compgen -W \"$(rpctl cache stat 2>/dev/null | "
        "awk '$1 == \"cache\" { print $2 }') --repair\" -- \"$cur\")) ;;\n"
        "        --prefix | --host | --tag | -n | -H) ;;\n"
        "        *) COMPREPLY=($(compgen -W \"--prefix --host --tag --all --soft --dry-run --cache "
        "-n "
        "-H\" -- \"$cur\")) ;;\n"
        "        esac\n"
        "        ;;\n"
        "    cert) COMPREPLY=($(compgen -W \"$(rpctl cert 2>/dev/null | awk '{ gsub(\",\", \" \", "
        "$2); print $2 }')\" -- \"$cur\")) ;;\n"
        "    check) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
        "    completion) COMPREPLY=($(compgen -W \"bash\" -- \"$cur\")) ;;\n"
        "    config) COMPREPLY=($(compgen -W \"--effective --changed --origin\" -- \"$cur\")) ;;\n"
        "    explain) COMPREPLY=($(compgen -W \"GET HEAD POST PUT DELETE OPTIONS PATCH --from\" -- "
        "\"$cur\")) ;;\n"
        "    help) COMPREPLY=($(compgen -W \"");
    for (int i = 0; i < VERB__COUNT; i++)
        buf_printf(out, "%s%s", i ? " " : "", verb_table[i].word);
    buf_str(
        out,
        "\" -- \"$cur\")) ;;\n"
        "    log)\n"
        "        case $prev in\n"
        "        log) COMPREPLY=($(compgen -W \"level\" -- \"$cur\")) ;;\n"
        "        level) COMPREPLY=($(compgen -W \"alert error warn notice info debug\" -- "
        "\"$cur\")) ;;\n"
        "        *) COMPREPLY=($(compgen -W \"--for\" -- \"$cur\")) ;;\n"
        "        esac\n"
        "        ;;\n"
        "    server)\n"
        "        case $prev in\n"
        "        server) COMPREPLY=($(compgen -W \"$(rpctl upstream 2>/dev/null | awk '$1 ~ /\\// "
        "{ print $1 }')\" -- \"$cur\")) ;;\n"
        "        weight | ready | drain | down) ;;\n"
        "        *) COMPREPLY=($(compgen -W \"ready drain down weight\" -- \"$cur\")) ;;\n"
        "        esac\n"
        "        ;;\n"
        "    show) COMPREPLY=($(compgen -W \"pools panic states\" -- \"$cur\")) ;;\n"
        "    stop) COMPREPLY=($(compgen -W \"--now\" -- \"$cur\")) ;;\n"
        "    wait) COMPREPLY=($(compgen -W \"generation healthy idle --timeout\" -- \"$cur\")) ;;\n"
        "    esac\n"
        "}\ncomplete -F _rpctl rpctl\n");
}
