/* Matrix products without intrinsics: the portable version, always built. Four sums side by side,
 * which a compiler may or may not turn into vectors. */
#include <stdbool.h>
#include <string.h>

#include "core/half.h"
#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/rows_internal.h"

enum { VLEN = 4, UNIT_VALUES = 1, TILE_VECS = 1, TOKEN_STEP = 1 };

#define ROW_KERNELS mz_row_kernels_scalar

typedef struct vec {
    float lane[VLEN];
} vec;
typedef vec units;

MZ_KERNEL_INLINE vec v_zero(void) {
    return (vec){{0, 0, 0, 0}};
}

MZ_KERNEL_INLINE vec v_load(const float *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

MZ_KERNEL_INLINE void v_store(float *p, vec x) {
    memcpy(p, &x, sizeof x);
}

MZ_KERNEL_INLINE vec v_add(vec a, vec b) {
    for (int l = 0; l < VLEN; l++) {
        a.lane[l] += b.lane[l];
    }
    return a;
}

/* Rounded twice, because fmaf without hardware is a slow library call. */
MZ_KERNEL_INLINE vec v_multiply_add(units a, units b, vec c) {
    for (int l = 0; l < VLEN; l++) {
        c.lane[l] += a.lane[l] * b.lane[l];
    }
    return c;
}

MZ_KERNEL_INLINE units u_zero(void) {
    return v_zero();
}

MZ_KERNEL_INLINE units u_load(const void *p) {
    units x;
    memcpy(&x, p, sizeof x);
    return x;
}

MZ_KERNEL_INLINE void u_store(void *p, units x) {
    memcpy(p, &x, sizeof x);
}

MZ_KERNEL_INLINE units u_broadcast(const void *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return (units){{x, x, x, x}};
}

MZ_KERNEL_INLINE units round_bf16(units x) {
    for (int l = 0; l < VLEN; l++) {
        x.lane[l] = mz_bf16_to_f32(mz_bf16_from_f32(x.lane[l]));
    }
    return x;
}

MZ_KERNEL_INLINE units u_from_f32(const void *p, mz_precision precision) {
    const units x = u_load(p);
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_f16(const void *p, mz_precision precision) {
    uint16_t h[VLEN];
    memcpy(h, p, sizeof h);
    units x;
    for (int l = 0; l < VLEN; l++) {
        x.lane[l] = mz_f16_to_f32(h[l]);
    }
    return precision == MZ_PRECISION_BF16 ? round_bf16(x) : x;
}

MZ_KERNEL_INLINE units u_from_bf16(const void *p) {
    uint16_t h[VLEN];
    memcpy(h, p, sizeof h);
    units x;
    for (int l = 0; l < VLEN; l++) {
        x.lane[l] = mz_bf16_to_f32(h[l]);
    }
    return x;
}

MZ_KERNEL_INLINE void u_join(units lines[UNIT_VALUES]) {
    (void)lines; /* a unit is one value */
}

MZ_KERNEL_INLINE void u_transpose(units x[VLEN]) {
    for (int i = 0; i < VLEN; i++) {
        for (int j = 0; j < i; j++) {
            const float v = x[i].lane[j];
            x[i].lane[j] = x[j].lane[i];
            x[j].lane[i] = v;
        }
    }
}

MZ_KERNEL_INLINE void prefetch(const void *p) {
    (void)p;
}

#include "core/ops/cpu/products_panels.inc"

const mz_product_kernels mz_product_kernels_scalar = {
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
