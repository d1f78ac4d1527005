#include "core/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/testing.h"

static const char golden[] = MOEZOO_TESTS_DIR "/golden/time-moe";

static void *open_context(mz_context *ctx) {
    assert_int_equal(
        mz_context_init(ctx, &(mz_context_options){.n_threads = 1, .isa = MZ_ISA_SCALAR}), MZ_OK);
    return ctx;
}

static mz_weights *open_golden(mz_context *ctx, const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", golden, name);
    mz_weights *w = NULL;
    mz_assert_ok(ctx, mz_weights_open(ctx, path, &w));
    return w;
}

/* --- real checkpoints --- */

static size_t n_bytes_of(const mz_tensor *t) {
    return (size_t)mz_tensor_n_elements(t) * (size_t)mz_dtype_get(t->dtype)->block_bytes;
}

static void assert_same(mz_context *ctx, const mz_weights *a, const mz_weights *b) {
    assert_true(mz_weights_count(a) > 0);
    assert_int_equal(mz_weights_count(a), mz_weights_count(b));
    for (int64_t i = 0; i < mz_weights_count(a); i++) {
        const char *names[2];
        mz_tensor t[2];
        mz_assert_ok(ctx, mz_weights_at(a, i, &names[0], &t[0]));
        mz_assert_ok(ctx, mz_weights_at(b, i, &names[1], &t[1]));
        assert_string_equal(names[0], names[1]);
        assert_int_equal(t[0].dtype, t[1].dtype);
        assert_int_equal(t[0].n_dims, t[1].n_dims);
        assert_int_equal(t[0].ld, t[1].ld);
        assert_memory_equal(t[0].shape, t[1].shape, sizeof t[0].shape);
        assert_memory_equal(t[0].data, t[1].data, n_bytes_of(&t[0]));
    }
}

static void all_formats_give_the_same_bytes(void **state) {
    static const char *const pairs[][2] = {
        {"tiny", "tiny-sharded"}, {"tiny", "tiny-bin"}, {"tiny-bf16", "tiny-bin-sharded"}};
    static const int64_t n_files[][2] = {{1, 3}, {1, 1}, {1, 2}};
    (void)state;
    mz_context ctx;
    open_context(&ctx);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        mz_weights *a = open_golden(&ctx, pairs[i][0]);
        mz_weights *b = open_golden(&ctx, pairs[i][1]);
        assert_int_equal(mz_weights_n_files(a), n_files[i][0]);
        assert_int_equal(mz_weights_n_files(b), n_files[i][1]);
        assert_same(&ctx, a, b);
        mz_weights_close(&ctx, a);
        mz_weights_close(&ctx, b);
    }
    mz_context_close(&ctx);
}

