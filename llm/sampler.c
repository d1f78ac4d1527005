#include "llm/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Width of the partial maxima and sums: wide enough for the compiler's vectors, and fixed, so that
 * the order of a sum does not depend on them. */
enum { LANES = 8 };

/* Of top-p: weights are first added up in bins by their size, 16 to an octave, so that only the bin
 * where the sum is reached has to be sorted. BIN_SHIFT leaves a float's exponent and the upper four
 * bits of its fraction. */
enum { BIN_SHIFT = 19, ONE_BITS = 0x3f800000, N_BINS = (ONE_BITS >> BIN_SHIFT) + 1 };

enum { LOWEST = 80 }; /* logits that far below the best count as impossible: e^-80 = 1.8e-35 */

/* A candidate of the bin that top-p cuts through. */
typedef struct ranked {
    float weight;
    int32_t id;
} ranked;

struct mz_sampler {
    mz_sampling sampling;
    int64_t vocab_size;
    uint64_t n_draws;
    uint64_t stream;
    int32_t *recent; /* [repeat_last_n] ring */
    int64_t n_recent, next_recent;
    float *penalised; /* [vocab_size] */
    int32_t *ids;     /* [vocab_size] candidates, ascending */
    float *weights;   /* [vocab_size] theirs: probability over that of the best one */
    double *bins;     /* [N_BINS] */
    ranked *ranked;   /* [vocab_size], where top-p cuts */
};

mz_status mz_sampling_check(mz_error *err, const mz_sampling *s) {
    const double t = s->temperature;
    if (!(t == 0 || (t >= MZ_MIN_TEMPERATURE && t <= MZ_MAX_TEMPERATURE))) {
        return mz_fail(err, MZ_ERR_ARG, "temperature: %g is neither 0 nor in %g to %g", t,
                       MZ_MIN_TEMPERATURE, MZ_MAX_TEMPERATURE);
    }
    if (s->sample_top_k < 0) {
        return mz_fail(err, MZ_ERR_ARG, "top-k: %lld is below 0", (long long)s->sample_top_k);
    }
    if (!(s->top_p >= 0 && s->top_p <= 1)) {
        return mz_fail(err, MZ_ERR_ARG, "top-p: %g is outside 0 to 1", s->top_p);
    }
    if (!(s->min_p >= 0 && s->min_p <= 1)) {
        return mz_fail(err, MZ_ERR_ARG, "min-p: %g is outside 0 to 1", s->min_p);
    }
    if (!(s->repeat_penalty >= 0.01 && s->repeat_penalty <= 100)) {
        return mz_fail(err, MZ_ERR_ARG, "repeat penalty: %g is outside 0.01 to 100",
                       s->repeat_penalty);
    }
    if (s->repeat_last_n < 0 || s->repeat_last_n > MZ_MAX_REPEAT_LAST_N) {
        return mz_fail(err, MZ_ERR_ARG,
                       "tokens that the repeat penalty sees: %lld, outside 0 to %d",
                       (long long)s->repeat_last_n, MZ_MAX_REPEAT_LAST_N);
    }
    return MZ_OK;
}

/* ---- life ---- */

static mz_status allocate(mz_context *ctx, mz_sampler *s) {
    const size_t n = (size_t)s->vocab_size;
    const size_t n_recent = (size_t)s->sampling.repeat_last_n;
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, n_recent > 0 ? n_recent : 1, sizeof(int32_t), "sampler", &memory));
    s->recent = memory;
    MZ_TRY(mz_calloc(ctx, n, sizeof(float), "sampler", &memory));
    s->penalised = memory;
    MZ_TRY(mz_calloc(ctx, n, sizeof(int32_t), "sampler", &memory));
    s->ids = memory;
    MZ_TRY(mz_calloc(ctx, n, sizeof(float), "sampler", &memory));
    s->weights = memory;
    MZ_TRY(mz_calloc(ctx, N_BINS, sizeof(double), "sampler", &memory));
    s->bins = memory;
    MZ_TRY(mz_calloc(ctx, s->sampling.top_p < 1 ? n : 1, sizeof(ranked), "sampler", &memory));
    s->ranked = memory;
    return MZ_OK;
}

mz_status mz_sampler_create(mz_context *ctx, const mz_sampling *sampling, int64_t vocab_size,
                            mz_sampler **out) {
    void *memory = NULL;
    MZ_TRY(mz_sampling_check(&ctx->error, sampling));
    if (vocab_size < 1 || vocab_size > INT32_MAX) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "sampler: a vocabulary of %lld",
                       (long long)vocab_size);
    }
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_sampler), "sampler", &memory));
    mz_sampler *s = memory;
    s->sampling = *sampling;
    s->vocab_size = vocab_size;
    s->stream = mz_rng_stream_of("sampler");
    const mz_status status = allocate(ctx, s);
    if (status != MZ_OK) {
        mz_sampler_destroy(ctx, s);
        return status;
    }
    *out = s;
    return MZ_OK;
}

