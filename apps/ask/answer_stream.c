#include "apps/ask/answer_stream.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/profile.h"
#include "llm/kv_cache.h"

enum { MAX_END_TOKENS = 32, N_SINKS = 4 };

struct mz_answer_stream {
    mz_context *ctx;
    const mz_language_model *model;
    const mz_language_model_info *info;
    const mz_tokenizer *tokenizer;
    mz_answer_options options;
    mz_lm_session *session;
    mz_sampler *sampler;
    float *logits; /* [vocab_size] of the last position */
    int32_t end_tokens[MAX_END_TOKENS];
    int n_end_tokens;
    mz_stop_strings stops;
    mz_token_list held; /* what the session holds */
    int64_t n_prompt;   /* of the answer under way */
};

const char *mz_stopped_name(mz_stopped stopped) {
    static const char *const names[] = {"end", "length", "length", "stop", "interrupt"};
    return names[stopped];
}

/* ---- life ---- */

static mz_status open_parts(mz_answer_stream *s) {
    void *logits = NULL;
    MZ_TRY(mz_language_model_tokenizer(s->ctx, s->model, &s->tokenizer));
    if (s->options.session.n_positions > s->info->max_positions) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "a context of %" PRId64 " tokens, this model was made for %" PRId64
                       "; --context takes no more",
                       s->options.session.n_positions, s->info->max_positions);
    }
    MZ_TRY(mz_lm_session_create(s->ctx, s->model, &s->options.session, &s->session));
    /* Rows of the embedding beyond the tokenizer's ids are padding: nothing could be written. */
    const int64_t n_ids = mz_tokenizer_size(s->tokenizer);
    MZ_TRY(mz_sampler_create(s->ctx, &s->options.sampling,
                             n_ids < s->info->vocab_size ? n_ids : s->info->vocab_size,
                             &s->sampler));
    MZ_TRY(mz_calloc(s->ctx, (size_t)s->info->vocab_size, sizeof(float), "logits", &logits));
    s->logits = logits;
    for (int i = 0; i < s->info->n_end_tokens; i++) {
        s->end_tokens[s->n_end_tokens++] = s->info->end_tokens[i];
    }
    return MZ_OK;
}

mz_status mz_answer_stream_open(mz_context *ctx, const mz_language_model *model,
                                const mz_answer_options *options, mz_answer_stream **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_answer_stream), "answer", &memory));
    mz_answer_stream *s = memory;
    *s = (mz_answer_stream){.ctx = ctx,
                            .model = model,
                            .info = mz_language_model_info_of(model),
                            .options = *options,
                            .stops = {.ctx = ctx}};
    const mz_status status = open_parts(s);
    if (status != MZ_OK) {
        mz_answer_stream_close(s);
        return status;
    }
    *out = s;
    return MZ_OK;
}

void mz_answer_stream_close(mz_answer_stream *s) {
    if (s == NULL) {
        return;
    }
    mz_context *ctx = s->ctx;
    mz_stop_strings_free(&s->stops);
    mz_token_list_free(ctx, &s->held);
    mz_lm_session_destroy(s->session);
    mz_sampler_destroy(ctx, s->sampler);
    mz_free(ctx, s->logits);
    mz_free(ctx, s);
}

mz_status mz_answer_stream_add_stop(mz_answer_stream *s, const char *text) {
    const int32_t id = mz_tokenizer_find(s->tokenizer, text, strlen(text));
    if (id < 0 || !mz_tokenizer_is_control(s->tokenizer, id)) {
        return mz_stop_strings_add(&s->stops, text);
    }
    if (s->n_end_tokens == MAX_END_TOKENS) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "more than %d end tokens", MAX_END_TOKENS);
    }
    s->end_tokens[s->n_end_tokens++] = id;
    return MZ_OK;
}

int64_t mz_answer_stream_context(const mz_answer_stream *s) {
    return mz_lm_session_max_positions(s->session);
}

const int32_t *mz_answer_stream_ids(const mz_answer_stream *s, int64_t *n) {
    *n = s->held.n;
    return s->held.ids;
}

/* ---- the session and what it holds ---- */

