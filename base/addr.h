/* Socket addresses and address ranges: parse, print, compare. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include "base/slice.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/* 28 bytes cover IPv4 and IPv6; unix addresses keep their path beside it. */
union addr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};
struct addr_any { /* any family, for listeners and servers */
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};
struct cidr {
    uint8_t family; /* AF_INET, AF_INET6 or AF_UNIX (matches every unix peer) */
    uint8_t bits;
    uint8_t net[16];
};

/* "127.0.0.1:80", "[::1]:80", "*:80" and ":80" (both = 0.0.0.0), "unix:/run/x.sock" (absolute).
 * -ERR_INVAL for names. */
int addr_parse(struct slice s, struct addr_any *ret);
/* Splits "name:port"; a port other than 0 is required. -ERR_INVAL. The name may be an address
 * literal and comes without brackets. */
int addr_split(struct slice s, struct slice *ret_name, uint16_t *ret_port);
int addr_parse_ip(struct slice s, union addr *ret); /* an address alone, no port, no brackets */
/* With port; "unix:" alone for unnamed unix */
size_t addr_fmt(char out[128], const struct sockaddr *sa, socklen_t len);
/* The address alone; IPv4-mapped shown as IPv4 */
size_t addr_fmt_ip(char out[64], const struct sockaddr *sa);
uint16_t addr_port(const struct sockaddr *sa);
/* "10.0.0.0/8", "::1", "unix"; host bits must be zero */
int cidr_parse(struct slice s, struct cidr *ret);
/* IPv4-mapped IPv6 counts as IPv4 */
bool cidr_match_any(const struct cidr *c, size_t n, const struct sockaddr *sa);

#endif
