/* Losses of forecasts and of routers: known answers, and values and gradients against plain f64
 * sums and their central differences. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses_internal.h"
#include "core/tape.h"

enum { MAX_THREADS = 3, N_EXPERTS = 5, TOP_K = 2, N_ROUTINGS = 2 };

/* A stream for each number of threads. */
typedef struct fixture {
    mz_context contexts[MAX_THREADS];
    mz_stream streams[MAX_THREADS];
} fixture;

static int set_up(void **state) {
    static fixture f;
    for (int i = 0; i < MAX_THREADS; i++) {
        const mz_context_options options = {.n_threads = i + 1};
        mz_assert_ok(&f.contexts[i], mz_context_init(&f.contexts[i], &options));
        mz_assert_ok(&f.contexts[i],
                     mz_stream_open(&f.contexts[i], mz_backend_cpu(), 4 << 20, &f.streams[i]));
    }
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    for (int i = 0; i < MAX_THREADS; i++) {
        mz_stream_close(&f->streams[i]);
        mz_context_close(&f->contexts[i]);
    }
    return 0;
}

static mz_stream *first_stream(void **state) {
    return &((fixture *)*state)->streams[0];
}

static void *zeros(size_t n, size_t size) {
    void *out = calloc(n, size);
    assert_non_null(out);
    return out;
}

/* ---- Huber and pinball ---- */

enum { N_ROWS = 7, N_STEPS = 6, N_LEVELS = 3, WIDTH = N_STEPS * N_LEVELS };
static const double levels[N_LEVELS] = {0.1, 0.5, 0.8};

typedef struct series {
    float pred[N_ROWS * WIDTH];
    float target[N_ROWS * N_STEPS];
    float weight[N_ROWS * N_STEPS];
    int64_t n_levels; /* 1: pred has N_STEPS columns */
    bool weighted;
} series;

static void fill_series(series *in, int64_t n_levels) {
    mz_fill_uniform(in->pred, N_ROWS * WIDTH, 1, 4);
    mz_fill_uniform(in->target, N_ROWS * N_STEPS, 2, 4);
    mz_fill_uniform(in->weight, N_ROWS * N_STEPS, 3, 1);
    for (int i = 0; i < N_ROWS * N_STEPS; i++) {
        in->weight[i] = i % 4 == 0 || i / N_STEPS == 2 ? 0 : fabsf(in->weight[i]);
    }
    in->n_levels = n_levels;
    in->weighted = true;
}

static double weight_at(const series *in, int64_t i) {
    return in->weighted ? (double)in->weight[i] : 1;
}

static double huber_twin(const double *pred, const void *arg) {
    const series *in = arg;
    double sum = 0;
    for (int64_t i = 0; i < N_ROWS * N_STEPS; i++) {
        const double e = fabs(pred[i] - (double)in->target[i]);
        sum += weight_at(in, i) * (e <= 2 ? e * e / 2 : 2 * (e - 1));
    }
    return 0.3 * sum;
}

static double pinball_twin(const double *pred, const void *arg) {
    const series *in = arg;
    double sum = 0;
    for (int64_t i = 0; i < N_ROWS * N_STEPS; i++) {
        for (int64_t q = 0; q < N_LEVELS; q++) {
            const double e = (double)in->target[i] - pred[i * N_LEVELS + q];
            sum += weight_at(in, i) * fmax(levels[q] * e, (levels[q] - 1) * e) / N_LEVELS;
        }
    }
    return 0.3 * 2 * sum;
}

