/* A tokenizer's vocabulary: ids, their texts as the file spells them, and a table from text to id.
 */
#ifndef MZ_LLM_VOCABULARY_H
#define MZ_LLM_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are those of SentencePiece models and GGUF files. */
typedef enum mz_piece_type {
    MZ_PIECE_NONE = 0, /* an id without a token */
    MZ_PIECE_NORMAL,
    MZ_PIECE_UNKNOWN,
    MZ_PIECE_CONTROL,
    MZ_PIECE_USER_DEFINED,
    MZ_PIECE_UNUSED,
    MZ_PIECE_BYTE
} mz_piece_type;

enum { MZ_VOCABULARY_MAX = 1 << 22 }; /* ids */

typedef struct mz_piece {
    uint32_t offset; /* into the vocabulary's text */
    uint32_t n_bytes;
    float score;
    uint8_t type; /* mz_piece_type */
} mz_piece;

/* All-zero is an empty one. Owned by its tokenizer; several threads may read it. */
typedef struct mz_vocabulary {
    mz_piece *pieces; /* [n] */
    int64_t n;
    size_t capacity;
    char *text; /* all texts, one after the other */
    size_t n_text, text_capacity;
    int32_t *slots; /* [n_slots] ids by hash of the text, -1 where empty */
    size_t n_slots;
    int64_t n_hashed;
    size_t longest; /* bytes of the longest text */
} mz_vocabulary;

/* Makes room, so that adding this much allocates nothing more. Errors: NOMEM, LIMIT. */
mz_status mz_vocabulary_reserve(mz_context *ctx, mz_vocabulary *v, int64_t n_pieces, size_t n_text);

/* Adds token `id`; ids need not come in order. A text that is there already keeps its first id in
 * the table. `name` is the file's, for messages. Errors: LIMIT for an id outside
 * 0..MZ_VOCABULARY_MAX-1 or more than 1 GiB of text; FORMAT for an id that is there with another
 * text; NOMEM. */
mz_status mz_vocabulary_add(mz_context *ctx, mz_vocabulary *v, const char *name, int64_t id,
                            const char *text, size_t n_bytes, mz_piece_type type, float score);

/* Id, or -1. */
int32_t mz_vocabulary_find(const mz_vocabulary *v, const char *text, size_t n_bytes);

/* Not NUL-terminated; empty for ids without a token. 0 <= id < n. */
const char *mz_vocabulary_text(const mz_vocabulary *v, int32_t id, size_t *n_bytes);

void mz_vocabulary_free(mz_context *ctx, mz_vocabulary *v);

/* GPT-2's alphabet, in which byte-level vocabularies are spelled: each byte is a printable
 * character. */
uint32_t mz_byte_alphabet_code(uint8_t byte);
int mz_byte_alphabet_byte(uint32_t code); /* -1 where it is no byte's */

/* The byte of a piece that is spelled <0xHH>, -1 where it is none. */
int mz_byte_piece_value(const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
