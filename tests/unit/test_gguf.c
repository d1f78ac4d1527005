/* GGUF files: the golden's metadata and tensors, shards, and files made wrong by cutting and
 * changing bytes. */
#include "core/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/weights.h"
#include "tests/testing.h"

static const char golden[] = MOEZOO_TESTS_DIR "/golden/gguf/blocks.gguf";

typedef struct fixture {
    mz_context ctx;
    mz_failing_allocator counter;
    char dir[512];
    uint8_t data[8192]; /* a file under construction */
    size_t n;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const mz_allocator allocator = mz_failing_allocator_init(&f->counter, 0);
    assert_int_equal(
        mz_context_init(&f->ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_temp_dir_remove(f->dir);
    mz_context_close(&f->ctx);
    assert_int_equal(f->counter.n_live, 0);
    free(f);
    return 0;
}

/* ---- the golden ---- */

static int64_t int_of(mz_gguf *g, const char *key) {
    mz_error err = {0};
    int64_t value = -99;
    if (mz_gguf_int(g, &err, key, INT64_MIN, INT64_MAX, &value) != MZ_OK) {
        fail_msg("%s", err.message);
    }
    return value;
}

static void metadata_of_every_kind(void **state) {
    fixture *f = *state;
    mz_gguf *g = NULL;
    mz_error err = {0};
    mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, golden, &g));
    assert_string_equal(mz_gguf_path(g), golden);
    assert_string_equal(mz_gguf_key(g, 0), "general.architecture");
    assert_int_equal(int_of(g, "test.u32"), 4000000000);
    assert_int_equal(int_of(g, "test.i32"), -5);
    assert_int_equal(int_of(g, "test.u8"), 250);
    assert_int_equal(int_of(g, "test.i8"), -7);
    assert_int_equal(int_of(g, "test.u16"), 65000);
    assert_int_equal(int_of(g, "test.i16"), -300);
    assert_int_equal(int_of(g, "test.i64"), -4611686018427387904);
    assert_int_equal(int_of(g, "test.none"), -99);
    int64_t whole = 5;
    assert_int_equal(mz_gguf_int(g, &err, "test.u64", 0, INT64_MAX, &whole), MZ_ERR_LIMIT);
    assert_int_equal(mz_gguf_int(g, &err, "test.u8", 0, 249, &whole), MZ_ERR_LIMIT);
    assert_non_null(strstr(err.message, "blocks.gguf: key test.u8 is 250, expected 0 to 249"));
    assert_int_equal(mz_gguf_int(g, &err, "test.f32", 0, 249, &whole), MZ_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key test.f32 is of type f32, expected a whole number"));
    assert_int_equal(whole, 5);
    double number = 7;
    assert_int_equal(mz_gguf_number(g, &err, "test.none", &number), MZ_OK);
    assert_true(number == 7);
    assert_int_equal(mz_gguf_number(g, &err, "test.f32", &number), MZ_OK);
    assert_true(number == 1.5);
    assert_int_equal(mz_gguf_number(g, &err, "test.f64", &number), MZ_OK);
    assert_true(number == 0.1);
    assert_int_equal(mz_gguf_number(g, &err, "test.u64", &number), MZ_OK);
    assert_true(number == 9223372036854775808.0);
    assert_int_equal(mz_gguf_number(g, &err, "test.true", &number), MZ_ERR_FORMAT);
    bool flag = false;
    assert_int_equal(mz_gguf_bool(g, &err, "test.true", &flag), MZ_OK);
    assert_true(flag);
    assert_int_equal(mz_gguf_bool(g, &err, "test.false", &flag), MZ_OK);
    assert_false(flag);
    assert_int_equal(mz_gguf_bool(g, &err, "test.u8", &flag), MZ_ERR_FORMAT);
    const char *text = NULL;
    size_t n = 0;
    assert_int_equal(mz_gguf_text(g, &err, "test.string", &text, &n), MZ_OK);
    assert_int_equal(n, strlen("h\u00e9llo \u4e16\u754c"));
    assert_memory_equal(text, "h\u00e9llo \u4e16\u754c", n);
    assert_int_equal(mz_gguf_text(g, &err, "test.strings", &text, &n), MZ_ERR_FORMAT);
    mz_gguf_close(&f->ctx, g);
    mz_gguf_close(&f->ctx, NULL);
}

static void arrays_by_element(void **state) {
    fixture *f = *state;
    static const char *const strings[] = {"a", "", "\u2581b", "c d"};
    static const int64_t ints[] = {3, -1, 2};
    static const double floats[] = {0.5, -2.25};
    mz_gguf *g = NULL;
    mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, golden, &g));
    mz_gguf_type type = MZ_GGUF_U8;
    mz_gguf_type element = MZ_GGUF_U8;
    int64_t n = 0;
    assert_true(mz_gguf_has(g, "test.u8", &type, &element, &n));
    assert_true(type == MZ_GGUF_U8 && element == MZ_GGUF_U8 && n == 1);
    assert_false(mz_gguf_has(g, "test.none", NULL, NULL, NULL));
    assert_true(mz_gguf_has(g, "test.strings", &type, &element, &n));
    assert_true(type == MZ_GGUF_ARRAY && element == MZ_GGUF_STRING && n == 4);
    for (int i = 0; i < 4; i++) {
        size_t n_bytes = 0;
        const char *text = mz_gguf_array_text(g, "test.strings", i, &n_bytes);
        assert_int_equal(n_bytes, strlen(strings[i]));
        assert_memory_equal(text, strings[i], n_bytes);
    }
    assert_true(mz_gguf_has(g, "test.ints", NULL, &element, &n));
    assert_true(element == MZ_GGUF_I32 && n == 3);
    assert_true(mz_gguf_has(g, "test.floats", NULL, &element, &n));
    assert_true(element == MZ_GGUF_F32 && n == 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mz_gguf_array_int(g, "test.ints", i), ints[i]);
        assert_int_equal(mz_gguf_array_int(g, "test.bools", i), i != 1);
        assert_true(i == 2 || mz_gguf_array_number(g, "test.floats", i) == floats[i]);
    }
    mz_gguf_close(&f->ctx, g);
}

