/* Row kernels for AVX2 and FMA: 8 lanes, 16 registers. */
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/rows_internal.h"

/* Vectors of positions or columns that 1, up to 3 and up to 6 queries are multiplied with at once:
 * 8 to 12 sums, of the 16 registers, hide the latency of two multiply-adds a cycle. */
enum { VLEN = 8, VECS_1 = 8, VECS_3 = 4, VECS_4 = 3, VECS_6 = 2 };

typedef __m256 vec;

/* All ones in the first n lanes. */
MZ_KERNEL_INLINE __m256i first_lanes(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

MZ_KERNEL_INLINE vec v_set1(float x) {
    return _mm256_set1_ps(x);
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}

/* The first n (1 to VLEN) lanes; the others are 0. */
MZ_KERNEL_INLINE vec v_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}

MZ_KERNEL_INLINE void v_store_n(float *p, vec x, int64_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), x);
}

/* VLEN elements of a 16-bit or an 8-bit type. */
MZ_KERNEL_INLINE vec v_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

MZ_KERNEL_INLINE vec v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

/* Asks for a line that will be read; any address will do. */
MZ_KERNEL_INLINE void v_prefetch(const char *p) {
    _mm_prefetch(p, _MM_HINT_T0);
}

/* To nearest, ties to even. */
MZ_KERNEL_INLINE void v_store_f16(uint16_t *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

MZ_KERNEL_INLINE vec v_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}

MZ_KERNEL_INLINE vec v_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}

MZ_KERNEL_INLINE vec v_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}

MZ_KERNEL_INLINE vec v_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* The larger; b where either is NaN. */
MZ_KERNEL_INLINE vec v_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

MZ_KERNEL_INLINE vec v_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}

/* x in the first n lanes (any n), -inf in the others. */
MZ_KERNEL_INLINE vec v_keep_n(vec x, int64_t n) {
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(first_lanes(n)));
}

/* -inf in the first n lanes (any n), x in the others. */
MZ_KERNEL_INLINE vec v_drop_n(vec x, int64_t n) {
    return _mm256_blendv_ps(x, _mm256_set1_ps(-INFINITY), _mm256_castsi256_ps(first_lanes(n)));
}

/* 2^(b - 127) for b the low 9 bits of t's representation, 0 (gives 0) to 255 (gives infinity). */
MZ_KERNEL_INLINE vec v_low_bits_to_exponent(vec t) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}

MZ_KERNEL_INLINE float v_sum(vec x) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

MZ_KERNEL_INLINE float v_max_lane(vec x) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
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

const mz_row_kernels mz_row_kernels_avx2 = {
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
