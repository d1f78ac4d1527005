/* Every op of the CUDA backend against the reference backend. Inputs are uniform in [-1, 1) where
 * nothing else is said; bounds on relative L2: copies and sums of two exact, element-wise, norm and
 * softmax 1e-6, products and attention 1e-5. */
#include "tests/cudasim/device_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BOUND_ROWS 1e-6
#define BOUND_PRODUCT 1e-5

/* ---- products ---- */

static mz_linear linear_of(const mz_tensor *weight, const mz_tensor *bias, mz_precision precision) {
    mz_linear w = {.weight = *weight, .precision = precision};
    if (bias != NULL) {
        w.bias = mz_tensor_1d(MZ_DTYPE_F32, bias->shape[1], bias->data);
    }
    return w;
}

static void check_linear(int64_t n_tokens, int64_t d_in, int64_t d_out, mz_dtype dtype,
                         mz_precision precision, bool bias) {
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix x =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, d_in, d_in + 3, 1, 1.0f);
    const mz_mirror_matrix w = mz_mirror_random(&f, dtype, d_out, d_in, d_in + 1, 2, 1.0f);
    const mz_mirror_matrix b = mz_mirror_random(&f, MZ_DTYPE_F32, 1, d_out, d_out, 3, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, n_tokens, d_out, d_out + 2);
    const mz_linear host = linear_of(&w.host, bias ? &b.host : NULL, precision);
    const mz_linear device = linear_of(&w.device, bias ? &b.device : NULL, precision);
    mz_assert_ok(&f.ctx, mz_op_linear(&f.reference, &y.host, &x.host, &host));
    mz_assert_ok(&f.ctx, mz_op_linear(&f.device, &y.device, &x.device, &device));
    mz_mirror_compare(&f, "linear", &y, BOUND_PRODUCT);
    mz_fixture_close(&f);
}

static void linear(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{0, 5, 7},   {1, 1, 1},    {1, 24, 31}, {33, 65, 33},
                                       {31, 33, 1}, {3, 54, 130}, {2, 384, 24}};
    static const mz_dtype dtypes[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizeof dtypes / sizeof dtypes[0]; k++) {
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], dtypes[k], MZ_PRECISION_F32,
                         i % 2 == 0);
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], dtypes[k], MZ_PRECISION_BF16,
                         i % 2 == 1);
        }
    }
}

/* A row has the same bits alone and among others. */
static void linear_row_alone(void **state) {
    (void)state;
    enum { N = 35, D_IN = 50, D_OUT = 20, ROW = 33 };
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix x = mz_mirror_random(&f, MZ_DTYPE_F32, N, D_IN, D_IN, 1, 1.0f);
    const mz_mirror_matrix w = mz_mirror_random(&f, MZ_DTYPE_BF16, D_OUT, D_IN, D_IN, 2, 1.0f);
    const mz_mirror_matrix all = mz_mirror_blank(&f, N, D_OUT, D_OUT);
    mz_mirror_matrix one = mz_mirror_blank(&f, 1, D_OUT, D_OUT);
    const mz_linear device = linear_of(&w.device, NULL, MZ_PRECISION_F32);
    const mz_tensor row = mz_tensor_rows(&x.device, ROW, 1);
    mz_assert_ok(&f.ctx, mz_op_linear(&f.device, &all.device, &x.device, &device));
    mz_assert_ok(&f.ctx, mz_op_linear(&f.device, &one.device, &row, &device));
    const mz_tensor expected = mz_tensor_rows(&all.device, ROW, 1);
    mz_assert_ok(&f.ctx, f.device.backend->download(&f.device, one.host.data, expected.data,
                                                    D_OUT * sizeof(float)));
    mz_mirror_compare(&f, "row alone", &one, 0);
    mz_fixture_close(&f);
}

/* ---- rows ---- */

static const int64_t row_sizes[][2] = {{0, 4}, {1, 1}, {1, 31}, {5, 33}, {31, 24}, {33, 200}};
enum { N_ROW_SIZES = sizeof row_sizes / sizeof row_sizes[0] };

