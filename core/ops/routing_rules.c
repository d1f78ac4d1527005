#include "core/ops/routing_rules.h"

#include <math.h>

/* ---- Scores ---- */

/* What softmax divides exp(logit - max) by; NaN counts as -inf, a row of only those gives 0. */
typedef struct softmax_sum {
    double max, sum;
} softmax_sum;

static softmax_sum softmax_sum_of(const float *logits, int32_t n) {
    softmax_sum s = {.max = -INFINITY};
    for (int32_t e = 0; e < n; e++) {
        s.max = fmax(s.max, (double)logits[e]); /* fmax passes over NaN */
    }
    for (int32_t e = 0; e < n && s.max != -INFINITY; e++) {
        s.sum += isnan(logits[e]) ? 0 : exp((double)logits[e] - s.max);
    }
    return s;
}

static bool is_sigmoid(const mz_router *router) {
    return router->kind == MZ_ROUTER_SIGMOID_TOPK;
}

static double score_of(const mz_router *router, float logit, softmax_sum s) {
    if (isnan(logit)) {
        return 0;
    }
    if (is_sigmoid(router)) {
        return 1.0 / (1.0 + exp(-(double)logit));
    }
    return s.sum > 0 ? exp((double)logit - s.max) / s.sum : 0;
}

/* ---- Choice ---- */

/* Whether a score beats another; experts are offered in ascending order, so that equal ones keep
 * the lower id. */
static bool beats(float a, float b) {
    return a > b || (isnan(b) && !isnan(a));
}

/* Whether an expert may be chosen at all. */
static bool is_open(float choice) {
    return choice > -INFINITY;
}

/* What experts are compared by. Without bias and sums the logits themselves: their order is that of
 * the scores. */
static void fill_choice(float *choice, const mz_router *router, const float *logits,
                        softmax_sum s) {
    const float *bias = router->selection_bias.n_dims > 0 ? router->selection_bias.data : NULL;
    const bool by_score = bias != NULL || (router->n_groups > 0 && router->group_by_two);
    for (int32_t e = 0; e < router->n_experts; e++) {
        choice[e] = logits[e];
        if (by_score && is_open(logits[e])) {
            choice[e] = (float)score_of(router, logits[e], s) + (bias != NULL ? bias[e] : 0.0f);
        }
    }
}

static float group_score(const float *choice, int32_t n, bool by_two) {
    float best = -INFINITY;
    float second = -INFINITY;
    for (int32_t e = 0; e < n; e++) {
        const float c = isnan(choice[e]) ? -INFINITY : choice[e];
        second = fmaxf(second, fminf(best, c));
        best = fmaxf(best, c);
    }
    return by_two && n > 1 ? best + second : best;
}

/* Closes the experts outside the best groups. */
static void close_groups(float *choice, const mz_router *router) {
    const int32_t n = router->n_experts / router->n_groups;
    float scores[MZ_MAX_EXPERTS];
    for (int32_t g = 0; g < router->n_groups; g++) {
        scores[g] = group_score(choice + g * n, n, router->group_by_two);
    }
    for (int32_t g = 0; g < router->n_groups; g++) {
        int32_t n_better = 0;
        for (int32_t h = 0; h < router->n_groups; h++) {
            n_better += scores[h] > scores[g] || (scores[h] == scores[g] && h < g);
        }
        for (int32_t e = g * n; e < (g + 1) * n && n_better >= router->n_top_groups; e++) {
            choice[e] = -INFINITY;
        }
    }
}

/* The best open experts, best first; returns how many. */
static int32_t select_experts(int32_t *ids, int32_t top_k, const float *choice, int32_t n_experts) {
    int32_t n = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        if (!is_open(choice[e]) || (n == top_k && !beats(choice[e], choice[ids[n - 1]]))) {
            continue;
        }
        int32_t at = n < top_k ? n++ : n - 1;
        for (; at > 0 && beats(choice[e], choice[ids[at - 1]]); at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = e;
    }
    return n;
}

/* How many of the `n` chosen the threshold needs. */
static int32_t prefix_above(const mz_router *router, const int32_t *ids, int32_t n,
                            const float *logits, softmax_sum s) {
    double sum = 0;
    for (int32_t k = 0; k < n; k++) {
        sum += score_of(router, logits[ids[k]], s);
        if (sum > (double)router->threshold) {
            return k + 1;
        }
    }
    return n;
}

