/* What the tests share: comparing tensors, failing allocators, temporary folders. */
#ifndef MZ_TESTS_TESTING_H
#define MZ_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/backend.h"
#include "core/context.h"

/* How far two arrays lie apart; elements that are not finite are only counted. */
typedef struct mz_distance {
    double max_abs;      /* largest absolute difference */
    double relative_l2;  /* |a - b| / |b| in the 2-norm; 0 when both are zero */
    int64_t n_nonfinite; /* elements where a or b is not finite */
} mz_distance;

mz_distance mz_distance_f32(const float *actual, const float *expected, int64_t n);

/* Fails the test, printing `what` and the distance, when the relative L2 exceeds `bound` or
 * anything is not finite. */
void mz_assert_close(const char *what, const float *actual, const float *expected, int64_t n,
                     double bound);

/* Fills with values uniform in [-scale, scale), a pure function of seed. */
void mz_fill_uniform(float *out, int64_t n, uint64_t seed, float scale);

/* Streams of the CPU backend on each instruction-set level of this machine with 1, 2 and 3 threads,
 * and one of the reference backend. Created by mz_op_streams_open (failures fail the test), closed
 * with mz_op_streams_close. */
enum { MZ_TEST_THREADS = 3, MZ_TEST_STREAMS = MZ_ISA_COUNT * MZ_TEST_THREADS };
typedef struct mz_op_streams {
    mz_context contexts[MZ_TEST_STREAMS + 1];
    mz_stream reference;
    mz_stream cpu[MZ_TEST_STREAMS]; /* stream i: level i / MZ_TEST_THREADS, i % MZ_TEST_THREADS + 1
                                       threads */
    int n_cpu;
} mz_op_streams;
void mz_op_streams_open(mz_op_streams *out, size_t arena_bytes);
void mz_op_streams_close(mz_op_streams *streams);

/* The same for cmocka's groups: *state becomes the streams, with 96 MiB each. */
int mz_op_streams_setup(void **state);
int mz_op_streams_teardown(void **state);

/* For cmocka's groups that need nothing else: *state becomes an open context with one thread. */
int mz_context_setup(void **state);
int mz_context_teardown(void **state);

/* Runs an op, or a few, on a stream and writes its result to `out`; what it takes from the arena is
 * given back. */
typedef void (*mz_op_run)(mz_stream *s, const void *arg, float *out);

/* Compares `run` on every CPU stream with the reference under mz_assert_close's `bound`. With
 * another number of threads a level must give the same bits. */
void mz_check_op(mz_op_streams *streams, const char *what, mz_op_run run, const void *arg,
                 int64_t n_out, double bound);

/* A loss in plain f64 as a function of the values that it has a gradient for. */
typedef double (*mz_plain_loss)(const double *x, const void *arg);

/* Fails the test unless `value` is within `value_bound`, relative, of f(x), and `gradient` [n]
 * within a relative L2 of 1e-6 of f's central differences. */
void mz_check_loss(const char *what, mz_plain_loss f, const void *arg, const float *x, int64_t n,
                   double value, double value_bound, const float *gradient);

/* An allocator that fails the allocation number `fail_at` (1-based; 0: none) and counts what is
 * live. Reservations count too. Not for threads. */
typedef struct mz_failing_allocator {
    mz_allocator base;
    int64_t n_calls; /* allocations asked for so far */
    int64_t fail_at;
    int64_t n_live; /* given and not yet released */
} mz_failing_allocator;
mz_allocator mz_failing_allocator_init(mz_failing_allocator *state, int64_t fail_at);

/* Creates an empty folder under $TMPDIR or the system's; *path is static storage until the next
 * call. Removed, with its files (not sub-folders), by mz_temp_dir_remove. */
const char *mz_temp_dir_create(void);
void mz_temp_dir_remove(const char *path);

/* Writes `n_bytes` to DIR/NAME; fails the test on error. Returns the path, static storage until the
 * next call. */
const char *mz_write_file(const char *dir, const char *name, const void *data, size_t n_bytes);

/* The name that the goldens of Time-MoE have for what a trace calls `name` (experts/block.h). */
const char *mz_time_moe_name(const char *name);

/* Fails the test with the context's message unless `call` returns MZ_OK. */
#define mz_assert_ok(ctx, call)                                                                    \
    do {                                                                                           \
        if ((call) != MZ_OK) {                                                                     \
            fail_msg("%s: %s", #call, (ctx)->error.message);                                       \
        }                                                                                          \
    } while (0)

#endif
