/* Adapters over whole models: forecasts with, without and merged, and training one. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"
#include "apps/zoo/series_rows.h"
#include "apps/zoo/series_training.h"
#include "apps/zoo/zoo.h"
#include "core/file.h"
#include "core/optimizer.h"

#define NANO MOEZOO_TESTS_DIR "/golden/time-moe/nano"
#define TINY MOEZOO_TESTS_DIR "/golden/time-moe/tiny"
#define DENSE MOEZOO_TESTS_DIR "/golden/time-moe/dense"
#define ALL_EXPERTS MOEZOO_TESTS_DIR "/golden/time-moe/f16-all-experts"

enum { HORIZON = 20, N_VALUES = 150 };

static const char *const usual[] = {"q_proj", "v_proj", "gate_proj", "down_proj"};
static const mz_lora_config usual_config = {
    .rank = 4, .alpha = 8, .targets = usual, .n_targets = 4};
static const char *const all[] = {"all-linear"};
static const mz_lora_config all_config = {.rank = 2, .alpha = 4, .targets = all, .n_targets = 1};

typedef struct fixture {
    mz_context ctx;
    char adapter[512], other[512];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 2}));
    (void)snprintf(f->adapter, sizeof f->adapter, "%s", mz_temp_dir_create());
    (void)snprintf(f->other, sizeof f->other, "%s", mz_temp_dir_create());
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_temp_dir_remove(f->adapter);
    mz_temp_dir_remove(f->other);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

static mz_forecaster *load(fixture *f, const char *model, const char *adapter) {
    mz_forecaster *out = NULL;
    const mz_load_options options = {.adapter = adapter};
    mz_assert_ok(&f->ctx, mz_zoo_load_forecaster(&f->ctx, model, &options, &out));
    return out;
}

static void forecast(fixture *f, mz_forecaster *forecaster, double *out) {
    static const mz_forecast_options options = {.horizon = HORIZON};
    static double values[N_VALUES];
    for (int i = 0; i < N_VALUES; i++) {
        values[i] = sin((double)i * 0.26) + 0.3 * sin((double)i * 1.7);
    }
    mz_forecast_item item = {.values = values, .n_values = N_VALUES, .forecast = out};
    mz_assert_ok(&f->ctx, mz_forecaster_run(forecaster, &options, &item, 1));
}

static double worst_difference(const double *a, const double *b) {
    double worst = 0;
    for (int i = 0; i < HORIZON; i++) {
        worst = fmax(worst, fabs(a[i] - b[i]));
    }
    return worst;
}

/* An adapter of the model whose B is not zero, in folder `dir`. */
static void save_adapter(fixture *f, const char *model, const mz_lora_config *config, uint64_t seed,
                         const char *dir) {
    mz_forecaster *forecaster = load(f, model, NULL);
    mz_parameters p = {0};
    mz_lora *lora = NULL;
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &mz_forecaster_parts_of(forecaster)->loader,
                                         config, seed, &p, &lora));
    for (int64_t i = 1; i < p.n; i += 2) {
        const mz_tensor *b = &p.items[i].value;
        mz_fill_uniform(b->data, mz_tensor_n_elements(b), seed + (uint64_t)i, 0.05f);
    }
    mz_assert_ok(&f->ctx, mz_lora_save(lora, dir, NULL, MZ_DTYPE_F32));
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_forecaster_close(forecaster);
}

static void adapters_come_and_go(void **state) {
    fixture *f = *state;
    double base[HORIZON];
    double one[HORIZON];
    double two[HORIZON];
    double again[HORIZON];
    save_adapter(f, NANO, &usual_config, 1, f->adapter);
    save_adapter(f, NANO, &all_config, 2, f->other);
    mz_forecaster *forecaster = load(f, NANO, NULL);
    forecast(f, forecaster, base);
    mz_assert_ok(&f->ctx, mz_forecaster_load_adapter(forecaster, f->adapter));
    forecast(f, forecaster, one);
    assert_true(worst_difference(one, base) > 1e-3);
    mz_assert_ok(&f->ctx, mz_forecaster_load_adapter(forecaster, f->other));
    forecast(f, forecaster, two);
    assert_true(worst_difference(two, one) > 1e-3);
    mz_forecaster_unload_adapters(forecaster);
    forecast(f, forecaster, again);
    assert_memory_equal(again, base, sizeof base);
    mz_forecaster_close(forecaster);
    forecaster = load(f, NANO, f->adapter);
    forecast(f, forecaster, again);
    assert_memory_equal(again, one, sizeof one);
    mz_forecaster_close(forecaster);
}

