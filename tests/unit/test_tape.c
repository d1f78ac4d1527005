/* The tape by itself: where gradients are, what is recorded, what it refuses. That the gradients of
 * whole passes are right is checked by golden.test_training and golden.test_train_losses. */
#include "core/tape.h"

#include <string.h>

#include "tests/testing.h"

enum { WIDTH = 8, MAX_ROWS = 40, N_VALUES = MAX_ROWS * WIDTH, ARENA_BYTES = 1 << 20 };

/* Trained values and their gradients, and a stream that records. */
typedef struct fixture {
    mz_context ctx;
    mz_stream s;
    mz_tape *tape;
    float values[N_VALUES], gradients[N_VALUES];
} fixture;

static void open_on(fixture *f, const mz_backend *backend) {
    const mz_context_options options = {.n_threads = 2, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &options));
    mz_assert_ok(&f->ctx, mz_stream_open(&f->ctx, backend, ARENA_BYTES, &f->s));
    mz_assert_ok(&f->ctx, mz_tape_create(&f->ctx, &f->tape));
    mz_assert_ok(&f->ctx,
                 mz_tape_add_parameters(f->tape, f->values, f->gradients, sizeof f->values));
    mz_fill_uniform(f->values, N_VALUES, 1, 1.0f);
    memset(f->gradients, 0, sizeof f->gradients);
}

static void open_fixture(fixture *f) {
    open_on(f, mz_backend_cpu());
    mz_assert_ok(&f->ctx, mz_tape_attach(f->tape, &f->s));
}

static void close_fixture(fixture *f) {
    if (f->s.tape != NULL) {
        mz_tape_detach(&f->s);
    }
    mz_tape_destroy(&f->ctx, f->tape);
    mz_stream_close(&f->s);
    mz_context_close(&f->ctx);
}

/* The first rows of the trained values. */
static mz_tensor trained(fixture *f, int64_t n_rows) {
    return mz_tensor_2d(MZ_DTYPE_F32, n_rows, WIDTH, f->values);
}

static mz_tensor take(fixture *f, int64_t n_rows, int64_t n_cols) {
    mz_tensor t;
    mz_assert_ok(&f->ctx, mz_stream_take(&f->s, n_rows, n_cols, "test", &t));
    return t;
}

/* Gradient c + 1 for column c of all rows. */
static void start(fixture *f, const mz_tensor *y) {
    const mz_tensor d = mz_tape_gradient(&f->s, y);
    assert_int_equal(d.n_dims, 2);
    for (int64_t i = 0; i < d.shape[0]; i++) {
        for (int64_t c = 0; c < d.shape[1]; c++) {
            assert_true(mz_tensor_f32(&d, i)[c] == 0);
            mz_tensor_f32(&d, i)[c] = (float)(c + 1);
        }
    }
}

/* An input that stands on both sides gets both gradients, and one that an earlier op has used too
 * gets theirs as well. */
static void an_input_used_twice_gets_both(void **state) {
    fixture f;
    (void)state;
    open_fixture(&f);
    const mz_tensor x = trained(&f, 3);
    const mz_tensor y = take(&f, 3, WIDTH);
    const mz_tensor z = take(&f, 3, WIDTH);
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &y, &x, &x, 0.5f));
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &z, &y, &x, 2.0f));
    start(&f, &z);
    mz_assert_ok(&f.ctx, mz_backward(&f.s));
    for (int64_t i = 0; i < N_VALUES; i++) {
        const float expected = i < 3 * WIDTH ? 3.5f * (float)(i % WIDTH + 1) : 0;
        assert_true(f.gradients[i] == expected);
    }
    close_fixture(&f);
}

