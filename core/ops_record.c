#include "core/ops_record.h"

#include "core/backend.h"
#include "core/tape_internal.h"

/* ---- what is common to all backwards ---- */

static bool present(const mz_tensor *t) {
    return t->n_dims > 0;
}

static double begin(const mz_stream *s) {
    return s->profile != NULL ? mz_now_s() : 0;
}

static mz_status end(mz_stream *s, mz_op_id op, double start, double flops, mz_status status) {
    if (s->profile != NULL) {
        s->profile->ops[op].n_calls++;
        s->profile->ops[op].seconds += mz_now_s() - start;
        s->profile->ops[op].flops += flops;
    }
    return status;
}

static mz_status lacks(mz_stream *s, mz_op_id op) {
    return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op %s",
                   s->backend->name, mz_op_name(op));
}

/* Records an op unless no input leads to a parameter. One in place is refused: value and gradient
 * of its input and of its output would be the same memory. */
static mz_status record(mz_stream *s, mz_op_id op, mz_backward_op backward, const void *args,
                        size_t args_bytes, const mz_tensor *y, const mz_tensor *const *inputs,
                        int n_inputs) {
    if (!mz_tape_needs(s, inputs, n_inputs)) {
        return MZ_OK;
    }
    for (int i = 0; i < n_inputs && mz_tensor_n_elements(y) > 0; i++) {
        if (inputs[i] != NULL && inputs[i]->n_dims > 0 && inputs[i]->data == y->data) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG, "%s: in place, which a tape cannot undo",
                           mz_op_name(op));
        }
    }
    return mz_tape_record(s, backward, args, args_bytes, &y, 1);
}

/* ---- linear ---- */

typedef struct linear_args {
    mz_tensor y, x;
    mz_linear w;
} linear_args;

static mz_status linear_backward(mz_stream *s, const void *args) {
    const linear_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->linear_backward == NULL) {
        return lacks(s, MZ_OP_LINEAR_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_tensor d_x = mz_tape_gradient(s, &a->x);
    const mz_linear_gradient d_w = {.weight = mz_tape_gradient(s, &a->w.weight),
                                    .bias = mz_tape_gradient(s, &a->w.bias)};
    const double product = 2.0 * (double)mz_tensor_n_elements(&a->w.weight) * (double)a->x.shape[0];
    const double start = begin(s);
    return end(s, MZ_OP_LINEAR_BACKWARD, start,
               product * ((present(&d_x) ? 1 : 0) + (present(&d_w.weight) ? 1 : 0)),
               ops->linear_backward(s, &d_w, &d_x, &d_y, &a->x, &a->w));
}

mz_status mz_record_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                           const mz_linear *w) {
    const linear_args args = {.y = *y, .x = *x, .w = *w};
    const mz_tensor *inputs[] = {x, &w->weight, &w->bias};
    return record(s, MZ_OP_LINEAR, linear_backward, &args, sizeof args, y, inputs, 3);
}

/* ---- norm ---- */

typedef struct norm_args {
    mz_tensor y, x;
    mz_norm norm;
} norm_args;

static mz_status norm_backward(mz_stream *s, const void *args) {
    const norm_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->norm_backward == NULL) {
        return lacks(s, MZ_OP_NORM_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_norm_gradient d = {.x = mz_tape_gradient(s, &a->x),
                                .weight = mz_tape_gradient(s, &a->norm.weight),
                                .bias = mz_tape_gradient(s, &a->norm.bias)};
    const double start = begin(s);
    return end(s, MZ_OP_NORM_BACKWARD, start, 8.0 * (double)mz_tensor_n_elements(&a->x),
               ops->norm_backward(s, &d, &d_y, &a->x, &a->norm));
}

mz_status mz_record_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                         const mz_norm *norm) {
    const norm_args args = {.y = *y, .x = *x, .norm = *norm};
    const mz_tensor *inputs[] = {x, &norm->weight, &norm->bias};
    return record(s, MZ_OP_NORM, norm_backward, &args, sizeof args, y, inputs, 3);
}

/* ---- rope ---- */

typedef struct rope_args {
    mz_tensor y, x;
    mz_rope_table table;
    mz_rows rows;
} rope_args;

