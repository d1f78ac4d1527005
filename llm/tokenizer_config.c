#include <string.h>

#include "core/file.h"
#include "llm/tokenizer_internal.h"

/* What lies beside a tokenizer's own file, as transformers reads it. */

static const size_t max_template_bytes = (size_t)1 << 20;

static const char *const special_keys[MZ_SPECIAL_TOKEN_COUNT] = {
    [MZ_TOKEN_BOS] = "bos_token",
    [MZ_TOKEN_EOS] = "eos_token",
    [MZ_TOKEN_UNKNOWN] = "unk_token",
    [MZ_TOKEN_PAD] = "pad_token",
};

/* A JSON file of the folder; *out stays NULL where there is none. */
static mz_status load(mz_context *ctx, const char *dir, const char *name, json_t **out,
                      char **path) {
    bool found = false;
    MZ_TRY(mz_dir_has_file(ctx, dir, name, &found));
    if (!found) {
        return MZ_OK;
    }
    MZ_TRY(mz_path_join(ctx, dir, name, path));
    /* model_max_length is 10^30 where there is none; ids are only in the other files. */
    return strcmp(name, "tokenizer_config.json") == 0 ? mz_json_load_reals(ctx, *path, out)
                                                      : mz_json_load(ctx, *path, out);
}

/* "text" or {"content": "text", ...}. */
static const char *content_of(const json_t *value) {
    return json_is_object(value) ? json_string_value(json_object_get(value, "content"))
                                 : json_string_value(value);
}

/* Makes a token one that is looked for, unless it is already. */
static mz_status add_token(const mz_json_object *o, mz_tokenizer *t, int64_t id,
                           const char *content, mz_added_token token, bool normalized) {
    if (*content == '\0') {
        return MZ_OK;
    }
    MZ_TRY(mz_vocabulary_add(o->ctx, &t->vocabulary, o->name, id, content, strlen(content),
                             token.control ? MZ_PIECE_CONTROL : MZ_PIECE_USER_DEFINED, 0.0F));
    token.id = (int32_t)id;
    for (size_t i = 0; i < t->n_added; i++) {
        if (t->added[i].id == token.id) {
            t->added[i].control = t->added[i].control || token.control;
            return MZ_OK;
        }
    }
    return mz_added_token_add(o->ctx, t, &token, normalized);
}

/* added_tokens.json: {"text": id}; which of them are special the other files say. */
static mz_status read_added(const mz_json_object *o, mz_tokenizer *t) {
    for (void *i = json_object_iter((json_t *)o->object); i != NULL;
         i = json_object_iter_next((json_t *)o->object, i)) {
        const json_t *id = json_object_iter_value(i);
        if (!json_is_integer(id)) {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: an id is no integer", o->name);
        }
        MZ_TRY(add_token(o, t, json_integer_value(id), json_object_iter_key(i), (mz_added_token){0},
                         false));
    }
    return MZ_OK;
}

/* added_tokens_decoder of tokenizer_config.json: {"id": {...}}. */
static mz_status read_decoder(const mz_json_object *o, const json_t *decoder, mz_tokenizer *t) {
    for (void *i = json_object_iter((json_t *)decoder); i != NULL;
         i = json_object_iter_next((json_t *)decoder, i)) {
        int64_t id = 0;
        const char *key = json_object_iter_key(i);
        for (const char *c = key; *c != '\0' && id >= 0; c++) {
            id = *c >= '0' && *c <= '9' && id < MZ_VOCABULARY_MAX ? id * 10 + (*c - '0') : -1;
        }
        const json_t *value = json_object_iter_value(i);
        const char *content = content_of(value);
        if (id < 0 || *key == '\0' || content == NULL || !json_is_object(value)) {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                           "%s: added_tokens_decoder: \"%.40s\" is no id of a token", o->name, key);
        }
        const mz_json_object a = {.ctx = o->ctx, .object = value, .name = o->name};
        mz_added_token token = {0};
        bool normalized = false;
        MZ_TRY(mz_json_bool_or(&a, "special", false, &token.control));
        MZ_TRY(mz_json_bool_or(&a, "single_word", false, &token.single_word));
        MZ_TRY(mz_json_bool_or(&a, "lstrip", false, &token.strip_left));
        MZ_TRY(mz_json_bool_or(&a, "rstrip", false, &token.strip_right));
        MZ_TRY(mz_json_bool_or(&a, "normalized", !token.control, &normalized));
        MZ_TRY(add_token(o, t, id, content, token, normalized));
    }
    return MZ_OK;
}

