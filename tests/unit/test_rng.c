/* Philox4x32-10 against the known answers of its authors (Random123, kat_vectors), and the two
 * distributions. */
#include "tests/testing.h"

#include <math.h>

#include "core/rng.h"

static void known_answers(void **state) {
    (void)state;
    static const struct {
        uint64_t seed, stream, counter;
        uint32_t expected[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
        {0x299f31d0a4093822u,
         0x0370734413198a2eu,
         0x85a308d3243f6a88u,
         {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t out[4] = {0};
        mz_rng_block(cases[i].seed, cases[i].stream, cases[i].counter, out);
        assert_memory_equal(out, cases[i].expected, sizeof out);
    }
}

/* The values of a stream are the words of its blocks in order, 24 bits each. */
static void uniform_reads_the_blocks(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 64; i++) {
        uint32_t words[4];
        mz_rng_block(7, 3, i / 4, words);
        const double expected = (double)(words[i % 4] / 256) / 16777216.0;
        assert_true((double)mz_rng_uniform(7, 3, i) == expected);
    }
}

static void uniform_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    double sum = 0;
    double squares = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = (double)mz_rng_uniform(1, 0, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    const double mean = sum / N;
    assert_true(fabs(mean - 0.5) < 0.003);
    assert_true(fabs(squares / N - mean * mean - 1.0 / 12) < 0.001);
}

static void normal_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    double moments[4] = {0};
    double neighbours = 0;
    double previous = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double z = (double)mz_rng_normal(1, 0, i);
        assert_true(isfinite(z));
        double power = 1;
        for (int k = 0; k < 4; k++) {
            power *= z;
            moments[k] += power / N;
        }
        neighbours += z * previous / N;
        previous = z;
    }
    assert_true(fabs(moments[0]) < 0.01);
    assert_true(fabs(moments[1] - 1) < 0.015);
    assert_true(fabs(moments[2]) < 0.03);
    assert_true(fabs(moments[3] - 3) < 0.1);
    assert_true(fabs(neighbours) < 0.01);
}

static void seeds_and_streams_differ(void **state) {
    (void)state;
    int n_equal = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const float u = mz_rng_uniform(1, 1, i);
        n_equal += u == mz_rng_uniform(2, 1, i);
        n_equal += u == mz_rng_uniform(1, 2, i);
        n_equal += u == mz_rng_uniform((uint64_t)1 << 32 | 1, 1, i);
        n_equal += u == mz_rng_uniform(1, (uint64_t)1 << 32 | 1, i);
        n_equal += u == mz_rng_uniform(1, 1, i + ((uint64_t)1 << 34));
    }
    assert_true(n_equal < 5); /* 5000 pairs, each equal by chance with probability 2^-24 */
}

/* The published values of FNV-1a. */
static void streams_of_names(void **state) {
    (void)state;
    assert_true(mz_rng_stream_of("") == 0xcbf29ce484222325u);
    assert_true(mz_rng_stream_of("a") == 0xaf63dc4c8601ec8cu);
    assert_true(mz_rng_stream_of("foobar") == 0x85944171f73967e8u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(uniform_reads_the_blocks),
        cmocka_unit_test(uniform_moments),
        cmocka_unit_test(normal_moments),
        cmocka_unit_test(seeds_and_streams_differ),
        cmocka_unit_test(streams_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