static mz_status rope_backward(mz_stream *s, const void *args) {
    const rope_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->rope_backward == NULL) {
        return lacks(s, MZ_OP_ROPE_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_tensor d_x = mz_tape_gradient(s, &a->x);
    const double start = begin(s);
    return end(s, MZ_OP_ROPE_BACKWARD, start, 4.0 * (double)mz_tensor_n_elements(&a->x),
               ops->rope_backward(s, &d_x, &d_y, &a->table, &a->rows));
}

mz_status mz_record_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                         const mz_rope_table *table, const mz_rows *rows) {
    const rope_args args = {.y = *y, .x = *x, .table = *table, .rows = *rows};
    return record(s, MZ_OP_ROPE, rope_backward, &args, sizeof args, y, &x, 1);
}

/* ---- softmax ---- */

typedef struct softmax_args {
    mz_tensor y, x;
} softmax_args;

static mz_status softmax_backward(mz_stream *s, const void *args) {
    const softmax_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->softmax_backward == NULL) {
        return lacks(s, MZ_OP_SOFTMAX_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_tensor d_x = mz_tape_gradient(s, &a->x);
    const double start = begin(s);
    return end(s, MZ_OP_SOFTMAX_BACKWARD, start, 4.0 * (double)mz_tensor_n_elements(&a->x),
               ops->softmax_backward(s, &d_x, &d_y, &a->y));
}

mz_status mz_record_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    const softmax_args args = {.y = *y, .x = *x};
    return record(s, MZ_OP_SOFTMAX, softmax_backward, &args, sizeof args, y, &x, 1);
}

/* ---- gated activation ---- */

typedef struct gated_args {
    mz_tensor y, gate, up;
    mz_activation activation;
} gated_args;

static mz_status gated_activation_backward(mz_stream *s, const void *args) {
    const gated_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->gated_activation_backward == NULL) {
        return lacks(s, MZ_OP_GATED_ACTIVATION_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_gated_gradient d = {.gate = mz_tape_gradient(s, &a->gate),
                                 .up = mz_tape_gradient(s, &a->up)};
    const double start = begin(s);
    return end(s, MZ_OP_GATED_ACTIVATION_BACKWARD, start,
               10.0 * (double)mz_tensor_n_elements(&a->y),
               ops->gated_activation_backward(s, &d, &d_y, &a->gate,
                                              present(&a->up) ? &a->up : NULL, a->activation));
}

mz_status mz_record_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                     const mz_tensor *up, mz_activation activation) {
    gated_args args = {.y = *y, .gate = *gate, .activation = activation};
    if (up != NULL) {
        args.up = *up;
    }
    const mz_tensor *inputs[] = {gate, up};
    return record(s, MZ_OP_GATED_ACTIVATION, gated_activation_backward, &args, sizeof args, y,
                  inputs, 2);
}

/* ---- add ---- */

typedef struct add_args {
    mz_tensor y, a, b;
    float scale; /* of b */
} add_args;

static mz_status add_backward(mz_stream *s, const void *args) {
    const add_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->accumulate == NULL) {
        return lacks(s, MZ_OP_ACCUMULATE);
    }
    const mz_tensor *terms[] = {&a->a, &a->b};
    for (int i = 0; i < 2 && present(&d_y); i++) {
        const mz_tensor d_x = mz_tape_gradient(s, terms[i]);
        const double start = begin(s);
        if (present(&d_x)) {
            MZ_TRY(end(s, MZ_OP_ACCUMULATE, start, (double)mz_tensor_n_elements(&d_x),
                       ops->accumulate(s, &d_x, &d_y, i == 0 ? 1.0f : a->scale)));
        }
    }
    return MZ_OK;
}

mz_status mz_record_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                        float scale) {
    const add_args args = {.y = *y, .a = *a, .b = *b, .scale = scale};
    const mz_tensor *inputs[] = {a, b};
    return record(s, MZ_OP_ADD, add_backward, &args, sizeof args, y, inputs, 2);
}

/* ---- gather_rows ---- */

typedef struct gather_args {
    mz_tensor y, x;
    const int32_t *rows;
    float scale;
} gather_args;

static mz_status gather_rows_backward(mz_stream *s, const void *args) {
    const gather_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->gather_rows_backward == NULL) {
        return lacks(s, MZ_OP_GATHER_ROWS_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_tensor d_x = mz_tape_gradient(s, &a->x);
    const double start = begin(s);
    return end(s, MZ_OP_GATHER_ROWS_BACKWARD, start, (double)mz_tensor_n_elements(&a->y),
               ops->gather_rows_backward(s, &d_x, &d_y, a->rows, a->scale));
}

mz_status mz_record_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                const int32_t *rows, float scale) {
    const gather_args args = {.y = *y, .x = *x, .rows = rows, .scale = scale};
    return record(s, MZ_OP_GATHER_ROWS, gather_rows_backward, &args, sizeof args, y, &x, 1);
}

