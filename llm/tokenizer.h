/* Tokenizers: from text to token ids and back, as the published implementations do it.
 *
 * Kinds: SentencePiece models (tokenizer.model; BPE and unigram, by the SentencePiece library),
 * byte-level BPE (tokenizer.json, or vocab.json with merges.txt; splitting by PCRE2), tiktoken
 * files
 * (*.tiktoken), and what a GGUF file's metadata holds (kinds "llama" and "gpt2"). */
#ifndef MZ_LLM_TOKENIZER_H
#define MZ_LLM_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; immutable after opening, may be used by several threads, each with its own context. */
typedef struct mz_tokenizer mz_tokenizer;

/* The tokenizer of a checkpoint folder, or a single file of the kinds above. In a folder the first
 * that exists of: tokenizer.json, tokenizer.model, vocab.json with merges.txt, one *.tiktoken;
 * added_tokens.json, special_tokens_map.json and tokenizer_config.json are read where they are
 * there. LlamaTokenizer's `legacy` of tokenizer_config.json is obeyed.
 * Errors: MISSING (naming what was looked for), FORMAT, UNSUPPORTED (naming the part of a
 * tokenizer.json that is not known), LIMIT, IO, NOMEM. */
mz_status mz_tokenizer_open(mz_context *ctx, const char *path, mz_tokenizer **out);

/* The one in a GGUF file's metadata, which need not stay open. Errors: MISSING, FORMAT, UNSUPPORTED
 * (naming tokenizer.ggml.model or .pre and the known ones), NOMEM. */
mz_status mz_tokenizer_open_gguf(mz_context *ctx, const mz_gguf *gguf, mz_tokenizer **out);

void mz_tokenizer_close(mz_context *ctx, mz_tokenizer *tokenizer); /* accepts NULL */

/* Ids are 0..size-1; some may be without a token. */
int64_t mz_tokenizer_size(const mz_tokenizer *tokenizer);

/* "byte-level BPE", "SentencePiece unigram", ... for people. */
const char *mz_tokenizer_kind(const mz_tokenizer *tokenizer);

typedef enum mz_special_token {
    MZ_TOKEN_BOS = 0,
    MZ_TOKEN_EOS,
    MZ_TOKEN_UNKNOWN,
    MZ_TOKEN_PAD,
    MZ_SPECIAL_TOKEN_COUNT
} mz_special_token;

/* Id, or -1 where there is none. */
int32_t mz_tokenizer_special(const mz_tokenizer *tokenizer, mz_special_token which);

/* Whether the published tokenizer puts one there of its own. */
bool mz_tokenizer_adds_bos(const mz_tokenizer *tokenizer);
bool mz_tokenizer_adds_eos(const mz_tokenizer *tokenizer);

/* Id of the token written exactly so (an added or special token, or a piece as the vocabulary
 * spells it), or -1. */
int32_t mz_tokenizer_find(const mz_tokenizer *tokenizer, const char *text, size_t n_bytes);

/* Whether a token is a control token, which decoding leaves out unless asked. */
bool mz_tokenizer_is_control(const mz_tokenizer *tokenizer, int32_t id);

/* The chat template's Jinja text of tokenizer_config.json or the GGUF file; NULL where there is
 * none. */
const char *mz_tokenizer_chat_template(const mz_tokenizer *tokenizer);

typedef struct mz_token_list {
    int32_t *ids; /* [n] */
    int64_t n;
    size_t capacity;
} mz_token_list;
void mz_token_list_free(mz_context *ctx, mz_token_list *list);

typedef struct mz_encode_options {
    bool add_special;   /* BOS and EOS as the published tokenizer adds them */
    bool parse_special; /* control tokens in the text become themselves; user-defined ones always
                           do */
    bool continues;     /* the text goes on after others: no dummy space in front (where that is
                           what the published code does between two stretches) */
} mz_encode_options;

/* Appends the ids of `text` (any bytes; invalid UTF-8 is taken as the published implementation
 * takes it after U+FFFD was put in its place) to *list. `options` NULL: all off. Errors: NOMEM,
 * LIMIT (text over 1 GiB). */
mz_status mz_tokenizer_encode(mz_context *ctx, const mz_tokenizer *tokenizer, const char *text,
                              size_t n_bytes, const mz_encode_options *options,
                              mz_token_list *list);

/* Decoded bytes: *text is NUL-terminated, released with mz_free. Broken UTF-8 becomes U+FFFD as in
 * the original. Ids outside the vocabulary are LIMIT. Errors also: NOMEM. */
mz_status mz_tokenizer_decode(mz_context *ctx, const mz_tokenizer *tokenizer, const int32_t *ids,
                              int64_t n, bool keep_control, char **text, size_t *n_bytes);

/* Decoding as tokens arrive: what has been pushed and is complete may be printed; half a character,
 * and what later tokens may change, is kept until its end comes or mz_detokenizer_finish. The
 * concatenation of all pieces is what mz_tokenizer_decode gives. Created all-zero but for the first
 * two members; one thread. */
typedef struct mz_detokenizer {
    const mz_tokenizer *tokenizer;
    bool keep_control;
    char *text; /* the latest piece; NUL-terminated; owned */
    size_t n_bytes, capacity;
    char *held; /* bytes of characters that are not complete; owned */
    size_t n_held, held_capacity;
    char *run; /* text in front of which something may come; owned */
    size_t n_run, run_capacity;
    int64_t n_tokens; /* pushed, of the current stretch where the kind has stretches */
    int n_stripped;   /* what was taken from the text's beginning, -1: no more is */
    int n_stretches;  /* given before the current one */
    bool started;     /* the first piece's dummy space was dealt with */
    bool to_run, after_special, in_stretch, gave, space_owed;
} mz_detokenizer;

/* The bytes that became certain by `id`: *piece is valid until the next call. Errors: LIMIT (id),
 * NOMEM. */
mz_status mz_detokenizer_push(mz_context *ctx, mz_detokenizer *d, int32_t id, const char **piece,
                              size_t *n_bytes);
mz_status mz_detokenizer_finish(mz_context *ctx, mz_detokenizer *d, const char **piece,
                                size_t *n_bytes);
void mz_detokenizer_free(mz_context *ctx, mz_detokenizer *d);

#ifdef __cplusplus
}
#endif
#endif
