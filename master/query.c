/* Questions to all workers at once: their answers are gathered for the one who asked. */
#include "master/query.h"

#include "base/json.h"
#include "master/master.h"

#include <stdio.h>
#include <stdlib.h>

#define QUERY_MS   5000
#define QUERY_ROWS 10000u

/* One per process asked. */
struct query_part {
    const struct child *child;
    char name[16];
    uint32_t number, generation;
    pid_t pid;
    struct buf text;
    bool done, lost;
};
struct query {
    struct list link;
    uint32_t id;
    enum worker_query_kind kind;
    struct conn *conn;
    struct ev_timer limit;
    bool one; /* of the processes is asked, and its answer given as it is */
    const char *filter;
    uint32_t limit_rows; /* 0: QUERY_ROWS */
    size_t n;
    struct query_part *part;
};
static struct list query_list = {&query_list, &query_list};
static uint32_t query_last_id;

static void query_free(struct query *q)
{
    ev_timer_stop(&q->limit);
    list_remove(&q->link);
    for (size_t i = 0; i < q->n; i++)
        buf_fini(&q->part[i].text);
    free(q->part);
    free(q);
}

static void query_json(const struct query *q, struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object(&j);
    json_ku64(&j, "v", 1);
    json_key(&j, "workers");
    json_array(&j);
    for (size_t i = 0; i < q->n; i++) {
        const struct query_part *p = &q->part[i];
        json_object(&j);
        json_kcstr(&j, "worker", p->name);
        json_ku64(&j, "pid", (uint64_t)p->pid);
        json_ku64(&j, "generation", p->generation);
        json_key(&j, "answer");
        /* The worker's own JSON goes in as it is: it is our program. */
        if (p->done && p->text.n > 0) {
            buf_add(out, buf_slice(&p->text));
            j.after_key = false;
        } else {
            json_null(&j);
        }
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    buf_chr(out, '\n');
}

static void query_text(const struct query *q, struct buf *out)
{
    for (size_t i = 0; i < q->n; i++) {
        const struct query_part *p = &q->part[i];
        if (p->text.n == 0 && p->done)
            continue;
        buf_printf(out, "%s pid %d generation %u%s\n", p->name, (int)p->pid, p->generation,
                   p->done   ? ""
                   : p->lost ? ": ended meanwhile"
                             : ": no answer");
        struct slice rest = buf_slice(&p->text);
        while (rest.n > 0) {
            ptrdiff_t at = slice_chr(rest, '\n');
            size_t n = at < 0 ? rest.n : (size_t)at;
            buf_str(out, "  ");
            buf_add(out, slice_of(rest.p, n));
            buf_chr(out, '\n');
            n = at < 0 ? n : n + 1;
            rest = slice_of(rest.p + n, rest.n - n);
        }
    }
}

static void query_end_one(struct query *q)
{
    const struct query_part *p = &q->part[0];
    if (q->n == 0)
        conn_say(q->conn, PROTO_REFUSED, "no worker serves");
    else if (!p->done)
        conn_say(q->conn, PROTO_TIMEOUT, "no answer");
    else
        conn_finish(q->conn, PROTO_DONE, buf_slice(&p->text), SLICE_NONE);
    query_free(q);
}

static void query_end(struct query *q)
{
    if (q->one) {
        query_end_one(q);
        return;
    }
    struct buf out;
    bool whole = true;
    buf_init(&out, CONTROL_OUT_MAX - 65536);
    for (size_t i = 0; i < q->n; i++)
        whole = whole && (q->part[i].done || q->part[i].lost);
    if (conn_json(q->conn))
        query_json(q, &out);
    else
        query_text(q, &out);
    if (out.failed)
        conn_say(q->conn, PROTO_REFUSED, "the answer is too long");
    else
        conn_finish(q->conn, whole ? PROTO_DONE : PROTO_PARTLY, buf_slice(&out), SLICE_NONE);
    buf_fini(&out);
    query_free(q);
}

static void query_check(struct query *q)
{
    for (size_t i = 0; i < q->n; i++) {
        if (!q->part[i].done && !q->part[i].lost)
            return;
    }
    query_end(q);
}

static void query_on_limit(struct ev_timer *t)
{
    query_end(CONTAINER(t, struct query, limit));
}

static void query_ask(struct query *q, struct child *c)
{
    struct query_part *p = &q->part[q->n++];
    struct worker_query w = {.id = q->id,
                             .kind = q->kind,
                             .limit = q->limit_rows ? q->limit_rows : QUERY_ROWS,
                             .json = conn_json(q->conn)};
    *p = (struct query_part){
        .child = c, .number = c->number, .generation = c->gen->number, .pid = c->pid};
    memcpy(p->name, child_name(c), strlen(child_name(c)) + 1);
    buf_init(&p->text, (size_t)1 << 20);
    if (q->filter)
        snprintf(w.filter, sizeof(w.filter), "%s", q->filter);
    p->lost = child_query(c, &w) < 0;
}

static struct query *query_new(struct conn *conn, enum worker_query_kind kind, size_t n)
{
    struct query *q = calloc(1, sizeof(*q));
    if (q)
        q->part = calloc(n + 1, sizeof(*q->part));
    if (!q || !q->part) {
        free(q);
        conn_say(conn, PROTO_REFUSED, "out of memory");
        return NULL;
    }
    q->id = ++query_last_id;
    q->kind = kind;
    q->conn = conn;
    list_append(&query_list, &q->link);
    ev_timer_set(&q->limit, QUERY_MS, query_on_limit);
    return q;
}

void query_start_one(struct conn *conn, enum worker_query_kind kind, const char *filter,
                     uint32_t limit)
{
    struct query *q = query_new(conn, kind, 1);
    struct generation *g = master.live;
    if (!q)
        return;
    q->one = true;
    q->filter = filter;
    q->limit_rows = limit;
    for (uint32_t i = 0; g && q->n == 0 && i < g->nchild; i++) {
        if (g->child[i].state == CHILD_SERVING && g->child[i].role == WORKER_SERVE)
            query_ask(q, &g->child[i]);
    }
    query_check(q);
}

void query_start(struct conn *conn, enum worker_query_kind kind)
{
    size_t n = 0;
    LIST_EACH(it, &master.generations)
    n += generation_living(CONTAINER(it, struct generation, link));
    struct query *q = query_new(conn, kind, n);
    if (!q)
        return;
    LIST_EACH(it, &master.generations)
    {
        struct generation *g = CONTAINER(it, struct generation, link);
        for (uint32_t i = 0; i < g->nchild; i++) {
            if (g->child[i].pid != 0 && g->child[i].state != CHILD_STARTING)
                query_ask(q, &g->child[i]);
        }
    }
    query_check(q);
}

void query_reply(struct child *c, const struct msg *m)
{
    struct worker_reply r;
    if (m->len < sizeof(r))
        return;
    memcpy(&r, m->payload, sizeof(r));
    if (r.id == QUERY_HEARD) {
        reload_child_heard(c);
        return;
    }
    LIST_EACH(it, &query_list)
    {
        struct query *q = CONTAINER(it, struct query, link);
        if (q->id != r.id)
            continue;
        for (size_t i = 0; i < q->n; i++) {
            struct query_part *p = &q->part[i];
            if (p->child != c || p->pid != c->pid || p->done)
                continue;
            buf_add(&p->text, slice_of((const char *)m->payload + sizeof(r), m->len - sizeof(r)));
            p->done = r.more == 0;
        }
        query_check(q);
        return;
    }
}

void query_child_gone(struct child *c)
{
    reload_child_heard(c);
    LIST_EACH_SAFE(it, tmp, &query_list)
    {
        struct query *q = CONTAINER(it, struct query, link);
        for (size_t i = 0; i < q->n; i++) {
            if (q->part[i].child == c && q->part[i].pid == c->pid && !q->part[i].done)
                q->part[i].lost = true;
        }
        query_check(q);
    }
}

void query_conn_gone(const struct conn *conn)
{
    LIST_EACH_SAFE(it, tmp, &query_list)
    {
        struct query *q = CONTAINER(it, struct query, link);
        if (q->conn == conn)
            query_free(q);
    }
}
