/* kv_write and attention of the CPU backend against the reference, caches of 16 and 8 bits against
 * 32, and what no bound shows: that a row's bits depend on its own position only. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEQUENCES = 5, MAX_ROWS = 2048, PAD = 3 };

/* Positions first, first + step, ... below `length` of a sequence are queried; all below `length`
 * are written. */
typedef struct sequence_case {
    int length, first, step;
} sequence_case;

typedef struct attention_case {
    int64_t n_heads, n_kv_heads, head_dim;
    int n_sequences;
    sequence_case sequences[MAX_SEQUENCES];
    float magnitude;    /* of q, k and v */
    int64_t head_dim_v; /* 0: head_dim */
    int64_t window;
    mz_dtype dtype;
    int rows_per_call; /* 0: all positions are written, then all queries go in one call; else write
                          and query by turns */
    int poison_from;   /* positions of sequence 0 from here on hold NaN; 0: none */
    int poison_to;     /* positions of sequence 0 up to here, without it, hold NaN */
} attention_case;

/* What a run works on: q, k and v are columns of one tensor, as a fused projection gives them. */
typedef struct attention_data {
    mz_kv_layer cache;
    mz_tensor q, k, v, y;
    int32_t sequence[MAX_ROWS], position[MAX_ROWS]; /* of all written rows */
    int32_t query[MAX_ROWS];                        /* row that query i takes */
    int64_t n_rows, n_queries;
} attention_data;

static int64_t d_v_of(const attention_case *c) {
    return c->head_dim_v != 0 ? c->head_dim_v : c->head_dim;
}

static void list_rows(const attention_case *c, attention_data *d) {
    for (int s = 0; s < c->n_sequences; s++) {
        const sequence_case *sc = &c->sequences[s];
        for (int p = 0; p < sc->length; p++) {
            assert_true(d->n_rows < MAX_ROWS);
            if (p >= sc->first && (p - sc->first) % sc->step == 0) {
                d->query[d->n_queries++] = (int32_t)d->n_rows;
            }
            d->sequence[d->n_rows] = s;
            d->position[d->n_rows++] = p;
        }
    }
}

/* Pages in scattered order; every slot holds NaN until it is written. */
static void make_cache(mz_stream *s, const attention_case *c, attention_data *d,
                       int32_t *page_table) {
    const int64_t table_stride = (MAX_ROWS + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    int32_t n_pages = 0;
    for (int i = 0; i < c->n_sequences; i++) {
        n_pages += (c->sequences[i].length + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    }
    int32_t next = n_pages;
    for (int i = 0; i < c->n_sequences; i++) {
        for (int p = 0; p < (c->sequences[i].length + MZ_KV_PAGE - 1) / MZ_KV_PAGE; p++) {
            page_table[i * table_stride + p] = --next;
        }
    }
    d->cache = (mz_kv_layer){.dtype = c->dtype,
                             .n_kv_heads = c->n_kv_heads,
                             .head_dim = c->head_dim,
                             .head_dim_v = c->head_dim_v,
                             .page_table = page_table,
                             .table_stride = table_stride};
    mz_kv_layout layout = {0};
    mz_assert_ok(s->ctx, mz_kv_layout_of(&s->ctx->error, &d->cache, &layout));
    const size_t bytes = (size_t)n_pages * layout.page_bytes;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, bytes, "pages", &d->cache.data));
    memset(d->cache.data, 0xff, bytes);
}

