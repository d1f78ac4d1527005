/* The pool: each iteration once, whatever the number of threads, the grain and the scheduler. */
#include "tests/testing.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/threads.h"

enum { MAX_THREADS = 8 };

/* What a run saw; `counts` is plain memory on purpose: a second visit would be a race for the
 * sanitizer to find. */
typedef struct visits {
    unsigned char *counts; /* [n] */
    int64_t n;
    int64_t grain;
    int n_threads;
    atomic_int in_use[MAX_THREADS]; /* calls that hold this thread number now */
    atomic_int n_errors;
} visits;

static void visit(void *arg, int64_t begin, int64_t end, int thread) {
    visits *v = arg;
    if (thread < 0 || thread >= v->n_threads) {
        atomic_fetch_add(&v->n_errors, 1);
        return;
    }
    const bool whole = end - begin == v->grain || end == v->n;
    if (atomic_fetch_add(&v->in_use[thread], 1) != 0 || begin % v->grain != 0 || end <= begin ||
        end > v->n || !whole) {
        atomic_fetch_add(&v->n_errors, 1);
    }
    for (int64_t i = begin; i < end; i++) {
        v->counts[i]++;
    }
    atomic_fetch_sub(&v->in_use[thread], 1);
}

static void check_run(mz_pool *pool, int64_t n, int64_t grain) {
    static unsigned char counts[100003];
    memset(counts, 0, (size_t)n);
    visits v = {.counts = counts, .n = n, .grain = grain, .n_threads = mz_pool_n_threads(pool)};
    mz_pool_run(pool, n, grain, visit, &v);
    assert_int_equal(atomic_load(&v.n_errors), 0);
    for (int64_t i = 0; i < n; i++) {
        if (counts[i] != 1) {
            fail_msg("iteration %lld of %lld (grain %lld) ran %d times", (long long)i, (long long)n,
                     (long long)grain, counts[i]);
        }
    }
}

static void check_sizes(mz_pool *pool) {
    static const int64_t sizes[] = {0, 1, 2, 3, 31, 1000, 100003};
    static const int64_t grains[] = {1, 2, 7, 1000, 100003, INT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizeof grains / sizeof grains[0]; k++) {
            check_run(pool, sizes[i], grains[k]);
        }
    }
}

static mz_context make_context(void) {
    mz_context ctx;
    const mz_context_options options = {.n_threads = 1, .isa = MZ_ISA_AUTO};
    mz_assert_ok(&ctx, mz_context_init(&ctx, &options));
    return ctx;
}

static void each_iteration_once(void **state) {
    (void)state;
    mz_context ctx = make_context();
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        mz_pool *pool = NULL;
        mz_assert_ok(&ctx, mz_pool_create(&ctx, n_threads, &pool));
        assert_int_equal(mz_pool_n_threads(pool), n_threads);
        check_sizes(pool);
        mz_pool_begin(pool);
        check_sizes(pool);
        mz_pool_begin(pool);
        check_run(pool, 1000, 3);
        mz_pool_end(pool);
        check_run(pool, 1000, 3);
        mz_pool_end(pool);
        check_run(pool, 1000, 3);
        mz_pool_destroy(&ctx, pool);
    }
    mz_context_close(&ctx);
}

static void no_pool_runs_here(void **state) {
    (void)state;
    assert_int_equal(mz_pool_n_threads(NULL), 1);
    mz_pool_begin(NULL);
    check_sizes(NULL);
    mz_pool_end(NULL);
}

/* Each run reads what the one before wrote: a chunk that ran late or a write not yet visible
 * changes the sum. */
typedef struct relay {
    int64_t cells[16];
} relay;

static void pass_on(void *arg, int64_t begin, int64_t end, int thread) {
    relay *r = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        r->cells[i] += i + 1;
    }
}

static void many_tiny_runs(void **state) {
    (void)state;
    enum { N_RUNS = 20000 };
    mz_context ctx = make_context();
    for (int n_threads = 2; n_threads <= MAX_THREADS; n_threads *= 2) {
        mz_pool *pool = NULL;
        mz_assert_ok(&ctx, mz_pool_create(&ctx, n_threads, &pool));
        relay r = {{0}};
        mz_pool_begin(pool);
        for (int64_t run = 0; run < N_RUNS; run++) {
            const int64_t n = run % 16 + 1;
            mz_pool_run(pool, n, 1, pass_on, &r);
            assert_int_equal(r.cells[n - 1] % n, 0);
            assert_int_equal(r.cells[0], run + 1);
        }
        mz_pool_end(pool);
        for (int64_t i = 0; i < 16; i++) {
            assert_int_equal(r.cells[i], (i + 1) * ((int64_t)N_RUNS / 16 * (16 - i)));
        }
        mz_pool_destroy(&ctx, pool);
    }
    mz_context_close(&ctx);
}

/* A chunk that waits, for at most 0.1 s, until another one runs too: two meet only on two threads.
 */
typedef struct meeting {
    atomic_int n_inside;
    atomic_bool met;
} meeting;

