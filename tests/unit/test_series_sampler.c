/* Training windows: purity, ranges, shares, augmentation. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "core/threads.h"
#include "encoders/series/series_generator_internal.h"
#include "encoders/series/series_sampler.h"

enum { MAX_POINTS = 300, SCRATCH_FLOATS = 400, TEXT_BYTES = 1 << 20 };

static mz_context *context_of(void **state) {
    return *state;
}

static void assert_near(double actual, double expected, double tolerance) {
    if (!(fabs(actual - expected) <= tolerance)) {
        fail_msg("%.9g, expected %.9g within %g", actual, expected, tolerance);
    }
}

/* Text of a file while it is put together. */
typedef struct text {
    char *bytes;
    size_t n;
} text;

static void add_text(text *t, const char *more) {
    const size_t n = strlen(more);
    assert_true(t->n + n < TEXT_BYTES);
    memcpy(t->bytes + t->n, more, n + 1);
    t->n += n;
}

typedef double (*value_at)(int64_t i);

static double ramp(int64_t i) {
    return 5 + 2 * (double)i;
}

static double wave(int64_t i) {
    return 100 + 10 * sin(6.2831853 * (double)i / 24) + 0.01 * (double)i;
}

static double level(int64_t i) {
    (void)i;
    return 0.3;
}

static double noise(int64_t i) {
    return (double)mz_rng_normal(5, 5, (uint64_t)i);
}

static double late_start(int64_t i) {
    return i < 150 ? 7 : sin((double)i);
}

static void add_series(text *t, const char *id, int64_t n, value_at value) {
    char part[128];
    (void)snprintf(part, sizeof part, "{\"id\":\"%s\",\"sequence\":[", id);
    add_text(t, part);
    for (int64_t i = 0; i < n; i++) {
        (void)snprintf(part, sizeof part, "%s%.9g", i > 0 ? "," : "", value(i));
        add_text(t, part);
    }
    add_text(t, "]}\n");
}

static void text_open(text *t) {
    t->bytes = malloc(TEXT_BYTES);
    assert_non_null(t->bytes);
    t->n = 0;
}

/* A sampler over one file of one folder; both go with it. */
typedef struct fixture {
    mz_context *ctx;
    char dir[256];
    char path[300];
    mz_series_source sources[2];
    mz_series_sampler_config config;
    mz_series_sampler *sampler;
    float *values;
    float *scratch;
} fixture;

static void fixture_open(fixture *f, mz_context *ctx, const text *t) {
    *f = (fixture){.ctx = ctx};
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)snprintf(f->path, sizeof f->path, "%s", mz_write_file(f->dir, "t.jsonl", t->bytes, t->n));
    f->sources[0] = mz_series_source_default(MZ_SERIES_SOURCE_TABLE, f->path);
    f->sources[1] = mz_series_source_default(MZ_SERIES_SOURCE_GENERATOR, NULL);
    f->config = mz_series_sampler_config_default();
    f->config.sources = f->sources;
    f->config.n_sources = 1;
    f->config.max_points = MAX_POINTS;
    f->config.augment = (mz_series_augment){0};
    f->values = malloc((MAX_POINTS + 1) * sizeof(float));
    f->scratch = malloc(SCRATCH_FLOATS * sizeof(float));
    assert_true(f->values != NULL && f->scratch != NULL);
}

static void fixture_create(fixture *f) {
    mz_series_sampler_destroy(f->ctx, f->sampler);
    f->sampler = NULL;
    mz_assert_ok(f->ctx, mz_series_sampler_create(f->ctx, &f->config, &f->sampler));
    assert_true(mz_series_sampler_scratch_bytes(f->sampler) <= SCRATCH_FLOATS * sizeof(float));
}

static void fixture_close(fixture *f) {
    mz_series_sampler_destroy(f->ctx, f->sampler);
    mz_temp_dir_remove(f->dir);
    free(f->values);
    free(f->scratch);
}

static mz_series_window get(fixture *f, uint64_t index) {
    mz_series_window window = {.values = f->values};
    f->values[MAX_POINTS] = 123;
    mz_series_sampler_get(f->sampler, index, f->scratch, &window);
    assert_true(f->values[MAX_POINTS] == 123);
    return window;
}

