#include "apps/forecast/tune_scores.h"

/* The series whose windows come in. */
typedef struct scoring {
    const mz_tune_scorer *scorer;
    mz_tune_windows windows;
    mz_backtest_scores scores;
    mz_backtest_totals *totals;
} scoring;

static mz_status add_window(scoring *s, const mz_forecast_entry *e) {
    const mz_forecast_batch *batch = s->scorer->batch;
    const mz_backtest_label label = mz_backtest_windows_take_label(&s->windows.windows);
    if (e->error != NULL) {
        char shown[MZ_SERIES_ID_SHOWN_BYTES];
        mz_series_show_id(e->id, shown);
        return mz_fail(&batch->ctx->error, MZ_ERR_ARG, "series \"%s\": %s", shown, e->error);
    }
    mz_backtest_scores_add(&s->scores, e, &label, batch->options.horizon, NULL);
    if (label.window + 1 == label.n_windows) {
        mz_backtest_totals_add(s->totals, &s->scores);
        s->scores = (mz_backtest_scores){0};
    }
    return MZ_OK;
}

static mz_status score_all(scoring *s) {
    mz_forecast_batch *batch = s->scorer->batch;
    const mz_forecast_source source = {.next = mz_backtest_windows_next,
                                       .self = &s->windows.windows};
    for (;;) {
        MZ_TRY(mz_forecast_batch_next(batch, &source));
        if (batch->n_ready == 0) {
            return MZ_OK;
        }
        MZ_TRY(mz_forecast_batch_run(batch));
        for (int i = 0; i < batch->n_ready; i++) {
            MZ_TRY(add_window(s, &batch->entries[i]));
        }
    }
}

mz_status mz_tune_score(const mz_tune_scorer *scorer, mz_forecaster *forecaster, mz_tune_part part,
                        int64_t stride, bool baselines, mz_backtest_totals *out) {
    mz_forecast_batch *batch = scorer->batch;
    mz_forecaster *own = batch->forecaster;
    scoring s = {.scorer = scorer, .totals = out};
    *out = (mz_backtest_totals){0};
    mz_tune_windows_open(scorer->split, part, stride, scorer->season, &s.windows);
    batch->forecaster = forecaster;
    batch->season = MZ_SEASON_AUTO; /* what the window says */
    batch->hold_out = true;
    batch->baselines = baselines;
    batch->ignores_interrupts = true; /* what stops training is scored nevertheless */
    const mz_status status = score_all(&s);
    mz_forecast_batch_close(batch);
    batch->forecaster = own;
    mz_tune_windows_close(&s.windows);
    return status;
}

mz_metric mz_tune_metric(const mz_backtest_totals *totals) {
    return totals->methods[MZ_BACKTEST_MODEL].n_defined[MZ_METRIC_MASE] > 0 ? MZ_METRIC_MASE
                                                                            : MZ_METRIC_MAE;
}