/* A token that a file calls special: a control token from now on. */
static mz_status make_special(const mz_json_object *o, mz_tokenizer *t, const json_t *value,
                              int32_t *id) {
    const char *content = content_of(value);
    const int32_t found =
        content != NULL ? mz_vocabulary_find(&t->vocabulary, content, strlen(content)) : -1;
    if (found < 0) {
        return MZ_OK;
    }
    if (id != NULL) {
        *id = found;
    }
    return add_token(o, t, found, content, (mz_added_token){.control = true}, false);
}

/* bos_token and the others, of special_tokens_map.json or tokenizer_config.json. */
static mz_status read_special(const mz_json_object *o, mz_tokenizer *t) {
    for (int i = 0; i < MZ_SPECIAL_TOKEN_COUNT; i++) {
        MZ_TRY(make_special(o, t, json_object_get(o->object, special_keys[i]), &t->special[i]));
    }
    const json_t *more = json_object_get(o->object, "additional_special_tokens");
    for (size_t i = 0; i < json_array_size(more); i++) {
        MZ_TRY(make_special(o, t, json_array_get(more, i), NULL));
    }
    return MZ_OK;
}

static mz_status set_template(mz_context *ctx, mz_tokenizer *t, const char *text) {
    char *copy = NULL;
    MZ_TRY(mz_strdup(ctx, text, &copy));
    mz_free(ctx, t->chat_template);
    t->chat_template = copy;
    return MZ_OK;
}

/* "chat_template": a text, or a list of {"name", "template"} of which "default" is meant. */
static mz_status read_template(const mz_json_object *o, mz_tokenizer *t) {
    const json_t *value = json_object_get(o->object, "chat_template");
    const char *text = json_string_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            text = json_string_value(json_object_get(entry, "template"));
        }
    }
    return text != NULL ? set_template(o->ctx, t, text) : MZ_OK;
}

static bool begins_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Whether the class puts BOS and EOS there by add_bos_token and add_eos_token, whatever the
 * tokenizer's file says. */
static bool class_adds(const char *class_name) {
    return begins_with(class_name, "LlamaTokenizer") || begins_with(class_name, "GemmaTokenizer") ||
           begins_with(class_name, "CodeLlamaTokenizer");
}

static mz_status read_around(const mz_json_object *o, mz_tokenizer *t) {
    bool bos = true;
    bool eos = false;
    MZ_TRY(mz_json_bool_or(o, "add_bos_token", true, &bos));
    MZ_TRY(mz_json_bool_or(o, "add_eos_token", false, &eos));
    t->n_before = bos && t->special[MZ_TOKEN_BOS] >= 0;
    t->before[0] = t->special[MZ_TOKEN_BOS];
    t->n_after = eos && t->special[MZ_TOKEN_EOS] >= 0;
    t->after[0] = t->special[MZ_TOKEN_EOS];
    return MZ_OK;
}

/* vocab.json names neither splitting nor special tokens: the class does. What it takes for the end
 * of a text it adds where the vocabulary lacks it. */
