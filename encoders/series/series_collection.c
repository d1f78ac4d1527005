#include "encoders/series/series_collection_internal.h"

#include <math.h>
#include <string.h>

#include "encoders/series/series_binary_internal.h"
#include "encoders/series/series_reader.h"

enum { MAX_GROUPS = 4096 };

/* A collection while it is read. */
typedef struct builder {
    mz_context *ctx;
    const mz_series_source *source;
    mz_collection *collection;
    size_t series_capacity, groups_capacity;
    int64_t min_points;
    int64_t room; /* values that collection->values holds */
} builder;

static mz_status find_group(builder *b, const char *id, int32_t *out) {
    mz_collection *c = b->collection;
    const char *slash = id != NULL ? strchr(id, '/') : NULL;
    const size_t n_bytes = slash != NULL ? (size_t)(slash - id) : 0;
    for (int64_t k = c->n_groups - 1; k >= 0; k--) { /* groups usually lie together */
        const char *name = c->groups[k].name;
        if (strlen(name) == n_bytes && (n_bytes == 0 || memcmp(name, id, n_bytes) == 0)) {
            *out = (int32_t)k;
            return MZ_OK;
        }
    }
    if (c->n_groups == MAX_GROUPS) {
        return mz_fail(&b->ctx->error, MZ_ERR_LIMIT,
                       "%s: more than %d groups of series (ids \"GROUP/...\")", b->source->path,
                       (int)MAX_GROUPS);
    }
    void *groups = c->groups;
    const mz_status status = mz_grow(b->ctx, &groups, &b->groups_capacity, (size_t)c->n_groups + 1,
                                     sizeof *c->groups, "groups of series");
    c->groups = groups;
    MZ_TRY(status);
    void *name = NULL;
    MZ_TRY(mz_calloc(b->ctx, n_bytes + 1, 1, "name of a group", &name));
    if (n_bytes > 0) {
        memcpy(name, id, n_bytes);
    }
    c->groups[c->n_groups] = (mz_collection_group){.name = name};
    *out = (int32_t)c->n_groups++;
    return MZ_OK;
}

static mz_status add_series(builder *b, const char *id, int64_t offset, int64_t n_values) {
    mz_collection *c = b->collection;
    int32_t group = 0;
    MZ_TRY(find_group(b, id, &group));
    void *series = c->series;
    const mz_status status = mz_grow(b->ctx, &series, &b->series_capacity, (size_t)c->n_series + 1,
                                     sizeof *c->series, "list of series");
    c->series = series;
    MZ_TRY(status);
    c->series[c->n_series++] =
        (mz_collection_series){.offset = offset, .n_values = n_values, .group = group};
    c->groups[group].n_series++;
    c->groups[group].n_points += n_values;
    c->n_points += n_values;
    return MZ_OK;
}

static mz_status make_room(builder *b, int64_t n_all) {
    void *values = NULL;
    MZ_TRY(mz_calloc(b->ctx, (size_t)n_all, sizeof(float), "values of series", &values));
    b->collection->values = values;
    b->room = n_all;
    return MZ_OK;
}

/* Fills the gaps of the series in place, and keeps it if it is of use. */
static mz_status keep_series(builder *b, mz_series *series) {
    mz_collection *c = b->collection;
    if (series->error == NULL) {
        int64_t season = 1;
        if (b->source->missing == MZ_MISSING_SEASONAL) {
            MZ_TRY(mz_series_season(b->ctx, series, 0, &season));
        }
        mz_gap_report report;
        MZ_TRY(mz_series_fill(b->ctx, series, b->source->missing, season, &report));
    }
    const int64_t n = series->n_values;
    if (series->error != NULL || n < b->min_points || n > b->room - c->n_points) {
        c->n_skipped++;
        return MZ_OK;
    }
    const mz_series_scale scale = mz_series_scale_of(series->values, n, MZ_NORMALIZE_WINDOW);
    mz_series_scale_apply(&scale, series->values, n, c->values + c->n_points);
    return add_series(b, series->id, c->n_points, n);
}

static mz_status read_table(builder *b, mz_series_reader *reader) {
    MZ_TRY(make_room(b, mz_series_n_values(reader)));
    for (;;) {
        mz_series series = {0};
        bool end = false;
        MZ_TRY(mz_series_next(reader, &series, &end));
        if (end) {
            return MZ_OK;
        }
        MZ_TRY(keep_series(b, &series));
    }
}

static double series_weight(mz_series_weighting weighting, int64_t n_values) {
    switch (weighting) {
    case MZ_SERIES_BY_LENGTH:
        return (double)n_values;
    case MZ_SERIES_EVENLY:
        return 1;
    case MZ_SERIES_BY_SQRT_LENGTH:
        break;
    }
    return sqrt((double)n_values);
}