static void tensors_are_the_goldens(void **state) {
    fixture *f = *state;
    mz_weights *w = NULL;
    mz_weights *io = NULL;
    static float out[2048];
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, golden, &w));
    mz_assert_ok(&f->ctx,
                 mz_weights_open(&f->ctx, MOEZOO_TESTS_DIR "/golden/gguf/io.safetensors", &io));
    assert_int_equal(mz_weights_count(w), 13);
    const int64_t n_calls = f->counter.n_calls;
    for (int64_t i = 0; i < mz_weights_count(w); i++) {
        const char *name = NULL;
        char expected[64];
        mz_tensor t;
        mz_tensor got;
        mz_tensor values;
        mz_assert_ok(&f->ctx, mz_weights_at(w, i, &name, &t));
        const size_t n_type = strcspn(name, ".");
        (void)snprintf(expected, sizeof expected, "%.*s.values", (int)n_type, name);
        for (size_t j = 0; j < n_type; j++) {
            expected[j] = (char)(expected[j] >= 'a' ? expected[j] - 'a' + 'A' : expected[j]);
        }
        assert_true(mz_weights_find(io, expected, &values));
        assert_memory_equal(t.shape, values.shape, sizeof t.shape);
        mz_assert_ok(&f->ctx, mz_weights_get(w, name, t.shape, 2, &got));
        const int64_t n = mz_tensor_n_elements(&got);
        assert_true(n <= 2048);
        mz_dtype_get(got.dtype)->to_f32(out, got.data, n);
        assert_memory_equal(out, values.data, (size_t)n * sizeof *out);
    }
    assert_int_equal(f->counter.n_calls, n_calls); /* everything stays in the map */
    mz_assert_ok(&f->ctx, mz_weights_finish(w));
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_weights_get(w, "q4_0.weight", (int64_t[]){160, 3}, 2, &t));
    assert_int_equal(t.n_dims, 0);
    assert_int_equal(mz_weights_finish(w), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message,
                           "q4_0.weight is q4_0 [3, 160], expected f32, f16, bf16 or blocks [160"));
    mz_weights_close(&f->ctx, w);
    mz_weights_close(&f->ctx, io);
}