static void make_inputs(mz_stream *s, const attention_case *c, attention_data *d) {
    const int64_t q_width = c->n_heads * c->head_dim;
    const int64_t k_width = c->n_kv_heads * c->head_dim;
    const int64_t v_width = c->n_kv_heads * d_v_of(c);
    const int64_t y_width = c->n_heads * d_v_of(c);
    mz_tensor qkv;
    mz_tensor queries;
    mz_tensor y;
    mz_assert_ok(s->ctx,
                 mz_stream_take(s, d->n_rows, q_width + k_width + v_width + PAD, "qkv", &qkv));
    mz_assert_ok(s->ctx, mz_stream_take(s, d->n_queries, q_width + PAD, "queries", &queries));
    mz_assert_ok(s->ctx, mz_stream_take(s, d->n_queries, y_width + PAD, "y", &y));
    mz_fill_uniform(qkv.data, mz_tensor_n_elements(&qkv), 11, c->magnitude);
    memset(y.data, 0, (size_t)mz_tensor_n_elements(&y) * sizeof(float));
    d->q = mz_tensor_cols(&queries, 0, q_width);
    d->k = mz_tensor_cols(&qkv, q_width, k_width);
    d->v = mz_tensor_cols(&qkv, q_width + k_width, v_width);
    d->y = mz_tensor_cols(&y, 1, y_width);
    for (int64_t i = 0; i < d->n_queries; i++) {
        memcpy(mz_tensor_f32(&d->q, i), mz_tensor_f32(&qkv, d->query[i]),
               (size_t)q_width * sizeof(float));
    }
    for (int64_t t = 0; t < d->n_rows && c->poison_from + c->poison_to > 0; t++) {
        const bool late = c->poison_from > 0 && d->position[t] >= c->poison_from;
        if (d->sequence[t] == 0 && (late || d->position[t] < c->poison_to)) {
            memset(mz_tensor_f32(&d->k, t), 0xff, (size_t)(k_width + v_width) * sizeof(float));
        }
    }
}

static void write_rows(mz_stream *s, const attention_data *d, int64_t begin, int64_t n) {
    const mz_rows rows = {
        .n_rows = n, .sequence = d->sequence + begin, .position = d->position + begin};
    const mz_tensor k = mz_tensor_rows(&d->k, begin, n);
    const mz_tensor v = mz_tensor_rows(&d->v, begin, n);
    mz_assert_ok(s->ctx, mz_op_kv_write(s, &d->cache, &k, &v, &rows));
}

static void query_rows(mz_stream *s, const attention_case *c, const attention_data *d,
                       int64_t begin, int64_t n) {
    static int32_t sequence[MAX_ROWS];
    static int32_t position[MAX_ROWS];
    for (int64_t i = 0; i < n; i++) {
        sequence[i] = d->sequence[d->query[begin + i]];
        position[i] = d->position[d->query[begin + i]];
    }
    const mz_rows rows = {.n_rows = n, .sequence = sequence, .position = position};
    const mz_tensor q = mz_tensor_rows(&d->q, begin, n);
    const mz_tensor y = mz_tensor_rows(&d->y, begin, n);
    const mz_attention_rule rule = {.scale = 1.0f / sqrtf((float)d->cache.head_dim),
                                    .window = c->window};
    mz_assert_ok(s->ctx, mz_op_attention(s, &y, &q, &d->cache, &rows, &rule));
}

static void run_attention(mz_stream *s, const void *arg, float *out) {
    const attention_case *c = arg;
    static int32_t page_table[MAX_SEQUENCES * (MAX_ROWS / MZ_KV_PAGE)];
    static attention_data data;
    data = (attention_data){0};
    list_rows(c, &data);
    make_cache(s, c, &data, page_table);
    make_inputs(s, c, &data);
    int64_t written = 0;
    int64_t n = c->rows_per_call > 0 ? c->rows_per_call : data.n_queries;
    for (int64_t begin = 0; begin < data.n_queries; begin += n) {
        n = data.n_queries - begin < n ? data.n_queries - begin : n;
        const int64_t needed = c->rows_per_call > 0 ? data.query[begin + n - 1] + 1 : data.n_rows;
        write_rows(s, &data, written, needed - written);
        written = needed;
        query_rows(s, c, &data, begin, n);
    }
    const int64_t width = data.y.shape[1];
    for (int64_t t = 0; t < data.n_queries; t++) {
        const float *row = mz_tensor_f32(&data.y, t);
        assert_true(row[-1] == 0.0f && row[width] == 0.0f && row[width + 1] == 0.0f);
        memcpy(out + t * width, row, (size_t)width * sizeof *out);
    }
}

static int64_t n_outputs(const attention_case *c) {
    static attention_data data;
    data = (attention_data){0};
    list_rows(c, &data);
    return data.n_queries * c->n_heads * d_v_of(c);
}

