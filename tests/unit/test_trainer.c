#include "apps/train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apps/train/train_metrics.h"
#include "apps/train/train_plot.h"
#include "apps/train/train_report.h"
#include "apps/train/train_state.h"
#include "core/file.h"
#include "core/rng.h"
#include "tests/testing.h"

/* ---- a model: y = x w + b by least squares ---- */

enum { N_INPUTS = 4, N_EXAMPLES = 32, N_VALUES = N_INPUTS + 1 };

typedef struct line_model {
    mz_context *ctx;
    mz_parameters parameters;
    mz_trainable trainable;
    float values[N_VALUES], gradients[N_VALUES]; /* w, b */
    int64_t n_calls;
    int64_t fail_at, nan_at, bad_gradient_at, kill_at; /* steps; -1: never */
    int64_t n_saved;
} line_model;

/* Example `i` of a set: its inputs, its target. */
static float draw(uint64_t set, uint64_t i, float x[N_INPUTS]) {
    static const float truth[N_INPUTS] = {1, -2, 0.5F, 3};
    float y = 0.25F;
    for (uint64_t k = 0; k < N_INPUTS; k++) {
        x[k] = mz_rng_normal(7, set, i * N_INPUTS + k);
        y += truth[k] * x[k];
    }
    return y;
}

/* Adds scale times the gradient to `gradients` where not NULL; returns the mean of squares. */
static double squares(const line_model *m, uint64_t set, double scale, float *gradients) {
    double sum = 0;
    for (uint64_t i = 0; i < N_EXAMPLES; i++) {
        float x[N_INPUTS];
        double error = -(double)draw(set, i, x) + (double)m->values[N_INPUTS];
        for (int k = 0; k < N_INPUTS; k++) {
            error += (double)x[k] * (double)m->values[k];
        }
        sum += error * error / N_EXAMPLES;
        for (int k = 0; k < N_VALUES && gradients != NULL; k++) {
            const double input = k < N_INPUTS ? (double)x[k] : 1;
            gradients[k] += (float)(scale * 2 * error * input / N_EXAMPLES);
        }
    }
    return sum;
}

static void fill_report(double loss, mz_train_report *report) {
    *report = (mz_train_report){.n_parts = 2,
                                .part_name = {"squares", "balance"},
                                .part = {loss, 0.5},
                                .loss = loss + 0.5,
                                .n_points = N_EXAMPLES,
                                .n_layers = 2,
                                .busiest = {0.5, 0.75},
                                .idlest = {0.125, 0}};
}

static mz_status gradients(void *self, int64_t step, int micro, int n_micro,
                           mz_train_report *report) {
    line_model *m = self;
    m->n_calls++;
    if (step == m->fail_at) {
        return mz_fail(&m->ctx->error, MZ_ERR_IO, "the data is gone");
    }
    if (step == m->kill_at) {
        (void)raise(SIGKILL);
    }
    const uint64_t set = (uint64_t)step * 100 + (uint64_t)micro;
    const double loss = squares(m, set, 1.0 / n_micro, m->gradients);
    m->gradients[0] = step == m->nan_at ? (float)NAN : m->gradients[0];
    fill_report(step == m->nan_at ? (double)NAN : loss, report);
    if (step == m->bad_gradient_at) {
        m->gradients[N_INPUTS] = INFINITY;
    }
    return MZ_OK;
}

static mz_status evaluate(void *self, mz_train_report *report) {
    fill_report(squares(self, 1u << 30, 0, NULL), report);
    return MZ_OK;
}

static mz_status save(void *self, const char *dir, const mz_tensor *values, mz_dtype dtype) {
    line_model *m = self;
    char *path = NULL;
    mz_output out = {0};
    assert_null(values);
    assert_int_equal(dtype, MZ_DTYPE_BF16);
    MZ_TRY(mz_path_join(m->ctx, dir, "model.safetensors", &path));
    mz_status status = mz_output_open(m->ctx, path, &out);
    mz_free(m->ctx, path);
    MZ_TRY(status);
    for (int k = 0; k < N_VALUES; k++) {
        (void)fprintf(out.stream, "%a\n", (double)m->values[k]);
    }
    m->n_saved++;
    return mz_output_commit(m->ctx, &out);
}

