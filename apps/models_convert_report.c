#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "apps/models_convert.h"

/* Sums over the tensors. */
typedef struct totals {
    double n_values, n_bytes_before, n_bytes_after, squares, errors;
} totals;

static double values_of(const mz_gguf_item *item) {
    double n = 1;
    for (int i = 0; i < item->n_dims; i++) {
        n *= (double)item->shape[i];
    }
    return n;
}

static double bits_of(mz_dtype dtype) {
    const mz_dtype_info *info = mz_dtype_get(dtype);
    return 8.0 * info->block_bytes / info->block_len;
}

static double error_of(double errors, double squares) {
    return squares > 0 ? sqrt(errors / squares) : 0;
}

static totals add_up(const mz_gguf_export *e) {
    totals t = {0};
    for (int64_t i = 0; i < e->n_items; i++) {
        const double n = values_of(&e->items[i]);
        t.n_values += n;
        t.n_bytes_before += n * bits_of(e->stored[i]) / 8;
        t.n_bytes_after += n * bits_of(e->items[i].dtype) / 8;
        t.squares += e->items[i].sum_squares;
        t.errors += e->items[i].sum_squared_errors;
    }
    return t;
}

static void print_table(const mz_convert_report *r, const totals *t) {
    char before[32];
    char after[32];
    (void)printf("%-34s %-20s %6s %6s %9s %12s\n", "tensor", "shape", "before", "after",
                 "bits/value", "rel. error");
    for (int64_t i = 0; i < r->written->n_items; i++) {
        const mz_gguf_item *item = &r->written->items[i];
        char shape[96];
        const int n = (int)strlen(item->name);
        mz_cli_write_plain(stdout, item->name);
        (void)printf("%*s %-20s %6s %6s %9.3f", n < 34 ? 34 - n : 0, "",
                     mz_shape_text(shape, sizeof shape, item->shape, item->n_dims),
                     mz_dtype_get(r->written->stored[i])->name, mz_dtype_get(item->dtype)->name,
                     bits_of(item->dtype));
        if (item->sum_squared_errors > 0) {
            (void)printf(" %12.6f\n", error_of(item->sum_squared_errors, item->sum_squares));
        } else {
            (void)printf(" %12s\n", "-");
        }
    }
    (void)printf(
        "%" PRId64 " tensors, %.0f values: %s to %s, %.3f bits per value, relative error "
        "of what was converted %.6f\n",
        r->written->n_items, t->n_values, mz_cli_format_bytes((int64_t)t->n_bytes_before, before),
        mz_cli_format_bytes((int64_t)t->n_bytes_after, after),
        t->n_values > 0 ? 8 * t->n_bytes_after / t->n_values : 0, error_of(t->errors, t->squares));
    if (r->note != NULL) {
        (void)printf("the tokenizer was not converted: ");
        mz_cli_write_plain(stdout, r->note);
        (void)printf("\n");
    }
}

static void print_text(const char *key, const char *text) {
    (void)printf("\"%s\":", key);
    if (text != NULL) {
        mz_cli_write_json_string(stdout, text);
    } else {
        (void)printf("null");
    }
    (void)printf(",");
}

static void print_number(const char *key, double value, const char *after) {
    char text[32];
    mz_cli_format_double(value, text);
    (void)printf("\"%s\":%s%s", key, text, after);
}

static void print_json(const mz_convert_report *r, const totals *t) {
    (void)printf("{");
    print_text("source", r->source);
    print_text("output", r->output);
    print_text("tokenizer_note", r->note);
    (void)printf("\"tensors\":[");
    for (int64_t i = 0; i < r->written->n_items; i++) {
        const mz_gguf_item *item = &r->written->items[i];
        (void)printf("%s\n{", i > 0 ? "," : "");
        print_text("name", item->name);
        (void)printf("\"shape\":[");
        for (int k = 0; k < item->n_dims; k++) {
            (void)printf("%s%" PRId64, k > 0 ? "," : "", item->shape[k]);
        }
        (void)printf("],");
        print_text("before", mz_dtype_get(r->written->stored[i])->name);
        print_text("after", mz_dtype_get(item->dtype)->name);
        print_number("bits_per_value", bits_of(item->dtype), ",");
        print_number("relative_error", error_of(item->sum_squared_errors, item->sum_squares), "}");
    }
    (void)printf("],\"totals\":{\"tensors\":%" PRId64 ",", r->written->n_items);
    print_number("values", t->n_values, ",");
    print_number("bytes_before", t->n_bytes_before, ",");
    print_number("bytes_after", t->n_bytes_after, ",");
    print_number("bits_per_value", t->n_values > 0 ? 8 * t->n_bytes_after / t->n_values : 0, ",");
    print_number("relative_error", error_of(t->errors, t->squares), "}}\n");
}

void mz_convert_report_print(const mz_convert_report *report, bool json) {
    const totals t = add_up(report->written);
    (json ? print_json : print_table)(report, &t);
}

/* ---- progress ---- */

typedef struct watch {
    mz_progress progress;
} watch;

static bool passed(void *self, int64_t item, double part) {
    watch *w = self;
    mz_progress_update_part(&w->progress, item, part);
    return !mz_cli_interrupted();
}

mz_status mz_convert_write(mz_gguf_export *e, const char *path, bool quiet) {
    watch w = {0};
    mz_progress_init(&w.progress, "tensors", e->n_items, quiet);
    mz_cli_catch_interrupts();
    const mz_status status =
        mz_gguf_write(e->ctx, path, &e->meta, e->items, e->n_items, &(mz_gguf_watch){passed, &w});
    mz_progress_finish(&w.progress);
    return status;
}
