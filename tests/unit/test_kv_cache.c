/* The KV cache against a plain model of it: whatever is done to sequences, they hold what arrays
 * would hold, in exactly the pages that are needed. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/half.h"
#include "core/rng.h"
#include "llm/kv_cache.h"

enum {
    LAYERS = 2,
    SEQUENCES = 4,
    PAGES = 11, /* fewer than all sequences could ask for */
    SEQUENCE_PAGES = 6,
    MAX_POSITIONS = SEQUENCE_PAGES * MZ_KV_PAGE,
    HEADS = 2,
    D = 40,
    D_V = 24,
    K_WIDTH = HEADS * D,
    V_WIDTH = HEADS * D_V,
    ROPE_POSITIONS = 512,
    N_STEPS = 1000,
};

typedef struct model_row {
    float k[LAYERS][K_WIDTH], v[LAYERS][V_WIDTH];
} model_row;

typedef struct model {
    int64_t n[SEQUENCES];
    model_row rows[SEQUENCES][MAX_POSITIONS];
} model;

/* One run of the property test. */
typedef struct fixture {
    mz_context ctx;
    mz_stream s;
    mz_kv_cache cache;
    uint64_t n_drawn;         /* random numbers */
    int n_refused, n_rotated; /* shifts for want of pages; shifts that moved keys */
    float cos[LAYERS][ROPE_POSITIONS * D / 2], sin[LAYERS][ROPE_POSITIONS * D / 2];
    mz_rope_table ropes[LAYERS];
} fixture;

static mz_kv_cache_config config_of(mz_dtype dtype) {
    return (mz_kv_cache_config){.n_layers = LAYERS,
                                .n_kv_heads = HEADS,
                                .head_dim = D,
                                .head_dim_v = D_V,
                                .dtype = dtype,
                                .max_sequences = SEQUENCES,
                                .max_pages_per_sequence = SEQUENCE_PAGES,
                                .n_pages = PAGES};
}

/* Layer 0 rotates whole heads in halves, layer 1 a part of them in neighbours, with a factor. */
static void make_ropes(fixture *f) {
    f->ropes[0] = (mz_rope_table){.half_dim = D / 2};
    f->ropes[1] = (mz_rope_table){.half_dim = 8, .head_dim = D, .first = 6, .interleaved = true};
    for (int l = 0; l < LAYERS; l++) {
        mz_rope_table *t = &f->ropes[l];
        t->n_positions = ROPE_POSITIONS;
        t->cos = f->cos[l];
        t->sin = f->sin[l];
        for (int64_t i = 0; i < ROPE_POSITIONS * t->half_dim; i++) {
            const double angle = (double)(i / t->half_dim) *
                                 pow(10000, -(double)(i % t->half_dim) / (double)t->half_dim);
            f->cos[l][i] = (float)(cos(angle) * (1 + 0.25 * l));
            f->sin[l][i] = (float)(sin(angle) * (1 + 0.25 * l));
        }
    }
}

static void open_cache(fixture *f, const mz_backend *backend, mz_dtype dtype) {
    const mz_kv_cache_config config = config_of(dtype);
    mz_assert_ok(&f->ctx, mz_context_init(
                              &f->ctx, &(mz_context_options){.n_threads = 2, .isa = MZ_ISA_AUTO}));
    mz_assert_ok(&f->ctx, mz_stream_open(&f->ctx, backend, (size_t)4 << 20, &f->s));
    mz_assert_ok(&f->ctx, mz_kv_cache_create(&f->s, &config, &f->cache));
    f->n_drawn = 0;
    f->n_refused = 0;
    f->n_rotated = 0;
    make_ropes(f);
}

static void close_cache(fixture *f) {
    mz_kv_cache_destroy(&f->s, &f->cache);
    mz_stream_close(&f->s);
    mz_context_close(&f->ctx);
}

static uint64_t draw(fixture *f) {
    uint32_t words[4];
    mz_rng_block(7, 0, f->n_drawn++, words);
    return words[0];
}

static int64_t below(fixture *f, int64_t n) {
    return (int64_t)(draw(f) % (uint64_t)n);
}

