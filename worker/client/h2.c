/* HTTP/2 towards clients: not here yet; connections that ask for it are closed. */
#include "worker/client/client.h"
#include "worker/io/tls.h"

void client_h2_start(struct client *c, const char *p, size_t n)
{
    (void)p;
    (void)n;
    client_close(c);
}

void clients_turn(struct clients *cs)
{
    (void)cs;
}

/* Until the files of worker/io have them. */
#define WEAK __attribute__((weak))
WEAK size_t tls_take_back(struct link *k, char *p, size_t cap)
{
    (void)k;
    (void)p;
    (void)cap;
    return 0;
}
WEAK const char *tls_last_error(void)
{
    return "";
}
WEAK int tls_handshake(struct link *k)
{
    (void)k;
    return -1;
}
WEAK bool tls_is_h2(const struct link *k)
{
    (void)k;
    return false;
}
WEAK struct tls_server *tls_server_of(struct tls *t, uint32_t id)
{
    (void)t;
    (void)id;
    return NULL;
}
WEAK int tls_accept(struct tls_server *s, struct link *k)
{
    (void)s;
    (void)k;
    return -1;
}
WEAK bool tls_describe(const struct link *k, struct tls_info *ret)
{
    (void)k;
    (void)ret;
    return false;
}
WEAK bool tls_client_verified(const struct link *k)
{
    (void)k;
    return false;
}
WEAK struct slice tls_client_der(const struct link *k, struct arena *a)
{
    (void)k;
    (void)a;
    return SLICE_NONE;
}
WEAK bool tls_server_has(const struct tls_server *s, struct slice host)
{
    (void)s;
    (void)host;
    return false;
}