/* A file of one series, or of `n_series` equal ones named "g/NUMBER". */
static void open_one(fixture *f, mz_context *ctx, int n_series, int64_t n, value_at value) {
    text t;
    text_open(&t);
    for (int k = 0; k < n_series; k++) {
        char id[32];
        (void)snprintf(id, sizeof id, "g/%d", k);
        add_series(&t, id, n, value);
    }
    fixture_open(f, ctx, &t);
    free(t.bytes);
}

static void everything_on(mz_series_sampler_config *config) {
    config->n_sources = 2;
    config->augment = (mz_series_augment){0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3};
}

static void open_mixed(fixture *f, mz_context *ctx) {
    text t;
    text_open(&t);
    add_series(&t, "a/1", 900, wave);
    add_series(&t, "a/2", 30, ramp);
    add_series(&t, "b/1", 9, noise);
    add_series(&t, "b/2", 500, noise);
    add_series(&t, "b/3", 12, level);
    add_series(&t, "c/1", 400, late_start);
    add_series(&t, "c/2", 7, ramp); /* too short */
    fixture_open(f, ctx, &t);
    free(t.bytes);
    everything_on(&f->config);
}

static void check_window(const fixture *f, const mz_series_window *w) {
    const mz_series_sampler_config *c = &f->config;
    assert_in_range(w->n_values, c->min_points, c->max_points);
    const int64_t third = w->n_values / 3;
    const int64_t scored = c->horizon < third ? c->horizon : third;
    const int64_t first = w->n_values / 16 > 4 ? w->n_values / 16 : 4;
    assert_in_range(w->n_context, first, w->n_values - scored);
    assert_true(w->weight >= 1 && w->weight <= 5);
    bool zero = true;
    for (int64_t i = 0; i < w->n_values; i++) {
        assert_true(isfinite(w->values[i]));
        assert_true(fabsf(w->values[i]) <= (float)MZ_SERIES_WINDOW_LIMIT);
        zero = zero && (i >= w->n_context || w->values[i] == 0);
    }
    double mean;
    double deviation;
    mz_part_moments(w->values, w->n_context, &mean, &deviation);
    assert_near(mean, 0, 1e-4);
    assert_true(zero || fabs(deviation - 1) < 1e-4);
}

static void windows_are_sound(void **state) {
    fixture f;
    open_mixed(&f, context_of(state));
    fixture_create(&f);
    int64_t n_full = 0;
    int64_t n_late = 0;
    int64_t n_flat = 0;
    enum { N = 4000 };
    for (uint64_t i = 0; i < N; i++) {
        const mz_series_window w = get(&f, i);
        check_window(&f, &w);
        const int64_t third = w.n_values / 3;
        n_late += w.n_context == w.n_values - (third < 64 ? third : 64);
        n_full += w.n_values == MAX_POINTS;
        n_flat += w.values[0] == 0 && w.values[w.n_context - 1] == 0;
    }
    assert_in_range(n_late, N * 45 / 100, N * 65 / 100);
    assert_in_range(n_full, N * 30 / 100, N * 60 / 100);
    assert_in_range(n_flat, 1, N / 10);
    fixture_close(&f);
}

static void lengths_and_contexts_follow_the_config(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 1000, wave);
    f.config.full_share = 1;
    f.config.late_share = 1;
    f.config.horizon = 50;
    fixture_create(&f);
    for (uint64_t i = 0; i < 50; i++) {
        const mz_series_window w = get(&f, i);
        assert_int_equal(w.n_values, MAX_POINTS);
        assert_int_equal(w.n_context, MAX_POINTS - 50);
    }
    f.config.full_share = 0;
    f.config.late_share = 0;
    f.config.min_points = 20;
    fixture_create(&f);
    int64_t n_short = 0;
    double part = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const mz_series_window w = get(&f, i);
        check_window(&f, &w);
        n_short += w.n_values < 77; /* sqrt(20 * 300) */
        part += (double)w.n_context / (double)w.n_values;
    }
    assert_in_range(n_short, 440, 560);
    assert_true(part / 1000 > 0.3 && part / 1000 < 0.55);
    fixture_close(&f);
}