static void check_case(mz_op_streams *streams, const char *what, const attention_case *c) {
    mz_check_op(streams, what, run_attention, c, n_outputs(c), 1e-5);
}

static const mz_dtype cache_types[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_Q8_0};

static void test_shapes(void **state) {
    static const int64_t shapes[][4] = {
        {1, 1, 1, 0},     {2, 2, 6, 0},   {2, 1, 31, 0},  {3, 3, 33, 0},  {12, 12, 32, 0},
        {4, 2, 64, 0},    {2, 2, 48, 0},  {1, 1, 80, 0},  {6, 2, 128, 0}, {1, 1, 256, 0},
        {30, 1, 5, 0},    {9, 3, 14, 0},  {5, 1, 20, 0},  {4, 4, 24, 0},  {4, 4, 48, 32},
        {2, 1, 192, 128}, {2, 2, 20, 33}, {2, 1, 3, 256}, {4, 1, 256, 1}, {49, 1, 16, 14}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] * 3; i++) {
        const int64_t *shape = shapes[i / 3];
        const mz_dtype dtype = cache_types[i % 3];
        char what[96];
        (void)snprintf(what, sizeof what, "%s attention %d/%d heads of %d and %d",
                       mz_dtype_get(dtype)->name, (int)shape[0], (int)shape[1], (int)shape[2],
                       (int)shape[3]);
        const attention_case c = {.n_heads = shape[0],
                                  .n_kv_heads = shape[1],
                                  .head_dim = shape[2],
                                  .head_dim_v = shape[3],
                                  .dtype = dtype,
                                  .n_sequences = 2,
                                  .sequences = {{73, 0, 1}, {9, 0, 1}},
                                  .magnitude = 2};
        check_case(*state, what, &c);
    }
}

static void test_lengths(void **state) {
    static const int lengths[] = {1,  2,  5,  6,  7,   23,  24,  25, 31,
                                  33, 63, 64, 65, 127, 128, 129, 200};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "attention over %d positions", lengths[i]);
        check_case(*state, what,
                   &(attention_case){.n_heads = 2,
                                     .n_kv_heads = 2,
                                     .head_dim = 8,
                                     .n_sequences = 1,
                                     .sequences = {{lengths[i], 0, 1}},
                                     .magnitude = 3});
    }
}

static void test_ragged_subsets(void **state) {
    const attention_case c = {
        .n_heads = 4,
        .n_kv_heads = 2,
        .head_dim = 10,
        .n_sequences = 5,
        .sequences = {{130, 129, 1}, {1, 0, 1}, {70, 3, 13}, {65, 60, 1}, {200, 0, 64}},
        .magnitude = 2};
    check_case(*state, "ragged subsets", &c);
}

/* Long enough for several spans, by few heads and by many. */
static void test_spans(void **state) {
    for (int i = 0; i < 3; i++) {
        const attention_case c = {.n_heads = 3,
                                  .n_kv_heads = 1,
                                  .head_dim = 16,
                                  .dtype = cache_types[i],
                                  .n_sequences = 2,
                                  .sequences = {{1000, 999, 1}, {700, 100, 85}},
                                  .magnitude = 2};
        check_case(*state, "one row over 1000 positions, eight over up to 700", &c);
        attention_case many = c;
        many.sequences[0] = (sequence_case){600, 500, 1};
        many.window = 300;
        check_case(*state, "100 rows over 600 positions in a window of 300", &many);
    }
}

/* Windows that end within, at and beyond a page, a block of queries, the sequence. */
static void test_windows(void **state) {
    static const int64_t windows[] = {1,   2,   5,   8,   63,  64,  65,
                                      100, 255, 256, 257, 299, 300, INT64_MAX};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "attention in a window of %lld", (long long)windows[i]);
        const attention_case c = {.n_heads = 4,
                                  .n_kv_heads = 2,
                                  .head_dim = 8,
                                  .window = windows[i],
                                  .dtype = cache_types[i % 3],
                                  .n_sequences = 3,
                                  .sequences = {{300, 0, 3}, {40, 0, 1}, {290, 250, 1}},
                                  .magnitude = 2};
        check_case(*state, what, &c);
    }
}

