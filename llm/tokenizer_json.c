#include <string.h>

#include "core/file.h"
#include "llm/tokenizer_internal.h"

static const size_t max_merges_bytes = (size_t)256 << 20;
enum { MAX_MERGES = 1 << 24 };

static mz_status wrong(const mz_json_object *o, const char *what) {
    return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s", o->name, what);
}

static mz_status unsupported(const mz_json_object *o, const char *part, const char *value,
                             const char *known) {
    return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED, "%s: %s is \"%s\", supported: %s", o->name,
                   part, value, known);
}

/* {"text": id, ...} as normal tokens. */
static mz_status add_vocab(const mz_json_object *o, const json_t *vocab, mz_tokenizer *t) {
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return wrong(o, "the vocabulary is no object of texts and ids, or empty");
    }
    size_t n_text = 0;
    for (void *i = json_object_iter((json_t *)vocab); i != NULL;
         i = json_object_iter_next((json_t *)vocab, i)) {
        n_text += strlen(json_object_iter_key(i));
    }
    MZ_TRY(mz_vocabulary_reserve(o->ctx, &t->vocabulary, (int64_t)json_object_size(vocab), n_text));
    for (void *i = json_object_iter((json_t *)vocab); i != NULL;
         i = json_object_iter_next((json_t *)vocab, i)) {
        const char *text = json_object_iter_key(i);
        const json_t *id = json_object_iter_value(i);
        if (!json_is_integer(id)) {
            return wrong(o, "an id of the vocabulary is no integer");
        }
        MZ_TRY(mz_vocabulary_add(o->ctx, &t->vocabulary, o->name, json_integer_value(id), text,
                                 strlen(text), MZ_PIECE_NORMAL, 0.0F));
    }
    return MZ_OK;
}

/* "left right" or ["left", "right"]. */
static mz_status add_merge(const mz_json_object *o, const json_t *merge, uint32_t rank,
                           mz_tokenizer *t) {
    const char *left = NULL;
    const char *right = NULL;
    size_t n_left = 0;
    if (json_is_string(merge)) {
        left = json_string_value(merge);
        const char *space = strchr(left, ' ');
        if (space != NULL && strchr(space + 1, ' ') == NULL) {
            n_left = (size_t)(space - left);
            right = space + 1;
        }
    } else if (json_is_array(merge) && json_array_size(merge) == 2) {
        left = json_string_value(json_array_get(merge, 0));
        right = json_string_value(json_array_get(merge, 1));
        n_left = left != NULL ? strlen(left) : 0;
    }
    if (left == NULL || right == NULL || n_left == 0 || *right == '\0') {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: merge %u is no pair of texts", o->name,
                       rank);
    }
    return mz_bpe_add_merge(o->ctx, t, o->name, left, n_left, right, strlen(right), rank);
}

static mz_status add_merges(const mz_json_object *o, const json_t *merges, mz_tokenizer *t) {
    if (!json_is_array(merges) || json_array_size(merges) > MAX_MERGES) {
        return wrong(o, "model.merges is no list of at most 16777216 pairs");
    }
    const size_t n = json_array_size(merges);
    MZ_TRY(mz_merge_table_reserve(o->ctx, &t->bpe.pairs, n));
    for (size_t i = 0; i < n; i++) {
        MZ_TRY(add_merge(o, json_array_get(merges, i), (uint32_t)i, t));
    }
    return MZ_OK;
}

/* Only what keeps a tokenizer from being what is implemented here. */
static mz_status check_model(const mz_json_object *m) {
    const char *type = NULL;
    MZ_TRY(mz_json_string_or(m, "type", "BPE", &type));
    if (strcmp(type, "BPE") != 0) {
        return unsupported(m, "model.type", type, "BPE");
    }
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *text = NULL;
        MZ_TRY(mz_json_string_or(m, empty[i], "", &text));
        if (*text != '\0') {
            return unsupported(m, empty[i], text, "none");
        }
    }
    double dropout = 0.0;
    return mz_json_number_or(m, "dropout", 0.0, 0.0, 0.0, &dropout);
}

static mz_status read_model(const mz_json_object *o, const json_t *model, mz_tokenizer *t) {
    if (!json_is_object(model)) {
        return wrong(o, "model is no object");
    }
    const mz_json_object m = {.ctx = o->ctx, .object = model, .name = o->name};
    MZ_TRY(check_model(&m));
    MZ_TRY(mz_json_bool_or(&m, "fuse_unk", false, &t->bpe.fuse_unknown));
    MZ_TRY(mz_json_bool_or(&m, "byte_fallback", false, &t->bpe.byte_fallback));
    MZ_TRY(mz_json_bool_or(&m, "ignore_merges", false, &t->bpe.whole_word_first));
    MZ_TRY(add_vocab(o, json_object_get(model, "vocab"), t));
    const char *unknown = NULL;
    MZ_TRY(mz_json_string_or(&m, "unk_token", NULL, &unknown));
    if (unknown != NULL) {
        t->bpe.unknown = mz_vocabulary_find(&t->vocabulary, unknown, strlen(unknown));
        t->special[MZ_TOKEN_UNKNOWN] = t->bpe.unknown;
    }
    return add_merges(o, json_object_get(model, "merges"), t);
}

