/* Windows of a backtest and what is summed over them. */
#include <math.h>
#include <string.h>

#include "apps/forecast/backtest_scores.h"
#include "tests/testing.h"

static mz_context ctx;

static int setup(void **state) {
    (void)state;
    return mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}) == MZ_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    mz_context_close(&ctx);
    return 0;
}

/* Gives its series one after the other. */
typedef struct fake {
    mz_series *series;
    int n, at;
} fake;

static mz_status fake_next(void *self, mz_series *out, bool *end) {
    fake *f = self;
    if (f->at == f->n) {
        *end = true;
        return MZ_OK;
    }
    *out = f->series[f->at++];
    return MZ_OK;
}

static mz_backtest_windows windows_of(fake *f, int64_t horizon, int64_t n_windows, int64_t step,
                                      int64_t season) {
    return (mz_backtest_windows){.ctx = &ctx,
                                 .input = {.next = fake_next, .self = f},
                                 .horizon = horizon,
                                 .n_windows = n_windows,
                                 .step = step,
                                 .season = season};
}

static void next(mz_backtest_windows *w, mz_series *out) {
    bool end = false;
    mz_assert_ok(&ctx, mz_backtest_windows_next(w, out, &end));
    assert_false(end);
}

static void windows_end_at_the_last_value(void **state) {
    (void)state;
    double values[] = {NAN, NAN, 1, 3, 2, 6, NAN, 8, 5, 9, NAN};
    mz_stamp stamps[11];
    char id[] = "a";
    for (int i = 0; i < 11; i++) {
        stamps[i] = 1000 * i;
    }
    mz_series series = {.id = id, .values = values, .n_values = 11, .stamps = stamps};
    fake f = {.series = &series, .n = 1};
    mz_backtest_windows w = windows_of(&f, 2, 3, 1, 1);
    for (int k = 0; k < 3; k++) {
        mz_series out;
        next(&w, &out);
        const mz_backtest_label label = mz_backtest_windows_take_label(&w);
        assert_int_equal(out.n_values, 6 + k);
        assert_true(out.values[0] == 1 && out.stamps[0] == 2000);
        assert_true(out.stamps[out.n_values - 1] == 7000 + 1000 * k);
        assert_int_equal(out.season, 1);
        assert_int_equal(label.window, k);
        assert_int_equal(label.n_windows, 3);
        assert_int_equal(label.n_values, 8);
        assert_int_equal(label.origin, 2 + 4 + k);
        assert_false(label.is_series_error);
        /* Differences 2, 1, 4; the gap has none, and what comes later is not seen. */
        assert_true(fabs(label.scale - 7.0 / 3) < 1e-12);
        assert_true(fabs(label.squared_scale - 7) < 1e-12);
        out.values[0] = -1; /* a window may be changed */
        out.stamps[0] = -1;
    }
    bool end = false;
    mz_series out;
    mz_assert_ok(&ctx, mz_backtest_windows_next(&w, &out, &end));
    assert_true(end);
    assert_true(values[2] == 1 && stamps[2] == 2000);
    mz_backtest_windows_close(&w);
}

static void each_window_has_the_season_of_its_past(void **state) {
    (void)state;
    double values[200];
    char id[] = "turns";
    for (int i = 0; i < 200; i++) {
        values[i] = i < 100 ? (i * 7919 % 31) + 0.1 * i : 50 * (i % 7) + i % 3;
    }
    mz_series series = {.id = id, .values = values, .n_values = 200};
    fake f = {.series = &series, .n = 1};
    mz_backtest_windows w = windows_of(&f, 5, 2, 100, MZ_SEASON_AUTO);
    for (int k = 0; k < 2; k++) {
        mz_series out;
        int64_t alone = 0;
        next(&w, &out);
        mz_series past = series;
        past.n_values = 95 + 100 * k;
        mz_assert_ok(&ctx, mz_series_season(&ctx, &past, MZ_SEASON_AUTO, &alone));
        assert_int_equal(out.season, alone);
        assert_int_equal(mz_backtest_windows_take_label(&w).season, alone);
    }
    mz_backtest_windows_close(&w);
}