static void bf16_stays_bf16_in_the_map(void **state) {
    (void)state;
    mz_context ctx;
    mz_failing_allocator counter;
    const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
    assert_int_equal(
        mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    mz_weights *w = open_golden(&ctx, "tiny-bf16");
    const int64_t n_calls = counter.n_calls;
    mz_tensor t;
    mz_assert_ok(&ctx, mz_weights_get(w, "model.norm.weight", (int64_t[]){24}, 1, &t));
    assert_int_equal(t.dtype, MZ_DTYPE_BF16);
    assert_int_equal(counter.n_calls, n_calls); /* nothing was copied */
    mz_weights_close(&ctx, w);
    assert_int_equal(counter.n_live, 0);
    mz_context_close(&ctx);
}

/* --- made ones --- */

/* A safetensors file NAME in DIR: the header and n_body bytes 0, 1, 2, ... */
static const char *write_safetensors(const char *dir, const char *name, const char *header,
                                     size_t n_body) {
    uint8_t data[4096] = {0};
    const size_t n = strlen(header);
    assert_true(8 + n + n_body <= sizeof data);
    data[0] = (uint8_t)n;
    data[1] = (uint8_t)(n >> 8);
    memcpy(data + 8, header, n);
    for (size_t i = 0; i < n_body; i++) {
        data[8 + n + i] = (uint8_t)i;
    }
    return mz_write_file(dir, name, data, 8 + n + n_body);
}

#define AB                                                                                         \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"                           \
    "\"b\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]}}"
#define ONLY(name) "{\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

typedef struct fixture {
    mz_context ctx;
    char dir[512];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    open_context(&f->ctx);
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
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

static void assert_refused(fixture *f, const char *path, mz_status expected, const char *part) {
    mz_weights *w = NULL;
    const mz_status status = mz_weights_open(&f->ctx, path, &w);
    if (status != expected) {
        fail_msg("expected %s, got %s: %s", mz_status_name(expected), mz_status_name(status),
                 f->ctx.error.message);
    }
    assert_null(w);
    assert_message(f, part);
}

static mz_weights *open_ab(fixture *f) {
    mz_weights *w = NULL;
    mz_assert_ok(
        &f->ctx,
        mz_weights_open(&f->ctx, write_safetensors(f->dir, "m.safetensors", AB "  ", 12), &w));
    return w;
}

static void everything_asked_is_fine(void **state) {
    fixture *f = *state;
    mz_weights *w = open_ab(f);
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_weights_get(w, "a", (int64_t[]){2, 1}, 2, &t));
    assert_int_equal(t.n_dims, 2);
    assert_int_equal(t.ld, 1);
    assert_memory_equal(t.data, "\0\1\2\3\4\5\6\7", 8);
    mz_assert_ok(&f->ctx, mz_weights_get_any(w, "b", (int64_t[]){1}, 1, &t));
    assert_int_equal(t.dtype, MZ_DTYPE_I32);
    mz_assert_ok(&f->ctx, mz_weights_finish(w));
    mz_weights_close(&f->ctx, w);
}

static void deviations_are_named_together(void **state) {
    fixture *f = *state;
    mz_weights *w = open_ab(f);
    mz_tensor t;
    assert_int_equal(mz_weights_finish(w), MZ_ERR_FORMAT);
    assert_message(f, "m.safetensors: tensors: 2 that the model does not have: a, b");
    mz_assert_ok(&f->ctx, mz_weights_get(w, "a", (int64_t[]){1, 2}, 2, &t));
    assert_int_equal(t.n_dims, 0);
    mz_assert_ok(&f->ctx, mz_weights_get(w, "x", (int64_t[]){1, 2}, 2, &t));
    mz_assert_ok(&f->ctx, mz_weights_get(w, "y", (int64_t[]){1, 2}, 2, &t));
    assert_int_equal(mz_weights_finish(w), MZ_ERR_MISSING);
    assert_message(f, "2 missing: x, y; 1 other than expected: a is f32 [2, 1], expected f32, f16, "
                      "bf16 or blocks [1, 2] (in ");
    assert_message(f, "; 1 that the model does not have: b");
    mz_assert_ok(&f->ctx, mz_weights_get(w, "b", (int64_t[]){1}, 1, &t));
    assert_int_equal(t.n_dims, 0);
    assert_int_equal(mz_weights_finish(w), MZ_ERR_MISSING);
    assert_message(f, "b is i32 [1], expected f32, f16, bf16 or blocks [1]");
    mz_weights_close(&f->ctx, w);
}

static void a_long_list_is_counted(void **state) {
    fixture *f = *state;
    mz_weights *w = open_ab(f);
    mz_tensor t;
    for (int i = 0; i < 5000; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "model.layers.%d.weight", i);
        mz_assert_ok(&f->ctx, mz_weights_get(w, name, (int64_t[]){1}, 1, &t));
    }
    assert_int_equal(mz_weights_finish(w), MZ_ERR_MISSING);
    assert_message(f, "5000 missing: model.layers.0.weight, model.layers.1.weight, ");
    assert_message(f, " more; 2 that the model does not have: a, b");
    mz_weights_close(&f->ctx, w);
}

static void unaligned_data_is_copied_once(void **state) {
    fixture *f = *state;
    mz_failing_allocator counter;
    const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
    mz_context ctx;
    assert_int_equal(
        mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    for (size_t pad = 0; pad < 8; pad++) {
        char header[512];
        (void)snprintf(header, sizeof header, "%s%.*s", AB, (int)pad, "        ");
        mz_weights *w = NULL;
        mz_assert_ok(&ctx, mz_weights_open(
                               &ctx, write_safetensors(f->dir, "m.safetensors", header, 12), &w));
        const bool aligned = (8 + strlen(header)) % 4 == 0;
        mz_tensor t[3];
        const int64_t before = counter.n_calls;
        mz_assert_ok(&ctx, mz_weights_get(w, "a", (int64_t[]){2, 1}, 2, &t[0]));
        mz_assert_ok(&ctx, mz_weights_get(w, "a", (int64_t[]){2, 1}, 2, &t[1]));
        assert_true(mz_weights_find(w, "a", &t[2]));
        assert_int_equal(counter.n_calls - before, aligned ? 0 : 1);
        assert_ptr_equal(t[0].data, t[1].data);
        assert_ptr_equal(t[0].data, t[2].data);
        assert_true((uintptr_t)t[0].data % 4 == 0);
        assert_memory_equal(t[0].data, "\0\1\2\3\4\5\6\7", 8);
        mz_weights_close(&ctx, w);
        assert_int_equal(counter.n_live, 0);
    }
    mz_context_close(&ctx);
}

static void a_failed_copy_is_no_missing_tensor(void **state) {
    fixture *f = *state;
    char header[512];
    (void)snprintf(header, sizeof header, "%s%s", AB, strlen(AB) % 4 == 0 ? " " : "");
    const char *path = write_safetensors(f->dir, "m.safetensors", header, 12);
    mz_failing_allocator counter;
    const mz_allocator allocator = mz_failing_allocator_init(&counter, 0);
    mz_context ctx;
    assert_int_equal(
        mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator, .n_threads = 1}),
        MZ_OK);
    mz_weights *w = NULL;
    mz_assert_ok(&ctx, mz_weights_open(&ctx, path, &w));
    counter.fail_at = counter.n_calls + 1;
    mz_tensor t = {0};
    assert_false(mz_weights_find(w, "a", &t));
    assert_true(mz_weights_find(w, "b", &t));
    assert_int_equal(mz_weights_finish(w), MZ_ERR_NOMEM);
    mz_weights_close(&ctx, w);
    assert_int_equal(counter.n_live, 0);
    mz_context_close(&ctx);
}