/* A norm of each kind, of whole rows and of groups, with weights of either width. */
static void check_norm(int64_t n, int64_t width, mz_norm_kind kind, int64_t group) {
    mz_fixture f;
    mz_fixture_open(&f);
    const int64_t n_weights = group > 0 && n % 2 == 0 ? group : width;
    const mz_mirror_matrix x = mz_mirror_random(&f, MZ_DTYPE_F32, n, width, width + 1, 1, 30.0f);
    const mz_mirror_matrix w = mz_mirror_random(&f, MZ_DTYPE_F32, 1, width, width, 2, 1.0f);
    const mz_mirror_matrix b = mz_mirror_random(&f, MZ_DTYPE_F32, 1, width, width, 3, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, n, width, width + 5);
    mz_norm host = {.kind = kind, .eps = 1e-6f, .offset = kind == MZ_NORM_RMS ? 0.5f : 0};
    host.group = group;
    host.weight = mz_tensor_1d(MZ_DTYPE_F32, n_weights, w.memory.host);
    mz_norm device = host;
    device.weight.data = w.memory.device;
    if (kind == MZ_NORM_LAYER) {
        host.bias = mz_tensor_1d(MZ_DTYPE_F32, width, b.memory.host);
        device.bias = mz_tensor_1d(MZ_DTYPE_F32, width, b.memory.device);
    }
    mz_assert_ok(&f.ctx, mz_op_norm(&f.reference, &y.host, &x.host, &host));
    mz_assert_ok(&f.ctx, mz_op_norm(&f.device, &y.device, &x.device, &device));
    mz_mirror_compare(&f, "norm", &y, BOUND_ROWS);
    mz_fixture_close(&f);
}

static void norm(void **state) {
    (void)state;
    for (int i = 0; i < N_ROW_SIZES; i++) {
        const int64_t n = row_sizes[i][0];
        const int64_t width = row_sizes[i][1];
        check_norm(n, width, MZ_NORM_RMS, 0);
        check_norm(n, width > 1 ? width : 2, MZ_NORM_LAYER, 0);
        check_norm(n, 4 * width, MZ_NORM_RMS, width);
        check_norm(n + 1, 3 * (width + 1), MZ_NORM_LAYER, width + 1);
    }
}

static void softmax(void **state) {
    (void)state;
    for (int i = 0; i < N_ROW_SIZES; i++) {
        const int64_t n = row_sizes[i][0];
        const int64_t width = row_sizes[i][1];
        mz_fixture f;
        mz_fixture_open(&f);
        const mz_mirror_matrix x =
            mz_mirror_random(&f, MZ_DTYPE_F32, n, width, width + 1, 1, 20.0f);
        const mz_mirror_matrix y = mz_mirror_blank(&f, n, width, width);
        for (int64_t r = 0; r < n; r++) { /* every fourth row is fully masked, the others in part */
            for (int64_t c = 0; c < width; c++) {
                if (r % 4 == 3 || (c % 3 == 2 && r % 2 == 0)) {
                    mz_tensor_f32(&x.host, r)[c] = -INFINITY;
                }
            }
        }
        mz_assert_ok(&f.ctx, f.device.backend->upload(&f.device, x.memory.device, x.memory.host,
                                                      x.memory.n_bytes));
        mz_assert_ok(&f.ctx, mz_op_softmax(&f.reference, &y.host, &x.host));
        mz_assert_ok(&f.ctx, mz_op_softmax(&f.device, &y.device, &x.device));
        mz_mirror_compare(&f, "softmax", &y, BOUND_ROWS);
        mz_fixture_close(&f);
    }
}

static void gated_activation_and_add(void **state) {
    (void)state;
    for (int i = 0; i < N_ROW_SIZES; i++) {
        const int64_t n = row_sizes[i][0];
        const int64_t width = row_sizes[i][1];
        mz_fixture f;
        mz_fixture_open(&f);
        const mz_mirror_matrix a =
            mz_mirror_random(&f, MZ_DTYPE_F32, n, width, width + 1, 1, 100.0f);
        const mz_mirror_matrix b = mz_mirror_random(&f, MZ_DTYPE_F32, n, width, width + 2, 2, 3.0f);
        const mz_mirror_matrix gated = mz_mirror_blank(&f, n, width, width + 3);
        const mz_mirror_matrix sum = mz_mirror_blank(&f, n, width, width + 4);
        mz_assert_ok(&f.ctx, mz_op_gated_activation(&f.reference, &gated.host, &a.host, &b.host,
                                                    MZ_ACTIVATION_SILU));
        mz_assert_ok(&f.ctx, mz_op_gated_activation(&f.device, &gated.device, &a.device, &b.device,
                                                    MZ_ACTIVATION_SILU));
        mz_assert_ok(&f.ctx, mz_op_add(&f.reference, &sum.host, &a.host, &b.host, 1));
        mz_assert_ok(&f.ctx, mz_op_add(&f.device, &sum.device, &a.device, &b.device, 1));
        mz_mirror_compare(&f, "gated_activation", &gated, BOUND_ROWS);
        for (int kind = MZ_ACTIVATION_SILU; kind <= MZ_ACTIVATION_TANH; kind++) {
            const bool alone = kind % 2 == 0;
            mz_assert_ok(&f.ctx,
                         mz_op_gated_activation(&f.reference, &gated.host, &b.host,
                                                alone ? NULL : &a.host, (mz_activation)kind));
            mz_assert_ok(&f.ctx,
                         mz_op_gated_activation(&f.device, &gated.device, &b.device,
                                                alone ? NULL : &a.device, (mz_activation)kind));
            mz_mirror_compare(&f, "an activation", &gated, BOUND_ROWS);
        }
        mz_mirror_compare(&f, "add", &sum, 0);
        mz_assert_ok(&f.ctx, mz_op_add(&f.reference, &sum.host, &a.host, &b.host, -0.37f));
        mz_assert_ok(&f.ctx, mz_op_add(&f.device, &sum.device, &a.device, &b.device, -0.37f));
        mz_mirror_compare(&f, "add with a scale", &sum, BOUND_ROWS);
        mz_fixture_close(&f);
    }
}