/* Rows and columns of an activation, written and read apart, have their part of its gradient. */
static void views_share_the_gradient_of_what_they_are_of(void **state) {
    fixture f;
    (void)state;
    open_fixture(&f);
    const mz_tensor x = trained(&f, 4);
    const mz_tensor h = take(&f, 4, WIDTH);
    const mz_tensor y = take(&f, 2, WIDTH / 2);
    const mz_tensor left = mz_tensor_cols(&h, 0, WIDTH / 2);
    const mz_tensor right = mz_tensor_cols(&h, WIDTH / 2, WIDTH / 2);
    const mz_tensor x_left = mz_tensor_cols(&x, 0, WIDTH / 2);
    const mz_tensor x_right = mz_tensor_cols(&x, WIDTH / 2, WIDTH / 2);
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &left, &x_left, &x_left, 1.0f));
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &right, &x_right, &x_right, 2.0f));
    const mz_tensor upper_left = mz_tensor_rows(&left, 0, 2);
    const mz_tensor lower_right = mz_tensor_rows(&right, 2, 2);
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &y, &upper_left, &lower_right, 10.0f));
    start(&f, &y);
    mz_assert_ok(&f.ctx, mz_backward(&f.s));
    for (int64_t i = 0; i < N_VALUES; i++) {
        const int64_t row = i / WIDTH;
        const int64_t c = i % WIDTH;
        const bool is_left = row < 2 && c < WIDTH / 2;
        const bool is_right = row >= 2 && row < 4 && c >= WIDTH / 2;
        const float expected = is_left    ? 2.0f * (float)(c + 1)
                               : is_right ? 30.0f * (float)(c - WIDTH / 2 + 1)
                                          : 0;
        assert_true(f.gradients[i] == expected);
    }
    close_fixture(&f);
}

/* Values without a trained input have no gradient. */
static void what_leads_to_no_parameter_has_no_gradient(void **state) {
    fixture f;
    float fixed[2 * WIDTH] = {0};
    (void)state;
    open_fixture(&f);
    const mz_tensor x = mz_tensor_2d(MZ_DTYPE_F32, 2, WIDTH, fixed);
    const mz_tensor y = take(&f, 2, WIDTH);
    mz_assert_ok(&f.ctx, mz_op_softmax(&f.s, &y, &x));
    assert_int_equal(mz_tape_gradient(&f.s, &y).n_dims, 0);
    assert_int_equal(mz_tape_gradient(&f.s, &x).n_dims, 0);
    assert_int_equal(mz_tape_gradient(&f.s, &(mz_tensor){0}).n_dims, 0);
    /* nor has scratch of a backend behind a value that has one */
    const mz_tensor z = take(&f, 2, WIDTH);
    const mz_tensor p = trained(&f, 2);
    void *scratch = NULL;
    mz_assert_ok(&f.ctx, mz_op_softmax(&f.s, &z, &p));
    mz_assert_ok(&f.ctx, mz_arena_take(&f.s.arena, sizeof fixed, "test", &scratch, &f.ctx.error));
    assert_int_equal(mz_tape_gradient(&f.s, &z).n_dims, 2);
    const mz_tensor behind = mz_tensor_2d(MZ_DTYPE_F32, 2, WIDTH, scratch);
    assert_int_equal(mz_tape_gradient(&f.s, &behind).n_dims, 0);
    mz_assert_ok(&f.ctx, mz_backward(&f.s));
    close_fixture(&f);
}

static mz_tensor take_ones(fixture *f, int64_t n_rows) {
    const mz_tensor t = take(f, n_rows, WIDTH);
    for (int64_t i = 0; i < n_rows * WIDTH; i++) {
        ((float *)t.data)[i] = 1.0f + (float)i;
    }
    return t;
}