/* ---- files under construction ---- */

static void put(fixture *f, uint64_t value, int n_bytes) {
    assert_true(f->n + 8 <= sizeof f->data);
    for (int i = 0; i < n_bytes; i++) {
        f->data[f->n++] = (uint8_t)(value >> (8 * i));
    }
}

static void put_text(fixture *f, const char *text) {
    put(f, strlen(text), 8);
    for (; *text != '\0'; text++) {
        put(f, (uint8_t)*text, 1);
    }
}

static void begin(fixture *f, uint64_t n_tensors, uint64_t n_keys) {
    f->n = 0;
    put(f, 0x46554747, 4);
    put(f, 3, 4);
    put(f, n_tensors, 8);
    put(f, n_keys, 8);
}

static void put_u32_key(fixture *f, const char *key, uint32_t value) {
    put_text(f, key);
    put(f, MZ_GGUF_U32, 4);
    put(f, value, 4);
}

/* An f32 vector of n values. */
static void put_tensor(fixture *f, const char *name, uint64_t n, uint64_t offset) {
    put_text(f, name);
    put(f, 1, 4);
    put(f, n, 8);
    put(f, 0, 4);
    put(f, offset, 8);
}

static void put_data(fixture *f, size_t alignment, size_t n_bytes) {
    while (f->n % alignment != 0) {
        put(f, 0, 1);
    }
    for (size_t i = 0; i < n_bytes; i++) {
        put(f, i, 1);
    }
}

static const char *write_it(fixture *f, const char *name) {
    return mz_write_file(f->dir, name, f->data, f->n);
}

static void assert_refused(fixture *f, mz_status expected, const char *message) {
    const char *path = write_it(f, "a.gguf");
    mz_gguf *g = NULL;
    mz_weights *w = NULL;
    const mz_status status = mz_gguf_open(&f->ctx, path, &g);
    if (status != expected || strstr(f->ctx.error.message, message) == NULL ||
        strstr(f->ctx.error.message, "a.gguf") == NULL) {
        fail_msg("%s: \"%s\", expected %s: \"%s\"", mz_status_name(status), f->ctx.error.message,
                 mz_status_name(expected), message);
    }
    assert_int_equal(mz_weights_open(&f->ctx, path, &w), expected);
    assert_null(g);
    assert_null(w);
    assert_int_equal(f->counter.n_live, 0);
}

static void a_made_file_opens(void **state) {
    fixture *f = *state;
    begin(f, 2, 1);
    put_u32_key(f, "general.alignment", 8);
    put_tensor(f, "b", 2, 16); /* a hole before it */
    put_tensor(f, "a", 2, 0);
    put_data(f, 8, 24);
    mz_weights *w = NULL;
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, write_it(f, "a.gguf"), &w));
    assert_int_equal(mz_weights_count(w), 2);
    assert_true(mz_weights_find(w, "b", &t));
    assert_int_equal(((const uint8_t *)t.data)[0], 16);
    mz_weights_close(&f->ctx, w);
}

