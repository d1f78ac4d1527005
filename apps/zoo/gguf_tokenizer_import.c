#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/gguf_tokenizer.h"
#include "apps/zoo/gguf_tokenizer_internal.h"
#include "core/file.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";
static const char scores_key[] = "tokenizer.ggml.scores";
static const char merges_key[] = "tokenizer.ggml.merges";

/* The metadata that a tokenizer is in, checked. */
typedef struct source {
    mz_context *ctx;
    const mz_gguf *gguf;
    const char *dir;
    int64_t n;
    bool has_types;
    int64_t bos, eos, unk, pad; /* -1: none */
    bool add_bos, add_eos, add_space_prefix;
} source;

static bool is_array(const mz_gguf *g, const char *key, mz_gguf_type element, int64_t *n) {
    mz_gguf_type type = MZ_GGUF_U8;
    mz_gguf_type found = MZ_GGUF_U8;
    return mz_gguf_has(g, key, &type, &found, n) && type == MZ_GGUF_ARRAY && found == element;
}

static bool is_text(const mz_gguf *g, const char *key, const char *expected) {
    mz_error err;
    const char *text = "";
    size_t n = 0;
    return mz_gguf_text(g, &err, key, &text, &n) == MZ_OK && n == strlen(expected) &&
           memcmp(text, expected, n) == 0;
}

static int32_t type_of(const source *s, int64_t i) {
    if (i == s->unk) {
        return MZ_PIECE_UNKNOWN;
    }
    const int64_t type = s->has_types ? mz_gguf_array_int(s->gguf, types_key, i) : MZ_PIECE_NORMAL;
    return type >= MZ_PIECE_NORMAL && type <= MZ_PIECE_BYTE && type != MZ_PIECE_UNKNOWN
               ? (int32_t)type
               : MZ_PIECE_NORMAL;
}

static mz_status open_source(source *s) {
    mz_error *err = &s->ctx->error;
    int64_t n_types = 0;
    s->has_types = is_array(s->gguf, types_key, MZ_GGUF_I32, &n_types) && n_types == s->n;
    s->bos = s->eos = s->unk = s->pad = -1;
    s->add_bos = is_text(s->gguf, "tokenizer.ggml.model", "llama");
    s->add_space_prefix = true;
    MZ_TRY(mz_gguf_int(s->gguf, err, "tokenizer.ggml.bos_token_id", 0, s->n - 1, &s->bos));
    MZ_TRY(mz_gguf_int(s->gguf, err, "tokenizer.ggml.eos_token_id", 0, s->n - 1, &s->eos));
    MZ_TRY(mz_gguf_int(s->gguf, err, "tokenizer.ggml.unknown_token_id", 0, s->n - 1, &s->unk));
    MZ_TRY(mz_gguf_int(s->gguf, err, "tokenizer.ggml.padding_token_id", 0, s->n - 1, &s->pad));
    MZ_TRY(mz_gguf_bool(s->gguf, err, "tokenizer.ggml.add_bos_token", &s->add_bos));
    MZ_TRY(mz_gguf_bool(s->gguf, err, "tokenizer.ggml.add_eos_token", &s->add_eos));
    return mz_gguf_bool(s->gguf, err, "tokenizer.ggml.add_space_prefix", &s->add_space_prefix);
}

/* ---- writing ---- */

static mz_status write_output(const source *s, const char *name, const void *data, size_t n) {
    char *path = NULL;
    mz_output out = {0};
    MZ_TRY(mz_path_join(s->ctx, s->dir, name, &path));
    mz_status status = mz_output_open(s->ctx, path, &out);
    if (status == MZ_OK) {
        (void)fwrite(data, 1, n, out.stream);
        status = mz_output_commit(s->ctx, &out);
    }
    mz_free(s->ctx, path);
    return status;
}

static mz_status out_of_memory(const source *s) {
    return mz_fail(&s->ctx->error, MZ_ERR_NOMEM, "out of memory for a tokenizer");
}

/* Takes `document` over. */
static mz_status write_json(const source *s, const char *name, json_t *document) {
    char *text = document != NULL ? json_dumps(document, JSON_INDENT(1)) : NULL;
    json_decref(document);
    if (text == NULL) {
        return out_of_memory(s);
    }
    const mz_status status = write_output(s, name, text, strlen(text));
    free(text);
    return status;
}