/* What the threads of `examples_are_pure` fill. */
typedef struct parallel {
    const mz_series_sampler *sampler;
    float *values;  /* [n, MAX_POINTS] */
    float *scratch; /* [threads, SCRATCH_FLOATS] */
    int64_t *sizes; /* [n] */
    float *weights; /* [n] */
    int64_t n;
} parallel;

static void make_examples(void *arg, int64_t begin, int64_t end, int thread) {
    parallel *p = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = p->n - 1 - i; /* backwards */
        mz_series_window w = {.values = p->values + index * MAX_POINTS};
        mz_series_sampler_get(p->sampler, (uint64_t)index, p->scratch + thread * SCRATCH_FLOATS,
                              &w);
        p->sizes[index] = w.n_values * 1000 + w.n_context;
        p->weights[index] = w.weight;
    }
}

static void examples_are_pure(void **state) {
    enum { N = 400, THREADS = 3 };
    mz_context *ctx = context_of(state);
    fixture f;
    open_mixed(&f, ctx);
    fixture_create(&f);
    parallel p = {.sampler = f.sampler, .n = N};
    p.values = calloc((size_t)N * MAX_POINTS, sizeof(float));
    p.scratch = calloc((size_t)THREADS * SCRATCH_FLOATS, sizeof(float));
    p.sizes = calloc(N, sizeof(int64_t));
    p.weights = calloc(N, sizeof(float));
    assert_true(p.values != NULL && p.scratch != NULL && p.sizes != NULL && p.weights != NULL);
    mz_pool *pool = NULL;
    mz_assert_ok(ctx, mz_pool_create(ctx, THREADS, &pool));
    mz_pool_run(pool, N, 7, make_examples, &p);
    mz_pool_destroy(ctx, pool);
    fixture_create(&f); /* another sampler of the same config */
    for (uint64_t i = 0; i < N; i++) {
        memset(f.scratch, 0x7f,
               SCRATCH_FLOATS * sizeof(float)); /* what is left in it is no input */
        const mz_series_window w = get(&f, i);
        assert_int_equal(w.n_values * 1000 + w.n_context, p.sizes[i]);
        assert_true(w.weight == p.weights[i]);
        assert_memory_equal(w.values, p.values + i * MAX_POINTS,
                            (size_t)w.n_values * sizeof(float));
    }
    f.config.seed = 1;
    fixture_create(&f);
    int64_t n_equal = 0;
    for (uint64_t i = 0; i < N; i++) {
        const mz_series_window w = get(&f, i);
        n_equal += memcmp(w.values, p.values + i * MAX_POINTS, 8 * sizeof(float)) == 0;
    }
    assert_in_range(n_equal, 0, N / 20); /* constants */
    free(p.values);
    free(p.scratch);
    free(p.sizes);
    free(p.weights);
    fixture_close(&f);
}

static void sources_have_their_shares(void **state) {
    fixture f;
    open_mixed(&f, context_of(state));
    f.sources[0].share = 3;
    fixture_create(&f);
    int64_t n_first = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        const mz_series_window w = get(&f, i);
        n_first += w.source == 0;
    }
    assert_in_range(n_first, 1420, 1580);
    assert_int_equal(mz_series_sampler_n_sources(f.sampler), 2);
    mz_series_source_info info;
    mz_series_sampler_describe(f.sampler, 0, &info);
    assert_int_equal(info.kind, MZ_SERIES_SOURCE_TABLE);
    assert_string_equal(info.path, f.path);
    assert_near(info.share, 0.75, 1e-12);
    assert_int_equal(info.n_series, 6);
    assert_int_equal(info.n_points, 900 + 30 + 9 + 500 + 12 + 400);
    assert_int_equal(info.n_groups, 3);
    assert_int_equal(info.n_skipped, 1);
    mz_series_sampler_describe(f.sampler, 1, &info);
    assert_string_equal(info.path, "synthetic");
    assert_int_equal(info.n_series, 0);
    f.sources[0].share = 0;
    fixture_create(&f);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(get(&f, i).source, 1);
    }
    fixture_close(&f);
}

