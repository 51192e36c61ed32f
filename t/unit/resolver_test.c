/* The resolver against a name server of our own that answers well, late, wrongly, cut short, or not
 * at all. */
#include "base/clock.h"
#include "base/err.h"
#include "shm/resolve.h"
#include "t/unit/tap.h"
#include "worker/upstream/resolver.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define FDS      64
#define LIMIT_MS 15000u

static struct pollfd fds[FDS];
static int server_fd;
static struct segment *s;
static slot_oid me;
static unsigned asked_a, phase;

static void watch(void *arg, int fd, bool rd, bool wr)
{
    (void)arg;
    for (int i = 1; i < FDS; i++) {
        if (fds[i].fd == fd || (fds[i].fd < 0 && (rd || wr))) {
            fds[i].fd = rd || wr ? fd : -1;
            fds[i].events = (short)((rd ? POLLIN : 0) | (wr ? POLLOUT : 0));
            return;
        }
    }
}

struct packet {
    uint8_t b[1500];
    size_t n;
};

static void put16(struct packet *p, unsigned v)
{
    p->b[p->n++] = (uint8_t)(v >> 8);
    p->b[p->n++] = (uint8_t)v;
}

static void put_record(struct packet *p, unsigned type, unsigned ttl, const void *data, unsigned n)
{
    put16(p, 0xc00c); /* the question's name */
    put16(p, type);
    put16(p, 1);
    put16(p, 0);
    put16(p, ttl);
    put16(p, n);
    memcpy(p->b + p->n, data, n);
    p->n += n;
}

/* Answers by the first label of the name. Returns false to stay silent. */
static bool answer(const uint8_t *q, size_t n, struct packet *p)
{
    static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 9};
    const uint8_t *const label = q + 13;
    const struct slice name = slice_of((const char *)label, q[12]);
    size_t end = 12;
    unsigned type, answers = 0;

    while (end < n && q[end] != 0)
        end += q[end] + 1u;
    if (end + 5 > n)
        return false;
    type = q[end + 2];
    memcpy(p->b, q, end + 5);
    p->n = end + 5;
    memset(p->b + 6, 0, 6);
    p->b[2] = 0x85;
    p->b[3] = 0x80;
    if (slice_eq(name, SLICE("a")) && type == 1) {
        const uint8_t one[4] = {10, 0, 0, (uint8_t)(phase == 0 ? 1 : 2)};

        asked_a++;
        if (phase == 2) {
            p->b[3] = 0x83;
        } else {
            put_record(p, 1, 1, one, 4);
            answers = 1;
        }
    } else if ((slice_eq(name, SLICE("a")) && phase != 2) || slice_eq(name, SLICE("six"))) {
        if (type == 28) {
            put_record(p, 28, 300, v6, 16);
            answers = 1;
        }
    } else if (slice_eq(name, SLICE("many"))) {
        for (uint8_t i = 0; type == 1 && i < 20; i++, answers++) {
            const uint8_t addr[4] = {10, 1, 0, i};

            put_record(p, 1, 7200, addr, 4);
        }
    } else if (slice_eq(name, SLICE("zero")) && type == 1) {
        put_record(p, 1, 0, "\x0a\x02\x00\x01", 4);
        answers = 1;
    } else if (slice_eq(name, SLICE("alias"))) {
        /* alias is a CNAME (2 s) of x.alias..., whose address would live for an hour. */
        put_record(p, 5, 2, "\x01x\xc0\x0c", 4);
        answers = 1;
        if (type == 1) {
            const size_t at = p->n - 4;

            put16(p, 0xc000u | (unsigned)at);
            put16(p, 1);
            put16(p, 1);
            put16(p, 0);
            put16(p, 3600);
            put16(p, 4);
            memcpy(p->b + p->n, "\x0a\x03\x00\x01", 4);
            p->n += 4;
            answers = 2;
        }
    } else if (slice_eq(name, SLICE("silent"))) {
        return false;
    } else if (slice_eq(name, SLICE("refused"))) {
        p->b[3] = 0x85;
    } else if (slice_eq(name, SLICE("loop"))) {
        put_record(p, 1, 1, "\xc0\x0c\xc0\x0c", 4);
        memcpy(p->b + end + 5, "\xc0", 1);
        p->b[end + 6] = (uint8_t)(end + 5); /* a name that points to itself */
        answers = 1;
    } else if (slice_starts(name, SLICE("cut"))) {
        put_record(p, type, 1, v6, type == 1 ? 4 : 16);
        p->b[7] = 1;
        p->n -= (size_t)strtoul((const char *)label + 3, NULL, 10) % p->n;
        return true;
    } else if (slice_starts(name, SLICE("flip"))) {
        const size_t at = 2 + (size_t)strtoul((const char *)label + 4, NULL, 10);

        put_record(p, type, 1, v6, type == 1 ? 4 : 16);
        p->b[7] = 1;
        p->b[at % p->n] ^= 0xff;
        return true;
    } else {
        p->b[3] = 0x83;
    }
    p->b[7] = (uint8_t)answers;
    return true;
}

