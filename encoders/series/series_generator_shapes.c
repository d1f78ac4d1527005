/* Families of plain forms: trend with seasons, short smooth series, and what machines do. */
#include <math.h>

#include "encoders/series/series_generator_internal.h"

static const double two_pi = 6.283185307179586476925286766559;

void mz_family_structural(mz_draw *draw, float *out, int64_t n) {
    static const double n_seasons_weights[] = {0.1, 0.5, 0.3, 0.1};
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.65)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 0.2, 6));
    }
    const int n_seasons = mz_draw_choice(draw, n_seasons_weights, 4);
    double period = 0;
    for (int k = 0; k < n_seasons; k++) {
        /* The second season is often the week of a day, or the year of a month. */
        const double longer = period * (mz_draw_chance(draw, 0.6) ? 7 : 12);
        const bool nested = k == 1 && longer * 1.5 <= (double)n && mz_draw_chance(draw, 0.6);
        period = nested ? longer : mz_part_period(draw, n);
        mz_part_season(draw, out, n, period, mz_draw_log_uniform(draw, 0.2, 2.5));
    }
    if (mz_draw_chance(draw, 0.9)) {
        mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.01, 1));
    }
    if (mz_draw_chance(draw, 0.25)) {
        mz_part_walk(draw, out, n, mz_draw_log_uniform(draw, 0.003, 0.1));
    }
    if (mz_draw_chance(draw, 0.35)) {
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.1, 0.8));
    }
}

/* An AR(2) with complex roots in steps of its own size: the cycles of an economy. */
static void add_cycle(mz_draw *draw, float *out, int64_t n, double size) {
    const double radius = mz_draw_uniform(draw, 0.9, 0.99);
    const double period = mz_draw_log_uniform(draw, 6, 60);
    const double a = 2 * radius * cos(two_pi / period);
    const double b = -radius * radius;
    const double fresh = size * (1 - radius) * two_pi / sqrt(period) * 2;
    double before = size * mz_draw_normal(draw);
    double now = before + fresh * mz_draw_normal(draw);
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)now;
        const double next = a * now + b * before + fresh * mz_draw_normal(draw);
        before = now;
        now = next;
    }
}

void mz_family_short(mz_draw *draw, float *out, int64_t n) {
    static const double periods[] = {4, 4, 12, 12, 6};
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.85)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 1, 8));
    }
    if (mz_draw_chance(draw, 0.5)) {
        add_cycle(draw, out, n, mz_draw_log_uniform(draw, 0.1, 1));
    }
    if (mz_draw_chance(draw, 0.45)) {
        const double period = periods[mz_draw_int(draw, 0, 4)];
        mz_part_season(draw, out, n, period, mz_draw_log_uniform(draw, 0.05, 1));
    }
    if (mz_draw_chance(draw, 0.6)) {
        mz_part_walk(draw, out, n, mz_draw_log_uniform(draw, 0.02, 0.4));
    }
    mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.01, 0.5));
    if (mz_draw_chance(draw, 0.15)) {
        mz_part_level_shifts(draw, out, n, 1);
    }
    if (mz_draw_chance(draw, 0.4)) {
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.05, 0.6));
    }
}

/* A stock that grows and is set back: at a threshold, at random, or on time. */
static void shape_resets(mz_draw *draw, float *out, int64_t n) {
    const int64_t kind = mz_draw_int(draw, 0, 2);
    const double typical = mz_draw_log_uniform(draw, 6, fmax(10, (double)n / 3));
    const double roughness = mz_draw_log_uniform(draw, 0.01, 1);
    const double kept = mz_draw_chance(draw, 0.6) ? 0 : mz_draw_uniform(draw, 0, 0.6);
    const double tall = typical * mz_draw_uniform(draw, 0.8, 1.2);
    double level = mz_draw_uniform(draw, 0, typical);
    int64_t left = (int64_t)level;
    for (int64_t i = 0; i < n; i++) {
        level += fmax(0, 1 + roughness * mz_draw_normal(draw));
        left++;
        const bool reset = kind == 0   ? level > tall
                           : kind == 1 ? mz_draw_chance(draw, 1 / typical)
                                       : left >= (int64_t)typical;
        if (reset) {
            level *= kept;
            left = 0;
        }
        out[i] = (float)level;
    }
}

