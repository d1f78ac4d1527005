/* Answers as streams and perplexity, on the model of tests/golden/ask-tiny: its answer is the
 * alphabet, three more characters and an end token. */
#include "tests/testing.h"

#include <math.h>
#include <string.h>

#include "apps/ask/answer_stream.h"
#include "apps/ask/perplexity.h"

#define ANSWER "abcdefghijklmnopqrstuvwxyz\xc3\xa9\xf0\x9f\x98\x80."

enum { N_ANSWER = 33, N_PROMPT = 4 };

static const int32_t prompt[N_PROMPT] = {'H', 'i', '?', '\n'};

typedef struct fixture {
    mz_context ctx;
    mz_language_model *model;
} fixture;

/* What a sink got. */
typedef struct heard {
    mz_context *ctx;
    char text[256];
    size_t n;
    int n_calls, stop_after, fail_after; /* calls; 0: never */
} heard;

static mz_status hear(void *self, const char *text, size_t n_bytes) {
    heard *h = self;
    assert_true(h->n + n_bytes < sizeof h->text);
    memcpy(h->text + h->n, text, n_bytes);
    h->n += n_bytes;
    h->text[h->n] = '\0';
    h->n_calls++;
    return h->fail_after > 0 && h->n_calls >= h->fail_after
               ? mz_fail(&h->ctx->error, MZ_ERR_IO, "deaf")
               : MZ_OK;
}

static bool enough(void *self) {
    const heard *h = self;
    return h->stop_after > 0 && h->n_calls >= h->stop_after;
}

static mz_answer_stream *open_stream(fixture *f, int64_t max_tokens, int64_t context, bool shift) {
    mz_answer_stream *s = NULL;
    const mz_answer_options options = {.sampling = {.top_p = 1, .repeat_penalty = 1},
                                       .max_tokens = max_tokens,
                                       .context_shift = shift,
                                       .session = {.n_positions = context}};
    mz_assert_ok(&f->ctx, mz_answer_stream_open(&f->ctx, f->model, &options, &s));
    return s;
}

static mz_answer_result run(fixture *f, mz_answer_stream *s, const int32_t *ids, int64_t n,
                            heard *h) {
    mz_answer_result result;
    h->ctx = &f->ctx;
    const mz_answer_sink sink = {hear, enough, h};
    mz_assert_ok(&f->ctx, mz_answer_stream_run(s, ids, n, &sink, &result));
    return result;
}

static void whole_answer(void **state) {
    fixture *f = *state;
    heard h = {0};
    mz_answer_stream *s = open_stream(f, 100, 0, false);
    const mz_answer_result r = run(f, s, prompt, N_PROMPT, &h);
    assert_string_equal(h.text, ANSWER);
    assert_int_equal(r.stopped, MZ_STOPPED_END);
    assert_string_equal(mz_stopped_name(r.stopped), "end");
    assert_int_equal(r.n_answer, N_ANSWER);
    assert_int_equal(r.n_decoded, N_ANSWER);
    assert_int_equal(r.n_prompt, N_PROMPT);
    assert_int_equal(r.n_reused, 0);
    /* 26 letters, a character of two tokens, one of four and a full stop: never half of one. */
    assert_int_equal(h.n_calls, 29);
    assert_int_equal(mz_answer_stream_context(s), 256);
    int64_t n = 0;
    const int32_t *ids = mz_answer_stream_ids(s, &n);
    assert_int_equal(n, N_PROMPT + N_ANSWER);
    assert_memory_equal(ids, prompt, sizeof prompt);
    assert_int_equal(ids[N_PROMPT], 'a');
    mz_answer_stream_close(s);
}

/* A conversation: what the cache holds is not run again, and where it differs it is. */
static void reuse(void **state) {
    fixture *f = *state;
    heard h = {0};
    int32_t ids[64];
    int64_t n = 0;
    mz_answer_stream *s = open_stream(f, 100, 0, false);
    (void)run(f, s, prompt, N_PROMPT, &h);
    memcpy(ids, mz_answer_stream_ids(s, &n), (size_t)(N_PROMPT + N_ANSWER) * sizeof *ids);
    ids[n++] = '\n';
    h = (heard){0};
    mz_answer_result r = run(f, s, ids, n, &h);
    assert_string_equal(h.text, ANSWER);
    assert_int_equal(r.n_prompt, n);
    assert_int_equal(r.n_reused, n - 1);
    h = (heard){0};
    r = run(f, s, ids, n, &h); /* the same once more: its last token has to be run */
    assert_int_equal(r.n_reused, n - 1);
    assert_string_equal(h.text, ANSWER);
    ids[2] = '!';
    h = (heard){0};
    r = run(f, s, ids, n, &h);
    assert_int_equal(r.n_reused, 2);
    assert_string_equal(h.text, ANSWER);
    mz_answer_stream_close(s);
}

