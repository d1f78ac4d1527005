#include "apps/models_usage.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "apps/expert_usage.h"
#include "apps/plot/plot.h"
#include "apps/zoo/zoo.h"

enum {
    MAX_BLOCKS = 48,    /* along time */
    MAX_CONTEXT = 4096, /* values of a series unless the line says otherwise */
    LABEL_BYTES = 64
};

/* A series that could not be run. */
typedef struct failure {
    char *id, *error;
} failure;

/* What a part of time is called. */
typedef struct block_name {
    char text[LABEL_BYTES];  /* date as the file writes it, or position, of its first value */
    char brief[LABEL_BYTES]; /* below a picture */
} block_name;

typedef struct job {
    mz_context *ctx;
    const mz_usage_request *request;
    mz_forecast_setup setup;
    mz_model_info info;
    mz_expert_usage usage;
    float *scaled; /* [context] */
    int64_t context;
    failure *failures;
    size_t n_failures, max_failures;
    int64_t n_seen;
    bool has_dates;    /* of the only series */
    block_name *names; /* [n_blocks] */
} job;

/* ---- work ---- */

static mz_status open_job(job *j) {
    const mz_usage_request *r = j->request;
    void *memory = NULL;
    if (r->plot != NULL) {
        MZ_TRY(mz_plot_check_path(j->ctx, r->plot));
    }
    MZ_TRY(mz_forecast_setup_open(j->ctx, &r->in, &j->setup));
    MZ_TRY(mz_zoo_describe(j->ctx, j->setup.model_dir, &j->info));
    if (j->info.n_experts < 1) {
        return mz_fail(&j->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: a dense model, it has no experts to choose from", j->setup.model_dir);
    }
    if (r->layer >= j->info.n_layers) {
        return mz_fail(&j->ctx->error, MZ_ERR_ARG, "--layer %" PRId64 ": %s has layers 0 to %d",
                       r->layer, j->setup.model_dir, j->info.n_layers - 1);
    }
    const int64_t trained = j->info.max_positions;
    const int64_t usual = trained > 0 && trained < MAX_CONTEXT ? trained : MAX_CONTEXT;
    j->context = r->in.context_len > 0 ? r->in.context_len : usual;
    MZ_TRY(mz_calloc(j->ctx, (size_t)j->context, sizeof *j->scaled, "scaled series", &memory));
    j->scaled = memory;
    return MZ_OK;
}

static void close_job(job *j) {
    for (size_t i = 0; i < j->n_failures; i++) {
        mz_free(j->ctx, j->failures[i].id);
        mz_free(j->ctx, j->failures[i].error);
    }
    mz_free(j->ctx, j->failures);
    mz_free(j->ctx, j->names);
    mz_free(j->ctx, j->scaled);
    mz_expert_usage_close(&j->usage);
    mz_forecast_setup_close(&j->setup);
}

/* A date short enough to stand below a picture: without the time where blocks are days or more
 * long, else without the year. */
static void brief_date(const mz_series *series, int64_t at, int64_t n_block, char *out) {
    const mz_stamp day = INT64_C(86400000000);
    const mz_stamp stamp = series->stamps[at];
    const int64_t next = at + n_block < series->n_values ? at + n_block : at;
    char text[MZ_STAMP_BYTES];
    mz_stamp_form form = series->form;
    const bool is_timed =
        form.n_clock > 0 || form.layout == MZ_STAMP_EPOCH_S || form.layout == MZ_STAMP_EPOCH_MS;
    if (is_timed) {
        form = mz_stamp_form_iso();
    }
    if (is_timed && series->stamps[next] - stamp < day) {
        form.n_clock = 2;
        form.time_separator = ' ';
        (void)snprintf(out, LABEL_BYTES, "%s",
                       mz_stamp_format(&form, stamp, text) + strlen("2024-"));
        return;
    }
    const mz_stamp midnight = stamp - ((stamp % day) + day) % day;
    (void)snprintf(out, LABEL_BYTES, "%s",
                   mz_stamp_format(&form, is_timed ? midnight : stamp, text));
}

/* Date or number of a block's first value, or, for several series, how far it lies from their
 * beginning. */
static mz_status name_blocks(job *j, const mz_series *series, int64_t first, int64_t n) {
    const int64_t n_blocks = j->usage.n_blocks;
    void *memory = NULL;
    MZ_TRY(mz_calloc(j->ctx, (size_t)n_blocks, sizeof *j->names, "labels", &memory));
    j->names = memory;
    const bool is_single = mz_series_count(j->setup.reader) == 1;
    j->has_dates = is_single && series->stamps != NULL;
    for (int64_t b = 0; b < n_blocks; b++) {
        const int64_t at = first + n - 1 - ((n_blocks - b) * n - 1) / n_blocks;
        block_name *name = &j->names[b];
        char date[MZ_STAMP_BYTES];
        if (j->has_dates) {
            (void)snprintf(name->text, sizeof name->text, "%s",
                           mz_stamp_format(&series->form, series->stamps[at], date));
            brief_date(series, at, n / n_blocks, name->brief);
            continue;
        }
        if (is_single) {
            (void)snprintf(name->text, sizeof name->text, "%" PRId64, at + 1);
        } else {
            (void)snprintf(name->text, sizeof name->text, "%.0f %%",
                           100.0 * (double)b / (double)n_blocks);
        }
        memcpy(name->brief, name->text, sizeof name->brief);
    }
    return MZ_OK;
}

static mz_status run_values(job *j, const mz_series *series) {
    const int64_t n = series->n_values < j->context ? series->n_values : j->context;
    const int64_t first = series->n_values - n;
    if (n == 0) {
        return mz_fail(&j->ctx->error, MZ_ERR_ARG, "no value is observed");
    }
    if (j->usage.counts == NULL) {
        const bool is_single = mz_series_count(j->setup.reader) == 1;
        const int64_t patch_len = j->info.patch_len > 1 ? j->info.patch_len : 1;
        const int64_t n_rows = (n + patch_len - 1) / patch_len; /* that routers see */
        MZ_TRY(mz_expert_usage_open(j->ctx, j->info.n_layers, j->info.n_experts,
                                    is_single && n_rows < MAX_BLOCKS ? n_rows : MAX_BLOCKS,
                                    &j->usage));
        MZ_TRY(name_blocks(j, series, first, n));
    }
    const mz_series_scale scale =
        mz_series_scale_of(series->values + first, n, MZ_NORMALIZE_WINDOW);
    mz_series_scale_apply(&scale, series->values + first, n, j->scaled);
    return mz_expert_usage_add(&j->usage, j->setup.batch->forecaster, j->scaled, n);
}

static mz_status note_failure(job *j, const char *id, const char *error) {
    void *memory = j->failures;
    MZ_TRY(
        mz_grow(j->ctx, &memory, &j->max_failures, j->n_failures + 1, sizeof(failure), "failures"));
    j->failures = memory;
    failure *f = &j->failures[j->n_failures++];
    *f = (failure){0};
    MZ_TRY(mz_strdup(j->ctx, id, &f->id));
    return mz_strdup(j->ctx, error, &f->error);
}

static mz_status run_series(job *j, mz_series *series) {
    mz_gap_report gaps = {0};
    int64_t season = 1;
    mz_status status = MZ_OK;
    if (series->error != NULL) {
        return note_failure(j, series->id, series->error);
    }
    if (j->setup.batch->missing == MZ_MISSING_SEASONAL) {
        status = mz_series_season(j->ctx, series, j->request->in.season, &season);
    }
    if (status == MZ_OK) {
        status = mz_series_fill(j->ctx, series, j->setup.batch->missing, season, &gaps);
    }
    if (status == MZ_OK) {
        status = run_values(j, series);
    }
    return mz_forecast_is_about_series(status)
               ? note_failure(j, series->id, mz_forecast_error_text(&j->ctx->error, series->id))
               : status;
}

static mz_status run_all(job *j) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_progress progress;
    mz_status status = MZ_OK;
    bool end = false;
    mz_progress_init(&progress, "running", n_series, j->request->in.quiet);
    while (status == MZ_OK && !mz_cli_interrupted()) {
        mz_series series;
        status = mz_series_next(j->setup.reader, &series, &end);
        if (status != MZ_OK || end) {
            break;
        }
        status = run_series(j, &series);
        mz_progress_update(&progress, ++j->n_seen);
    }
    mz_progress_finish(&progress);
    return status;
}

