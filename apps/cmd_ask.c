/* moezoo ask: questions in, answers out. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "apps/answer.h"
#include "apps/ask/ask_job.h"
#include "apps/commands.h"
#include "apps/model_options.h"

enum { MAX_CONTEXT = 1 << 24, MAX_ANSWER = 1 << 24, MAX_TOP_K = 1 << 24 };

/* One question and its answer. */
typedef struct single {
    mz_ask_job *job;
    mz_answer answer;
    bool to_terminal;
} single;

/* ---- the question ---- */

/* One line end at the end is the editor's or echo's, not the question's. */
static mz_status check_question(mz_context *ctx, char *text, size_t n) {
    const size_t valid = mz_cli_utf8_valid(text, n);
    if (strlen(text) < n) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "standard input: byte %zu of the question is a NUL", strlen(text));
    }
    if (valid < n) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "standard input: byte %zu of the question is no UTF-8", valid);
    }
    if (n > 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
        if (n > 0 && text[n - 1] == '\r') {
            text[--n] = '\0';
        }
    }
    if (text[strspn(text, " \t\r\n")] == '\0') {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT, "standard input: the question is empty");
    }
    return MZ_OK;
}

static bool is_picture(const char *word) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const size_t n = strlen(endings[i]);
        if (strlen(word) > n && strcasecmp(word + strlen(word) - n, endings[i]) == 0) {
            return access(word, F_OK) == 0;
        }
    }
    return false;
}

/* ---- the answer ---- */

static mz_status write_piece(void *self, const char *text, size_t n_bytes) {
    single *s = self;
    if (s->job->request.json) {
        return MZ_OK;
    }
    MZ_TRY(mz_answer_open(&s->answer));
    if (s->to_terminal) {
        mz_cli_write_plain_lines(s->answer.stream, text, n_bytes);
    } else {
        (void)fwrite(text, 1, n_bytes, s->answer.stream);
    }
    return mz_answer_flush(&s->answer);
}

static bool is_interrupted(void *self) {
    (void)self;
    return mz_cli_interrupted();
}

static mz_status write_end(single *s, const mz_ask_answer *answer) {
    const size_t n = answer->n_bytes;
    MZ_TRY(mz_answer_open(&s->answer));
    if (s->job->request.json) {
        mz_ask_write_json(s->answer.stream, s->job, answer);
    } else if (n == 0 || answer->text[n - 1] != '\n') {
        (void)fputc('\n', s->answer.stream);
    }
    return mz_answer_commit(&s->answer);
}

static void tell(const mz_ask_job *job, const mz_answer_result *r) {
    if (job->request.quiet) {
        return;
    }
    if (r->stopped == MZ_STOPPED_CONTEXT) {
        (void)fprintf(stderr,
                      "moezoo ask: the context of %" PRId64 " tokens is full; a larger --context "
                      "or --context-shift lets the answer go on\n",
                      mz_answer_stream_context(job->stream));
    }
    (void)fprintf(stderr,
                  "%" PRId64 " tokens read in %.3g s (%.4g/s), %" PRId64
                  " written in %.3g s (%.4g/s), loaded in %.3g s\n",
                  r->n_prompt, r->prefill_s,
                  (double)r->n_prompt / (r->prefill_s > 0 ? r->prefill_s : 1e-9), r->n_answer,
                  r->decode_s, (double)r->n_decoded / (r->decode_s > 0 ? r->decode_s : 1e-9),
                  job->load_s);
}

static mz_status answer_question(single *s, const char *question) {
    const mz_ask_request *r = &s->job->request;
    const mz_answer_sink sink = {write_piece, is_interrupted, s};
    mz_chat_turn turns[2];
    int n_turns = 0;
    mz_ask_answer answer = {0};
    if (r->system != NULL) {
        turns[n_turns++] = (mz_chat_turn){MZ_CHAT_SYSTEM, r->system};
    }
    turns[n_turns++] = (mz_chat_turn){MZ_CHAT_USER, question};
    MZ_TRY(mz_answer_begin(&s->answer));
    mz_status status = mz_ask_job_answer(s->job, turns, n_turns, &sink, &answer);
    const bool interrupted = answer.result.stopped == MZ_STOPPED_INTERRUPT;
    if (status == MZ_OK && !(interrupted && answer.result.n_answer == 0)) {
        status = write_end(s, &answer);
    }
    if (status == MZ_OK && interrupted) {
        status =
            mz_fail(&s->job->ctx.error, MZ_ERR_INTERRUPTED, "interrupted after %" PRId64 " token%s",
                    answer.result.n_answer, mz_cli_plural(answer.result.n_answer));
    } else if (status == MZ_OK) {
        tell(s->job, &answer.result);
    }
    mz_free(&s->job->ctx, answer.text);
    return status;
}

