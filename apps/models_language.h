/* What `moezoo models show` tells of a language model besides what it tells of every model. */
#ifndef MZ_APPS_MODELS_LANGUAGE_H
#define MZ_APPS_MODELS_LANGUAGE_H

#include "apps/cli.h"
#include "apps/zoo/zoo.h"
#include "core/weights.h"

/* Prints heads, vocabulary, context, types, bits per weight, tokenizer and chat template of the
 * checkpoint at `path`, as lines or as the JSON members "language":{...}, with a comma behind.
 * Errors: those of mz_zoo_identify. A tokenizer or a template that cannot be used is told in its
 * line. */
mz_status mz_models_show_language(mz_context *ctx, const char *path, const mz_weights *weights,
                                  bool json);

#endif
