/* The conversation of `moezoo ask --chat`. */
#include <string.h>
#include <unistd.h>

#include "apps/ask/ask_job.h"
#include "apps/ask/chat_input.h"

typedef struct chat {
    mz_ask_job *job;
    const mz_command *command;
    mz_chat_input *input;
    mz_chat_turn *turns; /* so far */
    char **texts;        /* of the turns; owned */
    size_t n_turns, turn_capacity, text_capacity;
    char *system; /* owned; NULL: none */
    bool to_terminal;
    int exit_code;
} chat;

static mz_status add_turn(chat *c, mz_chat_role role, const char *text) {
    mz_context *ctx = &c->job->ctx;
    void *turns = c->turns;
    void *texts = c->texts;
    char *copy = NULL;
    MZ_TRY(
        mz_grow(ctx, &turns, &c->turn_capacity, c->n_turns + 1, sizeof *c->turns, "conversation"));
    c->turns = turns;
    MZ_TRY(
        mz_grow(ctx, &texts, &c->text_capacity, c->n_turns + 1, sizeof *c->texts, "conversation"));
    c->texts = texts;
    MZ_TRY(mz_strdup(ctx, text, &copy));
    c->texts[c->n_turns] = copy;
    c->turns[c->n_turns++] = (mz_chat_turn){.role = role, .text = copy};
    return MZ_OK;
}

/* Forgets n turns from `first` on. */
static void drop_turns(chat *c, size_t first, size_t n) {
    const size_t n_behind = c->n_turns - first - n;
    for (size_t i = first; i < first + n; i++) {
        mz_free(&c->job->ctx, c->texts[i]);
    }
    if (n > 0) {
        memmove(c->turns + first, c->turns + first + n, n_behind * sizeof *c->turns);
        memmove(c->texts + first, c->texts + first + n, n_behind * sizeof *c->texts);
    }
    c->n_turns -= n;
}

/* A new conversation, which begins with the system text where there is one. */
static mz_status begin(chat *c) {
    drop_turns(c, 0, c->n_turns);
    return c->system != NULL ? add_turn(c, MZ_CHAT_SYSTEM, c->system) : MZ_OK;
}

static mz_status set_system(chat *c, const char *text) {
    char *copy = NULL;
    MZ_TRY(mz_strdup(&c->job->ctx, text, &copy));
    mz_free(&c->job->ctx, c->system);
    c->system = copy;
    if (text[0] == '\0') {
        mz_free(&c->job->ctx, c->system);
        c->system = NULL;
    }
    return begin(c);
}

/* ---- an answer ---- */

static mz_status write_piece(void *self, const char *text, size_t n_bytes) {
    chat *c = self;
    if (c->job->request.json) {
        return MZ_OK;
    }
    if (c->to_terminal) {
        mz_cli_write_plain_lines(stdout, text, n_bytes);
    } else {
        (void)fwrite(text, 1, n_bytes, stdout);
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return mz_fail(&c->job->ctx.error, MZ_ERR_IO, "standard output: it cannot be written");
    }
    return MZ_OK;
}

static bool is_interrupted(void *self) {
    (void)self;
    return mz_cli_interrupted();
}

/* Where the conversation has outgrown the context its oldest question and answer go. */
static mz_status ask(chat *c, mz_ask_answer *answer) {
    const mz_answer_sink sink = {write_piece, is_interrupted, c};
    for (;;) {
        const size_t first = c->n_turns > 0 && c->turns[0].role == MZ_CHAT_SYSTEM ? 1 : 0;
        const mz_status status =
            mz_ask_job_answer(c->job, c->turns, (int)c->n_turns, &sink, answer);
        const bool too_long = status == MZ_ERR_LIMIT && answer->result.n_prompt == 0;
        if (!too_long || !c->job->request.context_shift || c->n_turns < first + 3) {
            return status;
        }
        mz_free(&c->job->ctx, answer->text);
        drop_turns(c, first, 2);
    }
}

static mz_status write_end(chat *c, const mz_ask_answer *answer) {
    const size_t n = answer->n_bytes;
    if (c->job->request.json) {
        mz_ask_write_json(stdout, c->job, answer);
    } else if (n == 0 || answer->text[n - 1] != '\n') {
        (void)fputc('\n', stdout);
    }
    if (answer->result.stopped == MZ_STOPPED_CONTEXT && !c->job->request.quiet) {
        (void)fprintf(stderr, "moezoo ask: the context is full; /reset, --context or "
                              "--context-shift make room\n");
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return mz_fail(&c->job->ctx.error, MZ_ERR_IO, "standard output: it cannot be written");
    }
    return MZ_OK;
}

