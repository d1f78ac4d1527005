/* Reading the configs of language models: fields, what stands for absent ones, and both places that
 * publishers keep rotations in. */
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/text_families.h"
#include "apps/zoo/zoo.h"

#define SIZES                                                                                      \
    "\"vocab_size\": 97, \"hidden_size\": 32, \"num_hidden_layers\": 6, "                          \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 48, "          \
    "\"max_position_embeddings\": 512"
#define EXPERTS                                                                                    \
    ", \"num_experts\": 8, \"num_local_experts\": 8, \"n_routed_experts\": 8, "                    \
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 24, "                                  \
    "\"shared_expert_intermediate_size\": 40"
#define LATENT                                                                                     \
    ", \"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 8, \"v_head_dim\": 12, \"kv_lora_rank\": "  \
    "16"

/* The family's config with these fields besides the sizes. */
static void read_config(mz_context *ctx, const char *model_type, const char *fields,
                        mz_text_config *out) {
    char text[2048];
    json_t *config = NULL;
    const mz_family *family = NULL;
    const int n =
        snprintf(text, sizeof text, "{\"model_type\": \"%s\", " SIZES "%s}", model_type, fields);
    assert_true(n > 0 && n < (int)sizeof text);
    mz_assert_ok(ctx, mz_json_parse(ctx, text, strlen(text), "config", &config));
    mz_assert_ok(ctx, mz_zoo_find_family(ctx, "config", config, &family));
    mz_assert_ok(ctx, family->read_text(&(mz_json_object){ctx, config, "config"}, out));
    json_decref(config);
}

/* ---- single fields ---- */

static void heads_of_a_fixed_width(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *family, *fields;
        int64_t head_dim;
    } cases[] = {{"llama", "", 8},
                 {"llama", ", \"head_dim\": 24", 24},
                 {"qwen3", "", 128},
                 {"qwen3", ", \"head_dim\": 16", 16},
                 {"qwen3_moe", EXPERTS, 128},
                 {"gemma3_text", "", 256},
                 {"gemma3_text", ", \"head_dim\": 64", 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_text_config c;
        read_config(ctx, cases[i].family, cases[i].fields, &c);
        assert_int_equal(c.head_dim, cases[i].head_dim);
        assert_int_equal(c.head_dim_v, cases[i].head_dim);
        for (int r = 0; r < c.n_ropes; r++) {
            assert_int_equal(c.ropes[r].head_dim, cases[i].head_dim);
            assert_int_equal(c.ropes[r].n_dims, cases[i].head_dim);
        }
    }
}

static void rotated_shares(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *family, *fields;
        int64_t n_dims;
    } cases[] = {{"phi", "", 4},
                 {"phi", ", \"partial_rotary_factor\": 0.75", 6},
                 {"stablelm", "", 2},
                 {"stablelm", ", \"partial_rotary_factor\": 1", 8},
                 {"stablelm", ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_text_config c;
        read_config(ctx, cases[i].family, cases[i].fields, &c);
        assert_int_equal(c.ropes[0].n_dims, cases[i].n_dims);
        assert_int_equal(c.ropes[0].head_dim, 8);
    }
}

static void weights_of_experts(void **state) {
    mz_context *ctx = *state;
    static const char *const families[] = {"olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2"};
    mz_text_config c;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        read_config(ctx, families[i], EXPERTS LATENT, &c);
        assert_false(c.router.renormalise);
        read_config(ctx, families[i], EXPERTS LATENT ", \"norm_topk_prob\": true", &c);
        assert_true(c.router.renormalise);
    }
    read_config(ctx, "mixtral", EXPERTS, &c);
    assert_true(c.router.renormalise);
    /* The authors scale weights only where they do not renormalise them. */
    read_config(ctx, "deepseek_v2", EXPERTS LATENT ", \"routed_scaling_factor\": 16", &c);
    assert_true(c.router.scale == 16);
    read_config(ctx, "deepseek_v2",
                EXPERTS LATENT ", \"routed_scaling_factor\": 16, \"norm_topk_prob\": true", &c);
    assert_true(c.router.scale == 1);
    read_config(ctx, "deepseek_v2", EXPERTS LATENT ", \"n_shared_experts\": 3", &c);
    assert_int_equal(c.shared_width, 3 * 24);
    assert_false(c.has_shared_gate);
}

