/* rpctl wait: callers who return when something is so. */
#include "master/wait.h"

#include "base/err.h"
#include "base/num.h"
#include "master/master.h"
#include "master/verbs.h"

/* What happens in workers is seen in the segment only: it is looked at so often while anybody
 * waits. */
#define WAIT_LOOK_MS    25
#define WAIT_DEFAULT_MS 60000

static struct list wait_list = {&wait_list, &wait_list};
static struct ev_timer wait_timer;

static bool wait_is_so(const struct conn *c)
{
    bool live =
        master.live && master.live->config && !reload_running() && generation_ready(master.live);
    switch (c->wait_for) {
    case WAIT_GENERATION:
        return master.live && master.live->number >= c->wait_generation && !reload_running();
    case WAIT_HEALTHY:
        return live && verbs_health(NULL, false) == PROTO_DONE;
    case WAIT_IDLE:
        break;
    }
    return live && list_linked(&master.generations) &&
           master.generations.next == master.generations.prev &&
           gauge_sum(master.segment, GAU_STREAMS) == 0;
}

static void wait_on_timer(struct ev_timer *t)
{
    (void)t;
    wait_check();
}

void wait_check(void)
{
    LIST_EACH_SAFE(it, tmp, &wait_list)
    {
        struct conn *c = CONTAINER(it, struct conn, wait);
        if (wait_is_so(c))
            conn_say(c, PROTO_DONE, "%s",
                     c->wait_for == WAIT_GENERATION ? "generation is there"
                     : c->wait_for == WAIT_HEALTHY  ? "healthy"
                                                    : "idle");
    }
    if (!list_empty(&wait_list))
        ev_timer_set(&wait_timer, WAIT_LOOK_MS, wait_on_timer);
}

static void wait_on_deadline(struct ev_timer *t)
{
    struct conn *c = CONTAINER(t, struct conn, deadline);
    conn_say(c, PROTO_TIMEOUT, "timed out");
}

void wait_start(struct conn *c)
{
    uint64_t ms = c->req.timeout_ms ? c->req.timeout_ms : WAIT_DEFAULT_MS, n = 0;
    const char *const *a = c->req.argv;
    int at = 2;
    if (strcmp(a[1], "healthy") == 0) {
        c->wait_for = WAIT_HEALTHY;
    } else if (strcmp(a[1], "idle") == 0) {
        c->wait_for = WAIT_IDLE;
    } else if (strcmp(a[1], "generation") == 0 && c->req.argc > 2 &&
               num_u64(slice_str(a[2]), &n) == 0 && n <= UINT32_MAX) {
        c->wait_for = WAIT_GENERATION;
        c->wait_generation = (uint32_t)n;
        at = 3;
    } else {
        conn_usage(c);
        return;
    }
    if (at < c->req.argc && (at + 2 != c->req.argc || strcmp(a[at], "--timeout") != 0 ||
                             num_duration(slice_str(a[at + 1]), &ms) < 0)) {
        conn_usage(c);
        return;
    }
    list_append(&wait_list, &c->wait);
    ev_timer_set(&c->deadline, ms, wait_on_deadline);
    wait_check();
}
