#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/weights_internal.h"
#include "tests/testing.h"
#include "tests/torch_builder.h"

typedef struct fixture {
    mz_context ctx;
    mz_weight_list list;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1,
                                                                         .isa = MZ_ISA_SCALAR}));
    f->list.ctx = &f->ctx;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

/* Reads from memory of exactly the size, for the address sanitizer. With `copy` the first tensor's
 * data is put there. */
static mz_status read_bytes(fixture *f, const mz_bytes *b, size_t n, void *copy) {
    uint8_t *data = malloc(n > 0 ? n : 1);
    assert_non_null(data);
    if (n > 0) {
        memcpy(data, b->data, n);
    }
    const mz_weight_file file = {.path = "FILE", .data = data, .n_bytes = n, .index = 5};
    const mz_status status = mz_torch_zip_read(&f->list, &file);
    if (status == MZ_OK && copy != NULL) {
        assert_true(f->list.n > 0);
        memcpy(copy, f->list.entries[0].data, f->list.entries[0].n_bytes);
    }
    free(data);
    return status;
}

static void assert_refused(fixture *f, mz_bytes *b, mz_status expected, const char *part) {
    const mz_status status = read_bytes(f, b, b->n, NULL);
    if (status != expected || strstr(f->ctx.error.message, part) == NULL ||
        strncmp(f->ctx.error.message, "FILE: ", 6) != 0) {
        fail_msg("expected %s with \"%s\", got %s: %s", mz_status_name(expected), part,
                 mz_status_name(status), f->ctx.error.message);
    }
    mz_weight_list_free(&f->list);
    mz_bytes_free(b);
}

/* An archive with a tensor "t" [2, 3] of bytes 4..9 of storage "0", and what tests change about it.
 */
typedef struct parts {
    mz_bytes archive;
    mz_bytes directory;
    size_t pickle_at; /* header of data.pkl, and of the storage */
    size_t data_at;
    size_t n_members;
} parts;

