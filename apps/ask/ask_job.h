/* What `moezoo ask` does: a model, its template and its session; questions in, answers out. */
#ifndef MZ_APPS_ASK_ASK_JOB_H
#define MZ_APPS_ASK_ASK_JOB_H

#include "apps/ask/answer_stream.h"
#include "apps/cli.h"
#include "llm/chat_template.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_MAX_QUESTION_BYTES = 16 << 20, MZ_DEFAULT_ANSWER_TOKENS = 512 };

/* What the line asked for. */
typedef struct mz_ask_request {
    const char *question; /* NULL: none; "-": standard input */
    const char *model, *models_dir, *output, *system, *template_name;
    mz_option_list stops;
    int precision; /* 0 auto, 1 f32, 2 bf16 */
    int kv_type;   /* 0 f32, 1 f16, 2 q8_0 */
    int64_t max_tokens, top_k, seed, context;
    double temperature, top_p, min_p, repeat_penalty;
    bool chat, json, raw, context_shift, quiet;
} mz_ask_request;

/* All zero but the request; `ctx` is open. One thread. */
typedef struct mz_ask_job {
    mz_context ctx;
    mz_ask_request request;
    char *model_path, *model_name;
    mz_language_model *model;
    const mz_tokenizer *tokenizer;
    const mz_chat_template *chat_template;
    mz_answer_stream *stream;
    double load_s;
} mz_ask_job;

/* Sampling as the request asks for. */
mz_sampling mz_ask_sampling(const mz_ask_request *request);

/* Finds and loads the model, chooses the template, opens the session. Errors: everything a
 * checkpoint can be wrong in; MISSING where it has no tokenizer; UNSUPPORTED or ARG for a template
 * that is not known, naming the known ones; those of mz_answer_stream_open. */
mz_status mz_ask_job_open(mz_ask_job *job);
void mz_ask_job_close(mz_ask_job *job); /* the context as well */

/* Whether the model has no turns and text is only carried on. */
bool mz_ask_job_is_plain(const mz_ask_job *job);

/* Answers the conversation, whose last turn is the user's. *text [*n_bytes] is the answer, with a
 * NUL behind it, after an error as much of it as came; released with mz_free. `sink` as in
 * mz_answer_stream_run. */
typedef struct mz_ask_answer {
    char *text;
    size_t n_bytes, capacity;
    mz_answer_result result;
} mz_ask_answer;
mz_status mz_ask_job_answer(mz_ask_job *job, const mz_chat_turn *turns, int n_turns,
                            const mz_answer_sink *sink, mz_ask_answer *answer);

/* One JSON object and a line end. */
void mz_ask_write_json(FILE *stream, const mz_ask_job *job, const mz_ask_answer *answer);

/* The conversation of --chat, to its end, with answers on standard output. Returns an exit code. */
int mz_ask_chat(mz_ask_job *job, const mz_command *command);

#ifdef __cplusplus
}
#endif
#endif
