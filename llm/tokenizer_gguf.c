#include <math.h>
#include <string.h>

#include "llm/tokenizer_internal.h"

/* The metadata of a GGUF file says which of the two encodings its tokens are for ("llama",
 * "gpt2"); how a text is split before, only a name (tokenizer.ggml.pre) tells. */

static const char key_model[] = "tokenizer.ggml.model";
static const char key_pre[] = "tokenizer.ggml.pre";
static const char key_tokens[] = "tokenizer.ggml.tokens";
static const char key_scores[] = "tokenizer.ggml.scores";
static const char key_types[] = "tokenizer.ggml.token_type";
static const char key_merges[] = "tokenizer.ggml.merges";
static const char key_template[] = "tokenizer.chat_template";

static const size_t max_template_bytes = (size_t)1 << 20;

typedef struct splitting {
    const char *name; /* tokenizer.ggml.pre */
    const char *expressions[2];
    bool nfc; /* the published tokenizer normalises */
    bool whole_word_first;
    bool adds_bos;
} splitting;

static const splitting splittings[] = {
    {"gpt-2", {mz_expression_gpt2, NULL}, false, false, false},
    {"phi-2", {mz_expression_gpt2, NULL}, false, false, false},
    {"mpt", {mz_expression_gpt2, NULL}, false, false, false},
    {"olmo", {mz_expression_gpt2, NULL}, false, false, false},
    {"smollm", {"\\p{N}", mz_expression_gpt2}, false, false, false},
    {"starcoder", {"\\p{N}", mz_expression_gpt2}, false, false, false},
    {"qwen2", {mz_expression_qwen2, NULL}, true, false, false},
    {"stablelm2", {mz_expression_qwen2, NULL}, true, false, false},
    {"llama-bpe", {mz_expression_llama3, NULL}, false, true, true},
    {"llama3", {mz_expression_llama3, NULL}, false, true, true},
    {"llama-v3", {mz_expression_llama3, NULL}, false, true, true},
    {"dbrx", {mz_expression_llama3, NULL}, false, false, false},
};

typedef struct gguf_reader {
    mz_context *ctx;
    const mz_gguf *gguf;
    mz_tokenizer *t;
    const char *path;
} gguf_reader;

/* An array of the given length (-1: any) and type; *n stays -1 where the key is absent. */
static mz_status find_array(const gguf_reader *r, const char *key, mz_gguf_type wanted,
                            int64_t length, int64_t *n) {
    mz_gguf_type type = MZ_GGUF_U8;
    mz_gguf_type element = MZ_GGUF_U8;
    int64_t count = 0;
    *n = -1;
    if (!mz_gguf_has(r->gguf, key, &type, &element, &count)) {
        return MZ_OK;
    }
    const bool whole = wanted == MZ_GGUF_I32 && (element == MZ_GGUF_U32 || element == MZ_GGUF_U8);
    if (type != MZ_GGUF_ARRAY || (element != wanted && !whole)) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: %s: type %d of elements %d, expected an array of type %d", r->path, key,
                       (int)type, (int)element, (int)wanted);
    }
    if (length >= 0 && count != length) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: %s has %lld elements, there are %lld "
                       "tokens",
                       r->path, key, (long long)count, (long long)length);
    }
    *n = count;
    return MZ_OK;
}

/* Type and score of token i. */
static mz_status read_token(const gguf_reader *r, int64_t i, bool has_types, bool has_scores,
                            mz_piece_type *type, float *score) {
    const int64_t number = has_types ? mz_gguf_array_int(r->gguf, key_types, i) : MZ_PIECE_NORMAL;
    const double value = has_scores ? mz_gguf_array_number(r->gguf, key_scores, i) : 0.0;
    if (number < MZ_PIECE_NORMAL || number > MZ_PIECE_BYTE || !isfinite(value)) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: token %lld has type %lld and score %g, expected 1 to 6 and a number",
                       r->path, (long long)i, (long long)number, value);
    }
    *type = (mz_piece_type)number;
    *score = (float)value;
    return MZ_OK;
}

static mz_status read_tokens(const gguf_reader *r, bool needs_scores) {
    int64_t n = 0;
    int64_t n_types = 0;
    int64_t n_scores = 0;
    MZ_TRY(find_array(r, key_tokens, MZ_GGUF_STRING, -1, &n));
    if (n < 1) {
        return mz_fail(&r->ctx->error, MZ_ERR_MISSING, "%s: %s is missing or empty", r->path,
                       key_tokens);
    }
    MZ_TRY(find_array(r, key_types, MZ_GGUF_I32, n, &n_types));
    MZ_TRY(find_array(r, key_scores, MZ_GGUF_F32, n, &n_scores));
    if (needs_scores && n_scores < 0) {
        return mz_fail(&r->ctx->error, MZ_ERR_MISSING, "%s: %s is missing", r->path, key_scores);
    }
    mz_vocabulary *v = &r->t->vocabulary;
    MZ_TRY(mz_vocabulary_reserve(r->ctx, v, n, 0));
    for (int64_t i = 0; i < n; i++) {
        mz_piece_type type = MZ_PIECE_NORMAL;
        float score = 0.0F;
        size_t n_bytes = 0;
        MZ_TRY(read_token(r, i, n_types >= 0, n_scores >= 0, &type, &score));
        const char *text = mz_gguf_array_text(r->gguf, key_tokens, i, &n_bytes);
        MZ_TRY(mz_vocabulary_add(r->ctx, v, r->path, i, text, n_bytes, type, score));
    }
    return MZ_OK;
}