/* What 16 and 8 bits cost. */
static void test_narrow_caches(void **state) {
    mz_op_streams *streams = *state;
    attention_case c = {.n_heads = 9,
                        .n_kv_heads = 3,
                        .head_dim = 64,
                        .n_sequences = 1,
                        .sequences = {{300, 0, 1}},
                        .magnitude = 1};
    static const double bounds[] = {0, 1e-3, 1e-2};
    const int64_t n = n_outputs(&c);
    float *wide = malloc((size_t)n * sizeof *wide);
    float *narrow = malloc((size_t)n * sizeof *narrow);
    assert_non_null(wide);
    assert_non_null(narrow);
    for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        for (int k = 0; k < 3; k++) {
            c.dtype = cache_types[k];
            run_attention(s, &c, k == 0 ? wide : narrow);
            mz_arena_release(&s->arena, mark);
            if (k > 0) {
                const mz_distance d = mz_distance_f32(narrow, wide, n);
                print_message("%s: relative %.2g\n", mz_dtype_get(c.dtype)->name, d.relative_l2);
                mz_assert_close(mz_dtype_get(c.dtype)->name, narrow, wide, n, bounds[k]);
                assert_true(d.relative_l2 > bounds[k] / 100);
            }
        }
    }
    free(wide);
    free(narrow);
}

/* Nearly one-hot and perfectly flat weights. */
static void test_magnitudes(void **state) {
    attention_case c = {.n_heads = 2,
                        .n_kv_heads = 2,
                        .head_dim = 16,
                        .n_sequences = 1,
                        .sequences = {{150, 0, 1}},
                        .magnitude = 60};
    check_case(*state, "one-hot weights", &c);
    c.magnitude = 1e-12f;
    check_case(*state, "flat weights", &c);
}

static void test_no_rows(void **state) {
    mz_op_streams *streams = *state;
    const mz_kv_layer cache = {.n_kv_heads = 1, .head_dim = 4};
    const mz_tensor none = mz_tensor_2d(MZ_DTYPE_F32, 0, 4, NULL);
    const mz_rows rows = {0};
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        mz_assert_ok(s->ctx, s->backend->kv_write(s, &cache, &none, &none, &rows));
        mz_assert_ok(s->ctx, s->backend->attention(s, &none, &none, &cache, &rows,
                                                   &(mz_attention_rule){.scale = 1.0f}));
    }
}

/* Runs both cases on each level and compares the bits of the first n outputs. */
static void expect_same_bits(mz_op_streams *streams, const attention_case *a,
                             const attention_case *b, int64_t n) {
    const size_t n_bytes = (size_t)n_outputs(a) * sizeof(float);
    float *results[2] = {malloc(n_bytes), malloc(n_bytes)};
    assert_non_null(results[0]);
    assert_non_null(results[1]);
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        const size_t mark = mz_arena_mark(&s->arena);
        run_attention(s, a, results[0]);
        mz_arena_release(&s->arena, mark);
        run_attention(s, b, results[1]);
        mz_arena_release(&s->arena, mark);
        assert_memory_equal(results[0], results[1], (size_t)n * sizeof(float));
    }
    free(results[0]);
    free(results[1]);
}

static void test_chunks_and_single_rows(void **state) {
    attention_case whole = {.n_heads = 4,
                            .n_kv_heads = 2,
                            .head_dim = 12,
                            .n_sequences = 3,
                            .sequences = {{150, 0, 1}, {40, 0, 1}, {90, 0, 7}},
                            .magnitude = 2};
    attention_case parts;
    for (int step = 0; step < 4; step++) {
        static const int rows_per_call[] = {1, 7, 64, 100};
        for (size_t i = 0; i < sizeof rows_per_call / sizeof rows_per_call[0]; i++) {
            parts = whole;
            parts.rows_per_call = rows_per_call[i];
            expect_same_bits(*state, &whole, &parts, n_outputs(&whole));
        }
        whole.n_heads = whole.n_kv_heads = 1;
        whole.head_dim = 64;
        whole.window = step == 0 ? 0 : 70;
        whole.dtype = cache_types[(step + 1) % 3];
        whole.sequences[0].length = 400;
    }
}