static void gather_rows(void **state) {
    (void)state;
    enum { N_SOURCE = 7 };
    static const mz_dtype types[] = {MZ_DTYPE_F16, MZ_DTYPE_F32, MZ_DTYPE_BF16};
    for (int i = 0; i < N_ROW_SIZES; i++) {
        const int64_t n = row_sizes[i][0];
        const int64_t width = row_sizes[i][1];
        int32_t rows[64] = {0};
        for (int r = 0; r < n; r++) {
            rows[r] = (r * 5 + 6) % N_SOURCE;
        }
        mz_fixture f;
        mz_fixture_open(&f);
        const mz_mirror_matrix x =
            mz_mirror_random(&f, types[i % 3], N_SOURCE, width, width + 1, 1, 1.0f);
        const mz_mirror_matrix y = mz_mirror_blank(&f, n, width, width + 3);
        const mz_mirror index = mz_mirror_put(&f, rows, (size_t)n * sizeof rows[0]);
        mz_assert_ok(&f.ctx, mz_op_gather_rows(&f.reference, &y.host, &x.host, index.host, 1));
        mz_assert_ok(&f.ctx, mz_op_gather_rows(&f.device, &y.device, &x.device, index.device, 1));
        mz_mirror_compare(&f, "gather_rows", &y, 0);
        mz_fixture_close(&f);
    }
}

/* In place, and to another tensor. */
static void check_rope(int64_t n, int64_t n_heads, int64_t half_dim, mz_rope_table like) {
    enum { N_POSITIONS = 40 };
    const int64_t width = n_heads * (like.head_dim > 0 ? like.head_dim : 2 * half_dim);
    int32_t positions[64] = {0};
    for (int r = 0; r < n; r++) {
        positions[r] = (r * 7 + 3) % N_POSITIONS;
    }
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix x = mz_mirror_random(&f, MZ_DTYPE_F32, n, width, width, 1, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, n, width, width + 2);
    const mz_mirror_matrix c =
        mz_mirror_random(&f, MZ_DTYPE_F32, N_POSITIONS, half_dim, half_dim, 2, 1.0f);
    const mz_mirror_matrix sn =
        mz_mirror_random(&f, MZ_DTYPE_F32, N_POSITIONS, half_dim, half_dim, 3, 1.0f);
    const mz_mirror position = mz_mirror_put(&f, positions, (size_t)n * sizeof positions[0]);
    mz_rope_table host = like;
    host.n_positions = N_POSITIONS;
    host.half_dim = half_dim;
    host.cos = c.memory.host;
    host.sin = sn.memory.host;
    mz_rope_table device = host;
    device.cos = c.memory.device;
    device.sin = sn.memory.device;
    const mz_rows host_rows = {.n_rows = n, .position = position.host};
    const mz_rows device_rows = {.n_rows = n, .position = position.device};
    mz_assert_ok(&f.ctx, mz_op_rope(&f.reference, &x.host, &x.host, &host, &host_rows));
    mz_assert_ok(&f.ctx, mz_op_rope(&f.device, &x.device, &x.device, &device, &device_rows));
    mz_mirror_compare(&f, "rope", &x, BOUND_ROWS);
    mz_assert_ok(&f.ctx, mz_op_rope(&f.reference, &y.host, &x.host, &host, &host_rows));
    mz_assert_ok(&f.ctx, mz_op_rope(&f.device, &y.device, &x.device, &device, &device_rows));
    mz_mirror_compare(&f, "rope to another tensor", &y, BOUND_ROWS);
    mz_fixture_close(&f);
}

static void rope(void **state) {
    (void)state;
    const mz_rope_table whole = {0};
    const mz_rope_table part = {.head_dim = 24, .first = 5};
    const mz_rope_table pairs = {.head_dim = 20, .first = 12, .interleaved = true};
    check_rope(0, 1, 1, whole);
    check_rope(1, 1, 1, whole);
    check_rope(31, 4, 3, whole);
    check_rope(33, 3, 33, whole);
    check_rope(31, 4, 3, part);
    check_rope(31, 40, 4, pairs);
}

