/* Matrix products without intrinsics: the portable version, always built. Four sums side by side,
 * which a compiler may or may not turn into vectors. */
#include <stdbool.h>
#include <string.h>

#include "core/half.h"
#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/rows_internal.h"

enum { VLEN = 4, ROWS = 2 };

#define ROW_KERNELS mz_row_kernels_scalar

typedef struct vec {
    float lane[VLEN];
} vec;

MZ_KERNEL_INLINE vec v_zero(void) {
    return (vec){{0, 0, 0, 0}};
}

MZ_KERNEL_INLINE vec v_load(const void *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    memcpy(p, &x, sizeof x);
}

MZ_KERNEL_INLINE vec v_load_f16(const void *p) {
    uint16_t h[VLEN];
    memcpy(h, p, sizeof h);
    return (vec){
        {mz_f16_to_f32(h[0]), mz_f16_to_f32(h[1]), mz_f16_to_f32(h[2]), mz_f16_to_f32(h[3])}};
}

MZ_KERNEL_INLINE vec v_load_bf16(const void *p) {
    uint16_t h[VLEN];
    memcpy(h, p, sizeof h);
    uint32_t u[VLEN];
    for (int l = 0; l < VLEN; l++) {
        u[l] = (uint32_t)h[l] << 16;
    }
    return v_load(u);
}

MZ_KERNEL_INLINE vec v_round_bf16(vec x) {
    for (int l = 0; l < VLEN; l++) {
        x.lane[l] = mz_bf16_to_f32(mz_bf16_from_f32(x.lane[l]));
    }
    return x;
}

/* Rounded twice, because fmaf without hardware is a slow library call. */
MZ_KERNEL_INLINE vec v_fma(vec a, vec b, vec c) {
    for (int l = 0; l < VLEN; l++) {
        c.lane[l] += a.lane[l] * b.lane[l];
    }
    return c;
}

/* The sums of the lanes of a, b, c and d. */
MZ_KERNEL_INLINE void v_sum_4(vec a, vec b, vec c, vec d, float *out) {
    const vec x[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        out[i] = (x[i].lane[0] + x[i].lane[2]) + (x[i].lane[1] + x[i].lane[3]);
    }
}

#include "core/ops/cpu/products_dot.inc"

const mz_product_kernels mz_product_kernels_scalar = {
    .row_step = 1,
    .width_step = VLEN,
    .value_bytes = {4, 4},
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
