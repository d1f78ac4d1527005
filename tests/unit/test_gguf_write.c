/* Writing GGUF files: what is written is read back, and a failure leaves the old file. */
#include "core/gguf_write.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/file.h"
#include "core/weights.h"
#include "tests/testing.h"

enum { ROWS = 70, COLS = 512, LONG = 16384 * 2 + 256 };

typedef struct fixture {
    mz_context ctx;
    mz_gguf_meta meta;
    char dir[512], path[600];
    float values[ROWS * COLS];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    f->meta.ctx = &f->ctx;
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)snprintf(f->path, sizeof f->path, "%s/m.gguf", f->dir);
    mz_fill_uniform(f->values, ROWS * COLS, 3, 2);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_gguf_meta_free(&f->meta);
    mz_temp_dir_remove(f->dir);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

static mz_gguf_item item_of(const char *name, const mz_tensor *t, mz_dtype dtype) {
    mz_gguf_item item = {
        .name = name, .dtype = dtype, .n_dims = t->n_dims, .parts = t, .n_parts = 1};
    memcpy(item.shape, t->shape, sizeof item.shape);
    return item;
}

static mz_status write_items(fixture *f, mz_gguf_item *items, int64_t n) {
    return mz_gguf_write(&f->ctx, f->path, &f->meta, items, n, NULL);
}

static void assert_message(const fixture *f, const char *part) {
    if (strstr(f->ctx.error.message, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, f->ctx.error.message);
    }
}

static void metadata_comes_back(void **state) {
    fixture *f = *state;
    mz_gguf *g = NULL;
    mz_gguf_meta copy = {.ctx = &f->ctx};
    mz_assert_ok(&f->ctx, mz_gguf_meta_int(&f->meta, "a.u8", MZ_GGUF_U8, 200));
    mz_assert_ok(&f->ctx, mz_gguf_meta_int(&f->meta, "a.i64", MZ_GGUF_I64, -5));
    mz_assert_ok(&f->ctx, mz_gguf_meta_f32(&f->meta, "a.f32", 1e-6f));
    mz_assert_ok(&f->ctx, mz_gguf_meta_bool(&f->meta, "a.bool", true));
    mz_assert_ok(&f->ctx, mz_gguf_meta_text(&f->meta, "a.text", "x\0y", 3));
    mz_assert_ok(&f->ctx, mz_gguf_meta_array(&f->meta, "a.texts", MZ_GGUF_STRING, 2));
    mz_assert_ok(&f->ctx, mz_gguf_meta_add_text(&f->meta, "one", 3));
    mz_assert_ok(&f->ctx, mz_gguf_meta_add_text(&f->meta, "", 0));
    mz_assert_ok(&f->ctx, mz_gguf_meta_array(&f->meta, "a.ints", MZ_GGUF_I32, 1));
    mz_assert_ok(&f->ctx, mz_gguf_meta_add_i32(&f->meta, -7));
    mz_assert_ok(&f->ctx, mz_gguf_meta_array(&f->meta, "a.floats", MZ_GGUF_F32, 1));
    mz_assert_ok(&f->ctx, mz_gguf_meta_add_f32(&f->meta, 0.5f));
    assert_int_equal(mz_gguf_meta_bool(&copy, "", true), MZ_ERR_LIMIT);
    for (int round = 0; round < 2; round++) { /* as made, and copied key by key */
        mz_error err;
        int64_t whole = 0;
        double number = 0;
        bool flag = false;
        const char *text = NULL;
        size_t n = 0;
        mz_assert_ok(&f->ctx,
                     mz_gguf_write(&f->ctx, f->path, round == 0 ? &f->meta : &copy, NULL, 0, NULL));
        mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, f->path, &g));
        assert_int_equal(mz_gguf_n_keys(g), 8);
        assert_int_equal(mz_gguf_int(g, &err, "a.u8", 0, 255, &whole), MZ_OK);
        assert_int_equal(whole, 200);
        assert_int_equal(mz_gguf_int(g, &err, "a.i64", -10, 0, &whole), MZ_OK);
        assert_int_equal(whole, -5);
        assert_int_equal(mz_gguf_number(g, &err, "a.f32", &number), MZ_OK);
        assert_true(number == (double)1e-6f);
        assert_int_equal(mz_gguf_bool(g, &err, "a.bool", &flag), MZ_OK);
        assert_true(flag);
        assert_int_equal(mz_gguf_text(g, &err, "a.text", &text, &n), MZ_OK);
        assert_true(n == 3 && memcmp(text, "x\0y", 3) == 0);
        assert_memory_equal(mz_gguf_array_text(g, "a.texts", 0, &n), "one", 3);
        assert_int_equal(n, 3);
        (void)mz_gguf_array_text(g, "a.texts", 1, &n);
        assert_int_equal(n, 0);
        assert_int_equal(mz_gguf_array_int(g, "a.ints", 0), -7);
        assert_true(mz_gguf_array_number(g, "a.floats", 0) == 0.5);
        for (int64_t i = 0; i < mz_gguf_n_keys(g) && round == 0; i++) {
            mz_assert_ok(&f->ctx, mz_gguf_meta_copy(&copy, g, mz_gguf_key(g, i)));
        }
        assert_int_equal(mz_gguf_meta_copy(&copy, g, "none"), MZ_ERR_MISSING);
        mz_gguf_close(&f->ctx, g);
    }
    mz_gguf_meta_free(&copy);
}

