#include "apps/zoo/series_training.h"

#include <math.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/series_rows.h"
#include "apps/zoo/zoo.h"
#include "core/cpu.h"
#include "core/file.h"
#include "core/safetensors_write.h"

/* Micro-batch b draws windows from index b * BATCH_STRIDE on; evaluations from EVALUATION_FIRST. */
#define BATCH_STRIDE ((uint64_t)1 << 20)
#define EVALUATION_FIRST ((uint64_t)1 << 62)

typedef struct series_training {
    mz_trainable trainable; /* its `self` is this */
    mz_context *ctx;
    mz_series_training_config config; /* strings are not read any more */
    json_t *model_config;
    mz_parameters parameters;
    mz_forecaster *forecaster;
    mz_lora *adapter; /* NULL: the model is trained */
    mz_forecast_training *training;
    mz_series_sampler *sampler;
    mz_series_rows rows;
    void *scratch; /* of the sampler */
    float *values; /* [max_points] of a window */
} series_training;

/* ---- batches ---- */

/* Fills the rows with windows from index `first` on: at most `n_windows`, as many as fit. */
static mz_status draw_batch(series_training *t, uint64_t first, int64_t n_windows,
                            int64_t *n_points) {
    mz_series_rows_clear(&t->rows);
    *n_points = 0;
    for (int64_t i = 0; i < n_windows; i++) {
        mz_series_window window = {.values = t->values};
        mz_series_sampler_get(t->sampler, first + (uint64_t)i, t->scratch, &window);
        if (i > 0 && *n_points + window.n_values > t->config.batch_points) {
            break;
        }
        *n_points += window.n_values;
        MZ_TRY(mz_series_rows_add(t->ctx, &t->rows, &window, t->config.row_power));
    }
    return MZ_OK;
}

static mz_status gradients(void *self, int64_t step, int micro, int n_micro,
                           mz_train_report *report) {
    series_training *t = self;
    const uint64_t batch = (uint64_t)step * (uint64_t)n_micro + (uint64_t)micro;
    int64_t n_points = 0;
    MZ_TRY(draw_batch(t, batch * BATCH_STRIDE, (int64_t)BATCH_STRIDE, &n_points));
    const mz_forecast_rows rows = mz_series_rows_view(&t->rows);
    MZ_TRY(
        mz_forecast_training_gradients(t->training, &rows, &t->config.loss, 1.0 / n_micro, report));
    report->n_points = n_points;
    return MZ_OK;
}

static mz_status evaluate(void *self, mz_train_report *report) {
    series_training *t = self;
    const int64_t n = t->config.evaluation_examples;
    *report = (mz_train_report){0};
    for (int64_t done = 0; done < n;) {
        mz_train_report one;
        int64_t n_points = 0;
        MZ_TRY(draw_batch(t, EVALUATION_FIRST + (uint64_t)done, n - done, &n_points));
        const mz_forecast_rows rows = mz_series_rows_view(&t->rows);
        MZ_TRY(mz_forecast_training_loss(t->training, &rows, &t->config.loss, &one));
        one.n_points = n_points;
        mz_train_report_add(report, &one, (double)t->rows.n_windows / (double)n);
        done += t->rows.n_windows;
    }
    return MZ_OK;
}

/* ---- saving ---- */

static mz_status write_config(series_training *t, const char *dir) {
    char *path = NULL;
    mz_output out = {0};
    MZ_TRY(mz_path_join(t->ctx, dir, "config.json", &path));
    mz_status status = mz_output_open(t->ctx, path, &out);
    if (status == MZ_OK) {
        (void)json_dumpf(t->model_config, out.stream,
                         JSON_INDENT(2) | JSON_REAL_PRECISION(15)); /* commit checks writes */
        (void)fputc('\n', out.stream);
        status = mz_output_commit(t->ctx, &out);
    }
    mz_free(t->ctx, path);
    return status;
}

