/* The matrix kernels behind cpu_linear.h: one table per instruction set.
 *
 * A product runs in segments: some rows of x that meet the same matrices, few enough that their
 * packed form stays in the second-level cache. A segment's rows are packed once into the form that
 * the kernels read, then each panel of MZ_PANEL weight rows is multiplied with all of them. */
#ifndef MZ_CORE_OPS_CPU_PRODUCTS_INTERNAL_H
#define MZ_CORE_OPS_CPU_PRODUCTS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/ops.h"

enum {
    MZ_PANEL = 32,            /* weight rows that a kernel works on at a time */
    MZ_SEGMENT_ROWS = 512,    /* most rows of a segment */
    MZ_SEGMENT_ROW_STEP = 32, /* a segment's rows are a multiple of this, but for the last one */
    MZ_GRADIENT_ROWS = 512,   /* rows that a weight gradient takes in at a time */
};

/* A weight matrix [d_out, d_in] as stored: rows `ld` elements apart, no alignment. A transposed one
 * is stored as its d_in columns, `ld` elements apart: column k is line first + k, or with an index
 * line index[first + k] / divisor. */
typedef struct mz_matrix {
    const uint8_t *data;
    mz_dtype dtype; /* a floating-point type; `first` and `ld` count elements of whole blocks */
    mz_precision precision; /* INT8 only for types that have kernels for it */
    int64_t d_out, d_in, ld;
    const float *bias; /* [d_out], or NULL */
    bool transposed;
    const int32_t *index;
    int32_t divisor;
    int64_t first;
} mz_matrix;

/* Rows of f32 activations: row i is x + ld * (index != NULL ? index[first + i] / divisor : first +
 * i). With `transposed` those are the columns instead: value k of row i is value column + i of the
 * line that would be row k. */
typedef struct mz_row_source {
    const float *x;
    int64_t ld;
    const int32_t *index;
    int32_t divisor;
    int64_t first;
    bool transposed;
    int64_t column;
} mz_row_source;

/* Column k of a transposed matrix, and row (or line) i of a source. */
const uint8_t *mz_matrix_line(const mz_matrix *w, int64_t k);
const float *mz_source_row(const mz_row_source *src, int64_t i);

/* Activations in the form that the kernels of one table read: padded with zeros to row_step rows
 * and width_step columns. 64-byte aligned. */
typedef struct mz_packed {
    uint8_t *data;
    int64_t n_rows, width;
    mz_precision precision;
    int block; /* of INT8 precision: values in a block; 0 for hidden values: f32 rows, `width`
                  apart, which the next table packs */
} mz_packed;

/* A constant table. Panel p is weight rows [MZ_PANEL p, MZ_PANEL (p + 1)), the last one shorter.
 * `scratch` is the calling thread's own, thread_bytes(d_in) long and 64-byte aligned. One row's
 * result depends neither on the other rows nor on the range of panels. */
typedef struct mz_product_kernels {
    int64_t row_step, width_step;
    int64_t segment_rows;   /* most rows of a segment, at most MZ_SEGMENT_ROWS */
    size_t segment_bytes;   /* most bytes of a segment's packed rows, for the cache's sake */
    int64_t value_bytes[2]; /* bytes of a packed value, F32 and BF16 */
    size_t (*thread_bytes)(int64_t d_in);
    /* Packs rows [begin, end) of src to the same rows of dst; begin is a multiple of row_step, and
     * so is end unless it is the last row. */
    void (*pack)(const mz_packed *dst, const mz_row_source *src, int64_t begin, int64_t end);
    /* y[i, o] = sum over k of w[o, k] x[i, k] + bias[o] for all rows i and the outputs o of the
     * panels; with `accumulate` that is added to y. */
    void (*product)(const mz_matrix *w, int64_t panel_begin, int64_t panel_end, const mz_packed *x,
                    float *y, int64_t ld_y, bool accumulate, void *scratch);
    /* hidden[i, o] = act(gate x + bias) * (up x + bias), likewise, in packed form. */
    void (*gate_up)(const mz_matrix *gate, const mz_matrix *up, mz_activation activation,
                    int64_t panel_begin, int64_t panel_end, const mz_packed *x,
                    const mz_packed *hidden, void *scratch);
} mz_product_kernels;

extern const mz_product_kernels mz_product_kernels_scalar;
extern const mz_product_kernels mz_product_kernels_avx2;
extern const mz_product_kernels mz_product_kernels_avx512;
extern const mz_product_kernels mz_product_kernels_avx512_bf16; /* of bf16 precision only */
extern const mz_product_kernels mz_product_kernels_amx;

/* Bytes of an element's row: of `n` elements, whole blocks. */
size_t mz_elements_bytes(mz_dtype dtype, int64_t n);

/* The table for a matrix of this type. AMX has none for block-quantised types. */
const mz_product_kernels *mz_product_kernels_for(mz_isa isa, mz_dtype dtype,
                                                 mz_precision precision);

/* The precision that a matrix of this type is multiplied with where `precision` is asked for. */
mz_precision mz_product_precision(mz_dtype dtype, mz_precision precision);

/* Bytes of packed rows of x's size; a multiple of 64. */
size_t mz_packed_bytes(const mz_product_kernels *kernels, const mz_packed *x);

/* ---- Running them ---- */

/* Rows of one x through one kind of matrices: a plain product (gate.d_out 0) or a gated
 * feed-forward. For experts
 * `*_data` give each expert's matrix, and rows are those of its group in the sorted order. */
typedef struct mz_product_set {
    mz_matrix gate, up, out;
    mz_activation activation; /* of a feed-forward */
    const void *const *gate_data, *up_data,
        *out_data;                 /* [n_experts], or NULL: gate, up and out themselves */
    const int32_t *expert_offsets; /* [n_experts + 1], or NULL */
    int32_t n_experts;
    int64_t n_rows;
    mz_row_source source;
    const mz_tensor *y;
    const mz_matrix *also; /* [n_also] more matrices of the same x, which `out`'s table multiplies
                              in the same packed form */
    const mz_tensor *const *also_y;
    int n_also;
    bool accumulate;      /* add to y; not for a feed-forward's hidden values */
    float *const *y_data; /* [n_experts], or NULL; see below */
    int64_t ld_y;
} mz_product_set;

/* A weight gradient is a set with y_data: expert e's n_rows x out.d_out sums are added to
 * y_data[e]. Source and `out` are transposed, and both the source's lines and the matrix's are the
 * rows of the expert's group, of all out.d_in rows without groups. They are taken in
 * MZ_GRADIENT_ROWS at a time, in order. */

/* The sizes of a set that its scratch depends on; d_ff 0 for a plain product. */
typedef struct mz_product_size {
    int64_t n_rows, d_in, d_ff;
    int32_t n_experts;
} mz_product_size;

enum { MZ_PRODUCT_SETS = 2 };

/* Runs one or two sets, whose work is shared among the threads together. Takes scratch from the
 * stream's arena and gives it back. Errors: LIMIT; UNSUPPORTED when a set's matrices differ in
 * precision. */
mz_status mz_products_run(mz_stream *s, const mz_product_set *sets, int n_sets);

/* Bytes that mz_products_run takes at most, for any routing, weight type and precision. */
size_t mz_products_scratch(const mz_stream *s, const mz_product_size *sizes, int n_sets);

#endif
