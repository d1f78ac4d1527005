#include <string.h>

#include "llm/tokenizer_internal.h"
#include "llm/utf8.h"

const char mz_expression_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char mz_expression_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{"
                                   "N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                                   "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char mz_expression_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

mz_status mz_tokenizer_split_by(mz_context *ctx, mz_tokenizer *t, const char *expression) {
    mz_expression *e = NULL;
    MZ_TRY(mz_expression_compile(ctx, "tokenizer", expression, strlen(expression), &e));
    const mz_status status =
        mz_text_splitter_add(&ctx->error, &t->splitter, e, MZ_SPLIT_ISOLATED, false);
    if (status != MZ_OK) {
        mz_expression_destroy(ctx, e);
    }
    return status;
}

void mz_bpe_find_bytes(mz_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char text[8];
        size_t n = 1;
        if (!t->bpe.byte_level) {
            static const char digits[] = "0123456789ABCDEF";
            memcpy(text, "<0x..>", 6);
            text[3] = digits[b / 16];
            text[4] = digits[b % 16];
            n = 6;
        } else if (t->bpe.spelled) {
            n = mz_utf8_encode(mz_byte_alphabet_code((uint8_t)b), text);
        } else {
            text[0] = (char)b;
        }
        t->bpe.byte_ids[b] = mz_vocabulary_find(&t->vocabulary, text, n);
    }
}

mz_status mz_bpe_add_merge(mz_context *ctx, mz_tokenizer *t, const char *name, const char *left,
                           size_t n_left, const char *right, size_t n_right, uint32_t rank) {
    const int32_t a = mz_vocabulary_find(&t->vocabulary, left, n_left);
    const int32_t b = mz_vocabulary_find(&t->vocabulary, right, n_right);
    int32_t joined = -1;
    if (a >= 0 && b >= 0 && n_left + n_right <= t->vocabulary.longest) {
        char few[256];
        void *memory = few;
        if (n_left + n_right > sizeof few) {
            MZ_TRY(mz_alloc(ctx, n_left + n_right, "merges", &memory));
        }
        memcpy(memory, left, n_left);
        memcpy((char *)memory + n_left, right, n_right);
        joined = mz_vocabulary_find(&t->vocabulary, memory, n_left + n_right);
        if (memory != few) {
            mz_free(ctx, memory);
        }
    }
    if (joined < 0) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "%s: merge %u joins \"%.*s\" and \"%.*s\", of which %s no token", name, rank,
                       (int)(n_left < 60 ? n_left : 60), left, (int)(n_right < 60 ? n_right : 60),
                       right, a < 0 || b < 0 ? "one is" : "both together are");
    }
    mz_merge_table_add(&t->bpe.pairs, a, b, rank, joined);
    return MZ_OK;
}

/* What encoding one text needs; one thread. */
typedef struct encode_state {
    const mz_tokenizer *t;
    mz_token_list *list;
    bool parse_special;
    bool is_first; /* nothing of the text has been encoded yet */
    const char *word;
    mz_merge_work merge;
    mz_text_splitting splitting;
    mz_text_buffer normalized, spaced, scratch;
} encode_state;

static bool lookup_pair(const void *arg, const mz_merge_symbol *left, const mz_merge_symbol *right,
                        uint32_t *rank, int32_t *id) {
    const encode_state *s = arg;
    /* A text that spells a control token does not become one: where it may, it was cut out before.
     */
    return left->id >= 0 && right->id >= 0 &&
           mz_merge_table_find(&s->t->bpe.pairs, left->id, right->id, rank, id) &&
           s->t->vocabulary.pieces[*id].type != MZ_PIECE_CONTROL;
}

/* Higher scores get lower ranks. */
static uint32_t rank_of_score(float score) {
    uint32_t bits = 0;
    memcpy(&bits, &score, sizeof bits);
    const uint32_t rising = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
    return ~rising;
}

static bool lookup_text(const void *arg, const mz_merge_symbol *left, const mz_merge_symbol *right,
                        uint32_t *rank, int32_t *id) {
    const encode_state *s = arg;
    const mz_vocabulary *v = &s->t->vocabulary;
    *id = mz_vocabulary_find(v, s->word + left->start, (size_t)left->n_bytes + right->n_bytes);
    if (*id < 0) {
        return false;
    }
    const mz_piece *piece = &v->pieces[*id];
    if (piece->type != MZ_PIECE_NORMAL && piece->type != MZ_PIECE_USER_DEFINED) {
        return false;
    }
    /* -0 and 0 are one score. */
    *rank =
        s->t->bpe.lookup == MZ_BPE_TEXT_RANK ? (uint32_t)*id : rank_of_score(piece->score + 0.0F);
    return true;
}

