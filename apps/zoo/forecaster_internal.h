/* Shared by the files of a forecaster. */
#ifndef MZ_APPS_ZOO_FORECASTER_INTERNAL_H
#define MZ_APPS_ZOO_FORECASTER_INTERNAL_H

#include "adapters/lora.h"
#include "apps/zoo/forecaster_parts.h"

/* What a session can hold. */
typedef struct mz_session_capacity {
    int64_t n_rows, n_out;            /* of a pass */
    int64_t n_sequences, n_positions; /* positions per sequence, each of a row */
    int64_t n_pages;
} mz_session_capacity;

/* Rows gathered for one pass; arrays of capacity.n_rows. */
typedef struct mz_pass {
    int64_t n_rows, n_out;
    int64_t n_past; /* of n_out, earlier positions that an item wants */
    float *inputs;  /* [n_rows, mz_forecaster_parts_input_width] */
    int32_t *sequence, *position;
    int32_t *out_index, *out_sequence, *out_position;
    float *out;      /* [n_out, width of the longest head] what the head emitted */
    float *past_out; /* the same of the head for earlier positions; none for quantile models */
} mz_pass;

struct mz_forecaster {
    mz_context *ctx;
    mz_forecaster_parts parts;
    mz_lora **adapters; /* [n_adapters] attached */
    size_t n_adapters, adapters_capacity;
    mz_profile *profile;
    mz_forecast_watch watch;
    int64_t n_rows_done, n_rows_total; /* of the run */
    bool keep;                         /* the session keeps its activations */
    mz_session_capacity capacity;      /* of the session; all 0 without one */
    mz_stream stream;
    mz_kv_cache cache;
    mz_rope_table ropes[MZ_MAX_ROPES];
    mz_pass pass;
    void *pass_memory;
};

/* A session that holds at least `need`; an existing one that is large enough stays, emptied. */
mz_status mz_forecaster_session_ensure(mz_forecaster *f, const mz_session_capacity *need,
                                       bool keep);
void mz_forecaster_session_close(mz_forecaster *f);

/* The gathered rows through decoder and head, and `past_head` where earlier positions are wanted;
 * the answers lie in pass.out and pass.past_out. */
mz_status mz_forecaster_pass_run(mz_forecaster *f, int32_t head, int32_t past_head);

/* The first n_rows rows of the pass, all of them wanted, through decoder and every head, for
 * goldens. */
mz_status mz_forecaster_pass_trace(mz_forecaster *f, int64_t n_rows, const mz_trace *trace);

#endif
