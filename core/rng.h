/* Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): value i of stream (seed,
 * stream) is a pure function of its arguments, so that results depend neither on threads nor on the
 * order of asking. */
#ifndef MZ_CORE_RNG_H
#define MZ_CORE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The four 32-bit words of block `counter`. */
void mz_rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);

/* The stream that belongs to a name (FNV-1a), so that a tensor's values do not depend on which
 * others there are. */
uint64_t mz_rng_stream_of(const char *name);

/* Value `index` of the stream, uniform in [0, 1), a multiple of 2^-24. */
float mz_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/* Value `index` of the stream, standard normal (Box-Muller in f64). */
float mz_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);

#ifdef __cplusplus
}
#endif
#endif
