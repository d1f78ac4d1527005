/* A time series in memory, filling its gaps, and scaling a window of it for a model. */
#ifndef MZ_ENCODERS_SERIES_SERIES_H
#define MZ_ENCODERS_SERIES_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "encoders/series/calendar.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One series. Whoever fills it owns what it points to; NaN marks a missing value, infinities do not
 * occur. What is not known is 0 or NULL. */
typedef struct mz_series {
    char *id;
    double *values; /* [n_values], oldest first */
    int64_t n_values;
    mz_stamp *stamps;         /* [n_values] ascending; NULL: the points have no dates */
    mz_frequency frequency;   /* of the stamps; NONE: irregular, so that the future has no dates */
    mz_stamp_form form;       /* how the input writes the stamps */
    int64_t season;           /* points in a season as the input says; 0: it does not */
    const char *value_name;   /* what the values are, where the id does not say it */
    const char *error;        /* why the series is of no use; NULL: it is of use */
    const char *const *notes; /* [n_notes] what was repaired, for the reader of the answer */
    int n_notes;
} mz_series;

/* Copies what of an id fits for a message: a cut is marked by "...", so that what follows the id in
 * the message has room. */
enum { MZ_SERIES_ID_SHOWN_BYTES = 160 };
void mz_series_show_id(const char *id, char shown[MZ_SERIES_ID_SHOWN_BYTES]);

typedef enum mz_missing {
    MZ_MISSING_LINEAR = 0, /* inner gaps on the line between their neighbours */
    MZ_MISSING_FORWARD,    /* inner gaps repeat the last value before them */
    MZ_MISSING_SEASONAL,   /* inner gaps take the mean of the values one season before and after, or
                              the one of them that there is; else as LINEAR */
    MZ_MISSING_DROP,       /* missing points are taken out and the gap closes */
    MZ_MISSING_ERROR,      /* any missing value is an error */
} mz_missing;

/* What was done to the gaps of a series. */
typedef struct mz_gap_report {
    int64_t n_leading, n_inner, n_trailing; /* missing values found */
} mz_gap_report;

/* Points in a season: `wanted` if above 0; else what the input says; else that of the frequency if
 * the values confirm it; else, for series without a frequency, what their autocorrelation shows
 * (mz_season_detect); 1: none. Errors: NOMEM. */
mz_status mz_series_season(mz_context *ctx, const mz_series *series, int64_t wanted,
                           int64_t *season);

/* Repairs the series in place, stamps with values. `season` is looked at for MZ_MISSING_SEASONAL
 * only. Leading and trailing missing values are removed whatever the policy
 * (but are an error under MZ_MISSING_ERROR); n_values shrinks accordingly and is 0 when nothing was
 * observed. Errors: ARG under MZ_MISSING_ERROR, naming series, number of missing values and the
 * first one's index. */
mz_status mz_series_fill(mz_context *ctx, mz_series *series, mz_missing policy, int64_t season,
                         mz_gap_report *report);

typedef enum mz_normalize {
    MZ_NORMALIZE_WINDOW = 0, /* subtract the window's mean, divide by its population deviation */
    MZ_NORMALIZE_NONE,
} mz_normalize;

/* x_scaled = (x - mean) / scale. */
typedef struct mz_series_scale {
    double mean;
    double scale; /* 1 when the deviation is 0 */
} mz_series_scale;

/* Statistics of n >= 1 finite values in f64, without overflow for any finite input (values up
 * to 1.8e308). MZ_NORMALIZE_NONE gives mean 0 and scale 1. */
mz_series_scale mz_series_scale_of(const double *values, int64_t n, mz_normalize kind);

/* out[i] = (values[i] - mean) / scale as f32, n values; and back. */
void mz_series_scale_apply(const mz_series_scale *scale, const double *values, int64_t n,
                           float *out);
void mz_series_scale_invert(const mz_series_scale *scale, const float *values, int64_t n,
                            double *out);

#ifdef __cplusplus
}
#endif
#endif
