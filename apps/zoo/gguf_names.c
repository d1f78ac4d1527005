#include <stdio.h>
#include <string.h>

#include "apps/zoo/gguf_map.h"
#include "apps/zoo/gguf_map_internal.h"

static const mz_gguf_architecture architectures[] = {
    {"llama", MZ_GGUF_LLAMA, "llama", "LlamaForCausalLM"},
    {"llama", MZ_GGUF_LLAMA, "mistral", "MistralForCausalLM"},
    {"llama", MZ_GGUF_LLAMA, "mixtral", "MixtralForCausalLM"},
    {"qwen2", MZ_GGUF_QWEN2, "qwen2", "Qwen2ForCausalLM"},
    {"qwen2moe", MZ_GGUF_QWEN2MOE, "qwen2_moe", "Qwen2MoeForCausalLM"},
    {"qwen3", MZ_GGUF_QWEN3, "qwen3", "Qwen3ForCausalLM"},
    {"qwen3moe", MZ_GGUF_QWEN3MOE, "qwen3_moe", "Qwen3MoeForCausalLM"},
    {"olmoe", MZ_GGUF_OLMOE, "olmoe", "OlmoeForCausalLM"},
    {"stablelm", MZ_GGUF_STABLELM, "stablelm", "StableLmForCausalLM"},
    {"phi2", MZ_GGUF_PHI2, "phi", "PhiForCausalLM"},
    {"gemma3", MZ_GGUF_GEMMA3, "gemma3_text", "Gemma3ForCausalLM"},
    {"deepseek2", MZ_GGUF_DEEPSEEK2, "deepseek_v2", "DeepseekV2ForCausalLM"},
};
enum { N_ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

const mz_gguf_architecture *mz_gguf_architecture_find(const char *name) {
    for (int i = 0; i < N_ARCHITECTURES; i++) {
        if (strcmp(architectures[i].name, name) == 0) {
            return &architectures[i];
        }
    }
    return NULL;
}

const mz_gguf_architecture *mz_gguf_architecture_of(const char *model_type) {
    for (int i = 0; i < N_ARCHITECTURES; i++) {
        if (strcmp(architectures[i].model_type, model_type) == 0) {
            return &architectures[i];
        }
    }
    return NULL;
}

const char *mz_gguf_architecture_names(void) {
    return "llama, qwen2, qwen2moe, qwen3, qwen3moe, olmoe, stablelm, phi2, gemma3 or deepseek2";
}

/* A published name and the file's; '#' stands for the number of an expert or a head. A name ends
 * with ".weight" or ".bias" on both sides. */
typedef struct pair {
    unsigned architectures;
    const char *published;
    const char *file;
} pair;

enum {
    EXPERTS = MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE | MZ_GGUF_OLMOE | MZ_GGUF_DEEPSEEK2,
    PLAIN = MZ_GGUF_ALL & ~MZ_GGUF_PHI2,
    TWO_NORMS = PLAIN & ~MZ_GGUF_GEMMA3,
    HEAD_NORMS = MZ_GGUF_QWEN3 | MZ_GGUF_QWEN3MOE | MZ_GGUF_OLMOE | MZ_GGUF_GEMMA3,
};

static const pair outside[] = {
    {MZ_GGUF_ALL, "model.embed_tokens", "token_embd"},
    {MZ_GGUF_ALL, "lm_head", "output"},
    {PLAIN, "model.norm", "output_norm"},
    {MZ_GGUF_PHI2, "model.final_layernorm", "output_norm"},
    {0, NULL, NULL},
};

static const pair inside[] = {
    {MZ_GGUF_ALL, "input_layernorm", "attn_norm"},
    {MZ_GGUF_ALL, "self_attn.q_proj", "attn_q"},
    {MZ_GGUF_ALL, "self_attn.k_proj", "attn_k"},
    {MZ_GGUF_ALL, "self_attn.v_proj", "attn_v"},
    {PLAIN, "self_attn.o_proj", "attn_output"},
    {MZ_GGUF_PHI2, "self_attn.dense", "attn_output"},
    {HEAD_NORMS, "self_attn.q_norm", "attn_q_norm"},
    {HEAD_NORMS, "self_attn.k_norm", "attn_k_norm"},
    {MZ_GGUF_STABLELM, "self_attn.q_layernorm.norms.#", "attn_q_norm"},
    {MZ_GGUF_STABLELM, "self_attn.k_layernorm.norms.#", "attn_k_norm"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.q_a_proj", "attn_q_a"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.q_a_layernorm", "attn_q_a_norm"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.q_b_proj", "attn_q_b"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {MZ_GGUF_DEEPSEEK2, "self_attn.kv_b_proj", "attn_kv_b"},
    {TWO_NORMS, "post_attention_layernorm", "ffn_norm"},
    {MZ_GGUF_GEMMA3, "post_attention_layernorm", "post_attention_norm"},
    {MZ_GGUF_GEMMA3, "pre_feedforward_layernorm", "ffn_norm"},
    {MZ_GGUF_GEMMA3, "post_feedforward_layernorm", "post_ffw_norm"},
    {PLAIN, "mlp.gate_proj", "ffn_gate"},
    {PLAIN, "mlp.up_proj", "ffn_up"},
    {PLAIN, "mlp.down_proj", "ffn_down"},
    {MZ_GGUF_PHI2, "mlp.fc1", "ffn_up"},
    {MZ_GGUF_PHI2, "mlp.fc2", "ffn_down"},
    {EXPERTS, "mlp.gate", "ffn_gate_inp"},
    {EXPERTS, "mlp.experts.#.gate_proj", "ffn_gate_exps"},
    {EXPERTS, "mlp.experts.#.up_proj", "ffn_up_exps"},
    {EXPERTS, "mlp.experts.#.down_proj", "ffn_down_exps"},
    {MZ_GGUF_LLAMA, "block_sparse_moe.gate", "ffn_gate_inp"},
    {MZ_GGUF_LLAMA, "block_sparse_moe.experts.#.w1", "ffn_gate_exps"},
    {MZ_GGUF_LLAMA, "block_sparse_moe.experts.#.w3", "ffn_up_exps"},
    {MZ_GGUF_LLAMA, "block_sparse_moe.experts.#.w2", "ffn_down_exps"},
    {MZ_GGUF_QWEN2MOE, "mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {MZ_GGUF_QWEN2MOE, "mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {MZ_GGUF_QWEN2MOE, "mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {MZ_GGUF_QWEN2MOE, "mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {MZ_GGUF_DEEPSEEK2, "mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {MZ_GGUF_DEEPSEEK2, "mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {MZ_GGUF_DEEPSEEK2, "mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {0, NULL, NULL},
};

/* A number without leading zeros at *text, which moves behind it. */
static bool take_number(const char **text, int64_t *out) {
    const char *p = *text;
    int64_t value = 0;
    if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9')) {
        return false;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (*p - '0');
        if (value > INT32_MAX) {
            return false;
        }
    }
    *text = p;
    *out = value;
    return true;
}

/* "PREFIX12.REST": the 12, and where REST begins. */
static bool take_layer(const char *name, const char *prefix, int64_t *layer, const char **rest) {
    const size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0) {
        return false;
    }
    name += n;
    if (!take_number(&name, layer) || *name != '.') {
        return false;
    }
    *rest = name + 1;
    return true;
}

/* Whether name is pattern + ".weight" or ".bias"; *slice is the number at '#', or stays. */
static bool matches(const char *pattern, const char *name, int64_t *slice, const char **ending) {
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '#') {
            if (!take_number(&name, slice)) {
                return false;
            }
        } else if (*pattern != *name++) {
            return false;
        }
    }
    *ending = name;
    return strcmp(name, ".weight") == 0 || strcmp(name, ".bias") == 0;
}

static bool has_slices(const pair *p) {
    return strchr(p->published, '#') != NULL;
}

/* Text of a pattern with `slice` at '#'. */
static bool fill(char *out, const char *prefix, const char *pattern, int64_t slice,
                 const char *ending) {
    char number[32] = "";
    const size_t n = strcspn(pattern, "#");
    const bool numbered = pattern[n] == '#';
    if (numbered) {
        (void)snprintf(number, sizeof number, "%lld", (long long)slice);
    }
    const int written = snprintf(out, MZ_GGUF_NAME_BYTES, "%s%.*s%s%s%s", prefix, (int)n, pattern,
                                 number, pattern + n + (numbered ? 1 : 0), ending);
    return written > 0 && written < MZ_GGUF_NAME_BYTES;
}

static unsigned bit_of(const char *architecture) {
    const mz_gguf_architecture *a = mz_gguf_architecture_find(architecture);
    return a == NULL ? 0 : a->bit;
}

/* The pair whose published name it is; *prefix becomes what stands before the file's. */
static const pair *find_published(const char *architecture, const char *published, int64_t *slice,
                                  const char **ending, char prefix[64]) {
    const unsigned bit = bit_of(architecture);
    const char *rest = published;
    int64_t layer = 0;
    const bool in_layer = take_layer(published, "model.layers.", &layer, &rest);
    prefix[0] = '\0';
    if (in_layer) {
        (void)snprintf(prefix, 64, "blk.%lld.", (long long)layer);
    }
    for (const pair *p = in_layer ? inside : outside; p->published != NULL; p++) {
        *slice = -1;
        if ((p->architectures & bit) != 0 && matches(p->published, rest, slice, ending)) {
            return p;
        }
    }
    return NULL;
}

bool mz_gguf_tensor_place(const char *architecture, const char *published, mz_gguf_place *out) {
    char prefix[64];
    const char *ending = NULL;
    int64_t slice = -1;
    const pair *p = find_published(architecture, published, &slice, &ending, prefix);
    if (p == NULL || !fill(out->name, prefix, p->file, -1, ending)) {
        return false;
    }
    out->slice = slice;
    return true;
}

bool mz_gguf_tensor_name(const char *architecture, const char *published,
                         char out[MZ_GGUF_NAME_BYTES]) {
    mz_gguf_place place;
    if (!mz_gguf_tensor_place(architecture, published, &place)) {
        return false;
    }
    memcpy(out, place.name, sizeof place.name);
    return true;
}

bool mz_gguf_expert_name(const char *architecture, const char *published,
                         char out[MZ_GGUF_NAME_BYTES]) {
    static const char stacked[] = "_exps";
    char prefix[64];
    char file[64];
    const char *ending = NULL;
    int64_t slice = -1;
    const pair *p = find_published(architecture, published, &slice, &ending, prefix);
    const char *end = p == NULL ? NULL : strstr(p->file, stacked);
    if (end == NULL) {
        return false;
    }
    (void)snprintf(file, sizeof file, "%.*s.#", (int)(end - p->file), p->file);
    return fill(out, prefix, file, slice, ending);
}

bool mz_gguf_fused_name(const char *published, char out[MZ_GGUF_NAME_BYTES], int *part) {
    static const char *const parts[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    int64_t layer = 0;
    const char *rest = NULL;
    if (!take_layer(published, "model.layers.", &layer, &rest)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        const char *ending = NULL;
        int64_t slice = -1;
        if (matches(parts[i], rest, &slice, &ending)) {
            *part = i;
            (void)snprintf(out, MZ_GGUF_NAME_BYTES, "blk.%lld.attn_qkv%s", (long long)layer,
                           ending);
            return true;
        }
    }
    return false;
}

static const pair *find_file(const char *architecture, const char *name, const char **ending,
                             char prefix[64]) {
    const unsigned bit = bit_of(architecture);
    const char *rest = name;
    int64_t layer = 0;
    int64_t ignored = 0;
    const bool in_layer = take_layer(name, "blk.", &layer, &rest);
    prefix[0] = '\0';
    if (in_layer) {
        (void)snprintf(prefix, 64, "model.layers.%lld.", (long long)layer);
    }
    for (const pair *p = in_layer ? inside : outside; p->published != NULL; p++) {
        if ((p->architectures & bit) != 0 && matches(p->file, rest, &ignored, ending)) {
            return p;
        }
    }
    return NULL;
}

/* "blk.0.ffn_gate.5.weight" as the stack's name and 5. */
static bool split_expert(const char *name, char stack[MZ_GGUF_NAME_BYTES], int64_t *expert) {
    static const char *const kinds[] = {"ffn_gate", "ffn_up", "ffn_down"};
    int64_t layer = 0;
    const char *rest = NULL;
    if (!take_layer(name, "blk.", &layer, &rest)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(kinds[i]);
        const char *number = rest + n + 1;
        if (strncmp(rest, kinds[i], n) == 0 && rest[n] == '.' && take_number(&number, expert)) {
            const int written = snprintf(stack, MZ_GGUF_NAME_BYTES, "blk.%lld.%s_exps%s",
                                         (long long)layer, kinds[i], number);
            return written > 0 && written < MZ_GGUF_NAME_BYTES;
        }
    }
    return false;
}

bool mz_gguf_is_single_expert(const char *name) {
    char stack[MZ_GGUF_NAME_BYTES];
    int64_t expert = 0;
    return split_expert(name, stack, &expert);
}

bool mz_gguf_published_name(const char *architecture, const char *name, int64_t slice,
                            char out[MZ_GGUF_NAME_BYTES]) {
    char prefix[64];
    char stack[MZ_GGUF_NAME_BYTES];
    const char *ending = NULL;
    int64_t expert = -1;
    if (slice < 0 && split_expert(name, stack, &expert)) {
        name = stack;
        slice = expert;
    }
    const pair *p = find_file(architecture, name, &ending, prefix);
    if (p == NULL || has_slices(p) != (slice >= 0)) {
        return false;
    }
    return fill(out, prefix, p->published, slice, ending);
}

bool mz_gguf_is_stack(const char *architecture, const char *name) {
    char prefix[64];
    const char *ending = NULL;
    const pair *p = find_file(architecture, name, &ending, prefix);
    return p != NULL && has_slices(p);
}
