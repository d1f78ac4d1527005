/* Matrix products for AVX2, FMA and F16C: 8 lanes, 16 registers. */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/rows_internal.h"

/* 2 vectors of rows x 6 tokens fill 12 of the 16 registers. */
enum { VLEN = 8, UNIT_VALUES = 1, TILE_VECS = 2, TOKEN_STEP = 2 };

#define ROW_KERNELS mz_row_kernels_avx2

typedef __m256 vec;
typedef __m256 units;

MZ_KERNEL_INLINE vec v_zero(void) {
    return _mm256_setzero_ps();
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}

MZ_KERNEL_INLINE vec v_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}

MZ_KERNEL_INLINE vec v_multiply_add(units a, units b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE units u_zero(void) {
    return _mm256_setzero_ps();
}

MZ_KERNEL_INLINE units u_load(const void *p) {
    return _mm256_loadu_ps(p);
}

MZ_KERNEL_INLINE void u_store(void *p, units x) {
    _mm256_storeu_ps(p, x);
}

MZ_KERNEL_INLINE units u_broadcast(const void *p) {
    return _mm256_set1_ps(*(const float *)p);
}

/* To nearest, ties to even; a NaN stays one. */
MZ_KERNEL_INLINE units round_bf16(units x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_and_si256(sum, _mm256_set1_epi32((int)0xffff0000u));
    return _mm256_blendv_ps(_mm256_castsi256_ps(rounded), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

MZ_KERNEL_INLINE units u_from_f32(const void *p, mz_precision precision) {
    const units x = _mm256_loadu_ps(p);
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_f16(const void *p, mz_precision precision) {
    const units x = _mm256_cvtph_ps(_mm_loadu_si128(p));
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

MZ_KERNEL_INLINE void u_join(units lines[UNIT_VALUES]) {
    (void)lines; /* a unit is one value */
}

MZ_KERNEL_INLINE void u_transpose(units x[VLEN]) {
    __m256 t[VLEN];
    for (int i = 0; i < VLEN; i += 4) {
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(x[i], x[i + 1]));
        const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(x[i], x[i + 1]));
        const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(x[i + 2], x[i + 3]));
        const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(x[i + 2], x[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
        x[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
    }
}

MZ_KERNEL_INLINE void prefetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

#include "core/ops/cpu/products_panels.inc"

const mz_product_kernels mz_product_kernels_avx2 = {
    .row_step = 1,
    .width_step = VLEN,
    .value_bytes = {4, 4},
    .segment_rows = MZ_SEGMENT_ROWS,
    .segment_bytes = 4 << 20,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
