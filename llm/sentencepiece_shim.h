/* SentencePiece's C++ library behind C functions: nothing that it throws comes out. */
#ifndef MZ_LLM_SENTENCEPIECE_SHIM_H
#define MZ_LLM_SENTENCEPIECE_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A loaded model; immutable, several threads may use it. Its memory is the library's own. */
typedef struct mz_sentencepiece mz_sentencepiece;

/* `data` is a serialised model, which mz_sentencepiece_check has accepted: the library trusts what
 * it reads. Errors (in `err`, with the library's words): FORMAT, NOMEM. */
mz_status mz_sentencepiece_load(mz_error *err, const void *data, size_t n_bytes, const char *name,
                                mz_sentencepiece **out);
void mz_sentencepiece_free(mz_sentencepiece *model); /* accepts NULL */

/* Hands each id of the text to `take`, whose failure ends it. Errors: FORMAT with the library's
 * words, NOMEM, those of `take`. */
typedef mz_status (*mz_sentencepiece_take)(void *arg, int32_t id);
mz_status mz_sentencepiece_encode(mz_error *err, const mz_sentencepiece *model, const char *text,
                                  size_t n_bytes, mz_sentencepiece_take take, void *arg);

/* Hands each piece of the text as it stands in the model, or as the text has it where it is
 * unknown, to `take`: joined, and with byte pieces as the bytes that they are, the normalised text.
 */
typedef mz_status (*mz_sentencepiece_take_text)(void *arg, const char *piece, size_t n_bytes);
mz_status mz_sentencepiece_pieces(mz_error *err, const mz_sentencepiece *model, const char *text,
                                  size_t n_bytes, mz_sentencepiece_take_text take, void *arg);

#ifdef __cplusplus
}
#endif
#endif
