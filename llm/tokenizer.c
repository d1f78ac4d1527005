#include "llm/tokenizer.h"

#include <string.h>

#include "core/file.h"
#include "llm/tokenizer_internal.h"
#include "llm/utf8.h"

static const size_t max_text_bytes = (size_t)1 << 30;

mz_status mz_tokenizer_create(mz_context *ctx, const mz_tokenizer_encoder *encoder,
                              const char *name, mz_tokenizer **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_tokenizer), "tokenizer", &memory));
    mz_tokenizer *t = memory;
    t->encoder = encoder;
    t->name = name;
    t->bpe.unknown = -1;
    for (int i = 0; i < MZ_SPECIAL_TOKEN_COUNT; i++) {
        t->special[i] = -1;
    }
    for (int i = 0; i < 256; i++) {
        t->bpe.byte_ids[i] = -1;
    }
    *out = t;
    return MZ_OK;
}

void mz_tokenizer_close(mz_context *ctx, mz_tokenizer *t) {
    if (t == NULL) {
        return;
    }
    mz_vocabulary_free(ctx, &t->vocabulary);
    mz_free(ctx, t->added);
    mz_token_trie_free(ctx, &t->raw);
    mz_token_trie_free(ctx, &t->normalized);
    mz_normalizer_free(ctx, &t->normalizer);
    mz_normalizer_free(ctx, &t->metaspace);
    mz_text_splitter_free(ctx, &t->splitter);
    mz_merge_table_free(ctx, &t->bpe.pairs);
    mz_sentencepiece_free(t->spm.library);
    mz_free(ctx, t->spm.data);
    mz_unigram_free(ctx, &t->spm.unigram);
    mz_free(ctx, t->chat_template);
    mz_free(ctx, t);
}

/* The folder that a file lies in, "." where its path names none. */
static mz_status folder_of(mz_context *ctx, const char *path, char **out) {
    MZ_TRY(mz_strdup(ctx, path, out));
    char *slash = strrchr(*out, '/');
    if (slash == NULL) {
        mz_free(ctx, *out);
        return mz_strdup(ctx, ".", out);
    }
    slash[slash == *out] = '\0';
    return MZ_OK;
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text);
    const size_t n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static mz_status read_vocab(mz_context *ctx, const char *path, mz_tokenizer **out) {
    char *dir = NULL;
    char *merges = NULL;
    MZ_TRY(folder_of(ctx, path, &dir));
    mz_status status = mz_path_join(ctx, dir, "merges.txt", &merges);
    if (status == MZ_OK) {
        status = mz_tokenizer_read_vocab(ctx, path, merges, out);
    }
    mz_free(ctx, merges);
    mz_free(ctx, dir);
    return status;
}

/* The reader for a file by its name. */
static mz_status read_file(mz_context *ctx, const char *path, mz_tokenizer_source *source,
                           mz_tokenizer **out) {
    if (ends_with(path, ".model")) {
        *source = MZ_SOURCE_SPM;
        return mz_tokenizer_read_spm(ctx, path, out);
    }
    if (ends_with(path, ".tiktoken")) {
        *source = MZ_SOURCE_TIKTOKEN;
        return mz_tokenizer_read_tiktoken(ctx, path, out);
    }
    if (ends_with(path, "vocab.json")) {
        *source = MZ_SOURCE_VOCAB;
        return read_vocab(ctx, path, out);
    }
    if (ends_with(path, ".json")) {
        *source = MZ_SOURCE_JSON;
        return mz_tokenizer_read_json(ctx, path, out);
    }
    return mz_fail(
        &ctx->error, MZ_ERR_UNSUPPORTED,
        "%s: no tokenizer file by its name; expected tokenizer.json, *.model, vocab.json "
        "or *.tiktoken",
        path);
}

/* Path of the first tokenizer file of a folder. */
static mz_status find_file(mz_context *ctx, const char *dir, char **out) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool found = false;
        MZ_TRY(mz_dir_has_file(ctx, dir, names[i], &found));
        if (found && i == 2) {
            MZ_TRY(mz_dir_has_file(ctx, dir, "merges.txt", &found));
        }
        if (found) {
            return mz_path_join(ctx, dir, names[i], out);
        }
    }
    char *name = NULL;
    mz_status status = mz_dir_find(ctx, dir, ".tiktoken", &name);
    if (status == MZ_OK && name != NULL) {
        status = mz_path_join(ctx, dir, name, out);
    } else if (status == MZ_OK) {
        status = mz_fail(&ctx->error, MZ_ERR_MISSING,
                         "%s: no tokenizer: neither tokenizer.json, tokenizer.model, vocab.json "
                         "with merges.txt nor *.tiktoken",
                         dir);
    }
    mz_free(ctx, name);
    return status;
}

