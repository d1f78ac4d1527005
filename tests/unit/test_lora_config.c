/* Adapters' configs: what is read, what is refused and by which name, what is written. */
#include "adapters/lora_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "tests/testing.h"

typedef struct fixture {
    mz_context ctx;
    char dir[512];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &(mz_context_options){.n_threads = 1}));
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
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

static void put(const fixture *f, const char *text) {
    (void)mz_write_file(f->dir, "adapter_config.json", text, strlen(text));
}

static void scales(void **state) {
    (void)state;
    mz_lora_config c = {.rank = 16, .alpha = 8};
    assert_true(mz_lora_config_scale(&c) == 0.5f);
    c.rslora = true;
    assert_true(mz_lora_config_scale(&c) == 2.0f);
}

static void targets_match(void **state) {
    (void)state;
    static const struct {
        const char *target, *name;
        bool matches;
    } cases[] = {
        {"q_proj", "model.layers.0.self_attn.q_proj", true},
        {"q_proj", "q_proj", true},
        {"self_attn.q_proj", "model.layers.0.self_attn.q_proj", true},
        {"proj", "model.q_proj", false},
        {"q_proj", "model.xq_proj", false},
        {"model.q_proj", "q_proj", false},
        {"Q_proj", "model.q_proj", false},
        {"gate", "model.layers.1.ffn_layer.gate", true},
        {"gate", "model.layers.1.ffn_layer.experts.0.gate_proj", false},
        {"model.*.q_proj", "model.layers.0.self_attn.q_proj", true},
        {"*.q_proj", "q_proj", false},
        {"model.layers.?.x", "model.layers.7.x", true},
        {"all-linear", "anything", true},
        {"all-linear.x", "anything", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const targets[] = {"nothing", cases[i].target};
        const mz_lora_config c = {.targets = targets, .n_targets = 2};
        assert_int_equal(mz_lora_config_has(&c, cases[i].name), cases[i].matches);
        assert_int_equal(mz_lora_config_target_is(&c, 1, cases[i].name), cases[i].matches);
        assert_false(mz_lora_config_target_is(&c, 0, cases[i].name));
    }
}

/* What PEFT 0.14 writes, but for the values. */
static const char published[] =
    "{\"alpha_pattern\": {}, \"auto_mapping\": null, \"base_model_name_or_path\": \"org/base\","
    "\"bias\": \"none\", \"eva_config\": null, \"exclude_modules\": null,"
    "\"fan_in_fan_out\": false, \"inference_mode\": true, \"init_lora_weights\": true,"
    "\"layer_replication\": null, \"layers_pattern\": null, \"layers_to_transform\": null,"
    "\"loftq_config\": {}, \"lora_alpha\": 24, \"lora_bias\": false, \"lora_dropout\": 0.05,"
    "\"megatron_config\": null, \"megatron_core\": \"megatron.core\", \"modules_to_save\": null,"
    "\"peft_type\": \"LORA\", \"r\": 6, \"rank_pattern\": {}, \"revision\": null,"
    "\"target_modules\": [\"v_proj\", \"q_proj\"], \"task_type\": \"CAUSAL_LM\","
    "\"use_dora\": false, \"use_rslora\": true}";

static void reads_what_peft_writes(void **state) {
    fixture *f = *state;
    mz_lora_config c;
    put(f, published);
    mz_assert_ok(&f->ctx, mz_lora_config_read(&f->ctx, f->dir, &c));
    assert_int_equal(c.rank, 6);
    assert_true(c.alpha == 24 && c.rslora && c.n_targets == 2);
    assert_string_equal(c.targets[0], "v_proj");
    assert_string_equal(c.targets[1], "q_proj");
    assert_string_equal(c.base, "org/base");
    mz_lora_config_free(&f->ctx, &c);
    put(f, "{\"peft_type\": \"LORA\", \"r\": 1, \"target_modules\": \"all-linear\"}");
    mz_assert_ok(&f->ctx, mz_lora_config_read(&f->ctx, f->dir, &c));
    assert_true(c.alpha == 8 && !c.rslora && c.n_targets == 1 && c.base == NULL);
    assert_string_equal(c.targets[0], "all-linear");
    mz_lora_config_free(&f->ctx, &c);
}

static void refuses(void **state) {
    fixture *f = *state;
    static const struct {
        const char *fields; /* behind peft_type LORA */
        mz_status status;
        const char *message;
    } cases[] = {
        {"\"r\": 8", MZ_ERR_FORMAT, "target_modules is missing"},
        {"\"target_modules\": [\"q\"]", MZ_ERR_MISSING, "r"},
        {"\"r\": 0, \"target_modules\": [\"q\"]", MZ_ERR_LIMIT, "r is 0, expected 1 to 4096"},
        {"\"r\": 4097, \"target_modules\": [\"q\"]", MZ_ERR_LIMIT, "r is 4097"},
        {"\"r\": 2.5, \"target_modules\": [\"q\"]", MZ_ERR_FORMAT, "r"},
        {"\"r\": 8, \"lora_alpha\": 0, \"target_modules\": [\"q\"]", MZ_ERR_LIMIT, "lora_alpha"},
        {"\"r\": 8, \"lora_alpha\": -4, \"target_modules\": [\"q\"]", MZ_ERR_LIMIT, "lora_alpha"},
        {"\"r\": 8, \"lora_alpha\": \"x\", \"target_modules\": [\"q\"]", MZ_ERR_FORMAT,
         "lora_alpha"},
        {"\"r\": 8, \"target_modules\": []", MZ_ERR_LIMIT, "target_modules has 0 entries"},
        {"\"r\": 8, \"target_modules\": [7]", MZ_ERR_FORMAT, "target_modules[0] is no name"},
        {"\"r\": 8, \"target_modules\": [\"q\", \"\"]", MZ_ERR_FORMAT, "target_modules[1]"},
        {"\"r\": 8, \"target_modules\": {}", MZ_ERR_FORMAT, "target_modules"},
        {"\"r\": 8, \"target_modules\": \".*q_proj$\"", MZ_ERR_UNSUPPORTED,
         "target_modules is the regular expression \".*q_proj$\""},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"bias\": \"all\"", MZ_ERR_UNSUPPORTED,
         "bias is \"all\""},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"use_dora\": true", MZ_ERR_UNSUPPORTED,
         "use_dora is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"lora_bias\": true", MZ_ERR_UNSUPPORTED,
         "lora_bias is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"fan_in_fan_out\": true", MZ_ERR_UNSUPPORTED,
         "fan_in_fan_out is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"modules_to_save\": [\"h\"]", MZ_ERR_UNSUPPORTED,
         "modules_to_save is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"layers_to_transform\": [1]", MZ_ERR_UNSUPPORTED,
         "layers_to_transform is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"alora_invocation_tokens\": [1]",
         MZ_ERR_UNSUPPORTED, "alora_invocation_tokens is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"rank_pattern\": {\"q\": 4}", MZ_ERR_UNSUPPORTED,
         "rank_pattern or alpha_pattern is not empty"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"alpha_pattern\": {\"q\": 4}", MZ_ERR_UNSUPPORTED,
         "rank_pattern or alpha_pattern is not empty"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"init_lora_weights\": \"pissa\"",
         MZ_ERR_UNSUPPORTED, "init_lora_weights"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"from_the_future\": 3", MZ_ERR_UNSUPPORTED,
         "from_the_future is set"},
        {"\"r\": 8, \"target_modules\": [\"q\"], \"use_rslora\": 1", MZ_ERR_FORMAT, "use_rslora"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        mz_lora_config c;
        (void)snprintf(text, sizeof text, "{\"peft_type\": \"LORA\", %s}", cases[i].fields);
        put(f, text);
        assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), cases[i].status);
        if (strstr(f->ctx.error.message, cases[i].message) == NULL) {
            fail_msg("%s: \"%s\" is not in: %s", text, cases[i].message, f->ctx.error.message);
        }
    }
    mz_lora_config c;
    put(f, "{\"peft_type\": \"IA3\", \"target_modules\": [\"q\"]}");
    assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), MZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(f->ctx.error.message, "peft_type is \"IA3\""));
    put(f, "{\"r\": 8}");
    assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), MZ_ERR_MISSING);
    put(f, "[1]");
    assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), MZ_ERR_FORMAT);
    put(f, "{\"peft_type\": ");
    assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), MZ_ERR_FORMAT);
}

