/* Properties of a training pass through whole models, whatever their weights say. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/series_rows.h"
#include "apps/zoo/zoo.h"
#include "core/file.h"
#include "core/tape.h"

#define TIME_MOE MOEZOO_TESTS_DIR "/golden/time-moe/tiny/config.json"
#define DENSE MOEZOO_TESTS_DIR "/golden/time-moe/dense/config.json"
#define PATCH_MOE MOEZOO_TESTS_DIR "/golden/patch-moe/base/config.json"

enum { N_WINDOWS = 5, MAX_LEN = 150, MAX_ROWS = 400 };

static const mz_forecast_loss all_losses = {
    .huber_delta = 2, .balance_factor = 0.05, .balance_by_layer = true, .router_z_factor = 0.01};

/* A fresh model with everything that a training pass needs. */
typedef struct fixture {
    mz_context ctx;
    json_t *config;
    mz_parameters parameters;
    mz_forecaster *forecaster;
    mz_forecast_training *training;
    mz_series_rows rows;
} fixture;

static void add_windows(fixture *f) {
    static const int64_t lengths[N_WINDOWS] = {MAX_LEN, 9, 64, 33, 80};
    static const int64_t contexts[N_WINDOWS] = {70, 5, 32, 17, 79};
    float values[MAX_LEN];
    for (int i = 0; i < N_WINDOWS; i++) {
        mz_fill_uniform(values, lengths[i], (uint64_t)i + 7, 1.0f);
        for (int64_t t = 0; t < lengths[i]; t++) {
            values[t] += sinf((float)t * 0.4f);
        }
        mz_series_window window = {.values = values,
                                   .n_values = lengths[i],
                                   .n_context = contexts[i],
                                   .weight = 1.0f + (float)i};
        mz_assert_ok(&f->ctx, mz_series_rows_add(&f->ctx, &f->rows, &window, 0.5));
    }
}

/* Every expert is chosen for every row: no small change of a weight changes the choice. */
static void choose_all_experts(json_t *config) {
    json_t *n = json_object_get(config, "num_experts");
    if (n != NULL) {
        assert_int_equal(json_object_set(config, "num_experts_per_tok", n), 0);
    }
}

static void open_model_of(fixture *f, const char *config, const mz_backend *backend, int n_threads,
                          bool recompute, bool all_experts) {
    const mz_context_options options = {.n_threads = n_threads, .isa = MZ_ISA_AUTO};
    const mz_init init = {.seed = 3, .deviation = 0.15};
    *f = (fixture){0};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    const mz_load_options load = {.backend = backend,
                                  .weights = {.init = &init, .parameters = &f->parameters}};
    mz_assert_ok(&f->ctx, mz_json_load(&f->ctx, config, &f->config));
    if (all_experts) {
        choose_all_experts(f->config);
    }
    mz_assert_ok(&f->ctx,
                 mz_zoo_create_forecaster(&f->ctx, f->config, config, &load, &f->forecaster));
    mz_assert_ok(&f->ctx, mz_forecast_training_create(&f->ctx, f->forecaster, MAX_ROWS, recompute,
                                                      &f->training));
    mz_series_rows_init(&f->rows, mz_forecaster_parts_of(f->forecaster));
    add_windows(f);
}

static void open_model(fixture *f, const char *config, const mz_backend *backend, int n_threads,
                       bool recompute) {
    open_model_of(f, config, backend, n_threads, recompute, false);
}

static void close_model(fixture *f) {
    mz_series_rows_free(&f->ctx, &f->rows);
    mz_forecast_training_destroy(f->training);
    mz_forecaster_close(f->forecaster);
    mz_parameters_free(&f->ctx, &f->parameters);
    json_decref(f->config);
    mz_context_close(&f->ctx);
}

static void run_gradients(fixture *f, double scale, mz_train_report *report) {
    const mz_forecast_rows rows = mz_series_rows_view(&f->rows);
    mz_assert_ok(&f->ctx,
                 mz_forecast_training_gradients(f->training, &rows, &all_losses, scale, report));
}

static double run_loss(fixture *f) {
    const mz_forecast_rows rows = mz_series_rows_view(&f->rows);
    mz_train_report report;
    mz_assert_ok(&f->ctx, mz_forecast_training_loss(f->training, &rows, &all_losses, &report));
    return report.loss;
}

