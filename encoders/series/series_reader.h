/* Reading series from CSV and JSON lines.
 *
 * CSV: comma, semicolon or tab (found from the file); with or without header; a UTF-8 byte order
 * mark, CR, LF and CRLF line ends, quoted fields. Wide: one column a series; a first column of
 * dates or labels is the index and no series. Long: a column of ids names the series of each row,
 * another holds the values (columns are known by name, or by the options). Rows with dates are put
 * on the grid of their frequency (encoders/series/timeline.h). Empty fields and NA, N/A, NaN, null,
 * None, "-" (any case) are missing values. With semicolons or tabs a decimal comma is read where no
 * field of the file has a decimal point. JSON lines: one object {"id": "name", "sequence": [numbers
 * or null]} a line
 * ("values" and "target" are taken for "sequence" too, "item_id" for "id"), or a bare array; a
 * missing id becomes the 1-based line number ("3"). Dates: "timestamps": [one a value], or "start"
 * with "freq", a name or the number of points in a season. Empty lines are skipped.
 *
 * Opening reads the whole input once and checks all of it, so that a fault in the last line is
 * reported before the first forecast; JSON lines are then read again one by one, in memory bounded
 * by the longest line. CSV with a column a series streams too, where the caller needs its newest
 * rows only (n_newest); rows with ids are held in memory. Standard input is first copied to an
 * unlinked temporary file. */
#ifndef MZ_ENCODERS_SERIES_SERIES_READER_H
#define MZ_ENCODERS_SERIES_SERIES_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "encoders/series/series.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; one thread. */
typedef struct mz_series_reader mz_series_reader;

enum { MZ_SERIES_MAX_ROWS = 1 << 28 };

/* What is done about rows of one series with the same date. */
typedef enum mz_duplicates {
    MZ_DUPLICATES_ERROR = 0,
    MZ_DUPLICATES_LAST, /* the last of the file */
    MZ_DUPLICATES_MEAN, /* the mean of those that are not missing */
} mz_duplicates;

/* Told how far opening has read. `n_total` is 0 where the size is not known (pipes). */
typedef struct mz_series_watch {
    void (*read)(void *self, uint64_t n_bytes, uint64_t n_total);
    void *self;
} mz_series_watch;

/* All zero: everything is found from the file. Columns are named, or given by number as "#2". */
typedef struct mz_series_options {
    const char *columns;    /* CSV: comma-separated columns to read, a series each, in that order;
                               NULL: all */
    const char *id;         /* CSV: column that names the series of a row; NULL: found, or none */
    const char *time;       /* CSV: column of dates; NULL: found, or none */
    const char *value;      /* CSV: column of values; NULL: found */
    mz_frequency frequency; /* of the dates; NONE: found from them */
    bool day_first;         /* 01/02/2024 is in February where no row tells */
    bool sort;              /* rows of a series may come in any order */
    bool ignore_dates;      /* they are labels: series are their rows as these follow each other */
    mz_duplicates duplicates;
    int64_t n_newest; /* CSV with a column a series: so many of the newest rows matter; 0: all do.
                         Older ones may be forgotten where they would take over 256 MiB */
    mz_series_watch watch; /* .read NULL: nobody looks on */
} mz_series_options;

/* Limits: 16 million values a JSON line, MZ_SERIES_MAX_ROWS rows and 1 million columns of CSV,
 * 64 MiB a line, 4 GiB a CSV file. What is wrong with the dates of one series among several is that
 * series' error; of series side by side it is an error of the file.
 * `path` is a file or "-" for standard input. The format is found from the contents: a first
 * character '{' or '[' means JSON lines. Errors (each one line naming the file, and row and column
 * or line where there is one): IO; FORMAT for an empty file, a file without data rows, binary
 * contents, text in a number column, rows of different width, broken JSON, a value that is not
 * finite; MISSING for a column that does not exist (naming those that do); LIMIT; NOMEM. */
mz_status mz_series_open(mz_context *ctx, const char *path, const mz_series_options *options,
                         mz_series_reader **out);
void mz_series_close(mz_series_reader *reader);

/* Number of series in the whole input, and of values in all of them. */
int64_t mz_series_count(const mz_series_reader *reader);
int64_t mz_series_n_values(const mz_series_reader *reader);

/* Whether some series has dates. */
bool mz_series_has_dates(const mz_series_reader *reader);

/* What the reader of an answer should know about the whole input (an assumed order of day and
 * month, columns that were left out, ...). Returns how many notes there are; *notes is borrowed. */
int mz_series_notes(const mz_series_reader *reader, const char *const **notes);

/* The next series, in file order; *end becomes true (and *out is untouched) after the last. The
 * caller may change out->values and n_values in place; out is borrowed and valid until the next
 * call. A CSV column's trailing empty fields count as missing values, so that columns of unequal
 * length can be told apart by the caller. Errors: IO, NOMEM; FORMAT when the file changed. */
mz_status mz_series_next(mz_series_reader *reader, mz_series *out, bool *end);

#ifdef __cplusplus
}
#endif
#endif