/* Room for the ids is made first: a session must not hold what the list does not. */
static mz_status append(mz_answer_stream *s, const int32_t *ids, int64_t n) {
    void *items = s->held.ids;
    MZ_TRY(mz_grow(s->ctx, &items, &s->held.capacity, (size_t)(s->held.n + n), sizeof *ids,
                   "tokens of the conversation"));
    s->held.ids = items;
    const mz_lm_input input = {.n_tokens = n, .ids = ids};
    MZ_TRY(mz_lm_session_run(s->session, &input, NULL, s->logits));
    memcpy(s->held.ids + s->held.n, ids, (size_t)n * sizeof *ids);
    s->held.n += n;
    return MZ_OK;
}

static int64_t common_front(const mz_answer_stream *s, const int32_t *ids, int64_t n) {
    const int64_t most = s->held.n < n ? s->held.n : n;
    int64_t i = 0;
    while (i < most && s->held.ids[i] == ids[i]) {
        i++;
    }
    return i;
}

static mz_status check_prompt(mz_answer_stream *s, int64_t n) {
    const int64_t context = mz_answer_stream_context(s);
    if (n < 1) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "the prompt has no tokens");
    }
    if (n < context) {
        return MZ_OK;
    }
    if (s->info->max_positions > context) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                       "the prompt has %" PRId64 " tokens, the context room for %" PRId64
                       " and an answer; --context allows up to %" PRId64 " for this model",
                       n, context, s->info->max_positions);
    }
    return mz_fail(&s->ctx->error, MZ_ERR_LIMIT,
                   "the prompt has %" PRId64 " tokens, the context room for %" PRId64
                   " and an answer, and this model was made for no more; shorten the prompt",
                   n, context);
}

/* The last id is always run: its logits are wanted. */
static mz_status prefill(mz_answer_stream *s, const int32_t *ids, int64_t n,
                         mz_answer_result *result) {
    const double start = mz_now_s();
    MZ_TRY(check_prompt(s, n));
    const int64_t common = common_front(s, ids, n);
    const int64_t reused = common < n ? common : n - 1;
    mz_lm_session_truncate(s->session, 0, reused);
    s->held.n = reused;
    MZ_TRY(append(s, ids + reused, n - reused));
    s->n_prompt = n;
    /* The penalty is of this conversation, whatever the cache held before. */
    mz_sampler_forget(s->sampler);
    for (int64_t i = 0; i < n; i++) {
        mz_sampler_accept(s->sampler, ids[i]);
    }
    result->n_prompt = n;
    result->n_reused = reused;
    result->prefill_s = mz_now_s() - start;
    return MZ_OK;
}

/* What is kept at the front, and how many are forgotten behind it: whole pages where the context
 * has several, for only those can be moved. */
static void choose_shift(const mz_answer_stream *s, int64_t *kept, int64_t *n) {
    const int64_t held = s->held.n;
    const int64_t prompt = (s->n_prompt + MZ_KV_PAGE - 1) / MZ_KV_PAGE * MZ_KV_PAGE;
    if (held >= 2 * MZ_KV_PAGE) {
        *kept = prompt <= held / 2 ? prompt : held >= 3 * MZ_KV_PAGE ? MZ_KV_PAGE : 0;
        *n = (held - *kept) / 2 / MZ_KV_PAGE * MZ_KV_PAGE;
        *n = *n > 0 ? *n : MZ_KV_PAGE;
        return;
    }
    *kept = s->n_prompt <= held / 2 ? s->n_prompt : held > 2 * N_SINKS ? N_SINKS : 0;
    *n = (held - *kept + 1) / 2;
}

/* Runs anew what follows the gap: for models whose keys cannot be moved. */
static mz_status read_again(mz_answer_stream *s, int64_t kept) {
    const int64_t n_left = s->held.n - kept;
    mz_lm_session_truncate(s->session, 0, kept);
    s->held.n = kept;
    if (n_left == 0) {
        return MZ_OK;
    }
    const mz_lm_input input = {.n_tokens = n_left, .ids = s->held.ids + kept};
    MZ_TRY(mz_lm_session_run(s->session, &input, NULL, s->logits));
    s->held.n += n_left;
    return MZ_OK;
}

/* Forgets the older half of what may be forgotten. */
static mz_status shift(mz_answer_stream *s) {
    int64_t kept = 0;
    int64_t n = 0;
    choose_shift(s, &kept, &n);
    const bool whole_pages = kept % MZ_KV_PAGE == 0 && n % MZ_KV_PAGE == 0;
    const mz_status status =
        whole_pages ? mz_lm_session_shift(s->session, 0, kept, n) : MZ_ERR_UNSUPPORTED;
    if (status != MZ_OK && status != MZ_ERR_UNSUPPORTED) {
        return status;
    }
    memmove(s->held.ids + kept, s->held.ids + kept + n,
            (size_t)(s->held.n - kept - n) * sizeof *s->held.ids);
    s->held.n -= n;
    return status == MZ_OK ? MZ_OK : read_again(s, kept);
}

