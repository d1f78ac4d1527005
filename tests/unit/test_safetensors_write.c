#include "core/safetensors_write.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"
#include "core/weights.h"
#include "tests/testing.h"

enum { LONG = 40001 }; /* three pieces of a conversion */

typedef struct fixture {
    mz_context ctx;
    char dir[512];
    char path[600];
    float values[LONG];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)snprintf(f->path, sizeof f->path, "%s/m.safetensors", f->dir);
    mz_fill_uniform(f->values, LONG, 3, 100);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_temp_dir_remove(f->dir);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

static void assert_message(const fixture *f, const char *part) {
    if (strstr(f->ctx.error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, f->ctx.error.message);
    }
}

static mz_status write_items(fixture *f, const mz_safetensors_item *items, int64_t n) {
    return mz_safetensors_write(&f->ctx, f->path, items, n, NULL, 0);
}

static mz_weights *read_back(fixture *f) {
    mz_weights *w = NULL;
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, f->path, &w));
    return w;
}

/* --- what is written --- */

/* Byte for byte what Hugging Face's library writes for these tensors, by its published layout. */
static void a_file_byte_by_byte(void **state) {
    fixture *f = *state;
    float a[2] = {1.0f, -2.0f};
    uint16_t half = 0x3c00;
    int32_t id = 7;
    const mz_safetensors_item items[] = {
        {"z", mz_tensor_1d(MZ_DTYPE_F16, 1, &half), MZ_DTYPE_F16},
        {"b", mz_tensor_2d(MZ_DTYPE_F32, 2, 1, a), MZ_DTYPE_F32},
        {"a", mz_tensor_1d(MZ_DTYPE_I32, 1, &id), MZ_DTYPE_I32},
    };
    mz_assert_ok(&f->ctx, write_items(f, items, 3));
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]},"
        "\"z\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[12,14]}}";
    static const unsigned char body[] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 7, 0, 0, 0, 0, 0x3c};
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, f->path, 10000, &text, &n));
    const size_t n_header = (strlen(header) + 7) / 8 * 8;
    assert_true(n_header > strlen(header)); /* else padding is not tested */
    assert_int_equal(n, 8 + n_header + sizeof body);
    assert_int_equal((unsigned char)text[0], n_header);
    assert_memory_equal(text + 1, "\0\0\0\0\0\0\0", 7);
    assert_memory_equal(text + 8, header, strlen(header));
    for (size_t i = strlen(header); i < n_header; i++) {
        assert_int_equal(text[8 + i], ' ');
    }
    assert_memory_equal(text + 8 + n_header, body, sizeof body);
    mz_free(&f->ctx, text);
}

static void texts_and_names_are_escaped(void **state) {
    fixture *f = *state;
    const mz_safetensors_item item = {"a \"b\"\n\\c \xc3\xa4",
                                      mz_tensor_1d(MZ_DTYPE_F32, 1, f->values), MZ_DTYPE_F32};
    const mz_safetensors_text texts[] = {{"k\"", "v\t"}, {"second", ""}};
    mz_assert_ok(&f->ctx, mz_safetensors_write(&f->ctx, f->path, &item, 1, texts, 2));
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, f->path, 10000, &text, &n));
    static const char expected[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"k\\\"\":\"v\\t\",\"second\":\"\"},";
    assert_memory_equal(text + 8, expected, strlen(expected));
    mz_free(&f->ctx, text);
    mz_weights *w = read_back(f);
    mz_tensor t;
    assert_true(mz_weights_find(w, item.name, &t));
    mz_weights_close(&f->ctx, w);
}

/* The bits come back, for each stored type, from dense and strided rows. */
static void bits_come_back(void **state) {
    fixture *f = *state;
    static uint16_t bf16[LONG];
    static uint16_t f16[LONG];
    for (int i = 0; i < LONG; i++) {
        bf16[i] = mz_bf16_from_f32(f->values[i]);
        f16[i] = mz_f16_from_f32(f->values[i]);
    }
    const mz_tensor wide = mz_tensor_2d(MZ_DTYPE_F32, 100, 400, f->values);
    const mz_safetensors_item items[] = {
        {"as.f32", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values), MZ_DTYPE_F32},
        {"as.bf16", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values), MZ_DTYPE_BF16},
        {"as.f16", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values), MZ_DTYPE_F16},
        {"bf16.widened", mz_tensor_1d(MZ_DTYPE_BF16, 3, bf16), MZ_DTYPE_F32},
        {"columns", mz_tensor_cols(&wide, 30, 7), MZ_DTYPE_F32},
        {"columns.bf16", mz_tensor_cols(&wide, 30, 7), MZ_DTYPE_BF16},
        {"empty", mz_tensor_2d(MZ_DTYPE_F32, 0, 5, NULL), MZ_DTYPE_BF16},
        {"four", {MZ_DTYPE_F32, 4, {2, 1, 3, 5}, 5, f->values}, MZ_DTYPE_F32},
    };
    const int64_t n = sizeof items / sizeof items[0];
    mz_assert_ok(&f->ctx, write_items(f, items, n));
    mz_weights *w = read_back(f);
    assert_int_equal(mz_weights_count(w), n);
    mz_tensor t[8];
    for (int64_t i = 0; i < n; i++) {
        const mz_tensor *from = &items[i].tensor;
        mz_assert_ok(&f->ctx, mz_weights_get(w, items[i].name, from->shape, from->n_dims, &t[i]));
        assert_int_equal(t[i].dtype, items[i].dtype);
    }
    mz_assert_ok(&f->ctx, mz_weights_finish(w));
    assert_memory_equal(t[0].data, f->values, sizeof f->values);
    assert_memory_equal(t[1].data, bf16, sizeof bf16);
    assert_memory_equal(t[2].data, f16, sizeof f16);
    for (int i = 0; i < 3; i++) {
        assert_true(((const float *)t[3].data)[i] == mz_bf16_to_f32(bf16[i]));
    }
    for (int row = 0; row < 100; row++) {
        assert_memory_equal((float *)t[4].data + row * 7, f->values + row * 400 + 30, 28);
        assert_memory_equal((uint16_t *)t[5].data + row * 7, bf16 + row * 400 + 30, 14);
    }
    assert_memory_equal(t[7].data, f->values, 30 * sizeof(float));
    mz_weights_close(&f->ctx, w);
}

