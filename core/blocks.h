/* Block-quantised types: values of blocks, and quantising; the rows of the table in core/tensor.h.
 *
 * Blocks are laid out as in GGUF files, little-endian, and may lie at any address. All functions
 * take whole blocks: n is a multiple of 32, of 256 for the K types. They are pure, so that pieces
 * may be converted by several threads.
 *
 * Values: the scales are multiplied first, then the number, then the minimum is subtracted, each
 * step rounded to f32; thus the results have the bits of the format's other readers.
 *
 * Quantising keeps whatever scale, of a few around the plain one, has the smallest squared error
 * after its least-squares correction; scales are rounded before the numbers are chosen, so that the
 * numbers make up for that; the two scales of a Q4_K or Q5_K block are fitted once more when its
 * numbers are known. The K types weigh errors by the values' size (Q6_K: x^2; Q4_K and Q5_K:
 * |x| plus the root mean square of the 32), where plain search weighs all the same. Values beyond
 * what the scales reach are clamped, a NaN becomes the block's least number: callers that care look
 * for them before. */
#ifndef MZ_CORE_BLOCKS_H
#define MZ_CORE_BLOCKS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void mz_q8_0_to_f32(float *dst, const void *src, int64_t n);
void mz_q4_0_to_f32(float *dst, const void *src, int64_t n);
void mz_q4_1_to_f32(float *dst, const void *src, int64_t n);
void mz_q5_0_to_f32(float *dst, const void *src, int64_t n);
void mz_q5_1_to_f32(float *dst, const void *src, int64_t n);
void mz_q2_k_to_f32(float *dst, const void *src, int64_t n);
void mz_q3_k_to_f32(float *dst, const void *src, int64_t n);
void mz_q4_k_to_f32(float *dst, const void *src, int64_t n);
void mz_q5_k_to_f32(float *dst, const void *src, int64_t n);
void mz_q6_k_to_f32(float *dst, const void *src, int64_t n);

void mz_q8_0_from_f32(void *dst, const float *src, int64_t n);
void mz_q4_0_from_f32(void *dst, const float *src, int64_t n);
void mz_q4_1_from_f32(void *dst, const float *src, int64_t n);
void mz_q5_0_from_f32(void *dst, const float *src, int64_t n);
void mz_q5_1_from_f32(void *dst, const float *src, int64_t n);
void mz_q4_k_from_f32(void *dst, const float *src, int64_t n);
void mz_q5_k_from_f32(void *dst, const float *src, int64_t n);
void mz_q6_k_from_f32(void *dst, const float *src, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
