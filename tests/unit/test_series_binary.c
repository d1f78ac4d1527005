/* Folders of binary series: what is read, and what is refused. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/half.h"
#include "encoders/series/series_binary_internal.h"

static mz_context *context_of(void **state) {
    return *state;
}

/* Two files of f32, in the order of their names: 0..4 and 5..11. */
static void write_data(const char *dir) {
    float values[12];
    for (int i = 0; i < 12; i++) {
        values[i] = (float)i;
    }
    (void)mz_write_file(dir, "data-1-of-2.bin", values, 5 * sizeof *values);
    (void)mz_write_file(dir, "data-2-of-2.bin", values + 5, 7 * sizeof *values);
}

static mz_status open_meta(mz_context *ctx, const char *dir, const char *meta, mz_binary **out) {
    (void)mz_write_file(dir, "meta.json", meta, strlen(meta));
    return mz_binary_open(ctx, dir, out);
}

static const char *const good_meta =
    "{\"num_sequences\":3,\"dtype\":\"float32\","
    "\"files\":{\"data-2-of-2.bin\":7,\"data-1-of-2.bin\":5},"
    "\"scales\":[{\"offset\":0,\"length\":5,\"mean\":1.5,\"std\":2.0},"
    "{\"offset\":3,\"length\":4},{\"offset\":5,\"length\":7,\"mean\":null}]}";

static void series_cross_files(void **state) {
    mz_context *ctx = context_of(state);
    const char *dir = mz_temp_dir_create();
    write_data(dir);
    mz_binary *binary = NULL;
    mz_assert_ok(ctx, open_meta(ctx, dir, good_meta, &binary));
    const mz_binary_series *list;
    assert_int_equal(mz_binary_series_list(binary, &list), 3);
    assert_int_equal(list[1].offset, 3);
    assert_int_equal(list[1].n_values, 4);
    for (int64_t offset = 0; offset < 12; offset++) {
        for (int64_t n = 0; offset + n <= 12; n++) {
            float values[13];
            values[n] = -1;
            mz_binary_read(binary, offset, n, values);
            assert_true(values[n] == -1);
            for (int64_t i = 0; i < n; i++) {
                assert_true(values[i] == (float)(offset + i));
            }
        }
    }
    mz_binary_close(ctx, binary);
    mz_temp_dir_remove(dir);
}

/* One file of 4 values: 1.5, not a number, -2, infinite. */
static void check_type(mz_context *ctx, const char *dtype, const void *bytes, size_t n_bytes) {
    static const float expected[] = {1.5f, 1.5f, -2, -2};
    const char *dir = mz_temp_dir_create();
    (void)mz_write_file(dir, "data-1-of-1.bin", bytes, n_bytes);
    char meta[256];
    (void)snprintf(meta, sizeof meta,
                   "{\"num_sequences\":1,\"dtype\":\"%s\",\"files\":{\"data-1-of-1.bin\":4},"
                   "\"scales\":[{\"offset\":0,\"length\":4}]}",
                   dtype);
    mz_binary *binary = NULL;
    mz_assert_ok(ctx, open_meta(ctx, dir, meta, &binary));
    float values[4];
    mz_binary_read(binary, 0, 4, values);
    for (int i = 0; i < 4; i++) {
        assert_true(values[i] == expected[i]);
    }
    mz_binary_read(binary, 1, 2, values); /* begins with what is not a number */
    assert_true(values[0] == -2 && values[1] == -2);
    mz_binary_read(binary, 3, 1, values);
    assert_true(values[0] == 0);
    mz_binary_close(ctx, binary);
    mz_temp_dir_remove(dir);
}

static void every_type_is_read_and_repaired(void **state) {
    mz_context *ctx = context_of(state);
    const double wide[] = {1.5, (double)NAN, -2, 1e300};
    const float single[] = {1.5f, NAN, -2, -INFINITY};
    uint16_t half[4];
    uint16_t brain[4];
    for (int i = 0; i < 4; i++) {
        half[i] = mz_f16_from_f32(single[i]);
        brain[i] = mz_bf16_from_f32(single[i]);
    }
    check_type(ctx, "float64", wide, sizeof wide);
    check_type(ctx, "float32", single, sizeof single);
    check_type(ctx, "float16", half, sizeof half);
    check_type(ctx, "bfloat16", brain, sizeof brain);
}

typedef struct bad_case {
    const char *meta;
    mz_status status;
    const char *says;
} bad_case;

#define FILES "\"files\":{\"data-1-of-2.bin\":5,\"data-2-of-2.bin\":7}"
#define HEAD "{\"num_sequences\":1,\"dtype\":\"float32\","
#define SCALES "\"scales\":[{\"offset\":0,\"length\":5}]}"

