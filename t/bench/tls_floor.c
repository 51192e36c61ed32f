/* The least a TLS server can do, as the floor that proxies are measured against: OpenSSL and epoll,
 * one context, a canned answer to whatever is read.
 *   tls_floor PORT CERT KEY SIZE      HTTP/1.1 with a body of SIZE bytes; tickets resume */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 65536
static SSL *conn[FDS];
static char buf[64 << 10];
static char *canned;
static size_t canned_n;

static int listen_on(const char *port)
{
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets have it too */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
        perror("tls_floor: listen");
        exit(1);
    }
    return fd;
}

static SSL_CTX *context(const char *cert, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char groups[] = "X25519:P-256:P-384";
    if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        !SSL_CTX_set1_groups_list(ctx, groups) ||
        !SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                       "TLS_CHACHA20_POLY1305_SHA256")) {
        fputs("tls_floor: certificate or key\n", stderr);
        exit(1);
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

static void drop(int fd)
{
    SSL_shutdown(conn[fd]);
    SSL_free(conn[fd]);
    conn[fd] = NULL;
    close(fd);
}

/* The canned answer is written whole: benchmarks with one that does not fit into a socket are not
 * for this floor. */
static void serve(int fd)
{
    SSL *ssl = conn[fd];
    if (!SSL_is_init_finished(ssl)) {
        int r = SSL_do_handshake(ssl);
        if (r != 1) {
            if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
                drop(fd);
            return;
        }
    }
    for (;;) {
        int r = SSL_read(ssl, buf, sizeof buf);
        if (r <= 0) {
            if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
                drop(fd);
            return;
        }
        for (size_t at = 0; at < canned_n;) {
            int w = SSL_write(ssl, canned + at, (int)(canned_n - at));
            if (w <= 0) {
                drop(fd);
                return;
            }
            at += (size_t)w;
        }
    }
}

int main(int argc, char **argv)
{
    static struct epoll_event ev[512];
    if (argc != 5) {
        fputs("usage: tls_floor PORT CERT KEY SIZE\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    size_t size = strtoul(argv[4], NULL, 10);
    canned = malloc(size + 128);
    if (!canned)
        return 1;
    int head = sprintf(canned, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    memset(canned + head, 'x', size);
    canned_n = (size_t)head + size;
    SSL_CTX *ctx = context(argv[2], argv[3]);
    int listener = listen_on(argv[1]), ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, ev, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = ev[i].data.fd;
            if (fd != listener) {
                serve(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                if (fd >= FDS || !(conn[fd] = SSL_new(ctx)) || !SSL_set_fd(conn[fd], fd)) {
                    close(fd);
                    continue;
                }
                SSL_set_accept_state(conn[fd]);
                e = (struct epoll_event){.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
            }
        }
    }
}
