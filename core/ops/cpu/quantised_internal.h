/* Products of block-quantised weights with activations in 8 bits: the form of the activations, and
 * what the kernels of the instruction sets share.
 *
 * A row of activations is cut in blocks of 32 values, or of 256 for the K types. Of each block d =
 * max |x| / 127 and q = x / d, rounded to nearest, ties to even; a block with a value that is not
 * finite has d NaN and q 0, one whose values are all below 2^-100 has d 0.
 *
 * An output is the sum over blocks, in order, in f32:
 *   32:  sum = fma(w_d * d, sum of w_q q, sum), for types with a minimum m then
 *        sum = fma(m, d * sum of q, sum)
 *   256: sum = fma(w_d * d, sum of scale w_q q, sum), for types with a minimum then
 *        sum = fma(-(w_dmin * d), sum of minimum q, sum)
 * where the inner sums are exact, in integers. Thus the same bits come out for one row and for
 * many, and from all instruction sets with a fused multiply-add; the scalar kernels round fma
 * twice. */
#ifndef MZ_CORE_OPS_CPU_QUANTISED_INTERNAL_H
#define MZ_CORE_OPS_CPU_QUANTISED_INTERNAL_H

#include "core/ops/cpu/products_internal.h"

enum {
    MZ_SHORT_BLOCK = 32,
    MZ_LONG_BLOCK = 256,
};

/* Length of the blocks of activations that a weight type pairs with, 0 for a type that has no
 * kernels here: it is multiplied as f32. */
int mz_quantised_block(mz_dtype dtype);

/* Where the parts of a packed row lie, in bytes from its begin, which is 64-byte aligned. q comes
 * first, int8 [width]. */
typedef struct mz_quantised_row {
    size_t d;      /* f32 [n_blocks] */
    size_t scaled; /* 32: f32 [n_blocks], d * sum of q */
    size_t sums;   /* 32: i32 [n_blocks], -8 * sum of q; 256: i16 [n_blocks][8], of each 32 q */
    size_t halves; /* 256: i16 [n_blocks][16], sums of each 16 q */
    size_t bytes;  /* of a row */
} mz_quantised_row;

mz_quantised_row mz_quantised_row_of(int64_t width, int block);

/* Scales and minima, of 6 bits each, of the eight parts of a Q4_K or Q5_K block. */
void mz_k_scales(const uint8_t *packed, uint8_t scales[8], uint8_t minima[8]);

extern const mz_product_kernels mz_quantised_kernels_scalar;
extern const mz_product_kernels mz_quantised_kernels_avx2;
extern const mz_product_kernels mz_quantised_kernels_avx512_bf16;

#endif