/* ---- the answer ---- */

static bool is_end(const mz_answer_stream *s, int32_t id) {
    for (int i = 0; i < s->n_end_tokens; i++) {
        if (s->end_tokens[i] == id) {
            return true;
        }
    }
    return false;
}

static mz_status emit(mz_answer_stream *s, const mz_answer_sink *sink, const char *piece,
                      size_t n_piece, bool *stopped) {
    const char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_stop_strings_push(&s->stops, piece, n_piece, &text, &n_bytes, stopped));
    return n_bytes > 0 ? sink->write(sink->self, text, n_bytes) : MZ_OK;
}

/* Makes the token after the next one possible. *full: there is no room. */
static mz_status advance(mz_answer_stream *s, int32_t id, bool *full) {
    if (s->held.n >= mz_answer_stream_context(s)) {
        if (!s->options.context_shift) {
            *full = true;
            return MZ_OK;
        }
        MZ_TRY(shift(s));
    }
    return append(s, &id, 1);
}

static mz_status decode(mz_answer_stream *s, mz_detokenizer *d, const mz_answer_sink *sink,
                        mz_answer_result *result) {
    for (;;) {
        const char *piece = NULL;
        size_t n_piece = 0;
        bool stopped = false;
        bool full = false;
        if (sink->interrupted(sink->self)) {
            result->stopped = MZ_STOPPED_INTERRUPT;
            return MZ_OK;
        }
        const int32_t id = mz_sampler_next(s->sampler, s->logits, NULL);
        if (!isfinite(s->logits[id])) {
            return mz_fail(&s->ctx->error, MZ_ERR_FORMAT,
                           "token %" PRId64
                           " of the answer: the model's logits are not finite; its "
                           "weights are damaged",
                           result->n_answer + 1);
        }
        if (is_end(s, id)) {
            result->stopped = MZ_STOPPED_END;
            return MZ_OK;
        }
        result->n_answer++;
        MZ_TRY(mz_detokenizer_push(s->ctx, d, id, &piece, &n_piece));
        MZ_TRY(emit(s, sink, piece, n_piece, &stopped));
        if (stopped) {
            result->stopped = MZ_STOPPED_STRING;
            return MZ_OK;
        }
        if (result->n_answer == s->options.max_tokens) {
            result->stopped = MZ_STOPPED_LENGTH;
            return MZ_OK;
        }
        mz_sampler_accept(s->sampler, id);
        MZ_TRY(advance(s, id, &full));
        if (full) {
            result->stopped = MZ_STOPPED_CONTEXT;
            return MZ_OK;
        }
        result->n_decoded++;
    }
}

/* What was held back belongs to the answer, unless a stop string ended it. */
static mz_status finish(mz_answer_stream *s, mz_detokenizer *d, const mz_answer_sink *sink,
                        mz_answer_result *result) {
    const char *text = NULL;
    size_t n_bytes = 0;
    bool stopped = false;
    if (result->stopped == MZ_STOPPED_STRING) {
        return MZ_OK;
    }
    MZ_TRY(mz_detokenizer_finish(s->ctx, d, &text, &n_bytes));
    MZ_TRY(emit(s, sink, text, n_bytes, &stopped));
    if (stopped) {
        result->stopped = MZ_STOPPED_STRING;
        return MZ_OK;
    }
    mz_stop_strings_finish(&s->stops, &text, &n_bytes);
    return n_bytes > 0 ? sink->write(sink->self, text, n_bytes) : MZ_OK;
}

mz_status mz_answer_stream_run(mz_answer_stream *s, const int32_t *ids, int64_t n,
                               const mz_answer_sink *sink, mz_answer_result *result) {
    mz_detokenizer d = {.tokenizer = s->tokenizer};
    *result = (mz_answer_result){0};
    mz_stop_strings_reset(&s->stops);
    MZ_TRY(prefill(s, ids, n, result));
    const double start = mz_now_s();
    mz_status status = decode(s, &d, sink, result);
    if (status == MZ_OK) {
        status = finish(s, &d, sink, result);
    }
    result->decode_s = mz_now_s() - start;
    mz_detokenizer_free(s->ctx, &d);
    return status;
}
