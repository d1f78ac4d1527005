/* moezoo models and adapters: what one is, and working it into a checkpoint. */
#ifndef MZ_APPS_MODELS_ADAPTER_H
#define MZ_APPS_MODELS_ADAPTER_H

#include "apps/cli.h"

/* Whether the folder holds an adapter, and no checkpoint. Errors: NOMEM. */
mz_status mz_models_is_adapter(mz_context *ctx, const char *dir, bool *out);

/* Prints rank, alpha, targets and sizes of the adapter in `dir`, which is called `name`. Errors:
 * those of reading it. */
mz_status mz_models_show_adapter(mz_context *ctx, const char *name, const char *dir, bool json);

extern const mz_command mz_command_models_merge;

#endif
