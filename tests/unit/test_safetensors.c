#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/weights_internal.h"
#include "tests/testing.h"

/* Reads HEADER followed by n_body bytes of data; `length` is what the file says of its header (-1:
 * the truth). */
static mz_status read_text(mz_weight_list *list, const char *header, int64_t length,
                           size_t n_body) {
    const size_t n_header = strlen(header);
    const uint64_t said = length < 0 ? (uint64_t)n_header : (uint64_t)length;
    const size_t n = 8 + n_header + n_body;
    uint8_t *data = malloc(n); /* the exact size, for the address sanitizer */
    assert_non_null(data);
    for (int i = 0; i < 8; i++) {
        data[i] = (uint8_t)(said >> (8 * i));
    }
    memcpy(data + 8, header, n_header);
    for (size_t i = 0; i < n_body; i++) {
        data[8 + n_header + i] = (uint8_t)i;
    }
    const mz_weight_file file = {.path = "FILE", .data = data, .n_bytes = n};
    const mz_status status = mz_safetensors_read(list, &file);
    if (status == MZ_OK && list->n > 0) {
        assert_true(list->entries[0].data >= data &&
                    list->entries[0].data + list->entries[0].n_bytes <= data + n);
    }
    free(data);
    return status;
}

static void context(mz_context *ctx, mz_weight_list *list) {
    assert_int_equal(
        mz_context_init(ctx, &(mz_context_options){.n_threads = 1, .isa = MZ_ISA_SCALAR}), MZ_OK);
    *list = (mz_weight_list){.ctx = ctx};
}

static void reads_all_types(void **state) {
    (void)state;
    static const struct {
        const char *name;
        mz_dtype dtype;
        int bytes;
    } types[] = {{"F32", MZ_DTYPE_F32, 4}, {"F16", MZ_DTYPE_F16, 2}, {"BF16", MZ_DTYPE_BF16, 2},
                 {"I32", MZ_DTYPE_I32, 4}, {"I64", MZ_DTYPE_I64, 8}, {"U8", MZ_DTYPE_U8, 1},
                 {"BOOL", MZ_DTYPE_U8, 1}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        mz_context ctx;
        mz_weight_list list;
        context(&ctx, &list);
        char header[256];
        (void)snprintf(header, sizeof header,
                       "{\"__metadata__\":{\"format\":\"pt\"},"
                       "\"t\":{\"dtype\":\"%s\",\"shape\":[2,3],\"data_offsets\":[0,%d]}}  ",
                       types[i].name, 6 * types[i].bytes);
        mz_assert_ok(&ctx, read_text(&list, header, -1, 6 * (size_t)types[i].bytes));
        assert_int_equal(list.n, 1);
        assert_string_equal(list.entries[0].name, "t");
        assert_int_equal(list.entries[0].dtype, types[i].dtype);
        assert_int_equal(list.entries[0].n_dims, 2);
        assert_int_equal(list.entries[0].shape[0], 2);
        assert_int_equal(list.entries[0].shape[1], 3);
        mz_weight_list_free(&list);
        mz_context_close(&ctx);
    }
}

static void reads_edge_shapes(void **state) {
    (void)state;
    mz_context ctx;
    mz_weight_list list;
    context(&ctx, &list);
    mz_assert_ok(&ctx,
                 read_text(&list,
                           "{\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                           "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[4,4]}}",
                           -1, 4));
    assert_int_equal(list.n, 2);
    for (size_t i = 0; i < 2; i++) {
        const mz_weight_entry *e = &list.entries[i];
        const bool scalar = strcmp(e->name, "scalar") == 0;
        assert_int_equal(e->n_dims, scalar ? 1 : 2);
        assert_int_equal(e->shape[0], scalar ? 1 : 0);
        assert_int_equal(e->n_bytes, scalar ? 4 : 0);
    }
    mz_weight_list_free(&list);
    mz_assert_ok(&ctx, read_text(&list, "{}", -1, 0));
    mz_context_close(&ctx);
}

