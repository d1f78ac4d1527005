/* Metrics against values worked out by hand. */
#include <math.h>

#include "apps/zoo/forecast_metrics.h"
#include "tests/testing.h"

static void assert_near(double actual, double expected) {
    if (!(fabs(actual - expected) <= 1e-12 * fmax(1, fabs(expected)))) {
        fail_msg("%.17g, expected %.17g", actual, expected);
    }
}

static const double history[] = {1, 3, 2, 6, 4, 8};
static const double truth[] = {10, 0, NAN, -4};
static const double forecast[] = {8, 1, 5, -4};
static const double quantiles[] = {7, -1, 0, -3, 9, 2, 0, 1};
static const double levels[] = {0.1, 0.9};

static mz_forecast_outcome outcome(void) {
    mz_forecast_outcome o = {.truth = truth,
                             .forecast = forecast,
                             .horizon = 4,
                             .quantiles = quantiles,
                             .levels = levels,
                             .n_quantiles = 2};
    mz_seasonal_scale(history, 6, 2, &o.scale, &o.squared_scale);
    return o;
}

static void scales(void **state) {
    (void)state;
    double scale = 0;
    double squared = 0;
    mz_seasonal_scale(history, 6, 2, &scale, &squared); /* 1, 3, 2, 2 */
    assert_near(scale, 2);
    assert_near(squared, 4.5);
    mz_seasonal_scale(history, 6, 6, &scale, &squared);
    assert_true(isnan(scale) && isnan(squared));
    const double constant[] = {2, 2, 2};
    mz_seasonal_scale(constant, 3, 1, &scale, &squared);
    assert_true(isnan(scale) && isnan(squared));
}

static void metrics_of_a_series(void **state) {
    (void)state;
    mz_series_scores s = {0};
    const mz_forecast_outcome o = outcome();
    mz_series_scores_add(&s, &o);
    /* Errors 2, 1, -, 0. Losses at 0.1: 2 * 3 * 0.1, 2 * 1 * 0.1, 2 * 1 * 0.9 (for -4 <= -3); at
     * 0.9: 2 * 1 * 0.9, 2 * 2 * 0.1, 2 * 5 * 0.1. */
    const double low = 0.6 + 0.2 + 1.8;
    const double high = 1.8 + 0.4 + 1.0;
    const double expected[MZ_METRIC_COUNT] = {
        [MZ_METRIC_MAE] = 1,
        [MZ_METRIC_MSE] = 5.0 / 3,
        [MZ_METRIC_RMSE] = sqrt(5.0 / 3),
        [MZ_METRIC_MAPE] = (0.2 + 0) / 2,
        [MZ_METRIC_SMAPE] = (4.0 / 18 + 2 + 0) / 3,
        [MZ_METRIC_MASE] = 0.5,
        [MZ_METRIC_RMSSE] = sqrt(5.0 / 3 / 4.5),
        [MZ_METRIC_WAPE] = 3.0 / 14,
        [MZ_METRIC_PINBALL] = (low + high) / 6,
        [MZ_METRIC_SQL] = (low + high) / 6 / 2,
        [MZ_METRIC_WQL] = (low / 14 + high / 14) / 2,
        [MZ_METRIC_COVERAGE] = 1.0 / 3,
        [MZ_METRIC_WIDTH] = (2 + 3 + 4) / 3.0,
    };
    for (int m = 0; m < MZ_METRIC_COUNT; m++) {
        assert_near(mz_series_scores_metric(&s, (mz_metric)m), expected[m]);
    }
}

/* A point forecast taken for every quantile has WQL = WAPE. */
static void wql_of_a_point_is_wape(void **state) {
    (void)state;
    mz_series_scores s = {0};
    double nine[9 * 4];
    double tau[9];
    for (int i = 0; i < 9; i++) {
        tau[i] = (i + 1) / 10.0;
        for (int h = 0; h < 4; h++) {
            nine[i * 4 + h] = forecast[h];
        }
    }
    mz_forecast_outcome o = outcome();
    o.quantiles = nine;
    o.levels = tau;
    o.n_quantiles = 9;
    mz_series_scores_add(&s, &o);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_WQL),
                mz_series_scores_metric(&s, MZ_METRIC_WAPE));
}

/* What has no scale does not weaken the scaled means; one quantile is no band. */
static void windows_without_scale_or_band(void **state) {
    (void)state;
    mz_series_scores s = {0};
    mz_forecast_outcome o = outcome();
    mz_series_scores_add(&s, &o);
    const double sql = mz_series_scores_metric(&s, MZ_METRIC_SQL);
    const double coverage = mz_series_scores_metric(&s, MZ_METRIC_COVERAGE);
    o.scale = NAN;
    o.squared_scale = NAN;
    o.n_quantiles = 1;
    mz_series_scores_add(&s, &o);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_SQL), sql);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_MASE), 0.5);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_COVERAGE), coverage);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_WIDTH), 3);
}

/* A value on the edge of a band is inside. */
static void edges_are_inside(void **state) {
    (void)state;
    const double y[] = {1, 2, 3};
    const double edges[] = {1, 0, 0, 5, 2, 2};
    const mz_forecast_outcome o = {.truth = y,
                                   .forecast = y,
                                   .horizon = 3,
                                   .quantiles = edges,
                                   .levels = levels,
                                   .n_quantiles = 2,
                                   .scale = NAN,
                                   .squared_scale = NAN};
    mz_series_scores s = {0};
    mz_series_scores_add(&s, &o);
    assert_near(mz_series_scores_metric(&s, MZ_METRIC_COVERAGE), 2.0 / 3);
}

static void totals(void **state) {
    (void)state;
    mz_total_scores total = {0};
    mz_series_scores a = {0};
    mz_series_scores b = {0};
    mz_forecast_outcome o = outcome();
    mz_series_scores_add(&a, &o);
    mz_series_scores_add(&a, &o); /* twice the same window: the same means */
    assert_near(mz_series_scores_metric(&a, MZ_METRIC_MASE), 0.5);
    const double worse[] = {4, 1, 5, -4};
    o.scale = NAN;
    o.quantiles = NULL;
    o.forecast = worse;
    mz_series_scores_add(&b, &o); /* one window beside two: values are pooled, series are not */
    assert_true(isnan(mz_series_scores_metric(&b, MZ_METRIC_MASE)));
    assert_true(isnan(mz_total_scores_metric(&total, MZ_METRIC_MAE)));
    mz_total_scores_add(&total, &a);
    mz_total_scores_add(&total, &b);
    assert_int_equal(total.n_series, 2);
    assert_int_equal(total.n_defined[MZ_METRIC_MASE], 1);
    assert_near(mz_total_scores_metric(&total, MZ_METRIC_MASE), 0.5);
    assert_near(mz_total_scores_metric(&total, MZ_METRIC_MAE), (1 + 7.0 / 3) / 2);
    assert_near(mz_total_scores_metric(&total, MZ_METRIC_WAPE), (3.0 + 3 + 7) / 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales),
        cmocka_unit_test(metrics_of_a_series),
        cmocka_unit_test(wql_of_a_point_is_wape),
        cmocka_unit_test(windows_without_scale_or_band),
        cmocka_unit_test(edges_are_inside),
        cmocka_unit_test(totals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
