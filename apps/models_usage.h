/* moezoo models show --usage: which experts a model uses for the series of a file. */
#ifndef MZ_APPS_MODELS_USAGE_H
#define MZ_APPS_MODELS_USAGE_H

#include "apps/cli.h"
#include "apps/forecast/forecast_setup.h"

/* What the line asked for. `in` holds FILE, its layout and the model. */
typedef struct mz_usage_request {
    mz_forecast_inputs in;
    const char *plot;
    int64_t layer; /* MZ_NOT_GIVEN: all */
    bool json;
} mz_usage_request;

/* Rows of the option table for the request but for those of the model and --json. Returns how many
 * were written. */
enum { MZ_USAGE_OPTIONS = MZ_FORECAST_INPUT_OPTIONS + 3 };
int mz_usage_options(mz_usage_request *request, mz_option *out);

/* Prints the answer; returns an exit code. */
int mz_models_usage(const mz_command *command, const mz_usage_request *request, mz_context *ctx);

#endif
