#include "tests/golden/moe_layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER MOEZOO_TESTS_DIR "/golden/moe-layers/"

static int32_t number_of(const moe_layer *l, const char *key) {
    const json_t *value = json_object_get(l->config, key);
    if (!json_is_integer(value)) {
        fail_msg("%s: %s is missing", l->kind, key);
    }
    return (int32_t)json_integer_value(value);
}

static double real_of(const moe_layer *l, const char *key) {
    return json_number_value(json_object_get(l->config, key));
}

static bool flag_of(const moe_layer *l, const char *key) {
    return json_is_true(json_object_get(l->config, key));
}

mz_tensor moe_layer_weight(const moe_layer *layer, const char *name) {
    for (int i = 0; i < layer->n_tensors; i++) {
        if (strcmp(layer->names[i], name) == 0) {
            return layer->tensors[i];
        }
    }
    fail_msg("%s: %s is missing", layer->kind, name);
    return (mz_tensor){0};
}

mz_tensor moe_layer_io(const moe_layer *layer, int number, const char *name) {
    char full[128];
    mz_tensor t = {0};
    (void)snprintf(full, sizeof full, "case%d.%s", number, name);
    return mz_weights_find(layer->io, full, &t) ? t : (mz_tensor){0};
}

static void add_tensor(moe_layer *l, const char *name, const mz_tensor *from) {
    assert_true(l->n_tensors < MOE_LAYER_TENSORS && from->dtype == MZ_DTYPE_F32);
    const int64_t n = mz_tensor_n_elements(from);
    mz_tensor t = *from;
    t.data = l->values + l->n_values;
    memcpy(t.data, from->data, (size_t)n * sizeof(float));
    l->names[l->n_tensors] = strdup(name);
    l->tensors[l->n_tensors++] = t;
    l->n_values += n;
}

/* All weights and the input of case0 in one piece of memory, so that a tape gives gradients. */
static void copy_weights(moe_layer *l) {
    const mz_tensor input = moe_layer_io(l, 0, "input");
    int64_t n = mz_tensor_n_elements(&input);
    for (int64_t i = 0; i < mz_weights_count(l->weights); i++) {
        const char *name = NULL;
        mz_tensor t;
        mz_assert_ok(l->ctx, mz_weights_at(l->weights, i, &name, &t));
        n += mz_tensor_n_elements(&t);
    }
    l->values = calloc((size_t)n, sizeof(float));
    l->gradients = calloc((size_t)n, sizeof(float));
    assert_true(l->values != NULL && l->gradients != NULL);
    for (int64_t i = 0; i < mz_weights_count(l->weights); i++) {
        const char *name = NULL;
        mz_tensor t;
        mz_assert_ok(l->ctx, mz_weights_at(l->weights, i, &name, &t));
        assert_true(mz_weights_find(l->weights, name, &t));
        add_tensor(l, name, &t);
    }
    add_tensor(l, "input", &input);
}

static mz_linear linear(const moe_layer *l, const char *name) {
    return (mz_linear){.weight = moe_layer_weight(l, name)};
}

/* The bank of experts.0 to n - 1; `bias` NULL: without. */
static mz_linear_bank bank(moe_layer *l, int32_t n, const char *matrix, const char *bias) {
    moe_layer_bank *tables = &l->banks[l->n_banks++];
    mz_tensor t = {0};
    assert_true(n <= MOE_LAYER_EXPERTS && (size_t)l->n_banks <= sizeof l->banks / sizeof *l->banks);
    for (int32_t e = 0; e < n; e++) {
        char name[64];
        if (bias != NULL) {
            (void)snprintf(name, sizeof name, "experts.%d.%s", e, bias);
            tables->bias[e] = moe_layer_weight(l, name).data;
        }
        (void)snprintf(name, sizeof name, "experts.%d.%s", e, matrix);
        t = moe_layer_weight(l, name);
        tables->data[e] = t.data;
    }
    return (mz_linear_bank){.dtype = MZ_DTYPE_F32,
                            .n_experts = n,
                            .d_out = t.shape[0],
                            .d_in = t.shape[1],
                            .ld = t.ld,
                            .data = tables->data,
                            .bias = bias != NULL ? tables->bias : NULL};
}

