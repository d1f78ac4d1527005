#include "core/blocks.h"

#include <string.h>

#include "core/half.h"

enum { SHORT = 32, LONG = 256 };

static float half_at(const uint8_t *p) {
    return mz_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Element j of 32 numbers of four bits: the low halves of sixteen bytes, then the high ones. */
static int nibble(const uint8_t *qs, int j) {
    return j < SHORT / 2 ? qs[j] & 15 : qs[j - SHORT / 2] >> 4;
}

void mz_q8_0_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += SHORT, b += 34) {
        const float d = half_at(b);
        for (int j = 0; j < SHORT; j++) {
            dst[i + j] = d * (float)(int8_t)b[2 + j];
        }
    }
}

void mz_q4_0_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += SHORT, b += 18) {
        const float d = half_at(b);
        for (int j = 0; j < SHORT; j++) {
            dst[i + j] = d * (float)(nibble(b + 2, j) - 8);
        }
    }
}

void mz_q4_1_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += SHORT, b += 20) {
        const float d = half_at(b);
        const float m = half_at(b + 2);
        for (int j = 0; j < SHORT; j++) {
            dst[i + j] = d * (float)nibble(b + 4, j) + m;
        }
    }
}

void mz_q5_0_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += SHORT, b += 22) {
        const float d = half_at(b);
        const uint32_t high = word_at(b + 2);
        for (int j = 0; j < SHORT; j++) {
            const int q = nibble(b + 6, j) | (int)(high >> j & 1) << 4;
            dst[i + j] = d * (float)(q - 16);
        }
    }
}

void mz_q5_1_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += SHORT, b += 24) {
        const float d = half_at(b);
        const float m = half_at(b + 2);
        const uint32_t high = word_at(b + 4);
        for (int j = 0; j < SHORT; j++) {
            const int q = nibble(b + 8, j) | (int)(high >> j & 1) << 4;
            dst[i + j] = d * (float)q + m;
        }
    }
}

/* Two bits of element e of 256: each half of the block shares 32 bytes. */
static int two_bits(const uint8_t *qs, int e) {
    return qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
}

void mz_q2_k_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += LONG, b += 84) {
        const float d = half_at(b + 80);
        const float d_min = half_at(b + 82);
        for (int e = 0; e < LONG; e++) {
            const float scale = d * (float)(b[e / 16] & 15);
            const float minimum = d_min * (float)(b[e / 16] >> 4);
            dst[i + e] = scale * (float)two_bits(b + 16, e) - minimum;
        }
    }
}

void mz_q3_k_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += LONG, b += 110) {
        const uint8_t *s = b + 96;
        const float d = half_at(b + 108);
        float scales[16];
        for (int k = 0; k < 16; k++) {
            const int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4;
            const int high = s[8 + k % 4] >> (k / 4 * 2) & 3;
            scales[k] = d * (float)((low | high << 4) - 32);
        }
        for (int e = 0; e < LONG; e++) {
            const int q = two_bits(b + 32, e) - ((b[e % 32] >> (e / 32) & 1) != 0 ? 0 : 4);
            dst[i + e] = scales[e / 16] * (float)q;
        }
    }
}

/* The six-bit scale and minimum of sub-block k of a Q4_K or Q5_K block. */
static void scale_and_minimum(const uint8_t *s, int k, int *scale, int *minimum) {
    if (k < 4) {
        *scale = s[k] & 63;
        *minimum = s[k + 4] & 63;
    } else {
        *scale = (s[k + 4] & 15) | s[k - 4] >> 6 << 4;
        *minimum = s[k + 4] >> 4 | s[k] >> 6 << 4;
    }
}

/* Q4_K and, with the fifth bits at `high`, Q5_K. */
static void long_block(float *dst, const uint8_t *b, const uint8_t *high, const uint8_t *qs) {
    const float d = half_at(b);
    const float d_min = half_at(b + 2);
    for (int k = 0; k < LONG / SHORT; k++) {
        int scale = 0;
        int minimum = 0;
        scale_and_minimum(b + 4, k, &scale, &minimum);
        const float s = d * (float)scale;
        const float m = d_min * (float)minimum;
        for (int j = 0; j < SHORT; j++) {
            int q = qs[k / 2 * SHORT + j] >> (k % 2 * 4) & 15;
            if (high != NULL) {
                q |= (high[j] >> k & 1) << 4;
            }
            dst[k * SHORT + j] = s * (float)q - m;
        }
    }
}

void mz_q4_k_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += LONG, b += 144) {
        long_block(dst + i, b, NULL, b + 16);
    }
}

void mz_q5_k_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += LONG, b += 176) {
        long_block(dst + i, b, b + 16, b + 48);
    }
}

void mz_q6_k_to_f32(float *dst, const void *src, int64_t n) {
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += LONG, b += 210) {
        const float d = half_at(b + 208);
        for (int e = 0; e < LONG; e++) {
            const int half = e / 128;
            const int quarter = e % 128 / 32;
            const int l = e % 32;
            const int low = b[64 * half + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
            const int high = b[128 + 32 * half + l] >> (quarter * 2) & 3;
            const float scale = d * (float)(int8_t)b[192 + e / 16];
            dst[i + e] = scale * (float)((low | high << 4) - 32);
        }
    }
}