/* The gradient is [N_ROWS, pred's columns]; rows of the tensors given to the loss are 5 longer. */
static double run_series(mz_stream *s, const series *in, float *gradient) {
    enum { LD = WIDTH + 5 };
    const int64_t width = N_STEPS * in->n_levels;
    float pred[N_ROWS * LD] = {0};
    float target[N_ROWS * LD] = {0};
    float weight[N_ROWS * LD] = {0};
    float d[N_ROWS * LD] = {0};
    double loss = 10;
    const mz_tensor p = {MZ_DTYPE_F32, 2, {N_ROWS, width}, LD, pred};
    const mz_tensor t = {MZ_DTYPE_F32, 2, {N_ROWS, N_STEPS}, LD, target};
    const mz_tensor w = {MZ_DTYPE_F32, 2, {N_ROWS, N_STEPS}, LD, weight};
    const mz_tensor g = {MZ_DTYPE_F32, 2, {N_ROWS, width}, LD, d};
    const mz_tensor *weights = in->weighted ? &w : &(mz_tensor){0};
    for (int64_t row = 0; row < N_ROWS; row++) {
        memcpy(pred + row * LD, in->pred + row * width, (size_t)width * sizeof(float));
        memcpy(target + row * LD, in->target + row * N_STEPS, N_STEPS * sizeof(float));
        memcpy(weight + row * LD, in->weight + row * N_STEPS, N_STEPS * sizeof(float));
    }
    if (in->n_levels == 1) {
        mz_assert_ok(s->ctx, mz_loss_huber_into(s, &g, &p, &t, weights, 2, 0.3, &loss));
    } else {
        const mz_pinball_inputs inputs = {&p, &t, weights, levels, N_LEVELS};
        mz_assert_ok(s->ctx, mz_loss_pinball_into(s, &g, &inputs, 0.3, &loss));
    }
    for (int64_t row = 0; row < N_ROWS; row++) {
        memcpy(gradient + row * width, d + row * LD, (size_t)width * sizeof(float));
        for (int64_t i = width; i < LD; i++) {
            assert_true(d[row * LD + i] == 0);
        }
    }
    return loss - 10;
}

static void series_losses_are_their_formulas(void **state) {
    series in;
    float gradient[N_ROWS * WIDTH];
    fill_series(&in, 1);
    for (int weighted = 0; weighted < 2; weighted++) {
        in.weighted = weighted != 0;
        in.n_levels = 1;
        mz_check_loss("huber", huber_twin, &in, in.pred, N_ROWS * N_STEPS,
                      run_series(first_stream(state), &in, gradient), 1e-12, gradient);
        in.n_levels = N_LEVELS;
        mz_check_loss("pinball", pinball_twin, &in, in.pred, N_ROWS * WIDTH,
                      run_series(first_stream(state), &in, gradient), 1e-12, gradient);
    }
}

static void huber_by_hand(void **state) {
    mz_stream *s = first_stream(state);
    float pred[2] = {2, -3};
    float target[2] = {1, 0};
    float weight[2] = {2, 0.5F};
    float d[2] = {10, 0};
    double loss = 100;
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, pred);
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, target);
    const mz_tensor w = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, weight);
    const mz_tensor g = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, d);
    /* 2 * 1/2 + 1/2 * 2 (3 - 1) = 3; slopes 2 * 1 and -1/2 * 2 */
    mz_assert_ok(s->ctx, mz_loss_huber_into(s, &g, &p, &t, &w, 2, 0.25, &loss));
    assert_true(loss == 100.75);
    assert_true(d[0] == 10.5F && d[1] == -0.25F);
    loss = 0;
    mz_assert_ok(s->ctx, mz_loss_huber_into(s, NULL, &p, &t, NULL, 2, 1, &loss));
    assert_true(loss == 4.5);
}

static void pinball_by_hand(void **state) {
    mz_stream *s = first_stream(state);
    float pred[4] = {1, 1, 1, 3};
    float target[2] = {3, 0};
    float d[4] = {0};
    double loss = 0;
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, 1, 4, pred);
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, target);
    const mz_tensor g = mz_tensor_2d(MZ_DTYPE_F32, 1, 4, d);
    const double two[2] = {0.25, 0.75};
    mz_pinball_inputs in = {&p, &t, NULL, two, 2};
    /* errors 2 2, -1 -3: 0.5 + 1.5 + 0.75 + 0.75 */
    mz_assert_ok(s->ctx, mz_loss_pinball_into(s, &g, &in, 2, &loss));
    assert_true(loss == 7);
    assert_true(d[0] == -0.5F && d[1] == -1.5F && d[2] == 1.5F && d[3] == 0.5F);
    /* the median alone: the absolute error */
    const double half = 0.5;
    const mz_tensor medians = mz_tensor_cols(&p, 0, 2);
    in = (mz_pinball_inputs){&medians, &t, NULL, &half, 1};
    loss = 0;
    mz_assert_ok(s->ctx, mz_loss_pinball_into(s, NULL, &in, 1, &loss));
    assert_true(loss == 2 + 1);
    /* no error, no slope */
    pred[0] = 3;
    d[0] = d[1] = 0;
    mz_tensor d_medians = mz_tensor_cols(&g, 0, 2);
    mz_assert_ok(s->ctx, mz_loss_pinball_into(s, &d_medians, &in, 1, &loss));
    assert_true(d[0] == 0 && d[1] == 1);
}