static void gated_experts(moe_layer *l, int32_t n) {
    l->moe.w_gate = bank(l, n, "w_gate", NULL);
    l->moe.w_up = bank(l, n, "w_up", NULL);
    l->moe.w_down = bank(l, n, "w_down", NULL);
}

static void plain_experts(moe_layer *l, mz_activation activation) {
    l->moe.w_up = bank(l, l->moe.router.n_experts, "w_1", "b_1");
    l->moe.w_down = bank(l, l->moe.router.n_experts, "w_2", "b_2");
    l->moe.activation = activation;
}

static void shared_expert(moe_layer *l) {
    l->moe.has_shared = true;
    l->moe.shared = (mz_ffn){.w_gate = linear(l, "shared.w_gate"),
                             .w_up = linear(l, "shared.w_up"),
                             .w_down = linear(l, "shared.w_down")};
}

static void deepspeed(moe_layer *l, bool top2) {
    mz_router *r = &l->moe.router;
    r->kind = top2 ? MZ_ROUTER_DEEPSPEED_TOP2 : MZ_ROUTER_DEEPSPEED_TOP1;
    r->renormalise = top2;
    r->capacity_factor = (float)real_of(l, "capacity_factor");
    r->min_capacity = number_of(l, "min_capacity");
    r->drop = top2 || flag_of(l, "drop_tokens");
    plain_experts(l, MZ_ACTIVATION_GELU_TANH);
}

static void moiie(moe_layer *l) {
    mz_router *r = &l->moe.router;
    r->renormalise = true;
    r->by_modality = true;
    r->text_before_text = true;
    r->ranges[MZ_MODALITY_IMAGE] = (mz_expert_range){.first = 0, .n = 3};
    r->ranges[MZ_MODALITY_TEXT] = (mz_expert_range){.first = 1, .n = 3};
    l->router_of[MZ_MODALITY_IMAGE] = linear(l, "router_vision.weight");
    l->router_of[MZ_MODALITY_TEXT] = linear(l, "router_text.weight");
    l->moe.router_of = l->router_of;
    gated_experts(l, 4);
}

static mz_low_rank_bank low_rank(moe_layer *l, const char *matrix) {
    char a[32];
    char b[32];
    const int32_t n = l->moe.router.n_experts;
    (void)snprintf(a, sizeof a, "%s.lora_a", matrix);
    (void)snprintf(b, sizeof b, "%s.lora_b", matrix);
    return (mz_low_rank_bank){.a = bank(l, n, a, NULL),
                              .b = bank(l, n, b, NULL),
                              .scale = (float)(real_of(l, "alpha") / real_of(l, "rank"))};
}

static void lora_experts(moe_layer *l) {
    mz_router *r = &l->moe.router;
    if (flag_of(l, "dense")) {
        r->top_k = r->n_experts;
    } else {
        r->unit_weights = true;
    }
    l->moe.router_proj.bias = moe_layer_weight(l, "router.bias");
    l->lora = (mz_lora_experts){.base = {.w_gate = linear(l, "base.w_gate"),
                                         .w_up = linear(l, "base.w_up"),
                                         .w_down = linear(l, "base.w_down")},
                                .gate = low_rank(l, "w_gate"),
                                .up = low_rank(l, "w_up"),
                                .down = low_rank(l, "w_down")};
    l->moe.lora = &l->lora;
}

