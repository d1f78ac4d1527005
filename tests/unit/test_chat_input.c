/* Turns of a conversation from a pipe, and from a terminal that this test types on. */
#include "tests/testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "apps/ask/chat_input.h"
#include "apps/cli.h"

/* ---- pipes ---- */

static void lines_of_a_pipe(void **state) {
    static char input[] = "one\n\ntwo \\\nlines\r\nbad \xff\nwith\0nul\nlast";
    FILE *stream = tmpfile();
    mz_chat_input *chat = NULL;
    mz_chat_event event;
    const char *text = NULL;
    mz_context *ctx = *state;
    assert_non_null(stream);
    assert_int_equal(fwrite(input, 1, sizeof input - 1, stream), sizeof input - 1);
    rewind(stream);
    mz_assert_ok(ctx, mz_chat_input_open(ctx, stream, NULL, &chat));
    assert_false(mz_chat_input_is_terminal(chat));
    static const char *const expected[] = {"one", "", "two \nlines"};
    for (int i = 0; i < 3; i++) {
        mz_assert_ok(ctx, mz_chat_input_next(chat, &event, &text));
        assert_int_equal(event, MZ_CHAT_TURN);
        assert_string_equal(text, expected[i]);
    }
    assert_int_equal(mz_chat_input_next(chat, &event, &text), MZ_ERR_FORMAT);
    assert_non_null(strstr(ctx->error.message, "byte 4 of the turn is no UTF-8"));
    assert_int_equal(mz_chat_input_next(chat, &event, &text), MZ_ERR_FORMAT);
    assert_non_null(strstr(ctx->error.message, "byte 4 of the turn is a NUL"));
    mz_assert_ok(ctx, mz_chat_input_next(chat, &event, &text));
    assert_string_equal(text, "last");
    mz_assert_ok(ctx, mz_chat_input_next(chat, &event, &text));
    assert_int_equal(event, MZ_CHAT_OVER);
    mz_chat_input_close(chat);
    assert_int_equal(fclose(stream), 0);
}

/* A backslash and then the end: what there is counts. */
static void end_in_a_turn(void **state) {
    FILE *stream = tmpfile();
    mz_chat_input *chat = NULL;
    mz_chat_event event;
    const char *text = NULL;
    assert_non_null(stream);
    assert_true(fputs("half\\\n", stream) >= 0);
    rewind(stream);
    mz_assert_ok((mz_context *)*state, mz_chat_input_open(*state, stream, NULL, &chat));
    mz_assert_ok((mz_context *)*state, mz_chat_input_next(chat, &event, &text));
    assert_int_equal(event, MZ_CHAT_TURN);
    assert_string_equal(text, "half\n");
    mz_chat_input_close(chat);
    assert_int_equal(fclose(stream), 0);
}

static void history_paths(void **state) {
    char *path = NULL;
    mz_context *ctx = *state;
    assert_int_equal(setenv("HOME", "/home/x", 1), 0);
    assert_int_equal(setenv("XDG_STATE_HOME", "relative", 1), 0);
    mz_assert_ok(ctx, mz_chat_history_path(ctx, &path));
    assert_string_equal(path, "/home/x/.local/state/moezoo/ask_history");
    mz_free(ctx, path);
    assert_int_equal(setenv("XDG_STATE_HOME", "/state", 1), 0);
    mz_assert_ok(ctx, mz_chat_history_path(ctx, &path));
    assert_string_equal(path, "/state/moezoo/ask_history");
    mz_free(ctx, path);
    assert_int_equal(unsetenv("XDG_STATE_HOME"), 0);
    assert_int_equal(unsetenv("HOME"), 0);
    mz_assert_ok(ctx, mz_chat_history_path(ctx, &path));
    assert_null(path);
}

/* ---- a terminal ---- */

typedef struct terminal {
    int master, old_stderr;
    FILE *stream;
    mz_chat_input *chat;
} terminal;

