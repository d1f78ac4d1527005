#include <string.h>

#include "core/ops/cpu/quantised_internal.h"

int mz_quantised_block(mz_dtype dtype) {
    switch (dtype) {
    case MZ_DTYPE_Q8_0:
    case MZ_DTYPE_Q4_0:
    case MZ_DTYPE_Q4_1:
    case MZ_DTYPE_Q5_0:
    case MZ_DTYPE_Q5_1:
        return MZ_SHORT_BLOCK;
    case MZ_DTYPE_Q4_K:
    case MZ_DTYPE_Q5_K:
    case MZ_DTYPE_Q6_K:
        return MZ_LONG_BLOCK;
    default:
        return 0;
    }
}

mz_quantised_row mz_quantised_row_of(int64_t width, int block) {
    const size_t n_blocks = (size_t)(width / block);
    mz_quantised_row r = {.d = (size_t)width};
    const size_t after_d = r.d + n_blocks * sizeof(float);
    if (block == MZ_SHORT_BLOCK) {
        r.scaled = after_d;
        r.sums = r.scaled + n_blocks * sizeof(float);
        r.bytes = r.sums + n_blocks * sizeof(int32_t);
    } else {
        r.sums = after_d;
        r.halves = r.sums + n_blocks * 8 * sizeof(int16_t);
        r.bytes = r.halves + n_blocks * 16 * sizeof(int16_t);
    }
    r.bytes = (r.bytes + 63) / 64 * 64;
    return r;
}

/* Four numbers at a time; bytes 0-3 of `packed` hold scales 0-3, bytes 4-7 minima 0-3, bytes 8-11
 * the low four bits of scales and minima 4-7, whose upper two are those of the other bytes. */
void mz_k_scales(const uint8_t *packed, uint8_t scales[8], uint8_t minima[8]) {
    uint32_t words[3];
    memcpy(words, packed, sizeof words);
    const uint32_t out[4] = {
        words[0] & 0x3f3f3f3fu,
        (words[2] & 0x0f0f0f0fu) | (words[0] >> 6 & 0x03030303u) << 4,
        words[1] & 0x3f3f3f3fu,
        (words[2] >> 4 & 0x0f0f0f0fu) | (words[1] >> 6 & 0x03030303u) << 4,
    };
    memcpy(scales, out, 8);
    memcpy(minima, out + 2, 8);
}
