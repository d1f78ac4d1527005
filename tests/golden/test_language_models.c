/* Language models: what the registry says of them, their sessions, GGUF files and bad input. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/zoo/gguf_export.h"
#include "apps/zoo/language_model.h"
#include "core/weights.h"

#define CASES MOEZOO_TESTS_DIR "/golden/llm/"

static const char *const cases[] = {"deepseek_v2-groups",
                                    "deepseek_v2-lite",
                                    "gemma3_text",
                                    "llama",
                                    "llama-bias-linear",
                                    "llama-tied",
                                    "llama3-rope",
                                    "mistral",
                                    "mixtral",
                                    "mistral-headdim",
                                    "olmoe",
                                    "phi",
                                    "qwen2",
                                    "qwen2_moe",
                                    "qwen2_moe-step2",
                                    "qwen3",
                                    "qwen3_moe",
                                    "stablelm",
                                    "stablelm-parallel"};

enum { N_CASES = sizeof cases / sizeof cases[0], N = 150, MAX_VOCABULARY = 160 };

static const char *case_path(const char *name, char out[512]) {
    (void)snprintf(out, 512, "%s%s", CASES, name);
    return out;
}

/* Parameters are what the files hold. */
static void parameters_are_counted(void **state) {
    mz_context *ctx = *state;
    for (int i = 0; i < N_CASES; i++) {
        char path[512];
        mz_model_info info;
        mz_weights *weights = NULL;
        int64_t n = 0;
        mz_assert_ok(ctx, mz_zoo_describe(ctx, case_path(cases[i], path), &info));
        mz_assert_ok(ctx, mz_weights_open(ctx, path, &weights));
        for (int64_t t = 0; t < mz_weights_count(weights); t++) {
            const char *name = NULL;
            mz_tensor tensor;
            mz_assert_ok(ctx, mz_weights_at(weights, t, &name, &tensor));
            n += mz_tensor_n_elements(&tensor);
        }
        mz_weights_close(ctx, weights);
        assert_string_equal(info.job, "ask");
        assert_int_equal(info.n_parameters, n);
        assert_true(info.n_active <= n && (info.n_active < n) == (info.n_experts > 0));
    }
}

/* An answer ends at the config's end tokens and at the tokenizer's, each listed once. */
static void end_tokens_of_both(void **state) {
    mz_context *ctx = *state;
    static const char *const files[] = {"model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    static const char source[] = MOEZOO_TESTS_DIR "/golden/ask-tiny";
    const char *dir = mz_temp_dir_create();
    const mz_load_options options = {0};
    char from[700];
    char to[700];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)snprintf(from, sizeof from, "%s/%s", source, files[i]);
        (void)snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    static const char *const ids[] = {"[7, 5]", "[258, 9]", "null"};
    static const int32_t expected[][3] = {{7, 5, 258}, {258, 9}, {258}};
    for (int i = 0; i < 3; i++) {
        json_t *config = NULL;
        mz_language_model *model = NULL;
        (void)snprintf(from, sizeof from, "%s/config.json", source);
        (void)snprintf(to, sizeof to, "%s/config.json", dir);
        mz_assert_ok(ctx, mz_json_load(ctx, from, &config));
        json_t *value = json_loads(ids[i], JSON_DECODE_ANY, NULL);
        assert_int_equal(json_object_set_new(config, "eos_token_id", value), 0);
        assert_int_equal(json_dump_file(config, to, 0), 0);
        json_decref(config);
        mz_assert_ok(ctx, mz_zoo_load_language_model(ctx, dir, &options, &model));
        const mz_language_model_info *info = mz_language_model_info_of(model);
        assert_int_equal(info->n_end_tokens, 3 - i);
        assert_memory_equal(info->end_tokens, expected[i], (size_t)(3 - i) * sizeof(int32_t));
        mz_language_model_close(model);
    }
    mz_temp_dir_remove(dir);
}

/* ---- sessions ---- */

typedef struct fixture {
    mz_context ctx;
    mz_language_model *model;
    mz_lm_session *session;
    int64_t vocab_size;
    int32_t ids[N];
} fixture;

static void open_fixture(fixture *f, const char *name, const mz_lm_session_options *options) {
    char path[512];
    const mz_load_options load = {0};
    const mz_context_options context = {.n_threads = 2, .isa = MZ_ISA_AUTO};
    *f = (fixture){0};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &context));
    mz_assert_ok(&f->ctx,
                 mz_zoo_load_language_model(&f->ctx, case_path(name, path), &load, &f->model));
    mz_assert_ok(&f->ctx, mz_lm_session_create(&f->ctx, f->model, options, &f->session));
    f->vocab_size = mz_language_model_info_of(f->model)->vocab_size;
    assert_true(f->vocab_size <= MAX_VOCABULARY);
    for (int i = 0; i < N; i++) {
        f->ids[i] = (int32_t)((i * 37 + 11) % f->vocab_size);
    }
}

