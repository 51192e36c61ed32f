/* One row for each [certificate] section: what the workers found in its files, for status and
 * metrics. All workers load the same files, so any of them may write; two buffers and an owner word
 * as in resolve.h. */
#ifndef SHM_CERT_H
#define SHM_CERT_H

#include "shm/slot.h"

#define CERT_ROWS 1024u

struct cert_state {
    uint32_t names, loaded, failed; /* names served; keys in memory; files that could not be used */
    int64_t not_after_s;            /* earliest end of validity, Unix seconds; 0 unknown */
    char first_name[64];            /* whose that is; NUL-terminated, cut */
    char error[96];                 /* of the latest failure; "" none */
    uint64_t changed_ms;            /* wall clock; 0 = no worker has said anything yet */
};

/* Master, at config load: finds the row of `name` or takes a free one; ids are stable over reloads.
 * -ERR_FULL. `generation` marks it as in use. */
int cert_register(struct segment *s, struct slice name, uint32_t generation, uint32_t *ret_id);
/* Frees the rows that only generations before this one used. */
void cert_retire(struct segment *s, uint32_t oldest_living_generation);
uint32_t cert_count(const struct segment *s); /* highest id in use + 1 */
/* The generation that registered it last; 0 for a free row. Status shows those of the current one.
 */
uint32_t cert_generation(const struct segment *s, uint32_t id);
/* Any worker. 0; -ERR_FULL another worker is writing just now, and says the same; -ERR_RANGE. Texts
 * end at their NUL or their size. */
int cert_put(struct segment *s, slot_oid me, uint32_t id, const struct cert_state *st);
/* False for a row that is free or changes faster than it can be read. ret_name (cut at 127 bytes)
 * points into the segment; ret may be NULL. */
bool cert_get(const struct segment *s, uint32_t id, struct slice *ret_name, struct cert_state *ret);

#endif
