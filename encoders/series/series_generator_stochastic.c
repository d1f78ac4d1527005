/* Families made of noise: ARIMA, smooth random functions, shifts, counts. */
#include <math.h>

#include "encoders/series/series_generator_internal.h"

static const double two_pi = 6.283185307179586476925286766559;

enum { MAX_AR = 4, MAX_MA = 2 };

typedef struct arma {
    double ar[MAX_AR];
    double ma[MAX_MA];
    int n_ar, n_ma;
} arma;

/* Coefficients of a stationary process from partial autocorrelations in (-1, 1) (Durbin and
 * Levinson); or two complex roots, which swing. */
static void draw_arma(mz_draw *draw, int64_t n, arma *out) {
    *out = (arma){0};
    out->n_ma = (int)mz_draw_int(draw, 0, MAX_MA);
    for (int k = 0; k < out->n_ma; k++) {
        out->ma[k] = mz_draw_uniform(draw, -0.8, 0.8) / (k + 1);
    }
    if (mz_draw_chance(draw, 0.35)) {
        const double radius = 1 - mz_draw_log_uniform(draw, 0.003, 0.3);
        const double period = mz_draw_log_uniform(draw, 3, fmax(5, (double)n / 3));
        out->n_ar = 2;
        out->ar[0] = 2 * radius * cos(two_pi / period);
        out->ar[1] = -radius * radius;
        return;
    }
    out->n_ar = (int)mz_draw_int(draw, 0, MAX_AR);
    for (int k = 0; k < out->n_ar; k++) {
        const double partial = mz_draw_uniform(draw, k == 0 ? -0.5 : -0.7, k == 0 ? 0.98 : 0.7);
        double before[MAX_AR];
        for (int j = 0; j < k; j++) {
            before[j] = out->ar[j];
        }
        for (int j = 0; j < k; j++) {
            out->ar[j] = before[j] - partial * before[k - 1 - j];
        }
        out->ar[k] = partial;
    }
}

static void run_arma(mz_draw *draw, const arma *a, float *out, int64_t n) {
    double past[MAX_AR] = {0};
    double shocks[MAX_MA] = {0};
    const bool clustered = mz_draw_chance(draw, 0.2); /* GARCH(1,1) */
    double variance = 1;
    mz_draw_normals(draw, out, n);
    for (int64_t i = 0; i < n; i++) {
        const double shock = (double)out[i] * (clustered ? sqrt(variance) : 1);
        variance = clustered ? 0.04 + 0.12 * shock * shock + 0.84 * variance : 1;
        double value = shock;
        for (int k = 0; k < MAX_AR; k++) {
            value += a->ar[k] * past[k];
        }
        value += a->ma[0] * shocks[0] + a->ma[1] * shocks[1];
        for (int k = MAX_AR - 1; k > 0; k--) {
            past[k] = past[k - 1];
        }
        past[0] = value;
        shocks[1] = shocks[0];
        shocks[0] = shock;
        out[i] = (float)value;
    }
}

static void integrate(float *out, int64_t n, double drift) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)out[i] + drift;
        out[i] = (float)sum;
    }
}

void mz_family_arima(mz_draw *draw, float *out, int64_t n) {
    arma a;
    draw_arma(draw, n, &a);
    run_arma(draw, &a, out, n);
    if (mz_draw_chance(draw, 0.3)) { /* seasonal autoregression; 1: a seasonal random walk */
        const int64_t period = (int64_t)mz_part_period(draw, n);
        const double carried = mz_draw_chance(draw, 0.4) ? 1 : mz_draw_uniform(draw, 0.5, 0.98);
        for (int64_t i = 0; i < n; i++) {
            out[i] *= i < period ? 2.5f : 0.6f;
            out[i] += i < period ? 0 : (float)carried * out[i - period];
        }
    }
    double mean;
    double deviation;
    mz_part_moments(out, n, &mean, &deviation);
    if (mz_draw_chance(draw, 0.5)) {
        integrate(out, n, mz_draw_chance(draw, 0.5) ? 0.2 * deviation * mz_draw_normal(draw) : 0);
        if (mz_draw_chance(draw, 0.12)) {
            integrate(out, n, 0);
        }
        mz_part_moments(out, n, &mean, &deviation);
    }
    if (mz_draw_chance(draw, 0.25)) { /* prices */
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.05, 0.5));
    } else if (mz_draw_chance(draw, 0.3)) {
        mz_part_trend(draw, out, n, deviation * mz_draw_log_uniform(draw, 0.5, 4));
    }
}

/* Adds cos(phase + step i) * size. */
static void add_wave(float *out, int64_t n, double step, double phase, double size) {
    double before = size * cos(phase - step);
    double now = size * cos(phase);
    const double twice = 2 * cos(step);
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)now;
        const double next = twice * now - before;
        before = now;
        now = next;
    }
}

/* Frequencies of a squared exponential, of a rougher kernel (Cauchy draws), or close to the
 * harmonics of a period (a periodic kernel that changes slowly). */
