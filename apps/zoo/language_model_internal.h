/* Shared by the files of a language model. */
#ifndef MZ_APPS_ZOO_LANGUAGE_MODEL_INTERNAL_H
#define MZ_APPS_ZOO_LANGUAGE_MODEL_INTERNAL_H

#include "apps/zoo/language_model.h"
#include "apps/zoo/text_decoder.h"

struct mz_language_model {
    mz_context *ctx; /* that loaded it, and releases it */
    mz_language_model_info info;
    mz_text_decoder text;
    mz_tokenizer *tokenizer; /* NULL: there is none, because of */
    char *missing;           /* what was looked for */
};

#endif