/* ---- attention ---- */

enum { N_SEQUENCES = 3, TABLE_STRIDE = 4, N_PAGES = 9 };

/* Pages in no order; -1 where a sequence has none. */
static const int32_t page_table[N_SEQUENCES * TABLE_STRIDE] = {7,  2,  5, -1, 0,  -1,
                                                               -1, -1, 8, 3,  -1, -1};

typedef struct attention_case {
    int64_t n_heads, n_kv_heads, head_dim, head_dim_v;
    int64_t window;
} attention_case;

/* Rows first..last of a call: `n_new` positions of each sequence from `begin` on. */
static mz_rows rows_of(int32_t *sequence, int32_t *position, const int32_t *begin,
                       const int32_t *n_new) {
    int64_t n = 0;
    for (int32_t s = 0; s < N_SEQUENCES; s++) {
        for (int32_t i = 0; i < n_new[s]; i++) {
            sequence[n] = s;
            position[n++] = begin[s] + i;
        }
    }
    return (mz_rows){.n_rows = n, .sequence = sequence, .position = position};
}

/* Writes keys and values of a ragged chunk and attends from its rows. */
static void attend_chunk(mz_fixture *f, const attention_case *c, const mz_kv_layer *host,
                         const mz_kv_layer *device, const int32_t *begin, const int32_t *n_new,
                         uint64_t seed) {
    int32_t sequence[256];
    int32_t position[256];
    const mz_rows rows = rows_of(sequence, position, begin, n_new);
    const mz_mirror s = mz_mirror_put(f, sequence, (size_t)rows.n_rows * sizeof sequence[0]);
    const mz_mirror p = mz_mirror_put(f, position, (size_t)rows.n_rows * sizeof position[0]);
    const mz_rows on_device = {.n_rows = rows.n_rows, .sequence = s.device, .position = p.device};
    const int64_t k_width = c->n_kv_heads * c->head_dim;
    const int64_t v_width = c->n_kv_heads * c->head_dim_v;
    const int64_t width = c->n_heads * c->head_dim;
    const mz_mirror_matrix k =
        mz_mirror_random(f, MZ_DTYPE_F32, rows.n_rows, k_width, k_width + 1, seed, 1.0f);
    const mz_mirror_matrix v =
        mz_mirror_random(f, MZ_DTYPE_F32, rows.n_rows, v_width, v_width + 2, seed + 1, 1.0f);
    const mz_mirror_matrix q =
        mz_mirror_random(f, MZ_DTYPE_F32, rows.n_rows, width, width + 3, seed + 2, 4.0f);
    const mz_mirror_matrix y =
        mz_mirror_blank(f, rows.n_rows, c->n_heads * c->head_dim_v, c->n_heads * c->head_dim_v + 1);
    const mz_attention_rule rule = {.scale = 1.0f / sqrtf((float)c->head_dim), .window = c->window};
    mz_assert_ok(&f->ctx, mz_op_kv_write(&f->reference, host, &k.host, &v.host, &rows));
    mz_assert_ok(&f->ctx, mz_op_kv_write(&f->device, device, &k.device, &v.device, &on_device));
    mz_assert_ok(&f->ctx, mz_op_attention(&f->reference, &y.host, &q.host, host, &rows, &rule));
    mz_assert_ok(&f->ctx,
                 mz_op_attention(&f->device, &y.device, &q.device, device, &on_device, &rule));
    mz_mirror_compare(f, "attention", &y, BOUND_PRODUCT);
}

static void check_attention(const attention_case *c, const int32_t *lengths) {
    mz_fixture f;
    mz_fixture_open(&f);
    mz_kv_layer host = {.n_kv_heads = c->n_kv_heads,
                        .head_dim = c->head_dim,
                        .head_dim_v = c->head_dim_v,
                        .table_stride = TABLE_STRIDE};
    mz_kv_layout layout = {0};
    mz_assert_ok(&f.ctx, mz_kv_layout_of(&f.ctx.error, &host, &layout));
    const mz_mirror pages = mz_mirror_put(&f, NULL, N_PAGES * layout.page_bytes);
    const mz_mirror table = mz_mirror_put(&f, page_table, sizeof page_table);
    mz_kv_layer device = host;
    host.data = pages.host;
    host.page_table = table.host;
    device.data = pages.device;
    device.page_table = table.device;
    static const int32_t zero[N_SEQUENCES] = {0, 0, 0};
    static const int32_t more[N_SEQUENCES] = {1, 2, 0};
    attend_chunk(&f, c, &host, &device, zero, zero, 1);
    attend_chunk(&f, c, &host, &device, zero, lengths, 10);
    attend_chunk(&f, c, &host, &device, lengths, more, 20);
    mz_mirror_compare_bytes(&f, "keys and values", &pages);
    mz_fixture_close(&f);
}