/* Every type: the bytes are those that converting a row at a time gives. */
static void types_come_back(void **state) {
    fixture *f = *state;
    static uint8_t expected[ROWS * COLS * 4];
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLS, f->values);
    for (int dtype = 0; dtype < MZ_DTYPE_COUNT; dtype++) {
        const mz_dtype_info *info = mz_dtype_get((mz_dtype)dtype);
        mz_gguf_item item = item_of("t", &t, (mz_dtype)dtype);
        if (info->from_f32 == NULL) {
            assert_int_equal(write_items(f, &item, 1), MZ_ERR_DTYPE);
            continue;
        }
        mz_weights *w = NULL;
        mz_tensor got;
        mz_assert_ok(&f->ctx, write_items(f, &item, 1));
        mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, f->path, &w));
        mz_assert_ok(&f->ctx, mz_weights_get(w, "t", t.shape, 2, &got));
        assert_int_equal(got.dtype, dtype);
        info->from_f32(expected, f->values, ROWS * COLS);
        assert_memory_equal(got.data, expected, ROWS * mz_tensor_row_bytes(&got));
        if (dtype != MZ_DTYPE_F32) {
            assert_true(item.sum_squares > 0 && item.sum_squared_errors > 0);
            assert_true(item.sum_squared_errors < 0.02 * item.sum_squares);
        }
        mz_weights_close(&f->ctx, w);
    }
}

static void slices_orders_and_offsets(void **state) {
    fixture *f = *state;
    enum { N = 3, R = 4, C = 32 };
    const int64_t order[R] = {2, 0, 3, 1};
    mz_tensor parts[N];
    for (int i = 0; i < N; i++) {
        parts[i] = mz_tensor_2d(MZ_DTYPE_F32, R, C, f->values + i * R * C);
    }
    const mz_tensor bias = mz_tensor_2d(MZ_DTYPE_F32, R, 1, f->values);
    mz_gguf_item items[] = {
        {.name = "stack",
         .dtype = MZ_DTYPE_F32,
         .n_dims = 3,
         .shape = {N, R, C},
         .parts = parts,
         .n_parts = N,
         .row_order = order},
        {.name = "bias",
         .dtype = MZ_DTYPE_F32,
         .n_dims = 1,
         .shape = {R},
         .parts = &bias,
         .n_parts = 1,
         .row_order = order,
         .offset = 1},
    };
    mz_weights *w = NULL;
    mz_tensor t;
    mz_assert_ok(&f->ctx, write_items(f, items, 2));
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, f->path, &w));
    mz_assert_ok(&f->ctx, mz_weights_get(w, "stack", (int64_t[]){N, R, C}, 3, &t));
    for (int i = 0; i < N * R; i++) {
        assert_memory_equal(mz_tensor_row(&t, i), f->values + (i / R * R + (int)order[i % R]) * C,
                            C * sizeof(float));
    }
    mz_assert_ok(&f->ctx, mz_weights_get(w, "bias", (int64_t[]){R}, 1, &t));
    for (int i = 0; i < R; i++) {
        assert_true(mz_tensor_f32(&t, 0)[i] == f->values[order[i]] + 1);
    }
    mz_weights_close(&f->ctx, w);
}

