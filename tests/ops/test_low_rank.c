/* Low-rank deltas of linear and grouped_linear: against loops in f64 and, on each instruction set,
 * against the reference; fused ops around them; gradients through a tape. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "core/tape.h"

enum { MAX_DELTAS = 2, MAX_EXPERTS = 8, MAX_OUT = 1 << 16 };

typedef struct low_rank_case {
    int64_t n_tokens, d_in, d_out, rank;
    int n_deltas;
    mz_dtype dtype; /* of the base */
    mz_precision precision;
    int32_t n_experts, top_k; /* 0: linear */
    bool gather;
} low_rank_case;

/* A base and its deltas; those of a bank in the arrays of pointers. */
typedef struct operands {
    mz_tensor x, y;
    mz_linear w;
    mz_linear_bank bank;
    mz_low_rank deltas[MAX_DELTAS];
    mz_low_rank_bank bank_deltas[MAX_DELTAS];
    const void *base_data[MAX_EXPERTS];
    const void *a_data[MAX_DELTAS][MAX_EXPERTS], *b_data[MAX_DELTAS][MAX_EXPERTS];
    mz_routing routing;
} operands;

static bool is_grouped(const low_rank_case *c) {
    return c->n_experts > 0;
}

static int64_t n_rows_of(const low_rank_case *c) {
    return is_grouped(c) ? c->n_tokens * c->top_k : c->n_tokens;
}

static mz_tensor take(mz_stream *s, mz_dtype dtype, int64_t n_rows, int64_t n_cols, uint64_t seed) {
    static float values[MAX_OUT];
    void *data = NULL;
    const int64_t n = n_rows * n_cols;
    assert_true(n <= MAX_OUT);
    mz_assert_ok(s->ctx, mz_stream_take_bytes(s, (size_t)n * 4 + 64, "test", &data));
    mz_fill_uniform(values, n, seed, 0.5f);
    mz_dtype_get(dtype)->from_f32(data, values, n);
    return mz_tensor_2d(dtype, n_rows, n_cols, data);
}

static float scale_of(int delta) {
    return delta == 0 ? 2.0f : -0.37f;
}

static void take_linear(mz_stream *s, const low_rank_case *c, operands *o) {
    const mz_tensor bias = take(s, MZ_DTYPE_F32, 1, c->d_out, 3);
    o->w = (mz_linear){.weight = take(s, c->dtype, c->d_out, c->d_in, 2),
                       .bias = mz_tensor_1d(MZ_DTYPE_F32, c->d_out, bias.data),
                       .precision = c->precision};
    mz_low_rank **end = &o->w.deltas;
    for (int i = 0; i < c->n_deltas; i++) {
        o->deltas[i] =
            (mz_low_rank){.a.weight = take(s, MZ_DTYPE_F32, c->rank, c->d_in, 10 + (uint64_t)i),
                          .b.weight = take(s, MZ_DTYPE_F32, c->d_out, c->rank, 20 + (uint64_t)i),
                          .scale = scale_of(i)};
        *end = &o->deltas[i];
        end = &o->deltas[i].next;
    }
}

static mz_linear_bank take_bank(mz_stream *s, mz_dtype dtype, const void **data, int32_t n_experts,
                                int64_t d_out, int64_t d_in, uint64_t seed) {
    for (int32_t e = 0; e < n_experts; e++) {
        data[e] = take(s, dtype, d_out, d_in, seed + (uint64_t)e).data;
    }
    return (mz_linear_bank){.dtype = dtype,
                            .n_experts = n_experts,
                            .d_out = d_out,
                            .d_in = d_in,
                            .ld = d_in,
                            .data = data};
}