/* NaN at later positions of the same page, tile and block does not reach earlier rows. */
static void test_later_positions_are_unseen(void **state) {
    for (int from = 1; from <= 131; from += 13) {
        const attention_case clean = {.n_heads = 2,
                                      .n_kv_heads = 1,
                                      .head_dim = 20,
                                      .n_sequences = 1,
                                      .sequences = {{140, 0, 1}},
                                      .magnitude = 2};
        attention_case poisoned = clean;
        poisoned.poison_from = from;
        expect_same_bits(*state, &clean, &poisoned, from * clean.n_heads * clean.head_dim);
    }
}

/* Nor does NaN at positions that the window has left. */
static void test_positions_before_the_window_are_unseen(void **state) {
    for (int i = 0; i < 3; i++) {
        attention_case clean = {.n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 20,
                                .window = 70,
                                .dtype = cache_types[i],
                                .n_sequences = 1,
                                .sequences = {{340, 0, 1}},
                                .magnitude = 2};
        for (int to = 1; to <= 270; to += 29) {
            clean.sequences[0].first = to + 69;
            attention_case poisoned = clean;
            poisoned.poison_to = to;
            expect_same_bits(*state, &clean, &poisoned, n_outputs(&clean));
        }
    }
}

/* NaN, infinities and values out of the range of 16 bits arrive as such; tiny ones become 0. */
static void test_special_values(void **state) {
    mz_op_streams *streams = *state;
    enum { D = 40, N = 5 };
    static const float specials[N] = {NAN, INFINITY, -INFINITY, 1e30f, 1e-40f};
    for (int i = 0; i < streams->n_cpu + 1; i++) {
        mz_stream *s = i < streams->n_cpu ? &streams->cpu[i] : &streams->reference;
        for (int k = 0; k < 3 * N; k++) {
            const size_t mark = mz_arena_mark(&s->arena);
            const int32_t zero = 0;
            const mz_rows rows = {.n_rows = 1, .sequence = &zero, .position = &zero};
            mz_kv_layer cache = {.dtype = cache_types[k / N],
                                 .n_kv_heads = 1,
                                 .head_dim = D,
                                 .page_table = &zero,
                                 .table_stride = 1};
            mz_kv_layout layout = {0};
            mz_tensor x[4];
            mz_assert_ok(s->ctx, mz_kv_layout_of(&s->ctx->error, &cache, &layout));
            mz_assert_ok(s->ctx, mz_stream_take_bytes(s, layout.page_bytes, "page", &cache.data));
            for (int t = 0; t < 4; t++) {
                mz_assert_ok(s->ctx, mz_stream_take(s, 1, D, "row", &x[t]));
                mz_fill_uniform(x[t].data, D, (uint64_t)t, 1);
            }
            for (int e = 0; e < MZ_KV_BLOCK; e++) { /* the last block stays as it is */
                mz_tensor_f32(&x[2], 0)[e] = specials[k % N];
            }
            mz_assert_ok(s->ctx, mz_op_kv_write(s, &cache, &x[1], &x[2], &rows));
            mz_assert_ok(s->ctx, mz_op_attention(s, &x[3], &x[0], &cache, &rows,
                                                 &(mz_attention_rule){.scale = 1}));
            const float y = mz_tensor_f32(&x[3], 0)[0];
            const mz_dtype dtype = cache.dtype;
            const float wide = specials[k % N];
            const float half = wide == 1e30f ? INFINITY : wide == 1e-40f ? 0.0f : wide;
            const float eighth = wide == 1e30f ? wide : wide == 1e-40f ? 0.0f : NAN;
            const float want = dtype == MZ_DTYPE_F32 ? wide : dtype == MZ_DTYPE_F16 ? half : eighth;
            assert_true(isnan(want) ? isnan(y) : y == want || fabsf(y / want - 1) < 1e-6f);
            mz_assert_close("the other block", mz_tensor_f32(&x[3], 0) + MZ_KV_BLOCK,
                            mz_tensor_f32(&x[2], 0) + MZ_KV_BLOCK, D - MZ_KV_BLOCK, 6e-3);
            mz_arena_release(&s->arena, mark);
        }
    }
}

