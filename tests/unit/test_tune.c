/* Tuning: what is held out, which state is kept, what decides, and where it is written. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/forecast/tune_output.h"
#include "apps/forecast/tune_report.h"
#include "apps/forecast/tune_split.h"
#include "apps/forecast/tune_train.h"
#include "tests/testing.h"

static mz_context *context_of(void **state) {
    return *state;
}

static void assert_message(const mz_context *ctx, const char *part) {
    if (strstr(ctx->error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, ctx->error.message);
    }
}

/* ---- what is held out ---- */

static void windows_of_a_series(void **state) {
    (void)state;
    const struct {
        int64_t n_values, horizon, wanted, expected;
    } cases[] = {
        {293, 12, 0, 3},  {144, 12, 0, 2}, {60, 12, 0, 1}, {59, 12, 0, 1},     {32, 12, 0, 1},
        {31, 12, 0, 0},   {0, 12, 0, 0},   {8, 1, 0, 0},   {10, 1, 0, 1},      {1000, 12, 10, 10},
        {100, 12, 10, 3}, {31, 12, 10, 0}, {15, 1, 3, 3},  {1 << 30, 1, 0, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(mz_tune_n_windows(cases[i].n_values, cases[i].horizon, cases[i].wanted),
                         cases[i].expected);
    }
}

enum { HORIZON = 5, LONG = 60, MIDDLE = 20, SHORT = 15, TINY = 6, N_SERIES = 5 };

/* Value i of a series is i, so that a value tells its place; two missing ones in front of the last,
 * before the windows to test of the first series. */
typedef struct fixture {
    mz_context *ctx;
    double values[N_SERIES][LONG + 3];
    mz_stamp stamps[LONG + 3];
    char ids[N_SERIES][8];
    mz_series series[N_SERIES];
    int at;
    mz_tune_split split;
} fixture;

static mz_status next_of_fixture(void *self, mz_series *out, bool *end) {
    fixture *f = self;
    *end = f->at == N_SERIES;
    if (!*end) {
        *out = f->series[f->at++];
    }
    return MZ_OK;
}

static void fixture_init(fixture *f, mz_context *ctx) {
    static const int64_t lengths[N_SERIES] = {LONG, MIDDLE, SHORT, TINY, LONG};
    *f = (fixture){.ctx = ctx};
    for (int k = 0; k < N_SERIES; k++) {
        (void)snprintf(f->ids[k], sizeof f->ids[k], "s%d", k);
        for (int i = 0; i < LONG + 3; i++) {
            f->values[k][i] = i;
            f->stamps[i] = 100 * i;
        }
        f->series[k] = (mz_series){.id = f->ids[k], .values = f->values[k], .n_values = lengths[k]};
    }
    f->series[0].stamps = f->stamps;
    f->series[4].error = "its dates go back";
}

static mz_status fixture_read(fixture *f, int64_t horizon, int64_t wanted) {
    const mz_forecast_source source = {.next = next_of_fixture, .self = f};
    f->at = 0;
    return mz_tune_split_read(f->ctx, &source, horizon, wanted, &f->split);
}

static void parts_do_not_overlap(void **state) {
    fixture f;
    fixture_init(&f, context_of(state));
    f.series[0].n_values = LONG + 3;
    f.values[0][0] = NAN; /* missing at the ends: not looked at */
    f.values[0][LONG + 1] = NAN;
    f.values[0][LONG + 2] = NAN;
    f.values[0][LONG - 10] = NAN; /* the last two before the windows to test */
    f.values[0][LONG - 11] = NAN;
    mz_assert_ok(f.ctx, fixture_read(&f, HORIZON, 0));
    memset(f.values, 0, sizeof f.values); /* it has copies */
    assert_int_equal(f.split.n, 3);
    assert_int_equal(f.split.n_held, 2);
    assert_int_equal(f.split.n_skipped, 2);
    assert_int_equal(f.split.n_windows, 3);
    const mz_tune_series *first = &f.split.items[0];
    assert_int_equal(first->series.n_values, LONG);
    assert_int_equal(first->n_windows, 2);
    assert_int_equal(first->n_chosen, LONG - 2 * HORIZON - 2);
    assert_int_equal(first->n_train, LONG - 4 * HORIZON - 2);
    assert_true(first->series.values[0] == 1 && first->series.stamps[0] == 100);
    const mz_tune_series *second = &f.split.items[1];
    assert_int_equal(second->n_windows, 1);
    assert_int_equal(second->n_train, MIDDLE - 2 * HORIZON);
    const mz_tune_series *third = &f.split.items[2];
    assert_int_equal(third->n_windows, 0);
    assert_int_equal(third->n_train, SHORT);
    assert_int_equal(f.split.n_train, first->n_train + second->n_train + SHORT);
    assert_int_equal(f.split.longest, first->n_train);
    mz_series *train = NULL;
    mz_assert_ok(f.ctx, mz_tune_split_train(&f.split, &train));
    assert_int_equal(train[0].n_values, first->n_train);
    assert_ptr_equal(train[2].values, third->series.values);
    mz_free(f.ctx, train);
    mz_tune_split_free(&f.split);
}

/* Last values of the windows of a part, one after the other; returns how many. */
static int ends_of(fixture *f, mz_tune_part part, int64_t stride, double *ends) {
    mz_tune_windows w;
    int n = 0;
    mz_tune_windows_open(&f->split, part, stride, 1, &w);
    for (;;) {
        mz_series series = {0};
        bool end = false;
        mz_assert_ok(f->ctx, mz_backtest_windows_next(&w.windows, &series, &end));
        if (end) {
            break;
        }
        assert_null(series.error);
        ends[n++] = series.values[series.n_values - 1];
    }
    mz_tune_windows_close(&w);
    return n;
}

static void windows_end_where_they_should(void **state) {
    fixture f;
    double ends[8];
    fixture_init(&f, context_of(state));
    mz_assert_ok(f.ctx, fixture_read(&f, HORIZON, 0));
    assert_int_equal(ends_of(&f, MZ_TUNE_TEST, 1, ends), 3);
    assert_true(ends[0] == LONG - 1 - HORIZON && ends[1] == LONG - 1 && ends[2] == MIDDLE - 1);
    assert_int_equal(ends_of(&f, MZ_TUNE_VALIDATION, 1, ends), 3);
    assert_true(ends[0] == LONG - 1 - 3 * HORIZON && ends[1] == LONG - 1 - 2 * HORIZON &&
                ends[2] == MIDDLE - 1 - HORIZON);
    assert_int_equal(ends_of(&f, MZ_TUNE_VALIDATION, 2, ends), 2);
    assert_true(ends[1] == LONG - 1 - 2 * HORIZON);
    mz_tune_split_free(&f.split);
}

/* What is missing before the windows to test shortens what is left to train on: then one window
 * less is held out. */
static void gaps_leave_fewer_windows(void **state) {
    fixture f;
    fixture_init(&f, context_of(state));
    f.series[0].n_values = MZ_TUNE_MIN_TRAIN + 4 * HORIZON;
    mz_assert_ok(f.ctx, fixture_read(&f, HORIZON, 2));
    assert_int_equal(f.split.items[0].n_windows, 2);
    assert_int_equal(f.split.items[0].n_train, MZ_TUNE_MIN_TRAIN);
    mz_tune_split_free(&f.split);
    f.values[0][MZ_TUNE_MIN_TRAIN + 2 * HORIZON - 1] = NAN;
    mz_assert_ok(f.ctx, fixture_read(&f, HORIZON, 2));
    assert_int_equal(f.split.items[0].n_windows, 1);
    assert_int_equal(f.split.items[0].n_train, MZ_TUNE_MIN_TRAIN + 2 * HORIZON);
    mz_tune_split_free(&f.split);
}

static void too_short_to_hold_out(void **state) {
    fixture f;
    fixture_init(&f, context_of(state));
    assert_int_equal(fixture_read(&f, 30, 0), MZ_ERR_ARG);
    assert_message(f.ctx, "the longest has 60 values, horizon 30 needs 68 (8 to train on, 30 to "
                          "choose by, 30 to test)");
    mz_tune_split_free(&f.split);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    bool done = false;
    for (int64_t fail_at = 1; !done; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        const mz_context_options options = {.allocator = &allocator, .n_threads = 1};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
        fixture f;
        fixture_init(&f, &ctx);
        const mz_status status = fixture_read(&f, HORIZON, 0);
        done = status == MZ_OK;
        assert_true(done || status == MZ_ERR_NOMEM);
        mz_tune_split_free(&f.split);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
        assert_true(fail_at < 100);
    }
}

/* ---- which state is kept ---- */

/* One weight that is drawn to 3; its score is the distance to `target`. */
typedef struct walk {
    mz_context *ctx;
    mz_parameters parameters;
    mz_trainable trainable;
    float weight, gradient;
    double target;
    int64_t nan_at, stop_at, n_done; /* steps; -1: never */
    int64_t fail_score_at, n_scores;
} walk;

static mz_status walk_gradients(void *self, int64_t step, int micro, int n_micro,
                                mz_train_report *report) {
    walk *w = self;
    (void)micro;
    w->gradient += (w->weight - 3) / (float)n_micro;
    *report = (mz_train_report){.loss = step == w->nan_at ? (double)NAN : 1};
    w->n_done++;
    return MZ_OK;
}

static mz_status walk_score(void *self, double *out) {
    walk *w = self;
    if (w->n_scores++ == w->fail_score_at) {
        return mz_fail(&w->ctx->error, MZ_ERR_IO, "no score");
    }
    *out = fabs((double)w->weight - w->target);
    return MZ_OK;
}

static bool walk_stops(void *self) {
    const walk *w = self;
    return w->stop_at >= 0 && w->n_done >= w->stop_at;
}

static mz_tune_training walk_open(walk *w, mz_context *ctx, double target) {
    *w = (walk){.ctx = ctx, .target = target, .nan_at = -1, .stop_at = -1, .fail_score_at = -1};
    w->trainable =
        (mz_trainable){.self = w, .parameters = &w->parameters, .gradients = walk_gradients};
    const mz_tensor value = mz_tensor_1d(MZ_DTYPE_F32, 1, &w->weight);
    const mz_tensor gradient = mz_tensor_1d(MZ_DTYPE_F32, 1, &w->gradient);
    mz_assert_ok(ctx, mz_parameters_add(ctx, &w->parameters, "w", &value, &gradient));
    return (mz_tune_training){.n_steps = 64,
                              .seconds = 1000,
                              .lr = 0.1,
                              .n_micro = 2,
                              .quiet = true,
                              .score = walk_score,
                              .stop = walk_stops,
                              .self = w};
}

static mz_tune_trained walk_train(walk *w, const mz_tune_training *config) {
    mz_tune_trained out;
    mz_assert_ok(w->ctx, mz_tune_train(w->ctx, &w->trainable, config, &out));
    mz_parameters_free(w->ctx, &w->parameters);
    return out;
}

static void the_best_state_is_kept(void **state) {
    walk w;
    const mz_tune_training config = walk_open(&w, context_of(state), 1);
    const mz_tune_trained t = walk_train(&w, &config);
    assert_true(t.first == 1 && t.best < 0.3 && t.best_step > 0 && t.best_step < t.n_steps);
    assert_true(fabs(fabs((double)w.weight - 1) - t.best) < 1e-12);
    assert_int_equal(t.end, MZ_TUNE_NO_GAIN); /* it walks on to 3 */
    assert_int_equal(t.n_planned, 64);
}

static void the_first_state_is_kept_where_none_is_better(void **state) {
    walk w;
    const mz_tune_training config = walk_open(&w, context_of(state), 0);
    const mz_tune_trained t = walk_train(&w, &config);
    assert_true(w.weight == 0 && t.best == 0);
    assert_int_equal(t.best_step, 0);
    assert_int_equal(t.end, MZ_TUNE_NO_GAIN);
    assert_int_equal(t.n_steps, 6 * 4);
}

static void all_steps_are_done(void **state) {
    walk w;
    mz_tune_training config = walk_open(&w, context_of(state), 3);
    config.fixed_steps = true;
    config.seconds = 1e-9; /* does not count */
    const mz_tune_trained t = walk_train(&w, &config);
    assert_int_equal(t.end, MZ_TUNE_DONE);
    assert_int_equal(t.n_steps, 64);
    assert_int_equal(w.n_done, 2 * 64);
    assert_int_equal(w.n_scores, 1 + 16);
    assert_true(t.best < 1);
}

static void what_ends_a_training_early(void **state) {
    walk w;
    mz_tune_training config = walk_open(&w, context_of(state), 3);
    w.stop_at = 2 * 6;
    mz_tune_trained t = walk_train(&w, &config);
    assert_int_equal(t.end, MZ_TUNE_INTERRUPTED);
    assert_int_equal(t.n_steps, 6);
    assert_int_equal(t.best_step, 6); /* looked at once more */
    config = walk_open(&w, context_of(state), 3);
    config.seconds = 1e-9;
    t = walk_train(&w, &config);
    assert_int_equal(t.end, MZ_TUNE_TIME);
    assert_int_equal(t.n_steps, 1);
    config = walk_open(&w, context_of(state), 3);
    w.nan_at = 9;
    t = walk_train(&w, &config);
    assert_int_equal(t.end, MZ_TUNE_DIVERGED);
    assert_int_equal(t.n_steps, 9);
    assert_int_equal(t.best_step, 8);
    assert_true(isfinite(w.weight) && w.weight > 0);
}

static void errors_of_the_score_are_passed_on(void **state) {
    walk w;
    const mz_tune_training config = walk_open(&w, context_of(state), 3);
    mz_tune_trained t;
    w.fail_score_at = 2;
    assert_int_equal(mz_tune_train(w.ctx, &w.trainable, &config, &t), MZ_ERR_IO);
    assert_message(w.ctx, "no score");
    mz_parameters_free(w.ctx, &w.parameters);
}

/* ---- what decides ---- */

static mz_backtest_totals totals_of(double mase, double mae) {
    mz_backtest_totals t = {.n_windows = 100};
    mz_total_scores *model = &t.methods[MZ_BACKTEST_MODEL];
    model->n_series = 2;
    model->n_defined[MZ_METRIC_MASE] = isnan(mase) ? 0 : 1;
    model->sums[MZ_METRIC_MASE] = isnan(mase) ? 0 : mase;
    model->n_defined[MZ_METRIC_MAE] = 1;
    model->sums[MZ_METRIC_MAE] = mae;
    return t;
}

static void gains(void **state) {
    (void)state;
    const struct {
        double before[2], after[2], gain;
        bool is_better;
    } cases[] = {
        {{1, 9}, {0.9, 99}, 0.1, true},  {{1, 9}, {0.991, 9}, 0.009, false},
        {{1, 9}, {1.5, 1}, -0.5, false}, {{NAN, 10}, {NAN, 9}, 0.1, true},
        {{0, 9}, {0, 9}, 0, false},      {{1, 9}, {INFINITY, 9}, -INFINITY, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_backtest_totals before = totals_of(cases[i].before[0], cases[i].before[1]);
        const mz_backtest_totals after = totals_of(cases[i].after[0], cases[i].after[1]);
        const double gain = mz_tune_gain(&before, &after);
        assert_true(gain == cases[i].gain || fabs(gain - cases[i].gain) < 1e-12);
        assert_int_equal(mz_tune_is_better(&before, &after), cases[i].is_better);
    }
    const mz_backtest_totals before = totals_of(1, 1);
    mz_backtest_totals after = before;
    after.methods[MZ_BACKTEST_MODEL].sums[MZ_METRIC_MASE] = NAN;
    assert_false(mz_tune_is_better(&before, &after));
    assert_true(mz_tune_least_gain(1) == 0.1 && mz_tune_least_gain(4) == 0.05);
    assert_true(mz_tune_least_gain(100) == 0.01 && mz_tune_least_gain(1000000) == 0.005);
}

/* ---- where it is written ---- */

static bool is_there(const char *dir, const char *name) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return mz_file_exists(path);
}

static void folders_that_are_taken_and_refused(void **state) {
    mz_context *ctx = context_of(state);
    char dir[500];
    char model[500];
    char fresh[512];
    mz_tune_output out = {0};
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)snprintf(model, sizeof model, "%s", mz_temp_dir_create());
    (void)snprintf(fresh, sizeof fresh, "%s/new", dir);
    mz_assert_ok(ctx, mz_tune_output_check(ctx, fresh, model, false));
    assert_false(mz_dir_exists(fresh));
    assert_int_equal(mz_tune_output_check(ctx, model, model, true), MZ_ERR_ARG);
    assert_message(ctx, "is the folder of the model that is tuned");
    assert_int_equal(mz_tune_output_check(ctx, "", model, true), MZ_ERR_ARG);
    mz_assert_ok(ctx, mz_tune_output_open(ctx, dir, model, false, &out));
    mz_tune_output second = {0};
    assert_int_equal(mz_tune_output_open(ctx, dir, model, false, &second), MZ_ERR_IO);
    assert_message(ctx, "is in use by another training");
    mz_tune_output_close(&out);
    mz_assert_ok(ctx, mz_tune_output_check(ctx, dir, model, false)); /* .lock is nothing */
    (void)mz_write_file(dir, "config.json", "{}", 2);
    assert_int_equal(mz_tune_output_check(ctx, dir, model, false), MZ_ERR_ARG);
    assert_message(ctx, "is not empty and holds no earlier tuning; --force");
    mz_assert_ok(ctx, mz_tune_output_check(ctx, dir, model, true));
    assert_int_equal(mz_tune_output_check(ctx, mz_write_file(dir, "file", "", 0), model, true),
                     MZ_ERR_ARG);
    (void)mz_write_file(dir, "report.json", "{\"tuned\":1}", 11);
    assert_int_equal(mz_tune_output_check(ctx, dir, model, false), MZ_ERR_ARG);
    (void)mz_write_file(dir, "report.json", "{\"tuned\":false}", 15);
    mz_assert_ok(ctx, mz_tune_output_check(ctx, dir, model, false));
    mz_tune_output_close(&second);
    mz_temp_dir_remove(dir);
    mz_temp_dir_remove(model);
}