/* DeepSpeed's second choice: the best but `first` of logit + noise; -1: there is none. */
static int32_t second_choice(const float *logits, const float *noise, int32_t n_experts,
                             int32_t first) {
    int32_t best = -1;
    float best_score = NAN;
    for (int32_t e = 0; e < n_experts; e++) {
        const float score = logits[e] + (noise != NULL ? noise[e] : 0.0f);
        if (e != first && is_open(score) && beats(score, best_score)) {
            best = e;
            best_score = score;
        }
    }
    return best;
}

/* ---- Weights ---- */

static bool is_counted(const mz_router *router, int32_t id) {
    return id >= 0 && id < router->n_experts - router->n_zero;
}

/* What renormalised scores are divided by: their sum, kept from 0 as each family does it. */
static double divisor_of(const mz_router *router, double sum) {
    if (!router->renormalise) {
        return 1;
    }
    if (mz_route_has_capacity(router)) {
        return fmax(sum, 0x1p-23);
    }
    return is_sigmoid(router) ? sum + 1e-20 : sum;
}

static double scale_of(const mz_router *router) {
    return router->scale != 0 ? (double)router->scale : 1;
}

/* Weights of a token from the scores of its choices. */
static void weigh(float *weights, const mz_router *router, const int32_t *ids, const double *scores,
                  int32_t top_k) {
    double sum = 0;
    for (int32_t k = 0; k < top_k; k++) {
        sum += is_counted(router, ids[k]) ? scores[k] : 0;
    }
    const double divisor = divisor_of(router, sum);
    for (int32_t k = 0; k < top_k; k++) {
        const bool counts = is_counted(router, ids[k]) && divisor > 0;
        const double score = router->unit_weights ? 1 : scores[k] / divisor;
        weights[k] = counts ? (float)(scale_of(router) * score) : 0.0f;
    }
}

bool mz_route_is_simple(const mz_router *router) {
    return router->kind == MZ_ROUTER_SOFTMAX_TOPK && router->selection_bias.n_dims == 0 &&
           router->n_groups == 0 && !router->by_modality && router->n_zero == 0 &&
           !router->unit_weights;
}

bool mz_route_has_capacity(const mz_router *router) {
    return router->kind == MZ_ROUTER_DEEPSPEED_TOP1 || router->kind == MZ_ROUTER_DEEPSPEED_TOP2;
}

static const float *noise_of(const mz_routing *routing, int64_t token) {
    return routing->noise.n_dims > 0 ? mz_tensor_f32(&routing->noise, token) : NULL;
}

/* First and second choice, and their probabilities. */
static void choose_limited(const mz_router *router, const mz_routing *routing, int64_t token,
                           softmax_sum s) {
    const float *logits = mz_tensor_f32(&routing->logits, token);
    int32_t *ids = routing->expert_ids + token * router->top_k;
    if (select_experts(ids, 1, logits, router->n_experts) == 0) {
        ids[0] = -1;
    }
    if (router->top_k > 1) {
        ids[1] = second_choice(logits, noise_of(routing, token), router->n_experts, ids[0]);
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        routing->gate_weights[token * router->top_k + k] =
            ids[k] >= 0 ? (float)score_of(router, logits[ids[k]], s) : 0.0f;
    }
}

void mz_route_token(const mz_router *router, const mz_routing *routing, int64_t token) {
    const float *logits = mz_tensor_f32(&routing->logits, token);
    const softmax_sum s = softmax_sum_of(logits, router->n_experts);
    int32_t *ids = routing->expert_ids + token * router->top_k;
    float choice[MZ_MAX_EXPERTS];
    double scores[MZ_MAX_EXPERTS];
    if (mz_route_has_capacity(router)) {
        choose_limited(router, routing, token, s);
        return;
    }
    fill_choice(choice, router, logits, s);
    if (router->n_groups > 0) {
        close_groups(choice, router);
    }
    int32_t n = select_experts(ids, router->top_k, choice, router->n_experts);
    if (router->kind == MZ_ROUTER_TOP_P) {
        n = prefix_above(router, ids, n, logits, s);
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        ids[k] = k < n ? ids[k] : -1;
        scores[k] = k < n ? score_of(router, logits[ids[k]], s) : 0;
    }
    weigh(routing->gate_weights + token * router->top_k, router, ids, scores, router->top_k);
}

