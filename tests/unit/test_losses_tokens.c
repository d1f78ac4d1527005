/* Cross entropy behind an output head: by hand, against plain f64 sums and their differences, and
 * the rows that do not count. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses_internal.h"
#include "core/tape.h"

enum { N_ROWS = 13, WIDTH = 6, VOCAB = 11, MAX_THREADS = 3 };
enum { N_HIDDEN = N_ROWS * WIDTH, N_WEIGHT = VOCAB * WIDTH, N_ALL = N_HIDDEN + N_WEIGHT + VOCAB };
static const double scale = 0.3;

/* All values with a gradient, one after the other: hidden, the head's weight, its bias. */
typedef struct tokens {
    float values[N_ALL];
    float gradients[N_ALL];
    int32_t targets[N_ROWS];
    float weight[N_ROWS];
    bool weighted;
    mz_tensor hidden;
    mz_linear head;
    mz_cross_entropy_gradient d;
} tokens;

/* Views of hidden, weight and bias in `data` [N_ALL]. */
static void cut(float *data, mz_tensor *hidden, mz_tensor *weight, mz_tensor *bias) {
    *hidden = mz_tensor_2d(MZ_DTYPE_F32, N_ROWS, WIDTH, data);
    *weight = mz_tensor_2d(MZ_DTYPE_F32, VOCAB, WIDTH, data + N_HIDDEN);
    *bias = mz_tensor_1d(MZ_DTYPE_F32, VOCAB, data + N_HIDDEN + N_WEIGHT);
}

static void fill(tokens *t) {
    *t = (tokens){.weighted = true};
    mz_fill_uniform(t->values, N_ALL, 1, 1.5F);
    mz_fill_uniform(t->weight, N_ROWS, 2, 1);
    for (int i = 0; i < N_ROWS; i++) {
        t->targets[i] = i * 7 % VOCAB;
        t->weight[i] = i % 3 == 1 ? 0 : fabsf(t->weight[i]);
    }
    cut(t->values, &t->hidden, &t->head.weight, &t->head.bias);
    cut(t->gradients, &t->d.hidden, &t->d.head.weight, &t->d.head.bias);
}

static double plain(const double *x, const void *arg) {
    const tokens *t = arg;
    double loss = 0;
    for (int row = 0; row < N_ROWS; row++) {
        const double w = t->weighted ? (double)t->weight[row] : 1;
        double sum = 0;
        double of_target = 0;
        for (int v = 0; v < VOCAB; v++) {
            double logit = x[N_HIDDEN + N_WEIGHT + v];
            for (int c = 0; c < WIDTH; c++) {
                logit += x[row * WIDTH + c] * x[N_HIDDEN + v * WIDTH + c];
            }
            sum += exp(logit);
            of_target = v == t->targets[row] ? logit : of_target;
        }
        loss += w == 0 ? 0 : w * (log(sum) - of_target);
    }
    return scale * loss;
}

static mz_cross_entropy_inputs inputs_of(const tokens *t, int64_t chunk_rows) {
    return (mz_cross_entropy_inputs){.hidden = &t->hidden,
                                     .head = &t->head,
                                     .targets = t->targets,
                                     .weight = t->weighted ? t->weight : NULL,
                                     .chunk_rows = chunk_rows};
}

static double run(mz_stream *s, tokens *t, int64_t chunk_rows) {
    const mz_cross_entropy_inputs in = inputs_of(t, chunk_rows);
    const size_t used = s->arena.used;
    double loss = 0;
    memset(t->gradients, 0, sizeof t->gradients);
    mz_assert_ok(s->ctx, mz_loss_cross_entropy_into(s, &t->d, &in, scale, &loss));
    assert_int_equal(s->arena.used, used);
    return loss;
}

static mz_stream open_stream(mz_context *ctx, const mz_backend *backend) {
    mz_stream s;
    mz_assert_ok(ctx, mz_stream_open(ctx, backend, 4 << 20, &s));
    return s;
}

