/* Regular expressions of tokenizer files, by PCRE2: UTF-8, Unicode classes, compiled to machine
 * code where the library can.
 *
 * Files are written for Oniguruma or Rust's engines. \s is made what they mean by it, the property
 * White_Space, which is not quite PCRE2's; what PCRE2 would read otherwise is refused. */
#ifndef MZ_LLM_EXPRESSION_H
#define MZ_LLM_EXPRESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; immutable, several threads may use it. */
typedef struct mz_expression mz_expression;

/* `name` is the file's, for messages. Errors: UNSUPPORTED, with the library's reason and the place,
 * for what does not compile or has \h or && in it, which mean something else there; LIMIT for more
 * than 64 KiB; NOMEM. */
mz_status mz_expression_compile(mz_context *ctx, const char *name, const char *pattern,
                                size_t n_bytes, mz_expression **out);
/* One that matches exactly this text. */
mz_status mz_expression_compile_literal(mz_context *ctx, const char *name, const char *text,
                                        size_t n_bytes, mz_expression **out);
void mz_expression_destroy(mz_context *ctx, mz_expression *e); /* accepts NULL */

/* What one search needs besides the expression; one thread. Opaque; it belongs to `ctx`. */
typedef struct mz_expression_match mz_expression_match;
mz_status mz_expression_match_create(mz_context *ctx, const mz_expression *e,
                                     mz_expression_match **out);
void mz_expression_match_destroy(mz_context *ctx, mz_expression_match *match); /* accepts NULL */

/* The first match in text[0..n_bytes) that begins at `at` or after; the text must be UTF-8. *found
 * false: there is none. Errors: LIMIT for one that takes more steps than any sensible expression
 * does; NOMEM. */
mz_status mz_expression_find(mz_context *ctx, mz_expression_match *match, const char *text,
                             size_t n_bytes, size_t at, bool *found, size_t *start, size_t *end);

#ifdef __cplusplus
}
#endif
#endif
