#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/weights_internal.h"
#include "tests/testing.h"
#include "tests/torch_builder.h"

enum { MAX_SEEN = 8 };

/* A literal that may hold zeros, and its length. */
#define BYTES(text) text, sizeof(text) - 1

typedef struct seen {
    mz_context ctx;
    size_t n;
    char names[MAX_SEEN][128];
    mz_pickle_tensor tensors[MAX_SEEN]; /* names and keys of which are gone */
} seen;

static mz_status visit(void *self, const mz_pickle_tensor *tensor) {
    seen *s = self;
    assert_true(s->n < MAX_SEEN);
    (void)snprintf(s->names[s->n], sizeof s->names[0], "%s", tensor->name);
    s->tensors[s->n++] = *tensor;
    return MZ_OK;
}

static int setup(void **state) {
    seen *s = calloc(1, sizeof *s);
    assert_non_null(s);
    mz_assert_ok(&s->ctx, mz_context_init(&s->ctx, &(mz_context_options){.n_threads = 1,
                                                                         .isa = MZ_ISA_SCALAR}));
    *state = s;
    return 0;
}

static int teardown(void **state) {
    seen *s = *state;
    mz_context_close(&s->ctx);
    free(s);
    return 0;
}

/* Reads the bytes from memory of exactly their size, for the address sanitizer, and releases them.
 */
static mz_status read_bytes(seen *s, mz_bytes *b) {
    uint8_t *data = malloc(b->n > 0 ? b->n : 1);
    assert_non_null(data);
    if (b->n > 0) {
        memcpy(data, b->data, b->n);
    }
    s->n = 0;
    const mz_status status = mz_pickle_read(&s->ctx, "FILE", data, b->n, visit, s);
    free(data);
    mz_bytes_free(b);
    return status;
}

static void assert_refused(seen *s, mz_bytes *b, mz_status expected, const char *part) {
    const mz_status status = read_bytes(s, b);
    if (status != expected || strstr(s->ctx.error.message, part) == NULL ||
        strncmp(s->ctx.error.message, "FILE: ", 6) != 0) {
        fail_msg("expected %s with \"%s\", got %s: %s", mz_status_name(expected), part,
                 mz_status_name(status), s->ctx.error.message);
    }
}

static mz_pickle_spec plain(void) {
    return (mz_pickle_spec){.type = "FloatStorage",
                            .key = "7",
                            .n_stored = 10,
                            .offset = 4,
                            .shape = {2, 3},
                            .stride = {3, 1},
                            .n_dims = 2};
}

static void reads_a_tensor(void **state) {
    seen *s = *state;
    const mz_pickle_spec spec = plain();
    mz_bytes b = {0};
    mz_pickle_one(&b, "layer.weight", &spec);
    mz_assert_ok(&s->ctx, read_bytes(s, &b));
    assert_int_equal(s->n, 1);
    const mz_pickle_tensor *t = &s->tensors[0];
    assert_string_equal(s->names[0], "layer.weight");
    assert_int_equal(t->storage_key_bytes, 1);
    assert_int_equal(t->dtype, MZ_DTYPE_F32);
    assert_int_equal(t->storage_bytes, 40);
    assert_int_equal(t->offset_bytes, 16);
    assert_int_equal(t->n_bytes, 24);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
}

static void reads_all_types(void **state) {
    seen *s = *state;
    static const struct {
        const char *type;
        mz_dtype dtype;
    } types[] = {{"FloatStorage", MZ_DTYPE_F32},     {"HalfStorage", MZ_DTYPE_F16},
                 {"BFloat16Storage", MZ_DTYPE_BF16}, {"IntStorage", MZ_DTYPE_I32},
                 {"LongStorage", MZ_DTYPE_I64},      {"ByteStorage", MZ_DTYPE_U8}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        mz_pickle_spec spec = plain();
        spec.type = types[i].type;
        mz_bytes b = {0};
        mz_pickle_one(&b, "t", &spec);
        mz_assert_ok(&s->ctx, read_bytes(s, &b));
        assert_int_equal(s->tensors[0].dtype, types[i].dtype);
        assert_int_equal(s->tensors[0].n_bytes, 6 * mz_dtype_get(types[i].dtype)->block_bytes);
    }
}

