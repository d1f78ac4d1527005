/* Shared by series_jsonl.c and series_jsonl_dates.c. */
#ifndef MZ_ENCODERS_SERIES_SERIES_JSONL_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_JSONL_INTERNAL_H

#include <jansson.h>

#include "encoders/series/series_reader_internal.h"
#include "encoders/series/timeline.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mz_series_jsonl {
    mz_series_options options;
    mz_series_source *source; /* borrowed */
    const char *chunk;        /* what is left of the newest chunk */
    size_t n_left;
    bool is_at_end;
    char *line; /* the line in progress, without a NUL */
    size_t line_bytes, line_capacity;
    int64_t line_number;
    char *id;
    size_t id_capacity;
    double *values;
    size_t values_capacity;
    double *points; /* values by time */
    size_t points_capacity;
    mz_stamp *stamps, *point_stamps;
    size_t stamps_capacity, point_stamps_capacity;
    mz_timeline timeline;
    char note_text[MZ_STAMP_NOTE_BYTES];      /* of the dates */
    char grid_text[MZ_STAMP_NOTE_BYTES];      /* of a start off its grid */
    char frequency_note[MZ_STAMP_NOTE_BYTES]; /* that another one was asked for */
    const char *notes[MZ_TIMELINE_NOTES + 4];
};

/* Fails with FORMAT: `what` of the line is of the type of `value`. */
mz_status mz_series_jsonl_fail_type(const mz_series_jsonl *jsonl, const char *what,
                                    const json_t *value, const char *expected);

/* Fills stamps, frequency, form, season, notes and error of *out, whose values are read, from
 * "start", "timestamps" and "freq", and puts the values in the order of their dates. Errors:
 * FORMAT; NOMEM. */
mz_status mz_series_jsonl_dates(mz_series_jsonl *jsonl, const json_t *root, mz_series *out);

#ifdef __cplusplus
}
#endif
#endif
