#include <math.h>

#include "encoders/series/series_generator_internal.h"

static const double two_pi = 6.283185307179586476925286766559;

void mz_part_fill(float *out, int64_t n, double value) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)value;
    }
}

void mz_part_moments(const float *values, int64_t n, double *mean, double *deviation) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)values[i] - (double)values[0];
    }
    *mean = (double)values[0] + sum / (double)n;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)values[i] - *mean;
        squares += d * d;
    }
    *deviation = sqrt(squares / (double)n);
}

/* Adds lines between knots: knot k lies at knots[k].at of the n points. */
enum { MAX_KNOTS = 9 };
typedef struct line_knots {
    double at[MAX_KNOTS]; /* ascending in points; the first at 0, the last at n */
    double value[MAX_KNOTS];
    int n;
} line_knots;

static double knots_value(const line_knots *k, double position, int *segment) {
    while (*segment + 2 < k->n && position >= k->at[*segment + 1]) {
        (*segment)++;
    }
    const double width = k->at[*segment + 1] - k->at[*segment];
    const double t = width > 0 ? (position - k->at[*segment]) / width : 0;
    return k->value[*segment] + t * (k->value[*segment + 1] - k->value[*segment]);
}

static void draw_knots(mz_draw *draw, int64_t n, int n_knots, line_knots *out) {
    out->n = n_knots;
    out->at[0] = 0;
    for (int k = 1; k + 1 < n_knots; k++) {
        const double room = ((double)n - out->at[k - 1]) * 2 / (double)(n_knots - k);
        out->at[k] = out->at[k - 1] + mz_draw_uniform(draw, 0.1, 0.9) * room;
    }
    out->at[n_knots - 1] = (double)n;
    for (int k = 1; k < n_knots; k++) {
        out->at[k] = fmin(fmax(out->at[k], out->at[k - 1]), (double)n);
    }
}

static void trend_pieces(mz_draw *draw, float *out, int64_t n, double size) {
    line_knots knots;
    draw_knots(draw, n, (int)mz_draw_int(draw, 3, MAX_KNOTS - 1), &knots);
    knots.value[0] = 0;
    double slope = mz_draw_normal(draw);
    for (int k = 1; k < knots.n; k++) {
        knots.value[k] =
            knots.value[k - 1] + slope * size * (knots.at[k] - knots.at[k - 1]) / (double)n;
        slope = mz_draw_uniform(draw, -0.5, 1) * slope + 0.7 * mz_draw_normal(draw);
    }
    int segment = 0;
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)knots_value(&knots, (double)i, &segment);
    }
}

/* Adds scale * (rate^i - 1): growth for rates above 1, a damped trend below. */
static void trend_geometric(float *out, int64_t n, double rate, double scale) {
    double power = 1;
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)(scale * (power - 1));
        power *= rate;
    }
}

static void trend_logistic(mz_draw *draw, float *out, int64_t n, double size) {
    const double middle = mz_draw_uniform(draw, 0.1, 1.1);
    const double steepness = mz_draw_log_uniform(draw, 4, 30) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double t = ((double)i - middle * (double)n) * steepness;
        out[i] += (float)(size / (1 + (double)expf((float)-t)));
    }
}

static void trend_wave(mz_draw *draw, float *out, int64_t n, double size) {
    const double step = two_pi * mz_draw_uniform(draw, 0.2, 2) / (double)n;
    const double phase = mz_draw_uniform(draw, 0, two_pi);
    double before = cos(phase - step);
    double now = cos(phase);
    const double twice = 2 * cos(step);
    for (int64_t i = 0; i < n; i++) {
        out[i] += (float)(size * 0.7 * now);
        const double next = twice * now - before;
        before = now;
        now = next;
    }
}

