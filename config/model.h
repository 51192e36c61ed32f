/* One struct per group of keys, made from keys.def: struct conf_<group>_keys, member name == key
 * name. Included by config.h only, after the types of the kinds. SCOPE_UP has no struct: `upstream`
 * is resolved into pointers. */
#ifndef CONFIG_MODEL_H
#define CONFIG_MODEL_H

#include "config/kinds.h"

#define KEY(section, name, kind, def, min, max, flags, doc) CONF_IN_##section(CONF_C_##kind name;)
#define CONF_IN_GLOBAL(member)
#define CONF_IN_LISTEN(member)
#define CONF_IN_CONN(member)
#define CONF_IN_SCOPE(member)
#define CONF_IN_CERTIFICATE(member)
#define CONF_IN_CACHE(member)
#define CONF_IN_CACHING(member)
#define CONF_IN_OVER(member)
#define CONF_IN_COMPRESS(member)
#define CONF_IN_HOST(member)
#define CONF_IN_ROUTE(member)
#define CONF_IN_SCOPE_UP(member)
#define CONF_IN_UPSTREAM(member)
#define CONF_IN_LOG(member)

/* [global] */
struct conf_global_keys {
#undef CONF_IN_GLOBAL
#define CONF_IN_GLOBAL(member) member
#include "config/keys.def"
#undef CONF_IN_GLOBAL
#define CONF_IN_GLOBAL(member)
};
/* [listen NAME] */
struct conf_listen_keys {
#undef CONF_IN_LISTEN
#define CONF_IN_LISTEN(member) member
#include "config/keys.def"
#undef CONF_IN_LISTEN
#define CONF_IN_LISTEN(member)
};
/* [defaults] and [listen NAME]: limits of client connections */
struct conf_conn_keys {
#undef CONF_IN_CONN
#define CONF_IN_CONN(member) member
#include "config/keys.def"
#undef CONF_IN_CONN
#define CONF_IN_CONN(member)
};
/* [defaults], [host NAME] and [route HOST/NAME]: what inherits */
struct conf_scope_keys {
#undef CONF_IN_SCOPE
#define CONF_IN_SCOPE(member) member
#include "config/keys.def"
#undef CONF_IN_SCOPE
#define CONF_IN_SCOPE(member)
};
/* [certificate NAME] */
struct conf_certificate_keys {
#undef CONF_IN_CERTIFICATE
#define CONF_IN_CERTIFICATE(member) member
#include "config/keys.def"
#undef CONF_IN_CERTIFICATE
#define CONF_IN_CERTIFICATE(member)
};
/* [cache NAME] */
struct conf_cache_keys {
#undef CONF_IN_CACHE
#define CONF_IN_CACHE(member) member
#include "config/keys.def"
#undef CONF_IN_CACHE
#define CONF_IN_CACHE(member)
};
/* [cache NAME]: what hosts and routes may say for themselves */
struct conf_caching_keys {
#undef CONF_IN_CACHING
#define CONF_IN_CACHING(member) member
#include "config/keys.def"
#undef CONF_IN_CACHING
#define CONF_IN_CACHING(member)
};
/* The same under the names of [defaults], [host] and [route]: for offsets only, nobody has one */
struct conf_over_keys {
#undef CONF_IN_OVER
#define CONF_IN_OVER(member) member
#include "config/keys.def"
#undef CONF_IN_OVER
#define CONF_IN_OVER(member)
};
/* [compress NAME] */
struct conf_compress_keys {
#undef CONF_IN_COMPRESS
#define CONF_IN_COMPRESS(member) member
#include "config/keys.def"
#undef CONF_IN_COMPRESS
#define CONF_IN_COMPRESS(member)
};
/* [host NAME] */
struct conf_host_keys {
#undef CONF_IN_HOST
#define CONF_IN_HOST(member) member
#include "config/keys.def"
#undef CONF_IN_HOST
#define CONF_IN_HOST(member)
};
/* [route HOST/NAME] */
struct conf_route_keys {
#undef CONF_IN_ROUTE
#define CONF_IN_ROUTE(member) member
#include "config/keys.def"
#undef CONF_IN_ROUTE
#define CONF_IN_ROUTE(member)
};
/* [upstream NAME] */
struct conf_upstream_keys {
#undef CONF_IN_UPSTREAM
#define CONF_IN_UPSTREAM(member) member
#include "config/keys.def"
#undef CONF_IN_UPSTREAM
#define CONF_IN_UPSTREAM(member)
};
/* [log NAME] */
struct conf_log_keys {
#undef CONF_IN_LOG
#define CONF_IN_LOG(member) member
#include "config/keys.def"
#undef CONF_IN_LOG
#define CONF_IN_LOG(member)
};

#undef KEY
#undef CONF_IN_GLOBAL
#undef CONF_IN_LISTEN
#undef CONF_IN_CONN
#undef CONF_IN_SCOPE
#undef CONF_IN_CERTIFICATE
#undef CONF_IN_CACHE
#undef CONF_IN_CACHING
#undef CONF_IN_OVER
#undef CONF_IN_COMPRESS
#undef CONF_IN_HOST
#undef CONF_IN_ROUTE
#undef CONF_IN_SCOPE_UP
#undef CONF_IN_UPSTREAM
#undef CONF_IN_LOG

#endif