static void remove_model(const char *dir) {
    static const char *const names[] = {"config.json", "model.safetensors", "adapter_config.json",
                                        "adapter_model.safetensors"};
    for (int i = 0; i < 4; i++) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)remove(path);
    }
}

static void merged_ones_answer_alike(void **state) {
    fixture *f = *state;
    static const char *const models[] = {TINY, DENSE};
    static const mz_lora_config *const configs[] = {&usual_config, &all_config};
    for (int i = 0; i < 4; i++) {
        double base[HORIZON];
        double attached[HORIZON];
        double merged[HORIZON];
        const char *model = models[i / 2];
        save_adapter(f, model, configs[i % 2], 3, f->adapter);
        mz_forecaster *forecaster = load(f, model, NULL);
        forecast(f, forecaster, base);
        mz_forecaster_close(forecaster);
        forecaster = load(f, model, f->adapter);
        forecast(f, forecaster, attached);
        mz_forecaster_close(forecaster);
        remove_model(f->other);
        mz_assert_ok(&f->ctx, mz_zoo_merge(&f->ctx, model, f->adapter, f->other));
        forecaster = load(f, f->other, NULL);
        forecast(f, forecaster, merged);
        mz_forecaster_close(forecaster);
        assert_true(worst_difference(attached, base) > 1e-3);
        assert_true(worst_difference(attached, merged) < 1e-5);
    }
    assert_int_equal(mz_zoo_merge(&f->ctx, TINY, f->adapter, TINY), MZ_ERR_ARG);
    assert_non_null(strstr(f->ctx.error.message, "would replace its base"));
    assert_int_equal(mz_zoo_merge(&f->ctx, TINY, f->adapter, f->other), MZ_ERR_ARG);
    assert_non_null(strstr(f->ctx.error.message, "holds config.json already"));
    /* Beside the adapter itself, as a tuning does before it removes that. */
    save_adapter(f, TINY, configs[0], 3, f->adapter);
    mz_assert_ok(&f->ctx, mz_zoo_merge(&f->ctx, TINY, f->adapter, f->adapter));
    remove_model(f->adapter);
}

static void adapters_of_another_base(void **state) {
    fixture *f = *state;
    mz_forecaster *forecaster = NULL;
    const mz_load_options options = {.adapter = f->adapter};
    save_adapter(f, TINY, &usual_config, 3, f->adapter);
    assert_int_equal(mz_zoo_load_forecaster(&f->ctx, NANO, &options, &forecaster), MZ_ERR_SHAPE);
    assert_non_null(strstr(f->ctx.error.message,
                           "base_model.model.model.layers.0.ffn_layer.experts.0.down_proj.lora_A"));
    assert_int_equal(mz_zoo_load_forecaster(&f->ctx, DENSE, &options, &forecaster), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "model.layers.0.ffn_layer.experts.0.down_proj"));
    forecaster = load(f, TINY, NULL); /* a failure leaves the model as it was */
    double before[HORIZON];
    double after[HORIZON];
    forecast(f, forecaster, before);
    assert_int_equal(mz_forecaster_load_adapter(forecaster, TINY), MZ_ERR_MISSING);
    forecast(f, forecaster, after);
    assert_memory_equal(before, after, sizeof after);
    mz_forecaster_close(forecaster);
}

/* Each allocation of loading model and adapter failed in turn. */
static void allocations_fail(void **state) {
    fixture *f = *state;
    mz_status status = MZ_ERR_NOMEM;
    save_adapter(f, TINY, &usual_config, 3, f->adapter);
    for (int64_t n = 1; status != MZ_OK; n++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, n);
        const mz_load_options options = {.adapter = f->adapter};
        mz_context ctx;
        mz_forecaster *forecaster = NULL;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        status = mz_zoo_load_forecaster(&ctx, TINY, &options, &forecaster);
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        mz_forecaster_close(forecaster);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
    }
}

/* ---- training ---- */

