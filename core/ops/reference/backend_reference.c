#include "core/backend.h"
#include "core/ops/host_memory.h"
#include "core/ops/reference/reference_ops.h"

static const mz_training_ops training = {
    .linear_backward = mz_ref_linear_backward,
    .norm_backward = mz_ref_norm_backward,
    .rope_backward = mz_ref_rope_backward,
    .softmax_backward = mz_ref_softmax_backward,
    .gated_activation_backward = mz_ref_gated_activation_backward,
    .accumulate = mz_ref_accumulate,
    .gather_rows_backward = mz_ref_gather_rows_backward,
    .self_attention = mz_ref_self_attention,
    .self_attention_backward = mz_ref_self_attention_backward,
    .route_backward = mz_ref_route_backward,
    .grouped_linear_backward = mz_ref_grouped_linear_backward,
    .combine_backward = mz_ref_combine_backward,
    .mask_logits_backward = mz_ref_mask_logits_backward,
    .plain_experts_backward = mz_ref_plain_experts_backward,
};

static const mz_backend reference = {
    .name = "reference",
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
    .linear = mz_ref_linear,
    .norm = mz_ref_norm,
    .rope = mz_ref_rope,
    .softmax = mz_ref_softmax,
    .gated_activation = mz_ref_gated_activation,
    .add = mz_ref_add,
    .gather_rows = mz_ref_gather_rows,
    .kv_write = mz_ref_kv_write,
    .attention = mz_ref_attention,
    .kv_rotate = mz_ref_kv_rotate,
    .route = mz_ref_route,
    .dispatch = mz_ref_dispatch,
    .grouped_linear = mz_ref_grouped_linear,
    .combine = mz_ref_combine,
    .mask_logits = mz_ref_mask_logits,
    .plain_experts = mz_ref_plain_experts,
    .training = &training,
};

const mz_backend *mz_backend_reference(void) {
    return &reference;
}
