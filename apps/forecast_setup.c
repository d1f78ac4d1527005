#include "apps/forecast_setup.h"

#include <string.h>

#include "apps/zoo/zoo.h"

enum { MAX_CONTEXT = 1 << 18 };

int mz_forecast_input_options(mz_forecast_inputs *in, mz_option *out) {
    const mz_option options[MZ_FORECAST_INPUT_OPTIONS] = {
        {"horizon", 'n', MZ_OPTION_INT, "N", "how many values to forecast, 1 to 65536 (required)",
         1, MZ_MAX_HORIZON, NULL, &in->horizon},
        {"columns", 0, MZ_OPTION_STRING, "A,B",
         "CSV columns to read, by name or as #2 (default: all but a first one of dates or labels)",
         0, 0, NULL, &in->columns},
        {"context", 'c', MZ_OPTION_INT, "N",
         "newest values to look at (default: what the model was trained for, less the horizon)", 1,
         MAX_CONTEXT, NULL, &in->context_len},
        {"model", 'm', MZ_OPTION_STRING, "DIR|NAME",
         "checkpoint folder or name (default timemoe-nano; moezoo models list)", 0, 0, NULL,
         &in->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &in->models_dir},
        {"normalize", 0, MZ_OPTION_CHOICE, NULL,
         "scale by mean and deviation of the values looked at, or not (default window)", 0, 0,
         "window|none", &in->normalize},
        {"missing", 0, MZ_OPTION_CHOICE, NULL,
         "fill gaps on a line or with the last value, close them up, or refuse (default linear)", 0,
         0, "linear|forward|drop|error", &in->missing},
        {"precision", 0, MZ_OPTION_CHOICE, NULL,
         "arithmetic of the products; bf16 is faster (default f32)", 0, 0, "f32|bf16",
         &in->precision},
    };
    memcpy(out, options, sizeof options);
    return MZ_FORECAST_INPUT_OPTIONS;
}

mz_status mz_forecast_setup_open(mz_context *ctx, const mz_forecast_inputs *in,
                                 mz_forecast_setup *out) {
    const mz_series_options series = {.columns = in->columns};
    const mz_load_options load = {.precision = (mz_precision)in->precision};
    void *memory = NULL;
    out->ctx = ctx;
    MZ_TRY(mz_series_open(ctx, in->file, &series, &out->reader));
    MZ_TRY(mz_cli_find_model(ctx, in->model, in->models_dir, "timemoe-nano", &out->model_dir));
    MZ_TRY(mz_cli_model_name(ctx, out->model_dir, &out->model_name));
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_forecast_batch), "batch", &memory));
    out->batch = memory;
    out->batch->ctx = ctx;
    out->batch->options = (mz_forecast_options){.horizon = in->horizon,
                                                .context_len = in->context_len,
                                                .normalize = (mz_normalize)in->normalize};
    out->batch->missing = (mz_missing)in->missing;
    return mz_zoo_load_forecaster(ctx, out->model_dir, &load, &out->batch->forecaster);
}

void mz_forecast_setup_close(mz_forecast_setup *s) {
    if (s->batch != NULL) {
        mz_forecast_batch_close(s->batch);
        mz_forecaster_close(s->batch->forecaster);
    }
    if (s->ctx != NULL) {
        mz_free(s->ctx, s->batch);
        mz_free(s->ctx, s->model_name);
        mz_free(s->ctx, s->model_dir);
    }
    if (s->reader != NULL) {
        mz_series_close(s->reader);
    }
    *s = (mz_forecast_setup){0};
}
