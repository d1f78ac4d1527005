#include <math.h>
#include <string.h>

#include "core/half.h"
#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

/* Rows that share one task of kv_write: a page's worth. */
enum { WRITE_ROWS = MZ_KV_PAGE };

typedef struct kv_write_job {
    const mz_row_kernels *kernels;
    const mz_kv_layer *cache;
    mz_kv_layout layout;
    const mz_tensor *k, *v;
    const mz_rows *rows;
} kv_write_job;

/* Number of rows from `row`, at most to `end`, that lie in one page of one sequence at neighbouring
 * positions. */
static int64_t page_run(const mz_rows *rows, int64_t row, int64_t end) {
    int64_t n = 1;
    while (row + n < end && rows->sequence[row + n] == rows->sequence[row] &&
           rows->position[row + n] == rows->position[row] + n &&
           rows->position[row + n] % MZ_KV_PAGE != 0) {
        n++;
    }
    return n;
}

/* Keys of n rows that page_run found: for each component, reads a column, writes a line. */
static void write_keys_f32(float *to, const float *k, int64_t ld, int64_t n, int64_t d) {
    for (int64_t i = 0; i < d; i++) {
        for (int64_t r = 0; r < n; r++) {
            to[i * MZ_KV_PAGE + r] = k[r * ld + i];
        }
    }
}

static void write_key_f16(const mz_row_kernels *kernels, uint16_t *to, const float *k, int64_t d) {
    uint16_t narrow[MZ_MAX_HEAD_DIM];
    kernels->to_f16(narrow, k, d);
    for (int64_t i = 0; i < d; i++) {
        to[i * MZ_KV_PAGE] = narrow[i];
    }
}

/* In both arrays of scales those of a position are MZ_KV_PAGE apart. */
static void write_key_int8(const mz_row_kernels *kernels, int8_t *to, float *scales, const float *k,
                           int64_t d) {
    for (int64_t begin = 0; begin < d; begin += MZ_KV_BLOCK) {
        const int64_t n = d - begin < MZ_KV_BLOCK ? d - begin : MZ_KV_BLOCK;
        int8_t narrow[MZ_KV_BLOCK];
        scales[begin / MZ_KV_BLOCK * MZ_KV_PAGE] = kernels->to_int8(narrow, k + begin, n);
        for (int64_t i = 0; i < n; i++) {
            to[(begin + i) * MZ_KV_PAGE] = narrow[i];
        }
    }
}

/* The key of position `slot` of a head's part of a page. */
static void write_key(const mz_row_kernels *kernels, const mz_kv_layer *cache,
                      const mz_kv_layout *l, char *page, int64_t slot, const float *k) {
    const int64_t d = cache->head_dim;
    if (cache->dtype == MZ_DTYPE_F32) {
        write_keys_f32((float *)(void *)page + slot, k, 0, 1, d);
    } else if (cache->dtype == MZ_DTYPE_F16) {
        write_key_f16(kernels, (uint16_t *)(void *)page + slot, k, d);
    } else {
        float *scales = (float *)(void *)(page + l->key_scales) + slot;
        write_key_int8(kernels, (int8_t *)page + slot, scales, k, d);
    }
}

static void write_value_int8(const mz_row_kernels *kernels, int8_t *to, float *scales,
                             const float *v, int64_t d) {
    for (int64_t begin = 0; begin < d; begin += MZ_KV_BLOCK) {
        const int64_t n = d - begin < MZ_KV_BLOCK ? d - begin : MZ_KV_BLOCK;
        scales[begin / MZ_KV_BLOCK * MZ_KV_PAGE] = kernels->to_int8(to + begin, v + begin, n);
    }
}

/* One head of n rows that page_run found. */
static void write_run(const kv_write_job *job, int64_t row, int64_t n, int64_t head) {
    const mz_kv_layer *cache = job->cache;
    const mz_kv_layout *l = &job->layout;
    const mz_row_kernels *kernels = job->kernels;
    const int64_t position = job->rows->position[row];
    const int64_t slot = position % MZ_KV_PAGE;
    const int32_t *pages = cache->page_table + job->rows->sequence[row] * cache->table_stride;
    char *at = (char *)cache->data + (size_t)pages[position / MZ_KV_PAGE] * l->page_bytes +
               (size_t)head * l->head_bytes;
    void *values = at + l->values;
    float *value_scales = (float *)(void *)(at + l->value_scales) + slot;
    const int64_t d = cache->head_dim;
    const int64_t d_v = l->head_dim_v;
    if (cache->dtype == MZ_DTYPE_F32) {
        write_keys_f32((float *)(void *)at + slot, mz_tensor_f32(job->k, row) + head * d,
                       job->k->ld, n, d);
    }
    for (int64_t r = 0; r < n; r++) {
        const float *k = mz_tensor_f32(job->k, row + r) + head * d;
        const float *v = mz_tensor_f32(job->v, row + r) + head * d_v;
        const int64_t value = (slot + r) * l->value_stride;
        if (cache->dtype == MZ_DTYPE_F32) {
            memcpy((float *)values + value, v, (size_t)d_v * sizeof *v);
        } else if (cache->dtype == MZ_DTYPE_F16) {
            write_key(kernels, cache, l, at, slot + r, k);
            kernels->to_f16((uint16_t *)values + value, v, d_v);
        } else {
            write_key(kernels, cache, l, at, slot + r, k);
            write_value_int8(kernels, (int8_t *)values + value, value_scales + r, v, d_v);
        }
    }
}

