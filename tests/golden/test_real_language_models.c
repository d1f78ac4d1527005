/* Real checkpoints against their goldens; skipped unless MOEZOO_MODELS names a folder made by
 * tools/get-models. */
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/language_model.h"
#include "core/weights.h"

#define GOLDENS MOEZOO_TESTS_DIR "/golden/"

enum { MAX_PROMPT = 512, SKIPPED = 77 };

static const char smollm2[] = "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";
static const char gemma3[] = "gemma3-270m/gemma-3-270m-q4_k_m.gguf";

/* A model, a session and what they are compared with. */
typedef struct real_model {
    mz_context ctx;
    mz_language_model *model;
    mz_lm_session *session;
    json_t *golden;
    int64_t vocab_size;
    float *logits; /* [vocab_size] */
} real_model;

static void open_model(real_model *m, const char *name, const char *golden,
                       mz_precision precision) {
    char path[1024];
    const mz_load_options options = {.precision = precision};
    const mz_context_options context = {.isa = MZ_ISA_AUTO};
    const mz_lm_session_options session = {.n_positions = 2048};
    (void)snprintf(path, sizeof path, "%s/%s", getenv("MOEZOO_MODELS"), name);
    *m = (real_model){0};
    mz_assert_ok(&m->ctx, mz_context_init(&m->ctx, &context));
    mz_assert_ok(&m->ctx, mz_zoo_load_language_model(&m->ctx, path, &options, &m->model));
    mz_assert_ok(&m->ctx, mz_lm_session_create(&m->ctx, m->model, &session, &m->session));
    (void)snprintf(path, sizeof path, "%s%s", GOLDENS, golden);
    mz_assert_ok(&m->ctx, mz_json_load(&m->ctx, path, &m->golden));
    m->vocab_size = mz_language_model_info_of(m->model)->vocab_size;
    m->logits = malloc((size_t)m->vocab_size * sizeof *m->logits);
    assert_non_null(m->logits);
}

static void close_model(real_model *m) {
    free(m->logits);
    json_decref(m->golden);
    mz_lm_session_destroy(m->session);
    mz_language_model_close(m->model);
    mz_context_close(&m->ctx);
}

static int64_t read_ids(const json_t *list, int32_t *out, int64_t most) {
    const int64_t n = (int64_t)json_array_size(list);
    assert_true(n > 0 && n <= most);
    for (int64_t i = 0; i < n; i++) {
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    }
    return n;
}

static void step(real_model *m, const int32_t *ids, int64_t n) {
    const mz_lm_input input = {.n_tokens = n, .ids = ids};
    mz_assert_ok(&m->ctx, mz_lm_session_run(m->session, &input, NULL, m->logits));
}

/* The prompt, then each of the golden's tokens, which must be the likeliest. */
static void check_greedy(real_model *m, const json_t *prompt, void (*check)(real_model *, int),
                         int index) {
    int32_t ids[MAX_PROMPT];
    int32_t expected[MAX_PROMPT];
    const int64_t n = read_ids(json_object_get(prompt, "ids"), ids, MAX_PROMPT);
    const int64_t n_expected =
        read_ids(json_object_get(prompt, "greedy_ids"), expected, MAX_PROMPT);
    mz_lm_session_truncate(m->session, 0, 0);
    step(m, ids, n);
    check(m, index);
    for (int64_t i = 0; i < n_expected; i++) {
        for (int64_t j = 0; j < m->vocab_size; j++) {
            assert_true(m->logits[j] <= m->logits[expected[i]]);
        }
        step(m, &expected[i], 1);
    }
}

static void check_all_greedy(real_model *m, void (*check)(real_model *, int)) {
    const json_t *prompts = json_object_get(m->golden, "prompts");
    assert_true(json_array_size(prompts) > 0);
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        check_greedy(m, json_array_get(prompts, i), check, (int)i);
    }
}

