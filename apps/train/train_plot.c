#include "apps/train/train_plot.h"

#include <math.h>
#include <string.h>

#include "apps/plot/plot.h"
#include "apps/zoo/trainable.h"
#include "core/file.h"
#include "core/json.h"

enum { MAX_POINTS = 2000, MAX_PANELS = 4 };

static const int64_t MAX_STEP = (int64_t)1 << 40;

/* A line of a picture: means of what was recorded near each point. */
typedef struct curve {
    double *values; /* [n_points] sums, then means; NaN: nothing there */
    double *counts; /* [n_points] */
} curve;

typedef enum basic_curve { LOSS = 0, SMOOTHED, EVALUATION, RATE, NORM, N_BASIC } basic_curve;

typedef struct history {
    mz_context *ctx;
    const char *path;
    int64_t n_steps, n_points, width; /* steps a point */
    curve basic[N_BASIC];
    curve parts[MZ_MAX_LOSS_PARTS];
    char *part_names[MZ_MAX_LOSS_PARTS];
    int n_parts;
    curve busiest[MZ_MAX_TRACKED_LAYERS], idlest[MZ_MAX_TRACKED_LAYERS];
    int n_layers;
} history;

/* ---- reading ---- */

static mz_status add(history *h, curve *c, int64_t step, double value) {
    if (c->values == NULL) {
        void *memory = NULL;
        MZ_TRY(mz_calloc(h->ctx, (size_t)h->n_points * 2, sizeof(double), "picture", &memory));
        c->values = memory;
        c->counts = c->values + h->n_points;
    }
    if (isfinite(value)) {
        c->values[(step - 1) / h->width] += value;
        c->counts[(step - 1) / h->width] += 1;
    }
    return MZ_OK;
}

/* NaN where it is no number. */
static double number(const json_t *value) {
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static mz_status add_parts(history *h, int64_t step, json_t *parts) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(parts, name, value) {
        int i = 0;
        while (i < h->n_parts && strcmp(h->part_names[i], name) != 0) {
            i++;
        }
        if (i == MZ_MAX_LOSS_PARTS) {
            continue;
        }
        if (i == h->n_parts) {
            MZ_TRY(mz_strdup(h->ctx, name, &h->part_names[i]));
            h->n_parts++;
        }
        MZ_TRY(add(h, &h->parts[i], step, number(value)));
    }
    return MZ_OK;
}

static mz_status add_experts(history *h, int64_t step, const json_t *experts) {
    const json_t *busiest = json_object_get(experts, "busiest");
    const json_t *idlest = json_object_get(experts, "idlest");
    for (size_t i = 0; i < json_array_size(busiest) && i < MZ_MAX_TRACKED_LAYERS; i++) {
        MZ_TRY(add(h, &h->busiest[i], step, number(json_array_get(busiest, i))));
        MZ_TRY(add(h, &h->idlest[i], step, number(json_array_get(idlest, i))));
        h->n_layers = h->n_layers > (int)i ? h->n_layers : (int)i + 1;
    }
    return MZ_OK;
}

static mz_status add_line(history *h, int64_t step, const json_t *line) {
    const json_t *evaluation = json_object_get(line, "evaluation");
    if (evaluation != NULL) {
        return add(h, &h->basic[EVALUATION], step, number(json_object_get(evaluation, "loss")));
    }
    MZ_TRY(add(h, &h->basic[LOSS], step, number(json_object_get(line, "loss"))));
    MZ_TRY(add(h, &h->basic[RATE], step, number(json_object_get(line, "lr"))));
    MZ_TRY(add(h, &h->basic[NORM], step, number(json_object_get(line, "grad_norm"))));
    MZ_TRY(add_parts(h, step, json_object_get(line, "parts")));
    return add_experts(h, step, json_object_get(line, "experts"));
}

typedef mz_status (*line_function)(history *h, int64_t step, const json_t *line);

static mz_status find_last(history *h, int64_t step, const json_t *line) {
    (void)line;
    h->n_steps = step > h->n_steps ? step : h->n_steps;
    return MZ_OK;
}

