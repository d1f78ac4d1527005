#include "apps/forecast/forecast_quantiles.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levels nearer to each other than this are one: 1 - 2 * 0.1 and 2 * 0.9 - 1 are not equal. */
static const double LEVEL_STEP = 1e-9;

/* Numbers between commas, each in (low, high). */
static mz_status parse_list(const char *option, const char *text, double high, int max, double *out,
                            int *n, mz_error *err) {
    *n = 0;
    for (const char *at = text;;) {
        char *end = NULL;
        const size_t length = strcspn(at, ",");
        const double value = strtod(at, &end);
        if (length == 0 || end != at + length || *at == ' ' || !(value > 0 && value < high)) {
            return mz_fail(err, MZ_ERR_ARG,
                           "--%s %s: \"%.*s\" is not a number above 0 and below %g", option, text,
                           (int)(length < 40 ? length : 40), at, high);
        }
        if (*n == max) {
            return mz_fail(err, MZ_ERR_ARG, "--%s: more than %d numbers", option, max);
        }
        out[(*n)++] = value;
        if (at[length] == '\0') {
            return MZ_OK;
        }
        at += length + 1;
    }
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Fills levels from the items' q, and each item's level and sign. */
static void set_levels(mz_forecast_quantiles *out) {
    double all[MZ_MAX_QUANTILES];
    for (int i = 0; i < out->n; i++) {
        all[i] = fabs(2 * out->items[i].q - 1);
    }
    qsort(all, (size_t)out->n, sizeof all[0], compare);
    out->n_levels = 0;
    for (int i = 0; i < out->n; i++) {
        if (out->n_levels == 0 || all[i] - out->levels[out->n_levels - 1] > LEVEL_STEP) {
            out->levels[out->n_levels++] = all[i];
        }
    }
    for (int i = 0; i < out->n; i++) {
        mz_forecast_quantile *item = &out->items[i];
        const double level = fabs(2 * item->q - 1);
        item->sign = (item->q > 0.5) - (item->q < 0.5);
        for (int l = 0; l < out->n_levels; l++) {
            item->level = fabs(out->levels[l] - level) <= LEVEL_STEP ? l : item->level;
        }
    }
}

mz_status mz_forecast_quantiles_of_levels(const char *text, mz_forecast_quantiles *out,
                                          mz_error *err) {
    double percent[MZ_MAX_LEVELS];
    int n = 0;
    MZ_TRY(parse_list("level", text, 100, MZ_MAX_LEVELS, percent, &n, err));
    qsort(percent, (size_t)n, sizeof percent[0], compare);
    *out = (mz_forecast_quantiles){.n = 2 * n};
    for (int i = 0; i < n; i++) {
        if (i > 0 && percent[i] == percent[i - 1]) {
            return mz_fail(err, MZ_ERR_ARG, "--level %s: %g stands there twice", text, percent[i]);
        }
        mz_forecast_quantile *low = &out->items[n - 1 - i];
        mz_forecast_quantile *high = &out->items[n + i];
        low->q = (100 - percent[i]) / 200;
        high->q = (100 + percent[i]) / 200;
        (void)snprintf(low->column, sizeof low->column, "lo-%.10g", percent[i]);
        (void)snprintf(high->column, sizeof high->column, "hi-%.10g", percent[i]);
    }
    for (int i = 0; i < out->n; i++) {
        mz_forecast_quantile *item = &out->items[i];
        (void)snprintf(item->name, sizeof item->name, "%.10g", item->q);
    }
    set_levels(out);
    return MZ_OK;
}

mz_status mz_forecast_quantiles_of_list(const char *text, mz_forecast_quantiles *out,
                                        mz_error *err) {
    double q[MZ_MAX_QUANTILES];
    int n = 0;
    MZ_TRY(parse_list("quantiles", text, 1, MZ_MAX_QUANTILES, q, &n, err));
    *out = (mz_forecast_quantiles){.n = n};
    for (int i = 0; i < n; i++) {
        if (i > 0 && q[i] <= q[i - 1]) {
            return mz_fail(err, MZ_ERR_ARG, "--quantiles %s: %g after %g; they must ascend", text,
                           q[i], q[i - 1]);
        }
        mz_forecast_quantile *item = &out->items[i];
        item->q = q[i];
        (void)snprintf(item->name, sizeof item->name, "%.10g", q[i]);
        (void)snprintf(item->column, sizeof item->column, "%.10g", q[i]);
    }
    set_levels(out);
    return MZ_OK;
}

double mz_forecast_quantile_value(const mz_forecast_quantiles *quantiles, int i,
                                  const double *forecast, const double *widths, int64_t horizon,
                                  int64_t h) {
    const mz_forecast_quantile *item = &quantiles->items[i];
    const double value = forecast[h] + item->sign * widths[item->level * horizon + h];
    return fmax(fmin(value, DBL_MAX), -DBL_MAX);
}
