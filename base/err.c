/* The error table made of err.def and its accessors. */
#include "base/err.h"

struct err_row {
    const char *reason, *text;
    enum err_source source;
    enum err_retry retry;
    int status;
};

static const struct err_row err_rows[ERR__COUNT] = {
    [ERR_OK] = {"-", "no error", ERR_SRC_SELF, ERR_RETRY_NEVER, 200},
#define ERR(name, reason_, source_, retry_, status_, text_)                                        \
    [ERR_##name] = {reason_, text_, ERR_SRC_##source_, ERR_RETRY_##retry_, status_},
#include "base/err.def"
#undef ERR
};

static const struct err_row *err_row(int e)
{
    /* Widened first, so that the most negative int has a positive counterpart. */
    long long code = e < 0 ? -(long long)e : e;
    return &err_rows[code < ERR__COUNT ? code : ERR_INTERNAL];
}

const char *err_reason(int e)
{
    return err_row(e)->reason;
}

const char *err_text(int e)
{
    return err_row(e)->text;
}

enum err_source err_source(int e)
{
    return err_row(e)->source;
}

enum err_retry err_retry(int e)
{
    return err_row(e)->retry;
}

int err_status(int e)
{
    return err_row(e)->status;
}
