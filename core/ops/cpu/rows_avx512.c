/* Row kernels for AVX-512: 16 lanes, 32 registers; also for the levels above it. */
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/rows_internal.h"

/* Vectors of positions or columns that 1, up to 3 and up to 6 queries are multiplied with at once:
 * up to 24 sums, of the 32 registers. Four vectors are a page. */
enum { VLEN = 16, VECS_1 = 4, VECS_3 = 4, VECS_4 = 4, VECS_6 = 4 };

typedef __m512 vec;

MZ_KERNEL_INLINE __mmask16 first_lanes(int64_t n) {
    return (__mmask16)(n >= VLEN ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}

MZ_KERNEL_INLINE vec v_set1(float x) {
    return _mm512_set1_ps(x);
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}

/* The first n (1 to VLEN) lanes; the others are 0. */
MZ_KERNEL_INLINE vec v_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

MZ_KERNEL_INLINE void v_store_n(float *p, vec x, int64_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}

/* VLEN elements of a 16-bit or an 8-bit type. */
MZ_KERNEL_INLINE vec v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

MZ_KERNEL_INLINE vec v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

/* Asks for a line that will be read; any address will do. */
MZ_KERNEL_INLINE void v_prefetch(const char *p) {
    _mm_prefetch(p, _MM_HINT_T0);
}

/* To nearest, ties to even. */
MZ_KERNEL_INLINE void v_store_f16(uint16_t *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

MZ_KERNEL_INLINE vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}

MZ_KERNEL_INLINE vec v_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}

MZ_KERNEL_INLINE vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}

MZ_KERNEL_INLINE vec v_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* The larger; b where either is NaN. */
MZ_KERNEL_INLINE vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

MZ_KERNEL_INLINE vec v_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}

/* x in the first n lanes (any n), -inf in the others. */
MZ_KERNEL_INLINE vec v_keep_n(vec x, int64_t n) {
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), first_lanes(n), x);
}

/* -inf in the first n lanes (any n), x in the others. */
MZ_KERNEL_INLINE vec v_drop_n(vec x, int64_t n) {
    return _mm512_mask_mov_ps(x, first_lanes(n), _mm512_set1_ps(-INFINITY));
}

/* 2^(b - 127) for b the low 9 bits of t's representation, 0 (gives 0) to 255 (gives infinity). */
MZ_KERNEL_INLINE vec v_low_bits_to_exponent(vec t) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}

MZ_KERNEL_INLINE float v_sum(vec x) {
    return _mm512_reduce_add_ps(x);
}

MZ_KERNEL_INLINE float v_max_lane(vec x) {
    return _mm512_reduce_max_ps(x);
}

/* to[c, r] = from[r, c] for 4 rows and columns. */
MZ_KERNEL_INLINE void transpose_4x4(float *to, int64_t to_stride, const float *from,
                                    int64_t from_stride) {
    const __m128 a = _mm_loadu_ps(from);
    const __m128 b = _mm_loadu_ps(from + from_stride);
    const __m128 c = _mm_loadu_ps(from + 2 * from_stride);
    const __m128 d = _mm_loadu_ps(from + 3 * from_stride);
    const __m128 ab_low = _mm_unpacklo_ps(a, b);
    const __m128 ab_high = _mm_unpackhi_ps(a, b);
    const __m128 cd_low = _mm_unpacklo_ps(c, d);
    const __m128 cd_high = _mm_unpackhi_ps(c, d);
    _mm_storeu_ps(to, _mm_movelh_ps(ab_low, cd_low));
    _mm_storeu_ps(to + to_stride, _mm_movehl_ps(cd_low, ab_low));
    _mm_storeu_ps(to + 2 * to_stride, _mm_movelh_ps(ab_high, cd_high));
    _mm_storeu_ps(to + 3 * to_stride, _mm_movehl_ps(cd_high, ab_high));
}

#include "core/ops/cpu/rows_kernels.inc"

#include "core/ops/cpu/attention_kernels.inc"

#include "core/ops/cpu/rows_backward_kernels.inc"
#include "core/ops/cpu/self_attention_kernels.inc"

const mz_row_kernels mz_row_kernels_avx512 = {
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