/* ---- self_attention ---- */

typedef struct attention_args {
    mz_tensor y, log_sums;
    mz_qkv in;
    mz_rows rows;
    mz_attention_rule rule;
} attention_args;

double mz_self_attention_flops(const mz_rows *rows, const mz_attention_rule *rule,
                               const mz_qkv *in) {
    double n_keys = 0;
    for (int64_t first = 0, end = 0; first < rows->n_rows; first = end) {
        while (end < rows->n_rows && rows->sequence[end] == rows->sequence[first]) {
            end++;
        }
        for (int64_t i = first; i < end; i++) {
            const int64_t n_before = i - first + 1; /* with itself */
            const int64_t n_behind = rule->bidirectional ? end - 1 - i : 0;
            const int64_t window = rule->window > 0 ? rule->window : rows->n_rows;
            n_keys += (double)(n_before < window ? n_before : window);
            n_keys += (double)(n_behind < window - 1 ? n_behind : window - 1);
        }
    }
    const int64_t n_heads = in->q.shape[1] / in->head_dim;
    return 2.0 * n_keys * (double)(n_heads * (in->head_dim + mz_qkv_head_dim_v(in)));
}

static mz_status self_attention_backward(mz_stream *s, const void *args) {
    const attention_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->self_attention_backward == NULL) {
        return lacks(s, MZ_OP_SELF_ATTENTION_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_qkv d = {.q = mz_tape_gradient(s, &a->in.q),
                      .k = mz_tape_gradient(s, &a->in.k),
                      .v = mz_tape_gradient(s, &a->in.v),
                      .head_dim = a->in.head_dim,
                      .head_dim_v = a->in.head_dim_v};
    const double start = begin(s);
    const double flops =
        s->profile != NULL ? 2.5 * mz_self_attention_flops(&a->rows, &a->rule, &a->in) : 0;
    return end(
        s, MZ_OP_SELF_ATTENTION_BACKWARD, start, flops,
        ops->self_attention_backward(s, &d, &d_y, &a->y, &a->log_sums, &a->in, &a->rows, &a->rule));
}

mz_status mz_record_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                   const mz_qkv *in, const mz_rows *rows,
                                   const mz_attention_rule *rule) {
    const attention_args args = {
        .y = *y, .log_sums = *log_sums, .in = *in, .rows = *rows, .rule = *rule};
    const mz_tensor *inputs[] = {&in->q, &in->k, &in->v};
    return record(s, MZ_OP_SELF_ATTENTION, self_attention_backward, &args, sizeof args, y, inputs,
                  3);
}

/* ---- mixture of experts ---- */

static mz_tensor gate_weights_of(const mz_routing *routing) {
    return mz_tensor_2d(MZ_DTYPE_F32, routing->n_tokens, routing->top_k, routing->gate_weights);
}

typedef struct route_args {
    mz_router router;
    mz_routing routing;
} route_args;

static mz_status route_backward(mz_stream *s, const void *args) {
    const route_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor weights = gate_weights_of(&a->routing);
    const mz_tensor d_weights = mz_tape_gradient_if_any(s, &weights);
    if (ops->route_backward == NULL) {
        return lacks(s, MZ_OP_ROUTE_BACKWARD);
    }
    if (!present(&d_weights)) {
        return MZ_OK;
    }
    const mz_tensor d_logits = mz_tape_gradient(s, &a->routing.logits);
    const double start = begin(s);
    return end(s, MZ_OP_ROUTE_BACKWARD, start, 0,
               ops->route_backward(s, &d_logits, &d_weights, &a->router, &a->routing));
}

mz_status mz_record_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    const route_args args = {.router = *router, .routing = *routing};
    const mz_tensor *logits = &routing->logits;
    const mz_tensor weights = gate_weights_of(routing);
    const mz_tensor *outputs[] = {&weights};
    if (!mz_tape_needs(s, &logits, 1)) {
        return MZ_OK;
    }
    return mz_tape_record(s, route_backward, &args, sizeof args, outputs, 1);
}

typedef struct mask_args {
    mz_tensor logits, in[MZ_MODALITY_COUNT];
    mz_router router;
    mz_rows rows;
} mask_args;