static void headers_that_are_refused(void **state) {
    fixture *f = *state;
    f->n = 0;
    assert_refused(f, MZ_ERR_FORMAT, "is no GGUF file");
    begin(f, 0, 0);
    f->data[0] = 'X';
    assert_refused(f, MZ_ERR_FORMAT, "is no GGUF file");
    begin(f, 0, 0);
    f->data[4] = 1;
    assert_refused(f, MZ_ERR_FORMAT, "GGUF version 1, expected 2 or 3");
    begin(f, 0, 0);
    memcpy(f->data + 4, "\0\0\0\3", 4);
    assert_refused(f, MZ_ERR_FORMAT, "big-endian");
    begin(f, 0, (uint64_t)1 << 60);
    assert_refused(f, MZ_ERR_FORMAT, "keys, the file has only 0 bytes left");
    begin(f, UINT64_MAX, 0);
    assert_refused(f, MZ_ERR_FORMAT, "tensors, the file has only 0 bytes left");
}

static void metadata_that_is_refused(void **state) {
    fixture *f = *state;
    begin(f, 0, 2);
    put_u32_key(f, "a.b", 1);
    put_u32_key(f, "a.b", 2);
    assert_refused(f, MZ_ERR_FORMAT, "key a.b is there twice");
    begin(f, 0, 1);
    put_u32_key(f, "a\nb", 1);
    assert_refused(f, MZ_ERR_FORMAT, "key with control character 10");
    begin(f, 0, 1);
    put_u32_key(f, "", 1);
    put(f, 0, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key of 0 bytes");
    begin(f, 0, 1);
    put(f, UINT64_MAX, 8);
    put(f, 0, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key of 18446744073709551615 bytes");
    begin(f, 0, 1);
    put_text(f, "a");
    put(f, 13, 4);
    put(f, 0, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key a: value type 13, expected 0 to 12");
    begin(f, 0, 1);
    put_text(f, "a");
    put(f, MZ_GGUF_BOOL, 4);
    put(f, 2, 1);
    assert_refused(f, MZ_ERR_FORMAT, "key a: bool 2, expected 0 or 1");
    begin(f, 0, 1);
    put_text(f, "a");
    put(f, MZ_GGUF_STRING, 4);
    put(f, 9, 8);
    put(f, 0, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key a: text of 9 bytes");
    begin(f, 0, 1);
    put_u32_key(f, "general.alignment", 24);
    assert_refused(f, MZ_ERR_FORMAT, "general.alignment 24, expected a power of two");
    begin(f, 0, 1);
    put_u32_key(f, "general.alignment", 0);
    assert_refused(f, MZ_ERR_LIMIT, "general.alignment is 0");
}

static void begin_array(fixture *f, uint32_t element, uint64_t n) {
    begin(f, 0, 1);
    put_text(f, "a");
    put(f, MZ_GGUF_ARRAY, 4);
    put(f, element, 4);
    put(f, n, 8);
}

static void arrays_that_are_refused(void **state) {
    fixture *f = *state;
    begin_array(f, MZ_GGUF_F64, (uint64_t)1 << 61);
    assert_refused(f, MZ_ERR_FORMAT, "key a: 2305843009213693952 values");
    begin_array(f, MZ_GGUF_STRING, 2);
    put_text(f, "x");
    put(f, 100, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key a: text of 100 bytes");
    begin_array(f, MZ_GGUF_STRING, (uint64_t)1 << 60);
    assert_refused(f, MZ_ERR_FORMAT, "texts, the file has only");
    begin_array(f, 99, 1);
    put(f, 0, 8);
    assert_refused(f, MZ_ERR_FORMAT, "key a: value type 99");
    begin_array(f, MZ_GGUF_ARRAY, 2); /* nested once is skipped */
    put(f, MZ_GGUF_U8, 4);
    put(f, 1, 8);
    put(f, 7, 1);
    put(f, MZ_GGUF_STRING, 4);
    put(f, 1, 8);
    put_text(f, "x");
    mz_gguf *g = NULL;
    mz_gguf_type element = MZ_GGUF_U8;
    mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, write_it(f, "a.gguf"), &g));
    assert_true(mz_gguf_has(g, "a", NULL, &element, NULL) && element == MZ_GGUF_ARRAY);
    mz_gguf_close(&f->ctx, g);
    begin_array(f, MZ_GGUF_ARRAY, 1);
    put(f, MZ_GGUF_ARRAY, 4);
    put(f, 1, 8);
    assert_refused(f, MZ_ERR_LIMIT, "key a: array in an array in an array");
}

/* A tensor of two dimensions, innermost first, of a type. */
static void put_matrix(fixture *f, uint64_t n_cols, uint64_t n_rows, uint32_t type) {
    begin(f, 1, 0);
    put_text(f, "t");
    put(f, 2, 4);
    put(f, n_cols, 8);
    put(f, n_rows, 8);
    put(f, type, 4);
    put(f, 0, 8);
    put_data(f, 32, 64);
}

static void tensors_that_are_refused(void **state) {
    fixture *f = *state;
    put_matrix(f, 4, 5, 0);
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: 80 bytes at offset 0, the file has 64 of data");
    put_matrix(f, 0, 5, 0);
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: dimension 0");
    put_matrix(f, (uint64_t)1 << 40, (uint64_t)1 << 40, 0);
    assert_refused(f, MZ_ERR_FORMAT, "more elements than any file");
    put_matrix(f, UINT64_MAX, 1, 0);
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: dimension 18446744073709551615");
    put_matrix(f, 48, 1, 8);
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: rows of q8_0 [1, 48] are no multiple of 32");
    put_matrix(f, 32, 1, 16);
    assert_refused(f, MZ_ERR_UNSUPPORTED, "tensor t: type 16 is not supported");
    put_matrix(f, 32, 1, 0);
    f->data[24 + 9] = 5;
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: 5 dimensions, expected 1 to 4");
    f->data[24 + 9] = 0;
    assert_refused(f, MZ_ERR_FORMAT, "tensor t: 0 dimensions, expected 1 to 4");
    begin(f, 2, 0);
    put_tensor(f, "a", 16, 0);
    put_tensor(f, "b", 16, 32);
    put_data(f, 32, 128);
    assert_refused(f, MZ_ERR_FORMAT, "tensors a and b overlap");
    begin(f, 2, 0);
    put_tensor(f, "a", 8, 0);
    put_tensor(f, "b", 8, 36);
    put_data(f, 32, 128);
    assert_refused(f, MZ_ERR_FORMAT, "tensor b: offset 36, expected a multiple of 32");
    begin(f, 2, 0);
    put_tensor(f, "a", 8, 0);
    put_tensor(f, "a", 8, 32);
    put_data(f, 32, 64);
    assert_refused(f, MZ_ERR_FORMAT, "tensor a is there twice");
    begin(f, 1, 0);
    put_tensor(f, "a", 8, UINT64_MAX - 31);
    put_data(f, 32, 64);
    assert_refused(f, MZ_ERR_FORMAT, "tensor a: 32 bytes at offset 18446744073709551584");
}

/* Every file that is shorter than the golden is an error, and no changed byte a crash. */
static void cut_and_changed_files(void **state) {
    fixture *f = *state;
    char *whole = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, golden, 1 << 20, &whole, &n));
    for (size_t cut = 0; cut < n; cut += cut < 2000 ? 1 : 97) {
        mz_gguf *g = NULL;
        const char *path = mz_write_file(f->dir, "cut.gguf", whole, cut);
        assert_int_equal(mz_gguf_open(&f->ctx, path, &g), MZ_ERR_FORMAT);
    }
    for (size_t at = 0; at < 2000; at++) {
        mz_weights *w = NULL;
        const char old = whole[at];
        whole[at] = (char)(old ^ (at % 2 == 0 ? 0xff : 0x04));
        (void)mz_weights_open(&f->ctx, mz_write_file(f->dir, "changed.gguf", whole, n), &w);
        mz_weights_close(&f->ctx, w);
        whole[at] = old;
    }
    mz_free(&f->ctx, whole);
}

/* ---- shards ---- */

static void put_part(fixture *f, uint32_t number, uint32_t count, uint32_t total,
                     const char *tensor) {
    begin(f, 1, 3);
    put_u32_key(f, "split.no", number);
    put_u32_key(f, "split.count", count);
    put_u32_key(f, "split.tensors.count", total);
    put_tensor(f, tensor, 8, 0);
    put_data(f, 32, 32);
}

static void open_parts(fixture *f, const char *path, mz_status expected, const char *message) {
    mz_weights *w = NULL;
    assert_int_equal(mz_weights_open(&f->ctx, path, &w), expected);
    if (strstr(f->ctx.error.message, message) == NULL) {
        fail_msg("\"%s\", expected \"%s\"", f->ctx.error.message, message);
    }
}

static void shards_are_one_checkpoint(void **state) {
    fixture *f = *state;
    char first[1024];
    mz_weights *w = NULL;
    put_part(f, 0, 2, 2, "b");
    (void)snprintf(first, sizeof first, "%s", write_it(f, "m-00001-of-00002.gguf"));
    open_parts(f, first, MZ_ERR_MISSING, "m-00002-of-00002.gguf does not exist");
    put_part(f, 1, 2, 2, "a");
    (void)write_it(f, "m-00002-of-00002.gguf");
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, first, &w));
    assert_int_equal(mz_weights_count(w), 2);
    assert_int_equal(mz_weights_n_files(w), 2);
    mz_weights_close(&f->ctx, w);
    mz_gguf *g = NULL;
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, first, &g));
    assert_true(mz_gguf_tensor(g, "a", &t) && t.shape[0] == 8);
    assert_true(mz_gguf_tensor(g, "b", &t));
    assert_false(mz_gguf_tensor(g, "ab", &t));
    mz_gguf_close(&f->ctx, g);
    put_part(f, 1, 2, 2, "b");
    open_parts(f, write_it(f, "m-00002-of-00002.gguf"), MZ_ERR_FORMAT,
               "is part 2 of 2, expected part 1");
    open_parts(f, first, MZ_ERR_FORMAT, "tensor b is there twice");
    put_part(f, 0, 2, 2, "a");
    (void)write_it(f, "m-00002-of-00002.gguf");
    open_parts(f, first, MZ_ERR_FORMAT, "is part 1 of 2, expected part 2");
    put_part(f, 1, 3, 2, "a");
    (void)write_it(f, "m-00002-of-00002.gguf");
    open_parts(f, first, MZ_ERR_FORMAT, "is one of 3 parts");
    put_part(f, 1, 2, 2, "a");
    (void)write_it(f, "m-00002-of-00002.gguf");
    put_part(f, 0, 2, 3, "b");
    open_parts(f, write_it(f, "m-00001-of-00002.gguf"), MZ_ERR_FORMAT,
               "2 tensors, split.tensors.count is 3");
    open_parts(f, write_it(f, "m.gguf"), MZ_ERR_FORMAT,
               "expected a name that ends in -00001-of-00002.gguf");
}

static void failed_allocations_are_cleaned_up(void **state) {
    fixture *f = *state;
    for (int64_t i = 1;; i++) {
        mz_gguf *g = NULL;
        f->counter.fail_at = f->counter.n_calls + i;
        const mz_status status = mz_gguf_open(&f->ctx, golden, &g);
        f->counter.fail_at = 0;
        mz_gguf_close(&f->ctx, g);
        assert_int_equal(f->counter.n_live, 0);
        if (status == MZ_OK) {
            assert_true(i > 20);
            return;
        }
        assert_int_equal(status, MZ_ERR_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metadata_of_every_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(arrays_by_element, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_are_the_goldens, setup, teardown),
        cmocka_unit_test_setup_teardown(a_made_file_opens, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_that_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_that_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(arrays_that_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_that_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_and_changed_files, setup, teardown),
        cmocka_unit_test_setup_teardown(shards_are_one_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_allocations_are_cleaned_up, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