void mz_part_trend(mz_draw *draw, float *out, int64_t n, double size) {
    static const double weights[] = {3, 3, 1.2, 1.5, 0.8, 0.7, 1.2};
    const double signed_size = mz_draw_chance(draw, 0.35) ? -size : size;
    switch (mz_draw_choice(draw, weights, 7)) {
    case 0:
        for (int64_t i = 0; i < n; i++) {
            out[i] += (float)(signed_size * (double)i / (double)n);
        }
        break;
    case 1:
        trend_pieces(draw, out, n, signed_size);
        break;
    case 2: {
        const double growth = mz_draw_uniform(draw, 0.5, 3.5); /* in logarithms over the series */
        trend_geometric(out, n, exp(growth / (double)n), signed_size / (exp(growth) - 1));
        break;
    }
    case 3: {
        const double decay = mz_draw_uniform(draw, 1, 8);
        trend_geometric(out, n, exp(-decay / (double)n), -signed_size / (1 - exp(-decay)));
        break;
    }
    case 4:
        trend_logistic(draw, out, n, signed_size);
        break;
    case 5: {
        const double top = mz_draw_uniform(draw, 0, 1);
        for (int64_t i = 0; i < n; i++) {
            const double t = (double)i / (double)n - top;
            out[i] += (float)(2 * signed_size * t * t);
        }
        break;
    }
    default:
        trend_wave(draw, out, n, signed_size);
    }
}

static void shape_harmonics(mz_draw *draw, mz_season_shape *s) {
    const int most = s->n / 2 < 8 ? s->n / 2 : 8;
    const int n_harmonics = (int)mz_draw_int(draw, 1, most < 1 ? 1 : most);
    const double decay = mz_draw_uniform(draw, 0.5, 2.5);
    for (int h = 1; h <= n_harmonics; h++) {
        const double size = mz_draw_normal(draw) / pow(h, decay);
        const double phase = mz_draw_uniform(draw, 0, two_pi);
        const double step = two_pi * h / s->n;
        double before = cos(phase - step);
        double now = cos(phase);
        const double twice = 2 * cos(step);
        for (int i = 0; i < s->n; i++) {
            s->values[i] += (float)(size * now);
            const double next = twice * now - before;
            before = now;
            now = next;
        }
    }
}

/* Random values at a few knots around the cycle, joined by half cosines. */
static void shape_knots(mz_draw *draw, mz_season_shape *s) {
    enum { MAX = 14 };
    double knots[MAX];
    const int most = s->n < MAX ? s->n : MAX;
    const int n_knots = (int)mz_draw_int(draw, most < 3 ? most : 3, most);
    for (int k = 0; k < n_knots; k++) {
        knots[k] = mz_draw_normal(draw);
    }
    for (int i = 0; i < s->n; i++) {
        const double at = (double)i * n_knots / s->n;
        const int k = (int)at;
        const double t = at - k;
        const double smooth = t * t * (3 - 2 * t);
        s->values[i] = (float)(knots[k] + smooth * (knots[(k + 1) % n_knots] - knots[k]));
    }
}

static void shape_bumps(mz_draw *draw, mz_season_shape *s) {
    const int n_bumps = (int)mz_draw_int(draw, 1, 3);
    for (int b = 0; b < n_bumps; b++) {
        const double at = mz_draw_uniform(draw, 0, 1);
        const double width = mz_draw_log_uniform(draw, 0.02, 0.2);
        const double size = mz_draw_uniform(draw, 0.3, 1) * (mz_draw_chance(draw, 0.2) ? -1 : 1);
        for (int i = 0; i < s->n; i++) {
            double d = fabs((double)i / s->n - at);
            d = fmin(d, 1 - d) / width;
            s->values[i] += (float)(size * (double)expf((float)(-0.5 * d * d)));
        }
    }
}

/* Sawtooth, square, triangle, or half a wave with rest as of the sun. */
static void shape_simple(mz_draw *draw, mz_season_shape *s) {
    const int64_t kind = mz_draw_int(draw, 0, 3);
    const double duty = mz_draw_uniform(draw, 0.1, 0.9);
    const double start = mz_draw_uniform(draw, 0, 1);
    const bool backwards = mz_draw_chance(draw, 0.5);
    for (int i = 0; i < s->n; i++) {
        double t = (double)i / s->n + start;
        t -= floor(t);
        t = backwards ? 1 - t : t;
        double value = t;
        if (kind == 1) {
            value = t < duty ? 1 : 0;
        } else if (kind == 2) {
            value = t < duty ? t / duty : (1 - t) / (1 - duty);
        } else if (kind == 3) {
            value = t < duty ? sin(two_pi * 0.5 * t / duty) : 0;
        }
        s->values[i] = (float)value;
    }
}

