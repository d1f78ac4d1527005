/* What the commands of `moezoo bench` share: made-up series, and the parts of their reports. */
#ifndef MZ_APPS_BENCH_PARTS_H
#define MZ_APPS_BENCH_PARTS_H

#include <stdint.h>

#include "core/context.h"
#include "core/ops.h"
#include "core/profile.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A daily and a weekly wave on a slope, with noise: a pure function of seed and series. */
void mz_bench_synthesise(double *out, int64_t n, uint64_t seed, uint64_t series);

/* Sorts the times in place, ascending, and returns their median; n at least 1. */
double mz_bench_sort(double *times_s, int64_t n);

/* Largest resident size of the process so far. */
int64_t mz_bench_peak_bytes(void);

/* Multiplications and additions a second of this machine's fastest run of a large product, of f32
 * inputs [rows, d_in] with weights of that precision: what a share of the peak is measured by.
 * Errors: NOMEM; those of the product. */
mz_status mz_bench_peak_flops(mz_context *ctx, mz_precision precision, double *out);

/* Time outside the ops that has a name of its own. */
typedef struct mz_bench_part {
    const char *name;
    int64_t n_calls;
    double seconds;
} mz_bench_part;

enum { MZ_BENCH_MAX_PARTS = 4 };

/* What was timed, and for how long in all. */
typedef struct mz_bench_times {
    const mz_profile *profile;
    mz_bench_part parts[MZ_BENCH_MAX_PARTS];
    int n_parts;
    double total_s; /* above 0 */
} mz_bench_times;

/* A table of ops and parts, the longest first, then what is in none of them. */
void mz_bench_print_ops(const mz_bench_times *times);

/* "ops":[{...},...] on stdout, in the same order, without what is in none. */
void mz_bench_print_json_ops(const mz_bench_times *times);

/* "key":value, with a comma behind it. */
void mz_bench_json_number(const char *key, double value);
void mz_bench_json_text(const char *key, const char *text);

/* "f32", "bf16" or "int8". */
const char *mz_bench_precision_name(mz_precision precision);

#ifdef __cplusplus
}
#endif
#endif
