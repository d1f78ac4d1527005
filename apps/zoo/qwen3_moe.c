/* Qwen3-MoE (Yang et al. 2025): Qwen3 with routed experts. */
#include "apps/zoo/text_families.h"

mz_status mz_qwen3_moe_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_qwen3_config(o, c));
    MZ_TRY(mz_text_read_experts(o, "num_experts", c));
    MZ_TRY(mz_json_bool_or(o, "norm_topk_prob", false, &c->router.renormalise));
    MZ_TRY(mz_json_int(o, "moe_intermediate_size", 1, MZ_MAX_TEXT_FFN_WIDTH, &c->expert_width));
    return mz_text_check(o, c);
}