/* Equal contents give equal bytes: what was read is written again, in another order. */
static void a_copy_is_equal(void **state) {
    fixture *f = *state;
    mz_weights *w = NULL;
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, MOEZOO_TESTS_DIR "/golden/time-moe/tiny", &w));
    const int64_t n = mz_weights_count(w);
    mz_safetensors_item *items = calloc((size_t)n, sizeof *items);
    assert_non_null(items);
    for (int64_t i = 0; i < n; i++) {
        mz_safetensors_item *item = &items[n - 1 - i];
        mz_assert_ok(&f->ctx, mz_weights_at(w, i, &item->name, &item->tensor));
        item->dtype = item->tensor.dtype;
    }
    mz_assert_ok(&f->ctx, write_items(f, items, n));
    mz_map copy;
    mz_map original;
    mz_assert_ok(&f->ctx, mz_map_open(&f->ctx, f->path, &copy));
    mz_assert_ok(&f->ctx, mz_map_open(&f->ctx, mz_weights_file(w, 0, NULL), &original));
    assert_int_equal(copy.bytes, original.bytes);
    assert_memory_equal(copy.data, original.data, copy.bytes);
    mz_map_close(&copy);
    mz_map_close(&original);
    free(items);
    mz_weights_close(&f->ctx, w);
}

/* Blocks become floating-point values, those of a view with strided rows too. */
static void blocks_are_widened(void **state) {
    fixture *f = *state;
    enum { ROWS = 70, COLS = 512, HALF = COLS / 2 };
    const mz_dtype_info *info = mz_dtype_get(MZ_DTYPE_Q4_0);
    static uint8_t blocks[ROWS * COLS / 32 * 18];
    static float values[ROWS * COLS];
    info->from_f32(blocks, f->values, ROWS * COLS);
    info->to_f32(values, blocks, ROWS * COLS);
    const mz_tensor all = mz_tensor_2d(MZ_DTYPE_Q4_0, ROWS, COLS, blocks);
    const mz_safetensors_item items[] = {
        {"all", all, MZ_DTYPE_F32},
        {"right", mz_tensor_cols(&all, HALF, HALF), MZ_DTYPE_F32},
    };
    mz_assert_ok(&f->ctx, write_items(f, items, 2));
    mz_weights *w = read_back(f);
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_weights_get(w, "all", (int64_t[]){ROWS, COLS}, 2, &t));
    assert_memory_equal(t.data, values, sizeof values);
    mz_assert_ok(&f->ctx, mz_weights_get(w, "right", (int64_t[]){ROWS, HALF}, 2, &t));
    for (int i = 0; i < ROWS; i++) {
        assert_memory_equal(mz_tensor_row(&t, i), values + i * COLS + HALF, HALF * sizeof(float));
    }
    mz_weights_close(&f->ctx, w);
}

static void no_tensor_is_a_file_too(void **state) {
    fixture *f = *state;
    mz_assert_ok(&f->ctx, write_items(f, NULL, 0));
    mz_weights *w = read_back(f);
    assert_int_equal(mz_weights_count(w), 0);
    mz_weights_close(&f->ctx, w);
}

/* --- refusals --- */

