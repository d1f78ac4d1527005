/* OLMoE (Muennighoff et al. 2024): experts in every layer, norms of queries and keys over the whole
 * projection. */
#include "apps/zoo/text_families.h"

mz_status mz_olmoe_config(const mz_json_object *o, mz_text_config *c) {
    const json_t *clip = json_object_get(o->object, "clip_qkv");
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(mz_text_read_experts(o, "num_experts", c));
    MZ_TRY(mz_json_bool_or(o, "attention_bias", false, &c->qkv_bias));
    MZ_TRY(mz_json_bool_or(o, "norm_topk_prob", false, &c->router.renormalise));
    if (clip != NULL && !json_is_null(clip)) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: clip_qkv is set, which is not known", o->name);
    }
    c->o_bias = c->qkv_bias;
    c->qk_norm = MZ_QK_NORM_WHOLE;
    c->expert_width = c->d_ff;
    return mz_text_check(o, c);
}
