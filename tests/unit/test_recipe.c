#include "apps/train/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/testing.h"

static const char LEAST[] =
    "{\"job\": \"forecast\", \"model\": {\"init\": {\"config\": {\"d\": 4}}},"
    " \"data\": {\"sources\": [{\"kind\": \"synthetic\"}]},"
    " \"schedule\": {\"steps\": 100}, \"batch\": {\"points\": 4096}}";

typedef struct fixture {
    mz_context *ctx;
    char dir[256];
    char path[512];
} fixture;

static void open_fixture(fixture *f, mz_context *ctx, const char *text) {
    f->ctx = ctx;
    (void)snprintf(f->dir, sizeof f->dir, "%s", mz_temp_dir_create());
    (void)snprintf(f->path, sizeof f->path, "%s",
                   mz_write_file(f->dir, "recipe.json", text, strlen(text)));
}

static void the_defaults_are_those_of_the_manual(void **state) {
    fixture f;
    mz_train_recipe r;
    open_fixture(&f, *state, LEAST);
    mz_assert_ok(f.ctx, mz_train_recipe_load(f.ctx, f.path, NULL, 0, &r));
    assert_non_null(json_object_get(r.model.config, "d"));
    assert_null(r.model.checkpoint);
    assert_int_equal(r.data.n_sources, 1);
    assert_int_equal(r.data.sources[0].kind, MZ_TRAIN_SYNTHETIC);
    assert_true(r.data.sources[0].weight == 1);
    assert_int_equal(r.data.context, 2048);
    assert_int_equal(r.data.horizon, 64);
    assert_true(r.data.augment.mix == 0.2 && r.data.augment.reverse == 0.02);
    assert_int_equal(r.loss.kind, MZ_TRAIN_LOSS_AUTO);
    assert_true(r.loss.delta == 2 && r.loss.balance_factor == 0.02 && r.loss.balance_per_layer);
    assert_true(r.optimizer.beta1 == 0.9 && r.optimizer.beta2 == 0.95 && r.optimizer.eps == 1e-8);
    assert_true(r.optimizer.weight_decay == 0.1 && r.optimizer.clip_norm == 1);
    assert_true(r.schedule.lr == 1e-3 && r.schedule.kind == MZ_SCHEDULE_COSINE);
    assert_int_equal(r.schedule.total_steps, 100);
    assert_int_equal(r.batch_points, 4096);
    assert_int_equal(r.accumulate, 1);
    assert_true(r.checkpoint_every_s == 600 && r.checkpoint_every == 0);
    assert_int_equal(r.save_dtype, MZ_TRAIN_BF16);
    assert_int_equal(r.precision, MZ_TRAIN_F32);
    mz_train_recipe_free(f.ctx, &r);
    mz_temp_dir_remove(f.dir);
}

