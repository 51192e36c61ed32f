/* The filters that answers pass between the exchange and the client's side. Each decides once, at
 * the head, whether it exists for an exchange; one that does not costs nothing per byte. */
#ifndef WORKER_FILTER_FILTER_H
#define WORKER_FILTER_FILTER_H

#include "worker/filter/codec.h"
#include "worker/filter/cpu.h"
#include "worker/stream/stream.h"

#define FILTER_OUT (64u * 1024u)

/* What all exchanges of a worker share. */
struct filters {
    struct stream_env *env;
    struct pool pool; /* struct compress */
    struct codec_pool codecs;
    struct cpu_share cpu;
    struct list dirty; /* struct compress: have what was not sent yet, or wait for the next turn */
    char *out;         /* FILTER_OUT bytes: between an encoder and the client's side */
};
/* Puts itself into env. 0 or -ERR_NOMEM. */
int filters_init(struct filters *f, struct stream_env *env);
/* All exchanges are over. */
void filters_fini(struct filters *f);
/* End of a turn: what servers have stopped to send goes out. True: the next turn must not wait. */
bool filters_turn(struct filters *f);

#endif