static void meet(void *arg, int64_t begin, int64_t end, int thread) {
    meeting *m = arg;
    (void)begin;
    (void)end;
    (void)thread;
    atomic_fetch_add(&m->n_inside, 1);
    for (int i = 0; i < 1000 && !atomic_load(&m->met); i++) {
        if (atomic_load(&m->n_inside) >= 2) {
            atomic_store(&m->met, true);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    atomic_fetch_sub(&m->n_inside, 1);
}

/* Whether a worker comes. One attempt may fail: a busy machine may shrink the pool for a while. */
static bool worker_comes(mz_pool *pool, bool in_pass, int pause_ms) {
    for (int attempt = 0; attempt < 20; attempt++) {
        meeting m = {.n_inside = 0};
        (void)nanosleep(&(struct timespec){.tv_nsec = pause_ms * 1000000}, NULL);
        if (in_pass) {
            mz_pool_begin(pool);
        }
        mz_pool_run(pool, 2, 1, meet, &m);
        if (in_pass) {
            mz_pool_end(pool);
        }
        if (atomic_load(&m.met)) {
            return true;
        }
    }
    return false;
}

static void workers_take_part(void **state) {
    (void)state;
    mz_context ctx = make_context();
    for (int n_threads = 2; n_threads <= MAX_THREADS; n_threads += 3) {
        mz_pool *pool = NULL;
        mz_assert_ok(&ctx, mz_pool_create(&ctx, n_threads, &pool));
        for (int pause_ms = 0; pause_ms < 4; pause_ms += 3) { /* awake still, or asleep */
            assert_true(worker_comes(pool, false, pause_ms));
            assert_true(worker_comes(pool, true, pause_ms));
        }
        mz_pool_destroy(&ctx, pool);
    }
    mz_context_close(&ctx);
}

/* Sums that depend on the order of addition: equal bits for any number of threads, since a chunk
 * has its own order. */
typedef struct sums {
    const float *values;
    float *out; /* one per chunk */
    int64_t grain;
} sums;

static void sum_chunk(void *arg, int64_t begin, int64_t end, int thread) {
    const sums *s = arg;
    (void)thread;
    float total = 0;
    for (int64_t i = begin; i < end; i++) {
        total += s->values[i];
    }
    s->out[begin / s->grain] = total;
}

static void results_do_not_depend_on_threads(void **state) {
    (void)state;
    enum { N = 10007, GRAIN = 13, N_CHUNKS = (N + GRAIN - 1) / GRAIN };
    static float values[N];
    static float expected[N_CHUNKS];
    static float actual[N_CHUNKS];
    mz_fill_uniform(values, N, 3, 1.0f);
    mz_pool_run(NULL, N, GRAIN, sum_chunk, &(sums){values, expected, GRAIN});
    mz_context ctx = make_context();
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        mz_pool *pool = NULL;
        mz_assert_ok(&ctx, mz_pool_create(&ctx, n_threads, &pool));
        mz_pool_begin(pool);
        for (int repeat = 0; repeat < 20; repeat++) {
            memset(actual, 0xff, sizeof actual);
            mz_pool_run(pool, N, GRAIN, sum_chunk, &(sums){values, actual, GRAIN});
            assert_memory_equal(actual, expected, sizeof expected);
        }
        mz_pool_end(pool);
        mz_pool_destroy(&ctx, pool);
    }
    mz_context_close(&ctx);
}

/* Several pools, each as large as the machine: threads lose their cores all the time, pools shrink
 * and recover. */
static void burn(void *arg, int64_t begin, int64_t end, int thread) {
    int64_t *out = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        uint64_t x = (uint64_t)i;
        for (int k = 0; k < 20000; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
        }
        out[i] += x != 0;
    }
}

static void *crowd(void *arg) {
    int *n_errors = arg;
    mz_context ctx;
    const mz_context_options options = {.n_threads = mz_cpu_count() + 1, .isa = MZ_ISA_AUTO};
    if (mz_context_init(&ctx, &options) != MZ_OK) {
        *n_errors = -1;
        return NULL;
    }
    enum { N = 24, N_PASSES = 25, N_RUNS = 20 };
    int64_t counts[N] = {0};
    for (int pass = 0; pass < N_PASSES; pass++) {
        mz_pool_begin(ctx.pool);
        for (int run = 0; run < N_RUNS; run++) {
            mz_pool_run(ctx.pool, N, 1 + run % 3, burn, counts);
        }
        mz_pool_end(ctx.pool);
    }
    for (int i = 0; i < N; i++) {
        *n_errors += counts[i] != N_PASSES * N_RUNS;
    }
    mz_context_close(&ctx);
    return NULL;
}

static void pools_in_a_crowd(void **state) {
    (void)state;
    enum { N_POOLS = 3 };
    pthread_t threads[N_POOLS];
    int n_errors[N_POOLS] = {0};
    for (int i = 0; i < N_POOLS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, crowd, &n_errors[i]), 0);
    }
    for (int i = 0; i < N_POOLS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(n_errors[i], 0);
    }
}

static void *hog(void *arg) {
    const atomic_bool *stop = arg;
    while (!atomic_load(stop)) {
    }
    return NULL;
}