static void close_fixture(fixture *f) {
    mz_lm_session_destroy(f->session);
    mz_language_model_close(f->model);
    mz_context_close(&f->ctx);
}

/* Rows [begin, end) of the ids into a sequence; the last row's logits. */
static void feed(fixture *f, int32_t sequence, int begin, int end, float *logits) {
    int32_t sequences[N];
    for (int i = 0; i < N; i++) {
        sequences[i] = sequence;
    }
    const mz_lm_input input = {
        .n_tokens = end - begin, .ids = f->ids + begin, .sequence = sequences};
    mz_assert_ok(&f->ctx, mz_lm_session_run(f->session, &input, NULL, logits));
}

static void expect_same(const fixture *f, const float *a, const float *b) {
    assert_memory_equal(a, b, (size_t)f->vocab_size * sizeof *a);
}

/* What was forgotten leaves no trace; a copy goes on as its original does, and alone. */
static void truncated_and_forked(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "mistral", "qwen2_moe", "deepseek_v2-lite"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fixture f;
        float whole[MAX_VOCABULARY];
        float other[MAX_VOCABULARY];
        float logits[MAX_VOCABULARY];
        open_fixture(&f, names[i], &(mz_lm_session_options){.n_sequences = 2, .n_batch = 16});
        feed(&f, 0, 0, 100, whole);
        feed(&f, 0, 100, N, logits);
        mz_lm_session_truncate(f.session, 0, 70);
        assert_int_equal(mz_lm_session_n_positions(f.session, 0), 70);
        feed(&f, 0, 70, 100, logits);
        expect_same(&f, logits, whole);
        mz_lm_session_truncate(f.session, 0, 70);
        mz_assert_ok(&f.ctx, mz_lm_session_fork(f.session, 0, 1));
        feed(&f, 1, 110, 120, other);
        feed(&f, 0, 70, 100, logits);
        expect_same(&f, logits, whole);
        mz_lm_session_truncate(f.session, 1, 70);
        feed(&f, 1, 70, 100, logits);
        expect_same(&f, logits, whole);
        mz_lm_session_truncate(f.session, 0, 0);
        feed(&f, 0, 0, 100, logits);
        expect_same(&f, logits, whole);
        assert_int_equal(mz_lm_session_fork(f.session, 0, 2), MZ_ERR_ARG);
        close_fixture(&f);
    }
}

/* Keys and values in fewer bits: near, and not the same. */
static void narrow_caches(void **state) {
    (void)state;
    static const mz_dtype types[] = {MZ_DTYPE_F16, MZ_DTYPE_Q8_0};
    static const double bounds[] = {2e-3, 5e-2};
    static const char *const names[] = {"llama", "deepseek_v2-lite"};
    for (int i = 0; i < 4; i++) {
        fixture f;
        float exact[MAX_VOCABULARY];
        float logits[MAX_VOCABULARY];
        open_fixture(&f, names[i / 2], &(mz_lm_session_options){0});
        feed(&f, 0, 0, N, exact);
        const size_t bytes = mz_lm_session_kv_bytes(f.session);
        close_fixture(&f);
        open_fixture(&f, names[i / 2], &(mz_lm_session_options){.kv_dtype = types[i % 2]});
        feed(&f, 0, 0, N, logits);
        mz_assert_close("a narrow cache", logits, exact, f.vocab_size, bounds[i % 2]);
        assert_true(mz_lm_session_kv_bytes(f.session) < bytes);
        close_fixture(&f);
    }
}

/* ---- GGUF files ---- */

/* The logits of a model's N tokens. */
static int64_t logits_of(mz_context *ctx, const char *path, float *logits) {
    const mz_load_options load = {0};
    fixture f = {0};
    mz_assert_ok(ctx, mz_zoo_load_language_model(ctx, path, &load, &f.model));
    mz_assert_ok(ctx, mz_lm_session_create(ctx, f.model, &(mz_lm_session_options){0}, &f.session));
    f.vocab_size = mz_language_model_info_of(f.model)->vocab_size;
    assert_true(f.vocab_size <= MAX_VOCABULARY);
    for (int i = 0; i < N; i++) {
        f.ids[i] = (int32_t)((i * 37 + 11) % f.vocab_size);
    }
    const int64_t n = mz_language_model_info_of(f.model)->max_positions < N ? 100 : N;
    const mz_lm_input input = {.n_tokens = n, .ids = f.ids};
    mz_assert_ok(ctx, mz_lm_session_run(f.session, &input, NULL, logits));
    mz_lm_session_destroy(f.session);
    mz_language_model_close(f.model);
    return f.vocab_size;
}

