/* The command line: option tables, help, messages, progress, finding models. */
#ifndef MZ_APPS_CLI_H
#define MZ_APPS_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exit codes of every command. */
enum { MZ_EXIT_OK = 0, MZ_EXIT_FAILURE = 1, MZ_EXIT_USAGE = 2 };

typedef enum mz_option_kind {
    MZ_OPTION_FLAG,
    MZ_OPTION_INT,
    MZ_OPTION_NUMBER, /* real; min and max are whole and allowed */
    MZ_OPTION_STRING,
    MZ_OPTION_CHOICE,
    MZ_OPTION_LIST /* a string that may be given several times */
} mz_option_kind;

/* What a MZ_OPTION_LIST holds, in the order of the line. */
enum { MZ_MAX_OPTION_ITEMS = 64 };
typedef struct mz_option_list {
    const char *items[MZ_MAX_OPTION_ITEMS];
    int n;
} mz_option_list;

/* One row drives parsing and help. An option may be given once, but a
 * list's; `--name value` and `--name=value`
 * are the same. A value that begins with two dashes must be written with '='; one that begins with
 * one dash may follow ("--horizon -1"). */
typedef struct mz_option {
    const char *name; /* without dashes */
    char short_name;  /* 0: none */
    mz_option_kind kind;
    const char *value_name; /* "N", "FILE"; NULL for flags and choices */
    const char *help;       /* one line, with unit and default */
    int64_t min, max;       /* MZ_OPTION_INT, MZ_OPTION_NUMBER */
    const char *choices;    /* MZ_OPTION_CHOICE: "linear|forward|drop|error" */
    /* bool *, int64_t *, double *, const char **, int * (index of the choice) or mz_option_list *;
     * untouched if not given */
    void *target;
} mz_option;

/* One command. */
typedef struct mz_command {
    const char *name;     /* as typed after "moezoo", sub-command included */
    const char *summary;  /* one line */
    const char *usage;    /* "moezoo forecast FILE|- --horizon N [options]" */
    const char *examples; /* lines shown by --help */
    /* argv[0] is the command's last word; returns an exit code */
    int (*run)(int argc, char **argv);
} mz_command;

/* Options that every command has, already in its table by mz_cli_parse: -t/--threads, --isa,
 * --quiet, -h/--help. */
typedef struct mz_common_options {
    int64_t n_threads; /* 0: all processors */
    int isa;           /* index of the choice: 0 auto, then the levels of mz_isa in order */
    bool quiet;
} mz_common_options;

/* What a command's line may hold, and what it held. */
typedef struct mz_arguments {
    const mz_option *options;
    int n_options;            /* at most MZ_MAX_OPTIONS */
    const char **positionals; /* filled */
    int max_positionals;
    int n_positionals;        /* filled */
    mz_common_options common; /* filled */
} mz_arguments;

enum { MZ_MAX_OPTIONS = 48 };

/* Parses argv[1..]; `--` ends the options. Prints help to stdout or one line of error to stderr
 * itself. Returns true to go on; otherwise *exit_code is what to return (0 after --help, 2 for
 * wrong usage). */
bool mz_cli_parse(const mz_command *command, mz_arguments *arguments, int argc, char **argv,
                  int *exit_code);

/* Runs the sub-command that argv[1] names, with argv[1..]. Prints help or an error itself where
 * there is none. `program` is what stands before the sub-command ("moezoo models"), `commands` ends
 * with NULL. */
int mz_cli_dispatch(const char *program, const char *about, const mz_command *const *commands,
                    int argc, char **argv);

/* The word of `words` (n of them) nearest to `word` that is near enough to be meant, or NULL. */
const char *mz_cli_nearest(const char *word, const char *const *words, int n);

/* "moezoo forecast: MESSAGE" on stderr, one line. Return MZ_EXIT_FAILURE and MZ_EXIT_USAGE. */
int mz_cli_fail(const mz_command *command, const mz_error *err);
int mz_cli_usage_error(const mz_command *command, const char *format, ...) MZ_PRINTF(2, 3);

/* Opens a context as the common options say. Returns false after printing; then *exit_code is set.
 */
bool mz_cli_context(const mz_command *command, const mz_common_options *common, mz_context *ctx,
                    int *exit_code);

/* A bar with time left on stderr, for work over 2 s on a terminal; silent otherwise. */
typedef struct mz_progress {
    const char *what;
    int64_t n_total;
    int64_t n_before; /* of these: done before the work began, and not by it */
    const char *note; /* shown behind the time left, or NULL; the caller's, may change */
    bool enabled;
    double start_s, last_s;
    bool shown;
} mz_progress;
void mz_progress_init(mz_progress *p, const char *what, int64_t n_total, bool quiet);
void mz_progress_update(mz_progress *p, int64_t n_done);
/* The same with `part` more that is in the making, less than a whole one or of several. */
void mz_progress_update_part(mz_progress *p, int64_t n_done, double part);
void mz_progress_finish(mz_progress *p);

