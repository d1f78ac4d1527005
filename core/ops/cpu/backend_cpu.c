#include "core/backend.h"
#include "core/ops/cpu/cpu_linear.h"
#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/cpu_rows_backward.h"
#include "core/ops/cpu/cpu_self_attention.h"
#include "core/ops/host_memory.h"
#include "core/threads.h"

static size_t scratch_bytes(const mz_stream *s, mz_op_id op, const mz_op_size *size) {
    if (op == MZ_OP_ATTENTION) {
        return mz_cpu_attention_scratch(mz_pool_n_threads(s->ctx->pool), size->n_rows,
                                        size->head_dim);
    }
    if (op == MZ_OP_NORM_BACKWARD) {
        return mz_cpu_norm_backward_scratch(size->n_rows, size->d_out);
    }
    if (op == MZ_OP_SELF_ATTENTION || op == MZ_OP_SELF_ATTENTION_BACKWARD) {
        return mz_cpu_self_attention_scratch(s, op, size);
    }
    return mz_cpu_linear_scratch(s, op, size);
}

static const mz_training_ops training = {
    .linear_backward = mz_cpu_linear_backward,
    .norm_backward = mz_cpu_norm_backward,
    .rope_backward = mz_cpu_rope_backward,
    .softmax_backward = mz_cpu_softmax_backward,
    .gated_activation_backward = mz_cpu_gated_activation_backward,
    .accumulate = mz_cpu_accumulate,
    .gather_rows_backward = mz_cpu_gather_rows_backward,
    .self_attention = mz_cpu_self_attention,
    .self_attention_backward = mz_cpu_self_attention_backward,
    .route_backward = mz_cpu_route_backward,
    .grouped_linear_backward = mz_cpu_grouped_linear_backward,
    .combine_backward = mz_cpu_combine_backward,
    .mask_logits_backward = mz_cpu_mask_logits_backward,
    .plain_experts_backward = mz_cpu_plain_experts_backward,
};

static const mz_backend cpu = {
    .name = "cpu",
    .abi_version = MZ_BACKEND_ABI,
    .host_memory = true,
    .open = mz_host_open,
    .close = mz_host_close,
    .buffer_alloc = mz_host_buffer_alloc,
    .buffer_free = mz_host_buffer_free,
    .upload = mz_host_copy,
    .download = mz_host_copy,
    .copy = mz_host_copy,
    .synchronize = mz_host_synchronize,
    .scratch_bytes = scratch_bytes,
    .linear = mz_cpu_linear,
    .norm = mz_cpu_norm,
    .rope = mz_cpu_rope,
    .softmax = mz_cpu_softmax,
    .gated_activation = mz_cpu_gated_activation,
    .add = mz_cpu_add,
    .gather_rows = mz_cpu_gather_rows,
    .kv_write = mz_cpu_kv_write,
    .attention = mz_cpu_attention,
    .kv_rotate = mz_cpu_kv_rotate,
    .route = mz_cpu_route,
    .dispatch = mz_cpu_dispatch,
    .grouped_linear = mz_cpu_grouped_linear,
    .combine = mz_cpu_combine,
    .linears = mz_cpu_linears,
    .ffn = mz_cpu_ffn,
    .moe = mz_cpu_moe,
    .mask_logits = mz_cpu_mask_logits,
    .plain_experts = mz_cpu_plain_experts,
    .training = &training,
};

const mz_backend *mz_backend_cpu(void) {
    return &cpu;
}