static void refuses_folders(void **state) {
    fixture *f = *state;
    mz_lora_config c;
    char path[600];
    (void)snprintf(path, sizeof path, "%s/none", f->dir);
    assert_int_equal(mz_lora_config_read(&f->ctx, path, &c), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "no such folder"));
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", f->dir);
    (void)remove(path);
    assert_int_equal(mz_lora_config_read(&f->ctx, f->dir, &c), MZ_ERR_MISSING);
    assert_non_null(strstr(f->ctx.error.message, "no adapter_config.json in it"));
}

static void checks_values(void **state) {
    fixture *f = *state;
    static const char *const good[] = {"q"};
    static const char *const empty[] = {"q", ""};
    const mz_lora_config fine = {.rank = 1, .alpha = 1, .targets = good, .n_targets = 1};
    mz_lora_config bad[] = {fine, fine, fine, fine, fine, fine, fine};
    bad[0].rank = 0;
    bad[1].rank = MZ_LORA_MAX_RANK + 1;
    bad[2].alpha = 0;
    bad[3].alpha = NAN;
    bad[4].n_targets = 0;
    bad[5].targets = empty;
    bad[5].n_targets = 2;
    bad[6].base = "b\xff";
    mz_assert_ok(&f->ctx, mz_lora_config_check(&f->ctx.error, &fine));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mz_lora_config_check(&f->ctx.error, &bad[i]), MZ_ERR_ARG);
    }
}

