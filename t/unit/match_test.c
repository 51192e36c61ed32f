/* worker/stream/match: compiling, matching, captures, and the bounds that keep a subject from
 * burning CPU. */
#include "base/clock.h"
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/stream/match.h"

static struct match *must(const char *pattern, bool caseless)
{
    struct match *m;
    char err[MATCH_ERR_MAX];
    size_t at;
    if (match_compile(slice_str(pattern), caseless, &m, err, &at) < 0)
        tap_bail("%s: %s", pattern, err);
    return m;
}

static bool hit(const char *pattern, bool caseless, struct slice subject)
{
    struct match *m = must(pattern, caseless);
    const bool yes = match_test(m, subject);
    match_free(&m);
    return yes;
}

static void test_basic(void)
{
    tap_ok(hit("^/a/[0-9]+$", false, SLICE("/a/17")), "anchored pattern matches");
    tap_ok(!hit("^/a/[0-9]+$", false, SLICE("/a/17x")), "and does not");
    tap_ok(hit("b", false, SLICE("abc")), "anchoring is the pattern's business");
    tap_ok(!hit("B", false, SLICE("abc")), "case counts");
    tap_ok(hit("B", true, SLICE("abc")), "unless it is told not to");
    tap_ok(!hit("^a$", false, SLICE("a\n")), "a dollar is the very end");
    tap_ok(hit("^$", false, SLICE_NONE), "an empty subject without address");
    tap_ok(hit("^a\\x00b$", false, SLICE("a\0b")), "NUL is a byte");
    tap_ok(hit("^.{2}$", false, SLICE("\xc3\xa4")), "bytes, not UTF-8");
    tap_ok(!hit("a{300}", false, slice_of("aaaa", 4)), "the subject ends where its slice ends");
}

static void test_errors(void)
{
    struct match *m = (struct match *)(uintptr_t)1;
    char err[MATCH_ERR_MAX];
    size_t at = 99;
    tap_is_int(match_compile(SLICE("^/a(b"), false, &m, err, &at), -ERR_INVAL, "unclosed group");
    tap_ok(m == NULL, "nothing is returned");
    tap_is_int(at, 5, "the offset is where the pattern ends");
    tap_ok(strstr(err, "parenthes") != NULL, "the message says why: %s", err);
    tap_is_int(match_compile(SLICE("a[z-a]"), false, &m, err, &at), -ERR_INVAL, "bad range");
    tap_ok(at >= 4 && at <= 5, "offset %zu", at);
    tap_is_int(match_compile(SLICE("(*UTF)a"), false, &m, err, &at), -ERR_INVAL,
               "no switching to UTF");
    char many[200] = "";
    for (unsigned i = 0; i < MATCH_GROUPS; i++)
        memcpy(many + 3 * i, "(a)", 4);
    tap_is_int(match_compile(slice_str(many), false, &m, err, &at), -ERR_INVAL, "too many groups");
    many[3 * (MATCH_GROUPS - 1)] = '\0';
    tap_is_int(match_compile(slice_str(many), false, &m, err, &at), 0, "one fewer is fine");
    match_free(&m);
    match_free(&m);
    tap_ok(m == NULL, "free is idempotent");
}

static void test_captures(void)
{
    struct match *m = must("^(?<tenant>[a-z]+)(-x)?\\.(example)\\.org$", true);
    struct match_groups g;
    tap_is_int(match_capture(m, SLICE("acme.example.org"), &g), 1, "it matches");
    tap_is_int(g.n, 4, "four groups, the whole included");
    tap_is_str(g.group[0], "acme.example.org", "whole");
    tap_is_str(g.group[1], "acme", "first");
    tap_ok(g.group[2].p == NULL, "a group that took no part");
    tap_is_str(g.group[3], "example", "third");
    tap_is_int(match_group(m, SLICE("tenant")), 1, "group by name");
    tap_is_int(match_group(m, SLICE("other")), -ERR_NOENT, "unknown name");
    tap_is_int(match_group(m, SLICE("tenanttenanttenanttenanttenanttenant")), -ERR_NOENT,
               "overlong name");
    tap_is_int(match_capture(m, SLICE("nope"), &g), 0, "no match");
    tap_is_int(g.n, 0, "no groups then");
    match_free(&m);
}

/* Patterns that take exponential time without a limit. */
static void test_bounds(void)
{
    static const char *const evil[] = {"^(a+)+$", "^(a|aa)+$", "^(.*?,){25}P", "(x+x+)+y",
                                       "^(([a-z])+.)+[A-Z]([a-z])+$"};
    char subject[8192];
    for (size_t i = 0; i < sizeof(evil) / sizeof(evil[0]); i++) {
        memset(subject, i == 2 ? ',' : i == 3 ? 'x' : 'a', sizeof(subject));
        subject[sizeof(subject) - 1] = '!';
        struct match *m = must(evil[i], false);
        const uint64_t from = clock_us_now();
        const int rc = match_try(m, slice_of(subject, sizeof(subject)));
        const uint64_t us = clock_us_now() - from;
        tap_ok(rc == 0 || rc == -ERR_RANGE, "%s ends: %d", evil[i], rc);
        /* Generous: sanitizers and a busy machine. Without limits these take longer than the
         * universe has. */
        tap_ok(us < 2000000, "%s took %llu us", evil[i], (unsigned long long)us);
        tap_ok(!match_test(m, slice_of(subject, sizeof(subject))), "and counts as no match");
        match_free(&m);
    }
}

int main(void)
{
    test_basic();
    test_errors();
    test_captures();
    test_bounds();
    tap_ok(strchr(match_version(), '.') != NULL, "version %s", match_version());
    return tap_done();
}