/* The text of a token as JSON, or NULL where it is no UTF-8. */
static json_t *text_of(const source *s, const char *key, int64_t i) {
    size_t n = 0;
    const char *text = mz_gguf_array_text(s->gguf, key, i, &n);
    return json_stringn(text, n);
}

static mz_status write_settings(const source *s, bool byte_level) {
    const struct {
        const char *name;
        int64_t id;
    } specials[] = {
        {"bos_token", s->bos}, {"eos_token", s->eos}, {"unk_token", s->unk}, {"pad_token", s->pad}};
    const char *template = NULL;
    size_t n = 0;
    json_t *o =
        json_pack("{s:s, s:b, s:b, s:b}", "tokenizer_class",
                  byte_level ? "PreTrainedTokenizerFast" : "LlamaTokenizer", "add_bos_token",
                  s->add_bos, "add_eos_token", s->add_eos, "clean_up_tokenization_spaces", 0);
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        if (specials[i].id >= 0) {
            (void)json_object_set_new(o, specials[i].name, text_of(s, tokens_key, specials[i].id));
        }
    }
    if (!byte_level) {
        (void)json_object_set_new(o, "legacy", json_false());
    }
    if (mz_gguf_text(s->gguf, &s->ctx->error, "tokenizer.chat_template", &template, &n) == MZ_OK &&
        template != NULL) {
        (void)json_object_set_new(o, "chat_template", json_stringn(template, n));
    }
    return write_json(s, "tokenizer_config.json", o);
}

/* ---- byte-level BPE ---- */

static json_t *make_splitting(const mz_pre_tokenizer *row) {
    json_t *steps = json_array();
    if (row->digits) {
        (void)json_array_append_new(
            steps, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    }
    if (row->regex != NULL) {
        (void)json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                                     "pattern", "Regex", row->regex, "behavior",
                                                     "Isolated", "invert", 0));
    }
    (void)json_array_append_new(steps, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
                                                 "add_prefix_space", 0, "trim_offsets", 1,
                                                 "use_regex", row->regex == NULL));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* Puts BOS in front where the tokenizer does. */
static json_t *make_post_processor(const source *s) {
    if (!s->add_bos || s->bos < 0) {
        return json_null();
    }
    json_t *text = text_of(s, tokens_key, s->bos);
    const char *bos = json_string_value(text);
    json_t *out =
        bos == NULL
            ? NULL
            : json_pack(
                  "{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[], s:{s:{s:s, s:[I], s:[s]}}}",
                  "type", "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id", 0,
                  "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens", bos, "id", bos,
                  "ids", (json_int_t)s->bos, "tokens", bos);
    json_decref(text);
    return out;
}

static mz_status fill_vocabulary(const source *s, json_t *words, json_t *added) {
    for (int64_t i = 0; i < s->n; i++) {
        const int32_t type = type_of(s, i);
        json_t *text = type == MZ_PIECE_UNUSED ? NULL : text_of(s, tokens_key, i);
        if (type == MZ_PIECE_UNUSED) {
            continue;
        }
        if (text == NULL || strlen(json_string_value(text)) != json_string_length(text)) {
            json_decref(text);
            return mz_fail(&s->ctx->error, MZ_ERR_FORMAT, "%s: token %lld is no text",
                           mz_gguf_path(s->gguf), (long long)i);
        }
        if (type == MZ_PIECE_NORMAL || type == MZ_PIECE_BYTE) {
            (void)json_object_set_new(words, json_string_value(text), json_integer(i));
        } else {
            (void)json_array_append_new(
                added,
                json_pack("{s:I, s:O, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                          text, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized",
                          type == MZ_PIECE_USER_DEFINED, "special", type != MZ_PIECE_USER_DEFINED));
        }
        json_decref(text);
    }
    return MZ_OK;
}

