/* Cutting a text into the pieces within which a byte-pair encoding joins symbols. */
#ifndef MZ_LLM_TEXT_SPLITTER_H
#define MZ_LLM_TEXT_SPLITTER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/context.h"
#include "llm/expression.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What happens to the matches of an expression (the names are tokenizer.json's). */
typedef enum mz_split_behavior {
    MZ_SPLIT_ISOLATED = 0, /* each is a piece */
    MZ_SPLIT_REMOVED,
    MZ_SPLIT_MERGED_WITH_PREVIOUS,
    MZ_SPLIT_MERGED_WITH_NEXT,
    MZ_SPLIT_CONTIGUOUS /* neighbouring ones are one piece */
} mz_split_behavior;

enum { MZ_SPLITTER_MAX_STEPS = 16 };

typedef struct mz_split_step {
    mz_expression *expression;
    mz_split_behavior behavior;
    bool invert; /* what lies between the matches is meant by "match" */
} mz_split_step;

/* Each step cuts the pieces of the one before; all-zero leaves the text whole. Owned by its
 * tokenizer; several threads may read it. */
typedef struct mz_text_splitter {
    mz_split_step steps[MZ_SPLITTER_MAX_STEPS];
    int n_steps;
} mz_text_splitter;

/* Takes `expression` over on success. Errors: LIMIT for too many steps. */
mz_status mz_text_splitter_add(mz_error *err, mz_text_splitter *s, mz_expression *expression,
                               mz_split_behavior behavior, bool invert);
void mz_text_splitter_free(mz_context *ctx, mz_text_splitter *s);

/* One search through it; one thread. All-zero before mz_text_splitting_begin. */
typedef struct mz_text_splitting {
    const mz_text_splitter *splitter;
    mz_expression_match *matches[MZ_SPLITTER_MAX_STEPS];
} mz_text_splitting;
mz_status mz_text_splitting_begin(mz_context *ctx, const mz_text_splitter *s,
                                  mz_text_splitting *out);
void mz_text_splitting_end(mz_context *ctx, mz_text_splitting *splitting);

typedef mz_status (*mz_text_piece)(mz_context *ctx, void *arg, const char *text, size_t n_bytes);

/* Hands the pieces of text[0..n_bytes), UTF-8, to `piece` in order; none is empty. Errors: those of
 * mz_expression_find and of `piece`. */
mz_status mz_text_splitting_run(mz_context *ctx, mz_text_splitting *splitting, const char *text,
                                size_t n_bytes, mz_text_piece piece, void *arg);

#ifdef __cplusplus
}
#endif
#endif
