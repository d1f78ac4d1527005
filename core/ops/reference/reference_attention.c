#include <math.h>

#include "core/half.h"
#include "core/ops/reference/reference_ops.h"

/* One kv head's part of the page that holds a position. */
typedef struct head_page {
    char *data;
    int64_t slot; /* of the position in the page */
} head_page;

static head_page page_of(const mz_kv_layer *cache, const mz_kv_layout *layout, int32_t sequence,
                         int64_t position, int64_t kv_head) {
    const int64_t page = cache->page_table[sequence * cache->table_stride + position / MZ_KV_PAGE];
    return (head_page){(char *)cache->data + (size_t)page * layout->page_bytes +
                           (size_t)kv_head * layout->head_bytes,
                       position % MZ_KV_PAGE};
}

/* Element i of an array of the cache's type, without its scale. */
static double element(mz_dtype dtype, const void *x, int64_t i) {
    return dtype == MZ_DTYPE_F32   ? (double)((const float *)x)[i]
           : dtype == MZ_DTYPE_F16 ? (double)mz_f16_to_f32(((const uint16_t *)x)[i])
                                   : (double)((const int8_t *)x)[i];
}

/* Of 8-bit types the scale of element i of the position's key or value, else 1. */
static double scale_of(mz_dtype dtype, const head_page *p, size_t scales, int64_t i) {
    const float *at = (const float *)(p->data + scales);
    return dtype == MZ_DTYPE_Q8_0 ? (double)at[i / MZ_KV_BLOCK * MZ_KV_PAGE + p->slot] : 1;
}

/* Key element i, value element i of the position. */
static double key_at(const mz_kv_layer *cache, const mz_kv_layout *l, const head_page *p,
                     int64_t i) {
    return element(cache->dtype, p->data, i * MZ_KV_PAGE + p->slot) *
           scale_of(cache->dtype, p, l->key_scales, i);
}

static double value_at(const mz_kv_layer *cache, const mz_kv_layout *l, const head_page *p,
                       int64_t i) {
    return element(cache->dtype, p->data + l->values, p->slot * l->value_stride + i) *
           scale_of(cache->dtype, p, l->value_scales, i);
}

/* Writes n values as elements [i * stride], with their scales. */
static void write_head(mz_dtype dtype, char *to, int64_t stride, float *scales, const float *x,
                       int64_t n) {
    for (int64_t begin = 0; begin < n; begin += MZ_KV_BLOCK) {
        const int64_t end = begin + MZ_KV_BLOCK < n ? begin + MZ_KV_BLOCK : n;
        float max = 0;
        float poison = 0; /* becomes NaN where an element is not finite */
        for (int64_t i = begin; i < end; i++) {
            max = fmaxf(max, fabsf(x[i]));
            poison += 0.0f * x[i];
        }
        const float inverse = max >= 0x1.fcp-120f && isfinite(max) ? 127.0f / max : 0.0f;
        for (int64_t i = begin; i < end; i++) {
            if (dtype == MZ_DTYPE_F32) {
                ((float *)(void *)to)[i * stride] = x[i];
            } else if (dtype == MZ_DTYPE_F16) {
                ((uint16_t *)(void *)to)[i * stride] = mz_f16_from_f32(x[i]);
            } else {
                ((int8_t *)to)[i * stride] = isfinite(x[i]) ? (int8_t)rintf(x[i] * inverse) : 0;
            }
        }
        if (dtype == MZ_DTYPE_Q8_0) {
            scales[begin / MZ_KV_BLOCK * MZ_KV_PAGE] = isnan(poison) ? NAN
                                                       : inverse > 0 ? max / 127.0f
                                                                     : 0.0f;
        }
    }
}

mz_status mz_ref_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows) {
    mz_kv_layout l = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &l));
    const size_t size = cache->dtype == MZ_DTYPE_F32 ? 4 : cache->dtype == MZ_DTYPE_F16 ? 2 : 1;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        for (int64_t h = 0; h < cache->n_kv_heads; h++) {
            const head_page p = page_of(cache, &l, rows->sequence[t], rows->position[t], h);
            float *key_scales = (float *)(void *)(p.data + l.key_scales) + p.slot;
            float *value_scales = (float *)(void *)(p.data + l.value_scales) + p.slot;
            write_head(cache->dtype, p.data + (size_t)p.slot * size, MZ_KV_PAGE, key_scales,
                       mz_tensor_f32(k, t) + h * cache->head_dim, cache->head_dim);
            write_head(cache->dtype, p.data + l.values + (size_t)(p.slot * l.value_stride) * size,
                       1, value_scales, mz_tensor_f32(v, t) + h * l.head_dim_v, l.head_dim_v);
        }
    }
    return MZ_OK;
}

