#include <math.h>

#include "core/ops/reference/reference_ops.h"

static int64_t page_of(const mz_kv_layer *cache, int32_t sequence, int64_t position) {
    return cache->page_table[sequence * cache->table_stride + position / MZ_KV_PAGE] *
           cache->page_stride;
}

mz_status mz_ref_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows) {
    (void)s;
    const int64_t d = cache->head_dim;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const int64_t page = page_of(cache, rows->sequence[t], rows->position[t]);
        const int64_t j = rows->position[t] % MZ_KV_PAGE;
        for (int64_t h = 0; h < cache->n_kv_heads; h++) {
            for (int64_t i = 0; i < d; i++) {
                cache->k[page + (h * d + i) * MZ_KV_PAGE + j] = mz_tensor_f32(k, t)[h * d + i];
                cache->v[page + (h * MZ_KV_PAGE + j) * d + i] = mz_tensor_f32(v, t)[h * d + i];
            }
        }
    }
    return MZ_OK;
}

/* q' k_j * scale for position j. */
static double score(const mz_kv_layer *cache, const float *q, int32_t sequence, int64_t kv_head,
                    int64_t j, float scale) {
    const int64_t d = cache->head_dim;
    const float *k =
        cache->k + page_of(cache, sequence, j) + kv_head * d * MZ_KV_PAGE + j % MZ_KV_PAGE;
    double sum = 0;
    for (int64_t i = 0; i < d; i++) {
        sum += (double)q[i] * (double)k[i * MZ_KV_PAGE];
    }
    return sum * (double)scale;
}

mz_status mz_ref_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule) {
    (void)s;
    const int64_t d = cache->head_dim;
    const int64_t n_heads = q->shape[1] / d;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        for (int64_t h = 0; h < n_heads; h++) {
            const int64_t kv_head = h / (n_heads / cache->n_kv_heads);
            const float *query = mz_tensor_f32(q, t) + h * d;
            double max = -INFINITY;
            double total = 0;
            for (int64_t j = 0; j <= rows->position[t]; j++) {
                max = fmax(max, score(cache, query, rows->sequence[t], kv_head, j, rule->scale));
            }
            for (int64_t j = 0; j <= rows->position[t]; j++) {
                total += exp(score(cache, query, rows->sequence[t], kv_head, j, rule->scale) - max);
            }
            for (int64_t i = 0; i < d; i++) {
                double sum = 0;
                for (int64_t j = 0; j <= rows->position[t]; j++) {
                    const double p =
                        exp(score(cache, query, rows->sequence[t], kv_head, j, rule->scale) - max) /
                        total;
                    const float *v = cache->v + page_of(cache, rows->sequence[t], j) +
                                     (kv_head * MZ_KV_PAGE + j % MZ_KV_PAGE) * d;
                    sum += p * (double)v[i];
                }
                mz_tensor_f32(y, t)[h * d + i] = (float)sum;
            }
        }
    }
    return MZ_OK;
}
