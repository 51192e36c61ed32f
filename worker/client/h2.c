/* HTTP/2 towards clients: not here yet; connections that ask for it are closed. */
#include "worker/client/client.h"

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