static void serve(void)
{
    uint8_t q[600];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n;

    while ((n = recvfrom(server_fd, q, sizeof(q), MSG_DONTWAIT, (struct sockaddr *)&from, &len)) >
           0) {
        struct packet p = {.n = 0};

        if (n > 17 && answer(q, (size_t)n, &p))
            (void)sendto(server_fd, p.b, p.n, 0, (struct sockaddr *)&from, len);
        len = sizeof(from);
    }
}

/* Turns the loop until `until` holds; false when that takes too long. */
static bool turn(struct resolver *r, bool (*until)(struct resolver *))
{
    uint64_t end;

    clock_update();
    end = clock_ms() + LIMIT_MS;
    while (!until(r)) {
        int wait = resolver_timeout_ms(r, clock_ms());

        if (clock_ms() >= end)
            return false;
        if (wait < 0 || wait > 1000)
            wait = 1000;
        if (poll(fds, FDS, wait) < 0)
            tap_bail("poll");
        clock_update();
        if (fds[0].revents)
            serve();
        for (int i = 1; i < FDS; i++) {
            if (fds[i].fd >= 0 && fds[i].revents) {
                const short re = fds[i].revents;

                resolver_ready(r, fds[i].fd, (re & (POLLIN | POLLERR | POLLHUP)) != 0,
                               (re & POLLOUT) != 0);
            }
        }
        resolver_tick(r, clock_ms());
    }
    return true;
}

static bool first_round(struct resolver *r)
{
    return resolver_first_round_done(r);
}

static uint32_t id_a;
static bool a_changed(struct resolver *r)
{
    (void)r;
    return resolve_version(s, id_a) == 2;
}
static bool a_failed(struct resolver *r)
{
    struct resolve_answer a;

    (void)r;
    return resolve_read(s, id_a, &a) && a.error != 0;
}

static uint32_t add(struct resolver *r, const char *name, uint64_t interval)
{
    uint32_t id = 0;

    if (resolve_register(s, slice_str(name), &id) < 0 || resolver_add(r, id, interval) < 0)
        tap_bail("add %s", name);
    return id;
}

static uint32_t addr4(const struct resolve_answer *a, uint32_t i)
{
    return i < a->n && a->addr[i].sa.sa_family == AF_INET ? ntohl(a->addr[i].in.sin_addr.s_addr)
                                                          : 0;
}

static void test_options(void)
{
    struct resolver *r;
    const struct slice bad[] = {SLICE("1.2.3.4,5.6.7.8"), SLICE("ns.example"), SLICE(""),
                                SLICE("unix:/x")};
    const struct slice good[] = {SLICE("127.0.0.1"), SLICE("127.0.0.1:5300"), SLICE("::1"),
                                 SLICE("[::1]:5300")};
    struct resolver_opts o = {.ops = {watch, NULL}};

    for (size_t i = 0; i < 4; i++) {
        o.nameserver = &bad[i];
        o.nnameserver = 1;
        tap_is_int(resolver_new(s, me, &o, &r), -ERR_INVAL, "nameserver \"%.*s\" is refused",
                   SLICE_ARG(bad[i]));
    }
    o.nameserver = good;
    o.nnameserver = 4;
    tap_is_int(resolver_new(s, me, &o, &r), 0, "addresses with and without port");
    tap_ok(resolver_first_round_done(r) && resolver_timeout_ms(r, 5) == -1, "nothing to do");
    tap_is_int(resolver_add(r, 9999, 0), -ERR_NOENT, "no such name");
    resolver_free(&r);
    o.nnameserver = 0;
    tap_is_int(resolver_new(s, me, &o, &r), 0, "the system's servers");
    resolver_free(&r);
    tap_ok(r == NULL, "freed");
}

/* Answers that are no answers: each name fails or gets addresses, and the resolver lives. */
static void test_malformed(const struct resolver_opts *o)
{
    struct resolver *r;

    if (resolver_new(s, me, o, &r) < 0)
        tap_bail("resolver_new");
    for (int i = 0; i < 60; i++) {
        char name[32];

        snprintf(name, sizeof(name), "cut%d.test", i);
        add(r, name, 60000);
        snprintf(name, sizeof(name), "flip%d.test", i);
        add(r, name, 60000);
    }
    add(r, "loop.test", 60000);
    add(r, "bad..name", 60000);
    tap_ok(turn(r, first_round), "the first round ends, whatever the server sends");
    resolver_free(&r);
}