/* NaN, infinite and huge predictions; then the same where the weight is 0. */
static void odd_values(void **state) {
    mz_stream *s = first_stream(state);
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38F, -3e38F};
    const double half = 0.5;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        for (int masked = 0; masked < 2; masked++) {
            float pred[2] = {1, odd[i]};
            float target[2] = {0, -odd[i]};
            float weight[2] = {1, masked != 0 ? 0.0F : 1.0F};
            float d[4] = {0};
            double huber = 0;
            double pinball = 0;
            const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, 2, 1, pred);
            const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 2, 1, target);
            const mz_tensor w = mz_tensor_2d(MZ_DTYPE_F32, 2, 1, weight);
            const mz_tensor g = mz_tensor_2d(MZ_DTYPE_F32, 2, 1, d);
            const mz_tensor g2 = mz_tensor_2d(MZ_DTYPE_F32, 2, 1, d + 2);
            const mz_pinball_inputs in = {&p, &t, &w, &half, 1};
            mz_assert_ok(s->ctx, mz_loss_huber_into(s, &g, &p, &t, &w, 2, 1, &huber));
            mz_assert_ok(s->ctx, mz_loss_pinball_into(s, &g2, &in, 1, &pinball));
            if (masked != 0) {
                assert_true(huber == 0.5 && pinball == 1);
                assert_true(d[0] == 1 && d[1] == 0 && d[2] == 1 && d[3] == 0);
            } else if (isnan(odd[i])) {
                assert_true(isnan(huber) && isnan(pinball) && isnan(d[1]) && isnan(d[3]));
            } else {
                assert_true(isinf(odd[i]) ? isinf(huber) && isinf(pinball)
                                          : huber > 1e38 && huber < 1e40 && pinball > 1e38);
                assert_true(d[1] == copysignf(2, odd[i]) && d[3] == copysignf(1, odd[i]));
            }
        }
    }
}

/* ---- Balance and z ---- */

typedef struct routed {
    int64_t n_tokens[N_ROUTINGS];
    float *logits; /* of all routings, one after the other */
    float *d_logits;
    int32_t *ids;
    int32_t *sequence;
    mz_routing routings[N_ROUTINGS];
    mz_tensor gradients[N_ROUTINGS];
    int64_t n_rows;
    int kind; /* of balance; MZ_BALANCE_COUNT: z */
} routed;

/* The second routing has `n_second` rows. Ids are any two, not the best: they are not looked up. */
static void make_routed(routed *in, int64_t n_first, int64_t n_second) {
    *in = (routed){.n_tokens = {n_first, n_second}, .n_rows = n_first + n_second};
    const size_t n = (size_t)in->n_rows;
    in->logits = zeros(n * N_EXPERTS, sizeof(float));
    in->d_logits = zeros(n * N_EXPERTS, sizeof(float));
    in->ids = zeros(n * TOP_K, sizeof(int32_t));
    in->sequence = zeros((size_t)n_first, sizeof(int32_t));
    mz_fill_uniform(in->logits, in->n_rows * N_EXPERTS, 4, 3);
    for (int64_t i = 0; i < in->n_rows; i++) {
        in->ids[i * TOP_K] = (int32_t)(i * i % N_EXPERTS);
        in->ids[i * TOP_K + 1] = (int32_t)((i * i + 1 + i % 4) % N_EXPERTS);
    }
    for (int64_t i = 0; i < n_first; i++) {
        in->sequence[i] = i < 3 ? 7 : (i < n_first / 2 ? 2 : 5);
    }
    int64_t row = 0;
    for (int i = 0; i < N_ROUTINGS; i++) {
        in->routings[i] = (mz_routing){
            .n_tokens = in->n_tokens[i],
            .n_experts = N_EXPERTS,
            .top_k = TOP_K,
            .logits = mz_tensor_2d(MZ_DTYPE_F32, in->n_tokens[i], N_EXPERTS,
                                   in->logits + row * N_EXPERTS),
            .expert_ids = in->ids + row * TOP_K,
        };
        in->gradients[i] =
            mz_tensor_2d(MZ_DTYPE_F32, in->n_tokens[i], N_EXPERTS, in->d_logits + row * N_EXPERTS);
        row += in->n_tokens[i];
    }
}