void mz_family_smooth(mz_draw *draw, float *out, int64_t n) {
    mz_part_fill(out, n, 0);
    const int64_t n_kernels = mz_draw_int(draw, 1, 2);
    for (int64_t k = 0; k < n_kernels; k++) {
        const int64_t kind = mz_draw_int(draw, 0, 2);
        const int64_t n_waves = mz_draw_int(draw, 5, 14);
        const double length = mz_draw_log_uniform(draw, 4, fmax(8, (double)n));
        const double base = two_pi / mz_part_period(draw, n);
        const double size = mz_draw_log_uniform(draw, 0.3, 2) * sqrt(2.0 / (double)n_waves);
        for (int64_t w = 0; w < n_waves; w++) {
            double step = mz_draw_normal(draw) / length;
            if (kind == 1) {
                step = tan(mz_draw_uniform(draw, -1.45, 1.45)) / length;
            } else if (kind == 2) {
                step = base * (double)mz_draw_int(draw, 1, 4) + step * 0.15;
            }
            add_wave(out, n, fmin(fabs(step), 3), mz_draw_uniform(draw, 0, two_pi), size);
        }
    }
    if (mz_draw_chance(draw, 0.4)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 0.5, 5));
    }
    if (mz_draw_chance(draw, 0.6)) {
        mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.01, 0.4));
    }
    if (mz_draw_chance(draw, 0.2)) {
        mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.2, 0.9));
    }
}

void mz_family_shifts(mz_draw *draw, float *out, int64_t n) {
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.5)) {
        const double period = mz_part_period(draw, n);
        mz_part_season(draw, out, n, period, mz_draw_log_uniform(draw, 0.3, 2));
    }
    if (mz_draw_chance(draw, 0.3)) {
        mz_part_walk(draw, out, n, mz_draw_log_uniform(draw, 0.01, 0.2));
    }
    if (mz_draw_chance(draw, 0.8)) {
        mz_part_noise(draw, out, n, mz_draw_log_uniform(draw, 0.03, 0.8));
    }
    if (mz_draw_chance(draw, 0.7)) {
        mz_part_level_shifts(draw, out, n, mz_draw_log_uniform(draw, 0.5, 4));
    }
    if (mz_draw_chance(draw, 0.5)) {
        const double share = mz_draw_log_uniform(draw, 0.002, 0.05);
        mz_part_outliers(draw, out, n, share, mz_draw_log_uniform(draw, 2, 10));
    }
    if (mz_draw_chance(draw, 0.15)) {
        mz_part_gain(draw, out, n, 0.7);
    }
}

/* A Poisson draw: by products of uniform draws, rounded normal for large means. */
static double draw_poisson(mz_draw *draw, double mean) {
    if (mean > 12) {
        float normal[1];
        mz_draw_normals(draw, normal, 1);
        return fmax(0, floor(mean + sqrt(mean) * (double)normal[0] + 0.5));
    }
    const double limit = (double)expf((float)-mean);
    double product = mz_draw_uniform(draw, 0, 1);
    double count = 0;
    while (product > limit) {
        product *= mz_draw_uniform(draw, 0, 1);
        count++;
    }
    return count;
}

/* The size of a demand that is not zero. */
static double draw_demand(mz_draw *draw, int64_t kind, double typical) {
    if (kind == 0) {
        return 1 + draw_poisson(draw, typical - 1);
    }
    if (kind == 1) {
        return typical * (double)expf((float)(0.6 * mz_draw_normal(draw)));
    }
    return kind == 2 ? ceil(typical) : 1 + floor(-typical * log(mz_draw_uniform(draw, 1e-6, 1)));
}

/* The rate moves with trend and season; out becomes counts of that rate, or demands now and then.
 */
void mz_family_intermittent(mz_draw *draw, float *out, int64_t n) {
    mz_part_fill(out, n, 0);
    if (mz_draw_chance(draw, 0.7)) {
        const double period = mz_draw_chance(draw, 0.4) ? 7 : mz_part_period(draw, n);
        mz_part_season(draw, out, n, period, 1);
    }
    if (mz_draw_chance(draw, 0.5)) {
        mz_part_trend(draw, out, n, mz_draw_log_uniform(draw, 0.5, 4));
    }
    mz_part_walk(draw, out, n, 0.03);
    mz_part_exponentiate(out, n, mz_draw_uniform(draw, 0.05, 0.9));
    const bool counts = mz_draw_chance(draw, 0.5);
    const int64_t kind = mz_draw_int(draw, 0, 3);
    const double typical = mz_draw_log_uniform(draw, 1, 12);
    const double rate =
        counts ? mz_draw_log_uniform(draw, 0.2, 60) : mz_draw_log_uniform(draw, 0.03, 0.7);
    for (int64_t i = 0; i < n; i++) {
        const double now = rate * (double)out[i];
        if (counts) {
            out[i] = (float)draw_poisson(draw, now);
        } else {
            out[i] = mz_draw_chance(draw, now) ? (float)draw_demand(draw, kind, typical) : 0;
        }
    }
}
