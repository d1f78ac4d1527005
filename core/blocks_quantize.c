#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/blocks.h"
#include "core/half.h"

enum { SHORT = 32, LONG = 256, N_SUB = LONG / SHORT, N_SIXTEENTHS = 16 };

/* Scales that are tried: the plain one and N_TRIES on either side of it, a tenth of a step of the
 * largest number apart; of lines, which are fitted twice, each third of them and as many more on
 * the side that reaches less far (all of them would take three times as long for 0.5 % less
 * error). */
enum { N_TRIES = 9, LINE_STEP = 3 };

static float put_half(uint8_t *p, float x) {
    const float limit = 65504.0f; /* the largest finite one */
    const uint16_t h = mz_f16_from_f32(x > limit ? limit : x > -limit ? x : -limit);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    return mz_f16_to_f32(h);
}

static float inverse_of(float x) {
    const float inverse = 1.0f / x;
    return isfinite(inverse) ? inverse : 0.0f;
}

/* x clamped and rounded to nearest, ties to even; |low| and |high| below 2^22. Branches and calls
 * are avoided, so that loops over it are vectorised. */
static float round_within(float x, float low, float high) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it leaves no bits for a fraction */
    const float clamped = x > high ? high : x > low ? x : low;
    return (clamped + magic) - magic;
}

static void round_all(float *q, const float *x, int n, float inverse, float low, float high) {
    for (int i = 0; i < n; i++) {
        q[i] = round_within(x[i] * inverse, low, high);
    }
}

/* ---- y = d q, q in -half .. half - 1 ---- */

static float largest(const float *x, int n) {
    float value = 0;
    for (int i = 0; i < n; i++) {
        value = fabsf(x[i]) > fabsf(value) ? x[i] : value;
    }
    return value;
}

/* The scale with the smallest squared error, weighted by `w`. The value of largest magnitude goes
 * to the end that reaches further, which gives the sign. */
static float search_scale(const float *x, const float *w, int n, float half) {
    const float extreme = largest(x, n);
    float best = 0;
    float best_gain = 0;
    if (!(fabsf(extreme) > 0)) {
        return 0;
    }
    for (int t = -N_TRIES; t <= N_TRIES; t++) {
        const float inverse = -(half + 0.1f * (float)t) / extreme;
        float xq = 0;
        float qq = 0;
        for (int i = 0; i < n; i++) {
            const float q = round_within(x[i] * inverse, -half, half - 1);
            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        /* The error at the least-squares scale xq / qq is sum w x^2 - xq^2 / qq. */
        if (qq > 0 && xq * xq > best_gain * qq) {
            best = xq / qq;
            best_gain = xq * best;
        }
    }
    return best;
}

/* ---- y = d q + m, q in 0 .. top ---- */

typedef struct line {
    float d;
    float m;
} line;

/* What a fit through the pairs (q, x) needs. */
typedef struct sums {
    float w, x, q, xq, qq;
} sums;

static sums add_up(const float *x, const float *q, const float *w, int n) {
    sums s = {0};
    for (int i = 0; i < n; i++) {
        s.w += w[i];
        s.x += w[i] * x[i];
        s.q += w[i] * q[i];
        s.xq += w[i] * x[i] * q[i];
        s.qq += w[i] * q[i] * q[i];
    }
    return s;
}

/* The least-squares line; with `m` at most 0 where `below` asks for it. False where there is
 * none. */
static bool fit(const sums *s, bool below, line *out) {
    const float determinant = s->w * s->qq - s->q * s->q;
    if (!(determinant > 0)) {
        return false;
    }
    out->d = (s->w * s->xq - s->x * s->q) / determinant;
    out->m = (s->qq * s->x - s->q * s->xq) / determinant;
    if (below && out->m > 0) {
        *out = (line){.d = s->xq / s->qq};
    }
    return out->d > 0;
}

static float squared_error(const float *x, const float *q, const float *w, int n, line l) {
    float error = 0;
    for (int i = 0; i < n; i++) {
        const float difference = l.d * q[i] + l.m - x[i];
        error += w[i] * difference * difference;
    }
    return error;
}

/* The line with the smallest squared error, weighted by `w`. */
static line search_line(const float *x, const float *w, int n, float top, bool below) {
    float low = below && x[0] > 0 ? 0 : x[0];
    float high = x[0];
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (!(high > low)) {
        return (line){.m = low};
    }
    line best = {.d = (high - low) / top, .m = low};
    float best_error = INFINITY;
    for (int t = -2 * LINE_STEP; t <= 2 * N_TRIES; t += LINE_STEP) {
        float shifted[SHORT];
        float q[SHORT];
        line l = {.d = (high - low) / (top + 0.1f * (float)t), .m = low};
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < n; i++) {
                shifted[i] = x[i] - l.m;
            }
            round_all(q, shifted, n, inverse_of(l.d), 0, top);
            const sums s = add_up(x, q, w, n);
            if (!fit(&s, below, &l)) {
                break;
            }
            const float error = squared_error(x, q, w, n, l);
            if (error < best_error) {
                best_error = error;
                best = l;
            }
        }
    }
    return best;
}