static mz_status run_single(mz_ask_job *job) {
    mz_context *ctx = &job->ctx;
    single s = {.job = job, .answer = {.ctx = ctx, .path = job->request.output}};
    char *text = NULL;
    const char *question = job->request.question;
    mz_status status = MZ_OK;
    s.to_terminal = job->request.output == NULL && isatty(STDOUT_FILENO) != 0;
    if (strcmp(question, "-") == 0) { /* before the model, which may take long to load */
        size_t n = 0;
        status = mz_cli_read_stdin(ctx, "question", MZ_MAX_QUESTION_BYTES, &text, &n);
        status = status == MZ_OK ? check_question(ctx, text, n) : status;
        question = text;
    }
    status = status == MZ_OK ? mz_ask_job_open(job) : status;
    if (status == MZ_OK && mz_ask_job_is_plain(job) && !job->request.raw && !job->request.quiet) {
        (void)fprintf(stderr,
                      "moezoo ask: %s has no chat template; the text is carried on as it "
                      "stands\n",
                      job->model_name);
    }
    status = status == MZ_OK ? answer_question(&s, question) : status;
    mz_answer_abort(&s.answer);
    mz_free(ctx, text);
    return status;
}

/* ---- command line ---- */

static int sampling_options(mz_ask_request *r, mz_option *out) {
    const mz_option options[] = {
        {"max-tokens", 'n', MZ_OPTION_INT, "N", "tokens of an answer at most (default 512)", 1,
         MAX_ANSWER, NULL, &r->max_tokens},
        {"temperature", 0, MZ_OPTION_NUMBER, "X",
         "0 takes the likeliest token, more draws more freely (default 0)", 0, 100, NULL,
         &r->temperature},
        {"top-p", 0, MZ_OPTION_NUMBER, "X",
         "draw among the fewest likeliest tokens that reach this probability (default 1: all)", 0,
         1, NULL, &r->top_p},
        {"top-k", 0, MZ_OPTION_INT, "N", "draw among the N likeliest tokens (default 0: all)", 0,
         MAX_TOP_K, NULL, &r->top_k},
        {"min-p", 0, MZ_OPTION_NUMBER, "X",
         "draw among tokens with this share of the likeliest one's probability (default 0: all)", 0,
         1, NULL, &r->min_p},
        {"repeat-penalty", 0, MZ_OPTION_NUMBER, "X",
         "divides logits of the last 64 tokens (default 1: none)", 0, 100, NULL,
         &r->repeat_penalty},
        {"seed", 0, MZ_OPTION_INT, "N", "seed of the draws (default 0)", 0, INT64_MAX, NULL,
         &r->seed},
        {"stop", 0, MZ_OPTION_LIST, "TEXT", "end the answer before this text; may be repeated", 0,
         0, NULL, &r->stops},
    };
    memcpy(out, options, sizeof options);
    return (int)(sizeof options / sizeof options[0]);
}

static int model_options(mz_ask_request *r, mz_option *out) {
    const mz_option options[] = {
        {"model", 'm', MZ_OPTION_STRING, "DIR|FILE|NAME", "checkpoint folder, GGUF file or name", 0,
         0, NULL, &r->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &r->models_dir},
        {"chat", 0, MZ_OPTION_FLAG, NULL, "a conversation: each line of standard input is a turn",
         0, 0, NULL, &r->chat},
        {"system", 0, MZ_OPTION_STRING, "TEXT", "system text at the beginning", 0, 0, NULL,
         &r->system},
        {"template", 0, MZ_OPTION_STRING, "NAME",
         "chat template (default: the checkpoint's); an unknown name lists them", 0, 0, NULL,
         &r->template_name},
        {"raw", 0, MZ_OPTION_FLAG, NULL,
         "no template: the text, which may spell control tokens, is carried on", 0, 0, NULL,
         &r->raw},
        {"context", 'c', MZ_OPTION_INT, "N",
         "tokens of prompt and answer, at most the model's own (default 0: those up to 4096)", 0,
         MAX_CONTEXT, NULL, &r->context},
        {"context-shift", 0, MZ_OPTION_FLAG, NULL, "forget the older half when the context is full",
         0, 0, NULL, &r->context_shift},
        mz_precision_option(&r->precision),
        mz_kv_type_option(&r->kv_type),
        {"json", 0, MZ_OPTION_FLAG, NULL, "print one object (with --chat one a turn)", 0, 0, NULL,
         &r->json},
        {"output", 'o', MZ_OPTION_STRING, "FILE",
         "write the answer to FILE, which is replaced only when complete", 0, 0, NULL, &r->output},
    };
    memcpy(out, options, sizeof options);
    return (int)(sizeof options / sizeof options[0]);
}

