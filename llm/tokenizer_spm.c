#include <string.h>

#include "core/file.h"
#include "llm/sentencepiece_model.h"
#include "llm/tokenizer_internal.h"

static const size_t max_model_bytes = (size_t)256 << 20;

/* --- Reading --------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
    [1] = "SentencePiece unigram",
    [2] = "SentencePiece BPE",
    [3] = "SentencePiece words",
    [4] = "SentencePiece characters",
};

/* Id of a control piece by its name, -1 where there is none. */
static int32_t control_id(const mz_vocabulary *v, const char *text) {
    const int32_t id = mz_vocabulary_find(v, text, strlen(text));
    return id >= 0 && v->pieces[id].type == MZ_PIECE_CONTROL ? id : -1;
}

static mz_status read_model(mz_context *ctx, const char *data, size_t n_bytes, const char *name,
                            mz_tokenizer *t) {
    mz_sentencepiece_info info;
    mz_vocabulary *v = &t->vocabulary;
    MZ_TRY(mz_sentencepiece_read(ctx, data, n_bytes, name, v, &info));
    t->name = kind_names[info.model_type];
    t->special[MZ_TOKEN_BOS] = control_id(v, info.bos);
    t->special[MZ_TOKEN_EOS] = control_id(v, info.eos);
    t->special[MZ_TOKEN_PAD] = control_id(v, info.pad);
    t->decode.kind = MZ_DECODE_SENTENCEPIECE;
    t->decode.strip_first = info.add_dummy_prefix;
    t->decode.strip_spaces = info.remove_extra_whitespaces;
    memcpy(t->decode.unknown, info.unknown, sizeof info.unknown);
    t->decode.n_pieces = (int32_t)v->n;
    for (int64_t i = 0; i < v->n; i++) {
        if (v->pieces[i].type == MZ_PIECE_UNKNOWN) {
            t->special[MZ_TOKEN_UNKNOWN] = (int32_t)i;
        } else if (v->pieces[i].type == MZ_PIECE_CONTROL) {
            MZ_TRY(mz_added_token_add(ctx, t, &(mz_added_token){.id = (int32_t)i, .control = true},
                                      false));
        }
    }
    t->spm.is_unigram = info.model_type == 1;
    t->bpe.unknown = t->special[MZ_TOKEN_UNKNOWN];
    t->bpe.byte_fallback = info.byte_fallback;
    if (t->spm.is_unigram) {
        mz_bpe_find_bytes(t);
        MZ_TRY(mz_unigram_build(ctx, v, &t->spm.unigram));
    }
    /* The library is given it when the configuration has been read, which may change it. */
    void *memory = NULL;
    MZ_TRY(mz_alloc(ctx, n_bytes + 4, name, &memory));
    memcpy(memory, data, n_bytes);
    t->spm.data = memory;
    t->spm.n_data = n_bytes;
    return MZ_OK;
}

mz_status mz_tokenizer_parse_spm(mz_context *ctx, const char *data, size_t n_bytes,
                                 const char *name, mz_tokenizer **out) {
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_create(ctx, &mz_tokenizer_spm, "SentencePiece", &t));
    const mz_status status = read_model(ctx, data, n_bytes, name, t);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}

mz_status mz_tokenizer_read_spm(mz_context *ctx, const char *path, mz_tokenizer **out) {
    char *data = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_file_read(ctx, path, max_model_bytes, &data, &n_bytes));
    const mz_status status = mz_tokenizer_parse_spm(ctx, data, n_bytes, path, out);
    mz_free(ctx, data);
    return status;
}

mz_status mz_spm_configure(const mz_json_object *o, const char *class_name, mz_tokenizer *t) {
    if (strncmp(class_name, "LlamaTokenizer", 14) != 0) {
        return MZ_OK;
    }
    bool legacy = true;
    bool prefix_space = true;
    MZ_TRY(mz_json_bool_or(o, "legacy", true, &legacy));
    MZ_TRY(mz_json_bool_or(o, "add_prefix_space", true, &prefix_space));
    t->decode.kind = MZ_DECODE_LLAMA;
    t->decode.legacy = legacy;
    t->decode.prefix_space = prefix_space;
    t->spm.first_only = !legacy;
    t->spm.prefix_space = prefix_space;
    if (!legacy) {
        /* A model's parts may come in pieces: this one says add_dummy_prefix = false. */
        static const char no_prefix[4] = {0x1A, 0x02, 0x18, 0x00};
        memcpy(t->spm.data + t->spm.n_data, no_prefix, sizeof no_prefix);
        t->spm.n_data += sizeof no_prefix;
        t->decode.strip_first = false;
    }
    return MZ_OK;
}