/* The logits are f32: so much of the value is theirs. */
static void loss_is_its_formula(void **state) {
    mz_stream s = open_stream(*state, mz_backend_reference());
    static const int64_t chunks[] = {0, 1, 4, 5, 100};
    tokens t;
    fill(&t);
    for (int weighted = 0; weighted < 2; weighted++) {
        t.weighted = weighted != 0;
        const double whole = run(&s, &t, 0);
        for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
            const double loss = run(&s, &t, chunks[i]);
            assert_true(loss == whole); /* rows are summed one by one */
            mz_check_loss("cross entropy", plain, &t, t.values, N_ALL, loss, 1e-7, t.gradients);
        }
    }
    mz_stream_close(&s);
}

/* One row, logits log 1, log 2 and log 5 from the bias: loss log(8 / 2). */
static void by_hand(void **state) {
    mz_stream s = open_stream(*state, mz_backend_reference());
    float hidden[1] = {0};
    float weight[3] = {1, 2, 3};
    float bias[3] = {0, logf(2), logf(5)};
    float d_hidden[1] = {1};
    float d_bias[3] = {0};
    const int32_t target = 1;
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, 1, 1, hidden);
    const mz_linear head = {.weight = mz_tensor_2d(MZ_DTYPE_F32, 3, 1, weight),
                            .bias = mz_tensor_1d(MZ_DTYPE_F32, 3, bias)};
    const mz_cross_entropy_inputs in = {.hidden = &x, .head = &head, .targets = &target};
    const mz_cross_entropy_gradient d = {
        .hidden = mz_tensor_2d(MZ_DTYPE_F32, 1, 1, d_hidden),
        .head = {.bias = mz_tensor_1d(MZ_DTYPE_F32, 3, d_bias)},
    };
    double loss = 7;
    mz_assert_ok(s.ctx, mz_loss_cross_entropy_into(&s, &d, &in, 2, &loss));
    assert_true(fabs(loss - 7 - 2 * log(4)) < 1e-7);
    /* 2 (1/8, 2/8 - 1, 5/8), and that times the weight */
    assert_true(fabsf(d_bias[0] - 0.25F) < 1e-6F && fabsf(d_bias[1] + 1.5F) < 1e-6F &&
                fabsf(d_bias[2] - 1.25F) < 1e-6F);
    assert_true(fabsf(d_hidden[0] - (1 + 0.25F - 3 + 3.75F)) < 1e-6F);
    loss = 0;
    mz_assert_ok(s.ctx, mz_loss_cross_entropy_into(&s, NULL, &in, 1, &loss));
    assert_true(fabs(loss - log(4)) < 1e-7);
    hidden[0] = NAN;
    mz_assert_ok(s.ctx, mz_loss_cross_entropy_into(&s, &d, &in, 1, &loss));
    assert_true(isnan(loss) && isnan(d_hidden[0]));
    /* far from the target, where exp of the difference is 0, and where a logit is infinite */
    hidden[0] = 0;
    bias[2] = 1e30F;
    loss = 0;
    mz_assert_ok(s.ctx, mz_loss_cross_entropy_into(&s, NULL, &in, 1, &loss));
    assert_true(fabs(loss - 1e30) < 1e24);
    bias[2] = INFINITY;
    mz_assert_ok(s.ctx, mz_loss_cross_entropy_into(&s, NULL, &in, 1, &loss));
    assert_true(isnan(loss));
    mz_low_rank delta = {.scale = 1};
    mz_linear adapted = head;
    adapted.deltas = &delta;
    const mz_cross_entropy_inputs refused = {.hidden = &x, .head = &adapted, .targets = &target};
    assert_int_equal(mz_loss_cross_entropy_into(&s, NULL, &refused, 1, &loss), MZ_ERR_UNSUPPORTED);
    mz_stream_close(&s);
}

/* Rows of weight 0 may hold anything and have any target; without rows that count nothing is added.
 */
