/* Tensors: plain views of typed memory, and the table of element types. */
#ifndef MZ_CORE_TENSOR_H
#define MZ_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_dtype {
    MZ_DTYPE_F32 = 0,
    MZ_DTYPE_F16,
    MZ_DTYPE_BF16,
    MZ_DTYPE_I32,
    MZ_DTYPE_I64,
    MZ_DTYPE_U8,
    MZ_DTYPE_Q8_0, /* block-quantised, as in GGUF files: the names are theirs */
    MZ_DTYPE_Q4_0,
    MZ_DTYPE_Q4_1,
    MZ_DTYPE_Q5_0,
    MZ_DTYPE_Q5_1,
    MZ_DTYPE_Q2_K,
    MZ_DTYPE_Q3_K,
    MZ_DTYPE_Q4_K,
    MZ_DTYPE_Q5_K,
    MZ_DTYPE_Q6_K,
    MZ_DTYPE_COUNT
} mz_dtype;

/* One row a type. Conversions are exact where the type allows and round to nearest, ties to even,
 * otherwise. Of a block-quantised type whole blocks are converted: n is a multiple of block_len. */
typedef struct mz_dtype_info {
    const char *name; /* "f32" */
    int block_len;    /* elements in a block; 1 for plain types */
    int block_bytes;  /* bytes in a block */
    bool is_float;    /* may hold weights */
    void (*to_f32)(float *dst, const void *src,
                   int64_t n); /* NULL where meaningless; src may be unaligned */
    void (*from_f32)(void *dst, const float *src, int64_t n); /* NULL where meaningless */
} mz_dtype_info;

const mz_dtype_info *mz_dtype_get(mz_dtype dtype);

enum { MZ_MAX_DIMS = 4 };

/* A view; never owns memory. Rows are `ld` elements apart (of a block-quantised type a multiple of
 * its block_len, as the number of columns), the elements of a row are contiguous.
 * All dimensions but the last are folded into rows: rows = shape[0] * ... * shape[n_dims - 2] (1
 * for n_dims 1). */
typedef struct mz_tensor {
    mz_dtype dtype;
    int n_dims;                 /* 1 to 4; 0 marks an absent tensor */
    int64_t shape[MZ_MAX_DIMS]; /* outermost first */
    int64_t ld;                 /* elements from one row to the next, at least shape[n_dims - 1] */
    void *data;                 /* in the memory of the backend it is used with */
} mz_tensor;

/* Views of contiguous memory. */
mz_tensor mz_tensor_1d(mz_dtype dtype, int64_t n, void *data);
mz_tensor mz_tensor_2d(mz_dtype dtype, int64_t n_rows, int64_t n_cols, void *data);

/* Rows [begin, begin + n) of a 2-d tensor; columns likewise. The caller guarantees the range. */
mz_tensor mz_tensor_rows(const mz_tensor *t, int64_t begin, int64_t n);
mz_tensor mz_tensor_cols(const mz_tensor *t, int64_t begin, int64_t n);

/* Bytes from one row to the next, and address of a row, for any type. */
size_t mz_tensor_row_bytes(const mz_tensor *t);
void *mz_tensor_row(const mz_tensor *t, int64_t row);

int64_t mz_tensor_n_rows(const mz_tensor *t);
int64_t mz_tensor_n_cols(const mz_tensor *t);
int64_t mz_tensor_n_elements(const mz_tensor *t);

/* Address of a row of an f32 or i32 tensor in host memory. */
float *mz_tensor_f32(const mz_tensor *t, int64_t row);
int32_t *mz_tensor_i32(const mz_tensor *t, int64_t row);

/* Writes "[3, 4]" for messages; cut at `size`. Returns `out`. */
const char *mz_shape_text(char *out, size_t size, const int64_t *shape, int n_dims);

/* Product of two sizes. Returns false on overflow, *out untouched. */
bool mz_size_mul(size_t a, size_t b, size_t *out);

#ifdef __cplusplus
}
#endif
#endif