static void what_does_not_fit_is_one_window_with_an_error(void **state) {
    (void)state;
    double nothing[] = {NAN, NAN};
    double two[] = {1, 2};
    double ten[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    char id[] = "x";
    mz_series series[] = {
        {.id = id, .values = nothing, .n_values = 2},
        {.id = id, .values = two, .n_values = 1},
        {.id = id, .values = two, .n_values = 2},
        {.id = id, .values = ten, .n_values = 10},
        {.id = id, .values = ten, .n_values = 10, .error = "broken dates"},
        {.id = id, .n_values = 0},
    };
    const char *const expected[] = {
        "no value is observed",
        "a single value: there is nothing to hold out",
        "2 values; horizon 3, 4 windows and step 3 need 13; a horizon of 1 would fit",
        "10 values; horizon 3, 4 windows and step 3 need 13; 3 windows would fit",
        "broken dates",
        "no value is observed",
    };
    fake f = {.series = series, .n = 6};
    mz_backtest_windows w = windows_of(&f, 3, 4, 3, 1);
    for (int i = 0; i < 6; i++) {
        mz_series out;
        next(&w, &out);
        const mz_backtest_label label = mz_backtest_windows_take_label(&w);
        assert_non_null(out.error);
        assert_string_equal(out.error, expected[i]);
        assert_true(label.is_series_error);
        assert_int_equal(label.window, 0);
        assert_int_equal(label.n_windows, 1);
    }
    mz_backtest_windows_close(&w);
}

/* Scores of a series whose methods have these MASEs (NaN: none). */
static mz_backtest_scores scores_of(double model, double seasonal_naive) {
    mz_backtest_scores s = {0};
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        const double mase = m == 1 + MZ_BASELINE_SEASONAL_NAIVE ? seasonal_naive : model;
        s.methods[m] = (mz_series_scores){.n_outcomes = 1,
                                          .n_values = 1,
                                          .absolute = mase,
                                          .n_scaled = isnan(mase) ? 0 : 1,
                                          .scaled = mase};
    }
    return s;
}

static void relative_scores(void **state) {
    (void)state;
    static const double cases[][3] = {{1, 2, 0.5},  {2, 0, 100},     {0, 0, 1},
                                      {0, 3, 0.01}, {NAN, NAN, NAN}, {4, 2, 2}};
    mz_backtest_totals t = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_backtest_scores s = scores_of(cases[i][0], cases[i][1]);
        const double r = mz_backtest_relative(&s, MZ_BACKTEST_MODEL);
        assert_true(isnan(cases[i][2]) ? isnan(r) : fabs(r - cases[i][2]) < 1e-12);
        mz_backtest_totals_add(&t, &s);
    }
    /* 0.5 * 100 * 1 * 0.01 * 2 = 1 */
    assert_true(fabs(mz_backtest_totals_relative(&t, MZ_BACKTEST_MODEL) - 1) < 1e-12);
    assert_true(fabs(mz_backtest_totals_relative(&t, 1 + MZ_BASELINE_SEASONAL_NAIVE) - 1) < 1e-12);
    assert_int_equal(mz_backtest_totals_unscaled(&t), 1);
    assert_int_equal(t.n_windows, 6);
    const mz_backtest_totals none = {0};
    assert_true(isnan(mz_backtest_totals_relative(&none, MZ_BACKTEST_MODEL)));
}

static void windows_are_scored_for_every_method(void **state) {
    (void)state;
    double forecast[] = {2, 4};
    double baselines[MZ_BASELINE_COUNT * 2] = {1, 1, 5, 5, 3, 3, 0, 0, 2, 2};
    double future[] = {3, 3};
    double quantiles[] = {1, 3.5, 4, 4};
    mz_forecast_quantiles q = {.n = 2};
    q.items[0].q = 0.1;
    q.items[1].q = 0.9;
    const mz_forecast_entry e = {
        .forecast = forecast, .baselines = baselines, .future = future, .quantiles = quantiles};
    const mz_backtest_label label = {.scale = 2, .squared_scale = 4};
    mz_backtest_scores s = {0};
    mz_backtest_scores_add(&s, &e, &label, 2, &q);
    static const double mae[MZ_BACKTEST_METHODS] = {1, 2, 2, 0, 3, 1};
    for (int m = 0; m < MZ_BACKTEST_METHODS; m++) {
        assert_true(mz_series_scores_metric(&s.methods[m], MZ_METRIC_MAE) == mae[m]);
        assert_true(mz_series_scores_metric(&s.methods[m], MZ_METRIC_MASE) == mae[m] / 2);
        const double coverage = mz_series_scores_metric(&s.methods[m], MZ_METRIC_COVERAGE);
        assert_true(m == MZ_BACKTEST_MODEL ? coverage == 0.5 : isnan(coverage));
    }
}

static void baselines_may_be_missing(void **state) {
    (void)state;
    double forecast[] = {2, 4};
    double future[] = {3, 3};
    const mz_forecast_entry e = {.forecast = forecast, .future = future};
    const mz_backtest_label label = {.scale = 2, .squared_scale = 4};
    mz_backtest_scores s = {0};
    mz_backtest_totals t = {0};
    mz_backtest_scores_add(&s, &e, &label, 2, NULL);
    mz_backtest_totals_add(&t, &s);
    assert_true(mz_total_scores_metric(&t.methods[MZ_BACKTEST_MODEL], MZ_METRIC_MASE) == 0.5);
    for (int m = 1; m < MZ_BACKTEST_METHODS; m++) {
        assert_true(isnan(mz_total_scores_metric(&t.methods[m], MZ_METRIC_MASE)));
    }
    assert_true(isnan(mz_backtest_totals_relative(&t, MZ_BACKTEST_MODEL)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_end_at_the_last_value),
        cmocka_unit_test(each_window_has_the_season_of_its_past),
        cmocka_unit_test(what_does_not_fit_is_one_window_with_an_error),
        cmocka_unit_test(relative_scores),
        cmocka_unit_test(windows_are_scored_for_every_method),
        cmocka_unit_test(baselines_may_be_missing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