/* A module's state as protocol 4 writes it: frames, memoised short texts, globals from the stack,
 * an ordered dictionary with attributes, a parameter, values that are no tensors, and a nested
 * dictionary. */
static void reads_protocol_4(void **state) {
    seen *s = *state;
    const mz_pickle_spec spec = plain();
    mz_bytes b = {0};
    mz_bytes_add(&b, "\x80\x04\x95", 3);
    mz_bytes_uint(&b, 0, 8);
    mz_bytes_add(&b, BYTES("\x8c\x0b"
                           "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94("));
    mz_pickle_text(&b, "a");
    mz_pickle_global(&b, "torch._utils", "_rebuild_parameter");
    mz_bytes_op(&b, '(');
    mz_pickle_tensor_value(&b, &spec);
    mz_bytes_add(&b, BYTES("\x88h\x02)RtR"));
    mz_pickle_text(&b, "epoch");
    mz_pickle_int(&b, 3);
    mz_pickle_text(&b, "betas");
    mz_bytes_add(&b, BYTES("](G\0\0\0\0\0\0\0\0NeC\x01x"));
    mz_bytes_op(&b, 'a');
    mz_pickle_text(&b, "inner");
    mz_bytes_op(&b, '}');
    mz_pickle_text(&b, "b");
    mz_pickle_tensor_value(&b, &spec);
    mz_bytes_add(&b, "su}", 3); /* item of the inner, items of the outer, state */
    mz_pickle_text(&b, "_metadata");
    mz_bytes_add(&b, "Nsb.", 4);
    mz_assert_ok(&s->ctx, read_bytes(s, &b));
    assert_int_equal(s->n, 2);
    assert_string_equal(s->names[0], "a");
    assert_string_equal(s->names[1], "inner.b");
}

static void reads_untyped_storages(void **state) {
    seen *s = *state;
    mz_bytes b = {0};
    mz_bytes_add(&b, "\x80\x02}", 3);
    mz_pickle_text(&b, "t");
    mz_pickle_global(&b, "torch._utils", "_rebuild_tensor_v3");
    mz_bytes_add(&b, "((", 2);
    mz_pickle_text(&b, "storage");
    mz_pickle_global(&b, "torch.storage", "UntypedStorage");
    mz_pickle_text(&b, "0");
    mz_pickle_text(&b, "cpu");
    mz_pickle_int(&b, 8);
    mz_bytes_add(&b, "tQ", 2);
    mz_pickle_int(&b, 1);
    mz_pickle_ints(&b, (int64_t[]){3}, 1);
    mz_pickle_ints(&b, (int64_t[]){1}, 1);
    mz_bytes_op(&b, 0x89);
    mz_bytes_op(&b, '}');
    mz_pickle_global(&b, "torch", "bfloat16");
    mz_bytes_add(&b, "tRs.", 4);
    mz_assert_ok(&s->ctx, read_bytes(s, &b));
    assert_int_equal(s->tensors[0].dtype, MZ_DTYPE_BF16);
    assert_int_equal(s->tensors[0].storage_bytes, 8);
    assert_int_equal(s->tensors[0].offset_bytes, 2);
    assert_int_equal(s->tensors[0].n_bytes, 6);
}