/* ---- What the cache holds ---- */

static double element(mz_dtype dtype, const char *x, int64_t i, const char *scales, int64_t scale) {
    if (dtype == MZ_DTYPE_F32) {
        return (double)((const float *)(const void *)x)[i];
    }
    if (dtype == MZ_DTYPE_F16) {
        return (double)mz_f16_to_f32(((const uint16_t *)(const void *)x)[i]);
    }
    return (double)((const int8_t *)x)[i] * (double)((const float *)(const void *)scales)[scale];
}

/* Adds squares of the differences of a position from the model's row, and of the row. */
static void compare_row(const fixture *f, int64_t sequence, int64_t position, const model_row *row,
                        double *error, double *norm) {
    for (int l = 0; l < LAYERS; l++) {
        const mz_kv_layer layer = mz_kv_cache_layer(&f->cache, l);
        mz_kv_layout at = {0};
        assert_int_equal(mz_kv_layout_of(NULL, &layer, &at), MZ_OK);
        const int64_t page =
            layer.page_table[sequence * layer.table_stride + position / MZ_KV_PAGE];
        const int64_t slot = position % MZ_KV_PAGE;
        for (int64_t i = 0; i < K_WIDTH + V_WIDTH; i++) {
            const bool key = i < K_WIDTH;
            const int64_t d = key ? D : D_V;
            const int64_t column = key ? i : i - K_WIDTH;
            const int64_t e = column % d;
            const char *head = (const char *)layer.data + (size_t)page * at.page_bytes +
                               (size_t)(column / d) * at.head_bytes;
            const int64_t scale = e / MZ_KV_BLOCK * MZ_KV_PAGE + slot;
            const double actual =
                key ? element(layer.dtype, head, e * MZ_KV_PAGE + slot, head + at.key_scales, scale)
                    : element(layer.dtype, head + at.values, slot * at.value_stride + e,
                              head + at.value_scales, scale);
            const double expected = (double)(key ? row->k[l][column] : row->v[l][column]);
            *error += (actual - expected) * (actual - expected);
            *norm += expected * expected;
        }
    }
}

/* Each page has as many users as there are sequences that it stands in, and the rest are free. */
static void check_pages(const fixture *f) {
    const mz_kv_cache *c = &f->cache;
    int32_t users[PAGES] = {0};
    int64_t n_used = 0;
    for (int64_t s = 0; s < SEQUENCES; s++) {
        for (int64_t i = 0; i < (c->n_positions[s] + MZ_KV_PAGE - 1) / MZ_KV_PAGE; i++) {
            const int32_t page = c->table[s * SEQUENCE_PAGES + i];
            assert_in_range(page, 0, PAGES - 1);
            n_used += users[page] == 0;
            users[page]++;
        }
    }
    assert_int_equal(c->n_used, n_used);
    assert_memory_equal(c->n_users, users, sizeof users);
    for (int64_t i = 0; i < PAGES - n_used; i++) {
        assert_int_equal(users[c->free_pages[i]], 0);
        users[c->free_pages[i]] = -1; /* listed once */
    }
}

static void check_model(const fixture *f, const model *m, double bound) {
    double error = 0;
    double norm = 1e-30;
    check_pages(f);
    for (int64_t s = 0; s < SEQUENCES; s++) {
        assert_int_equal(f->cache.n_positions[s], m->n[s]);
        for (int64_t p = 0; p < m->n[s]; p++) {
            compare_row(f, s, p, &m->rows[s][p], &error, &norm);
        }
    }
    if (!(sqrt(error / norm) <= bound)) {
        fail_msg("relative %.3g, at most %.3g", sqrt(error / norm), bound);
    }
}

/* ---- What is done to it ---- */

