#include "apps/zoo/language_model_internal.h"

#include <string.h>

#include "apps/zoo/gguf_map.h"
#include "core/gguf.h"

static void fill_info(mz_language_model *m, const mz_family *family, const mz_text_config *c) {
    m->info = (mz_language_model_info){.family = family->name,
                                       .vocab_size = c->vocab_size,
                                       .d_model = c->d_model,
                                       .n_layers = c->n_layers,
                                       .n_kv_heads = c->n_kv_heads,
                                       .head_dim = c->head_dim,
                                       .head_dim_v = c->head_dim_v,
                                       .max_positions = c->max_positions};
    for (int i = 0; i < c->n_end_tokens; i++) {
        m->info.end_tokens[m->info.n_end_tokens++] = c->end_tokens[i];
    }
    const mz_weights *weights = m->text.loader.weights;
    for (int64_t i = 0; weights != NULL && i < mz_weights_n_files(weights); i++) {
        size_t n_bytes = 0;
        (void)mz_weights_file(weights, i, &n_bytes);
        m->info.file_bytes += n_bytes;
    }
}

/* Where a GGUF file has a published tensor. */
typedef struct gguf_names {
    const mz_gguf *gguf;
    char architecture[64];
} gguf_names;

static bool place_in_gguf(const void *self, const char *published, mz_tensor_place *out) {
    const gguf_names *names = self;
    mz_gguf_place place;
    mz_tensor unused;
    int part = 0;
    *out = (mz_tensor_place){.slice = -1};
    if (!mz_gguf_tensor_place(names->architecture, published, &place)) {
        return false;
    }
    if (!mz_gguf_tensor(names->gguf, place.name, &unused)) {
        if (mz_gguf_fused_name(published, out->name, &part) &&
            mz_gguf_tensor(names->gguf, out->name, &unused)) {
            out->slice = part;
            out->n_slices = 3;
            return true;
        }
        if (mz_gguf_expert_name(names->architecture, published, out->name) &&
            mz_gguf_tensor(names->gguf, out->name, &unused)) {
            return true;
        }
    }
    memcpy(out->name, place.name, sizeof out->name);
    out->slice = place.slice;
    return true;
}

static mz_status read_architecture(mz_context *ctx, const mz_gguf *gguf, gguf_names *out) {
    const char *text = NULL;
    size_t n = 0;
    MZ_TRY(mz_gguf_text(gguf, &ctx->error, "general.architecture", &text, &n));
    if (text == NULL || n >= sizeof out->architecture) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no general.architecture",
                       mz_gguf_path(gguf));
    }
    memcpy(out->architecture, text, n);
    out->architecture[n] = '\0';
    out->gguf = gguf;
    return MZ_OK;
}

/* What a checkpoint has beside its config and weights. */
typedef struct checkpoint {
    const char *path;    /* NULL: fresh */
    const mz_gguf *gguf; /* NULL: a folder */
    bool weights_only;   /* the tokenizer does not matter */
} checkpoint;

static void add_end_token(mz_language_model *m, int32_t id) {
    mz_language_model_info *info = &m->info;
    for (int i = 0; i < info->n_end_tokens; i++) {
        if (info->end_tokens[i] == id) {
            return;
        }
    }
    if (id >= 0 && info->n_end_tokens < MZ_MAX_END_TOKENS) {
        info->end_tokens[info->n_end_tokens++] = id;
    }
}

/* The tokenizer, where the checkpoint has one. */
static mz_status load_tokenizer(mz_context *ctx, const checkpoint *from, mz_language_model *m) {
    if (from->path == NULL || from->weights_only) {
        return MZ_OK;
    }
    const mz_status status = from->gguf != NULL
                                 ? mz_tokenizer_open_gguf(ctx, from->gguf, &m->tokenizer)
                                 : mz_tokenizer_open(ctx, from->path, &m->tokenizer);
    if (status == MZ_ERR_MISSING) {
        m->tokenizer = NULL;
        return mz_strdup(ctx, ctx->error.message, &m->missing);
    }
    MZ_TRY(status);
    if (mz_tokenizer_size(m->tokenizer) > m->info.vocab_size) {
        return mz_fail(&ctx->error, MZ_ERR_SHAPE,
                       "%s: the tokenizer has %lld ids, the embedding %lld rows", from->path,
                       (long long)mz_tokenizer_size(m->tokenizer), (long long)m->info.vocab_size);
    }
    add_end_token(m, mz_tokenizer_special(m->tokenizer, MZ_TOKEN_EOS));
    return MZ_OK;
}

