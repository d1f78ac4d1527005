/* The rows of one series put in their order in time: sorted, without duplicates, on the grid of a
 * frequency, with the points that are missing there. */
#ifndef MZ_ENCODERS_SERIES_TIMELINE_H
#define MZ_ENCODERS_SERIES_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "encoders/series/calendar.h"
#include "encoders/series/series_reader.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_TIMELINE_NOTES = 4, MZ_TIMELINE_NOTE_BYTES = 240 };

/* The rows of a series, borrowed. */
typedef struct mz_timeline_rows {
    const mz_stamp *stamps; /* [n] */
    int64_t n;
    const char *what;                               /* a row is called: "row", "timestamp" */
    int64_t (*number)(const void *self, int64_t i); /* of row i, in messages */
    const void *self;
    const mz_stamp_form *form; /* of the stamps, for messages */
} mz_timeline_rows;

typedef struct mz_timeline_options {
    mz_frequency frequency; /* that the stamps must have; NONE: found from them */
    mz_frequency fallback;  /* of a series with too few rows to tell; NONE: there is none */
    bool sort;
    mz_duplicates duplicates;
} mz_timeline_options;

/* All zero before use, and again after mz_timeline_clear. One thread. A timeline that only repeats
 * its rows owns no arrays. */
typedef struct mz_timeline {
    mz_duplicates duplicates;
    int64_t n_rows;
    int64_t n_points;       /* rows and missing ones: at most 4 n_rows + 16 */
    mz_frequency frequency; /* NONE: dates of the future are not known */
    int64_t *order;         /* [n_rows] rows by time; NULL: as they come */
    int64_t *places;        /* [n_rows] point of each row, in that order; NULL: 0, 1, 2, ... */
    mz_stamp *stamps;       /* [n_points]; NULL: those of the rows */
    const char *notes[MZ_TIMELINE_NOTES]; /* what was repaired, or stays irregular */
    int n_notes;
    char note_texts[MZ_TIMELINE_NOTES][MZ_TIMELINE_NOTE_BYTES];
} mz_timeline;

/* Orders the rows. Where they lie on no common grid, or over three points would be missing for each
 * row, they become points as they follow each other, and a note says so. Errors: ARG, naming the
 * row and its stamp, for rows that are out of order or repeat a stamp unless the options repair
 * that, and for stamps that contradict the frequency of the options; NOMEM. */
mz_status mz_timeline_build(mz_context *ctx, const mz_timeline_rows *rows,
                            const mz_timeline_options *options, mz_timeline *out);

/* Values of the rows [n_rows] to those of the points [n_points], NaN where a point has no row.
 * The arrays do not overlap. */
void mz_timeline_values(const mz_timeline *timeline, const double *rows, double *points);

/* Stamps of the points [n_points], from those of the rows. */
void mz_timeline_stamps(const mz_timeline *timeline, const mz_stamp *rows, mz_stamp *points);

void mz_timeline_clear(mz_context *ctx, mz_timeline *timeline);

#ifdef __cplusplus
}
#endif
#endif
