#include "apps/ask/chat_input.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "apps/cli.h"
#include "core/file.h"

enum { HISTORY_LINES = 1000, PASTE_MS = 10 };

struct mz_chat_input {
    mz_context *ctx;
    FILE *stream;
    EditLine *editor; /* NULL: no terminal */
    History *history;
    char *history_path;
    const char *prompt;
    mbstate_t shift_state;
    char *line; /* of getline */
    size_t line_capacity;
    char *turn;
    size_t n_turn, turn_capacity;
};

/* ---- the terminal ---- */

static char *prompt_of(EditLine *editor) {
    mz_chat_input *input = NULL;
    (void)el_get(editor, EL_CLIENTDATA, &input);
    /* The library's type has no const, and it writes nothing. */
    union {
        const char *in;
        char *out;
    } prompt = {input->prompt};
    return prompt.out;
}

/* A Ctrl-D that was typed while nobody read lines key by key arrives as NUL. */
static bool is_empty(EditLine *editor) {
    const LineInfo *line = el_line(editor);
    return line->lastchar == line->buffer;
}

/* The library's own function tries again after a signal; here Ctrl-C ends the line. */
static int read_character(EditLine *editor, wchar_t *out) {
    mz_chat_input *input = NULL;
    (void)el_get(editor, EL_CLIENTDATA, &input);
    for (;;) {
        char byte = 0;
        const ssize_t n = read(fileno(input->stream), &byte, 1);
        if (n == 0 || (n == 1 && byte == '\0' && is_empty(editor))) {
            return 0;
        }
        if (n < 0 && (errno != EINTR || mz_cli_interrupted())) {
            return -1;
        }
        if (n < 0) {
            continue;
        }
        const size_t used = mbrtowc(out, &byte, 1, &input->shift_state);
        if (used == (size_t)-1) { /* no character: left out */
            memset(&input->shift_state, 0, sizeof input->shift_state);
        } else if (used != (size_t)-2) {
            return 1;
        }
    }
}

/* A block that was pasted is there at once, and no hand is that fast. */
static bool more_waits(const mz_chat_input *input) {
    struct pollfd p = {.fd = fileno(input->stream), .events = POLLIN};
    return poll(&p, 1, PASTE_MS) == 1 && (p.revents & POLLIN) != 0;
}

static void open_history(mz_chat_input *input) {
    HistEvent event;
    input->history = history_init();
    if (input->history == NULL) {
        return;
    }
    (void)history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    (void)history(input->history, &event, H_SETUNIQUE, 1);
    if (input->history_path != NULL && mz_file_exists(input->history_path)) {
        (void)history(input->history, &event, H_LOAD, input->history_path);
    }
    (void)el_set(input->editor, EL_HIST, history, input->history);
}

static mz_status open_terminal(mz_chat_input *input, const char *history_path) {
    /* The library counts columns in characters of the locale; without UTF-8 in it, in bytes. */
    (void)setlocale(LC_CTYPE, "");
    input->editor = el_init("moezoo", input->stream, stderr, stderr);
    if (input->editor == NULL) {
        return MZ_OK; /* a terminal that it cannot handle is read like a pipe */
    }
    if (history_path != NULL) {
        MZ_TRY(mz_strdup(input->ctx, history_path, &input->history_path));
    }
    (void)el_set(input->editor, EL_CLIENTDATA, input);
    (void)el_set(input->editor, EL_PROMPT, prompt_of);
    (void)el_set(input->editor, EL_EDITOR, "emacs");
    (void)el_set(input->editor, EL_SIGNAL, 0);
    (void)el_set(input->editor, EL_GETCFN, read_character);
    (void)el_set(input->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    open_history(input);
    return MZ_OK;
}

/* ---- life ---- */

mz_status mz_chat_input_open(mz_context *ctx, FILE *stream, const char *history_path,
                             mz_chat_input **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_chat_input), "conversation", &memory));
    mz_chat_input *input = memory;
    *input = (mz_chat_input){.ctx = ctx, .stream = stream, .prompt = "> "};
    if (isatty(fileno(stream)) != 0 && isatty(STDERR_FILENO) != 0) {
        const mz_status status = open_terminal(input, history_path);
        if (status != MZ_OK) {
            mz_chat_input_close(input);
            return status;
        }
    }
    *out = input;
    return MZ_OK;
}

bool mz_chat_input_is_terminal(const mz_chat_input *input) {
    return input->editor != NULL;
}

/* The folder is made where it is missing, with the mode that its specification asks for. */
static void save_history(mz_chat_input *input) {
    HistEvent event;
    char *slash = strrchr(input->history_path, '/');
    *slash = '\0';
    const bool has_dir = mz_dir_make(input->ctx, input->history_path) == MZ_OK;
    *slash = '/';
    if (!has_dir) {
        return;
    }
    const int fd = open(input->history_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file != NULL) {
        (void)fchmod(fd, 0600);
        (void)history(input->history, &event, H_SAVE_FP, file);
        (void)fclose(file);
    } else if (fd >= 0) {
        (void)close(fd);
    }
}

