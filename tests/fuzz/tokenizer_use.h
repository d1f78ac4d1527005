/* What the targets of tokenizer files do with one that opened. */
#ifndef MZ_TESTS_TOKENIZER_USE_H
#define MZ_TESTS_TOKENIZER_USE_H

#include "llm/tokenizer.h"

/* Encodes the text by all options and decodes what came of it, at once and token by token. Ends the
 * process where ids are outside the vocabulary, decoding gives no UTF-8, or the two differ. */
void tokenizer_use(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes);

#endif
