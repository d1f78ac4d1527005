/* Mixtral (Jiang et al. 2024): Mistral with experts in every layer, their weights renormalised. */
#include "apps/zoo/text_families.h"

mz_status mz_mixtral_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_window(o, false, c));
    MZ_TRY(mz_text_read_experts(o, "num_local_experts", c));
    c->expert_width = c->d_ff;
    c->router.renormalise = true;
    c->names.router = "block_sparse_moe.gate";
    c->names.experts = "block_sparse_moe.experts";
    c->names.expert_gate = "w1";
    c->names.expert_up = "w3";
    c->names.expert_down = "w2";
    return mz_text_check(o, c);
}
