/* What a tokenizer does to a text before it is split: Unicode normalisation, replacing, putting
 * something in front. */
#ifndef MZ_LLM_TEXT_NORMALIZER_H
#define MZ_LLM_TEXT_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/context.h"
#include "llm/expression.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Text that grows; all-zero is empty. */
typedef struct mz_text_buffer {
    char *data;
    size_t n, capacity;
} mz_text_buffer;

/* Errors: NOMEM; LIMIT above 2 GiB. */
mz_status mz_text_buffer_put(mz_context *ctx, mz_text_buffer *b, const char *text, size_t n_bytes);

typedef enum mz_normalizer_kind {
    MZ_NORMALIZE_NFC = 0,
    MZ_NORMALIZE_NFD,
    MZ_NORMALIZE_NFKC,
    MZ_NORMALIZE_NFKD,
    MZ_NORMALIZE_PREPEND,         /* `content` in front of a text that is not empty */
    MZ_NORMALIZE_PREPEND_FIRST,   /* the same, at the beginning of the whole text only */
    MZ_NORMALIZE_PREPEND_MISSING, /* where the text does not begin with it */
    MZ_NORMALIZE_PREPEND_MISSING_FIRST,
    MZ_NORMALIZE_REPLACE,           /* what `expression` matches by `content` */
    MZ_NORMALIZE_REPLACE_CHARACTER, /* a single byte, `from`, by `content`: spaces */
} mz_normalizer_kind;

enum { MZ_NORMALIZER_MAX_STEPS = 16, MZ_NORMALIZER_MAX_CONTENT = 64 };

typedef struct mz_normalizer_step {
    mz_normalizer_kind kind;
    mz_expression *expression;
    char content[MZ_NORMALIZER_MAX_CONTENT];
    size_t n_content;
    char from;
} mz_normalizer_step;

/* All-zero changes nothing. Owned by its tokenizer; several threads may read it. */
typedef struct mz_normalizer {
    mz_normalizer_step steps[MZ_NORMALIZER_MAX_STEPS];
    int n_steps;
} mz_normalizer;

/* Appends a step; `content` is copied, `expression` taken over on success. Errors: LIMIT for too
 * many steps or too long a content. */
mz_status mz_normalizer_add(mz_error *err, mz_normalizer *n, mz_normalizer_kind kind,
                            const char *content, size_t n_content, mz_expression *expression);
void mz_normalizer_free(mz_context *ctx, mz_normalizer *n);

/* text[0..n_bytes), which must be UTF-8, into *out (what it held is lost); `other` is scratch.
 * `is_first`: it begins the whole text. Errors: NOMEM; LIMIT as above and as mz_expression_find. */
mz_status mz_normalizer_apply(mz_context *ctx, const mz_normalizer *n, const char *text,
                              size_t n_bytes, bool is_first, mz_text_buffer *out,
                              mz_text_buffer *other);

#ifdef __cplusplus
}
#endif
#endif