static void shape_standardise(mz_season_shape *s) {
    double mean;
    double deviation;
    mz_part_moments(s->values, s->n, &mean, &deviation);
    const double scale = deviation > 1e-6 ? 1 / deviation : 0;
    for (int i = 0; i < s->n; i++) {
        s->values[i] = (float)(((double)s->values[i] - mean) * scale);
    }
    s->values[s->n] = s->values[0];
}

void mz_season_shape_draw(mz_draw *draw, int64_t n, mz_season_shape *out) {
    static const double weights[] = {4, 3, 1.5, 1.2, 1};
    out->n = (int)(n < 2 ? 2 : n > MZ_SEASON_POINTS ? MZ_SEASON_POINTS : n);
    mz_part_fill(out->values, out->n, 0);
    const int kind = mz_draw_choice(draw, weights, 5);
    if (out->n < 5 || (kind == 3 && out->n <= 60)) {
        mz_draw_normals(draw, out->values, out->n); /* each point for itself, as months are */
    } else if (kind == 0) {
        shape_harmonics(draw, out);
    } else if (kind == 1 || kind == 3) {
        shape_knots(draw, out);
    } else if (kind == 2) {
        shape_bumps(draw, out);
    } else {
        shape_simple(draw, out);
    }
    shape_standardise(out);
}

double mz_season_shape_at(const mz_season_shape *shape, double position) {
    const double at = (position - floor(position)) * shape->n;
    int i = (int)at;
    i = i < shape->n ? i : shape->n - 1;
    const double here = (double)shape->values[i];
    return here + (at - i) * ((double)shape->values[i + 1] - here);
}

void mz_part_season(mz_draw *draw, float *out, int64_t n, double period, double size) {
    mz_season_shape shape;
    mz_season_shape later; /* what the shape turns into */
    mz_season_shape_draw(draw, (int64_t)ceil(period), &shape);
    const bool turns = mz_draw_chance(draw, 0.12);
    if (turns) {
        mz_season_shape_draw(draw, (int64_t)ceil(period), &later);
    }
    line_knots gain = {.at = {0, (double)n}, .value = {size, size}, .n = 2};
    if (mz_draw_chance(draw, 0.35)) {
        draw_knots(draw, n, (int)mz_draw_int(draw, 2, 5), &gain);
        for (int k = 0; k < gain.n; k++) {
            gain.value[k] = size * mz_draw_uniform(draw, 0.3, 1.7);
        }
    }
    double position = mz_draw_uniform(draw, 0, 1);
    if (period == floor(period)) { /* the same points of the shape each time */
        position = floor(position * period) / period;
    }
    const double step = 1 / period;
    int segment = 0;
    for (int64_t i = 0; i < n; i++) {
        double value = mz_season_shape_at(&shape, position);
        if (turns) {
            const double t = (double)i / (double)n;
            value += t * (mz_season_shape_at(&later, position) - value);
        }
        out[i] += (float)(value * knots_value(&gain, (double)i, &segment));
        position += step;
        position -= position >= 1 ? 1 : 0;
    }
}

double mz_part_period(mz_draw *draw, int64_t n) {
    static const double periods[] = {4,  5,   6,   7,   7,   8,   10,     12,    12,    12,
                                     13, 24,  24,  24,  30,  48,  48,     52,    60,    96,
                                     96, 144, 168, 168, 288, 336, 365.25, 52.18, 30.44, 672};
    const int64_t n_periods = (int64_t)(sizeof periods / sizeof *periods);
    for (int tries = 0; tries < 8 && mz_draw_chance(draw, 0.9); tries++) {
        const double period = periods[mz_draw_int(draw, 0, n_periods - 1)];
        if (period * 1.8 <= (double)n) {
            return period;
        }
    }
    return mz_draw_log_uniform(draw, 2.5, fmax(4, (double)n * 0.7));
}

/* Draws with heavy tails: Laplace, or normal of a random deviation. */
static void heavy_noise(mz_draw *draw, float *out, int64_t n, double size) {
    const bool laplace = mz_draw_chance(draw, 0.5);
    const double tail = mz_draw_uniform(draw, 0.3, 0.9);
    for (int64_t i = 0; i < n; i++) {
        double value;
        if (laplace) {
            const double u = ((double)mz_draw_word(draw) + 0.5) * 0x1p-31 - 1;
            value = -0.707 * copysign((double)logf((float)(1 - fabs(u)) + 1e-9f), u);
        } else {
            float pair[2];
            mz_draw_normals(draw, pair, 2);
            value = (double)(pair[0] * expf((float)tail * pair[1])) * exp(-tail * tail);
        }
        out[i] += (float)(size * value);
    }
}