static void listing_does_not_ask(void **state) {
    fixture *f = *state;
    mz_weights *w = open_ab(f);
    const char *name = NULL;
    mz_tensor t;
    assert_int_equal(mz_weights_count(w), 2);
    mz_assert_ok(&f->ctx, mz_weights_at(w, 1, &name, &t));
    assert_string_equal(name, "b");
    assert_int_equal(mz_weights_at(w, 2, &name, &t), MZ_ERR_ARG);
    assert_int_equal(mz_weights_at(w, -1, &name, &t), MZ_ERR_ARG);
    assert_int_equal(mz_weights_finish(w), MZ_ERR_FORMAT);
    assert_false(mz_weights_find(w, "none", &t));
    assert_true(mz_weights_find(w, "a", &t));
    assert_true(mz_weights_find(w, "b", &t));
    mz_assert_ok(&f->ctx, mz_weights_finish(w));
    size_t n_bytes = 0;
    assert_non_null(strstr(mz_weights_file(w, 0, &n_bytes), "m.safetensors"));
    assert_int_equal(n_bytes, 8 + strlen(AB) + 2 + 12);
    mz_weights_close(&f->ctx, w);
    mz_weights_close(&f->ctx, NULL);
}

/* --- files and folders --- */

static void unusable_paths_are_refused(void **state) {
    fixture *f = *state;
    assert_refused(f, "/nowhere/model.safetensors", MZ_ERR_IO,
                   "/nowhere/model.safetensors: cannot open: No such file");
    assert_refused(f, f->dir, MZ_ERR_MISSING,
                   "no weights in this folder, expected model.safetensors, ");
    assert_refused(f, mz_write_file(f->dir, "m.txt", "x", 1), MZ_ERR_UNSUPPORTED,
                   "m.txt: is no checkpoint by its name");
    assert_refused(f, mz_write_file(f->dir, "m.bin", "", 0), MZ_ERR_FORMAT,
                   "m.bin: is no PyTorch file");
    assert_refused(f, mz_write_file(f->dir, "m.safetensors", "", 0), MZ_ERR_FORMAT,
                   "m.safetensors: 0 bytes are too few");
    static const char lfs[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:0127\nsize 226760264\n";
    assert_refused(f, mz_write_file(f->dir, "m.safetensors", lfs, sizeof lfs - 1), MZ_ERR_FORMAT,
                   "Git LFS pointer");
    assert_refused(f, mz_write_file(f->dir, "m.bin", lfs, sizeof lfs - 1), MZ_ERR_FORMAT,
                   "Git LFS pointer");
}

static void the_first_of_a_folder_is_taken(void **state) {
    fixture *f = *state;
    (void)mz_write_file(f->dir, "pytorch_model.bin", "broken", 6);
    (void)write_safetensors(f->dir, "model.safetensors", AB, 12);
    mz_weights *w = NULL;
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, f->dir, &w));
    assert_int_equal(mz_weights_count(w), 2);
    mz_weights_close(&f->ctx, w);
}

/* --- the index of a sharded checkpoint --- */

static const char *write_index(const fixture *f, const char *text) {
    return mz_write_file(f->dir, "model.safetensors.index.json", text, strlen(text));
}

static void shards_are_joined(void **state) {
    fixture *f = *state;
    (void)write_safetensors(f->dir, "1.safetensors", ONLY("a"), 4);
    (void)write_safetensors(f->dir, "2.safetensors", ONLY("b"), 4);
    (void)write_index(f, "{\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}");
    mz_weights *w = NULL;
    mz_assert_ok(&f->ctx, mz_weights_open(&f->ctx, f->dir, &w));
    assert_int_equal(mz_weights_count(w), 2);
    assert_int_equal(mz_weights_n_files(w), 2);
    mz_weights_close(&f->ctx, w);
}

