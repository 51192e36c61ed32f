/* A load of TLS handshakes: connections that ask once and close, new or resumed. See README here.
 *
 *   shake PORT SECONDS new|resume PATH [PROCESSES]
 *
 * Prints how many connections had a whole answer and how many of them were resumed. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct tally {
    unsigned long asked, resumed, failed;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 5};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The whole answer, to the end its length says, else to the end of the connection. */
static int read_answer(SSL *ssl)
{
    char b[16384];
    size_t have = 0, whole = SIZE_MAX;
    while (have < whole && have < sizeof b - 1) {
        int n = SSL_read(ssl, b + have, (int)(sizeof b - 1 - have));
        if (n <= 0)
            break;
        have += (size_t)n;
        b[have] = '\0';
        const char *end = strstr(b, "\r\n\r\n"), *length = strcasestr(b, "\r\ncontent-length:");
        if (end && length && length < end)
            whole = (size_t)(end + 4 - b) + strtoul(length + 17, NULL, 10);
    }
    return have > 0 && (whole == SIZE_MAX || have == whole);
}

/* One connection: handshake, request, answer to its end. */
static void once(SSL_CTX *ctx, int port, const char *request, SSL_SESSION **session,
                 struct tally *t)
{
    int fd = dial(port);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, "bench.test");
    if (*session)
        SSL_set_session(ssl, *session);
    if (fd < 0 || SSL_connect(ssl) != 1 || SSL_write(ssl, request, (int)strlen(request)) <= 0) {
        t->failed++;
    } else {
        int whole = read_answer(ssl);
        t->asked += (unsigned long)whole;
        t->failed += (unsigned long)!whole;
        t->resumed += SSL_session_reused(ssl) != 0;
        if (*session != SSL_get_session(ssl)) {
            SSL_SESSION_free(*session);
            *session = SSL_get1_session(ssl);
        }
    }
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    close(fd);
}

static struct tally child(int port, double seconds, int resume, const char *request)
{
    struct tally t = {0};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_SESSION *session = NULL;
    double end = now() + seconds;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    while (now() < end) {
        once(ctx, port, request, &session, &t);
        if (!resume) {
            SSL_SESSION_free(session);
            session = NULL;
        }
    }
    return t;
}

int main(int argc, char **argv)
{
    char request[512];
    struct tally sum = {0}, t;
    int out[2], processes = argc > 5 ? atoi(argv[5]) : 4;
    if (argc < 5 || pipe(out)) {
        fprintf(stderr, "usage: shake PORT SECONDS new|resume PATH [PROCESSES]\n");
        return 2;
    }
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n", argv[4]);
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            t = child(atoi(argv[1]), atof(argv[2]), strcmp(argv[3], "resume") == 0, request);
            _exit(write(out[1], &t, sizeof t) != sizeof t);
        }
    for (int i = 0; i < processes && read(out[0], &t, sizeof t) == sizeof t; i++) {
        sum.asked += t.asked;
        sum.resumed += t.resumed;
        sum.failed += t.failed;
    }
    while (wait(NULL) > 0)
        ;
    printf("%lu connections, %lu resumed, %lu failed\n", sum.asked, sum.resumed, sum.failed);
    return 0;
}