static void lists_are_checked(void **state) {
    fixture *f = *state;
    const mz_tensor t = mz_tensor_1d(MZ_DTYPE_F32, 1, f->values);
    const mz_tensor ids = mz_tensor_1d(MZ_DTYPE_I32, 1, f->values);
    const mz_tensor huge = {MZ_DTYPE_F32, 3, {INT64_MAX, INT64_MAX, 1}, 1, f->values};
    const struct {
        mz_safetensors_item items[2];
        mz_status status;
        const char *part;
    } cases[] = {
        {{{"a", t, MZ_DTYPE_F32}, {"a", t, MZ_DTYPE_F32}}, MZ_ERR_ARG, "a is there twice"},
        {{{"a", t, MZ_DTYPE_F32}, {"__metadata__", t, MZ_DTYPE_F32}},
         MZ_ERR_ARG,
         "__metadata__ is there twice"},
        {{{"a", t, MZ_DTYPE_F32}, {"\xff", t, MZ_DTYPE_F32}}, MZ_ERR_ARG, "not UTF-8"},
        {{{"a", t, MZ_DTYPE_I32}, {"b", t, MZ_DTYPE_F32}},
         MZ_ERR_DTYPE,
         "a: f32 cannot be stored as i32"},
        {{{"a", t, MZ_DTYPE_F32}, {"b", ids, MZ_DTYPE_BF16}},
         MZ_ERR_DTYPE,
         "b: i32 cannot be stored as bf16"},
        {{{"a", t, MZ_DTYPE_F32}, {"b", t, MZ_DTYPE_Q8_0}},
         MZ_ERR_DTYPE,
         "b: f32 cannot be stored as q8_0"},
        {{{"a", t, MZ_DTYPE_F32}, {"b", {0}, MZ_DTYPE_F32}}, MZ_ERR_SHAPE, "b: 0 dimensions"},
        {{{"a", t, MZ_DTYPE_F32}, {"b", huge, MZ_DTYPE_F32}}, MZ_ERR_LIMIT, "b: more bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(write_items(f, cases[i].items, 2), cases[i].status);
        assert_message(f, cases[i].part);
        assert_message(f, f->path);
        assert_false(mz_file_exists(f->path));
    }
    const mz_safetensors_item item = {"a", t, MZ_DTYPE_F32};
    const mz_safetensors_text again = {"format", "np"};
    assert_int_equal(mz_safetensors_write(&f->ctx, f->path, &item, 1, &again, 1), MZ_ERR_ARG);
    assert_message(f, "format is there twice");
    const mz_safetensors_text bad = {"x", "\xc3("};
    assert_int_equal(mz_safetensors_write(&f->ctx, f->path, &item, 1, &bad, 1), MZ_ERR_ARG);
    assert_message(f, "not UTF-8");
}

static void a_full_device_is_noticed(void **state) {
    fixture *f = *state;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    const mz_safetensors_item item = {"a", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values),
                                      MZ_DTYPE_BF16};
    assert_int_equal(mz_safetensors_write(&f->ctx, "/dev/full", &item, 1, NULL, 0), MZ_ERR_IO);
    assert_message(f, "/dev/full: cannot write: No space left on device");
}

/* A disk that fills up in the middle, by the largest size that this process may write. */
static void the_old_file_survives(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "m.safetensors", "old", 3);
    const mz_safetensors_item item = {"a", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values),
                                      MZ_DTYPE_F32};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {.rlim_cur = 100000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const mz_status status = write_items(f, &item, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, MZ_ERR_IO);
    assert_message(f, "cannot write: File too large");
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, f->path, 10, &text, &n));
    assert_string_equal(text, "old");
    mz_free(&f->ctx, text);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(rmdir(f->dir), 0); /* no temporary is left */
}

static bool stop_at_once(void) {
    return true;
}

static void a_stopped_write_leaves_nothing(void **state) {
    fixture *f = *state;
    const mz_safetensors_item item = {"a", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values),
                                      MZ_DTYPE_BF16};
    f->ctx.stopped = stop_at_once;
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_INTERRUPTED);
    f->ctx.stopped = NULL;
    assert_message(f, "m.safetensors: interrupted");
    assert_false(mz_file_exists(f->path));
    assert_int_equal(rmdir(f->dir), 0); /* no temporary is left */
}

static void every_allocation_may_fail(void **state) {
    fixture *f = *state;
    const mz_safetensors_item item = {"a", mz_tensor_1d(MZ_DTYPE_F32, LONG, f->values),
                                      MZ_DTYPE_BF16};
    for (int64_t fail_at = 1; fail_at < 100; fail_at++) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
        mz_context ctx;
        assert_int_equal(
            mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
            MZ_OK);
        const int64_t live = counter.n_live;
        counter.fail_at = counter.n_calls + fail_at;
        const mz_status status = mz_safetensors_write(&ctx, f->path, &item, 1, NULL, 0);
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(mz_file_exists(f->path), status == MZ_OK);
        assert_int_equal(counter.n_live, live);
        const bool done = status == MZ_OK && counter.n_calls < counter.fail_at;
        mz_context_close(&ctx);
        if (done) {
            assert_true(fail_at > 4);
            return;
        }
        (void)unlink(f->path);
    }
    fail_msg("writing never succeeded");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_and_names_are_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(bits_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_is_equal, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_are_widened, setup, teardown),
        cmocka_unit_test_setup_teardown(no_tensor_is_a_file_too, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_device_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_file_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopped_write_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