/* All gradients one after the other; the caller frees. */
static float *copy_gradients(const fixture *f, int64_t *n) {
    *n = mz_parameters_n_values(&f->parameters);
    float *copy = malloc((size_t)*n * sizeof *copy);
    assert_non_null(copy);
    int64_t at = 0;
    for (int64_t i = 0; i < f->parameters.n; i++) {
        const mz_tensor *g = &f->parameters.items[i].gradient;
        memcpy(copy + at, g->data, (size_t)mz_tensor_n_elements(g) * sizeof *copy);
        at += mz_tensor_n_elements(g);
    }
    return copy;
}

static const char *const configs[] = {TIME_MOE, DENSE, PATCH_MOE};
enum { N_CONFIGS = sizeof configs / sizeof configs[0] };

/* Threads, a second run, and computing blocks twice change no bit. */
static void bits_do_not_depend_on_threads_or_recomputation(void **state) {
    (void)state;
    for (int c = 0; c < N_CONFIGS; c++) {
        fixture f;
        mz_train_report first;
        int64_t n = 0;
        open_model(&f, configs[c], NULL, 1, false);
        run_gradients(&f, 1.0, &first);
        float *expected = copy_gradients(&f, &n);
        close_model(&f);
        for (int variant = 0; variant < 6; variant++) {
            mz_train_report report;
            open_model(&f, configs[c], NULL, 1 + variant % 3, variant >= 3);
            run_gradients(&f, 1.0, &report); /* warms the memory up */
            mz_parameters_zero_gradients(&f.ctx, &f.parameters);
            run_gradients(&f, 1.0, &report);
            float *actual = copy_gradients(&f, &n);
            assert_memory_equal(&report.loss, &first.loss, sizeof report.loss);
            assert_memory_equal(actual, expected, (size_t)n * sizeof *actual);
            free(actual);
            close_model(&f);
        }
        free(expected);
    }
}

/* Recomputation needs less memory. */
static void recomputation_takes_less_memory(void **state) {
    (void)state;
    size_t bytes[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        fixture f;
        mz_train_report report;
        open_model(&f, TIME_MOE, NULL, 1, recompute == 1);
        run_gradients(&f, 1.0, &report);
        bytes[recompute] = mz_forecast_training_peak_bytes(f.training);
        close_model(&f);
    }
    assert_true(bytes[1] < bytes[0] * 3 / 4);
}

/* The pass that records computes the loss that the pass without a tape does. */
static void the_tape_does_not_change_the_loss(void **state) {
    (void)state;
    for (int c = 0; c < N_CONFIGS; c++) {
        fixture f;
        mz_train_report report;
        open_model(&f, configs[c], NULL, 2, false);
        run_gradients(&f, 0.25, &report);
        const double without = run_loss(&f);
        assert_true(fabs(report.loss - without) <= 1e-6 * fabs(without));
        close_model(&f);
    }
}

/* Moves every parameter by `step` times its direction. */
static void move(fixture *f, float step) {
    for (int64_t i = 0; i < f->parameters.n; i++) {
        const mz_tensor *value = &f->parameters.items[i].value;
        const int64_t n = mz_tensor_n_elements(value);
        float *direction = malloc((size_t)n * sizeof *direction);
        assert_non_null(direction);
        mz_fill_uniform(direction, n, (uint64_t)i + 100, 1.0f);
        for (int64_t k = 0; k < n; k++) {
            ((float *)value->data)[k] += step * direction[k];
        }
        free(direction);
    }
}

static double slope_by_gradient(const fixture *f) {
    double slope = 0;
    for (int64_t i = 0; i < f->parameters.n; i++) {
        const mz_tensor *g = &f->parameters.items[i].gradient;
        const int64_t n = mz_tensor_n_elements(g);
        float *direction = malloc((size_t)n * sizeof *direction);
        assert_non_null(direction);
        mz_fill_uniform(direction, n, (uint64_t)i + 100, 1.0f);
        for (int64_t k = 0; k < n; k++) {
            slope += (double)((const float *)g->data)[k] * (double)direction[k];
        }
        free(direction);
    }
    return slope;
}

/* The gradient is the slope of the loss along a random direction of all parameters at once. The
 * reference's losses are f32 sums in f64: with a step of 1e-4 the difference holds 3 digits or
 * more, unless an expert changes, which the chosen seed avoids. */