static mz_status open_model(line_model *m, mz_context *ctx) {
    *m =
        (line_model){.ctx = ctx, .fail_at = -1, .nan_at = -1, .bad_gradient_at = -1, .kill_at = -1};
    m->trainable = (mz_trainable){.self = m,
                                  .parameters = &m->parameters,
                                  .gradients = gradients,
                                  .evaluate = evaluate,
                                  .save = save};
    const mz_tensor w = mz_tensor_2d(MZ_DTYPE_F32, 1, N_INPUTS, m->values);
    const mz_tensor w_gradient = mz_tensor_2d(MZ_DTYPE_F32, 1, N_INPUTS, m->gradients);
    const mz_tensor b = mz_tensor_1d(MZ_DTYPE_F32, 1, m->values + N_INPUTS);
    const mz_tensor b_gradient = mz_tensor_1d(MZ_DTYPE_F32, 1, m->gradients + N_INPUTS);
    MZ_TRY(mz_parameters_add(ctx, &m->parameters, "line.weight", &w, &w_gradient));
    return mz_parameters_add(ctx, &m->parameters, "line.bias", &b, &b_gradient);
}

static void close_model(line_model *m) {
    mz_parameters_free(m->ctx, &m->parameters);
}

/* ---- running ---- */

static const char RECIPE[] =
    "{\"job\": \"forecast\", \"model\": {\"init\": {\"config\": {}}},"
    " \"data\": {\"sources\": [{\"kind\": \"synthetic\"}]},"
    " \"optimizer\": {\"lr\": 0.4, \"weight_decay\": 0, \"ema\": 0.9},"
    " \"schedule\": {\"steps\": 40, \"warmup_steps\": 5, \"min_lr\": 0.001},"
    " \"batch\": {\"points\": 32, \"accumulate\": 2},"
    " \"evaluation\": {\"every_steps\": 10}, \"checkpoint\": {\"every_steps\": 8, \"keep\": 2}}";

typedef struct stage {
    mz_context *ctx;
    char dir[256];
    char recipe_path[300], output[300];
    mz_train_recipe recipe;
    line_model model;
} stage;

static void open_stage(stage *s, mz_context *ctx, const char *const *sets, int n_sets) {
    s->ctx = ctx;
    (void)snprintf(s->dir, sizeof s->dir, "%s", mz_temp_dir_create());
    (void)snprintf(s->recipe_path, sizeof s->recipe_path, "%s",
                   mz_write_file(s->dir, "recipe.json", RECIPE, sizeof RECIPE - 1));
    (void)snprintf(s->output, sizeof s->output, "%s/deep/out", s->dir);
    mz_assert_ok(ctx, mz_train_recipe_load(ctx, s->recipe_path, sets, n_sets, &s->recipe));
    mz_assert_ok(ctx, open_model(&s->model, ctx));
}

static void close_stage(stage *s) {
    char command[400];
    close_model(&s->model);
    mz_train_recipe_free(s->ctx, &s->recipe);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
}

/* The model as before the first step. */
static void restart_model(stage *s) {
    close_model(&s->model);
    mz_assert_ok(s->ctx, open_model(&s->model, s->ctx));
}

static bool after_13_steps(void *arg) {
    const line_model *m = arg;
    return m->n_calls >= 26;
}

static mz_status train(stage *s, bool resume, bool stops, mz_trainer_summary *summary) {
    const mz_trainer_config config = {.recipe = &s->recipe,
                                      .output = s->output,
                                      .resume = resume,
                                      .quiet = true,
                                      .stop = stops ? after_13_steps : NULL,
                                      .stop_arg = &s->model};
    return mz_trainer_run(s->ctx, &s->model.trainable, &config, summary);
}

