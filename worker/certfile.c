/* Certificates between a worker and the master: the worker may not read their files any more once
 * it has dropped root; see worker.h for the messages. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "worker/io/tls_cert.h"

#include <stdio.h>
#include <unistd.h>

static bool certfile_want(void *arg, uint32_t certificate, struct slice name)
{
    const struct worker *w = arg;
    struct worker_cert m = {.certificate = certificate};
    if (name.n >= sizeof m.name)
        return true; /* no such entry can be */
    memcpy(m.name, name.p, name.n);
    return msg_send(w->channel.fd, W_CERT_OPEN, &m, sizeof m, NULL, 0) != -ERR_AGAIN;
}

static void certfile_result(const struct worker *w, const struct worker_cert *of, int e,
                            const char *why)
{
    struct worker_cert m = *of;
    if (e == -ERR_NOENT || (e >= 0 && of->serial == 0))
        return; /* nothing of ours, or asked for and come: nothing to tell */
    m.ok = e >= 0;
    snprintf(m.text, sizeof m.text, "%s", e < 0 && !why ? err_text(e) : why ? why : "");
    (void)msg_send(w->channel.fd, W_CERT_RESULT, &m, sizeof m, NULL, 0);
}

static void certfile_close(const struct msg *m)
{
    for (int i = 0; i < m->nfds; i++)
        close(m->fds[i]);
}

void certfile_message(struct worker *w, const struct msg *m)
{
    struct worker_cert c;
    const char *why = NULL;
    int e = 0;
    if (!w->tls || m->len < sizeof c) {
        certfile_close(m);
        return;
    }
    memcpy(&c, m->payload, sizeof c);
    c.name[sizeof c.name - 1] = '\0';
    c.text[sizeof c.text - 1] = '\0';
    struct slice name = slice_str(c.name);
    if (m->type == M_CERT_GONE) {
        certfile_close(m);
        tls_cert_gone(w->tls, c.certificate, name, c.pair, c.text[0] ? c.text : NULL);
        return;
    }
    if (m->nfds < 1 || m->nfds > 2) {
        certfile_close(m);
        return;
    }
    if (c.pair == WORKER_CERT_OCSP) {
        if (m->nfds == 2)
            close(m->fds[1]);
        e = tls_cert_ocsp(w->tls, c.certificate, m->fds[0], &why);
    } else {
        e = tls_cert_files(w->tls, c.certificate, name, c.pair, m->fds[0],
                           m->nfds == 2 ? m->fds[1] : -1, &why);
    }
    if (e == 0 && c.text[0] && c.pair != WORKER_CERT_OCSP) {
        /* The last good ones: in use, but what is wrong with the files remains to be told. */
        tls_cert_gone(w->tls, c.certificate, name, c.pair, c.text);
        return;
    }
    certfile_result(w, &c, e, why);
}

/* Before READY, and so answered before the first client comes. */
static void certfile_missing(void *arg, uint32_t certificate, uint32_t pair, const char *why)
{
    const struct worker *w = arg;
    struct worker_cert m = {.certificate = certificate, .pair = pair};
    snprintf(m.text, sizeof m.text, "%s", why);
    (void)msg_send(w->channel.fd, W_CERT_OPEN, &m, sizeof m, NULL, 0);
}

int certfile_init(struct worker *w)
{
    const struct worker_boot *b = w->boot;
    const struct tls_env env = {.loop = &w->loop,
                                .config = b->config,
                                .segment = b->segment,
                                .slot = b->slot,
                                .ctr = w->ctr,
                                .gau = gauge_row(b->segment, b->slot),
                                .cert_id = b->cert_id,
                                .want_files = certfile_want,
                                .arg = w};
    struct conf_diags d;
    conf_diags_init(&d);
    int e = tls_new(&env, !b->respawned, &d, &w->tls);
    /* What a new configuration is warned of, the preflight has said. */
    for (size_t i = 0; e == 0 && b->respawned && i < d.n; i++)
        LOG_WARN("certificate_bad", "%s:%u: %s", d.v[i].pos.file ? d.v[i].pos.file : "",
                 d.v[i].pos.line, d.v[i].text);
    if (e < 0) {
        struct buf text;
        buf_init(&text, MSG_MAX_PAYLOAD - 1);
        conf_diags_print(&d, &text);
        buf_chr(&text, '\0');
        channel_failed(w, text.n > 1 && text.p ? text.p : err_text(e));
        buf_fini(&text);
    }
    conf_diags_fini(&d);
    if (e == 0 && b->respawned && w->tls)
        tls_cert_missing(w->tls, certfile_missing, w);
    return e;
}
