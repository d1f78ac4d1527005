/* SHA-256 (FIPS 180-4), for checking made checkpoints against the golden's digest. */
#ifndef MZ_TESTS_GOLDEN_SHA256_H
#define MZ_TESTS_GOLDEN_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct mz_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64];
} mz_sha256;

void mz_sha256_init(mz_sha256 *h);
void mz_sha256_update(mz_sha256 *h, const void *data, size_t n_bytes);
/* Writes 64 lower-case hexadecimal digits and a NUL. */
void mz_sha256_final(mz_sha256 *h, char out[65]);

#endif
