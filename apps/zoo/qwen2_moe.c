/* Qwen1.5-MoE and Qwen2-MoE (Qwen team 2024): Qwen2 with routed experts and a shared one behind a
 * sigmoid gate. */
#include "apps/zoo/text_families.h"

mz_status mz_qwen2_moe_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_window(o, true, c));
    MZ_TRY(mz_text_read_experts(o, "num_experts", c));
    MZ_TRY(mz_json_bool_or(o, "qkv_bias", true, &c->qkv_bias));
    MZ_TRY(mz_json_bool_or(o, "norm_topk_prob", false, &c->router.renormalise));
    MZ_TRY(mz_json_int(o, "moe_intermediate_size", 1, MZ_MAX_TEXT_FFN_WIDTH, &c->expert_width));
    MZ_TRY(mz_json_int(o, "shared_expert_intermediate_size", 1, MZ_MAX_TEXT_FFN_WIDTH,
                       &c->shared_width));
    c->has_shared_gate = true;
    return mz_text_check(o, c);
}
