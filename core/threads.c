#include "core/threads.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How a run works.
 *
 * The caller describes the loop in plain members of the pool, then publishes it by storing the
 * number of chunks in `n_untaken`. A thread takes a chunk by counting `n_untaken` down, and reads
 * the description only after it got one: the run cannot end before that chunk is finished, so the
 * description cannot change under it. A thread that comes late finds 0, or chunks of a later run,
 * and both are right: nothing ties it to the run it was woken for. `n_unfinished` counts chunks not
 * yet done; the caller waits for it, that is only for chunks that somebody holds.
 *
 * A thread with nothing to do spins, then parks. Each thread watches how much of its time it was
 * ready to run and had no core, because another process had it. A thread that stands still with a
 * chunk in its hands holds up all the others, at each run anew; so a worker that saw it happen
 * leaves the pool for some tens of milliseconds, and when the caller saw it, it sends a worker
 * away: there is a core for each of the rest then. */

enum {
    LINE_BYTES = 64,
    SPINS_PER_CLOCK = 16,      /* pauses between two looks at the clock */
    SPIN_NS = 50000,           /* then an idle thread parks */
    WATCH_NS = 1000000,        /* shortest time between two looks at the time lost */
    LOST_NS = 200000,          /* time without a core in one watch that is noticeable, */
    LOST_SHARE = 4,            /* and it must be more than 1 / LOST_SHARE of that watch */
    ABSENCE_MIN_NS = 20000000, /* first absence of a worker; */
    ABSENCE_MAX_NS =
        160000000, /* it doubles up to this while the reason recurs soon after the return */
};

/* Where one thread sleeps and others wake it. */
typedef struct parker {
    atomic_uint asleep; /* 1: asleep or about to be; the futex word */
} parker;

/* What a thread had at its last look at the time lost. Its own. */
typedef struct watch {
    int64_t at_ns;        /* time of that look */
    int64_t cpu_ns;       /* processor time used until then */
    int64_t n_switches;   /* times another thread was given the core */
    int64_t parked_ns;    /* time spent parked since that look */
    int64_t pause_at_ns;  /* while paused: time and */
    int64_t pause_cpu_ns; /* processor time at which the pause began */
} watch;

/* A thread of the pool. Aligned so that no two share a cache line. */
typedef struct pool_worker {
    alignas(LINE_BYTES) mz_pool *pool;
    int thread; /* number passed to tasks */
    parker parker;
    atomic_int cpu;                    /* where it runs chunks; -1 while it does not */
    atomic_bool absent;                /* takes no chunks and parks at once; ended by the caller */
    atomic_int_least64_t absence_ns;   /* length of the last absence; 0: none yet */
    atomic_int_least64_t return_at_ns; /* its end */
    pthread_t handle;
} pool_worker;

struct mz_pool {
    /* The loop: written by the caller while no chunk exists. */
    alignas(LINE_BYTES) mz_task task;
    void *arg;
    int64_t n;
    int64_t grain;
    int64_t n_chunks;
    alignas(LINE_BYTES) atomic_int_least64_t n_untaken;
    alignas(LINE_BYTES) atomic_int_least64_t n_unfinished;
    parker caller;
    alignas(LINE_BYTES) atomic_bool in_pass;
    atomic_bool stop;
    atomic_int caller_cpu; /* where the caller began this run */
    int64_t spin_ns;       /* 0 in a pool with more threads than cores */
    /* The caller's own: */
    int depth;     /* mz_pool_begin less mz_pool_end */
    int n_workers; /* started */
    watch watch;
    pool_worker workers[];
};

