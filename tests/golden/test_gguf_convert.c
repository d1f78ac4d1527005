/* Published checkpoints to GGUF files and back: every family's config, every tensor bit for bit,
 * and tokenizers by what they encode. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/zoo/gguf_export.h"
#include "apps/zoo/gguf_import.h"
#include "apps/zoo/gguf_map.h"
#include "apps/zoo/gguf_tokenizer.h"
#include "core/file.h"
#include "core/json.h"
#include "core/weights.h"
#include "llm/tokenizer.h"
#include "tests/testing.h"

static const char *const cases[] = {"llama",
                                    "llama-tied",
                                    "llama-bias-linear",
                                    "llama3-rope",
                                    "mistral",
                                    "mixtral",
                                    "mistral-headdim",
                                    "qwen2",
                                    "qwen2_moe",
                                    "qwen2_moe-step2",
                                    "qwen3",
                                    "qwen3_moe",
                                    "olmoe",
                                    "stablelm",
                                    "phi",
                                    "stablelm-parallel",
                                    "gemma3_text",
                                    "deepseek_v2-lite",
                                    "deepseek_v2-groups"};

/* Fields that have no key: of training and of libraries, or without a tokenizer. */
static const char *const lost[] = {
    "attention_dropout", "initializer_range", "torch_dtype",       "transformers_version",
    "use_cache",         "pretraining_tp",    "seq_aux",           "output_router_logits",
    "resid_pdrop",       "embd_pdrop",        "pad_token_id",      "router_aux_loss_coef",
    "bos_token_id",      "eos_token_id",      "max_window_layers", "_sliding_window_pattern"};

static bool is_lost(const char *field, const json_t *value, const json_t *config) {
    if (json_is_null(value) || json_is_false(value)) {
        return true;
    }
    for (size_t i = 0; i < sizeof lost / sizeof lost[0]; i++) {
        if (strcmp(field, lost[i]) == 0) {
            return true;
        }
    }
    const json_t *window = json_object_get(config, "use_sliding_window");
    return strcmp(field, "sliding_window") == 0 && json_is_false(window);
}

static bool equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) {
        return json_number_value(a) == json_number_value(b);
    }
    if (json_is_object(a) && json_is_object(b)) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach((json_t *)(uintptr_t)a, key, value) {
            if (!equal(value, json_object_get(b, key))) {
                return false;
            }
        }
        return true;
    }
    return json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b);
}

static void compare_configs(const char *name, const json_t *published, const json_t *made) {
    const char *field = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)published, field, value) {
        const json_t *found = json_object_get(made, field);
        if (found == NULL && is_lost(field, value, published)) {
            continue;
        }
        /* Which layers have experts may be said in two ways. */
        if (strstr(name, "step2") != NULL &&
            (strcmp(field, "decoder_sparse_step") == 0 || strcmp(field, "mlp_only_layers") == 0)) {
            continue;
        }
        /* Without a window a Mistral is a LLaMA. */
        if (strcmp(name, "mistral-headdim") == 0 &&
            (strcmp(field, "architectures") == 0 || strcmp(field, "model_type") == 0)) {
            continue;
        }
        if (strcmp(field, "num_key_value_heads") == 0 && json_is_null(value)) {
            value = json_object_get(published, "num_attention_heads");
        }
        if (!equal(value, found)) {
            char *was = json_dumps(value, JSON_ENCODE_ANY);
            char *is = found != NULL ? json_dumps(found, JSON_ENCODE_ANY) : NULL;
            fail_msg("%s: %s is %s, expected %s", name, field, is != NULL ? is : "absent", was);
        }
    }
}

static void widen(const mz_tensor *t, float *out) {
    mz_dtype_get(t->dtype)->to_f32(out, t->data, mz_tensor_n_elements(t));
}

