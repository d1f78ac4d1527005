#include "encoders/series/series_sampler.h"

#include <math.h>
#include <string.h>

#include "encoders/series/series_augment_internal.h"
#include "encoders/series/series_collection_internal.h"
#include "encoders/series/series_generator.h"
#include "encoders/series/series_generator_internal.h"

enum {
    MAX_SOURCES = 256,
    MIN_CONTEXT = 4,
    MAX_SCORED = 16, /* a window is at most so many times as long as its context, whose scale it has
                      */
    MAX_FACTOR = 8,  /* of aggregation */
    MIN_AGGREGATED = 16, /* points that an aggregated series still has */
    MIX_MOST = 2,        /* series mixed to the first one */
    MIX_TRIES = 4,       /* draws to find another one that is long enough */
    FAR_OUT = 50,        /* deviations of its context that a scored value should stay within */
    SCRATCH_SPARE = 8,   /* points beyond max_points that interpolation may read */
};

/* Domains of the seed, so that no stream of draws is used for two things. */
static const uint64_t window_domain = 0x77696e646f770000u;
static const uint64_t generator_domain = 0x67656e6572617400u;

struct mz_series_sampler {
    mz_series_sampler_config config; /* .sources points to `sources` */
    mz_series_source sources[MAX_SOURCES];
    mz_collection collections[MAX_SOURCES]; /* all zero for the generator */
    double shares[MAX_SOURCES];             /* adding up to 1 */
};

mz_series_sampler_config mz_series_sampler_config_default(void) {
    return (mz_series_sampler_config){
        .max_points = 2048 + 64,
        .min_points = 8,
        .horizon = 64,
        .full_share = 0.5,
        .late_share = 0.5,
        .augment = {.mix = 0.2,
                    .aggregate = 0.12,
                    .interpolate = 0.06,
                    .gain = 0.1,
                    .trend = 0.08,
                    .jump = 0.03,
                    .censor = 0.04,
                    .negate = 0.08,
                    .reverse = 0.02},
    };
}

mz_series_source mz_series_source_default(mz_series_source_kind kind, const char *path) {
    return (mz_series_source){.kind = kind, .path = path, .share = 1, .group_power = 0.5};
}

static mz_status check_share(mz_context *ctx, const char *what, double value) {
    if (!(value >= 0 && value <= 1)) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "sampler: %s is %g, expected 0 to 1", what, value);
    }
    return MZ_OK;
}

static mz_status check_range(mz_context *ctx, const char *what, int64_t value, int64_t low,
                             int64_t high) {
    if (value < low || value > high) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "sampler: %s is %lld, expected %lld to %lld", what,
                       (long long)value, (long long)low, (long long)high);
    }
    return MZ_OK;
}

static mz_status check_config(mz_context *ctx, const mz_series_sampler_config *c) {
    MZ_TRY(check_range(ctx, "number of sources", c->n_sources, 1, MAX_SOURCES));
    MZ_TRY(check_range(ctx, "smallest window", c->min_points, 2 * MIN_CONTEXT, 1 << 20));
    MZ_TRY(check_range(ctx, "largest window", c->max_points, c->min_points, 1 << 20));
    MZ_TRY(check_range(ctx, "horizon", c->horizon, 1, c->max_points));
    const mz_series_augment *a = &c->augment;
    const struct {
        const char *what;
        double value;
    } shares[] = {{"share of full windows", c->full_share},
                  {"share of late windows", c->late_share},
                  {"rate of mixing", a->mix},
                  {"rate of aggregation", a->aggregate},
                  {"rate of interpolation", a->interpolate},
                  {"rate of gains", a->gain},
                  {"rate of trends", a->trend},
                  {"rate of jumps", a->jump},
                  {"rate of censoring", a->censor},
                  {"rate of negation", a->negate},
                  {"rate of reversal", a->reverse}};
    for (size_t k = 0; k < sizeof shares / sizeof *shares; k++) {
        MZ_TRY(check_share(ctx, shares[k].what, shares[k].value));
    }
    return MZ_OK;
}

static mz_status set_shares(mz_context *ctx, mz_series_sampler *s) {
    double sum = 0;
    for (int32_t k = 0; k < s->config.n_sources; k++) {
        const double share = s->sources[k].share;
        if (!(share >= 0 && share <= 1e9)) {
            return mz_fail(&ctx->error, MZ_ERR_ARG,
                           "sampler: share of source %d is %g, expected 0 to 1e9", (int)k, share);
        }
        sum += share;
    }
    if (!(sum > 0)) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "sampler: the shares of all %d sources are 0",
                       (int)s->config.n_sources);
    }
    for (int32_t k = 0; k < s->config.n_sources; k++) {
        s->shares[k] = s->sources[k].share / sum;
    }
    return MZ_OK;
}