static void free_routed(routed *in) {
    free(in->logits);
    free(in->d_logits);
    free(in->ids);
    free(in->sequence);
}

static double plain_softmax(const double *x, double *p) {
    double sum = 0;
    for (int e = 0; e < N_EXPERTS; e++) {
        sum += exp(x[e]);
    }
    for (int e = 0; e < N_EXPERTS; e++) {
        p[e] = exp(x[e]) / sum;
    }
    return log(sum);
}

/* sum over e of f P of the rows whose sequence is `sequence` (-1: all), with `n_ranks` choices. */
static double plain_balance(const double *x, const routed *in, int sequence, int n_ranks) {
    double f[N_EXPERTS] = {0};
    double p_sum[N_EXPERTS] = {0};
    double p[N_EXPERTS];
    double sum = 0;
    int64_t n = 0;
    for (int64_t row = 0; row < in->n_rows; row++) {
        const int64_t token = row < in->n_tokens[0] ? row : row - in->n_tokens[0];
        if (sequence >= 0 && in->sequence[token] != sequence) {
            continue;
        }
        (void)plain_softmax(x + row * N_EXPERTS, p);
        for (int e = 0; e < N_EXPERTS; e++) {
            p_sum[e] += p[e];
        }
        for (int k = 0; k < n_ranks; k++) {
            f[in->ids[row * TOP_K + k]] += 1;
        }
        n++;
    }
    for (int e = 0; e < N_EXPERTS; e++) {
        sum += f[e] / (double)n * p_sum[e] / (double)n;
    }
    return sum;
}

static double router_twin(const double *x, const void *arg) {
    const routed *in = arg;
    double p[N_EXPERTS];
    double sum = 0;
    switch (in->kind) {
    case MZ_BALANCE_TOPK_POOLED:
        return 0.7 * N_EXPERTS * plain_balance(x, in, -1, TOP_K);
    case MZ_BALANCE_SWITCH:
        return 0.7 * N_EXPERTS * plain_balance(x, in, -1, 1);
    case MZ_BALANCE_SEQUENCE:
        return 0.7 * N_EXPERTS / TOP_K / 3 *
               (plain_balance(x, in, 7, TOP_K) + plain_balance(x, in, 2, TOP_K) +
                plain_balance(x, in, 5, TOP_K));
    default:
        for (int64_t row = 0; row < in->n_rows; row++) {
            const double z = plain_softmax(x + row * N_EXPERTS, p);
            sum += z * z;
        }
        return 0.7 * sum / (double)in->n_rows;
    }
}

static double run_router(mz_stream *s, routed *in) {
    const mz_rows rows = {.n_rows = in->n_tokens[0], .sequence = in->sequence};
    const mz_balance_options options = {.rows = &rows};
    const mz_router_loss_inputs inputs = {in->routings, N_ROUTINGS, &options};
    const size_t used = s->arena.used;
    double loss = 10;
    memset(in->d_logits, 0, (size_t)in->n_rows * N_EXPERTS * sizeof(float));
    mz_assert_ok(s->ctx, in->kind == MZ_BALANCE_COUNT
                             ? mz_loss_router_z_into(s, in->gradients, &inputs, 0.7, &loss)
                             : mz_loss_balance_into(s, in->gradients, (mz_balance_kind)in->kind,
                                                    &inputs, 0.7, &loss));
    assert_int_equal(s->arena.used, used);
    return loss - 10;
}

static void router_losses_are_their_formulas(void **state) {
    routed in;
    for (int kind = 0; kind <= MZ_BALANCE_COUNT; kind++) {
        make_routed(&in, 83, kind == MZ_BALANCE_SEQUENCE ? 83 : 30);
        in.kind = kind;
        const double loss = run_router(first_stream(state), &in);
        mz_check_loss(kind == MZ_BALANCE_COUNT ? "z" : "balance", router_twin, &in, in.logits,
                      in.n_rows * N_EXPERTS, loss, 1e-12, in.d_logits);
        free_routed(&in);
    }
}

