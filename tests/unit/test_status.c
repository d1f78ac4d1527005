/* Errors: one line, whatever is put into it. */
#include "tests/testing.h"

#include <stdio.h>
#include <string.h>

#include "core/status.h"

static void names(void **state) {
    (void)state;
    static const char *const expected[] = {"OK",          "ARG",    "SHAPE",  "DTYPE",
                                           "NOMEM",       "IO",     "FORMAT", "MISSING",
                                           "UNSUPPORTED", "DEVICE", "LIMIT",  "INTERRUPTED"};
    for (int i = 0; i <= MZ_ERR_INTERRUPTED; i++) {
        assert_string_equal(mz_status_name((mz_status)i), expected[i]);
    }
    assert_string_equal(mz_status_name((mz_status)(MZ_ERR_INTERRUPTED + 1)), "UNKNOWN");
    assert_string_equal(mz_status_name((mz_status)-1), "UNKNOWN");
}

static void message_is_formatted(void **state) {
    (void)state;
    mz_error err = {MZ_OK, ""};
    assert_int_equal(mz_fail(&err, MZ_ERR_SHAPE, "%s: [%d, %d]", "w_q", 3, 4), MZ_ERR_SHAPE);
    assert_int_equal(err.status, MZ_ERR_SHAPE);
    assert_string_equal(err.message, "w_q: [3, 4]");
    assert_int_equal(mz_fail_prefix(&err, "layer %d", 7), MZ_ERR_SHAPE);
    assert_string_equal(err.message, "layer 7: w_q: [3, 4]");
    assert_int_equal(mz_fail_prefix(&err, "%s", "model.safetensors"), MZ_ERR_SHAPE);
    assert_string_equal(err.message, "model.safetensors: layer 7: w_q: [3, 4]");
    assert_int_equal(mz_fail(&err, MZ_ERR_IO, "%s", "new"), MZ_ERR_IO);
    assert_string_equal(err.message, "new");
    assert_int_equal(mz_fail(NULL, MZ_ERR_LIMIT, "%s", "nowhere"), MZ_ERR_LIMIT);
}

static void control_characters_are_replaced(void **state) {
    (void)state;
    mz_error err = {MZ_OK, ""};
    (void)mz_fail(&err, MZ_ERR_FORMAT, "%s", "a\nb\rc\td\033[31me\177f\001 \xc3\xa4");
    assert_string_equal(err.message, "a?b?c?d?[31me?f? \xc3\xa4");
    (void)mz_fail(&err, MZ_ERR_FORMAT, "%s", "\xc2\x9b\x33m\xc2\xa0\xc2");
    assert_string_equal(err.message, "??3m\xc2\xa0\xc2");
    (void)mz_fail(&err, MZ_ERR_FORMAT, "%s", "a\nb\rc\td\033[31me\177f\001 \xc3\xa4");
    (void)mz_fail_prefix(&err, "%s", "x\ny");
    assert_string_equal(err.message, "x?y: a?b?c?d?[31me?f? \xc3\xa4");
}

static void long_messages_are_cut(void **state) {
    (void)state;
    static char text[3 * MZ_ERROR_BYTES];
    static const size_t sizes[] = {MZ_ERROR_BYTES - 2, MZ_ERROR_BYTES - 1, MZ_ERROR_BYTES,
                                   2 * MZ_ERROR_BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(text, 'x', sizes[i]);
        text[sizes[i]] = '\0';
        mz_error err = {MZ_OK, ""};
        assert_int_equal(mz_fail(&err, MZ_ERR_LIMIT, "%s", text), MZ_ERR_LIMIT);
        const size_t expected = sizes[i] < MZ_ERROR_BYTES - 1 ? sizes[i] : MZ_ERROR_BYTES - 1;
        assert_int_equal(strlen(err.message), expected);
        assert_int_equal(mz_fail_prefix(&err, "file"), MZ_ERR_LIMIT);
        assert_int_equal(strncmp(err.message, "file: xxx", 9), 0);
        assert_int_equal(strlen(err.message), MZ_ERROR_BYTES - 1);
        assert_int_equal(mz_fail_prefix(&err, "%s", text), MZ_ERR_LIMIT);
        assert_int_equal(strlen(err.message), MZ_ERROR_BYTES - 1);
    }
}

static mz_status pass_through(mz_status status, int *n_after) {
    MZ_TRY(status);
    (*n_after)++;
    return MZ_OK;
}

static void try_returns_failures(void **state) {
    (void)state;
    int n_after = 0;
    assert_int_equal(pass_through(MZ_ERR_DEVICE, &n_after), MZ_ERR_DEVICE);
    assert_int_equal(n_after, 0);
    assert_int_equal(pass_through(MZ_OK, &n_after), MZ_OK);
    assert_int_equal(n_after, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(message_is_formatted),
        cmocka_unit_test(control_characters_are_replaced),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(try_returns_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
