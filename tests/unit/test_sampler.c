/* The sampler against distributions computed here in f64, and its choices at every edge. */
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "llm/sampler.h"

enum { N_DRAWS = 20000, MAX_VOCAB = 16 };

static const mz_sampling plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 11};

static mz_sampler *open_sampler(mz_context *ctx, const mz_sampling *sampling, int64_t vocab_size) {
    mz_sampler *s = NULL;
    mz_assert_ok(ctx, mz_sampler_create(ctx, sampling, vocab_size, &s));
    return s;
}

static int32_t next_of(mz_context *ctx, const mz_sampling *sampling, const float *logits, int64_t n,
                       double *probability) {
    mz_sampler *s = open_sampler(ctx, sampling, n);
    const int32_t id = mz_sampler_next(s, logits, probability);
    mz_sampler_destroy(ctx, s);
    return id;
}

/* Draws often and compares the counts with `expected` [n], which sums to 1, by chi-square. 45 is
 * exceeded by chance once in 10^4 for 15 degrees of freedom, more rarely for fewer. */
static void check_distribution(mz_context *ctx, const mz_sampling *sampling, const float *logits,
                               const double *expected, int n) {
    int64_t counts[MAX_VOCAB] = {0};
    mz_sampler *s = open_sampler(ctx, sampling, n);
    for (int i = 0; i < N_DRAWS; i++) {
        const int32_t id = mz_sampler_next(s, logits, NULL);
        assert_in_range(id, 0, n - 1);
        counts[id]++;
    }
    double chi_square = 0;
    for (int i = 0; i < n; i++) {
        const double mean = expected[i] * N_DRAWS;
        if (mean == 0) {
            assert_int_equal(counts[i], 0);
        } else {
            chi_square += ((double)counts[i] - mean) * ((double)counts[i] - mean) / mean;
        }
    }
    if (chi_square > 45) {
        fail_msg("chi-square %g", chi_square);
    }
    mz_sampler_destroy(ctx, s);
}

/* exp(logit / temperature) over their sum, of those that `kept` marks. */
static void softmax(const float *logits, double temperature, const char *kept, double *out, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        out[i] = kept[i] == '1' ? exp((double)logits[i] / temperature) : 0;
        sum += out[i];
    }
    for (int i = 0; i < n; i++) {
        out[i] /= sum;
    }
}

static const float logits_8[8] = {0.5f, -1, 2, 1.9f, 0, -3, 2, 1};

