#include "apps/train/train_dry_run.h"

#include <inttypes.h>

#include "apps/cli.h"
#include "apps/zoo/series_training.h"
#include "core/glob.h"
#include "core/profile.h"

enum { MAX_TIMED = 64 };

static const double ENOUGH_S = 1.5;

/* What was counted and measured. */
typedef struct estimate {
    int64_t n_values, n_trained, n_tensors;
    int64_t group_values[MZ_TRAIN_MAX_GROUPS], group_tensors[MZ_TRAIN_MAX_GROUPS];
    int n_timed;            /* micro-batches */
    mz_train_report report; /* their sum; losses of no meaning */
    double micro_s, step_s; /* a micro-batch; a step with its optimizer */
    double flops;           /* of a step */
    int64_t weight_bytes, optimizer_bytes, activation_bytes;
} estimate;

typedef struct dry_run {
    mz_context *ctx;
    const mz_train_recipe *recipe;
    mz_trainable *t;
    estimate e;
} dry_run;

/* ---- measuring ---- */

static void count_parameters(dry_run *d, const mz_optimizer *optimizer) {
    const mz_parameters *all = d->t->parameters;
    estimate *e = &d->e;
    e->n_values = mz_parameters_n_values(all);
    e->n_trained = mz_optimizer_n_values(optimizer);
    e->n_tensors = all->n;
    for (int64_t g = 0; g < d->recipe->optimizer.n_groups; g++) {
        for (int64_t i = 0; i < all->n; i++) {
            if (mz_glob_match(d->recipe->groups[g].pattern, all->items[i].name)) {
                e->group_values[g] += mz_tensor_n_elements(&all->items[i].value);
                e->group_tensors[g]++;
            }
        }
    }
}

static mz_status time_batches(dry_run *d) {
    estimate *e = &d->e;
    const int n_micro = (int)d->recipe->accumulate;
    mz_profile profile = {0};
    mz_train_report first = {0};
    /* The first one also touches the memory for the first time. */
    MZ_TRY(d->t->gradients(d->t->self, 0, 0, n_micro, &first));
    mz_series_training_set_profile(d->t, &profile);
    const double start = mz_now_s();
    mz_status status = MZ_OK;
    while (status == MZ_OK && e->n_timed < MAX_TIMED && mz_now_s() - start < ENOUGH_S) {
        mz_train_report one = {0};
        const int64_t step = 1 + e->n_timed / n_micro;
        status = d->t->gradients(d->t->self, step, e->n_timed % n_micro, n_micro, &one);
        if (status == MZ_OK) {
            mz_train_report_add(&e->report, &one, 1);
            e->n_timed++;
        }
    }
    e->micro_s = (mz_now_s() - start) / (e->n_timed > 0 ? e->n_timed : 1);
    mz_series_training_set_profile(d->t, NULL);
    MZ_TRY(status);
    for (int op = 0; op < MZ_OP_COUNT; op++) {
        e->flops += profile.ops[op].flops * n_micro / (e->n_timed > 0 ? e->n_timed : 1);
    }
    return MZ_OK;
}

static mz_status measure(dry_run *d, mz_optimizer *optimizer) {
    estimate *e = &d->e;
    count_parameters(d, optimizer);
    mz_parameters_zero_gradients(d->ctx, d->t->parameters);
    MZ_TRY(time_batches(d));
    /* Twice: the first step touches the moments for the first time. */
    MZ_TRY(mz_optimizer_step(optimizer, 0, NULL));
    const double start = mz_now_s();
    MZ_TRY(mz_optimizer_step(optimizer, 0, NULL));
    e->step_s = e->micro_s * (double)d->recipe->accumulate + (mz_now_s() - start);
    e->weight_bytes = 2 * (int64_t)sizeof(float) * e->n_values;
    e->optimizer_bytes =
        (int64_t)sizeof(float) * e->n_trained * (d->recipe->optimizer.ema_decay > 0 ? 3 : 2);
    e->activation_bytes = (int64_t)mz_series_training_peak_bytes(d->t);
    return MZ_OK;
}

/* ---- report ---- */

static double of_a_step(const dry_run *d, int64_t n) {
    return (double)n / (d->e.n_timed > 0 ? d->e.n_timed : 1) * (double)d->recipe->accumulate;
}

static const char *duration_text(double seconds, char out[48]) {
    if (seconds < 120) {
        (void)snprintf(out, 48, "%.3g s", seconds);
    } else if (seconds < 7200) {
        (void)snprintf(out, 48, "%.0f min", seconds / 60);
    } else {
        (void)snprintf(out, 48, "%.1f h", seconds / 3600);
    }
    return out;
}

static void print_group(FILE *f, const dry_run *d, int64_t g) {
    char count[32];
    const mz_optimizer_group *group = &d->recipe->groups[g];
    (void)fprintf(f, "group        ");
    mz_cli_write_plain(f, group->pattern);
    (void)fprintf(f, ": %s in %" PRId64 " tensors",
                  mz_cli_format_count(d->e.group_values[g], count), d->e.group_tensors[g]);
    if ((group->sets & MZ_GROUP_TRAIN) != 0) {
        (void)fprintf(f, ", %s", group->train ? "trained" : "frozen");
    }
    if ((group->sets & MZ_GROUP_LR_FACTOR) != 0) {
        (void)fprintf(f, ", rate x %g", group->lr_factor);
    }
    if ((group->sets & MZ_GROUP_WEIGHT_DECAY) != 0) {
        (void)fprintf(f, ", weight decay %g", group->weight_decay);
    }
    (void)fputc('\n', f);
}