static void strides_and_shapes(void **state) {
    seen *s = *state;
    static const struct {
        int64_t shape[6];
        int64_t stride[6];
        size_t n_dims;
        int64_t n_stored;
        int64_t offset;
        mz_status status;
        const char *part;
    } cases[] = {
        {{0}, {0}, 0, 1, 0, MZ_OK, ""},        /* a scalar */
        {{1, 6}, {77, 1}, 2, 6, 0, MZ_OK, ""}, /* a dimension of 1 is never stepped over */
        {{6, 1}, {1, 99}, 2, 6, 0, MZ_OK, ""},
        {{0, 5}, {9, 9}, 2, 0, 0, MZ_OK, ""},
        {{2, 3}, {3, 1}, 2, 6, 0, MZ_OK, ""},
        {{2, 3},
         {1, 2},
         2,
         6,
         0,
         MZ_ERR_UNSUPPORTED,
         "tensor t: is not contiguous: stride[1] is 2, expected 1"},
        {{2, 3}, {0, 1}, 2, 6, 0, MZ_ERR_UNSUPPORTED, "not contiguous"},
        {{2, 3}, {-3, 1}, 2, 6, 0, MZ_ERR_UNSUPPORTED, "not contiguous"},
        {{2, 3}, {3, 1}, 2, 6, 1, MZ_ERR_FORMAT, "tensor t: 24 bytes at element 1 do not fit"},
        {{2, 3}, {3, 1}, 2, 5, 0, MZ_ERR_FORMAT, "do not fit into its storage of 5 elements"},
        {{2, 3}, {3, 1}, 2, 6, -1, MZ_ERR_FORMAT, "at element -1"},
        {{2, 3}, {3, 1}, 2, 6, INT64_MAX, MZ_ERR_FORMAT, "do not fit"},
        {{2, 3}, {3, 1}, 2, INT64_MAX, 0, MZ_ERR_FORMAT, "do not fit"},
        {{2, 3}, {3, 1}, 2, -6, 0, MZ_ERR_FORMAT, "a storage has other arguments"},
        {{-2, 3}, {3, 1}, 2, 6, 0, MZ_ERR_FORMAT, "shape[0]"},
        {{1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}, 5, 6, 0, MZ_ERR_LIMIT, "5 dimensions, the limit is 4"},
        {{INT64_MAX, 2}, {2, 1}, 2, 6, 0, MZ_ERR_LIMIT, "more elements than memory"},
        {{(int64_t)1 << 61, 1}, {1, 1}, 2, 6, 0, MZ_ERR_LIMIT, "more elements than memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_pickle_spec spec = plain();
        memcpy(spec.shape, cases[i].shape, sizeof spec.shape);
        memcpy(spec.stride, cases[i].stride, sizeof spec.stride);
        spec.n_dims = cases[i].n_dims;
        spec.n_stored = cases[i].n_stored;
        spec.offset = cases[i].offset;
        mz_bytes b = {0};
        mz_pickle_one(&b, "t", &spec);
        if (cases[i].status == MZ_OK) {
            mz_assert_ok(&s->ctx, read_bytes(s, &b));
            assert_int_equal(s->tensors[0].n_dims, spec.n_dims > 0 ? spec.n_dims : 1);
        } else {
            assert_refused(s, &b, cases[i].status, cases[i].part);
        }
    }
}

static void unsupported_types_are_named(void **state) {
    seen *s = *state;
    mz_pickle_spec spec = plain();
    spec.type = "DoubleStorage";
    mz_bytes b = {0};
    mz_pickle_one(&b, "t", &spec);
    assert_refused(s, &b, MZ_ERR_UNSUPPORTED, "tensor t: element type torch.DoubleStorage");
}

static void code_is_refused(void **state) {
    seen *s = *state;
    static const struct {
        const char *module;
        const char *name;
    } globals[] = {{"os", "system"},
                   {"posix", "system"},
                   {"builtins", "eval"},
                   {"torch", "load"},
                   {"torch._utils", "_rebuild_tensor_v2.__globals__"},
                   {"numpy.core.multiarray", "_reconstruct"}};
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        for (int from_stack = 0; from_stack < 2; from_stack++) {
            mz_bytes b = {0};
            mz_bytes_add(&b, "\x80\x04", 2);
            if (from_stack) {
                mz_pickle_text(&b, globals[i].module);
                mz_pickle_text(&b, globals[i].name);
                mz_bytes_op(&b, 0x93);
            } else {
                mz_pickle_global(&b, globals[i].module, globals[i].name);
            }
            mz_pickle_text(&b, "touch executed");
            mz_bytes_add(&b, "\x85R.", 3);
            char part[160];
            (void)snprintf(part, sizeof part,
                           "names %s.%s, which is no part of a table of tensors; a pickle that "
                           "calls code is refused",
                           globals[i].module, globals[i].name);
            assert_refused(s, &b, MZ_ERR_FORMAT, part);
        }
    }
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } cases[] = {
        {BYTES("\x80\x02(iposix\nsystem\n."),
         "instruction 0x69 makes an object; a pickle that calls code"},
        {BYTES("\x80\x02)\x81."), "instruction 0x81 makes an object"},
        {BYTES("\x80\x02\x82\x01."), "instruction 0x82 makes an object"},
        {BYTES("\x80\x02NNR."), "calls something that is no function"},
        {BYTES("\x80\x02"
               "ctorch\nFloatStorage\n)R."),
         "calls torch.FloatStorage"},
        {BYTES("\x80\x02"
               "ctorch\nFloatStorage\n}b."),
         "sets the state of an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_bytes b = {0};
        mz_bytes_add(&b, cases[i].bytes, cases[i].n);
        assert_refused(s, &b, MZ_ERR_FORMAT, cases[i].part);
    }
}