/* Whether all bytes of a character have tokens. */
static bool has_bytes(const mz_bpe *bpe, const char *text, size_t n_bytes) {
    bool all = bpe->byte_fallback;
    for (size_t i = 0; i < n_bytes && all; i++) {
        all = bpe->byte_ids[(uint8_t)text[i]] >= 0;
    }
    return all;
}

mz_status mz_bpe_push_spelt(mz_context *ctx, const mz_bpe *bpe, const char *text, size_t n_bytes,
                            bool fused, mz_token_list *list) {
    if (!has_bytes(bpe, text, n_bytes)) {
        const bool again = fused && list->n > 0 && list->ids[list->n - 1] == bpe->unknown;
        return bpe->unknown < 0 || again ? MZ_OK : mz_token_list_push(ctx, list, bpe->unknown);
    }
    for (size_t i = 0; i < n_bytes; i++) {
        MZ_TRY(mz_token_list_push(ctx, list, bpe->byte_ids[(uint8_t)text[i]]));
    }
    return MZ_OK;
}

/* The symbols that a word begins as. */
static mz_status begin_word(mz_context *ctx, encode_state *s, const char *word, size_t n_bytes) {
    const mz_bpe *bpe = &s->t->bpe;
    s->merge.n_symbols = 0;
    if (bpe->byte_level) {
        for (size_t i = 0; i < n_bytes; i++) {
            MZ_TRY(mz_merge_push(ctx, &s->merge, i, 1, bpe->byte_ids[(uint8_t)word[i]]));
        }
        return MZ_OK;
    }
    for (size_t i = 0; i < n_bytes;) {
        int n = mz_utf8_decode(word + i, n_bytes - i, NULL);
        n = n > 0 ? n : 1;
        int32_t id = mz_vocabulary_find(&s->t->vocabulary, word + i, (size_t)n);
        id = mz_tokenizer_is_control(s->t, id) ? -1 : id;
        if (id < 0 && bpe->lookup == MZ_BPE_PAIRS && has_bytes(bpe, word + i, (size_t)n)) {
            /* Byte tokens can be part of merges like any other. */
            for (int k = 0; k < n; k++) {
                MZ_TRY(mz_merge_push(ctx, &s->merge, i + (size_t)k, 1,
                                     bpe->byte_ids[(uint8_t)word[i + (size_t)k]]));
            }
        } else {
            MZ_TRY(mz_merge_push(ctx, &s->merge, i, (size_t)n, id));
        }
        i += (size_t)n;
    }
    return MZ_OK;
}

/* A token that a text may become; control and added tokens have been cut out where they may. */
static int32_t find_normal(const mz_vocabulary *v, const char *text, size_t n_bytes) {
    const int32_t id = mz_vocabulary_find(v, text, n_bytes);
    return id >= 0 && v->pieces[id].type == MZ_PIECE_NORMAL ? id : -1;
}

/* The token that is the whole word, or -1. */
static int32_t find_word(const encode_state *s, const char *word, size_t n_bytes) {
    const mz_vocabulary *v = &s->t->vocabulary;
    if (!s->t->bpe.byte_level || !s->t->bpe.spelled) {
        return find_normal(v, word, n_bytes);
    }
    char spelled[256];
    if (n_bytes > sizeof spelled / 2) {
        return -1;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        char one[4];
        const size_t length = mz_utf8_encode(mz_byte_alphabet_code((uint8_t)word[i]), one);
        memcpy(spelled + n, one, length);
        n += length;
    }
    return find_normal(v, spelled, n);
}