static void moe_plus_plus(moe_layer *l) {
    const int32_t n = number_of(l, "n_ffn");
    l->moe.router.renormalise = true;
    l->moe.router.n_zero = 1;
    l->moe.router_hidden = linear(l, "router.w_1");
    l->moe.router_proj = linear(l, "router.w_2");
    l->moe.router_residual = linear(l, "router.w_residual");
    l->moe.input_scale = 2;
    for (int32_t i = 0; i < 2; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "experts.%d.constant", n + i);
        l->constants[i].value = moe_layer_weight(l, name);
        (void)snprintf(name, sizeof name, "experts.%d.w_mix", n + i);
        l->constants[i].w_mix = moe_layer_weight(l, name);
    }
    l->moe.plain =
        (mz_plain_experts){.constants = l->constants, .n_constant = 2, .n_copy = 1, .n_zero = 1};
    gated_experts(l, n);
}

static void deepseek_v3(moe_layer *l) {
    mz_router *r = &l->moe.router;
    r->kind = MZ_ROUTER_SIGMOID_TOPK;
    r->renormalise = flag_of(l, "renormalise");
    r->scale = (float)real_of(l, "scale");
    r->n_groups = number_of(l, "n_groups");
    r->n_top_groups = number_of(l, "topk_group");
    r->group_by_two = true;
    r->selection_bias = moe_layer_weight(l, "router.selection_bias");
    gated_experts(l, r->n_experts);
    shared_expert(l);
}

static void describe(moe_layer *l) {
    mz_router *r = &l->moe.router;
    const char *kind = l->kind;
    r->n_experts = number_of(l, "n_experts");
    r->top_k = number_of(l, "top_k");
    if (strncmp(kind, "moe-plus", 8) == 0) {
        moe_plus_plus(l);
        return;
    }
    if (strcmp(kind, "moiie") == 0) {
        moiie(l);
        return;
    }
    l->moe.router_proj = linear(l, "router.weight");
    if (strncmp(kind, "deepspeed", 9) == 0) {
        deepspeed(l, strncmp(kind, "deepspeed-top2", 14) == 0);
    } else if (strncmp(kind, "llava-mole", 10) == 0) {
        lora_experts(l);
    } else if (strcmp(kind, "deepseek-v3") == 0) {
        deepseek_v3(l);
    } else if (strcmp(kind, "moe-connector") == 0) {
        r->renormalise = true;
        plain_experts(l, MZ_ACTIVATION_GELU);
    } else {
        gated_experts(l, r->n_experts);
        r->renormalise = strcmp(kind, "mixtral") == 0 || strcmp(kind, "unimoe-v1") == 0;
    }
    if (strcmp(kind, "top-p") == 0) {
        r->kind = MZ_ROUTER_TOP_P;
        r->top_k = r->n_experts;
        r->threshold = (float)real_of(l, "threshold");
    } else if (strcmp(kind, "shared-sigmoid-gate") == 0) {
        shared_expert(l);
        l->moe.shared_gate = linear(l, "shared.gate");
    }
}

void moe_layer_open(moe_layer *layer, mz_context *ctx, const char *kind) {
    char path[512];
    json_error_t error;
    *layer = (moe_layer){.ctx = ctx};
    (void)snprintf(layer->kind, sizeof layer->kind, "%s", kind);
    (void)snprintf(path, sizeof path, FOLDER "%s/config.json", kind);
    layer->config = json_load_file(path, 0, &error);
    assert_non_null(layer->config);
    (void)snprintf(path, sizeof path, FOLDER "%s/model.safetensors", kind);
    mz_assert_ok(ctx, mz_weights_open(ctx, path, &layer->weights));
    (void)snprintf(path, sizeof path, FOLDER "%s/io.safetensors", kind);
    mz_assert_ok(ctx, mz_weights_open(ctx, path, &layer->io));
    copy_weights(layer);
    describe(layer);
}

void moe_layer_close(moe_layer *layer) {
    for (int i = 0; i < layer->n_tensors; i++) {
        free(layer->names[i]);
    }
    free(layer->values);
    free(layer->gradients);
    mz_weights_close(layer->ctx, layer->weights);
    mz_weights_close(layer->ctx, layer->io);
    json_decref(layer->config);
}