static mz_status mask_logits_backward(mz_stream *s, const void *args) {
    const mask_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor d_logits = mz_tape_gradient_if_any(s, &a->logits);
    mz_tensor d_in[MZ_MODALITY_COUNT];
    if (ops->mask_logits_backward == NULL) {
        return lacks(s, MZ_OP_MASK_LOGITS_BACKWARD);
    }
    if (!present(&d_logits)) {
        return MZ_OK;
    }
    for (int m = 0; m < MZ_MODALITY_COUNT; m++) {
        d_in[m] = mz_tape_gradient(s, &a->in[m]);
    }
    const double start = begin(s);
    return end(s, MZ_OP_MASK_LOGITS_BACKWARD, start, 0,
               ops->mask_logits_backward(s, d_in, &d_logits, &a->router, &a->rows));
}

mz_status mz_record_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                                const mz_router *router, const mz_rows *rows) {
    mask_args args = {.logits = *logits, .router = *router, .rows = *rows};
    const mz_tensor *inputs[MZ_MODALITY_COUNT];
    for (int m = 0; m < MZ_MODALITY_COUNT; m++) {
        args.in[m] = in[m];
        inputs[m] = &in[m];
    }
    return record(s, MZ_OP_MASK_LOGITS, mask_logits_backward, &args, sizeof args, logits, inputs,
                  MZ_MODALITY_COUNT);
}

typedef struct plain_args {
    mz_tensor expert_out, x;
    mz_plain_experts plain;
    mz_routing routing;
} plain_args;

/* Where the gradients of constant experts are. */
static mz_status plain_gradients(mz_stream *s, const plain_args *a, mz_plain_gradient *out) {
    const size_t n = (size_t)a->plain.n_constant;
    void *memory = NULL;
    MZ_TRY(mz_stream_take_bytes(s, 2 * n * sizeof(mz_tensor), "expert gradients", &memory));
    mz_tensor *gradients = memory;
    for (size_t i = 0; i < n; i++) {
        gradients[i] = mz_tape_gradient(s, &a->plain.constants[i].value);
        gradients[n + i] = mz_tape_gradient(s, &a->plain.constants[i].w_mix);
    }
    *out = (mz_plain_gradient){
        .x = mz_tape_gradient(s, &a->x), .value = gradients, .w_mix = gradients + n};
    return MZ_OK;
}

static mz_status plain_experts_backward(mz_stream *s, const void *args) {
    const plain_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_tensor d_out = mz_tape_gradient_if_any(s, &a->expert_out);
    mz_plain_gradient d;
    if (ops->plain_experts_backward == NULL) {
        return lacks(s, MZ_OP_PLAIN_EXPERTS_BACKWARD);
    }
    if (!present(&d_out)) {
        return MZ_OK;
    }
    MZ_TRY(plain_gradients(s, a, &d));
    const double start = begin(s);
    MZ_TRY(end(s, MZ_OP_PLAIN_EXPERTS_BACKWARD, start, 0,
               ops->plain_experts_backward(s, &d, &d_out, &a->x, &a->plain, &a->routing)));
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

mz_status mz_record_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                                  const mz_plain_experts *plain, const mz_routing *routing) {
    const plain_args args = {
        .expert_out = *expert_out, .x = *x, .plain = *plain, .routing = *routing};
    bool needed = mz_tape_needs(s, &x, 1);
    for (int32_t i = 0; i < plain->n_constant; i++) {
        needed = needed || mz_tape_needs_data(s, plain->constants[i].value.data) ||
                 mz_tape_needs_data(s, plain->constants[i].w_mix.data);
    }
    return needed ? mz_tape_record(s, plain_experts_backward, &args, sizeof args, &expert_out, 1)
                  : MZ_OK;
}

typedef struct grouped_args {
    mz_tensor y, x;
    mz_linear_bank bank;
    mz_routing routing;
    bool gather;
} grouped_args;

