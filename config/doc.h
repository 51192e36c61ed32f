/* The key table as documentation: rpd.conf(5)'s reference, the sample file, words for shell
 * completion. */
#ifndef CONFIG_DOC_H
#define CONFIG_DOC_H

#include "base/buf.h"

void conf_doc_man(struct buf *out); /* mdoc(7): a .Ss with a list of keys for each section */
void conf_doc_sample(
    struct buf *out); /* rpd.conf with every key, commented out at its default; loads as it is */
void conf_doc_words(
    struct buf *out); /* "SECTION KEY..." per line, SECTION "-" for the sections themselves */

#endif