/* Catches SIGINT and SIGTERM: the first sets the flag, the second ends the program. */
void mz_cli_catch_interrupts(void);
bool mz_cli_interrupted(void);

/* For programs that go on: SIGINT and SIGTERM set the flag without a message and end a read that
 * waits; one that comes while the flag is set ends the program. mz_cli_clear_interrupt takes the
 * flag of a SIGINT back; that of a SIGTERM stays. */
void mz_cli_catch_each_interrupt(void);
void mz_cli_clear_interrupt(void);

/* Folders in which models are looked up by name, in order: --models-dir,
 * $XDG_DATA_HOME/moezoo/models (or
 * ~/.local/share/...), <program>/../share/moezoo/models, the source tree's assets/models.
 * `models_dir` may be NULL. Released with mz_model_places_close, after a failure too. Errors:
 * NOMEM. */
enum { MZ_MAX_MODEL_PLACES = 4 };
typedef struct mz_model_places {
    char *dirs[MZ_MAX_MODEL_PLACES];
    int n;
} mz_model_places;
mz_status mz_model_places_open(mz_context *ctx, const char *models_dir, mz_model_places *out);
void mz_model_places_close(mz_context *ctx, mz_model_places *places);

/* What follows the last slash of `path`. */
const char *mz_cli_base_name(const char *path);

/* The model that forecasts when none is named. */
#define MZ_DEFAULT_FORECASTER "patchmoe-5m"

/* Where a model is: the folder that holds config.json, or a GGUF file. `name` is an existing path,
 * else NAME or NAME.gguf looked up in the places; NULL: `fallback`, looked up the same way. A
 * folder without config.json but with one GGUF file stands for that file. Errors: MISSING, naming
 * the places searched; NOMEM. *out is released with mz_free. */
mz_status mz_cli_find_model(mz_context *ctx, const char *name, const char *models_dir,
                            const char *fallback, char **out);

/* Complains about a picture that would replace the input or the answer; NULL and "-" are not files.
 * (The answer may replace the input, which is read to its end before.) Returns an exit code. */
int mz_cli_check_outputs(const mz_command *command, const char *input, const char *output,
                         const char *plot);

/* What model the entry of the folder `place` is: NAME and where it is, as mz_cli_find_model would
 * find it there; *path NULL: none. Errors: NOMEM. Both are released with mz_free. */
mz_status mz_cli_model_of_entry(mz_context *ctx, const char *place, const char *entry, char **name,
                                char **path);

/* What answers call the model at `dir`: the folder's own name, a file's without ".gguf". Errors:
 * NOMEM. *out is released with mz_free. */
mz_status mz_cli_model_name(mz_context *ctx, const char *dir, char **out);

/* Writes a double so that reading it back gives the same bits, shortest form; "null" when not
 * finite. */
void mz_cli_format_double(double value, char out[32]);

/* Writes `text` as a JSON string with quotes; bytes that are no UTF-8 become U+FFFD. Errors show in
 * the stream. */
void mz_cli_write_json_string(FILE *stream, const char *text);

/* The same for `n_bytes` bytes with a NUL behind them; they may hold others. */
void mz_cli_write_json_bytes(FILE *stream, const char *text, size_t n_bytes);

/* Offset of the first byte of `text` that is no UTF-8 (RFC 3629), or n_bytes. A NUL stands behind
 * the text. */
size_t mz_cli_utf8_valid(const char *text, size_t n_bytes);

/* Writes "[1,2.5,null]": numbers as above. */
void mz_cli_write_json_numbers(FILE *stream, const double *values, int64_t n);

/* Writes `text` as a field of CSV (RFC 4180): in quotes where it must be, quotes doubled. */
void mz_cli_write_csv_field(FILE *stream, const char *text);

/* Columns of the terminal that the stream writes to; 80 where it is none. */
int mz_cli_terminal_width(FILE *stream);

/* Writes `text` for people: control characters, and those that turn the direction of text, become
 * '?', so that a file cannot steer the terminal. */
void mz_cli_write_plain(FILE *stream, const char *text);

/* The same for a text of several lines: its line ends and tabs stay. */
void mz_cli_write_plain_lines(FILE *stream, const char *text, size_t n_bytes);

/* "" for 1, else "s". */
const char *mz_cli_plural(int64_t n);

/* "1.5 GB"-like size, and "113.4 M"-like count. Return `out`. */
const char *mz_cli_format_bytes(int64_t n_bytes, char out[32]);
const char *mz_cli_format_count(int64_t n, char out[32]);

/* Version, build, processor and backends, as `moezoo --version` prints them. */
void mz_cli_write_version(FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
