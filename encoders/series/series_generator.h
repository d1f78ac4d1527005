/* Synthetic series for training: what a forecasting model should have seen, made up at random.
 *
 * Nine families are mixed: (1) trend, one to three seasons of usual and unusual periods and noise,
 * added or multiplied, in the manner of KernelSynth (Ansari et al. 2024, section 4.2) and
 * ForecastPFN (Dooley et al. 2023), but by recurrences at a few nanoseconds a point in place of a
 * Gaussian process; (2) ARMA, ARIMA, seasonal autoregression, random walks; (3) smooth functions by
 * random Fourier features (Rahimi and Recht 2007); (4) level shifts, changes of variance, outliers;
 * (5) intermittent demand and counts; (6) daily and weekly profiles of sub-daily data with weekends
 * and holidays; (7) daily, weekly and monthly data with weekdays, months and moving holidays; (8)
 * short smooth series of years and quarters; (9) steps, ramps, growth, resets, waves, machine
 * loads. Now and then values are rounded, clipped at 0, negated, or held for a while. */
#ifndef MZ_ENCODERS_SERIES_SERIES_GENERATOR_H
#define MZ_ENCODERS_SERIES_SERIES_GENERATOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_series_family {
    MZ_SERIES_STRUCTURAL = 0,
    MZ_SERIES_ARIMA,
    MZ_SERIES_SMOOTH,
    MZ_SERIES_SHIFTS,
    MZ_SERIES_INTERMITTENT,
    MZ_SERIES_HOURS,
    MZ_SERIES_DAYS,
    MZ_SERIES_SHORT,
    MZ_SERIES_SHAPES,
    MZ_SERIES_FAMILY_COUNT,
} mz_series_family;

/* Writes n >= 1 values to `out`: finite, of magnitude at most 1e6, a pure function of (seed, index,
 * n). Several threads may call it at once; it takes about 10 KiB of stack. Returns the family. */
mz_series_family mz_series_generate(uint64_t seed, uint64_t index, int64_t n, float *out);

/* The same of one family. */
void mz_series_generate_family(mz_series_family family, uint64_t seed, uint64_t index, int64_t n,
                               float *out);

/* "structural", "arima", ...; static storage. */
const char *mz_series_family_name(mz_series_family family);

#ifdef __cplusplus
}
#endif
#endif