/* The fields that PEFT looks at, and that the file comes back as it was. */
static void writes_what_peft_reads(void **state) {
    fixture *f = *state;
    static const char *const targets[] = {"q_proj", "model.layers.0.gate"};
    static const char *const other[] = {"w"};
    const mz_lora_config config = {
        .rank = 4, .alpha = 2.5, .rslora = true, .targets = targets, .n_targets = 2, .base = "b"};
    char path[600];
    json_t *document = NULL;
    mz_lora_config back;
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", f->dir);
    mz_assert_ok(&f->ctx, mz_lora_config_write(&f->ctx, &config, NULL, 0, f->dir));
    mz_assert_ok(&f->ctx, mz_lora_config_read(&f->ctx, f->dir, &back));
    assert_true(back.rank == 4 && back.alpha == 2.5 && back.rslora && back.n_targets == 2);
    assert_string_equal(back.targets[1], "model.layers.0.gate");
    assert_string_equal(back.base, "b");
    mz_lora_config_free(&f->ctx, &back);
    mz_assert_ok(&f->ctx, mz_json_load(&f->ctx, path, &document));
    assert_string_equal(json_string_value(json_object_get(document, "bias")), "none");
    assert_true(json_is_null(json_object_get(document, "task_type")));
    assert_true(json_is_true(json_object_get(document, "inference_mode")));
    assert_true(json_is_false(json_object_get(document, "fan_in_fan_out")));
    assert_int_equal(json_object_size(json_object_get(document, "rank_pattern")), 0);
    assert_true(json_is_object(json_object_get(document, "alpha_pattern")));
    json_decref(document);
    const mz_lora_config whole = {.rank = 4, .alpha = 16, .targets = targets, .n_targets = 2};
    mz_assert_ok(&f->ctx, mz_lora_config_write(&f->ctx, &whole, other, 1, f->dir));
    mz_assert_ok(&f->ctx, mz_json_load(&f->ctx, path, &document));
    assert_true(json_is_integer(json_object_get(document, "lora_alpha")));
    assert_true(json_is_null(json_object_get(document, "base_model_name_or_path")));
    assert_int_equal(json_array_size(json_object_get(document, "target_modules")), 1);
    json_decref(document);
}

static void allocations_fail(void **state) {
    fixture *f = *state;
    mz_status status = MZ_ERR_NOMEM;
    put(f, published);
    for (int64_t n = 1; status != MZ_OK; n++) {
        mz_failing_allocator failing;
        const mz_allocator allocator = mz_failing_allocator_init(&failing, n);
        mz_context ctx;
        mz_lora_config c;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        status = mz_lora_config_read(&ctx, f->dir, &c);
        if (status == MZ_OK) {
            mz_lora_config_free(&ctx, &c);
            assert_true(n > 5);
        } else {
            assert_int_equal(status, MZ_ERR_NOMEM);
        }
        mz_context_close(&ctx);
        assert_int_equal(failing.n_live, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales),
        cmocka_unit_test(targets_match),
        cmocka_unit_test(reads_what_peft_writes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_folders),
        cmocka_unit_test(checks_values),
        cmocka_unit_test(writes_what_peft_reads),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