/* A machine's load in percent: a base, jobs that come and go, daily load, noise; within 0..100. */
static void shape_load(mz_draw *draw, float *out, int64_t n) {
    mz_part_fill(out, n, mz_draw_uniform(draw, 0, 60));
    if (mz_draw_chance(draw, 0.5)) {
        const double period = mz_part_period(draw, n);
        mz_part_season(draw, out, n, period, mz_draw_uniform(draw, 2, 15));
    }
    mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.2, 6));
    const double starts = mz_draw_log_uniform(draw, 0.3, 30) / (double)n;
    const double ends = 1 / mz_draw_log_uniform(draw, 1.5, fmax(4, (double)n / 8));
    const double typical = mz_draw_uniform(draw, 10, 60);
    double job = 0;
    for (int64_t i = 0; i < n; i++) {
        if (job > 0) {
            job = mz_draw_chance(draw, ends) ? 0 : job;
        } else if (mz_draw_chance(draw, starts)) {
            job = typical * mz_draw_uniform(draw, 0.7, 1.3);
        }
        out[i] = (float)fmin(fmax((double)out[i] + job, 0), 100);
    }
}

/* A state that is held and changes at random to one of a few levels. */
static void shape_states(mz_draw *draw, float *out, int64_t n) {
    double levels[4];
    const int64_t n_levels = mz_draw_int(draw, 2, 4);
    for (int k = 0; k < 4; k++) {
        levels[k] = mz_draw_normal(draw);
    }
    const double changes = 1 / mz_draw_log_uniform(draw, 4, fmax(8, (double)n / 3));
    int64_t now = 0;
    for (int64_t i = 0; i < n; i++) {
        if (mz_draw_chance(draw, changes)) {
            now = mz_draw_int(draw, 0, n_levels - 1);
        }
        out[i] = (float)levels[now];
    }
}

/* Sums of positive parts: never falls, and may rest. */
static void shape_ratchet(mz_draw *draw, float *out, int64_t n) {
    const double moves = mz_draw_log_uniform(draw, 0.03, 1);
    double level = 0;
    for (int64_t i = 0; i < n; i++) {
        if (mz_draw_chance(draw, moves)) {
            level -= log(mz_draw_uniform(draw, 1e-6, 1));
        }
        out[i] = (float)level;
    }
}

/* Square waves, sawteeth and the like, repeated exactly. */
static void shape_wave(mz_draw *draw, float *out, int64_t n) {
    mz_season_shape shape;
    const double period = mz_draw_chance(draw, 0.7)
                              ? mz_part_period(draw, n)
                              : mz_draw_log_uniform(draw, 3, fmax(6, (double)n / 2));
    mz_season_shape_draw(draw, (int64_t)period, &shape);
    const double whole = (double)(int64_t)period;
    double position = mz_draw_uniform(draw, 0, 1);
    position = floor(position * whole) / whole;
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)mz_season_shape_at(&shape, position);
        position += 1 / whole;
    }
}

void mz_family_shapes(mz_draw *draw, float *out, int64_t n) {
    static const double weights[] = {0.25, 0.6, 1.2, 1.3, 2.5, 0.8, 0.8, 1.3};
    mz_part_fill(out, n, 0);
    switch (mz_draw_choice(draw, weights, 8)) {
    case 0: /* a constant */
        mz_part_fill(out, n, mz_draw_normal(draw));
        return;
    case 1: { /* a step */
        const int64_t at = mz_draw_int(draw, 0, n - 1);
        mz_part_fill(out + at, n - at, 1);
        break;
    }
    case 2: /* growth, ramps */
        mz_part_trend(draw, out, n, 1);
        break;
    case 3:
        shape_resets(draw, out, n);
        break;
    case 4:
        shape_load(draw, out, n);
        return;
    case 5:
        shape_states(draw, out, n);
        break;
    case 6:
        shape_ratchet(draw, out, n);
        break;
    default:
        shape_wave(draw, out, n);
    }
    if (mz_draw_chance(draw, 0.6)) {
        double mean;
        double deviation;
        mz_part_moments(out, n, &mean, &deviation);
        mz_part_noise(draw, out, n, deviation * mz_draw_log_uniform(draw, 0.01, 0.3));
    }
}