/* --- Encoding -------------------------------------------------------------------------------- */

typedef struct taker {
    mz_context *ctx;
    const mz_tokenizer *t;
    mz_token_list *list;
    mz_text_buffer normalized;
} taker;

static mz_status take_id(void *arg, int32_t id) {
    taker *to = arg;
    return mz_token_list_push(to->ctx, to->list, id);
}

static mz_status take_text(void *arg, const char *piece, size_t n_bytes) {
    taker *to = arg;
    const mz_vocabulary *v = &to->t->vocabulary;
    const int32_t id = mz_vocabulary_find(v, piece, n_bytes);
    if (id >= 0 && v->pieces[id].type == MZ_PIECE_BYTE) {
        const char byte = (char)mz_byte_piece_value(piece, n_bytes);
        return mz_text_buffer_put(to->ctx, &to->normalized, &byte, 1);
    }
    return mz_text_buffer_put(to->ctx, &to->normalized, piece, n_bytes);
}

static mz_status cut_unigram(taker *to) {
    const mz_tokenizer *t = to->t;
    mz_unigram_piece *pieces = NULL;
    size_t n = 0;
    mz_status status = mz_unigram_cut(to->ctx, &t->spm.unigram, &t->vocabulary, to->normalized.data,
                                      to->normalized.n, &pieces, &n);
    for (size_t i = 0; i < n && status == MZ_OK; i++) {
        const mz_unigram_piece *p = &pieces[i];
        status = p->id >= 0 ? mz_token_list_push(to->ctx, to->list, p->id)
                            : mz_bpe_push_spelt(to->ctx, &t->bpe, to->normalized.data + p->start,
                                                p->end - p->start, i > 0 && pieces[i - 1].id < 0,
                                                to->list);
    }
    mz_free(to->ctx, pieces);
    return status;
}

/* What the library's Encode gives. */
static mz_status encode_piece(mz_context *ctx, const mz_tokenizer *t, const char *text,
                              size_t n_bytes, mz_token_list *list) {
    taker to = {.ctx = ctx, .t = t, .list = list};
    mz_error *err = &ctx->error;
    if (!t->spm.is_unigram) {
        return mz_sentencepiece_encode(err, t->spm.library, text, n_bytes, take_id, &to);
    }
    mz_status status = mz_sentencepiece_pieces(err, t->spm.library, text, n_bytes, take_text, &to);
    if (status == MZ_OK) {
        status = cut_unigram(&to);
    }
    mz_free(ctx, to.normalized.data);
    return status;
}

static bool begins_with_space(const char *text, size_t n_bytes) {
    return (n_bytes >= 1 && text[0] == ' ') ||
           (n_bytes >= 3 && memcmp(text, MZ_SPACE_PIECE, 3) == 0);
}

/* Takes out the ids from `first` on, `n` of them at most. */
static void remove_ids(mz_token_list *list, int64_t first, int64_t n) {
    n = list->n - first >= n ? n : 0;
    if (n > 0) {
        memmove(list->ids + first, list->ids + first + n,
                (size_t)(list->n - first - n) * sizeof *list->ids);
        list->n -= n;
    }
}

static mz_status encode_stretch(mz_context *ctx, const mz_tokenizer *t, const char *text,
                                size_t n_bytes, mz_token_list *list) {
    const mz_spm_plan *spm = &t->spm;
    if (!spm->first_only || !begins_with_space(text, n_bytes)) {
        return encode_piece(ctx, t, text, n_bytes, list);
    }
    /* As LlamaTokenizer does it: the unknown token's text in front keeps the space from being taken
     * for one too many; its own tokens are left out. */
    mz_text_buffer b = {0};
    const int64_t before = list->n;
    mz_status status = mz_text_buffer_put(ctx, &b, spm->unknown_text, spm->n_unknown_text);
    if (status == MZ_OK) {
        status = mz_text_buffer_put(ctx, &b, text, n_bytes);
    }
    if (status == MZ_OK) {
        status = encode_piece(ctx, t, b.data, b.n, list);
    }
    if (status == MZ_OK) {
        remove_ids(list, before, spm->n_unknown);
    }
    mz_free(ctx, b.data);
    return status;
}