enum { NOISE_BLOCK = 256 };

void mz_part_noise(mz_draw *draw, float *out, int64_t n, double size) {
    static const double weights[] = {5, 1.5, 3, 1.5};
    const int kind = mz_draw_choice(draw, weights, 4);
    if (kind == 1) {
        heavy_noise(draw, out, n, size);
        return;
    }
    const double carried = kind == 2 ? mz_draw_uniform(draw, -0.4, 0.95) : 0;
    const double fresh = size * sqrt(1 - carried * carried);
    double state = size * mz_draw_normal(draw);
    line_knots spread = {.at = {0, (double)n}, .value = {1, 1}, .n = 2};
    if (kind == 3) {
        draw_knots(draw, n, (int)mz_draw_int(draw, 2, MAX_KNOTS - 1), &spread);
        for (int k = 0; k < spread.n; k++) {
            spread.value[k] = mz_draw_log_uniform(draw, 0.2, 2.5);
        }
    }
    int segment = 0;
    float normals[NOISE_BLOCK];
    for (int64_t i = 0; i < n; i++) {
        if (i % NOISE_BLOCK == 0) {
            mz_draw_normals(draw, normals, n - i < NOISE_BLOCK ? n - i : NOISE_BLOCK);
        }
        state = carried * state + fresh * (double)normals[i % NOISE_BLOCK];
        const double gain = kind == 3 ? knots_value(&spread, (double)i, &segment) : 1;
        out[i] += (float)(state * gain);
    }
}

void mz_part_walk(mz_draw *draw, float *out, int64_t n, double step) {
    float normals[NOISE_BLOCK];
    double level = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % NOISE_BLOCK == 0) {
            mz_draw_normals(draw, normals, n - i < NOISE_BLOCK ? n - i : NOISE_BLOCK);
        }
        level += step * (double)normals[i % NOISE_BLOCK];
        out[i] += (float)level;
    }
}

void mz_part_gain(mz_draw *draw, float *out, int64_t n, double depth) {
    line_knots gain;
    draw_knots(draw, n, (int)mz_draw_int(draw, 2, 6), &gain);
    for (int k = 0; k < gain.n; k++) {
        gain.value[k] = mz_draw_uniform(draw, 1 - depth, 1 + depth);
    }
    int segment = 0;
    for (int64_t i = 0; i < n; i++) {
        out[i] *= (float)knots_value(&gain, (double)i, &segment);
    }
}

void mz_part_level_shifts(mz_draw *draw, float *out, int64_t n, double size) {
    const int64_t n_shifts = mz_draw_int(draw, 1, 4);
    for (int64_t k = 0; k < n_shifts; k++) {
        const int64_t from = mz_draw_int(draw, 0, n - 1);
        const int64_t to = mz_draw_chance(draw, 0.3) /* and back after a while */
                               ? mz_draw_int(draw, from, n - 1)
                               : n;
        const float shift = (float)(size * mz_draw_normal(draw));
        for (int64_t i = from; i < to; i++) {
            out[i] += shift;
        }
    }
}

void mz_part_outliers(mz_draw *draw, float *out, int64_t n, double share, double size) {
    const bool one_sided = mz_draw_chance(draw, 0.6);
    const double decay = mz_draw_chance(draw, 0.6) ? 0 : mz_draw_uniform(draw, 0.3, 0.95);
    double left = 0;
    for (int64_t i = 0; i < n; i++) {
        left *= decay;
        if (mz_draw_chance(draw, share)) {
            const double spike = size * mz_draw_uniform(draw, 0.5, 1.5);
            left += one_sided || mz_draw_chance(draw, 0.5) ? spike : -spike;
        }
        out[i] += (float)left;
    }
}

void mz_part_exponentiate(float *out, int64_t n, double depth) {
    double mean;
    double deviation;
    mz_part_moments(out, n, &mean, &deviation);
    const double scale = deviation > 1e-9 ? 1 / deviation : 0;
    for (int64_t i = 0; i < n; i++) {
        const double z = fmin(fmax(((double)out[i] - mean) * scale, -4), 4);
        out[i] = expf((float)(depth * z));
    }
}
