/* What the files of kinds share: the kinds they define and helpers for parsers and printers. Inside
 * of config/kinds*.c only. */
#ifndef CONFIG_KINDS_OWN_H
#define CONFIG_KINDS_OWN_H

#include "config/load.h"

/* Reports `"KEY": "WORD" WHAT` at the word. False. */
bool conf_kind_bad(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                   const char *what);
size_t conf_kind_count_one(const void *v); /* 1: kinds that always have a value */

/* Lists: structs that begin with a pointer and a count. */
size_t conf_kind_list_count(const void *v);
/* Starts a list's entry. True when words follow; *ret_off: the list is cleared and nothing follows.
 */
bool conf_kind_list_begin(struct conf_load *x, const struct conf_entry *e, void *list,
                          bool *ret_off);

/* A word made of a mark, a text and an end, quoted where it must be. */
void conf_kind_put_marked(struct buf *out, const char *mark, struct slice text, const char *end);
/* An address with a port, or unix:/PATH. False: reported. */
bool conf_kind_address(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                       struct slice s, struct addr_any *ret);
/* A path of a file: joined with the directory of the file that names it; in the configuration's
 * arena, NUL-terminated. False: reported. */
bool conf_kind_path(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                    struct slice path, struct slice *ret);
/* What is wrong with a DNS name, or NULL. */
const char *conf_kind_dns_problem(struct slice s);
/* A copy in lower case in the configuration's arena, NUL-terminated; SLICE_NONE: no memory. */
struct slice conf_kind_lower(struct conf_load *x, struct slice s);

/* kinds_word.c */
extern const struct conf_kind conf_kind_bool, conf_kind_auto_off, conf_kind_loglevel,
    conf_kind_reqid, conf_kind_srvhdr, conf_kind_balance, conf_kind_policy, conf_kind_verify,
    conf_kind_hredir, conf_kind_ccert, conf_kind_load, conf_kind_uproto, conf_kind_cverify;
/* kinds_list.c */
extern const struct conf_kind conf_kind_cidrs, conf_kind_words, conf_kind_addrs, conf_kind_proxyp,
    conf_kind_retry, conf_kind_errpage;
/* kinds_ref.c */
extern const struct conf_kind conf_kind_logrefs, conf_kind_listenrefs, conf_kind_certrefs,
    conf_kind_upref, conf_kind_cacheref, conf_kind_compressref;
/* kinds_site.c */
extern const struct conf_kind conf_kind_hnames, conf_kind_paths, conf_kind_return;
/* kinds_server.c */
extern const struct conf_kind conf_kind_servers;
/* kinds_cache.c */
extern const struct conf_kind conf_kind_ttls, conf_kind_msopt;
/* kinds_compress.c */
extern const struct conf_kind conf_kind_codings;
/* kinds_tls.c */
extern const struct conf_kind conf_kind_protos, conf_kind_pairs, conf_kind_hsts;

#endif
