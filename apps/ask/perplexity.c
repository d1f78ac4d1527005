#include "apps/ask/perplexity.h"

#include <math.h>
#include <string.h>

#include "core/threads.h"

enum { MAX_ROWS = 256, LOGITS_OF_A_CHUNK = 8 << 20 };

/* One mz_perplexity_score. */
typedef struct scorer {
    mz_context *ctx;
    mz_lm_session *session;
    const int32_t *ids; /* the text */
    int64_t n, vocab_size;
    int32_t bos;
    int64_t n_rows;    /* of a chunk at most */
    int32_t *row_ids;  /* [n_rows] */
    uint8_t *wanted;   /* [n_rows] */
    float *logits;     /* [n_rows, vocab_size] */
    double *row_nll;   /* [n_rows] */
    int64_t first_row; /* text position that row 0's logits foretell */
    bool (*done)(void *arg, int64_t n_scored);
    void *arg;
    mz_perplexity *out;
} scorer;

double mz_perplexity_nll(const float *logits, int64_t n, int32_t id) {
    double largest = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        largest = (double)logits[i] > largest ? (double)logits[i] : largest;
    }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return log(sum) + largest - (double)logits[id];
}

static void score_rows(void *arg, int64_t begin, int64_t end, int thread) {
    scorer *s = arg;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        s->row_nll[row] = mz_perplexity_nll(s->logits + row * s->vocab_size, s->vocab_size,
                                            s->ids[s->first_row + row]);
    }
}

static mz_status allocate(scorer *s) {
    void *memory = NULL;
    const size_t n = (size_t)s->n_rows;
    MZ_TRY(mz_calloc(s->ctx, n, sizeof(int32_t), "tokens", &memory));
    s->row_ids = memory;
    MZ_TRY(mz_calloc(s->ctx, n, sizeof(uint8_t), "tokens", &memory));
    s->wanted = memory;
    MZ_TRY(mz_calloc(s->ctx, n, (size_t)s->vocab_size * sizeof(float), "logits", &memory));
    s->logits = memory;
    MZ_TRY(mz_calloc(s->ctx, n, sizeof(double), "scores", &memory));
    s->row_nll = memory;
    return MZ_OK;
}

static void release(scorer *s) {
    mz_free(s->ctx, s->row_ids);
    mz_free(s->ctx, s->wanted);
    mz_free(s->ctx, s->logits);
    mz_free(s->ctx, s->row_nll);
}

/* Token at position i of the window that begins at `start` of the text. */
static int32_t token_at(const scorer *s, int64_t start, int64_t i) {
    const int64_t has_bos = s->bos >= 0;
    return i < has_bos ? s->bos : s->ids[start + i - has_bos];
}

/* Runs positions [begin, end) of the window; those from `scored_from` on foretell a token that is
 * scored. */
static mz_status run_chunk(scorer *s, int64_t start, int64_t begin, int64_t end,
                           int64_t scored_from) {
    int64_t n_wanted = 0;
    for (int64_t i = begin; i < end; i++) {
        s->row_ids[i - begin] = token_at(s, start, i);
        s->wanted[i - begin] = i >= scored_from;
        n_wanted += i >= scored_from;
    }
    const mz_lm_input input = {.n_tokens = end - begin, .ids = s->row_ids, .wanted = s->wanted};
    MZ_TRY(mz_lm_session_run(s->session, &input, NULL, s->logits));
    /* Position i foretells position i + 1 of the window. */
    s->first_row = start + end - n_wanted + 1 - (s->bos >= 0);
    mz_pool_run(s->ctx->pool, n_wanted, 1, score_rows, s);
    for (int64_t row = 0; row < n_wanted; row++) {
        if (!isfinite(s->row_nll[row])) {
            return mz_fail(&s->ctx->error, MZ_ERR_FORMAT,
                           "token %lld of the text: the model's logits are not finite; its weights "
                           "are damaged",
                           (long long)(s->first_row + row));
        }
        s->out->nll += s->row_nll[row];
    }
    s->out->n_scored += n_wanted;
    return s->done != NULL && s->done(s->arg, s->out->n_scored)
               ? mz_fail(&s->ctx->error, MZ_ERR_INTERRUPTED, "interrupted")
               : MZ_OK;
}

/* The window of `n` positions whose text begins at `start`; its last position is only foretold. */
static mz_status run_window(scorer *s, int64_t start, int64_t n, int64_t scored_from) {
    mz_lm_session_truncate(s->session, 0, 0);
    for (int64_t i = 0; i < n - 1; i += s->n_rows) {
        const int64_t end = i + s->n_rows < n - 1 ? i + s->n_rows : n - 1;
        MZ_TRY(run_chunk(s, start, i, end, scored_from));
    }
    s->out->n_windows++;
    return MZ_OK;
}

/* A window that has W positions in the context foretells one more. */
static mz_status run_windows(scorer *s) {
    const int64_t has_bos = s->bos >= 0;
    const int64_t most = mz_lm_session_max_positions(s->session) + 1;
    const int64_t step = (most - has_bos) / 2;
    int64_t scored = 1 - has_bos; /* text position of the first that is not scored yet */
    for (int64_t start = 0; scored < s->n; start += step) {
        const int64_t left = s->n - start + has_bos;
        const int64_t n = left < most ? left : most;
        MZ_TRY(run_window(s, start, n, scored - start + has_bos - 1));
        scored = start + n - has_bos;
    }
    return MZ_OK;
}

mz_status mz_perplexity_score(mz_context *ctx, const mz_language_model *model,
                              mz_lm_session *session, int32_t bos, const int32_t *ids, int64_t n,
                              bool (*done)(void *arg, int64_t n_scored), void *arg,
                              mz_perplexity *out) {
    const int64_t vocab_size = mz_language_model_info_of(model)->vocab_size;
    const int64_t fitting = LOGITS_OF_A_CHUNK / vocab_size;
    scorer s = {.ctx = ctx,
                .session = session,
                .ids = ids,
                .n = n,
                .vocab_size = vocab_size,
                .bos = bos,
                .n_rows = fitting < 1          ? 1
                          : fitting < MAX_ROWS ? fitting
                                               : MAX_ROWS,
                .done = done,
                .arg = arg,
                .out = out};
    *out = (mz_perplexity){0};
    if (n + (bos >= 0) < 2) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "a text of %lld token%s has nothing to score",
                       (long long)n, n == 1 ? "" : "s");
    }
    if (mz_lm_session_max_positions(session) < 4) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "a context of %lld tokens, expected at least 4",
                       (long long)mz_lm_session_max_positions(session));
    }
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab_size) {
            return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                           "token %lld of the text is %d, outside the vocabulary of %lld",
                           (long long)i, ids[i], (long long)vocab_size);
        }
    }
    mz_status status = allocate(&s);
    if (status == MZ_OK) {
        status = run_windows(&s);
    }
    release(&s);
    return status;
}