/* The repetition penalty looks at the conversation alone, not at what was answered before it. */
static void penalty_of_a_conversation(void **state) {
    fixture *f = *state;
    heard first = {0};
    heard again = {0};
    mz_answer_stream *s = NULL;
    const mz_answer_options options = {
        .sampling = {.top_p = 1, .repeat_penalty = 100, .repeat_last_n = 64}, .max_tokens = 40};
    mz_assert_ok(&f->ctx, mz_answer_stream_open(&f->ctx, f->model, &options, &s));
    (void)run(f, s, prompt, N_PROMPT, &first);
    (void)run(f, s, prompt, N_PROMPT, &again);
    assert_true(first.n > 10);
    assert_string_equal(again.text, first.text);
    mz_answer_stream_close(s);
}

static void stops(void **state) {
    fixture *f = *state;
    heard h = {0};
    mz_answer_stream *s = open_stream(f, 100, 0, false);
    mz_assert_ok(&f->ctx, mz_answer_stream_add_stop(s, "<|endoftext|>")); /* a control token */
    mz_assert_ok(&f->ctx, mz_answer_stream_add_stop(s, "xyz!"));
    mz_assert_ok(&f->ctx, mz_answer_stream_add_stop(s, "jkl"));
    assert_int_equal(mz_answer_stream_add_stop(s, ""), MZ_ERR_ARG);
    const mz_answer_result r = run(f, s, prompt, N_PROMPT, &h);
    assert_string_equal(h.text, "abcdefghi");
    assert_int_equal(r.stopped, MZ_STOPPED_STRING);
    assert_int_equal(r.n_answer, 12);
    mz_answer_stream_close(s);
}

static void limits(void **state) {
    fixture *f = *state;
    heard h = {0};
    mz_answer_stream *s = open_stream(f, 27, 0, false);
    mz_assert_ok(&f->ctx, mz_answer_stream_add_stop(s, "z\xc3\xa9"));
    mz_answer_result r = run(f, s, prompt, N_PROMPT, &h);
    /* What was held back for a stop string and half a character are part of the answer. */
    assert_string_equal(h.text, "abcdefghijklmnopqrstuvwxyz\xef\xbf\xbd");
    assert_int_equal(r.stopped, MZ_STOPPED_LENGTH);
    assert_string_equal(mz_stopped_name(r.stopped), "length");
    assert_int_equal(r.n_decoded, 26);
    mz_answer_stream_close(s);

    s = open_stream(f, 100, 8, false);
    h = (heard){0};
    r = run(f, s, prompt, N_PROMPT, &h);
    assert_string_equal(h.text, "abcde"); /* 8 positions hold the prompt and four of the five */
    assert_int_equal(r.stopped, MZ_STOPPED_CONTEXT);
    assert_string_equal(mz_stopped_name(r.stopped), "length");
    const mz_answer_sink sink = {hear, enough, &h};
    static const int32_t nine[9] = {0};
    assert_int_equal(mz_answer_stream_run(s, nine, 9, &sink, &r), MZ_ERR_LIMIT);
    assert_non_null(strstr(f->ctx.error.message, "the prompt has 9 tokens, the context room for 8 "
                                                 "and an answer; --context allows up to 256"));
    assert_int_equal(mz_answer_stream_run(s, nine, 8, &sink, &r), MZ_ERR_LIMIT);
    assert_int_equal(mz_answer_stream_run(s, nine, 0, &sink, &r), MZ_ERR_ARG);
    h = (heard){0};
    (void)run(f, s, prompt, N_PROMPT, &h); /* and it still answers */
    assert_string_equal(h.text, "abcde");
    mz_answer_stream_close(s);
}

