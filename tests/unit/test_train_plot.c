#include "apps/train/train_plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plot/plot.h"
#include "core/file.h"
#include "tests/testing.h"

typedef struct fixture {
    mz_context *ctx;
    char dir[256];
} fixture;

static void open_fixture(fixture *f, mz_context *ctx, const char *metrics) {
    f->ctx = ctx;
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)mz_write_file(f->dir, "metrics.jsonl", metrics, strlen(metrics));
}

static bool exists(const fixture *f, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return mz_file_exists(path);
}

/* Lines of `n` steps, with experts or not; released with free. */
static char *make_lines(int n, bool experts) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    assert_non_null(stream);
    for (int i = 1; i <= n; i++) {
        (void)fprintf(stream, "{\"step\":%d,\"loss\":%g,\"parts\":{\"a\":%g,\"b\":1},\"lr\":1,", i,
                      100.0 / i, 100.0 / i - 1);
        (void)fprintf(stream, "\"grad_norm\":null%s}\n",
                      experts ? ",\"experts\":{\"busiest\":[0.5,0.4],\"idlest\":[0.1,0]}" : "");
        if (i % 10 == 0) {
            (void)fprintf(stream, "{\"step\":%d,\"evaluation\":{\"loss\":2}}\n", i);
        }
    }
    assert_int_equal(fclose(stream), 0);
    return text;
}

static void pictures_are_drawn(void **state) {
    static const struct {
        int n_steps;
        bool experts;
    } cases[] = {{1, false}, {30, true}, {4567, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        char *lines = make_lines(cases[i].n_steps, cases[i].experts);
        open_fixture(&f, *state, lines);
        mz_assert_ok(f.ctx, mz_train_plot_write(f.ctx, f.dir));
        assert_true(exists(&f, "loss.svg"));
        assert_int_equal(exists(&f, "experts.svg"), cases[i].experts);
        free(lines);
        mz_temp_dir_remove(f.dir);
    }
}

static void odd_lines(void **state) {
    fixture f;
    open_fixture(&f, *state, "");
    mz_assert_ok(f.ctx, mz_train_plot_write(f.ctx, f.dir));
    assert_false(exists(&f, "loss.svg"));
    mz_temp_dir_remove(f.dir);
    open_fixture(&f, *state,
                 "{\"step\":9000000000000000000,\"loss\":1}\n{\"step\":-1}\n{\"step\":\"x\"}\n[]\n"
                 "{\"step\":2,\"loss\":\"x\",\"parts\":3,\"experts\":{\"busiest\":[1,2]}}\n"
                 "{\"step\":3,\"loss\":1}\n");
    mz_assert_ok(f.ctx, mz_train_plot_write(f.ctx, f.dir));
    assert_true(exists(&f, "loss.svg"));
    mz_temp_dir_remove(f.dir);
    open_fixture(&f, *state, "{\"step\":1,\"loss\":1}\n{\"step\":2,\"lo");
    assert_int_equal(mz_train_plot_write(f.ctx, f.dir), MZ_ERR_FORMAT);
    assert_non_null(strstr(f.ctx->error.message, "metrics.jsonl"));
    mz_temp_dir_remove(f.dir);
}

/* What the pictures of trainings ask of apps/plot/: names, points some steps apart, and panels that
 * hold baselines only. */
static void lines_have_names_and_distances(void **state) {
    mz_context *ctx = *state;
    const double values[] = {1, 2, 3, 4, 5};
    const mz_plot_baseline baseline = {"part", values};
    const mz_plot_panel panels[] = {
        {.title = "a",
         .horizon = 5,
         .forecast = values,
         .truth = values,
         .first_index = 1,
         .index_step = 250},
        {.title = "b", .horizon = 5, .baselines = &baseline, .n_baselines = 1, .first_index = 1}};
    const mz_plot plot = {
        .panels = panels, .n_panels = 2, .forecast_name = "smoothed", .truth_name = "step"};
    char *text = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&text, &n);
    assert_non_null(stream);
    mz_assert_ok(ctx,
                 mz_plot_terminal(ctx, &plot, &(mz_plot_terminal_options){.width = 80}, stream));
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(text, "smoothed"));
    assert_non_null(strstr(text, "step"));
    assert_non_null(strstr(text, "part"));
    assert_non_null(strstr(text, "1,000"));
    assert_null(strstr(text, "forecast"));
    assert_null(strstr(text, "actual"));
    free(text);
    const mz_plot alone = {.panels = panels + 1, .n_panels = 1};
    stream = open_memstream(&text, &n);
    assert_non_null(stream);
    mz_assert_ok(ctx,
                 mz_plot_terminal(ctx, &alone, &(mz_plot_terminal_options){.width = 80}, stream));
    assert_int_equal(fclose(stream), 0);
    assert_null(strstr(text, "no data"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_drawn),
        cmocka_unit_test(odd_lines),
        cmocka_unit_test(lines_have_names_and_distances),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