/* Rotates a key back by the table's angles of position n, without the table's factor. */
static void rotate_back(double *key, const mz_rope_table *table, int64_t n) {
    for (int64_t i = 0; i < table->half_dim; i++) {
        const double c = (double)table->cos[n * table->half_dim + i];
        const double s = (double)table->sin[n * table->half_dim + i];
        const double factor = sqrt(c * c + s * s);
        double *a = key + table->first + (table->interleaved ? 2 * i : i);
        double *b = a + (table->interleaved ? 1 : table->half_dim);
        if (factor > 0) {
            const double x = *a;
            *a = (x * c + *b * s) / factor;
            *b = (*b * c - x * s) / factor;
        }
    }
}

mz_status mz_ref_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                           int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                           int64_t n) {
    mz_kv_layout l = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &l));
    const size_t size = cache->dtype == MZ_DTYPE_F32 ? 4 : cache->dtype == MZ_DTYPE_F16 ? 2 : 1;
    const int64_t end = (first_page + n_pages) * MZ_KV_PAGE;
    for (int64_t j = first_page * MZ_KV_PAGE; j < end; j++) {
        for (int64_t h = 0; h < cache->n_kv_heads; h++) {
            const head_page p = page_of(cache, &l, (int32_t)sequence, j, h);
            double key[MZ_MAX_HEAD_DIM];
            float turned[MZ_MAX_HEAD_DIM];
            for (int64_t i = 0; i < cache->head_dim; i++) {
                key[i] = key_at(cache, &l, &p, i);
            }
            rotate_back(key, table, n);
            for (int64_t i = 0; i < cache->head_dim; i++) {
                turned[i] = (float)key[i];
            }
            write_head(cache->dtype, p.data + (size_t)p.slot * size, MZ_KV_PAGE,
                       (float *)(void *)(p.data + l.key_scales) + p.slot, turned, cache->head_dim);
        }
    }
    return MZ_OK;
}

/* q' k_j * scale for position j. */
static double score(const mz_kv_layer *cache, const mz_kv_layout *l, const float *q,
                    int32_t sequence, int64_t kv_head, int64_t j) {
    const head_page p = page_of(cache, l, sequence, j, kv_head);
    double sum = 0;
    for (int64_t i = 0; i < cache->head_dim; i++) {
        sum += (double)q[i] * key_at(cache, l, &p, i);
    }
    return sum;
}

/* Positions [begin, end) of a sequence, in the part of a kv head. */
typedef struct seen_keys {
    int32_t sequence;
    int64_t kv_head, begin, end;
} seen_keys;

/* One head of one row. */
static void attend(float *y, const float *q, const mz_kv_layer *cache, const mz_kv_layout *l,
                   const seen_keys *keys, double scale) {
    double out[MZ_MAX_HEAD_DIM] = {0};
    double max = -INFINITY;
    double total = 0;
    for (int64_t j = keys->begin; j < keys->end; j++) {
        max = fmax(max, scale * score(cache, l, q, keys->sequence, keys->kv_head, j));
    }
    for (int64_t j = keys->begin; j < keys->end && max > -INFINITY; j++) {
        const head_page at = page_of(cache, l, keys->sequence, j, keys->kv_head);
        const double p = exp(scale * score(cache, l, q, keys->sequence, keys->kv_head, j) - max);
        total += p;
        for (int64_t i = 0; i < l->head_dim_v; i++) {
            out[i] += p * value_at(cache, l, &at, i);
        }
    }
    for (int64_t i = 0; i < l->head_dim_v; i++) {
        y[i] = max > -INFINITY ? (float)(out[i] / total) : 0.0f;
    }
}

mz_status mz_ref_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule) {
    mz_kv_layout l = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &l));
    const int64_t n_heads = q->shape[1] / cache->head_dim;
    for (int64_t t = 0; t < rows->n_rows; t++) {
        const int64_t end = rows->position[t] + (int64_t)1;
        const int64_t begin = rule->window > 0 && rule->window < end ? end - rule->window : 0;
        for (int64_t h = 0; h < n_heads; h++) {
            const seen_keys keys = {.sequence = rows->sequence[t],
                                    .kv_head = h / (n_heads / cache->n_kv_heads),
                                    .begin = begin,
                                    .end = end};
            attend(mz_tensor_f32(y, t) + h * l.head_dim_v,
                   mz_tensor_f32(q, t) + h * cache->head_dim, cache, &l, &keys,
                   (double)rule->scale);
        }
    }
    return MZ_OK;
}
