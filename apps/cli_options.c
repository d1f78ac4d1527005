#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "apps/cli.h"

enum { N_COMMON = 4, MAX_TABLE = MZ_MAX_OPTIONS + N_COMMON, MAX_WORD = 40, HELP_COLUMN = 26 };

/* The state of one mz_cli_parse. */
typedef struct parser {
    const mz_command *command;
    mz_arguments *arguments;
    mz_option table[MAX_TABLE]; /* the command's rows, then the common ones */
    int n;
    bool seen[MAX_TABLE];
    bool help;
} parser;

/* ---- nearest word ---- */

/* Levenshtein's distance; words that are too long are far from everything. */
static int distance(const char *a, const char *b) {
    const size_t n_a = strlen(a);
    const size_t n_b = strlen(b);
    int row[MAX_WORD + 1];
    if (n_a > MAX_WORD || n_b > MAX_WORD) {
        return MAX_WORD;
    }
    for (size_t j = 0; j <= n_b; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n_b; j++) {
            const int replaced = diagonal + (a[i - 1] != b[j - 1]);
            const int shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[n_b];
}

const char *mz_cli_nearest(const char *word, const char *const *words, int n) {
    const char *best = NULL;
    const int length = (int)strlen(word);
    int best_distance = length <= 3 ? 1 : length <= 7 ? 2 : 3;
    for (int i = 0; i < n; i++) {
        /* The beginning of a word is a good sign, the nearer the longer. */
        const int d = length >= 3 && strncmp(word, words[i], (size_t)length) == 0
                          ? 1
                          : distance(word, words[i]);
        if (d < best_distance || (d == best_distance && best == NULL)) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}

/* ---- help ---- */

/* "  -n, --horizon N", padded. */
static void print_left(const mz_option *o) {
    char text[128];
    const char *value = o->kind == MZ_OPTION_CHOICE ? o->choices : o->value_name;
    char letter[8] = "    ";
    if (o->short_name != 0) {
        (void)snprintf(letter, sizeof letter, "-%c, ", o->short_name);
    }
    const int n = snprintf(text, sizeof text, "  %s--%s%s%s", letter, o->name,
                           value != NULL ? " " : "", value != NULL ? value : "");
    (void)fputs(text, stdout);
    if (n >= HELP_COLUMN) {
        (void)printf("\n%*s", HELP_COLUMN + 1, "");
    } else {
        (void)printf("%*s", HELP_COLUMN + 1 - n, "");
    }
}

static void print_help(const parser *p) {
    (void)printf("moezoo %s: %s\n\nusage: %s\n\noptions:\n", p->command->name, p->command->summary,
                 p->command->usage);
    for (int i = 0; i < p->n; i++) {
        print_left(&p->table[i]);
        (void)printf("%s\n", p->table[i].help);
    }
    (void)printf("\nexamples:\n%s", p->command->examples);
}

/* ---- parsing ---- */

static void build_table(parser *p) {
    mz_common_options *common = &p->arguments->common;
    const mz_option shared[N_COMMON] = {
        {.name = "threads",
         .short_name = 't',
         .kind = MZ_OPTION_INT,
         .value_name = "N",
         .min = 0,
         .max = 1024,
         .target = &common->n_threads,
         .help = "threads; the result does not depend on it (default 0: one per processor)"},
        {.name = "isa",
         .kind = MZ_OPTION_CHOICE,
         .choices = "auto|scalar|avx2|avx512|avx512-bf16|amx",
         .target = &common->isa,
         .help = "highest instruction set to use (default auto: the best there is)"},
        {.name = "quiet",
         .kind = MZ_OPTION_FLAG,
         .target = &common->quiet,
         .help = "no progress and no timing on stderr"},
        {.name = "help",
         .short_name = 'h',
         .kind = MZ_OPTION_FLAG,
         .target = &p->help,
         .help = "show this help"},
    };
    for (int i = 0; i < p->arguments->n_options && i < MZ_MAX_OPTIONS; i++) {
        p->table[p->n++] = p->arguments->options[i];
    }
    for (int i = 0; i < N_COMMON; i++) {
        p->table[p->n++] = shared[i];
    }
}

static int unknown_option(const parser *p, const char *shown, const char *name, size_t length) {
    const char *names[MAX_TABLE];
    char word[MAX_WORD + 1] = "";
    for (int i = 0; i < p->n; i++) {
        names[i] = p->table[i].name;
    }
    if (length <= MAX_WORD) {
        memcpy(word, name, length);
        word[length] = '\0';
    }
    const char *near = length > 1 ? mz_cli_nearest(word, names, p->n) : NULL;
    if (near != NULL) {
        return mz_cli_usage_error(p->command, "unknown option %s; did you mean --%s?", shown, near);
    }
    return mz_cli_usage_error(p->command, "unknown option %s; moezoo %s --help lists the options",
                              shown, p->command->name);
}

static bool parse_choice(const mz_option *o, const char *value, int *out) {
    const size_t length = strlen(value);
    const char *word = o->choices;
    for (int i = 0;; i++) {
        const size_t n = strcspn(word, "|");
        if (n == length && strncmp(word, value, n) == 0) {
            *out = i;
            return true;
        }
        if (word[n] == '\0') {
            return false;
        }
        word += n + 1;
    }
}

/* Returns an exit code, MZ_EXIT_OK to go on. */
static int set_int(const parser *p, const mz_option *o, const char *value) {
    char *end = NULL;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    const bool starts_well =
        (value[0] >= '0' && value[0] <= '9') || value[0] == '-' || value[0] == '+';
    if (!starts_well || end == value || *end != '\0') {
        return mz_cli_usage_error(p->command, "--%s: \"%s\" is not a whole number", o->name, value);
    }
    if (errno == ERANGE || number < o->min || number > o->max) {
        return mz_cli_usage_error(p->command, "--%s: %s is outside %" PRId64 " to %" PRId64,
                                  o->name, value, o->min, o->max);
    }
    *(int64_t *)o->target = number;
    return MZ_EXIT_OK;
}

/* "inf" and "nan" are numbers to strtod, but none that an option means. */
static int set_number(const parser *p, const mz_option *o, const char *value) {
    char *end = NULL;
    const double number = strtod(value, &end);
    const bool starts_well =
        value[strspn(value, "+-.")] >= '0' && value[strspn(value, "+-.")] <= '9';
    if (!starts_well || end == value || *end != '\0') {
        return mz_cli_usage_error(p->command, "--%s: \"%s\" is not a number", o->name, value);
    }
    if (!(number >= (double)o->min && number <= (double)o->max)) {
        return mz_cli_usage_error(p->command, "--%s: %s is outside %" PRId64 " to %" PRId64,
                                  o->name, value, o->min, o->max);
    }
    *(double *)o->target = number;
    return MZ_EXIT_OK;
}

static int add_item(const parser *p, const mz_option *o, const char *value) {
    mz_option_list *list = o->target;
    if (list->n == MZ_MAX_OPTION_ITEMS) {
        return mz_cli_usage_error(p->command, "--%s is given more than %d times", o->name,
                                  MZ_MAX_OPTION_ITEMS);
    }
    list->items[list->n++] = value;
    return MZ_EXIT_OK;
}

static int set_value(const parser *p, const mz_option *o, const char *value) {
    if (value == NULL) {
        return mz_cli_usage_error(p->command, "--%s needs a value: --%s %s", o->name, o->name,
                                  o->kind == MZ_OPTION_CHOICE ? o->choices : o->value_name);
    }
    if (o->kind == MZ_OPTION_INT) {
        return set_int(p, o, value);
    }
    if (o->kind == MZ_OPTION_NUMBER) {
        return set_number(p, o, value);
    }
    if (o->kind == MZ_OPTION_STRING || o->kind == MZ_OPTION_LIST) {
        if (value[0] == '\0') {
            return mz_cli_usage_error(p->command, "--%s: the value is empty", o->name);
        }
        if (o->kind == MZ_OPTION_LIST) {
            return add_item(p, o, value);
        }
        *(const char **)o->target = value;
        return MZ_EXIT_OK;
    }
    if (!parse_choice(o, value, o->target)) {
        return mz_cli_usage_error(p->command, "--%s: \"%s\" is not one of %s", o->name, value,
                                  o->choices);
    }
    return MZ_EXIT_OK;
}

/* Index of the option that `arg` names, or -1. *value points to what stands in the same word, or
 * NULL. */
static int find_option(const parser *p, const char *arg, const char **value) {
    *value = NULL;
    if (arg[1] != '-') {
        for (int i = 0; i < p->n; i++) {
            if (p->table[i].short_name == arg[1]) {
                *value = arg[2] == '\0' ? NULL : arg + 2 + (arg[2] == '=');
                return i;
            }
        }
        return -1;
    }
    const size_t length = strcspn(arg + 2, "=");
    for (int i = 0; i < p->n; i++) {
        if (strlen(p->table[i].name) == length && strncmp(p->table[i].name, arg + 2, length) == 0) {
            *value = arg[2 + length] == '=' ? arg + 3 + length : NULL;
            return i;
        }
    }
    return -1;
}

/* Takes the option at argv[*i], and its value where that is the next word. */
static int take_option(parser *p, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    const char *value = NULL;
    const int k = find_option(p, arg, &value);
    if (k < 0) {
        const char *name = arg + (arg[1] == '-' ? 2 : 1);
        return unknown_option(p, arg, name, strcspn(name, "="));
    }
    const mz_option *o = &p->table[k];
    if (p->seen[k] && o->kind != MZ_OPTION_LIST) {
        return mz_cli_usage_error(p->command, "--%s is given twice", o->name);
    }
    p->seen[k] = true;
    if (o->kind == MZ_OPTION_FLAG) {
        if (value != NULL) {
            return mz_cli_usage_error(p->command, "--%s takes no value", o->name);
        }
        *(bool *)o->target = true;
        return MZ_EXIT_OK;
    }
    if (value == NULL && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0) {
        value = argv[++*i];
    }
    return set_value(p, o, value);
}

bool mz_cli_parse(const mz_command *command, mz_arguments *arguments, int argc, char **argv,
                  int *exit_code) {
    parser p = {.command = command, .arguments = arguments};
    bool only_positionals = false;
    arguments->n_positionals = 0;
    build_table(&p);
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        int code = MZ_EXIT_OK;
        if (!only_positionals && strcmp(arg, "--") == 0) {
            only_positionals = true;
        } else if (!only_positionals && arg[0] == '-' && arg[1] != '\0') {
            code = take_option(&p, argc, argv, &i);
        } else if (arguments->n_positionals == arguments->max_positionals) {
            code = mz_cli_usage_error(command, "\"%s\" is one argument too many; usage: %s", arg,
                                      command->usage);
        } else {
            arguments->positionals[arguments->n_positionals++] = arg;
        }
        if (code != MZ_EXIT_OK) {
            *exit_code = code;
            return false;
        }
        if (p.help) {
            print_help(&p);
            *exit_code = MZ_EXIT_OK;
            return false;
        }
    }
    return true;
}

/* ---- sub-commands ---- */

static void print_commands(const char *program, const char *about,
                           const mz_command *const *commands) {
    (void)printf("%s: %s\n\nusage: %s COMMAND ...\n\ncommands:\n", program, about, program);
    for (const mz_command *const *c = commands; *c != NULL; c++) {
        (void)printf("  %-16s %s\n", (*c)->name, (*c)->summary);
    }
    (void)printf("\nexamples:\n");
    for (const mz_command *const *c = commands; *c != NULL; c++) {
        (void)printf("%s", (*c)->examples);
    }
    (void)printf("\n%s COMMAND --help shows the options of a command.\n", program);
}

static const char *last_word(const char *name) {
    const char *space = strrchr(name, ' ');
    return space != NULL ? space + 1 : name;
}

static int unknown_command(const char *program, const mz_command *const *commands,
                           const char *word) {
    const char *names[MZ_MAX_OPTIONS];
    char list[256] = "";
    size_t used = 0;
    int n = 0;
    for (; commands[n] != NULL && n < MZ_MAX_OPTIONS; n++) {
        names[n] = last_word(commands[n]->name);
        const int added =
            snprintf(list + used, sizeof list - used, "%s%s", n > 0 ? ", " : "", names[n]);
        used += added > 0 && (size_t)added < sizeof list - used ? (size_t)added : 0;
    }
    mz_error err;
    const char *near = word != NULL ? mz_cli_nearest(word, names, n) : NULL;
    if (word == NULL) {
        (void)mz_fail(&err, MZ_ERR_ARG,
                      "no command given, expected one of: %s (%s --help shows more)", list,
                      program);
    } else if (near != NULL) {
        (void)mz_fail(&err, MZ_ERR_ARG, "unknown command \"%s\"; did you mean %s?", word, near);
    } else {
        (void)mz_fail(&err, MZ_ERR_ARG, "unknown command \"%s\", expected one of: %s", word, list);
    }
    (void)fprintf(stderr, "%s: %s\n", program, err.message);
    return MZ_EXIT_USAGE;
}

int mz_cli_dispatch(const char *program, const char *about, const mz_command *const *commands,
                    int argc, char **argv) {
    if (argc < 2) {
        return unknown_command(program, commands, NULL);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_commands(program, about, commands);
        return MZ_EXIT_OK;
    }
    for (const mz_command *const *c = commands; *c != NULL; c++) {
        if (strcmp(last_word((*c)->name), argv[1]) == 0) {
            return (*c)->run(argc - 1, argv + 1);
        }
    }
    return unknown_command(program, commands, argv[1]);
}
