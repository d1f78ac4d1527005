#include "apps/bench_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "apps/cli.h"
#include "core/backend.h"
#include "core/rng.h"
#include "core/threads.h"

void mz_bench_synthesise(double *out, int64_t n, uint64_t seed, uint64_t series) {
    const double two_pi = 6.283185307179586;
    const double phase = two_pi * (double)mz_rng_uniform(seed, series, 0);
    for (int64_t i = 0; i < n; i++) {
        const double t = (double)i;
        const double noise = (double)mz_rng_normal(seed, series, (uint64_t)i + 1);
        out[i] =
            100 + 0.05 * t + 10 * sin(two_pi * t / 24 + phase) + 5 * sin(two_pi * t / 168) + noise;
    }
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

double mz_bench_sort(double *times_s, int64_t n) {
    qsort(times_s, (size_t)n, sizeof *times_s, compare_doubles);
    return n % 2 == 1 ? times_s[n / 2] : (times_s[n / 2 - 1] + times_s[n / 2]) / 2;
}

int64_t mz_bench_peak_bytes(void) {
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024; /* Linux counts it in KiB */
}

/* ---- the machine's peak ---- */

/* Rows and widths of the product: large enough that packing counts for little, and inputs, weights
 * and outputs of a tile stay in the caches. */
enum { PEAK_ROWS = 768, PEAK_WIDTH = 768, MIN_PEAK_RUNS = 3, MAX_PEAK_RUNS = 100 };

static const double PEAK_S = 0.5; /* enough to be alone on the processors once */

static mz_status take_filled(mz_stream *s, int64_t n_rows, int64_t n_cols, mz_tensor *out) {
    MZ_TRY(mz_stream_take(s, n_rows, n_cols, "peak", out));
    for (int64_t row = 0; row < n_rows; row++) {
        float *values = mz_tensor_f32(out, row);
        for (int64_t i = 0; i < n_cols; i++) {
            values[i] = (float)((row + 3 * i) % 7 - 3);
        }
    }
    return MZ_OK;
}

static mz_status time_product(mz_stream *s, mz_precision precision, double *fastest_s) {
    mz_tensor x;
    mz_tensor y;
    mz_linear w = {.precision = precision};
    MZ_TRY(take_filled(s, PEAK_ROWS, PEAK_WIDTH, &x));
    MZ_TRY(take_filled(s, PEAK_ROWS, PEAK_WIDTH, &y));
    MZ_TRY(take_filled(s, PEAK_WIDTH, PEAK_WIDTH, &w.weight));
    const double end = mz_now_s() + PEAK_S;
    for (int run = 0; run < MAX_PEAK_RUNS; run++) {
        const double start = mz_now_s();
        if (run >= MIN_PEAK_RUNS && start > end) {
            break;
        }
        MZ_TRY(mz_op_linear(s, &y, &x, &w));
        const double seconds = mz_now_s() - start;
        *fastest_s = run == 0 || seconds < *fastest_s ? seconds : *fastest_s;
    }
    return MZ_OK;
}

mz_status mz_bench_peak_flops(mz_context *ctx, mz_precision precision, double *out) {
    mz_stream stream;
    double fastest_s = 0;
    MZ_TRY(mz_stream_open(ctx, mz_backend_cpu(), (size_t)64 << 20, &stream));
    mz_pool_begin(ctx->pool);
    const mz_status status = time_product(&stream, precision, &fastest_s);
    mz_pool_end(ctx->pool);
    mz_stream_close(&stream);
    MZ_TRY(status);
    *out = 2.0 * PEAK_ROWS * PEAK_WIDTH * PEAK_WIDTH / (fastest_s > 0 ? fastest_s : 1e-9);
    return MZ_OK;
}

/* ---- where the time went ---- */

typedef struct row {
    const char *name;
    int64_t n_calls;
    double seconds, flops;
} row;

enum { MAX_ROWS = MZ_OP_COUNT + MZ_BENCH_MAX_PARTS };

static void insert(row *rows, int *n, const row *fresh) {
    int at = (*n)++;
    while (at > 0 && rows[at - 1].seconds < fresh->seconds) {
        rows[at] = rows[at - 1];
        at--;
    }
    rows[at] = *fresh;
}

/* What ran, the longest first; returns how many. */
static int rank(const mz_bench_times *t, row rows[MAX_ROWS]) {
    int n = 0;
    for (int op = 0; op < MZ_OP_COUNT; op++) {
        const row fresh = {mz_op_name((mz_op_id)op), t->profile->ops[op].n_calls,
                           t->profile->ops[op].seconds, t->profile->ops[op].flops};
        if (fresh.n_calls > 0) {
            insert(rows, &n, &fresh);
        }
    }
    for (int i = 0; i < t->n_parts; i++) {
        const row fresh = {t->parts[i].name, t->parts[i].n_calls, t->parts[i].seconds, 0};
        insert(rows, &n, &fresh);
    }
    return n;
}

static double gflops(const row *r) {
    return r->seconds > 0 ? r->flops / r->seconds * 1e-9 : 0;
}

void mz_bench_print_ops(const mz_bench_times *times) {
    row rows[MAX_ROWS];
    const int n = rank(times, rows);
    double counted = 0;
    (void)printf("\n%-26s %10s %10s %7s %9s\n", "op", "calls", "time s", "share", "GFLOP/s");
    for (int i = 0; i < n; i++) {
        const row *r = &rows[i];
        counted += r->seconds;
        (void)printf("%-26s %10" PRId64 " %10.4f %6.1f%%", r->name, r->n_calls, r->seconds,
                     100 * r->seconds / times->total_s);
        if (r->flops > 0) {
            (void)printf(" %9.1f", gflops(r));
        }
        (void)printf("\n");
    }
    const double outside = times->total_s - counted;
    (void)printf("%-26s %10s %10.4f %6.1f%%\n", "outside ops", "", outside,
                 100 * outside / times->total_s);
}

void mz_bench_print_json_ops(const mz_bench_times *times) {
    row rows[MAX_ROWS];
    const int n = rank(times, rows);
    (void)printf("\"ops\":[");
    for (int i = 0; i < n; i++) {
        (void)printf("%s{", i > 0 ? "," : "");
        mz_bench_json_text("op", rows[i].name);
        mz_bench_json_number("seconds", rows[i].seconds);
        mz_bench_json_number("share", rows[i].seconds / times->total_s);
        mz_bench_json_number("gflops_per_s", gflops(&rows[i]));
        (void)printf("\"calls\":%" PRId64 "}", rows[i].n_calls);
    }
    (void)printf("]");
}

void mz_bench_json_number(const char *key, double value) {
    char number[32];
    mz_cli_format_double(value, number);
    (void)printf("\"%s\":%s,", key, number);
}

void mz_bench_json_text(const char *key, const char *text) {
    (void)printf("\"%s\":", key);
    mz_cli_write_json_string(stdout, text);
    (void)fputc(',', stdout);
}

const char *mz_bench_precision_name(mz_precision precision) {
    return precision == MZ_PRECISION_BF16   ? "bf16"
           : precision == MZ_PRECISION_INT8 ? "int8"
                                            : "f32";
}