/* Contexts of less than two pages are read again, larger ones moved by whole pages. */
static void shifting(void **state) {
    fixture *f = *state;
    static const int64_t contexts[] = {8, 20, 140, 200};
    for (size_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        heard h = {0};
        int32_t ids[200];
        int64_t n_ids = contexts[i] > 100 ? contexts[i] - 10 : N_PROMPT;
        for (int64_t k = 0; k < n_ids; k++) {
            ids[k] = k + 1 < n_ids ? 'A' + (int32_t)(k % 20) : '\n';
        }
        mz_answer_stream *s = open_stream(f, 100, contexts[i], true);
        const mz_answer_result r = run(f, s, ids, n_ids, &h);
        int64_t n = 0;
        assert_string_equal(h.text, ANSWER);
        assert_int_equal(r.stopped, MZ_STOPPED_END);
        const int32_t *held = mz_answer_stream_ids(s, &n);
        assert_true(n <= contexts[i]);
        assert_true(n < n_ids + N_ANSWER);
        /* A beginning of prompt and answer, and then their end. */
        int32_t whole[200 + N_ANSWER];
        int64_t front = 0;
        memcpy(whole, ids, (size_t)n_ids * sizeof *ids);
        for (int k = 0; k < N_ANSWER; k++) {
            whole[n_ids + k] = (unsigned char)ANSWER[k];
        }
        while (front < n && held[front] == whole[front]) {
            front++;
        }
        assert_memory_equal(held + front, whole + n_ids + N_ANSWER - (n - front),
                            (size_t)(n - front) * sizeof *held);
        mz_answer_stream_close(s);
    }
}

static void interruptions(void **state) {
    fixture *f = *state;
    heard h = {.stop_after = 3};
    mz_answer_stream *s = open_stream(f, 100, 0, false);
    mz_answer_result r = run(f, s, prompt, N_PROMPT, &h);
    assert_string_equal(h.text, "abc");
    assert_int_equal(r.stopped, MZ_STOPPED_INTERRUPT);
    assert_string_equal(mz_stopped_name(r.stopped), "interrupt");
    h = (heard){.ctx = &f->ctx, .fail_after = 5};
    const mz_answer_sink sink = {hear, enough, &h};
    assert_int_equal(mz_answer_stream_run(s, prompt, N_PROMPT, &sink, &r), MZ_ERR_IO);
    assert_string_equal(h.text, "abcde");
    mz_answer_stream_close(s);
}

static bool at_once(void *self) {
    (void)self;
    return true;
}

static mz_status hear_nothing(void *self, const char *text, size_t n_bytes) {
    (void)self;
    (void)text;
    (void)n_bytes;
    fail_msg("an answer to half a prompt");
    return MZ_OK;
}

/* The question comes before the reading, not behind it. */
static void interrupted_prompts(void **state) {
    fixture *f = *state;
    int64_t n = -1;
    heard h = {0};
    mz_answer_result r;
    mz_answer_stream *s = open_stream(f, 4, 0, false);
    const mz_answer_sink sink = {hear_nothing, at_once, NULL};
    mz_assert_ok(&f->ctx, mz_answer_stream_run(s, prompt, N_PROMPT, &sink, &r));
    assert_int_equal(r.stopped, MZ_STOPPED_INTERRUPT);
    assert_int_equal(r.n_answer, 0);
    (void)mz_answer_stream_ids(s, &n);
    assert_int_equal(n, 0);
    r = run(f, s, prompt, N_PROMPT, &h);
    assert_int_equal(r.n_reused, 0);
    assert_string_equal(h.text, "abcd");
    mz_answer_stream_close(s);
}

/* ---- perplexity ---- */

static void negative_logarithms(void **state) {
    (void)state;
    const float logits[4] = {1, 2, 3, -1};
    const double sum = exp(1) + exp(2) + exp(3) + exp(-1);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(mz_perplexity_nll(logits, 4, i) - (log(sum) - (double)logits[i])) < 1e-12);
    }
    const float large[2] = {80000, 80000};
    assert_true(fabs(mz_perplexity_nll(large, 2, 0) - log(2)) < 1e-10);
}

enum { N_TEXT = 150 };

/* Each token given those before it in the same window, one run a token. */
static double plain_nll(fixture *f, const int32_t *ids, int64_t n, int64_t first) {
    const int64_t vocab_size = mz_language_model_info_of(f->model)->vocab_size;
    float *logits = NULL;
    void *memory = NULL;
    double nll = 0;
    mz_lm_session *session = NULL;
    const mz_lm_session_options options = {0};
    mz_assert_ok(&f->ctx, mz_lm_session_create(&f->ctx, f->model, &options, &session));
    mz_assert_ok(&f->ctx, mz_calloc(&f->ctx, (size_t)vocab_size, sizeof(float), "logits", &memory));
    logits = memory;
    for (int64_t i = 0; i + 1 < n; i++) {
        const mz_lm_input input = {.n_tokens = 1, .ids = ids + i};
        mz_assert_ok(&f->ctx, mz_lm_session_run(session, &input, NULL, logits));
        nll += i + 1 >= first ? mz_perplexity_nll(logits, vocab_size, ids[i + 1]) : 0;
    }
    mz_free(&f->ctx, logits);
    mz_lm_session_destroy(session);
    return nll;
}

