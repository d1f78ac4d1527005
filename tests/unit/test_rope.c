/* Tables of rotary angles: formulas of the scalings, and what a table carries of its rotation. */
#include "tests/testing.h"

#include <math.h>

#include "llm/rope.h"

static void frequencies(void **state) {
    (void)state;
    const double two_pi = 6.283185307179586;
    const mz_rope plain = {.theta = 10000, .n_dims = 32};
    mz_rope linear = plain;
    mz_rope llama3 = plain;
    mz_rope yarn = plain;
    linear.scaling = MZ_ROPE_LINEAR;
    linear.factor = 4;
    llama3.scaling = MZ_ROPE_LLAMA3;
    llama3.factor = 8;
    llama3.original_positions = 128;
    llama3.low_factor = 1;
    llama3.high_factor = 4;
    yarn.scaling = MZ_ROPE_YARN;
    yarn.factor = 8;
    yarn.original_positions = 128;
    yarn.beta_fast = 32;
    yarn.beta_slow = 1;
    int n_ramp = 0;
    for (int64_t i = 0; i < 16; i++) {
        const double f = pow(10000, -(double)i / 16);
        const double wavelength = two_pi / f;
        assert_true(fabs(mz_rope_frequency(&plain, i) - f) < 1e-15);
        assert_true(fabs(mz_rope_frequency(&linear, i) - f / 4) < 1e-15);
        const double l = mz_rope_frequency(&llama3, i);
        if (wavelength < 128.0 / 4) {
            assert_true(fabs(l - f) < 1e-15);
        } else if (wavelength > 128) {
            assert_true(fabs(l - f / 8) < 1e-15);
        } else {
            const double smooth = (128 / wavelength - 1) / 3;
            assert_true(fabs(l - ((1 - smooth) * f / 8 + smooth * f)) < 1e-15);
            n_ramp++;
        }
        /* 32 turns in 128 positions lie before pair 0, one turn at pair 5.2, rounded up to 6. */
        const double share = i < 6 ? 1 - (double)i / 6 : 0;
        assert_true(fabs(mz_rope_frequency(&yarn, i) - (share * f + (1 - share) * f / 8)) < 1e-15);
    }
    assert_true(n_ramp > 0);
}

/* Cosines and sines, which only YaRN multiplies by its factor. */
static void tables(void **state) {
    mz_context *ctx = *state;
    mz_stream s;
    mz_rope_table t;
    mz_rope rope = {.theta = 100,
                    .n_dims = 4,
                    .head_dim = 10,
                    .first = 6,
                    .interleaved = true,
                    .factor = 2,
                    .original_positions = 64,
                    .beta_fast = 32,
                    .beta_slow = 1,
                    .attention_factor = 1.5};
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 1 << 16, &s));
    for (int k = 0; k < 2; k++) {
        rope.scaling = k == 0 ? MZ_ROPE_LINEAR : MZ_ROPE_YARN;
        mz_assert_ok(ctx, mz_rope_table_take(&s, 50, &rope, &t));
        assert_int_equal(t.n_positions, 50);
        assert_int_equal(t.half_dim, 2);
        assert_int_equal(t.head_dim, 10);
        assert_int_equal(t.first, 6);
        assert_true(t.interleaved);
        for (int64_t p = 0; p < 50; p++) {
            for (int64_t i = 0; i < 2; i++) {
                const float angle = (float)p * (float)mz_rope_frequency(&rope, i);
                const double size = k == 0 ? 1 : 1.5;
                assert_true(t.cos[p * 2 + i] == (float)(size * cos((double)angle)));
                assert_true(t.sin[p * 2 + i] == (float)(size * sin((double)angle)));
            }
        }
    }
    assert_int_equal(mz_rope_table_take(&s, (1 << 24) + 1, &rope, &t), MZ_ERR_LIMIT);
    mz_stream_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
