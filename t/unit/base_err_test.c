/* The error table: every row is complete, codes of either sign and out of range. */
#include "base/err.h"
#include "t/unit/tap.h"

#include <limits.h>

int main(void)
{
    tap_is_str(slice_str(err_reason(0)), "-", "no error has the reason -");
    tap_is_str(slice_str(err_reason(ERR_CONNECT_REFUSED)), "connect_refused", "positive code");
    tap_is_str(slice_str(err_reason(-ERR_CONNECT_REFUSED)), "connect_refused", "negative code");
    tap_is_int(err_source(-ERR_BAD_HOST), ERR_SRC_CLIENT, "source");
    tap_is_int(err_retry(-ERR_UP_RESET), ERR_RETRY_IDEMPOTENT, "retry class");
    tap_is_int(err_status(-ERR_CONNECT_TIMEOUT), 504, "status");
    const int strange[] = {ERR__COUNT, -ERR__COUNT, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
        tap_is_str(slice_str(err_reason(strange[i])), "internal", "%d is internal", strange[i]);

    bool complete = true, unique = true;
    for (int i = 1; i < ERR__COUNT; i++) {
        const char *r = err_reason(i);
        int st = err_status(i);
        complete &= r && *r && err_text(i) && err_text(i)[0] != '\0';
        complete &= st == 0 || (st >= 400 && st <= 599);
        for (const char *c = r; *c; c++)
            complete &= (*c >= 'a' && *c <= 'z') || *c == '_' || (*c >= '0' && *c <= '9');
        for (int k = 1; k < i; k++)
            unique &= strcmp(r, err_reason(k)) != 0;
    }
    tap_ok(complete, "each row has a word, a text and a status");
    tap_ok(unique, "no reason comes twice");
    return tap_done();
}
