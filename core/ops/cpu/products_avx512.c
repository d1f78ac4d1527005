/* Matrix products for AVX-512: 16 lanes, 32 registers. */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/products_vec512.inc"
#include "core/ops/cpu/rows_internal.h"

/* 2 vectors of rows x 12 tokens fill 24 of the 32 registers. */
enum { VLEN = 16, UNIT_VALUES = 1, TILE_VECS = 2, TOKEN_STEP = 4 };

typedef __m512 units;

MZ_KERNEL_INLINE vec v_multiply_add(units a, units b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

MZ_KERNEL_INLINE units u_zero(void) {
    return _mm512_setzero_ps();
}

MZ_KERNEL_INLINE units u_load(const void *p) {
    return _mm512_loadu_ps(p);
}

MZ_KERNEL_INLINE void u_store(void *p, units x) {
    _mm512_storeu_ps(p, x);
}

MZ_KERNEL_INLINE units u_broadcast(const void *p) {
    return _mm512_set1_ps(*(const float *)p);
}

/* To nearest, ties to even; a NaN stays one. */
MZ_KERNEL_INLINE units round_bf16(units x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(u, odd), _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_mask_mov_ps(_mm512_castsi512_ps(rounded), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                              x);
}

MZ_KERNEL_INLINE units u_from_f32(const void *p, mz_precision precision) {
    const units x = _mm512_loadu_ps(p);
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_f16(const void *p, mz_precision precision) {
    const units x = _mm512_cvtph_ps(_mm256_loadu_si256(p));
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

MZ_KERNEL_INLINE void u_join(units lines[UNIT_VALUES]) {
    (void)lines; /* a unit is one value */
}

MZ_KERNEL_INLINE void u_transpose(units x[VLEN]) {
    transpose_16(x);
}

MZ_KERNEL_INLINE void prefetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

#include "core/ops/cpu/products_panels.inc"

const mz_product_kernels mz_product_kernels_avx512 = {
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