/* ---- pictures ---- */

/* The tables of an answer: layers x experts first, then experts x time of a layer each. */
typedef struct tables {
    mz_plot_heatmap *maps; /* [n] */
    int64_t n;
    void *memory;
} tables;

static int64_t first_layer(const job *j) {
    return j->request->layer >= 0 ? j->request->layer : 0;
}

static int64_t end_layer(const job *j) {
    return j->request->layer >= 0 ? j->request->layer + 1 : j->usage.n_layers;
}

/* One scale of colours for all layers. */
static double largest_of(const double *shares, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, shares[i]);
    }
    return fmin(1, ceil(largest * 20) / 20);
}

typedef struct table_title {
    char text[LABEL_BYTES];
} table_title;

static mz_status make_tables(const job *j, tables *out) {
    const mz_expert_usage *u = &j->usage;
    const int64_t n_maps = 1 + end_layer(j) - first_layer(j);
    const int64_t n_layer = u->n_layers * u->n_experts;
    const int64_t n_shares = n_layer + (n_maps - 1) * u->n_experts * u->n_blocks;
    const size_t n_bytes = (size_t)n_maps * (sizeof(mz_plot_heatmap) + sizeof(table_title)) +
                           (size_t)n_shares * sizeof(double) +
                           (size_t)u->n_blocks * sizeof(const char *);
    MZ_TRY(mz_calloc(j->ctx, n_bytes, 1, "tables", &out->memory));
    out->maps = out->memory;
    out->n = n_maps;
    double *shares = (double *)(out->maps + n_maps);
    const char **labels = (const char **)(shares + n_shares);
    table_title *titles = (table_title *)(labels + u->n_blocks);
    for (int64_t b = 0; b < u->n_blocks; b++) {
        labels[b] = j->names[b].brief;
    }
    mz_expert_usage_by_layer(u, shares);
    out->maps[0] = (mz_plot_heatmap){.title = "experts of each layer",
                                     .row_axis = "layer",
                                     .column_axis = "expert",
                                     .values = shares,
                                     .n_rows = u->n_layers,
                                     .n_columns = u->n_experts};
    for (int64_t i = 1; i < n_maps; i++) {
        const int64_t layer = first_layer(j) + i - 1;
        double *values = shares + n_layer + (i - 1) * u->n_experts * u->n_blocks;
        mz_expert_usage_by_block(u, layer, values);
        (void)snprintf(titles[i].text, sizeof titles[i].text, "layer %" PRId64 " along time",
                       layer);
        out->maps[i] = (mz_plot_heatmap){.title = titles[i].text,
                                         .row_axis = "expert",
                                         .column_axis = j->has_dates ? "date" : "position",
                                         .column_labels = labels,
                                         .values = values,
                                         .n_rows = u->n_experts,
                                         .n_columns = u->n_blocks};
    }
    const double largest = largest_of(shares + n_layer, n_shares - n_layer);
    for (int64_t i = 1; i < n_maps; i++) {
        out->maps[i].max = largest;
    }
    return MZ_OK;
}

