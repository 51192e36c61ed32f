/* Dates: what is read can be written, and is then read as the same. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/http_date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[HTTP_DATE_LEN];
    int64_t t, again;
    int rc = http_date_parse(slice_of((const char *)data, n), INT64_C(1790000000), &t);
    CHECK(rc == 0 || rc == -ERR_INVAL);
    if (rc < 0)
        return 0;
    http_date_format(t, text);
    rc = http_date_parse(slice_of(text, sizeof(text)), 0, &again);
    /* A leap second may be the first of the year 10000. */
    CHECK(rc == 0 && (again == t || t == INT64_C(253402300800)));
    return 0;
}
