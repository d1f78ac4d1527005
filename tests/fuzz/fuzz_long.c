#include <math.h>
#include <stdlib.h>

#include "encoders/series/series_reader_internal.h"
#include "tests/fuzz/fuzz_target.h"

/* What every reader promises about dates. */
static void check_series(const mz_series *s) {
    for (int64_t i = 0; i < s->n_values; i++) {
        if (isinf(s->values[i])) {
            abort();
        }
        if (s->stamps != NULL && i > 0 && s->stamps[i] <= s->stamps[i - 1]) {
            abort();
        }
    }
}

static void read_all(mz_context *ctx, const uint8_t *data, size_t size,
                     const mz_series_options *options) {
    mz_series_reader *reader = NULL;
    if (mz_series_open_memory(ctx, data, size, "input", options, &reader) != MZ_OK) {
        return;
    }
    bool end = false;
    mz_series series;
    while (mz_series_next(reader, &series, &end) == MZ_OK && !end) {
        if (series.error != NULL) {
            continue;
        }
        int64_t season = 1;
        mz_gap_report gaps;
        check_series(&series);
        (void)mz_series_season(ctx, &series, 0, &season);
        if (mz_series_fill(ctx, &series, MZ_MISSING_SEASONAL, season, &gaps) == MZ_OK) {
            check_series(&series);
        }
    }
    mz_series_close(reader);
}

/* The layout as found, and with columns named; faults reported, and repaired. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    const mz_series_options options[] = {
        {0},
        {.sort = true, .duplicates = MZ_DUPLICATES_MEAN, .day_first = true},
        {.id = "#1", .time = "#2", .value = "#3", .sort = true, .duplicates = MZ_DUPLICATES_LAST},
        {.id = "#1", .value = "#3"},
        {.time = "#1", .frequency = {.kind = MZ_FREQUENCY_DAY, .n = 1}},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        read_all(&ctx, data, size, &options[i]);
    }
    return 0;
}
