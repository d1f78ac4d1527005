/* What the parts of the series reader share: bytes from a file, a pipe or memory; fields; the two
 * formats. */
#ifndef MZ_ENCODERS_SERIES_SERIES_READER_INTERNAL_H
#define MZ_ENCODERS_SERIES_SERIES_READER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/context.h"
#include "encoders/series/series_reader.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MZ_SERIES_CHUNK_BYTES = 1 << 16,
    MZ_SERIES_MAX_VALUES = 16000000, /* a JSON line */
    MZ_SERIES_MAX_COLUMNS = 1000000,
    MZ_SERIES_MAX_LINE_BYTES = 64 << 20,
    MZ_SERIES_SHOWN_BYTES = 48, /* room for a value shown in a message */
};

/* Bytes in order, a chunk at a time. Opened by one of the two functions below, released by
 * mz_series_source_close. */
typedef struct mz_series_source {
    mz_context *ctx;
    char *name;            /* for messages */
    FILE *file;            /* NULL: memory */
    bool is_stdin;         /* do not close it, and copy it before reading it twice */
    const uint8_t *memory; /* borrowed */
    size_t memory_bytes, memory_pos;
    uint8_t *buffer;   /* [MZ_SERIES_CHUNK_BYTES] */
    size_t n_buffered; /* bytes of the newest chunk */
    uint64_t offset;   /* of the newest chunk */
    uint64_t n_total;  /* of the file; 0: not known */
    mz_series_watch watch;
    bool is_pending; /* the newest chunk was looked at but not yet handed out */
} mz_series_source;

/* Opens `path` ("-": standard input). Errors: IO, NOMEM. */
mz_status mz_series_source_open(mz_context *ctx, const char *path, mz_series_source *out);
mz_status mz_series_source_open_memory(mz_context *ctx, const void *data, size_t n_bytes,
                                       const char *name, mz_series_source *out);
void mz_series_source_close(mz_series_source *source);

/* The next chunk without its being consumed / and consumed; *n_bytes is 0 at the end only. The
 * first chunk comes without a byte order mark. Borrowed until the next call. Errors: IO; FORMAT for
 * a NUL byte. */
mz_status mz_series_source_peek(mz_series_source *source, const char **chunk, size_t *n_bytes);
mz_status mz_series_source_next(mz_series_source *source, const char **chunk, size_t *n_bytes);

/* Before anything was consumed: copies what cannot be read twice (pipes, standard input) to an
 * unlinked temporary file. Errors: IO. */
mz_status mz_series_source_spool(mz_series_source *source);
/* Back to the first byte. Errors: IO. */
mz_status mz_series_source_rewind(mz_series_source *source);

/* Opens a reader over bytes in memory, which must outlive it; the tests' and fuzzers' way in. As
 * mz_series_open. */
mz_status mz_series_open_memory(mz_context *ctx, const void *data, size_t n_bytes, const char *name,
                                const mz_series_options *options, mz_series_reader **out);

/* A text field as a number. */
typedef enum mz_field_kind {
    MZ_FIELD_NUMBER,
    MZ_FIELD_MISSING,
    MZ_FIELD_TEXT,
    MZ_FIELD_RANGE, /* a number beyond f64 */
} mz_field_kind;

typedef struct mz_field {
    mz_field_kind kind;
    double value; /* NaN unless a number */
    char mark;    /* its decimal mark, '.' or ','; 0: none */
} mz_field;

/* Reads the whole field: [+-]digits[.digits][e[+-]digits] with blanks around it, at least one digit
 * before the exponent; with `decimal_comma` also with ',' for '.'. text[n_bytes] must be NUL; it is
 * changed while reading and restored. */
mz_field mz_series_field(char *text, size_t n_bytes, bool decimal_comma);

/* Copies what of `text` fits for a message: control characters become '?', a cut is marked by
 * "...". */
void mz_series_show(const char *text, size_t n_bytes, char shown[MZ_SERIES_SHOWN_BYTES]);

/* True when the bytes are well-formed UTF-8. */
bool mz_series_is_utf8(const char *text, size_t n_bytes);

