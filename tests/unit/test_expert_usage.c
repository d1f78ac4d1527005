#include "apps/expert_usage.h"

#include <math.h>

#include "tests/testing.h"

static mz_context ctx;

static int setup(void **state) {
    (void)state;
    return mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}) == MZ_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    mz_context_close(&ctx);
    return 0;
}

/* Two layers, four experts, two of them per point; three blocks. */
static void counts_and_shares(void **state) {
    (void)state;
    mz_expert_usage u;
    double shares[12];
    const int32_t first[] = {0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 2};
    const int32_t shorter[] = {3, 1};
    assert_int_equal(mz_expert_usage_open(&ctx, 2, 4, 3, &u), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 0, first, 6, 2), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 0, shorter, 1, 2), MZ_OK); /* ends with the others */
    assert_int_equal(mz_expert_usage_total(&u, 0, 0), 6);
    assert_int_equal(mz_expert_usage_total(&u, 0, 1), 4);
    assert_int_equal(mz_expert_usage_total(&u, 0, 2), 3);
    assert_int_equal(mz_expert_usage_total(&u, 0, 3), 1);
    mz_expert_usage_by_layer(&u, shares);
    assert_true(shares[0] == 6.0 / 14 && shares[3] == 1.0 / 14);
    for (int e = 4; e < 8; e++) {
        assert_true(isnan(shares[e])); /* the other layer was not seen */
    }
    mz_expert_usage_by_block(&u, 0, shares);
    const double expected[] = {0.5, 0.5,  2.0 / 6, 0.5, 0.25, 1.0 / 6,
                               0,   0.25, 2.0 / 6, 0,   0,    1.0 / 6};
    for (int i = 0; i < 12; i++) {
        assert_true(fabs(shares[i] - expected[i]) < 1e-15);
    }
    mz_expert_usage_close(&u);
    mz_expert_usage_close(&u);
}

static void balance(void **state) {
    (void)state;
    mz_expert_usage u;
    const int32_t even[] = {0, 1, 2, 3, 3, 2, 1, 0};
    const int32_t one[] = {2, 2, 2, 2};
    assert_int_equal(mz_expert_usage_open(&ctx, 3, 4, 1, &u), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 0, even, 8, 1), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 1, one, 4, 1), MZ_OK);
    mz_expert_balance b = mz_expert_usage_balance(&u, 0);
    assert_true(fabs(b.effective - 4) < 1e-12 && b.largest_share == 0.25 && b.largest == 0);
    assert_int_equal(b.n_dead, 0);
    b = mz_expert_usage_balance(&u, 1);
    assert_true(b.effective == 1 && b.largest_share == 1 && b.largest == 2 && b.n_dead == 3);
    b = mz_expert_usage_balance(&u, 2);
    assert_true(b.effective == 0 && b.largest_share == 0 && b.n_dead == 0);
    mz_expert_usage_close(&u);
}

static void wrong_choices(void **state) {
    (void)state;
    mz_expert_usage u;
    const int32_t ids[] = {0, 4};
    const int32_t negative[] = {-2};
    const int32_t unused[] = {-1}; /* a slot without an expert */
    assert_int_equal(mz_expert_usage_open(&ctx, 2, 4, 3, &u), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 0, ids, 2, 1), MZ_ERR_FORMAT);
    assert_int_equal(mz_expert_usage_count(&u, 0, negative, 1, 1), MZ_ERR_FORMAT);
    assert_int_equal(mz_expert_usage_count(&u, 0, unused, 1, 1), MZ_OK);
    assert_int_equal(mz_expert_usage_count(&u, 2, ids, 1, 1), MZ_ERR_FORMAT);
    assert_int_equal(mz_expert_usage_count(&u, -1, ids, 1, 1), MZ_ERR_FORMAT);
    mz_expert_usage_close(&u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counts_and_shares, setup, teardown),
        cmocka_unit_test_setup_teardown(balance, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_choices, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
