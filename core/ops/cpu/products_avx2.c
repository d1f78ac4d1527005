/* Matrix products for AVX2, FMA and F16C: 8 lanes, 16 registers. */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/rows_internal.h"

/* 3 rows x 4 tokens fill 12 of the 16 registers. */
enum { VLEN = 8, ROWS = 3 };

#define ROW_KERNELS mz_row_kernels_avx2

typedef __m256 vec;

MZ_KERNEL_INLINE vec v_zero(void) {
    return _mm256_setzero_ps();
}

MZ_KERNEL_INLINE vec v_load(const void *p) {
    return _mm256_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}

MZ_KERNEL_INLINE vec v_load_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

MZ_KERNEL_INLINE vec v_load_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

/* To nearest, ties to even; a NaN stays one. */
MZ_KERNEL_INLINE vec v_round_bf16(vec x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_and_si256(sum, _mm256_set1_epi32((int)0xffff0000u));
    return _mm256_blendv_ps(_mm256_castsi256_ps(rounded), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* The sums of the lanes of a, b, c and d. */
MZ_KERNEL_INLINE void v_sum_4(vec a, vec b, vec c, vec d, float *out) {
    const vec abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

#include "core/ops/cpu/products_dot.inc"

const mz_product_kernels mz_product_kernels_avx2 = {
    .row_step = 1,
    .width_step = VLEN,
    .value_bytes = {4, 4},
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
