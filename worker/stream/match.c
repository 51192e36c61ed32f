/* Regular expressions: the door to PCRE2. */
#include "worker/stream/match.h"

#include "base/err.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#define JIT_STACK_MIN (32u * 1024)
#define JIT_STACK_MAX (512u * 1024)
#define HEAP_KIB      512u /* the interpreter's own limit for backtracking frames */

struct match {
    pcre2_code *code;
    unsigned groups;
};

/* Scratch of this process. Children after fork own a copy of it, so sharing is not a concern. */
static struct {
    pcre2_match_data *data;
    pcre2_match_context *ctx;
    pcre2_jit_stack *stack;
} scratch;

static bool scratch_ready(void)
{
    if (scratch.data)
        return true;
    pcre2_match_context *const ctx = pcre2_match_context_create(NULL);
    pcre2_match_data *const data = pcre2_match_data_create(MATCH_GROUPS, NULL);
    if (!ctx || !data) {
        pcre2_match_context_free(ctx);
        pcre2_match_data_free(data);
        return false;
    }
    (void)pcre2_set_match_limit(ctx, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(ctx, MATCH_DEPTH);
    (void)pcre2_set_heap_limit(ctx, HEAP_KIB);
    /* Without a stack of ours JIT code uses 32 KiB of the machine stack: less depth, still bounded.
     */
    scratch.stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (scratch.stack)
        pcre2_jit_stack_assign(ctx, NULL, scratch.stack);
    scratch.ctx = ctx;
    scratch.data = data;
    return true;
}

static int out_of_memory(char err[MATCH_ERR_MAX])
{
    (void)snprintf(err, MATCH_ERR_MAX, "%s", err_text(ERR_NOMEM));
    return -ERR_NOMEM;
}

int match_compile(struct slice pattern, bool caseless, struct match **ret, char err[MATCH_ERR_MAX],
                  size_t *ret_offset)
{
    *ret = NULL;
    *ret_offset = 0;
    err[0] = '\0';
    if (!scratch_ready())
        return out_of_memory(err);
    /* NEVER_UTF keeps a pattern from switching to UTF by itself: subjects are bytes of strangers.
     */
    const uint32_t opt = PCRE2_NEVER_UTF | PCRE2_DOLLAR_ENDONLY | (caseless ? PCRE2_CASELESS : 0u);
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *const re = pcre2_compile((PCRE2_SPTR)(const void *)(pattern.p ? pattern.p : ""),
                                         pattern.n, opt, &code, &offset, NULL);
    if (!re) {
        if (pcre2_get_error_message(code, (PCRE2_UCHAR *)err, MATCH_ERR_MAX) < 0)
            (void)snprintf(err, MATCH_ERR_MAX, "PCRE2 error %d", code);
        *ret_offset = offset < pattern.n ? offset : pattern.n;
        return code == PCRE2_ERROR_HEAP_FAILED ? -ERR_NOMEM : -ERR_INVAL;
    }
    uint32_t captures = 0;
    (void)pcre2_pattern_info(re, PCRE2_INFO_CAPTURECOUNT, &captures);
    if (captures >= MATCH_GROUPS) {
        (void)snprintf(err, MATCH_ERR_MAX, "more than %u capture groups; use (?:...)",
                       MATCH_GROUPS - 1);
        pcre2_code_free(re);
        return -ERR_INVAL;
    }
    struct match *const m = calloc(1, sizeof(*m));
    if (!m) {
        pcre2_code_free(re);
        return out_of_memory(err);
    }
    m->code = re;
    m->groups = captures + 1;
    /* Fails where pages cannot be made executable; the interpreter answers the same. */
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
    *ret = m;
    return 0;
}

void match_free(struct match **m)
{
    if (!*m)
        return;
    pcre2_code_free((*m)->code);
    free(*m);
    *m = NULL;
}

int match_try(const struct match *m, struct slice subject)
{
    if (!scratch_ready())
        return -ERR_NOMEM;
    const int rc = pcre2_match(m->code, (PCRE2_SPTR)(const void *)(subject.p ? subject.p : ""),
                               subject.n, 0, 0, scratch.data, scratch.ctx);
    if (rc >= 0)
        return 1;
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    return rc == PCRE2_ERROR_NOMEMORY ? -ERR_NOMEM : -ERR_RANGE;
}

bool match_test(const struct match *m, struct slice subject)
{
    return match_try(m, subject) == 1;
}

int match_capture(const struct match *m, struct slice subject, struct match_groups *ret)
{
    ret->n = 0;
    const int rc = match_try(m, subject);
    if (rc != 1)
        return rc;
    const PCRE2_SIZE *const at = pcre2_get_ovector_pointer(scratch.data);
    const char *const base = subject.p ? subject.p : "";
    for (unsigned i = 0; i < m->groups; i++) {
        const size_t from = at[2 * i], to = at[2 * i + 1];
        /* \K inside a lookahead can put the start behind the end. */
        if (from == PCRE2_UNSET || from > to || to > subject.n)
            ret->group[i] = SLICE_NONE;
        else
            ret->group[i] = slice_of(base + from, to - from);
    }
    ret->n = m->groups;
    return 1;
}

int match_group(const struct match *m, struct slice name)
{
    char text[33]; /* PCRE2's longest name is 32 */
    if (name.n == 0 || name.n >= sizeof(text) || memchr(name.p, '\0', name.n))
        return -ERR_NOENT;
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    const int g = pcre2_substring_number_from_name(m->code, (PCRE2_SPTR)(const void *)text);
    return g > 0 ? g : -ERR_NOENT;
}

const char *match_version(void)
{
    static char text[64];
    if (!text[0]) {
        char v[32] = "";
        uint32_t jit = 0;
        if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof(v))
            (void)pcre2_config(PCRE2_CONFIG_VERSION, v);
        (void)pcre2_config(PCRE2_CONFIG_JIT, &jit);
        (void)snprintf(text, sizeof(text), "%s%s", v, jit ? "" : " (no JIT)");
    }
    return text;
}