/* The file, with what is measured cut off its lines; released with free. */
static char *read_untimed(stage *s, const char *name) {
    char *path = NULL;
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(s->ctx, mz_path_join(s->ctx, s->output, name, &path));
    mz_assert_ok(s->ctx, mz_file_read(s->ctx, path, 1 << 20, &text, &n));
    char *out = calloc(n + 1, 1);
    assert_non_null(out);
    size_t used = 0;
    bool skipping = false;
    for (size_t i = 0; i < n; i++) {
        skipping = text[i] != '\n' && (skipping || strncmp(text + i, ",\"points_per_s\"", 15) == 0);
        out[used] = text[i];
        used += skipping ? 0 : 1;
    }
    out[used] = '\0';
    mz_free(s->ctx, text);
    mz_free(s->ctx, path);
    return out;
}

/* What a training without any break writes. */
typedef struct expected {
    char *metrics, *model;
} expected;

static expected run_unbroken(mz_context *ctx) {
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, ctx, NULL, 0);
    mz_assert_ok(ctx, train(&s, false, false, &summary));
    assert_int_equal(summary.n_steps, 40);
    assert_true(summary.is_finished && !summary.was_finished);
    assert_true(summary.loss < 1 && summary.evaluation < 1);
    assert_int_equal(summary.n_points, 40 * 2 * N_EXAMPLES);
    const expected e = {read_untimed(&s, "metrics.jsonl"), read_untimed(&s, "model.safetensors")};
    close_stage(&s);
    return e;
}

static void assert_as_expected(stage *s, const expected *e) {
    char *metrics = read_untimed(s, "metrics.jsonl");
    char *model = read_untimed(s, "model.safetensors");
    assert_string_equal(metrics, e->metrics);
    assert_string_equal(model, e->model);
    free(metrics);
    free(model);
}

static void free_expected(expected *e) {
    free(e->metrics);
    free(e->model);
}

static bool exists(const stage *s, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", s->output, name);
    return mz_file_exists(path) || mz_dir_exists(path);
}

/* ---- tests ---- */

static void lines_and_files_are_there(void **state) {
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    mz_assert_ok(s.ctx, train(&s, false, false, &summary));
    char *metrics = read_untimed(&s, "metrics.jsonl");
    int n_lines = 0;
    for (const char *c = metrics; *c != '\0'; c++) {
        n_lines += *c == '\n';
    }
    assert_int_equal(n_lines, 44);
    assert_non_null(strstr(metrics, "{\"step\":1,\"loss\":"));
    assert_non_null(strstr(metrics, "\"balance\":0.5},\"lr\":0.08,\"grad_norm\":"));
    assert_non_null(strstr(metrics, ",\"points\":64,\"experts\":{\"busiest\":[0.5,0.75],"
                                    "\"idlest\":[0.125,0]}\n"));
    assert_non_null(strstr(metrics, "{\"step\":40,\"evaluation\":{\"loss\":"));
    free(metrics);
    static const char *const names[] = {"model.safetensors", "loss.svg", "experts.svg",
                                        "checkpoints/step-00000040", "checkpoints/step-00000032"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!exists(&s, names[i])) {
            fail_msg("no %s", names[i]);
        }
    }
    assert_false(exists(&s, "checkpoints/step-00000024"));
    close_stage(&s);
}

static void a_stopped_training_goes_on_bit_by_bit(void **state) {
    expected e = run_unbroken(*state);
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    mz_assert_ok(s.ctx, train(&s, false, true, &summary));
    assert_int_equal(summary.n_steps, 13);
    assert_false(summary.is_finished);
    assert_true(exists(&s, "checkpoints/step-00000013") && exists(&s, "model.safetensors"));
    restart_model(&s);
    mz_assert_ok(s.ctx, train(&s, true, false, &summary));
    assert_int_equal(summary.first_step, 13);
    assert_as_expected(&s, &e);
    close_stage(&s);
    free_expected(&e);
}

