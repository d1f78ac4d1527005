#include <string.h>

#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

/* Rows that share one task of kv_write: a page's worth. Tiles of attention that share a span, see
 * chunk_of_item: 504 rows without grouped heads. */
enum { WRITE_ROWS = MZ_KV_PAGE, SPAN_CHUNKS = 21 };

typedef struct kv_write_job {
    const mz_kv_layer *cache;
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

/* One head of n rows that page_run found. Keys are transposed: for each component, reads a column,
 * writes a line. */
static void write_run(const kv_write_job *job, int64_t row, int64_t n, int64_t head) {
    const mz_kv_layer *cache = job->cache;
    const int64_t d = cache->head_dim;
    const int64_t position = job->rows->position[row];
    const int32_t *pages = cache->page_table + job->rows->sequence[row] * cache->table_stride;
    const int64_t page = pages[position / MZ_KV_PAGE] * cache->page_stride + head * d * MZ_KV_PAGE;
    const int64_t slot = position % MZ_KV_PAGE;
    const float *k = mz_tensor_f32(job->k, row) + head * d;
    for (int64_t i = 0; i < d; i++) {
        float *line = cache->k + page + i * MZ_KV_PAGE + slot;
        for (int64_t r = 0; r < n; r++) {
            line[r] = k[r * job->k->ld + i];
        }
    }
    for (int64_t r = 0; r < n; r++) {
        memcpy(cache->v + page + (slot + r) * d, mz_tensor_f32(job->v, row + r) + head * d,
               (size_t)d * sizeof(float));
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
    kv_write_job job = {.cache = cache, .k = k, .v = v, .rows = rows};
    const int64_t n_chunks = (rows->n_rows + WRITE_ROWS - 1) / WRITE_ROWS;
    const int64_t rows_per_item = rows->n_rows < WRITE_ROWS ? rows->n_rows : WRITE_ROWS;
    mz_cpu_run_rows(s, n_chunks * cache->n_kv_heads, 2 * rows_per_item * cache->head_dim,
                    kv_write_task, &job);
    return MZ_OK;
}

int64_t mz_attention_scratch_floats(int64_t head_dim) {
    const int64_t stride = (head_dim + MZ_ATTENTION_PAD - 1) / MZ_ATTENTION_PAD * MZ_ATTENTION_PAD;
    return (MZ_ATTENTION_TILE + MZ_ATTENTION_BLOCK) * stride;
}

size_t mz_cpu_attention_scratch(int n_threads, int64_t head_dim) {
    return (size_t)n_threads * (size_t)mz_attention_scratch_floats(head_dim) * sizeof(float);
}

/* Rows of an attention item: those whose queries for one kv head make a tile. */
static int64_t rows_per_tile(int64_t group) {
    return group < MZ_ATTENTION_TILE ? MZ_ATTENTION_TILE / group : 1;
}

typedef struct attention_task_arg {
    const mz_row_kernels *kernels;
    mz_attention_job job;
    int64_t n_chunks, chunk_rows;
} attention_task_arg;

/* Which chunk and kv head item i is: spans of chunks, in a span head by head, in a head chunk by
 * chunk. A head's keys and values stay in the cache for a span, and so do a span's queries (32
 * sequences of 96 rows: 4.0 to 3.5 ms on a thread). Chunks come last first: those of a long
 * sequence are the longest, and the work ends with short ones. */
static int64_t chunk_of_item(const attention_task_arg *a, int64_t item, int64_t *kv_head) {
    const int64_t n_heads = a->job.cache->n_kv_heads;
    const int64_t span = item / (SPAN_CHUNKS * n_heads);
    const int64_t left = a->n_chunks - span * SPAN_CHUNKS;
    const int64_t n_in_span = left < SPAN_CHUNKS ? left : SPAN_CHUNKS;
    const int64_t i = item % (SPAN_CHUNKS * n_heads);
    *kv_head = i / n_in_span;
    return left - 1 - i % n_in_span;
}

/* A chunk is cut where the sequence changes. */
static void attention_task(void *arg, int64_t begin, int64_t end, int thread) {
    const attention_task_arg *a = arg;
    const mz_rows *rows = a->job.rows;
    float *scratch = a->job.scratch + thread * a->job.scratch_stride;
    for (int64_t item = begin; item < end; item++) {
        int64_t kv_head = 0;
        int64_t row = chunk_of_item(a, item, &kv_head) * a->chunk_rows;
        const int64_t stop =
            row + a->chunk_rows < rows->n_rows ? row + a->chunk_rows : rows->n_rows;
        while (row < stop) {
            int64_t n = 1;
            while (row + n < stop && rows->sequence[row + n] == rows->sequence[row]) {
                n++;
            }
            a->kernels->attention(&a->job, row, n, kv_head, scratch);
            row += n;
        }
    }
}

mz_status mz_cpu_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule) {
    const int n_threads = mz_pool_n_threads(s->ctx->pool);
    const int64_t group = q->shape[1] / cache->head_dim / cache->n_kv_heads;
    /* Not an activation: given back even where the stream keeps those. */
    const size_t mark = mz_arena_mark(&s->arena);
    void *scratch = NULL;
    MZ_TRY(mz_stream_take_bytes(s, mz_cpu_attention_scratch(n_threads, cache->head_dim),
                                "attention scratch", &scratch));
    attention_task_arg arg = {.kernels = mz_row_kernels_for(s->ctx->isa),
                              .chunk_rows = rows_per_tile(group)};
    arg.n_chunks = (rows->n_rows + arg.chunk_rows - 1) / arg.chunk_rows;
    arg.job = (mz_attention_job){.y = y,
                                 .q = q,
                                 .cache = cache,
                                 .rows = rows,
                                 .group = group,
                                 .scale = rule->scale,
                                 .scratch = scratch,
                                 .scratch_stride = mz_attention_scratch_floats(cache->head_dim)};
    mz_pool_run(s->ctx->pool, arg.n_chunks * cache->n_kv_heads, 1, attention_task, &arg);
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}
