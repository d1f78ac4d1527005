/* Which instruction sets this processor and operating system offer, as the levels that the CPU
 * kernels come in, and how much of processors and memory there is. */
#ifndef MZ_CORE_CPU_H
#define MZ_CORE_CPU_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Levels are ordered: each includes the ones before it. */
typedef enum mz_isa {
    MZ_ISA_AUTO = -1,
    MZ_ISA_SCALAR = 0,
    MZ_ISA_AVX2,        /* AVX2, FMA, F16C */
    MZ_ISA_AVX512,      /* AVX-512 F, BW, DQ, VL */
    MZ_ISA_AVX512_BF16, /* and VNNI, BF16 */
    MZ_ISA_AMX,         /* and AMX TILE, BF16, INT8, allowed by the kernel */
    MZ_ISA_COUNT
} mz_isa;

/* The highest level that this machine runs. For AMX this asks the kernel for permission to use tile
 * data, which holds for the process from then on. */
mz_isa mz_isa_detect(void);

/* The level's name as an option takes it: scalar, avx2, avx512, avx512-bf16, amx. */
const char *mz_isa_name(mz_isa isa);

/* Level of that name, or MZ_ISA_COUNT when no level has it. "auto" gives MZ_ISA_AUTO. */
mz_isa mz_isa_parse(const char *name);

/* Writes the list of single features found ("avx2 fma f16c avx512f ... amx_int8"), NUL-terminated,
 * cut at `size`. */
void mz_cpu_features(char *out, size_t size);

/* Number of processors this process may run on, at least 1. */
int mz_cpu_count(void);

/* Bytes of this machine's memory; SIZE_MAX where that is unknown. */
size_t mz_memory_bytes(void);

#ifdef __cplusplus
}
#endif
#endif
