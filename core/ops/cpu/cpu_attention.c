#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

enum {
    GROUP_TILES = 21,     /* tiles that are worked on head by head, see tile_of_item */
    TASKS_PER_THREAD = 4, /* with fewer tiles than that, spans are shared out too */
    MIN_PARTS = 64,       /* spans that are computed before they are merged, at least */
};

/* Rows [row, row + n_rows) of one sequence, whose queries for one kv head make a tile, or with a
 * group of more than MZ_ATTENTION_TILE query heads several. */
typedef struct row_tile {
    int64_t row, n_rows;
} row_tile;

/* One span of one tile. */
typedef struct span_task {
    mz_attention_tile tile;
    int64_t span;
} span_task;

/* One call; arrays lie in scratch. */
typedef struct attention_call {
    const mz_row_kernels *kernels;
    mz_attention_job job;
    int64_t n_tiles; /* of rows */
    row_tile *tiles;
    int64_t tiles_per_group; /* query heads of a kv head make that many */
    int n_parts;
    span_task *tasks; /* [n_parts] */
    char *parts;      /* [n_parts + 1] of part_bytes; the last is the total */
    char *scratch;    /* [n_threads] of thread_bytes */
    size_t part_bytes, thread_bytes;
} attention_call;

static size_t aligned(size_t bytes) {
    return (bytes + MZ_ARENA_ALIGNMENT - 1) / MZ_ARENA_ALIGNMENT * MZ_ARENA_ALIGNMENT;
}

/* Values of an mz_attention_part. */
static size_t part_bytes(int64_t head_dim) {
    const int64_t stride = (head_dim + MZ_ATTENTION_PAD - 1) / MZ_ATTENTION_PAD * MZ_ATTENTION_PAD;
    return aligned((size_t)(MZ_ATTENTION_TILE * (stride + 2)) * sizeof(float));
}

static size_t thread_bytes(int64_t head_dim) {
    return MZ_ATTENTION_SCRATCH * sizeof(float) + 2 * part_bytes(head_dim);
}

static int parts_of_wave(int n_threads) {
    return TASKS_PER_THREAD * n_threads > MIN_PARTS ? TASKS_PER_THREAD * n_threads : MIN_PARTS;
}

size_t mz_cpu_attention_scratch(int n_threads, int64_t n_rows, int64_t head_dim) {
    const size_t n_parts = (size_t)parts_of_wave(n_threads);
    return aligned((size_t)n_rows * sizeof(row_tile)) + aligned(n_parts * sizeof(span_task)) +
           (n_parts + 1) * part_bytes(head_dim) + (size_t)n_threads * thread_bytes(head_dim);
}

/* Cuts rows into tiles: where the sequence changes, and where a tile is full. */
static int64_t cut_rows(const mz_rows *rows, int64_t max_rows, row_tile *out) {
    int64_t n_tiles = 0;
    for (int64_t row = 0; row < rows->n_rows; row += out[n_tiles - 1].n_rows) {
        int64_t n = 1;
        while (n < max_rows && row + n < rows->n_rows &&
               rows->sequence[row + n] == rows->sequence[row]) {
            n++;
        }
        out[n_tiles++] = (row_tile){row, n};
    }
    return n_tiles;
}

static mz_attention_part part_at(char *data) {
    float *max = (float *)(void *)data;
    return (mz_attention_part){max, max + MZ_ATTENTION_TILE, max + 2 * MZ_ATTENTION_TILE};
}

static int64_t n_items(const attention_call *c) {
    return c->n_tiles * c->job.cache->n_kv_heads * c->tiles_per_group;
}

/* Which tile item i is: groups of row tiles, in a group head by head, in a head tile by tile. A
 * head's keys and values stay in the cache for a group, and so do a group's queries (32 sequences
 * of 96 rows: 4.0 to 3.5 ms on a thread). Tiles come last first: those of a long sequence are the
 * longest, and the work ends with short ones. */
static mz_attention_tile tile_of_item(const attention_call *c, int64_t item) {
    const int64_t n_heads = c->job.cache->n_kv_heads * c->tiles_per_group;
    const int64_t group = item / (GROUP_TILES * n_heads);
    const int64_t left = c->n_tiles - group * GROUP_TILES;
    const int64_t n_in_group = left < GROUP_TILES ? left : GROUP_TILES;
    const int64_t i = item % (GROUP_TILES * n_heads);
    const row_tile *rows = &c->tiles[left - 1 - i % n_in_group];
    const int64_t part = i / n_in_group % c->tiles_per_group;
    const int64_t first_head = part * MZ_ATTENTION_TILE;
    const int64_t heads_left = c->job.group - first_head;
    return (mz_attention_tile){.row = rows->row,
                               .n_rows = rows->n_rows,
                               .kv_head = i / n_in_group / c->tiles_per_group,
                               .first_head = first_head,
                               .n_heads =
                                   heads_left < MZ_ATTENTION_TILE ? heads_left : MZ_ATTENTION_TILE};
}

/* The first span that a query of the tile sees, and behind the last. */
static int64_t first_span(const attention_call *c, const mz_attention_tile *tile) {
    const int64_t n = c->job.rows->position[tile->row] + (int64_t)1;
    return c->job.window > 0 && c->job.window < n ? (n - c->job.window) / MZ_ATTENTION_SPAN : 0;
}

