#include <math.h>
#include <stdbool.h>

#include "core/ops/reference/reference_ops.h"

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* Rows [begin, end). */
typedef struct row_range {
    int64_t begin, end;
} row_range;

/* The rows of the sequence that row t belongs to. */
static row_range sequence_of(const mz_rows *rows, int64_t t) {
    row_range r = {t, t + 1};
    while (r.begin > 0 && rows->sequence[r.begin - 1] == rows->sequence[t]) {
        r.begin--;
    }
    while (r.end < rows->n_rows && rows->sequence[r.end] == rows->sequence[t]) {
        r.end++;
    }
    return r;
}

/* Whether row t sees row j of its sequence. */
static bool sees(const mz_attention_rule *rule, int64_t t, int64_t j) {
    const int64_t distance = t < j ? j - t : t - j;
    return (j <= t || rule->bidirectional) && (rule->window == 0 || distance < rule->window);
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
    const int64_t d_v = mz_qkv_head_dim_v(in);
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const row_range all = sequence_of(rows, t);
        for (int64_t h = 0; h < in->q.shape[1] / in->head_dim; h++) {
            double max = -INFINITY;
            double total = 0;
            double out[MZ_MAX_HEAD_DIM] = {0};
            for (int64_t j = all.begin; j < all.end; j++) {
                max = sees(rule, t, j) ? fmax(max, score(in, t, j, h, rule->scale)) : max;
            }
            for (int64_t j = all.begin; j < all.end && max > -INFINITY; j++) {
                if (!sees(rule, t, j)) {
                    continue;
                }
                const double p = exp(score(in, t, j, h, rule->scale) - max);
                const float *v = head(&in->v, j, h / group_of(in), d_v);
                total += p;
                for (int64_t i = 0; i < d_v; i++) {
                    out[i] += p * (double)v[i];
                }
            }
            for (int64_t i = 0; i < d_v; i++) {
                head(y, t, h, d_v)[i] = max > -INFINITY ? (float)(out[i] / total) : 0.0f;
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
    const mz_attention_rule *rule;
} gradient_inputs;

/* How much head h of row t weighs row j, which it sees; 0 where nothing is weighted. */
static double probability(const gradient_inputs *g, int64_t t, int64_t j, int64_t h) {
    const double log_sum = (double)mz_tensor_f32(g->log_sums, t)[h];
    return log_sum == -INFINITY ? 0 : exp(score(g->in, t, j, h, g->rule->scale) - log_sum);
}

/* Gradient of that score, before the scale. */
static double score_gradient(const gradient_inputs *g, int64_t t, int64_t j, int64_t h) {
    const int64_t d_v = mz_qkv_head_dim_v(g->in);
    const float *d_y = head(g->d_y, t, h, d_v);
    const double d_p = dot(d_y, head(&g->in->v, j, h / group_of(g->in), d_v), d_v);
    return probability(g, t, j, h) * (d_p - dot(d_y, head(g->y, t, h, d_v), d_v));
}

static void add_head(const mz_tensor *d_x, int64_t t, int64_t h, int64_t head_dim,
                     const double *sums, double scale) {
    float *x = head(d_x, t, h, head_dim);
    for (int64_t i = 0; i < head_dim; i++) {
        x[i] = (float)((double)x[i] + scale * sums[i]);
    }
}

/* d_q of head h of row t of the sequence `all`. */
static void query_gradient(const gradient_inputs *g, const mz_tensor *d_q, row_range all, int64_t t,
                           int64_t h) {
    const int64_t d = g->in->head_dim;
    double sums[MZ_MAX_HEAD_DIM] = {0};
    for (int64_t j = all.begin; j < all.end; j++) {
        if (!sees(g->rule, t, j)) {
            continue;
        }
        const double d_score = score_gradient(g, t, j, h);
        const float *k = head(&g->in->k, j, h / group_of(g->in), d);
        for (int64_t i = 0; i < d; i++) {
            sums[i] += d_score * (double)k[i];
        }
    }
    add_head(d_q, t, h, d, sums, (double)g->rule->scale);
}

/* What head h of row t adds to the gradients of row j's key, before the scale, and value. */
static void add_query(const gradient_inputs *g, int64_t t, int64_t j, int64_t h, double *k_sums,
                      double *v_sums) {
    const int64_t d = g->in->head_dim;
    const int64_t d_v = mz_qkv_head_dim_v(g->in);
    const double p = probability(g, t, j, h);
    const double d_score = score_gradient(g, t, j, h);
    for (int64_t i = 0; i < d_v; i++) {
        v_sums[i] += p * (double)head(g->d_y, t, h, d_v)[i];
    }
    for (int64_t i = 0; i < d; i++) {
        k_sums[i] += d_score * (double)head(&g->in->q, t, h, d)[i];
    }
}

/* d_k and d_v of kv head h of row j of the sequence `all`. */
static void key_value_gradient(const gradient_inputs *g, const mz_qkv *d_in, row_range all,
                               int64_t j, int64_t h) {
    const int64_t group = group_of(g->in);
    double k_sums[MZ_MAX_HEAD_DIM] = {0};
    double v_sums[MZ_MAX_HEAD_DIM] = {0};
    for (int64_t q_head = h * group; q_head < (h + 1) * group; q_head++) {
        for (int64_t t = all.begin; t < all.end; t++) {
            if (sees(g->rule, t, j)) {
                add_query(g, t, j, q_head, k_sums, v_sums);
            }
        }
    }
    if (d_in->k.n_dims != 0) {
        add_head(&d_in->k, j, h, g->in->head_dim, k_sums, (double)g->rule->scale);
    }
    if (d_in->v.n_dims != 0) {
        add_head(&d_in->v, j, h, mz_qkv_head_dim_v(g->in), v_sums, 1);
    }
}

mz_status mz_ref_self_attention_backward(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule) {
    (void)s;
    const gradient_inputs g = {.d_y = d_y, .y = y, .log_sums = log_sums, .in = in, .rule = rule};
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const row_range all = sequence_of(rows, t);
        for (int64_t h = 0; h < in->q.shape[1] / in->head_dim && d->q.n_dims != 0; h++) {
            query_gradient(&g, &d->q, all, t, h);
        }
        for (int64_t h = 0; h < in->k.shape[1] / in->head_dim; h++) {
            key_value_gradient(&g, d, all, t, h);
        }
    }
    return MZ_OK;
}