static mz_status open_sources(mz_context *ctx, mz_series_sampler *s) {
    MZ_TRY(set_shares(ctx, s));
    for (int32_t k = 0; k < s->config.n_sources; k++) {
        const mz_series_source *source = &s->sources[k];
        if (source->kind == MZ_SERIES_SOURCE_GENERATOR) {
            continue;
        }
        if (source->path == NULL) {
            return mz_fail(&ctx->error, MZ_ERR_ARG, "sampler: source %d has no path", (int)k);
        }
        MZ_TRY(mz_collection_open(ctx, source, s->config.min_points, &s->collections[k]));
    }
    return MZ_OK;
}

mz_status mz_series_sampler_create(mz_context *ctx, const mz_series_sampler_config *config,
                                   mz_series_sampler **out) {
    MZ_TRY(check_config(ctx, config));
    void *block = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_series_sampler), "sampler of series", &block));
    mz_series_sampler *s = block;
    s->config = *config;
    memcpy(s->sources, config->sources, (size_t)config->n_sources * sizeof *config->sources);
    s->config.sources = s->sources;
    const mz_status status = open_sources(ctx, s);
    if (status != MZ_OK) {
        mz_series_sampler_destroy(ctx, s);
        return status;
    }
    for (int32_t k = 0; k < config->n_sources; k++) {
        s->sources[k].series = NULL; /* the caller's, perhaps gone from here on */
    }
    *out = s;
    return MZ_OK;
}

void mz_series_sampler_destroy(mz_context *ctx, mz_series_sampler *sampler) {
    if (sampler == NULL) {
        return;
    }
    for (int32_t k = 0; k < sampler->config.n_sources; k++) {
        mz_collection_close(ctx, &sampler->collections[k]);
    }
    mz_free(ctx, sampler);
}

size_t mz_series_sampler_scratch_bytes(const mz_series_sampler *sampler) {
    return ((size_t)sampler->config.max_points + SCRATCH_SPARE) * sizeof(float);
}

/* One example being made. */
typedef struct making {
    const mz_series_sampler *sampler;
    const mz_collection *collection;
    mz_draw *draw;
    float *scratch;
    float *values;
} making;

static int64_t draw_length(const mz_series_sampler_config *c, mz_draw *draw) {
    if (mz_draw_chance(draw, c->full_share)) {
        return c->max_points;
    }
    const double length =
        mz_draw_log_uniform(draw, (double)c->min_points, (double)c->max_points + 1);
    return length < (double)c->max_points ? (int64_t)length : c->max_points;
}

/* Reads the means of `factor` points each, by as many points as the scratch holds at once. */
static void read_aggregated(const making *m, int64_t series, int64_t from, int64_t factor,
                            int64_t n) {
    const int64_t at_once = m->sampler->config.max_points / factor;
    for (int64_t i = 0; i < n; i += at_once) {
        const int64_t part = n - i < at_once ? n - i : at_once;
        mz_collection_read(m->collection, series, from + i * factor, part * factor, m->scratch);
        mz_augment_aggregate(m->scratch, factor, part, m->values + i);
    }
}

/* A stretch of about `wanted` points of the series, perhaps on another grid. Returns its length. */
static int64_t read_stretch(const making *m, int64_t series, int64_t wanted) {
    const mz_series_augment *a = &m->sampler->config.augment;
    const int64_t length = m->collection->series[series].n_values;
    const int64_t most = m->sampler->config.max_points;
    const bool aggregates = mz_draw_chance(m->draw, a->aggregate);
    const bool interpolates = mz_draw_chance(m->draw, a->interpolate);
    int64_t max_factor = length / MIN_AGGREGATED;
    max_factor = max_factor < MAX_FACTOR ? max_factor : MAX_FACTOR;
    max_factor = max_factor < most ? max_factor : most;
    if (aggregates && max_factor >= 2 && length / max_factor >= m->sampler->config.min_points) {
        const int64_t factor = mz_draw_int(m->draw, 2, max_factor);
        const int64_t n = wanted < length / factor ? wanted : length / factor;
        read_aggregated(m, series, mz_draw_int(m->draw, 0, length - n * factor), factor, n);
        return n;
    }
    const double factor = mz_draw_log_uniform(m->draw, 1.2, 4);
    const double longest = floor((double)(length - 2) * factor);
    if (interpolates && longest >= (double)m->sampler->config.min_points) {
        const int64_t n = (double)wanted < longest ? wanted : (int64_t)longest;
        const int64_t n_coarse = (int64_t)((double)n / factor) + 3; /* n / 1.2 + 3 at most */
        const int64_t n_read = n_coarse < length ? n_coarse : length;
        const int64_t from = mz_draw_int(m->draw, 0, length - n_read);
        mz_collection_read(m->collection, series, from, n_read, m->scratch);
        const double phase = mz_draw_uniform(m->draw, 0, 1);
        mz_augment_interpolate(m->scratch, n_read, factor, phase, n, m->values);
        return n;
    }
    const int64_t n = wanted < length ? wanted : length;
    mz_collection_read(m->collection, series, mz_draw_int(m->draw, 0, length - n), n, m->values);
    return n;
}