static void take_experts(mz_stream *s, const low_rank_case *c, operands *o) {
    const mz_router router = {.n_experts = c->n_experts, .top_k = c->top_k};
    o->bank = take_bank(s, c->dtype, o->base_data, c->n_experts, c->d_out, c->d_in, 100);
    o->bank.precision = c->precision;
    mz_low_rank_bank **end = &o->bank.deltas;
    for (int i = 0; i < c->n_deltas; i++) {
        const uint64_t seed = 1000 * (uint64_t)(i + 1);
        mz_low_rank_bank *d = &o->bank_deltas[i];
        *d = (mz_low_rank_bank){.scale = scale_of(i)};
        d->a = take_bank(s, MZ_DTYPE_F32, o->a_data[i], c->n_experts, c->rank, c->d_in, seed);
        d->b =
            take_bank(s, MZ_DTYPE_F32, o->b_data[i], c->n_experts, c->d_out, c->rank, seed + 500);
        *end = d;
        end = &d->next;
    }
    mz_assert_ok(s->ctx, mz_routing_take(s, c->n_tokens, &router, &o->routing));
    for (int64_t t = 0; t < c->n_tokens; t++) {
        const int32_t first = (int32_t)(mz_rng_uniform(77, 0, (uint64_t)t) * (float)c->n_experts);
        for (int32_t k = 0; k < c->top_k; k++) {
            o->routing.expert_ids[t * c->top_k + k] = (first + k) % c->n_experts;
        }
    }
    mz_assert_ok(s->ctx, mz_op_dispatch(s, &o->routing));
}

static void take_operands(mz_stream *s, const low_rank_case *c, operands *o) {
    *o = (operands){0};
    o->x = take(s, MZ_DTYPE_F32, c->gather ? c->n_tokens : n_rows_of(c), c->d_in, 1);
    if (is_grouped(c)) {
        take_experts(s, c, o);
    } else {
        take_linear(s, c, o);
    }
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows_of(c), c->d_out, "test", &o->y));
}

static void call(mz_stream *s, const low_rank_case *c, const operands *o) {
    if (is_grouped(c)) {
        mz_assert_ok(s->ctx,
                     mz_op_grouped_linear(s, &o->y, &o->x, &o->bank, &o->routing, c->gather));
    } else {
        mz_assert_ok(s->ctx, mz_op_linear(s, &o->y, &o->x, &o->w));
    }
}

static void run(mz_stream *s, const void *arg, float *out) {
    const low_rank_case *c = arg;
    operands o;
    take_operands(s, c, &o);
    const size_t before = s->arena.used;
    call(s, c, &o);
    assert_true(s->arena.used == before);
    memcpy(out, o.y.data, (size_t)(n_rows_of(c) * c->d_out) * sizeof *out);
}

/* ---- against loops in f64 ---- */

static double at(mz_dtype dtype, const void *data, int64_t i) {
    float value = 0;
    const size_t size = (size_t)mz_dtype_get(dtype)->block_bytes;
    mz_dtype_get(dtype)->to_f32(&value, (const uint8_t *)data + (size_t)i * size, 1);
    return (double)value;
}

/* Output i of row x through the matrices of expert e (0 of a linear). */
static double plain(const low_rank_case *c, const operands *o, int64_t e, const float *x,
                    int64_t i) {
    const void *base = is_grouped(c) ? o->base_data[e] : o->w.weight.data;
    double y = is_grouped(c) ? 0 : at(MZ_DTYPE_F32, o->w.bias.data, i);
    for (int64_t k = 0; k < c->d_in; k++) {
        y += at(c->dtype, base, i * c->d_in + k) * (double)x[k];
    }
    for (int d = 0; d < c->n_deltas; d++) {
        const float *a = is_grouped(c) ? o->a_data[d][e] : o->deltas[d].a.weight.data;
        const float *b = is_grouped(c) ? o->b_data[d][e] : o->deltas[d].b.weight.data;
        for (int64_t r = 0; r < c->rank; r++) {
            double t = 0;
            for (int64_t k = 0; k < c->d_in; k++) {
                t += (double)a[r * c->d_in + k] * (double)x[k];
            }
            y += (double)scale_of(d) * (double)b[i * c->rank + r] * t;
        }
    }
    return y;
}