/* Control tokens are looked for in the text as it is; user-defined ones after normalising where
 * `normalized`. */
static mz_status add_tokens(const gguf_reader *r, bool normalized) {
    const mz_vocabulary *v = &r->t->vocabulary;
    for (int64_t i = 0; i < v->n; i++) {
        const bool control = v->pieces[i].type == MZ_PIECE_CONTROL;
        if ((!control && v->pieces[i].type != MZ_PIECE_USER_DEFINED) || v->pieces[i].n_bytes == 0) {
            continue;
        }
        const mz_added_token token = {.id = (int32_t)i, .control = control};
        MZ_TRY(mz_added_token_add(r->ctx, r->t, &token, normalized && !control));
    }
    return MZ_OK;
}

static mz_status read_id(const gguf_reader *r, const char *key, mz_special_token which) {
    int64_t id = -1;
    MZ_TRY(mz_gguf_int(r->gguf, &r->ctx->error, key, 0, r->t->vocabulary.n - 1, &id));
    r->t->special[which] = (int32_t)id;
    return MZ_OK;
}

static mz_status read_special(const gguf_reader *r, bool adds_bos) {
    mz_tokenizer *t = r->t;
    mz_error *err = &r->ctx->error;
    MZ_TRY(read_id(r, "tokenizer.ggml.bos_token_id", MZ_TOKEN_BOS));
    MZ_TRY(read_id(r, "tokenizer.ggml.eos_token_id", MZ_TOKEN_EOS));
    MZ_TRY(read_id(r, "tokenizer.ggml.unknown_token_id", MZ_TOKEN_UNKNOWN));
    MZ_TRY(read_id(r, "tokenizer.ggml.padding_token_id", MZ_TOKEN_PAD));
    bool adds_eos = false;
    MZ_TRY(mz_gguf_bool(r->gguf, err, "tokenizer.ggml.add_bos_token", &adds_bos));
    MZ_TRY(mz_gguf_bool(r->gguf, err, "tokenizer.ggml.add_eos_token", &adds_eos));
    t->n_before = adds_bos && t->special[MZ_TOKEN_BOS] >= 0;
    t->before[0] = t->special[MZ_TOKEN_BOS];
    t->n_after = adds_eos && t->special[MZ_TOKEN_EOS] >= 0;
    t->after[0] = t->special[MZ_TOKEN_EOS];
    const char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_gguf_text(r->gguf, err, key_template, &text, &n_bytes));
    if (text == NULL) {
        return MZ_OK;
    }
    if (n_bytes > max_template_bytes) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: %s has %zu bytes, at most %zu are allowed", r->path,
                       key_template, n_bytes, max_template_bytes);
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(r->ctx, n_bytes + 1, 1, key_template, &memory));
    memcpy(memory, text, n_bytes);
    t->chat_template = memory;
    return MZ_OK;
}

/* --- "llama": SentencePiece BPE -------------------------------------------------------------- */

static mz_status read_llama(const gguf_reader *r) {
    mz_tokenizer *t = r->t;
    mz_error *err = &r->ctx->error;
    t->name = "SentencePiece BPE";
    t->bpe.lookup = MZ_BPE_TEXT_SCORE;
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unknown = true;
    bool prefix = true;
    MZ_TRY(read_tokens(r, true));
    MZ_TRY(read_special(r, true));
    MZ_TRY(mz_gguf_bool(r->gguf, err, "tokenizer.ggml.add_space_prefix", &prefix));
    t->bpe.unknown = t->special[MZ_TOKEN_UNKNOWN];
    mz_bpe_find_bytes(t);
    MZ_TRY(mz_normalizer_add(err, &t->normalizer, MZ_NORMALIZE_REPLACE_CHARACTER, MZ_SPACE_PIECE, 3,
                             NULL));
    t->normalizer.steps[0].from = ' ';
    /* The files spell user-defined runs of spaces with spaces, the text has U+2581 by then. */
    MZ_TRY(add_tokens(r, true));
    if (prefix) {
        MZ_TRY(
            mz_normalizer_add(err, &t->normalizer, MZ_NORMALIZE_PREPEND, MZ_SPACE_PIECE, 3, NULL));
    }
    t->decode.kind = MZ_DECODE_SENTENCEPIECE;
    t->decode.strip_first = prefix;
    memcpy(t->decode.unknown, " \xE2\x81\x87 ", 6);
    return MZ_OK;
}

