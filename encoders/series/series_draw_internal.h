/* Random draws of one example, taken one after the other from a stream of core/rng.h. */
#ifndef MZ_ENCODERS_SERIES_SERIES_DRAW_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_DRAW_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* On the caller's stack, set by mz_draw_init; one thread. The n-th draw after that is a pure
 * function of (seed, stream) and of the kinds of the draws before it. */
typedef struct mz_draw {
    uint64_t seed, stream;
    uint64_t counter;  /* next block */
    uint32_t words[4]; /* the current block */
    int n_words;       /* of it not yet used; the last ones */
} mz_draw;

void mz_draw_init(mz_draw *draw, uint64_t seed, uint64_t stream);

/* 32 random bits. */
uint32_t mz_draw_word(mz_draw *draw);

/* Uniform in [low, high). */
double mz_draw_uniform(mz_draw *draw, double low, double high);

/* exp of a uniform draw in [log low, log high); both above 0. */
double mz_draw_log_uniform(mz_draw *draw, double low, double high);

/* Uniform in low..high, both included; low if high is below it. Fewer than 2^31 values. */
int64_t mz_draw_int(mz_draw *draw, int64_t low, int64_t high);

/* True with this probability. */
bool mz_draw_chance(mz_draw *draw, double probability);

/* Standard normal. */
double mz_draw_normal(mz_draw *draw);

/* n standard normal values (Box-Muller in f32, four a block: about a third of the cost of single
 * draws). */
void mz_draw_normals(mz_draw *draw, float *out, int64_t n);

/* Index of one of n >= 1 weights >= 0 with positive sum, in proportion. */
int mz_draw_choice(mz_draw *draw, const double *weights, int n);

#ifdef __cplusplus
}
#endif
#endif