static void everything_is_read(void **state) {
    static const char text[] =
        "{\"job\": \"forecast\","
        " \"model\": {\"checkpoint\": \"base\", \"lora\": {\"seed\": 5, \"rank\": 4, \"alpha\": 8,"
        "   \"targets\": [\"*q_proj*\", \"*v_proj*\"], \"rslora\": true}},"
        " \"data\": {\"sources\": [{\"kind\": \"csv\", \"path\": \"a.csv\", \"weight\": 3,"
        "   \"columns\": \"x,y\"}, {\"kind\": \"time-moe\", \"path\": \"/b\"}], \"context\": 96,"
        "   \"horizon\": 24, \"min_points\": 30, \"seed\": 9, \"augment\": {\"mix\": 0.5}},"
        " \"loss\": {\"kind\": \"pinball\", \"balance\": {\"factor\": 0.1, \"per_layer\": false},"
        "   \"router_z\": 0.001},"
        " \"optimizer\": {\"lr\": 0.01, \"betas\": [0.8, 0.99], \"ema\": 0.999, \"groups\":"
        "   [{\"pattern\": \"*norm*\", \"weight_decay\": 0}, {\"pattern\": \"head\", \"train\": "
        "false}]},"
        " \"schedule\": {\"kind\": \"wsd\", \"steps\": 10, \"warmup_steps\": 2, \"min_lr\": 1e-5},"
        " \"batch\": {\"tokens\": 64, \"accumulate\": 3}, \"precision\": \"bf16\","
        " \"recompute\": true, \"evaluation\": {\"every_steps\": 5, \"examples\": 7},"
        " \"checkpoint\": {\"every_steps\": 4, \"keep\": 2}, \"save_dtype\": \"f32\","
        " \"output\": \"out\"}";
    fixture f;
    mz_train_recipe r;
    char expected[600];
    open_fixture(&f, *state, text);
    mz_assert_ok(f.ctx, mz_train_recipe_load(f.ctx, f.path, NULL, 0, &r));
    (void)snprintf(expected, sizeof expected, "%s/base", f.dir);
    assert_string_equal(r.model.checkpoint, expected);
    (void)snprintf(expected, sizeof expected, "%s/a.csv", f.dir);
    assert_string_equal(r.data.sources[0].path, expected);
    assert_string_equal(r.data.sources[1].path, "/b");
    (void)snprintf(expected, sizeof expected, "%s/out", f.dir);
    assert_string_equal(r.output, expected);
    assert_true(r.model.has_lora && r.model.lora_rslora && r.model.lora_alpha == 8);
    assert_true(r.model.lora_rank == 4 && r.model.seed == 5);
    assert_int_equal(r.model.n_lora_targets, 2);
    assert_string_equal(r.model.lora_targets[1], "*v_proj*");
    assert_string_equal(r.data.sources[0].columns, "x,y");
    assert_true(r.data.augment.mix == 0.5 && r.data.augment.gain == 0.1);
    assert_int_equal(r.loss.kind, MZ_TRAIN_PINBALL);
    assert_true(r.loss.router_z == 0.001 && !r.loss.balance_per_layer);
    assert_true(r.optimizer.beta1 == 0.8 && r.optimizer.ema_decay == 0.999);
    assert_int_equal(r.optimizer.n_groups, 2);
    assert_int_equal(r.optimizer.groups[0].sets, MZ_GROUP_WEIGHT_DECAY);
    assert_int_equal(r.optimizer.groups[1].sets, MZ_GROUP_TRAIN);
    assert_false(r.optimizer.groups[1].train);
    assert_int_equal(r.schedule.kind, MZ_SCHEDULE_WSD);
    assert_int_equal(r.schedule.decay_steps, 2);
    assert_int_equal(r.batch_tokens, 64);
    assert_int_equal(r.accumulate, 3);
    assert_true(r.precision == MZ_TRAIN_BF16 && r.recompute && r.save_dtype == MZ_TRAIN_F32);
    assert_int_equal(r.evaluation_every, 5);
    assert_int_equal(r.evaluation_examples, 7);
    assert_true(r.checkpoint_every == 4 && r.checkpoint_every_s == 0 && r.checkpoint_keep == 2);
    mz_train_recipe_free(f.ctx, &r);
    mz_temp_dir_remove(f.dir);
}

static void changes_from_the_line_hold(void **state) {
    static const char *const sets[] = {"schedule.steps=7",        "optimizer.lr=3e-4",
                                       "data.sources.0.kind=csv", "data.sources.0.path=x y.csv",
                                       "model.init.config.d=8",   "loss.balance.factor=0.5"};
    fixture f;
    mz_train_recipe r;
    open_fixture(&f, *state, LEAST);
    mz_assert_ok(f.ctx, mz_train_recipe_load(f.ctx, f.path, sets, 6, &r));
    assert_int_equal(r.schedule.total_steps, 7);
    assert_true(r.schedule.lr == 3e-4 && r.loss.balance_factor == 0.5);
    assert_int_equal(r.data.sources[0].kind, MZ_TRAIN_CSV);
    assert_non_null(strstr(r.data.sources[0].path, "/x y.csv"));
    assert_int_equal(json_integer_value(json_object_get(r.model.config, "d")), 8);
    mz_train_recipe_free(f.ctx, &r);
    mz_temp_dir_remove(f.dir);
}