static void attention(void **state) {
    (void)state;
    static const int32_t ragged[N_SEQUENCES] = {33, 1, 31};
    static const int32_t pages[N_SEQUENCES] = {100, 2, 20};
    static const attention_case cases[] = {
        {4, 4, 6, 6, 0},     {6, 2, 10, 10, 0}, {2, 1, 33, 33, 0}, {1, 1, 100, 100, 0},
        {1, 1, 200, 200, 0}, {4, 2, 24, 16, 9}, {2, 1, 14, 70, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_attention(&cases[i], ragged);
    }
    check_attention(&cases[3], pages);
    for (int64_t window = 16; window <= 80; window += 16) {
        check_attention(&(attention_case){2, 1, 20, 33, window}, pages);
    }
}

static void attention_refuses_wide_heads(void **state) {
    (void)state;
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix q = mz_mirror_random(&f, MZ_DTYPE_F32, 1, 257, 257, 1, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, 1, 257, 257);
    const mz_kv_layer cache = {.n_kv_heads = 1, .head_dim = 257};
    const mz_rows rows = {.n_rows = 1};
    assert_int_equal(mz_op_attention(&f.device, &y.device, &q.device, &cache, &rows,
                                     &(mz_attention_rule){.scale = 1.0f}),
                     MZ_ERR_UNSUPPORTED);
    assert_string_equal(f.ctx.error.message,
                        "attention: heads of width 257, at most 256 are supported");
    mz_fixture_close(&f);
}

static void attention_refuses_narrow_caches(void **state) {
    (void)state;
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix q = mz_mirror_random(&f, MZ_DTYPE_F32, 1, 8, 8, 1, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, 1, 8, 8);
    const mz_kv_layer cache = {.dtype = MZ_DTYPE_F16, .n_kv_heads = 1, .head_dim = 8};
    const mz_rows rows = {.n_rows = 1};
    assert_int_equal(mz_op_attention(&f.device, &y.device, &q.device, &cache, &rows,
                                     &(mz_attention_rule){.scale = 1.0f}),
                     MZ_ERR_UNSUPPORTED);
    assert_string_equal(f.ctx.error.message, "cuda: a KV cache of f16, expected f32");
    assert_int_equal(mz_op_kv_write(&f.device, &cache, &q.device, &q.device, &rows),
                     MZ_ERR_UNSUPPORTED);
    mz_fixture_close(&f);
}

/* ---- mixture of experts ---- */

/* The same routing twice, each array an allocation of its own. */
typedef struct mirror_routing {
    mz_mirror_matrix logits;
    mz_mirror ids, weights, offsets, row_index, slot_row;
    mz_routing host, device;
} mirror_routing;

static mirror_routing routing_blank(mz_fixture *f, const mz_mirror_matrix *logits, int32_t top_k) {
    const int64_t n_tokens = logits->host.shape[0];
    const int32_t n_experts = (int32_t)logits->host.shape[1];
    const size_t slot_bytes = (size_t)(n_tokens * top_k) * sizeof(int32_t);
    mirror_routing r = {.logits = *logits};
    r.ids = mz_mirror_put(f, NULL, slot_bytes);
    r.weights = mz_mirror_put(f, NULL, slot_bytes);
    r.offsets = mz_mirror_put(f, NULL, ((size_t)n_experts + 1) * sizeof(int32_t));
    r.row_index = mz_mirror_put(f, NULL, slot_bytes);
    r.slot_row = mz_mirror_put(f, NULL, slot_bytes);
    r.host = (mz_routing){.n_tokens = n_tokens,
                          .n_experts = n_experts,
                          .top_k = top_k,
                          .logits = logits->host,
                          .expert_ids = r.ids.host,
                          .gate_weights = r.weights.host,
                          .expert_offsets = r.offsets.host,
                          .row_index = r.row_index.host,
                          .slot_row = r.slot_row.host};
    r.device = (mz_routing){.n_tokens = n_tokens,
                            .n_experts = n_experts,
                            .top_k = top_k,
                            .logits = logits->device,
                            .expert_ids = r.ids.device,
                            .gate_weights = r.weights.device,
                            .expert_offsets = r.offsets.device,
                            .row_index = r.row_index.device,
                            .slot_row = r.slot_row.device};
    return r;
}

static void compare_weights(mz_fixture *f, const mirror_routing *r) {
    const int64_t n_slots = r->host.n_tokens * r->host.top_k;
    const mz_mirror_matrix weights = {r->weights,
                                      mz_tensor_2d(MZ_DTYPE_F32, 1, n_slots, r->weights.host),
                                      mz_tensor_2d(MZ_DTYPE_F32, 1, n_slots, r->weights.device)};
    mz_mirror_compare(f, "gate_weights", &weights, BOUND_ROWS);
}

static void route_and_dispatch(mz_fixture *f, const mirror_routing *r) {
    const mz_router router = {.n_experts = r->host.n_experts, .top_k = r->host.top_k};
    mz_assert_ok(&f->ctx, mz_op_route(&f->reference, &router, &r->host));
    mz_assert_ok(&f->ctx, mz_op_route(&f->device, &router, &r->device));
    mz_assert_ok(&f->ctx, mz_op_dispatch(&f->reference, &r->host));
    mz_assert_ok(&f->ctx, mz_op_dispatch(&f->device, &r->device));
}

static void compare_routing(mz_fixture *f, const mirror_routing *r) {
    mz_mirror_compare_bytes(f, "expert_ids", &r->ids);
    compare_weights(f, r);
    mz_mirror_compare_bytes(f, "expert_offsets", &r->offsets);
    mz_mirror_compare_bytes(f, "row_index", &r->row_index);
    mz_mirror_compare_bytes(f, "slot_row", &r->slot_row);
}

static void check_routing(int64_t n_tokens, int64_t n_experts, int32_t top_k) {
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix logits =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, n_experts, n_experts + 1, 5, 4.0f);
    const mirror_routing r = routing_blank(&f, &logits, top_k);
    route_and_dispatch(&f, &r);
    compare_routing(&f, &r);
    mz_fixture_close(&f);
}