static mz_status each_line(history *h, const mz_map *map, line_function function) {
    const char *text = (const char *)map->data;
    for (size_t at = 0; at < map->bytes;) {
        const char *end = memchr(text + at, '\n', map->bytes - at);
        const size_t n = end != NULL ? (size_t)(end - text) - at : map->bytes - at;
        json_t *line = NULL;
        MZ_TRY(mz_json_parse(h->ctx, text + at, n, h->path, &line));
        const int64_t step = json_integer_value(json_object_get(line, "step"));
        const mz_status status = step > 0 && step <= MAX_STEP ? function(h, step, line) : MZ_OK;
        json_decref(line);
        MZ_TRY(status);
        at += n + 1;
    }
    return MZ_OK;
}

static mz_status read_history(history *h) {
    mz_map map = {0};
    MZ_TRY(mz_map_open(h->ctx, h->path, &map));
    mz_status status = each_line(h, &map, find_last);
    h->width = h->n_steps > MAX_POINTS ? (h->n_steps + MAX_POINTS - 1) / MAX_POINTS : 1;
    h->n_points = (h->n_steps + h->width - 1) / h->width;
    if (status == MZ_OK) {
        status = each_line(h, &map, add_line);
    }
    mz_map_close(&map);
    return status;
}

/* ---- curves ---- */

/* Sums become means; what was not recorded at each point becomes a line between its neighbours. */
static void finish_curve(const history *h, curve *c) {
    int64_t known = -1;
    for (int64_t i = 0; i < h->n_points && c->values != NULL; i++) {
        if (!(c->counts[i] > 0)) {
            c->values[i] = (double)NAN;
            continue;
        }
        c->values[i] /= c->counts[i];
        for (int64_t k = known + 1; k < i && known >= 0; k++) {
            const double share = (double)(k - known) / (double)(i - known);
            c->values[k] = c->values[known] + share * (c->values[i] - c->values[known]);
        }
        known = i;
    }
}

/* An exponential average over a twentieth of the picture, unbiased at its beginning. */
static mz_status smooth(history *h) {
    const double decay = h->n_points > 20 ? 1 - 20 / (double)h->n_points : 0;
    double sum = 0;
    double weight = 0;
    for (int64_t i = 0; i < h->n_points; i++) {
        const double loss = h->basic[LOSS].values[i];
        if (isfinite(loss)) {
            sum = decay * sum + (1 - decay) * loss;
            weight = decay * weight + (1 - decay);
        }
        MZ_TRY(add(h, &h->basic[SMOOTHED], 1 + i * h->width, weight > 0 ? sum / weight : NAN));
    }
    finish_curve(h, &h->basic[SMOOTHED]);
    return MZ_OK;
}

/* Whether the curves are positive and span more than a factor of ten. */
static bool spans_decades(const history *h) {
    double least = INFINITY;
    double greatest = 0;
    for (int c = LOSS; c <= EVALUATION; c++) {
        const double *values = h->basic[c].values;
        for (int64_t i = 0; i < h->n_points && values != NULL; i++) {
            least = values[i] < least ? values[i] : least;
            greatest = values[i] > greatest ? values[i] : greatest;
        }
    }
    return least > 0 && greatest > 10 * least;
}

static void take_logarithms(const history *h) {
    for (int c = LOSS; c <= EVALUATION; c++) {
        double *values = h->basic[c].values;
        for (int64_t i = 0; i < h->n_points && values != NULL; i++) {
            values[i] = log10(values[i]);
        }
    }
}

/* ---- pictures ---- */

static mz_status draw(const history *h, const char *dir, const char *name, const mz_plot *plot) {
    char *path = NULL;
    MZ_TRY(mz_path_join(h->ctx, dir, name, &path));
    const mz_status status = mz_plot_write(h->ctx, plot, path);
    mz_free(h->ctx, path);
    return status;
}

static mz_plot_panel panel_of(const history *h, const char *title) {
    return (mz_plot_panel){
        .title = title, .horizon = h->n_points, .first_index = 1, .index_step = h->width};
}