/* Dirichlet(1, ..., 1) weights over the window and one or two others of the source. */
static void mix(const making *m, int64_t n) {
    const int64_t n_more = mz_draw_int(m->draw, 1, MIX_MOST);
    double weights[MIX_MOST + 1];
    double sum = 0;
    for (int64_t k = 0; k <= n_more; k++) {
        weights[k] = -log(1 - mz_draw_uniform(m->draw, 0, 1)) + 1e-3;
        sum += weights[k];
    }
    for (int64_t i = 0; i < n; i++) {
        m->values[i] *= (float)(weights[0] / sum);
    }
    for (int64_t k = 1; k <= n_more; k++) {
        int64_t series = mz_collection_draw(m->collection, m->draw);
        for (int t = 1; t < MIX_TRIES && m->collection->series[series].n_values < n; t++) {
            series = mz_collection_draw(m->collection, m->draw);
        }
        const int64_t length = m->collection->series[series].n_values;
        if (length < n) {
            continue;
        }
        const int64_t from = mz_draw_int(m->draw, 0, length - n);
        mz_collection_read(m->collection, series, from, n, m->scratch);
        mz_augment_standardise(m->scratch, n);
        for (int64_t i = 0; i < n; i++) {
            m->values[i] += (float)(weights[k] / sum) * m->scratch[i];
        }
    }
}

static void augment(const making *m, int64_t n) {
    const mz_series_augment *a = &m->sampler->config.augment;
    mz_augment_standardise(m->values, n);
    if (mz_draw_chance(m->draw, a->mix)) {
        mix(m, n);
        mz_augment_standardise(m->values, n);
    }
    if (mz_draw_chance(m->draw, a->reverse)) {
        mz_augment_reverse(m->values, n);
    }
    if (mz_draw_chance(m->draw, a->negate)) {
        mz_augment_negate(m->values, n);
    }
    if (mz_draw_chance(m->draw, a->gain)) {
        mz_augment_gain(m->draw, m->values, n);
    }
    if (mz_draw_chance(m->draw, a->trend)) {
        mz_augment_trend(m->draw, m->values, n);
    }
    if (mz_draw_chance(m->draw, a->jump)) {
        mz_augment_jump(m->draw, m->values, n);
    }
    if (mz_draw_chance(m->draw, a->censor)) {
        mz_augment_censor(m->draw, m->values, n);
    }
}

/* The last point at which the scored part of n points may begin. */
static int64_t last_context(const mz_series_sampler_config *c, int64_t n) {
    const int64_t third = n / 3;
    return n - (c->horizon < third ? c->horizon : third);
}

/* Where the scored part begins: see mz_series_window. A start within values that are all equal so
 * far moves behind the first change, if enough is left. */
static int64_t draw_context(const mz_series_sampler_config *c, mz_draw *draw, const float *values,
                            int64_t n) {
    const int64_t last = last_context(c, n);
    const bool late = mz_draw_chance(draw, c->late_share);
    const int64_t first = n / MAX_SCORED > MIN_CONTEXT ? n / MAX_SCORED : MIN_CONTEXT;
    int64_t n_context = late ? last : mz_draw_int(draw, first, last);
    int64_t change = 1;
    while (change < n && values[change] == values[0]) {
        change++;
    }
    if (n_context <= change && change + first <= last) {
        n_context = mz_draw_int(draw, change + first, last);
    }
    return n_context;
}

/* To the scale of the first n_context values. */
static void scale_window(float *values, int64_t n, int64_t n_context) {
    double mean;
    double deviation;
    mz_part_moments(values, n_context, &mean, &deviation);
    double whole_mean;
    double whole;
    mz_part_moments(values, n, &whole_mean, &whole);
    const double tiny = 1e-6 * (fabs(mean) + whole); /* rounding of f32 */
    double scale = deviation > tiny ? 1 / deviation : 0;
    const bool flat = scale == 0;
    if (flat && whole > tiny) {
        scale = 1 / whole;
    }
    const double limit = MZ_SERIES_WINDOW_LIMIT;
    for (int64_t i = 0; i < n; i++) {
        const double x = flat && i < n_context ? 0 : ((double)values[i] - mean) * scale;
        values[i] = (float)fmin(fmax(x, -limit), limit);
    }
}