static void routing(void **state) {
    (void)state;
    check_routing(0, 3, 1);
    check_routing(1, 1, 1);
    check_routing(1, 40, 5); /* more experts than slots */
    check_routing(31, 5, 2);
    check_routing(33, 33, 33); /* every expert */
    check_routing(33, 8, 2);
    check_routing(200, 3, 3); /* more slots than threads in a block */
}

static void routing_ties_and_nan(void **state) {
    (void)state;
    enum { N_TOKENS = 7, N_EXPERTS = 5, TOP_K = 3 };
    static const float values[N_TOKENS * N_EXPERTS] = {
        1,         1,         1,         1,    1,     0,         2,   -1,        2,
        2,         NAN,       1,         NAN,  1,     0,         NAN, NAN,       NAN,
        3,         NAN,       NAN,       NAN,  NAN,   NAN,       NAN, -INFINITY, -INFINITY,
        -INFINITY, -INFINITY, -INFINITY, 0.0f, -0.0f, -INFINITY, NAN, 0.0f,
    };
    static const int32_t expected[N_TOKENS * TOP_K] = {0, 1, 2, 1, 3, 4, 1, 3, 4, 3, 0,
                                                       1, 0, 1, 2, 0, 1, 2, 0, 1, 4};
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror memory = mz_mirror_put(&f, values, sizeof values);
    const mz_mirror_matrix logits = {
        memory, mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, N_EXPERTS, memory.host),
        mz_tensor_2d(MZ_DTYPE_F32, N_TOKENS, N_EXPERTS, memory.device)};
    const mirror_routing r = routing_blank(&f, &logits, TOP_K);
    route_and_dispatch(&f, &r);
    assert_memory_equal(r.ids.host, expected, sizeof expected);
    compare_routing(&f, &r);
    mz_fixture_close(&f);
}

/* The matrices of all experts, each an allocation of its own, and the tables that lead to them. */
static void bank_of(mz_fixture *f, mz_dtype dtype, int32_t n_experts, int64_t d_out, int64_t d_in,
                    uint64_t seed, mz_linear_bank *host, mz_linear_bank *device) {
    const void *hosts[16];
    const void *devices[16];
    for (int32_t e = 0; e < n_experts; e++) {
        const mz_mirror_matrix w =
            mz_mirror_random(f, dtype, d_out, d_in, d_in + 2, seed + (uint64_t)e, 0.5f);
        hosts[e] = w.memory.host;
        devices[e] = w.memory.device;
    }
    const size_t n_bytes = (size_t)n_experts * sizeof hosts[0];
    *host = (mz_linear_bank){.dtype = dtype,
                             .precision = MZ_PRECISION_F32,
                             .n_experts = n_experts,
                             .d_out = d_out,
                             .d_in = d_in,
                             .ld = d_in + 2,
                             .data = mz_mirror_put(f, hosts, n_bytes).host};
    *device = *host;
    device->data = mz_mirror_put(f, devices, n_bytes).device;
}