/* Only what the report says that an earlier tuning has written is removed: a model that lay there
 * before --force stays. */
static void only_what_a_tuning_wrote_is_cleared(void **state) {
    static const struct {
        const char *report; /* NULL: none */
        bool model, adapter;
    } cases[] = {
        {NULL, true, true},
        {"{\"tuned\":1,\"method\":\"full\"}", true, true},
        {"{\"tuned\":false,\"method\":\"full\"}", true, true},
        {"{\"tuned\":true,\"method\":\"full\"}", false, true},
        {"{\"tuned\":true,\"method\":\"lora\",\"merged\":false}", true, false},
        {"{\"tuned\":true,\"method\":\"lora\",\"merged\":true}", false, true},
    };
    static const char *const names[] = {"config.json", "model.safetensors", "adapter_config.json",
                                        "adapter_model.safetensors", "notes.txt"};
    mz_context *ctx = context_of(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *report = cases[i].report;
        char dir[500];
        mz_tune_output out = {0};
        (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            (void)mz_write_file(dir, names[k], "x", 1);
        }
        if (report != NULL) {
            (void)mz_write_file(dir, "report.json", report, strlen(report));
        }
        mz_assert_ok(ctx, mz_tune_output_open(ctx, dir, "/none", true, &out));
        mz_assert_ok(ctx, mz_tune_output_clear(&out));
        for (int k = 0; k < 2; k++) {
            assert_true(is_there(dir, names[k]) == cases[i].model);
            assert_true(is_there(dir, names[2 + k]) == cases[i].adapter);
        }
        assert_true(is_there(dir, "notes.txt"));
        assert_true(is_there(dir, "report.json") == (i == 1));
        mz_tune_output_close(&out);
        mz_temp_dir_remove(dir);
    }
}