/* Softmax of logits_8: 0.061 0.014 0.271 0.245 0.037 0.002 0.271 0.100 (rounded). */
static void cuts(void **state) {
    static const struct {
        mz_sampling sampling;
        const char *kept;
    } cases[] = {
        {{.temperature = 1, .top_p = 1}, "11111111"},
        {{.temperature = 0.3, .top_p = 1}, "11111111"},
        {{.temperature = 5, .top_p = 1}, "11111111"},
        {{.temperature = 1, .top_p = 1, .sample_top_k = 3}, "00110010"},
        {{.temperature = 1, .top_p = 1, .sample_top_k = 1}, "00100000"}, /* tie: the lower id */
        {{.temperature = 1, .top_p = 1, .sample_top_k = 5}, "10110011"},
        {{.temperature = 1, .top_p = 1, .sample_top_k = 99}, "11111111"},
        {{.temperature = 1, .top_p = 0}, "00100000"},
        {{.temperature = 1, .top_p = 0.27}, "00100000"},
        {{.temperature = 1, .top_p = 0.3}, "00100010"},
        {{.temperature = 1, .top_p = 0.6}, "00110010"},
        {{.temperature = 1, .top_p = 0.88}, "00110011"},
        {{.temperature = 1, .top_p = 0.94}, "10110011"},
        {{.temperature = 1, .top_p = 1, .min_p = 0.3}, "00110011"},
        {{.temperature = 1, .top_p = 1, .min_p = 1}, "00100010"},
        /* Of the three best 0.344, 0.312, 0.344 the first two reach 0.68, of all not. */
        {{.temperature = 1, .top_p = 0.68, .sample_top_k = 3}, "00100010"},
        {{.temperature = 1, .top_p = 0.9, .min_p = 0.5}, "00110010"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double expected[8];
        mz_sampling sampling = cases[i].sampling;
        sampling.repeat_penalty = 1;
        sampling.seed = i;
        softmax(logits_8, sampling.temperature, cases[i].kept, expected, 8);
        check_distribution(*state, &sampling, logits_8, expected, 8);
    }
}

static void greedy(void **state) {
    mz_sampling s = plain;
    double probability = 0;
    s.temperature = 0;
    assert_int_equal(next_of(*state, &s, logits_8, 8, &probability), 2);
    double expected[8];
    softmax(logits_8, 1, "11111111", expected, 8);
    assert_true(fabs(probability - expected[2]) < 1e-6);
    for (int n = 1; n <= 40; n++) { /* every lane and the rest */
        float logits[40];
        for (int at = 0; at < n; at++) {
            for (int i = 0; i < n; i++) {
                logits[i] = i >= at ? -1.0f : -2.0f;
            }
            assert_int_equal(next_of(*state, &s, logits, n, NULL), at);
        }
    }
}

static void strange_logits(void **state) {
    const float inf = INFINITY;
    const float with_nan[5] = {NAN, 1, NAN, 1, -inf};
    const float with_inf[5] = {3, inf, NAN, inf, FLT_MAX};
    const float nothing[5] = {NAN, -inf, NAN, -inf, -inf};
    const float all_nan[5] = {NAN, NAN, NAN, NAN, NAN};
    const float huge[3] = {-FLT_MAX, FLT_MAX, FLT_MAX};
    mz_sampling s = plain;
    check_distribution(*state, &s, with_nan, (const double[]){0, 0.5, 0, 0.5, 0}, 5);
    check_distribution(*state, &s, with_inf, (const double[]){0, 0.5, 0, 0.5, 0}, 5);
    check_distribution(*state, &s, nothing, (const double[]){0.2, 0.2, 0.2, 0.2, 0.2}, 5);
    check_distribution(*state, &s, huge, (const double[]){0, 0.5, 0.5}, 3);
    s.sample_top_k = 3;
    s.top_p = 0.9;
    check_distribution(*state, &s, with_nan, (const double[]){0, 0.5, 0, 0.5, 0}, 5);
    check_distribution(*state, &s, with_inf, (const double[]){0, 0.5, 0, 0.5, 0}, 5);
    const double third = 1.0 / 3;
    check_distribution(*state, &s, all_nan, (const double[]){third, third, third, 0, 0}, 5);
    s.temperature = 0;
    assert_int_equal(next_of(*state, &s, with_nan, 5, NULL), 1);
    assert_int_equal(next_of(*state, &s, with_inf, 5, NULL), 1);
    assert_int_equal(next_of(*state, &s, nothing, 5, NULL), 0);
    assert_int_equal(next_of(*state, &s, all_nan, 5, NULL), 0);
    s.temperature = MZ_MIN_TEMPERATURE;
    s.top_p = 1;
    s.sample_top_k = 0;
    assert_int_equal(next_of(*state, &s, (const float[]){1, 2, 1.9f}, 3, NULL), 1);
}

static void penalty(void **state) {
    mz_context *ctx = *state;
    const float logits[5] = {2, 1.9f, -1, -1.5f, 0.5f};
    mz_sampling sampling = plain;
    sampling.repeat_penalty = 2;
    sampling.repeat_last_n = 3;
    sampling.temperature = 0;
    mz_sampler *s = open_sampler(ctx, &sampling, 5);
    assert_int_equal(mz_sampler_next(s, logits, NULL), 0);
    mz_sampler_accept(s, 0);
    mz_sampler_accept(s, 0); /* once is enough */
    double probability = 0;
    assert_int_equal(mz_sampler_next(s, logits, &probability), 1);
    const float halved[5] = {1, 1.9f, -1, -1.5f, 0.5f};
    double expected[5];
    softmax(halved, 1, "11111", expected, 5);
    assert_true(fabs(probability - expected[1]) < 1e-6);
    mz_sampler_accept(s, 1);
    mz_sampler_accept(s, 2);
    mz_sampler_accept(s, -1);
    mz_sampler_accept(s, 5);                               /* neither counts */
    assert_int_equal(mz_sampler_next(s, logits, NULL), 0); /* 1 against 0.95 */
    mz_sampler_accept(s, 3);
    mz_sampler_accept(s, 3); /* 0 and 1 are forgotten */
    assert_int_equal(mz_sampler_next(s, logits, NULL), 0);
    mz_sampler_accept(s, 0);
    assert_int_equal(mz_sampler_next(s, logits, NULL), 1);
    mz_sampler_forget(s);
    assert_int_equal(mz_sampler_next(s, logits, NULL), 0);
    mz_sampler_destroy(ctx, s);

    sampling.temperature = 1;
    s = open_sampler(ctx, &sampling, 5);
    mz_sampler_accept(s, 2);
    double p = 0;
    int n_2 = 0;
    for (int i = 0; i < N_DRAWS; i++) {
        n_2 += mz_sampler_next(s, logits, &p) == 2;
    }
    const float doubled[5] = {2, 1.9f, -2, -1.5f, 0.5f};
    softmax(doubled, 1, "11111", expected, 5);
    const double deviation = sqrt(N_DRAWS * expected[2]);
    assert_true(fabs(n_2 - N_DRAWS * expected[2]) < 4 * deviation);
    mz_sampler_destroy(ctx, s);
}

/* Pinned: another machine, compiler or C library draws the same. */
static void same_draws(void **state) {
    static const int32_t expected[12] = {764, 3, 239, 952, 569, 64, 994, 584, 519, 625, 763, 340};
    enum { VOCAB = 1000 };
    float *logits = malloc(VOCAB * sizeof *logits);
    assert_non_null(logits);
    mz_fill_uniform(logits, VOCAB, 5, 6);
    mz_sampling sampling = plain;
    sampling.top_p = 0.95;
    sampling.sample_top_k = 300;
    sampling.temperature = 0.9;
    mz_sampler *s = open_sampler(*state, &sampling, VOCAB);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(mz_sampler_next(s, logits, NULL), expected[i]);
    }
    mz_sampler_destroy(*state, s);
    free(logits);
}

