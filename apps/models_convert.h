/* moezoo models quantize and convert: writing checkpoints in other types and formats. */
#ifndef MZ_APPS_MODELS_CONVERT_H
#define MZ_APPS_MODELS_CONVERT_H

#include "apps/cli.h"
#include "apps/zoo/gguf_export.h"

extern const mz_command mz_command_models_quantize;
extern const mz_command mz_command_models_convert;

/* What was written, for the table. */
typedef struct mz_convert_report {
    const char *source, *output;
    const mz_gguf_export *written;
    const char *note; /* why there is no tokenizer, or NULL */
} mz_convert_report;

/* The table of tensors and the totals, or one JSON object, on stdout. */
void mz_convert_report_print(const mz_convert_report *report, bool json);

/* Writes e's tensors to `path` with a bar on stderr; Ctrl-C ends it. Errors: those of
 * mz_gguf_write. */
mz_status mz_convert_write(mz_gguf_export *e, const char *path, bool quiet);

#endif