static void lies_are_refused(void **state) {
    static const bad_case cases[] = {
        {"", MZ_ERR_FORMAT, "meta.json"},
        {"{\"num_sequences\":1", MZ_ERR_FORMAT, "line 1"},
        {"[]", MZ_ERR_FORMAT, "no object"},
        {"{}", MZ_ERR_MISSING, "dtype"},
        {"{\"num_sequences\":1,\"dtype\":\"int8\"," FILES "," SCALES, MZ_ERR_UNSUPPORTED, "int8"},
        {"{\"num_sequences\":1,\"dtype\":4," FILES "," SCALES, MZ_ERR_FORMAT, "dtype"},
        {HEAD SCALES, MZ_ERR_MISSING, "files is missing"},
        {HEAD "\"files\":[]," SCALES, MZ_ERR_FORMAT, "files is of another type"},
        {HEAD FILES "}", MZ_ERR_MISSING, "scales is missing"},
        {HEAD FILES ",\"scales\":{}}", MZ_ERR_FORMAT, "scales is of another type"},
        {HEAD FILES ",\"scales\":[]}", MZ_ERR_FORMAT, "num_sequences is 1, but scales lists 0"},
        {HEAD FILES ",\"scales\":[7]}", MZ_ERR_FORMAT, "scales[0]"},
        {HEAD FILES ",\"scales\":[{\"offset\":0}]}", MZ_ERR_MISSING, "length"},
        {HEAD FILES ",\"scales\":[{\"offset\":-1,\"length\":5}]}", MZ_ERR_LIMIT, "offset"},
        {HEAD FILES ",\"scales\":[{\"offset\":1.5,\"length\":5}]}", MZ_ERR_FORMAT, "offset"},
        {HEAD FILES ",\"scales\":[{\"offset\":8,\"length\":5}]}", MZ_ERR_FORMAT,
         "values 8 to 13, but all files have 12"},
        {HEAD FILES ",\"scales\":[{\"offset\":1,\"length\":9223372036854775807}]}", MZ_ERR_LIMIT,
         "length"},
        {"{\"num_sequences\":-1,\"dtype\":\"float32\"," FILES "," SCALES, MZ_ERR_LIMIT,
         "num_sequences"},
        {HEAD "\"files\":{\"data-1-of-2.bin\":6}," SCALES, MZ_ERR_FORMAT, "20 bytes"},
        {HEAD "\"files\":{\"data-1-of-2.bin\":-5}," SCALES, MZ_ERR_LIMIT, "data-1-of-2.bin"},
        {HEAD "\"files\":{\"data-1-of-2.bin\":281474976710656}," SCALES, MZ_ERR_FORMAT, "20 bytes"},
        {HEAD "\"files\":{\"data-1-of-2.bin\":5,\"data-9.bin\":1}," SCALES, MZ_ERR_IO,
         "data-9.bin"},
        {HEAD "\"files\":{\"../x.bin\":5}," SCALES, MZ_ERR_FORMAT, "../x.bin"},
        {HEAD "\"files\":{\"\":5}," SCALES, MZ_ERR_FORMAT, "expected one within the folder"},
        {HEAD "\"files\":{}," SCALES, MZ_ERR_FORMAT, "all files have 0"},
        {HEAD "\"files\":{\"data-1-of-2.bin\":5,\"data-1-of-2.bin\":5}," SCALES, MZ_ERR_FORMAT,
         "data-1-of-2.bin"},
    };
    mz_context *ctx = context_of(state);
    const char *dir = mz_temp_dir_create();
    write_data(dir);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        mz_binary *binary = NULL;
        const mz_status status = open_meta(ctx, dir, cases[k].meta, &binary);
        if (status != cases[k].status || strstr(ctx->error.message, cases[k].says) == NULL) {
            fail_msg("case %zu: %s: %s", k, mz_status_name(status), ctx->error.message);
        }
        assert_null(binary);
    }
    mz_temp_dir_remove(dir);
}

static void a_missing_folder_is_an_error(void **state) {
    mz_context *ctx = context_of(state);
    mz_binary *binary = NULL;
    const char *dir = mz_temp_dir_create();
    assert_int_equal(mz_binary_open(ctx, dir, &binary), MZ_ERR_IO);
    mz_temp_dir_remove(dir);
    mz_binary_close(ctx, NULL);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    const char *dir = mz_temp_dir_create();
    write_data(dir);
    (void)mz_write_file(dir, "meta.json", good_meta, strlen(good_meta));
    bool done = false;
    for (int64_t fail_at = 1; !done; fail_at++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, fail_at);
        mz_context ctx;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        mz_binary *binary = NULL;
        const mz_status status = mz_binary_open(&ctx, dir, &binary);
        done = status == MZ_OK;
        assert_true(done || status == MZ_ERR_NOMEM);
        mz_binary_close(&ctx, binary);
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
        assert_true(fail_at < 100);
    }
    mz_temp_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_cross_files),
        cmocka_unit_test(every_type_is_read_and_repaired),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(a_missing_folder_is_an_error),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