static int compare_falling(const void *a, const void *b) {
    const float x = *(const float *)a;
    const float y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Of a large vocabulary top-k and top-p keep what a full sort keeps: with a high temperature every
 * one that is kept is drawn sometimes, and none of the others. */
static void large_vocabulary(void **state) {
    enum { VOCAB = 262144 };
    float *logits = malloc(VOCAB * sizeof *logits);
    float *sorted = malloc(VOCAB * sizeof *sorted);
    assert_non_null(logits);
    assert_non_null(sorted);
    mz_fill_uniform(logits, VOCAB, 9, 1);
    for (int i = 0; i < VOCAB; i++) {
        logits[i] *= 25 * fabsf(logits[i]);
    }
    memcpy(sorted, logits, VOCAB * sizeof *sorted);
    qsort(sorted, VOCAB, sizeof *sorted, compare_falling);
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) {
        sum += exp((double)sorted[i]);
    }
    double reached = 0;
    int n_kept = 0;
    while (reached < 0.9 * sum) {
        reached += exp((double)sorted[n_kept++]);
    }
    static const struct {
        int top_k;
        double top_p;
    } cases[] = {{0, 0.9}, {40, 1}, {5000, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        mz_sampling sampling = plain;
        sampling.sample_top_k = cases[c].top_k;
        sampling.top_p = cases[c].top_p;
        const float least = sorted[cases[c].top_k > 0 ? cases[c].top_k - 1 : n_kept - 1];
        mz_sampler *s = open_sampler(*state, &sampling, VOCAB);
        float lowest = sorted[0];
        for (int i = 0; i < 60; i++) {
            double probability = 0;
            const int32_t id = mz_sampler_next(s, logits, i == 0 ? &probability : NULL);
            lowest = logits[id] < lowest ? logits[id] : lowest;
            if (i == 0) {
                const double expected = exp((double)logits[id]) / sum;
                assert_true(fabs(probability - expected) < 1e-5 * expected);
            }
        }
        assert_true(lowest >= least);
        mz_sampler_destroy(*state, s);
    }
    free(logits);
    free(sorted);
}

static void wrong_values(void **state) {
    mz_context *ctx = *state;
    const struct {
        mz_sampling sampling;
        const char *message;
    } cases[] = {
        {{.temperature = -1, .top_p = 1, .repeat_penalty = 1}, "temperature: -1 is neither"},
        {{.temperature = 1e-9, .top_p = 1, .repeat_penalty = 1}, "temperature: 1e-09"},
        {{.temperature = 101, .top_p = 1, .repeat_penalty = 1}, "temperature: 101"},
        {{.temperature = NAN, .top_p = 1, .repeat_penalty = 1}, "temperature: "},
        {{.sample_top_k = -1, .top_p = 1, .repeat_penalty = 1}, "top-k: -1 is below 0"},
        {{.top_p = 1.01, .repeat_penalty = 1}, "top-p: 1.01 is outside 0 to 1"},
        {{.top_p = NAN, .repeat_penalty = 1}, "top-p: "},
        {{.top_p = 1, .min_p = -0.5, .repeat_penalty = 1}, "min-p: -0.5 is outside"},
        {{.top_p = 1, .repeat_penalty = 0}, "repeat penalty: 0 is outside 0.01 to 100"},
        {{.top_p = 1, .repeat_penalty = 1, .repeat_last_n = -1}, "-1, outside 0 to 1048576"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_sampler *s = NULL;
        assert_int_equal(mz_sampler_create(ctx, &cases[i].sampling, 10, &s), MZ_ERR_ARG);
        assert_null(s);
        assert_non_null(strstr(ctx->error.message, cases[i].message));
    }
    mz_sampler *s = NULL;
    assert_int_equal(mz_sampler_create(ctx, &plain, 0, &s), MZ_ERR_ARG);
    mz_sampler_destroy(ctx, NULL);
}

static void no_memory(void **state) {
    (void)state;
    mz_sampling sampling = plain;
    sampling.top_p = 0.5;
    for (int64_t fail_at = 1;; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        mz_sampler *s = NULL;
        assert_int_equal(mz_context_init(&ctx, NULL), MZ_OK);
        ctx.allocator = allocator;
        const mz_status status = mz_sampler_create(&ctx, &sampling, 8, &s);
        if (status == MZ_OK) {
            mz_sampler_destroy(&ctx, s);
        } else {
            assert_int_equal(status, MZ_ERR_NOMEM);
        }
        assert_int_equal(failing.n_live, 0);
        ctx.allocator = mz_allocator_system();
        mz_context_close(&ctx);
        if (status == MZ_OK) {
            return;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts),           cmocka_unit_test(greedy),
        cmocka_unit_test(strange_logits), cmocka_unit_test(penalty),
        cmocka_unit_test(same_draws),     cmocka_unit_test(large_vocabulary),
        cmocka_unit_test(wrong_values),   cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