/* All logits after the prompt, within 1e-3. */
static void check_smollm2_logits(real_model *m, int index) {
    mz_weights *io = NULL;
    mz_tensor expected;
    char name[64];
    double worst = 0;
    (void)snprintf(name, sizeof name, "prompt%d.last_logits", index);
    mz_assert_ok(&m->ctx, mz_weights_open(&m->ctx, GOLDENS "smollm2/io.safetensors", &io));
    assert_true(mz_weights_find(io, name, &expected));
    assert_int_equal(mz_tensor_n_elements(&expected), m->vocab_size);
    for (int64_t i = 0; i < m->vocab_size; i++) {
        const double value = (double)((const float *)expected.data)[i];
        const double apart = fabs((double)m->logits[i] - value) / (1 + fabs(value));
        worst = apart > worst ? apart : worst;
    }
    mz_weights_close(&m->ctx, io);
    printf("smollm2 %s: worst %.2g of 1 + |logit|\n", name, worst);
    assert_true(worst <= 1e-3);
}

/* The best logits after the prompt, within 2e-3. */
static void check_gemma3_logits(real_model *m, int index) {
    const json_t *prompt = json_array_get(json_object_get(m->golden, "prompts"), (size_t)index);
    const json_t *best = json_object_get(prompt, "last_logits_best64");
    const json_t *ids = json_object_get(best, "ids");
    double worst = 0;
    assert_true(json_array_size(ids) > 0);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const double value = json_number_value(json_array_get(json_object_get(best, "logits"), i));
        const json_int_t id = json_integer_value(json_array_get(ids, i));
        assert_true(id >= 0 && id < m->vocab_size);
        worst = fmax(worst, fabs((double)m->logits[id] - value));
    }
    printf("gemma3 prompt %d: worst %.2g\n", index, worst);
    assert_true(worst <= 2e-3);
}

static void test_smollm2(void **state) {
    (void)state;
    real_model m;
    open_model(&m, smollm2, "smollm2/golden.json", MZ_PRECISION_F32);
    check_all_greedy(&m, check_smollm2_logits);
    close_model(&m);
}

static void test_gemma3(void **state) {
    (void)state;
    real_model m;
    open_model(&m, gemma3, "gemma3/golden.json", MZ_PRECISION_F32);
    check_all_greedy(&m, check_gemma3_logits);
    close_model(&m);
}

/* -log p(id) of logits. */
static double surprise(const float *logits, int64_t n, int32_t id) {
    double max = (double)logits[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++) {
        max = fmax(max, (double)logits[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - max);
    }
    return log(sum) + max - (double)logits[id];
}

/* Perplexity of the golden's text, each token but the first scored given all before it. */
static double perplexity(real_model *m) {
    enum { MOST = 2048, CHUNK = 128 };
    static int32_t ids[MOST];
    json_t *list = NULL;
    mz_lm_session_truncate(m->session, 0, 0);
    json_error_t error;
    list = json_load_file(GOLDENS "smollm2/perplexity_ids.json", 0, &error);
    assert_non_null(list);
    const int64_t n = read_ids(list, ids, MOST);
    json_decref(list);
    float *logits = malloc((size_t)(CHUNK * m->vocab_size) * sizeof *logits);
    assert_non_null(logits);
    uint8_t wanted[CHUNK];
    memset(wanted, 1, sizeof wanted);
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += CHUNK) {
        const int64_t rows = n - begin < CHUNK ? n - begin : CHUNK;
        const mz_lm_input input = {.n_tokens = rows, .ids = ids + begin, .wanted = wanted};
        mz_assert_ok(&m->ctx, mz_lm_session_run(m->session, &input, NULL, logits));
        for (int64_t i = 0; i < rows && begin + i + 1 < n; i++) {
            sum += surprise(logits + i * m->vocab_size, m->vocab_size, ids[begin + i + 1]);
        }
    }
    free(logits);
    return exp(sum / (double)(n - 1));
}

/* In the default precision within 0.5 % of the exact one's, 24.690. */
static void test_perplexity(void **state) {
    (void)state;
    real_model m;
    open_model(&m, smollm2, "smollm2/golden.json", MZ_PRECISION_INT8);
    const double p = perplexity(&m);
    printf("smollm2: perplexity %.3f\n", p);
    assert_true(fabs(p - 24.690) <= 0.005 * 24.690);
    close_model(&m);
}

int main(void) {
    const char *models = getenv("MOEZOO_MODELS");
    if (models == NULL || models[0] == '\0') {
        printf("skipped: MOEZOO_MODELS names no folder of models\n");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_gemma3),
        cmocka_unit_test(test_perplexity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
