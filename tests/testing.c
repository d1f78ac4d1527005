#include "tests/testing.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rng.h"

mz_distance mz_distance_f32(const float *actual, const float *expected, int64_t n) {
    mz_distance d = {0};
    double error = 0;
    double norm = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(actual[i]) || !isfinite(expected[i])) {
            d.n_nonfinite++;
            continue;
        }
        const double e = fabs((double)actual[i] - (double)expected[i]);
        d.max_abs = e > d.max_abs ? e : d.max_abs;
        error += e * e;
        norm += (double)expected[i] * (double)expected[i];
    }
    d.relative_l2 = norm > 0 ? sqrt(error / norm) : (error > 0 ? INFINITY : 0);
    return d;
}

void mz_assert_close(const char *what, const float *actual, const float *expected, int64_t n,
                     double bound) {
    const mz_distance d = mz_distance_f32(actual, expected, n);
    if (d.n_nonfinite > 0 || !(d.relative_l2 <= bound)) {
        fail_msg("%s: max abs %.3g, relative L2 %.3g (bound %.1g), %lld not finite", what,
                 d.max_abs, d.relative_l2, bound, (long long)d.n_nonfinite);
    }
}

void mz_fill_uniform(float *out, int64_t n, uint64_t seed, float scale) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = scale * (2.0f * mz_rng_uniform(seed, 0, (uint64_t)i) - 1.0f);
    }
}

void mz_op_streams_open(mz_op_streams *out, size_t arena_bytes) {
    *out = (mz_op_streams){0};
    const mz_isa best = mz_isa_detect();
    for (int i = 0; i / MZ_TEST_THREADS <= (int)best; i++) {
        const mz_context_options options = {.n_threads = i % MZ_TEST_THREADS + 1,
                                            .isa = (mz_isa)(i / MZ_TEST_THREADS)};
        mz_context *ctx = &out->contexts[i];
        mz_assert_ok(ctx, mz_context_init(ctx, &options));
        mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_cpu(), arena_bytes, &out->cpu[i]));
        out->n_cpu++;
    }
    const mz_context_options options = {.n_threads = 1, .isa = MZ_ISA_SCALAR};
    mz_context *ctx = &out->contexts[MZ_TEST_STREAMS];
    mz_assert_ok(ctx, mz_context_init(ctx, &options));
    mz_assert_ok(ctx, mz_stream_open(ctx, mz_backend_reference(), arena_bytes, &out->reference));
}

void mz_op_streams_close(mz_op_streams *streams) {
    for (int i = 0; i < streams->n_cpu; i++) {
        mz_stream_close(&streams->cpu[i]);
        mz_context_close(&streams->contexts[i]);
    }
    mz_stream_close(&streams->reference);
    mz_context_close(&streams->contexts[MZ_TEST_STREAMS]);
}

int mz_context_setup(void **state) {
    static mz_context ctx;
    *state = &ctx;
    return mz_context_init(&ctx, &(mz_context_options){.n_threads = 1}) == MZ_OK ? 0 : -1;
}

int mz_context_teardown(void **state) {
    mz_context_close(*state);
    return 0;
}

int mz_op_streams_setup(void **state) {
    static mz_op_streams streams;
    mz_op_streams_open(&streams, (size_t)96 << 20);
    *state = &streams;
    return 0;
}

int mz_op_streams_teardown(void **state) {
    mz_op_streams_close(*state);
    return 0;
}

/* Unwritten results are NaN and fail. */
static void run_clean(mz_stream *s, mz_op_run run, const void *arg, float *out, int64_t n_out) {
    memset(out, 0xff, (size_t)n_out * sizeof *out);
    const size_t mark = mz_arena_mark(&s->arena);
    run(s, arg, out);
    mz_arena_release(&s->arena, mark);
}

