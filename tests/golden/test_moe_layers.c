/* One layer of every kind of router and experts against its golden: routing, output, gradients of
 * all weights, balance losses and their gradients; on the reference and on every level of the CPU
 * backend. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses.h"
#include "core/tape.h"
#include "experts/router.h"
#include "tests/golden/moe_layer.h"

static const char *const kinds[] = {"softmax-topk",
                                    "mixtral",
                                    "unimoe-v1",
                                    "deepspeed-top1",
                                    "deepspeed-top1-nodrop",
                                    "deepspeed-top2",
                                    "deepspeed-top2-overflow",
                                    "deepspeed-top2-argmax",
                                    "moiie",
                                    "llava-mole-sparse",
                                    "llava-mole-dense",
                                    "top-p",
                                    "moe-plus-plus",
                                    "moe-plus-plus-first",
                                    "deepseek-v3",
                                    "shared-sigmoid-gate",
                                    "moe-connector"};

enum { N_KINDS = sizeof kinds / sizeof kinds[0], MAX_TOKENS = 32, MAX_VALUES = 1024 };

/* The goldens are f64 rounded to f32; the largest distance measured is 5.3e-7. */
static const double bound = 1e-6;

/* One case on one stream. */
typedef struct run {
    const moe_layer *layer;
    int number; /* of the case */
    mz_stream *s;
    int32_t sequence[MAX_TOKENS], position[MAX_TOKENS];
    uint8_t modality[MAX_TOKENS];
    mz_tensor x, y;
    mz_routing routing;
} run;

static void name_of(const run *r, const char *what, char *out, size_t size) {
    (void)snprintf(out, size, "%s, case %d, %s %s: %s", r->layer->kind, r->number,
                   r->s->backend->name, mz_isa_name(r->s->ctx->isa), what);
}

static void compare(const run *r, const char *what, const float *actual, const float *expected,
                    int64_t n) {
    char name[320];
    name_of(r, what, name, sizeof name);
    mz_assert_close(name, actual, expected, n, bound);
}

static mz_tensor io(const run *r, const char *name) {
    return moe_layer_io(r->layer, r->number, name);
}

/* Runs the layer; with a tape its input is that of the parameters. */
static void forward(run *r) {
    const mz_moe *moe = &r->layer->moe;
    const mz_tensor input = io(r, "input");
    const mz_tensor modality = io(r, "modality");
    const mz_tensor expected = io(r, "output");
    const int64_t n = input.shape[0];
    assert_true(n <= MAX_TOKENS);
    for (int64_t t = 0; t < n; t++) {
        r->position[t] = (int32_t)t;
        r->modality[t] = (uint8_t)((const int32_t *)modality.data)[t];
    }
    r->x = r->number == 0 ? moe_layer_weight(r->layer, "input") : input;
    mz_assert_ok(r->s->ctx, mz_router_validate(&moe->router, &r->s->ctx->error));
    mz_assert_ok(r->s->ctx, mz_routing_take(r->s, n, &moe->router, &r->routing));
    mz_assert_ok(r->s->ctx, mz_stream_take(r->s, n, expected.shape[1], "output", &r->y));
    r->routing.rows = (mz_rows){
        .n_rows = n, .sequence = r->sequence, .position = r->position, .modality = r->modality};
    r->routing.noise = io(r, r->layer->moe.router.top_k == 1 ? "uniform" : "gumbel");
    r->routing.previous_logits = io(r, "previous_logits");
    mz_assert_ok(r->s->ctx, mz_op_moe(r->s, &r->y, &r->x, moe, &r->routing, NULL));
}

/* MoIIE's golden holds the logits of the range only. */
static void check_logits(const run *r) {
    const mz_tensor expected = io(r, "router_logits");
    const mz_tensor vision = io(r, "vision_mask");
    const int64_t n = expected.shape[1];
    for (int64_t t = 0; t < expected.shape[0]; t++) {
        const bool is_text = vision.n_dims > 0 && ((const int32_t *)vision.data)[t] == 0;
        const float *actual = mz_tensor_f32(&r->routing.logits, t);
        compare(r, "router_logits", actual + (is_text ? 1 : 0), mz_tensor_f32(&expected, t), n);
        assert_true(vision.n_dims == 0 || actual[is_text ? 0 : 3] == -INFINITY);
    }
}