/* A turn that cannot be answered is told and forgotten; only what cannot be written ends all. */
static mz_status take_turn(chat *c, const char *text) {
    mz_ask_answer answer = {0};
    mz_status status = add_turn(c, MZ_CHAT_USER, text);
    if (status == MZ_OK) {
        status = ask(c, &answer);
    }
    if (status == MZ_OK) {
        status = write_end(c, &answer);
    }
    if (status == MZ_OK) {
        status = add_turn(c, MZ_CHAT_ASSISTANT, answer.text);
    }
    mz_free(&c->job->ctx, answer.text);
    mz_cli_clear_interrupt();
    if (status == MZ_OK || status == MZ_ERR_IO || status == MZ_ERR_NOMEM) {
        return status;
    }
    drop_turns(c, c->n_turns - 1, 1);
    c->exit_code = mz_cli_fail(c->command, &c->job->ctx.error);
    return MZ_OK;
}

/* ---- commands ---- */

static bool is_blank(const char *text) {
    return text[strspn(text, " \t\r\n")] == '\0';
}

static void tell(const chat *c, const char *text) {
    if (mz_chat_input_is_terminal(c->input) && !c->job->request.quiet) {
        (void)fprintf(stderr, "%s\n", text);
    }
}

/* A word behind a slash; with another slash in it, it is a path and no command. */
static bool is_command(const char *text) {
    const size_t n = strcspn(text + 1, " \t\n");
    return text[0] == '/' && n > 0 && memchr(text + 1, '/', n) == NULL;
}

static mz_status run_command(chat *c, const char *text, bool *over) {
    const size_t n = strcspn(text, " \t\n");
    const char *rest = text + n + strspn(text + n, " \t\n");
    if (n == 5 && strncmp(text, "/quit", n) == 0) {
        *over = true;
        return MZ_OK;
    }
    if (n == 6 && strncmp(text, "/reset", n) == 0) {
        tell(c, "a new conversation");
        return begin(c);
    }
    if (n == 7 && strncmp(text, "/system", n) == 0) {
        tell(c, rest[0] != '\0' ? "a new conversation with this system text"
                                : "a new conversation without a system text");
        return set_system(c, rest);
    }
    mz_error err;
    (void)mz_fail(&err, MZ_ERR_ARG,
                  "unknown command \"%.*s\", expected /reset, /system TEXT or /quit",
                  (int)(n < 40 ? n : 40), text);
    c->exit_code = mz_cli_fail(c->command, &err);
    return MZ_OK;
}

static mz_status take(chat *c, const char *text, bool *over) {
    if (is_blank(text)) {
        return MZ_OK;
    }
    return is_command(text) ? run_command(c, text, over) : take_turn(c, text);
}

/* ---- the loop ---- */

static mz_status talk(chat *c) {
    bool over = false;
    MZ_TRY(begin(c));
    if (c->job->request.question != NULL) {
        MZ_TRY(take_turn(c, c->job->request.question));
    }
    tell(c, "/reset begins anew, /system TEXT sets the system text, /quit or Ctrl-D ends; a "
            "backslash at the end goes on in the next line; Ctrl-C ends an answer");
    while (!over && !mz_cli_interrupted()) {
        mz_chat_event event = MZ_CHAT_OVER;
        const char *text = NULL;
        const mz_status status = mz_chat_input_next(c->input, &event, &text);
        if (status == MZ_ERR_FORMAT || status == MZ_ERR_LIMIT) {
            c->exit_code = mz_cli_fail(c->command, &c->job->ctx.error);
            continue;
        }
        MZ_TRY(status);
        over = event == MZ_CHAT_OVER;
        if (event == MZ_CHAT_TURN) {
            MZ_TRY(take(c, text, &over));
        } else if (mz_chat_input_is_terminal(c->input)) {
            (void)fputc('\n', stderr); /* behind what was typed */
        }
    }
    return MZ_OK;
}

int mz_ask_chat(mz_ask_job *job, const mz_command *command) {
    chat c = {.job = job, .command = command, .to_terminal = isatty(STDOUT_FILENO) != 0};
    mz_context *ctx = &job->ctx;
    char *history_path = NULL;
    mz_status status = mz_chat_history_path(ctx, &history_path);
    if (status == MZ_OK) {
        status = mz_chat_input_open(ctx, stdin, history_path, &c.input);
    }
    if (status == MZ_OK && job->request.system != NULL) {
        status = mz_strdup(ctx, job->request.system, &c.system);
    }
    if (status == MZ_OK) {
        status = talk(&c);
    }
    if (status != MZ_OK) {
        c.exit_code = mz_cli_fail(command, &ctx->error);
    }
    drop_turns(&c, 0, c.n_turns);
    mz_free(ctx, c.turns);
    mz_free(ctx, c.texts);
    mz_free(ctx, c.system);
    mz_chat_input_close(c.input);
    mz_free(ctx, history_path);
    return c.exit_code;
}