/* ---- answers ---- */

static void print_balance(const job *j) {
    const mz_expert_usage *u = &j->usage;
    (void)printf("\n%5s  %17s  %13s  %s\n", "layer", "effective experts", "largest share",
                 "never used");
    for (int64_t l = 0; l < u->n_layers; l++) {
        const mz_expert_balance b = mz_expert_usage_balance(u, l);
        char largest[LABEL_BYTES];
        (void)snprintf(largest, sizeof largest, "%.1f %% (%" PRId64 ")", b.largest_share * 100,
                       b.largest);
        (void)printf("%5" PRId64 "  %17.2f  %13s ", l, b.effective, largest);
        for (int64_t e = 0; e < u->n_experts && b.n_dead > 0; e++) {
            if (mz_expert_usage_total(u, l, e) == 0) {
                (void)printf(" %" PRId64, e);
            }
        }
        (void)fputs(b.n_dead > 0 ? "\n" : " -\n", stdout);
    }
}

static mz_status print_table(const job *j, const tables *t) {
    const mz_expert_usage *u = &j->usage;
    const mz_plot_terminal_options options = {.width = mz_cli_terminal_width(stdout),
                                              .colour = isatty(STDOUT_FILENO) == 1};
    (void)printf("model %s, %" PRId64 " layers, %d of %" PRId64 " experts per %s\n%" PRId64
                 " series, %" PRId64 " points; shares of the choices of a layer\n",
                 j->setup.model_name, u->n_layers, j->info.top_k, u->n_experts,
                 j->info.patch_len > 1 ? "patch" : "point", u->n_series, u->n_points);
    for (size_t i = 0; i < j->n_failures; i++) {
        mz_cli_write_plain(stdout, j->failures[i].id);
        (void)fputs(": not run: ", stdout);
        mz_cli_write_plain(stdout, j->failures[i].error);
        (void)fputc('\n', stdout);
    }
    print_balance(j);
    for (int64_t i = 0; i < t->n; i++) {
        (void)fputc('\n', stdout);
        MZ_TRY(mz_plot_heatmap_terminal(j->ctx, &t->maps[i], &options, stdout));
    }
    return MZ_OK;
}