/* Item i: rows [64 (i / n_kv_heads), + 64), kv head i % n_kv_heads. */
static void kv_write_task(void *arg, int64_t begin, int64_t end, int thread) {
    const kv_write_job *job = arg;
    (void)thread;
    const int64_t n_heads = job->cache->n_kv_heads;
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item / n_heads * WRITE_ROWS;
        const int64_t stop =
            row + WRITE_ROWS < job->rows->n_rows ? row + WRITE_ROWS : job->rows->n_rows;
        while (row < stop) {
            const int64_t n = page_run(job->rows, row, stop);
            write_run(job, row, n, item % n_heads);
            row += n;
        }
    }
}

mz_status mz_cpu_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                          const mz_tensor *v, const mz_rows *rows) {
    kv_write_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .cache = cache, .k = k, .v = v, .rows = rows};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &job.layout));
    const int64_t n_chunks = (rows->n_rows + WRITE_ROWS - 1) / WRITE_ROWS;
    const int64_t rows_per_item = rows->n_rows < WRITE_ROWS ? rows->n_rows : WRITE_ROWS;
    mz_cpu_run_rows(s, n_chunks * cache->n_kv_heads, 2 * rows_per_item * cache->head_dim,
                    kv_write_task, &job);
    return MZ_OK;
}

/* One rotation, shared by the threads; cos and sin are those of the position, without the table's
 * factor. */
typedef struct kv_rotate_job {
    const mz_row_kernels *kernels;
    const mz_kv_layer *cache;
    mz_kv_layout layout;
    const mz_rope_table *table;
    const int32_t *pages; /* of the sequence, the first to be rotated first */
    float cos[MZ_MAX_HEAD_DIM / 2], sin[MZ_MAX_HEAD_DIM / 2];
} kv_rotate_job;

static void read_key(const kv_rotate_job *job, const char *page, int64_t slot, float *key) {
    const float *scales = (const float *)(const void *)(page + job->layout.key_scales);
    for (int64_t i = 0; i < job->cache->head_dim; i++) {
        const int64_t at = i * MZ_KV_PAGE + slot;
        if (job->cache->dtype == MZ_DTYPE_F32) {
            key[i] = ((const float *)(const void *)page)[at];
        } else if (job->cache->dtype == MZ_DTYPE_F16) {
            key[i] = mz_f16_to_f32(((const uint16_t *)(const void *)page)[at]);
        } else {
            const float scale = scales[i / MZ_KV_BLOCK * MZ_KV_PAGE + slot];
            key[i] = scale * (float)((const int8_t *)page)[at];
        }
    }
}

static void rotate_key(const kv_rotate_job *job, float *key) {
    const mz_rope_table *t = job->table;
    for (int64_t i = 0; i < t->half_dim; i++) {
        float *a = key + t->first + (t->interleaved ? 2 * i : i);
        float *b = a + (t->interleaved ? 1 : t->half_dim);
        const float x = *a;
        *a = x * job->cos[i] + *b * job->sin[i];
        *b = *b * job->cos[i] - x * job->sin[i];
    }
}

/* Item i: page i / n_kv_heads, kv head i % n_kv_heads. */
static void kv_rotate_task(void *arg, int64_t begin, int64_t end, int thread) {
    const kv_rotate_job *job = arg;
    (void)thread;
    const int64_t n_heads = job->cache->n_kv_heads;
    for (int64_t item = begin; item < end; item++) {
        char *page = (char *)job->cache->data +
                     (size_t)job->pages[item / n_heads] * job->layout.page_bytes +
                     (size_t)(item % n_heads) * job->layout.head_bytes;
        for (int64_t slot = 0; slot < MZ_KV_PAGE; slot++) {
            float key[MZ_MAX_HEAD_DIM];
            read_key(job, page, slot, key);
            rotate_key(job, key);
            write_key(job->kernels, job->cache, &job->layout, page, slot, key);
        }
    }
}

mz_status mz_cpu_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                           int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                           int64_t n) {
    kv_rotate_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                         .cache = cache,
                         .table = table,
                         .pages = cache->page_table + sequence * cache->table_stride + first_page};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &job.layout));
    for (int64_t i = 0; i < table->half_dim; i++) {
        const double c = (double)table->cos[n * table->half_dim + i];
        const double d = (double)table->sin[n * table->half_dim + i];
        const double factor = sqrt(c * c + d * d);
        job.cos[i] = factor > 0 ? (float)(c / factor) : 1.0f;
        job.sin[i] = factor > 0 ? (float)(d / factor) : 0.0f;
    }
    mz_pool_run(s->ctx->pool, n_pages * cache->n_kv_heads, 1, kv_rotate_task, &job);
    return MZ_OK;
}