static void hostile_indexes_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        const char *text;
        mz_status status;
        const char *part;
    } cases[] = {
        {"", MZ_ERR_FORMAT, "index.json: JSON, line 1"},
        {"[]", MZ_ERR_FORMAT, "expected an object"},
        {"{}", MZ_ERR_FORMAT, "weight_map is missing or no object"},
        {"{\"weight_map\":[]}", MZ_ERR_FORMAT, "weight_map is missing or no object"},
        {"{\"weight_map\":{\"a\":1}}", MZ_ERR_FORMAT, "the file of tensor a is no string"},
        {"{\"weight_map\":{\"a\":\"\"}}", MZ_ERR_FORMAT, "expected a name without folders"},
        {"{\"weight_map\":{\"a\":\"..\"}}", MZ_ERR_FORMAT, "expected a name without folders"},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", MZ_ERR_FORMAT,
         "file \"../1.safetensors\" of tensor a"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", MZ_ERR_FORMAT,
         "expected a name without folders"},
        {"{\"weight_map\":{\"a\":\"x\\\\1.safetensors\"}}", MZ_ERR_FORMAT,
         "expected a name without folders"},
        {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", MZ_ERR_MISSING,
         "its file none.safetensors does not exist"},
        {"{\"weight_map\":{\"a\":\"notes.txt\"}}", MZ_ERR_UNSUPPORTED, "no checkpoint by its name"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", MZ_ERR_FORMAT,
         "duplicate object key"},
        {"{\"weight_map\":{\"b\":\"1.safetensors\"}}", MZ_ERR_FORMAT,
         "tensor b should be in 1.safetensors, which lacks it"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}"
         "}",
         MZ_ERR_FORMAT, "tensor b should be in 1.safetensors"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}", MZ_ERR_FORMAT,
         "tensor a is there twice, in "},
    };
    (void)write_safetensors(f->dir, "1.safetensors", ONLY("a"), 4);
    (void)write_safetensors(f->dir, "2.safetensors",
                            "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                            "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                            2);
    (void)write_safetensors(f->dir, "3.safetensors", ONLY("a"), 4);
    (void)mz_write_file(f->dir, "notes.txt", "x", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_refused(f, write_index(f, cases[i].text), cases[i].status, cases[i].part);
    }
}

/* --- memory --- */

/* Opens a checkpoint, asks for all its tensors and closes it. */
static mz_status use(mz_context *ctx, const char *path) {
    mz_weights *w = NULL;
    MZ_TRY(mz_weights_open(ctx, path, &w));
    mz_status status = MZ_OK;
    for (int64_t i = 0; i < mz_weights_count(w) && status == MZ_OK; i++) {
        const char *name = NULL;
        mz_tensor t;
        status = mz_weights_at(w, i, &name, &t);
        if (status == MZ_OK) {
            status = mz_weights_get_any(w, name, t.shape, t.n_dims, &t);
        }
    }
    if (status == MZ_OK) {
        status = mz_weights_finish(w);
    }
    mz_weights_close(ctx, w);
    return status;
}

static void every_failed_allocation_is_clean(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"tiny", "tiny-sharded", "tiny-bin", "tiny-bin-sharded",
                                        NULL};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024]; /* the last is one whose tensors are copied */
        (void)snprintf(path, sizeof path, "%s/%s", golden, names[i] != NULL ? names[i] : "");
        if (names[i] == NULL) {
            const char *pad = strlen(AB) % 4 == 0 ? " " : "";
            char header[512];
            (void)snprintf(header, sizeof header, "%s%s", AB, pad);
            (void)snprintf(path, sizeof path, "%s",
                           write_safetensors(f->dir, "m.safetensors", header, 12));
        }
        mz_status status = MZ_ERR_NOMEM;
        int64_t k = 0;
        while (status == MZ_ERR_NOMEM) {
            k++;
            mz_failing_allocator counter;
            const mz_allocator allocator = mz_failing_allocator_init(&counter, k);
            mz_context ctx;
            const mz_context_options options = {.allocator = &allocator, .n_threads = 1};
            assert_int_equal(mz_context_init(&ctx, &options), MZ_OK);
            status = use(&ctx, path);
            assert_int_equal(counter.n_live, 0);
            if (status == MZ_OK) {
                assert_true(counter.n_calls < k);
            } else {
                if (status != MZ_ERR_NOMEM) {
                    fail_msg("%s, allocation %lld: %s", path, (long long)k, ctx.error.message);
                }
            }
            mz_context_close(&ctx);
        }
        assert_true(k > 5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_formats_give_the_same_bytes),
        cmocka_unit_test(bf16_stays_bf16_in_the_map),
        cmocka_unit_test_setup_teardown(everything_asked_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(deviations_are_named_together, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_list_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(unaligned_data_is_copied_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_copy_is_no_missing_tensor, setup, teardown),
        cmocka_unit_test_setup_teardown(listing_does_not_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(unusable_paths_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_of_a_folder_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(shards_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_indexes_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_failed_allocation_is_clean, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
