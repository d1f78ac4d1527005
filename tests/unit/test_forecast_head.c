/* The head schedule against the published table (Time-MoE, heads 1, 8, 32, 64). */
#include "tests/testing.h"

#include "llm/forecast_head.h"

static int n_passes(const mz_forecast_heads *heads, int64_t horizon) {
    int n = 0;
    for (int64_t remaining = horizon; remaining > 0; n++) {
        remaining -= heads->length[mz_forecast_heads_pick(heads, remaining)];
    }
    return n;
}

static void published_schedule(void **state) {
    (void)state;
    const mz_forecast_heads heads = {.n_heads = 4, .length = {1, 8, 32, 64}};
    static const struct {
        int64_t horizon;
        int passes;
    } table[] = {{1, 1},  {7, 7},  {12, 5},  {24, 3},  {28, 7},  {48, 3},   {63, 11},
                 {64, 1}, {96, 2}, {168, 4}, {192, 3}, {336, 7}, {365, 12}, {720, 13}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_int_equal(n_passes(&heads, table[i].horizon), table[i].passes);
    }
}

static void no_head_fits(void **state) {
    (void)state;
    const mz_forecast_heads heads = {.n_heads = 2, .length = {2, 5}};
    assert_int_equal(mz_forecast_heads_pick(&heads, 1), 0);
    assert_int_equal(mz_forecast_heads_pick(&heads, 4), 0);
    assert_int_equal(mz_forecast_heads_pick(&heads, 5), 1);
}

static void covering_head(void **state) {
    (void)state;
    const mz_forecast_heads heads = {.n_heads = 4, .length = {1, 8, 32, 64}};
    static const struct {
        int64_t remaining;
        int32_t head;
    } table[] = {{1, 0}, {2, 1}, {8, 1}, {9, 2}, {32, 2}, {33, 3}, {64, 3}, {65, 3}, {1000, 3}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_int_equal(mz_forecast_heads_cover(&heads, table[i].remaining), table[i].head);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_schedule),
                                       cmocka_unit_test(no_head_fits),
                                       cmocka_unit_test(covering_head)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
