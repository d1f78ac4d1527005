/* What the files of the tokenizer share: its parts, and the functions of each kind. */
#ifndef MZ_LLM_TOKENIZER_INTERNAL_H
#define MZ_LLM_TOKENIZER_INTERNAL_H

#include "core/json.h"
#include "llm/bpe_merge.h"
#include "llm/sentencepiece_shim.h"
#include "llm/text_normalizer.h"
#include "llm/text_splitter.h"
#include "llm/token_trie.h"
#include "llm/tokenizer.h"
#include "llm/unigram.h"
#include "llm/vocabulary.h"

#define MZ_SPACE_PIECE "\xE2\x96\x81" /* U+2581, SentencePiece's space */

enum { MZ_TOKENIZER_MAX_AROUND = 8, MZ_DECODE_MAX_TEXT = 16 };

/* A token that is looked for in the text before anything else happens to it. */
typedef struct mz_added_token {
    int32_t id;
    bool control;     /* only where control tokens are parsed */
    bool single_word; /* not beside a letter, digit or underscore */
    bool strip_left;  /* takes the white space before it */
    bool strip_right;
} mz_added_token;

/* How two symbols of a word become one. */
typedef enum mz_bpe_lookup {
    MZ_BPE_PAIRS = 0, /* by a list of merges */
    MZ_BPE_TEXT_RANK, /* their joined text is a token; the lower id first (tiktoken) */
    MZ_BPE_TEXT_SCORE /* their joined text is a piece; the higher score first (SentencePiece) */
} mz_bpe_lookup;

typedef struct mz_bpe {
    mz_bpe_lookup lookup;
    mz_merge_table pairs;
    bool byte_level;       /* symbols are bytes, else characters */
    bool spelled;          /* byte-level texts are in GPT-2's alphabet, else as they are */
    bool whole_word_first; /* a word that is a token is not put together */
    bool byte_fallback;    /* an unknown character is spelt in <0xHH> tokens */
    bool fuse_unknown;     /* neighbouring unknown characters are one unknown token */
    int32_t byte_ids[256]; /* tokens of single bytes, -1: none */
    int32_t unknown;       /* -1: unknown characters are left out */
    bool prefix_space;     /* a space goes in front of a piece without one (ByteLevel) */
} mz_bpe;

/* How tokens become text again. */
typedef enum mz_decode_kind {
    MZ_DECODE_BYTES = 0,     /* the tokens' bytes, one after the other */
    MZ_DECODE_SENTENCEPIECE, /* as the library does it */
    MZ_DECODE_LLAMA,         /* as LlamaTokenizer calls the library */
    MZ_DECODE_CHAIN          /* as the `decoder` of a tokenizer.json says */
} mz_decode_kind;

typedef struct mz_decode_plan {
    mz_decode_kind kind;
    bool strip_first; /* SENTENCEPIECE: the dummy space of the first piece is taken away */
    bool
        strip_spaces; /* SENTENCEPIECE: those of the first pieces too (extra white space removed) */
    char unknown[32]; /* SENTENCEPIECE: what the unknown token decodes to */
    bool legacy;      /* LLAMA */
    int32_t n_pieces; /* LLAMA: the model's own; added tokens come after them */
    bool prefix_space;                                     /* LLAMA: add_prefix_space */
    char from[MZ_DECODE_MAX_TEXT], to[MZ_DECODE_MAX_TEXT]; /* CHAIN: what is replaced in a token */
    size_t n_from, n_to;
    bool byte_fallback;             /* CHAIN: runs of <0xHH> are bytes */
    bool join_with_spaces;          /* CHAIN: no decoder: tokens are words */
    bool drop_first_spaces;         /* CHAIN: Metaspace takes U+2581 out of the first token */
    char strip[MZ_DECODE_MAX_TEXT]; /* CHAIN: taken from the beginning of the text ... */
    size_t n_strip;
    int strip_times; /* ... at most this often */
} mz_decode_plan;

/* How SentencePiece model files are used (LlamaTokenizer and its heirs). */
typedef struct mz_spm_plan {
    mz_sentencepiece *library; /* NULL for the other kinds */
    char *data;                /* the model until it is loaded, with room for four bytes more */
    size_t n_data;
    bool is_unigram; /* the library normalises, `unigram` cuts */
    mz_unigram unigram;
    bool first_only; /* legacy false: the dummy space is put in front once */
    bool prefix_space;
    char unknown_text[32]; /* the unknown token's text, put in front to keep a leading space */
    size_t n_unknown_text;
    int64_t n_unknown; /* tokens that it becomes */
} mz_spm_plan;

typedef struct mz_tokenizer_encoder mz_tokenizer_encoder;

struct mz_tokenizer {
    const mz_tokenizer_encoder *encoder;
    const char *name; /* for people; static */
    mz_vocabulary vocabulary;
    mz_added_token *added; /* [n_added]; the tries hold places in it */
    size_t n_added, added_capacity;
    mz_token_trie raw;        /* looked for in the text as it is */
    mz_token_trie normalized; /* looked for after normalising */
    mz_normalizer normalizer;
    mz_normalizer metaspace; /* what the splitting does to the text first */
    mz_text_splitter splitter;
    mz_bpe bpe;
    mz_spm_plan spm;
    mz_decode_plan decode;
    int32_t special[MZ_SPECIAL_TOKEN_COUNT]; /* -1: none */
    int32_t before[MZ_TOKENIZER_MAX_AROUND]; /* what add_special puts in front */
    int32_t after[MZ_TOKENIZER_MAX_AROUND];
    int n_before, n_after;
    char *chat_template; /* NULL: none */
};