static void broken_pickles_are_refused(void **state) {
    seen *s = *state;
    static const struct {
        const char *bytes;
        size_t n;
        mz_status status;
        const char *part;
    } cases[] = {
        {BYTES(""), MZ_ERR_FORMAT, "truncated"},
        {BYTES("\x80\x02"), MZ_ERR_FORMAT, "truncated"},
        {BYTES("\x80\x01}."), MZ_ERR_UNSUPPORTED, "protocol 1"},
        {BYTES("\x80\x06}."), MZ_ERR_UNSUPPORTED, "protocol 6"},
        {BYTES("\x80\x02."), MZ_ERR_FORMAT, "ends with 0 values"},
        {BYTES("\x80\x02}}."), MZ_ERR_FORMAT, "ends with 2 values"},
        {BYTES("\x80\x02}.x"), MZ_ERR_FORMAT, "1 bytes left"},
        {BYTES("\x80\x02K\x01."), MZ_ERR_FORMAT, "no dictionary of tensors"},
        {BYTES("\x80\x02(."), MZ_ERR_FORMAT, "no dictionary of tensors"},
        {BYTES("\x80\x02\xff."), MZ_ERR_FORMAT, "instruction 0xff is no part"},
        {BYTES("\x80\x02X\xff\xff\xff\xff"
               "a"),
         MZ_ERR_FORMAT, "needs 4294967295 bytes, 1 are left"},
        {BYTES("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
               "a"),
         MZ_ERR_FORMAT, "needs 18446744073709551615 bytes"},
        {BYTES("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."), MZ_ERR_FORMAT, "frame of"},
        {BYTES("\x80\x02\x8a\x09xxxxxxxxx."), MZ_ERR_LIMIT, "integer of 9 bytes"},
        {BYTES("\x80\x02h\x00."), MZ_ERR_FORMAT, "memo entry 0, there are 0"},
        {BYTES("\x80\x02}r\xff\xff\xff\xff."), MZ_ERR_FORMAT,
         "memo entry 4294967295, expected at most 0"},
        {BYTES("\x80\x02q\x00."), MZ_ERR_FORMAT, "finds no value"},
        {BYTES("\x80\x02(q\x00."), MZ_ERR_FORMAT, "finds no value"},
        {BYTES("\x80\x02t."), MZ_ERR_FORMAT, "finds no mark"},
        {BYTES("\x80\x02u."), MZ_ERR_FORMAT, "finds no mark"},
        {BYTES("\x80\x02(u."), MZ_ERR_FORMAT, "expected pairs and a dictionary"},
        {BYTES("\x80\x02}(Nu."), MZ_ERR_FORMAT, "expected pairs and a dictionary"},
        {BYTES("\x80\x02N(NNu."), MZ_ERR_FORMAT, "no dictionary"},
        {BYTES("\x80\x02((NNu."), MZ_ERR_FORMAT, "no dictionary"},
        {BYTES("\x80\x02}Ns."), MZ_ERR_FORMAT, "finds no value"},
        {BYTES("\x80\x02N\x86."), MZ_ERR_FORMAT, "finds no value"},
        {BYTES("\x80\x02NNa."), MZ_ERR_FORMAT, "no list"},
        {BYTES("\x80\x02(e."), MZ_ERR_FORMAT, "finds no value"},
        {BYTES("\x80\x02"
               "ctorch\nFloat"),
         MZ_ERR_FORMAT, "does not end"},
        {BYTES("\x80\x02NN\x93."), MZ_ERR_FORMAT, "no text"},
        {BYTES("\x80\x02NQ."), MZ_ERR_FORMAT, "a storage has other arguments"},
        {BYTES("\x80\x02(NNNNNtQ."), MZ_ERR_FORMAT, "a storage has other arguments"},
        {BYTES("\x80\x02"
               "ctorch._utils\n_rebuild_tensor_v2\n)R."),
         MZ_ERR_FORMAT, "a tensor has other arguments"},
        {BYTES("\x80\x02"
               "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR."),
         MZ_ERR_FORMAT, "a tensor has other"},
        {BYTES("\x80\x02"
               "ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNtR."),
         MZ_ERR_FORMAT, "a tensor has other"},
        {BYTES("\x80\x02"
               "ctorch._utils\n_rebuild_parameter\n)R."),
         MZ_ERR_FORMAT, "a parameter has other"},
        {BYTES("\x80\x02"
               "ccollections\nOrderedDict\nN\x85R."),
         MZ_ERR_FORMAT, "a dictionary has other"},
        {BYTES("\x80\x02}q\x00X\x01\0\0\0ah\x00s."), MZ_ERR_FORMAT, "reached in two ways"},
        {BYTES("\x80\x02}K\x01}s."), MZ_ERR_UNSUPPORTED, "under a key that is no text"},
        {BYTES("\x80\x02}X\x01\0\0\0\xff}s."), MZ_ERR_FORMAT, "no UTF-8"},
        {BYTES("\x80\x02}X\x01\0\0\0\n}s."), MZ_ERR_FORMAT, "no UTF-8"},
        {BYTES("\x80\x02}X\x02\0\0\0\xc0\xaf}s."), MZ_ERR_FORMAT, "no UTF-8"},
        {BYTES("\x80\x02}X\x03\0\0\0\xed\xa0\x80}s."), MZ_ERR_FORMAT, "no UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_bytes b = {0};
        mz_bytes_add(&b, cases[i].bytes, cases[i].n);
        assert_refused(s, &b, cases[i].status, cases[i].part);
    }
}

static void bombs_are_refused(void **state) {
    seen *s = *state;
    enum { MANY = 3000000 };
    static const char ops[] = {'(', '}', ']', ')'};
    for (size_t i = 0; i < sizeof ops; i++) { /* nesting without end */
        mz_bytes b = {0};
        mz_bytes_add(&b, "\x80\x02", 2);
        for (int k = 0; k < MANY; k++) {
            mz_bytes_op(&b, ops[i]);
        }
        assert_refused(s, &b, MZ_ERR_LIMIT, "values on the stack");
    }
    mz_bytes b = {0}; /* dictionaries in dictionaries: no recursion that deep */
    mz_bytes_add(&b, "\x80\x02", 2);
    for (int k = 0; k < 1000; k++) {
        mz_bytes_op(&b, '}');
        mz_pickle_text(&b, "a");
    }
    mz_bytes_op(&b, '}');
    for (int k = 0; k < 1000; k++) {
        mz_bytes_op(&b, 's');
    }
    mz_bytes_op(&b, '.');
    assert_refused(s, &b, MZ_ERR_LIMIT, "nested more than 8 deep");
    mz_bytes_add(&b, "\x80\x02]q", 4); /* tuples that double: 2^60 elements if they were unfolded */
    mz_bytes_op(&b, 0);
    for (int k = 0; k < 60; k++) {
        mz_bytes_op(&b, 'h');
        mz_bytes_op(&b, k);
        mz_bytes_op(&b, 'h');
        mz_bytes_op(&b, k);
        mz_bytes_op(&b, 0x86);
        mz_bytes_op(&b, 'q');
        mz_bytes_op(&b, k + 1);
    }
    mz_bytes_op(&b, '.');
    assert_refused(s, &b, MZ_ERR_FORMAT, "ends with 61 values");
    char *name = malloc(5001);
    assert_non_null(name);
    memset(name, 'a', 5000);
    name[5000] = '\0';
    const mz_pickle_spec spec = plain();
    mz_pickle_one(&b, name, &spec);
    free(name);
    assert_refused(s, &b, MZ_ERR_LIMIT, "has 5000 bytes, the limit is 2047");
}

static void every_truncation_is_refused(void **state) {
    seen *s = *state;
    const mz_pickle_spec spec = plain();
    mz_bytes whole = {0};
    mz_pickle_one(&whole, "t", &spec);
    for (size_t n = 0; n < whole.n; n++) {
        mz_bytes b = {0};
        mz_bytes_add(&b, whole.data, n);
        assert_refused(s, &b, MZ_ERR_FORMAT, "pickle, byte");
    }
    mz_bytes_free(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_a_tensor, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_all_types, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_protocol_4, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_untyped_storages, setup, teardown),
        cmocka_unit_test_setup_teardown(strides_and_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(unsupported_types_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(code_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_pickles_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(bombs_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
