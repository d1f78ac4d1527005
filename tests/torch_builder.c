#include "tests/torch_builder.h"

#include <stdlib.h>
#include <string.h>

#include "tests/testing.h"

void mz_bytes_add(mz_bytes *b, const void *data, size_t n) {
    if (b->n + n > b->capacity) {
        b->capacity = 2 * (b->n + n);
        b->data = realloc(b->data, b->capacity);
        assert_non_null(b->data);
    }
    if (n > 0) {
        memcpy(b->data + b->n, data, n);
    }
    b->n += n;
}

void mz_bytes_op(mz_bytes *b, int op) {
    mz_bytes_uint(b, (uint64_t)op, 1);
}

void mz_bytes_uint(mz_bytes *b, uint64_t value, size_t n_bytes) {
    uint8_t bytes[8];
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    mz_bytes_add(b, bytes, n_bytes);
}

void mz_bytes_free(mz_bytes *b) {
    free(b->data);
    *b = (mz_bytes){0};
}

void mz_pickle_text(mz_bytes *b, const char *text) {
    mz_bytes_op(b, 'X');
    mz_bytes_uint(b, strlen(text), 4);
    mz_bytes_add(b, text, strlen(text));
}

void mz_pickle_int(mz_bytes *b, int64_t value) {
    if (value >= 0 && value < 256) {
        mz_bytes_op(b, 'K');
        mz_bytes_uint(b, (uint64_t)value, 1);
    } else {
        mz_bytes_op(b, 0x8a);
        mz_bytes_uint(b, 8, 1);
        mz_bytes_uint(b, (uint64_t)value, 8);
    }
}

void mz_pickle_global(mz_bytes *b, const char *module, const char *name) {
    mz_bytes_op(b, 'c');
    mz_bytes_add(b, module, strlen(module));
    mz_bytes_op(b, '\n');
    mz_bytes_add(b, name, strlen(name));
    mz_bytes_op(b, '\n');
}

void mz_pickle_ints(mz_bytes *b, const int64_t *values, size_t n) {
    mz_bytes_op(b, '(');
    for (size_t i = 0; i < n; i++) {
        mz_pickle_int(b, values[i]);
    }
    mz_bytes_op(b, 't');
}

void mz_pickle_tensor_value(mz_bytes *b, const mz_pickle_spec *spec) {
    mz_pickle_global(b, "torch._utils", "_rebuild_tensor_v2");
    mz_bytes_op(b, '(');
    mz_bytes_op(b, '(');
    mz_pickle_text(b, "storage");
    mz_pickle_global(b, "torch", spec->type);
    mz_pickle_text(b, spec->key);
    mz_pickle_text(b, "cpu");
    mz_pickle_int(b, spec->n_stored);
    mz_bytes_op(b, 't');
    mz_bytes_op(b, 'Q');
    mz_pickle_int(b, spec->offset);
    mz_pickle_ints(b, spec->shape, spec->n_dims);
    mz_pickle_ints(b, spec->stride, spec->n_dims);
    mz_bytes_op(b, 0x89);
    mz_pickle_global(b, "collections", "OrderedDict");
    mz_bytes_op(b, ')');
    mz_bytes_op(b, 'R');
    mz_bytes_op(b, 't');
    mz_bytes_op(b, 'R');
}

void mz_pickle_one(mz_bytes *b, const char *name, const mz_pickle_spec *spec) {
    mz_bytes_add(b, "\x80\x02}", 3);
    mz_pickle_text(b, name);
    mz_pickle_tensor_value(b, spec);
    mz_bytes_add(b, "s.", 2);
}

size_t mz_zip_member(mz_bytes *archive, mz_bytes *directory, const char *name, const void *data,
                     size_t n) {
    const size_t offset = archive->n;
    mz_bytes_uint(archive, 0x04034b50, 4);
    mz_bytes_uint(archive, 0, 8); /* version, flags, method, time */
    mz_bytes_uint(archive, 0, 6); /* date, checksum */
    mz_bytes_uint(archive, n, 4);
    mz_bytes_uint(archive, n, 4);
    mz_bytes_uint(archive, strlen(name), 2);
    mz_bytes_uint(archive, 0, 2);
    mz_bytes_add(archive, name, strlen(name));
    mz_bytes_add(archive, data, n);
    mz_bytes_uint(directory, 0x02014b50, 4);
    mz_bytes_uint(directory, 0, 8); /* versions, flags, method */
    mz_bytes_uint(directory, 0, 8); /* time, date, checksum */
    mz_bytes_uint(directory, n, 4);
    mz_bytes_uint(directory, n, 4);
    mz_bytes_uint(directory, strlen(name), 2);
    mz_bytes_uint(directory, 0, 8); /* extra, comment, disk, attributes */
    mz_bytes_uint(directory, 0, 4);
    mz_bytes_uint(directory, offset, 4);
    mz_bytes_add(directory, name, strlen(name));
    return offset;
}

void mz_zip_end(mz_bytes *archive, const mz_bytes *directory, size_t n_members) {
    const size_t offset = archive->n;
    mz_bytes_add(archive, directory->data, directory->n);
    mz_bytes_uint(archive, 0x06054b50, 4);
    mz_bytes_uint(archive, 0, 4);
    mz_bytes_uint(archive, n_members, 2);
    mz_bytes_uint(archive, n_members, 2);
    mz_bytes_uint(archive, directory->n, 4);
    mz_bytes_uint(archive, offset, 4);
    mz_bytes_uint(archive, 0, 2);
}