/* Scales the window; where values would lie far out, with its last point of beginning. */
static void settle(const mz_series_sampler_config *c, mz_series_window *window) {
    const int64_t n = window->n_values;
    const int64_t last = last_context(c, n);
    scale_window(window->values, n, window->n_context);
    double most = 0;
    for (int64_t i = window->n_context; i < n; i++) {
        most = fmax(most, (double)fabsf(window->values[i]));
    }
    if (most > FAR_OUT && window->n_context < last) {
        window->n_context = last;
        scale_window(window->values, n, last);
    }
}

/* See mz_series_sampler_get. The context has deviation 1, or is all 0. */
static float weigh(const float *values, int64_t n_context) {
    static const int64_t lags[] = {1, 4, 7, 12, 24, 48, 96, 168, 336};
    enum { MOST = 256 }; /* differences looked at for a lag */
    double smallest = INFINITY;
    for (size_t k = 0; k < sizeof lags / sizeof *lags && lags[k] * 2 <= n_context; k++) {
        const int64_t n = n_context - lags[k];
        const int64_t n_used = n < MOST ? n : MOST;
        double sum = 0;
        for (int64_t j = 0; j < n_used; j++) {
            const int64_t i = j * n / n_used;
            sum += (double)fabsf(values[i + lags[k]] - values[i]);
        }
        smallest = fmin(smallest, sum / (double)n_used);
    }
    if (!(smallest > 0)) {
        return values[0] == 0 ? 1 : 5; /* constant: nothing to learn; else exactly periodic */
    }
    return (float)fmin(fmax(1 / (smallest * MZ_SERIES_TYPICAL_RATIO), 1), 5);
}

void mz_series_sampler_get(const mz_series_sampler *sampler, uint64_t index, void *scratch,
                           mz_series_window *out) {
    const mz_series_sampler_config *c = &sampler->config;
    mz_draw draw;
    mz_draw_init(&draw, c->seed ^ window_domain, index);
    const int source = mz_draw_choice(&draw, sampler->shares, c->n_sources);
    const int64_t wanted = draw_length(c, &draw);
    out->source = source;
    if (sampler->sources[source].kind == MZ_SERIES_SOURCE_GENERATOR) {
        out->n_values = wanted;
        out->series = mz_series_generate(c->seed ^ generator_domain, index, wanted, out->values);
    } else {
        const making m = {.sampler = sampler,
                          .collection = &sampler->collections[source],
                          .draw = &draw,
                          .scratch = scratch,
                          .values = out->values};
        out->series = mz_collection_draw(m.collection, &draw);
        out->n_values = read_stretch(&m, out->series, wanted);
        augment(&m, out->n_values);
    }
    out->n_context = draw_context(c, &draw, out->values, out->n_values);
    settle(c, out);
    out->weight = c->even_weights ? 1 : weigh(out->values, out->n_context);
}

int32_t mz_series_sampler_n_sources(const mz_series_sampler *sampler) {
    return sampler->config.n_sources;
}

void mz_series_sampler_describe(const mz_series_sampler *sampler, int32_t source,
                                mz_series_source_info *out) {
    const mz_collection *c = &sampler->collections[source];
    const mz_series_source *s = &sampler->sources[source];
    *out = (mz_series_source_info){
        .kind = s->kind,
        .path = s->kind == MZ_SERIES_SOURCE_GENERATOR ? "synthetic" : s->path,
        .share = sampler->shares[source],
        .n_series = c->n_series,
        .n_points = c->n_points,
        .n_groups = c->n_groups,
        .n_skipped = c->n_skipped,
    };
}

void mz_series_sampler_describe_group(const mz_series_sampler *sampler, int32_t source,
                                      int64_t group, mz_series_group_info *out) {
    const mz_collection *c = &sampler->collections[source];
    const double power = sampler->sources[source].group_power;
    double sum = 0;
    for (int64_t g = 0; g < c->n_groups; g++) {
        sum += pow((double)c->groups[g].n_points, power);
    }
    *out = (mz_series_group_info){
        .name = c->groups[group].name,
        .n_series = c->groups[group].n_series,
        .n_points = c->groups[group].n_points,
        .share = pow((double)c->groups[group].n_points, power) / sum,
    };
}