/* --- "gpt2": byte-level BPE ------------------------------------------------------------------ */

static mz_status read_merges(const gguf_reader *r) {
    int64_t n = 0;
    MZ_TRY(find_array(r, key_merges, MZ_GGUF_STRING, -1, &n));
    if (n < 0 || n > UINT32_MAX / 2) {
        return mz_fail(&r->ctx->error, MZ_ERR_MISSING, "%s: %s is missing or too long", r->path,
                       key_merges);
    }
    MZ_TRY(mz_merge_table_reserve(r->ctx, &r->t->bpe.pairs, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        size_t n_bytes = 0;
        const char *text = mz_gguf_array_text(r->gguf, key_merges, i, &n_bytes);
        const char *space = n_bytes > 0 ? memchr(text, ' ', n_bytes) : NULL;
        if (space == NULL || space == text || space + 1 == text + n_bytes) {
            return mz_fail(&r->ctx->error, MZ_ERR_FORMAT, "%s: merge %lld is no pair of texts",
                           r->path, (long long)i);
        }
        MZ_TRY(mz_bpe_add_merge(r->ctx, r->t, r->path, text, (size_t)(space - text), space + 1,
                                (size_t)(text + n_bytes - space - 1), (uint32_t)i));
    }
    return MZ_OK;
}

static mz_status find_splitting(const gguf_reader *r, const splitting **out) {
    const char *pre = "gpt-2"; /* files from before there was the key */
    size_t n = strlen(pre);
    MZ_TRY(mz_gguf_text(r->gguf, &r->ctx->error, key_pre, &pre, &n));
    const size_t n_known = sizeof splittings / sizeof splittings[0];
    char known[256] = "";
    size_t at = 0;
    for (size_t i = 0; i < n_known; i++) {
        const size_t length = strlen(splittings[i].name);
        if (length == n && memcmp(splittings[i].name, pre, n) == 0) {
            *out = &splittings[i];
            return MZ_OK;
        }
        if (at + length + 3 < sizeof known) {
            memcpy(known + at, ", ", 2);
            memcpy(known + at + 2, splittings[i].name, length + 1);
            at += length + 2;
        }
    }
    return mz_fail(&r->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s is \"%.*s\", supported: %s", r->path,
                   key_pre, (int)(n < 60 ? n : 60), pre, known + 2);
}

static mz_status read_gpt2(const gguf_reader *r) {
    mz_tokenizer *t = r->t;
    const splitting *s = NULL;
    MZ_TRY(find_splitting(r, &s));
    t->name = "byte-level BPE";
    t->bpe.byte_level = true;
    t->bpe.spelled = true;
    t->bpe.whole_word_first = s->whole_word_first;
    MZ_TRY(read_tokens(r, false));
    MZ_TRY(read_merges(r));
    MZ_TRY(read_special(r, s->adds_bos));
    mz_bpe_find_bytes(t);
    MZ_TRY(add_tokens(r, false));
    if (s->nfc) {
        MZ_TRY(mz_normalizer_add(&r->ctx->error, &t->normalizer, MZ_NORMALIZE_NFC, NULL, 0, NULL));
    }
    for (int i = 0; i < 2 && s->expressions[i] != NULL; i++) {
        MZ_TRY(mz_tokenizer_split_by(r->ctx, t, s->expressions[i]));
    }
    return MZ_OK;
}

static mz_status read_any(const gguf_reader *r) {
    const char *model = NULL;
    size_t n = 0;
    MZ_TRY(mz_gguf_text(r->gguf, &r->ctx->error, key_model, &model, &n));
    if (model == NULL) {
        return mz_fail(&r->ctx->error, MZ_ERR_MISSING,
                       "%s: %s is missing: no tokenizer in the file", r->path, key_model);
    }
    if (n == 5 && memcmp(model, "llama", 5) == 0) {
        return read_llama(r);
    }
    if (n == 4 && memcmp(model, "gpt2", 4) == 0) {
        return read_gpt2(r);
    }
    return mz_fail(&r->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s is \"%.*s\", supported: llama, gpt2",
                   r->path, key_model, (int)(n < 60 ? n : 60), model);
}

mz_status mz_tokenizer_open_gguf(mz_context *ctx, const mz_gguf *gguf, mz_tokenizer **out) {
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_create(ctx, &mz_tokenizer_bpe, "GGUF", &t));
    const gguf_reader r = {.ctx = ctx, .gguf = gguf, .t = t, .path = mz_gguf_path(gguf)};
    const mz_status status = read_any(&r);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}
