// The scheduler: each CUDA thread of a block is a fiber; blocks run one after the other on the calling thread.
// Build this file WITHOUT -fsanitize=thread (its own bookkeeping is not under test); define CUDASIM_TSAN when the
// kernels are built with it, CUDASIM_ASAN when they are built with ASan.
#include "sim_internal.h"

#include <cstdlib>
#include <vector>

#include <sys/mman.h>

#if defined(CUDASIM_TSAN)
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void *);
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
}
#endif
#if defined(CUDASIM_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void **, const void *, size_t);
void __sanitizer_finish_switch_fiber(void *, const void **, size_t *);
}
#endif
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
extern "C" char __start_cudasim_smem[] __attribute__((weak)),
    __stop_cudasim_smem[] __attribute__((weak));

// ---------------------------------------------------------------- fiber switch
#if defined(__x86_64__)
extern "C" void cudasim_swap(void **save, void *load);
asm(".text\n.globl cudasim_swap\n.type cudasim_swap,@function\ncudasim_swap:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nmovq "
    "%rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size "
    "cudasim_swap,.-cudasim_swap\n");
#else
#error "port cudasim_swap (or use ucontext) for this architecture"
#endif

namespace cudasim {
#if defined(CUDASIM_ASAN) || defined(CUDASIM_TSAN)
static const size_t STACK = 256 << 10;
#else
static const size_t STACK = 128 << 10;
#endif
enum State : unsigned char { RUN, WAIT_BLOCK, WAIT_WARP, DONE };
struct Fiber : Thread {
    void *sp;
    State st;
    bool started;
    const char *file;
    int line;
    void *tsan;
    void *fake;
    char *stack;
    std::vector<std::vector<std::tuple<void *, std::vector<char>>>> *cp;
};
struct Warp {
    unsigned arrived, mask;
    int op;
    unsigned gen;
    const char *file;
    int line;
    alignas(16) unsigned char buf[2][32 * 64];
    char hb[2];
};
Thread *self;
Stats stats;
static Fiber *cur;
static void *main_sp;
static void *main_tsan;
static void *main_fake;
static const void *main_stack;
static size_t main_stack_n;
static Fiber fibers[1024];
static Warp warps[32];
static char hb_block[2], hb_launch[2];
static int nthreads, ndone, nwait;
static unsigned block_gen;
static int red_val[3];
static const std::function<void()> *body;
static void *dyn;
static size_t dyn_n;
static int sched_mode;
static unsigned sched_seed;
static bool in_kernel;
static char *stacks;
static size_t stacks_used;
static const size_t STACKS_N = (size_t)(1 << 14);
cudaError_t sticky;
static const char *kernel_name = "kernel";

void fail(const char *what, const char *file, int line) {
    fprintf(stderr, "cudasim: %s at %s:%d", what, file, line);
    if (in_kernel)
        fprintf(stderr, " [block %u,%u,%u thread %u,%u,%u]", blockIdx.x, blockIdx.y, blockIdx.z,
                self->tid.x, self->tid.y, self->tid.z);
    fprintf(stderr, "\n");
    if (getenv("CUDASIM_KEEP_GOING")) {
        sticky = cudaErrorLaunchFailure;
        return;
    }
    abort();
}
static inline void enter(Fiber *f) {
    cur = f;
    self = f;
    threadIdx = f->tid;
    stats.switches++;
}
static void finish_switch(void *fake) {
#if defined(CUDASIM_ASAN)
    const void *b;
    size_t n;
    __sanitizer_finish_switch_fiber(fake, &b, &n);
    if (!main_stack_n) {
        main_stack = b;
        main_stack_n = n;
    }
#else
    (void)fake;
#endif
}
static void yield() { // fiber -> scheduler
    Fiber *f = cur;
#if defined(CUDASIM_TSAN)
    __tsan_switch_to_fiber(main_tsan, 1);
#endif
#if defined(CUDASIM_ASAN)
    __sanitizer_start_switch_fiber(f->st == DONE ? nullptr : &f->fake, main_stack, main_stack_n);
#endif
    cudasim_swap(&f->sp, main_sp);
    finish_switch(f->fake);
}
extern "C" void cudasim_entry() {
    finish_switch(nullptr);
#if defined(CUDASIM_TSAN)
    __tsan_acquire(&hb_launch[0]);
#endif
    (*body)();
    if (cur->cp) {
        if (cur->cp->size() > 1 || !cur->cp->back().empty())
            fail("thread ended with cp.async still in flight", kernel_name, 0);
        delete cur->cp;
        cur->cp = nullptr;
    }
#if defined(CUDASIM_TSAN)
    __tsan_release(&hb_launch[1]);
#endif
    cur->st = DONE;
    ndone++;
    yield();
    __builtin_trap();
}
static void resume(Fiber *f) {
    if (!f->started) {
        f->started = true;
        size_t colour = (size_t)((f->warp * 32 + f->lane) & 127) *
                        448; // without it all stack tops share a few cache sets
        void **s = (void **)(f->stack + STACK - (colour & ~(size_t)15));
        *--s = nullptr;
        *--s = (void *)cudasim_entry;
        for (int i = 0; i < 6; i++)
            *--s = nullptr;
        f->sp = s;
#if defined(CUDASIM_TSAN)
        f->tsan = __tsan_create_fiber(0);
#endif
    }
    enter(f);
#if defined(CUDASIM_TSAN)
    __tsan_switch_to_fiber(f->tsan, 1);
#endif
#if defined(CUDASIM_ASAN)
    __sanitizer_start_switch_fiber(&main_fake, f->stack, STACK);
#endif
    cudasim_swap(&main_sp, f->sp);
#if defined(CUDASIM_ASAN)
    const void *b;
    size_t n;
    __sanitizer_finish_switch_fiber(main_fake, &b, &n);
#endif
}
static void hb_release(char *c) {
    (void)c;
#if defined(CUDASIM_TSAN)
    __tsan_release(c);
#endif
}
static void hb_acquire(char *c) {
    (void)c;
#if defined(CUDASIM_TSAN)
    __tsan_acquire(c);
#endif
}
void sync_block(const char *file, int line) {
    Fiber *f = cur;
    unsigned g = block_gen & 1;
    hb_release(&hb_block[g]);
    f->st = WAIT_BLOCK;
    f->file = file;
    f->line = line;
    nwait++;
    yield();
    hb_acquire(&hb_block[g]);
}
int sync_block_reduce(int pred, int op, const char *file, int line) {
    sync_block(file, line); // everyone is past older reads of red_val
    if (cur == &fibers[0]) {
        red_val[0] = 0;
        red_val[1] = 1;
        red_val[2] = 0;
    }
    sync_block(file, line);
    red_val[0] |= pred;
    red_val[1] &= pred;
    red_val[2] += pred;
    sync_block(file, line);
    return red_val[op];
}
const unsigned char *collective(unsigned mask, int op, const void *mine, size_t n, const char *file,
                                int line) {
    Fiber *f = cur;
    Warp &w = warps[f->warp];
    unsigned bit = 1u << f->lane;
    stats.collectives++;
    if (!(mask & bit))
        fail("lane calls a warp collective whose mask leaves it out", file, line);
    if (!w.arrived) {
        w.mask = mask;
        w.op = op;
        w.file = file;
        w.line = line;
    } else if (w.mask != mask || w.op != op) {
        char m[200];
        snprintf(m, sizeof m,
                 "divergent warp collective: this lane differs in mask or kind from the lanes "
                 "waiting at %s:%d",
                 w.file, w.line);
        fail(m, file, line);
    }
    unsigned g = w.gen & 1;
    w.arrived |= bit;
    {
        volatile unsigned char *to = w.buf[g] + 64 * f->lane;
        const unsigned char *from = (const unsigned char *)mine;
        size_t i = 0; // no memcpy: TSan intercepts it
        for (; i + 4 <= n; i += 4)
            *(volatile uint32_t *)(to + i) = *(const uint32_t *)(from + i);
        for (; i < n; i++)
            to[i] = from[i];
    }
    if (op == OP_SYNCWARP)
        hb_release(&w.hb[g]); // shuffles order nothing but their own values
    unsigned alive = 0;
    int base = f->warp * 32;
    for (int i = 0; i < 32 && base + i < nthreads; i++)
        if (fibers[base + i].st != DONE)
            alive |= 1u << i;
    if ((mask & ~alive) && !getenv("CUDASIM_LAX_MASK"))
        fail("warp collective names a lane that has exited or does not exist", file, line);
    if ((w.arrived & alive) == (mask & alive)) {
        for (int i = 0; i < 32; i++)
            if ((w.arrived >> i) & 1)
                fibers[base + i].st = RUN;
        w.arrived = 0;
        w.gen++;
    } else {
        f->st = WAIT_WARP;
        f->file = file;
        f->line = line;
        yield();
    }
    if (op == OP_SYNCWARP)
        hb_acquire(&w.hb[g]);
    return w.buf[g];
}
unsigned active_mask() {
    unsigned m = 0;
    int b = cur->warp * 32;
    for (int i = 0; i < 32 && b + i < nthreads; i++)
        if (fibers[b + i].st != DONE)
            m |= 1u << i;
    return m;
}
void *dyn_smem() {
    return dyn;
}
void cp_async(void *d, const void *s, size_t n) {
    if (!cur->cp)
        cur->cp = new std::vector<std::vector<std::tuple<void *, std::vector<char>>>>(1);
    cur->cp->back().emplace_back(d, std::vector<char>((const char *)s, (const char *)s + n));
}
void cp_async_commit() {
    if (cur->cp)
        cur->cp->emplace_back();
    else
        cur->cp = new std::vector<std::vector<std::tuple<void *, std::vector<char>>>>(1);
}
void cp_async_wait(int pending) {
    if (!cur->cp)
        return;
    auto &v = *cur->cp;
    while ((int)v.size() - 1 > pending) {
        for (auto &t : v[0])
            std::memcpy(std::get<0>(t), std::get<1>(t).data(), std::get<1>(t).size());
        v.erase(v.begin());
    }
}
void set_schedule(int m, unsigned s) {
    sched_mode = m;
    sched_seed = s ? s : 1;
}

#if defined(CUDASIM_TSAN)
// Shared memory is the same bytes in every block. Mapping the pages anew makes TSan forget the last block's accesses
// without ordering the blocks' accesses to global memory. The bytes that share the first and last page are kept.
__attribute__((section("cudasim_smem"), aligned(4096), used)) static char smem_align[64];
static void fresh(char *b, char *e) {
    if (b >= e)
        return;
    char *pe = (char *)(((uintptr_t)e + 4095) & ~(uintptr_t)4095);
    size_t tail = (size_t)(pe - e);
    char keep[4096]; // on the stack: .bss may share the last page
    for (size_t i = 0; i < tail; i++)
        ((volatile char *)keep)[i] = e[i];
    if (mmap(b, (size_t)(pe - b), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) != b)
        abort();
    for (size_t i = 0; i < tail; i++)
        ((volatile char *)e)[i] = keep[i];
}
#endif
static void run_block() {
    static int order[32], lanes[32];
    int nw = (nthreads + 31) / 32;
    ndone = nwait = 0;
    block_gen = 0;
    stats.blocks++;
    stats.threads += nthreads;
#if defined(CUDASIM_TSAN)
    fresh(__start_cudasim_smem, __stop_cudasim_smem);
    if (dyn_n)
        fresh((char *)dyn, (char *)dyn + ((dyn_n + 4095) & ~(size_t)4095));
#endif
    if (__start_cudasim_smem)
        std::memset(__start_cudasim_smem, 0xff,
                    (size_t)(__stop_cudasim_smem - __start_cudasim_smem));
#if defined(CUDASIM_ASAN)
    dyn = nullptr;
    if (dyn_n && posix_memalign(&dyn, 128, dyn_n))
        abort();
#endif
    if (dyn_n)
        std::memset(dyn, 0xff, dyn_n);
    for (int i = 0; i < nthreads; i++) {
        Fiber &f = fibers[i];
        f.tid = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        f.lane = i & 31;
        f.warp = i >> 5;
        f.st = RUN;
        f.started = false;
        f.cp = nullptr;
#if defined(CUDASIM_TSAN)
        if (stacks_used >= STACKS_N) {
            fprintf(stderr, "cudasim: grid too large for a TSan run\n");
            abort();
        }
        f.stack =
            stacks + STACK * stacks_used++; // never reused inside a launch: TSan would report it
#else
        f.stack = stacks + STACK * i;
#endif
    }
    for (int w = 0; w < nw; w++) {
        warps[w].arrived = 0;
        warps[w].gen = 0;
    }
#if defined(CUDASIM_TSAN)
    __tsan_release(&hb_launch[0]);
#endif
    auto rnd = [] {
        sched_seed = sched_seed * 1664525u + 1013904223u;
        return sched_seed >> 8;
    };
    while (ndone < nthreads) {
        bool ran = false;
        for (int i = 0; i < nw; i++)
            order[i] = sched_mode == 1 ? nw - 1 - i : i;
        if (sched_mode == 2)
            for (int i = nw - 1; i > 0; i--)
                std::swap(order[i], order[rnd() % (unsigned)(i + 1)]);
        for (int wi = 0; wi < nw; wi++) {
            int base = order[wi] * 32, n = std::min(32, nthreads - base);
            bool again = true;
            for (int i = 0; i < n; i++)
                lanes[i] = sched_mode == 1 ? n - 1 - i : i;
            if (sched_mode == 2)
                for (int i = n - 1; i > 0; i--)
                    std::swap(lanes[i], lanes[rnd() % (unsigned)(i + 1)]);
            while (again) {
                again = false;
                for (int i = 0; i < n; i++) {
                    Fiber *f = &fibers[base + lanes[i]];
                    if (f->st == RUN) {
                        resume(f);
                        ran = again = true;
                    }
                }
            }
        }
        if (nwait && nwait + ndone == nthreads) {
            const Fiber *a = nullptr;
            for (int i = 0; i < nthreads; i++)
                if (fibers[i].st == WAIT_BLOCK) {
                    if (!a)
                        a = &fibers[i];
                    else if (a->line != fibers[i].line || std::strcmp(a->file, fibers[i].file)) {
                        char m[256];
                        snprintf(
                            m, sizeof m,
                            "divergent barrier: thread %u waits at line %d, thread %u at line %d",
                            a->tid.x, a->line, fibers[i].tid.x, fibers[i].line);
                        fail(m, fibers[i].file, fibers[i].line);
                    }
                }
            if (ndone) {
                char m[200];
                snprintf(m, sizeof m, "%d thread(s) exited while %d wait at __syncthreads", ndone,
                         nwait);
                if (getenv("CUDASIM_STRICT_EXIT"))
                    fail(m, a->file, a->line);
            }
            for (int i = 0; i < nthreads; i++)
                if (fibers[i].st == WAIT_BLOCK)
                    fibers[i].st = RUN;
            nwait = 0;
            block_gen++;
        } else if (!ran) {
            for (int i = 0; i < nthreads; i++)
                if (fibers[i].st != DONE)
                    fprintf(stderr, "  thread %d (warp %d lane %d) waits for %s at %s:%d\n", i,
                            fibers[i].warp, fibers[i].lane,
                            fibers[i].st == WAIT_BLOCK ? "the block" : "its warp", fibers[i].file,
                            fibers[i].line),
                        i += 31;
            self = &fibers[0];
            fail("deadlock", "block", 0);
            break;
        }
    }
#if defined(CUDASIM_TSAN)
    for (int i = 0; i < nthreads; i++)
        __tsan_destroy_fiber(fibers[i].tsan);
#endif
#if defined(CUDASIM_ASAN)
    free(dyn);
#endif
}

void start_fibers() {
    if (stacks) {
        return;
    }
    if (const char *order = getenv("CUDASIM_ORDER")) { // forward | reverse | SEED
        const bool reverse = order[0] == 'r' && order[1] == 'e';
        set_schedule(reverse ? 1 : order[0] == 'f' ? 0 : 2, (unsigned)atoi(order));
    }
#if defined(CUDASIM_TSAN)
    const size_t n = STACKS_N;
#else
    const size_t n = 1024;
#endif
    void *p = mmap(nullptr, STACK * n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    stacks = (char *)p;
#if !defined(CUDASIM_ASAN)
    dyn = mmap(nullptr, 233472, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (dyn == MAP_FAILED) {
        abort();
    }
#endif
}

void run_grid(dim3 grid, dim3 block, size_t smem, const std::function<void()> &kernel) {
    stats.launches++;
    blockDim = block;
    gridDim = grid;
    nthreads = (int)(block.x * block.y * block.z);
    body = &kernel;
    dyn_n = smem;
    stacks_used = 0;
    in_kernel = true;
#if defined(CUDASIM_TSAN)
    main_tsan = __tsan_get_current_fiber();
    __tsan_release(&hb_launch[0]);
#endif
    const size_t n_blocks = (size_t)grid.x * grid.y * grid.z;
    for (size_t k = 0; k < n_blocks; k++) {
        const size_t i = sched_mode == 1 ? n_blocks - 1 - k : k;
        blockIdx = {(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                    (unsigned)(i / ((size_t)grid.x * grid.y))};
        run_block();
    }
#if defined(CUDASIM_TSAN)
    __tsan_acquire(&hb_launch[1]);
#endif
    in_kernel = false;
}
} // namespace cudasim
