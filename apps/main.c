/* moezoo: one program, one command per job. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

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

/* Where the caller closed a standard stream the next file would get its number, and messages would
 * be written into it. What takes its place can be neither read nor written, like a closed one. */
static void occupy_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1) {
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

int main(int argc, char **argv) {
    static const mz_command *const commands[] = {&mz_command_ask,   &mz_command_forecast,
                                                 &mz_command_train, &mz_command_models,
                                                 &mz_command_bench, NULL};
    occupy_standard_streams();
    /* A reader that goes away (`| head`) is a write error like any other, and so is a file that
     * outgrows its limit (`ulimit -f`). */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        mz_cli_write_version(stdout);
        return flush_answer(MZ_EXIT_OK);
    }
    return flush_answer(mz_cli_dispatch(
        "moezoo",
        "sparse mixture-of-experts models on this machine; moezoo --version names the build",
        commands, argc, argv));
}