static mz_status write_weights(series_training *t, const char *dir, const mz_tensor *values,
                               mz_dtype dtype) {
    void *memory = NULL;
    char *path = NULL;
    MZ_TRY(mz_calloc(t->ctx, (size_t)t->parameters.n, sizeof(mz_safetensors_item), "tensors",
                     &memory));
    mz_safetensors_item *items = memory;
    for (int64_t i = 0; i < t->parameters.n; i++) {
        const mz_parameter *p = &t->parameters.items[i];
        items[i] = (mz_safetensors_item){
            .name = p->name, .tensor = values != NULL ? values[i] : p->value, .dtype = dtype};
    }
    mz_status status = mz_path_join(t->ctx, dir, "model.safetensors", &path);
    if (status == MZ_OK) {
        status = mz_safetensors_write(t->ctx, path, items, t->parameters.n, NULL, 0);
    }
    mz_free(t->ctx, path);
    mz_free(t->ctx, items);
    return status;
}

static mz_status save(void *self, const char *dir, const mz_tensor *values, mz_dtype dtype) {
    series_training *t = self;
    if (t->adapter != NULL) {
        return mz_lora_save(t->adapter, dir, values, dtype);
    }
    MZ_TRY(write_weights(t, dir, values, dtype));
    return write_config(t, dir);
}

/* ---- life ---- */

static void destroy(void *self) {
    series_training *t = self;
    if (t == NULL) {
        return;
    }
    mz_context *ctx = t->ctx;
    mz_forecast_training_destroy(t->training);
    mz_lora_destroy(t->adapter);
    mz_forecaster_close(t->forecaster);
    mz_parameters_free(ctx, &t->parameters);
    mz_series_sampler_destroy(ctx, t->sampler);
    mz_series_rows_free(ctx, &t->rows);
    mz_free(ctx, t->scratch);
    mz_free(ctx, t->values);
    json_decref(t->model_config);
    mz_free(ctx, t);
}

static bool has_adapter(const mz_series_training_config *c) {
    return c->lora != NULL || c->adapter != NULL;
}

static mz_status check_adapter(mz_error *err, const mz_series_training_config *c) {
    if (c->lora != NULL && c->adapter != NULL) {
        return mz_fail(err, MZ_ERR_ARG, "%s: a fresh adapter and this one, expected one of them",
                       c->adapter);
    }
    if (has_adapter(c) && c->checkpoint == NULL) {
        return mz_fail(err, MZ_ERR_ARG, "%s: an adapter needs a checkpoint below it, not a config",
                       c->model_name);
    }
    return MZ_OK;
}

static mz_status attach_adapter(series_training *t) {
    const mz_series_training_config *c = &t->config;
    const mz_loader *base = &mz_forecaster_parts_of(t->forecaster)->loader;
    if (c->lora != NULL) {
        MZ_TRY(mz_lora_create(t->ctx, base, c->lora, c->lora_seed, &t->parameters, &t->adapter));
    } else {
        MZ_TRY(mz_lora_load(t->ctx, base, c->adapter, &t->parameters, &t->adapter));
    }
    mz_lora_attach(t->adapter);
    return MZ_OK;
}

/* The adapter's values are found beside the activations. */
static mz_status train_adapter(series_training *t) {
    const void *values = NULL;
    void *gradients_of_values = NULL;
    size_t n_bytes = 0;
    mz_lora_spaces(t->adapter, &values, &gradients_of_values, &n_bytes);
    return mz_forecast_training_add_parameters(t->training, values, gradients_of_values, n_bytes);
}

static mz_status load_model(series_training *t) {
    const mz_series_training_config *c = &t->config;
    mz_load_options load = {.precision = c->precision,
                            .weights.parameters = has_adapter(c) ? NULL : &t->parameters};
    if (c->checkpoint == NULL) {
        load.weights.init = &c->init;
        t->model_config = json_deep_copy(c->model_config);
        if (t->model_config == NULL) {
            return mz_fail(&t->ctx->error, MZ_ERR_NOMEM, "no memory for the model's config");
        }
        return mz_zoo_create_forecaster(t->ctx, t->model_config, c->model_name, &load,
                                        &t->forecaster);
    }
    char *path = NULL;
    MZ_TRY(mz_path_join(t->ctx, c->checkpoint, "config.json", &path));
    mz_status status = mz_json_load(t->ctx, path, &t->model_config);
    mz_free(t->ctx, path);
    if (status == MZ_OK) {
        status = mz_zoo_load_forecaster(t->ctx, c->checkpoint, &load, &t->forecaster);
    }
    return status;
}

