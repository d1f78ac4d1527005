/* From a description of a language model (apps/zoo/text_config.h) to its blocks and weights. */
#ifndef MZ_APPS_ZOO_TEXT_DECODER_H
#define MZ_APPS_ZOO_TEXT_DECODER_H

#include "apps/zoo/text_config.h"
#include "core/loader.h"
#include "llm/decoder.h"
#include "llm/embedding.h"

/* Allocates the blocks (mz_alloc), which are empty, and takes over sizes and rotations. Errors:
 * NOMEM. */
mz_status mz_text_blocks_create(mz_context *ctx, const mz_text_config *config, mz_decoder *out);

/* Blocks and final norm; called twice (core/loader.h). Routers and gates of shared experts count
 * their inputs in full, all other matrices as `precision` says. Errors: those of the loader. */
mz_status mz_text_blocks_load(mz_loader *l, mz_decoder *decoder, const mz_text_config *config,
                              mz_precision precision);

/* Token ids -> embedding -> decoder -> head. decoder.blocks is allocated with mz_alloc. */
typedef struct mz_text_decoder {
    mz_loader loader; /* owns the weights */
    mz_decoder decoder;
    mz_embedding embedding;
} mz_text_decoder;

/* Loads the weights at `path` through a loader with `options` into *out, which is zero, stays where
 * it is as long as it is used and is released with mz_text_decoder_close, however far this came.
 * `precision`: see mz_text_blocks_load. Errors: those of the loader; NOMEM. */
mz_status mz_text_decoder_open(mz_context *ctx, const mz_text_config *config,
                               const mz_backend *backend, const char *path,
                               const mz_loader_options *options, mz_precision precision,
                               mz_text_decoder *out);

void mz_text_decoder_close(mz_context *ctx, mz_text_decoder *text);

#endif