static void check_plain(mz_stream *s, const low_rank_case *c) {
    static float expected[MAX_OUT];
    operands o;
    const size_t mark = mz_arena_mark(&s->arena);
    take_operands(s, c, &o);
    call(s, c, &o);
    for (int64_t e = 0; e < (is_grouped(c) ? c->n_experts : 1); e++) {
        const int64_t begin = is_grouped(c) ? o.routing.expert_offsets[e] : 0;
        const int64_t end = is_grouped(c) ? o.routing.expert_offsets[e + 1] : c->n_tokens;
        for (int64_t j = begin * c->d_out; j < end * c->d_out; j++) {
            const int64_t row = j / c->d_out;
            const int64_t source = c->gather ? o.routing.row_index[row] / c->top_k : row;
            expected[j] = (float)plain(c, &o, e, mz_tensor_f32(&o.x, source), j % c->d_out);
        }
    }
    mz_assert_close("loops in f64", o.y.data, expected, n_rows_of(c) * c->d_out, 1e-6);
    mz_arena_release(&s->arena, mark);
}

static void test_loops_in_f64(void **state) {
    mz_op_streams *streams = *state;
    for (int n_deltas = 1; n_deltas <= MAX_DELTAS; n_deltas++) {
        check_plain(&streams->reference,
                    &(low_rank_case){
                        .n_tokens = 7, .d_in = 19, .d_out = 13, .rank = 3, .n_deltas = n_deltas});
        for (int gather = 0; gather < 2; gather++) {
            check_plain(&streams->reference, &(low_rank_case){.n_tokens = 9,
                                                              .d_in = 11,
                                                              .d_out = 17,
                                                              .rank = 4,
                                                              .n_deltas = n_deltas,
                                                              .dtype = MZ_DTYPE_BF16,
                                                              .n_experts = 4,
                                                              .top_k = 2,
                                                              .gather = gather == 1});
        }
    }
}

/* ---- the CPU backend against the reference ---- */

static void check(mz_op_streams *streams, const low_rank_case *c) {
    char what[128];
    (void)snprintf(what, sizeof what, "%d deltas of rank %d on %d x %d -> %d, top %d of %d",
                   c->n_deltas, (int)c->rank, (int)c->n_tokens, (int)c->d_in, (int)c->d_out,
                   (int)c->top_k, (int)c->n_experts);
    mz_check_op(streams, what, run, c, n_rows_of(c) * c->d_out, 1e-5);
}

static void test_cpu(void **state) {
    static const int64_t counts[] = {0, 1, 31, 33};
    static const int64_t ranks[] = {1, 8, 31};
    static const mz_dtype dtypes[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_BF16};
    for (int i = 0; i < 4 * 3 * 6; i++) {
        low_rank_case c = {.n_tokens = counts[i % 4],
                           .d_in = 54 + i % 7,
                           .d_out = 47,
                           .rank = ranks[i / 4 % 3],
                           .n_deltas = 1 + i / 2 % 2,
                           .dtype = dtypes[i % 3],
                           .precision = (mz_precision)(i / 3 % 2)};
        check(*state, &c);
        c.n_experts = 8;
        c.top_k = 2;
        c.gather = i % 2 == 0;
        check(*state, &c);
    }
    check(*state,
          &(low_rank_case){.n_tokens = 33, .d_in = 192, .d_out = 192, .rank = 16, .n_deltas = 1});
}

/* Without deltas nothing changes: the wrapper gives the bits of the backend's own op, also once
 * deltas were there. */
static void test_without_deltas(void **state) {
    mz_op_streams *streams = *state;
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream *s = &streams->cpu[i];
        for (int grouped = 0; grouped < 2; grouped++) {
            const low_rank_case c = {.n_tokens = 21,
                                     .d_in = 33,
                                     .d_out = 18,
                                     .rank = 4,
                                     .n_deltas = 2,
                                     .n_experts = grouped == 1 ? 4 : 0,
                                     .top_k = 2,
                                     .gather = true};
            operands o;
            static float own[42 * 18];
            const int64_t n = n_rows_of(&c) * c.d_out;
            const size_t mark = mz_arena_mark(&s->arena);
            take_operands(s, &c, &o);
            call(s, &c, &o);
            o.w.deltas = NULL;
            o.bank.deltas = NULL;
            mz_assert_ok(s->ctx, grouped == 1 ? s->backend->grouped_linear(s, &o.y, &o.x, &o.bank,
                                                                           &o.routing, true)
                                              : s->backend->linear(s, &o.y, &o.x, &o.w));
            memcpy(own, o.y.data, (size_t)n * sizeof *own);
            memset(o.y.data, 0xff, (size_t)n * sizeof *own);
            call(s, &c, &o);
            assert_memory_equal(o.y.data, own, (size_t)n * sizeof *own);
            mz_arena_release(&s->arena, mark);
        }
    }
}

