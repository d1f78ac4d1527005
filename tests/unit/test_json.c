#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/testing.h"

static mz_context *context(mz_context *ctx) {
    mz_assert_ok(ctx,
                 mz_context_init(ctx, &(mz_context_options){.n_threads = 1, .isa = MZ_ISA_SCALAR}));
    return ctx;
}

static json_t *parse(mz_context *ctx, const char *text) {
    json_t *document = NULL;
    mz_assert_ok(ctx, mz_json_parse(ctx, text, strlen(text), "text", &document));
    return document;
}

static void bad_documents_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"{\n \"a\": }", "line 2, column"},
        {"{\"a\": 1} x", "end of file expected"},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"[1e999]", "overflow"},
        {"[99999999999999999999]", "too big integer"},
        {"\"\xff\"", "unable to decode byte 0xff"},
        {"[NaN]", "invalid token"},
    };
    mz_context ctx;
    context(&ctx);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *document = NULL;
        assert_int_equal(
            mz_json_parse(&ctx, cases[i].text, strlen(cases[i].text), "FILE", &document),
            MZ_ERR_FORMAT);
        assert_null(document);
        if (strstr(ctx.error.message, cases[i].part) == NULL ||
            strncmp(ctx.error.message, "FILE: ", 6) != 0) {
            fail_msg("case %zu: %s", i, ctx.error.message);
        }
    }
    json_t *document = NULL;
    assert_int_equal(mz_json_parse(&ctx, NULL, 0, "FILE", &document), MZ_ERR_FORMAT);
    mz_context_close(&ctx);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    mz_context ctx;
    context(&ctx);
    static const char *const units[] = {"[", "{\"a\":"};
    for (size_t u = 0; u < 2; u++) {
        const size_t n = strlen(units[u]);
        char *text = malloc(n * DEPTH);
        assert_non_null(text);
        for (size_t i = 0; i < DEPTH; i++) {
            memcpy(text + n * i, units[u], n);
        }
        json_t *document = NULL;
        assert_int_equal(mz_json_parse(&ctx, text, n * DEPTH, "FILE", &document), MZ_ERR_FORMAT);
        assert_non_null(strstr(ctx.error.message, "maximum parsing depth"));
        free(text);
    }
    mz_context_close(&ctx);
}

static void loads_only_objects(void **state) {
    (void)state;
    mz_context ctx;
    context(&ctx);
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    json_t *document = NULL;
    assert_int_equal(mz_json_load(&ctx, mz_write_file(dir, "a.json", "[1]", 3), &document),
                     MZ_ERR_FORMAT);
    assert_non_null(
        strstr(ctx.error.message, "a.json: the top level is an array, expected an object"));
    mz_assert_ok(&ctx, mz_json_load(&ctx, mz_write_file(dir, "a.json", "{}", 2), &document));
    json_decref(document);
    static const char large[] = "{\"a\": 1000000000000000000000000}";
    const char *path = mz_write_file(dir, "b.json", large, sizeof large - 1);
    assert_int_equal(mz_json_load(&ctx, path, &document), MZ_ERR_FORMAT);
    mz_assert_ok(&ctx, mz_json_load_reals(&ctx, path, &document));
    assert_true(json_real_value(json_object_get(document, "a")) == 1e24);
    json_decref(document);
    assert_int_equal(mz_json_load(&ctx, "/nowhere/a.json", &document), MZ_ERR_IO);
    mz_temp_dir_remove(dir);
    mz_context_close(&ctx);
}

static void fields_are_read(void **state) {
    (void)state;
    mz_context ctx;
    context(&ctx);
    json_t *document =
        parse(&ctx, "{\"i\": 7, \"r\": 0.5, \"t\": true, \"s\": \"x\", \"n\": null}");
    const mz_json_object o = {&ctx, document, "FILE"};
    int64_t i = 0;
    double d = 0;
    bool b = false;
    const char *s = NULL;
    mz_assert_ok(&ctx, mz_json_int(&o, "i", 0, 7, &i));
    assert_int_equal(i, 7);
    mz_assert_ok(&ctx, mz_json_int_or(&o, "none", -3, 0, 7, &i));
    assert_int_equal(i, -3);
    mz_assert_ok(&ctx, mz_json_int_or(&o, "n", 5, 0, 7, &i));
    assert_int_equal(i, 5);
    mz_assert_ok(&ctx, mz_json_number_or(&o, "r", 1, 0, 1, &d));
    assert_true(d == 0.5);
    mz_assert_ok(&ctx, mz_json_number_or(&o, "i", 1, 0, 10, &d));
    assert_true(d == 7);
    mz_assert_ok(&ctx, mz_json_number_or(&o, "none", 2.5, 0, 1, &d));
    assert_true(d == 2.5);
    mz_assert_ok(&ctx, mz_json_bool_or(&o, "t", false, &b));
    assert_true(b);
    mz_assert_ok(&ctx, mz_json_bool_or(&o, "none", false, &b));
    assert_false(b);
    mz_assert_ok(&ctx, mz_json_string(&o, "s", &s));
    assert_string_equal(s, "x");
    mz_assert_ok(&ctx, mz_json_string_or(&o, "n", "y", &s));
    assert_string_equal(s, "y");
    json_decref(document);
    mz_context_close(&ctx);
}

static void bad_fields_are_named(void **state) {
    (void)state;
    mz_context ctx;
    context(&ctx);
    json_t *document =
        parse(&ctx, "{\"i\": 7, \"r\": 0.5, \"t\": true, \"s\": \"x\", \"n\": null, \"a\": []}");
    const mz_json_object o = {&ctx, document, "FILE"};
    int64_t i = 42;
    double d = 42;
    bool b = true;
    const char *s = "kept";
    assert_int_equal(mz_json_int(&o, "i", 8, 9, &i), MZ_ERR_LIMIT);
    assert_string_equal(ctx.error.message, "FILE: i is 7, expected 8 to 9");
    assert_int_equal(mz_json_int(&o, "none", 8, 9, &i), MZ_ERR_MISSING);
    assert_string_equal(ctx.error.message, "FILE: none is missing, expected an integer");
    assert_int_equal(mz_json_int(&o, "n", 8, 9, &i), MZ_ERR_MISSING);
    assert_int_equal(mz_json_int_or(&o, "r", 1, 0, 9, &i), MZ_ERR_FORMAT);
    assert_string_equal(ctx.error.message,
                        "FILE: r is a number with a fraction, expected an integer");
    assert_int_equal(mz_json_int_or(&o, "t", 1, 0, 9, &i), MZ_ERR_FORMAT);
    assert_int_equal(mz_json_number_or(&o, "s", 1, 0, 9, &d), MZ_ERR_FORMAT);
    assert_int_equal(mz_json_number_or(&o, "r", 1, 0.6, 9, &d), MZ_ERR_LIMIT);
    assert_int_equal(mz_json_bool_or(&o, "i", true, &b), MZ_ERR_FORMAT);
    assert_string_equal(ctx.error.message, "FILE: i is an integer, expected true or false");
    assert_int_equal(mz_json_string(&o, "a", &s), MZ_ERR_FORMAT);
    assert_int_equal(mz_json_string(&o, "none", &s), MZ_ERR_MISSING);
    assert_int_equal(mz_json_string_or(&o, "i", "y", &s), MZ_ERR_FORMAT);
    assert_int_equal(i, 42);
    assert_true(d == 42);
    assert_true(b);
    assert_string_equal(s, "kept");
    json_decref(document);
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_documents_are_refused), cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(loads_only_objects),        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(bad_fields_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
