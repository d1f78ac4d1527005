/* What a SentencePiece model file says, read before the library is given it. */
#ifndef MZ_LLM_SENTENCEPIECE_MODEL_H
#define MZ_LLM_SENTENCEPIECE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "llm/vocabulary.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mz_sentencepiece_info {
    int model_type; /* 1 unigram, 2 BPE, 3 words, 4 characters */
    bool byte_fallback;
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    char unknown[32]; /* what the unknown token decodes to; NUL-terminated */
    char bos[64], eos[64], pad[64];
} mz_sentencepiece_info;

/* Reads the protocol buffer (sentencepiece_model.proto of the project) and puts its pieces into an
 * empty vocabulary. The library trusts a model: it indexes with what the normalisation table says
 * and stops the program where it finds something inconsistent. So everything that it relies on is
 * checked here. Errors: FORMAT; LIMIT (a table over 4 MiB, names of special tokens over 63 bytes,
 * more pieces than MZ_VOCABULARY_MAX); NOMEM. */
mz_status mz_sentencepiece_read(mz_context *ctx, const void *data, size_t n_bytes, const char *name,
                                mz_vocabulary *vocabulary, mz_sentencepiece_info *out);

/* The normalisation table alone: size, double array (Darts) and texts. Errors: as above. */
mz_status mz_sentencepiece_check_table(mz_context *ctx, const void *data, size_t n_bytes,
                                       const char *name);

#ifdef __cplusplus
}
#endif
#endif