void mz_sampler_destroy(mz_context *ctx, mz_sampler *s) {
    if (s == NULL) {
        return;
    }
    mz_free(ctx, s->recent);
    mz_free(ctx, s->penalised);
    mz_free(ctx, s->ids);
    mz_free(ctx, s->weights);
    mz_free(ctx, s->bins);
    mz_free(ctx, s->ranked);
    mz_free(ctx, s);
}

void mz_sampler_accept(mz_sampler *s, int32_t id) {
    const int64_t n = s->sampling.repeat_last_n;
    if (n == 0 || id < 0 || id >= s->vocab_size) {
        return;
    }
    s->recent[s->next_recent] = id;
    s->next_recent = (s->next_recent + 1) % n;
    s->n_recent += s->n_recent < n;
}

void mz_sampler_forget(mz_sampler *s) {
    s->n_recent = 0;
    s->next_recent = 0;
}

/* ---- logits and probabilities ---- */

/* Each token that occurs is penalised once, however often it does. */
static const float *penalise(mz_sampler *s, const float *logits) {
    const float penalty = (float)s->sampling.repeat_penalty;
    if (penalty == 1 || s->n_recent == 0) {
        return logits;
    }
    memcpy(s->penalised, logits, (size_t)s->vocab_size * sizeof *logits);
    for (int64_t i = 0; i < s->n_recent; i++) {
        const int32_t id = s->recent[i];
        s->penalised[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
    return s->penalised;
}

/* A NaN loses every comparison, as -inf does. */
static float number_of(float logit) {
    return logit > -INFINITY ? logit : -INFINITY;
}

/* -inf where there is nothing but that and NaN. */
static float largest(const float *logits, int64_t n) {
    float lanes[LANES];
    for (int k = 0; k < LANES; k++) {
        lanes[k] = -INFINITY;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            lanes[k] = logits[i + k] > lanes[k] ? logits[i + k] : lanes[k];
        }
    }
    for (; i < n; i++) {
        lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    }
    for (int k = 1; k < LANES; k++) {
        lanes[0] = lanes[k] > lanes[0] ? lanes[k] : lanes[0];
    }
    return lanes[0];
}

static int32_t first_equal(const float *logits, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++) {
        if (number_of(logits[i]) == value) {
            return (int32_t)i;
        }
    }
    return 0;
}

/* exp(x) for x at most 0, and 0 below -LOWEST and of NaN: 2^n e^r with |r| <= ln(2) / 2 and the
 * series of e^r to r^7, which is off by 5e-9. A library's exp may differ in the last bit from
 * machine to machine, and then another token be drawn. */
static inline float weight_of(float x) {
    static const float round_by = 12582912.0f; /* 1.5 * 2^23: has no bits left for a fraction */
    const float clamped = x > -LOWEST ? x : -LOWEST;
    const float n = clamped * 1.44269504f + round_by - round_by;
    /* ln(2) in two parts, the first short enough for an exact product. */
    const float r = clamped - n * 0.693359375f - n * -2.12194440e-4f;
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1;
    sum = sum * r + 1;
    const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x > -LOWEST ? sum * scale : 0;
}

/* A logit's weight beside the best one's. Infinite logits have no distance: equal ones share. */
static float relative_weight(float logit, float best, float per_temperature) {
    return isfinite(best) ? weight_of((logit - best) * per_temperature)
                          : (float)(number_of(logit) == best);
}

static double add_up(const float *values, int64_t n) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            lanes[k] += values[i + k];
        }
    }
    for (; i < n; i++) {
        lanes[0] += values[i];
    }
    for (int k = 1; k < LANES; k++) {
        lanes[0] += lanes[k];
    }
    return lanes[0];
}

static float per_temperature(const mz_sampler *s) {
    return s->sampling.temperature > 0 ? (float)(1 / s->sampling.temperature) : 1;
}

static void fill_weights(mz_sampler *s, const float *logits, float best) {
    const float factor = per_temperature(s);
    if (isfinite(best)) {
        for (int64_t i = 0; i < s->vocab_size; i++) {
            s->weights[i] = weight_of((logits[i] - best) * factor);
        }
        return;
    }
    for (int64_t i = 0; i < s->vocab_size; i++) {
        s->weights[i] = (float)(number_of(logits[i]) == best);
    }
}

/* ---- cuts: each leaves the candidates in ascending order of their ids ---- */

static void sift_down(float *heap, int64_t n, int64_t at) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) {
            return;
        }
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[at] <= heap[child]) {
            return;
        }
        const float moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
        at = child;
    }
}

/* The k-th largest, by a heap of the k largest so far with the least of them on top: of a large
 * vocabulary nearly all are turned away by one comparison. `heap` [k]. */
static float kth_largest(const float *logits, int64_t n, int64_t k, float *heap) {
    for (int64_t i = 0; i < k; i++) {
        heap[i] = number_of(logits[i]);
    }
    for (int64_t i = k / 2 - 1; i >= 0; i--) {
        sift_down(heap, k, i);
    }
    for (int64_t i = k; i < n; i++) {
        if (logits[i] > heap[0]) {
            heap[0] = logits[i];
            sift_down(heap, k, 0);
        }
    }
    return heap[0];
}