/* Extends and writes. */
static void grow(fixture *f, model *m, int64_t sequence, int64_t n_rows) {
    const int64_t begin = m->n[sequence];
    const int64_t end = begin + n_rows;
    const int64_t have = (begin + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    const int64_t need = (end + MZ_KV_PAGE - 1) / MZ_KV_PAGE;
    const int32_t *pages = f->cache.table + sequence * SEQUENCE_PAGES;
    const bool copies = begin % MZ_KV_PAGE != 0 && f->cache.n_users[pages[have - 1]] > 1;
    const bool fits = need <= SEQUENCE_PAGES && need - have + copies <= PAGES - f->cache.n_used;
    const mz_status status = mz_kv_cache_extend(&f->s, &f->cache, sequence, end);
    assert_int_equal(status, fits ? MZ_OK : MZ_ERR_LIMIT);
    if (!fits) {
        assert_non_null(strstr(f->ctx.error.message, "positions do not fit"));
        return;
    }
    mz_assert_ok(&f->ctx, mz_kv_cache_sync(&f->s, &f->cache));
    int32_t sequences[MAX_POSITIONS];
    int32_t positions[MAX_POSITIONS];
    for (int64_t i = 0; i < n_rows; i++) {
        sequences[i] = (int32_t)sequence;
        positions[i] = (int32_t)(begin + i);
        mz_fill_uniform(&m->rows[sequence][begin + i].k[0][0], LAYERS * (K_WIDTH + V_WIDTH),
                        draw(f), 1);
    }
    const mz_rows rows = {.n_rows = n_rows, .sequence = sequences, .position = positions};
    for (int l = 0; l < LAYERS; l++) {
        const int64_t ld = sizeof(model_row) / sizeof(float);
        mz_tensor k = mz_tensor_2d(MZ_DTYPE_F32, n_rows, K_WIDTH, m->rows[sequence][begin].k[l]);
        mz_tensor v = mz_tensor_2d(MZ_DTYPE_F32, n_rows, V_WIDTH, m->rows[sequence][begin].v[l]);
        k.ld = ld;
        v.ld = ld;
        const mz_kv_layer layer = mz_kv_cache_layer(&f->cache, l);
        mz_assert_ok(&f->ctx, mz_op_kv_write(&f->s, &layer, &k, &v, &rows));
    }
    m->n[sequence] = end;
}

static void rotate_row(const fixture *f, model_row *row, int64_t n) {
    for (int l = 0; l < LAYERS; l++) {
        const mz_rope_table *t = &f->ropes[l];
        for (int64_t i = 0; i < HEADS * t->half_dim; i++) {
            const int64_t pair = i % t->half_dim;
            const double c = (double)t->cos[n * t->half_dim + pair] / (1 + 0.25 * l);
            const double s = (double)t->sin[n * t->half_dim + pair] / (1 + 0.25 * l);
            float *a =
                row->k[l] + i / t->half_dim * D + t->first + (t->interleaved ? 2 * pair : pair);
            float *b = a + (t->interleaved ? 1 : t->half_dim);
            const double x = (double)*a;
            const double y = (double)*b;
            *a = (float)(x * c + y * s);
            *b = (float)(y * c - x * s);
        }
    }
}

static void shift(fixture *f, model *m, int64_t sequence, bool rotated) {
    const int64_t n_pages = m->n[sequence] / MZ_KV_PAGE;
    const int64_t first = below(f, (n_pages + 2) / 2) * MZ_KV_PAGE;
    const int64_t n = below(f, n_pages - first / MZ_KV_PAGE + 1) * MZ_KV_PAGE;
    const mz_rope_table *const ropes[LAYERS] = {&f->ropes[0], &f->ropes[1]};
    const mz_status status =
        mz_kv_cache_shift(&f->s, &f->cache, sequence, first, n, rotated ? ropes : NULL);
    if (status == MZ_ERR_LIMIT) { /* shared pages want copies */
        assert_true(rotated && f->cache.n_used > PAGES - SEQUENCE_PAGES);
        f->n_refused++;
        return;
    }
    mz_assert_ok(&f->ctx, status);
    m->n[sequence] -= n;
    f->n_rotated += rotated && n > 0 && first < m->n[sequence];
    memmove(&m->rows[sequence][first], &m->rows[sequence][first + n],
            (size_t)(m->n[sequence] - first) * sizeof(model_row));
    for (int64_t p = first; p < m->n[sequence] && n > 0 && rotated; p++) {
        rotate_row(f, &m->rows[sequence][p], n);
    }
}

static void step(fixture *f, model *m) {
    const int64_t sequence = below(f, SEQUENCES);
    const int64_t other = below(f, SEQUENCES);
    const int64_t to = below(f, 4) == 0 ? below(f, m->n[sequence] + 2) : m->n[sequence] - 1;
    switch (below(f, 12)) {
    case 0:
        mz_kv_cache_truncate(&f->cache, sequence, to);
        m->n[sequence] = to < 0 ? 0 : to < m->n[sequence] ? to : m->n[sequence];
        break;
    case 1:
    case 2:
        mz_kv_cache_fork(&f->cache, sequence, other);
        m->n[other] = m->n[sequence];
        memmove(m->rows[other], m->rows[sequence], sizeof m->rows[0]);
        break;
    case 3:
        shift(f, m, sequence, false);
        break;
    case 4:
        shift(f, m, sequence, true);
        break;
    case 5:
        if (below(f, 16) == 0) {
            mz_kv_cache_reset(&f->cache);
            memset(m->n, 0, sizeof m->n);
        }
        break;
    case 6:
        mz_assert_ok(&f->ctx, mz_kv_cache_extend(&f->s, &f->cache, sequence, to - 1));
        break;
    default:
        grow(f, m, sequence, 1 + below(f, below(f, 2) == 0 ? 250 : 3));
        break;
    }
}

static void random_operations(void **state) {
    (void)state;
    static fixture f;
    static model m;
    static const struct {
        mz_dtype dtype;
        double bound;
    } kinds[] = {{MZ_DTYPE_F32, 1e-6}, {MZ_DTYPE_F16, 1e-3}, {MZ_DTYPE_Q8_0, 2e-2}};
    for (int i = 0; i < 6; i++) {
        open_cache(&f, mz_backend_at(i / 3), kinds[i % 3].dtype);
        m = (model){0};
        for (int k = 0; k < N_STEPS; k++) {
            step(&f, &m);
            check_pages(&f);
            if (k % 5 == 0) {
                check_model(&f, &m, kinds[i % 3].bound);
            }
        }
        print_message("%d shifts with keys, %d without pages\n", f.n_rotated, f.n_refused);
        assert_true(f.n_rotated > 10 && f.n_refused > 0);
        close_cache(&f);
    }
}

/* Keys that were rotated by their positions are, after a shift, those of their new positions. */
static void a_shift_rotates_to_the_new_positions(void **state) {
    (void)state;
    static fixture f;
    static model m;
    open_cache(&f, mz_backend_cpu(), MZ_DTYPE_F32);
    m = (model){0};
    const mz_rope_table *const ropes[LAYERS] = {&f.ropes[0], NULL};
    enum { N = 200, FIRST = 64, GONE = 64 };
    static float plain[N][K_WIDTH];
    int32_t positions[N];
    const int32_t sequences[N] = {0};
    for (int32_t p = 0; p < N; p++) {
        positions[p] = p;
    }
    const mz_rows rows = {.n_rows = N, .sequence = sequences, .position = positions};
    mz_fill_uniform(plain[0], N * K_WIDTH, 3, 1);
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, N, K_WIDTH, plain);
    mz_tensor k = mz_tensor_2d(MZ_DTYPE_F32, N, K_WIDTH, m.rows[0][0].k[0]);
    mz_tensor v = mz_tensor_2d(MZ_DTYPE_F32, N, V_WIDTH, m.rows[0][0].v[0]);
    k.ld = v.ld = sizeof(model_row) / sizeof(float);
    mz_assert_ok(&f.ctx, mz_op_rope(&f.s, &k, &x, &f.ropes[0], &rows));
    mz_assert_ok(&f.ctx, mz_kv_cache_extend(&f.s, &f.cache, 0, N));
    for (int l = 0; l < LAYERS; l++) {
        const mz_kv_layer layer = mz_kv_cache_layer(&f.cache, l);
        mz_assert_ok(&f.ctx, mz_op_kv_write(&f.s, &layer, &k, &v, &rows));
    }
    mz_assert_ok(&f.ctx, mz_kv_cache_shift(&f.s, &f.cache, 0, FIRST, GONE, ropes));
    m.n[0] = N - GONE;
    for (int32_t p = 0; p < N; p++) {
        memcpy(m.rows[0][p].k[1], m.rows[0][p].k[0], sizeof m.rows[0][p].k[0]); /* layer 1: as is */
    }
    for (int32_t p = FIRST; p < N - GONE; p++) {
        memcpy(m.rows[0][p].k[1], m.rows[0][p + GONE].k[1], sizeof m.rows[0][p].k[1]);
        memcpy(plain[p], plain[p + GONE], sizeof plain[p]);
    }
    mz_assert_ok(&f.ctx, mz_op_rope(&f.s, &k, &x, &f.ropes[0], &rows));
    check_model(&f, &m, 1e-6);
    close_cache(&f);
}