/* A router or the gate of a shared expert is trained although all experts are frozen. */
static void gates_are_trained_without_experts(void **state) {
    enum { N = 3, N_EXPERTS = 4, TOP_K = 2 };
    const mz_router router = {.n_experts = N_EXPERTS, .top_k = TOP_K};
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        fixture f;
        mz_routing routing;
        open_fixture(&f);
        mz_assert_ok(&f.ctx, mz_routing_take(&f.s, N, &router, &routing));
        if (shared == 0) {
            routing.logits = mz_tensor_2d(MZ_DTYPE_F32, N, N_EXPERTS, f.values);
        } else {
            memset(routing.logits.data, 0, N * N_EXPERTS * sizeof(float));
        }
        mz_assert_ok(&f.ctx, mz_op_route(&f.s, &router, &routing));
        mz_assert_ok(&f.ctx, mz_op_dispatch(&f.s, &routing));
        const mz_tensor y = take(&f, N, WIDTH);
        const mz_tensor expert_out = take_ones(&f, N * TOP_K);
        const mz_tensor shared_out = take_ones(&f, N);
        const mz_tensor shared_logit = mz_tensor_2d(MZ_DTYPE_F32, N, 1, f.values);
        mz_assert_ok(&f.ctx, mz_op_combine(&f.s, &y, &expert_out, &routing,
                                           shared == 1 ? &shared_out : NULL,
                                           shared == 1 ? &shared_logit : NULL));
        start(&f, &y);
        mz_assert_ok(&f.ctx, mz_backward(&f.s));
        for (int i = 0; i < (shared == 1 ? N : N * N_EXPERTS); i++) {
            assert_true(f.gradients[i] != 0);
        }
        assert_int_equal(mz_tape_gradient(&f.s, &expert_out).n_dims, 0);
        close_fixture(&f);
    }
}

/* In place, gradients of input and output would be the same memory: that is refused, though not
 * where there is nothing to compute. */
static void ops_in_place_are_refused(void **state) {
    fixture f;
    const float ones[WIDTH] = {1, 1, 1, 1, 1, 1, 1, 1};
    const mz_tensor weight = mz_tensor_1d(MZ_DTYPE_F32, WIDTH, (void *)ones);
    (void)state;
    open_fixture(&f);
    const mz_tensor x = trained(&f, 2);
    const mz_tensor y = take(&f, 2, WIDTH);
    const mz_tensor none = take(&f, 0, WIDTH);
    mz_assert_ok(&f.ctx, mz_op_softmax(&f.s, &y, &x));
    assert_int_equal(mz_op_add(&f.s, &y, &y, &x, 1.0f), MZ_ERR_ARG);
    assert_non_null(strstr(f.ctx.error.message, "add: in place"));
    assert_int_equal(mz_op_add(&f.s, &y, &x, &y, 1.0f), MZ_ERR_ARG);
    assert_int_equal(mz_op_softmax(&f.s, &y, &y), MZ_ERR_ARG);
    assert_int_equal(mz_op_norm(&f.s, &y, &y, &(mz_norm){.eps = 1e-6f, .weight = weight}),
                     MZ_ERR_ARG);
    assert_int_equal(mz_op_gated_activation(&f.s, &y, &x, &y, MZ_ACTIVATION_SILU), MZ_ERR_ARG);
    const mz_tensor no_x = trained(&f, 0);
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &none, &no_x, &no_x, 1.0f));
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &none, &none, &no_x, 1.0f));
    close_fixture(&f);
}

/* y = softmax(2 x) through scratch, counting its calls. */
typedef struct segment {
    mz_tensor y, x;
    int *n_calls;
} segment;

static mz_status forward(mz_stream *s, const void *args) {
    const segment *a = args;
    const size_t mark = mz_stream_mark(s);
    mz_tensor h;
    MZ_TRY(mz_stream_take(s, a->x.shape[0], a->x.shape[1], "scratch", &h));
    MZ_TRY(mz_op_add(s, &h, &a->x, &a->x, 1.0f));
    MZ_TRY(mz_op_softmax(s, &a->y, &h));
    mz_stream_release(s, mark);
    ++*a->n_calls;
    return MZ_OK;
}

