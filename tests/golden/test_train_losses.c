/* The losses of three steps of Time-MoE's own trainer, from its head outputs and router logits. */
#include "tests/testing.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/losses.h"
#include "core/weights.h"

#define FOLDER MOEZOO_TESTS_DIR "/golden/time-moe/train"

enum { N_STEPS = 3, N_HEADS = 3, N_LAYERS = 2, N_SERIES = 3, LENGTH = 21 };
enum { N_ROWS = N_SERIES * LENGTH, N_EXPERTS = 4, TOP_K = 2, MAX_HORIZON = 8 };
static const int64_t horizons[N_HEADS] = {1, 3, MAX_HORIZON};

/* The original sums in float32: the largest distance is 1.3e-7. */
static const double bound = 2e-7;

typedef struct golden {
    mz_context *ctx;
    mz_stream stream;
    mz_weights *io;
    json_t *json;
    int step; /* from 1 */
} golden;

static mz_tensor tensor_of(const golden *g, const char *name) {
    char full[64];
    mz_tensor out;
    (void)snprintf(full, sizeof full, "step%d.%s", g->step, name);
    if (!mz_weights_find(g->io, full, &out)) {
        fail_msg("%s is missing", full);
    }
    return out;
}

static const json_t *step_of(const golden *g) {
    return json_array_get(json_object_get(g->json, "steps"), (size_t)g->step - 1);
}

static void check_number(const char *what, int step, double actual, const json_t *expected) {
    const double number = json_number_value(expected);
    print_message("step %d, %s: %.9g, expected %.9g\n", step, what, actual, number);
    assert_true(json_is_number(expected) && number > 0);
    assert_true(fabs(actual - number) <= bound * number);
}

/* The loss of head `head`: position t is to be followed by labels t to t + horizon - 1. */
static double head_loss(golden *g, int head) {
    float target[N_ROWS * MAX_HORIZON] = {0};
    float weight[N_ROWS * MAX_HORIZON] = {0};
    char name[16];
    const int64_t horizon = horizons[head];
    const mz_tensor labels = tensor_of(g, "labels");
    const mz_tensor mask = tensor_of(g, "loss_mask");
    double n_counted = 0;
    double loss = 0;
    assert_true(mz_tensor_n_elements(&labels) == N_ROWS && mask.dtype == MZ_DTYPE_I32);
    for (int64_t row = 0; row < N_ROWS; row++) {
        const int64_t t = row % LENGTH;
        for (int64_t h = 0; h < horizon && t + h < LENGTH; h++) {
            target[row * horizon + h] = ((const float *)labels.data)[row + h];
            weight[row * horizon + h] = (float)((const int32_t *)mask.data)[row + h];
            n_counted += (double)weight[row * horizon + h];
        }
    }
    (void)snprintf(name, sizeof name, "head%d", head);
    const mz_tensor out = tensor_of(g, name);
    assert_true(mz_tensor_n_elements(&out) == N_ROWS * horizon);
    const mz_tensor pred = mz_tensor_2d(MZ_DTYPE_F32, N_ROWS, horizon, out.data);
    const mz_tensor targets = mz_tensor_2d(MZ_DTYPE_F32, N_ROWS, horizon, target);
    const mz_tensor weights = mz_tensor_2d(MZ_DTYPE_F32, N_ROWS, horizon, weight);
    const double delta = json_number_value(json_object_get(g->json, "huber_delta"));
    mz_assert_ok(g->ctx,
                 mz_loss_huber(&g->stream, &pred, &targets, &weights, delta, 1 / n_counted, &loss));
    check_number(name, g->step, loss,
                 json_array_get(json_object_get(step_of(g), "head_losses"), (size_t)head));
    return loss;
}

static void check_counts(const golden *g, int layer, const mz_routing *routing) {
    const json_t *counts =
        json_array_get(json_object_get(g->json, "tokens_per_expert_by_step_and_layer"),
                       (size_t)((g->step - 1) * N_LAYERS + layer));
    for (int32_t e = 0; e < N_EXPERTS; e++) {
        int64_t n = 0;
        for (int64_t slot = 0; slot < N_ROWS * TOP_K; slot++) {
            n += routing->expert_ids[slot] == e;
        }
        assert_int_equal(n, json_integer_value(json_array_get(counts, (size_t)e)));
    }
}

/* Every row counts, masked or not. */
static double balance_loss(golden *g) {
    const mz_router router = {.n_experts = N_EXPERTS, .top_k = TOP_K};
    mz_routing routings[N_LAYERS];
    const size_t mark = mz_stream_mark(&g->stream);
    double loss = 0;
    for (int layer = 0; layer < N_LAYERS; layer++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layers.%d.router_logits", layer);
        const mz_tensor logits = tensor_of(g, name);
        assert_true(mz_tensor_n_elements(&logits) == N_ROWS * N_EXPERTS);
        mz_assert_ok(g->ctx, mz_routing_take(&g->stream, N_ROWS, &router, &routings[layer]));
        routings[layer].logits = mz_tensor_2d(MZ_DTYPE_F32, N_ROWS, N_EXPERTS, logits.data);
        mz_assert_ok(g->ctx, mz_op_route(&g->stream, &router, &routings[layer]));
        check_counts(g, layer, &routings[layer]);
    }
    mz_assert_ok(g->ctx, mz_loss_balance(&g->stream, MZ_BALANCE_TOPK_POOLED, routings, N_LAYERS,
                                         NULL, 1, &loss));
    mz_stream_release(&g->stream, mark);
    check_number("balance", g->step, loss, json_object_get(step_of(g), "aux_loss"));
    return loss;
}

static void losses_are_the_original_ones(void **state) {
    json_error_t error;
    golden g = {.ctx = *state, .json = json_load_file(FOLDER "/golden.json", 0, &error)};
    assert_non_null(g.json);
    mz_assert_ok(g.ctx, mz_weights_open(g.ctx, FOLDER "/io.safetensors", &g.io));
    mz_assert_ok(g.ctx, mz_stream_open(g.ctx, mz_backend_cpu(), 1 << 20, &g.stream));
    const double factor = json_number_value(json_object_get(g.json, "router_aux_loss_factor"));
    assert_int_equal(json_array_size(json_object_get(g.json, "steps")), N_STEPS);
    for (g.step = 1; g.step <= N_STEPS; g.step++) {
        double total = 0;
        for (int head = 0; head < N_HEADS; head++) {
            total += head_loss(&g, head) / N_HEADS;
        }
        total += factor * balance_loss(&g);
        check_number("total", g.step, total, json_object_get(step_of(&g), "loss"));
    }
    mz_stream_close(&g.stream);
    mz_weights_close(g.ctx, g.io);
    json_decref(g.json);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_are_the_original_ones)};
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