/* The rows of a full batch, before any are made: a batch far too large would take all of the
 * machine's memory. */
static mz_status check_batch(mz_error *err, const series_training *t,
                             const mz_forecaster_parts *parts) {
    double row_bytes = (double)mz_forecaster_parts_input_width(parts) * sizeof(float);
    for (int32_t h = 0; h < parts->heads.n_heads; h++) {
        row_bytes += (double)parts->heads.length[h] * 2 * sizeof(float); /* target and weight */
    }
    const double n_rows = (double)t->config.batch_points / (double)parts->patch_len;
    const double limit = (double)mz_memory_bytes() / 4; /* arrays grow to twice what they need */
    if (n_rows * row_bytes <= limit) {
        return MZ_OK;
    }
    return mz_fail(err, MZ_ERR_LIMIT,
                   "a batch of %lld points has rows of %.3g bytes, this machine allows %.3g",
                   (long long)t->config.batch_points, n_rows * row_bytes, limit);
}

static mz_status prepare(series_training *t) {
    void *memory = NULL;
    const mz_series_sampler_config *s = &t->config.sampler;
    MZ_TRY(check_adapter(&t->ctx->error, &t->config));
    MZ_TRY(load_model(t));
    if (has_adapter(&t->config)) {
        MZ_TRY(attach_adapter(t));
    }
    const mz_forecaster_parts *parts = mz_forecaster_parts_of(t->forecaster);
    MZ_TRY(check_batch(&t->ctx->error, t, parts));
    MZ_TRY(mz_series_sampler_create(t->ctx, s, &t->sampler));
    MZ_TRY(mz_alloc(t->ctx, mz_series_sampler_scratch_bytes(t->sampler), "sampler", &t->scratch));
    MZ_TRY(mz_alloc(t->ctx, (size_t)s->max_points * sizeof(float), "window", &memory));
    t->values = memory;
    mz_series_rows_init(&t->rows, parts);
    MZ_TRY(mz_forecast_training_create(t->ctx, t->forecaster, s->max_points / parts->patch_len + 2,
                                       t->config.recompute, &t->training));
    return t->adapter != NULL ? train_adapter(t) : MZ_OK;
}

mz_status mz_series_training_create(mz_context *ctx, const mz_series_training_config *config,
                                    mz_trainable **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(series_training), "training", &memory));
    series_training *t = memory;
    t->ctx = ctx;
    t->config = *config;
    t->trainable = (mz_trainable){.self = t,
                                  .parameters = &t->parameters,
                                  .gradients = gradients,
                                  .evaluate = config->evaluation_examples > 0 ? evaluate : NULL,
                                  .save = save,
                                  .destroy = destroy};
    const mz_status status = prepare(t);
    if (status != MZ_OK) {
        destroy(t);
        return status;
    }
    *out = &t->trainable;
    return MZ_OK;
}

const mz_series_sampler *mz_series_training_sampler(const mz_trainable *trainable) {
    return ((const series_training *)trainable->self)->sampler;
}

mz_forecaster *mz_series_training_forecaster(const mz_trainable *trainable) {
    return ((const series_training *)trainable->self)->forecaster;
}

bool mz_series_training_has_levels(const mz_trainable *trainable) {
    const series_training *t = trainable->self;
    return mz_forecaster_parts_of(t->forecaster)->n_quantiles > 0;
}

size_t mz_series_training_peak_bytes(const mz_trainable *trainable) {
    return mz_forecast_training_peak_bytes(((const series_training *)trainable->self)->training);
}

void mz_series_training_set_profile(mz_trainable *trainable, mz_profile *profile) {
    mz_forecast_training_set_profile(((series_training *)trainable->self)->training, profile);
}
