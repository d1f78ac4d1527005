/* What a tuning says: a table for people, and one object of JSON. */
#ifndef MZ_APPS_FORECAST_TUNE_REPORT_H
#define MZ_APPS_FORECAST_TUNE_REPORT_H

#include <stdio.h>

#include "apps/forecast/tune_scores.h"
#include "apps/forecast/tune_train.h"

/* Everything that is known at the end; all borrowed. */
typedef struct mz_tune_report {
    const char *file, *model; /* names as answers have them */
    const char *path;         /* of the input, and */
    const char *model_option; /* what -m was, NULL: nothing; for the command line that is shown */
    const char *output;       /* folder */
    const mz_tune_split *split;
    /* Scores of the model as it was, with baselines, and as it is now, by part. */
    const mz_backtest_totals *before, *after; /* [2] by mz_tune_part */
    const mz_tune_trained *trained;
    int64_t rank; /* of the adapter; 0: all weights are trained */
    double alpha, lr;
    int64_t seed;
    int64_t n_parameters; /* trained */
    bool merged;          /* the adapter is worked into a model of its own */
    bool is_better;       /* the new one was written */
} mz_tune_report;

/* Share by which the model's score on a part became less; negative where it grew. */
double mz_tune_gain(const mz_backtest_totals *before, const mz_backtest_totals *after);

/* The gain on n_windows validation windows from which on the new model is taken: a tenth divided by
 * the square root of n_windows, at least 0.005. The best of several states on few windows is partly
 * luck: on three windows of a price that is a random walk it "gained" 3.5 %, and lost 11 % on the
 * next three. */
double mz_tune_least_gain(int64_t n_windows);

/* Whether the new model is to be taken: by the validation windows alone. */
bool mz_tune_is_better(const mz_backtest_totals *before, const mz_backtest_totals *after);

/* Errors of writing show in the stream. */
void mz_tune_report_table(const mz_tune_report *r, FILE *out);

/* One object in a line: {"file","model","horizon","tuned": whether the new model was written,
 * "output","method": "lora" or "full","rank","alpha" (with an adapter),"parameters","lr","seed",
 * "series","held_out","skipped","windows","train_values","steps","planned_steps","best_step",
 * "end","seconds","metric","least_gain","validation": PART,"test": PART}, where PART has "gain" and
 * the scores of "before", "after" and each baseline: {"mase","smape","mae","relative_mase"}. */
void mz_tune_report_json(const mz_tune_report *r, FILE *out);

#endif