int main(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    char ns[32];
    struct slice server;
    struct resolver *r;
    struct resolve_answer a;
    uint32_t slot, nx, silent, refused, many, zero, alias, six, host;
    uint64_t start;

    if (segment_create_sized(2, 2, 2, 256, &s) < 0 || slot_claim(s, 1, UINT32_MAX, &slot) < 0)
        tap_bail("segment");
    me = slot_owner_id(s, slot);
    for (int i = 0; i < FDS; i++)
        fds[i].fd = -1;
    test_options();

    server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (server_fd < 0 || bind(server_fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        getsockname(server_fd, (struct sockaddr *)&sin, &len) < 0)
        tap_bail("server socket");
    fds[0].fd = server_fd;
    fds[0].events = POLLIN;
    server = slice_of(ns, (size_t)snprintf(ns, sizeof(ns), "127.0.0.1:%u", ntohs(sin.sin_port)));
    const struct resolver_opts o = {.nameserver = &server,
                                    .nnameserver = 1,
                                    .timeout_ms = 150,
                                    .tries = 2,
                                    .ops = {watch, NULL}};

    test_malformed(&o);
    if (resolver_new(s, me, &o, &r) < 0)
        tap_bail("resolver_new");
    id_a = add(r, "a.test", 0);
    nx = add(r, "nx.test", 0);
    silent = add(r, "silent.test", 0);
    refused = add(r, "refused.test", 0);
    many = add(r, "many.test", 0);
    zero = add(r, "zero.test", 0);
    alias = add(r, "alias.test", 0);
    six = add(r, "six.test", 5000);
    host = add(r, "localhost", 0);
    tap_ok(!resolver_first_round_done(r), "not done before it began");
    clock_update();
    start = clock_ms();
    tap_ok(turn(r, first_round), "the first round ends");
    printf("# first round: %llu ms\n", (unsigned long long)(clock_ms() - start));

    tap_ok(resolve_read(s, id_a, &a) && a.version == 1 && a.n == 2 && addr4(&a, 0) == 0x0a000001 &&
               a.addr[1].sa.sa_family == AF_INET6 && a.error == 0,
           "A and AAAA, IPv4 first");
    tap_ok(resolve_read(s, nx, &a) && a.version == 0 && a.error == 1, "a name that does not exist");
    tap_ok(resolve_read(s, silent, &a) && a.version == 0 && a.error == 2,
           "a server that says nothing");
    tap_ok(resolve_read(s, refused, &a) && a.version == 0 && a.error == 3, "one that refuses");
    tap_ok(resolve_read(s, many, &a) && a.n == 16 && addr4(&a, 15) == 0x0a01000f &&
               a.expires_ms - a.resolved_ms == 3600000,
           "sixteen of twenty addresses, in order, for an hour at most");
    tap_ok(resolve_read(s, zero, &a) && a.n == 1 && a.expires_ms - a.resolved_ms == 1000,
           "a TTL of 0 counts as a second");
    tap_ok(resolve_read(s, alias, &a) && addr4(&a, 0) == 0x0a030001 &&
               a.expires_ms - a.resolved_ms == 2000,
           "the alias' TTL counts too");
    tap_ok(resolve_read(s, six, &a) && a.n == 1 && a.addr[0].sa.sa_family == AF_INET6 &&
               a.expires_ms - a.resolved_ms == 5000,
           "IPv6 only; the configured interval wins over the TTL");
    tap_ok(resolve_read(s, host, &a) && a.n >= 1 &&
               a.expires_ms - a.resolved_ms == RESOLVER_FILE_TTL_MS,
           "localhost comes from the file");
    tap_is_int(resolver_add(r, six, 2000), 0, "adding again");

    phase = 1;
    tap_ok(turn(r, a_changed), "the new address is seen when the TTL is over");
    tap_ok(resolve_read(s, id_a, &a) && addr4(&a, 0) == 0x0a000002, "and published");
    phase = 2;
    tap_ok(turn(r, a_failed), "the name vanishes");
    tap_ok(resolve_read(s, id_a, &a) && a.n == 2 && addr4(&a, 0) == 0x0a000002 && a.version == 2 &&
               a.error == 1 && a.expires_ms > clock_ms() + 500,
           "the old addresses stay, the next try is later");
    tap_ok(asked_a >= 3 && asked_a < 12, "asked no more often than needed (%u)", asked_a);
    tap_ok(resolver_timeout_ms(r, clock_ms()) >= 0, "there is a next time");
    resolver_free(&r);
    for (int i = 1; i < FDS; i++) {
        if (fds[i].fd >= 0)
            tap_ok(false, "fd %d is still watched", fds[i].fd);
    }
    close(server_fd);
    segment_close(&s);
    return tap_done();
}
