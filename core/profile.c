#include "core/profile.h"

#include <time.h>

static const char *const names[MZ_OP_COUNT] = {
    "linear",
    "rms_norm",
    "rope",
    "softmax",
    "gated_activation",
    "add",
    "gather_rows",
    "kv_write",
    "attention",
    "kv_rotate",
    "route",
    "dispatch",
    "grouped_linear",
    "combine",
    "ffn",
    "moe",
    "self_attention",
    "linear_backward",
    "rms_norm_backward",
    "rope_backward",
    "softmax_backward",
    "gated_activation_backward",
    "accumulate",
    "gather_rows_backward",
    "self_attention_backward",
    "route_backward",
    "grouped_linear_backward",
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
