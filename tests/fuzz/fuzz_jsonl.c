#include <math.h>
#include <stdlib.h>

#include "encoders/series/series_reader_internal.h"
#include "tests/fuzz/fuzz_target.h"

/* Each line through the JSON lines reader itself, whatever the first character. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_series_source source = {0};
    mz_series_jsonl *jsonl = NULL;
    if (mz_series_source_open_memory(&ctx, data, size, "input", &source) != MZ_OK) {
        return 0;
    }
    if (mz_series_jsonl_open(&source, &(mz_series_options){0}, &jsonl) == MZ_OK) {
        bool end = false;
        mz_series series;
        while (mz_series_jsonl_next(jsonl, &series, &end) == MZ_OK && !end) {
            for (int64_t i = 0; i < series.n_values; i++) {
                if (isinf(series.values[i])) {
                    abort(); /* the contract: infinities do not occur */
                }
            }
            mz_gap_report gaps;
            (void)mz_series_fill(&ctx, &series, MZ_MISSING_FORWARD, 1, &gaps);
        }
        mz_series_jsonl_close(jsonl);
    }
    mz_series_source_close(&source);
    return 0;
}
