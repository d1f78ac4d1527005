/* A loaded forecasting model of any family: series in, forecasts out. */
#ifndef MZ_APPS_ZOO_FORECASTER_H
#define MZ_APPS_ZOO_FORECASTER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/backend.h"
#include "core/loader.h"
#include "core/profile.h"
#include "encoders/series/series.h"
#include "experts/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; one thread. */
typedef struct mz_forecaster mz_forecaster;

typedef struct mz_load_options {
    const mz_backend *backend; /* NULL: mz_backend_cpu() */
    mz_precision precision;
    mz_loader_options weights; /* fresh or trainable ones; all zero: as the checkpoint has them */
    const char *adapter;       /* folder of one to attach; NULL: none */
} mz_load_options;

typedef struct mz_forecast_options {
    int64_t horizon;     /* 1 to MZ_MAX_HORIZON */
    int64_t context_len; /* newest values used; 0: what the model was trained for, less the horizon,
                            but at least 64 */
    mz_normalize normalize;
    bool overshoot; /* the shortest head that covers what is left of the horizon, cut, instead of
                       the longest that fits: fewer passes, and not the published schedule */
} mz_forecast_options;

enum {
    MZ_MAX_HORIZON = 65536,
    MZ_MAX_MODEL_LEVELS = 32, /* quantile levels that a model answers */
};

/* Flags in mz_forecast_item.warnings. */
enum {
    MZ_FORECAST_NAIVE =
        1 << 0, /* one value, and window normalisation leaves nothing of it: repeated */
    MZ_FORECAST_CONSTANT = 1 << 1, /* all values equal, likewise */
    MZ_FORECAST_SHORT = 1 << 2,    /* under 16 values: the model ran, expect little */
    MZ_FORECAST_BEYOND_TRAINING =
        1 << 3,                   /* context + horizon exceed what the model was trained for */
    MZ_FORECAST_CLAMPED = 1 << 4, /* a forecast left the range of f64 and was clamped to its end */
};

/* One series to forecast. The caller owns all memory.
 *
 * With n_past above 0 the pass that reads the values also forecasts from earlier positions, at
 * little more than the cost of the last block there: row i of `past` is what the shortest head that
 * covers the horizon (or the longest) said before it saw the newest i + 1 values. Departures from a
 * forecast of those values alone: they are scaled by mean and deviation of all values used, and one
 * head answers where the published schedule may join several. Only for models without quantile
 * levels. */
typedef struct mz_forecast_item {
    const double *values; /* [n_values], finite, oldest first */
    int64_t n_values;     /* at least 1 */
    double *forecast;     /* [horizon], filled */
    uint32_t warnings;    /* filled */
    double *quantiles; /* [levels of mz_forecaster_levels, horizon], filled, ascending at each step;
                          NULL: not wanted. Left alone where the model has no levels */
    int64_t n_past;    /* below the number of values used; 0: none */
    double *past;      /* [n_past, mz_forecaster_reach], filled; may hold what is not finite */
} mz_forecast_item;

/* Releases model and session; accepts NULL. */
void mz_forecaster_close(mz_forecaster *f);

/* Attaches the low-rank adapter (adapters/lora.h) in folder `dir`; it is not trained. Those of
 * several add up. Errors: those of mz_lora_load. */
mz_status mz_forecaster_load_adapter(mz_forecaster *f, const char *dir);

/* Takes all of them off again: the answers are those of the model alone, bit for bit. */
void mz_forecaster_unload_adapters(mz_forecaster *f);

/* Positions the model was trained for (context + horizon), 0 if unknown. */
int64_t mz_forecaster_max_positions(const mz_forecaster *f);

/* Quantile levels that the model answers itself, ascending, 0.5 among them; *levels lives as long
 * as the forecaster. Returns how many, at most MZ_MAX_MODEL_LEVELS; 0 for a model of points. The
 * forecast of a model with levels is its quantile 0.5. */
int32_t mz_forecaster_levels(const mz_forecaster *f, const double **levels);

/* How many of the items, from the first, one batch should hold, so that memory stays bounded. At
 * least 1. */
int64_t mz_forecaster_batch_size(const mz_forecaster *f, const mz_forecast_options *options,
                                 const mz_forecast_item *items, int64_t n_items);

/* Newest values of a series of n_values that a forecast uses. */
int64_t mz_forecaster_context_len(const mz_forecaster *f, const mz_forecast_options *options,
                                  int64_t n_values);

/* Steps that one head forecasts: the horizon, or the length of the longest head if that is less. */
int64_t mz_forecaster_reach(const mz_forecaster *f, const mz_forecast_options *options);

/* Forecasts all items in one ragged batch. Each answer equals that of the item alone, with or
 * without n_past. Errors: ARG for options or n_past out of range; LIMIT; NOMEM; DEVICE;
 * INTERRUPTED by the watch. */
mz_status mz_forecaster_run(mz_forecaster *f, const mz_forecast_options *options,
                            mz_forecast_item *items, int64_t n_items);

/* Looks on between the passes of a run: `n_rows` of about `n_total` have entered the model. False
 * ends the run, with INTERRUPTED. */
typedef struct mz_forecast_watch {
    bool (*passed)(void *self, int64_t n_rows, int64_t n_total); /* NULL: nobody looks on */
    void *self;
} mz_forecast_watch;

/* For all runs from now on. */
void mz_forecaster_set_watch(mz_forecaster *f, mz_forecast_watch watch);

/* Runs n values, scaled already, through the model in one pass in which every row is wanted (of
 * one value, or of a patch), and records "embed", what the blocks and the decoder record, and
 * "head0", "head1", ... (layer -1). For goldens. Errors: as mz_forecaster_run. */
mz_status mz_forecaster_trace(mz_forecaster *f, const float *values, int64_t n_values,
                              const mz_trace *trace);

/* Times ops from now on into `profile` (NULL: stops). */
void mz_forecaster_set_profile(mz_forecaster *f, mz_profile *profile);

#ifdef __cplusplus
}
#endif
#endif
