/* An answer as it is made: prompt ids in, text out piece by piece. */
#ifndef MZ_APPS_ASK_ANSWER_STREAM_H
#define MZ_APPS_ASK_ANSWER_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/ask/stop_strings.h"
#include "apps/zoo/language_model.h"
#include "llm/sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why an answer is over: an end token, the token limit or a full context, a stop string, Ctrl-C. */
typedef enum mz_stopped {
    MZ_STOPPED_END = 0,
    MZ_STOPPED_LENGTH,
    MZ_STOPPED_CONTEXT, /* "length" as well to the user */
    MZ_STOPPED_STRING,
    MZ_STOPPED_INTERRUPT
} mz_stopped;

/* "end", "length", "stop" or "interrupt". Static storage. */
const char *mz_stopped_name(mz_stopped stopped);

typedef struct mz_answer_options {
    mz_sampling sampling;
    int64_t max_tokens; /* of an answer; at least 1 */
    bool context_shift; /* a full context forgets the older half of what follows its prompt, in
                           whole pages of the cache; of a prompt longer than half of it all but the
                           beginning, which much attention rests on (Xiao et al. 2024). Where keys
                           cannot be moved the rest is read again */
    mz_lm_session_options session;
} mz_answer_options;

/* Where the text goes. `n_bytes` may be 0 for nothing new. An error ends the answer. */
typedef struct mz_answer_sink {
    mz_status (*write)(void *self, const char *text, size_t n_bytes);
    bool (*interrupted)(void *self); /* asked before each token */
    void *self;
} mz_answer_sink;

/* Of one answer. */
typedef struct mz_answer_result {
    int64_t n_prompt;  /* ids of the prompt */
    int64_t n_reused;  /* of these: held by the cache from before */
    int64_t n_answer;  /* tokens of the answer, without the one that ended it */
    int64_t n_decoded; /* passes of one token */
    double prefill_s, decode_s;
    mz_stopped stopped;
} mz_answer_result;

/* Opaque: a session and what it holds; one thread. */
typedef struct mz_answer_stream mz_answer_stream;

/* The model must live as long. Errors: those of mz_lm_session_create, mz_sampler_create and
 * mz_language_model_tokenizer. */
mz_status mz_answer_stream_open(mz_context *ctx, const mz_language_model *model,
                                const mz_answer_options *options, mz_answer_stream **out);
void mz_answer_stream_close(mz_answer_stream *stream); /* accepts NULL */

/* The answer also ends where `text` would be written: at its token where it is a control token,
 * else as a stop string (which the caller keeps). Errors: those of mz_stop_strings_add. */
mz_status mz_answer_stream_add_stop(mz_answer_stream *stream, const char *text);

/* Answers the prompt `ids` [n]: of it only what the cache does not hold at its front already is
 * run, so that a conversation that goes on costs its new turns. Errors: LIMIT for a prompt that
 * leaves no room in the context, naming both; ARG for none; FORMAT where the chosen token's logit
 * is not finite; those of the model and the sink. */
mz_status mz_answer_stream_run(mz_answer_stream *stream, const int32_t *ids, int64_t n,
                               const mz_answer_sink *sink, mz_answer_result *result);

/* Most positions of the context. */
int64_t mz_answer_stream_context(const mz_answer_stream *stream);

/* The ids that the cache holds, valid until the next run. */
const int32_t *mz_answer_stream_ids(const mz_answer_stream *stream, int64_t *n);

#ifdef __cplusplus
}
#endif
#endif
