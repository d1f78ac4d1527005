#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "apps/zoo/gguf_map_internal.h"

enum {
    ROUTED = MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE | MZ_GGUF_OLMOE,
    OWN_WIDTH = MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE | MZ_GGUF_DEEPSEEK2,
    LAYER_NORM = MZ_GGUF_STABLELM | MZ_GGUF_PHI2,
    LATENT = MZ_GGUF_DEEPSEEK2,
};

static const mz_gguf_field fields[] = {
    {MZ_GGUF_ALL, "block_count", "num_hidden_layers", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL, "context_length", "max_position_embeddings", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL, "embedding_length", "hidden_size", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL, "feed_forward_length", "intermediate_size", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL, "attention.head_count", "num_attention_heads", MZ_GGUF_FIELD_INT,
     MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL & ~LATENT, "attention.head_count_kv", "num_key_value_heads", MZ_GGUF_FIELD_INT,
     MZ_GGUF_OPTIONAL},
    {MZ_GGUF_ALL & ~LATENT, "attention.key_length", "head_dim", MZ_GGUF_FIELD_INT,
     MZ_GGUF_OPTIONAL},
    {MZ_GGUF_ALL & ~LAYER_NORM, "attention.layer_norm_rms_epsilon", "rms_norm_eps",
     MZ_GGUF_FIELD_NUMBER, MZ_GGUF_REQUIRED},
    {LAYER_NORM, "attention.layer_norm_epsilon", "layer_norm_eps", MZ_GGUF_FIELD_NUMBER,
     MZ_GGUF_REQUIRED},
    {MZ_GGUF_ALL, "rope.freq_base", "rope_theta", MZ_GGUF_FIELD_NUMBER, MZ_GGUF_OPTIONAL},
    {MZ_GGUF_GEMMA3, "rope.freq_base_swa", "rope_local_base_freq", MZ_GGUF_FIELD_NUMBER,
     MZ_GGUF_OPTIONAL},
    {MZ_GGUF_LLAMA | MZ_GGUF_GEMMA3, "attention.sliding_window", "sliding_window",
     MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {MZ_GGUF_LLAMA, "expert_count", "num_local_experts", MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {ROUTED, "expert_count", "num_experts", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {LATENT, "expert_count", "n_routed_experts", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {MZ_GGUF_LLAMA, "expert_used_count", "num_experts_per_tok", MZ_GGUF_FIELD_INT,
     MZ_GGUF_OPTIONAL},
    {ROUTED | LATENT, "expert_used_count", "num_experts_per_tok", MZ_GGUF_FIELD_INT,
     MZ_GGUF_REQUIRED},
    {OWN_WIDTH, "expert_feed_forward_length", "moe_intermediate_size", MZ_GGUF_FIELD_INT,
     MZ_GGUF_OPTIONAL},
    {MZ_GGUF_QWEN2MOE, "expert_shared_feed_forward_length", "shared_expert_intermediate_size",
     MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {MZ_GGUF_OLMOE, "attention.clamp_kqv", "clip_qkv", MZ_GGUF_FIELD_NUMBER, MZ_GGUF_OPTIONAL},
    {MZ_GGUF_GEMMA3, "final_logit_softcapping", "final_logit_softcapping", MZ_GGUF_FIELD_NUMBER,
     MZ_GGUF_OPTIONAL},
    {LATENT, "attention.q_lora_rank", "q_lora_rank", MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {LATENT, "attention.kv_lora_rank", "kv_lora_rank", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {LATENT, "rope.dimension_count", "qk_rope_head_dim", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {LATENT, "attention.value_length", "v_head_dim", MZ_GGUF_FIELD_INT, MZ_GGUF_REQUIRED},
    {LATENT, "leading_dense_block_count", "first_k_dense_replace", MZ_GGUF_FIELD_INT,
     MZ_GGUF_OPTIONAL},
    {LATENT, "expert_shared_count", "n_shared_experts", MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {LATENT, "expert_weights_scale", "routed_scaling_factor", MZ_GGUF_FIELD_NUMBER,
     MZ_GGUF_OPTIONAL},
    {LATENT, "expert_group_count", "n_group", MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
    {LATENT, "expert_group_used_count", "topk_group", MZ_GGUF_FIELD_INT, MZ_GGUF_OPTIONAL},
};

const mz_gguf_field *mz_gguf_field_at(int i) {
    return i < (int)(sizeof fields / sizeof fields[0]) ? &fields[i] : NULL;
}

double mz_gguf_short_number(float x) {
    for (int digits = 1; digits <= 9; digits++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)x);
        const double value = strtod(text, NULL);
        if ((float)value == x) {
            return value;
        }
    }
    return (double)x;
}

void mz_llama3_divisors(const mz_llama3_scaling *s, double theta, int64_t n, float *out) {
    const double pi = 3.14159265358979323846;
    for (int64_t i = 0; i < n; i++) {
        const double frequency = pow(theta, -(double)i / (double)n);
        const double turns = s->original * frequency / (2 * pi); /* in the original context */
        if (turns > s->high) {
            out[i] = 1;
        } else if (turns < s->low) {
            out[i] = (float)s->factor;
        } else {
            const double smooth = (turns - s->low) / (s->high - s->low);
            out[i] = (float)(1 / ((1 - smooth) / s->factor + smooth));
        }
    }
}
