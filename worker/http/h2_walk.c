/* From frame to frame by their lengths; see h2_walk.h. */
#include "worker/http/h2_walk.h"

#include <string.h>

#define WALK_PREFACE 24u /* RFC 9113 3.4 */

void h2_walk_init(struct h2_walk *w)
{
    *w = (struct h2_walk){.left = WALK_PREFACE};
}

int h2_walk_next(struct h2_walk *w, const char **p, size_t *n, struct h2_walk_frame *ret)
{
    const size_t skip = *n < w->left ? *n : w->left;
    *p += skip;
    *n -= skip;
    w->left -= (uint32_t)skip;
    if (w->left > 0)
        return 0;
    const size_t want = sizeof(w->head) - w->nhead, take = *n < want ? *n : want;
    if (take > 0)
        memcpy(w->head + w->nhead, *p, take);
    *p += take;
    *n -= take;
    w->nhead = (uint8_t)(w->nhead + take);
    if (w->nhead < sizeof(w->head))
        return 0;
    const uint8_t *h = w->head;
    *ret =
        (struct h2_walk_frame){.length = (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2],
                               .type = h[3],
                               .flags = h[4],
                               .id = (int32_t)((uint32_t)(h[5] & 0x7f) << 24 |
                                               (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8])};
    w->nhead = 0;
    w->left = ret->length;
    return 1;
}
