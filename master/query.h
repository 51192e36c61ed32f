/* Questions to all workers at once: their answers are gathered for the one who asked. */
#ifndef MASTER_QUERY_H
#define MASTER_QUERY_H

#include "base/msg.h"
#include "worker/worker.h"

struct child;
struct conn;

/* Id of a question whose answer only says that everything sent before it has been read. */
#define QUERY_HEARD 0u
/* Asks every process of every generation; the answer goes to conn when all have replied or 5 s are
 * over. */
void query_start(struct conn *conn, enum worker_query_kind kind);
/* Asks one worker that serves; its answer is given as it is. filter: see struct worker_query; may
 * be NULL. limit: most rows; 0: as many as usual. */
void query_start_one(struct conn *conn, enum worker_query_kind kind, const char *filter,
                     uint32_t limit);
void query_reply(struct child *c, const struct msg *m);
void query_child_gone(struct child *c);
void query_conn_gone(const struct conn *conn);

#endif