static void a_model_or_an_adapter_is_removed(void **state) {
    mz_context *ctx = context_of(state);
    char dir[500];
    mz_tune_output out = {0};
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    mz_assert_ok(ctx, mz_tune_output_open(ctx, dir, "/none", false, &out));
    (void)mz_write_file(dir, "config.json", "x", 1);
    (void)mz_write_file(dir, "adapter_config.json", "x", 1);
    mz_assert_ok(ctx, mz_tune_output_remove(&out, true));
    assert_true(is_there(dir, "config.json") && !is_there(dir, "adapter_config.json"));
    mz_assert_ok(ctx, mz_tune_output_remove(&out, false));
    assert_false(is_there(dir, "config.json"));
    mz_tune_output_close(&out);
    mz_temp_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_of_a_series),
        cmocka_unit_test(parts_do_not_overlap),
        cmocka_unit_test(windows_end_where_they_should),
        cmocka_unit_test(gaps_leave_fewer_windows),
        cmocka_unit_test(too_short_to_hold_out),
        cmocka_unit_test(failed_allocations_leave_nothing),
        cmocka_unit_test(the_best_state_is_kept),
        cmocka_unit_test(the_first_state_is_kept_where_none_is_better),
        cmocka_unit_test(all_steps_are_done),
        cmocka_unit_test(what_ends_a_training_early),
        cmocka_unit_test(errors_of_the_score_are_passed_on),
        cmocka_unit_test(gains),
        cmocka_unit_test(folders_that_are_taken_and_refused),
        cmocka_unit_test(only_what_a_tuning_wrote_is_cleared),
        cmocka_unit_test(a_model_or_an_adapter_is_removed),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