static mz_status draw_loss(history *h, const char *dir) {
    const bool logarithmic = spans_decades(h);
    mz_plot_panel panels[MAX_PANELS];
    mz_plot_baseline parts[MZ_MAX_LOSS_PARTS];
    int n = 0;
    if (logarithmic) {
        take_logarithms(h);
    }
    panels[n] = panel_of(h, logarithmic ? "log10 of the loss" : "loss");
    panels[n].truth = h->basic[LOSS].values;
    panels[n].forecast = h->basic[SMOOTHED].values;
    const mz_plot_baseline evaluation = {"evaluation", h->basic[EVALUATION].values};
    panels[n].baselines = &evaluation;
    panels[n++].n_baselines = evaluation.values != NULL ? 1 : 0;
    for (int i = 0; i < h->n_parts; i++) {
        parts[i] = (mz_plot_baseline){h->part_names[i], h->parts[i].values};
    }
    if (h->n_parts > 1) {
        panels[n] = panel_of(h, "parts of the loss");
        panels[n].baselines = parts;
        panels[n++].n_baselines = h->n_parts;
    }
    panels[n] = panel_of(h, "norm of the gradients");
    panels[n++].truth = h->basic[NORM].values;
    panels[n] = panel_of(h, "learning rate");
    panels[n++].truth = h->basic[RATE].values;
    const mz_plot plot = {.title = "training, by step",
                          .panels = panels,
                          .n_panels = n,
                          .forecast_name = "smoothed",
                          .truth_name = "step"};
    return draw(h, dir, "loss.svg", &plot);
}

static mz_status draw_experts(const history *h, const char *dir) {
    mz_plot_panel panels[MZ_MAX_TRACKED_LAYERS];
    char titles[MZ_MAX_TRACKED_LAYERS][32];
    for (int i = 0; i < h->n_layers; i++) {
        (void)snprintf(titles[i], sizeof titles[i], "layer %d", i);
        panels[i] = panel_of(h, titles[i]);
        panels[i].forecast = h->busiest[i].values;
        panels[i].truth = h->idlest[i].values;
    }
    const mz_plot plot = {.title = "shares of the busiest and the idlest expert, by step",
                          .panels = panels,
                          .n_panels = h->n_layers,
                          .forecast_name = "busiest",
                          .truth_name = "idlest"};
    return draw(h, dir, "experts.svg", &plot);
}

static mz_status draw_all(history *h, const char *dir) {
    MZ_TRY(read_history(h));
    if (h->basic[LOSS].values == NULL) {
        return MZ_OK;
    }
    for (int i = 0; i < N_BASIC; i++) {
        finish_curve(h, &h->basic[i]);
    }
    for (int i = 0; i < h->n_parts; i++) {
        finish_curve(h, &h->parts[i]);
    }
    for (int i = 0; i < h->n_layers; i++) {
        finish_curve(h, &h->busiest[i]);
        finish_curve(h, &h->idlest[i]);
    }
    MZ_TRY(smooth(h));
    MZ_TRY(draw_loss(h, dir));
    return h->n_layers > 0 ? draw_experts(h, dir) : MZ_OK;
}

static void release(history *h) {
    for (int i = 0; i < N_BASIC; i++) {
        mz_free(h->ctx, h->basic[i].values);
    }
    for (int i = 0; i < MZ_MAX_LOSS_PARTS; i++) {
        mz_free(h->ctx, h->parts[i].values);
        mz_free(h->ctx, h->part_names[i]);
    }
    for (int i = 0; i < MZ_MAX_TRACKED_LAYERS; i++) {
        mz_free(h->ctx, h->busiest[i].values);
        mz_free(h->ctx, h->idlest[i].values);
    }
}

mz_status mz_train_plot_write(mz_context *ctx, const char *dir) {
    char *path = NULL;
    MZ_TRY(mz_path_join(ctx, dir, "metrics.jsonl", &path));
    history h = {.ctx = ctx, .path = path};
    const mz_status status = draw_all(&h, dir);
    release(&h);
    mz_free(ctx, path);
    return status;
}
