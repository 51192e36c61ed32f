/* The compiled form of hosts and routes: made by route_build.c, read by route.c, seen by nobody
 * else. */
#ifndef WORKER_STREAM_ROUTE_TABLE_H
#define WORKER_STREAM_ROUTE_TABLE_H

#include "base/arena.h"
#include "base/hash.h"
#include "worker/stream/match.h"
#include "worker/stream/route.h"

struct route_item { /* one path of one route */
    const struct conf_route *r;
    const struct conf_path *path; /* NULL: the route has no path condition */
    const struct match *re;       /* CONF_PATH_REGEX only; owned by the table */
    uint32_t order;               /* index in conf_host.route: the last tie-breaker */
};
struct route_node { /* the items that share one exact path or one prefix */
    struct slice text;
    const struct route_item *item; /* best first */
    uint32_t n;
    uint32_t parent; /* prefix nodes: the longest other prefix of text, or ROUTE_NO_PARENT */
};
#define ROUTE_NO_PARENT UINT32_MAX
#define ROUTE_EXACT_SCAN                                                                           \
    8u               /* up to so many exact paths are compared one by one; more get a map          \
                      */
struct route_group { /* routes of one priority */
    int32_t priority;
    uint32_t nexact, nprefix, nregex, nany;
    struct route_node *exact;  /* sorted by text */
    struct route_node *prefix; /* sorted by text, memcmp order */
    const struct route_item *regex, *any;
    struct map exact_map; /* text -> route_node, when nexact > ROUTE_EXACT_SCAN */
};
struct route_host {
    const struct conf_host *h;
    struct route_group *group; /* highest priority first */
    size_t ngroup;
};
struct route_name { /* one name of one host */
    const struct route_host *host;
    const struct conf_name *name;
    const struct match *re; /* CONF_NAME_REGEX only; owned by the table */
    bool clash;             /* reported as taken already */
};
struct route_names { /* what one listener answers to */
    struct map exact,
        wildcard; /* text -> route_name; a wildcard's text is its suffix: ".example.org" */
    const struct route_name **regex;
    size_t nregex;
    const struct route_name *any; /* "*" */
    unsigned dots; /* most dots in any wildcard: longer suffixes of a host need no look-up */
};
struct route_table {
    struct arena arena;
    struct route_names
        *names; /* by conf_listen.id, or a single one when no host is limited to listeners */
    size_t nnames;
    struct route_host *host; /* by conf_host.id */
    size_t nhost;
    struct match **match; /* every compiled regex, each once */
    size_t nmatch;
};

/* The number of conditions of a route besides its path (CONFIG rule 3). */
static inline uint32_t route_conditions(const struct conf_route *r)
{
    return r->k.method.n > 0 ? 1 : 0;
}

#endif
