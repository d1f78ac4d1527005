/* Products of block-quantised weights for AVX-512 with VNNI: tiles of 16 lanes, where vpdpbusd adds
 * four products a lane in 32 bits. Single rows are read with 256-bit instructions: there is memory
 * what bounds them. */
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/rows_internal.h"

/* 9 rows of x: their sums of a block and those in f32 fill 18 of 32 registers, long blocks' scaled
 * sums another 9. */
enum { GROUP = 16, TOKENS = 9, PLANE_TOKENS = 9, BYTE_PLANES = 1 };

#define ROW_KERNELS mz_row_kernels_avx512

typedef __m512 vec;
typedef __m512i ivec;

#include "core/ops/cpu/quantised_vec256.inc"

MZ_KERNEL_INLINE vec v_zero(void) {
    return _mm512_setzero_ps();
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}

MZ_KERNEL_INLINE vec v_broadcast(const void *p) {
    return _mm512_set1_ps(*(const float *)p);
}

MZ_KERNEL_INLINE vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE vec v_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE vec v_from_i(ivec x) {
    return _mm512_cvtepi32_ps(x);
}

MZ_KERNEL_INLINE ivec i_zero(void) {
    return _mm512_setzero_si512();
}

MZ_KERNEL_INLINE ivec i_load(const void *p) {
    return _mm512_loadu_si512(p);
}

MZ_KERNEL_INLINE ivec i_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm512_set1_epi32(x);
}

MZ_KERNEL_INLINE ivec i_add(ivec a, ivec b) {
    return _mm512_add_epi32(a, b);
}

MZ_KERNEL_INLINE ivec i_sub(ivec a, ivec b) {
    return _mm512_sub_epi32(a, b);
}

MZ_KERNEL_INLINE ivec i_shift_left(ivec a, int n) {
    return _mm512_slli_epi32(a, (unsigned)n);
}

MZ_KERNEL_INLINE ivec i_multiply_pairs(ivec a, ivec b) {
    return _mm512_madd_epi16(a, b);
}

/* Sums have 32 bits from the first step on. */
MZ_KERNEL_INLINE int steps_in_16_bits(int bits) {
    (void)bits;
    return MZ_SHORT_BLOCK / 4;
}

MZ_KERNEL_INLINE ivec dot_first(ivec w, ivec x) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x);
}

MZ_KERNEL_INLINE ivec dot_next(ivec sum, ivec w, ivec x) {
    return _mm512_dpbusd_epi32(sum, w, x);
}

MZ_KERNEL_INLINE ivec dot_scaled(ivec sum, ivec scale) {
    return _mm512_mullo_epi32(sum, scale);
}

MZ_KERNEL_INLINE ivec unit_scale(int scale) {
    return _mm512_set1_epi32(scale);
}

/* Two numbers of 16 bits. */
MZ_KERNEL_INLINE int32_t pair_lane(int a, int b) {
    return (int32_t)((uint32_t)(uint16_t)a | (uint32_t)(uint16_t)b << 16);
}

MZ_KERNEL_INLINE int32_t part_scale_lane(int scale) {
    return scale;
}

#include "core/ops/cpu/quantised_tiles.inc"

#include "core/ops/cpu/quantised_table.inc"

const mz_product_kernels mz_quantised_kernels_avx512_bf16 = {
    .row_step = 1,
    .width_step = 1,
    .segment_rows = MZ_SEGMENT_ROWS,
    .segment_bytes = 4 << 20,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
