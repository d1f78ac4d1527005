/* Configs from GGUF metadata that is wrong, odd or hostile; what is right is in
 * tests/golden/test_gguf_convert.c. */
#include "apps/zoo/gguf_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gguf_write.h"
#include "tests/testing.h"

typedef struct fixture {
    mz_context ctx;
    char dir[512], path[600];
    float values[64];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)snprintf(f->path, sizeof f->path, "%s/m.gguf", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_temp_dir_remove(f->dir);
    mz_context_close(&f->ctx);
    free(f);
    return 0;
}

/* A key that is changed: a whole number, or a text; -1: left out. */
typedef struct change {
    const char *key;
    int64_t value;
    const char *text;
} change;

static mz_status put_key(mz_gguf_meta *m, const char *key, int64_t value, const change *c) {
    if (c != NULL && strcmp(c->key, key) == 0) {
        if (c->text != NULL) {
            return mz_gguf_meta_text(m, key, c->text, strlen(c->text));
        }
        value = c->value;
    }
    return value < 0 ? MZ_OK : mz_gguf_meta_int(m, key, MZ_GGUF_U32, value);
}

/* A model of an architecture, two layers and one embedding, but for one change. */
static mz_status config_of(fixture *f, const char *architecture, const change *c, bool embedding,
                           json_t **config) {
    static const struct {
        const char *suffix;
        int64_t value;
    } keys[] = {{"block_count", 2},
                {"context_length", 64},
                {"embedding_length", 8},
                {"feed_forward_length", 16},
                {"attention.head_count", 2},
                {"attention.layer_norm_rms_epsilon", -1},
                {"attention.layer_norm_epsilon", -1},
                {"rope.dimension_count", -1},
                {"rope.scaling.type", -1},
                {"attention.sliding_window_pattern", -1},
                {"attention.head_count_kv", -1}};
    mz_gguf_meta m = {.ctx = &f->ctx};
    mz_gguf *g = NULL;
    const mz_tensor t = mz_tensor_2d(MZ_DTYPE_F32, 8, 8, f->values);
    mz_gguf_item item = {.name = embedding ? "token_embd.weight" : "other.weight",
                         .dtype = MZ_DTYPE_F32,
                         .n_dims = 2,
                         .shape = {8, 8},
                         .parts = &t,
                         .n_parts = 1};
    mz_assert_ok(&f->ctx,
                 mz_gguf_meta_text(&m, "general.architecture", architecture, strlen(architecture)));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[128];
        (void)snprintf(key, sizeof key, "%s.%s", architecture, keys[i].suffix);
        mz_assert_ok(&f->ctx, put_key(&m, key, keys[i].value, c));
    }
    char key[128];
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    if (c == NULL || strcmp(c->key, key) != 0) {
        mz_assert_ok(&f->ctx, mz_gguf_meta_f32(&m, key, 1e-6f));
    }
    mz_assert_ok(&f->ctx, mz_gguf_write(&f->ctx, f->path, &m, &item, 1, NULL));
    mz_gguf_meta_free(&m);
    mz_assert_ok(&f->ctx, mz_gguf_open(&f->ctx, f->path, &g));
    const mz_status status = mz_gguf_config(&f->ctx, g, config);
    mz_gguf_close(&f->ctx, g);
    return status;
}

static void a_small_one_is_complete(void **state) {
    fixture *f = *state;
    json_t *config = NULL;
    mz_assert_ok(&f->ctx, config_of(f, "llama", NULL, true, &config));
    assert_int_equal(json_integer_value(json_object_get(config, "vocab_size")), 8);
    assert_int_equal(json_integer_value(json_object_get(config, "head_dim")), 4);
    assert_int_equal(json_integer_value(json_object_get(config, "num_key_value_heads")), 2);
    assert_true(json_number_value(json_object_get(config, "rms_norm_eps")) == 1e-6);
    assert_true(json_number_value(json_object_get(config, "rope_theta")) == 10000);
    assert_true(json_is_true(json_object_get(config, "tie_word_embeddings")));
    assert_true(json_is_true(json_object_get(config, "rope_interleaved")));
    assert_string_equal(json_string_value(json_object_get(config, "model_type")), "llama");
    json_decref(config);
}

static void wrong_metadata_is_named(void **state) {
    static const struct {
        const char *architecture;
        change change;
        mz_status status;
        const char *part;
    } cases[] = {
        {"mamba",
         {"", -1, NULL},
         MZ_ERR_UNSUPPORTED,
         "architecture \"mamba\", expected llama, qwen2"},
        {"llama", {"llama.block_count", -1, NULL}, MZ_ERR_MISSING, "no key llama.block_count"},
        {"llama", {"llama.block_count", 0, NULL}, MZ_ERR_LIMIT, "0 layers, expected 1 to 1024"},
        {"llama", {"llama.block_count", 1 << 29, NULL}, MZ_ERR_LIMIT, "536870912 layers"},
        {"llama", {"llama.block_count", 0, "two"}, MZ_ERR_FORMAT, "llama.block_count is of type"},
        {"llama",
         {"llama.attention.head_count", 0, NULL},
         MZ_ERR_FORMAT,
         "0 heads of a width of 8"},
        {"llama",
         {"llama.embedding_length", 1 << 30, NULL},
         MZ_ERR_FORMAT,
         "2 heads of a width of 107"},
        {"llama",
         {"llama.embedding_length", (int64_t)UINT32_MAX, NULL},
         MZ_ERR_LIMIT,
         "4294967295"},
        {"llama", {"llama.rope.dimension_count", 3, NULL}, MZ_ERR_UNSUPPORTED, "3 of a head's 4"},
        {"llama", {"llama.rope.scaling.type", 0, "longrope"}, MZ_ERR_UNSUPPORTED, "\"longrope\""},
        {"llama",
         {"llama.attention.layer_norm_rms_epsilon", -1, NULL},
         MZ_ERR_MISSING,
         "rms_epsilon"},
        {"phi2", {"", -1, NULL}, MZ_ERR_MISSING, "no key phi2.attention.layer_norm_epsilon"},
        {"gemma3",
         {"gemma3.attention.sliding_window_pattern", 0, NULL},
         MZ_ERR_FORMAT,
         "pattern is 0"},
        {"deepseek2", {"", -1, NULL}, MZ_ERR_MISSING, "no key deepseek2."},
        {"qwen3moe", {"", -1, NULL}, MZ_ERR_MISSING, "no key qwen3moe.expert_count"},
    };
    fixture *f = *state;
    json_t *config = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mz_status status =
            config_of(f, cases[i].architecture, &cases[i].change, true, &config);
        if (status != cases[i].status || strstr(f->ctx.error.message, cases[i].part) == NULL ||
            strstr(f->ctx.error.message, "m.gguf") == NULL) {
            fail_msg("%s %s: %s \"%s\", expected %s \"%s\"", cases[i].architecture,
                     cases[i].change.key, mz_status_name(status), f->ctx.error.message,
                     mz_status_name(cases[i].status), cases[i].part);
        }
        assert_null(config);
    }
    assert_int_equal(config_of(f, "llama", NULL, false, &config), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "no matrix token_embd.weight"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_small_one_is_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_metadata_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