/* A checkpoint converted to GGUF, where q and k are reordered, experts stacked and norms shifted,
 * answers as the published one. */
static void gguf_files_answer_alike(void **state) {
    mz_context *ctx = *state;
    for (int i = 0; i < N_CASES; i++) {
        char source[512];
        char path[600];
        float published[MAX_VOCABULARY];
        float converted[MAX_VOCABULARY];
        const char *dir = mz_temp_dir_create();
        mz_gguf_export e = {0};
        (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
        mz_assert_ok(ctx, mz_gguf_export_open(ctx, case_path(cases[i], source), &e));
        mz_assert_ok(ctx, mz_gguf_export_finish(&e, MZ_DTYPE_F32));
        mz_assert_ok(ctx, mz_gguf_write(ctx, path, &e.meta, e.items, e.n_items, NULL));
        mz_gguf_export_close(&e);
        const int64_t n = logits_of(ctx, source, published);
        assert_int_equal(logits_of(ctx, path, converted), n);
        mz_assert_close(cases[i], converted, published, n, 1e-5);
        mz_temp_dir_remove(dir);
    }
}

/* Older Mixtral files have a tensor for each expert. */
static void single_experts_answer_alike(void **state) {
    mz_context *ctx = *state;
    enum { MOST = 256 };
    static mz_gguf_item items[MOST];
    static char names[MOST][64];
    char source[512];
    char path[600];
    float published[MAX_VOCABULARY];
    float converted[MAX_VOCABULARY];
    const char *dir = mz_temp_dir_create();
    mz_gguf_export e = {0};
    int64_t n_items = 0;
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    mz_assert_ok(ctx, mz_gguf_export_open(ctx, case_path("mixtral", source), &e));
    for (int64_t i = 0; i < e.n_items; i++) {
        const mz_gguf_item *item = &e.items[i];
        const char *stack = strstr(item->name, "_exps.weight");
        for (int64_t k = 0; k < (stack != NULL ? item->n_parts : 1); k++) {
            assert_true(n_items < MOST);
            items[n_items] = *item;
            if (stack != NULL) {
                mz_gguf_item *single = &items[n_items];
                (void)snprintf(names[n_items], sizeof names[0], "%.*s.%d.weight",
                               (int)(stack - item->name), item->name, (int)k);
                single->name = names[n_items];
                single->n_dims = item->n_dims - 1;
                memmove(single->shape, item->shape + 1, 2 * sizeof single->shape[0]);
                single->parts = item->parts + k;
                single->n_parts = 1;
            }
            n_items++;
        }
    }
    assert_true(n_items > e.n_items);
    mz_assert_ok(ctx, mz_gguf_export_finish(&e, MZ_DTYPE_F32));
    mz_assert_ok(ctx, mz_gguf_write(ctx, path, &e.meta, items, n_items, NULL));
    mz_gguf_export_close(&e);
    const int64_t n = logits_of(ctx, source, published);
    assert_int_equal(logits_of(ctx, path, converted), n);
    mz_assert_close("single experts", converted, published, n, 1e-5);
    mz_temp_dir_remove(dir);
}

/* Older Phi-2 files have queries, keys and values in one tensor. */
static void fused_projections_answer_alike(void **state) {
    mz_context *ctx = *state;
    enum { MOST = 64 };
    static mz_gguf_item items[MOST];
    static mz_tensor parts[MOST][3];
    static char names[MOST][64];
    char source[512];
    char path[600];
    float published[MAX_VOCABULARY];
    float converted[MAX_VOCABULARY];
    const char *dir = mz_temp_dir_create();
    mz_gguf_export e = {0};
    int64_t n_items = 0;
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    mz_assert_ok(ctx, mz_gguf_export_open(ctx, case_path("phi", source), &e));
    for (int64_t i = 0; i < e.n_items; i++) {
        const char *q = strstr(e.items[i].name, "attn_q.");
        if (strstr(e.items[i].name, "attn_k.") != NULL ||
            strstr(e.items[i].name, "attn_v.") != NULL) {
            continue;
        }
        assert_true(n_items < MOST);
        mz_gguf_item *item = &items[n_items];
        *item = e.items[i];
        for (int k = 0; k < 3 && q != NULL; k++) {
            char wanted[64];
            (void)snprintf(wanted, sizeof wanted, "%.*sattn_%c%s", (int)(q - e.items[i].name),
                           e.items[i].name, "qkv"[k], q + 6);
            for (int64_t j = 0; j < e.n_items; j++) {
                if (strcmp(e.items[j].name, wanted) == 0) {
                    parts[n_items][k] = e.items[j].parts[0];
                }
            }
            (void)snprintf(names[n_items], sizeof names[0], "%.*sattn_qkv%s",
                           (int)(q - e.items[i].name), e.items[i].name, q + 6);
            item->name = names[n_items];
            item->shape[0] = 3 * e.items[i].shape[0];
            item->parts = parts[n_items];
            item->n_parts = 3;
        }
        n_items++;
    }
    assert_true(n_items < e.n_items);
    mz_assert_ok(ctx, mz_gguf_export_finish(&e, MZ_DTYPE_F32));
    mz_assert_ok(ctx, mz_gguf_write(ctx, path, &e.meta, items, n_items, NULL));
    mz_gguf_export_close(&e);
    const int64_t n = logits_of(ctx, source, published);
    assert_int_equal(logits_of(ctx, path, converted), n);
    mz_assert_close("fused projections", converted, published, n, 1e-5);
    mz_temp_dir_remove(dir);
}

/* ---- bad input ---- */

/* A call that fails leaves the sequences as they were. */
static void bad_calls(void **state) {
    (void)state;
    fixture f;
    float logits[2 * MAX_VOCABULARY];
    open_fixture(&f, "llama",
                 &(mz_lm_session_options){.n_sequences = 2, .n_positions = 100, .n_batch = 8});
    assert_int_equal(mz_lm_session_max_positions(f.session), 100);
    feed(&f, 0, 0, 60, logits);
    const int32_t outside[] = {1, 2, (int32_t)f.vocab_size};
    const int32_t negative[] = {1, -1};
    const int32_t torn[] = {0, 1, 0};
    const int32_t unknown[] = {0, 2};
    const struct {
        mz_lm_input input;
        mz_status status;
        const char *word;
    } calls[] = {
        {{.n_tokens = 3, .ids = outside}, MZ_ERR_LIMIT, "token 2"},
        {{.n_tokens = 2, .ids = negative}, MZ_ERR_LIMIT, "-1"},
        {{.n_tokens = 3, .ids = f.ids, .sequence = torn}, MZ_ERR_ARG, "neighbours"},
        {{.n_tokens = 2, .ids = f.ids, .sequence = unknown}, MZ_ERR_ARG, "sequence 2"},
        {{.n_tokens = 41, .ids = f.ids}, MZ_ERR_LIMIT, "sequence 0"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        assert_int_equal(mz_lm_session_run(f.session, &calls[i].input, NULL, logits),
                         calls[i].status);
        assert_non_null(strstr(f.ctx.error.message, calls[i].word));
        assert_int_equal(mz_lm_session_n_positions(f.session, 0), 60);
        assert_int_equal(mz_lm_session_n_positions(f.session, 1), 0);
    }
    mz_assert_ok(&f.ctx, mz_lm_session_run(f.session, &(mz_lm_input){0}, NULL, logits));
    feed(&f, 0, 60, 100, logits);
    close_fixture(&f);
}

static void bad_sessions(void **state) {
    (void)state;
    fixture f;
    mz_lm_session *session = NULL;
    open_fixture(&f, "llama", &(mz_lm_session_options){0});
    const struct {
        mz_lm_session_options options;
        mz_status status;
    } all[] = {{{.n_sequences = -1}, MZ_ERR_LIMIT},
               {{.n_positions = (int64_t)1 << 40}, MZ_ERR_LIMIT},
               {{.n_batch = -5}, MZ_ERR_LIMIT},
               {{.kv_dtype = MZ_DTYPE_BF16}, MZ_ERR_DTYPE}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_int_equal(mz_lm_session_create(&f.ctx, f.model, &all[i].options, &session),
                         all[i].status);
        assert_null(session);
    }
    const mz_tokenizer *tokenizer = NULL;
    assert_int_equal(mz_language_model_tokenizer(&f.ctx, f.model, &tokenizer), MZ_ERR_MISSING);
    close_fixture(&f);
}

/* A field of a config that is changed, and what is said of it. */
static void bad_configs(void **state) {
    mz_context *ctx = *state;
    static const struct {
        const char *base, *key, *value;
        mz_status status;
        const char *word;
    } all[] = {
        {"llama", "num_attention_heads", "0", MZ_ERR_LIMIT, "num_attention_heads"},
        {"llama", "num_key_value_heads", "4", MZ_ERR_FORMAT, "num_key_value_heads"},
        {"llama", "hidden_size", "1e3", MZ_ERR_FORMAT, "hidden_size"},
        {"llama", "vocab_size", "99999999999", MZ_ERR_LIMIT, "vocab_size"},
        {"llama", "num_hidden_layers", "100000", MZ_ERR_LIMIT, "num_hidden_layers"},
        {"llama", "head_dim", "7", MZ_ERR_FORMAT, "even"},
        {"llama", "head_dim", "300", MZ_ERR_UNSUPPORTED, "300"},
        {"llama", "hidden_act", "\"swish9\"", MZ_ERR_UNSUPPORTED, "swish9"},
        {"llama", "rope_theta", "0", MZ_ERR_LIMIT, "rope_theta"},
        {"llama", "rope_scaling", "3", MZ_ERR_FORMAT, "rope_scaling"},
        {"llama", "rope_scaling", "{\"type\": \"dynamic\", \"factor\": 2}", MZ_ERR_UNSUPPORTED,
         "dynamic"},
        {"llama", "rope_scaling",
         "{\"type\": \"llama3\", \"low_freq_factor\": 4, \"high_freq_factor\": 4}", MZ_ERR_FORMAT,
         "high_freq_factor"},
        {"llama", "rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", MZ_ERR_LIMIT, "factor"},
        {"llama", "eos_token_id", "\"end\"", MZ_ERR_FORMAT, "eos_token_id"},
        {"llama", "eos_token_id", "[1,1,1,1,1,1,1,1,1]", MZ_ERR_LIMIT, "eos_token_id"},
        {"mistral", "sliding_window", "-3", MZ_ERR_LIMIT, "sliding_window"},
        {"mixtral", "num_experts_per_tok", "6", MZ_ERR_ARG, "6"},
        {"mixtral", "num_local_experts", "5000", MZ_ERR_LIMIT, "num_local_experts"},
        {"olmoe", "clip_qkv", "8", MZ_ERR_UNSUPPORTED, "clip_qkv"},
        {"phi", "qk_layernorm", "true", MZ_ERR_UNSUPPORTED, "qk_layernorm"},
        {"phi", "partial_rotary_factor", "0.01", MZ_ERR_FORMAT, "rotate"},
        {"qwen2_moe", "mlp_only_layers", "[\"a\"]", MZ_ERR_FORMAT, "mlp_only_layers"},
        {"gemma3_text", "layer_types", "[\"x\"]", MZ_ERR_FORMAT, "layer_types"},
        {"gemma3_text", "final_logit_softcapping", "30", MZ_ERR_UNSUPPORTED, "softcapping"},
        {"deepseek_v2-groups", "n_group", "3", MZ_ERR_ARG, "3 groups"},
        {"deepseek_v2-groups", "scoring_func", "\"sigmoid\"", MZ_ERR_UNSUPPORTED, "sigmoid"},
        {"deepseek_v2-groups", "topk_method", "\"noaux_tc\"", MZ_ERR_UNSUPPORTED, "noaux_tc"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char path[600];
        json_t *config = NULL;
        mz_language_model *model = NULL;
        (void)snprintf(path, sizeof path, "%s%s/config.json", CASES, all[i].base);
        mz_assert_ok(ctx, mz_json_load(ctx, path, &config));
        json_t *value = json_loads(all[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        assert_int_equal(json_object_set_new(config, all[i].key, value), 0);
        const mz_load_options options = {0};
        const mz_status status =
            mz_zoo_create_language_model(ctx, config, path, &options, MZ_DTYPE_F32, &model);
        if (status != all[i].status || strstr(ctx->error.message, all[i].word) == NULL) {
            fail_msg("%s with %s %s: %s, \"%s\"", all[i].base, all[i].key, all[i].value,
                     mz_status_name(status), ctx->error.message);
        }
        assert_null(model);
        json_decref(config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_counted),
        cmocka_unit_test(end_tokens_of_both),
        cmocka_unit_test(truncated_and_forked),
        cmocka_unit_test(narrow_caches),
        cmocka_unit_test(gguf_files_answer_alike),
        cmocka_unit_test(single_experts_answer_alike),
        cmocka_unit_test(fused_projections_answer_alike),
        cmocka_unit_test(bad_calls),
        cmocka_unit_test(bad_sessions),
        cmocka_unit_test(bad_configs),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