static mz_series_training_config training_config(const mz_series_source *source,
                                                 const char *checkpoint) {
    mz_series_training_config c = {.checkpoint = checkpoint,
                                   .sampler = mz_series_sampler_config_default(),
                                   .batch_points = 400,
                                   .evaluation_examples = 4,
                                   .loss = {.huber_delta = 2, .balance_factor = 0.02}};
    c.sampler.seed = 5;
    c.sampler.sources = source;
    c.sampler.n_sources = 1;
    c.sampler.max_points = 100;
    c.sampler.horizon = 16;
    return c;
}

static char *read_file(fixture *f, const char *path, size_t *n) {
    char *text = NULL;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, path, 64 << 20, &text, n));
    return text;
}

/* A few steps on one batch lower the loss; the base's file is untouched; the saved adapter loads,
 * answers otherwise than the base, and can be trained further from where it was. */
static void a_few_steps_lower_the_loss(void **state) {
    fixture *f = *state;
    const mz_series_source source = mz_series_source_default(MZ_SERIES_SOURCE_GENERATOR, NULL);
    mz_series_training_config config = training_config(&source, TINY);
    const mz_optimizer_config adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    mz_trainable *t = NULL;
    mz_optimizer *optimizer = NULL;
    mz_train_report first = {0};
    mz_train_report report = {0};
    size_t n_before = 0;
    size_t n_after = 0;
    char *before = read_file(f, TINY "/model.safetensors", &n_before);
    config.lora = &usual_config;
    config.lora_seed = 8;
    mz_assert_ok(&f->ctx, mz_series_training_create(&f->ctx, &config, &t));
    for (int64_t i = 0; i < t->parameters->n; i++) {
        assert_non_null(strstr(t->parameters->items[i].name, ".lora_"));
    }
    mz_assert_ok(&f->ctx, mz_optimizer_create(&f->ctx, &adam, t->parameters, &optimizer));
    for (int step = 0; step < 12; step++) {
        mz_parameters_zero_gradients(&f->ctx, t->parameters);
        mz_assert_ok(&f->ctx, t->gradients(t->self, 0, 0, 1, &report));
        first = step == 0 ? report : first;
        mz_assert_ok(&f->ctx, mz_optimizer_step(optimizer, 2e-2, NULL));
    }
    print_message("loss %.4f, then %.4f\n", first.loss, report.loss);
    assert_true(report.loss < 0.95 * first.loss);
    mz_assert_ok(&f->ctx, t->evaluate(t->self, &first));
    mz_assert_ok(&f->ctx, t->save(t->self, f->adapter, NULL, MZ_DTYPE_F32));
    mz_optimizer_destroy(&f->ctx, optimizer);
    t->destroy(t->self);
    char *after = read_file(f, TINY "/model.safetensors", &n_after);
    assert_int_equal(n_before, n_after);
    assert_memory_equal(before, after, n_after);
    mz_free(&f->ctx, before);
    mz_free(&f->ctx, after);

    config.lora = NULL;
    config.adapter = f->adapter;
    mz_assert_ok(&f->ctx, mz_series_training_create(&f->ctx, &config, &t));
    mz_assert_ok(&f->ctx, t->evaluate(t->self, &report));
    assert_true(report.loss == first.loss);
    t->destroy(t->self);
    double base[HORIZON];
    double tuned[HORIZON];
    mz_forecaster *forecaster = load(f, TINY, NULL);
    forecast(f, forecaster, base);
    mz_assert_ok(&f->ctx, mz_forecaster_load_adapter(forecaster, f->adapter));
    forecast(f, forecaster, tuned);
    assert_true(worst_difference(base, tuned) > 1e-3);
    mz_forecaster_close(forecaster);
}

static void wrong_trainings_are_refused(void **state) {
    fixture *f = *state;
    const mz_series_source source = mz_series_source_default(MZ_SERIES_SOURCE_GENERATOR, NULL);
    mz_series_training_config config = training_config(&source, TINY);
    mz_trainable *t = NULL;
    config.lora = &usual_config;
    config.adapter = f->adapter;
    assert_int_equal(mz_series_training_create(&f->ctx, &config, &t), MZ_ERR_ARG);
    config.adapter = NULL;
    config.checkpoint = NULL;
    config.model_name = "fresh";
    assert_int_equal(mz_series_training_create(&f->ctx, &config, &t), MZ_ERR_ARG);
    assert_non_null(strstr(f->ctx.error.message, "fresh: an adapter needs a checkpoint"));
}

/* ---- gradients through whole models ---- */

