/* The CUDA backend: every primitive op of core/ops.h as a kernel of our own for one NVIDIA GPU.
 *
 * The table is linked in only where a build has compiled the .cu files (with nvcc, or for the
 * simulator that the tests use), so nothing outside core/ops and the tests names it. */
#ifndef MZ_CORE_OPS_CUDA_CUDA_BACKEND_H
#define MZ_CORE_OPS_CUDA_CUDA_BACKEND_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device 0, one CUDA stream per mz_stream. Everything that an op is given (tensors, page tables,
 * positions, the table of a linear bank) is in device memory; ops are queued and return at once,
 * and none of them reads anything back. Only upload, download, synchronize and close wait. A
 * kernel's fault is therefore reported by the next of these. The fused ops are absent:
 * core/ops/composed.c builds them. Same arguments, same device: same bits; a row's result does not
 * depend on other rows. Errors: DEVICE with the CUDA error's text; NOMEM when device memory is
 * short; LIMIT for a grid larger than CUDA's; UNSUPPORTED for a wider head. */
const mz_backend *mz_backend_cuda(void);

#ifdef __cplusplus
}
#endif
#endif
