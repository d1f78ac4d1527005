/* Sessions of language models: ragged batches over sequences that hold something already, numbers
 * of threads, and moved keys. */
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/language_model.h"

enum { N = 150, MAX_VOCABULARY = 160, N_SEQUENCES = 4 };

typedef struct fixture {
    mz_context ctx;
    mz_language_model *model;
    mz_lm_session *session;
    int64_t vocab_size;
    int32_t ids[N];
} fixture;

static void begin_fixture(fixture *f, int n_threads) {
    const mz_context_options context = {.n_threads = n_threads, .isa = MZ_ISA_AUTO};
    *f = (fixture){0};
    mz_assert_ok(&f->ctx, mz_context_init(&f->ctx, &context));
}

static void open_session(fixture *f, const mz_lm_session_options *options) {
    mz_assert_ok(&f->ctx, mz_lm_session_create(&f->ctx, f->model, options, &f->session));
    f->vocab_size = mz_language_model_info_of(f->model)->vocab_size;
    assert_true(f->vocab_size <= MAX_VOCABULARY);
    for (int i = 0; i < N; i++) {
        f->ids[i] = (int32_t)((i * 37 + 11) % f->vocab_size);
    }
}

static void open_golden(fixture *f, const char *name, int n_threads, int64_t n_batch) {
    char path[512];
    const mz_load_options load = {0};
    begin_fixture(f, n_threads);
    (void)snprintf(path, sizeof path, "%s/golden/llm/%s", MOEZOO_TESTS_DIR, name);
    mz_assert_ok(&f->ctx, mz_zoo_load_language_model(&f->ctx, path, &load, &f->model));
    open_session(f, &(mz_lm_session_options){
                        .n_sequences = N_SEQUENCES, .n_positions = 256, .n_batch = n_batch});
}

static void close_fixture(fixture *f) {
    mz_lm_session_destroy(f->session);
    mz_language_model_close(f->model);
    mz_context_close(&f->ctx);
}

/* Ids [begin, end) into a sequence; the last one's logits. */
static void feed(fixture *f, int32_t sequence, int begin, int end, float *logits) {
    int32_t sequences[N];
    for (int i = 0; i < N; i++) {
        sequences[i] = sequence;
    }
    const mz_lm_input input = {
        .n_tokens = end - begin, .ids = f->ids + begin, .sequence = sequences};
    mz_assert_ok(&f->ctx, mz_lm_session_run(f->session, &input, NULL, logits));
}

/* ---- ragged batches ---- */

/* A part of a batch: tokens [begin, end) of the ids follow in a sequence that holds those before.
 */
static const struct part {
    int32_t sequence;
    int begin, end;
} parts[N_SEQUENCES] = {{2, 70, 71}, {0, 0, 33}, {3, 63, 70}, {1, 140, 141}};
enum { N_ROWS = 42, N_WANTED = 8 };
/* The first three of the prefill and its last row, two of the continued one, and both decoded. */
static const int wanted_rows[N_WANTED] = {0, 1, 2, 3, 33, 35, 40, 41};

static void fill_sequences(fixture *f) {
    float unused[MAX_VOCABULARY];
    for (int i = 0; i < N_SEQUENCES; i++) {
        if (parts[i].begin > 0) {
            feed(f, parts[i].sequence, 0, parts[i].begin, unused);
        }
    }
}

/* The wanted logits of one batch of all parts. */
static void run_batch(const char *name, int n_threads, int64_t n_batch, float *logits) {
    fixture f;
    int32_t ids[N_ROWS];
    int32_t sequence[N_ROWS];
    uint8_t wanted[N_ROWS] = {0};
    int n = 0;
    open_golden(&f, name, n_threads, n_batch);
    fill_sequences(&f);
    for (int i = 0; i < N_SEQUENCES; i++) {
        for (int k = parts[i].begin; k < parts[i].end; k++, n++) {
            ids[n] = f.ids[k];
            sequence[n] = parts[i].sequence;
        }
    }
    assert_int_equal(n, N_ROWS);
    for (int i = 0; i < N_WANTED; i++) {
        wanted[wanted_rows[i]] = 1;
    }
    const mz_lm_input input = {.n_tokens = n, .ids = ids, .sequence = sequence, .wanted = wanted};
    mz_assert_ok(&f.ctx, mz_lm_session_run(f.session, &input, NULL, logits));
    for (int i = 0; i < N_SEQUENCES; i++) {
        assert_int_equal(mz_lm_session_n_positions(f.session, parts[i].sequence), parts[i].end);
    }
    close_fixture(&f);
}