static void check_routing(const run *r) {
    const mz_tensor ids = io(r, "expert_ids");
    const mz_tensor weights = io(r, "gate_weights");
    const int32_t top_k = r->routing.top_k;
    float by_slot[MAX_VALUES] = {0};
    check_logits(r);
    for (int64_t t = 0; t < ids.shape[0]; t++) {
        const int32_t *actual = r->routing.expert_ids + t * top_k;
        for (int64_t k = 0; k < ids.shape[1]; k++) {
            assert_int_equal(actual[k], mz_tensor_i32(&ids, t)[k]);
        }
        for (int32_t k = 0; k < top_k; k++) { /* those of the dense form are by expert */
            const bool dense = ids.shape[1] != weights.shape[1];
            by_slot[t * top_k + k] = mz_tensor_f32(&weights, t)[dense ? actual[k] : k];
        }
    }
    compare(r, "gate_weights", r->routing.gate_weights, by_slot, ids.shape[0] * top_k);
}

static void check_bias_step(const run *r) {
    const mz_tensor expected = io(r, "bias_after_step");
    float bias[MOE_LAYER_EXPERTS];
    if (expected.n_dims == 0) {
        return;
    }
    const json_t *step = json_object_get(r->layer->config, "bias_step");
    const mz_tensor before = moe_layer_weight(r->layer, "router.selection_bias");
    memcpy(bias, before.data, (size_t)expected.shape[0] * sizeof *bias);
    mz_router_balance_bias(bias, r->routing.n_experts, &r->routing, 1,
                           (float)json_number_value(step));
    compare(r, "bias_after_step", bias, expected.data, expected.shape[0]);
}

static void check_forward(moe_layer *layer, mz_stream *s, int number) {
    run r = {.layer = layer, .number = number, .s = s};
    const size_t mark = mz_arena_mark(&s->arena);
    forward(&r);
    const mz_tensor expected = io(&r, "output");
    check_routing(&r);
    compare(&r, "output", r.y.data, expected.data, mz_tensor_n_elements(&expected));
    check_bias_step(&r);
    mz_arena_release(&s->arena, mark);
}

/* ---- Gradients ---- */

/* Compares the gradients of all weights with PREFIX.NAME, those that the golden has. */
static void check_gradients(const run *r, const char *prefix) {
    const moe_layer *l = r->layer;
    int n_compared = 0;
    for (int i = 0; i < l->n_tensors; i++) {
        char name[128];
        (void)snprintf(name, sizeof name, "%s.%s", prefix, l->names[i]);
        const mz_tensor expected = io(r, name);
        if (expected.n_dims > 0) {
            const float *actual = l->gradients + ((float *)l->tensors[i].data - l->values);
            compare(r, name, actual, expected.data, mz_tensor_n_elements(&expected));
            n_compared++;
        }
    }
    assert_true(n_compared >= 2);
}

static void begin_backward(run *r) {
    memset(r->layer->gradients, 0, (size_t)r->layer->n_values * sizeof(float));
    mz_tape_reset(r->s);
    forward(r);
}