/* ---- fused ops ---- */

typedef enum adapted {
    ROUTER,
    W_GATE,
    W_UP,
    W_DOWN,
    SHARED_GATE,
    SHARED_FFN_GATE,
    SHARED_FFN_UP,
    SHARED_FFN_DOWN,
    N_ADAPTED
} adapted;

enum { TOKENS = 9, WIDTH = 24, FF = 20, EXPERTS = 4, RANK = 3 };

typedef struct mixture {
    mz_moe moe;
    mz_low_rank delta;
    mz_low_rank_bank bank_delta;
    const void *data[5][EXPERTS];
} mixture;

static mz_linear small(mz_stream *s, int64_t d_out, int64_t d_in, uint64_t seed) {
    return (mz_linear){.weight = take(s, MZ_DTYPE_F32, d_out, d_in, seed)};
}

/* A mixture layer with one adapted matrix; `which` N_ADAPTED: none. */
static void take_mixture(mz_stream *s, adapted which, mixture *m) {
    *m = (mixture){0};
    mz_moe *moe = &m->moe;
    moe->router_proj = small(s, EXPERTS, WIDTH, 1);
    moe->router = (mz_router){.n_experts = EXPERTS, .top_k = 2};
    moe->w_gate = take_bank(s, MZ_DTYPE_F32, m->data[0], EXPERTS, FF, WIDTH, 10);
    moe->w_up = take_bank(s, MZ_DTYPE_F32, m->data[1], EXPERTS, FF, WIDTH, 20);
    moe->w_down = take_bank(s, MZ_DTYPE_F32, m->data[2], EXPERTS, WIDTH, FF, 30);
    moe->has_shared = true;
    moe->shared = (mz_ffn){.w_gate = small(s, FF, WIDTH, 40),
                                 .w_up = small(s, FF, WIDTH, 41),
                                 .w_down = small(s, WIDTH, FF, 42)};
    moe->shared_gate = small(s, 1, WIDTH, 43);
    mz_linear_bank *banks[] = {&moe->w_gate, &moe->w_up, &moe->w_down};
    mz_linear *linears[] = {&moe->router_proj,
                            NULL,
                            NULL,
                            NULL,
                            &moe->shared_gate,
                            &moe->shared.w_gate,
                            &moe->shared.w_up,
                            &moe->shared.w_down};
    if (which >= W_GATE && which <= W_DOWN) {
        mz_linear_bank *bank = banks[which - W_GATE];
        m->bank_delta = (mz_low_rank_bank){
            .a = take_bank(s, MZ_DTYPE_F32, m->data[3], EXPERTS, RANK, bank->d_in, 50),
            .b = take_bank(s, MZ_DTYPE_F32, m->data[4], EXPERTS, bank->d_out, RANK, 60),
            .scale = 1.5f};
        bank->deltas = &m->bank_delta;
    } else if (which != N_ADAPTED) {
        mz_linear *w = linears[which];
        m->delta = (mz_low_rank){.a = small(s, RANK, w->weight.shape[1], 50),
                                 .b = small(s, w->weight.shape[0], RANK, 60),
                                 .scale = 1.5f};
        w->deltas = &m->delta;
    }
}

