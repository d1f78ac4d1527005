/* The best way to cut a text into pieces by their scores (Kudo 2018, Viterbi). */
#ifndef MZ_LLM_UNIGRAM_H
#define MZ_LLM_UNIGRAM_H

#include "core/context.h"
#include "llm/token_trie.h"
#include "llm/vocabulary.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All-zero is empty. Owned by its tokenizer; several threads may read it. */
typedef struct mz_unigram {
    mz_token_trie pieces;
    float highest, lowest; /* scores of normal pieces */
} mz_unigram;

/* Errors: NOMEM; LIMIT for a piece that is too long. */
mz_status mz_unigram_build(mz_context *ctx, const mz_vocabulary *vocabulary, mz_unigram *out);
void mz_unigram_free(mz_context *ctx, mz_unigram *u);

typedef struct mz_unigram_piece {
    size_t start, end;
    int32_t id; /* -1: a character that no piece is for */
} mz_unigram_piece;

/* The pieces of text[0..n_bytes), valid UTF-8, in order; *out is released with mz_free. Sums are
 * f32 from left to right and of equal ones the first found stays, as in SentencePiece 0.2: version
 * 0.1.97 of the library compares in f64, and so cuts runs of spaces otherwise. Errors: NOMEM. */
mz_status mz_unigram_cut(mz_context *ctx, const mz_unigram *u, const mz_vocabulary *vocabulary,
                         const char *text, size_t n_bytes, mz_unigram_piece **out, size_t *n);

#ifdef __cplusplus
}
#endif
#endif
