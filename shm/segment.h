/* The shared segment: one sealed memfd of fixed-position, type-stable arrays. Created by the
 * master, inherited over fork, kept over exec (binary upgrade). No pointers inside, only indices;
 * every word a death can leave behind carries its owner.
 *
 * Superblock (two copies) · slots[SHM_SLOTS] · slot text (panic records) · counter rows · gauge
 * rows · servers[SHM_SERVERS] · server rows [slot][server] · series names · series rows
 * [slot][series] · resolver names · ticket keys · certificates · misbehaviour · TLS sessions. The
 * mapping holds keys: it is never part of a core dump. Matrices are sparse: a page that no worker
 * touches costs nothing. */
#ifndef SHM_SEGMENT_H
#define SHM_SEGMENT_H

#include "base/slice.h"

#define SHM_SLOTS   256u /* worker and helper processes of all living generations */
#define SHM_SERVERS 8192u
#define SHM_SERIES  8192u /* routes with metrics of their own; 0 is "other" */
#define SHM_NAMES   4096u /* host names under resolution */

struct segment; /* process-local handle: base address and fd */

/* Creates and seals a new segment (F_SEAL_SHRINK|GROW|SEAL). -ERR_SYS, -ERR_NOMEM. */
int segment_create(struct segment **ret);
/* The same with smaller tables, for tests: each count from 1 to its SHM_ maximum; the tables of TLS
 * have a handful of places. -ERR_RANGE. */
int segment_create_sized(uint32_t nslots, uint32_t nservers, uint32_t nseries, uint32_t nnames,
                         struct segment **ret);
/* Maps an inherited fd, which belongs to the handle from then on (not on failure); checks magic,
 * layout version, sizes, CRC and equality of both superblocks, and the seals. -ERR_CORRUPT (also
 * for a binary whose tables differ), -ERR_NOMEM. */
int segment_attach(int fd, struct segment **ret);
void segment_close(struct segment **s);
int segment_fd(const struct segment *s);
size_t segment_size(const struct segment *s);
/* Checks every invariant on a live segment (tolerates words in motion); one line per finding into
 * out. Returns the number of findings. `rpctl fsck`. */
struct buf;
int segment_fsck(const struct segment *s, struct buf *out);

#endif