static mz_status fill_merges(const source *s, json_t *merges) {
    int64_t n = 0;
    if (!is_array(s->gguf, merges_key, MZ_GGUF_STRING, &n)) {
        return mz_fail(&s->ctx->error, MZ_ERR_FORMAT, "%s: no texts %s", mz_gguf_path(s->gguf),
                       merges_key);
    }
    for (int64_t i = 0; i < n; i++) {
        if (json_array_append_new(merges, text_of(s, merges_key, i)) != 0) {
            return mz_fail(&s->ctx->error, MZ_ERR_FORMAT, "%s: merge %lld is no text",
                           mz_gguf_path(s->gguf), (long long)i);
        }
    }
    return MZ_OK;
}

static mz_status import_bpe(const source *s, const mz_pre_tokenizer *row) {
    json_t *words = json_object();
    json_t *added = json_array();
    json_t *merges = json_array();
    mz_status status = fill_vocabulary(s, words, added);
    if (status == MZ_OK) {
        status = fill_merges(s, merges);
    }
    if (status != MZ_OK) {
        json_decref(words);
        json_decref(added);
        json_decref(merges);
        return status;
    }
    json_t *normalizer = row->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *document = json_pack(
        "{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:n, s:n, s:n, s:n, "
        "s:b, s:b, s:b, s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", normalizer,
        "pre_tokenizer", make_splitting(row), "post_processor", make_post_processor(s), "decoder",
        "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1, "model",
        "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", row->ignore_merges, "vocab", words,
        "merges", merges);
    MZ_TRY(write_json(s, "tokenizer.json", document));
    return write_settings(s, true);
}

/* ---- SentencePiece BPE ---- */

/* A protocol buffer in the making. */
typedef struct proto {
    mz_context *ctx;
    uint8_t *bytes;
    size_t n, capacity;
} proto;

static mz_status put(proto *p, const void *data, size_t n) {
    void *bytes = p->bytes;
    MZ_TRY(mz_grow(p->ctx, &bytes, &p->capacity, p->n + n, 1, "SentencePiece model"));
    p->bytes = bytes;
    if (n > 0) {
        memcpy(p->bytes + p->n, data, n);
    }
    p->n += n;
    return MZ_OK;
}

static mz_status put_varint(proto *p, uint64_t value) {
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
    } while (value > 0);
    return put(p, bytes, n);
}

static mz_status put_number(proto *p, uint64_t tag, int64_t value) {
    MZ_TRY(put_varint(p, tag << 3));
    return put_varint(p, (uint64_t)value);
}

static mz_status put_bytes(proto *p, uint64_t tag, const void *data, size_t n) {
    MZ_TRY(put_varint(p, tag << 3 | 2));
    MZ_TRY(put_varint(p, n));
    return put(p, data, n);
}

/* User-defined pieces have real spaces in GGUF files, and U+2581 in the model. */
static mz_status put_piece_text(const source *s, proto *piece, int64_t i, int32_t type) {
    size_t n = 0;
    const char *text = mz_gguf_array_text(s->gguf, tokens_key, i, &n);
    proto spelt = {.ctx = s->ctx};
    mz_status status = MZ_OK;
    if (type != MZ_PIECE_USER_DEFINED) {
        return put_bytes(piece, MZ_PROTO_PIECE_TEXT, text, n);
    }
    for (size_t k = 0; k < n && status == MZ_OK; k++) {
        status = text[k] == ' ' ? put(&spelt, MZ_SPACE, 3) : put(&spelt, text + k, 1);
    }
    if (status == MZ_OK) {
        status = put_bytes(piece, MZ_PROTO_PIECE_TEXT, spelt.bytes, spelt.n);
    }
    mz_free(s->ctx, spelt.bytes);
    return status;
}

static mz_status put_piece(const source *s, proto *model, proto *piece, int64_t i) {
    const int32_t type = type_of(s, i);
    const float score = (float)mz_gguf_array_number(s->gguf, scores_key, i);
    piece->n = 0;
    MZ_TRY(put_piece_text(s, piece, i, type));
    MZ_TRY(put_varint(piece, MZ_PROTO_PIECE_SCORE << 3 | 5));
    MZ_TRY(put(piece, &score, sizeof score));
    if (type != MZ_PIECE_NORMAL) {
        MZ_TRY(put_number(piece, MZ_PROTO_PIECE_TYPE, type));
    }
    return put_bytes(model, MZ_PROTO_PIECES, piece->bytes, piece->n);
}