/* Weights and tokenizer; fresh weights where the options say so. */
static mz_status load_model(mz_context *ctx, const mz_family *family, const mz_json_object *config,
                            const checkpoint *from, const mz_load_options *options,
                            mz_language_model *m) {
    const mz_backend *backend = options->backend != NULL ? options->backend : mz_backend_cpu();
    mz_loader_options weights = options->weights;
    gguf_names names = {0};
    mz_text_config c;
    MZ_TRY(family->read_text(config, &c));
    if (from->gguf != NULL) {
        MZ_TRY(read_architecture(ctx, from->gguf, &names));
        weights.names = (mz_loader_names){place_in_gguf, &names};
    }
    MZ_TRY(
        mz_text_decoder_open(ctx, &c, backend, from->path, &weights, options->precision, &m->text));
    m->text.loader.names = (mz_loader_names){0};
    fill_info(m, family, &c);
    return load_tokenizer(ctx, from, m);
}

static mz_status create_model(const mz_family *family, const mz_json_object *config,
                              const checkpoint *from, const mz_load_options *options,
                              mz_language_model **out) {
    mz_context *ctx = config->ctx;
    void *memory = NULL;
    if (family->read_text == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: a model for %s, which cannot answer",
                       from->path != NULL ? from->path : config->name, family->job);
    }
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_language_model), "language model", &memory));
    mz_language_model *m = memory;
    m->ctx = ctx;
    const mz_status status = load_model(ctx, family, config, from, options, m);
    if (status != MZ_OK) {
        mz_language_model_close(m);
        return status;
    }
    *out = m;
    return MZ_OK;
}

static mz_status load_checkpoint(mz_context *ctx, const char *path, bool weights_only,
                                 const mz_load_options *options, mz_language_model **out) {
    const mz_family *family = NULL;
    json_t *config = NULL;
    char *name = NULL;
    mz_gguf *gguf = NULL;
    MZ_TRY(mz_zoo_identify(ctx, path, &family, &config));
    mz_status status = mz_zoo_config_name(ctx, path, &name);
    if (status == MZ_OK && mz_zoo_is_gguf(path)) {
        status = mz_gguf_open(ctx, path, &gguf);
    }
    if (status == MZ_OK) {
        const checkpoint from = {path, gguf, weights_only};
        status = create_model(family, &(mz_json_object){ctx, config, name}, &from, options, out);
    }
    mz_gguf_close(ctx, gguf);
    mz_free(ctx, name);
    json_decref(config);
    return status;
}

mz_status mz_zoo_load_language_model(mz_context *ctx, const char *path,
                                     const mz_load_options *options, mz_language_model **out) {
    return load_checkpoint(ctx, path, false, options, out);
}

mz_status mz_zoo_check_language_model(mz_context *ctx, const char *path) {
    static const mz_load_options options = {.precision = MZ_PRECISION_F32};
    mz_language_model *model = NULL;
    MZ_TRY(load_checkpoint(ctx, path, true, &options, &model));
    mz_language_model_close(model);
    return MZ_OK;
}

mz_status mz_zoo_create_language_model(mz_context *ctx, const json_t *config, const char *name,
                                       const mz_load_options *options, mz_dtype weights_dtype,
                                       mz_language_model **out) {
    static const mz_init init = {.seed = 1};
    const mz_family *family = NULL;
    mz_load_options fresh = *options;
    MZ_TRY(mz_zoo_find_family(ctx, name, config, &family));
    fresh.weights.init = options->weights.init != NULL ? options->weights.init : &init;
    fresh.weights.init_dtype = weights_dtype;
    return create_model(family, &(mz_json_object){ctx, config, name}, &(checkpoint){0}, &fresh,
                        out);
}

void mz_language_model_close(mz_language_model *model) {
    if (model == NULL) {
        return;
    }
    mz_context *ctx = model->ctx;
    mz_tokenizer_close(ctx, model->tokenizer);
    mz_text_decoder_close(ctx, &model->text);
    mz_free(ctx, model->missing);
    mz_free(ctx, model);
}

const mz_language_model_info *mz_language_model_info_of(const mz_language_model *model) {
    return &model->info;
}

mz_status mz_language_model_tokenizer(mz_context *ctx, const mz_language_model *model,
                                      const mz_tokenizer **out) {
    if (model->tokenizer == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s",
                       model->missing != NULL ? model->missing : "the model has no tokenizer");
    }
    *out = model->tokenizer;
    return MZ_OK;
}