static void a_killed_training_goes_on_bit_by_bit(void **state) {
    expected e = run_unbroken(*state);
    static const int64_t at[] = {0, 7, 9, 17, 39};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        stage s;
        mz_trainer_summary summary;
        open_stage(&s, *state, NULL, 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            s.model.kill_at = at[i];
            (void)train(&s, false, false, &summary);
            _exit(1);
        }
        int ended = 0;
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
        mz_assert_ok(s.ctx, train(&s, true, false, &summary));
        assert_int_equal(summary.first_step, at[i] / 8 * 8);
        assert_as_expected(&s, &e);
        close_stage(&s);
    }
    free_expected(&e);
}

static void a_finished_training_says_so(void **state) {
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    mz_assert_ok(s.ctx, train(&s, false, false, &summary));
    char *before = read_untimed(&s, "model.safetensors");
    restart_model(&s);
    mz_assert_ok(s.ctx, train(&s, true, false, &summary));
    assert_true(summary.was_finished && summary.is_finished);
    assert_int_equal(summary.n_steps, 40);
    assert_int_equal(s.model.n_calls, 0);
    char *after = read_untimed(&s, "model.safetensors");
    assert_string_equal(before, after);
    free(before);
    free(after);
    close_stage(&s);
}

static void a_used_folder_is_refused(void **state) {
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    mz_assert_ok(s.ctx, train(&s, false, true, &summary));
    assert_int_equal(train(&s, false, false, &summary), MZ_ERR_ARG);
    assert_non_null(strstr(s.ctx->error.message, "--resume"));
    mz_train_state state_of_other = {0};
    mz_assert_ok(s.ctx, mz_train_state_open(s.ctx, s.output, &state_of_other));
    assert_int_not_equal(train(&s, true, false, &summary), MZ_OK);
    mz_train_state_close(&state_of_other);
    close_stage(&s);
}

static void resuming_nothing_starts(void **state) {
    expected e = run_unbroken(*state);
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    mz_assert_ok(s.ctx, train(&s, true, false, &summary));
    assert_int_equal(summary.first_step, 0);
    assert_as_expected(&s, &e);
    close_stage(&s);
    free_expected(&e);
}

static void what_is_not_finite_stops(void **state) {
    stage s;
    mz_trainer_summary summary;
    open_stage(&s, *state, NULL, 0);
    s.model.nan_at = 20;
    assert_int_equal(train(&s, false, false, &summary), MZ_ERR_FORMAT);
    assert_non_null(strstr(s.ctx->error.message,
                           "step 21: the loss is NaN, its part squares; the "
                           "first gradient that is not finite is of line.weight"));
    assert_true(exists(&s, "checkpoints/step-00000016"));
    assert_false(exists(&s, "checkpoints/step-00000020"));
    assert_false(exists(&s, "model.safetensors"));
    restart_model(&s);
    s.model.bad_gradient_at = 22;
    assert_int_not_equal(train(&s, true, false, &summary), MZ_OK);
    assert_string_equal(s.ctx->error.message, "step 23: the gradient of line.bias is not finite");
    restart_model(&s);
    s.model.fail_at = 23;
    assert_int_equal(train(&s, true, false, &summary), MZ_ERR_IO);
    assert_string_equal(s.ctx->error.message, "the data is gone");
    close_stage(&s);
}

static void metrics_are_cut_at_a_step(void **state) {
    static const struct {
        const char *text;
        int64_t n_steps;
        size_t n_kept;
    } cases[] = {
        {"", 3, 0},
        {"{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":1}\n", 2, 34},
        {"{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":1}\n", 1, 17},
        {"{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":1}\n", 0, 0},
        {"{\"step\":1,\"a\":1}\n{\"step\":2,\"a\"", 5, 17},
        {"{\"step\":1,\"a\":1}\n{\"st", 5, 17},
        {"{\"step\":1,\"a\":1}\n\n\n", 5, 17},
        {"{\"step\":1,\"a\":1}\n{\"step\": \n", 5, 17},
        {"{\"step\":1", 5, 0},
        {"noise\n{\"step\":1,\"a\":1}\n", 5, 0},
        {"{\"step\":1,\"a\":1}\n{\"step\":2,noise\n", 5, 17},
    };
    mz_context *ctx = *state;
    char dir[256];
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path =
            mz_write_file(dir, "metrics.jsonl", cases[i].text, strlen(cases[i].text));
        mz_train_metrics metrics = {0};
        mz_assert_ok(ctx, mz_train_metrics_open(ctx, path, cases[i].n_steps, &metrics));
        mz_train_metrics_close(&metrics);
        char *text = NULL;
        size_t n = 0;
        mz_assert_ok(ctx, mz_file_read(ctx, path, 1000, &text, &n));
        if (n != cases[i].n_kept) {
            fail_msg("case %zu: %zu bytes are kept, expected %zu", i, n, cases[i].n_kept);
        }
        mz_free(ctx, text);
    }
    mz_temp_dir_remove(dir);
}