static int64_t clock_ns(clockid_t clock) {
    struct timespec t = {0};
    if (clock_gettime(clock, &t) != 0) {
        return -1;
    }
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* Tells the processor that this is a spinning loop: saves power, and the sibling thread of the core
 * gets more of it. */
static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Announces sleep. The caller of this then looks once more whether there is a reason to stay awake:
 * whoever gives a reason does so before looking at `asleep`, and both are sequentially consistent,
 * so one of the two sees the other. */
static void park_prepare(parker *p) {
    atomic_store(&p->asleep, 1);
}

static void park_cancel(parker *p) {
    atomic_store(&p->asleep, 0);
}

/* Sleeps until woken. */
static void park(parker *p) {
    while (atomic_load(&p->asleep) != 0) {
        (void)syscall(SYS_futex, &p->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void unpark(parker *p) {
    if (atomic_load(&p->asleep) != 0 && atomic_exchange(&p->asleep, 0) != 0) {
        (void)syscall(SYS_futex, &p->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/* Takes one chunk. Returns how many were left before it, 0 when there was none. */
static int64_t take_chunk(mz_pool *pool) {
    int64_t n = atomic_load_explicit(&pool->n_untaken, memory_order_relaxed);
    while (n > 0 && !atomic_compare_exchange_weak_explicit(
                        &pool->n_untaken, &n, n - 1, memory_order_acquire, memory_order_relaxed)) {
    }
    return n;
}

static void run_chunk(const mz_pool *pool, int64_t index, int thread) {
    const int64_t begin = index * pool->grain;
    const int64_t end = pool->n - begin > pool->grain ? begin + pool->grain : pool->n;
    pool->task(pool->arg, begin, end, thread);
}

/* Runs chunks until none is left. Returns how many this thread ran. */
static int64_t run_chunks(mz_pool *pool, int thread) {
    int64_t n_run = 0;
    for (int64_t left = take_chunk(pool); left > 0; left = take_chunk(pool)) {
        run_chunk(pool, pool->n_chunks - left, thread);
        n_run++;
    }
    return n_run;
}

static void watch_reset(watch *w, int64_t now) {
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_THREAD, &usage);
    *w = (watch){
        .at_ns = now, .cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), .n_switches = usage.ru_nivcsw};
}

/* What happens between the two does not count. */
static void watch_pause(watch *w) {
    w->pause_at_ns = now_ns();
    w->pause_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void watch_continue(watch *w) {
    w->at_ns += now_ns() - w->pause_at_ns;
    w->cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - w->pause_cpu_ns;
}

/* Returns whether the calling thread lost its core for a noticeable part of the time since the last
 * look. Time that it slept, waiting for a page from the disk for instance, is not lost: then the
 * system did not switch it away. */
static bool watch_look(watch *w) {
    const int64_t now = now_ns();
    const int64_t passed_ns = now - w->at_ns;
    if (passed_ns < WATCH_NS) {
        return false;
    }
    const watch before = *w;
    watch_reset(w, now);
    const int64_t lost_ns = passed_ns - before.parked_ns - (w->cpu_ns - before.cpu_ns);
    return w->n_switches > before.n_switches && lost_ns > LOST_NS &&
           lost_ns > passed_ns / LOST_SHARE;
}

/* Sends a worker away, longer than the last time if that was just now. */
static void worker_leave(pool_worker *worker) {
    const int64_t now = now_ns();
    const int64_t last_ns = atomic_load(&worker->absence_ns);
    const bool again = last_ns > 0 && now - atomic_load(&worker->return_at_ns) < last_ns;
    const int64_t doubled = last_ns < ABSENCE_MAX_NS ? last_ns * 2 : ABSENCE_MAX_NS;
    const int64_t absence_ns = again ? doubled : ABSENCE_MIN_NS;
    atomic_store(&worker->absence_ns, absence_ns);
    atomic_store(&worker->return_at_ns, now + absence_ns);
    atomic_store(&worker->absent, true);
}

static bool worker_has_work(const pool_worker *worker) {
    const mz_pool *pool = worker->pool;
    return atomic_load(&pool->stop) ||
           (!atomic_load(&worker->absent) && atomic_load(&pool->n_untaken) > 0);
}

/* Spins while that may pay: in a pass, and not on the core that the caller needs. Returns whether
 * there is work now. */
static bool worker_spin(const pool_worker *worker) {
    const mz_pool *pool = worker->pool;
    const int64_t end_ns = now_ns() + pool->spin_ns;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (worker_has_work(worker)) {
                return true;
            }
            pause_cpu();
        }
    } while (atomic_load(&pool->in_pass) && !atomic_load(&worker->absent) &&
             atomic_load(&pool->caller_cpu) != sched_getcpu() && now_ns() < end_ns);
    return false;
}

/* Moves off the caller's core: there the two would only take turns. In a virtual machine the kernel
 * takes a halted processor for one that the host has taken away, and wakes a worker on the caller's
 * although another one is idle; once moved, it stays. */
static void worker_move_off(int cpu) {
    cpu_set_t allowed;
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0) {
        (void)sched_setaffinity(0, sizeof allowed, &allowed);
    }
}

static void worker_sleep(pool_worker *worker, watch *w) {
    const int64_t begin_ns = now_ns();
    park_prepare(&worker->parker);
    if (worker_has_work(worker)) {
        park_cancel(&worker->parker);
    }
    park(&worker->parker);
    w->parked_ns += now_ns() - begin_ns;
}

/* Takes part in the run that is going on, if there is one. */
static void worker_join_run(pool_worker *worker, watch *w) {
    mz_pool *pool = worker->pool;
    if (atomic_load(&worker->absent) || atomic_load(&pool->n_untaken) == 0) {
        return;
    }
    int cpu = sched_getcpu();
    if (pool->spin_ns > 0 && cpu >= 0 && cpu == atomic_load(&pool->caller_cpu)) {
        worker_move_off(cpu);
        cpu = sched_getcpu();
    }
    atomic_store(&worker->cpu, cpu);
    const int64_t n_run = run_chunks(pool, worker->thread);
    atomic_store(&worker->cpu, -1);
    if (n_run == 0) {
        return;
    }
    if (atomic_fetch_sub(&pool->n_unfinished, n_run) == n_run) {
        unpark(&pool->caller);
    }
    if (watch_look(w)) {
        worker_leave(worker);
    }
}

static void *worker_main(void *arg) {
    pool_worker *worker = arg;
    mz_pool *pool = worker->pool;
    watch w;
    watch_reset(&w, now_ns());
    while (!atomic_load(&pool->stop)) {
        worker_join_run(worker, &w);
        if (!worker_spin(worker)) {
            worker_sleep(worker, &w);
        }
    }
    return NULL;
}

/* Starts a worker with all signals blocked: they are for the program's own threads. Returns an
 * errno value. */
static int start_worker(pool_worker *worker) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    int code = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (code != 0) {
        return code;
    }
    code = pthread_create(&worker->handle, NULL, worker_main, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

mz_status mz_pool_create(mz_context *ctx, int n_threads, mz_pool **out) {
    if (n_threads < 1) {
        return mz_fail(&ctx->error, MZ_ERR_ARG, "thread pool: %d threads, at least 1 is needed",
                       n_threads);
    }
    const size_t bytes = sizeof(mz_pool) + ((size_t)n_threads - 1) * sizeof(pool_worker);
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, bytes, "thread pool", &memory));
    mz_pool *pool = memory;
    atomic_init(&pool->n_untaken, 0);
    atomic_init(&pool->n_unfinished, 0);
    atomic_init(&pool->caller.asleep, 0);
    atomic_init(&pool->caller_cpu, -1);
    atomic_init(&pool->in_pass, false);
    atomic_init(&pool->stop, false);
    /* With more threads than cores, spinning takes the core from the thread that is waited for. */
    pool->spin_ns = n_threads <= mz_cpu_count() ? SPIN_NS : 0;
    for (int i = 0; i < n_threads - 1; i++) {
        pool_worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->thread = i + 1;
        atomic_init(&worker->parker.asleep, 0);
        atomic_init(&worker->cpu, -1);
        atomic_init(&worker->absent, false);
        atomic_init(&worker->absence_ns, 0);
        atomic_init(&worker->return_at_ns, 0);
        const int code = start_worker(worker);
        if (code != 0) {
            mz_pool_destroy(ctx, pool);
            return mz_fail(&ctx->error, MZ_ERR_IO, "thread pool: cannot start thread %d of %d: %s",
                           i + 2, n_threads, strerror(code));
        }
        pool->n_workers++;
    }
    watch_reset(&pool->watch, now_ns());
    watch_pause(&pool->watch);
    *out = pool;
    return MZ_OK;
}

void mz_pool_destroy(mz_context *ctx, mz_pool *pool) {
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->stop, true);
    for (int i = 0; i < pool->n_workers; i++) {
        unpark(&pool->workers[i].parker);
    }
    for (int i = 0; i < pool->n_workers; i++) {
        (void)pthread_join(pool->workers[i].handle, NULL);
    }
    mz_free(ctx, pool);
}

int mz_pool_n_threads(const mz_pool *pool) {
    return pool != NULL ? pool->n_workers + 1 : 1;
}

void mz_pool_begin(mz_pool *pool) {
    if (pool != NULL && pool->depth++ == 0) {
        atomic_store(&pool->in_pass, true);
        watch_continue(&pool->watch);
    }
}

void mz_pool_end(mz_pool *pool) {
    if (pool == NULL) {
        return;
    }
    assert(pool->depth > 0);
    if (--pool->depth == 0) {
        atomic_store(&pool->in_pass, false);
        watch_pause(&pool->watch);
    }
}

/* Wakes as many workers as can get a chunk beside the caller; calls absent ones back whose time is
 * over. */
static void wake_workers(mz_pool *pool, int64_t n_chunks) {
    int64_t n_wanted = n_chunks - 1;
    for (int i = 0; i < pool->n_workers && n_wanted > 0; i++) {
        pool_worker *worker = &pool->workers[i];
        if (atomic_load(&worker->absent)) {
            if (now_ns() < atomic_load(&worker->return_at_ns)) {
                continue;
            }
            atomic_store(&worker->absent, false);
        }
        unpark(&worker->parker);
        n_wanted--;
    }
}

/* The caller lost its core: one worker less, so that there is one for it. */
static void send_one_away(mz_pool *pool) {
    for (int i = pool->n_workers - 1; i >= 0; i--) {
        pool_worker *worker = &pool->workers[i];
        if (!atomic_load(&worker->absent)) {
            worker_leave(worker);
            return;
        }
    }
}

/* Whether a worker holds a chunk that cannot go on while the caller occupies the core. */
static bool caller_is_in_the_way(const mz_pool *pool) {
    const int cpu = sched_getcpu();
    for (int i = 0; i < pool->n_workers; i++) {
        if (cpu >= 0 && atomic_load(&pool->workers[i].cpu) == cpu) {
            return true;
        }
    }
    return false;
}

/* Returns when no chunk is unfinished: spins, then sleeps. */
static void wait_for_chunks(mz_pool *pool) {
    const int64_t begin_ns = now_ns();
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load(&pool->n_unfinished) == 0) {
                return;
            }
            pause_cpu();
        }
    } while (now_ns() - begin_ns < pool->spin_ns && !caller_is_in_the_way(pool));
    const int64_t parked_at_ns = now_ns();
    while (atomic_load(&pool->n_unfinished) > 0) {
        park_prepare(&pool->caller);
        if (atomic_load(&pool->n_unfinished) == 0) {
            park_cancel(&pool->caller);
        }
        park(&pool->caller);
    }
    if (pool->depth > 0) {
        pool->watch.parked_ns += now_ns() - parked_at_ns;
    }
}