static void run_mixture(mz_stream *s, const void *arg, float *out) {
    mixture m;
    mz_routing routing;
    mz_tensor y;
    take_mixture(s, *(const adapted *)arg, &m);
    const mz_tensor x = take(s, MZ_DTYPE_F32, TOKENS, WIDTH, 7);
    mz_assert_ok(s->ctx, mz_stream_take(s, TOKENS, WIDTH, "test", &y));
    mz_assert_ok(s->ctx, mz_routing_take(s, TOKENS, &m.moe.router, &routing));
    mz_assert_ok(s->ctx, mz_op_moe(s, &y, &x, &m.moe, &routing, NULL));
    memcpy(out, y.data, TOKENS * WIDTH * sizeof *out);
}

static void run_ffn(mz_stream *s, const void *arg, float *out) {
    mixture m;
    mz_tensor y;
    take_mixture(s, *(const adapted *)arg, &m);
    const mz_tensor x = take(s, MZ_DTYPE_F32, TOKENS, WIDTH, 7);
    mz_assert_ok(s->ctx, mz_stream_take(s, TOKENS, WIDTH, "test", &y));
    mz_assert_ok(s->ctx, mz_op_ffn(s, &y, &x, &m.moe.shared));
    memcpy(out, y.data, TOKENS * WIDTH * sizeof *out);
}

/* No fused op forgets the delta of any of its matrices. */
static void test_fused_ops(void **state) {
    mz_op_streams *streams = *state;
    static float plain_moe[TOKENS * WIDTH];
    static float plain_ffn[TOKENS * WIDTH];
    static float out[TOKENS * WIDTH];
    const adapted none = N_ADAPTED;
    mz_stream *s = &streams->reference;
    const size_t mark = mz_arena_mark(&s->arena);
    run_mixture(s, &none, plain_moe);
    run_ffn(s, &none, plain_ffn);
    for (int i = 0; i < N_ADAPTED; i++) {
        const adapted which = (adapted)i;
        run_mixture(s, &which, out);
        assert_true(mz_distance_f32(out, plain_moe, TOKENS * WIDTH).relative_l2 > 1e-3);
        mz_check_op(streams, "moe with a delta", run_mixture, &which, TOKENS * WIDTH, 1e-5);
        if (which >= SHARED_FFN_GATE) {
            run_ffn(s, &which, out);
            assert_true(mz_distance_f32(out, plain_ffn, TOKENS * WIDTH).relative_l2 > 1e-3);
            mz_check_op(streams, "ffn with a delta", run_ffn, &which, TOKENS * WIDTH, 1e-5);
        }
    }
    mz_arena_release(&s->arena, mark);
}

/* In measure mode the same calls note what they will take. */
static void test_measured_scratch(void **state) {
    mz_op_streams *streams = *state;
    for (int i = 0; i < streams->n_cpu; i += MZ_TEST_THREADS) {
        for (int grouped = 0; grouped < 2; grouped++) {
            mz_stream *s = &streams->cpu[i];
            const low_rank_case c = {.n_tokens = 33,
                                     .d_in = 54,
                                     .d_out = 47,
                                     .rank = 5,
                                     .n_deltas = 2,
                                     .n_experts = grouped == 1 ? 4 : 0,
                                     .top_k = 2};
            operands o;
            mz_stream measure;
            const size_t mark = mz_arena_mark(&s->arena);
            take_operands(s, &c, &o);
            const size_t before = s->arena.used;
            s->arena.peak = before;
            call(s, &c, &o);
            mz_stream_open_measure(s->ctx, s->backend, &measure);
            call(&measure, &c, &o);
            assert_true(s->arena.peak - before <= measure.arena.peak);
            mz_stream_close(&measure);
            mz_arena_release(&s->arena, mark);
        }
    }
}

/* ---- gradients ---- */

static double loss_of(const low_rank_case *c, const operands *o, const float *d_y) {
    double sum = 0;
    for (int64_t e = 0; e < (is_grouped(c) ? c->n_experts : 1); e++) {
        const int64_t begin = is_grouped(c) ? o->routing.expert_offsets[e] : 0;
        const int64_t end = is_grouped(c) ? o->routing.expert_offsets[e + 1] : c->n_tokens;
        for (int64_t j = begin * c->d_out; j < end * c->d_out; j++) {
            const int64_t row = j / c->d_out;
            const int64_t source = c->gather ? o->routing.row_index[row] / c->top_k : row;
            sum += (double)d_y[j] * plain(c, o, e, mz_tensor_f32(&o->x, source), j % c->d_out);
        }
    }
    return sum;
}