/* Three rows, two experts, one choice: p = 3/4 1/4 twice for expert 0, then 2/5 3/5 for 1. */
static void balance_by_hand(void **state) {
    mz_stream *s = first_stream(state);
    float logits[6] = {logf(3), 0, logf(3), 0, 0, logf(1.5F)};
    int32_t ids[3] = {0, 0, 1};
    const int32_t sequence[3] = {4, 4, 1};
    const mz_rows rows = {.n_rows = 3, .sequence = sequence};
    const mz_balance_options options = {.rows = &rows};
    const mz_routing routing = {.n_tokens = 3,
                                .n_experts = 2,
                                .top_k = 1,
                                .logits = mz_tensor_2d(MZ_DTYPE_F32, 3, 2, logits),
                                .expert_ids = ids};
    const mz_router_loss_inputs in = {&routing, 1, &options};
    static const double expected[MZ_BALANCE_COUNT] = {
        [MZ_BALANCE_TOPK_POOLED] = 9.8 / 9, /* 2 (2/3 1.9/3 + 1/3 1.1/3) */
        [MZ_BALANCE_SWITCH] = 9.8 / 9,
        [MZ_BALANCE_SEQUENCE] = 1.35, /* mean of 2 * 3/4 and 2 * 3/5 */
    };
    for (int kind = 0; kind < MZ_BALANCE_COUNT; kind++) {
        double loss = 0;
        mz_assert_ok(s->ctx, mz_loss_balance_into(s, NULL, (mz_balance_kind)kind, &in, 1, &loss));
        assert_true(fabs(loss - expected[kind]) < 1e-7);
    }
    const float minus = -INFINITY;
    float others[6] = {0, 0, minus, minus, minus, 5};
    mz_routing odd = routing;
    odd.logits = mz_tensor_2d(MZ_DTYPE_F32, 3, 2, others);
    const mz_router_loss_inputs odd_in = {&odd, 1, NULL};
    double loss = 0;
    /* P = 1/6, 1/2 */
    mz_assert_ok(s->ctx, mz_loss_balance_into(s, NULL, MZ_BALANCE_SWITCH, &odd_in, 1, &loss));
    assert_true(fabs(loss - 2 * (2.0 / 3 / 6 + 1.0 / 3 / 2)) < 1e-12);
    others[4] = NAN;
    mz_assert_ok(s->ctx, mz_loss_balance_into(s, NULL, MZ_BALANCE_SWITCH, &odd_in, 1, &loss));
    assert_true(isnan(loss));
    loss = 0;
    const mz_routing one = {.n_tokens = 1,
                            .n_experts = 2,
                            .top_k = 1,
                            .logits = mz_tensor_2d(MZ_DTYPE_F32, 1, 2, others)};
    const mz_router_loss_inputs z_in = {&one, 1, NULL};
    mz_assert_ok(s->ctx, mz_loss_router_z_into(s, NULL, &z_in, 2, &loss));
    assert_true(fabs(loss - 2 * log(2) * log(2)) < 1e-15);
}

/* ---- All ---- */

/* The public functions find the gradients that the others are given: of `pred`, and of the second
 * routing, whose logits are trained; the first has none. Without a tape only the value is added. */
