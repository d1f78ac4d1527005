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

static mz_status count(void *arg, int32_t id) {
    size_t *n = arg;
    (void)id;
    (*n)++;
    return MZ_OK;
}

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
        MZ_TRY(mz_sentencepiece_encode(&ctx->error, spm->library, text, n, count, &spm->n_unknown));
    }
    return MZ_OK;
}

/* --- Encoding -------------------------------------------------------------------------------- */

typedef struct taker {
    mz_context *ctx;
    mz_token_list *list;
    size_t n_skip;
} taker;

static mz_status take(void *arg, int32_t id) {
    taker *t = arg;
    if (t->n_skip > 0) {
        t->n_skip--;
        return MZ_OK;
    }
    return mz_token_list_push(t->ctx, t->list, id);
}

static bool begins_with_space(const char *text, size_t n_bytes) {
    return (n_bytes >= 1 && text[0] == ' ') ||
           (n_bytes >= 3 && memcmp(text, MZ_SPACE_PIECE, 3) == 0);
}

static mz_status encode_stretch(mz_context *ctx, const mz_tokenizer *t, const char *text,
                                size_t n_bytes, mz_token_list *list) {
    const mz_spm_plan *spm = &t->spm;
    taker to = {.ctx = ctx, .list = list};
    if (!spm->first_only || !begins_with_space(text, n_bytes)) {
        return mz_sentencepiece_encode(&ctx->error, spm->library, text, n_bytes, take, &to);
    }
    /* As LlamaTokenizer does it: the unknown token's text in front keeps the space from being taken
     * for one too many; its own tokens are left out. */
    mz_text_buffer b = {0};
    to.n_skip = spm->n_unknown;
    mz_status status = mz_text_buffer_put(ctx, &b, spm->unknown_text, spm->n_unknown_text);
    if (status == MZ_OK) {
        status = mz_text_buffer_put(ctx, &b, text, n_bytes);
    }
    if (status == MZ_OK) {
        status = mz_sentencepiece_encode(&ctx->error, spm->library, b.data, b.n, take, &to);
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
        memmove(list->ids + before, list->ids + before + 1,
                (size_t)(list->n - before - 1) * sizeof *list->ids);
        list->n--;
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
