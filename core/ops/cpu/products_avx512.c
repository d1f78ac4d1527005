/* Matrix products for AVX-512: 16 lanes, 32 registers. Also serves avx512-bf16: vdpbf16ps does half
 * the work of the FMA in the same time there, so that widening bf16 weights is the faster way. */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/rows_internal.h"

/* 6 rows x 4 tokens fill 24 of the 32 registers. */
enum { VLEN = 16, ROWS = 6 };

#define ROW_KERNELS mz_row_kernels_avx512

typedef __m512 vec;

MZ_KERNEL_INLINE vec v_zero(void) {
    return _mm512_setzero_ps();
}

MZ_KERNEL_INLINE vec v_load(const void *p) {
    return _mm512_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}

MZ_KERNEL_INLINE vec v_load_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

MZ_KERNEL_INLINE vec v_load_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

/* To nearest, ties to even; a NaN stays one. */
MZ_KERNEL_INLINE vec v_round_bf16(vec x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(u, odd), _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_mask_mov_ps(_mm512_castsi512_ps(rounded), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                              x);
}

MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* The sums of the lanes of a, b, c and d. */
MZ_KERNEL_INLINE void v_sum_4(vec a, vec b, vec c, vec d, float *out) {
    const vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d ab_d = _mm512_castps_pd(ab);
    const __m512d cd_d = _mm512_castps_pd(cd);
    const vec abcd = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_d, cd_d)),
                                   _mm512_castpd_ps(_mm512_unpackhi_pd(ab_d, cd_d)));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

#include "core/ops/cpu/products_dot.inc"

const mz_product_kernels mz_product_kernels_avx512 = {
    .row_step = 1,
    .width_step = VLEN,
    .value_bytes = {4, 4},
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
