/* Tokenizers between the files of a published checkpoint and GGUF metadata: byte-level BPE
 * (tokenizer.json) and SentencePiece BPE (tokenizer.model). */
#ifndef MZ_APPS_ZOO_GGUF_TOKENIZER_H
#define MZ_APPS_ZOO_GGUF_TOKENIZER_H

#include <stddef.h>

#include "core/context.h"
#include "core/gguf.h"
#include "core/gguf_write.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Adds the tokenizer of the folder to the metadata. Where it is none of the kinds above, or one
 * whose splitting has no name in GGUF, nothing is added and `note` says why. `vocab_size`: rows of
 * the embedding; ids without a token become unused ones. Errors: FORMAT for broken files, LIMIT,
 * IO, NOMEM. */
mz_status mz_gguf_tokenizer_export(mz_context *ctx, const char *dir, int64_t vocab_size,
                                   mz_gguf_meta *meta, char *note, size_t note_bytes);

/* Writes tokenizer.json or tokenizer.model, and tokenizer_config.json, into the folder from the
 * metadata; `note` likewise. Errors: FORMAT, IO, NOMEM. */
mz_status mz_gguf_tokenizer_import(mz_context *ctx, const mz_gguf *gguf, const char *dir,
                                   char *note, size_t note_bytes);

#ifdef __cplusplus
}
#endif
#endif