/* ---- Places ---- */

/* Places of an expert for a sequence of n rows. The product is rounded to f32 before it is rounded
 * up, as DeepSpeed does it: 19 / 5 * 2.5f is more than 9.5. */
static int64_t capacity_of(const mz_router *router, int64_t n_rows) {
    const float factor = router->capacity_factor * (float)router->top_k;
    const float share = (float)((double)n_rows / (double)router->n_experts);
    const float places = ceilf(share * factor);
    if (!router->drop || !(places < (float)n_rows)) {
        return n_rows;
    }
    const int64_t n = places > 0 ? (int64_t)places : 0;
    return n > router->min_capacity ? n : router->min_capacity;
}

/* Whether row t loses its place to other rows of the sequence that chose the same expert: those of
 * higher noise, then earlier ones. */
static bool is_crowded_out(const mz_routing *r, const int32_t *chosen, int64_t begin, int64_t end,
                           int64_t t, int64_t capacity) {
    const int32_t id = chosen[t];
    const float *noise = noise_of(r, t);
    int64_t n_before = 0;
    for (int64_t i = begin; i < end; i++) {
        if (i != t && chosen[i] == id) {
            const float other = noise != NULL ? noise_of(r, i)[id] : 0.0f;
            const float mine = noise != NULL ? noise[id] : 0.0f;
            n_before += beats(other, mine) || (i < t && !beats(mine, other));
        }
    }
    return n_before >= capacity;
}

/* Top-1. Rows without a place keep their id until all have been looked at: the others count them.
 */
static void place_top1(const mz_router *router, const mz_routing *r, int64_t begin, int64_t end) {
    int32_t load[MZ_MAX_EXPERTS] = {0};
    const int64_t capacity = capacity_of(router, end - begin);
    for (int64_t t = begin; t < end; t++) {
        if (r->expert_ids[t] >= 0) {
            load[r->expert_ids[t]]++;
        }
    }
    for (int64_t t = begin; t < end; t++) {
        const int32_t id = r->expert_ids[t];
        if (id >= 0 && load[id] > capacity &&
            is_crowded_out(r, r->expert_ids, begin, end, t, capacity)) {
            r->gate_weights[t] = -1.0f; /* for now */
        }
    }
    for (int64_t t = begin; t < end; t++) {
        if (r->gate_weights[t] < 0) {
            r->expert_ids[t] = -1;
            r->gate_weights[t] = 0.0f;
        }
    }
}

/* Top-2: all first choices, then all second ones, in order. */
static void place_top2(const mz_router *router, const mz_routing *r, int64_t begin, int64_t end) {
    int32_t used[MZ_MAX_EXPERTS] = {0};
    const int64_t capacity = capacity_of(router, end - begin);
    for (int32_t k = 0; k < router->top_k; k++) {
        for (int64_t t = begin; t < end; t++) {
            int32_t *id = &r->expert_ids[t * router->top_k + k];
            if (*id >= 0 && used[*id]++ >= capacity) {
                *id = -1;
            }
        }
    }
}

void mz_route_places(const mz_router *router, const mz_routing *routing) {
    const int32_t *sequence = routing->rows.n_rows > 0 ? routing->rows.sequence : NULL;
    const int32_t top_k = router->top_k;
    int64_t begin = 0;
    for (int64_t t = 1; t <= routing->n_tokens; t++) {
        if (t == routing->n_tokens || (sequence != NULL && sequence[t] != sequence[t - 1])) {
            (top_k == 1 ? place_top1 : place_top2)(router, routing, begin, t);
            begin = t;
        }
    }
    for (int64_t t = 0; t < routing->n_tokens; t++) {
        float *weights = routing->gate_weights + t * top_k;
        double scores[2] = {0};
        for (int32_t k = 0; k < top_k; k++) {
            scores[k] = (double)weights[k];
        }
        weigh(weights, router, routing->expert_ids + t * top_k, scores, top_k);
    }
}

/* ---- Backward ---- */

