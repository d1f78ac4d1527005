#include "encoders/series/series_reader.h"

#include <string.h>

#include "encoders/series/series_reader_internal.h"

struct mz_series_reader {
    mz_context *ctx;
    mz_series_source source;
    mz_series_csv *csv; /* exactly one of the two */
    mz_series_jsonl *jsonl;
    int64_t n_series, n_values;
    bool has_dates;
    int64_t n_given; /* series handed out */
    int64_t n_values_given;
};

static mz_status fail_changed(const mz_series_reader *r) {
    return mz_fail(&r->ctx->error, MZ_ERR_FORMAT, "%s: changed while it was being read",
                   r->source.name);
}

/* Reads all lines once, so that a fault in the last one is found before the first series is used.
 */
static mz_status open_jsonl(mz_series_reader *r, const mz_series_options *options) {
    MZ_TRY(mz_series_source_spool(&r->source));
    MZ_TRY(mz_series_jsonl_open(&r->source, options, &r->jsonl));
    for (;;) {
        mz_series series;
        bool end;
        MZ_TRY(mz_series_jsonl_next(r->jsonl, &series, &end));
        if (end) {
            break;
        }
        r->n_series++;
        r->n_values += series.n_values;
        r->has_dates = r->has_dates || series.stamps != NULL;
    }
    mz_series_jsonl_close(r->jsonl);
    r->jsonl = NULL;
    MZ_TRY(mz_series_source_rewind(&r->source));
    return mz_series_jsonl_open(&r->source, options, &r->jsonl);
}

static mz_status open_csv(mz_series_reader *r, const mz_series_options *options) {
    MZ_TRY(mz_series_csv_open(&r->source, options, &r->csv));
    r->n_series = mz_series_csv_count(r->csv);
    r->n_values = mz_series_csv_n_values(r->csv);
    r->has_dates = mz_series_csv_has_dates(r->csv);
    return MZ_OK;
}

static mz_status open_format(mz_series_reader *r, const mz_series_options *options) {
    const char *chunk;
    size_t n_bytes;
    MZ_TRY(mz_series_source_peek(&r->source, &chunk, &n_bytes));
    size_t i = 0;
    while (i < n_bytes && strchr(" \t\r\n", chunk[i]) != NULL) {
        i++;
    }
    if (n_bytes == 0) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT, "%s: is empty", r->source.name);
    }
    if (i == n_bytes || (chunk[i] != '{' && chunk[i] != '[')) {
        return open_csv(r, options);
    }
    if (options->columns != NULL || options->id != NULL || options->time != NULL ||
        options->value != NULL) {
        return mz_fail(&r->ctx->error, MZ_ERR_ARG,
                       "%s: columns can be chosen from CSV only, this is JSON lines",
                       r->source.name);
    }
    return open_jsonl(r, options);
}

/* Takes over the source. */
static mz_status open_source(mz_context *ctx, mz_series_source *source,
                             const mz_series_options *options, mz_series_reader **out) {
    void *memory;
    mz_status status = mz_calloc(ctx, 1, sizeof(mz_series_reader), "series reader", &memory);
    if (status != MZ_OK) {
        mz_series_source_close(source);
        return status;
    }
    mz_series_reader *r = memory;
    r->ctx = ctx;
    r->source = *source;
    if (options != NULL) {
        r->source.watch = options->watch;
    }
    status = open_format(r, options != NULL ? options : &(mz_series_options){0});
    r->source.watch = (mz_series_watch){0}; /* what is read later is not opening */
    if (status != MZ_OK) {
        mz_series_close(r);
        return status;
    }
    *out = r;
    return MZ_OK;
}

mz_status mz_series_open(mz_context *ctx, const char *path, const mz_series_options *options,
                         mz_series_reader **out) {
    mz_series_source source;
    MZ_TRY(mz_series_source_open(ctx, path, &source));
    return open_source(ctx, &source, options, out);
}

mz_status mz_series_open_memory(mz_context *ctx, const void *data, size_t n_bytes, const char *name,
                                const mz_series_options *options, mz_series_reader **out) {
    mz_series_source source;
    MZ_TRY(mz_series_source_open_memory(ctx, data, n_bytes, name, &source));
    return open_source(ctx, &source, options, out);
}

void mz_series_close(mz_series_reader *r) {
    if (r == NULL) {
        return;
    }
    mz_series_csv_close(r->csv);
    mz_series_jsonl_close(r->jsonl);
    mz_series_source_close(&r->source);
    mz_free(r->ctx, r);
}

int64_t mz_series_count(const mz_series_reader *r) {
    return r->n_series;
}

int64_t mz_series_n_values(const mz_series_reader *r) {
    return r->n_values;
}

bool mz_series_has_dates(const mz_series_reader *r) {
    return r->has_dates;
}

int mz_series_notes(const mz_series_reader *r, const char *const **notes) {
    *notes = NULL;
    return r->csv != NULL ? mz_series_csv_notes(r->csv, notes) : 0;
}

static mz_status next_jsonl(mz_series_reader *r, mz_series *out, bool *end) {
    mz_series series = {0};
    bool is_over = false;
    const mz_status status = mz_series_jsonl_next(r->jsonl, &series, &is_over);
    if (status == MZ_ERR_FORMAT || status == MZ_ERR_LIMIT) {
        return fail_changed(r);
    }
    MZ_TRY(status);
    const int64_t n_values = r->n_values_given + series.n_values;
    if (is_over != (r->n_given == r->n_series) || n_values > r->n_values ||
        (is_over && n_values < r->n_values)) {
        return fail_changed(r);
    }
    *end = is_over;
    if (!is_over) {
        r->n_given++;
        r->n_values_given = n_values;
        *out = series;
    }
    return MZ_OK;
}

mz_status mz_series_next(mz_series_reader *r, mz_series *out, bool *end) {
    if (r->jsonl != NULL) {
        return next_jsonl(r, out, end);
    }
    *end = r->n_given == r->n_series;
    if (!*end) {
        MZ_TRY(mz_series_csv_get(r->csv, r->n_given, out));
        r->n_given++;
    }
    return MZ_OK;
}