static void compare_tensors(mz_context *ctx, const char *name, const char *a_path,
                            const char *b_path) {
    static float x[1 << 16];
    static float y[1 << 16];
    mz_weights *a = NULL;
    mz_weights *b = NULL;
    mz_assert_ok(ctx, mz_weights_open(ctx, a_path, &a));
    mz_assert_ok(ctx, mz_weights_open(ctx, b_path, &b));
    assert_int_equal(mz_weights_count(a), mz_weights_count(b));
    for (int64_t i = 0; i < mz_weights_count(a); i++) {
        const char *tensor = NULL;
        mz_tensor t[2];
        mz_assert_ok(ctx, mz_weights_at(a, i, &tensor, &t[0]));
        mz_assert_ok(ctx, mz_weights_get(b, tensor, t[0].shape, t[0].n_dims, &t[1]));
        if (t[1].n_dims == 0) {
            fail_msg("%s: %s is missing or has another shape", name, tensor);
        }
        const int64_t n = mz_tensor_n_elements(&t[0]);
        assert_true(n <= 1 << 16);
        widen(&t[0], x);
        widen(&t[1], y);
        /* gemma3's norms have had 1 added and taken off. */
        const float bound = strstr(name, "gemma3") != NULL && strstr(tensor, "norm") ? 2e-7f : 0;
        for (int64_t k = 0; k < n; k++) {
            if (!(fabsf(x[k] - y[k]) <= bound)) {
                fail_msg("%s: %s[%lld] is %g, expected %g", name, tensor, (long long)k,
                         (double)y[k], (double)x[k]);
            }
        }
    }
    mz_weights_close(ctx, a);
    mz_weights_close(ctx, b);
}

static void write_gguf(mz_context *ctx, const char *source, const char *path) {
    mz_gguf_export e = {0};
    mz_assert_ok(ctx, mz_gguf_export_open(ctx, source, &e));
    mz_assert_ok(ctx, mz_gguf_export_finish(&e, MZ_DTYPE_F32));
    mz_assert_ok(ctx, mz_gguf_write(ctx, path, &e.meta, e.items, e.n_items, NULL));
    mz_gguf_export_close(&e);
}