static void print_sources(FILE *f, const dry_run *d) {
    const mz_series_sampler *sampler = mz_series_training_sampler(d->t);
    for (int32_t i = 0; i < mz_series_sampler_n_sources(sampler); i++) {
        mz_series_source_info info;
        char count[32];
        mz_series_sampler_describe(sampler, i, &info);
        (void)fprintf(f, "data         ");
        mz_cli_write_plain(f, info.path);
        (void)fprintf(f, ": %.1f %% of the windows", 100 * info.share);
        if (info.n_series > 0) {
            (void)fprintf(f, ", %" PRId64 " series, %s points", info.n_series,
                          mz_cli_format_count(info.n_points, count));
        }
        if (info.n_skipped > 0) {
            (void)fprintf(f, ", %" PRId64 " left out", info.n_skipped);
        }
        (void)fputc('\n', f);
    }
}

static void print_report(FILE *f, const dry_run *d) {
    const estimate *e = &d->e;
    const mz_train_recipe *r = d->recipe;
    char a[48];
    char b[48];
    char c[48];
    (void)fprintf(f, "parameters   %s in %" PRId64 " tensors, %s trained\n",
                  mz_cli_format_count(e->n_values, a), e->n_tensors,
                  mz_cli_format_count(e->n_trained, b));
    for (int64_t g = 0; g < r->optimizer.n_groups; g++) {
        print_group(f, d, g);
    }
    print_sources(f, d);
    (void)fprintf(f, "step         %" PRId64 " micro-batch%s: %s points, %s tokens, %.3g GFLOP\n",
                  r->accumulate, r->accumulate == 1 ? "" : "es",
                  mz_cli_format_count((int64_t)of_a_step(d, e->report.n_points), a),
                  mz_cli_format_count((int64_t)of_a_step(d, e->report.n_tokens), b),
                  e->flops * 1e-9);
    (void)fprintf(f, "memory       %s weights and gradients, %s optimizer, %s activations\n",
                  mz_cli_format_bytes(e->weight_bytes, a),
                  mz_cli_format_bytes(e->optimizer_bytes, b),
                  mz_cli_format_bytes(e->activation_bytes, c));
    (void)fprintf(f, "time         %s a step (%d micro-batch%s timed), %s for %" PRId64 " steps\n",
                  duration_text(e->step_s, a), e->n_timed, e->n_timed == 1 ? "" : "es",
                  duration_text(e->step_s * (double)r->schedule.total_steps, b),
                  r->schedule.total_steps);
}

static void json_number(FILE *f, const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(f, ",\"%s\":%s", key, number);
}

static void print_json_lists(FILE *f, const dry_run *d) {
    const mz_series_sampler *sampler = mz_series_training_sampler(d->t);
    (void)fprintf(f, ",\"groups\":[");
    for (int64_t g = 0; g < d->recipe->optimizer.n_groups; g++) {
        (void)fprintf(f, "%s{\"pattern\":", g > 0 ? "," : "");
        mz_cli_write_json_string(f, d->recipe->groups[g].pattern);
        (void)fprintf(f, ",\"tensors\":%" PRId64 ",\"parameters\":%" PRId64 "}",
                      d->e.group_tensors[g], d->e.group_values[g]);
    }
    (void)fprintf(f, "],\"sources\":[");
    for (int32_t i = 0; i < mz_series_sampler_n_sources(sampler); i++) {
        mz_series_source_info info;
        mz_series_sampler_describe(sampler, i, &info);
        (void)fprintf(f, "%s{\"path\":", i > 0 ? "," : "");
        mz_cli_write_json_string(f, info.path);
        json_number(f, "share", info.share);
        (void)fprintf(f, ",\"series\":%" PRId64 ",\"points\":%" PRId64 ",\"left_out\":%" PRId64 "}",
                      info.n_series, info.n_points, info.n_skipped);
    }
    (void)fputc(']', f);
}

static void print_json(FILE *f, const dry_run *d) {
    const estimate *e = &d->e;
    (void)fprintf(f,
                  "{\"parameters\":%" PRId64 ",\"trained\":%" PRId64 ",\"tensors\":%" PRId64
                  ",\"total_steps\":%" PRId64,
                  e->n_values, e->n_trained, e->n_tensors, d->recipe->schedule.total_steps);
    json_number(f, "points_per_step", of_a_step(d, e->report.n_points));
    json_number(f, "tokens_per_step", of_a_step(d, e->report.n_tokens));
    json_number(f, "flops_per_step", e->flops);
    json_number(f, "step_s", e->step_s);
    json_number(f, "total_s", e->step_s * (double)d->recipe->schedule.total_steps);
    (void)fprintf(f,
                  ",\"weight_bytes\":%" PRId64 ",\"optimizer_bytes\":%" PRId64
                  ",\"activation_bytes\":%" PRId64,
                  e->weight_bytes, e->optimizer_bytes, e->activation_bytes);
    print_json_lists(f, d);
    (void)fprintf(f, "}\n");
}

mz_status mz_train_dry_run(mz_context *ctx, const mz_train_recipe *recipe, mz_trainable *trainable,
                           bool json, FILE *stream) {
    dry_run d = {.ctx = ctx, .recipe = recipe, .t = trainable};
    mz_optimizer *optimizer = NULL;
    MZ_TRY(mz_optimizer_create(ctx, &recipe->optimizer, trainable->parameters, &optimizer));
    const mz_status status = measure(&d, optimizer);
    mz_optimizer_destroy(ctx, optimizer);
    MZ_TRY(status);
    if (json) {
        print_json(stream, &d);
    } else {
        print_report(stream, &d);
    }
    return MZ_OK;
}
