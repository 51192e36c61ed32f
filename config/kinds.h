/* Kinds of configuration values: the C type of each, and the flags of keys.def. The table of
 * kinds is in config/kinds.c, each kind in a config/kinds_*.c. */
#ifndef CONFIG_KINDS_H
#define CONFIG_KINDS_H

/* Flags of a key. */
#define F_LIST     1u  /* may repeat in a section; `+=` adds to the inherited list; `off` clears */
#define F_REQUIRED 2u  /* its section is an error without it */
#define F_RESTART  4u  /* a change takes effect at `rpctl upgrade` or a restart, not at a reload */
#define F_OFF      8u  /* a STR that may be `off`, which is stored as the empty string */
#define F_SECRET   16u /* not told in the words of a reload */

/* CONF_C_<KIND>: member type. UPREF has no member: it is resolved into conf_host.upstream and
 * conf_route.upstream. */
#define CONF_C_STR                                                                                 \
    struct slice /* one word or quoted text; {NULL, 0} unset; NUL-terminated when set */
#define CONF_C_FILE                                                                                \
    struct slice /* like STR: a path or off, joined with the directory of its configuration file   \
                  */
#define CONF_C_TEXT         struct slice /* words, joined by one blank each; else like STR */
#define CONF_C_BOOL         bool         /* on, off */
#define CONF_C_COUNT        uint64_t     /* decimal digits */
#define CONF_C_SIZE         uint64_t     /* bytes: 512, 8k, 16m, 1g */
#define CONF_C_MS           uint64_t     /* milliseconds: 250ms, 30s, 5m, 1h, 7d, 0 */
#define CONF_C_OCTAL        uint32_t     /* 0660 */
#define CONF_C_INT          int32_t      /* signed decimal */
#define CONF_C_PERCENT      uint32_t     /* thousandths of a percent: 5% = 5000 */
#define CONF_C_WORKERS      uint32_t     /* auto (0) or a number; see config.workers */
#define CONF_C_AUTO_OFF     bool         /* auto = true, off = false */
#define CONF_C_LOGLEVEL     enum log_level
#define CONF_C_CIDRS        struct conf_cidrs
#define CONF_C_WORDS        struct conf_words
#define CONF_C_ADDRS        struct conf_addrs
#define CONF_C_PROXYP       struct conf_proxy_protocol
#define CONF_C_RETRY        struct conf_retry
#define CONF_C_ERRPAGE      struct conf_error_pages
#define CONF_C_LOGREFS      struct conf_logs
#define CONF_C_HNAMES       struct conf_names
#define CONF_C_LISTENREFS   struct conf_listens
#define CONF_C_PATH         struct conf_paths
#define CONF_C_RETURN       struct conf_return
#define CONF_C_SERVERS      struct conf_servers
#define CONF_C_ENUM_REQID   enum conf_reqid
#define CONF_C_ENUM_SRVHDR  enum conf_srvhdr
#define CONF_C_ENUM_BALANCE enum conf_balance
#define CONF_C_ENUM_POLICY  enum conf_policy
#define CONF_C_ENUM_VERIFY  enum conf_verify
#define CONF_C_ENUM_HREDIR  enum conf_hredir
#define CONF_C_ENUM_CCERT   enum conf_ccert
#define CONF_C_ENUM_LOAD    enum conf_load_when
#define CONF_C_ENUM_UPROTO  enum conf_uproto
#define CONF_C_ENUM_CVERIFY enum conf_cache_verify
#define CONF_C_PROTOS       uint32_t /* enum conf_proto bits, at least one */
#define CONF_C_CERTREFS     struct conf_certificates
#define CONF_C_PAIRS        struct conf_pairs
#define CONF_C_HSTS         struct conf_hsts
#define CONF_C_TTLS         struct conf_ttls
#define CONF_C_MSOPT        struct conf_ms_opt
#define CONF_C_CACHEREF     struct conf_cache *
#define CONF_C_COMPRESSREF  struct conf_compress *
#define CONF_C_CODINGS      struct conf_codings

#endif
