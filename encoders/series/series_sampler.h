/* Windows of series for training a forecasting model, from files and from a generator.
 *
 * An example is a pure function of (config, index): training can be resumed without any state of
 * the sampler, and any thread can make any example. Sources are tables (CSV, JSON lines), folders
 * of binary series as Time-MoE's training reads them (Shi et al. 2025), and synthetic series
 * (encoders/series/series_generator.h). Windows of real series are augmented: convex combinations
 * of several (TSMixup, Ansari et al. 2024, section 4.1), a coarser or finer grid in time, gains,
 * trends, jumps, clipping, reflections. */
#ifndef MZ_ENCODERS_SERIES_SERIES_SAMPLER_H
#define MZ_ENCODERS_SERIES_SERIES_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "encoders/series/series.h"
#include "encoders/series/series_reader.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_series_source_kind {
    MZ_SERIES_SOURCE_TABLE = 0, /* CSV or JSON lines (encoders/series/series_reader.h), held in
                                   memory as f32 */
    MZ_SERIES_SOURCE_BINARY,    /* folder with meta.json and data-*.bin, mapped */
    MZ_SERIES_SOURCE_GENERATOR, /* synthetic */
    MZ_SERIES_SOURCE_MEMORY,    /* the caller's series, held like a table's */
} mz_series_source_kind;

/* How the series of a group share its examples. */
typedef enum mz_series_weighting {
    MZ_SERIES_BY_SQRT_LENGTH = 0,
    MZ_SERIES_BY_LENGTH,
    MZ_SERIES_EVENLY,
} mz_series_weighting;

/* One source; what it does not use is ignored. Strings are borrowed for the life of the sampler. */
typedef struct mz_series_source {
    mz_series_source_kind kind;
    const char *path; /* file or folder; MEMORY: what messages call it; NULL for the generator */
    double share;     /* of the examples, in proportion to the other sources' shares */
    mz_series_options options; /* TABLE: how it is read */
    mz_missing missing;        /* TABLE, MEMORY: what is done about gaps */
    /* MEMORY: [n_series] as a reader gives them (values, NaN where missing; error, frequency and
     * season are looked at, dates are not); need not outlive the call that creates. */
    const mz_series *series;
    int64_t n_series;
    mz_series_weighting weighting;
    double group_power; /* 0..1. Ids "GROUP/..." form groups; one is drawn in proportion to
                           (its points)^group_power. Ids without '/' are one group */
} mz_series_source;

/* Probability that a window of a real series is changed in this way; each is drawn by itself. */
typedef struct mz_series_augment {
    double mix;         /* convex combination with one or two other series of the source */
    double aggregate;   /* each point the mean of 2..8 points */
    double interpolate; /* a grid 1.2 to 4 times finer, on lines between the points */
    double gain;        /* deviations multiplied by a gain that moves on lines, 0.4..1.6 */
    double trend;       /* a trend of a third to three deviations is added */
    double jump;        /* the level jumps at one or two points */
    double censor;      /* cut off above or below a quantile (60 to 95 percent are kept) */
    double negate;      /* upside down */
    double reverse;     /* backwards in time */
} mz_series_augment;

typedef struct mz_series_sampler_config {
    uint64_t seed;
    const mz_series_source *sources; /* [n_sources]; need not outlive the call that creates */
    int32_t n_sources;               /* 1 to 256 */
    int64_t max_points;              /* of a window, context and scored points; up to 2^20 */
    int64_t min_points;              /* at least 8; shorter series are left out */
    int64_t horizon;                 /* points that an answer has */
    double full_share; /* windows of max_points; the others' lengths are log-uniform */
    double late_share; /* windows in which only the last points are scored, as many as
                          an answer has; else the scored part begins anywhere */
    mz_series_augment augment;
    bool even_weights; /* every window has weight 1 */
} mz_series_sampler_config;

/* The defaults: seed 0, no sources, 2048 + 64 points, at least 8, horizon 64, half of the windows
 * full, half late, moderate augmentation, weights on. */
