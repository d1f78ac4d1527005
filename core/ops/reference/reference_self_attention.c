#include <math.h>

#include "core/ops/reference/reference_ops.h"

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* First row of the sequence that row t belongs to. */
static int64_t first_row(const mz_rows *rows, int64_t t) {
    while (t > 0 && rows->sequence[t - 1] == rows->sequence[t]) {
        t--;
    }
    return t;
}

/* Head h of row t. */
static float *head(const mz_tensor *x, int64_t t, int64_t h, int64_t head_dim) {
    return mz_tensor_f32(x, t) + h * head_dim;
}

/* Query heads that share a kv head. */
static int64_t group_of(const mz_qkv *in) {
    return in->q.shape[1] / in->k.shape[1];
}

static double score(const mz_qkv *in, int64_t t, int64_t j, int64_t h, float scale) {
    const int64_t d = in->head_dim;
    return dot(head(&in->q, t, h, d), head(&in->k, j, h / group_of(in), d), d) * (double)scale;
}

mz_status mz_ref_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                const mz_qkv *in, const mz_rows *rows,
                                const mz_attention_rule *rule) {
    (void)s;
    const int64_t d = in->head_dim;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const int64_t begin = first_row(rows, t);
        for (int64_t h = 0; h < in->q.shape[1] / d; h++) {
            double max = -INFINITY;
            double total = 0;
            double out[MZ_MAX_HEAD_DIM] = {0};
            for (int64_t j = begin; j <= t; j++) {
                max = fmax(max, score(in, t, j, h, rule->scale));
            }
            for (int64_t j = begin; j <= t && max > -INFINITY; j++) {
                const double p = exp(score(in, t, j, h, rule->scale) - max);
                const float *v = head(&in->v, j, h / group_of(in), d);
                total += p;
                for (int64_t i = 0; i < d; i++) {
                    out[i] += p * (double)v[i];
                }
            }
            for (int64_t i = 0; i < d; i++) {
                head(y, t, h, d)[i] = max > -INFINITY ? (float)(out[i] / total) : 0.0f;
            }
            mz_tensor_f32(log_sums, t)[h] = (float)(max + log(total));
        }
    }
    return MZ_OK;
}

/* What a backward reads. */
typedef struct gradient_inputs {
    const mz_tensor *d_y, *y, *log_sums;
    const mz_qkv *in;
    float scale;
} gradient_inputs;

/* How much head h of row t weighs row j; 0 where nothing is weighted. */
static double probability(const gradient_inputs *g, int64_t t, int64_t j, int64_t h) {
    const double log_sum = (double)mz_tensor_f32(g->log_sums, t)[h];
    return log_sum == -INFINITY ? 0 : exp(score(g->in, t, j, h, g->scale) - log_sum);
}

/* Gradient of that score, before the scale. */
static double score_gradient(const gradient_inputs *g, int64_t t, int64_t j, int64_t h) {
    const int64_t d = g->in->head_dim;
    const float *d_y = head(g->d_y, t, h, d);
    const double d_p = dot(d_y, head(&g->in->v, j, h / group_of(g->in), d), d);
    return probability(g, t, j, h) * (d_p - dot(d_y, head(g->y, t, h, d), d));
}

static void add_head(const mz_tensor *d_x, int64_t t, int64_t h, int64_t head_dim,
                     const double *sums, double scale) {
    float *x = head(d_x, t, h, head_dim);
    for (int64_t i = 0; i < head_dim; i++) {
        x[i] = (float)((double)x[i] + scale * sums[i]);
    }
}

/* d_q of head h of row t, whose sequence starts at `begin`. */
static void query_gradient(const gradient_inputs *g, const mz_tensor *d_q, int64_t begin, int64_t t,
                           int64_t h) {
    const int64_t d = g->in->head_dim;
    double sums[MZ_MAX_HEAD_DIM] = {0};
    for (int64_t j = begin; j <= t; j++) {
        const double d_score = score_gradient(g, t, j, h);
        const float *k = head(&g->in->k, j, h / group_of(g->in), d);
        for (int64_t i = 0; i < d; i++) {
            sums[i] += d_score * (double)k[i];
        }
    }
    add_head(d_q, t, h, d, sums, (double)g->scale);
}

/* d_k and d_v of kv head h of row j, whose sequence ends before `end`. */
static void key_value_gradient(const gradient_inputs *g, const mz_qkv *d_in, int64_t j, int64_t end,
                               int64_t h) {
    const int64_t d = g->in->head_dim;
    const int64_t group = group_of(g->in);
    double k_sums[MZ_MAX_HEAD_DIM] = {0};
    double v_sums[MZ_MAX_HEAD_DIM] = {0};
    for (int64_t q_head = h * group; q_head < (h + 1) * group; q_head++) {
        for (int64_t t = j; t < end; t++) {
            const double p = probability(g, t, j, q_head);
            const double d_score = score_gradient(g, t, j, q_head);
            for (int64_t i = 0; i < d; i++) {
                v_sums[i] += p * (double)head(g->d_y, t, q_head, d)[i];
                k_sums[i] += d_score * (double)head(&g->in->q, t, q_head, d)[i];
            }
        }
    }
    if (d_in->k.n_dims != 0) {
        add_head(&d_in->k, j, h, d, k_sums, (double)g->scale);
    }
    if (d_in->v.n_dims != 0) {
        add_head(&d_in->v, j, h, d, v_sums, 1);
    }
}

mz_status mz_ref_self_attention_backward(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule) {
    (void)s;
    const gradient_inputs g = {
        .d_y = d_y, .y = y, .log_sums = log_sums, .in = in, .scale = rule->scale};
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const int64_t begin = first_row(rows, t);
        int64_t end = t + 1;
        while (end < rows->n_rows && rows->sequence[end] == rows->sequence[t]) {
            end++;
        }
        for (int64_t h = 0; h < in->q.shape[1] / in->head_dim && d->q.n_dims != 0; h++) {
            query_gradient(&g, &d->q, begin, t, h);
        }
        for (int64_t h = 0; h < in->k.shape[1] / in->head_dim; h++) {
            key_value_gradient(&g, d, t, end, h);
        }
    }
    return MZ_OK;
}