static void bad_values_are_named(void **state) {
    static const struct {
        const char *set;
        const char *part;
    } cases[] = {
        {"optimiser.lr=1", "recipe.json: unknown key \"optimiser\"; did you mean \"optimizer\"?"},
        {"optimizer.beta=1",
         "recipe.json: optimizer: unknown key \"beta\"; did you mean \"betas\"?"},
        {"xyzzy=1", "unknown key \"xyzzy\", expected one of: job, model"},
        {"job=dance", "job is \"dance\", expected one of forecast"},
        {"job=", "job is \"\", expected one of forecast"},
        {"job=null", "job is missing"},
        {"schedule=null", "schedule is missing"},
        {"schedule.steps=0", "recipe.json: schedule: steps is 0, expected 1 to"},
        {"schedule.steps=1.5", "schedule: steps is a number with a fraction, expected an integer"},
        {"schedule.steps=x", "schedule: steps is a string, expected an integer"},
        {"schedule.warmup_steps=101", "warmup_steps and decay_steps are 101 and 0"},
        {"schedule.min_lr=1", "min_lr is 1, above optimizer.lr"},
        {"schedule.kind=linear", "kind is \"linear\", expected one of constant|cosine|wsd"},
        {"optimizer.lr=-1", "optimizer: lr is -1"},
        {"optimizer.betas=[0.9]", "betas: expected two numbers"},
        {"optimizer.betas=[0.9,1]", "betas: expected two numbers"},
        {"optimizer.betas=3", "betas is no array"},
        {"optimizer.groups=[3]", "recipe.json: optimizer.groups.0: expected an object"},
        {"optimizer.groups=[{}]", "optimizer.groups.0: pattern is missing"},
        {"optimizer.groups=[{\"pattern\":\"a\",\"lr\":1}]", "unknown key \"lr\""},
        {"batch.tokens=5", "batch: expected points or tokens, there are both"},
        {"batch.points=null", "batch: expected points or tokens, there is neither"},
        {"model.checkpoint=x", "model: expected init or checkpoint, there are both"},
        {"model.init=null", "model: expected init or checkpoint, there is neither"},
        {"model.init.config=4", "model.init.config: expected an object"},
        {"model.lora={\"targets\":[\"a\"]}", "lora needs a checkpoint"},
        {"data.sources=[]", "sources: expected at least one"},
        {"data.sources.0.path=x", "data.sources.0: path: a synthetic source has none"},
        {"data.sources.0.kind=jsonl", "data.sources.0: path is missing"},
        {"data.sources.0.kind=xml", "expected one of jsonl|csv|time-moe|synthetic"},
        {"data.sources.1.kind=csv", "\"1\" is no index of an array of 1 items"},
        {"data.augment.mix=2", "data.augment: mix is 2"},
        {"data.augment.mic=1", "did you mean \"mix\"?"},
        {"loss.balance.factor=-1", "loss.balance: factor is -1"},
        {"output=\"\"", "output is empty"},
        {"data.context=1048576", "data: context and horizon are 1048576 and 64, together above"},
        {"model={\"checkpoint\": \"x\", \"lora\": {\"targets\": []}}",
         "model.lora: targets: expected at least one"},
        {"data.min_points=3000", "data: min_points is 3000, above context and horizon together, 2"},
        {"steps", "--set steps: expected KEY.KEY=VALUE"},
        {"a..b=1", "expected KEY.KEY=VALUE"},
        {"a.=1", "expected KEY.KEY=VALUE"},
        {"=1", "expected KEY.KEY=VALUE"},
        {"job.x=1", "\"x\" lies in a value that is no object"},
        {"output=\xff", "not UTF-8"},
    };
    fixture f;
    mz_train_recipe r;
    open_fixture(&f, *state, LEAST);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (mz_train_recipe_load(f.ctx, f.path, &cases[i].set, 1, &r) == MZ_OK ||
            strstr(f.ctx->error.message, cases[i].part) == NULL) {
            fail_msg("%s: %s", cases[i].set, f.ctx->error.message);
        }
        assert_null(r.document);
    }
    mz_temp_dir_remove(f.dir);
}

