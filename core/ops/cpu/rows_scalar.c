/* Row kernels without intrinsics: the portable version, always built. */
#include "core/half.h"
#include "core/ops/cpu/rows_internal.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Vectors of positions or columns that 1, up to 3 and up to 6 queries are multiplied with at once.
 */
enum { VLEN = 1, VECS_1 = 8, VECS_3 = 4, VECS_4 = 3, VECS_6 = 2 };

typedef float vec;

MZ_KERNEL_INLINE vec v_set1(float x) {
    return x;
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return *p;
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    *p = x;
}

/* The first n (1 to VLEN) lanes; the others are 0. */
MZ_KERNEL_INLINE vec v_load_n(const float *p, int64_t n) {
    (void)n;
    return *p;
}

MZ_KERNEL_INLINE void v_store_n(float *p, vec x, int64_t n) {
    (void)n;
    *p = x;
}

/* VLEN elements of a 16-bit or an 8-bit type. */
MZ_KERNEL_INLINE vec v_load_f16(const uint16_t *p) {
    return mz_f16_to_f32(*p);
}

MZ_KERNEL_INLINE vec v_load_i8(const int8_t *p) {
    return (float)*p;
}

/* Asks for a line that will be read; any address will do. */
MZ_KERNEL_INLINE void v_prefetch(const char *p) {
    (void)p;
}

/* To nearest, ties to even. */
MZ_KERNEL_INLINE void v_store_f16(uint16_t *p, vec x) {
    *p = mz_f16_from_f32(x);
}

MZ_KERNEL_INLINE vec v_add(vec a, vec b) {
    return a + b;
}

MZ_KERNEL_INLINE vec v_sub(vec a, vec b) {
    return a - b;
}

MZ_KERNEL_INLINE vec v_mul(vec a, vec b) {
    return a * b;
}

MZ_KERNEL_INLINE vec v_div(vec a, vec b) {
    return a / b;
}

/* a * b + c; rounded twice, because fmaf without hardware is a slow library call. */
MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return a * b + c;
}

/* The larger; b where either is NaN. */
MZ_KERNEL_INLINE vec v_max(vec a, vec b) {
    return a > b ? a : b;
}

MZ_KERNEL_INLINE vec v_min(vec a, vec b) {
    return a < b ? a : b;
}

/* x in the first n lanes (any n), -inf in the others. */
MZ_KERNEL_INLINE vec v_keep_n(vec x, int64_t n) {
    return n > 0 ? x : -INFINITY;
}

/* -inf in the first n lanes (any n), x in the others. */
MZ_KERNEL_INLINE vec v_drop_n(vec x, int64_t n) {
    return n > 0 ? -INFINITY : x;
}

/* 2^(b - 127) for b the low 9 bits of t's representation, 0 (gives 0) to 255 (gives infinity). */
MZ_KERNEL_INLINE vec v_low_bits_to_exponent(vec t) {
    uint32_t bits = 0;
    memcpy(&bits, &t, sizeof bits);
    bits <<= 23;
    memcpy(&t, &bits, sizeof t);
    return t;
}

MZ_KERNEL_INLINE float v_sum(vec x) {
    return x;
}

MZ_KERNEL_INLINE float v_max_lane(vec x) {
    return x;
}

/* to[c, r] = from[r, c] for 4 rows and columns. */
MZ_KERNEL_INLINE void transpose_4x4(float *to, int64_t to_stride, const float *from,
                                    int64_t from_stride) {
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < 4; c++) {
            to[c * to_stride + r] = from[r * from_stride + c];
        }
    }
}

#include "core/ops/cpu/rows_kernels.inc"

#include "core/ops/cpu/attention_kernels.inc"

#include "core/ops/cpu/rows_backward_kernels.inc"
#include "core/ops/cpu/self_attention_kernels.inc"

const mz_row_kernels mz_row_kernels_scalar = {
    .norm = norm_row,
    .rope = rope_row,
    .softmax = softmax_row,
    .activate = activate_row,
    .add = add_row,
    .exp = exp_row,
    .exp_sum = exp_sum_row,
    .combine = combine_row,
    .to_f16 = to_f16_row,
    .to_int8 = to_int8_block,
    .attention_span = attention_span,
    .attention_merge = attention_merge,
    .attention_finish = attention_finish,
    .dot = dot_row,
    .add_scaled = add_scaled_row,
    .add_exp = add_exp_row,
    .norm_backward = norm_backward_row,
    .rope_backward = rope_backward_row,
    .softmax_backward = softmax_backward_row,
    .activate_backward = activate_backward_row,
    .self_attention = self_attention_rows,
    .self_attention_backward = self_attention_backward_rows,
};