/* The probability of a series is that of its group times its share of the group. */
static mz_status set_probabilities(builder *b) {
    mz_collection *c = b->collection;
    void *block = NULL;
    MZ_TRY(mz_calloc(b->ctx, (size_t)c->n_groups, sizeof(double), "weights of groups", &block));
    double *sums = block;
    for (int64_t k = 0; k < c->n_series; k++) {
        sums[c->series[k].group] += series_weight(b->source->weighting, c->series[k].n_values);
    }
    double total = 0;
    for (int64_t g = 0; g < c->n_groups; g++) {
        total += pow((double)c->groups[g].n_points, b->source->group_power);
    }
    double cumulative = 0;
    for (int64_t k = 0; k < c->n_series; k++) {
        mz_collection_series *s = &c->series[k];
        const double group = pow((double)c->groups[s->group].n_points, b->source->group_power);
        cumulative +=
            group / total * series_weight(b->source->weighting, s->n_values) / sums[s->group];
        s->cumulative = cumulative;
    }
    c->series[c->n_series - 1].cumulative = 1;
    mz_free(b->ctx, block);
    return MZ_OK;
}

static mz_status build_table(builder *b) {
    mz_series_reader *reader = NULL;
    MZ_TRY(mz_series_open(b->ctx, b->source->path, &b->source->options, &reader));
    const mz_status status = read_table(b, reader);
    mz_series_close(reader);
    return status;
}

/* Gaps are filled in a copy, of one series at a time. */
static mz_status read_memory(builder *b, double *copy) {
    for (int64_t k = 0; k < b->source->n_series; k++) {
        mz_series series = b->source->series[k];
        if (series.n_values > 0) {
            memcpy(copy, series.values, (size_t)series.n_values * sizeof *copy);
        }
        series.values = copy;
        series.stamps = NULL;
        MZ_TRY(keep_series(b, &series));
    }
    return MZ_OK;
}

static mz_status build_memory(builder *b) {
    const mz_series_source *source = b->source;
    int64_t n_all = 0;
    int64_t longest = 0;
    for (int64_t k = 0; k < source->n_series; k++) {
        const int64_t n = source->series[k].n_values;
        n_all += n;
        longest = n > longest ? n : longest;
    }
    void *copy = NULL;
    MZ_TRY(make_room(b, n_all));
    MZ_TRY(mz_calloc(b->ctx, (size_t)longest, sizeof(double), "a series", &copy));
    const mz_status status = read_memory(b, copy);
    mz_free(b->ctx, copy);
    return status;
}

static mz_status build_binary(builder *b) {
    mz_collection *c = b->collection;
    MZ_TRY(mz_binary_open(b->ctx, b->source->path, &c->binary));
    const mz_binary_series *list;
    const int64_t n = mz_binary_series_list(c->binary, &list);
    for (int64_t k = 0; k < n; k++) {
        if (list[k].n_values < b->min_points) {
            c->n_skipped++;
            continue;
        }
        MZ_TRY(add_series(b, NULL, list[k].offset, list[k].n_values));
    }
    return MZ_OK;
}

static mz_status build(builder *b) {
    const mz_series_source *source = b->source;
    if (!(source->group_power >= 0 && source->group_power <= 1)) {
        return mz_fail(&b->ctx->error, MZ_ERR_ARG, "%s: group power %g, expected 0 to 1",
                       source->path, source->group_power);
    }
    MZ_TRY(source->kind == MZ_SERIES_SOURCE_BINARY   ? build_binary(b)
           : source->kind == MZ_SERIES_SOURCE_MEMORY ? build_memory(b)
                                                     : build_table(b));
    if (b->collection->n_series == 0) {
        return mz_fail(&b->ctx->error, MZ_ERR_MISSING,
                       "%s: no series of at least %lld values (%lld shorter or unusable)",
                       source->path, (long long)b->min_points, (long long)b->collection->n_skipped);
    }
    return set_probabilities(b);
}

mz_status mz_collection_open(mz_context *ctx, const mz_series_source *source, int64_t min_points,
                             mz_collection *out) {
    *out = (mz_collection){0};
    builder b = {.ctx = ctx, .source = source, .collection = out, .min_points = min_points};
    const mz_status status = build(&b);
    if (status != MZ_OK) {
        mz_collection_close(ctx, out);
    }
    return status;
}

void mz_collection_close(mz_context *ctx, mz_collection *collection) {
    for (int64_t g = 0; g < collection->n_groups; g++) {
        mz_free(ctx, collection->groups[g].name);
    }
    mz_free(ctx, collection->groups);
    mz_free(ctx, collection->series);
    mz_free(ctx, collection->values);
    mz_binary_close(ctx, collection->binary);
    *collection = (mz_collection){0};
}

int64_t mz_collection_draw(const mz_collection *collection, mz_draw *draw) {
    const double wanted = mz_draw_uniform(draw, 0, 1);
    int64_t low = 0; /* the first series whose cumulative probability exceeds `wanted` */
    int64_t high = collection->n_series - 1;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (collection->series[middle].cumulative > wanted) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

void mz_collection_read(const mz_collection *collection, int64_t series, int64_t from, int64_t n,
                        float *out) {
    const int64_t at = collection->series[series].offset + from;
    if (collection->binary != NULL) {
        mz_binary_read(collection->binary, at, n, out);
        return;
    }
    memcpy(out, collection->values + at, (size_t)n * sizeof *out);
}
