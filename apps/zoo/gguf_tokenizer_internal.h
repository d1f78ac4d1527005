/* What the two directions of converting a tokenizer share. */
#ifndef MZ_APPS_ZOO_GGUF_TOKENIZER_INTERNAL_H
#define MZ_APPS_ZOO_GGUF_TOKENIZER_INTERNAL_H

#include <stdbool.h>

#include "llm/vocabulary.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MZ_SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

/* Fields of SentencePiece's ModelProto that are written. */
enum {
    MZ_PROTO_PIECES = 1,
    MZ_PROTO_TRAINER = 2,
    MZ_PROTO_NORMALIZER = 3,
    MZ_PROTO_PIECE_TEXT = 1,
    MZ_PROTO_PIECE_SCORE = 2,
    MZ_PROTO_PIECE_TYPE = 3,
    MZ_PROTO_MODEL_TYPE = 3, /* of the trainer: 1 unigram, 2 BPE */
    MZ_PROTO_BYTE_FALLBACK = 35,
    MZ_PROTO_UNK_ID = 40,
    MZ_PROTO_BOS_ID = 41,
    MZ_PROTO_EOS_ID = 42,
    MZ_PROTO_PAD_ID = 43,
    MZ_PROTO_UNK_PIECE = 45,
    MZ_PROTO_BOS_PIECE = 46,
    MZ_PROTO_EOS_PIECE = 47,
    MZ_PROTO_PAD_PIECE = 48,
    MZ_PROTO_DUMMY_PREFIX = 3, /* of the normalizer */
    MZ_PROTO_EXTRA_SPACES = 4,
    MZ_PROTO_ESCAPE_SPACES = 5,
};

/* How a byte-level tokenizer.json splits text, and tokenizer.ggml.pre for it. */
typedef struct mz_pre_tokenizer {
    const char *pre;
    const char *regex;  /* of a Split in front; NULL: the byte-level step's own */
    bool digits;        /* every digit alone first */
    bool nfc;           /* normalizer */
    bool ignore_merges; /* whole words first */
} mz_pre_tokenizer;

/* Row i, NULL behind the end. */
const mz_pre_tokenizer *mz_pre_tokenizer_at(int i);

#ifdef __cplusplus
}
#endif
#endif