static mz_status encode_word(mz_context *ctx, void *arg, const char *word, size_t n_bytes) {
    encode_state *s = arg;
    const mz_bpe *bpe = &s->t->bpe;
    if (bpe->whole_word_first) {
        const int32_t id = find_word(s, word, n_bytes);
        if (id >= 0) {
            return mz_token_list_push(ctx, s->list, id);
        }
    }
    s->word = word;
    const int64_t begins = s->list->n;
    MZ_TRY(begin_word(ctx, s, word, n_bytes));
    MZ_TRY(
        mz_merge_run(ctx, &s->merge, bpe->lookup == MZ_BPE_PAIRS ? lookup_pair : lookup_text, s));
    for (int32_t i = s->merge.n_symbols > 0 ? 0 : -1; i >= 0;) {
        const mz_merge_symbol *symbol = &s->merge.symbols[i];
        if (symbol->id >= 0) {
            MZ_TRY(mz_token_list_push(ctx, s->list, symbol->id));
        } else {
            MZ_TRY(mz_bpe_push_spelt(ctx, bpe, word + symbol->start, symbol->n_bytes,
                                     bpe->fuse_unknown && s->list->n > begins, s->list));
        }
        i = symbol->next;
    }
    return MZ_OK;
}

/* A stretch without added tokens, normalised. */
static mz_status encode_normalized(mz_context *ctx, encode_state *s, const char *text,
                                   size_t n_bytes, bool is_first) {
    const mz_tokenizer *t = s->t;
    if (t->metaspace.n_steps > 0) {
        MZ_TRY(mz_normalizer_apply(ctx, &t->metaspace, text, n_bytes, is_first, &s->spaced,
                                   &s->scratch));
        text = s->spaced.data;
        n_bytes = s->spaced.n;
    } else if (t->bpe.prefix_space && n_bytes > 0 && text[0] != ' ') {
        s->spaced.n = 0;
        MZ_TRY(mz_text_buffer_put(ctx, &s->spaced, " ", 1));
        MZ_TRY(mz_text_buffer_put(ctx, &s->spaced, text, n_bytes));
        text = s->spaced.data;
        n_bytes = s->spaced.n;
    }
    return mz_text_splitting_run(ctx, &s->splitting, text, n_bytes, encode_word, s);
}

/* A stretch without the added tokens that are looked for in the text as it is. */
static mz_status encode_stretch(mz_context *ctx, encode_state *s, const char *text,
                                size_t n_bytes) {
    const mz_tokenizer *t = s->t;
    if (t->normalizer.n_steps > 0) {
        MZ_TRY(mz_normalizer_apply(ctx, &t->normalizer, text, n_bytes, s->is_first, &s->normalized,
                                   &s->scratch));
        text = s->normalized.data;
        n_bytes = s->normalized.n;
    }
    mz_added_cursor cursor = {0};
    mz_added_cut cut;
    while (mz_added_next(t, &t->normalized, s->parse_special, text, n_bytes, &cursor, &cut)) {
        if (cut.id >= 0) {
            MZ_TRY(mz_token_list_push(ctx, s->list, cut.id));
        } else {
            MZ_TRY(encode_normalized(ctx, s, text + cut.start, cut.end - cut.start,
                                     s->is_first && cut.start == 0));
        }
    }
    return MZ_OK;
}

static mz_status encode_all(mz_context *ctx, encode_state *s, const char *text, size_t n_bytes) {
    const mz_tokenizer *t = s->t;
    MZ_TRY(mz_text_splitting_begin(ctx, &t->splitter, &s->splitting));
    mz_added_cursor cursor = {0};
    mz_added_cut cut;
    while (mz_added_next(t, &t->raw, s->parse_special, text, n_bytes, &cursor, &cut)) {
        if (cut.id >= 0) {
            MZ_TRY(mz_token_list_push(ctx, s->list, cut.id));
        } else {
            MZ_TRY(encode_stretch(ctx, s, text + cut.start, cut.end - cut.start));
        }
        s->is_first = false;
    }
    return MZ_OK;
}

static mz_status encode(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes,
                        const mz_encode_options *options, mz_token_list *list) {
    encode_state s = {.t = t,
                      .list = list,
                      .parse_special = options->parse_special,
                      .is_first = !options->continues};
    const mz_status status = encode_all(ctx, &s, text, n_bytes);
    mz_text_splitting_end(ctx, &s.splitting);
    mz_merge_work_free(ctx, &s.merge);
    mz_free(ctx, s.normalized.data);
    mz_free(ctx, s.spaced.data);
    mz_free(ctx, s.scratch.data);
    return status;
}

const mz_tokenizer_encoder mz_tokenizer_bpe = {.encode = encode};