static void lying_headers_are_refused(void **state) {
    (void)state;
#define T "\"dtype\":\"F32\",\"shape\":[2]"
    static const struct {
        const char *header;
        int64_t length;
        size_t n_body;
        mz_status status;
        const char *part;
    } cases[] = {
        {"{}", 3, 0, MZ_ERR_FORMAT, "header of 3 bytes, the file has 2"},
        {"{}", INT64_MAX, 0, MZ_ERR_FORMAT, "header of 9223372036854775807 bytes"},
        {"{}", 0, 0, MZ_ERR_FORMAT, "header: JSON"},
        {"{}", 1, 0, MZ_ERR_FORMAT, "header: JSON"},
        {"[]", -1, 0, MZ_ERR_FORMAT, "no JSON object"},
        {"{} x", -1, 0, MZ_ERR_FORMAT, "header: JSON"},
        {"{}", -1, 1, MZ_ERR_FORMAT, "end at byte 0 of the data, the file at 1"},
        {"{\"a\":3}", -1, 0, MZ_ERR_FORMAT, "tensor a: its description is no object"},
        {"{\"a\":{}}", -1, 0, MZ_ERR_FORMAT, "tensor a: dtype is no string"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", -1, 8,
         MZ_ERR_UNSUPPORTED, "dtype F64"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":3,\"data_offsets\":[0,8]}}", -1, 8, MZ_ERR_FORMAT,
         "shape is no array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", -1, 8, MZ_ERR_FORMAT,
         "shape[0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,8]}}", -1, 8, MZ_ERR_FORMAT,
         "shape[0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", -1, 4,
         MZ_ERR_LIMIT, "5 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", -1,
         0, MZ_ERR_LIMIT, "more elements than memory"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", -1,
         0, MZ_ERR_LIMIT, "more elements than memory"},
        {"{\"a\":{" T "}}", -1, 8, MZ_ERR_FORMAT, "data_offsets is no array"},
        {"{\"a\":{" T ",\"data_offsets\":[0]}}", -1, 8, MZ_ERR_FORMAT, "data_offsets is no array"},
        {"{\"a\":{" T ",\"data_offsets\":[0,\"8\"]}}", -1, 8, MZ_ERR_FORMAT,
         "data_offsets is no array"},
        {"{\"a\":{" T ",\"data_offsets\":[8,0]}}", -1, 8, MZ_ERR_FORMAT, "data_offsets 8 to 0"},
        {"{\"a\":{" T ",\"data_offsets\":[-8,0]}}", -1, 8, MZ_ERR_FORMAT, "data_offsets -8 to 0"},
        {"{\"a\":{" T ",\"data_offsets\":[0,9]}}", -1, 8, MZ_ERR_FORMAT,
         "data_offsets 0 to 9, expected within 0 to 8"},
        {"{\"a\":{" T ",\"data_offsets\":[9223372036854775800,9223372036854775807]}}", -1, 8,
         MZ_ERR_FORMAT, "expected within 0 to 8"},
        {"{\"a\":{" T ",\"data_offsets\":[0,4]}}", -1, 4, MZ_ERR_FORMAT,
         "hold 4 bytes, f32 [2] needs 8"},
        {"{\"a\":{" T ",\"data_offsets\":[0,8]},\"b\":{" T ",\"data_offsets\":[4,12]}}", -1, 12,
         MZ_ERR_FORMAT, "tensor b begins at byte 4 of the data and overlaps a"},
        {"{\"a\":{" T ",\"data_offsets\":[0,8]},\"b\":{" T ",\"data_offsets\":[0,8]}}", -1, 8,
         MZ_ERR_FORMAT, "overlaps"},
        {"{\"a\":{" T ",\"data_offsets\":[0,8]},\"b\":{" T ",\"data_offsets\":[9,17]}}", -1, 17,
         MZ_ERR_FORMAT, "tensor b begins at byte 9 of the data, expected 8"},
        {"{\"a\":{" T ",\"data_offsets\":[0,8]},\"a\":{" T ",\"data_offsets\":[8,16]}}", -1, 16,
         MZ_ERR_FORMAT, "duplicate object key"},
        {"{\"a\\u0000b\":{" T ",\"data_offsets\":[0,8]}}", -1, 8, MZ_ERR_FORMAT, "header: JSON"},
    };
#undef T
    mz_context ctx;
    mz_weight_list list;
    context(&ctx, &list);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_status status =
            read_text(&list, cases[i].header, cases[i].length, cases[i].n_body);
        if (status != cases[i].status || strstr(ctx.error.message, cases[i].part) == NULL ||
            strncmp(ctx.error.message, "FILE: ", 6) != 0) {
            fail_msg("case %zu: %s: %s", i, mz_status_name(status), ctx.error.message);
        }
        mz_weight_list_free(&list);
    }
    mz_context_close(&ctx);
}

static void short_files_are_refused(void **state) {
    (void)state;
    mz_context ctx;
    mz_weight_list list;
    context(&ctx, &list);
    const uint8_t data[8] = {0};
    for (size_t n = 0; n < 8; n++) {
        const mz_weight_file file = {.path = "FILE", .data = n > 0 ? data : NULL, .n_bytes = n};
        assert_int_equal(mz_safetensors_read(&list, &file), MZ_ERR_FORMAT);
    }
    mz_context_close(&ctx);
}

static void absurd_headers_are_refused_before_parsing(void **state) {
    (void)state;
    mz_context ctx;
    mz_weight_list list;
    context(&ctx, &list);
    const size_t n = 12u << 20;
    char *header = malloc(n + 1);
    assert_non_null(header);
    memset(header, ',', n);
    header[n] = '\0';
    assert_int_equal(read_text(&list, header, -1, 0), MZ_ERR_LIMIT);
    free(header);
    mz_context_close(&ctx);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    uint8_t whole[8 + sizeof header - 1 + 8] = {(uint8_t)(sizeof header - 1)};
    memcpy(whole + 8, header, sizeof header - 1);
    mz_context ctx;
    mz_weight_list list;
    context(&ctx, &list);
    for (size_t n = 0; n <= sizeof whole; n++) {
        uint8_t *data = malloc(n > 0 ? n : 1);
        assert_non_null(data);
        memcpy(data, whole, n);
        const mz_weight_file file = {.path = "FILE", .data = data, .n_bytes = n};
        assert_int_equal(mz_safetensors_read(&list, &file),
                         n == sizeof whole ? MZ_OK : MZ_ERR_FORMAT);
        mz_weight_list_free(&list);
        free(data);
    }
    mz_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_types),
        cmocka_unit_test(reads_edge_shapes),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(short_files_are_refused),
        cmocka_unit_test(absurd_headers_are_refused_before_parsing),
        cmocka_unit_test(every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