/* The same logits, each row of the parts in a call of its own. */
static void run_singly(const char *name, float *logits) {
    fixture f;
    int row = 0;
    int n = 0;
    open_golden(&f, name, 1, 0);
    fill_sequences(&f);
    for (int i = 0; i < N_SEQUENCES; i++) {
        for (int k = parts[i].begin; k < parts[i].end; k++, row++) {
            const bool wanted = n < N_WANTED && wanted_rows[n] == row;
            float unused[MAX_VOCABULARY];
            feed(&f, parts[i].sequence, k, k + 1,
                 wanted ? logits + (int64_t)n * f.vocab_size : unused);
            n += wanted;
        }
    }
    assert_int_equal(n, N_WANTED);
    close_fixture(&f);
}

/* Prefill, continuation and single tokens in one batch, cut into passes anywhere, on any number of
 * threads: the bits of single calls. */
static void mixed_batches(void **state) {
    (void)state;
    static const char *const names[] = {"llama",     "mistral",          "gemma3_text",
                                        "qwen2_moe", "deepseek_v2-lite", "stablelm-parallel"};
    static const struct {
        int n_threads;
        int64_t n_batch;
    } ways[] = {{1, 0}, {2, 0}, {3, 0}, {2, 7}, {3, 1}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        float expected[N_WANTED * MAX_VOCABULARY] = {0};
        run_singly(names[i], expected);
        for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
            float logits[N_WANTED * MAX_VOCABULARY] = {0};
            run_batch(names[i], ways[k].n_threads, ways[k].n_batch, logits);
            assert_memory_equal(logits, expected, sizeof logits);
        }
    }
}

/* Nothing wanted: no logits are written, and the tokens are held all the same. */
static void nothing_wanted(void **state) {
    (void)state;
    fixture f;
    float expected[MAX_VOCABULARY];
    float logits[MAX_VOCABULARY];
    const uint8_t wanted[20] = {0};
    open_golden(&f, "qwen2_moe", 2, 8);
    feed(&f, 0, 0, 21, expected);
    const int32_t sequence[20] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const mz_lm_input input = {
        .n_tokens = 20, .ids = f.ids, .sequence = sequence, .wanted = wanted};
    mz_assert_ok(&f.ctx, mz_lm_session_run(f.session, &input, NULL, NULL));
    feed(&f, 1, 20, 21, logits);
    assert_memory_equal(logits, expected, (size_t)f.vocab_size * sizeof *logits);
    close_fixture(&f);
}

/* A trace whose reader has had enough after some results. */
static mz_status refuse(void *self, mz_stream *s, int layer, const char *name,
                        const mz_tensor *tensor) {
    int *n_left = self;
    (void)layer;
    (void)name;
    (void)tensor;
    return (*n_left)-- > 0 ? MZ_OK : mz_fail(&s->ctx->error, MZ_ERR_IO, "enough");
}

/* A call that fails in any of its two passes leaves the sequences, and the memory, as they were. */
static void failed_passes(void **state) {
    (void)state;
    fixture f;
    float expected[MAX_VOCABULARY];
    float logits[MAX_VOCABULARY];
    int n_results = 0;
    open_golden(&f, "qwen2_moe", 2, 8);
    feed(&f, 0, 0, 61, expected);
    feed(&f, 1, 0, 50, logits);
    const int32_t sequence[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const mz_lm_input more = {.n_tokens = 10, .ids = f.ids + 50, .sequence = sequence};
    for (int round = 0; round < 50; round++) { /* more than the arena would hold */
        n_results = round;
        const mz_trace trace = {.record = refuse, .self = &n_results};
        assert_int_equal(mz_lm_session_run(f.session, &more, &trace, logits), MZ_ERR_IO);
        assert_int_equal(mz_lm_session_n_positions(f.session, 0), 61);
        assert_int_equal(mz_lm_session_n_positions(f.session, 1), 50);
    }
    mz_assert_ok(&f.ctx, mz_lm_session_run(f.session, &more, NULL, logits));
    feed(&f, 1, 60, 61, logits);
    assert_memory_equal(logits, expected, (size_t)f.vocab_size * sizeof *logits);
    close_fixture(&f);
}

/* ---- moved keys ---- */

#define SIZES                                                                                      \
    "\"vocab_size\": 97, \"hidden_size\": 32, \"num_hidden_layers\": 1, "                          \
    "\"num_attention_heads\": 2, \"intermediate_size\": 48, \"max_position_embeddings\": 256"

/* Families by what they rotate. */
static const char *const shift_configs[] = {
    "{\"model_type\": \"llama\", " SIZES "}",
    "{\"model_type\": \"llama\", \"rope_interleaved\": true, " SIZES "}",
    "{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, " SIZES
    "}",
    "{\"model_type\": \"mistral\", \"sliding_window\": 40, " SIZES "}",
    "{\"model_type\": \"phi\", " SIZES "}",
    /* its only layer has a window, and the second rotation */
    "{\"model_type\": \"gemma3_text\", \"head_dim\": 16, \"sliding_window\": 40, "
    "\"rope_theta\": 1e6, " SIZES "}",
    /* latent attention: the end of a head rotates */
    "{\"model_type\": \"deepseek_v2\", \"qk_nope_head_dim\": 24, \"qk_rope_head_dim\": 8, "
    "\"v_head_dim\": 16, \"kv_lora_rank\": 16, \"n_routed_experts\": 4, "
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 24, " SIZES "}",
};