static mz_status add_token(const mz_json_object *o, const json_t *value, mz_tokenizer *t) {
    if (!json_is_object(value)) {
        return wrong(o, "an entry of added_tokens is no object");
    }
    const mz_json_object a = {.ctx = o->ctx, .object = value, .name = o->name};
    int64_t id = 0;
    const char *content = NULL;
    mz_added_token token = {0};
    bool normalized = false;
    MZ_TRY(mz_json_int(&a, "id", 0, MZ_VOCABULARY_MAX - 1, &id));
    MZ_TRY(mz_json_string(&a, "content", &content));
    MZ_TRY(mz_json_bool_or(&a, "special", false, &token.control));
    MZ_TRY(mz_json_bool_or(&a, "normalized", !token.control, &normalized));
    MZ_TRY(mz_json_bool_or(&a, "single_word", false, &token.single_word));
    MZ_TRY(mz_json_bool_or(&a, "lstrip", false, &token.strip_left));
    MZ_TRY(mz_json_bool_or(&a, "rstrip", false, &token.strip_right));
    token.id = (int32_t)id;
    MZ_TRY(mz_vocabulary_add(o->ctx, &t->vocabulary, o->name, id, content, strlen(content),
                             token.control ? MZ_PIECE_CONTROL : MZ_PIECE_USER_DEFINED, 0.0F));
    return *content != '\0' ? mz_added_token_add(o->ctx, t, &token, normalized) : MZ_OK;
}

static mz_status add_tokens(const mz_json_object *o, const json_t *list, mz_tokenizer *t) {
    if (list == NULL || json_is_null(list)) {
        return MZ_OK;
    }
    if (!json_is_array(list)) {
        return wrong(o, "added_tokens is no list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        MZ_TRY(add_token(o, json_array_get(list, i), t));
    }
    return MZ_OK;
}

static mz_status read_all(const mz_json_object *o, mz_tokenizer *t) {
    MZ_TRY(read_model(o, json_object_get(o->object, "model"), t));
    MZ_TRY(mz_tokenizer_json_normalizer(o, json_object_get(o->object, "normalizer"), t));
    MZ_TRY(mz_tokenizer_json_splitter(o, json_object_get(o->object, "pre_tokenizer"), t));
    MZ_TRY(mz_tokenizer_json_decoder(o, json_object_get(o->object, "decoder"), t));
    mz_bpe_find_bytes(t);
    MZ_TRY(add_tokens(o, json_object_get(o->object, "added_tokens"), t));
    t->name = t->bpe.byte_level ? "byte-level BPE" : "BPE";
    MZ_TRY(mz_tokenizer_json_around(o, json_object_get(o->object, "post_processor"), t));
    /* What is put in front of a text begins it; a configuration beside the file may say more. */
    t->special[MZ_TOKEN_BOS] = t->n_before > 0 ? t->before[0] : -1;
    return MZ_OK;
}

mz_status mz_tokenizer_parse_json(mz_context *ctx, const json_t *root, const char *name,
                                  mz_tokenizer **out) {
    const mz_json_object o = {.ctx = ctx, .object = root, .name = name};
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_create(ctx, &mz_tokenizer_bpe, "BPE", &t));
    const mz_status status = read_all(&o, t);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}

mz_status mz_tokenizer_read_json(mz_context *ctx, const char *path, mz_tokenizer **out) {
    json_t *root = NULL;
    MZ_TRY(mz_json_load(ctx, path, &root));
    const mz_status status = mz_tokenizer_parse_json(ctx, root, path, out);
    json_decref(root);
    return status;
}

/* The lines of a merges.txt: "left right", after an optional "#version". */
static mz_status read_merges(mz_context *ctx, const char *path, const char *text, size_t n_bytes,
                             mz_tokenizer *t) {
    size_t n_lines = 1;
    for (size_t i = 0; i < n_bytes; i++) {
        n_lines += text[i] == '\n';
    }
    MZ_TRY(mz_merge_table_reserve(ctx, &t->bpe.pairs, n_lines));
    uint32_t rank = 0;
    for (const char *line = text, *end = text + n_bytes; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const char *next = stop != NULL ? stop + 1 : end;
        stop = stop != NULL ? stop : end;
        stop -= stop > line && stop[-1] == '\r';
        const size_t n = (size_t)(stop - line);
        const bool is_version = line == text && n >= 8 && memcmp(line, "#version", 8) == 0;
        if (n > 0 && !is_version) {
            const char *space = memchr(line, ' ', n);
            if (space == NULL || space == line || space + 1 == stop) {
                return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: merge %u is no pair of texts", path,
                               rank);
            }
            MZ_TRY(mz_bpe_add_merge(ctx, t, path, line, (size_t)(space - line), space + 1,
                                    (size_t)(stop - space - 1), rank));
            rank++;
        }
        line = next;
    }
    return MZ_OK;
}

static mz_status read_vocab_and_merges(mz_context *ctx, const char *vocab_path,
                                       const char *merges_path, mz_tokenizer *t) {
    json_t *root = NULL;
    MZ_TRY(mz_json_load(ctx, vocab_path, &root));
    const mz_json_object o = {.ctx = ctx, .object = root, .name = vocab_path};
    const mz_status status = add_vocab(&o, root, t);
    json_decref(root);
    MZ_TRY(status);
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_file_read(ctx, merges_path, max_merges_bytes, &text, &n_bytes));
    const mz_status merged = read_merges(ctx, merges_path, text, n_bytes, t);
    mz_free(ctx, text);
    MZ_TRY(merged);
    t->bpe.byte_level = true;
    t->bpe.spelled = true;
    mz_bpe_find_bytes(t);
    return MZ_OK;
}

mz_status mz_tokenizer_read_vocab(mz_context *ctx, const char *vocab_path, const char *merges_path,
                                  mz_tokenizer **out) {
    mz_tokenizer *t = NULL;
    MZ_TRY(mz_tokenizer_create(ctx, &mz_tokenizer_bpe, "byte-level BPE", &t));
    const mz_status status = read_vocab_and_merges(ctx, vocab_path, merges_path, t);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}
