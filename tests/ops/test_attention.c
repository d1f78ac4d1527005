/* kv_write and attention of the CPU backend against the reference, and what no bound shows: that a
 * row's bits depend on its own position only. */
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
    float magnitude;   /* of q, k and v */
    int rows_per_call; /* 0: all positions are written, then all queries go in one call; else write
                          and query by turns */
    int poison_from;   /* positions of sequence 0 from here on hold NaN; 0: none */
} attention_case;

/* What a run works on: q, k and v are columns of one tensor, as a fused projection gives them. */
typedef struct attention_data {
    mz_kv_layer cache;
    mz_tensor q, k, v, y;
    int32_t sequence[MAX_ROWS], position[MAX_ROWS]; /* of all written rows */
    int32_t query[MAX_ROWS];                        /* row that query i takes */
    int64_t n_rows, n_queries;
} attention_data;

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
    d->cache = (mz_kv_layer){.n_kv_heads = c->n_kv_heads,
                             .head_dim = c->head_dim,
                             .page_table = page_table,
                             .table_stride = table_stride};
    d->cache.page_stride = c->n_kv_heads * c->head_dim * MZ_KV_PAGE + 16;
    const size_t bytes = (size_t)n_pages * (size_t)d->cache.page_stride * sizeof(float);
    void *k = NULL;
    void *v = NULL;
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, bytes, "keys", &k));
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, bytes, "values", &v));
    memset(k, 0xff, bytes);
    memset(v, 0xff, bytes);
    d->cache.k = k;
    d->cache.v = v;
}

static void make_inputs(mz_stream *s, const attention_case *c, attention_data *d) {
    const int64_t q_width = c->n_heads * c->head_dim;
    const int64_t kv_width = c->n_kv_heads * c->head_dim;
    mz_tensor qkv;
    mz_tensor queries;
    mz_tensor y;
    mz_assert_ok(s->ctx, mz_stream_take(s, d->n_rows, q_width + 2 * kv_width + PAD, "qkv", &qkv));
    mz_assert_ok(s->ctx, mz_stream_take(s, d->n_queries, q_width + PAD, "queries", &queries));
    mz_assert_ok(s->ctx, mz_stream_take(s, d->n_queries, q_width + PAD, "y", &y));
    mz_fill_uniform(qkv.data, mz_tensor_n_elements(&qkv), 11, c->magnitude);
    memset(y.data, 0, (size_t)mz_tensor_n_elements(&y) * sizeof(float));
    d->q = mz_tensor_cols(&queries, 0, q_width);
    d->k = mz_tensor_cols(&qkv, q_width, kv_width);
    d->v = mz_tensor_cols(&qkv, q_width + kv_width, kv_width);
    d->y = mz_tensor_cols(&y, 1, q_width);
    for (int64_t i = 0; i < d->n_queries; i++) {
        memcpy(mz_tensor_f32(&d->q, i), mz_tensor_f32(&qkv, d->query[i]),
               (size_t)q_width * sizeof(float));
    }
    for (int64_t t = 0; t < d->n_rows && c->poison_from > 0; t++) {
        if (d->sequence[t] == 0 && d->position[t] >= c->poison_from) {
            memset(mz_tensor_f32(&d->k, t), 0xff, 2 * (size_t)kv_width * sizeof(float));
        }
    }
}

static void write_rows(mz_stream *s, const attention_data *d, int64_t begin, int64_t n) {
    const mz_rows rows = {n, d->sequence + begin, d->position + begin};
    const mz_tensor k = mz_tensor_rows(&d->k, begin, n);
    const mz_tensor v = mz_tensor_rows(&d->v, begin, n);
    mz_assert_ok(s->ctx, mz_op_kv_write(s, &d->cache, &k, &v, &rows));
}

static void query_rows(mz_stream *s, const attention_data *d, int64_t begin, int64_t n) {
    static int32_t sequence[MAX_ROWS];
    static int32_t position[MAX_ROWS];
    for (int64_t i = 0; i < n; i++) {
        sequence[i] = d->sequence[d->query[begin + i]];
        position[i] = d->position[d->query[begin + i]];
    }
    const mz_rows rows = {n, sequence, position};
    const mz_tensor q = mz_tensor_rows(&d->q, begin, n);
    const mz_tensor y = mz_tensor_rows(&d->y, begin, n);
    const mz_attention_rule rule = {.scale = 1.0f / sqrtf((float)d->cache.head_dim)};
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
        query_rows(s, &data, begin, n);
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
    return data.n_queries * c->n_heads * c->head_dim;
}

static void check_case(mz_op_streams *streams, const char *what, const attention_case *c) {
    mz_check_op(streams, what, run_attention, c, n_outputs(c), 1e-5);
}

static void test_shapes(void **state) {
    static const int64_t shapes[][3] = {{1, 1, 1},    {2, 2, 6},   {2, 1, 31}, {3, 3, 33},
                                        {12, 12, 32}, {4, 2, 64},  {2, 2, 48}, {1, 1, 80},
                                        {6, 2, 128},  {1, 1, 256}, {30, 1, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "attention %d/%d heads of %d", (int)shapes[i][0],
                       (int)shapes[i][1], (int)shapes[i][2]);
        const attention_case c = {.n_heads = shapes[i][0],
                                  .n_kv_heads = shapes[i][1],
                                  .head_dim = shapes[i][2],
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
    attention_case parts = whole;
    for (int step = 0; step < 2; step++) {
        static const int rows_per_call[] = {1, 7, 64, 100};
        for (size_t i = 0; i < sizeof rows_per_call / sizeof rows_per_call[0]; i++) {
            parts.rows_per_call = rows_per_call[i];
            expect_same_bits(*state, &whole, &parts, n_outputs(&whole));
        }
        whole.n_heads = whole.n_kv_heads = parts.n_heads = parts.n_kv_heads = 1;
        whole.head_dim = parts.head_dim = 64;
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
        const mz_rows rows = {1, &zero, &zero};
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
        cmocka_unit_test(test_magnitudes),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_chunks_and_single_rows),
        cmocka_unit_test(test_later_positions_are_unseen),
        cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
