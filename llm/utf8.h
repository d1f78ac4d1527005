/* UTF-8 text of unknown origin: characters, and what stands in for bytes that are none. */
#ifndef MZ_LLM_UTF8_H
#define MZ_LLM_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the character at the start of text[0..n_bytes), n_bytes > 0, and its code point. 0 where
 * the bytes are no character (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
 * `code` may be NULL. */
int mz_utf8_decode(const char *text, size_t n_bytes, uint32_t *code);

/* Writes the character, returns its bytes (1 to 4). */
size_t mz_utf8_encode(uint32_t code, char out[4]);

/* For bytes that mz_utf8_decode refuses: how many of them one U+FFFD stands for, the longest
 * beginning of a character (Unicode 3.9, "maximal subpart"; Python's and Rust's choice). *cut (may
 * be NULL): the text ends within what may become a character. */
size_t mz_utf8_bad_length(const char *text, size_t n_bytes, bool *cut);

/* The property White_Space. */
bool mz_utf8_is_space(uint32_t code);

/* The character that ends before text + at, at > 0, and where it begins; U+FFFD of one byte where
 * none ends there. */
uint32_t mz_utf8_before(const char *text, size_t at, size_t *start);

bool mz_utf8_valid(const char *text, size_t n_bytes);

/* A copy with U+FFFD for what is no UTF-8, NUL-terminated, released with mz_free. Errors: NOMEM. */
mz_status mz_utf8_repair(mz_context *ctx, const char *text, size_t n_bytes, char **out,
                         size_t *n_out);

#ifdef __cplusplus
}
#endif
#endif
