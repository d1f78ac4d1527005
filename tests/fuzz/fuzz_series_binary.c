#include "encoders/series/series_binary_internal.h"
#include "tests/fuzz/fuzz_target.h"

enum { MOST_READ = 4096 };

/* meta.json of a folder of binary series. The running program is a file that is always there: as
 * "exe" of /proc/self it is the data. Reads the end of every series. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_binary *binary = NULL;
    if (mz_binary_open_text(&ctx, "/proc/self", (const char *)data, size, "meta.json", &binary) ==
        MZ_OK) {
        const mz_binary_series *list;
        const int64_t n = mz_binary_series_list(binary, &list);
        for (int64_t k = 0; k < n; k++) {
            float values[MOST_READ];
            const int64_t n_read = list[k].n_values < MOST_READ ? list[k].n_values : MOST_READ;
            const int64_t end = list[k].offset + list[k].n_values;
            mz_binary_read(binary, end - n_read, n_read, values);
        }
    }
    mz_binary_close(&ctx, binary);
    return 0;
}