static void gradients_are_found_on_the_tape(void **state) {
    mz_stream *s = first_stream(state);
    enum { ROWS = 4, COLUMNS = 6, ALL = ROWS * COLUMNS };
    float pred[ALL], target[ALL], d[2][ALL] = {{0}};
    mz_fill_uniform(pred, ALL, 7, 3);
    mz_fill_uniform(target, ALL, 8, 3);
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, pred);
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, target);
    const mz_tensor steps = mz_tensor_cols(&t, 0, COLUMNS / N_LEVELS);
    const mz_tensor g = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, d[1]);
    const mz_pinball_inputs pinball = {&p, &steps, NULL, levels, N_LEVELS};
    routed in;
    make_routed(&in, 9, 9);
    const mz_rows rows = {.n_rows = 9, .sequence = in.sequence};
    const mz_balance_options options = {.rows = &rows};
    const mz_router_loss_inputs inputs = {in.routings, N_ROUTINGS, &options};
    const size_t n_half = 9 * N_EXPERTS;
    float d_second[9 * N_EXPERTS] = {0};
    double losses[2] = {1, 1};
    mz_tape *tape = NULL;
    mz_assert_ok(s->ctx, mz_tape_create(s->ctx, &tape));
    mz_assert_ok(s->ctx, mz_tape_add_parameters(tape, pred, d[0], sizeof pred));
    mz_assert_ok(s->ctx,
                 mz_tape_add_parameters(tape, in.logits + n_half, d_second, sizeof d_second));
    for (int taped = 0; taped < 2; taped++) {
        const size_t used = s->arena.used;
        losses[0] = losses[1] = 1;
        if (taped != 0) {
            mz_assert_ok(s->ctx, mz_tape_attach(tape, s));
        }
        mz_assert_ok(s->ctx, mz_loss_huber(s, &p, &t, NULL, 2, 0.1, &losses[0]));
        mz_assert_ok(s->ctx,
                     mz_loss_pinball(s, &p, &steps, NULL, levels, N_LEVELS, 0.2, &losses[0]));
        mz_assert_ok(s->ctx, mz_loss_balance(s, MZ_BALANCE_SEQUENCE, in.routings, N_ROUTINGS,
                                             &options, 0.3, &losses[0]));
        mz_assert_ok(s->ctx, mz_loss_router_z(s, in.routings, N_ROUTINGS, 0.4, &losses[0]));
        assert_int_equal(s->arena.used, used);
        if (taped == 0) {
            assert_true(d[0][0] == 0 && d_second[0] == 0);
        }
        mz_assert_ok(s->ctx, mz_loss_huber_into(s, taped != 0 ? &g : NULL, &p, &t, NULL, 2, 0.1,
                                                &losses[1]));
        mz_assert_ok(s->ctx,
                     mz_loss_pinball_into(s, taped != 0 ? &g : NULL, &pinball, 0.2, &losses[1]));
        mz_assert_ok(s->ctx, mz_loss_balance_into(s, taped != 0 ? in.gradients : NULL,
                                                  MZ_BALANCE_SEQUENCE, &inputs, 0.3, &losses[1]));
        mz_assert_ok(s->ctx, mz_loss_router_z_into(s, taped != 0 ? in.gradients : NULL, &inputs,
                                                   0.4, &losses[1]));
        assert_true(losses[0] == losses[1]);
    }
    assert_true(d[0][0] != 0 && d_second[0] != 0);
    assert_memory_equal(d[0], d[1], sizeof d[0]);
    assert_memory_equal(d_second, in.d_logits + n_half, sizeof d_second);
    mz_tape_detach(s);
    mz_tape_destroy(s->ctx, tape);
    free_routed(&in);
}

/* Many rows, so that there are several in a chunk and a rest. */
static void threads_make_no_difference(void **state) {
    enum { ROWS = 1003, COLUMNS = 12 };
    fixture *f = *state;
    static float pred[ROWS * COLUMNS], target[ROWS * COLUMNS], d[MAX_THREADS][ROWS * COLUMNS];
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, pred);
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, target);
    const mz_tensor steps = mz_tensor_cols(&t, 0, COLUMNS / N_LEVELS);
    const mz_pinball_inputs pinball = {&p, &steps, NULL, levels, N_LEVELS};
    double losses[MAX_THREADS][3 + MZ_BALANCE_COUNT] = {{0}};
    routed in;
    float *d_logits[MAX_THREADS];
    make_routed(&in, ROWS, ROWS);
    const size_t n_logits = (size_t)in.n_rows * N_EXPERTS * sizeof(float);
    mz_fill_uniform(pred, ROWS * COLUMNS, 5, 3);
    mz_fill_uniform(target, ROWS * COLUMNS, 6, 3);
    for (int i = 0; i < MAX_THREADS; i++) {
        mz_stream *s = &f->streams[i];
        const mz_tensor g = mz_tensor_2d(MZ_DTYPE_F32, ROWS, COLUMNS, d[i]);
        memset(d[i], 0, sizeof d[i]);
        mz_assert_ok(s->ctx, mz_loss_huber_into(s, &g, &p, &t, NULL, 2, 0.1, &losses[i][0]));
        mz_assert_ok(s->ctx, mz_loss_pinball_into(s, &g, &pinball, 0.1, &losses[i][1]));
        d_logits[i] = zeros(MZ_BALANCE_COUNT + 1, n_logits);
        for (in.kind = 0; in.kind <= MZ_BALANCE_COUNT; in.kind++) {
            losses[i][2 + in.kind] = run_router(s, &in);
            memcpy((char *)d_logits[i] + (size_t)in.kind * n_logits, in.d_logits, n_logits);
        }
        assert_memory_equal(losses[i], losses[0], sizeof losses[0]);
        assert_memory_equal(d[i], d[0], sizeof d[0]);
        assert_memory_equal(d_logits[i], d_logits[0], (MZ_BALANCE_COUNT + 1) * n_logits);
    }
    for (int i = 0; i < MAX_THREADS; i++) {
        free(d_logits[i]);
    }
    free_routed(&in);
}

