/* moezoo: one program, one command per job. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "apps/commands.h"

/* What a command printed may still wait in the buffer: a full disk must not look like success. */
static int flush_answer(int code) {
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return code;
    }
    if (errno != EPIPE && code == MZ_EXIT_OK) {
        (void)fprintf(stderr, "moezoo: standard output: %s\n", strerror(errno));
    }
    return code == MZ_EXIT_OK ? MZ_EXIT_FAILURE : code;
}

int main(int argc, char **argv) {
    static const mz_command *const commands[] = {&mz_command_forecast, &mz_command_models,
                                                 &mz_command_bench, NULL};
    /* A reader that goes away (`| head`) is a write error like any other. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        mz_cli_write_version(stdout);
        return flush_answer(MZ_EXIT_OK);
    }
    return flush_answer(mz_cli_dispatch(
        "moezoo",
        "sparse mixture-of-experts models on this machine; moezoo --version names the build",
        commands, argc, argv));
}
