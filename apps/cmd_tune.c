/* moezoo forecast tune: a model fitted to the series of a file, if that makes it better. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/forecast/tune_job.h"

enum { MAX_WINDOWS = 1000, MAX_STEPS = 1000000, MAX_BATCH = 4096, MAX_RANK = 512 };

/* What the line asked for. */
typedef struct request {
    mz_forecast_inputs in;
    mz_tune_request tune;
    const char *alpha, *minutes, *lr, *synthetic_share; /* texts of numbers; NULL: not given */
    bool json;
} request;

/* `text` as a number within [low, high]; complains where it is none. Returns an exit code. */
static int parse_number(const char *option, const char *text, double low, double high,
                        double *out) {
    char *end = NULL;
    if (text == NULL) {
        return MZ_EXIT_OK;
    }
    const double value = strtod(text, &end);
    if (text[0] == '\0' || *end != '\0' || !(value >= low && value <= high)) {
        return mz_cli_usage_error(&mz_command_forecast_tune, "--%s: %s is no number from %g to %g",
                                  option, text, low, high);
    }
    *out = value;
    return MZ_EXIT_OK;
}

static int check_numbers(request *r) {
    const struct {
        const char *option, *text;
        double low, high;
        double *out;
    } numbers[] = {{"alpha", r->alpha, 1e-6, 1e6, &r->tune.alpha},
                   {"minutes", r->minutes, 1e-3, 1e6, &r->tune.minutes},
                   {"lr", r->lr, 1e-12, 1, &r->tune.lr},
                   {"synthetic-share", r->synthetic_share, 0, 0.9, &r->tune.synthetic_share}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const int exit_code = parse_number(numbers[i].option, numbers[i].text, numbers[i].low,
                                           numbers[i].high, numbers[i].out);
        if (exit_code != MZ_EXIT_OK) {
            return exit_code;
        }
    }
    return MZ_EXIT_OK;
}

static int check_method(request *r) {
    const mz_command *c = &mz_command_forecast_tune;
    const bool shapes_adapter = r->tune.rank != MZ_NOT_GIVEN || r->alpha != NULL;
    if (r->tune.full && (shapes_adapter || r->tune.merge || r->in.adapter != NULL)) {
        return mz_cli_usage_error(c, "--full trains all weights: --rank, --alpha, --merge and "
                                     "--adapter are for adapters");
    }
    if (r->in.adapter != NULL && shapes_adapter) {
        return mz_cli_usage_error(c, "--adapter goes on with an adapter as it is: --rank and "
                                     "--alpha are for a fresh one");
    }
    if (r->in.normalize != MZ_NORMALIZE_WINDOW) {
        return mz_cli_usage_error(c, "--normalize none: tuning scales every window");
    }
    r->tune.rank = r->tune.rank == MZ_NOT_GIVEN ? 8 : r->tune.rank;
    return MZ_EXIT_OK;
}

static int check_request(request *r, int n_positionals) {
    const mz_command *c = &mz_command_forecast_tune;
    const int exit_code = mz_forecast_inputs_check(c, &r->in, n_positionals);
    if (exit_code != MZ_EXIT_OK) {
        return exit_code;
    }
    if (r->tune.output == NULL) {
        return mz_cli_usage_error(c, "-o DIR is missing: where the tuned model goes; usage: %s",
                                  c->usage);
    }
    const int wrong = check_method(r);
    return wrong != MZ_EXIT_OK ? wrong : check_numbers(r);
}

