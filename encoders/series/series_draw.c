#include "encoders/series/series_draw_internal.h"

#include <math.h>

#include "core/rng.h"

static const double two_pi = 6.283185307179586476925286766559;

void mz_draw_init(mz_draw *draw, uint64_t seed, uint64_t stream) {
    *draw = (mz_draw){.seed = seed, .stream = stream};
}

uint32_t mz_draw_word(mz_draw *draw) {
    if (draw->n_words == 0) {
        mz_rng_block(draw->seed, draw->stream, draw->counter++, draw->words);
        draw->n_words = 4;
    }
    return draw->words[4 - draw->n_words--];
}

double mz_draw_uniform(mz_draw *draw, double low, double high) {
    return low + (high - low) * ((double)mz_draw_word(draw) * 0x1p-32);
}

double mz_draw_log_uniform(mz_draw *draw, double low, double high) {
    return exp(mz_draw_uniform(draw, log(low), log(high)));
}

int64_t mz_draw_int(mz_draw *draw, int64_t low, int64_t high) {
    const uint32_t word = mz_draw_word(draw);
    if (high <= low) {
        return low;
    }
    return low + (int64_t)((uint64_t)word * (uint64_t)(high - low + 1) >> 32);
}

bool mz_draw_chance(mz_draw *draw, double probability) {
    return (double)mz_draw_word(draw) * 0x1p-32 < probability;
}

double mz_draw_normal(mz_draw *draw) {
    const double u = ((double)mz_draw_word(draw) + 0.5) * 0x1p-32; /* never 0 */
    const double radius = sqrt(-2 * log(u));
    return radius * cos(two_pi * ((double)mz_draw_word(draw) * 0x1p-32));
}

/* Two normal values of two words. */
static void normal_pair(const uint32_t *words, float out[2]) {
    const float u = ((float)(words[0] >> 8) + 0.5f) * 0x1p-24f;
    const float radius = sqrtf(-2 * logf(u));
    const float angle = (float)two_pi * ((float)(words[1] >> 8) * 0x1p-24f);
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

void mz_draw_normals(mz_draw *draw, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t words[4];
        mz_rng_block(draw->seed, draw->stream, draw->counter++, words);
        float four[4];
        normal_pair(words, four);
        normal_pair(words + 2, four + 2);
        for (int64_t k = 0; k < 4 && i + k < n; k++) {
            out[i + k] = four[k];
        }
    }
}

int mz_draw_choice(mz_draw *draw, const double *weights, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += weights[i];
    }
    double left = mz_draw_uniform(draw, 0, sum);
    int last = 0; /* the last with a weight, should rounding leave something */
    for (int i = 0; i < n; i++) {
        if (weights[i] > 0) {
            last = i;
            if (left < weights[i]) {
                return i;
            }
        }
        left -= weights[i];
    }
    return last;
}