/* Derivatives of a loss that is linear in each value: any step is exact. */
static void differences(const low_rank_case *c, const operands *o, const float *d_y, float *values,
                        int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        const float value = values[i];
        values[i] = value + 0.5f;
        const double above = loss_of(c, o, d_y);
        values[i] = value - 0.5f;
        out[i] = (float)((above - loss_of(c, o, d_y)) / 1.0);
        values[i] = value;
    }
}

/* The matrices of the deltas, and of nothing else, are parameters: they lie in one block. */
static void check_gradients(mz_stream *s, const low_rank_case *c) {
    enum { MAX_VALUES = 4096 };
    static float block[MAX_VALUES];
    static float gradients[MAX_VALUES];
    static float expected[MAX_VALUES];
    operands o;
    mz_tape *tape = NULL;
    int64_t n = 0;
    const int n_matrices = is_grouped(c) ? c->n_experts : 1;
    const size_t mark = mz_arena_mark(&s->arena);
    take_operands(s, c, &o);
    for (int d = 0; d < c->n_deltas; d++) {
        for (int e = 0; e < n_matrices; e++) {
            const int64_t sizes[] = {c->rank * c->d_in, c->d_out * c->rank};
            const void *from[] = {is_grouped(c) ? o.a_data[d][e] : o.deltas[d].a.weight.data,
                                  is_grouped(c) ? o.b_data[d][e] : o.deltas[d].b.weight.data};
            for (int k = 0; k < 2; k++) {
                assert_true(n + sizes[k] <= MAX_VALUES);
                memcpy(block + n, from[k], (size_t)sizes[k] * sizeof *block);
                if (is_grouped(c)) {
                    (k == 0 ? o.a_data : o.b_data)[d][e] = block + n;
                } else {
                    (k == 0 ? &o.deltas[d].a : &o.deltas[d].b)->weight.data = block + n;
                }
                n += sizes[k];
            }
        }
    }
    memset(gradients, 0, sizeof gradients);
    mz_assert_ok(s->ctx, mz_tape_create(s->ctx, &tape));
    mz_assert_ok(s->ctx, mz_tape_add_parameters(tape, block, gradients, (size_t)n * 4));
    mz_assert_ok(s->ctx, mz_tape_attach(tape, s));
    mz_assert_ok(s->ctx, mz_stream_take(s, n_rows_of(c), c->d_out, "test", &o.y));
    call(s, c, &o);
    const mz_tensor d_y = mz_tape_gradient(s, &o.y);
    assert_int_equal(d_y.n_dims, 2);
    mz_fill_uniform(d_y.data, n_rows_of(c) * c->d_out, 99, 1);
    differences(c, &o, d_y.data, block, n, expected);
    mz_assert_ok(s->ctx, mz_backward(s));
    mz_assert_close("gradients of deltas", gradients, expected, n, 1e-5);
    mz_tape_detach(s);
    mz_tape_destroy(s->ctx, tape);
    mz_arena_release(&s->arena, mark);
}

static void test_gradients(void **state) {
    mz_op_streams *streams = *state;
    mz_stream *tested[] = {&streams->reference, &streams->cpu[streams->n_cpu - 1]};
    for (int i = 0; i < 2; i++) {
        check_gradients(
            tested[i],
            &(low_rank_case){.n_tokens = 6, .d_in = 9, .d_out = 7, .rank = 2, .n_deltas = 2});
        for (int gather = 0; gather < 2; gather++) {
            check_gradients(tested[i], &(low_rank_case){.n_tokens = 6,
                                                        .d_in = 5,
                                                        .d_out = 4,
                                                        .rank = 2,
                                                        .n_deltas = 2,
                                                        .n_experts = 3,
                                                        .top_k = 2,
                                                        .gather = gather == 1});
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loops_in_f64),     cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_without_deltas),   cmocka_unit_test(test_fused_ops),
        cmocka_unit_test(test_measured_scratch), cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
