/* What the commands that run language models share: their options of arithmetic and cache, and text
 * from standard input. */
#ifndef MZ_APPS_MODEL_OPTIONS_H
#define MZ_APPS_MODEL_OPTIONS_H

#include "apps/cli.h"
#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of an option table: --precision auto|f32|bf16 and --kv-type f32|f16|q8_0. `target` receives
 * the index of the choice. */
mz_option mz_precision_option(int *target);
mz_option mz_kv_type_option(int *target);

/* What the index stands for; auto: quantised inputs with block-quantised weights. */
mz_precision mz_precision_chosen(int index);
mz_dtype mz_kv_type_chosen(int index);

/* All of standard input, NUL-terminated, released with mz_free. `what` names it in the message that
 * it is too long. Errors: LIMIT for over `max_bytes`; IO, also after Ctrl-C; NOMEM. */
mz_status mz_cli_read_stdin(mz_context *ctx, const char *what, size_t max_bytes, char **out,
                            size_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif
