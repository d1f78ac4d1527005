/* Products of block-quantised weights for AVX2: 8 lanes, 16 registers. Numbers of a weight without
 * sign times bytes of x are added in 16 bits as long as those hold them, then in 32. Numbers of
 * eight bits are two of four. */
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/rows_internal.h"

/* 6 rows of x: their sums in 16 bits fill 6 registers, those in f32 other 6. */
enum { GROUP = 8, TOKENS = 6, PLANE_TOKENS = 4, BYTE_PLANES = 2 };

#define ROW_KERNELS mz_row_kernels_avx2

typedef __m256 vec;
typedef __m256i ivec;

#include "core/ops/cpu/quantised_vec256.inc"

MZ_KERNEL_INLINE vec v_zero(void) {
    return _mm256_setzero_ps();
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}

MZ_KERNEL_INLINE vec v_broadcast(const void *p) {
    return _mm256_broadcast_ss(p);
}

MZ_KERNEL_INLINE vec v_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE vec v_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE vec v_from_i(ivec x) {
    return _mm256_cvtepi32_ps(x);
}

MZ_KERNEL_INLINE ivec i_zero(void) {
    return _mm256_setzero_si256();
}

MZ_KERNEL_INLINE ivec i_load(const void *p) {
    return _mm256_loadu_si256(p);
}

MZ_KERNEL_INLINE ivec i_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
}

MZ_KERNEL_INLINE ivec i_add(ivec a, ivec b) {
    return _mm256_add_epi32(a, b);
}

MZ_KERNEL_INLINE ivec i_sub(ivec a, ivec b) {
    return _mm256_sub_epi32(a, b);
}

MZ_KERNEL_INLINE ivec i_shift_left(ivec a, int n) {
    return _mm256_slli_epi32(a, n);
}

MZ_KERNEL_INLINE ivec i_multiply_pairs(ivec a, ivec b) {
    return _mm256_madd_epi16(a, b);
}

/* Steps of four values whose sums of pairs stay below 2^15: 2 * 15 * 127 * 8, 2 * 31 * 127 * 4, 2 *
 * 63 * 127 * 2. */
MZ_KERNEL_INLINE int steps_in_16_bits(int bits) {
    return bits == 4 ? 8 : bits == 5 ? 4 : 2;
}

MZ_KERNEL_INLINE ivec dot_first(ivec w, ivec x) {
    return _mm256_maddubs_epi16(w, x);
}

MZ_KERNEL_INLINE ivec dot_next(ivec sum, ivec w, ivec x) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
}

MZ_KERNEL_INLINE ivec dot_scaled(ivec sum, ivec scale) {
    return _mm256_madd_epi16(sum, scale);
}

MZ_KERNEL_INLINE ivec unit_scale(int scale) {
    return _mm256_set1_epi16((int16_t)scale);
}

/* Two numbers of 16 bits. */
MZ_KERNEL_INLINE int32_t pair_lane(int a, int b) {
    return (int32_t)((uint32_t)(uint16_t)a | (uint32_t)(uint16_t)b << 16);
}

MZ_KERNEL_INLINE int32_t part_scale_lane(int scale) {
    return pair_lane(scale, scale);
}

#include "core/ops/cpu/quantised_tiles.inc"

#include "core/ops/cpu/quantised_table.inc"

const mz_product_kernels mz_quantised_kernels_avx2 = {
    .row_step = 1,
    .width_step = 1,
    .segment_rows = MZ_SEGMENT_ROWS,
    .segment_bytes = 4 << 20,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