static int64_t end_span(const attention_call *c, const mz_attention_tile *tile) {
    return c->job.rows->position[tile->row + tile->n_rows - 1] / MZ_ATTENTION_SPAN + 1;
}

/* Whole tiles. */
static void tile_task(void *arg, int64_t begin, int64_t end, int thread) {
    const attention_call *c = arg;
    char *mine = c->scratch + (size_t)thread * c->thread_bytes;
    float *scratch = (float *)(void *)mine;
    const mz_attention_part total = part_at(mine + MZ_ATTENTION_SCRATCH * sizeof(float));
    const mz_attention_part part =
        part_at(mine + MZ_ATTENTION_SCRATCH * sizeof(float) + c->part_bytes);
    for (int64_t item = begin; item < end; item++) {
        const mz_attention_tile tile = tile_of_item(c, item);
        for (int64_t span = first_span(c, &tile); span < end_span(c, &tile); span++) {
            c->kernels->attention_span(&c->job, &tile, span, &part, scratch);
            c->kernels->attention_merge(&c->job, &tile, span, &total, &part);
        }
        c->kernels->attention_finish(&c->job, &tile, &total);
    }
}

/* Single spans. */
static void part_task(void *arg, int64_t begin, int64_t end, int thread) {
    const attention_call *c = arg;
    char *mine = c->scratch + (size_t)thread * c->thread_bytes;
    for (int64_t i = begin; i < end; i++) {
        const mz_attention_part part = part_at(c->parts + (size_t)i * c->part_bytes);
        c->kernels->attention_span(&c->job, &c->tasks[i].tile, c->tasks[i].span, &part,
                                   (float *)(void *)mine);
    }
}

/* Computes the n parts that are listed, and merges them in order. */
static void run_parts(mz_stream *s, attention_call *c, int n) {
    const mz_attention_part total = part_at(c->parts + (size_t)c->n_parts * c->part_bytes);
    mz_pool_run(s->ctx->pool, n, 1, part_task, c);
    for (int i = 0; i < n; i++) {
        const span_task *t = &c->tasks[i];
        const mz_attention_part part = part_at(c->parts + (size_t)i * c->part_bytes);
        c->kernels->attention_merge(&c->job, &t->tile, t->span, &total, &part);
        if (t->span + 1 == end_span(c, &t->tile)) {
            c->kernels->attention_finish(&c->job, &t->tile, &total);
        }
    }
}

/* Where there are few tiles: all their spans, n_parts at a time. */
static void run_spans(mz_stream *s, attention_call *c) {
    int n = 0;
    for (int64_t item = 0; item < n_items(c); item++) {
        const mz_attention_tile tile = tile_of_item(c, item);
        for (int64_t span = first_span(c, &tile); span < end_span(c, &tile); span++) {
            c->tasks[n++] = (span_task){tile, span};
            if (n == c->n_parts) {
                run_parts(s, c, n);
                n = 0;
            }
        }
    }
    run_parts(s, c, n);
}

/* Lays the arrays out in scratch. */
static void place(attention_call *c, char *scratch, int n_threads, int64_t head_dim) {
    c->n_parts = parts_of_wave(n_threads);
    c->part_bytes = part_bytes(head_dim);
    c->thread_bytes = thread_bytes(head_dim);
    c->scratch = scratch;
    c->parts = c->scratch + (size_t)n_threads * c->thread_bytes;
    c->tasks = (span_task *)(void *)(c->parts + (size_t)(c->n_parts + 1) * c->part_bytes);
    c->tiles =
        (row_tile *)(void *)((char *)c->tasks + aligned((size_t)c->n_parts * sizeof(span_task)));
}

mz_status mz_cpu_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                           const mz_kv_layer *cache, const mz_rows *rows,
                           const mz_attention_rule *rule) {
    const int n_threads = mz_pool_n_threads(s->ctx->pool);
    const int64_t group = q->shape[1] / cache->head_dim / cache->n_kv_heads;
    attention_call c = {
        .kernels = mz_row_kernels_for(s->ctx->isa),
        .job = {.y = y,
                .q = q,
                .cache = cache,
                .rows = rows,
                .group = group,
                .scale = rule->scale,
                .window = rule->window < INT32_MAX ? rule->window : 0}}; /* positions are 32 bits */
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &c.job.layout));
    const int64_t d = c.job.layout.head_dim_v;
    /* Not an activation: given back even where the stream keeps those. */
    const size_t mark = mz_arena_mark(&s->arena);
    void *scratch = NULL;
    MZ_TRY(mz_stream_take_bytes(s, mz_cpu_attention_scratch(n_threads, rows->n_rows, d),
                                "attention scratch", &scratch));
    place(&c, scratch, n_threads, d);
    c.tiles_per_group = (group + MZ_ATTENTION_TILE - 1) / MZ_ATTENTION_TILE;
    c.n_tiles = cut_rows(rows, group < MZ_ATTENTION_TILE ? MZ_ATTENTION_TILE / group : 1, c.tiles);
    if (n_threads > 1 && n_items(&c) < TASKS_PER_THREAD * n_threads) {
        run_spans(s, &c);
    } else {
        mz_pool_run(s->ctx->pool, n_items(&c), 1, tile_task, &c);
    }
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}
