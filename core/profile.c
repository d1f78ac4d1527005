#include "core/profile.h"

#include <time.h>

static const char *const names[MZ_OP_COUNT] = {
    "linear",
    "norm",
    "rope",
    "softmax",
    "gated_activation",
    "add",
    "gather_rows",
    "kv_write",
    "attention",
    "mask_logits",
    "kv_rotate",
    "route",
    "dispatch",
    "grouped_linear",
    "plain_experts",
    "combine",
    "ffn",
    "moe",
    "self_attention",
    "linear_backward",
    "norm_backward",
    "rope_backward",
    "softmax_backward",
    "gated_activation_backward",
    "accumulate",
    "gather_rows_backward",
    "self_attention_backward",
    "mask_logits_backward",
    "route_backward",
    "grouped_linear_backward",
    "plain_experts_backward",
    "combine_backward",
};

const char *mz_op_name(mz_op_id op) {
    return names[op];
}

double mz_now_s(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