/* "model.init.config.x.x.x...=", as deep as is asked for, or a value of so many arrays. */
static char *deep_change(const char *start, size_t n, const char *unit, const char *end) {
    const size_t n_unit = strlen(unit);
    char *text = calloc(strlen(start) + n * n_unit + strlen(end) + 1, 1);
    assert_non_null(text);
    (void)memcpy(text, start, strlen(start));
    for (size_t i = 0; i < n; i++) {
        (void)memcpy(text + strlen(start) + i * n_unit, unit, n_unit);
    }
    (void)memcpy(text + strlen(start) + n * n_unit, end, strlen(end));
    return text;
}

/* A document that is copied, written and read again by recursion has a depth that is known. */
static void deep_ones_are_refused(void **state) {
    static const struct {
        const char *start;
        size_t n;
        const char *unit, *end, *part;
    } cases[] = {
        {"model.init.config", 60000, ".x", "=1", "has more than 32 keys"},
        {"model.init.config", 29, ".x", "=1", NULL},
        {"model.init.config", 30, ".x", "=1", "has more than 32 keys"},
        {"model.init.config.x=", 96, "{\"a\":", "1", NULL},
        {"model.init.config.x=", 97, "{\"a\":", "{}", "are more than 100 deep"},
        {"model.init.config.x=", 1000, "{\"a\":", "1", "are more than 100 deep"},
    };
    fixture f;
    mz_train_recipe r;
    open_fixture(&f, *state, LEAST);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *change = deep_change(cases[i].start, cases[i].n, cases[i].unit, cases[i].end);
        const size_t n_close = cases[i].unit[0] == '{' ? cases[i].n : 0;
        char *whole = deep_change(change, n_close, "}", "");
        const char *set = whole;
        if (cases[i].part == NULL) {
            mz_assert_ok(f.ctx, mz_train_recipe_load(f.ctx, f.path, &set, 1, &r));
            mz_train_recipe_free(f.ctx, &r);
        } else if (mz_train_recipe_load(f.ctx, f.path, &set, 1, &r) != MZ_ERR_LIMIT ||
                   strstr(f.ctx->error.message, cases[i].part) == NULL) {
            fail_msg("case %zu: %s", i, f.ctx->error.message);
        }
        free(whole);
        free(change);
    }
    mz_temp_dir_remove(f.dir);
}

static void each_allocation_may_fail(void **state) {
    static const char *const sets[] = {"data.sources.0.kind=csv", "data.sources.0.path=x.csv"};
    (void)state;
    mz_failing_allocator failing;
    fixture f;
    bool failed = true;
    for (int64_t at = 1; failed; at++) {
        mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
        mz_context ctx;
        mz_train_recipe r;
        mz_assert_ok(&ctx, mz_context_init(&ctx, &(mz_context_options){.allocator = &allocator,
                                                                       .n_threads = 1}));
        open_fixture(&f, &ctx, LEAST);
        const int64_t n_live = failing.n_live;
        failing.fail_at = failing.n_calls + at;
        failed = mz_train_recipe_load(&ctx, f.path, sets, 2, &r) != MZ_OK;
        if (failed) {
            assert_int_equal(ctx.error.status, MZ_ERR_NOMEM);
        } else {
            mz_train_recipe_free(&ctx, &r);
        }
        assert_int_equal(failing.n_live, n_live);
        mz_context_close(&ctx);
        mz_temp_dir_remove(f.dir);
        assert_true(at < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_manual),
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(changes_from_the_line_hold),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(deep_ones_are_refused),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