/* ---- the legacy types ---- */

static void ones(float *w) {
    for (int i = 0; i < SHORT; i++) {
        w[i] = 1;
    }
}

static void put_nibbles(uint8_t *qs, const float *q, int offset) {
    for (int j = 0; j < SHORT / 2; j++) {
        const int low = (int)q[j] + offset;
        const int high = (int)q[j + SHORT / 2] + offset;
        qs[j] = (uint8_t)((low & 15) | (high & 15) << 4);
    }
}

static void put_fifth_bits(uint8_t *qh, const float *q, int offset) {
    memset(qh, 0, 4);
    for (int j = 0; j < SHORT; j++) {
        qh[j / 8] = (uint8_t)(qh[j / 8] | (((int)q[j] + offset) >> 4 & 1) << j % 8);
    }
}

void mz_q8_0_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += SHORT, b += 34) {
        float q[SHORT];
        const float d = put_half(b, fabsf(largest(src + i, SHORT)) / 127);
        round_all(q, src + i, SHORT, inverse_of(d), -127, 127);
        for (int j = 0; j < SHORT; j++) {
            b[2 + j] = (uint8_t)(int8_t)q[j];
        }
    }
}

void mz_q4_0_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    float w[SHORT];
    ones(w);
    for (int64_t i = 0; i < n; i += SHORT, b += 18) {
        float q[SHORT];
        const float d = put_half(b, search_scale(src + i, w, SHORT, 8));
        round_all(q, src + i, SHORT, inverse_of(d), -8, 7);
        put_nibbles(b + 2, q, 8);
    }
}

void mz_q5_0_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    float w[SHORT];
    ones(w);
    for (int64_t i = 0; i < n; i += SHORT, b += 22) {
        float q[SHORT];
        const float d = put_half(b, search_scale(src + i, w, SHORT, 16));
        round_all(q, src + i, SHORT, inverse_of(d), -16, 15);
        put_fifth_bits(b + 2, q, 16);
        put_nibbles(b + 6, q, 16);
    }
}

/* Scale and offset of 32 values at b, and their numbers. */
static void quantise_line(uint8_t *b, float *q, const float *x, float top) {
    float w[SHORT];
    float shifted[SHORT];
    ones(w);
    const line l = search_line(x, w, SHORT, top, false);
    const float d = put_half(b, l.d);
    const float m = put_half(b + 2, l.m);
    for (int j = 0; j < SHORT; j++) {
        shifted[j] = x[j] - m;
    }
    round_all(q, shifted, SHORT, inverse_of(d), 0, top);
}

void mz_q4_1_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += SHORT, b += 20) {
        float q[SHORT];
        quantise_line(b, q, src + i, 15);
        put_nibbles(b + 4, q, 0);
    }
}

void mz_q5_1_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += SHORT, b += 24) {
        float q[SHORT];
        quantise_line(b, q, src + i, 31);
        put_fifth_bits(b + 4, q, 0);
        put_nibbles(b + 8, q, 0);
    }
}

/* ---- the K types ---- */

static void put_scales(uint8_t *s, const int *scales, const int *minimums) {
    memset(s, 0, 12);
    for (int k = 0; k < 4; k++) {
        s[k] = (uint8_t)(scales[k] | scales[k + 4] >> 4 << 6);
        s[k + 4] = (uint8_t)(minimums[k] | minimums[k + 4] >> 4 << 6);
        s[k + 8] = (uint8_t)((scales[k + 4] & 15) | (minimums[k + 4] & 15) << 4);
    }
}

static void weigh(float *w, const float *x) {
    float sum = 0;
    for (int i = 0; i < SHORT; i++) {
        sum += x[i] * x[i];
    }
    const float root = sqrtf(sum / SHORT);
    for (int i = 0; i < SHORT; i++) {
        w[i] = root + fabsf(x[i]);
    }
}

/* The two scales of a block. */
typedef struct pair {
    float d;
    float d_min;
} pair;

static void choose_numbers(float *q, const float *x, const int *scales, const int *minimums, pair p,
                           float top) {
    for (int k = 0; k < N_SUB; k++) {
        float shifted[SHORT];
        const float m = p.d_min * (float)minimums[k];
        for (int j = 0; j < SHORT; j++) {
            shifted[j] = x[k * SHORT + j] + m;
        }
        round_all(q + k * SHORT, shifted, SHORT, inverse_of(p.d * (float)scales[k]), 0, top);
    }
}