void mz_check_op(mz_op_streams *streams, const char *what, mz_op_run run, const void *arg,
                 int64_t n_out, double bound) {
    const size_t n_bytes = (size_t)n_out * sizeof(float);
    float *results = malloc(3 * n_bytes + 1);
    assert_non_null(results);
    float *expected = results;
    float *one_thread = results + n_out;
    float *actual = results + 2 * n_out;
    run_clean(&streams->reference, run, arg, expected, n_out);
    for (int i = 0; i < streams->n_cpu; i++) {
        char name[160];
        (void)snprintf(name, sizeof name, "%s, %s, %d threads", what,
                       mz_isa_name((mz_isa)(i / MZ_TEST_THREADS)), i % MZ_TEST_THREADS + 1);
        run_clean(&streams->cpu[i], run, arg, actual, n_out);
        mz_assert_close(name, actual, expected, n_out, bound);
        if (i % MZ_TEST_THREADS == 0) {
            memcpy(one_thread, actual, n_bytes);
        } else if (memcmp(one_thread, actual, n_bytes) != 0) {
            fail_msg("%s: other bits than with 1 thread", name);
        }
    }
    free(results);
}

static bool fails_now(mz_failing_allocator *state) {
    state->n_calls++;
    return state->n_calls == state->fail_at;
}

void mz_check_loss(const char *what, mz_plain_loss f, const void *arg, const float *x, int64_t n,
                   double value, double value_bound, const float *gradient) {
    const double step = 1e-5;
    double *at = calloc((size_t)n, sizeof *at);
    float *expected = calloc((size_t)n, sizeof *expected);
    assert_true(at != NULL && expected != NULL);
    for (int64_t i = 0; i < n; i++) {
        at[i] = (double)x[i];
    }
    const double plain = f(at, arg);
    if (!(fabs(value - plain) <= value_bound * fabs(plain))) {
        fail_msg("%s: %.17g, expected %.17g", what, value, plain);
    }
    for (int64_t i = 0; i < n; i++) {
        at[i] = (double)x[i] + step;
        const double above = f(at, arg);
        at[i] = (double)x[i] - step;
        expected[i] = (float)((above - f(at, arg)) / (2 * step));
        at[i] = (double)x[i];
    }
    mz_assert_close(what, gradient, expected, n, 1e-6);
    free(at);
    free(expected);
}

static void *failing_alloc(void *self, size_t bytes, size_t alignment) {
    mz_failing_allocator *state = self;
    if (fails_now(state)) {
        return NULL;
    }
    void *p = state->base.alloc(state->base.self, bytes, alignment);
    state->n_live += p != NULL;
    return p;
}

static void failing_free(void *self, void *ptr) {
    mz_failing_allocator *state = self;
    state->n_live -= ptr != NULL;
    state->base.free(state->base.self, ptr);
}

static void *failing_reserve(void *self, size_t bytes) {
    mz_failing_allocator *state = self;
    if (fails_now(state)) {
        return NULL;
    }
    void *p = state->base.reserve(state->base.self, bytes);
    state->n_live += p != NULL;
    return p;
}

static void failing_unreserve(void *self, void *ptr, size_t bytes) {
    mz_failing_allocator *state = self;
    state->n_live -= ptr != NULL;
    state->base.unreserve(state->base.self, ptr, bytes);
}

mz_allocator mz_failing_allocator_init(mz_failing_allocator *state, int64_t fail_at) {
    *state = (mz_failing_allocator){.base = mz_allocator_system(), .fail_at = fail_at};
    return (mz_allocator){failing_alloc, failing_free, failing_reserve, failing_unreserve, state};
}

const char *mz_temp_dir_create(void) {
    static char path[512];
    const char *root = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/moezoo-test-XXXXXX", root != NULL ? root : P_tmpdir);
    assert_non_null(mkdtemp(path));
    return path;
}

void mz_temp_dir_remove(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char file[1024];
        (void)snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        (void)unlink(file);
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

const char *mz_write_file(const char *dir, const char *name, const void *data, size_t n_bytes) {
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n_bytes, f), n_bytes);
    assert_int_equal(fclose(f), 0);
    return path;
}

const char *mz_time_moe_name(const char *name) {
    static const char *const names[][2] = {{"input_layernorm", "attn_norm"},
                                           {"k", "k_cache"},
                                           {"v", "v_cache"},
                                           {"h_attn", "after_attn"},
                                           {"post_attention_layernorm", "ffn_norm"},
                                           {"experts", "expert_ids"},
                                           {"shared_expert_gate", "shared_gate_logit"},
                                           {"shared_expert", "shared_out"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return name;
}
