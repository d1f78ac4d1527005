#include "core/cpu.h"

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

/* Registers of CPUID leaves 1, 7.0 and 7.1, and what the operating system saves (XCR0). */
typedef struct cpuid_bits {
    uint32_t l1_ecx, l7_ebx, l7_ecx, l7_edx, l7s1_eax;
    uint64_t xcr0;
} cpuid_bits;

enum reg { L1_ECX, L7_EBX, L7_ECX, L7_EDX, L7S1_EAX };

typedef struct feature {
    const char *name;
    enum reg reg;
    int bit;
    mz_isa level; /* lowest level that needs it; MZ_ISA_COUNT: only listed */
} feature;

static const feature features[] = {
    {"sse4_2", L1_ECX, 20, MZ_ISA_COUNT},
    {"avx", L1_ECX, 28, MZ_ISA_AVX2},
    {"f16c", L1_ECX, 29, MZ_ISA_AVX2},
    {"fma", L1_ECX, 12, MZ_ISA_AVX2},
    {"avx2", L7_EBX, 5, MZ_ISA_AVX2},
    {"avx512f", L7_EBX, 16, MZ_ISA_AVX512},
    {"avx512dq", L7_EBX, 17, MZ_ISA_AVX512},
    {"avx512bw", L7_EBX, 30, MZ_ISA_AVX512},
    {"avx512vl", L7_EBX, 31, MZ_ISA_AVX512},
    {"avx512_vnni", L7_ECX, 11, MZ_ISA_AVX512_BF16},
    {"avx512_bf16", L7S1_EAX, 5, MZ_ISA_AVX512_BF16},
    {"avx512_fp16", L7_EDX, 23, MZ_ISA_COUNT},
    {"avx_vnni", L7S1_EAX, 4, MZ_ISA_COUNT},
    {"amx_tile", L7_EDX, 24, MZ_ISA_AMX},
    {"amx_int8", L7_EDX, 25, MZ_ISA_AMX},
    {"amx_bf16", L7_EDX, 22, MZ_ISA_AMX},
};

#if defined(__x86_64__)
static uint64_t read_xcr0(void) {
    uint32_t lo = 0;
    uint32_t hi = 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

static cpuid_bits read_cpuid(void) {
    cpuid_bits c = {0};
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t d = 0;
    if (__get_cpuid(1, &a, &b, &c.l1_ecx, &d) == 0) {
        return c;
    }
    if (__get_cpuid_count(7, 0, &a, &c.l7_ebx, &c.l7_ecx, &c.l7_edx) != 0 && a >= 1) {
        uint32_t unused_b = 0;
        uint32_t unused_c = 0;
        uint32_t unused_d = 0;
        (void)__get_cpuid_count(7, 1, &c.l7s1_eax, &unused_b, &unused_c, &unused_d);
    }
    const uint32_t osxsave = 1u << 27;
    if ((c.l1_ecx & osxsave) != 0) {
        c.xcr0 = read_xcr0();
    }
    return c;
}

/* Asks the kernel for the state of AMX tiles, which a process does not have before it asks. */
static bool allow_tiles(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
/* Other processors run the scalar kernels. */
static cpuid_bits read_cpuid(void) {
    return (cpuid_bits){0};
}

static bool allow_tiles(void) {
    return false;
}
#endif

static bool has(const cpuid_bits *c, const feature *f) {
    const uint32_t regs[] = {c->l1_ecx, c->l7_ebx, c->l7_ecx, c->l7_edx, c->l7s1_eax};
    return (regs[f->reg] >> f->bit & 1u) != 0;
}

/* State components that must be enabled in XCR0 for the registers of each level. */
static uint64_t xcr0_needed(mz_isa level) {
    static const uint64_t ymm = 0x6;
    static const uint64_t zmm = 0xe0;
    static const uint64_t tiles = 0x60000;
    switch (level) {
    case MZ_ISA_AVX2:
        return ymm;
    case MZ_ISA_AVX512:
    case MZ_ISA_AVX512_BF16:
        return ymm | zmm;
    case MZ_ISA_AMX:
        return ymm | zmm | tiles;
    default:
        return 0;
    }
}

mz_isa mz_isa_detect(void) {
    const cpuid_bits c = read_cpuid();
    mz_isa best = MZ_ISA_SCALAR;
    for (int level = MZ_ISA_AVX2; level < MZ_ISA_COUNT; level++) {
        const uint64_t needed = xcr0_needed((mz_isa)level);
        if ((c.xcr0 & needed) != needed) {
            return best;
        }
        for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
            if (features[i].level == (mz_isa)level && !has(&c, &features[i])) {
                return best;
            }
        }
        if (level == MZ_ISA_AMX && !allow_tiles()) {
            return best;
        }
        best = (mz_isa)level;
    }
    return best;
}

static const char *const isa_names[MZ_ISA_COUNT] = {"scalar", "avx2", "avx512", "avx512-bf16",
                                                    "amx"};

const char *mz_isa_name(mz_isa isa) {
    if (isa == MZ_ISA_AUTO) {
        return "auto";
    }
    return isa >= 0 && isa < MZ_ISA_COUNT ? isa_names[isa] : "unknown";
}

mz_isa mz_isa_parse(const char *name) {
    if (strcmp(name, "auto") == 0) {
        return MZ_ISA_AUTO;
    }
    for (int i = 0; i < MZ_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            return (mz_isa)i;
        }
    }
    return MZ_ISA_COUNT;
}

void mz_cpu_features(char *out, size_t size) {
    if (size == 0) {
        return;
    }
    out[0] = '\0';
    const cpuid_bits c = read_cpuid();
    size_t used = 0;
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        if (!has(&c, &features[i])) {
            continue;
        }
        const int n =
            snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", features[i].name);
        if (n < 0 || (size_t)n >= size - used) {
            return;
        }
        used += (size_t)n;
    }
}

int mz_cpu_count(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int n = CPU_COUNT(&set);
        return n > 0 ? n : 1;
    }
    /* A machine with more processors than the set has bits: then the kernel refuses the call. */
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

size_t mz_memory_bytes(void) {
    const long n_pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    if (n_pages <= 0 || page_bytes <= 0 || (size_t)n_pages > SIZE_MAX / (size_t)page_bytes) {
        return SIZE_MAX;
    }
    return (size_t)n_pages * (size_t)page_bytes;
}