static const uint8_t stored[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

static parts begin(size_t n_stored) {
    const mz_pickle_spec spec = {.type = "ByteStorage",
                                 .key = "0",
                                 .n_stored = 10,
                                 .offset = 4,
                                 .shape = {2, 3},
                                 .stride = {3, 1},
                                 .n_dims = 2};
    mz_bytes pickle = {0};
    mz_pickle_one(&pickle, "t", &spec);
    parts p = {.n_members = 3};
    p.pickle_at = mz_zip_member(&p.archive, &p.directory, "m/data.pkl", pickle.data, pickle.n);
    (void)mz_zip_member(&p.archive, &p.directory, "m/byteorder", "little", 6);
    p.data_at = mz_zip_member(&p.archive, &p.directory, "m/data/0", stored, n_stored);
    mz_bytes_free(&pickle);
    return p;
}

static mz_bytes finish(parts *p) {
    mz_zip_end(&p->archive, &p->directory, p->n_members);
    mz_bytes_free(&p->directory);
    return p->archive;
}

static void put(mz_bytes *b, size_t at, uint64_t value, size_t n_bytes) {
    assert_true(at + n_bytes <= b->n);
    for (size_t i = 0; i < n_bytes; i++) {
        b->data[at + i] = (uint8_t)(value >> (8 * i));
    }
}

/* Offset of the directory's record of member i (names as in begin). */
static size_t record(size_t i) {
    static const size_t names[] = {0, 10, 10 + 11};
    return i * 46 + names[i];
}

static void assert_reads(fixture *f, mz_bytes *b) {
    uint8_t copy[16] = {0};
    mz_assert_ok(&f->ctx, read_bytes(f, b, b->n, copy));
    assert_int_equal(f->list.n, 1);
    assert_string_equal(f->list.entries[0].name, "t");
    assert_int_equal(f->list.entries[0].file, 5);
    assert_int_equal(f->list.entries[0].n_bytes, 6);
    assert_memory_equal(copy, stored + 4, 6);
    mz_weight_list_free(&f->list);
    mz_bytes_free(b);
}

static void reads_an_archive(void **state) {
    fixture *f = *state;
    parts p = begin(sizeof stored);
    mz_bytes b = finish(&p);
    assert_reads(f, &b);
    p = begin(sizeof stored); /* a comment behind it */
    b = finish(&p);
    put(&b, b.n - 2, 5, 2);
    mz_bytes_add(&b, "hello", 5);
    assert_reads(f, &b);
}

/* The records that archives above 4 GiB have, which PyTorch writes in small ones too. */
static mz_bytes build_zip64(uint64_t end_at_error, uint64_t member_count) {
    parts p = begin(0);
    p.archive.n = p.data_at;
    p.directory.n = record(2);
    (void)mz_zip_member(&p.archive, &p.directory, "m/data/0", stored, sizeof stored);
    put(&p.directory, record(2) + 20, 0xffffffff, 4); /* sizes and offset are in the extra field */
    put(&p.directory, record(2) + 24, 0xffffffff, 4);
    put(&p.directory, record(2) + 30, 4 + 3 * 8 + 6, 2);
    put(&p.directory, record(2) + 42, 0xffffffff, 4);
    mz_bytes_uint(&p.directory, 0x7777, 2); /* another extra field first */
    mz_bytes_uint(&p.directory, 2, 2);
    mz_bytes_uint(&p.directory, 0, 2);
    mz_bytes_uint(&p.directory, 1, 2);
    mz_bytes_uint(&p.directory, 24, 2);
    mz_bytes_uint(&p.directory, sizeof stored, 8);
    mz_bytes_uint(&p.directory, sizeof stored, 8);
    mz_bytes_uint(&p.directory, p.data_at, 8);
    const size_t offset = p.archive.n;
    mz_bytes_add(&p.archive, p.directory.data, p.directory.n);
    const size_t end64 = p.archive.n;
    mz_bytes_uint(&p.archive, 0x06064b50, 4);
    mz_bytes_uint(&p.archive, 44, 8);
    mz_bytes_uint(&p.archive, 0, 4);
    mz_bytes_uint(&p.archive, 0, 8);
    mz_bytes_uint(&p.archive, member_count, 8);
    mz_bytes_uint(&p.archive, member_count, 8);
    mz_bytes_uint(&p.archive, p.directory.n, 8);
    mz_bytes_uint(&p.archive, offset, 8);
    mz_bytes_uint(&p.archive, 0x07064b50, 4);
    mz_bytes_uint(&p.archive, 0, 4);
    mz_bytes_uint(&p.archive, end64 + end_at_error, 8);
    mz_bytes_uint(&p.archive, 1, 4);
    mz_bytes_uint(&p.archive, 0x06054b50, 4);
    mz_bytes_uint(&p.archive, 0, 4);
    mz_bytes_uint(&p.archive, 0xffff, 2);
    mz_bytes_uint(&p.archive, 0xffff, 2);
    mz_bytes_uint(&p.archive, 0xffffffff, 4);
    mz_bytes_uint(&p.archive, 0xffffffff, 4);
    mz_bytes_uint(&p.archive, 0, 2);
    mz_bytes_free(&p.directory);
    return p.archive;
}

static void reads_zip64(void **state) {
    fixture *f = *state;
    mz_bytes b = build_zip64(0, 3);
    assert_reads(f, &b);
    b = build_zip64(1, 3);
    assert_refused(f, &b, MZ_ERR_FORMAT, "zip64 end record is not where it should be");
    b = build_zip64(UINT64_MAX / 2, 3);
    assert_refused(f, &b, MZ_ERR_FORMAT, "zip64 end record is not where it should be");
    b = build_zip64(0, UINT64_MAX);
    assert_refused(f, &b, MZ_ERR_LIMIT, "18446744073709551615 members, the limit is 1001000");
    b = build_zip64(0, 3);
    put(&b, b.n - 12, 2, 2);
    assert_refused(f, &b, MZ_ERR_FORMAT, "contradict each other");
}

static void lying_end_records_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        size_t back; /* from the end of the file */
        uint64_t value;
        size_t n_bytes;
        const char *part;
    } cases[] = {
        {12, 0xfffe, 2, "65534 members in a directory"},
        {12, 2, 2, "more records than it says"},
        {12, 4, 2, "4 members in a directory of 167 bytes"},
        {10, 0xfffffffe, 4, "expected to end by"},
        {10, 1, 4, "3 members in a directory of 1 bytes"},
        {6, 0xfffffffe, 4, "expected to end by"},
        {6, 3, 4, "a record of its directory is missing"},
        {2, 1, 2, "no zip archive ends"},
        {22, 0, 4, "no zip archive ends"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parts p = begin(sizeof stored);
        mz_bytes b = finish(&p);
        put(&b, b.n - cases[i].back, cases[i].value, cases[i].n_bytes);
        assert_refused(f, &b, MZ_ERR_FORMAT, cases[i].part);
    }
}

