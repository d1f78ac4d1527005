#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "apps/zoo/gguf_tokenizer.h"
#include "apps/zoo/gguf_tokenizer_internal.h"
#include "core/file.h"
#include "core/json.h"
#include "llm/sentencepiece_model.h"

enum {
    MAX_MODEL_BYTES = 64 << 20,
    MAX_TEMPLATE_BYTES = 1 << 20,
    UNKNOWN = 2 /* in the order of special tokens below */
};

/* The splitting expressions of the families' tokenizer.json files. */
#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const mz_pre_tokenizer *mz_pre_tokenizer_at(int i) {
    static const mz_pre_tokenizer rows[] = {
        {"gpt-2", NULL, false, false, false},
        {"smollm", NULL, true, false, false},
        {"qwen2", WORDS "\\p{N}" REST, false, true, false},
        {"llama-bpe", WORDS "\\p{N}{1,3}" REST, false, false, true},
    };
    return i < (int)(sizeof rows / sizeof rows[0]) ? &rows[i] : NULL;
}

/* A vocabulary by ids; the texts belong to the documents it was read from. */
typedef struct token {
    const char *text; /* not NUL-terminated; NULL: none */
    size_t n_bytes;
    float score;
    int32_t type;
} token;

typedef struct vocabulary {
    mz_context *ctx;
    token *tokens;
    int64_t n;
    bool overflow; /* an id beyond the embedding */
} vocabulary;

static void set_token(vocabulary *v, int64_t id, const token *t) {
    if (id < 0 || id >= v->n) {
        v->overflow = true;
        return;
    }
    v->tokens[id] = *t;
}