static mz_status no_copy(mz_stream *s, void *dst, const void *src, size_t bytes) {
    (void)dst;
    (void)src;
    return mz_fail(&s->ctx->error, MZ_ERR_DEVICE, "%zu bytes lost", bytes);
}

/* A copy that fails leaves the cache as it was. */
static void a_failed_copy_changes_nothing(void **state) {
    (void)state;
    static fixture f;
    static model m;
    open_cache(&f, mz_backend_cpu(), MZ_DTYPE_F16);
    m = (model){0};
    grow(&f, &m, 1, 70);
    mz_kv_cache_fork(&f.cache, 1, 3);
    m.n[3] = 70;
    memcpy(m.rows[3], m.rows[1], sizeof m.rows[3]);
    mz_backend broken = *mz_backend_cpu();
    broken.copy = no_copy;
    f.s.backend = &broken;
    assert_int_equal(mz_kv_cache_extend(&f.s, &f.cache, 3, 71), MZ_ERR_DEVICE);
    check_model(&f, &m, 1e-3);
    mz_kv_cache_truncate(&f.cache, 1, 0); /* now nobody shares */
    m.n[1] = 0;
    grow(&f, &m, 3, 1);
    check_model(&f, &m, 1e-3);
    broken.kv_rotate = NULL;
    const mz_rope_table *const ropes[LAYERS] = {&f.ropes[0], NULL};
    assert_int_equal(mz_kv_cache_shift(&f.s, &f.cache, 3, 0, 64, ropes), MZ_ERR_UNSUPPORTED);
    check_model(&f, &m, 1e-3);
    f.s.backend = mz_backend_cpu();
    close_cache(&f);
}