static void json_layer(const job *j, int64_t layer) {
    const mz_expert_usage *u = &j->usage;
    const mz_expert_balance b = mz_expert_usage_balance(u, layer);
    const char *between = "";
    (void)printf("{\"layer\":%" PRId64 ",\"counts\":[", layer);
    for (int64_t e = 0; e < u->n_experts; e++) {
        (void)printf("%s%" PRId64, e > 0 ? "," : "", mz_expert_usage_total(u, layer, e));
    }
    (void)printf("],\"effective_experts\":%.6g,\"largest_share\":%.6g,\"largest_expert\":%" PRId64
                 ",\"never_used\":[",
                 b.effective, b.largest_share, b.largest);
    for (int64_t e = 0; e < u->n_experts && b.n_dead > 0; e++) {
        if (mz_expert_usage_total(u, layer, e) == 0) {
            (void)printf("%s%" PRId64, between, e);
            between = ",";
        }
    }
    (void)printf("]");
    if (layer >= first_layer(j) && layer < end_layer(j)) {
        (void)printf(",\"along_time\":[");
        for (int64_t i = 0; i < u->n_blocks * u->n_experts; i++) {
            const int64_t e = i % u->n_experts;
            (void)printf("%s%" PRId64,
                         e > 0   ? ","
                         : i > 0 ? "],["
                                 : "[",
                         u->counts[layer * u->n_blocks * u->n_experts + i]);
        }
        (void)printf("]]");
    }
    (void)printf("}");
}

static void print_json(const job *j) {
    const mz_expert_usage *u = &j->usage;
    (void)printf("{\"model\":");
    mz_cli_write_json_string(stdout, j->setup.model_name);
    (void)printf(",\"n_series\":%" PRId64 ",\"n_points\":%" PRId64 ",\"n_experts\":%" PRId64
                 ",\"per_point\":%d,\"blocks\":[",
                 u->n_series, u->n_points, u->n_experts, j->info.top_k);
    for (int64_t b = 0; b < u->n_blocks; b++) {
        (void)fputs(b > 0 ? "," : "", stdout);
        mz_cli_write_json_string(stdout, j->names[b].text);
    }
    (void)printf("],\"layers\":[");
    for (int64_t l = 0; l < u->n_layers; l++) {
        (void)fputs(l > 0 ? ",\n" : "\n", stdout);
        json_layer(j, l);
    }
    (void)printf("\n],\"errors\":[");
    for (size_t i = 0; i < j->n_failures; i++) {
        (void)fputs(i > 0 ? ",{\"id\":" : "{\"id\":", stdout);
        mz_cli_write_json_string(stdout, j->failures[i].id);
        (void)fputs(",\"error\":", stdout);
        mz_cli_write_json_string(stdout, j->failures[i].error);
        (void)fputc('}', stdout);
    }
    (void)printf("]}\n");
}

