/* Tensors: conversions of the 16-bit types against their definitions, views, shapes in messages. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "core/half.h"
#include "core/rng.h"
#include "core/tensor.h"

/* A 16-bit binary floating-point format; the conversions below follow IEEE 754's definition in f64,
 * where every value of both formats is exact. */
typedef struct format {
    const char *name;
    int n_mantissa;
    int bias;
    float (*to_f32)(uint16_t h);
    uint16_t (*from_f32)(float x);
} format;

static const format formats[] = {
    {"f16", 10, 15, mz_f16_to_f32, mz_f16_from_f32},
    {"bf16", 7, 127, mz_bf16_to_f32, mz_bf16_from_f32},
};

static int max_exponent(const format *f) {
    return (1 << (15 - f->n_mantissa)) - 1;
}

static double decode(const format *f, uint16_t h) {
    const int exponent = (h & 0x7fff) >> f->n_mantissa;
    const int mantissa = h & ((1 << f->n_mantissa) - 1);
    const double sign = h >= 0x8000 ? -1 : 1;
    if (exponent == max_exponent(f)) {
        return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    }
    if (exponent == 0) {
        return sign * ldexp(mantissa, 1 - f->bias - f->n_mantissa);
    }
    return sign * ldexp(mantissa + (1 << f->n_mantissa), exponent - f->bias - f->n_mantissa);
}

/* Nearest value, ties to the even pattern; by halving the range of positive patterns, whose values
 * are in order. */
static uint16_t encode(const format *f, float x) {
    const double magnitude = fabs((double)x);
    const int infinity = max_exponent(f) << f->n_mantissa;
    const uint16_t sign = signbit(x) != 0 ? 0x8000 : 0;
    int low = 0;
    int high =
        infinity; /* decode(low) <= magnitude; magnitude < decode(high), or high is infinity */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (decode(f, (uint16_t)middle) <= magnitude) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const double below = decode(f, (uint16_t)low);
    /* For rounding, infinity counts as the value that would follow the largest one. */
    const double step =
        ldexp(1, (low >> f->n_mantissa > 0 ? low >> f->n_mantissa : 1) - f->bias - f->n_mantissa);
    const double twice = 2 * (magnitude - below);
    const bool up = twice > step || (twice == step && low % 2 != 0);
    return (uint16_t)(sign | (up ? high : low));
}

static uint32_t bits_of(float x) {
    uint32_t u = 0;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x = 0;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void every_pattern_round_trips(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        const format *f = &formats[k];
        for (uint32_t h = 0; h < 0x10000; h++) {
            const float x = f->to_f32((uint16_t)h);
            const double expected = decode(f, (uint16_t)h);
            const uint16_t back = f->from_f32(x);
            if (isnan(expected)) {
                const int quiet = 1 << (f->n_mantissa - 1);
                if (!isnan(x) || !isnan(f->to_f32(back)) || (back & quiet) == 0 ||
                    (back ^ h) >> 15 != 0) {
                    fail_msg("%s: NaN 0x%04x became 0x%08x and 0x%04x", f->name, h, bits_of(x),
                             back);
                }
            } else if ((double)x != expected || (signbit(x) != 0) != (h >= 0x8000) || back != h) {
                fail_msg("%s: 0x%04x became %g and 0x%04x, expected %g", f->name, h, (double)x,
                         back, expected);
            }
        }
    }
}

static void check_rounding(const format *f, float x) {
    const uint16_t actual = f->from_f32(x);
    if (isnan(x) ? !isnan(f->to_f32(actual)) : actual != encode(f, x)) {
        fail_msg("%s: %a (0x%08x) became 0x%04x, expected 0x%04x", f->name, (double)x, bits_of(x),
                 actual, encode(f, x));
    }
}

/* Around each value and around each middle of two neighbours: that float and the ones beside it. */
static void rounds_to_nearest_even(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        const format *f = &formats[k];
        const uint32_t infinity = (uint32_t)max_exponent(f) << f->n_mantissa;
        for (uint32_t h = 0; h < infinity; h++) {
            const double value = decode(f, (uint16_t)h);
            const double next = h + 1 < infinity ? decode(f, (uint16_t)(h + 1))
                                                 : 2 * value - decode(f, (uint16_t)(h - 1));
            const float points[] = {(float)value, (float)((value + next) / 2)};
            for (size_t i = 0; i < 2; i++) {
                check_rounding(f, points[i]);
                check_rounding(f, -points[i]);
                check_rounding(f, nextafterf(points[i], INFINITY));
                check_rounding(f, nextafterf(points[i], 0.0f));
                check_rounding(f, -nextafterf(points[i], INFINITY));
            }
        }
    }
}