/* Workers that left while others had the cores are back when the cores are free. */
static void shrunken_pool_recovers(void **state) {
    (void)state;
    enum { N = 16 };
    mz_context ctx = make_context();
    mz_pool *pool = NULL;
    mz_assert_ok(&ctx, mz_pool_create(&ctx, 2, &pool));
    atomic_bool stop = false;
    pthread_t hogs[MAX_THREADS];
    const int n_hogs = mz_cpu_count() < MAX_THREADS ? mz_cpu_count() : MAX_THREADS;
    for (int i = 0; i < n_hogs; i++) {
        assert_int_equal(pthread_create(&hogs[i], NULL, hog, &stop), 0);
    }
    int64_t counts[N] = {0};
    for (int pass = 0; pass < 50; pass++) {
        mz_pool_begin(pool);
        for (int run = 0; run < 10; run++) {
            mz_pool_run(pool, N, 1, burn, counts);
        }
        mz_pool_end(pool);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < n_hogs; i++) {
        assert_int_equal(pthread_join(hogs[i], NULL), 0);
    }
    assert_true(worker_comes(pool, true, 0));
    for (int i = 0; i < N; i++) {
        assert_int_equal(counts[i], 500);
    }
    mz_pool_destroy(&ctx, pool);
    mz_context_close(&ctx);
}

static void create_and_destroy(void **state) {
    (void)state;
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
    mz_context ctx = make_context();
    ctx.allocator = allocator;
    for (int i = 0; i < 300; i++) {
        mz_pool *pool = NULL;
        mz_assert_ok(&ctx, mz_pool_create(&ctx, 1 + i % MAX_THREADS, &pool));
        if (i % 3 == 1) {
            check_run(pool, 50, 1);
        }
        mz_pool_destroy(&ctx, pool);
    }
    assert_int_equal(failing.n_live, 0);
    mz_pool *untouched = NULL;
    assert_int_equal(mz_pool_create(&ctx, 0, &untouched), MZ_ERR_ARG);
    failing.fail_at = failing.n_calls + 1;
    assert_int_equal(mz_pool_create(&ctx, 2, &untouched), MZ_ERR_NOMEM);
    assert_null(untouched);
    mz_pool_destroy(&ctx, NULL);
    mz_context_close(&ctx);
}

static void note_signals(void *arg, int64_t begin, int64_t end, int thread) {
    atomic_int *n_open = arg;
    (void)begin;
    (void)end;
    sigset_t blocked;
    if (thread > 0 && (pthread_sigmask(SIG_BLOCK, NULL, &blocked) != 0 ||
                       sigismember(&blocked, SIGINT) != 1 || sigismember(&blocked, SIGTERM) != 1)) {
        atomic_fetch_add(n_open, 1);
    }
    (void)sched_yield();
}

/* A signal goes to the program's own thread, whose mask is as before. */
static void signals_are_for_the_caller(void **state) {
    (void)state;
    mz_context ctx = make_context();
    sigset_t mask;
    sigset_t before;
    sigset_t after;
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, &before), 0);
    mz_pool *pool = NULL;
    mz_assert_ok(&ctx, mz_pool_create(&ctx, 3, &pool));
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
    for (int sig = 1; sig < 32; sig++) {
        assert_int_equal(sigismember(&after, sig), sig == SIGUSR2);
    }
    atomic_int n_open = 0;
    mz_pool_run(pool, 1000, 1, note_signals, &n_open);
    assert_int_equal(atomic_load(&n_open), 0);
    mz_pool_destroy(&ctx, pool);
    mz_context_close(&ctx);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Address space for a few stacks, then no more. */
static void refused_threads_are_an_error(void **state) {
    (void)state;
#ifdef SANITIZED
    print_message("skipped: a sanitizer's own memory does not survive a limit on address space\n");
    skip();
#else
    mz_failing_allocator failing;
    const mz_allocator allocator = mz_failing_allocator_init(&failing, 0);
    mz_context ctx = make_context();
    ctx.allocator = allocator;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    long n_pages = 0;
    assert_int_equal(fscanf(f, "%ld", &n_pages), 1);
    assert_int_equal(fclose(f), 0);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit tight = before;
    tight.rlim_cur = (rlim_t)n_pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)64 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    mz_pool *pool = NULL;
    const mz_status status = mz_pool_create(&ctx, 1000, &pool);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, MZ_ERR_IO);
    assert_non_null(strstr(ctx.error.message, "thread"));
    assert_null(pool);
    assert_int_equal(failing.n_live, 0);
    mz_assert_ok(&ctx, mz_pool_create(&ctx, 3, &pool));
    check_run(pool, 100, 1);
    mz_pool_destroy(&ctx, pool);
    mz_context_close(&ctx);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_iteration_once),
        cmocka_unit_test(no_pool_runs_here),
        cmocka_unit_test(many_tiny_runs),
        cmocka_unit_test(workers_take_part),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(pools_in_a_crowd),
        cmocka_unit_test(shrunken_pool_recovers),
        cmocka_unit_test(create_and_destroy),
        cmocka_unit_test(signals_are_for_the_caller),
        cmocka_unit_test(refused_threads_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
