#include "apps/ask/ask_job.h"

#include <inttypes.h>
#include <string.h>

#include "apps/model_options.h"
#include "core/profile.h"

enum { REPEAT_LAST_N = 64 };

mz_sampling mz_ask_sampling(const mz_ask_request *r) {
    return (mz_sampling){.temperature = r->temperature,
                         .sample_top_k = r->top_k,
                         .top_p = r->top_p,
                         .min_p = r->min_p,
                         .repeat_penalty = r->repeat_penalty,
                         .repeat_last_n = REPEAT_LAST_N,
                         .seed = (uint64_t)r->seed};
}

/* ---- opening ---- */

static mz_status load(mz_ask_job *job) {
    const mz_ask_request *r = &job->request;
    const mz_load_options options = {.precision = mz_precision_chosen(r->precision)};
    const double start = mz_now_s();
    MZ_TRY(mz_cli_find_model(&job->ctx, r->model, r->models_dir, NULL, &job->model_path));
    MZ_TRY(mz_cli_model_name(&job->ctx, job->model_path, &job->model_name));
    MZ_TRY(mz_zoo_load_language_model(&job->ctx, job->model_path, &options, &job->model));
    MZ_TRY(mz_language_model_tokenizer(&job->ctx, job->model, &job->tokenizer));
    job->load_s = mz_now_s() - start;
    return MZ_OK;
}

static mz_status choose_template(mz_ask_job *job) {
    const mz_ask_request *r = &job->request;
    if (r->raw) {
        return mz_chat_template_find(&job->ctx.error, "none", &job->chat_template);
    }
    if (r->template_name != NULL) {
        return mz_chat_template_find(&job->ctx.error, r->template_name, &job->chat_template);
    }
    const mz_status status = mz_chat_template_detect(
        &job->ctx.error, mz_tokenizer_chat_template(job->tokenizer), &job->chat_template);
    return status == MZ_OK ? MZ_OK : mz_fail_prefix(&job->ctx.error, "%s", job->model_path);
}

static mz_status open_stream(mz_ask_job *job) {
    const mz_ask_request *r = &job->request;
    const mz_answer_options options = {
        .sampling = mz_ask_sampling(r),
        .max_tokens = r->max_tokens,
        .context_shift = r->context_shift,
        .session = {.n_positions = r->context, .kv_dtype = mz_kv_type_chosen(r->kv_type)}};
    MZ_TRY(mz_answer_stream_open(&job->ctx, job->model, &options, &job->stream));
    for (int i = 0; i < r->stops.n; i++) {
        MZ_TRY(mz_answer_stream_add_stop(job->stream, r->stops.items[i]));
    }
    for (int i = 0; !r->raw && mz_chat_template_stop(job->chat_template, i) != NULL; i++) {
        MZ_TRY(
            mz_answer_stream_add_stop(job->stream, mz_chat_template_stop(job->chat_template, i)));
    }
    return MZ_OK;
}

mz_status mz_ask_job_open(mz_ask_job *job) {
    MZ_TRY(load(job));
    MZ_TRY(choose_template(job));
    return open_stream(job);
}

void mz_ask_job_close(mz_ask_job *job) {
    mz_answer_stream_close(job->stream);
    mz_language_model_close(job->model);
    mz_free(&job->ctx, job->model_name);
    mz_free(&job->ctx, job->model_path);
    mz_context_close(&job->ctx);
}

bool mz_ask_job_is_plain(const mz_ask_job *job) {
    return strcmp(mz_chat_template_name(job->chat_template), "none") == 0;
}

/* ---- answers ---- */

/* The text as it stands: it may spell control tokens, and only the tokenizer's own beginning is
 * added. */
static mz_status encode_raw(mz_ask_job *job, const char *text, mz_token_list *ids) {
    const mz_encode_options options = {.add_special = true, .parse_special = true};
    MZ_TRY(mz_tokenizer_encode(&job->ctx, job->tokenizer, text, strlen(text), &options, ids));
    const int32_t end = mz_tokenizer_special(job->tokenizer, MZ_TOKEN_EOS);
    if (mz_tokenizer_adds_eos(job->tokenizer) && ids->n > 0 && ids->ids[ids->n - 1] == end) {
        ids->n--; /* the text is to go on */
    }
    return MZ_OK;
}

/* The sink that also keeps what it passes on. */
typedef struct keeper {
    mz_context *ctx;
    const mz_answer_sink *sink;
    mz_ask_answer *answer;
} keeper;

static mz_status keep(void *self, const char *text, size_t n_bytes) {
    const keeper *k = self;
    mz_ask_answer *a = k->answer;
    void *memory = a->text;
    MZ_TRY(mz_grow(k->ctx, &memory, &a->capacity, a->n_bytes + n_bytes + 1, 1, "answer"));
    a->text = memory;
    if (n_bytes > 0) {
        memcpy(a->text + a->n_bytes, text, n_bytes);
    }
    a->n_bytes += n_bytes;
    a->text[a->n_bytes] = '\0';
    return n_bytes > 0 ? k->sink->write(k->sink->self, text, n_bytes) : MZ_OK;
}

static bool keeper_interrupted(void *self) {
    const keeper *k = self;
    return k->sink->interrupted(k->sink->self);
}

mz_status mz_ask_job_answer(mz_ask_job *job, const mz_chat_turn *turns, int n_turns,
                            const mz_answer_sink *sink, mz_ask_answer *answer) {
    mz_token_list ids = {0};
    keeper k = {&job->ctx, sink, answer};
    const mz_answer_sink keeping = {.write = keep, .interrupted = keeper_interrupted, .self = &k};
    *answer = (mz_ask_answer){0};
    mz_status status = keep(&k, "", 0);
    if (status == MZ_OK && job->request.raw) {
        status = encode_raw(job, turns[n_turns - 1].text, &ids);
    } else if (status == MZ_OK) {
        status = mz_chat_template_encode(&job->ctx, job->chat_template, job->tokenizer, turns,
                                         n_turns, true, &ids);
    }
    if (status == MZ_OK) {
        status = mz_answer_stream_run(job->stream, ids.ids, ids.n, &keeping, &answer->result);
    }
    mz_token_list_free(&job->ctx, &ids);
    return status;
}

/* ---- report ---- */

static double rate(int64_t n, double seconds) {
    return seconds > 0 ? (double)n / seconds : 0;
}

static void write_number(FILE *stream, const char *key, double value, const char *after) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(stream, "\"%s\":%s%s", key, number, after);
}

void mz_ask_write_json(FILE *stream, const mz_ask_job *job, const mz_ask_answer *answer) {
    const mz_answer_result *r = &answer->result;
    (void)fputs("{\"model\":", stream);
    mz_cli_write_json_string(stream, job->model_name);
    (void)fputs(",\"answer\":", stream);
    mz_cli_write_json_bytes(stream, answer->text, answer->n_bytes);
    (void)fprintf(stream,
                  ",\"stopped\":\"%s\",\"tokens\":{\"prompt\":%" PRId64 ",\"answer\":%" PRId64
                  ",\"reused\":%" PRId64 "},\"timings\":{",
                  mz_stopped_name(r->stopped), r->n_prompt, r->n_answer, r->n_reused);
    write_number(stream, "load_ms", job->load_s * 1e3, ",");
    write_number(stream, "prefill_ms", r->prefill_s * 1e3, ",");
    write_number(stream, "decode_ms", r->decode_s * 1e3, ",");
    write_number(stream, "prefill_tps", rate(r->n_prompt - r->n_reused, r->prefill_s), ",");
    write_number(stream, "decode_tps", rate(r->n_decoded, r->decode_s), "}}\n");
}