/* Returns how many candidates there are. */
static int64_t select_top_k(mz_sampler *s, const float *logits, float best) {
    const int64_t n = s->vocab_size;
    const int64_t k = s->sampling.sample_top_k;
    if (k == 0 || k >= n) {
        for (int64_t i = 0; i < n; i++) {
            s->ids[i] = (int32_t)i;
        }
        fill_weights(s, logits, best);
        return n;
    }
    const float factor = per_temperature(s);
    const float threshold = kth_largest(logits, n, k, s->weights);
    int64_t n_ties = k;
    for (int64_t i = 0; i < n; i++) {
        n_ties -= logits[i] > threshold;
    }
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const bool tie = number_of(logits[i]) == threshold && n_ties > 0;
        if (tie || logits[i] > threshold) {
            n_ties -= tie;
            s->ids[n_kept] = (int32_t)i;
            s->weights[n_kept++] = relative_weight(logits[i], best, factor);
        }
    }
    return n_kept;
}

static int compare_ranked(const void *a, const void *b) {
    const ranked *x = a;
    const ranked *y = b;
    if (x->weight != y->weight) {
        return x->weight < y->weight ? 1 : -1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

/* Bin 0 holds the best. The bits of a positive float rise with it. */
static int bin_of(float weight) {
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits < ONE_BITS ? (int)((ONE_BITS - bits) >> BIN_SHIFT) : 0;
}

/* The last of the fewest that reach `wanted`, best first. */
static ranked find_last(mz_sampler *s, int64_t n, double wanted) {
    double sum = 0;
    int bin = 0;
    size_t n_ranked = 0;
    memset(s->bins, 0, N_BINS * sizeof *s->bins);
    for (int64_t i = 0; i < n; i++) {
        s->bins[bin_of(s->weights[i])] += s->weights[i];
    }
    for (; bin + 1 < N_BINS && sum + s->bins[bin] < wanted; bin++) {
        sum += s->bins[bin];
    }
    for (int64_t i = 0; i < n; i++) {
        if (bin_of(s->weights[i]) == bin) {
            s->ranked[n_ranked++] = (ranked){s->weights[i], s->ids[i]};
        }
    }
    if (n_ranked == 0) { /* rounding: all of them do not reach it */
        return (ranked){0, INT32_MAX};
    }
    qsort(s->ranked, n_ranked, sizeof *s->ranked, compare_ranked);
    size_t last = 0;
    for (sum += s->ranked[0].weight; sum < wanted && last + 1 < n_ranked; last++) {
        sum += s->ranked[last + 1].weight;
    }
    return s->ranked[last];
}

static int64_t cut_top_p(mz_sampler *s, int64_t n) {
    if (s->sampling.top_p >= 1) {
        return n;
    }
    const ranked last = find_last(s, n, s->sampling.top_p * add_up(s->weights, n));
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const float weight = s->weights[i];
        if (weight > last.weight || (weight == last.weight && s->ids[i] <= last.id)) {
            s->ids[n_kept] = s->ids[i];
            s->weights[n_kept++] = weight;
        }
    }
    return n_kept;
}

static int64_t cut_min_p(mz_sampler *s, int64_t n) {
    const float least = (float)s->sampling.min_p; /* the best one's weight is 1 */
    int64_t n_kept = 0;
    if (least == 0) {
        return n;
    }
    for (int64_t i = 0; i < n; i++) {
        if (s->weights[i] >= least) {
            s->ids[n_kept] = s->ids[i];
            s->weights[n_kept++] = s->weights[i];
        }
    }
    return n_kept;
}

/* ---- the choice ---- */

static int32_t draw(mz_sampler *s, int64_t n) {
    uint32_t words[4];
    mz_rng_block(s->sampling.seed, s->stream, s->n_draws++, words);
    const uint64_t bits = ((uint64_t)words[0] << 32 | words[1]) >> 11;
    const double point = (double)bits * 0x1p-53 * add_up(s->weights, n);
    double sum = 0;
    int32_t id = s->ids[0];
    for (int64_t i = 0; i < n; i++) {
        if (s->weights[i] > 0) { /* the last possible one also takes what rounding leaves */
            id = s->ids[i];
            sum += s->weights[i];
            if (sum > point) {
                break;
            }
        }
    }
    return id;
}

static double probability_of(mz_sampler *s, const float *logits, float best, int32_t id) {
    fill_weights(s, logits, best);
    const double sum = add_up(s->weights, s->vocab_size);
    return sum > 0 ? s->weights[id] / sum : 0;
}

int32_t mz_sampler_next(mz_sampler *s, const float *logits, double *probability) {
    const float *l = penalise(s, logits);
    const float best = largest(l, s->vocab_size);
    int32_t id = 0;
    if (s->sampling.temperature > 0) {
        int64_t n = select_top_k(s, l, best);
        n = cut_top_p(s, n);
        n = cut_min_p(s, n);
        id = draw(s, n);
    } else {
        id = first_equal(l, s->vocab_size, best);
    }
    if (probability != NULL) {
        *probability = probability_of(s, l, best, id);
    }
    return id;
}