static int check_words(const mz_ask_request *r) {
    const mz_command *c = &mz_command_ask;
    const char *question = r->question;
    if (question == NULL && !r->chat) {
        return mz_cli_usage_error(c, "no question given; usage: %s", c->usage);
    }
    if (question != NULL && is_picture(question)) {
        return mz_cli_usage_error(c, "question missing: \"%s\" is a picture", question);
    }
    if (question != NULL && question[strspn(question, " \t\r\n")] == '\0') {
        return mz_cli_usage_error(c, "the question is empty");
    }
    if (question != NULL && mz_cli_utf8_valid(question, strlen(question)) < strlen(question)) {
        return mz_cli_usage_error(c, "byte %zu of the question is no UTF-8",
                                  mz_cli_utf8_valid(question, strlen(question)));
    }
    if (r->system != NULL && mz_cli_utf8_valid(r->system, strlen(r->system)) < strlen(r->system)) {
        return mz_cli_usage_error(c, "byte %zu of the --system text is no UTF-8",
                                  mz_cli_utf8_valid(r->system, strlen(r->system)));
    }
    return MZ_EXIT_OK;
}

static int check_request(const mz_ask_request *r) {
    const mz_command *c = &mz_command_ask;
    mz_error err;
    const mz_sampling sampling = mz_ask_sampling(r);
    if (mz_sampling_check(&err, &sampling) != MZ_OK) {
        return mz_cli_usage_error(c, "%s", err.message);
    }
    if (r->raw && (r->chat || r->system != NULL || r->template_name != NULL)) {
        return mz_cli_usage_error(c, "--raw goes with none of --chat, --system and --template");
    }
    if (r->chat && r->output != NULL) {
        return mz_cli_usage_error(c, "--chat answers on standard output, not to --output %s",
                                  r->output);
    }
    if (r->chat && r->question != NULL && strcmp(r->question, "-") == 0) {
        return mz_cli_usage_error(c, "--chat reads standard input itself, without \"-\"");
    }
    const int wrong = check_words(r);
    if (wrong != MZ_EXIT_OK) {
        return wrong;
    }
    if (r->model == NULL) {
        return mz_cli_usage_error(c, "no model given: -m takes a checkpoint folder, a GGUF file or "
                                     "a name; tools/get-models fetches one, smollm2-135m-instruct");
    }
    return MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    mz_ask_job job = {
        .request = {.max_tokens = MZ_DEFAULT_ANSWER_TOKENS, .top_p = 1, .repeat_penalty = 1}};
    mz_ask_request *r = &job.request;
    mz_option options[MZ_MAX_OPTIONS];
    int n = model_options(r, options);
    n += sampling_options(r, options + n);
    mz_arguments arguments = {
        .options = options, .n_options = n, .positionals = &r->question, .max_positionals = 1};
    int exit_code = MZ_EXIT_OK;
    if (!mz_cli_parse(&mz_command_ask, &arguments, argc, argv, &exit_code)) {
        return exit_code;
    }
    r->quiet = arguments.common.quiet;
    exit_code = check_request(r);
    if (exit_code != MZ_EXIT_OK ||
        !mz_cli_context(&mz_command_ask, &arguments.common, &job.ctx, &exit_code)) {
        return exit_code;
    }
    mz_cli_catch_each_interrupt();
    mz_status status = MZ_OK;
    if (r->chat) {
        status = mz_ask_job_open(&job);
        exit_code = status == MZ_OK ? mz_ask_chat(&job, &mz_command_ask) : MZ_EXIT_OK;
    } else {
        status = run_single(&job);
    }
    if (status != MZ_OK) {
        exit_code = mz_cli_fail(&mz_command_ask, &job.ctx.error);
    }
    mz_ask_job_close(&job);
    return exit_code;
}

const mz_command mz_command_ask = {
    .name = "ask",
    .summary = "answer a question with a language model",
    .usage = "moezoo ask \"QUESTION\"|- -m MODEL [options]",
    .examples =
        "  moezoo ask \"What is the capital of France?\" -m smollm2.gguf\n"
        "  moezoo ask --chat -m ./Qwen3-0.6B --system \"Be brief.\"\n"
        "  moezoo ask - -m smollm2.gguf -n 200 --temperature 0.7 --top-p 0.9 < letter.txt\n",
    .run = run,
};
