/* Files of a directory, written and read by a thread of its own: who gives it a job never waits for
 * a disk. One job at a time; for shm/cache_persist.c and shm/cache_restore.c. */
#ifndef SHM_CACHE_DISK_H
#define SHM_CACHE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHE_DISK_NAME 56u /* bytes of a file name with its NUL, at most */

struct cache_disk;

/* dir is duplicated. cap: bytes of the buffer through which everything goes. -ERR_NOMEM (thread or
 * memory), -ERR_SYS. */
int cache_disk_open(int dir, size_t cap, struct cache_disk **ret);
/* Waits for the job under way; what was being written is removed. */
void cache_disk_close(struct cache_disk **d);
/* Readable when a job has ended; to be put into an epoll set. */
int cache_disk_fd(const struct cache_disk *d);
/* While false the buffer and the result are the caller's. */
bool cache_disk_busy(struct cache_disk *d);
unsigned char *cache_disk_buf(struct cache_disk *d);
/* Of the last job: bytes read, 0, or -ERR_SYS (*ret_errno says why), -ERR_INVAL (no ordinary file
 * of this user). */
long cache_disk_result(const struct cache_disk *d, int *ret_errno);

/* Appends the buffer's first n bytes to the one file that is being made. */
void cache_disk_write(struct cache_disk *d, size_t n);
/* It is synced and gets its name; victim (may be NULL) is removed afterwards. */
void cache_disk_commit(struct cache_disk *d, const char *name, const char *victim);
void cache_disk_abandon(struct cache_disk *d);
void cache_disk_unlink(struct cache_disk *d, const char *name);
/* Up to n bytes of a file from offset at. */
void cache_disk_read(struct cache_disk *d, const char *name, uint64_t at, size_t n);

#endif
