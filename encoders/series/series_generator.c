#include "encoders/series/series_generator.h"

#include <math.h>

#include "encoders/series/series_generator_internal.h"

/* How often a family is drawn for short and for long series. */
typedef struct family_row {
    const char *name;
    void (*run)(mz_draw *draw, float *out, int64_t n);
    double short_weight; /* of at most SHORT_POINTS */
    double long_weight;
} family_row;

enum { SHORT_POINTS = 100 };

static const family_row families[MZ_SERIES_FAMILY_COUNT] = {
    {"structural", mz_family_structural, 0.20, 0.27},
    {"arima", mz_family_arima, 0.12, 0.10},
    {"smooth", mz_family_smooth, 0.06, 0.08},
    {"shifts", mz_family_shifts, 0.05, 0.07},
    {"intermittent", mz_family_intermittent, 0.06, 0.07},
    {"hours", mz_family_hours, 0.05, 0.20},
    {"days", mz_family_days, 0.11, 0.11},
    {"short", mz_family_short, 0.30, 0.02},
    {"shapes", mz_family_shapes, 0.05, 0.08},
};

static const double largest = 1e6;

/* Numbers as people and machines write them: rounded to steps of a fraction of the deviation. */
static void round_values(mz_draw *draw, float *out, int64_t n, double deviation) {
    const double step = deviation / mz_draw_log_uniform(draw, 2, 60);
    if (step < 1e-9) {
        return;
    }
    const float per_step = (float)(1 / step);
    for (int64_t i = 0; i < n; i++) {
        out[i] = floorf(out[i] * per_step + 0.5f) / per_step;
    }
}

/* A sensor that hangs: some stretches repeat their first value, or lie on a line. */
static void hold_values(mz_draw *draw, float *out, int64_t n) {
    const int64_t n_holds = mz_draw_int(draw, 1, 4);
    for (int64_t k = 0; k < n_holds; k++) {
        const int64_t length = 1 + (int64_t)mz_draw_log_uniform(draw, 1, 2 + (double)n / 20);
        const int64_t from = mz_draw_int(draw, 0, n - 1);
        const int64_t to = from + length < n ? from + length : n - 1;
        const bool line = mz_draw_chance(draw, 0.5);
        const float slope = line && to > from ? (out[to] - out[from]) / (float)(to - from) : 0;
        for (int64_t i = from + 1; i < to; i++) {
            out[i] = out[from] + slope * (float)(i - from);
        }
    }
}

/* What happens to series of every family now and then. */
static void finish(mz_draw *draw, mz_series_family family, float *out, int64_t n) {
    double mean;
    double deviation;
    mz_part_moments(out, n, &mean, &deviation);
    const bool counts = family == MZ_SERIES_INTERMITTENT;
    if (mz_draw_chance(draw, counts ? 0 : 0.03)) {
        const double floor_at = mean + deviation * mz_draw_uniform(draw, -1, 0.5);
        for (int64_t i = 0; i < n; i++) {
            out[i] = fmaxf(out[i], (float)floor_at);
        }
    }
    if (mz_draw_chance(draw, 0.03)) {
        hold_values(draw, out, n);
    }
    if (mz_draw_chance(draw, counts ? 0 : 0.04)) {
        const double share = mz_draw_log_uniform(draw, 0.001, 0.01);
        mz_part_outliers(draw, out, n, share, deviation * mz_draw_log_uniform(draw, 2, 8));
    }
    if (mz_draw_chance(draw, counts ? 0 : 0.12)) {
        round_values(draw, out, n, deviation);
    }
    const bool negative = mz_draw_chance(draw, counts ? 0.02 : 0.06);
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        finite = finite && isfinite(out[i]);
        out[i] = fminf(fmaxf(negative ? -out[i] : out[i], (float)-largest), (float)largest);
    }
    if (!finite) {
        mz_part_fill(out, n, 0);
    }
}

static void run_family(mz_draw *draw, mz_series_family family, int64_t n, float *out) {
    families[family].run(draw, out, n);
    finish(draw, family, out, n);
}

mz_series_family mz_series_generate(uint64_t seed, uint64_t index, int64_t n, float *out) {
    mz_draw draw;
    mz_draw_init(&draw, seed, index);
    double weights[MZ_SERIES_FAMILY_COUNT];
    for (int k = 0; k < MZ_SERIES_FAMILY_COUNT; k++) {
        weights[k] = n <= SHORT_POINTS ? families[k].short_weight : families[k].long_weight;
    }
    const int family = mz_draw_choice(&draw, weights, MZ_SERIES_FAMILY_COUNT);
    run_family(&draw, (mz_series_family)family, n, out);
    return (mz_series_family)family;
}

void mz_series_generate_family(mz_series_family family, uint64_t seed, uint64_t index, int64_t n,
                               float *out) {
    mz_draw draw;
    mz_draw_init(&draw, seed, index);
    run_family(&draw, family, n, out);
}

const char *mz_series_family_name(mz_series_family family) {
    return families[family].name;
}
