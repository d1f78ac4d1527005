/* Block-quantised types: the golden's bytes to the golden's bits, and what quantising costs. */
#include "core/blocks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "core/tensor.h"
#include "core/weights.h"
#include "tests/testing.h"

enum { N = 256 * 64 };

static const struct {
    mz_dtype dtype;
    const char *name; /* in the golden */
    /* The relative RMS error that quantising normal values, and their cubes, may have: none is
     * above that of ggml's plain quantisers on the same kind of values (measured: Q4_0 0.942 of it,
     * Q4_1 0.891, Q5_0 0.942, Q5_1 0.890, Q8_0 and Q6_K 0.999, Q4_K 1.000, Q5_K 0.987). */
    double gaussian_error;
    double tailed_error;
} types[] = {
    {MZ_DTYPE_Q8_0, "Q8_0", 0.0055, 0.0090}, {MZ_DTYPE_Q4_0, "Q4_0", 0.0825, 0.1075},
    {MZ_DTYPE_Q4_1, "Q4_1", 0.0710, 0.0845}, {MZ_DTYPE_Q5_0, "Q5_0", 0.0412, 0.0595},
    {MZ_DTYPE_Q5_1, "Q5_1", 0.0342, 0.0440}, {MZ_DTYPE_Q2_K, "Q2_K", 0, 0},
    {MZ_DTYPE_Q3_K, "Q3_K", 0, 0},           {MZ_DTYPE_Q4_K, "Q4_K", 0.0725, 0.0905},
    {MZ_DTYPE_Q5_K, "Q5_K", 0.0365, 0.0497}, {MZ_DTYPE_Q6_K, "Q6_K", 0.0182, 0.0245},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

static void golden_values_bit_for_bit(void **state) {
    mz_context *ctx = *state;
    mz_weights *w = NULL;
    mz_assert_ok(ctx, mz_weights_open(ctx, MOEZOO_TESTS_DIR "/golden/gguf/io.safetensors", &w));
    for (int i = 0; i < N_TYPES; i++) {
        const mz_dtype_info *info = mz_dtype_get(types[i].dtype);
        char name[32];
        mz_tensor raw;
        mz_tensor values;
        (void)snprintf(name, sizeof name, "%s.raw", types[i].name);
        assert_true(mz_weights_find(w, name, &raw));
        (void)snprintf(name, sizeof name, "%s.values", types[i].name);
        assert_true(mz_weights_find(w, name, &values));
        const int64_t n = mz_tensor_n_elements(&values);
        assert_int_equal(n % info->block_len, 0);
        assert_int_equal(mz_tensor_n_elements(&raw), n / info->block_len * info->block_bytes);
        static uint8_t shifted[4096];
        static float out[2048];
        assert_true(n <= 2048 && mz_tensor_n_elements(&raw) < 4096);
        memcpy(shifted + 1, raw.data, (size_t)mz_tensor_n_elements(&raw));
        info->to_f32(out, shifted + 1, n);
        if (memcmp(out, values.data, (size_t)n * sizeof *out) != 0) {
            fail_msg("%s: other bits than the golden", types[i].name);
        }
    }
    mz_weights_close(ctx, w);
}

static double relative_error(const mz_dtype_info *info, const float *x) {
    static uint8_t blocks[N * 2];
    static float back[N];
    info->from_f32(blocks, x, N);
    info->to_f32(back, blocks, N);
    const mz_distance d = mz_distance_f32(back, x, N);
    assert_int_equal(d.n_nonfinite, 0);
    return d.relative_l2;
}

static void errors_are_small(void **state) {
    (void)state;
    static float gaussian[N];
    static float tailed[N];
    for (int i = 0; i < N; i++) {
        gaussian[i] = 0.02f * mz_rng_normal(1, 2, (uint64_t)i);
        tailed[i] = gaussian[i] * gaussian[i] * gaussian[i] * 1e4f;
    }
    for (int i = 0; i < N_TYPES; i++) {
        const mz_dtype_info *info = mz_dtype_get(types[i].dtype);
        if (info->from_f32 == NULL) {
            assert_true(types[i].gaussian_error == 0);
            continue;
        }
        const double g = relative_error(info, gaussian);
        const double t = relative_error(info, tailed);
        if (!(g <= types[i].gaussian_error) || !(t <= types[i].tailed_error)) {
            fail_msg("%s: relative errors %.5f and %.5f, expected at most %.5f and %.5f",
                     info->name, g, t, types[i].gaussian_error, types[i].tailed_error);
        }
    }
}

/* Zeros and equal values, the smallest and the largest numbers, infinities and NaNs. */
static void edges_are_defined(void **state) {
    (void)state;
    static const float values[] = {0,      -0.0f, 1,    -3.25f,   1e-30f,    1e-7f, 3e38f,
                                   -3e38f, 65504, 6e4f, INFINITY, -INFINITY, NAN};
    for (int i = 0; i < N_TYPES; i++) {
        const mz_dtype_info *info = mz_dtype_get(types[i].dtype);
        for (size_t v = 0; v < sizeof values / sizeof values[0] && info->from_f32 != NULL; v++) {
            float x[256];
            float back[256];
            uint8_t blocks[512];
            for (int j = 0; j < 256; j++) {
                x[j] = j % 3 == 2 ? 0.5f * values[v] : values[v];
            }
            info->from_f32(blocks, x, 256);
            info->to_f32(back, blocks, 256);
            for (int j = 0; j < 256; j++) {
                const float bound = 0.07f * fabsf(values[v]) + 1e-5f;
                const bool exact = fabsf(values[v]) <= 65504;
                if (!isfinite(back[j]) || (exact && fabsf(back[j] - x[j]) > bound)) {
                    fail_msg("%s: %g became %g", info->name, (double)x[j], (double)back[j]);
                }
            }
        }
    }
}

/* A block is a function of its own values alone. */
static void blocks_are_independent(void **state) {
    (void)state;
    static float x[N];
    static uint8_t all[N * 2];
    static uint8_t one[512];
    mz_fill_uniform(x, N, 7, 2);
    for (int i = 0; i < N_TYPES; i++) {
        const mz_dtype_info *info = mz_dtype_get(types[i].dtype);
        if (info->from_f32 == NULL) {
            continue;
        }
        info->from_f32(all, x, N);
        for (int b = 0; b < N / info->block_len; b += 5) {
            info->from_f32(one + 1, x + b * info->block_len, info->block_len);
            assert_memory_equal(one + 1, all + b * info->block_bytes, (size_t)info->block_bytes);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_values_bit_for_bit),
        cmocka_unit_test(errors_are_small),
        cmocka_unit_test(edges_are_defined),
        cmocka_unit_test(blocks_are_independent),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