/* Where the gradient of each expert's matrix or bias is: all of a bank have one, or none. */
static mz_status bank_gradients(mz_stream *s, const mz_linear_bank *bank, mz_bank_gradient *out) {
    const bool has_bias = bank->bias != NULL && mz_tape_needs_data(s, bank->bias[0]);
    const bool has_weight = mz_tape_needs_data(s, bank->data[0]);
    const size_t bytes = (size_t)bank->n_experts * sizeof(float *);
    void *weight = NULL;
    void *bias = NULL;
    *out = (mz_bank_gradient){0};
    MZ_TRY(mz_stream_take_bytes(s, bytes, "expert gradients", &weight));
    MZ_TRY(mz_stream_take_bytes(s, bytes, "expert bias gradients", &bias));
    float **weights = weight;
    float **biases = bias;
    for (int64_t e = 0; e < bank->n_experts; e++) {
        weights[e] = has_weight ? mz_tape_gradient_data(s, bank->data[e]) : NULL;
        biases[e] = has_bias ? mz_tape_gradient_data(s, bank->bias[e]) : NULL;
    }
    out->weight = has_weight ? weights : NULL;
    out->bias = has_bias ? biases : NULL;
    return MZ_OK;
}

static mz_status grouped_linear_backward(mz_stream *s, const void *args) {
    const grouped_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    mz_bank_gradient d_w;
    if (ops->grouped_linear_backward == NULL) {
        return lacks(s, MZ_OP_GROUPED_LINEAR_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    MZ_TRY(bank_gradients(s, &a->bank, &d_w));
    const mz_tensor d_x = mz_tape_gradient(s, &a->x);
    const double product =
        2.0 * (double)a->bank.d_in * (double)a->bank.d_out * (double)a->y.shape[0];
    const double start = begin(s);
    MZ_TRY(end(s, MZ_OP_GROUPED_LINEAR_BACKWARD, start,
               product * ((present(&d_x) ? 1 : 0) + (d_w.weight != NULL ? 1 : 0)),
               ops->grouped_linear_backward(s, &d_w, &d_x, &d_y, &a->x, &a->bank, &a->routing,
                                            a->gather)));
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

mz_status mz_record_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                                   const mz_linear_bank *bank, const mz_routing *routing,
                                   bool gather) {
    const grouped_args args = {
        .y = *y, .x = *x, .bank = *bank, .routing = *routing, .gather = gather};
    if (!mz_tape_needs(s, &x, 1) && !mz_tape_needs_data(s, bank->data[0]) &&
        (bank->bias == NULL || !mz_tape_needs_data(s, bank->bias[0]))) {
        return MZ_OK;
    }
    return mz_tape_record(s, grouped_linear_backward, &args, sizeof args, &y, 1);
}

typedef struct combine_args {
    mz_tensor y, expert_out;
    mz_routing routing;
    mz_tensor shared_out, shared_logit; /* absent without a shared expert */
} combine_args;

static mz_status combine_backward(mz_stream *s, const void *args) {
    const combine_args *a = args;
    const mz_training_ops *ops = s->backend->training;
    const mz_tensor weights = gate_weights_of(&a->routing);
    const mz_tensor d_y = mz_tape_gradient_if_any(s, &a->y);
    if (ops->combine_backward == NULL) {
        return lacks(s, MZ_OP_COMBINE_BACKWARD);
    }
    if (!present(&d_y)) {
        return MZ_OK;
    }
    const mz_combine_gradient d = {.expert_out = mz_tape_gradient(s, &a->expert_out),
                                   .gate_weights = mz_tape_gradient(s, &weights),
                                   .shared_out = mz_tape_gradient(s, &a->shared_out),
                                   .shared_logit = mz_tape_gradient(s, &a->shared_logit)};
    const bool shared = present(&a->shared_out);
    const bool gated = present(&a->shared_logit);
    const double start = begin(s);
    return end(s, MZ_OP_COMBINE_BACKWARD, start, 4.0 * (double)mz_tensor_n_elements(&a->expert_out),
               ops->combine_backward(s, &d, &d_y, &a->expert_out, &a->routing,
                                     shared ? &a->shared_out : NULL,
                                     gated ? &a->shared_logit : NULL));
}

mz_status mz_record_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                            const mz_routing *routing, const mz_tensor *shared_out,
                            const mz_tensor *shared_logit) {
    const mz_tensor weights = gate_weights_of(routing);
    const mz_tensor *inputs[] = {expert_out, &weights, shared_out, shared_logit};
    if (!mz_tape_needs(s, inputs, 4)) {
        return MZ_OK;
    }
    combine_args args = {.y = *y, .expert_out = *expert_out, .routing = *routing};
    if (shared_out != NULL) {
        args.shared_out = *shared_out;
    }
    if (shared_logit != NULL) {
        args.shared_logit = *shared_logit;
    }
    return mz_tape_record(s, combine_backward, &args, sizeof args, &y, 1);
}