/* Which layers have experts, or a window, as a text of 1 and 0. */
static void layers_are_chosen(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *family, *fields, *experts, *windows;
    } cases[] = {
        {"llama", "", "000000", "000000"},
        {"mistral", ", \"sliding_window\": 64", "000000", "111111"},
        {"mistral", ", \"sliding_window\": null", "000000", "000000"},
        {"qwen2", ", \"sliding_window\": 64", "000000", "000000"},
        {"qwen2", ", \"sliding_window\": 64, \"use_sliding_window\": true", "000000", "111111"},
        {"qwen2",
         ", \"sliding_window\": 64, \"use_sliding_window\": true, \"max_window_layers\": 4",
         "000000", "000011"},
        {"gemma3_text", "", "000000", "111110"},
        {"gemma3_text", ", \"sliding_window_pattern\": 2", "000000", "101010"},
        {"qwen2_moe", EXPERTS ", \"decoder_sparse_step\": 2", "010101", "000000"},
        {"qwen2_moe", EXPERTS ", \"mlp_only_layers\": [0, 5, 9]", "011110", "000000"},
        {"deepseek_v2", EXPERTS LATENT ", \"first_k_dense_replace\": 1", "011111", "000000"},
        {"deepseek_v2", EXPERTS LATENT ", \"first_k_dense_replace\": 1, \"moe_layer_freq\": 2",
         "001010", "000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_text_config c;
        char experts[7] = "";
        char windows[7] = "";
        read_config(ctx, cases[i].family, cases[i].fields, &c);
        for (int l = 0; l < 6; l++) {
            experts[l] = c.layers[l].has_experts ? '1' : '0';
            windows[l] = c.layers[l].is_windowed ? '1' : '0';
            assert_int_equal(c.layers[l].rope, c.n_ropes > 1 && c.layers[l].is_windowed);
        }
        assert_string_equal(experts, cases[i].experts);
        assert_string_equal(windows, cases[i].windows);
    }
}

static void end_tokens_are_listed(void **state) {
    mz_context *ctx = *state;
    mz_text_config c;
    read_config(ctx, "llama", ", \"eos_token_id\": 2", &c);
    assert_int_equal(c.n_end_tokens, 1);
    assert_int_equal(c.end_tokens[0], 2);
    read_config(ctx, "llama", ", \"eos_token_id\": [3, 96, 97, -1]", &c);
    assert_int_equal(c.n_end_tokens, 2);
    assert_int_equal(c.end_tokens[1], 96);
    read_config(ctx, "llama", ", \"eos_token_id\": null", &c);
    assert_int_equal(c.n_end_tokens, 0);
}

/* ---- rotations ---- */

/* What transformers 5 writes says the same as the older fields. */
static void rotations_in_both_places(void **state) {
    mz_context *ctx = *state;
    static const char *const cases[][3] = {
        {"llama", ", \"rope_theta\": 5e5", ", \"rope_parameters\": {\"rope_theta\": 5e5}"},
        {"llama", ", \"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}",
         ", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4, \"rope_theta\": 5e5}"},
        {"llama",
         ", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
         "\"original_max_position_embeddings\": 128}",
         ", \"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"rope_theta\": 5e5, "
         "\"original_max_position_embeddings\": 128}"},
        {"gemma3_text",
         ", \"rope_theta\": 1e6, \"rope_local_base_freq\": 2e4, "
         "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}",
         ", \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8, "
         "\"rope_theta\": 1e6}, \"sliding_attention\": {\"rope_type\": \"default\", "
         "\"rope_theta\": 2e4}}"},
        {"deepseek_v2",
         EXPERTS LATENT ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, "
                        "\"mscale\": 0.7, \"mscale_all_dim\": 0.7}",
         EXPERTS LATENT ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 40, "
                        "\"mscale\": 0.7, \"mscale_all_dim\": 0.7}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mz_text_config older;
        mz_text_config newer;
        mz_text_config plain;
        read_config(ctx, cases[i][0], cases[i][1], &older);
        read_config(ctx, cases[i][0], cases[i][2], &newer);
        read_config(ctx, cases[i][0], EXPERTS LATENT, &plain);
        assert_true(older.score_scale == newer.score_scale);
        bool differs = false;
        for (int r = 0; r < older.n_ropes; r++) {
            for (int64_t k = 0; k < older.ropes[r].n_dims / 2; k++) {
                const double frequency = mz_rope_frequency(&older.ropes[r], k);
                assert_true(frequency == mz_rope_frequency(&newer.ropes[r], k));
                differs = differs || frequency != mz_rope_frequency(&plain.ropes[r], k);
            }
            assert_true(older.ropes[r].attention_factor == newer.ropes[r].attention_factor);
        }
        assert_true(differs);
    }
}

/* YaRN with a scale of its own, and DeepSeek's, which goes into the scores instead. */
static void yarn_scales(void **state) {
    mz_context *ctx = *state;
    mz_text_config c;
    read_config(ctx, "llama", ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}", &c);
    assert_true(fabs(c.ropes[0].attention_factor - (0.1 * log(4) + 1)) < 1e-12);
    read_config(ctx, "llama",
                ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
                "\"attention_factor\": 1.5}",
                &c);
    assert_true(c.ropes[0].attention_factor == 1.5);
    read_config(ctx, "deepseek_v2",
                EXPERTS LATENT ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, "
                               "\"mscale\": 0.7, \"mscale_all_dim\": 0.7}",
                &c);
    const double mscale = 0.07 * log(40) + 1;
    assert_true(c.ropes[0].attention_factor == 1);
    assert_true(fabs(c.score_scale - mscale * mscale / sqrt(24)) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_of_a_fixed_width),
        cmocka_unit_test(rotated_shares),
        cmocka_unit_test(weights_of_experts),
        cmocka_unit_test(layers_are_chosen),
        cmocka_unit_test(end_tokens_are_listed),
        cmocka_unit_test(rotations_in_both_places),
        cmocka_unit_test(yarn_scales),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