static void masked_rows_cost_nothing(void **state) {
    mz_stream s = open_stream(*state, mz_backend_reference());
    tokens t;
    tokens odd;
    fill(&t);
    const double loss = run(&s, &t, 4);
    fill(&odd);
    for (int row = 0; row < N_ROWS; row++) {
        if (odd.weight[row] == 0) {
            odd.targets[row] = -100;
            odd.values[row * WIDTH] = NAN;
        }
    }
    assert_true(run(&s, &odd, 4) == loss);
    assert_memory_equal(odd.gradients, t.gradients, sizeof t.gradients);
    for (int row = 0; row < N_ROWS; row++) {
        assert_true(t.weight[row] != 0 || t.gradients[row * WIDTH] == 0);
    }
    memset(t.weight, 0, sizeof t.weight);
    assert_true(run(&s, &t, 4) == 0);
    t.hidden.shape[0] = t.d.hidden.shape[0] = 0;
    assert_true(run(&s, &t, 4) == 0);
    for (int i = 0; i < N_ALL; i++) {
        assert_true(t.gradients[i] == 0);
    }
    mz_stream_close(&s);
}

/* Gradients that are not wanted change neither the loss nor the others. */
static void gradients_may_be_absent(void **state) {
    mz_stream s = open_stream(*state, mz_backend_reference());
    tokens all;
    fill(&all);
    const double loss = run(&s, &all, 4);
    for (int wanted = 0; wanted < 8; wanted++) {
        tokens t;
        fill(&t);
        t.d.hidden = (wanted & 1) != 0 ? t.d.hidden : (mz_tensor){0};
        t.d.head.weight = (wanted & 2) != 0 ? t.d.head.weight : (mz_tensor){0};
        t.d.head.bias = (wanted & 4) != 0 ? t.d.head.bias : (mz_tensor){0};
        assert_true(run(&s, &t, 4) == loss);
        for (int i = 0; i < N_ALL; i++) {
            const int part = i < N_HIDDEN ? 1 : (i < N_HIDDEN + N_WEIGHT ? 2 : 4);
            assert_true(t.gradients[i] == ((wanted & part) != 0 ? all.gradients[i] : 0));
        }
    }
    mz_stream_close(&s);
}

static void threads_make_no_difference(void **state) {
    (void)state;
    tokens t[MAX_THREADS];
    double losses[MAX_THREADS];
    for (int i = 0; i < MAX_THREADS; i++) {
        mz_context ctx;
        const mz_context_options options = {.n_threads = i + 1};
        mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
        mz_stream s = open_stream(&ctx, mz_backend_cpu());
        fill(&t[i]);
        losses[i] = run(&s, &t[i], 5);
        assert_true(losses[i] == losses[0]);
        assert_memory_equal(t[i].gradients, t[0].gradients, sizeof t[0].gradients);
        mz_check_loss("cross entropy", plain, &t[i], t[i].values, N_ALL, losses[i], 1e-6,
                      t[i].gradients);
        mz_stream_close(&s);
        mz_context_close(&ctx);
    }
}

/* The public function finds the same gradients on a tape, and keeps nothing of the arena. */
static void gradients_are_found_on_the_tape(void **state) {
    mz_context *ctx = *state;
    mz_stream s = open_stream(ctx, mz_backend_cpu());
    mz_tape *tape = NULL;
    tokens t;
    fill(&t);
    const double expected = run(&s, &t, 0);
    float found[N_ALL] = {0};
    mz_assert_ok(ctx, mz_tape_create(ctx, &tape));
    mz_assert_ok(ctx, mz_tape_add_parameters(tape, t.values, found, sizeof found));
    for (int taped = 0; taped < 2; taped++) {
        double loss = 0;
        if (taped != 0) {
            assert_true(found[0] == 0);
            mz_assert_ok(ctx, mz_tape_attach(tape, &s));
        }
        const size_t used = s.arena.used;
        mz_assert_ok(
            ctx, mz_loss_cross_entropy(&s, &t.hidden, &t.head, t.targets, t.weight, scale, &loss));
        assert_true(loss == expected && s.arena.used == used);
    }
    assert_memory_equal(found, t.gradients, sizeof found);
    mz_tape_detach(&s);
    mz_tape_destroy(ctx, tape);
    mz_stream_close(&s);
}

