/* Products of block-quantised weights without intrinsics: the portable version, always built. A
 * block of a weight row is read into plain numbers and multiplied with every row of x. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/half.h"
#include "core/ops/cpu/quantised_internal.h"
#include "core/ops/cpu/rows_internal.h"

#define ROW_KERNELS mz_row_kernels_scalar

/* Numbers of a weight block, the scale of each part of 16 of them (1 in blocks of 32), and what
 * stands for the minimum: minima of the parts of 32, or m itself. */
typedef struct weight_block {
    int32_t q[MZ_LONG_BLOCK];
    int32_t scales[16];
    int32_t minima[8];
    float d, m;
} weight_block;

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return mz_f16_to_f32(h);
}

static void read_short(weight_block *out, mz_dtype dtype, const uint8_t *b) {
    const bool has_minimum = dtype == MZ_DTYPE_Q4_1 || dtype == MZ_DTYPE_Q5_1;
    const bool five = dtype == MZ_DTYPE_Q5_0 || dtype == MZ_DTYPE_Q5_1;
    const uint8_t *at = b + (has_minimum ? 4 : 2);
    uint32_t high = 0;
    if (five) {
        memcpy(&high, at, sizeof high);
        at += sizeof high;
    }
    const int32_t offset = has_minimum ? 0 : five ? 16 : 8;
    for (int j = 0; j < MZ_SHORT_BLOCK; j++) {
        if (dtype == MZ_DTYPE_Q8_0) {
            out->q[j] = (int8_t)at[j];
        } else {
            const int32_t low = j < 16 ? at[j] & 15 : at[j - 16] >> 4;
            out->q[j] = (low | (int32_t)(high >> j & 1) << 4) - offset;
        }
    }
    out->d = half_at(b);
    out->m = has_minimum ? half_at(b + 2) : 0;
}

static void read_q6_k(weight_block *out, const uint8_t *b) {
    for (int e = 0; e < MZ_LONG_BLOCK; e++) {
        const int half = e / 128;
        const int part = e % 128 / 32;
        const int l = e % 32;
        const int low = b[64 * half + 32 * (part % 2) + l] >> (part / 2 * 4) & 15;
        const int high = b[128 + 32 * half + l] >> (2 * part) & 3;
        out->q[e] = (low | high << 4) - 32;
    }
    for (int i = 0; i < 16; i++) {
        out->scales[i] = (int8_t)b[192 + i];
    }
    out->d = half_at(b + 208);
    out->m = 0;
}

static void read_k(weight_block *out, mz_dtype dtype, const uint8_t *b) {
    uint8_t scales[8];
    uint8_t minima[8];
    const uint8_t *low = b + (dtype == MZ_DTYPE_Q5_K ? 48 : 16);
    mz_k_scales(b + 4, scales, minima);
    for (int e = 0; e < MZ_LONG_BLOCK; e++) {
        const int part = e / 32;
        const int l = e % 32;
        const int high = dtype == MZ_DTYPE_Q5_K ? b[16 + l] >> part & 1 : 0;
        out->q[e] = (low[32 * (part / 2) + l] >> (part % 2 * 4) & 15) | high << 4;
    }
    for (int i = 0; i < 8; i++) {
        out->scales[2 * i] = scales[i];
        out->scales[2 * i + 1] = scales[i];
        out->minima[i] = minima[i];
    }
    out->d = half_at(b);
    out->m = half_at(b + 2);
}

static void read_block(weight_block *out, mz_dtype dtype, const uint8_t *b) {
    if (dtype == MZ_DTYPE_Q6_K) {
        read_q6_k(out, b);
    } else if (dtype == MZ_DTYPE_Q4_K || dtype == MZ_DTYPE_Q5_K) {
        read_k(out, dtype, b);
    } else {
        read_short(out, dtype, b);
    }
}

/* ---- Activations ---- */

/* The block's scale, and what its values are multiplied by. */
static float block_scale(const float *x, int n, float *inverse) {
    float max = 0;
    bool finite = true;
    for (int i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    }
    *inverse = !finite || max < 0x1p-100f ? 0 : 127.0f / max;
    return !finite ? NAN : *inverse == 0 ? 0 : max / 127.0f;
}