static const mz_forecast_loss all_losses = {
    .huber_delta = 2, .balance_factor = 0.05, .router_z_factor = 0.01};

static void add_windows(fixture *f, mz_series_rows *rows) {
    static const int64_t lengths[] = {50, 9, 34};
    static const int64_t contexts[] = {24, 5, 16};
    for (int i = 0; i < 3; i++) {
        float values[50];
        mz_fill_uniform(values, lengths[i], (uint64_t)i + 7, 1.0f);
        mz_series_window window = {
            .values = values, .n_values = lengths[i], .n_context = contexts[i], .weight = 1};
        mz_assert_ok(&f->ctx, mz_series_rows_add(&f->ctx, rows, &window, 0));
    }
}

/* The loss moves with the steepest value of an A or B as its gradient says. In the reference
 * backend, whose sums are f64; no choice of an expert can change in these two models. */
static void check_slopes(fixture *f, const char *model, bool recompute) {
    const float step = 2e-3f;
    const mz_load_options options = {.backend = mz_backend_reference()};
    mz_forecaster *forecaster = NULL;
    mz_forecast_training *training = NULL;
    mz_lora *lora = NULL;
    mz_parameters p = {0};
    mz_series_rows rows;
    mz_train_report report;
    const void *values = NULL;
    void *gradients = NULL;
    size_t n_bytes = 0;
    mz_assert_ok(&f->ctx, mz_zoo_load_forecaster(&f->ctx, model, &options, &forecaster));
    const mz_forecaster_parts *parts = mz_forecaster_parts_of(forecaster);
    mz_assert_ok(&f->ctx, mz_lora_create(&f->ctx, &parts->loader, &all_config, 4, &p, &lora));
    for (int64_t i = 1; i < p.n; i += 2) {
        mz_fill_uniform(p.items[i].value.data, mz_tensor_n_elements(&p.items[i].value), (uint64_t)i,
                        0.1f);
    }
    mz_lora_attach(lora);
    mz_assert_ok(&f->ctx,
                 mz_forecast_training_create(&f->ctx, forecaster, 200, recompute, &training));
    mz_lora_spaces(lora, &values, &gradients, &n_bytes);
    mz_assert_ok(&f->ctx,
                 mz_forecast_training_add_parameters(training, values, gradients, n_bytes));
    mz_series_rows_init(&rows, parts);
    add_windows(f, &rows);
    const mz_forecast_rows view = mz_series_rows_view(&rows);
    mz_assert_ok(&f->ctx,
                 mz_forecast_training_gradients(training, &view, &all_losses, 1.0, &report));
    for (int64_t i = 0; i < p.n; i += 7) { /* an odd step: A and B by turns */
        const float *g = p.items[i].gradient.data;
        float *v = p.items[i].value.data;
        int64_t k = 0;
        for (int64_t j = 0; j < mz_tensor_n_elements(&p.items[i].value); j++) {
            k = fabsf(g[j]) > fabsf(g[k]) ? j : k;
        }
        const float value = v[k];
        v[k] = value + step;
        mz_assert_ok(&f->ctx, mz_forecast_training_loss(training, &view, &all_losses, &report));
        const double above = report.loss;
        v[k] = value - step;
        mz_assert_ok(&f->ctx, mz_forecast_training_loss(training, &view, &all_losses, &report));
        const double slope = (above - report.loss) / (2 * (double)step);
        v[k] = value;
        if (!(fabs(slope - (double)g[k]) <= 1e-2 * fabs(slope) + 2e-5)) {
            fail_msg("%s, %s: slope %.6g, by the gradient %.6g", model, p.items[i].name, slope,
                     (double)g[k]);
        }
    }
    mz_series_rows_free(&f->ctx, &rows);
    mz_forecast_training_destroy(training);
    mz_lora_destroy(lora);
    mz_parameters_free(&f->ctx, &p);
    mz_forecaster_close(forecaster);
}

static void gradients_are_slopes(void **state) {
    check_slopes(*state, ALL_EXPERTS, false);
    check_slopes(*state, DENSE, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_come_and_go),       cmocka_unit_test(merged_ones_answer_alike),
        cmocka_unit_test(adapters_of_another_base),   cmocka_unit_test(allocations_fail),
        cmocka_unit_test(a_few_steps_lower_the_loss), cmocka_unit_test(wrong_trainings_are_refused),
        cmocka_unit_test(gradients_are_slopes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
