#include "apps/cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int mz_cli_fail(const mz_command *command, const mz_error *err) {
    (void)fprintf(stderr, "moezoo %s: %s\n", command->name, err->message);
    return MZ_EXIT_FAILURE;
}

int mz_cli_usage_error(const mz_command *command, const char *format, ...) {
    char text[MZ_ERROR_BYTES];
    mz_error err;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)mz_fail(&err, MZ_ERR_ARG, "%s", text);
    (void)mz_cli_fail(command, &err);
    return MZ_EXIT_USAGE;
}

bool mz_cli_context(const mz_command *command, const mz_common_options *common, mz_context *ctx,
                    int *exit_code) {
    const mz_context_options options = {
        .n_threads = (int)common->n_threads,
        .isa = (mz_isa)(common->isa - 1),
    };
    if (mz_context_init(ctx, &options) != MZ_OK) {
        *exit_code = mz_cli_fail(command, &ctx->error);
        mz_context_close(ctx);
        return false;
    }
    return true;
}

/* A signal handler can reach nothing but a static object. */
static volatile sig_atomic_t interrupted;

static volatile sig_atomic_t has_terminal;

/* What is under way is finished, which may take a while where a single forecast is long. */
static void on_interrupt(int signal_number) {
    static const char text[] = "\r\033[Kfinishing what is under way; Ctrl-C again ends at once\n";
    interrupted = 1;
    if (signal_number == SIGINT && has_terminal != 0) {
        const int error = errno;
        const ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
        (void)ignored;
        errno = error;
    }
}

void mz_cli_catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt,
                               .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    has_terminal = isatty(STDERR_FILENO);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool mz_cli_interrupted(void) {
    return interrupted != 0;
}

static void on_each_interrupt(int signal_number) {
    if (interrupted != 0) {
        (void)signal(signal_number, SIG_DFL);
        (void)raise(signal_number); /* comes when this handler is left */
    }
    interrupted = signal_number;
}

void mz_cli_catch_each_interrupt(void) {
    struct sigaction action = {.sa_handler = on_each_interrupt};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

void mz_cli_clear_interrupt(void) {
    if (interrupted == SIGINT) {
        interrupted = 0;
    }
}

void mz_cli_format_double(double value, char out[32]) {
    if (!isfinite(value)) {
        (void)snprintf(out, 32, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            return;
        }
    }
}

void mz_cli_write_json_numbers(FILE *stream, const double *values, int64_t n) {
    char number[32];
    (void)fputc('[', stream);
    for (int64_t i = 0; i < n; i++) {
        mz_cli_format_double(values[i], number);
        (void)fprintf(stream, "%s%s", i > 0 ? "," : "", number);
    }
    (void)fputc(']', stream);
}

void mz_cli_write_csv_field(FILE *stream, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        (void)fputs(text, stream);
        return;
    }
    (void)fputc('"', stream);
    for (; *text != '\0'; text++) {
        (void)fputs(*text == '"' ? "\"\"" : (char[]){*text, '\0'}, stream);
    }
    (void)fputc('"', stream);
}

/* Bytes of the UTF-8 character at `s`, 0 where it is none (RFC 3629: no overlong forms, no
 * surrogates). */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) {
        return 1;
    }
    const int n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                  : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                  : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                 : 0;
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || beyond ? 0 : n;
}

size_t mz_cli_utf8_valid(const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < n_bytes) {
        const int n = utf8_length(s + i);
        if (n == 0) {
            break;
        }
        i += (size_t)n;
    }
    return i;
}

void mz_cli_write_json_bytes(FILE *stream, const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    const unsigned char *end = s + n_bytes;
    (void)fputc('"', stream);
    while (s < end) {
        const int n = utf8_length(s);
        if (n == 0) {
            (void)fputs("\xef\xbf\xbd", stream);
            s++;
            continue;
        }
        if (*s == '"' || *s == '\\') {
            (void)fprintf(stream, "\\%c", *s);
        } else if (*s < 0x20 || *s == 0x7f) {
            (void)fprintf(stream, "\\u%04x", *s);
        } else {
            (void)fwrite(s, 1, (size_t)n, stream);
        }
        s += n;
    }
    (void)fputc('"', stream);
}

void mz_cli_write_json_string(FILE *stream, const char *text) {
    mz_cli_write_json_bytes(stream, text, strlen(text));
}

int mz_cli_terminal_width(FILE *stream) {
    struct winsize size;
    const bool is_known = ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return is_known ? size.ws_col : 80;
}

/* U+202A to U+202E and U+2066 to U+2069 turn around what follows them on a terminal. */
static bool turns_direction(const unsigned char *s, int n) {
    return n == 3 && s[0] == 0xe2 &&
           ((s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) ||
            (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));
}

/* Writes the character at `s`, or what stands for it, and returns its bytes. */
static int write_plain_character(FILE *stream, const unsigned char *s) {
    const int n = utf8_length(s);
    const bool c1_control = s[0] == 0xc2 && n == 2 && s[1] < 0xa0;
    if (n == 0 || *s < 0x20 || *s == 0x7f || c1_control || turns_direction(s, n)) {
        (void)fputc('?', stream);
    } else {
        (void)fwrite(s, 1, (size_t)n, stream);
    }
    return n > 0 ? n : 1;
}

void mz_cli_write_plain(FILE *stream, const char *text) {
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0';) {
        s += write_plain_character(stream, s);
    }
}

void mz_cli_write_plain_lines(FILE *stream, const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    for (const unsigned char *end = s + n_bytes; s < end;) {
        if (*s == '\n' || *s == '\t') {
            (void)fputc(*s++, stream);
        } else {
            s += write_plain_character(stream, s);
        }
    }
}

static const char *format_scaled(double value, double base, const char *const *units, int n_units,
                                 char out[32]) {
    int unit = 0;
    while (unit + 1 < n_units && value >= base) {
        value /= base;
        unit++;
    }
    (void)snprintf(out, 32, unit == 0 ? "%.0f%s" : "%.1f%s", value, units[unit]);
    return out;
}

const char *mz_cli_plural(int64_t n) {
    return n == 1 ? "" : "s";
}

const char *mz_cli_format_bytes(int64_t n_bytes, char out[32]) {
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
    return format_scaled((double)n_bytes, 1024, units, 5, out);
}

const char *mz_cli_format_count(int64_t n, char out[32]) {
    static const char *const units[] = {"", " k", " M", " G", " T"};
    return format_scaled((double)n, 1000, units, 5, out);
}