/* Two segments, one after the other, over n rows; the gradients are left in the fixture. */
static void run_segments(fixture *f, int64_t n, int *n_calls) {
    segment a = {.x = trained(f, n), .n_calls = n_calls};
    memset(f->gradients, 0, sizeof f->gradients);
    mz_tape_reset(&f->s);
    const mz_tensor middle = take(f, n, WIDTH);
    const mz_tensor last = take(f, n, WIDTH);
    a.y = middle;
    const mz_tensor *outputs = &middle;
    mz_assert_ok(&f->ctx, mz_tape_run_segment(&f->s, forward, &a, sizeof a, &outputs, 1));
    a.x = middle;
    a.y = last;
    outputs = &last;
    mz_assert_ok(&f->ctx, mz_tape_run_segment(&f->s, forward, &a, sizeof a, &outputs, 1));
    memset(&a, 0xff, sizeof a); /* the tape has its own copy */
    start(f, &last);
    mz_assert_ok(&f->ctx, mz_backward(&f->s));
}

/* A segment is computed twice, keeps none of its scratch, and gives the same bits; passes of other
 * sizes before leave nothing behind. */
static void segments_give_the_same_bits(void **state) {
    fixture f;
    static float expected[N_VALUES];
    int n_calls = 0;
    (void)state;
    open_fixture(&f);
    run_segments(&f, 5, &n_calls);
    assert_int_equal(n_calls, 2);
    memcpy(expected, f.gradients, sizeof expected);
    assert_true(expected[0] != 0 && expected[5 * WIDTH - 1] != 0 && expected[5 * WIDTH] == 0);
    const size_t kept = f.s.arena.used;
    mz_tape_set_recompute(f.tape, true);
    static const int64_t sizes[] = {MAX_ROWS, 1, 5};
    for (int i = 0; i < 3; i++) {
        n_calls = 0;
        run_segments(&f, sizes[i], &n_calls);
        assert_int_equal(n_calls, 4);
    }
    assert_memory_equal(f.gradients, expected, sizeof expected);
    assert_true(f.s.arena.used < kept);
    mz_tape_set_recompute(f.tape, false);
    run_segments(&f, MAX_ROWS, &n_calls);
    run_segments(&f, 5, &n_calls);
    assert_memory_equal(f.gradients, expected, sizeof expected);
    close_fixture(&f);
}

/* Without a tape a segment is a call. */
static void a_segment_without_a_tape_is_a_call(void **state) {
    fixture f;
    int n_calls = 0;
    (void)state;
    open_on(&f, mz_backend_cpu());
    const mz_tensor y = take(&f, 2, WIDTH);
    const size_t used = f.s.arena.used;
    const segment a = {.x = trained(&f, 2), .y = y, .n_calls = &n_calls};
    const mz_tensor *outputs = &y;
    mz_assert_ok(&f.ctx, mz_tape_run_segment(&f.s, forward, &a, sizeof a, &outputs, 1));
    assert_int_equal(n_calls, 1);
    assert_true(f.s.arena.used == used);
    assert_int_equal(mz_tape_gradient(&f.s, &y).n_dims, 0);
    close_fixture(&f);
}

static mz_status failing(mz_stream *s, const void *args) {
    (void)args;
    return mz_fail(&s->ctx->error, MZ_ERR_IO, "on purpose");
}

/* After a pass that failed midway, the tape can be detached or reset and used again. */
static void a_pass_that_fails_leaves_a_usable_tape(void **state) {
    fixture f;
    static float expected[N_VALUES];
    int n_calls = 0;
    (void)state;
    open_fixture(&f);
    mz_tape_set_recompute(f.tape, true);
    run_segments(&f, 4, &n_calls);
    memcpy(expected, f.gradients, sizeof expected);
    mz_tape_reset(&f.s);
    const mz_tensor x = trained(&f, 4);
    const mz_tensor y = take(&f, 4, WIDTH);
    const mz_tensor *outputs = &y;
    const int argument = 0;
    mz_assert_ok(&f.ctx, mz_op_add(&f.s, &y, &x, &x, 1.0f)); /* recorded, and never walked back */
    assert_int_equal(mz_tape_run_segment(&f.s, failing, &argument, sizeof argument, &outputs, 1),
                     MZ_ERR_IO);
    assert_true(f.s.tape == f.tape && f.s.keep);
    mz_tape_detach(&f.s);
    assert_true(f.s.tape == NULL && !f.s.keep && f.s.arena.used == 0);
    mz_assert_ok(&f.ctx, mz_tape_attach(f.tape, &f.s));
    run_segments(&f, 4, &n_calls);
    assert_memory_equal(f.gradients, expected, sizeof expected);
    close_fixture(&f);
}

