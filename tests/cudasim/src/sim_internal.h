// What the scheduler gives the simulated runtime.
#pragma once
#include "cuda_runtime.h"

namespace cudasim {
extern cudaError_t
    sticky; // a fault that CUDASIM_KEEP_GOING survived; each synchronisation reports it

// Reserves the fibers' stacks and reads CUDASIM_ORDER; the first call counts.
void start_fibers();

// Runs a kernel over a grid, block after block.
void run_grid(dim3 grid, dim3 block, size_t smem, const std::function<void()> &kernel);
} // namespace cudasim