mz_series_sampler_config mz_series_sampler_config_default(void);

/* A source with the defaults: share 1, gaps on lines, square root of length, group power 0.5. */
mz_series_source mz_series_source_default(mz_series_source_kind kind, const char *path);

/* Opaque; immutable once created. */
typedef struct mz_series_sampler mz_series_sampler;

/* One example. `values` is the caller's buffer of max_points; the rest is filled. */
typedef struct mz_series_window {
    float *values;
    int64_t n_values;  /* min_points..max_points */
    int64_t n_context; /* values before the scored part: at least max(4, n_values / 16) and at most
                          n_values - min(horizon, n_values / 3) */
    float weight;      /* of the window's loss, 1..5 */
    int32_t source;    /* its index in the config */
    int64_t series; /* index among the kept series of the source; the family of a synthetic one */
} mz_series_window;

/* Reads and maps all sources. Errors: those of mz_series_open; of the folder (meta.json and sizes
 * of files, see series_binary_internal.h): IO, FORMAT, LIMIT, UNSUPPORTED; MISSING for a source
 * without a usable series; ARG for a number of the config that is outside its range; NOMEM. */
mz_status mz_series_sampler_create(mz_context *ctx, const mz_series_sampler_config *config,
                                   mz_series_sampler **out);
void mz_series_sampler_destroy(mz_context *ctx, mz_series_sampler *sampler);

/* Bytes of scratch that a call of mz_series_sampler_get uses; one block a thread, aligned for
 * floats. */
size_t mz_series_sampler_scratch_bytes(const mz_series_sampler *sampler);

/* Example `index`. Several threads may call it at once, each with its own `scratch` and window.
 *
 * The values are finite, of magnitude at most MZ_SERIES_WINDOW_LIMIT (only scored points can reach
 * it), and scaled so that the first n_context have mean 0 and population deviation 1. Where these
 * are all equal, they are 0 and the others have deviation 1 over the whole window; a window that is
 * constant is all 0. The scored part begins after the first change of a series where that leaves
 * enough to score, and as late as it may where a scored value would exceed 50.
 *
 * The weight brings an error in these units to what it is in the mean absolute scaled error
 * (Hyndman and Koehler 2006), whose unit is the mean absolute seasonal difference: deviation of the
 * context over the smallest of its mean absolute differences at lags 1, 4, 7, 12, 24, 48, 96, 168
 * and 336 (those up to half the context), relative to MZ_SERIES_TYPICAL_RATIO, cut to 1..5. So
 * smooth and strictly seasonal series, of which more is forecastable, count more. */
void mz_series_sampler_get(const mz_series_sampler *sampler, uint64_t index, void *scratch,
                           mz_series_window *out);

enum { MZ_SERIES_WINDOW_LIMIT = 1000 };

/* Two of five windows of a mixture of M3, M4, electricity, server and shop data lie below it, one
 * in seven at five times as much or above. */
#define MZ_SERIES_TYPICAL_RATIO 2.0

/* What a sampler draws from. Strings are borrowed from the sampler. */
typedef struct mz_series_source_info {
    mz_series_source_kind kind;
    const char *path; /* "synthetic" for the generator */
    double share;     /* probability that an example is of this source */
    int64_t n_series; /* 0 for the generator, as are the next three */
    int64_t n_points;
    int64_t n_groups;
    int64_t n_skipped; /* series too short or with an error of their own */
} mz_series_source_info;

typedef struct mz_series_group_info {
    const char *name; /* "" where ids have no groups */
    int64_t n_series, n_points;
    double share; /* probability within its source */
} mz_series_group_info;

/* For a line of a dry run: source `source` of those in the config, and its groups. */
int32_t mz_series_sampler_n_sources(const mz_series_sampler *sampler);
void mz_series_sampler_describe(const mz_series_sampler *sampler, int32_t source,
                                mz_series_source_info *out);
void mz_series_sampler_describe_group(const mz_series_sampler *sampler, int32_t source,
                                      int64_t group, mz_series_group_info *out);

#ifdef __cplusplus
}
#endif
#endif