/* The least-squares pair for x = d (scale q) - d_min minimum, where it is one of a block. */
static pair refit(const float *q, const float *x, const int *scales, const int *minimums, pair p) {
    double aa = 0;
    double ab = 0;
    double bb = 0;
    double ax = 0;
    double bx = 0;
    for (int e = 0; e < LONG; e++) {
        const double a = (double)q[e] * scales[e / SHORT];
        const double b = -(double)minimums[e / SHORT];
        aa += a * a;
        ab += a * b;
        bb += b * b;
        ax += a * (double)x[e];
        bx += b * (double)x[e];
    }
    const double determinant = aa * bb - ab * ab;
    const pair fitted = determinant > 1e-9 * aa * bb
                            ? (pair){(float)((bb * ax - ab * bx) / determinant),
                                     (float)((aa * bx - ab * ax) / determinant)}
                            : (pair){aa > 0 ? (float)(ax / aa) : p.d, p.d_min};
    return fitted.d > 0 && fitted.d_min >= 0 && isfinite(fitted.d + fitted.d_min) ? fitted : p;
}

/* Scales of a Q4_K or Q5_K block at b[0..15]; the numbers of its 256 values. */
static void quantise_lines(uint8_t *b, float *q, const float *x, float top) {
    line lines[N_SUB];
    int scales[N_SUB];
    int minimums[N_SUB];
    float max_d = 0;
    float max_m = 0;
    for (int k = 0; k < N_SUB; k++) {
        float w[SHORT];
        weigh(w, x + k * SHORT);
        lines[k] = search_line(x + k * SHORT, w, SHORT, top, true);
        max_d = lines[k].d > max_d ? lines[k].d : max_d;
        max_m = -lines[k].m > max_m ? -lines[k].m : max_m;
    }
    pair p = {put_half(b, max_d / 63), put_half(b + 2, max_m / 63)};
    for (int k = 0; k < N_SUB; k++) {
        scales[k] = (int)round_within(lines[k].d * inverse_of(p.d), 0, 63);
        minimums[k] = (int)round_within(-lines[k].m * inverse_of(p.d_min), 0, 63);
    }
    choose_numbers(q, x, scales, minimums, p, top);
    const pair fitted = refit(q, x, scales, minimums, p);
    p = (pair){put_half(b, fitted.d), put_half(b + 2, fitted.d_min)};
    choose_numbers(q, x, scales, minimums, p, top);
    put_scales(b + 4, scales, minimums);
}

/* The low four bits of 256 numbers, two sub-blocks to 32 bytes. */
static void put_long_nibbles(uint8_t *qs, const float *q) {
    for (int p = 0; p < N_SUB / 2; p++) {
        for (int j = 0; j < SHORT; j++) {
            const int low = (int)q[2 * p * SHORT + j];
            const int high = (int)q[(2 * p + 1) * SHORT + j];
            qs[p * SHORT + j] = (uint8_t)((low & 15) | (high & 15) << 4);
        }
    }
}

void mz_q4_k_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += LONG, b += 144) {
        float q[LONG];
        quantise_lines(b, q, src + i, 15);
        put_long_nibbles(b + 16, q);
    }
}

void mz_q5_k_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += LONG, b += 176) {
        float q[LONG];
        quantise_lines(b, q, src + i, 31);
        memset(b + 16, 0, SHORT);
        for (int e = 0; e < LONG; e++) {
            uint8_t *high = b + 16 + e % SHORT;
            *high = (uint8_t)(*high | ((int)q[e] >> 4 & 1) << e / SHORT);
        }
        put_long_nibbles(b + 48, q);
    }
}

static void put_six_bits(uint8_t *b, const float *q) {
    memset(b, 0, 192);
    for (int e = 0; e < LONG; e++) {
        const int number = (int)q[e] + 32;
        const int half = e / 128;
        const int quarter = e % 128 / 32;
        uint8_t *low = b + 64 * half + quarter % 2 * 32 + e % 32;
        uint8_t *high = b + 128 + 32 * half + e % 32;
        *low = (uint8_t)(*low | (number & 15) << (quarter / 2 * 4));
        *high = (uint8_t)(*high | number >> 4 << (quarter * 2));
    }
}

void mz_q6_k_from_f32(void *dst, const float *src, int64_t n) {
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += LONG, b += 210) {
        const float *x = src + i;
        float q[LONG];
        float w[LONG];
        float scales[N_SIXTEENTHS];
        for (int e = 0; e < LONG; e++) {
            w[e] = x[e] * x[e];
        }
        for (int k = 0; k < N_SIXTEENTHS; k++) {
            scales[k] = search_scale(x + 16 * k, w + 16 * k, 16, 32);
        }
        const float d = put_half(b + 208, largest(scales, N_SIXTEENTHS) / -128);
        for (int k = 0; k < N_SIXTEENTHS; k++) {
            const float scale = round_within(scales[k] * inverse_of(d), -128, 127);
            b[192 + k] = (uint8_t)(int8_t)scale;
            round_all(q + 16 * k, x + 16 * k, 16, inverse_of(d * scale), -32, 31);
        }
        put_six_bits(b, q);
    }
}