static bool parse_request(int argc, char **argv, request *r, mz_common_options *common,
                          int *exit_code) {
    mz_tune_request *t = &r->tune;
    const mz_option own[] = {
        {"output", 'o', MZ_OPTION_STRING, "DIR",
         "folder for adapter or model and report.json: new, empty, or of an earlier tuning "
         "(required)",
         0, 0, NULL, &t->output},
        {"force", 0, MZ_OPTION_FLAG, NULL, "write to DIR whatever it holds", 0, 0, NULL, &t->force},
        {"windows", 0, MZ_OPTION_INT, "K",
         "forecasts held out of each series to test, and as many to choose by (default 3, at most "
         "a "
         "fifth of the series)",
         1, MAX_WINDOWS, NULL, &t->n_windows},
        {"rank", 0, MZ_OPTION_INT, "R", "of the adapter, 1 to 512 (default 8)", 1, MAX_RANK, NULL,
         &t->rank},
        {"alpha", 0, MZ_OPTION_STRING, "A", "its weight is A / R (default 16)", 0, 0, NULL,
         &r->alpha},
        {"full", 0, MZ_OPTION_FLAG, NULL, "train all weights, and write a model", 0, 0, NULL,
         &t->full},
        {"merge", 0, MZ_OPTION_FLAG, NULL, "write a model with the adapter worked into it", 0, 0,
         NULL, &t->merge},
        {"steps", 0, MZ_OPTION_INT, "S",
         "of training at most (default 60 to 400, by the amount of data, as the time allows)", 1,
         MAX_STEPS, NULL, &t->n_steps},
        {"minutes", 0, MZ_OPTION_STRING, "M",
         "of training at most (default 5; with --steps no limit)", 0, 0, NULL, &r->minutes},
        {"lr", 0, MZ_OPTION_STRING, "RATE",
         "highest learning rate (default 0.001 for adapters, 0.0001 with --full)", 0, 0, NULL,
         &r->lr},
        {"batch", 0, MZ_OPTION_INT, "N", "windows of a step (default 16)", 1, MAX_BATCH, NULL,
         &t->batch},
        {"seed", 0, MZ_OPTION_INT, "N", "of windows and adapter (default 0)", 0, INT64_MAX / 2,
         NULL, &t->seed},
        {"synthetic-share", 0, MZ_OPTION_STRING, "P",
         "share of windows of made series, against forgetting, 0 to 0.9 (default 0.2)", 0, 0, NULL,
         &r->synthetic_share},
        {"json", 0, MZ_OPTION_FLAG, NULL, "print the report as one object", 0, 0, NULL, &r->json},
    };
    mz_option options[MZ_MAX_OPTIONS];
    int n = mz_forecast_input_options(&r->in, options);
    memcpy(options + n, own, sizeof own);
    n += (int)(sizeof own / sizeof own[0]);
    mz_arguments arguments = {
        .options = options, .n_options = n, .positionals = &r->in.file, .max_positionals = 1};
    if (!mz_cli_parse(&mz_command_forecast_tune, &arguments, argc, argv, exit_code)) {
        return false;
    }
    *common = arguments.common;
    *exit_code = check_request(r, arguments.n_positionals);
    return *exit_code == MZ_EXIT_OK;
}

static int run(int argc, char **argv) {
    mz_context ctx;
    request r = {.in.horizon = MZ_NOT_GIVEN,
                 .tune = {.rank = MZ_NOT_GIVEN, .alpha = 16, .batch = 16, .synthetic_share = 0.2}};
    mz_common_options common;
    int exit_code = MZ_EXIT_OK;
    if (!parse_request(argc, argv, &r, &common, &exit_code) ||
        !mz_cli_context(&mz_command_forecast_tune, &common, &ctx, &exit_code)) {
        return exit_code;
    }
    r.in.quiet = common.quiet;
    r.tune.in = &r.in;
    mz_tune_job job = {.ctx = &ctx, .request = &r.tune};
    if (mz_tune_job_run(&job, &mz_command_forecast_tune) != MZ_OK) {
        exit_code = mz_cli_fail(&mz_command_forecast_tune, &ctx.error);
    } else {
        (r.json ? mz_tune_report_json : mz_tune_report_table)(&job.report, stdout);
    }
    mz_tune_job_close(&job);
    mz_context_close(&ctx);
    return exit_code;
}

const mz_command mz_command_forecast_tune = {
    .name = "forecast tune",
    .summary = "fit a model to the series of a file, if that makes it better",
    .usage = "moezoo forecast tune FILE|- --horizon N -o DIR [options]",
    .examples =
        "  moezoo forecast tune sales.csv --horizon 12 -o tuned\n"
        "  moezoo forecast sales.csv --horizon 12 --adapter tuned\n"
        "  moezoo forecast tune sales.csv -n 12 -o tuned --minutes 1 --rank 4\n"
        "  moezoo forecast tune many.jsonl -n 24 -m TimeMoE-50M --full --lr 2e-5 -o tuned-model\n"
        "  moezoo forecast backtest sales.csv -n 12 --windows 3 -m tuned-model\n",
    .run = run,
};