static void check_grouped(int64_t n_tokens, int32_t n_experts, int32_t top_k, int64_t d_in,
                          int64_t d_out, mz_dtype dtype, mz_precision precision) {
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix logits =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, n_experts, n_experts, 5, 4.0f);
    const mirror_routing r = routing_blank(&f, &logits, top_k);
    route_and_dispatch(&f, &r);
    mz_linear_bank host;
    mz_linear_bank device;
    bank_of(&f, dtype, n_experts, d_out, d_in, 100, &host, &device);
    host.precision = device.precision = precision;
    const int64_t n_slots = n_tokens * top_k;
    for (int gather = 0; gather < 2; gather++) {
        const int64_t n_in = gather ? n_tokens : n_slots;
        const mz_mirror_matrix x =
            mz_mirror_random(&f, MZ_DTYPE_F32, n_in, d_in, d_in + 1, 7, 1.0f);
        const mz_mirror_matrix y = mz_mirror_blank(&f, n_slots, d_out, d_out + 3);
        mz_assert_ok(&f.ctx,
                     mz_op_grouped_linear(&f.reference, &y.host, &x.host, &host, &r.host, gather));
        mz_assert_ok(&f.ctx, mz_op_grouped_linear(&f.device, &y.device, &x.device, &device,
                                                  &r.device, gather));
        mz_mirror_compare(&f, gather ? "grouped_linear, gathered" : "grouped_linear", &y,
                          BOUND_PRODUCT);
    }
    mz_fixture_close(&f);
}

static void grouped_linear(void **state) {
    (void)state;
    check_grouped(0, 3, 2, 5, 7, MZ_DTYPE_F32, MZ_PRECISION_F32);
    check_grouped(1, 8, 2, 24, 27, MZ_DTYPE_F32, MZ_PRECISION_F32); /* most experts have no rows */
    check_grouped(33, 5, 2, 24, 27, MZ_DTYPE_BF16, MZ_PRECISION_F32);
    check_grouped(33, 7, 3, 33, 65, MZ_DTYPE_F16, MZ_PRECISION_F32);
    check_grouped(31, 1, 1, 17, 31, MZ_DTYPE_BF16, MZ_PRECISION_BF16);
    check_grouped(70, 2, 2, 9, 5, MZ_DTYPE_F32, MZ_PRECISION_BF16); /* several tiles an expert */
}

static void check_combine(int64_t n_tokens, int64_t width, int32_t top_k, bool shared) {
    enum { N_EXPERTS = 5 };
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_mirror_matrix logits =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, N_EXPERTS, N_EXPERTS, 5, 2.0f);
    const mirror_routing r = routing_blank(&f, &logits, top_k);
    route_and_dispatch(&f, &r);
    const mz_mirror_matrix out =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens * top_k, width, width + 1, 6, 1.0f);
    const mz_mirror_matrix extra =
        mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, width, width + 2, 7, 1.0f);
    const mz_mirror_matrix gate = mz_mirror_random(&f, MZ_DTYPE_F32, n_tokens, 1, 1, 8, 3.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, n_tokens, width, width + 3);
    mz_assert_ok(&f.ctx, mz_op_combine(&f.reference, &y.host, &out.host, &r.host,
                                       shared ? &extra.host : NULL, shared ? &gate.host : NULL));
    mz_assert_ok(&f.ctx,
                 mz_op_combine(&f.device, &y.device, &out.device, &r.device,
                               shared ? &extra.device : NULL, shared ? &gate.device : NULL));
    mz_mirror_compare(&f, "combine", &y, BOUND_ROWS);
    mz_fixture_close(&f);
}

static void combine(void **state) {
    (void)state;
    check_combine(0, 3, 2, true);
    check_combine(1, 1, 1, false);
    check_combine(31, 33, 2, true);
    check_combine(33, 24, 5, false);
    check_combine(5, 200, 3, true);
}