/* True when the text is one of the words, which are in lower case, in any case. */
bool mz_series_is_one_of(const char *text, size_t n_bytes, const char *const *words,
                         size_t n_words);

/* The columns of a CSV file: the first row, whether it is a header, and what each column is. All
 * zero before use; released by mz_series_columns_clear. */
typedef struct mz_series_columns {
    char *text; /* the first row's fields as UTF-8, each with its NUL */
    size_t n_text_bytes, text_capacity;
    size_t *offsets; /* [n_columns] into text */
    size_t offsets_capacity;
    int64_t n_columns;
    bool has_header;
    int64_t id_column;   /* names the series of a row; -1: none, a series is a column */
    int64_t time_column; /* dates, or labels of the rows; -1: none */
    bool is_time_given;  /* the user named it */
    bool is_time_named;  /* its name says so: digits may be dates */
    bool is_named;       /* the user named the columns to read */
    int64_t *slots;      /* [n_columns] place in a stored row, -1: not read. The time column has a
                            place while it may turn out to hold values */
    int64_t *stored;     /* [n_stored] column of each place */
    int64_t n_stored;
    int64_t n_left_out; /* columns that may hold values too and are not read */
    int64_t left_out;   /* the first of them */
} mz_series_columns;

/* Adds a field of the first row. Text that is not UTF-8 is taken as Latin-1. Errors: NOMEM; LIMIT
 * for too many. */
mz_status mz_series_columns_add(mz_context *ctx, const char *file, mz_series_columns *columns,
                                const char *text, size_t n_bytes);

/* After the first row: finds out whether it is a header and fills the members from has_header on.
 * Errors: MISSING for a column that does not exist; ARG for one named twice, ambiguously or not at
 * all, and for values that the user has to choose; NOMEM. */
mz_status mz_series_columns_choose(mz_context *ctx, const char *file, mz_series_columns *columns,
                                   const mz_series_options *options, bool decimal_comma);

/* Text in UTF-8: the bytes, or taken as Latin-1, which needs twice the room at most. Returns the
 * bytes written, without a NUL. */
size_t mz_series_to_utf8(const char *text, size_t n_bytes, char *out);

enum { MZ_SERIES_NUMBER_NAME_BYTES = 32 };
/* The column's name; one without a name is called "column N" (written to `buffer`). Borrowed from
 * either. */
char *mz_series_columns_name(const mz_series_columns *columns, int64_t column,
                             char buffer[MZ_SERIES_NUMBER_NAME_BYTES]);

void mz_series_columns_clear(mz_context *ctx, mz_series_columns *columns);

/* The delimiter (tab, semicolon or comma) that stands equally often in each of the first lines;
 * else the most frequent one of the first line. A tab or semicolon beats a comma, which may be a
 * decimal comma there. */
char mz_series_find_delimiter(const char *text, size_t n_bytes);

/* CSV, wholly in memory after opening. */
typedef struct mz_series_csv mz_series_csv;
mz_status mz_series_csv_open(mz_series_source *source, const mz_series_options *options,
                             mz_series_csv **out);
void mz_series_csv_close(mz_series_csv *csv);
int64_t mz_series_csv_count(const mz_series_csv *csv);
int64_t mz_series_csv_n_values(const mz_series_csv *csv);
bool mz_series_csv_has_dates(const mz_series_csv *csv);
int mz_series_csv_notes(const mz_series_csv *csv, const char *const **notes);
/* Errors: NOMEM. */
mz_status mz_series_csv_get(mz_series_csv *csv, int64_t index, mz_series *out);

/* JSON lines, read from the source as they are asked for. */
typedef struct mz_series_jsonl mz_series_jsonl;
mz_status mz_series_jsonl_open(mz_series_source *source, const mz_series_options *options,
                               mz_series_jsonl **out);
void mz_series_jsonl_close(mz_series_jsonl *jsonl);
mz_status mz_series_jsonl_next(mz_series_jsonl *jsonl, mz_series *out, bool *end);

#ifdef __cplusplus
}
#endif
#endif