static mz_status open_file(mz_context *ctx, const char *path, const char *dir, mz_tokenizer **out) {
    mz_tokenizer *t = NULL;
    mz_tokenizer_source source = MZ_SOURCE_JSON;
    MZ_TRY(read_file(ctx, path, &source, &t));
    const mz_status status = mz_tokenizer_configure(ctx, dir, source, t);
    if (status != MZ_OK) {
        mz_tokenizer_close(ctx, t);
        return status;
    }
    *out = t;
    return MZ_OK;
}

mz_status mz_tokenizer_open(mz_context *ctx, const char *path, mz_tokenizer **out) {
    char *file = NULL;
    char *dir = NULL;
    mz_status status = MZ_OK;
    if (mz_dir_exists(path)) {
        status = find_file(ctx, path, &file);
        if (status == MZ_OK) {
            status = open_file(ctx, file, path, out);
        }
    } else {
        status = folder_of(ctx, path, &dir);
        if (status == MZ_OK) {
            status = open_file(ctx, path, dir, out);
        }
    }
    mz_free(ctx, dir);
    mz_free(ctx, file);
    return status;
}

int64_t mz_tokenizer_size(const mz_tokenizer *t) {
    return t->vocabulary.n;
}

const char *mz_tokenizer_kind(const mz_tokenizer *t) {
    return t->name;
}

int32_t mz_tokenizer_special(const mz_tokenizer *t, mz_special_token which) {
    return which >= 0 && which < MZ_SPECIAL_TOKEN_COUNT ? t->special[which] : -1;
}

bool mz_tokenizer_adds_bos(const mz_tokenizer *t) {
    return t->n_before > 0;
}

bool mz_tokenizer_adds_eos(const mz_tokenizer *t) {
    return t->n_after > 0;
}

int32_t mz_tokenizer_find(const mz_tokenizer *t, const char *text, size_t n_bytes) {
    return mz_vocabulary_find(&t->vocabulary, text, n_bytes);
}

bool mz_tokenizer_is_control(const mz_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary.n && t->vocabulary.pieces[id].type == MZ_PIECE_CONTROL;
}

const char *mz_tokenizer_chat_template(const mz_tokenizer *t) {
    return t->chat_template;
}

mz_status mz_token_list_push(mz_context *ctx, mz_token_list *list, int32_t id) {
    void *memory = list->ids;
    MZ_TRY(mz_grow(ctx, &memory, &list->capacity, (size_t)list->n + 1, sizeof *list->ids,
                   "token ids"));
    list->ids = memory;
    list->ids[list->n++] = id;
    return MZ_OK;
}

void mz_token_list_free(mz_context *ctx, mz_token_list *list) {
    mz_free(ctx, list->ids);
    *list = (mz_token_list){0};
}

static mz_status push_all(mz_context *ctx, mz_token_list *list, const int32_t *ids, int n) {
    for (int i = 0; i < n; i++) {
        MZ_TRY(mz_token_list_push(ctx, list, ids[i]));
    }
    return MZ_OK;
}

mz_status mz_tokenizer_encode(mz_context *ctx, const mz_tokenizer *t, const char *text,
                              size_t n_bytes, const mz_encode_options *options,
                              mz_token_list *list) {
    static const mz_encode_options none = {0};
    const mz_encode_options *o = options != NULL ? options : &none;
    if (n_bytes > max_text_bytes) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "a text of %zu bytes, at most %zu are allowed",
                       n_bytes, max_text_bytes);
    }
    if (o->add_special) {
        MZ_TRY(push_all(ctx, list, t->before, t->n_before));
    }
    if (n_bytes > 0) {
        char *repaired = NULL;
        if (!mz_utf8_valid(text, n_bytes)) {
            MZ_TRY(mz_utf8_repair(ctx, text, n_bytes, &repaired, &n_bytes));
        }
        const mz_status status =
            t->encoder->encode(ctx, t, repaired != NULL ? repaired : text, n_bytes, o, list);
        mz_free(ctx, repaired);
        MZ_TRY(status);
    }
    return o->add_special ? push_all(ctx, list, t->after, t->n_after) : MZ_OK;
}