/* Arguments larger than what is set aside for many are kept too, and alive until the reset. */
static void memory_is_kept_until_the_reset(void **state) {
    enum { N = 100, BYTES = 3000 };
    fixture f;
    uint8_t *kept[N + 1];
    void *memory = NULL;
    (void)state;
    open_fixture(&f);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            mz_assert_ok(&f.ctx, mz_tape_keep(&f.s, BYTES, "test", &memory));
            assert_true((uintptr_t)memory % 16 == 0);
            kept[i] = memory;
            memset(memory, i + 1, BYTES);
        }
        mz_assert_ok(&f.ctx, mz_tape_keep(&f.s, 1 << 17, "test", &memory));
        memset(memory, 0, 1 << 17);
        for (int i = 0; i < N; i++) {
            assert_true(kept[i][0] == i + 1 && kept[i][BYTES - 1] == i + 1);
        }
        mz_tape_reset(&f.s);
    }
    close_fixture(&f);
}

static void a_ninth_set_of_parameters_is_refused(void **state) {
    fixture f;
    float value = 0;
    float gradient = 0;
    (void)state;
    open_on(&f, mz_backend_cpu());
    for (int i = 1; i < 8; i++) {
        mz_assert_ok(&f.ctx, mz_tape_add_parameters(f.tape, &value, &gradient, sizeof value));
    }
    assert_int_equal(mz_tape_add_parameters(f.tape, &value, &gradient, sizeof value), MZ_ERR_LIMIT);
    close_fixture(&f);
}

/* A backend that cannot train, or lacks the backward that is needed, says so by name. */
static void what_a_backend_lacks_is_named(void **state) {
    fixture f;
    (void)state;
    mz_training_ops ops = *mz_backend_cpu()->training;
    mz_backend backend = *mz_backend_cpu();
    ops.accumulate = NULL;
    for (int i = 0; i < 2; i++) {
        backend.training = i == 0 ? &ops : NULL;
        open_on(&f, &backend);
        mz_assert_ok(&f.ctx, mz_tape_attach(f.tape, &f.s));
        const mz_tensor x = trained(&f, 2);
        const mz_tensor y = take(&f, 2, WIDTH);
        mz_assert_ok(&f.ctx, mz_op_add(&f.s, &y, &x, &x, 1.0f));
        start(&f, &y);
        assert_int_equal(mz_backward(&f.s), MZ_ERR_UNSUPPORTED);
        assert_non_null(strstr(f.ctx.error.message, i == 0 ? "accumulate" : "cannot train"));
        close_fixture(&f);
    }
}

static void device_memory_is_refused(void **state) {
    fixture f;
    (void)state;
    mz_backend backend = *mz_backend_cpu();
    backend.host_memory = false;
    open_on(&f, &backend);
    assert_int_equal(mz_tape_attach(f.tape, &f.s), MZ_ERR_UNSUPPORTED);
    assert_null(f.s.tape);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_input_used_twice_gets_both),
        cmocka_unit_test(views_share_the_gradient_of_what_they_are_of),
        cmocka_unit_test(what_leads_to_no_parameter_has_no_gradient),
        cmocka_unit_test(gates_are_trained_without_experts),
        cmocka_unit_test(ops_in_place_are_refused),
        cmocka_unit_test(segments_give_the_same_bits),
        cmocka_unit_test(a_segment_without_a_tape_is_a_call),
        cmocka_unit_test(a_pass_that_fails_leaves_a_usable_tape),
        cmocka_unit_test(memory_is_kept_until_the_reset),
        cmocka_unit_test(a_ninth_set_of_parameters_is_refused),
        cmocka_unit_test(what_a_backend_lacks_is_named),
        cmocka_unit_test(device_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
