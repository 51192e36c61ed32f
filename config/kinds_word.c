/* Kinds of values that are one word of a few: on and off, enumerations. */
#include "config/kinds_own.h"

/* Words and what they stand for; the first one of a value is how it is printed. */
struct word_value {
    const char *word;
    unsigned value;
};
static const struct word_value bool_words[] = {{"on", 1}, {"off", 0}, {NULL, 0}};
static const struct word_value auto_words[] = {{"auto", 1}, {"off", 0}, {NULL, 0}};
static const struct word_value reqid_words[] = {{"trusted", CONF_REQID_TRUSTED},
                                                {"make", CONF_REQID_MAKE},
                                                {"keep", CONF_REQID_KEEP},
                                                {"off", CONF_REQID_OFF},
                                                {NULL, 0}};
static const struct word_value srvhdr_words[] = {
    {"pass", CONF_SRVHDR_PASS}, {"hide", CONF_SRVHDR_HIDE}, {NULL, 0}};
static const struct word_value balance_words[] = {{"random_two", CONF_BALANCE_RANDOM_TWO},
                                                  {"round_robin", CONF_BALANCE_ROUND_ROBIN},
                                                  {"least_conn", CONF_BALANCE_LEAST_CONN},
                                                  {"ip_hash", CONF_BALANCE_IP_HASH},
                                                  {NULL, 0}};
static const struct word_value level_words[] = {{"alert", LOG_LV_ALERT},
                                                {"error", LOG_LV_ERROR},
                                                {"warn", LOG_LV_WARN},
                                                {"notice", LOG_LV_NOTICE},
                                                {"info", LOG_LV_INFO},
                                                {"debug", LOG_LV_DEBUG},
                                                {NULL, 0}};

static const struct word_value policy_words[] = {
    {"intermediate", CONF_POLICY_INTERMEDIATE}, {"modern", CONF_POLICY_MODERN}, {NULL, 0}};
static const struct word_value verify_words[] = {
    {"required", CONF_VERIFY_REQUIRED}, {"optional", CONF_VERIFY_OPTIONAL}, {NULL, 0}};
static const struct word_value hredir_words[] = {{"auto", CONF_HREDIR_AUTO},
                                                 {"off", CONF_HREDIR_OFF},
                                                 {"301", CONF_HREDIR_301},
                                                 {"302", CONF_HREDIR_302},
                                                 {"307", CONF_HREDIR_307},
                                                 {"308", CONF_HREDIR_308},
                                                 {NULL, 0}};
static const struct word_value cverify_words[] = {
    {"all", CONF_CACHE_VERIFY_ALL}, {"heads", CONF_CACHE_VERIFY_HEADS}, {NULL, 0}};
static const struct word_value ccert_words[] = {
    {"any", CONF_CCERT_ANY}, {"required", CONF_CCERT_REQUIRED}, {NULL, 0}};
static const struct word_value load_words[] = {
    {"lazy", CONF_LOAD_LAZY}, {"eager", CONF_LOAD_EAGER}, {NULL, 0}};
static const struct word_value uproto_words[] = {{"http/1.1", CONF_UPROTO_H1},
                                                 {"h2", CONF_UPROTO_H2},
                                                 {"h2c", CONF_UPROTO_H2C},
                                                 {"auto", CONF_UPROTO_AUTO},
                                                 {NULL, 0}};

static bool parse_word(struct conf_load *x, const struct conf_entry *e, const struct word_value *t,
                       unsigned *ret)
{
    const struct conf_word *w = conf_kind_one(x, e);
    struct conf_near near;
    if (!w)
        return false;
    conf_near_init(&near, w->text);
    for (size_t i = 0; t[i].word; i++) {
        if (slice_eq(w->text, slice_str(t[i].word))) {
            *ret = t[i].value;
            return true;
        }
        conf_near_try(&near, slice_str(t[i].word));
    }
    struct slice name = conf_key_name(e->key);
    buf_clear(&x->scratch);
    for (size_t i = 0; t[i].word; i++)
        buf_printf(&x->scratch, "%s%s", i == 0 ? "" : t[i + 1].word ? ", " : " or ", t[i].word);
    if (near.best.p)
        buf_printf(&x->scratch, "; did you mean \"" SLICE_FMT "\"?", SLICE_ARG(near.best));
    conf_load_error(x, conf_load_word_pos(e, w),
                    "\"" SLICE_FMT "\": \"" SLICE_FMT "\" is not " SLICE_FMT, SLICE_ARG(name),
                    SLICE_ARG(w->text), SLICE_ARG(buf_slice(&x->scratch)));
    return false;
}

static void put_word(const struct word_value *t, unsigned v, struct buf *out)
{
    for (size_t i = 0; t[i].word; i++)
        if (t[i].value == v) {
            buf_str(out, t[i].word);
            return;
        }
}

#define WORD_KIND(name, syntax, type, table)                                                       \
    static bool parse_##name(struct conf_load *x, const struct conf_entry *e, void *dst)           \
    {                                                                                              \
        unsigned v;                                                                                \
        if (!parse_word(x, e, table, &v))                                                          \
            return false;                                                                          \
        *(type *)dst = (type)v;                                                                    \
        return true;                                                                               \
    }                                                                                              \
    static void put_##name(const void *v, size_t i, struct buf *out)                               \
    {                                                                                              \
        (void)i;                                                                                   \
        put_word(table, (unsigned)*(const type *)v, out);                                          \
    }                                                                                              \
    const struct conf_kind conf_kind_##name = {syntax,       sizeof(type),        false,           \
                                               parse_##name, conf_kind_count_one, put_##name}
WORD_KIND(bool, "on | off", bool, bool_words);
WORD_KIND(auto_off, "auto | off", bool, auto_words);
WORD_KIND(loglevel, "alert | error | warn | notice | info | debug", enum log_level, level_words);
WORD_KIND(reqid, "trusted | make | keep | off", enum conf_reqid, reqid_words);
WORD_KIND(srvhdr, "pass | hide", enum conf_srvhdr, srvhdr_words);
WORD_KIND(balance, "random_two | round_robin | least_conn | ip_hash", enum conf_balance,
          balance_words);
WORD_KIND(policy, "intermediate | modern", enum conf_policy, policy_words);
WORD_KIND(verify, "required | optional", enum conf_verify, verify_words);
WORD_KIND(cverify, "all | heads", enum conf_cache_verify, cverify_words);
WORD_KIND(hredir, "auto | off | 301 | 302 | 307 | 308", enum conf_hredir, hredir_words);
WORD_KIND(ccert, "any | required", enum conf_ccert, ccert_words);
WORD_KIND(load, "lazy | eager", enum conf_load_when, load_words);
WORD_KIND(uproto, "http/1.1 | h2 | h2c | auto", enum conf_uproto, uproto_words);