static void scratch_is_measured(void **state) {
    mz_context *ctx = *state;
    tokens t;
    fill(&t);
    const mz_cross_entropy_inputs in = inputs_of(&t, 4);
    double loss = 0;
    mz_stream s;
    mz_stream_open_measure(ctx, mz_backend_cpu(), &s);
    mz_assert_ok(ctx, mz_loss_cross_entropy_into(&s, NULL, &in, 1, &loss));
    const size_t peak = s.arena.peak;
    mz_stream_close(&s);
    assert_true(loss == 0 && peak > 0);
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), peak, &s));
    mz_assert_ok(ctx, mz_loss_cross_entropy_into(&s, &t.d, &in, 1, &loss));
    mz_stream_close(&s);
}

static void expect_error(mz_stream *s, const tokens *t, double factor, mz_status expected,
                         const char *text) {
    const mz_cross_entropy_inputs in = inputs_of(t, 4);
    double loss = 3;
    assert_int_equal(mz_loss_cross_entropy_into(s, &t->d, &in, factor, &loss), expected);
    if (strstr(s->ctx->error.message, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", s->ctx->error.message, text);
    }
    assert_true(loss == 3 && s->arena.used == 0);
    for (int i = 0; i < N_ALL; i++) {
        assert_true(t->gradients[i] == 0);
    }
}

static void bad_arguments(void **state) {
    mz_context *ctx = *state;
    mz_stream s = open_stream(ctx, mz_backend_reference());
    tokens t;
    fill(&t);
    t.targets[6] = VOCAB;
    expect_error(&s, &t, 1, MZ_ERR_ARG, "cross entropy: target 11 of row 6 is outside 0 to 10");
    t.targets[6] = -1;
    expect_error(&s, &t, 1, MZ_ERR_ARG, "target -1 of row 6");
    fill(&t);
    expect_error(&s, &t, NAN, MZ_ERR_ARG, "scale is nan");
    t.head.weight.shape[1] = WIDTH - 1;
    expect_error(&s, &t, 1, MZ_ERR_SHAPE, "weight is [11, 5], expected [vocab_size, 6]");
    fill(&t);
    t.head.weight.dtype = MZ_DTYPE_I32;
    expect_error(&s, &t, 1, MZ_ERR_DTYPE, "weight is i32");
    fill(&t);
    t.head.bias.shape[0] = 3;
    expect_error(&s, &t, 1, MZ_ERR_SHAPE, "bias is f32 [3], expected f32 [11]");
    fill(&t);
    t.d.head.bias.shape[0] = 3;
    expect_error(&s, &t, 1, MZ_ERR_SHAPE, "gradient of bias is [3], expected [11]");
    fill(&t);
    t.d.head.weight.dtype = MZ_DTYPE_BF16;
    expect_error(&s, &t, 1, MZ_ERR_DTYPE, "gradient of weight is bf16, expected f32");
    fill(&t);
    t.d.hidden.shape[0] = 2;
    expect_error(&s, &t, 1, MZ_ERR_SHAPE, "gradient of hidden is [2, 6], expected [13, 6]");
    fill(&t);
    mz_backend untrained = *mz_backend_reference();
    untrained.training = NULL;
    s.backend = &untrained;
    expect_error(&s, &t, 1, MZ_ERR_UNSUPPORTED, "lacks the op linear_backward");
    t.d = (mz_cross_entropy_gradient){0};
    (void)run(&s, &t, 0); /* the value alone needs no backward */
    untrained.host_memory = false;
    expect_error(&s, &t, 1, MZ_ERR_UNSUPPORTED, "does not hold its tensors in host memory");
    s.backend = mz_backend_reference();
    mz_stream_close(&s);
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_reference(), 512, &s));
    fill(&t);
    expect_error(&s, &t, 1, MZ_ERR_LIMIT, "cross entropy");
    mz_stream_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_its_formula),
        cmocka_unit_test(by_hand),
        cmocka_unit_test(masked_rows_cost_nothing),
        cmocka_unit_test(gradients_may_be_absent),
        cmocka_unit_test(threads_make_no_difference),
        cmocka_unit_test(gradients_are_found_on_the_tape),
        cmocka_unit_test(scratch_is_measured),
        cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