static void run_alone(int64_t n, int64_t grain, mz_task task, void *arg) {
    int64_t begin = 0;
    while (begin < n) {
        const int64_t end = n - begin > grain ? begin + grain : n;
        task(arg, begin, end, 0);
        begin = end;
    }
}

void mz_pool_run(mz_pool *pool, int64_t n, int64_t grain, mz_task task, void *arg) {
    const int64_t step = grain > 0 ? grain : 1;
    if (pool == NULL || pool->n_workers == 0 || n <= step) {
        run_alone(n, step, task, arg);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    pool->n = n;
    pool->grain = step;
    pool->n_chunks = n / step + (n % step != 0);
    const int cpu = sched_getcpu();
    if (cpu != atomic_load(&pool->caller_cpu)) { /* workers spin on that cache line */
        atomic_store(&pool->caller_cpu, cpu);
    }
    atomic_store(&pool->n_unfinished, pool->n_chunks);
    atomic_store(&pool->n_untaken, pool->n_chunks);
    wake_workers(pool, pool->n_chunks);
    const int64_t n_run = run_chunks(pool, 0);
    if (atomic_fetch_sub(&pool->n_unfinished, n_run) > n_run) {
        wait_for_chunks(pool);
    }
    if (pool->depth > 0 && watch_look(&pool->watch)) {
        send_one_away(pool);
    }
}