static mz_status set_class(mz_context *ctx, const char *class_name, mz_tokenizer *t) {
    const bool qwen = begins_with(class_name, "Qwen2Tokenizer");
    if (qwen) {
        MZ_TRY(mz_normalizer_add(&ctx->error, &t->normalizer, MZ_NORMALIZE_NFC, NULL, 0, NULL));
    }
    MZ_TRY(mz_tokenizer_split_by(ctx, t, qwen ? mz_expression_qwen2 : mz_expression_gpt2));
    static const char end[] = "<|endoftext|>";
    const int32_t found = mz_vocabulary_find(&t->vocabulary, end, sizeof end - 1);
    const mz_json_object o = {.ctx = ctx, .name = "vocab.json"};
    MZ_TRY(add_token(&o, t, found >= 0 ? found : t->vocabulary.n, end,
                     (mz_added_token){.control = true}, false));
    const int32_t id = mz_vocabulary_find(&t->vocabulary, end, sizeof end - 1);
    t->special[MZ_TOKEN_EOS] = id;
    t->special[MZ_TOKEN_BOS] = qwen ? -1 : id;
    return MZ_OK;
}

static mz_status read_config(const mz_json_object *o, mz_tokenizer_source source, mz_tokenizer *t) {
    const char *class_name = NULL;
    MZ_TRY(mz_json_string_or(o, "tokenizer_class", "", &class_name));
    if (source == MZ_SOURCE_VOCAB) {
        MZ_TRY(set_class(o->ctx, class_name, t));
    }
    MZ_TRY(read_decoder(o, json_object_get(o->object, "added_tokens_decoder"), t));
    MZ_TRY(read_special(o, t));
    MZ_TRY(read_template(o, t));
    if (class_adds(class_name)) {
        MZ_TRY(read_around(o, t));
    }
    return source == MZ_SOURCE_SPM ? mz_spm_configure(o, class_name, t) : MZ_OK;
}

static mz_status read_jinja(mz_context *ctx, const char *dir, mz_tokenizer *t) {
    bool found = false;
    char *path = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_dir_has_file(ctx, dir, "chat_template.jinja", &found));
    if (!found) {
        return MZ_OK;
    }
    MZ_TRY(mz_path_join(ctx, dir, "chat_template.jinja", &path));
    mz_status status = mz_file_read(ctx, path, max_template_bytes, &text, &n_bytes);
    if (status == MZ_OK) {
        mz_free(ctx, t->chat_template);
        t->chat_template = text;
    }
    mz_free(ctx, path);
    return status;
}

/* Reads one file of the folder by `read`; none is none. */
static mz_status with_file(mz_context *ctx, const char *dir, const char *name, bool *found,
                           mz_status (*read)(const mz_json_object *o, mz_tokenizer_source source,
                                             mz_tokenizer *t),
                           mz_tokenizer_source source, mz_tokenizer *t) {
    json_t *root = NULL;
    char *path = NULL;
    mz_status status = load(ctx, dir, name, &root, &path);
    *found = root != NULL;
    if (status == MZ_OK && root != NULL) {
        const mz_json_object o = {.ctx = ctx, .object = root, .name = path};
        status = read(&o, source, t);
    }
    json_decref(root);
    mz_free(ctx, path);
    return status;
}

static mz_status read_added_file(const mz_json_object *o, mz_tokenizer_source source,
                                 mz_tokenizer *t) {
    (void)source;
    return read_added(o, t);
}

static mz_status read_special_file(const mz_json_object *o, mz_tokenizer_source source,
                                   mz_tokenizer *t) {
    (void)source;
    return read_special(o, t);
}

mz_status mz_tokenizer_configure(mz_context *ctx, const char *dir, mz_tokenizer_source source,
                                 mz_tokenizer *t) {
    bool found = false;
    if (source != MZ_SOURCE_JSON) {
        MZ_TRY(with_file(ctx, dir, "added_tokens.json", &found, read_added_file, source, t));
    }
    MZ_TRY(with_file(ctx, dir, "special_tokens_map.json", &found, read_special_file, source, t));
    MZ_TRY(with_file(ctx, dir, "tokenizer_config.json", &found, read_config, source, t));
    if (!found && source == MZ_SOURCE_VOCAB) {
        MZ_TRY(set_class(ctx, "", t));
    }
    if (source == MZ_SOURCE_SPM) {
        MZ_TRY(mz_spm_load(ctx, t));
    }
    return read_jinja(ctx, dir, t);
}