static mz_status encode_cut(mz_context *ctx, const mz_tokenizer *t, const char *text,
                            size_t n_bytes, bool parse_special, mz_token_list *list) {
    mz_added_cursor cursor = {0};
    mz_added_cut cut;
    while (mz_added_next(t, &t->raw, parse_special, text, n_bytes, &cursor, &cut)) {
        if (cut.id >= 0) {
            MZ_TRY(mz_token_list_push(ctx, list, cut.id));
        } else {
            MZ_TRY(encode_stretch(ctx, t, text + cut.start, cut.end - cut.start, list));
        }
    }
    return MZ_OK;
}

/* A dummy space that nothing but a special token follows is taken away. */
static void drop_lone_space(const mz_tokenizer *t, mz_token_list *list, int64_t before) {
    const int32_t space = mz_vocabulary_find(&t->vocabulary, MZ_SPACE_PIECE, 3);
    if (list->n - before > 1 && list->ids[before] == space &&
        mz_tokenizer_is_control(t, list->ids[before + 1])) {
        remove_ids(list, before, 1);
    }
}

/* LlamaTokenizer with legacy=False: U+2581 is a space, and the dummy space stands at the beginning
 * of the whole text only. */
static mz_status encode_once(mz_context *ctx, const mz_tokenizer *t, const char *text,
                             size_t n_bytes, const mz_encode_options *o, mz_token_list *list) {
    mz_text_buffer b = {0};
    mz_status status = MZ_OK;
    const bool prefixed = t->spm.prefix_space && !o->continues;
    if (prefixed) {
        status = mz_text_buffer_put(ctx, &b, MZ_SPACE_PIECE, 3);
    }
    size_t done = 0;
    for (size_t i = 0; i + 3 <= n_bytes && status == MZ_OK;) {
        if (memcmp(text + i, MZ_SPACE_PIECE, 3) != 0) {
            i++;
            continue;
        }
        status = mz_text_buffer_put(ctx, &b, text + done, i - done);
        if (status == MZ_OK) {
            status = mz_text_buffer_put(ctx, &b, " ", 1);
        }
        i += 3;
        done = i;
    }
    if (status == MZ_OK) {
        status = mz_text_buffer_put(ctx, &b, text + done, n_bytes - done);
    }
    const int64_t before = list->n;
    if (status == MZ_OK) {
        status = encode_cut(ctx, t, b.data, b.n, o->parse_special, list);
    }
    if (status == MZ_OK && prefixed) {
        drop_lone_space(t, list, before);
    }
    mz_free(ctx, b.data);
    return status;
}

static mz_status encode(mz_context *ctx, const mz_tokenizer *t, const char *text, size_t n_bytes,
                        const mz_encode_options *options, mz_token_list *list) {
    if (t->spm.first_only) {
        return encode_once(ctx, t, text, n_bytes, options, list);
    }
    return encode_cut(ctx, t, text, n_bytes, options->parse_special, list);
}

const mz_tokenizer_encoder mz_tokenizer_spm = {.encode = encode};

mz_status mz_spm_load(mz_context *ctx, mz_tokenizer *t) {
    mz_spm_plan *spm = &t->spm;
    MZ_TRY(mz_sentencepiece_load(&ctx->error, spm->data, spm->n_data, "tokenizer", &spm->library));
    mz_free(ctx, spm->data);
    spm->data = NULL;
    size_t n = 0;
    const char *text = mz_vocabulary_text(&t->vocabulary, t->special[MZ_TOKEN_UNKNOWN], &n);
    if (spm->first_only && n < sizeof spm->unknown_text) {
        memcpy(spm->unknown_text, text, n);
        spm->n_unknown_text = n;
        mz_token_list list = {0};
        const mz_status status = encode_piece(ctx, t, text, n, &list);
        spm->n_unknown = list.n;
        mz_token_list_free(ctx, &list);
        return status;
    }
    return MZ_OK;
}
