#include <math.h>
#include <stdlib.h>

#include "encoders/series/series_reader_internal.h"
#include "tests/fuzz/fuzz_target.h"

static void read_all(mz_context *ctx, const uint8_t *data, size_t size, const char *columns) {
    const mz_series_options options = {.columns = columns};
    mz_series_reader *reader = NULL;
    if (mz_series_open_memory(ctx, data, size, "input", &options, &reader) != MZ_OK) {
        return;
    }
    bool end = false;
    mz_series series;
    while (mz_series_next(reader, &series, &end) == MZ_OK && !end) {
        for (int64_t i = 0; i < series.n_values; i++) {
            if (isinf(series.values[i])) {
                abort(); /* the contract: infinities do not occur */
            }
        }
        mz_gap_report gaps;
        (void)mz_series_fill(ctx, &series, MZ_MISSING_LINEAR, 1, &gaps);
    }
    mz_series_close(reader);
}

/* All columns, and the choice of two. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    read_all(&ctx, data, size, NULL);
    read_all(&ctx, data, size, "#2,a");
    return 0;
}