void mz_chat_input_close(mz_chat_input *input) {
    if (input == NULL) {
        return;
    }
    mz_context *ctx = input->ctx;
    if (input->history != NULL && input->history_path != NULL) {
        save_history(input);
    }
    if (input->history != NULL) {
        history_end(input->history);
    }
    if (input->editor != NULL) {
        el_end(input->editor);
    }
    free(input->line);
    mz_free(ctx, input->turn);
    mz_free(ctx, input->history_path);
    mz_free(ctx, input);
}

mz_status mz_chat_history_path(mz_context *ctx, char **out) {
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    *out = NULL;
    if (xdg != NULL && xdg[0] == '/') {
        return mz_path_join(ctx, xdg, "moezoo/ask_history", out);
    }
    return home != NULL && home[0] == '/'
               ? mz_path_join(ctx, home, ".local/state/moezoo/ask_history", out)
               : MZ_OK;
}

/* ---- turns ---- */

/* One line with its end; *n_bytes 0: the event says why there is none. */
static mz_status read_line(mz_chat_input *input, mz_chat_event *event, const char **line,
                           size_t *n_bytes) {
    *n_bytes = 0;
    *event = MZ_CHAT_OVER;
    errno = 0;
    if (input->editor != NULL) {
        int n = 0;
        memset(&input->shift_state, 0, sizeof input->shift_state);
        *line = el_gets(input->editor, &n);
        *n_bytes = *line != NULL && n > 0 ? (size_t)n : 0;
    } else {
        const ssize_t n = getline(&input->line, &input->line_capacity, input->stream);
        *line = input->line;
        *n_bytes = n > 0 ? (size_t)n : 0;
    }
    if (*n_bytes > 0) {
        *event = MZ_CHAT_TURN;
        return MZ_OK;
    }
    if (mz_cli_interrupted()) {
        mz_cli_clear_interrupt();
        *event = mz_cli_interrupted() ? MZ_CHAT_OVER : MZ_CHAT_INTERRUPTED;
        clearerr(input->stream);
        return MZ_OK;
    }
    if (input->editor == NULL && feof(input->stream) == 0) {
        return mz_fail(&input->ctx->error, errno == ENOMEM ? MZ_ERR_NOMEM : MZ_ERR_IO,
                       "standard input: %s", strerror(errno != 0 ? errno : EIO));
    }
    return MZ_OK;
}

static mz_status add_text(mz_chat_input *input, const char *text, size_t n_bytes) {
    void *turn = input->turn;
    if (input->n_turn + n_bytes > MZ_MAX_TURN_BYTES) {
        return mz_fail(&input->ctx->error, MZ_ERR_LIMIT, "a turn of more than %d bytes",
                       MZ_MAX_TURN_BYTES);
    }
    MZ_TRY(mz_grow(input->ctx, &turn, &input->turn_capacity, input->n_turn + n_bytes + 1, 1,
                   "turn of the conversation"));
    input->turn = turn;
    if (n_bytes > 0) {
        memcpy(input->turn + input->n_turn, text, n_bytes);
    }
    input->n_turn += n_bytes;
    input->turn[input->n_turn] = '\0';
    return MZ_OK;
}

/* Adds the line; *goes_on: the turn has another. */
static mz_status add_line(mz_chat_input *input, const char *line, size_t n_bytes, bool *goes_on) {
    while (n_bytes > 0 && (line[n_bytes - 1] == '\n' || line[n_bytes - 1] == '\r')) {
        n_bytes--;
    }
    *goes_on = n_bytes > 0 && line[n_bytes - 1] == '\\';
    MZ_TRY(add_text(input, line, n_bytes - *goes_on));
    *goes_on = *goes_on || (input->editor != NULL && more_waits(input));
    return *goes_on ? add_text(input, "\n", 1) : MZ_OK;
}

static mz_status check_text(mz_chat_input *input) {
    const size_t n = input->n_turn;
    const size_t valid = mz_cli_utf8_valid(input->turn, n);
    if (valid < n) {
        return mz_fail(&input->ctx->error, MZ_ERR_FORMAT, "byte %zu of the turn is no UTF-8",
                       valid);
    }
    if (strlen(input->turn) < n) {
        return mz_fail(&input->ctx->error, MZ_ERR_FORMAT, "byte %zu of the turn is a NUL",
                       strlen(input->turn));
    }
    return MZ_OK;
}

static void remember(mz_chat_input *input) {
    HistEvent event;
    if (input->history != NULL && input->turn[strspn(input->turn, " \t\n")] != '\0') {
        (void)history(input->history, &event, H_ENTER, input->turn);
    }
}

mz_status mz_chat_input_next(mz_chat_input *input, mz_chat_event *event, const char **text) {
    bool goes_on = true;
    input->n_turn = 0;
    input->prompt = "> ";
    MZ_TRY(add_text(input, "", 0));
    for (; goes_on; input->prompt = "") {
        const char *line = NULL;
        size_t n_bytes = 0;
        MZ_TRY(read_line(input, event, &line, &n_bytes));
        if (*event == MZ_CHAT_OVER && input->n_turn > 0) {
            *event = MZ_CHAT_TURN; /* the last line lacks its end */
            break;
        }
        if (*event != MZ_CHAT_TURN) {
            return MZ_OK;
        }
        MZ_TRY(add_line(input, line, n_bytes, &goes_on));
    }
    MZ_TRY(check_text(input));
    remember(input);
    *text = input->turn;
    return MZ_OK;
}