static void every_family_there_and_back(void **state) {
    mz_context *ctx = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char source[600];
        char dir[600];
        char path[700];
        char config[700];
        char note[MZ_NOTE_BYTES];
        json_t *published = NULL;
        json_t *made = NULL;
        (void)snprintf(source, sizeof source, MOEZOO_TESTS_DIR "/golden/llm/%s", cases[i]);
        (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
        (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
        write_gguf(ctx, source, path);
        mz_assert_ok(ctx, mz_gguf_import(ctx, path, dir, MZ_DTYPE_F32, note));
        assert_string_equal(note, "the file has no tokenizer");
        (void)snprintf(config, sizeof config, "%s/config.json", source);
        mz_assert_ok(ctx, mz_json_load(ctx, config, &published));
        (void)snprintf(config, sizeof config, "%s/config.json", dir);
        mz_assert_ok(ctx, mz_json_load(ctx, config, &made));
        assert_null(json_object_get(made, "rope_interleaved"));
        compare_configs(cases[i], published, made);
        compare_tensors(ctx, cases[i], source, dir);
        json_decref(published);
        json_decref(made);
        mz_temp_dir_remove(dir);
    }
}

/* Rows of q and k are put back in a copy of as many rows as a matrix has. */
static void a_stack_in_place_of_a_matrix_is_refused(void **state) {
    mz_context *ctx = *state;
    mz_gguf_export e = {0};
    mz_tensor stack;
    char dir[600];
    char path[700];
    char note[MZ_NOTE_BYTES];
    int64_t n_found = 0;
    (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    mz_assert_ok(ctx, mz_gguf_export_open(ctx, MOEZOO_TESTS_DIR "/golden/llm/llama", &e));
    for (int64_t i = 0; i < e.n_items; i++) {
        mz_gguf_item *item = &e.items[i];
        if (strcmp(item->name, "blk.0.attn_q.weight") != 0) {
            continue;
        }
        const int64_t shape[] = {item->shape[0], 2, item->shape[1] / 2};
        stack = item->parts[0];
        stack.n_dims = 3;
        stack.ld = shape[2];
        memcpy(stack.shape, shape, sizeof shape);
        memcpy(item->shape, shape, sizeof shape);
        item->n_dims = 3;
        item->parts = &stack;
        item->row_order = NULL;
        n_found++;
    }
    assert_int_equal(n_found, 1);
    mz_assert_ok(ctx, mz_gguf_export_finish(&e, MZ_DTYPE_F32));
    mz_assert_ok(ctx, mz_gguf_write(ctx, path, &e.meta, e.items, e.n_items, NULL));
    mz_gguf_export_close(&e);
    assert_int_equal(mz_gguf_import(ctx, path, dir, MZ_DTYPE_F32, note), MZ_ERR_SHAPE);
    assert_non_null(strstr(ctx->error.message, "blk.0.attn_q.weight"));
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_false(mz_file_exists(path));
    mz_temp_dir_remove(dir);
}

/* What is in the file itself: rows of q reordered, norms shifted, experts stacked. */
static void the_file_is_as_the_format_says(void **state) {
    static const struct {
        const char *name, *published, *file;
        int64_t file_row, published_row; /* of the first head; -1: not compared */
        float offset;
        const char *flag;
    } checks[] = {
        {"llama", "model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight", 3, 5, 0,
         "rope_interleaved"}, /* heads of 8: row 2 * 1 + 1 is row 1 + 4 */
        {"gemma3_text", "model.layers.1.input_layernorm.weight", "blk.1.attn_norm.weight", 0, 0, 1,
         "norm_offset_included"},
        {"mixtral", "model.layers.1.block_sparse_moe.experts.2.w1.weight",
         "blk.1.ffn_gate_exps.weight", 2 * 52 + 7, 7, 0, "expert_layout"},
    };
    mz_context *ctx = *state;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        char source[600];
        char path[700];
        char dir[600];
        float x[64];
        float y[64];
        mz_weights *w = NULL;
        mz_gguf *g = NULL;
        json_t *config = NULL;
        mz_tensor a;
        mz_tensor b;
        (void)snprintf(source, sizeof source, MOEZOO_TESTS_DIR "/golden/llm/%s", checks[i].name);
        (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
        (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
        write_gguf(ctx, source, path);
        mz_assert_ok(ctx, mz_weights_open(ctx, source, &w));
        mz_assert_ok(ctx, mz_gguf_open(ctx, path, &g));
        mz_assert_ok(ctx, mz_gguf_config(ctx, g, &config));
        assert_non_null(json_object_get(config, checks[i].flag));
        assert_true(mz_weights_find(w, checks[i].published, &a));
        assert_true(mz_gguf_tensor(g, checks[i].file, &b));
        const int64_t n = mz_tensor_n_cols(&a);
        assert_true(n <= 64 && mz_tensor_n_cols(&b) == n);
        mz_dtype_get(a.dtype)->to_f32(x, mz_tensor_row(&a, checks[i].published_row), n);
        mz_dtype_get(b.dtype)->to_f32(y, mz_tensor_row(&b, checks[i].file_row), n);
        for (int64_t k = 0; k < n; k++) {
            assert_true(y[k] == x[k] + checks[i].offset);
        }
        json_decref(config);
        mz_gguf_close(ctx, g);
        mz_weights_close(ctx, w);
        mz_temp_dir_remove(dir);
    }
}

/* ---- tokenizers ---- */

static void copy_file(mz_context *ctx, const char *from_dir, const char *name, const char *to_dir) {
    char path[800];
    char *data = NULL;
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s/%s", from_dir, name);
    mz_assert_ok(ctx, mz_file_read(ctx, path, 64 << 20, &data, &n));
    (void)mz_write_file(to_dir, name, data, n);
    mz_free(ctx, data);
}

/* Both tokenizers give the same ids for the golden's texts. */
static void compare_tokenizers(mz_context *ctx, const char *name, const mz_tokenizer *a,
                               const mz_tokenizer *b) {
    char path[800];
    char *text = NULL;
    size_t n = 0;
    int n_cases = 0;
    (void)snprintf(path, sizeof path, MOEZOO_TESTS_DIR "/golden/tokenizers/%s/cases.jsonl", name);
    mz_assert_ok(ctx, mz_file_read(ctx, path, 64 << 20, &text, &n));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        mz_token_list ids[2] = {0};
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        const json_t *value = json_object_get(row, "text");
        const mz_tokenizer *const both[] = {a, b};
        for (int i = 0; i < 2; i++) {
            mz_assert_ok(ctx, mz_tokenizer_encode(ctx, both[i], json_string_value(value),
                                                  json_string_length(value), NULL, &ids[i]));
        }
        if (ids[0].n != ids[1].n ||
            (ids[0].n > 0 &&
             memcmp(ids[0].ids, ids[1].ids, (size_t)ids[0].n * sizeof(int32_t)) != 0)) {
            fail_msg("%s: other ids for %s", name, line);
        }
        n_cases++;
        mz_token_list_free(ctx, &ids[0]);
        mz_token_list_free(ctx, &ids[1]);
        json_decref(row);
    }
    assert_true(n_cases > 50);
    mz_free(ctx, text);
}

static void tokenizers_there_and_back(void **state) {
    static const struct {
        const char *name, *file;
        int64_t size;
    } kinds[] = {{"gpt2-bbpe", "tokenizer.json", 2010},
                 {"llama3-bbpe", "tokenizer.json", 2103},
                 {"phi2-bbpe", "tokenizer.json", 1600},
                 {"qwen2-bbpe", "tokenizer.json", 1903},
                 {"spm-bpe-llama", "tokenizer.model", 4000}};
    mz_context *ctx = *state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char source[600];
        char dir[600];
        char path[700];
        char note[MZ_NOTE_BYTES];
        mz_gguf_meta meta = {.ctx = ctx};
        mz_gguf *g = NULL;
        mz_tokenizer *published = NULL;
        mz_tokenizer *inside = NULL;
        mz_tokenizer *back = NULL;
        (void)snprintf(source, sizeof source, MOEZOO_TESTS_DIR "/golden/tokenizers/%s",
                       kinds[i].name);
        (void)snprintf(dir, sizeof dir, "%s", mz_temp_dir_create());
        copy_file(ctx, source, kinds[i].file, dir);
        mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &published));
        mz_assert_ok(ctx,
                     mz_gguf_tokenizer_export(ctx, dir, kinds[i].size, &meta, note, sizeof note));
        assert_string_equal(note, "");
        (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
        mz_assert_ok(ctx, mz_gguf_write(ctx, path, &meta, NULL, 0, NULL));
        mz_assert_ok(ctx, mz_gguf_open(ctx, path, &g));
        mz_assert_ok(ctx, mz_tokenizer_open_gguf(ctx, g, &inside));
        compare_tokenizers(ctx, kinds[i].name, published, inside);
        mz_assert_ok(ctx, mz_gguf_tokenizer_import(ctx, g, dir, note, sizeof note));
        assert_string_equal(note, "");
        mz_assert_ok(ctx, mz_tokenizer_open(ctx, dir, &back));
        compare_tokenizers(ctx, kinds[i].name, published, back);
        mz_tokenizer_close(ctx, published);
        mz_tokenizer_close(ctx, inside);
        mz_tokenizer_close(ctx, back);
        mz_gguf_close(ctx, g);
        mz_gguf_meta_free(&meta);
        mz_temp_dir_remove(dir);
    }
}

static void a_tokenizer_too_large_is_noted(void **state) {
    mz_context *ctx = *state;
    char note[MZ_NOTE_BYTES];
    mz_gguf_meta meta = {.ctx = ctx};
    mz_assert_ok(ctx, mz_gguf_tokenizer_export(ctx, MOEZOO_TESTS_DIR "/golden/tokenizers/gpt2-bbpe",
                                               100, &meta, note, sizeof note));
    assert_string_equal(note, "tokenizer.json has ids beyond the embedding's 100 rows");
    mz_assert_ok(ctx,
                 mz_gguf_tokenizer_export(ctx, MOEZOO_TESTS_DIR "/golden/tokenizers/spm-unigram",
                                          10000, &meta, note, sizeof note));
    assert_string_equal(note, "tokenizer.model is no BPE model");
    assert_int_equal(meta.n_keys, 0);
    mz_gguf_meta_free(&meta);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_there_and_back),
        cmocka_unit_test(a_stack_in_place_of_a_matrix_is_refused),
        cmocka_unit_test(the_file_is_as_the_format_says),
        cmocka_unit_test(tokenizers_there_and_back),
        cmocka_unit_test(a_tokenizer_too_large_is_noted),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