static void nothing_adds_nothing(void **state) {
    mz_stream *s = first_stream(state);
    float nothing = 0;
    double loss = 3;
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, 0, N_LEVELS, &nothing);
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 0, 1, &nothing);
    const mz_pinball_inputs pinball = {&p, &t, &t, levels, N_LEVELS};
    const mz_routing empty = {.n_tokens = 0,
                              .n_experts = 3,
                              .top_k = 1,
                              .logits = mz_tensor_2d(MZ_DTYPE_F32, 0, 3, &nothing)};
    const mz_rows rows = {0};
    const mz_balance_options options = {.rows = &rows};
    mz_assert_ok(s->ctx, mz_loss_huber_into(s, NULL, &p, &p, &p, 2, 1, &loss));
    mz_assert_ok(s->ctx, mz_loss_pinball_into(s, NULL, &pinball, 1, &loss));
    for (int n = 0; n < 2; n++) {
        const mz_router_loss_inputs in = {&empty, n, &options};
        for (int kind = 0; kind < MZ_BALANCE_COUNT; kind++) {
            mz_assert_ok(s->ctx,
                         mz_loss_balance_into(s, NULL, (mz_balance_kind)kind, &in, 1, &loss));
        }
        mz_assert_ok(s->ctx, mz_loss_router_z_into(s, NULL, &in, 1, &loss));
    }
    assert_true(loss == 3);
}

