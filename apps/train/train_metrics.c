#include "apps/train/train_metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "apps/cli.h"
#include "core/file.h"
#include "core/json.h"

static const char LINE_START[] = "{\"step\":";

static mz_status fail_errno(mz_context *ctx, const char *path, int error) {
    return mz_fail(&ctx->error, MZ_ERR_IO, "%s: cannot write: %s", path,
                   error != 0 ? strerror(error) : "an earlier write failed");
}

/* Bytes of the whole lines, each a JSON value, that tell of steps 1 to n_steps. */
static mz_status bytes_to_keep(mz_context *ctx, const char *path, const mz_map *map,
                               int64_t n_steps, size_t *kept) {
    const char *text = (const char *)map->data;
    *kept = 0;
    while (*kept < map->bytes) {
        const char *line = text + *kept;
        const char *end = memchr(line, '\n', map->bytes - *kept);
        json_t *value = NULL;
        if (end == NULL) {
            break;
        }
        const mz_status status = mz_json_parse(ctx, line, (size_t)(end - line), path, &value);
        if (status != MZ_OK) { /* without memory nothing is known about the line */
            return status == MZ_ERR_NOMEM ? status : MZ_OK;
        }
        const int64_t step = json_integer_value(json_object_get(value, "step"));
        json_decref(value);
        if (step < 1 || step > n_steps) {
            break;
        }
        *kept = (size_t)(end - text) + 1;
    }
    return MZ_OK;
}

static mz_status cut(mz_context *ctx, const char *path, int64_t n_steps) {
    mz_map map = {0};
    size_t kept = 0;
    MZ_TRY(mz_map_open(ctx, path, &map));
    const mz_status status = bytes_to_keep(ctx, path, &map, n_steps, &kept);
    mz_map_close(&map);
    MZ_TRY(status);
    return truncate(path, (off_t)kept) == 0 ? MZ_OK : fail_errno(ctx, path, errno);
}

mz_status mz_train_metrics_open(mz_context *ctx, const char *path, int64_t n_steps,
                                mz_train_metrics *out) {
    if (mz_file_exists(path)) {
        MZ_TRY(cut(ctx, path, n_steps));
    }
    mz_train_metrics m = {.ctx = ctx};
    MZ_TRY(mz_strdup(ctx, path, &m.path));
    m.stream = fopen(path, "ab");
    if (m.stream == NULL) {
        const int error = errno;
        mz_free(ctx, m.path);
        return fail_errno(ctx, path, error);
    }
    *out = m;
    return MZ_OK;
}

static void write_number(FILE *stream, const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)fprintf(stream, ",\"%s\":%s", key, number);
}

/* "loss":1,"parts":{"huber":0.9,"balance":0.1} */
static void write_loss(FILE *stream, const mz_train_report *report) {
    char number[32];
    mz_cli_format_double(report->loss, number);
    (void)fprintf(stream, "\"loss\":%s,\"parts\":{", number);
    for (int i = 0; i < report->n_parts; i++) {
        mz_cli_format_double(report->part[i], number);
        (void)fprintf(stream, "%s\"%s\":%s", i > 0 ? "," : "", report->part_name[i], number);
    }
    (void)fputc('}', stream);
}

static mz_status end_line(mz_train_metrics *m) {
    (void)fputs("}\n", m->stream);
    errno = 0;
    const bool flushed = fflush(m->stream) == 0;
    return flushed && ferror(m->stream) == 0 ? MZ_OK : fail_errno(m->ctx, m->path, errno);
}

mz_status mz_train_metrics_write_step(mz_train_metrics *m, const mz_train_step *step) {
    const mz_train_report *report = step->report;
    const double seconds = step->seconds > 0 ? step->seconds : 1e-9;
    (void)fprintf(m->stream, "%s%" PRId64 ",", LINE_START, step->step);
    write_loss(m->stream, report);
    write_number(m->stream, "lr", step->lr);
    write_number(m->stream, "grad_norm", step->grad_norm);
    if (report->n_tokens > 0) {
        (void)fprintf(m->stream, ",\"tokens\":%" PRId64, report->n_tokens);
    }
    if (report->n_points > 0) {
        (void)fprintf(m->stream, ",\"points\":%" PRId64, report->n_points);
    }
    if (step->with_experts && report->n_layers > 0) {
        (void)fprintf(m->stream, ",\"experts\":{\"busiest\":");
        mz_cli_write_json_numbers(m->stream, report->busiest, report->n_layers);
        (void)fprintf(m->stream, ",\"idlest\":");
        mz_cli_write_json_numbers(m->stream, report->idlest, report->n_layers);
        (void)fputc('}', m->stream);
    }
    /* What differs from run to run stands at the end. */
    if (report->n_tokens > 0) {
        write_number(m->stream, "tokens_per_s", (double)report->n_tokens / seconds);
    }
    if (report->n_points > 0) {
        write_number(m->stream, "points_per_s", (double)report->n_points / seconds);
    }
    write_number(m->stream, "seconds", step->seconds);
    return end_line(m);
}

mz_status mz_train_metrics_write_evaluation(mz_train_metrics *m, int64_t step,
                                            const mz_train_report *report) {
    (void)fprintf(m->stream, "%s%" PRId64 ",\"evaluation\":{", LINE_START, step);
    write_loss(m->stream, report);
    (void)fputc('}', m->stream);
    return end_line(m);
}

mz_status mz_train_metrics_sync(mz_train_metrics *m) {
    return fsync(fileno(m->stream)) == 0 ? MZ_OK : fail_errno(m->ctx, m->path, errno);
}

void mz_train_metrics_close(mz_train_metrics *m) {
    if (m->stream != NULL) {
        (void)fclose(m->stream);
        mz_free(m->ctx, m->path);
    }
    *m = (mz_train_metrics){0};
}