static void threads_do_not_change_bytes(void **state) {
    fixture *f = *state;
    char *bytes[3];
    size_t n[3];
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 1, LONG, f->values); /* longer than a piece */
    for (int i = 0; i < 3; i++) {
        mz_context ctx;
        const mz_gguf_meta meta = {.ctx = &ctx};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.n_threads = i + 1}));
        mz_gguf_item item = item_of("t", &t, MZ_DTYPE_Q4_K);
        mz_assert_ok(&ctx, mz_gguf_write(&ctx, f->path, &meta, &item, 1, NULL));
        mz_context_close(&ctx);
        mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, f->path, 1 << 20, &bytes[i], &n[i]));
        assert_int_equal(n[i], n[0]);
        assert_memory_equal(bytes[i], bytes[0], n[0]);
    }
    for (int i = 0; i < 3; i++) {
        mz_free(&f->ctx, bytes[i]);
    }
}

static void what_cannot_be_written(void **state) {
    fixture *f = *state;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 4, 48, f->values);
    const mz_tensor ids = mz_tensor_2d(MZ_DTYPE_I32, 4, 32, f->values);
    mz_gguf_item item = item_of("t", &t, MZ_DTYPE_Q8_0);
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_SHAPE);
    assert_message(f, "m.gguf: t: [4, 48] cannot be stored as q8_0");
    item = item_of("t", &t, MZ_DTYPE_I32);
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_DTYPE);
    item = item_of("t", &ids, MZ_DTYPE_F32);
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_DTYPE);
    item = item_of("t", &t, MZ_DTYPE_F32);
    item.shape[0] = 5;
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_SHAPE);
    f->values[50] = INFINITY;
    item = item_of("t", &t, MZ_DTYPE_BF16);
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_FORMAT);
    assert_message(f, "tensor t: values that are not finite, or not as bf16");
    f->values[50] = 1e6f;
    item = item_of("t", &t, MZ_DTYPE_F16);
    assert_int_equal(write_items(f, &item, 1), MZ_ERR_FORMAT);
    assert_false(mz_file_exists(f->path));
}

static bool stop_at_once(void *self, int64_t item, double part) {
    int *n_calls = self;
    assert_int_equal(item, 0);
    assert_true(part > 0 && part <= 1);
    (*n_calls)++;
    return false;
}

static void assert_old_file(fixture *f) {
    char *text = NULL;
    size_t n = 0;
    mz_assert_ok(&f->ctx, mz_file_read(&f->ctx, f->path, 10, &text, &n));
    assert_string_equal(text, "old");
    mz_free(&f->ctx, text);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(rmdir(f->dir), 0); /* no temporary is left */
}

static void an_interrupt_leaves_the_old_file(void **state) {
    fixture *f = *state;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLS, f->values);
    mz_gguf_item item = item_of("t", &t, MZ_DTYPE_Q8_0);
    int n_calls = 0;
    (void)mz_write_file(f->dir, "m.gguf", "old", 3);
    assert_int_equal(mz_gguf_write(&f->ctx, f->path, &f->meta, &item, 1,
                                   &(mz_gguf_watch){stop_at_once, &n_calls}),
                     MZ_ERR_INTERRUPTED);
    assert_int_equal(n_calls, 1);
    assert_old_file(f);
}

static void a_full_disk_leaves_the_old_file(void **state) {
    fixture *f = *state;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLS, f->values);
    mz_gguf_item item = item_of("t", &t, MZ_DTYPE_F32);
    struct rlimit before;
    (void)mz_write_file(f->dir, "m.gguf", "old", 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {.rlim_cur = 50000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const mz_status status = write_items(f, &item, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, MZ_ERR_IO);
    assert_message(f, "m.gguf: cannot write: File too large");
    assert_old_file(f);
}

static void every_allocation_may_fail(void **state) {
    fixture *f = *state;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 4, 64, f->values);
    for (int64_t fail_at = 1; fail_at < 100; fail_at++) {
        mz_failing_allocator counter;
        const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
        mz_context ctx;
        assert_int_equal(
            mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
            MZ_OK);
        const mz_gguf_meta meta = {.ctx = &ctx};
        mz_gguf_item item = item_of("t", &t, MZ_DTYPE_Q4_0);
        const int64_t live = counter.n_live;
        counter.fail_at = counter.n_calls + fail_at;
        const mz_status status = mz_gguf_write(&ctx, f->path, &meta, &item, 1, NULL);
        assert_true(status == MZ_OK || status == MZ_ERR_NOMEM);
        assert_int_equal(mz_file_exists(f->path), status == MZ_OK);
        assert_int_equal(counter.n_live, live);
        mz_context_close(&ctx);
        if (status == MZ_OK) {
            assert_true(fail_at > 3);
            return;
        }
    }
    fail_msg("it never succeeds");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metadata_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(types_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(slices_orders_and_offsets, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_do_not_change_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupt_leaves_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
