/* DeepSeek-V2 (DeepSeek-AI 2024): latent attention, dense layers first, then fine experts chosen
 * from the best groups, and shared ones that act as one. */
#include "apps/zoo/text_families.h"

#include <math.h>
#include <string.h>

/* Sizes of latent attention, and the scale of its scores. */
static mz_status read_attention(const mz_json_object *o, mz_text_config *c) {
    int64_t own = 0;
    MZ_TRY(mz_json_int(o, "qk_nope_head_dim", 1, MZ_MAX_TEXT_WIDTH, &own));
    MZ_TRY(mz_json_int(o, "qk_rope_head_dim", 2, MZ_MAX_TEXT_WIDTH, &c->rope_dim));
    MZ_TRY(mz_json_int(o, "v_head_dim", 1, MZ_MAX_TEXT_WIDTH, &c->head_dim_v));
    MZ_TRY(mz_json_int_or(o, "q_lora_rank", 0, 0, MZ_MAX_TEXT_WIDTH, &c->q_rank));
    MZ_TRY(mz_json_int(o, "kv_lora_rank", 1, MZ_MAX_TEXT_WIDTH, &c->kv_rank));
    MZ_TRY(mz_json_bool_or(o, "attention_bias", false, &c->qkv_bias));
    c->o_bias = c->qkv_bias;
    c->is_latent = true;
    c->head_dim = own + c->rope_dim;
    c->n_kv_heads = c->n_heads; /* each has its own key and value, once they are expanded */
    c->ropes[0].n_dims = c->rope_dim;
    c->ropes[0].head_dim = c->head_dim;
    c->ropes[0].first = own;
    c->ropes[0].interleaved = true;
    c->score_scale = 1 / sqrt((double)c->head_dim);
    if (c->ropes[0].scaling == MZ_ROPE_YARN) {
        double all_dim = 0;
        mz_json_object scaling;
        MZ_TRY(mz_text_read_rope_parameters(o, "full_attention", &scaling));
        if (scaling.object == NULL) {
            scaling.object = json_object_get(o->object, "rope_scaling");
        }
        MZ_TRY(mz_json_number_or(&scaling, "mscale_all_dim", 0, 0, 1e3, &all_dim));
        const double mscale = 0.1 * all_dim * log(fmax(c->ropes[0].factor, 1)) + 1;
        c->score_scale *= mscale * mscale;
    }
    return MZ_OK;
}

static mz_status read_groups(const mz_json_object *o, mz_text_config *c) {
    const char *method = NULL;
    const char *scores = NULL;
    int64_t n_groups = 0;
    int64_t n_best = 0;
    MZ_TRY(mz_json_string_or(o, "topk_method", "greedy", &method));
    MZ_TRY(mz_json_string_or(o, "scoring_func", "softmax", &scores));
    if (strcmp(scores, "softmax") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: scoring_func is \"%.64s\", only \"softmax\" is known", o->name, scores);
    }
    if (strcmp(method, "greedy") == 0) {
        return MZ_OK;
    }
    if (strcmp(method, "group_limited_greedy") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: topk_method is \"%.64s\", known are: greedy, group_limited_greedy",
                       o->name, method);
    }
    MZ_TRY(mz_json_int(o, "n_group", 1, MZ_MAX_EXPERTS, &n_groups));
    MZ_TRY(mz_json_int(o, "topk_group", 1, MZ_MAX_EXPERTS, &n_best));
    c->router.n_groups = (int32_t)n_groups;
    c->router.n_top_groups = (int32_t)n_best;
    return MZ_OK;
}

static mz_status read_experts(const mz_json_object *o, mz_text_config *c) {
    int64_t first = 0;
    int64_t n_shared = 0;
    int64_t step = 1;
    double scale = 1;
    MZ_TRY(mz_text_read_experts(o, "n_routed_experts", c));
    MZ_TRY(mz_json_int_or(o, "first_k_dense_replace", 0, 0, MZ_MAX_TEXT_LAYERS, &first));
    MZ_TRY(mz_json_int_or(o, "moe_layer_freq", 1, 1, MZ_MAX_TEXT_LAYERS, &step));
    MZ_TRY(mz_json_int(o, "moe_intermediate_size", 1, MZ_MAX_TEXT_FFN_WIDTH, &c->expert_width));
    MZ_TRY(mz_json_int_or(o, "n_shared_experts", 0, 0, MZ_MAX_EXPERTS, &n_shared));
    MZ_TRY(mz_json_bool_or(o, "norm_topk_prob", false, &c->router.renormalise));
    MZ_TRY(mz_json_number_or(o, "routed_scaling_factor", 1, 1e-6, 1e6, &scale));
    c->router.scale = c->router.renormalise ? 1 : (float)scale; /* as the authors' code */
    c->shared_width = n_shared * c->expert_width;
    for (int64_t l = 0; l < c->n_layers; l++) {
        c->layers[l].has_experts = c->layers[l].has_experts && l >= first && l % step == 0;
    }
    return read_groups(o, c);
}

mz_status mz_deepseek_v2_config(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_text_read_common(o, c));
    MZ_TRY(read_attention(o, c));
    MZ_TRY(read_experts(o, c));
    c->names.shared = "mlp.shared_experts";
    return mz_text_check(o, c);
}
