#include "apps/forecast/forecast_setup.h"

#include <stdlib.h>
#include <string.h>

#include "apps/zoo/zoo.h"

enum { MAX_SEASON = 1000000 };

int mz_forecast_input_options(mz_forecast_inputs *in, mz_option *out) {
    const mz_option options[MZ_FORECAST_INPUT_OPTIONS] = {
        {"horizon", 'n', MZ_OPTION_INT, "N", "how many values to forecast, 1 to 65536 (required)",
         1, MZ_MAX_HORIZON, NULL, &in->horizon},
        {"columns", 0, MZ_OPTION_STRING, "A,B",
         "CSV columns to read, a series each, by name or as #2 (default: all but dates and ids)", 0,
         0, NULL, &in->columns},
        {"id", 0, MZ_OPTION_STRING, "COLUMN",
         "CSV column that names the series of a row (default: unique_id, item_id, series_id)", 0, 0,
         NULL, &in->id},
        {"time", 0, MZ_OPTION_STRING, "COLUMN",
         "CSV column of dates (default: ds, timestamp, date, ...)", 0, 0, NULL, &in->time},
        {"value", 0, MZ_OPTION_STRING, "COLUMN",
         "CSV column of values beside --id or --time (default: y, target, value)", 0, 0, NULL,
         &in->value},
        {"freq", 0, MZ_OPTION_STRING, "NAME",
         "step of the dates: s, min, h, D, B, W-MON, MS, ME, QS, QE, YS, YE, 15min, ... (default: "
         "found from them)",
         0, 0, NULL, &in->freq},
        {"day-first", 0, MZ_OPTION_FLAG, NULL, "read 01/02/2024 as 1 February", 0, 0, NULL,
         &in->day_first},
        {"sort", 0, MZ_OPTION_FLAG, NULL, "sort each series by its dates", 0, 0, NULL, &in->sort},
        {"duplicates", 0, MZ_OPTION_CHOICE, NULL,
         "rows of one date: refuse, take the last or the mean (default error)", 0, 0,
         "error|last|mean", &in->duplicates},
        {"context", 'c', MZ_OPTION_INT, "N",
         "newest values to look at (default: what the model was trained for, less the horizon)", 1,
         MZ_FORECAST_MAX_CONTEXT, NULL, &in->context_len},
        {"model", 'm', MZ_OPTION_STRING, "DIR|NAME",
         "checkpoint folder or name (default " MZ_DEFAULT_FORECASTER "; moezoo models list)", 0, 0,
         NULL, &in->model},
        {"models-dir", 0, MZ_OPTION_STRING, "DIR", "look for NAME here first", 0, 0, NULL,
         &in->models_dir},
        {"adapter", 0, MZ_OPTION_STRING, "DIR",
         "low-rank adapter (LoRA) of the model, a folder as PEFT writes it (default: none)", 0, 0,
         NULL, &in->adapter},
        {"missing", 0, MZ_OPTION_CHOICE, NULL,
         "fill gaps on a line, with the last value or from other seasons, close them up, or refuse "
         "(default linear)",
         0, 0, "linear|forward|seasonal|drop|error", &in->missing},
        {"season", 0, MZ_OPTION_STRING, "N|auto",
         "points in a season (default auto: of the dates, where the values confirm it)", 0, 0, NULL,
         &in->season_text},
        {"normalize", 0, MZ_OPTION_CHOICE, NULL,
         "scale by mean and deviation of the values looked at, or not (default window)", 0, 0,
         "window|none", &in->normalize},
        {"overshoot", 0, MZ_OPTION_FLAG, NULL,
         "cut the next longer head instead of joining short ones: faster, not the authors' "
         "schedule",
         0, 0, NULL, &in->overshoot},
        {"precision", 0, MZ_OPTION_CHOICE, NULL,
         "arithmetic of the products; bf16 is faster (default f32)", 0, 0, "f32|bf16",
         &in->precision},
    };
    memcpy(out, options, sizeof options);
    return MZ_FORECAST_INPUT_OPTIONS;
}

static bool parse_season(const char *text, int64_t *season) {
    char *end = NULL;
    if (text == NULL || strcmp(text, "auto") == 0) {
        *season = MZ_SEASON_AUTO;
        return true;
    }
    const long long n = strtoll(text, &end, 10);
    *season = n;
    return *end == '\0' && text[0] >= '0' && text[0] <= '9' && n >= 1 && n <= MAX_SEASON;
}

static int check_layout(const mz_command *command, const mz_forecast_inputs *in) {
    if (in->columns != NULL && (in->value != NULL || in->id != NULL)) {
        return mz_cli_usage_error(command,
                                  "--columns chooses series that stand side by side, --id and "
                                  "--value series below each other; give one");
    }
    return MZ_EXIT_OK;
}

int mz_forecast_inputs_check(const mz_command *command, mz_forecast_inputs *in, int n_positionals) {
    mz_context scratch = {0};
    if (n_positionals == 0) {
        return mz_cli_usage_error(command, "no FILE given (\"-\" reads standard input); usage: %s",
                                  command->usage);
    }
    if (in->horizon == MZ_NOT_GIVEN) {
        return mz_cli_usage_error(command,
                                  "--horizon N is missing: how many values to forecast; usage: %s",
                                  command->usage);
    }
    if (!parse_season(in->season_text, &in->season)) {
        return mz_cli_usage_error(command, "--season %s: expected auto or 1 to %d", in->season_text,
                                  MAX_SEASON);
    }
    if (in->freq != NULL && mz_frequency_parse(&scratch, in->freq, &in->frequency) != MZ_OK) {
        return mz_cli_usage_error(command, "--freq: %s", scratch.error.message);
    }
    return check_layout(command, in);
}