static void open_fresh(fixture *f, const char *config, mz_dtype kv_dtype) {
    const mz_load_options load = {0};
    json_t *json = NULL;
    begin_fixture(f, 2);
    mz_assert_ok(&f->ctx, mz_json_parse(&f->ctx, config, strlen(config), "config", &json));
    mz_assert_ok(&f->ctx, mz_zoo_create_language_model(&f->ctx, json, "config", &load,
                                                       MZ_DTYPE_BF16, &f->model));
    json_decref(json);
    open_session(f, &(mz_lm_session_options){.n_sequences = 2, .kv_dtype = kv_dtype});
}

/* In a model of one layer a key depends on its own token alone: forgetting the first page is as
 * if its tokens had never been there. */
static void shifted(void **state) {
    (void)state;
    static const mz_dtype types[] = {MZ_DTYPE_F32, MZ_DTYPE_F16, MZ_DTYPE_Q8_0};
    /* Narrow keys are rounded twice: measured up to 1.3e-2 at Q8_0. */
    static const double bounds[] = {1e-5, 1e-3, 3e-2};
    for (size_t i = 0; i < sizeof shift_configs / sizeof shift_configs[0]; i++) {
        for (int k = 0; k < 3; k++) {
            fixture f;
            float expected[MAX_VOCABULARY];
            float logits[MAX_VOCABULARY];
            open_fresh(&f, shift_configs[i], types[k]);
            feed(&f, 0, 0, 140, logits);
            mz_assert_ok(&f.ctx, mz_lm_session_shift(f.session, 0, 0, MZ_KV_PAGE));
            assert_int_equal(mz_lm_session_n_positions(f.session, 0), 140 - MZ_KV_PAGE);
            feed(&f, 0, 140, N, logits);
            feed(&f, 1, MZ_KV_PAGE, N, expected);
            mz_assert_close(shift_configs[i], logits, expected, f.vocab_size, bounds[k]);
            close_fixture(&f);
        }
    }
}

static void not_shifted(void **state) {
    (void)state;
    fixture f;
    float logits[MAX_VOCABULARY];
    open_fresh(&f,
               "{\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"yarn\", "
               "\"factor\": 4}, " SIZES "}",
               MZ_DTYPE_F32);
    feed(&f, 0, 0, 140, logits);
    assert_int_equal(mz_lm_session_shift(f.session, 0, 0, MZ_KV_PAGE), MZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(f.ctx.error.message, "YaRN"));
    assert_int_equal(mz_lm_session_n_positions(f.session, 0), 140);
    close_fixture(&f);
    open_fresh(&f, shift_configs[0], MZ_DTYPE_F32);
    feed(&f, 0, 0, 140, logits);
    assert_int_equal(mz_lm_session_shift(f.session, 0, 0, 1), MZ_ERR_ARG);
    assert_int_equal(mz_lm_session_shift(f.session, 0, 0, 192), MZ_ERR_ARG);
    assert_int_equal(mz_lm_session_shift(f.session, 2, 0, MZ_KV_PAGE), MZ_ERR_ARG);
    assert_int_equal(mz_lm_session_n_positions(f.session, 0), 140);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixed_batches), cmocka_unit_test(nothing_wanted),
        cmocka_unit_test(failed_passes), cmocka_unit_test(shifted),
        cmocka_unit_test(not_shifted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
