/* moezoo models perplexity: how well a language model foretells a text. */
#ifndef MZ_APPS_MODELS_PERPLEXITY_H
#define MZ_APPS_MODELS_PERPLEXITY_H

#include "apps/cli.h"

extern const mz_command mz_command_models_perplexity;

#endif
