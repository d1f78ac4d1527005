#include "apps/zoo/language_model_internal.h"

#include <string.h>

#include "core/file.h"

static mz_status fill_info(mz_language_model *m, const mz_family *family, const mz_text_config *c) {
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
    return MZ_OK;
}

/* Weights of the checkpoint at `path`, or fresh ones where the options say so. */
static mz_status load_model(mz_context *ctx, const mz_family *family, const mz_json_object *config,
                            const char *path, const mz_load_options *options,
                            mz_language_model *m) {
    mz_text_config c;
    MZ_TRY(family->read_text(config, &c));
    MZ_TRY(mz_text_decoder_open(ctx, &c,
                                options->backend != NULL ? options->backend : mz_backend_cpu(),
                                path, &options->weights, options->precision, &m->text));
    return fill_info(m, family, &c);
}

static mz_status create_model(mz_context *ctx, const mz_family *family,
                              const mz_json_object *config, const char *path,
                              const mz_load_options *options, mz_language_model **out) {
    void *memory = NULL;
    if (family->read_text == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: a model for %s, which cannot answer",
                       path != NULL ? path : config->name, family->job);
    }
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_language_model), "language model", &memory));
    mz_language_model *m = memory;
    m->ctx = ctx;
    const mz_status status = load_model(ctx, family, config, path, options, m);
    if (status != MZ_OK) {
        mz_language_model_close(m);
        return status;
    }
    *out = m;
    return MZ_OK;
}

mz_status mz_zoo_load_language_model(mz_context *ctx, const char *path,
                                     const mz_load_options *options, mz_language_model **out) {
    const mz_family *family = NULL;
    json_t *config = NULL;
    char *name = NULL;
    MZ_TRY(mz_zoo_identify(ctx, path, &family, &config));
    mz_status status = mz_path_join(ctx, path, "config.json", &name);
    if (status == MZ_OK) {
        status =
            create_model(ctx, family, &(mz_json_object){ctx, config, name}, path, options, out);
    }
    mz_free(ctx, name);
    json_decref(config);
    return status;
}

mz_status mz_zoo_create_language_model(mz_context *ctx, const json_t *config, const char *name,
                                       const mz_load_options *options, mz_dtype weights_dtype,
                                       mz_language_model **out) {
    const mz_family *family = NULL;
    MZ_TRY(mz_zoo_find_family(ctx, name, config, &family));
    if (weights_dtype != MZ_DTYPE_F32) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: fresh weights of type %s", name,
                       mz_dtype_get(weights_dtype)->name);
    }
    return create_model(ctx, family, &(mz_json_object){ctx, config, name}, NULL, options, out);
}

void mz_language_model_close(mz_language_model *model) {
    if (model == NULL) {
        return;
    }
    mz_context *ctx = model->ctx;
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