static void gradients_are_slopes(void **state) {
    (void)state;
    for (int c = 0; c < N_CONFIGS; c++) {
        const float step = 1e-4f;
        fixture f;
        mz_train_report report;
        open_model_of(&f, configs[c], mz_backend_reference(), 1, false, true);
        run_gradients(&f, 1.0, &report);
        const double expected = slope_by_gradient(&f);
        move(&f, step);
        const double above = run_loss(&f);
        move(&f, -2 * step);
        const double below = run_loss(&f);
        const double slope = (above - below) / (2 * (double)step);
        if (!(fabs(slope - expected) <= 5e-3 * fabs(expected))) {
            fail_msg("%s: slope %.6g, by the gradient %.6g", configs[c], slope, expected);
        }
        close_model(&f);
    }
}

/* Gradients add up, and are scaled. */
static void gradients_add_up(void **state) {
    (void)state;
    fixture f;
    mz_train_report report;
    int64_t n = 0;
    open_model(&f, PATCH_MOE, NULL, 2, false);
    run_gradients(&f, 1.0, &report);
    float *once = copy_gradients(&f, &n);
    mz_parameters_zero_gradients(&f.ctx, &f.parameters);
    run_gradients(&f, 0.5, &report);
    run_gradients(&f, 0.5, &report);
    float *halves = copy_gradients(&f, &n);
    mz_assert_close("gradients", halves, once, n, 1e-6);
    free(once);
    free(halves);
    close_model(&f);
}

/* The part of the loss that balances: by layer it is the mean over the layers, pooled it is one of
 * all of them. Fresh routers are nearly even, where both are the factor times the choices a row. */
static void balance_is_of_the_layers_mean(void **state) {
    (void)state;
    for (int by_layer = 0; by_layer < 2; by_layer++) {
        const mz_forecast_loss loss = {
            .huber_delta = 2, .balance_factor = 0.05, .balance_by_layer = by_layer == 1};
        fixture f;
        mz_train_report report;
        open_model(&f, TIME_MOE, NULL, 1, false);
        const mz_forecast_rows rows = mz_series_rows_view(&f.rows);
        mz_assert_ok(&f.ctx, mz_forecast_training_loss(f.training, &rows, &loss, &report));
        const mz_decoder *decoder = &mz_forecaster_parts_of(f.forecaster)->decoder;
        const double even = 0.05 * decoder->blocks[0].moe.router.top_k;
        assert_int_equal(decoder->n_layers, 3);
        assert_string_equal(report.part_name[1], "balance");
        print_message("balance %.4f, even would be %.4f\n", report.part[1], even);
        assert_true(report.part[1] > 0.9 * even && report.part[1] < 1.8 * even);
        close_model(&f);
    }
}

static void wrong_rows_are_refused(void **state) {
    (void)state;
    fixture f;
    mz_train_report report;
    open_model(&f, TIME_MOE, NULL, 1, false);
    mz_forecast_rows rows = mz_series_rows_view(&f.rows);
    rows.n_heads = 1;
    assert_int_equal(mz_forecast_training_loss(f.training, &rows, &all_losses, &report),
                     MZ_ERR_ARG);
    rows = mz_series_rows_view(&f.rows);
    f.rows.position[3] = 7;
    assert_int_equal(mz_forecast_training_loss(f.training, &rows, &all_losses, &report),
                     MZ_ERR_ARG);
    close_model(&f);
}

/* A segment that is computed again has no cache any more. */
static void a_cache_is_refused_on_a_tape(void **state) {
    (void)state;
    fixture f;
    mz_stream s;
    mz_tape *tape = NULL;
    mz_kv_cache cache = {0};
    const mz_tensor none = {0};
    open_model(&f, TIME_MOE, NULL, 1, true);
    const mz_decoder *decoder = &mz_forecaster_parts_of(f.forecaster)->decoder;
    mz_assert_ok(&f.ctx, mz_stream_open(&f.ctx, mz_backend_cpu(), 1 << 16, &s));
    mz_assert_ok(&f.ctx, mz_tape_create(&f.ctx, &tape));
    mz_assert_ok(&f.ctx, mz_tape_attach(tape, &s));
    assert_int_equal(mz_decoder_forward(&s, &none, &none, decoder, &(mz_batch){0}, &cache,
                                        &(mz_rope_table){0}, NULL),
                     MZ_ERR_UNSUPPORTED);
    mz_tape_detach(&s);
    mz_tape_destroy(&f.ctx, tape);
    mz_stream_close(&s);
    close_model(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_threads_or_recomputation),
        cmocka_unit_test(recomputation_takes_less_memory),
        cmocka_unit_test(the_tape_does_not_change_the_loss),
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(balance_is_of_the_layers_mean),
        cmocka_unit_test(wrong_rows_are_refused),
        cmocka_unit_test(a_cache_is_refused_on_a_tape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