static void expect_shift_error(fixture *f, int64_t first, int64_t n, const mz_rope_table *rope,
                               mz_status status, const char *message) {
    const mz_rope_table *const ropes[LAYERS] = {NULL, rope};
    assert_int_equal(mz_kv_cache_shift(&f->s, &f->cache, 2, first, n, ropes), status);
    if (strstr(f->ctx.error.message, message) == NULL) {
        fail_msg("\"%s\" does not contain \"%s\"", f->ctx.error.message, message);
    }
}

static void wrong_shifts_are_refused(void **state) {
    (void)state;
    static fixture f;
    static model m;
    open_cache(&f, mz_backend_cpu(), MZ_DTYPE_F32);
    m = (model){0};
    grow(&f, &m, 2, 150);
    static const int64_t wrong[][2] = {
        {-64, 64}, {0, -64}, {1, 64}, {0, 63}, {64, 128}, {192, 0}, {0, INT64_C(1) << 62}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        expect_shift_error(&f, wrong[i][0], wrong[i][1], NULL, MZ_ERR_ARG,
                           "expected multiples of 64 within 150 positions");
    }
    mz_rope_table t = f.ropes[1];
    t.head_dim = 38;
    expect_shift_error(&f, 0, 64, &t, MZ_ERR_SHAPE, "of heads of 38, keys of 40");
    t = f.ropes[1];
    t.first = 25;
    expect_shift_error(&f, 0, 64, &t, MZ_ERR_SHAPE, "elements 25 to 41 of heads of 40");
    t = f.ropes[1];
    t.n_positions = 128;
    expect_shift_error(&f, 0, 128, &t, MZ_ERR_ARG, "by 128 positions, the table has 0 to 127");
    check_model(&f, &m, 0);
    close_cache(&f);
}

