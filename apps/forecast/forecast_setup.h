/* What every command that forecasts opens: the input, the model, a batch. */
#ifndef MZ_APPS_FORECAST_FORECAST_SETUP_H
#define MZ_APPS_FORECAST_FORECAST_SETUP_H

#include "apps/cli.h"
#include "apps/forecast/forecast_batch.h"
#include "encoders/series/series_reader.h"

/* Targets of the options that these commands share; index of the choice where it is an int. */
typedef struct mz_forecast_inputs {
    const char *file, *columns, *id, *time, *value, *freq, *season_text, *model, *models_dir,
        *adapter;
    int64_t horizon, context_len;
    int duplicates, missing, normalize, precision;
    bool sort, day_first, overshoot;
    /* filled by the command: */
    bool quiet;        /* no progress, no warnings, no summary on stderr */
    bool ignore_dates; /* rows are rows */
    bool newest_only;  /* what lies far back does not matter */
    /* filled by mz_forecast_inputs_check: */
    int64_t season;         /* MZ_SEASON_AUTO, or its points */
    mz_frequency frequency; /* NONE: to be found */
} mz_forecast_inputs;

/* Rows of the option table for the targets; `horizon` is MZ_NOT_GIVEN beforehand. Returns how many
 * were written. */
enum { MZ_NOT_GIVEN = -1, MZ_FORECAST_INPUT_OPTIONS = 18, MZ_FORECAST_MAX_CONTEXT = 1 << 18 };
int mz_forecast_input_options(mz_forecast_inputs *inputs, mz_option *out);

/* Reads what the table takes for text, and complains about a missing FILE or horizon (which must be
 * n_positionals and in->horizon) and about options that contradict each other. Returns an exit
 * code. */
int mz_forecast_inputs_check(const mz_command *command, mz_forecast_inputs *in, int n_positionals);

/* What --level and --quantiles (NULL: not given) ask for; complains where they are wrong. Returns
 * an exit code. */
int mz_forecast_bands_check(const mz_command *command, const char *level, const char *list,
                            mz_forecast_quantiles *out);

/* All zero before mz_forecast_setup_open; one thread. */
typedef struct mz_forecast_setup {
    mz_context *ctx;
    mz_series_reader *reader;
    char *model_dir, *model_name;
    mz_forecast_batch *batch; /* with options, missing and season filled in; a command that
                                 always needs the season sets it to that of the inputs */
} mz_forecast_setup;

/* Closed with mz_forecast_setup_close after a failure too. Errors: those of opening the input, of
 * finding the model and of loading it. */
mz_status mz_forecast_setup_open(mz_context *ctx, const mz_forecast_inputs *inputs,
                                 mz_forecast_setup *out);
/* The series of the input, for a batch; lives as long as the setup. */
mz_forecast_source mz_forecast_setup_source(const mz_forecast_setup *setup);

/* Warnings about the whole input, a line each on stderr. */
void mz_forecast_setup_tell_notes(const mz_forecast_setup *setup, const mz_command *command,
                                  const char *file);

void mz_forecast_setup_close(mz_forecast_setup *setup);

#endif