static mz_status answer(const job *j) {
    tables t = {0};
    char title[LABEL_BYTES + 256];
    char shown[MZ_SERIES_ID_SHOWN_BYTES];
    if (j->usage.n_series == 0) {
        mz_series_show_id(j->n_failures > 0 ? j->failures[0].id : "", shown);
        return j->n_failures == 0 ? MZ_OK
                                  : mz_fail(&j->ctx->error, MZ_ERR_ARG, "%s: series \"%s\": %s",
                                            j->request->in.file, shown, j->failures[0].error);
    }
    mz_status status = make_tables(j, &t);
    (void)snprintf(title, sizeof title, "%.200s: choices of experts", j->setup.model_name);
    if (status == MZ_OK && j->request->plot != NULL) {
        status = mz_plot_heatmaps_write(j->ctx, title, t.maps, t.n, j->request->plot);
    }
    if (status == MZ_OK && j->request->json) {
        print_json(j);
    } else if (status == MZ_OK) {
        status = print_table(j, &t);
    }
    mz_free(j->ctx, t.memory);
    return status;
}

/* What stderr says after the answer; returns the exit code. */
static int report(job *j, const mz_command *command) {
    const int64_t n_series = mz_series_count(j->setup.reader);
    mz_error *err = &j->ctx->error;
    if (j->n_seen < n_series) {
        (void)mz_fail(err, MZ_ERR_ARG, "interrupted: %" PRId64 " of %" PRId64 " series run",
                      j->n_seen, n_series);
        return mz_cli_fail(command, err);
    }
    if (j->n_failures > 0) {
        char shown[MZ_SERIES_ID_SHOWN_BYTES];
        mz_series_show_id(j->failures[0].id, shown);
        (void)mz_fail(err, MZ_ERR_ARG,
                      "%s: %zu of %" PRId64
                      " series could not be run, the first: series \"%s\": %s",
                      j->request->in.file, j->n_failures, n_series, shown, j->failures[0].error);
        return mz_cli_fail(command, err);
    }
    return MZ_EXIT_OK;
}

int mz_models_usage(const mz_command *command, const mz_usage_request *request, mz_context *ctx) {
    job j = {.ctx = ctx, .request = request};
    mz_status status = open_job(&j);
    if (status == MZ_OK) {
        mz_cli_catch_interrupts();
        if (!request->in.quiet) {
            mz_forecast_setup_tell_notes(&j.setup, command, request->in.file);
        }
        status = run_all(&j);
    }
    if (status == MZ_OK) {
        status = answer(&j);
    }
    const int exit_code = status == MZ_OK ? report(&j, command) : mz_cli_fail(command, &ctx->error);
    close_job(&j);
    return exit_code;
}

/* ---- command line ---- */

int mz_usage_options(mz_usage_request *r, mz_option *out) {
    mz_option inputs[MZ_FORECAST_INPUT_OPTIONS];
    const int n_inputs = mz_forecast_input_options(&r->in, inputs);
    const void *const not_of_a_pass[] = {&r->in.horizon,   &r->in.model,     &r->in.models_dir,
                                         &r->in.normalize, &r->in.overshoot, &r->in.precision};
    const mz_option own[] = {
        {"usage", 0, MZ_OPTION_STRING, "FILE|-",
         "run the series of FILE and show which experts the routers choose", 0, 0, NULL,
         &r->in.file},
        {"plot", 0, MZ_OPTION_STRING, "FILE", "draw them: .svg, .png or .pdf", 0, 0, NULL,
         &r->plot},
        {"layer", 0, MZ_OPTION_INT, "N", "along time only this layer, from 0 (default: all)", 0,
         INT32_MAX, NULL, &r->layer},
    };
    int n = (int)(sizeof own / sizeof own[0]);
    memcpy(out, own, sizeof own);
    for (int i = 0; i < n_inputs; i++) {
        bool wanted = true;
        for (size_t k = 0; k < sizeof not_of_a_pass / sizeof not_of_a_pass[0]; k++) {
            wanted = wanted && inputs[i].target != not_of_a_pass[k];
        }
        if (inputs[i].target == &r->in.context_len) {
            inputs[i].help = "newest values of each series to run (default: what the model was "
                             "trained for, at most 4096)";
        }
        if (wanted) {
            out[n++] = inputs[i];
        }
    }
    return n;
}