static void hostile_sizes_are_refused(void **state) {
    (void)state;
    static fixture f;
    open_cache(&f, mz_backend_cpu(), MZ_DTYPE_F32);
    const int64_t huge = INT64_C(1) << 62;
    const mz_kv_cache_config good = config_of(MZ_DTYPE_F32);
    for (int i = 0; i < 14; i++) {
        mz_kv_cache_config c = good;
        int64_t *const fields[] = {&c.n_layers, &c.n_pages, &c.max_sequences,
                                   &c.max_pages_per_sequence, &c.n_kv_heads};
        *fields[i % 5] = i < 5 ? 0 : i < 10 ? -1 : huge;
        mz_kv_cache out = {.n_used = 77};
        const mz_status status = mz_kv_cache_create(&f.s, &c, &out);
        assert_int_equal(status, i % 5 == 4 ? MZ_ERR_SHAPE : MZ_ERR_LIMIT);
        assert_int_equal(out.n_used, 77);
    }
    mz_kv_cache_config c = good;
    mz_kv_cache out;
    c.n_kv_heads = huge;
    assert_int_equal(mz_kv_cache_create(&f.s, &c, &out), MZ_ERR_LIMIT);
    c = good;
    c.head_dim = 257;
    assert_int_equal(mz_kv_cache_create(&f.s, &c, &out), MZ_ERR_UNSUPPORTED);
    c = good;
    c.dtype = MZ_DTYPE_Q4_K;
    assert_int_equal(mz_kv_cache_create(&f.s, &c, &out), MZ_ERR_DTYPE);
    assert_int_equal(mz_kv_cache_extend(&f.s, &f.cache, 0, INT64_MAX), MZ_ERR_LIMIT);
    assert_int_equal(f.cache.n_used, 0);
    close_cache(&f);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    for (int64_t fail_at = 0; fail_at <= 5; fail_at++) {
        mz_failing_allocator failing;
        mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
        mz_context ctx;
        mz_stream s;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        mz_assert_ok(&ctx, mz_stream_open(&ctx, mz_backend_cpu(), 64, &s));
        const mz_kv_cache_config config = config_of(MZ_DTYPE_Q8_0);
        const int64_t n_live = failing.n_live;
        mz_kv_cache cache = {0};
        failing.n_calls = 0;
        failing.fail_at = fail_at;
        assert_int_equal(mz_kv_cache_create(&s, &config, &cache),
                         fail_at == 0 ? MZ_OK : MZ_ERR_NOMEM);
        if (fail_at == 0) {
            assert_int_equal(failing.n_calls, 5);
        } else {
            assert_null(cache.data);
        }
        mz_kv_cache_destroy(&s, &cache);
        assert_int_equal(failing.n_live, n_live);
        mz_stream_close(&s);
        mz_context_close(&ctx);
    }
}

/* What a page costs in each type: that is what a narrow cache is for. */
static void page_bytes(void **state) {
    (void)state;
    static const struct {
        mz_dtype dtype;
        size_t bytes;
    } kinds[] = {{MZ_DTYPE_F32, 3 * 2 * 64 * 64 * 4},
                 {MZ_DTYPE_F16, 3 * 2 * 64 * 64 * 2},
                 {MZ_DTYPE_Q8_0, 3 * 2 * 64 * (64 + 2 * 4)}};
    for (int i = 0; i < 3; i++) {
        mz_kv_layout l = {0};
        const mz_kv_layer layer = {.dtype = kinds[i].dtype, .n_kv_heads = 3, .head_dim = 64};
        assert_int_equal(mz_kv_layout_of(NULL, &layer, &l), MZ_OK);
        assert_int_equal(l.page_bytes, kinds[i].bytes);
        assert_int_equal(l.head_dim_v, 64);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(a_shift_rotates_to_the_new_positions),
        cmocka_unit_test(a_failed_copy_changes_nothing),
        cmocka_unit_test(wrong_shifts_are_refused),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(failed_allocations_leave_nothing),
        cmocka_unit_test(page_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
