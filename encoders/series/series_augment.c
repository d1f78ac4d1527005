#include "encoders/series/series_augment_internal.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "encoders/series/series_generator_internal.h"

void mz_augment_standardise(float *values, int64_t n) {
    double mean;
    double deviation;
    mz_part_moments(values, n, &mean, &deviation);
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, (double)fabsf(values[i]));
    }
    const double scale = deviation > 1e-6 * largest ? 1 / deviation : 0;
    for (int64_t i = 0; i < n; i++) {
        values[i] = (float)(((double)values[i] - mean) * scale);
    }
}

void mz_augment_gain(mz_draw *draw, float *values, int64_t n) {
    float level = 0;
    if (mz_draw_chance(draw, 0.5)) {
        for (int64_t i = 0; i < n; i++) {
            level = fminf(level, values[i]);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        values[i] -= level;
    }
    mz_part_gain(draw, values, n, 0.6);
    for (int64_t i = 0; i < n; i++) {
        values[i] += level;
    }
}

void mz_augment_trend(mz_draw *draw, float *values, int64_t n) {
    mz_part_trend(draw, values, n, mz_draw_log_uniform(draw, 1.0 / 3, 3));
}

void mz_augment_jump(mz_draw *draw, float *values, int64_t n) {
    const int64_t n_jumps = mz_draw_int(draw, 1, 2);
    for (int64_t k = 0; k < n_jumps; k++) {
        const int64_t from = mz_draw_int(draw, 1, n - 1);
        const double size = mz_draw_log_uniform(draw, 0.3, 2.5);
        const float jump = (float)(mz_draw_chance(draw, 0.5) ? size : -size);
        for (int64_t i = from; i < n; i++) {
            values[i] += jump;
        }
    }
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a;
    const float y = *(const float *)b;
    return (x > y) - (x < y);
}

void mz_augment_censor(mz_draw *draw, float *values, int64_t n) {
    enum { MOST = 128 };
    float sample[MOST];
    const int64_t n_sample = n < MOST ? n : MOST;
    for (int64_t k = 0; k < n_sample; k++) {
        sample[k] = values[k * n / n_sample];
    }
    qsort(sample, (size_t)n_sample, sizeof *sample, ascending);
    const double kept = mz_draw_uniform(draw, 0.6, 0.95);
    const bool below = mz_draw_chance(draw, 0.5);
    const int64_t at = (int64_t)((below ? 1 - kept : kept) * (double)(n_sample - 1));
    const float limit = sample[at];
    for (int64_t i = 0; i < n; i++) {
        values[i] = below ? fmaxf(values[i], limit) : fminf(values[i], limit);
    }
}

void mz_augment_negate(float *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        values[i] = -values[i];
    }
}

void mz_augment_reverse(float *values, int64_t n) {
    for (int64_t i = 0; i < n / 2; i++) {
        const float kept = values[i];
        values[i] = values[n - 1 - i];
        values[n - 1 - i] = kept;
    }
}

void mz_augment_aggregate(const float *fine, int64_t factor, int64_t n, float *values) {
    const float scale = 1 / (float)factor;
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t k = 0; k < factor; k++) {
            sum += fine[i * factor + k];
        }
        values[i] = sum * scale;
    }
}

void mz_augment_interpolate(const float *coarse, int64_t n_coarse, double factor, double phase,
                            int64_t n, float *values) {
    const double step = 1 / factor;
    for (int64_t i = 0; i < n; i++) {
        const double at = phase + (double)i * step;
        const int64_t k = at < (double)(n_coarse - 1) ? (int64_t)at : n_coarse - 1;
        const int64_t next = k + 1 < n_coarse ? k + 1 : n_coarse - 1;
        const float t = (float)(at - (double)k);
        values[i] = next > k ? coarse[k] + t * (coarse[next] - coarse[k]) : coarse[k];
    }
}