static void a_full_disk_is_an_error(void **state) {
    mz_context *ctx = *state;
    mz_train_metrics metrics = {0};
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    mz_assert_ok(ctx, mz_strdup(ctx, "/dev/full", &metrics.path));
    metrics.ctx = ctx;
    metrics.stream = fopen("/dev/full", "ab");
    assert_non_null(metrics.stream);
    const mz_train_report report = {.loss = 1};
    assert_int_equal(mz_train_metrics_write_evaluation(&metrics, 1, &report), MZ_ERR_IO);
    assert_string_equal(ctx->error.message, "/dev/full: cannot write: No space left on device");
    mz_train_metrics_close(&metrics);
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    bool failed = true;
    for (int64_t at = 1; failed; at++) {
        static const char *const sets[] = {"schedule.steps=6"};
        mz_failing_allocator failing;
        mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
        mz_context ctx;
        stage s;
        mz_trainer_summary summary;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        open_stage(&s, &ctx, sets, 1);
        const int64_t n_live = failing.n_live;
        failing.fail_at = failing.n_calls + at;
        failed = train(&s, false, false, &summary) != MZ_OK;
        if (failed) {
            assert_int_equal(ctx.error.status, MZ_ERR_NOMEM);
        }
        assert_int_equal(failing.n_live, n_live);
        failing.fail_at = 0;
        restart_model(&s);
        mz_assert_ok(&ctx, train(&s, true, false, &summary));
        assert_int_equal(summary.n_steps, 6);
        close_stage(&s);
        mz_context_close(&ctx);
        assert_true(at < 2000);
    }
}

static void reports_add_up(void **state) {
    (void)state;
    mz_train_report sum = {0};
    const mz_train_report a = {.n_parts = 1,
                               .part_name = {"x"},
                               .part = {2},
                               .loss = 2,
                               .n_tokens = 3,
                               .n_layers = 1,
                               .busiest = {1}};
    const mz_train_report b = {.n_parts = 2,
                               .part_name = {"y", "x"},
                               .part = {1, 3},
                               .loss = 4,
                               .n_tokens = 5,
                               .n_layers = 1,
                               .busiest = {0.5}};
    char text[128];
    mz_train_report_add(&sum, &a, 0.5);
    mz_train_report_add(&sum, &b, 0.5);
    assert_true(sum.loss == 3 && sum.n_parts == 2 && sum.part[0] == 2.5 && sum.part[1] == 0.5);
    assert_int_equal(sum.n_tokens, 8);
    assert_true(sum.busiest[0] == 0.75);
    assert_string_equal(mz_train_report_text(&sum, text, sizeof text), "3 (x 2.5, y 0.5)");
    assert_string_equal(mz_train_report_text(&a, text, sizeof text), "2");
    assert_int_equal(strlen(mz_train_report_text(&sum, text, 6)), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_files_are_there),
        cmocka_unit_test(a_stopped_training_goes_on_bit_by_bit),
        cmocka_unit_test(a_killed_training_goes_on_bit_by_bit),
        cmocka_unit_test(a_finished_training_says_so),
        cmocka_unit_test(a_used_folder_is_refused),
        cmocka_unit_test(resuming_nothing_starts),
        cmocka_unit_test(what_is_not_finite_stops),
        cmocka_unit_test(metrics_are_cut_at_a_step),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(reports_add_up),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
