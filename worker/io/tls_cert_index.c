/* Which certificates are for a name: the index of all host names; see tls_cert_in.h. */
#include "worker/io/tls_cert_in.h"

#include "base/arena.h"
#include "base/err.h"

#include <stdlib.h>

struct certs_name *tls_cert_index_find(const struct table *names, struct slice name)
{
    if (!names->place)
        return NULL;
    uint64_t h = table_hash(names, name);
    for (struct table_node *at = table_first(names, h); at; at = table_next(at)) {
        struct certs_name *n = CONTAINER(at, struct certs_name, node);
        if (n->n == name.n && memcmp(n->text, name.p, name.n) == 0)
            return n;
    }
    return NULL;
}

static struct certs_name *index_name(struct table *names, struct slice text)
{
    struct certs_name *n = tls_cert_index_find(names, text);
    if (n)
        return n;
    n = alloc_should_fail() ? NULL : calloc(1, sizeof *n + text.n + 1);
    if (!n)
        return NULL;
    n->n = (uint32_t)text.n;
    memcpy(n->text, text.p, text.n);
    table_put(names, &n->node, table_hash(names, text));
    return n;
}

static void index_unpin(struct table *names, struct certs_name *n)
{
    if (--n->pins > 0 || n->refs)
        return;
    table_remove(names, &n->node);
    free(n);
}

void tls_cert_index_drop(struct table *names, struct certs_entry *e)
{
    for (uint32_t i = 0; i < e->nref; i++) {
        struct certs_ref *r = &e->ref[i];
        for (struct certs_ref **at = &r->name->refs; *at; at = &(*at)->next) {
            if (*at == r) {
                *at = r->next;
                break;
            }
        }
        if (!r->name->refs && !r->name->pins) {
            table_remove(names, &r->name->node);
            free(r->name);
        }
    }
    free(e->ref);
    e->ref = NULL;
    e->nref = 0;
}

/* Names that are in both the old and the new certificate are pinned before the old ones go, so that
 * nothing has to be allocated after the point of no return. */
int tls_cert_index_put(struct table *names, struct certs_entry *e, const struct tls_scan *scan)
{
    char text[TLS_SCAN_NAME];
    struct tls_scan s = *scan;
    struct certs_ref *ref;
    size_t len, n = 0, got = 0;
    while (tls_scan_name(&s, text, &len))
        n++;
    ref = alloc_should_fail() ? NULL : calloc(n + 1, sizeof *ref);
    if (!ref)
        return -ERR_NOMEM;
    for (s = *scan; got < n && tls_scan_name(&s, text, &len); got++) {
        ref[got].name = index_name(names, slice_of(text, len));
        if (!ref[got].name)
            break;
        ref[got].name->pins++;
    }
    if (got < n) {
        while (got > 0)
            index_unpin(names, ref[--got].name);
        free(ref);
        return -ERR_NOMEM;
    }
    tls_cert_index_drop(names, e);
    uint32_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct certs_name *to = ref[i].name;
        to->pins--;
        if (to->refs && to->refs->entry == e)
            continue; /* the certificate has the name twice */
        ref[kept] = (struct certs_ref){.next = to->refs, .name = to, .entry = e};
        to->refs = &ref[kept++];
    }
    e->ref = ref;
    e->nref = kept;
    return 0;
}
