#include "core/rng.h"

#include <math.h>

enum { PHILOX_ROUNDS = 10 };

void mz_rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    static const uint64_t multiplier_0 = 0xD2511F53u;
    static const uint64_t multiplier_1 = 0xCD9E8D57u;
    uint32_t c0 = (uint32_t)counter;
    uint32_t c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32);
    uint32_t key_0 = (uint32_t)seed;
    uint32_t key_1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t product_0 = multiplier_0 * c0;
        const uint64_t product_1 = multiplier_1 * c2;
        c0 = (uint32_t)(product_1 >> 32) ^ c1 ^ key_0;
        c1 = (uint32_t)product_1;
        c2 = (uint32_t)(product_0 >> 32) ^ c3 ^ key_1;
        c3 = (uint32_t)product_0;
        key_0 += 0x9E3779B9u; /* golden ratio */
        key_1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t mz_rng_stream_of(const char *name) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    }
    return hash;
}

float mz_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t words[4];
    mz_rng_block(seed, stream, index / 4, words);
    return (float)(words[index % 4] >> 8) * 0x1p-24f;
}

float mz_rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    static const double two_pi = 6.283185307179586476925286766559;
    uint32_t words[4];
    mz_rng_block(seed, stream, index / 4, words);
    /* Words (0, 1) give values 0 and 1 of the block, words (2, 3) values 2 and 3. */
    const uint32_t *pair = words + (index % 4 & 2);
    const double u =
        ((double)pair[0] + 0.5) * 0x1p-32; /* never 0, so that the logarithm is finite */
    const double radius = sqrt(-2.0 * log(u));
    const double angle = two_pi * ((double)pair[1] * 0x1p-32);
    return (float)(radius * (index % 2 == 0 ? cos(angle) : sin(angle)));
}
