/* Text fields as numbers: the same as the C library reads them, to the bit. */
#include "tests/testing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoders/series/series_reader_internal.h"

/* A pure function of its place. */
static uint64_t scramble(uint64_t i) {
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void check(const char *text) {
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%s", text);
    const mz_field field = mz_series_field(copy, strlen(copy), false);
    const double expected = strtod(text, NULL);
    assert_int_equal(field.kind, MZ_FIELD_NUMBER);
    assert_memory_equal(&field.value, &expected, sizeof expected);
}

/* Short decimals are read without the library. */
static void numbers_are_read_to_the_bit(void **state) {
    enum { N_NUMBERS = 200000 };
    (void)state;
    for (uint64_t i = 0; i < N_NUMBERS; i++) {
        const uint64_t a = scramble(2 * i);
        const uint64_t b = scramble(2 * i + 1);
        char text[64];
        (void)snprintf(text, sizeof text, "%s%" PRIu64 ".%0*" PRIu64, a % 3 == 0 ? "-" : "",
                       a >> (b % 60 + 4), (int)(b % 25) + 1, b >> 40);
        check(text);
    }
    static const char *const special[] = {"-0",
                                          "0.0",
                                          "9007199254740992",
                                          "9007199254740993",
                                          "9007199254740991.5",
                                          "0.1",
                                          "123456789012345678901",
                                          "0.0000000000000000000001",
                                          "0.00000000000000000000001",
                                          "1e23",
                                          "+7",
                                          "4.",
                                          ".5"};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        check(special[i]);
    }
}

static void decimal_commas_are_points(void **state) {
    (void)state;
    char text[] = "-1234,5678";
    const mz_field field = mz_series_field(text, strlen(text), true);
    assert_int_equal(field.kind, MZ_FIELD_NUMBER);
    assert_true(field.value == -1234.5678);
    assert_int_equal(field.mark, ',');
    assert_string_equal(text, "-1234,5678");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_to_the_bit),
        cmocka_unit_test(decimal_commas_are_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