static void lying_members_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        size_t member;
        size_t field; /* offset in the directory's record */
        uint64_t value;
        size_t n_bytes;
        mz_status status;
        const char *part;
    } cases[] = {
        {2, 0, 0, 4, MZ_ERR_FORMAT, "a record of its directory is missing"},
        {2, 10, 8, 2, MZ_ERR_UNSUPPORTED, "member m/data/0 is compressed or encrypted (method 8)"},
        {2, 8, 1, 2, MZ_ERR_UNSUPPORTED, "compressed or encrypted"},
        {2, 20, 11, 4, MZ_ERR_FORMAT, "its sizes are 10 and 11"},
        {2, 28, 0xffff, 2, MZ_ERR_FORMAT, "a record of its directory is truncated"},
        {2, 30, 9, 2, MZ_ERR_FORMAT, "a record of its directory is truncated"},
        {2, 42, 0xfffffffe, 4, MZ_ERR_FORMAT, "member m/data/0: no header at byte 4294967294"},
        {2, 42, 1, 4, MZ_ERR_FORMAT, "member m/data/0: no header at byte 1"},
        {2, 42, 0, 4, MZ_ERR_FORMAT, "member m/data/0: its header at byte 0 names something else"},
        {2, 24, 0xffffffff, 4, MZ_ERR_FORMAT, "its sizes are"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parts p = begin(sizeof stored);
        put(&p.directory, record(cases[i].member) + cases[i].field, cases[i].value,
            cases[i].n_bytes);
        mz_bytes b = finish(&p);
        assert_refused(f, &b, cases[i].status, cases[i].part);
    }
    parts p = begin(sizeof stored); /* a size that reaches into the directory */
    put(&p.directory, record(2) + 20, 11, 4);
    put(&p.directory, record(2) + 24, 11, 4);
    mz_bytes b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "member m/data/0: 11 bytes at");
    p = begin(sizeof stored);
    put(&p.directory, record(1) + 20, 7, 4);
    put(&p.directory, record(1) + 24, 7, 4);
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "members m/byteorder and m/data/0 overlap");
}

static void contents_that_are_no_checkpoint_are_refused(void **state) {
    fixture *f = *state;
    parts p = begin(sizeof stored);
    (void)mz_zip_member(&p.archive, &p.directory, "m/data/0", stored, sizeof stored);
    p.n_members = 4;
    mz_bytes b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "member m/data/0 is there twice");
    p = begin(sizeof stored);
    (void)mz_zip_member(&p.archive, &p.directory, "n/data.pkl", "", 0);
    p.n_members = 4;
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "has two members data.pkl");
    p = (parts){.n_members = 1};
    (void)mz_zip_member(&p.archive, &p.directory, "m/x/data.pkl", "", 0);
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "no member NAME/data.pkl");
    p = (parts){0};
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "no member NAME/data.pkl");
    p = begin(9); /* the storage is shorter than the pickle says */
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "tensor t: its storage m/data/0 has 9 bytes, expected 10");
    p = begin(sizeof stored);
    p.archive.data[p.data_at + 30 + 7] = '1'; /* storage "1" instead of "0" */
    p.directory.data[record(2) + 46 + 7] = '1';
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "tensor t: its storage m/data/0 is not in the archive");
    p = begin(sizeof stored);
    put(&p.archive, p.data_at - 6, 'b', 1); /* "bittle" */
    b = finish(&p);
    assert_refused(f, &b, MZ_ERR_UNSUPPORTED, "byte order is not little");
}

static void a_pickle_that_calls_code_is_refused(void **state) {
    fixture *f = *state;
    static const char pickle[] = "\x80\x02"
                                 "cos\nsystem\nX\x02\0\0\0ls\x85R.";
    parts p = {.n_members = 1};
    (void)mz_zip_member(&p.archive, &p.directory, "m/data.pkl", pickle, sizeof pickle - 1);
    mz_bytes b = finish(&p);
    assert_refused(f, &b, MZ_ERR_FORMAT, "data.pkl: pickle, byte 2: names os.system");
}

static void other_files_are_refused(void **state) {
    fixture *f = *state;
    mz_bytes b = {0};
    mz_bytes_add(&b,
                 "\x80\x02\x8a\nl\xfc\x9c"
                 "F\xf9 j\xa8P\x19.",
                 15);
    assert_refused(f, &b, MZ_ERR_UNSUPPORTED, "format before PyTorch 1.6");
    mz_bytes_add(&b, "hello", 5);
    assert_refused(f, &b, MZ_ERR_FORMAT, "no zip archive ends in its 5 bytes");
    assert_refused(f, &b, MZ_ERR_FORMAT, "no zip archive ends in its 0 bytes");
}

static void every_truncation_is_refused(void **state) {
    fixture *f = *state;
    parts p = begin(sizeof stored);
    mz_bytes b = finish(&p);
    for (size_t n = 0; n < b.n; n++) {
        assert_int_equal(read_bytes(f, &b, n, NULL), MZ_ERR_FORMAT);
        mz_weight_list_free(&f->list);
    }
    mz_bytes_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_an_archive, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_zip64, setup, teardown),
        cmocka_unit_test_setup_teardown(lying_end_records_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(lying_members_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(contents_that_are_no_checkpoint_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_pickle_that_calls_code_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