/* Turns gradients of a token's weights into those of its scores. */
static void weigh_backward(double *d_scores, const float *d_weights, const mz_router *router,
                           const int32_t *ids, const double *scores) {
    double sum = 0;
    double mean = 0; /* of the gradients, under the renormalised scores */
    for (int32_t k = 0; k < router->top_k; k++) {
        sum += is_counted(router, ids[k]) ? scores[k] : 0;
    }
    const double divisor = divisor_of(router, sum);
    for (int32_t k = 0; k < router->top_k && divisor > 0; k++) {
        mean += is_counted(router, ids[k]) ? (double)d_weights[k] * scores[k] / divisor : 0;
    }
    if (!router->renormalise || (mz_route_has_capacity(router) && divisor > sum)) {
        mean = 0; /* divided by a constant */
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        const bool counts = is_counted(router, ids[k]) && divisor > 0 && !router->unit_weights;
        d_scores[k] = counts ? scale_of(router) / divisor * ((double)d_weights[k] - mean) : 0;
    }
}

static void add_to(float *sum, double value) {
    *sum = (float)((double)*sum + value);
}

void mz_route_token_backward(float *d_logits, const float *d_weights, const mz_router *router,
                             const mz_routing *routing, int64_t token) {
    const float *logits = mz_tensor_f32(&routing->logits, token);
    const int32_t *ids = routing->expert_ids + token * router->top_k;
    const softmax_sum s = softmax_sum_of(logits, router->n_experts);
    double scores[MZ_MAX_EXPERTS];
    double d_scores[MZ_MAX_EXPERTS];
    double mean = 0; /* of the gradients, under p */
    for (int32_t k = 0; k < router->top_k; k++) {
        scores[k] = ids[k] >= 0 ? score_of(router, logits[ids[k]], s) : 0;
    }
    weigh_backward(d_scores, d_weights, router, ids, scores);
    for (int32_t k = 0; k < router->top_k; k++) {
        mean += d_scores[k] * scores[k];
        if (ids[k] >= 0) {
            const double slope = is_sigmoid(router) ? 1 - scores[k] : 1;
            add_to(&d_logits[ids[k]], d_scores[k] * scores[k] * slope);
        }
    }
    for (int32_t e = 0; e < router->n_experts && !is_sigmoid(router) && mean != 0; e++) {
        add_to(&d_logits[e], -mean * score_of(router, logits[e], s));
    }
}

/* ---- Ranges of modalities ---- */

mz_modality mz_route_modality(const mz_router *router, const mz_rows *rows, int64_t i) {
    if (rows->n_rows == 0 || rows->modality == NULL || rows->modality[i] >= MZ_MODALITY_COUNT) {
        return MZ_MODALITY_TEXT;
    }
    const bool is_last = i + 1 >= rows->n_rows || rows->sequence[i + 1] != rows->sequence[i];
    if (router->text_before_text && (is_last || rows->modality[i + 1] == MZ_MODALITY_TEXT)) {
        return MZ_MODALITY_TEXT;
    }
    return (mz_modality)rows->modality[i];
}

int64_t mz_mask_logits_rows(const mz_tensor *logits, const mz_tensor *in, const mz_router *router,
                            const mz_rows *rows, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const mz_modality m = mz_route_modality(router, rows, t);
        float *out = mz_tensor_f32(logits, t);
        if (in[m].n_dims == 0) {
            return t;
        }
        const int32_t first = router->ranges[m].first;
        for (int32_t e = 0; e < router->n_experts; e++) {
            const bool is_inside = e >= first && e < first + in[m].shape[1];
            out[e] = is_inside ? mz_tensor_f32(&in[m], t)[e - first] : -INFINITY;
        }
    }
    return -1;
}

void mz_mask_logits_rows_backward(const mz_tensor *d_in, const mz_tensor *d_logits,
                                  const mz_router *router, const mz_rows *rows, int64_t begin,
                                  int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const mz_modality m = mz_route_modality(router, rows, t);
        const float *d = mz_tensor_f32(d_logits, t) + router->ranges[m].first;
        for (int64_t i = 0; d_in[m].n_dims > 0 && i < d_in[m].shape[1]; i++) {
            mz_tensor_f32(&d_in[m], t)[i] += d[i];
        }
    }
}
