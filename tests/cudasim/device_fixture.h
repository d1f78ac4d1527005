/* Data that lies on the host, for the reference backend, and on the device, for the CUDA backend.
 */
#ifndef MZ_TESTS_CUDASIM_DEVICE_FIXTURE_H
#define MZ_TESTS_CUDASIM_DEVICE_FIXTURE_H

#include "tests/testing.h"

enum { MZ_FIXTURE_BUFFERS = 64 };

/* Two streams and the memory taken with them. Created by mz_fixture_open, one test's. */
typedef struct mz_fixture {
    mz_context ctx;
    mz_stream reference, device;
    void *host_buffers[MZ_FIXTURE_BUFFERS];
    void *device_buffers[MZ_FIXTURE_BUFFERS];
    size_t n_bytes[MZ_FIXTURE_BUFFERS];
    int n_buffers;
} mz_fixture;

/* The same bytes twice. Each has an allocation of its own, so that a checker sees an access beside
 * it. */
typedef struct mz_mirror {
    void *host, *device;
    size_t n_bytes;
} mz_mirror;

/* The same matrix twice. */
typedef struct mz_mirror_matrix {
    mz_mirror memory;
    mz_tensor host, device;
} mz_mirror_matrix;

/* Ends the program with the skip code 77 where the machine has no CUDA device. */
void mz_fixture_open(mz_fixture *f);
void mz_fixture_close(mz_fixture *f);

/* A copy of `data`; with NULL, bytes of 0xFF (NaN as f32). */
mz_mirror mz_mirror_put(mz_fixture *f, const void *data, size_t n_bytes);

/* Rows of `n_cols` values, `ld` apart. Random: uniform in [-scale, scale), rounded to `dtype`.
 * Blank: NaN. */
mz_mirror_matrix mz_mirror_random(mz_fixture *f, mz_dtype dtype, int64_t n_rows, int64_t n_cols,
                                  int64_t ld, uint64_t seed, float scale);
mz_mirror_matrix mz_mirror_blank(mz_fixture *f, int64_t n_rows, int64_t n_cols, int64_t ld);

/* Fails unless the device's f32 matrix lies within `bound` (relative L2; 0: the same bits) of the
 * host's, and the gaps between its rows are as they were. */
void mz_mirror_compare(mz_fixture *f, const char *what, const mz_mirror_matrix *m, double bound);

/* Fails unless all bytes are equal. */
void mz_mirror_compare_bytes(mz_fixture *f, const char *what, const mz_mirror *m);

#endif