static mz_perplexity score(fixture *f, int64_t context, int32_t bos, const int32_t *ids,
                           int64_t n) {
    mz_perplexity p;
    mz_lm_session *session = NULL;
    const mz_lm_session_options options = {.n_positions = context};
    mz_assert_ok(&f->ctx, mz_lm_session_create(&f->ctx, f->model, &options, &session));
    mz_assert_ok(&f->ctx,
                 mz_perplexity_score(&f->ctx, f->model, session, bos, ids, n, NULL, NULL, &p));
    mz_lm_session_destroy(session);
    return p;
}

static void windows(void **state) {
    fixture *f = *state;
    int32_t ids[N_TEXT + 1];
    for (int i = 0; i <= N_TEXT; i++) {
        ids[i] = (i * 37 + i * i * 5) % 256;
    }
    const mz_perplexity whole = score(f, 0, -1, ids, N_TEXT);
    const double expected = plain_nll(f, ids, N_TEXT, 1);
    assert_int_equal(whole.n_scored, N_TEXT - 1);
    assert_int_equal(whole.n_windows, 1);
    assert_true(fabs(whole.nll - expected) < 1e-5 * expected);
    /* Just enough room: the last token is foretold and not run. */
    const mz_perplexity tight = score(f, N_TEXT - 1, -1, ids, N_TEXT);
    assert_int_equal(tight.n_windows, 1);
    assert_true(fabs(tight.nll - expected) < 1e-5 * expected);
    /* Windows of 100 positions foretell 101 tokens: 0..100, then 50..149. */
    const mz_perplexity two = score(f, 100, -1, ids, N_TEXT);
    const double halves = plain_nll(f, ids, 101, 1) + plain_nll(f, ids + 50, 100, 51);
    assert_int_equal(two.n_scored, N_TEXT - 1);
    assert_int_equal(two.n_windows, 2);
    assert_true(fabs(two.nll - halves) < 1e-5 * halves);
    /* With a token in front every token of the text is scored. */
    const mz_perplexity bos = score(f, 0, ids[0], ids + 1, N_TEXT - 1);
    assert_int_equal(bos.n_scored, N_TEXT - 1);
    assert_true(fabs(bos.nll - expected) < 1e-5 * expected);
    for (int64_t context = 4; context < 60; context += 11) {
        assert_int_equal(score(f, context, -1, ids, N_TEXT).n_scored, N_TEXT - 1);
        assert_int_equal(score(f, context, 256, ids, N_TEXT).n_scored, N_TEXT);
    }
}

static void nothing_to_score(void **state) {
    fixture *f = *state;
    mz_perplexity p;
    mz_lm_session *session = NULL;
    const mz_lm_session_options options = {0};
    const int32_t wrong[3] = {1, 259, 2};
    mz_assert_ok(&f->ctx, mz_lm_session_create(&f->ctx, f->model, &options, &session));
    assert_int_equal(mz_perplexity_score(&f->ctx, f->model, session, -1, wrong, 1, NULL, NULL, &p),
                     MZ_ERR_ARG);
    assert_int_equal(mz_perplexity_score(&f->ctx, f->model, session, -1, wrong, 3, NULL, NULL, &p),
                     MZ_ERR_LIMIT);
    mz_lm_session_destroy(session);
}

static int setup(void **state) {
    static fixture f;
    const mz_context_options options = {.n_threads = 2, .isa = MZ_ISA_AUTO};
    const mz_load_options load = {0};
    if (mz_context_init(&f.ctx, &options) != MZ_OK) {
        return 1;
    }
    *state = &f;
    return mz_zoo_load_language_model(&f.ctx, MOEZOO_TESTS_DIR "/golden/ask-tiny", &load,
                                      &f.model) == MZ_OK
               ? 0
               : 1;
}

static int teardown(void **state) {
    fixture *f = *state;
    mz_language_model_close(f->model);
    mz_context_close(&f->ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answer),
        cmocka_unit_test(reuse),
        cmocka_unit_test(penalty_of_a_conversation),
        cmocka_unit_test(stops),
        cmocka_unit_test(limits),
        cmocka_unit_test(shifting),
        cmocka_unit_test(interruptions),
        cmocka_unit_test(interrupted_prompts),
        cmocka_unit_test(negative_logarithms),
        cmocka_unit_test(windows),
        cmocka_unit_test(nothing_to_score),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
