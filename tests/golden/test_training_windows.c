/* Which windows a training draws when, and what an evaluation is the mean of. */
#include "tests/testing.h"

#include <math.h>

#include "apps/zoo/series_training.h"

#define CONFIG MOEZOO_TESTS_DIR "/golden/patch-moe/base/config.json"

static const mz_series_source source = {.kind = MZ_SERIES_SOURCE_GENERATOR, .share = 1};

static mz_series_training_config config_of(const json_t *model, int64_t batch_points,
                                           int64_t evaluation_examples) {
    mz_series_training_config c = {.model_config = model,
                                   .model_name = "test",
                                   .init = {.seed = 1},
                                   .sampler = mz_series_sampler_config_default(),
                                   .batch_points = batch_points,
                                   .evaluation_examples = evaluation_examples,
                                   .row_power = 0.5};
    c.sampler.sources = &source;
    c.sampler.n_sources = 1;
    c.sampler.max_points = 120;
    c.sampler.horizon = 32;
    return c;
}

typedef struct fixture {
    mz_context ctx;
    json_t *config;
    mz_trainable *t;
} fixture;

static void open_training(fixture *f, int64_t batch_points, int64_t evaluation_examples) {
    const mz_context_options options = {.n_threads = 2, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    mz_assert_ok(&f->ctx, mz_json_load(&f->ctx, CONFIG, &f->config));
    const mz_series_training_config c = config_of(f->config, batch_points, evaluation_examples);
    mz_assert_ok(&f->ctx, mz_series_training_create(&f->ctx, &c, &f->t));
}

static void close_training(fixture *f) {
    f->t->destroy(f->t->self);
    json_decref(f->config);
    mz_context_close(&f->ctx);
}

static mz_train_report micro_batch(fixture *f, int64_t step, int micro, int n_micro) {
    mz_train_report report = {0};
    mz_parameters_zero_gradients(&f->ctx, f->t->parameters);
    mz_assert_ok(&f->ctx, f->t->gradients(f->t->self, step, micro, n_micro, &report));
    assert_true(report.n_points > 0 && report.n_tokens > 0 && isfinite(report.loss));
    return report;
}

/* Batches are numbered through steps and their micro-batches, and each has windows of its own. */
static void every_micro_batch_has_windows_of_its_own(void **state) {
    fixture f;
    (void)state;
    open_training(&f, 300, 0);
    assert_null(f.t->evaluate);
    const mz_train_report first = micro_batch(&f, 0, 0, 1);
    const mz_train_report second = micro_batch(&f, 1, 0, 1);
    const mz_train_report third = micro_batch(&f, 2, 0, 1);
    assert_true(first.n_points <= 300);
    assert_true(first.loss != second.loss && second.loss != third.loss);
    assert_true(micro_batch(&f, 0, 0, 2).loss == first.loss);
    assert_true(micro_batch(&f, 0, 1, 2).loss == second.loss);
    assert_true(micro_batch(&f, 1, 0, 2).loss == third.loss);
    close_training(&f);
}

/* An evaluation has the asked number of windows, those that no training draws, in as many batches
 * as they need; it changes neither gradients nor the next batch. */
static void evaluations_have_windows_that_training_never_has(void **state) {
    enum { N = 9 };
    fixture f;
    (void)state;
    double losses[3];
    int64_t n_points[3];
    /* each window alone, a few at a time, and all at once */
    static const int64_t batch_points[] = {1, 300, 1 << 20};
    for (int i = 0; i < 3; i++) {
        mz_train_report report;
        mz_train_report again;
        open_training(&f, batch_points[i], N);
        const double before = micro_batch(&f, 0, 0, 1).loss;
        const float gradient = ((const float *)f.t->parameters->items[0].gradient.data)[0];
        mz_assert_ok(&f.ctx, f.t->evaluate(f.t->self, &report));
        mz_assert_ok(&f.ctx, f.t->evaluate(f.t->self, &again));
        assert_true(((const float *)f.t->parameters->items[0].gradient.data)[0] == gradient);
        assert_true(report.loss == again.loss && report.loss != before);
        assert_true(micro_batch(&f, 0, 0, 1).loss == before);
        losses[i] = report.loss;
        n_points[i] = report.n_points;
        close_training(&f);
    }
    assert_true(n_points[0] == n_points[1] && n_points[1] == n_points[2]);
    assert_true(n_points[0] >= N * 8 && n_points[0] <= N * 120);
    /* The means of batches weigh their windows otherwise, but none is left out or counted twice. */
    assert_true(fabs(losses[1] - losses[0]) < 0.5 * losses[0]);
    assert_true(fabs(losses[2] - losses[0]) < 0.5 * losses[0]);
    /* The first window of the evaluation is not the first of training. */
    mz_train_report one;
    open_training(&f, 1, 1);
    const double first = micro_batch(&f, 0, 0, 1).loss;
    mz_assert_ok(&f.ctx, f.t->evaluate(f.t->self, &one));
    assert_true(fabs(one.loss - first) > 1e-3 * first);
    close_training(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_micro_batch_has_windows_of_its_own),
        cmocka_unit_test(evaluations_have_windows_that_training_never_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