/* Shares of series 0 (1600 points, group a), 1 and 2 (400 and 100 points, group b). */
static void count_series(mz_context *ctx, mz_series_weighting weighting, double power,
                         double shares[3]) {
    enum { N = 4000 };
    text t;
    text_open(&t);
    add_series(&t, "a/1", 1600, wave);
    add_series(&t, "b/1", 400, wave);
    add_series(&t, "b/2", 100, wave);
    fixture f;
    fixture_open(&f, ctx, &t);
    free(t.bytes);
    f.sources[0].weighting = weighting;
    f.sources[0].group_power = power;
    fixture_create(&f);
    int64_t counts[3] = {0};
    for (uint64_t i = 0; i < N; i++) {
        counts[get(&f, i).series]++;
    }
    for (int k = 0; k < 3; k++) {
        shares[k] = (double)counts[k] / N;
    }
    mz_series_group_info group;
    mz_series_sampler_describe_group(f.sampler, 0, 1, &group);
    assert_string_equal(group.name, "b");
    assert_int_equal(group.n_series, 2);
    assert_int_equal(group.n_points, 500);
    assert_near(group.share, 1 - shares[0], 0.03);
    fixture_close(&f);
}

static void groups_and_series_have_their_shares(void **state) {
    mz_context *ctx = context_of(state);
    double shares[3];
    count_series(ctx, MZ_SERIES_BY_SQRT_LENGTH, 0, shares);
    assert_near(shares[0], 0.5, 0.03);
    assert_near(shares[1], 0.5 * 2 / 3, 0.03);
    count_series(ctx, MZ_SERIES_BY_LENGTH, 1, shares);
    assert_near(shares[0], 1600.0 / 2100, 0.03);
    assert_near(shares[1], 400.0 / 2100, 0.03);
    count_series(ctx, MZ_SERIES_EVENLY, 0.5, shares);
    assert_near(shares[0], 40 / (40 + sqrt(500)), 0.03);
    assert_near(shares[1], shares[2], 0.03);
}

/* The windows' mean slope must have this sign, and be straight. */
static void check_slopes(fixture *f, double sign) {
    fixture_create(f);
    for (uint64_t i = 0; i < 200; i++) {
        const mz_series_window w = get(f, i);
        const double slope =
            ((double)w.values[w.n_values - 1] - (double)w.values[0]) / (double)(w.n_values - 1);
        assert_true(slope * sign > 0);
        for (int64_t k = 1; k < w.n_values; k++) {
            const double step = (double)w.values[k] - (double)w.values[k - 1];
            assert_near(step / slope, 1, 5e-3);
        }
    }
}

static void windows_are_stretches_of_the_series(void **state) {
    fixture f;
    open_one(&f, context_of(state), 3, 500, ramp);
    check_slopes(&f, 1);
    f.config.augment.negate = 1;
    check_slopes(&f, -1);
    f.config.augment.reverse = 1;
    check_slopes(&f, 1);
    f.config.augment.mix = 1; /* lines and lines are lines */
    f.config.augment.aggregate = 1;
    check_slopes(&f, 1);
    f.config.augment = (mz_series_augment){.interpolate = 1};
    check_slopes(&f, 1);
    fixture_close(&f);
}

static void rates_are_rates(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 500, ramp);
    f.config.augment.negate = 0.25;
    fixture_create(&f);
    int64_t n_down = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        const mz_series_window w = get(&f, i);
        n_down += w.values[1] < w.values[0];
    }
    assert_in_range(n_down, 430, 570);
    fixture_close(&f);
}

/* How often the values of a window turn; waves of 24 points do it every 12. */
static int64_t count_turns(const mz_series_window *w) {
    int64_t n_turns = 0;
    for (int64_t k = 2; k < w->n_values; k++) {
        n_turns += (w->values[k] > w->values[k - 1]) != (w->values[k - 1] > w->values[k - 2]);
    }
    return n_turns;
}

static void time_is_resampled(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 3000, wave);
    f.config.full_share = 1;
    f.config.augment.aggregate = 1;
    fixture_create(&f);
    for (uint64_t i = 0; i < 100; i++) {
        const mz_series_window w = get(&f, i);
        assert_int_equal(w.n_values, MAX_POINTS);
        assert_in_range(count_turns(&w), 48, 202); /* 2 to 8 times as often */
    }
    f.config.augment = (mz_series_augment){.interpolate = 1};
    fixture_create(&f);
    for (uint64_t i = 0; i < 100; i++) {
        const mz_series_window w = get(&f, i);
        assert_in_range(count_turns(&w), 4, 22); /* 1.2 to 4 times less often */
    }
    fixture_close(&f);
}