int mz_forecast_bands_check(const mz_command *command, const char *level, const char *list,
                            mz_forecast_quantiles *out) {
    mz_error err;
    mz_status status = MZ_OK;
    if (level != NULL && list != NULL) {
        return mz_cli_usage_error(command,
                                  "--level and --quantiles both say which bands; give one");
    }
    if (level != NULL) {
        status = mz_forecast_quantiles_of_levels(level, out, &err);
    } else if (list != NULL) {
        status = mz_forecast_quantiles_of_list(list, out, &err);
    }
    return status == MZ_OK ? MZ_EXIT_OK : mz_cli_usage_error(command, "%s", err.message);
}

static void show_reading(void *self, uint64_t n_bytes, uint64_t n_total) {
    enum { MIB_SHIFT = 20 };
    mz_progress *p = self;
    p->n_total = (int64_t)(n_total >> MIB_SHIFT);
    if (p->n_total > 0 && n_bytes <= n_total) {
        mz_progress_update(p, (int64_t)(n_bytes >> MIB_SHIFT));
    }
}

/* Rows that a forecast may look back to: context, pictures, seasons. */
static int64_t newest_rows(const mz_forecast_inputs *in) {
    const int64_t least = 1 << 17;
    const int64_t seasons = 12 * in->season;
    const int64_t pictures = 4 * in->horizon;
    int64_t n = in->context_len > least ? in->context_len : least;
    n = seasons > n ? seasons : n;
    n = pictures > n ? pictures : n;
    /* Where a gap is an error, it is one wherever it lies. */
    return in->newest_only && in->missing != MZ_MISSING_ERROR ? 2 * n : 0;
}

mz_status mz_forecast_setup_open(mz_context *ctx, const mz_forecast_inputs *in,
                                 mz_forecast_setup *out) {
    mz_progress reading;
    mz_progress_init(&reading, "reading MiB", 1, in->quiet);
    const mz_series_options series = {.columns = in->columns,
                                      .id = in->id,
                                      .time = in->time,
                                      .value = in->value,
                                      .frequency = in->frequency,
                                      .day_first = in->day_first,
                                      .sort = in->sort,
                                      .ignore_dates = in->ignore_dates,
                                      .duplicates = (mz_duplicates)in->duplicates,
                                      .n_newest = newest_rows(in),
                                      .watch = {show_reading, &reading}};
    const mz_load_options load = {.precision = (mz_precision)in->precision, .adapter = in->adapter};
    void *memory = NULL;
    out->ctx = ctx;
    const mz_status status = mz_series_open(ctx, in->file, &series, &out->reader);
    mz_progress_finish(&reading);
    MZ_TRY(status);
    MZ_TRY(
        mz_cli_find_model(ctx, in->model, in->models_dir, MZ_DEFAULT_FORECASTER, &out->model_dir));
    MZ_TRY(mz_cli_model_name(ctx, out->model_dir, &out->model_name));
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_forecast_batch), "batch", &memory));
    out->batch = memory;
    out->batch->ctx = ctx;
    out->batch->options = (mz_forecast_options){.horizon = in->horizon,
                                                .context_len = in->context_len,
                                                .overshoot = in->overshoot,
                                                .normalize = (mz_normalize)in->normalize};
    out->batch->missing = (mz_missing)in->missing;
    out->batch->season =
        in->missing == MZ_MISSING_SEASONAL || in->season > 0 ? in->season : MZ_SEASON_UNUSED;
    return mz_zoo_load_forecaster(ctx, out->model_dir, &load, &out->batch->forecaster);
}

static mz_status next_series(void *self, mz_series *out, bool *end) {
    return mz_series_next(self, out, end);
}

mz_forecast_source mz_forecast_setup_source(const mz_forecast_setup *s) {
    return (mz_forecast_source){.next = next_series, .self = s->reader};
}

void mz_forecast_setup_tell_notes(const mz_forecast_setup *s, const mz_command *command,
                                  const char *file) {
    const char *const *notes = NULL;
    const int n = mz_series_notes(s->reader, &notes);
    for (int i = 0; i < n; i++) {
        mz_error text;
        (void)mz_fail(&text, MZ_ERR_ARG, "%s: %s", file, notes[i]);
        (void)fprintf(stderr, "moezoo %s: warning: %s\n", command->name, text.message);
    }
}

void mz_forecast_setup_close(mz_forecast_setup *s) {
    if (s->batch != NULL) {
        mz_forecast_batch_close(s->batch);
        mz_forecaster_close(s->batch->forecaster);
    }
    if (s->ctx != NULL) {
        mz_free(s->ctx, s->batch);
        mz_free(s->ctx, s->model_name);
        mz_free(s->ctx, s->model_dir);
    }
    if (s->reader != NULL) {
        mz_series_close(s->reader);
    }
    *s = (mz_forecast_setup){0};
}