static void expect_refused(mz_stream *s, const mz_kv_layer *cache, const mz_attention_rule *rule,
                           mz_status status, const char *message) {
    float data[8] = {0};
    const int32_t zero = 0;
    const mz_tensor row = mz_tensor_2d(MZ_DTYPE_F32, 1, 4, data);
    const mz_rows rows = {.n_rows = 1, .sequence = &zero, .position = &zero};
    assert_int_equal(mz_op_attention(s, &row, &row, cache, &rows, rule), status);
    if (strstr(s->ctx->error.message, message) == NULL) {
        fail_msg("\"%s\" does not contain \"%s\"", s->ctx->error.message, message);
    }
}

static void test_errors(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *s = &streams->cpu[0];
    const mz_attention_rule plain = {.scale = 1};
    const mz_kv_layer good = {.n_kv_heads = 1, .head_dim = 4};
    mz_kv_layer bad = good;
    bad.head_dim_v = 5;
    expect_refused(s, &bad, &plain, MZ_ERR_SHAPE, "attention: y is [1, 4], expected [1, 5]");
    bad.head_dim_v = -1;
    expect_refused(s, &bad, &plain, MZ_ERR_SHAPE, "1 kv heads of width 4, values of -1");
    bad.head_dim_v = 257;
    expect_refused(s, &bad, &plain, MZ_ERR_UNSUPPORTED, "heads of width 257, at most 256");
    bad = good;
    bad.head_dim = 0;
    expect_refused(s, &bad, &plain, MZ_ERR_SHAPE, "1 kv heads of width 0");
    bad = good;
    bad.n_kv_heads = INT64_MAX;
    expect_refused(s, &bad, &plain, MZ_ERR_LIMIT, "more than memory can address");
    bad = good;
    bad.head_dim = 3;
    expect_refused(s, &bad, &plain, MZ_ERR_SHAPE, "width 4 does not divide into heads of 3");
    bad = good;
    bad.dtype = MZ_DTYPE_BF16;
    expect_refused(s, &bad, &plain, MZ_ERR_DTYPE, "type bf16, expected f32, f16 or q8_0");
    bad.dtype = (mz_dtype)-7;
    expect_refused(s, &bad, &plain, MZ_ERR_DTYPE, "type unknown, expected f32, f16 or q8_0");
    expect_refused(s, &good, &(mz_attention_rule){.window = -1}, MZ_ERR_ARG,
                   "a window of -1, expected 0 or more");
    expect_refused(s, &good, &(mz_attention_rule){.bidirectional = true}, MZ_ERR_UNSUPPORTED,
                   "both directions want whole sequences");
}

/* Scratch that does not fit is an error, and what was taken is given back. */
static void test_scratch(void **state) {
    mz_op_streams *streams = *state;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream small = streams->cpu[i];
        small.arena.bound = small.arena.used + 64;
        const mz_kv_layer cache = {.n_kv_heads = 1, .head_dim = 4};
        float data[4] = {0};
        const int32_t zero = 0;
        const mz_tensor row = mz_tensor_2d(MZ_DTYPE_F32, 1, 4, data);
        const mz_rows rows = {.n_rows = 1, .sequence = &zero, .position = &zero};
        assert_int_equal(
            mz_op_attention(&small, &row, &row, &cache, &rows, &(mz_attention_rule){.scale = 1.0f}),
            MZ_ERR_LIMIT);
        assert_non_null(strstr(small.ctx->error.message, "attention scratch"));
        assert_int_equal(small.arena.used, streams->cpu[i].arena.used);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_ragged_subsets),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_narrow_caches),
        cmocka_unit_test(test_magnitudes),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_chunks_and_single_rows),
        cmocka_unit_test(test_later_positions_are_unseen),
        cmocka_unit_test(test_positions_before_the_window_are_unseen),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
