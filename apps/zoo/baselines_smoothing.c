/* Theta and damped-trend smoothing. */
#include <math.h>

#include "apps/zoo/baselines_internal.h"

/* ---- Theta ---- */

enum { THETA_SKIPPED = 3 }; /* first errors that the fit leaves out, as statsforecast does */

/* theta = 2: the weight of the line in the forecast, 1 - 1 / theta. */
static const double LINE_WEIGHT = 0.5;

/* The least-squares line a + b t, t = 1 to n. */
typedef struct line {
    double a, b;
} line;

static line fit_line(const double *x, int64_t n) {
    double sum = 0;
    double sum_t = 0;
    for (int64_t t = 1; t <= n; t++) {
        sum += x[t - 1];
        sum_t += (double)t * x[t - 1];
    }
    const double m = (double)n;
    const double b = 6 / (m * m - 1) * (2 * sum_t / m - (m + 1) / m * sum);
    return (line){.a = sum / m - (m + 1) / 2 * b, .b = b};
}

/* What the line adds to the forecast after t values; left = (1 - alpha)^t. */
static double line_part(line l, double alpha, double left) {
    return LINE_WEIGHT * (l.a * left + l.b * (1 - left * (1 - alpha)) / alpha);
}

/* Sum of squared one-step errors with the best initial level, which is stored: errors are linear in
 * it, so that least squares gives it. */
static double theta_error(const double *x, int64_t n, line l, double alpha, double *level) {
    double smoothed = 0; /* of the level, with initial level 0 */
    double weight = 1;   /* of the initial level in it, (1 - alpha)^t */
    double ww = 0;
    double we = 0;
    double ee = 0;
    for (int64_t t = 0; t < n; t++) {
        const double e = x[t] - smoothed - line_part(l, alpha, weight);
        if (t >= THETA_SKIPPED) {
            ww += weight * weight;
            we += weight * e;
            ee += e * e;
        }
        smoothed = alpha * x[t] + (1 - alpha) * smoothed;
        weight *= 1 - alpha;
    }
    *level = ww > 1e-12 ? we / ww : x[0] / 2;
    return ee - 2 * *level * we + *level * *level * ww;
}

void mz_theta_forecast(const double *x, int64_t n, int64_t horizon, double *out) {
    const int n_grid = 90; /* statsforecast's bounds, 0.1 to 0.99 */
    const line l = fit_line(x, n);
    double best = INFINITY;
    double alpha = 0.5;
    double level = 0;
    double step = 0.89 / (n_grid - 1);
    for (int i = 0; i < n_grid; i++) {
        const double a = 0.1 + step * i;
        const double error = theta_error(x, n, l, a, &level);
        if (error < best) {
            best = error;
            alpha = a;
        }
    }
    for (; step > 1e-9; step /= 2) { /* halving around the best */
        for (int side = -1; side <= 1; side += 2) {
            const double a = fmin(fmax(alpha + side * step / 2, 0.1), 0.99);
            const double error = theta_error(x, n, l, a, &level);
            if (error < best) {
                best = error;
                alpha = a;
            }
        }
    }
    (void)theta_error(x, n, l, alpha, &level);
    for (int64_t t = 0; t < n; t++) {
        level = alpha * x[t] + (1 - alpha) * level;
    }
    for (int64_t h = 0; h < horizon; h++) {
        out[h] = level + line_part(l, alpha, pow(1 - alpha, (double)(n + h)));
        level = alpha * out[h] + (1 - alpha) * level;
    }
}

/* ---- Damped trend ---- */

typedef struct damped {
    double alpha, beta, phi; /* beta as in ETS: the trend's share of the error, below alpha */
} damped;

typedef struct damped_state {
    double level, trend;
} damped_state;

/* One step of ETS(A,Ad,N); returns the one-step error. */
static double damped_step(const damped *p, damped_state *s, double x) {
    const double forecast = s->level + p->phi * s->trend;
    const double e = x - forecast;
    s->level = forecast + p->alpha * e;
    s->trend = p->phi * s->trend + p->beta * e;
    return e;
}

/* Level and trend before the first value: the line through the first ten (Hyndman et al. 2008,
 * section 2.6.1). Taken as they are: the best fitting ones follow the noise of short
 * series (60 yearly series of M3: MASE 2.81 instead of 2.70). */
static damped_state initial_state(const double *x, int64_t n) {
    const line l = fit_line(x, n < 10 ? n : 10);
    return (damped_state){.level = l.a, .trend = l.b};
}

/* Sum of squared one-step errors. */
static double damped_error(const double *x, int64_t n, const damped *p) {
    damped_state s = initial_state(x, n);
    double sum = 0;
    for (int64_t t = 0; t < n; t++) {
        const double e = damped_step(p, &s, x[t]);
        sum += e * e;
    }
    return sum;
}

/* Steps halve around the best of a coarse grid, one parameter at a time. The trend's share stays
 * below 0.2, as in statsforecast: a larger one fits the past better and the future worse (M3, MASE
 * without and with the bound: yearly 2.95 and 2.67, quarterly 1.167 and 1.131, monthly 0.882
 * and 0.875, other 1.799 and 1.803). */
static damped fit_damped(const double *x, int64_t n) {
    const double low[3] = {1e-4, 1e-4, 0.8};
    const double high[3] = {0.9999, 0.2, 0.98};
    double best = INFINITY;
    double p[3] = {0.5, 0.1, 0.9};
    for (int i = 0; i < 7 * 5 * 3; i++) {
        const double alpha = 0.02 + 0.16 * (i % 7);
        const damped d = {alpha, fmin(alpha, 0.2) * 0.24 * (i / 7 % 5) + 1e-4,
                          0.8 + 0.09 * (i / 35)};
        const double error = damped_error(x, n, &d);
        if (error < best) {
            best = error;
            p[0] = d.alpha;
            p[1] = d.beta;
            p[2] = d.phi;
        }
    }
    for (double scale = 0.5; scale > 1e-5;) {
        bool better = false;
        for (int k = 0; k < 6; k++) {
            const double old = p[k / 2];
            const double range = k / 2 == 2 ? 0.18 : 0.3;
            p[k / 2] += (k % 2 == 0 ? 1 : -1) * scale * range;
            p[k / 2] = fmin(fmax(p[k / 2], low[k / 2]), high[k / 2]);
            const damped d = {p[0], p[1], p[2]};
            const double error = p[1] < p[0] ? damped_error(x, n, &d) : INFINITY;
            if (error < best) {
                best = error;
                better = true;
            } else {
                p[k / 2] = old;
            }
        }
        scale = better ? scale : scale / 2;
    }
    return (damped){p[0], p[1], p[2]};
}

void mz_damped_forecast(const double *x, int64_t n, int64_t horizon, double *out) {
    const damped p = fit_damped(x, n);
    damped_state s = initial_state(x, n);
    for (int64_t t = 0; t < n; t++) {
        (void)damped_step(&p, &s, x[t]);
    }
    for (int64_t h = 0; h < horizon; h++) {
        s.trend *= p.phi;
        s.level += s.trend;
        out[h] = s.level;
    }
}
