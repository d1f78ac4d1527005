/* Scalar conversions of the 16-bit floating-point types: exact to f32, to nearest with ties to even
 * from it. */
#ifndef MZ_CORE_HALF_H
#define MZ_CORE_HALF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

float mz_bf16_to_f32(uint16_t h);
uint16_t mz_bf16_from_f32(float x); /* a NaN stays a quiet NaN */
float mz_f16_to_f32(uint16_t h);
uint16_t mz_f16_from_f32(float x); /* overflow gives infinity; a NaN stays a quiet NaN */

#ifdef __cplusplus
}
#endif
#endif