static int64_t find_token(const vocabulary *v, const char *text) {
    const size_t n = strlen(text);
    for (int64_t i = 0; i < v->n; i++) {
        const token *t = &v->tokens[i];
        if (t->text != NULL && t->n_bytes == n && memcmp(t->text, text, n) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- files of the folder that may be absent ---- */

static mz_status load_optional(mz_context *ctx, const char *dir, const char *name, json_t **out) {
    char *path = NULL;
    bool there = false;
    *out = NULL;
    MZ_TRY(mz_dir_has_file(ctx, dir, name, &there));
    if (!there) {
        return MZ_OK;
    }
    MZ_TRY(mz_path_join(ctx, dir, name, &path));
    const mz_status status = mz_json_load(ctx, path, out);
    mz_free(ctx, path);
    return status;
}

/* ---- what both kinds have ---- */

static mz_status write_tokens(const vocabulary *v, mz_gguf_meta *meta, const char *spaces) {
    MZ_TRY(mz_gguf_meta_array(meta, "tokenizer.ggml.tokens", MZ_GGUF_STRING, v->n));
    for (int64_t i = 0; i < v->n; i++) {
        const token *t = &v->tokens[i];
        char text[512];
        if (t->text == NULL) {
            const int n = snprintf(text, sizeof text, "[PAD%lld]", (long long)i);
            MZ_TRY(mz_gguf_meta_add_text(meta, text, (size_t)n));
            continue;
        }
        size_t n = 0;
        const size_t n_space = strlen(spaces);
        bool changed = false;
        for (size_t k = 0;
             t->type == MZ_PIECE_USER_DEFINED && n_space > 0 && k < t->n_bytes && n < sizeof text;
             n++) {
            const bool space =
                t->n_bytes - k >= n_space && memcmp(t->text + k, spaces, n_space) == 0;
            text[n] = space ? ' ' : t->text[k];
            changed = changed || space;
            k += space ? n_space : 1;
        }
        MZ_TRY(changed ? mz_gguf_meta_add_text(meta, text, n)
                       : mz_gguf_meta_add_text(meta, t->text, t->n_bytes));
    }
    MZ_TRY(mz_gguf_meta_array(meta, "tokenizer.ggml.token_type", MZ_GGUF_I32, v->n));
    for (int64_t i = 0; i < v->n; i++) {
        const token *t = &v->tokens[i];
        MZ_TRY(mz_gguf_meta_add_i32(meta, t->text == NULL ? MZ_PIECE_UNUSED : t->type));
    }
    return MZ_OK;
}

/* The id of a special token: by its text in tokenizer_config.json, by number in config.json, or by
 * the text that the model itself gives it (NULL: none). */
static int64_t special_id(const vocabulary *v, const json_t *settings, const json_t *config,
                          const char *const *names, const char *own) {
    const char *name = names[0];
    const char *id_field = names[1];
    const json_t *value = json_object_get(settings, name);
    const char *text =
        json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    int64_t id = text != NULL ? find_token(v, text) : -1;
    if (id < 0) {
        const json_t *number = json_object_get(config, id_field);
        number = json_is_array(number) ? json_array_get(number, 0) : number;
        id = json_is_integer(number) ? json_integer_value(number) : -1;
    }
    if (id < 0 && own != NULL && own[0] != '\0') {
        id = find_token(v, own);
    }
    return id < v->n ? id : -1;
}

/* In tokenizer_config.json, or in a file of its own. */
static mz_status write_template(const vocabulary *v, const char *dir, const json_t *settings,
                                mz_gguf_meta *meta) {
    static const char key[] = "tokenizer.chat_template";
    static const char file[] = "chat_template.jinja";
    const char *text = json_string_value(json_object_get(settings, "chat_template"));
    char *path = NULL;
    char *read = NULL;
    size_t n = 0;
    bool there = false;
    if (text != NULL) {
        return mz_gguf_meta_text(meta, key, text, strlen(text));
    }
    MZ_TRY(mz_dir_has_file(v->ctx, dir, file, &there));
    if (!there) {
        return MZ_OK;
    }
    MZ_TRY(mz_path_join(v->ctx, dir, file, &path));
    mz_status status = mz_file_read(v->ctx, path, MAX_TEMPLATE_BYTES, &read, &n);
    if (status == MZ_OK) {
        status = mz_gguf_meta_text(meta, key, read, n);
    }
    mz_free(v->ctx, read);
    mz_free(v->ctx, path);
    return status;
}

/* `own`: what a SentencePiece model calls its special tokens; NULL for other kinds. */
static mz_status write_specials(const vocabulary *v, const char *dir, bool adds_bos,
                                const mz_sentencepiece_info *own, mz_gguf_meta *meta) {
    const char *const own_names[] = {own != NULL ? own->bos : NULL, own != NULL ? own->eos : NULL,
                                     NULL, own != NULL ? own->pad : NULL};
    static const char *const ids[][3] = {
        {"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"},
        {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
        {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id"},
        {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"}};
    json_t *settings = NULL;
    json_t *config = NULL;
    mz_status status = load_optional(v->ctx, dir, "tokenizer_config.json", &settings);
    if (status == MZ_OK) {
        status = load_optional(v->ctx, dir, "config.json", &config);
    }
    for (size_t i = 0; i < sizeof ids / sizeof ids[0] && status == MZ_OK; i++) {
        int64_t id = special_id(v, settings, config, ids[i], own_names[i]);
        for (int64_t k = 0; i == UNKNOWN && id < 0 && k < v->n; k++) {
            id = v->tokens[k].type == MZ_PIECE_UNKNOWN ? k : id;
        }
        if (id >= 0) {
            status = mz_gguf_meta_int(meta, ids[i][2], MZ_GGUF_U32, id);
        }
    }
    const json_t *bos = json_object_get(settings, "add_bos_token");
    const json_t *eos = json_object_get(settings, "add_eos_token");
    if (status == MZ_OK) {
        status = write_template(v, dir, settings, meta);
    }
    if (status == MZ_OK) {
        status = mz_gguf_meta_bool(meta, "tokenizer.ggml.add_bos_token",
                                   json_is_boolean(bos) ? json_is_true(bos) : adds_bos);
    }
    if (status == MZ_OK) {
        status = mz_gguf_meta_bool(meta, "tokenizer.ggml.add_eos_token", json_is_true(eos));
    }
    json_decref(settings);
    json_decref(config);
    return status;
}

static mz_status open_vocabulary(mz_context *ctx, int64_t vocab_size, vocabulary *v) {
    void *memory = NULL;
    if (vocab_size < 1 || vocab_size > MZ_VOCABULARY_MAX) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "embedding of %lld rows, expected 1 to %d",
                       (long long)vocab_size, MZ_VOCABULARY_MAX);
    }
    MZ_TRY(mz_calloc(ctx, (size_t)vocab_size, sizeof(token), "vocabulary", &memory));
    *v = (vocabulary){.ctx = ctx, .tokens = memory, .n = vocab_size};
    return MZ_OK;
}

/* ---- tokenizer.json ---- */

/* The row that a byte-level tokenizer.json splits by, or NULL. */
static const mz_pre_tokenizer *find_splitting(const json_t *document) {
    const json_t *pre = json_object_get(document, "pre_tokenizer");
    const json_t *steps = json_object_get(pre, "pretokenizers");
    const size_t n = steps != NULL ? json_array_size(steps) : 1;
    const char *regex = NULL;
    bool digits = false;
    bool byte_level = false;
    for (size_t i = 0; i < n; i++) {
        const json_t *step = steps != NULL ? json_array_get(steps, i) : pre;
        const char *type = json_string_value(json_object_get(step, "type"));
        type = type != NULL ? type : "";
        if (strcmp(type, "ByteLevel") == 0) {
            byte_level = true;
        } else if (strcmp(type, "Digits") == 0) {
            digits = json_is_true(json_object_get(step, "individual_digits"));
        } else if (strcmp(type, "Split") == 0) {
            regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
        } else {
            return NULL;
        }
    }
    for (int i = 0; byte_level && mz_pre_tokenizer_at(i) != NULL; i++) {
        const mz_pre_tokenizer *row = mz_pre_tokenizer_at(i);
        const bool same =
            row->regex == NULL ? regex == NULL : regex != NULL && strcmp(regex, row->regex) == 0;
        if (same && row->digits == digits) {
            return row;
        }
    }
    return NULL;
}

/* Whether its post-processor puts a token in front of a text. */
static bool puts_token_in_front(const json_t *document) {
    const json_t *post = json_object_get(document, "post_processor");
    const json_t *list = json_object_get(post, "processors");
    const size_t n = list != NULL ? json_array_size(list) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = list != NULL ? json_array_get(list, i) : post;
        const json_t *first = json_array_get(json_object_get(one, "single"), 0);
        if (json_object_get(first, "SpecialToken") != NULL) {
            return true;
        }
    }
    return false;
}

static mz_status read_json_tokens(const json_t *document, const char *path, vocabulary *v) {
    json_t *words = json_object_get(json_object_get(document, "model"), "vocab");
    const json_t *added = json_object_get(document, "added_tokens");
    const char *text = NULL;
    json_t *value = NULL;
    json_object_foreach(words, text, value) {
        if (!json_is_integer(value)) {
            return mz_fail(&v->ctx->error, MZ_ERR_FORMAT, "%s: the id of token %s is no integer",
                           path, text);
        }
        set_token(v, json_integer_value(value),
                  &(token){.text = text, .n_bytes = strlen(text), .type = MZ_PIECE_NORMAL});
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *one = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(one, "content"));
        const json_t *id = json_object_get(one, "id");
        const bool special = json_is_true(json_object_get(one, "special"));
        if (content == NULL || !json_is_integer(id)) {
            return mz_fail(&v->ctx->error, MZ_ERR_FORMAT,
                           "%s: added_tokens[%zu] has no content or no id", path, i);
        }
        set_token(v, json_integer_value(id),
                  &(token){.text = content,
                           .n_bytes = strlen(content),
                           .type = special ? MZ_PIECE_CONTROL : MZ_PIECE_USER_DEFINED});
    }
    return MZ_OK;
}

static mz_status write_merges(mz_context *ctx, const json_t *document, const char *path,
                              mz_gguf_meta *meta) {
    const json_t *merges = json_object_get(json_object_get(document, "model"), "merges");
    const size_t n = json_array_size(merges);
    MZ_TRY(mz_gguf_meta_array(meta, "tokenizer.ggml.merges", MZ_GGUF_STRING, (int64_t)n));
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(merges, i);
        const char *whole = json_string_value(one);
        const char *left = json_string_value(json_array_get(one, 0));
        const char *right = json_string_value(json_array_get(one, 1));
        char text[1024];
        int n_bytes = whole != NULL ? (int)strlen(whole) : -1;
        if (whole == NULL && left != NULL && right != NULL) {
            n_bytes = snprintf(text, sizeof text, "%s %s", left, right);
            whole = text;
        }
        if (whole == NULL || n_bytes < 0 || (whole == text && n_bytes >= (int)sizeof text)) {
            return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: merges[%zu] is no pair of texts", path,
                           i);
        }
        MZ_TRY(mz_gguf_meta_add_text(meta, whole, (size_t)n_bytes));
    }
    return MZ_OK;
}

static mz_status export_json(vocabulary *v, const json_t *document, const char *path,
                             const char *dir, mz_gguf_meta *meta, char *note, size_t note_bytes) {
    const char *type =
        json_string_value(json_object_get(json_object_get(document, "model"), "type"));
    const mz_pre_tokenizer *row = find_splitting(document);
    if (row == NULL || type == NULL || strcmp(type, "BPE") != 0) {
        (void)snprintf(note, note_bytes,
                       "tokenizer.json splits text in no way that has a name in GGUF files here "
                       "(gpt-2, smollm, qwen2, llama-bpe)");
        return MZ_OK;
    }
    MZ_TRY(read_json_tokens(document, path, v));
    if (v->overflow) {
        (void)snprintf(note, note_bytes, "tokenizer.json has ids beyond the embedding's %lld rows",
                       (long long)v->n);
        return MZ_OK;
    }
    MZ_TRY(mz_gguf_meta_text(meta, "tokenizer.ggml.model", "gpt2", 4));
    MZ_TRY(mz_gguf_meta_text(meta, "tokenizer.ggml.pre", row->pre, strlen(row->pre)));
    MZ_TRY(write_tokens(v, meta, ""));
    MZ_TRY(write_merges(v->ctx, document, path, meta));
    return write_specials(v, dir, puts_token_in_front(document), NULL, meta);
}

/* ---- tokenizer.model ---- */

/* Tokens that were added behind the model's own. */
static void add_tokens(vocabulary *v, const json_t *settings, int64_t n_pieces) {
    json_t *added = json_object_get(settings, "added_tokens_decoder");
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(added, key, value) {
        long long id = -1;
        const char *content = json_string_value(json_object_get(value, "content"));
        const bool special = json_is_true(json_object_get(value, "special"));
        if (sscanf(key, "%lld", &id) == 1 && id >= n_pieces && content != NULL) {
            set_token(v, id,
                      &(token){.text = content,
                               .n_bytes = strlen(content),
                               .type = special ? MZ_PIECE_CONTROL : MZ_PIECE_USER_DEFINED});
        }
    }
}

static mz_status write_spm(vocabulary *v, const mz_sentencepiece_info *info, const char *dir,
                           mz_gguf_meta *meta) {
    MZ_TRY(mz_gguf_meta_text(meta, "tokenizer.ggml.model", "llama", 5));
    MZ_TRY(mz_gguf_meta_text(meta, "tokenizer.ggml.pre", "default", 7));
    MZ_TRY(write_tokens(v, meta, MZ_SPACE));
    MZ_TRY(mz_gguf_meta_array(meta, "tokenizer.ggml.scores", MZ_GGUF_F32, v->n));
    for (int64_t i = 0; i < v->n; i++) {
        MZ_TRY(mz_gguf_meta_add_f32(meta, v->tokens[i].text != NULL ? v->tokens[i].score : -1e4f));
    }
    MZ_TRY(mz_gguf_meta_bool(meta, "tokenizer.ggml.add_space_prefix", info->add_dummy_prefix));
    return write_specials(v, dir, true, info, meta);
}

/* The model's pieces and what tokenizer_config.json adds to them. */
static mz_status write_pieces(vocabulary *v, const mz_vocabulary *pieces,
                              const mz_sentencepiece_info *info, const char *dir,
                              mz_gguf_meta *meta, char *note, size_t note_bytes) {
    json_t *settings = NULL;
    MZ_TRY(load_optional(v->ctx, dir, "tokenizer_config.json", &settings));
    for (int64_t i = 0; i < pieces->n; i++) {
        size_t n = 0;
        const char *text = mz_vocabulary_text(pieces, (int32_t)i, &n);
        set_token(v, i,
                  &(token){.text = text,
                           .n_bytes = n,
                           .score = pieces->pieces[i].score,
                           .type = pieces->pieces[i].type});
    }
    add_tokens(v, settings, pieces->n);
    mz_status status = MZ_OK;
    if (v->overflow) {
        (void)snprintf(note, note_bytes, "the tokenizer has ids beyond the embedding's %lld rows",
                       (long long)v->n);
    } else {
        status = write_spm(v, info, dir, meta);
    }
    json_decref(settings);
    return status;
}

static mz_status export_spm(vocabulary *v, const char *path, const char *dir, mz_gguf_meta *meta,
                            char *note, size_t note_bytes) {
    char *data = NULL;
    size_t n = 0;
    mz_vocabulary pieces = {0};
    mz_sentencepiece_info info = {0};
    MZ_TRY(mz_file_read(v->ctx, path, MAX_MODEL_BYTES, &data, &n));
    mz_status status = mz_sentencepiece_read(v->ctx, data, n, path, &pieces, &info);
    if (status == MZ_OK && info.model_type != 2) {
        (void)snprintf(note, note_bytes, "tokenizer.model is no BPE model");
    } else if (status == MZ_OK) {
        status = write_pieces(v, &pieces, &info, dir, meta, note, note_bytes);
    }
    mz_vocabulary_free(v->ctx, &pieces);
    mz_free(v->ctx, data);
    return status;
}

/* ---- */

static mz_status export_file(vocabulary *v, const char *dir, const char *name, mz_gguf_meta *meta,
                             char *note, size_t note_bytes) {
    char *path = NULL;
    json_t *document = NULL;
    MZ_TRY(mz_path_join(v->ctx, dir, name, &path));
    mz_status status = MZ_OK;
    if (strcmp(name, "tokenizer.model") == 0) {
        status = export_spm(v, path, dir, meta, note, note_bytes);
    } else {
        status = mz_json_load(v->ctx, path, &document);
        if (status == MZ_OK) {
            status = export_json(v, document, path, dir, meta, note, note_bytes);
        }
    }
    json_decref(document);
    mz_free(v->ctx, path);
    return status;
}

mz_status mz_gguf_tokenizer_export(mz_context *ctx, const char *dir, int64_t vocab_size,
                                   mz_gguf_meta *meta, char *note, size_t note_bytes) {
    static const char *const names[] = {"tokenizer.model", "tokenizer.json"};
    note[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool there = false;
        vocabulary v = {0};
        MZ_TRY(mz_dir_has_file(ctx, dir, names[i], &there));
        if (!there) {
            continue;
        }
        MZ_TRY(open_vocabulary(ctx, vocab_size, &v));
        const mz_status status = export_file(&v, dir, names[i], meta, note, note_bytes);
        mz_free(ctx, v.tokens);
        return status;
    }
    (void)snprintf(note, note_bytes, "there is no tokenizer.model and no tokenizer.json");
    return MZ_OK;
}