static void terminal_open(terminal *t, mz_context *ctx, const char *history_path) {
    t->master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(t->master >= 0);
    assert_int_equal(grantpt(t->master), 0);
    assert_int_equal(unlockpt(t->master), 0);
    const int slave = open(ptsname(t->master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    t->stream = fdopen(slave, "r+");
    assert_non_null(t->stream);
    t->old_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(fileno(t->stream), STDERR_FILENO), STDERR_FILENO);
    mz_assert_ok(ctx, mz_chat_input_open(ctx, t->stream, history_path, &t->chat));
    assert_true(mz_chat_input_is_terminal(t->chat));
}

static void terminal_close(terminal *t) {
    mz_chat_input_close(t->chat);
    assert_int_equal(dup2(t->old_stderr, STDERR_FILENO), STDERR_FILENO);
    (void)close(t->old_stderr);
    (void)fclose(t->stream);
    (void)close(t->master);
}

static void check_typed(mz_context *ctx, terminal *t, const char *typed, const char *expected) {
    mz_chat_event event = MZ_CHAT_OVER;
    const char *text = NULL;
    assert_int_equal(write(t->master, typed, strlen(typed)), strlen(typed));
    mz_assert_ok(ctx, mz_chat_input_next(t->chat, &event, &text));
    assert_int_equal(event, MZ_CHAT_TURN);
    assert_string_equal(text, expected);
}

/* Sends SIGINT to this process until it has one that came while it waited for keys. */
static void check_interrupt(mz_context *ctx, terminal *t) {
    mz_chat_event event = MZ_CHAT_TURN;
    const char *text = NULL;
    const pid_t parent = getpid();
    const pid_t child = fork();
    assert_true(child >= 0);
    while (child == 0) {
        (void)usleep(200000);
        if (kill(parent, SIGINT) != 0) {
            _exit(1);
        }
    }
    assert_int_equal(write(t->master, "dropped", 7), 7);
    mz_assert_ok(ctx, mz_chat_input_next(t->chat, &event, &text));
    const bool is_cleared = !mz_cli_interrupted();
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(event, MZ_CHAT_INTERRUPTED);
    assert_true(is_cleared);
    mz_cli_clear_interrupt(); /* another may have come before the child ended */
}

static void typing(void **state) {
    mz_context *ctx = *state;
    terminal t;
    char path[512];
    const char *dir = mz_temp_dir_create();
    struct termios before;
    struct termios after;
    struct stat info;
    (void)snprintf(path, sizeof path, "%s/history", dir);
    assert_int_equal(setenv("TERM", "xterm", 1), 0);
    mz_cli_catch_each_interrupt();
    terminal_open(&t, ctx, path);
    assert_int_equal(tcgetattr(fileno(t.stream), &before), 0);
    check_typed(ctx, &t, "hello\r", "hello");
    check_typed(ctx, &t, "helo\x1b[Dl\r", "hello"); /* left, then a letter */
    check_typed(ctx, &t, "abc\x7f\x7f\r", "a");     /* backspaces */
    check_typed(ctx, &t, "a \\\rb\r", "a \nb");     /* a line that goes on */
    check_typed(ctx, &t, "first\rsecond\rthird\r", "first\nsecond\nthird"); /* pasted */
    check_interrupt(ctx, &t);
    check_typed(ctx, &t, "after\r", "after");
    check_typed(ctx, &t, "\x1b[A\r", "after"); /* the history */
    assert_int_equal(tcgetattr(fileno(t.stream), &after), 0);
    assert_int_equal(before.c_lflag, after.c_lflag); /* as sane as it was */
    terminal_close(&t);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    terminal_open(&t, ctx, path);
    check_typed(ctx, &t, "\x1b[A\r", "after");
    mz_chat_event event = MZ_CHAT_TURN;
    const char *text = NULL;
    assert_int_equal(write(t.master, "\x04", 1), 1); /* Ctrl-D */
    mz_assert_ok(ctx, mz_chat_input_next(t.chat, &event, &text));
    assert_int_equal(event, MZ_CHAT_OVER);
    terminal_close(&t);
    mz_temp_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_a_pipe),
        cmocka_unit_test(end_in_a_turn),
        cmocka_unit_test(history_paths),
        cmocka_unit_test(typing),
    };
    return cmocka_run_group_tests(tests, mz_context_setup, mz_context_teardown);
}