static mz_status put_trainer(const source *s, proto *model, proto *trainer) {
    const struct {
        uint64_t id_tag, piece_tag;
        int64_t id;
    } specials[] = {{MZ_PROTO_UNK_ID, MZ_PROTO_UNK_PIECE, s->unk},
                    {MZ_PROTO_BOS_ID, MZ_PROTO_BOS_PIECE, s->bos},
                    {MZ_PROTO_EOS_ID, MZ_PROTO_EOS_PIECE, s->eos},
                    {MZ_PROTO_PAD_ID, MZ_PROTO_PAD_PIECE, s->pad}};
    bool bytes = false;
    for (int64_t i = 0; i < s->n && !bytes; i++) {
        bytes = type_of(s, i) == MZ_PIECE_BYTE;
    }
    trainer->n = 0;
    MZ_TRY(put_number(trainer, MZ_PROTO_MODEL_TYPE, 2));
    MZ_TRY(put_number(trainer, MZ_PROTO_BYTE_FALLBACK, bytes));
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        MZ_TRY(put_number(trainer, specials[i].id_tag, specials[i].id));
        if (specials[i].id >= 0) {
            size_t n = 0;
            const char *text = mz_gguf_array_text(s->gguf, tokens_key, specials[i].id, &n);
            MZ_TRY(put_bytes(trainer, specials[i].piece_tag, text, n));
        }
    }
    return put_bytes(model, MZ_PROTO_TRAINER, trainer->bytes, trainer->n);
}

static mz_status put_normalizer(const source *s, proto *model, proto *normalizer) {
    normalizer->n = 0;
    MZ_TRY(put_bytes(normalizer, 1, "identity", 8));
    MZ_TRY(put_number(normalizer, MZ_PROTO_DUMMY_PREFIX, s->add_space_prefix));
    MZ_TRY(put_number(normalizer, MZ_PROTO_EXTRA_SPACES, 0));
    MZ_TRY(put_number(normalizer, MZ_PROTO_ESCAPE_SPACES, 1));
    return put_bytes(model, MZ_PROTO_NORMALIZER, normalizer->bytes, normalizer->n);
}

static mz_status import_spm(const source *s) {
    proto model = {.ctx = s->ctx};
    proto part = {.ctx = s->ctx};
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < s->n && status == MZ_OK; i++) {
        status = put_piece(s, &model, &part, i);
    }
    if (status == MZ_OK) {
        status = put_trainer(s, &model, &part);
    }
    if (status == MZ_OK) {
        status = put_normalizer(s, &model, &part);
    }
    if (status == MZ_OK) {
        status = write_output(s, "tokenizer.model", model.bytes, model.n);
    }
    mz_free(s->ctx, model.bytes);
    mz_free(s->ctx, part.bytes);
    return status != MZ_OK ? status : write_settings(s, false);
}

/* ---- */

mz_status mz_gguf_tokenizer_import(mz_context *ctx, const mz_gguf *gguf, const char *dir,
                                   char *note, size_t note_bytes) {
    source s = {.ctx = ctx, .gguf = gguf, .dir = dir};
    int64_t n_scores = 0;
    note[0] = '\0';
    if (!is_array(gguf, tokens_key, MZ_GGUF_STRING, &s.n) || s.n < 1) {
        (void)snprintf(note, note_bytes, "the file has no tokenizer");
        return MZ_OK;
    }
    MZ_TRY(open_source(&s));
    if (is_text(gguf, "tokenizer.ggml.model", "llama") &&
        is_array(gguf, scores_key, MZ_GGUF_F32, &n_scores) && n_scores == s.n && s.unk >= 0) {
        return import_spm(&s);
    }
    for (int i = 0; is_text(gguf, "tokenizer.ggml.model", "gpt2") && mz_pre_tokenizer_at(i) != NULL;
         i++) {
        if (is_text(gguf, "tokenizer.ggml.pre", mz_pre_tokenizer_at(i)->pre)) {
            return import_bpe(&s, mz_pre_tokenizer_at(i));
        }
    }
    (void)snprintf(note, note_bytes,
                   "the tokenizer is of a kind that has no published files here (only gpt2 with "
                   "gpt-2, smollm, qwen2 or llama-bpe splitting, and llama with scores)");
    return MZ_OK;
}