static void expect_error(mz_stream *s, mz_status status, mz_status expected, const char *text) {
    assert_int_equal(status, expected);
    if (strstr(s->ctx->error.message, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", s->ctx->error.message, text);
    }
}

static void bad_series_arguments(void **state) {
    mz_stream *s = first_stream(state);
    float data[12] = {0};
    double loss = 3;
    const double level = 1;
    const mz_tensor p = mz_tensor_2d(MZ_DTYPE_F32, 2, 6, data);
    const mz_tensor other = mz_tensor_2d(MZ_DTYPE_F32, 3, 4, data);
    const mz_tensor half = mz_tensor_2d(MZ_DTYPE_F16, 2, 6, data);
    mz_pinball_inputs in = {&p, &p, NULL, &level, 1};
    expect_error(s, mz_loss_huber_into(s, NULL, &p, &other, NULL, 2, 1, &loss), MZ_ERR_SHAPE,
                 "Huber loss: target is [3, 4], expected [2, 6]");
    expect_error(s, mz_loss_huber_into(s, NULL, &p, &p, &other, 2, 1, &loss), MZ_ERR_SHAPE,
                 "weight is [3, 4]");
    expect_error(s, mz_loss_huber_into(s, &other, &p, &p, NULL, 2, 1, &loss), MZ_ERR_SHAPE,
                 "gradient of pred is [3, 4]");
    expect_error(s, mz_loss_huber_into(s, NULL, &half, &p, NULL, 2, 1, &loss), MZ_ERR_DTYPE,
                 "pred is f16, expected f32");
    expect_error(s, mz_loss_huber_into(s, NULL, &p, &p, NULL, 2, INFINITY, &loss), MZ_ERR_ARG,
                 "scale is inf");
    expect_error(s, mz_loss_huber_into(s, NULL, &p, &p, NULL, 0, 1, &loss), MZ_ERR_ARG,
                 "delta is 0");
    expect_error(s, mz_loss_pinball_into(s, NULL, &in, 1, &loss), MZ_ERR_ARG, "level 0 is 1");
    in.n_quantiles = 0;
    expect_error(s, mz_loss_pinball_into(s, NULL, &in, 1, &loss), MZ_ERR_ARG, "0 levels");
    in = (mz_pinball_inputs){&other, &p, NULL, levels, N_LEVELS};
    expect_error(s, mz_loss_pinball_into(s, NULL, &in, 1, &loss), MZ_ERR_SHAPE,
                 "pred has 4 columns, expected a multiple of 3 levels");
    assert_true(loss == 3);
}

static void bad_router_arguments(void **state) {
    mz_stream *s = first_stream(state);
    double loss = 3;
    routed in;
    make_routed(&in, 9, 8);
    const mz_rows rows = {.n_rows = 9, .sequence = in.sequence};
    const mz_balance_options options = {.rows = &rows};
    mz_router_loss_inputs inputs = {in.routings, N_ROUTINGS, &options};
    const size_t used = s->arena.used;
    expect_error(s, mz_loss_balance_into(s, in.gradients, MZ_BALANCE_COUNT, &inputs, 1, &loss),
                 MZ_ERR_ARG, "kind 3, expected 0 to 2");
    expect_error(s, mz_loss_balance_into(s, in.gradients, MZ_BALANCE_SEQUENCE, &inputs, 1, &loss),
                 MZ_ERR_SHAPE, "routing 1 has 8 rows, not 9");
    inputs.options = NULL;
    expect_error(s, mz_loss_balance_into(s, in.gradients, MZ_BALANCE_SEQUENCE, &inputs, 1, &loss),
                 MZ_ERR_ARG, "rows of the sequences are missing");
    in.ids[20] = N_EXPERTS;
    expect_error(s, mz_loss_balance_into(s, in.gradients, MZ_BALANCE_SWITCH, &inputs, 1, &loss),
                 MZ_ERR_ARG, "an expert id is outside 0 to 4");
    in.routings[1].top_k = 1;
    expect_error(s, mz_loss_router_z_into(s, in.gradients, &inputs, 1, &loss), MZ_ERR_ARG,
                 "routing 1 has 5 experts and 1 choices, the first 5 and 2");
    in.routings[1].top_k = TOP_K;
    in.routings[1].n_tokens = 7;
    expect_error(s, mz_loss_router_z_into(s, in.gradients, &inputs, 1, &loss), MZ_ERR_SHAPE,
                 "router logits is [8, 5], expected [7, 5]");
    expect_error(s, mz_loss_router_z_into(s, in.gradients, &inputs, NAN, &loss), MZ_ERR_ARG,
                 "scale is nan");
    for (int64_t i = 0; i < in.n_rows * N_EXPERTS; i++) {
        assert_true(in.d_logits[i] == 0);
    }
    assert_true(loss == 3 && s->arena.used == used);
    free_routed(&in);
}

/* A stream of the measured size holds the scratch; one byte less does not. */
static void scratch_is_measured(void **state) {
    mz_context *ctx = first_stream(state)->ctx;
    routed in;
    make_routed(&in, 40, 40);
    const mz_rows rows = {.n_rows = 40, .sequence = in.sequence};
    const mz_balance_options options = {.rows = &rows};
    const mz_router_loss_inputs inputs = {in.routings, N_ROUTINGS, &options};
    mz_stream s;
    double loss = 0;
    mz_stream_open_measure(ctx, mz_backend_cpu(), &s);
    mz_assert_ok(ctx, mz_loss_balance_into(&s, NULL, MZ_BALANCE_SEQUENCE, &inputs, 1, &loss));
    const size_t peak = s.arena.peak;
    mz_stream_close(&s);
    assert_true(loss == 0 && peak > 0);
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), peak, &s));
    mz_assert_ok(ctx, mz_loss_balance_into(&s, NULL, MZ_BALANCE_SEQUENCE, &inputs, 1, &loss));
    mz_stream_close(&s);
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), 256, &s));
    expect_error(&s, mz_loss_balance_into(&s, NULL, MZ_BALANCE_TOPK_POOLED, &inputs, 1, &loss),
                 MZ_ERR_LIMIT, "balance loss");
    mz_stream_close(&s);
    free_routed(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_losses_are_their_formulas),
        cmocka_unit_test(huber_by_hand),
        cmocka_unit_test(pinball_by_hand),
        cmocka_unit_test(odd_values),
        cmocka_unit_test(router_losses_are_their_formulas),
        cmocka_unit_test(balance_by_hand),
        cmocka_unit_test(gradients_are_found_on_the_tape),
        cmocka_unit_test(threads_make_no_difference),
        cmocka_unit_test(nothing_adds_nothing),
        cmocka_unit_test(bad_series_arguments),
        cmocka_unit_test(bad_router_arguments),
        cmocka_unit_test(scratch_is_measured),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
