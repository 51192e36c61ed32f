/* Dates of HTTP: the three formats of RFC 9110 5.6.7 read, the first of them written. */
#ifndef WORKER_HTTP_HTTP_DATE_H
#define WORKER_HTTP_HTTP_DATE_H

#include "base/slice.h"

#define HTTP_DATE_LEN 29u /* of IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT */

/* The whole slice must be IMF-fixdate, RFC 850 or asctime; letters in any case (RFC 9111 4.2), no
 * zone but GMT, a date that exists, no space more or less. The day of the week is not compared with
 * the date. now (seconds since 1970): a year of two digits that would be more than 50 years after
 * it is the one a century before. *ret: seconds since 1970, negative before. 0 or -ERR_INVAL. */
int http_date_parse(struct slice s, int64_t now, int64_t *ret);
/* Years 0 to 9999; what lies outside is written as the nearest. No NUL. */
void http_date_format(int64_t t, char out[HTTP_DATE_LEN]);

#endif