/* The losses by the names that the goldens give them. */
static double balance(const run *r, const char *name) {
    const mz_router *router = &r->layer->moe.router;
    const double n = router->n_experts;
    const json_t *tau = json_object_get(r->layer->config, "tau");
    const mz_balance_options vision = {
        .rows = &r->routing.rows, .router = router, .modality = MZ_MODALITY_IMAGE};
    const mz_balance_options text = {
        .rows = &r->routing.rows, .router = router, .modality = MZ_MODALITY_TEXT};
    const mz_balance_options light = {.n_light = 4, .tau = json_number_value(tau)};
    const struct {
        const char *name;
        mz_balance_kind kind;
        const mz_balance_options *options;
        double scale;
    } losses[] = {{"balance_all_picks", MZ_BALANCE_TOPK_POOLED, NULL, 1},
                  {"balance_first_pick", MZ_BALANCE_SWITCH, NULL, 1},
                  {"balance", MZ_BALANCE_SWITCH, NULL, 1 / n},
                  {"balance_vision", MZ_BALANCE_TOPK_POOLED, &vision, 1},
                  {"balance_text", MZ_BALANCE_TOPK_POOLED, &text, 1},
                  {"balance_tau", MZ_BALANCE_TOPK_POOLED, &light, 1 / n}};
    double loss = 0;
    if (strcmp(name, "z") == 0) {
        mz_assert_ok(r->s->ctx, mz_loss_router_z(r->s, &r->routing, 1, 1, &loss));
        return loss;
    }
    if (strcmp(name, "entropy") == 0) {
        mz_assert_ok(r->s->ctx, mz_loss_router_entropy(r->s, &r->routing, 1, 1, &loss));
        return loss;
    }
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        if (strcmp(name, losses[i].name) == 0) {
            mz_assert_ok(r->s->ctx, mz_loss_balance(r->s, losses[i].kind, &r->routing, 1,
                                                    losses[i].options, losses[i].scale, &loss));
            return loss;
        }
    }
    fail_msg("%s: an unknown loss %s", r->layer->kind, name);
    return 0;
}

/* Every aux.NAME of the golden. */
static int check_losses(run *r) {
    int n = 0;
    for (int64_t i = 0; i < mz_weights_count(r->layer->io); i++) {
        static const char prefix[] = "case0.aux.";
        const char *name = NULL;
        char full[128];
        mz_tensor t;
        mz_assert_ok(r->s->ctx, mz_weights_at(r->layer->io, i, &name, &t));
        if (strncmp(name, prefix, strlen(prefix)) != 0 || strstr(name, ".grad.") != NULL) {
            continue;
        }
        begin_backward(r);
        const float loss = (float)balance(r, name + strlen(prefix));
        mz_assert_ok(r->s->ctx, mz_backward(r->s));
        compare(r, name, &loss, moe_layer_io(r->layer, 0, name + strlen("case0.")).data, 1);
        (void)snprintf(full, sizeof full, "%s.grad", name + strlen("case0."));
        check_gradients(r, full);
        n++;
    }
    return n;
}

static int check_backward(moe_layer *layer, mz_stream *s) {
    run r = {.layer = layer, .s = s};
    mz_tape *tape = NULL;
    mz_assert_ok(s->ctx, mz_tape_create(s->ctx, &tape));
    mz_assert_ok(s->ctx, mz_tape_attach(tape, s));
    mz_assert_ok(s->ctx, mz_tape_add_parameters(tape, layer->values, layer->gradients,
                                                (size_t)layer->n_values * sizeof(float)));
    begin_backward(&r);
    check_routing(&r);
    const mz_tensor d_y = mz_tape_gradient(s, &r.y);
    const mz_tensor given = io(&r, "grad_output");
    memcpy(d_y.data, given.data, (size_t)mz_tensor_n_elements(&given) * sizeof(float));
    mz_assert_ok(s->ctx, mz_backward(s));
    check_gradients(&r, "grad");
    const int n_losses = check_losses(&r);
    mz_tape_detach(s);
    mz_tape_destroy(s->ctx, tape);
    return n_losses;
}

static void layers_are_their_goldens(void **state) {
    mz_op_streams *streams = *state;
    int n_losses = 0;
    for (int i = 0; i < N_KINDS; i++) {
        moe_layer layer;
        moe_layer_open(&layer, streams->reference.ctx, kinds[i]);
        for (int j = -1; j < streams->n_cpu; j++) {
            mz_stream *s = j < 0 ? &streams->reference : &streams->cpu[j];
            check_forward(&layer, s, 0);
            check_forward(&layer, s, 1);
            n_losses += check_backward(&layer, s);
        }
        moe_layer_close(&layer);
    }
    assert_int_equal(n_losses, 20 * (streams->n_cpu + 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_are_their_goldens)};
    return cmocka_run_group_tests(tests, mz_op_streams_setup, mz_op_streams_teardown);
}