/* One row per kind of encoding. */
struct mz_tokenizer_encoder {
    /* Appends the ids of valid UTF-8. `is_first`: nothing came before. */
    mz_status (*encode)(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes,
                        const mz_encode_options *options, mz_token_list *list);
};
extern const mz_tokenizer_encoder mz_tokenizer_bpe;
extern const mz_tokenizer_encoder mz_tokenizer_spm;

/* An empty tokenizer without special tokens. Errors: NOMEM. */
mz_status mz_tokenizer_create(mz_context *ctx, const mz_tokenizer_encoder *encoder,
                              const char *name, mz_tokenizer **out);

/* Appends the ids of a character that is no token: its bytes, or the unknown token; `fused`: not if
 * that came just before. */
mz_status mz_bpe_push_spelt(mz_context *ctx, const mz_bpe *bpe, const char *text, size_t n_bytes,
                            bool fused, mz_token_list *list);

mz_status mz_token_list_push(mz_context *ctx, mz_token_list *list, int32_t id);

/* Adds a token to those that are looked for. Its text is normalised first when `normalized`.
 * Errors: LIMIT, NOMEM. */
mz_status mz_added_token_add(mz_context *ctx, mz_tokenizer *t, const mz_added_token *token,
                             bool normalized);

/* A stretch of text: an added token, or what lies between two. */
typedef struct mz_added_cut {
    size_t start, end;
    int32_t id; /* -1: plain text */
} mz_added_cut;

typedef struct mz_added_cursor {
    size_t searched, given; /* how far the search and the stretches have come */
    mz_added_cut token;     /* one that comes after the plain text just given */
    bool has_token;
} mz_added_cursor;

/* The next stretch; false at the end. *cursor is all-zero at first. */
bool mz_added_next(const mz_tokenizer *t, const mz_token_trie *trie, bool parse_special,
                   const char *text, size_t n_bytes, mz_added_cursor *cursor, mz_added_cut *cut);

/* Fills byte_ids from the vocabulary (single bytes in the alphabet that it is spelled in, or <0xHH>
 * pieces). */
void mz_bpe_find_bytes(mz_tokenizer *t);

/* The known splitting expressions. */
extern const char mz_expression_gpt2[];
extern const char mz_expression_qwen2[];
extern const char mz_expression_llama3[];

/* Appends a splitting step by an expression of this program. Errors: NOMEM. */
mz_status mz_tokenizer_split_by(mz_context *ctx, mz_tokenizer *t, const char *expression);

/* Reading the files; each gives a tokenizer without what the configuration files add. */
mz_status mz_tokenizer_read_json(mz_context *ctx, const char *path, mz_tokenizer **out);
mz_status mz_tokenizer_read_vocab(mz_context *ctx, const char *vocab_path, const char *merges_path,
                                  mz_tokenizer **out);
mz_status mz_tokenizer_read_tiktoken(mz_context *ctx, const char *path, mz_tokenizer **out);
mz_status mz_tokenizer_read_spm(mz_context *ctx, const char *path, mz_tokenizer **out);

/* The same from memory; `name` stands for the path in messages. */
mz_status mz_tokenizer_parse_json(mz_context *ctx, const json_t *root, const char *name,
                                  mz_tokenizer **out);
mz_status mz_tokenizer_parse_tiktoken(mz_context *ctx, const char *text, size_t n_bytes,
                                      const char *name, mz_tokenizer **out);
mz_status mz_tokenizer_parse_spm(mz_context *ctx, const char *data, size_t n_bytes,
                                 const char *name, mz_tokenizer **out);

/* What LlamaTokenizer's configuration changes, then loading the library's model. */
mz_status mz_spm_configure(const mz_json_object *o, const char *class_name, mz_tokenizer *t);
mz_status mz_spm_load(mz_context *ctx, mz_tokenizer *t);

/* The stages of a tokenizer.json (tokenizer_json_stages.c); NULL or null is none. */
mz_status mz_tokenizer_json_normalizer(const mz_json_object *o, const json_t *value,
                                       mz_tokenizer *t);
mz_status mz_tokenizer_json_splitter(const mz_json_object *o, const json_t *value, mz_tokenizer *t);
mz_status mz_tokenizer_json_around(const mz_json_object *o, const json_t *value, mz_tokenizer *t);
mz_status mz_tokenizer_json_decoder(const mz_json_object *o, const json_t *value, mz_tokenizer *t);

/* Merges as a list of pairs of texts. */
mz_status mz_bpe_add_merge(mz_context *ctx, mz_tokenizer *t, const char *name, const char *left,
                           size_t n_left, const char *right, size_t n_right, uint32_t rank);

/* The kinds of files that the configuration is read beside. */
typedef enum mz_tokenizer_source {
    MZ_SOURCE_JSON = 0, /* lists its added tokens itself */
    MZ_SOURCE_SPM,
    MZ_SOURCE_VOCAB,
    MZ_SOURCE_TIKTOKEN
} mz_tokenizer_source;

/* Obeys added_tokens.json, special_tokens_map.json, tokenizer_config.json and chat_template.jinja
 * of the folder, where they are there. Errors: FORMAT, LIMIT, NOMEM, IO, UNSUPPORTED. */
mz_status mz_tokenizer_configure(mz_context *ctx, const char *dir, mz_tokenizer_source source,
                                 mz_tokenizer *t);

#endif