/* Block i of a packed row. */
static void quantise_block(uint8_t *row, const mz_quantised_row *at, int64_t i, int n,
                           const float *x) {
    int8_t *q = (int8_t *)row + i * n;
    float inverse = 0;
    const float d = block_scale(x, n, &inverse);
    int16_t halves[16] = {0};
    int32_t sum = 0;
    for (int j = 0; j < n; j++) {
        q[j] = inverse == 0 ? 0 : (int8_t)nearbyintf(x[j] * inverse);
        halves[j / 16] = (int16_t)(halves[j / 16] + q[j]);
        sum += q[j];
    }
    memcpy(row + at->d + (size_t)i * 4, &d, sizeof d);
    if (n == MZ_SHORT_BLOCK) {
        const float scaled = d * (float)sum;
        const int32_t offset = -8 * sum;
        memcpy(row + at->scaled + (size_t)i * 4, &scaled, sizeof scaled);
        memcpy(row + at->sums + (size_t)i * 4, &offset, sizeof offset);
    } else {
        int16_t sums[8];
        for (int j = 0; j < 8; j++) {
            sums[j] = (int16_t)(halves[2 * j] + halves[2 * j + 1]);
        }
        memcpy(row + at->sums + (size_t)i * sizeof sums, sums, sizeof sums);
        memcpy(row + at->halves + (size_t)i * sizeof halves, halves, sizeof halves);
    }
}

static void pack(const mz_packed *dst, const mz_row_source *src, int64_t begin, int64_t end) {
    const mz_quantised_row at = mz_quantised_row_of(dst->width, dst->block);
    for (int64_t i = begin; i < end; i++) {
        const float *x = mz_source_row(src, i);
        for (int64_t b = 0; b < dst->width / dst->block; b++) {
            quantise_block(dst->data + (size_t)i * at.bytes, &at, b, dst->block,
                           x + b * dst->block);
        }
    }
}

/* ---- Products ---- */

static float add_short(float sum, const weight_block *w, const uint8_t *row,
                       const mz_quantised_row *at, int64_t i) {
    const int8_t *q = (const int8_t *)row + i * MZ_SHORT_BLOCK;
    const float *d = (const float *)(const void *)(row + at->d);
    const float *scaled = (const float *)(const void *)(row + at->scaled);
    int32_t dot = 0;
    for (int j = 0; j < MZ_SHORT_BLOCK; j++) {
        dot += w->q[j] * q[j];
    }
    sum += w->d * d[i] * (float)dot;
    return sum + w->m * scaled[i];
}

static float add_long(float sum, const weight_block *w, const uint8_t *row,
                      const mz_quantised_row *at, int64_t i, bool has_minimum) {
    const int8_t *q = (const int8_t *)row + i * MZ_LONG_BLOCK;
    const float *d = (const float *)(const void *)(row + at->d);
    const int16_t *sums = (const int16_t *)(const void *)(row + at->sums) + i * 8;
    int32_t dot = 0;
    int32_t below = 0;
    for (int part = 0; part < 16; part++) {
        int32_t part_dot = 0;
        for (int j = 16 * part; j < 16 * (part + 1); j++) {
            part_dot += w->q[j] * q[j];
        }
        dot += w->scales[part] * part_dot;
    }
    sum += w->d * d[i] * (float)dot;
    for (int j = 0; j < 8 && has_minimum; j++) {
        below += w->minima[j] * sums[j];
    }
    return has_minimum ? sum - w->m * d[i] * (float)below : sum;
}

/* y[t] = weight row o times row t of x, for all rows. */
static void row_product(const mz_matrix *w, int64_t o, const mz_packed *x, float *y, int64_t ld_y) {
    const mz_dtype_info *type = mz_dtype_get(w->dtype);
    const mz_quantised_row at = mz_quantised_row_of(x->width, x->block);
    const uint8_t *b = w->data + o * (w->ld / type->block_len) * type->block_bytes;
    for (int64_t t = 0; t < x->n_rows; t++) {
        y[t * ld_y] = 0;
    }
    for (int64_t i = 0; i < w->d_in / x->block; i++, b += type->block_bytes) {
        weight_block block;
        read_block(&block, w->dtype, b);
        for (int64_t t = 0; t < x->n_rows; t++) {
            const uint8_t *row = x->data + (size_t)t * at.bytes;
            float *sum = y + t * ld_y;
            *sum = x->block == MZ_SHORT_BLOCK
                       ? add_short(*sum, &block, row, &at, i)
                       : add_long(*sum, &block, row, &at, i, w->dtype != MZ_DTYPE_Q6_K);
        }
    }
}

typedef struct panel_scratch {
    uint8_t unused; /* blocks are read one by one */
} panel_scratch;

static void multiply(const mz_matrix *w, int64_t panel, const mz_packed *x, panel_scratch *scratch,
                     float *sums) {
    (void)scratch;
    for (int64_t r = 0; r < MZ_PANEL && panel * MZ_PANEL + r < w->d_out; r++) {
        row_product(w, panel * MZ_PANEL + r, x, sums + r, MZ_PANEL);
    }
}

#include "core/ops/cpu/quantised_table.inc"

const mz_product_kernels mz_quantised_kernels_scalar = {
    .row_step = 1,
    .width_step = 1,
    .segment_rows = MZ_SEGMENT_ROWS,
    .segment_bytes = 4 << 20,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