static void mixtures_are_of_several_series(void **state) {
    mz_context *ctx = context_of(state);
    text t;
    text_open(&t);
    add_series(&t, "a/1", 400, ramp);
    add_series(&t, "a/2", 400, wave);
    fixture f;
    fixture_open(&f, ctx, &t);
    free(t.bytes);
    f.config.full_share = 1;
    f.config.augment.mix = 1;
    fixture_create(&f);
    int64_t n_both = 0;
    for (uint64_t i = 0; i < 400; i++) {
        const mz_series_window w = get(&f, i);
        n_both += w.series == 0 && count_turns(&w) > 10; /* a ramp that swings */
    }
    assert_in_range(n_both, 60, 180);
    fixture_close(&f);
}

static void constants_and_late_starts(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 60, level);
    f.config.augment.gain = 1;
    fixture_create(&f);
    for (uint64_t i = 0; i < 50; i++) {
        const mz_series_window w = get(&f, i);
        assert_true(w.weight == 1);
        for (int64_t k = 0; k < w.n_values; k++) {
            assert_true(w.values[k] == 0);
        }
    }
    fixture_close(&f);
    open_one(&f, context_of(state), 1, MAX_POINTS, late_start);
    f.config.full_share = 1;
    f.config.late_share = 0;
    fixture_create(&f);
    for (uint64_t i = 0; i < 50; i++) {
        const mz_series_window w = get(&f, i);
        assert_true(w.n_context > 150 && w.n_context <= MAX_POINTS - 64);
        check_window(&f, &w);
    }
    fixture_close(&f);
}

static void weights_favour_what_can_be_forecast(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 900, noise);
    f.config.full_share = 1;
    fixture_create(&f);
    for (uint64_t i = 0; i < 30; i++) {
        assert_true(get(&f, i).weight == 1);
    }
    fixture_close(&f);
    open_one(&f, context_of(state), 1, 900, wave);
    f.config.full_share = 1;
    f.config.late_share = 1;
    fixture_create(&f);
    for (uint64_t i = 0; i < 30; i++) {
        assert_true(get(&f, i).weight == 5); /* a season of 24 with next to nothing else */
    }
    f.config.even_weights = true;
    fixture_create(&f);
    assert_true(get(&f, 3).weight == 1);
    fixture_close(&f);
}

static void gaps_are_filled_and_csv_is_read(void **state) {
    mz_context *ctx = context_of(state);
    text t;
    text_open(&t);
    add_text(&t, "a,b\n");
    for (int i = 0; i < 40; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, i % 5 == 2 ? "%d,\n" : "%d,%d\n", i, 3 * i);
        add_text(&t, line);
    }
    fixture f;
    fixture_open(&f, ctx, &t);
    free(t.bytes);
    check_slopes(&f, 1);
    mz_series_source_info info;
    mz_series_sampler_describe(f.sampler, 0, &info);
    assert_int_equal(info.n_series, 2);
    assert_int_equal(info.n_groups, 1);
    assert_int_equal(info.n_points, 80);
    fixture_close(&f);
}

static void folders_are_sampled(void **state) {
    mz_context *ctx = context_of(state);
    text t = {.bytes = (char[]){"[1]\n"}, .n = 4};
    fixture f;
    fixture_open(&f, ctx, &t);
    float values[100];
    for (int i = 0; i < 100; i++) {
        values[i] = (float)ramp(i);
    }
    (void)mz_write_file(f.dir, "data-1-of-1.bin", values, sizeof values);
    static const char meta[] = "{\"num_sequences\":2,\"dtype\":\"float32\",\"files\":"
                               "{\"data-1-of-1.bin\":100},\"scales\":[{\"offset\":2,\"length\":5},"
                               "{\"offset\":10,\"length\":90,\"mean\":3,\"std\":2}]}";
    (void)mz_write_file(f.dir, "meta.json", meta, sizeof meta - 1);
    f.sources[0] = mz_series_source_default(MZ_SERIES_SOURCE_BINARY, f.dir);
    f.config.augment.mix = 0.5;
    f.config.augment.aggregate = 0.5;
    check_slopes(&f, 1);
    mz_series_source_info info;
    mz_series_sampler_describe(f.sampler, 0, &info);
    assert_int_equal(info.n_series, 1);
    assert_int_equal(info.n_skipped, 1);
    fixture_close(&f);
}