/* The composed layer, whose arrays and scratch come from the streams' arenas. */
static void moe_layer(void **state) {
    (void)state;
    enum { N = 37, D = 24, D_FF = 27, D_SHARED = 54, N_EXPERTS = 5, TOP_K = 2 };
    mz_fixture f;
    mz_fixture_open(&f);
    mz_moe host = {.router = {.n_experts = N_EXPERTS, .top_k = TOP_K}, .has_shared = true};
    mz_moe device = host;
    const mz_mirror_matrix router = mz_mirror_random(&f, MZ_DTYPE_F32, N_EXPERTS, D, D, 1, 1.0f);
    const mz_mirror_matrix shared_gate = mz_mirror_random(&f, MZ_DTYPE_F32, 1, D, D, 2, 1.0f);
    const mz_mirror_matrix gate = mz_mirror_random(&f, MZ_DTYPE_BF16, D_SHARED, D, D, 3, 0.5f);
    const mz_mirror_matrix up = mz_mirror_random(&f, MZ_DTYPE_BF16, D_SHARED, D, D, 4, 0.5f);
    const mz_mirror_matrix down =
        mz_mirror_random(&f, MZ_DTYPE_BF16, D, D_SHARED, D_SHARED, 5, 0.5f);
    host.router_proj.weight = router.host;
    device.router_proj.weight = router.device;
    host.shared_gate.weight = shared_gate.host;
    device.shared_gate.weight = shared_gate.device;
    host.shared = (mz_ffn){
        {.weight = gate.host}, {.weight = up.host}, {.weight = down.host}, MZ_ACTIVATION_SILU};
    device.shared = (mz_ffn){{.weight = gate.device},
                             {.weight = up.device},
                             {.weight = down.device},
                             MZ_ACTIVATION_SILU};
    bank_of(&f, MZ_DTYPE_BF16, N_EXPERTS, D_FF, D, 10, &host.w_gate, &device.w_gate);
    bank_of(&f, MZ_DTYPE_BF16, N_EXPERTS, D_FF, D, 20, &host.w_up, &device.w_up);
    bank_of(&f, MZ_DTYPE_BF16, N_EXPERTS, D, D_FF, 30, &host.w_down, &device.w_down);
    const mz_mirror_matrix x = mz_mirror_random(&f, MZ_DTYPE_F32, N, D, D, 40, 1.0f);
    const mz_mirror_matrix y = mz_mirror_blank(&f, N, D, D);
    mz_routing on_host;
    mz_routing on_device;
    mz_assert_ok(&f.ctx, mz_routing_take(&f.reference, N, &host.router, &on_host));
    mz_assert_ok(&f.ctx, mz_routing_take(&f.device, N, &device.router, &on_device));
    mz_assert_ok(&f.ctx, mz_op_moe(&f.reference, &y.host, &x.host, &host, &on_host, NULL));
    mz_assert_ok(&f.ctx, mz_op_moe(&f.device, &y.device, &x.device, &device, &on_device, NULL));
    mz_mirror_compare(&f, "moe", &y, BOUND_PRODUCT);
    mz_fixture_close(&f);
}

/* ---- the backend ---- */

static void buffers(void **state) {
    (void)state;
    mz_fixture f;
    mz_fixture_open(&f);
    const mz_backend *b = f.device.backend;
    void *buffer = NULL;
    mz_assert_ok(&f.ctx, b->buffer_alloc(&f.device, 0, &buffer));
    assert_non_null(buffer);
    mz_assert_ok(&f.ctx, b->upload(&f.device, buffer, "", 0));
    b->buffer_free(&f.device, buffer, 0);
    b->buffer_free(&f.device, NULL, 0);
    void *untouched = &f;
    assert_int_equal(b->buffer_alloc(&f.device, (size_t)1 << 50, &untouched), MZ_ERR_NOMEM);
    assert_ptr_equal(untouched, &f);
    assert_non_null(strstr(f.ctx.error.message, "1125899906842624 bytes of device memory"));
    float values[3] = {1, 2, 3};
    float back[3] = {0};
    mz_assert_ok(&f.ctx, b->buffer_alloc(&f.device, sizeof values, &buffer));
    assert_int_equal((uintptr_t)buffer % MZ_ARENA_ALIGNMENT, 0);
    mz_assert_ok(&f.ctx, b->upload(&f.device, buffer, values, sizeof values));
    memset(values, 0, sizeof values); /* the source may be reused on return */
    mz_assert_ok(&f.ctx, b->download(&f.device, back, buffer, sizeof back));
    assert_true(back[0] == 1 && back[1] == 2 && back[2] == 3);
    b->buffer_free(&f.device, buffer, sizeof values);
    mz_fixture_close(&f);
}

/* A grid larger than CUDA's is refused before anything is launched. */
static void grid_limit(void **state) {
    (void)state;
    mz_fixture f;
    mz_fixture_open(&f);
    const int64_t n = (int64_t)1 << 31;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, n, 1, f.device.arena_base);
    assert_int_equal(mz_op_add(&f.device, &t, &t, &t, 1), MZ_ERR_LIMIT);
    assert_string_equal(f.ctx.error.message, "cuda: add: needs a grid of 2147483648 x 1 blocks, at "
                                             "most 2147483647 x 65535 are possible");
    mz_fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),
        cmocka_unit_test(linear_row_alone),
        cmocka_unit_test(norm),
        cmocka_unit_test(softmax),
        cmocka_unit_test(gated_activation_and_add),
        cmocka_unit_test(gather_rows),
        cmocka_unit_test(rope),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_refuses_wide_heads),
        cmocka_unit_test(attention_refuses_narrow_caches),
        cmocka_unit_test(routing),
        cmocka_unit_test(routing_ties_and_nan),
        cmocka_unit_test(grouped_linear),
        cmocka_unit_test(combine),
        cmocka_unit_test(moe_layer),
        cmocka_unit_test(buffers),
        cmocka_unit_test(grid_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