static void rounds_any_float(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        for (uint64_t i = 0; i < 100000; i++) {
            uint32_t words[4];
            mz_rng_block(11, k, i, words);
            for (int w = 0; w < 4; w++) {
                check_rounding(&formats[k], float_of(words[w]));
            }
        }
        static const uint32_t special[] = {0x7f800000u, 0xff800000u, 0x7f7fffffu, 0xff7fffffu,
                                           0x00000001u, 0x80000001u, 0x00800000u, 0x007fffffu,
                                           0x7f800001u, 0xffffffffu};
        for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
            check_rounding(&formats[k], float_of(special[i]));
        }
    }
}

static void table_of_types(void **state) {
    (void)state;
    static const struct {
        mz_dtype dtype;
        const char *name;
        int len;
        int bytes;
        bool is_float;
        bool is_written;
    } expected[] = {
        {MZ_DTYPE_F32, "f32", 1, 4, true, true},
        {MZ_DTYPE_F16, "f16", 1, 2, true, true},
        {MZ_DTYPE_BF16, "bf16", 1, 2, true, true},
        {MZ_DTYPE_I32, "i32", 1, 4, false, false},
        {MZ_DTYPE_I64, "i64", 1, 8, false, false},
        {MZ_DTYPE_U8, "u8", 1, 1, false, false},
        {MZ_DTYPE_Q8_0, "q8_0", 32, 34, true, true},
        {MZ_DTYPE_Q4_0, "q4_0", 32, 18, true, true},
        {MZ_DTYPE_Q4_1, "q4_1", 32, 20, true, true},
        {MZ_DTYPE_Q5_0, "q5_0", 32, 22, true, true},
        {MZ_DTYPE_Q5_1, "q5_1", 32, 24, true, true},
        {MZ_DTYPE_Q2_K, "q2_k", 256, 84, true, false},
        {MZ_DTYPE_Q3_K, "q3_k", 256, 110, true, false},
        {MZ_DTYPE_Q4_K, "q4_k", 256, 144, true, true},
        {MZ_DTYPE_Q5_K, "q5_k", 256, 176, true, true},
        {MZ_DTYPE_Q6_K, "q6_k", 256, 210, true, true},
    };
    assert_int_equal(sizeof expected / sizeof expected[0], MZ_DTYPE_COUNT);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const mz_dtype_info *info = mz_dtype_get(expected[i].dtype);
        assert_string_equal(info->name, expected[i].name);
        assert_int_equal(info->block_len, expected[i].len);
        assert_int_equal(info->block_bytes, expected[i].bytes);
        assert_int_equal(info->is_float, expected[i].is_float);
        assert_int_equal(info->to_f32 != NULL, expected[i].is_float);
        assert_int_equal(info->from_f32 != NULL, expected[i].is_written);
    }
}

/* Rows of the table convert element by element, at any address and of any length. */
static void conversions_of_arrays(void **state) {
    (void)state;
    static const mz_dtype dtypes[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};
    enum { N = 37 };
    float values[N];
    mz_fill_uniform(values, N, 5, 100.0f);
    for (size_t k = 0; k < sizeof dtypes / sizeof dtypes[0]; k++) {
        const mz_dtype_info *info = mz_dtype_get(dtypes[k]);
        for (int64_t n = 0; n <= N; n++) {
            unsigned char packed[4 * N + 2];
            float back[N + 1];
            memset(packed, 0xee, sizeof packed);
            back[n] = 123.0f;
            info->from_f32(packed + 1, values, n); /* unaligned */
            assert_int_equal(packed[0], 0xee);
            assert_int_equal(packed[1 + n * info->block_bytes], 0xee);
            info->to_f32(back, packed + 1, n);
            assert_true(back[n] == 123.0f);
            for (int64_t i = 0; i < n; i++) {
                float expected = values[i];
                if (dtypes[k] != MZ_DTYPE_F32) {
                    const format *f = &formats[dtypes[k] == MZ_DTYPE_F16 ? 0 : 1];
                    expected = (float)decode(f, encode(f, values[i]));
                }
                assert_true(back[i] == expected);
            }
        }
    }
}