static void assert_refused(fixture *f, mz_status status, const char *says) {
    mz_series_sampler *sampler = NULL;
    const mz_status actual = mz_series_sampler_create(f->ctx, &f->config, &sampler);
    assert_null(sampler);
    if (actual != status || strstr(f->ctx->error.message, says) == NULL) {
        fail_msg("%s: %s", mz_status_name(actual), f->ctx->error.message);
    }
}

static void wrong_configs_are_refused(void **state) {
    fixture f;
    open_one(&f, context_of(state), 1, 50, ramp);
    const mz_series_sampler_config good = f.config;
    f.config.n_sources = 0;
    assert_refused(&f, MZ_ERR_ARG, "number of sources is 0");
    f.config = good;
    f.config.min_points = 7;
    assert_refused(&f, MZ_ERR_ARG, "smallest window is 7");
    f.config.min_points = 301;
    assert_refused(&f, MZ_ERR_ARG, "largest window is 300");
    f.config = good;
    f.config.horizon = 0;
    assert_refused(&f, MZ_ERR_ARG, "horizon is 0");
    f.config = good;
    f.config.augment.gain = 1.5;
    assert_refused(&f, MZ_ERR_ARG, "rate of gains is 1.5");
    f.config = good;
    f.config.late_share = NAN;
    assert_refused(&f, MZ_ERR_ARG, "share of late windows");
    f.config = good;
    f.config.min_points = 51;
    assert_refused(&f, MZ_ERR_MISSING, "no series of at least 51 values");
    f.config = good;
    f.sources[0].share = 0;
    assert_refused(&f, MZ_ERR_ARG, "all 1 sources are 0");
    f.sources[0].share = -1;
    assert_refused(&f, MZ_ERR_ARG, "share of source 0 is -1");
    f.sources[0].share = 1;
    f.sources[0].group_power = 2;
    assert_refused(&f, MZ_ERR_ARG, "group power 2");
    f.sources[0] = mz_series_source_default(MZ_SERIES_SOURCE_TABLE, NULL);
    assert_refused(&f, MZ_ERR_ARG, "no path");
    f.sources[0] = mz_series_source_default(MZ_SERIES_SOURCE_BINARY, f.dir);
    assert_refused(&f, MZ_ERR_IO, "meta.json");
    mz_series_sampler_destroy(f.ctx, NULL);
    fixture_close(&f);
}

static void failed_allocations_leave_nothing(void **state) {
    fixture f;
    open_mixed(&f, context_of(state));
    bool done = false;
    for (int64_t fail_at = 1; !done; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        const mz_context_options options = {.allocator = &allocator, .n_threads = 1};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
        mz_series_sampler *sampler = NULL;
        const mz_status status = mz_series_sampler_create(&ctx, &f.config, &sampler);
        done = status == MZ_OK;
        assert_true(done || status == MZ_ERR_NOMEM);
        mz_series_sampler_destroy(&ctx, sampler);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
        assert_true(fail_at < 1000);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_sound),
        cmocka_unit_test(lengths_and_contexts_follow_the_config),
        cmocka_unit_test(examples_are_pure),
        cmocka_unit_test(sources_have_their_shares),
        cmocka_unit_test(groups_and_series_have_their_shares),
        cmocka_unit_test(windows_are_stretches_of_the_series),
        cmocka_unit_test(rates_are_rates),
        cmocka_unit_test(time_is_resampled),
        cmocka_unit_test(mixtures_are_of_several_series),
        cmocka_unit_test(constants_and_late_starts),
        cmocka_unit_test(weights_favour_what_can_be_forecast),
        cmocka_unit_test(gaps_are_filled_and_csv_is_read),
        cmocka_unit_test(folders_are_sampled),
        cmocka_unit_test(wrong_configs_are_refused),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
