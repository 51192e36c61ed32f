/* Dates of HTTP: three formats, nothing else, and back. */
#include "worker/http/http_date.h"

#include "t/unit/tap.h"

#define NOW   INT64_C(1790000000) /* 21 Sep 2026 */
#define EPOCH INT64_C(784111777)  /* 6 Nov 1994 08:49:37 */

static const struct {
    const char *in;
    int64_t want;
} good[] = {
    {"Sun, 06 Nov 1994 08:49:37 GMT", EPOCH},
    {"Sunday, 06-Nov-94 08:49:37 GMT", EPOCH},
    {"Sun Nov  6 08:49:37 1994", EPOCH},
    {"Sun Nov 06 08:49:37 1994", EPOCH},
    {"sun, 06 nov 1994 08:49:37 gmt", EPOCH},
    {"SUNDAY, 06-NOV-94 08:49:37 GMT", EPOCH},
    {"Mon, 06 Nov 1994 08:49:37 GMT", EPOCH}, /* the day of the week tells nothing new */
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
    {"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
    {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
    {"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)},
    {"Sat, 01 Jan 0000 00:00:00 GMT", INT64_C(-62167219200)},
    {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
    {"Monday, 21-Sep-76 00:00:00 GMT", INT64_C(3367872000)}, /* in 50 years, to the day */
    {"Monday, 22-Sep-76 00:00:00 GMT", 212198400},           /* in more: 1976 */
    {"Monday, 01-Jan-77 00:00:00 GMT", 220924800},
    {"Monday, 01-Jan-26 00:00:00 GMT", 1767225600},
};

static const char *const bad[] = {
    "",
    "0",
    "-1",
    "now",
    "Sun",
    "Sun,",
    "Sun, ",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "Sun, 06 Nov 1994 08:49:37 GMT ",
    " Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun,  06 Nov 1994 08:49:37 GMT",
    "Sun 06 Nov 1994 08:49:37 GMT",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 94 08:49:37 GMT",
    "Sun, 06-Nov-1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 8:49:37 GMT",
    "Sun, 06 Nov 1994 08.49.37 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Sun, 06 Nov 1994 08:60:00 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 31 Nov 1994 08:49:37 GMT",
    "Sun, 29 Feb 2023 08:49:37 GMT",
    "Thu, 29 Feb 1900 08:49:37 GMT",
    "Sun, 06 Nop 1994 08:49:37 GMT",
    "Sun, 06 Nov -994 08:49:37 GMT",
    "Xxx, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06-Nov-94 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 EST",
    "Sun Nov 6 08:49:37 1994",
    "Sun Nov  6 08:49:37 94",
    "Sun Nov  6 08:49:37 1994 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
};

int main(void)
{
    int64_t t;
    char text[HTTP_DATE_LEN];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        t = INT64_MIN;
        tap_ok(http_date_parse(slice_str(good[i].in), NOW, &t) == 0 && t == good[i].want,
               "%s is %lld", good[i].in, (long long)good[i].want);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        tap_ok(http_date_parse(slice_str(bad[i]), NOW, &t) < 0, "no date: '%s'", bad[i]);

    http_date_format(EPOCH, text);
    tap_is_slice(slice_of(text, HTTP_DATE_LEN), SLICE("Sun, 06 Nov 1994 08:49:37 GMT"), "written");
    http_date_format(INT64_MAX, text);
    tap_is_slice(slice_of(text, HTTP_DATE_LEN), SLICE("Fri, 31 Dec 9999 23:59:59 GMT"), "the last");
    http_date_format(INT64_MIN, text);
    tap_is_slice(slice_of(text, HTTP_DATE_LEN), SLICE("Sat, 01 Jan 0000 00:00:00 GMT"),
                 "the first");
    bool same = true;
    for (int64_t at = INT64_C(-62167219200); at < INT64_C(253402300800); at += 86400 * 13 + 12345) {
        http_date_format(at, text);
        same = same && http_date_parse(slice_of(text, HTTP_DATE_LEN), NOW, &t) == 0 && t == at;
    }
    tap_ok(same, "what is written is read as the same, over ten thousand years");
    return tap_done();
}
