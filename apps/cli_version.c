#include "apps/cli.h"
#include "core/backend.h"
#include "core/cpu.h"

void mz_cli_write_version(FILE *stream) {
    char features[512];
    mz_cpu_features(features, sizeof features);
    (void)fprintf(stream, "moezoo %s\nbuild: %s\n", MOEZOO_VERSION, MOEZOO_BUILD);
    (void)fprintf(stream, "cpu: %s\n", features[0] != '\0' ? features : "no optional features");
    (void)fprintf(stream,
                  "instruction set: %s\nprocessors: %d\nbackends:", mz_isa_name(mz_isa_detect()),
                  mz_cpu_count());
    for (int i = 0; mz_backend_at(i) != NULL; i++) {
        (void)fprintf(stream, "%s %s", i > 0 ? "," : "", mz_backend_at(i)->name);
    }
    (void)fputc('\n', stream);
}
