/* Stop strings: whatever pieces a text comes in, the same part of it is given out. */
#include "tests/testing.h"

#include <string.h>

#include "apps/ask/stop_strings.h"

enum { MAX_TEXT = 64 };

/* Pushes `text` in pieces of `width` bytes and puts together what comes out; with `stopped` the
 * rest is not looked at. */
static void run(mz_stop_strings *s, const char *text, size_t width, char *out, bool *stopped) {
    const char *given = NULL;
    size_t n_given = 0;
    size_t n_out = 0;
    *stopped = false;
    mz_stop_strings_reset(s);
    for (size_t at = 0; at < strlen(text) && !*stopped; at += width) {
        const size_t left = strlen(text) - at;
        mz_assert_ok(s->ctx, mz_stop_strings_push(s, text + at, left < width ? left : width, &given,
                                                  &n_given, stopped));
        assert_true(n_out + n_given < MAX_TEXT);
        memcpy(out + n_out, given, n_given);
        n_out += n_given;
    }
    if (!*stopped) {
        mz_stop_strings_finish(s, &given, &n_given);
        assert_true(n_out + n_given < MAX_TEXT);
        if (n_given > 0) {
            memcpy(out + n_out, given, n_given);
        }
        n_out += n_given;
    }
    out[n_out] = '\0';
}

static void any_pieces(void **state) {
    static const struct {
        const char *stops[3];
        const char *text, *expected;
        bool stopped;
    } cases[] = {
        {{"END"}, "abcENDdef", "abc", true},
        {{"END"}, "abcEN", "abcEN", false},
        {{"END"}, "ENENDx", "EN", true},
        {{"END"}, "", "", false},
        {{"END"}, "END", "", true},
        {{"aab"}, "aaab", "a", true},
        {{"aab"}, "aaa", "aaa", false},
        {{"abcdX", "bc"}, "abcdX", "a", true}, /* "bc" is complete first */
        {{"bcd", "cd", "d"}, "abcd", "a", true},
        {{"\n\n", "User:"}, "line\nmore\n\nUser:", "line\nmore", true},
        {{"\xc3\xa9"}, "caf\xc3\xa9", "caf", true},
        {{NULL}, "all of it", "all of it", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_stop_strings s = {.ctx = *state};
        for (int k = 0; k < 3 && cases[i].stops[k] != NULL; k++) {
            mz_assert_ok(s.ctx, mz_stop_strings_add(&s, cases[i].stops[k]));
        }
        for (size_t width = 1; width <= 10; width++) {
            char out[MAX_TEXT];
            bool stopped = false;
            run(&s, cases[i].text, width, out, &stopped);
            assert_string_equal(out, cases[i].expected);
            assert_int_equal(stopped, cases[i].stopped);
        }
        mz_stop_strings_free(&s);
    }
}

/* Text is not held back longer than it has to be. */
static void comes_at_once(void **state) {
    mz_stop_strings s = {.ctx = *state};
    const char *given = NULL;
    size_t n = 0;
    bool stopped = false;
    mz_assert_ok(s.ctx, mz_stop_strings_add(&s, "STOP"));
    mz_assert_ok(s.ctx, mz_stop_strings_push(&s, "one ST", 6, &given, &n, &stopped));
    assert_int_equal(n, 4);
    mz_assert_ok(s.ctx, mz_stop_strings_push(&s, "", 0, &given, &n, &stopped));
    assert_int_equal(n, 0);
    mz_assert_ok(s.ctx, mz_stop_strings_push(&s, "AR", 2, &given, &n, &stopped));
    assert_int_equal(n, 4);
    assert_memory_equal(given, "STAR", 4);
    mz_stop_strings_free(&s);
}

static void wrong_strings(void **state) {
    mz_stop_strings s = {.ctx = *state};
    assert_int_equal(mz_stop_strings_add(&s, ""), MZ_ERR_ARG);
    for (int i = 0; i < MZ_MAX_STOP_STRINGS; i++) {
        mz_assert_ok(s.ctx, mz_stop_strings_add(&s, "x"));
    }
    assert_int_equal(mz_stop_strings_add(&s, "x"), MZ_ERR_LIMIT);
    mz_stop_strings_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces),
        cmocka_unit_test(comes_at_once),
        cmocka_unit_test(wrong_strings),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
