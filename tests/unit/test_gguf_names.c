/* Tensor names of published checkpoints and of GGUF files, both ways. */
#include <stdio.h>
#include <string.h>

#include "apps/zoo/gguf_map.h"
#include "tests/testing.h"

typedef struct name_case {
    const char *architecture;
    const char *published;
    const char *file;
    int64_t slice;
} name_case;

static const name_case cases[] = {
    {"llama", "model.embed_tokens.weight", "token_embd.weight", -1},
    {"llama", "model.norm.weight", "output_norm.weight", -1},
    {"llama", "lm_head.weight", "output.weight", -1},
    {"llama", "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight", -1},
    {"llama", "model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias", -1},
    {"llama", "model.layers.12.self_attn.o_proj.weight", "blk.12.attn_output.weight", -1},
    {"llama", "model.layers.1.input_layernorm.weight", "blk.1.attn_norm.weight", -1},
    {"llama", "model.layers.1.post_attention_layernorm.weight", "blk.1.ffn_norm.weight", -1},
    {"llama", "model.layers.1.mlp.gate_proj.weight", "blk.1.ffn_gate.weight", -1},
    {"llama", "model.layers.1.block_sparse_moe.gate.weight", "blk.1.ffn_gate_inp.weight", -1},
    {"llama", "model.layers.1.block_sparse_moe.experts.0.w1.weight", "blk.1.ffn_gate_exps.weight",
     0},
    {"llama", "model.layers.1.block_sparse_moe.experts.7.w3.weight", "blk.1.ffn_up_exps.weight", 7},
    {"llama", "model.layers.1.block_sparse_moe.experts.12.w2.weight", "blk.1.ffn_down_exps.weight",
     12},
    {"qwen2moe", "model.layers.0.mlp.experts.5.gate_proj.weight", "blk.0.ffn_gate_exps.weight", 5},
    {"qwen2moe", "model.layers.0.mlp.shared_expert_gate.weight", "blk.0.ffn_gate_inp_shexp.weight",
     -1},
    {"qwen2moe", "model.layers.0.mlp.shared_expert.up_proj.weight", "blk.0.ffn_up_shexp.weight",
     -1},
    {"qwen3moe", "model.layers.9.mlp.gate.weight", "blk.9.ffn_gate_inp.weight", -1},
    {"qwen3", "model.layers.9.self_attn.q_norm.weight", "blk.9.attn_q_norm.weight", -1},
    {"olmoe", "model.layers.9.self_attn.k_norm.weight", "blk.9.attn_k_norm.weight", -1},
    {"stablelm", "model.layers.9.self_attn.q_layernorm.norms.31.weight", "blk.9.attn_q_norm.weight",
     31},
    {"phi2", "model.final_layernorm.bias", "output_norm.bias", -1},
    {"phi2", "model.layers.2.mlp.fc1.bias", "blk.2.ffn_up.bias", -1},
    {"phi2", "model.layers.2.self_attn.dense.weight", "blk.2.attn_output.weight", -1},
    {"gemma3", "model.layers.2.post_attention_layernorm.weight", "blk.2.post_attention_norm.weight",
     -1},
    {"gemma3", "model.layers.2.pre_feedforward_layernorm.weight", "blk.2.ffn_norm.weight", -1},
    {"gemma3", "model.layers.2.post_feedforward_layernorm.weight", "blk.2.post_ffw_norm.weight",
     -1},
    {"deepseek2", "model.layers.2.self_attn.kv_a_proj_with_mqa.weight",
     "blk.2.attn_kv_a_mqa.weight", -1},
    {"deepseek2", "model.layers.2.mlp.shared_experts.down_proj.weight",
     "blk.2.ffn_down_shexp.weight", -1},
};

static void names_both_ways(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const name_case *c = &cases[i];
        mz_gguf_place place = {0};
        char name[MZ_GGUF_NAME_BYTES];
        assert_true(mz_gguf_tensor_place(c->architecture, c->published, &place));
        assert_string_equal(place.name, c->file);
        assert_int_equal(place.slice, c->slice);
        assert_true(mz_gguf_tensor_name(c->architecture, c->published, name));
        assert_string_equal(name, c->file);
        assert_true(mz_gguf_published_name(c->architecture, c->file, c->slice, name));
        assert_string_equal(name, c->published);
        assert_int_equal(mz_gguf_is_stack(c->architecture, c->file), c->slice >= 0);
    }
}

static void other_names_have_no_counterpart(void **state) {
    static const char *const bad[] = {
        "model.layers.3.self_attn.q_proj",
        "model.layers.3.self_attn.q_proj.weights",
        "model.layers.03.self_attn.q_proj.weight",
        "model.layers..self_attn.q_proj.weight",
        "model.layers.99999999999999999999.self_attn.q_proj.weight",
        "model.layers.1.mlp.experts.0.gate_proj.weight", /* llama has others */
        "model.layers.1.block_sparse_moe.experts.x.w1.weight",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
        "model.embed_tokens.weightx",
        "",
    };
    char name[MZ_GGUF_NAME_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mz_gguf_tensor_name("llama", bad[i], name));
    }
    assert_false(mz_gguf_tensor_name("nothing", "model.norm.weight", name));
    assert_false(mz_gguf_published_name("llama", "rope_freqs.weight", -1, name));
    assert_false(mz_gguf_published_name("llama", "blk.0.ffn_gate_exps.weight", -1, name));
    assert_false(mz_gguf_published_name("llama", "blk.0.ffn_gate.weight", 1, name));
    assert_false(mz_gguf_published_name("llama", "blk.0.attn_qkv.weight", -1, name));
    assert_false(mz_gguf_is_stack("llama", "blk.0.ffn_gate.3.weight"));
}

static void older_and_fused_tensors(void **state) {
    static const char expert[] = "model.layers.0.block_sparse_moe.experts.3.w2.weight";
    char name[MZ_GGUF_NAME_BYTES];
    int part = -1;
    (void)state;
    assert_true(mz_gguf_expert_name("llama", expert, name));
    assert_string_equal(name, "blk.0.ffn_down.3.weight");
    assert_true(mz_gguf_published_name("llama", name, -1, name));
    assert_string_equal(name, expert);
    assert_false(mz_gguf_expert_name("llama", "model.layers.0.mlp.up_proj.weight", name));
    assert_true(mz_gguf_fused_name("model.layers.7.self_attn.v_proj.bias", name, &part));
    assert_string_equal(name, "blk.7.attn_qkv.bias");
    assert_int_equal(part, 2);
    assert_false(mz_gguf_fused_name("model.layers.7.self_attn.o_proj.bias", name, &part));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_both_ways),
        cmocka_unit_test(other_names_have_no_counterpart),
        cmocka_unit_test(older_and_fused_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
