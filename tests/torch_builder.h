/* Makes PyTorch files for tests, honest and hostile ones: pickles and zip archives byte by byte. */
#ifndef MZ_TESTS_TORCH_BUILDER_H
#define MZ_TESTS_TORCH_BUILDER_H

#include <stddef.h>
#include <stdint.h>

/* Growing bytes; all-zero to begin with. A failed allocation fails the test. */
typedef struct mz_bytes {
    uint8_t *data;
    size_t n;
    size_t capacity;
} mz_bytes;

void mz_bytes_add(mz_bytes *b, const void *data, size_t n);
void mz_bytes_op(mz_bytes *b, int op);
void mz_bytes_uint(mz_bytes *b, uint64_t value, size_t n_bytes); /* little-endian */
void mz_bytes_free(mz_bytes *b);

/* Instructions of a pickle. */
void mz_pickle_text(mz_bytes *b, const char *text);
void mz_pickle_int(mz_bytes *b, int64_t value);
void mz_pickle_global(mz_bytes *b, const char *module, const char *name);
void mz_pickle_ints(mz_bytes *b, const int64_t *values, size_t n); /* a tuple */

/* What a tensor in a pickle says of itself. */
typedef struct mz_pickle_spec {
    const char *type; /* of the storage, e.g. "FloatStorage" */
    const char *key;
    int64_t n_stored; /* elements of the storage */
    int64_t offset;
    int64_t shape[6];
    int64_t stride[6];
    size_t n_dims;
} mz_pickle_spec;

/* The instructions that rebuild the tensor and leave it on the stack. */
void mz_pickle_tensor_value(mz_bytes *b, const mz_pickle_spec *spec);

/* A whole pickle: a dictionary with the one tensor `name`. */
void mz_pickle_one(mz_bytes *b, const char *name, const mz_pickle_spec *spec);

/* Appends a member to an archive and its record to `directory`; the offset of its header is
 * returned. */
size_t mz_zip_member(mz_bytes *archive, mz_bytes *directory, const char *name, const void *data,
                     size_t n);

/* Appends the directory and the end record, which counts n_members. */
void mz_zip_end(mz_bytes *archive, const mz_bytes *directory, size_t n_members);

#endif
