/* What a user of a conversation types, a turn at a time. */
#ifndef MZ_APPS_ASK_CHAT_INPUT_H
#define MZ_APPS_ASK_CHAT_INPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_MAX_TURN_BYTES = 16 << 20 };

typedef enum mz_chat_event {
    MZ_CHAT_TURN = 0,    /* a text */
    MZ_CHAT_INTERRUPTED, /* Ctrl-C: what was typed is dropped */
    MZ_CHAT_OVER         /* the end of the input, or SIGTERM */
} mz_chat_event;

/* Opaque; one thread. */
typedef struct mz_chat_input mz_chat_input;

/* Reads from `stream`, a line a turn; a line that ends in a backslash goes on in the next. On a
 * terminal (`stream` and standard error both) lines can be edited, Ctrl-C drops what was typed, and
 * lines that were pasted together are one turn; what was typed is kept in `history_path` (NULL:
 * nowhere), which only its owner may read. mz_cli_catch_each_interrupt must be in force. Errors:
 * NOMEM. */
mz_status mz_chat_input_open(mz_context *ctx, FILE *stream, const char *history_path,
                             mz_chat_input **out);

/* Whether a person is asked: prompts and greetings make sense. */
bool mz_chat_input_is_terminal(const mz_chat_input *input);

/* The next turn, without its line end. *text is NUL-terminated and valid until the next call.
 * Errors: IO; FORMAT for text that is no UTF-8 or holds a NUL (then the next turn can be read);
 * LIMIT above MZ_MAX_TURN_BYTES; NOMEM. */
mz_status mz_chat_input_next(mz_chat_input *input, mz_chat_event *event, const char **text);

/* Writes the history, if there is any; what cannot be written is lost without a word. Accepts NULL.
 */
void mz_chat_input_close(mz_chat_input *input);

/* $XDG_STATE_HOME/moezoo/ask_history, or ~/.local/state/...; NULL where there is neither. Errors:
 * NOMEM. *out is released with mz_free. */
mz_status mz_chat_history_path(mz_context *ctx, char **out);

#ifdef __cplusplus
}
#endif
#endif