static void views(void **state) {
    (void)state;
    float data[6 * 8];
    for (int i = 0; i < 6 * 8; i++) {
        data[i] = (float)i;
    }
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 6, 8, data);
    assert_int_equal(t.ld, 8);
    const mz_tensor rows = mz_tensor_rows(&t, 2, 3);
    const mz_tensor block = mz_tensor_cols(&rows, 5, 2);
    assert_int_equal(mz_tensor_n_rows(&block), 3);
    assert_int_equal(mz_tensor_n_cols(&block), 2);
    assert_int_equal(mz_tensor_n_elements(&block), 6);
    for (int64_t r = 0; r < 3; r++) {
        for (int64_t c = 0; c < 2; c++) {
            assert_true(mz_tensor_f32(&block, r)[c] == (float)((r + 2) * 8 + c + 5));
        }
    }
    const mz_tensor back = mz_tensor_rows(&block, 2, 1);
    assert_true(mz_tensor_f32(&back, 0)[1] == (float)(4 * 8 + 6));

    int32_t numbers[12];
    for (int i = 0; i < 12; i++) {
        numbers[i] = 100 + i;
    }
    mz_tensor i32 = mz_tensor_2d(MZ_DTYPE_I32, 3, 4, numbers);
    assert_int_equal(mz_tensor_i32(&i32, 2)[1], 109);
    uint16_t halves[8] = {0};
    const mz_tensor h = mz_tensor_2d(MZ_DTYPE_BF16, 2, 4, halves);
    assert_ptr_equal(mz_tensor_rows(&h, 1, 1).data, halves + 4);
    assert_ptr_equal(mz_tensor_cols(&h, 3, 1).data, halves + 3);

    const mz_tensor line = mz_tensor_1d(MZ_DTYPE_F32, 8, data);
    assert_int_equal(mz_tensor_n_rows(&line), 1);
    assert_int_equal(mz_tensor_n_cols(&line), 8);
    mz_tensor deep = t;
    deep.n_dims = 4;
    deep.shape[0] = 2;
    deep.shape[1] = 3;
    deep.shape[2] = 1;
    deep.shape[3] = 8;
    assert_int_equal(mz_tensor_n_rows(&deep), 6);
    assert_int_equal(mz_tensor_n_elements(&deep), 48);
    const mz_tensor absent = {0};
    assert_int_equal(mz_tensor_n_elements(&absent), 0);
    const mz_tensor measured = mz_tensor_2d(MZ_DTYPE_F32, 6, 8, NULL);
    assert_null(mz_tensor_rows(&measured, 3, 1).data);
    assert_null(mz_tensor_cols(&measured, 3, 1).data);
}

static void shapes_in_messages(void **state) {
    (void)state;
    static const int64_t shape[] = {3, 4, INT64_MAX, -1};
    char text[128];
    assert_string_equal(mz_shape_text(text, sizeof text, shape, 0), "[]");
    assert_string_equal(mz_shape_text(text, sizeof text, shape, 1), "[3]");
    assert_string_equal(mz_shape_text(text, sizeof text, shape, 2), "[3, 4]");
    const char *whole = "[3, 4, 9223372036854775807, -1]";
    assert_string_equal(mz_shape_text(text, sizeof text, shape, 4), whole);
    for (size_t size = 1; size < strlen(whole) + 2; size++) {
        memset(text, '#', sizeof text);
        (void)mz_shape_text(text, size, shape, 4);
        assert_int_equal(text[size], '#');
        assert_true(strlen(text) < size);
        assert_int_equal(strncmp(text, whole, strlen(text)), 0);
    }
}

static void products_of_sizes(void **state) {
    (void)state;
    static const struct {
        size_t a, b;
        bool ok;
    } cases[] = {
        {0, 0, true},
        {0, SIZE_MAX, true},
        {SIZE_MAX, 0, true},
        {1, SIZE_MAX, true},
        {SIZE_MAX, 1, true},
        {2, SIZE_MAX / 2, true},
        {2, SIZE_MAX / 2 + 1, false},
        {SIZE_MAX / 2 + 1, 2, false},
        {SIZE_MAX, SIZE_MAX, false},
        {(size_t)1 << 32, ((size_t)1 << 32) - 1, true},
        {(size_t)1 << 32, (size_t)1 << 32, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t out = 42;
        assert_int_equal(mz_size_mul(cases[i].a, cases[i].b, &out), cases[i].ok);
        assert_int_equal(out, cases[i].ok ? cases[i].a * cases[i].b : 42);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_round_trips), cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(rounds_any_float),          cmocka_unit_test(table_of_types),
        cmocka_unit_test(conversions_of_arrays),     cmocka_unit_test(views),
        cmocka_unit_test(shapes_in_messages),        cmocka_unit_test(products_of_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
