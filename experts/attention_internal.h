/* The attention half of a block: from normed inputs to the output projection. */
#ifndef MZ_EXPERTS_ATTENTION_INTERNAL_H
#define MZ_EXPERTS_ATTENTION_INTERNAL_H

#include "experts/block.h"

/* Sequence and position of the rows whose output is wanted. */
const mz_rows *mz_block_out_rows(const mz_block_call *call);

/* out = W_o attention(queries of normed_out); keys and values are those of `normed`, all rows, and
 * enter the cache where there is one. The rows of normed_out are the wanted ones of normed.
 *   out, normed_out  [out rows, d_model]
 *   normed           [rows, d_model] */
mz_status mz_block_attend(mz_stream *s, const mz_tensor *out, const mz_tensor *normed_out,
                          const mz_tensor *normed, const mz_block *block,
                          const mz_block_call *call);

#endif
