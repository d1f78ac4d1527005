/* GGUF files (versions 2 and 3): metadata, and the list of their tensors.
 *
 * Opening maps the file and reads everything but the tensors' values; mz_weights_open takes the
 * tensors of a .gguf file by the same reader. Sharded files (NAME-00001-of-00003.gguf) are opened
 * by their first part, which has the metadata; the tensors are those of all parts. */
#ifndef MZ_CORE_GGUF_H
#define MZ_CORE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are those of the file. */
typedef enum mz_gguf_type {
    MZ_GGUF_U8 = 0,
    MZ_GGUF_I8,
    MZ_GGUF_U16,
    MZ_GGUF_I16,
    MZ_GGUF_U32,
    MZ_GGUF_I32,
    MZ_GGUF_F32,
    MZ_GGUF_BOOL,
    MZ_GGUF_STRING,
    MZ_GGUF_ARRAY,
    MZ_GGUF_U64,
    MZ_GGUF_I64,
    MZ_GGUF_F64
} mz_gguf_type;

/* Opaque; immutable after opening, may be read by several threads. */
typedef struct mz_gguf mz_gguf;

/* Errors: IO; MISSING (a part of a sharded file); FORMAT (not a GGUF file; version 1; big-endian;
 * counts and lengths that the file cannot hold; keys or names that are there twice; values of
 * unknown types; tensors that leave the file, overlap or are misaligned; parts that do not belong
 * together); UNSUPPORTED (tensor types that no mz_dtype is for, naming tensor and type); LIMIT
 * (arrays nested more than once, 100,000 keys, those of mz_weights_open); NOMEM. Messages name the
 * file and what was wrong. */
mz_status mz_gguf_open(mz_context *ctx, const char *path, mz_gguf **out);
void mz_gguf_close(mz_context *ctx, mz_gguf *gguf); /* accepts NULL */

/* The path it was opened by; owned by `gguf`. */
const char *mz_gguf_path(const mz_gguf *gguf);

/* For listing: keys in file order. */
int64_t mz_gguf_n_keys(const mz_gguf *gguf);
const char *mz_gguf_key(const mz_gguf *gguf, int64_t i);

/* Whether there is such a key; its type, and the type and number of an array's elements (any
 * pointer may be NULL; for no array: its own type and 1). */
bool mz_gguf_has(const mz_gguf *gguf, const char *key, mz_gguf_type *type,
                 mz_gguf_type *element_type, int64_t *n);

/* Readers of single values: any whole-number type for int, any number for number. An absent key
 * leaves *out as it is and is no error: set the fallback before. Errors (in `err`): FORMAT for
 * another type, LIMIT for a value outside [min, max]. */
mz_status mz_gguf_int(const mz_gguf *gguf, mz_error *err, const char *key, int64_t min, int64_t max,
                      int64_t *out);
mz_status mz_gguf_number(const mz_gguf *gguf, mz_error *err, const char *key, double *out);
mz_status mz_gguf_bool(const mz_gguf *gguf, mz_error *err, const char *key, bool *out);
/* Not NUL-terminated, may hold any bytes; points into the file. */
mz_status mz_gguf_text(const mz_gguf *gguf, mz_error *err, const char *key, const char **out,
                       size_t *n_bytes);

/* Element i of an array, 0 <= i < n of mz_gguf_has, which the caller has checked with the element
 * type; arrays of strings are indexed when they are opened, so that this takes constant time. */
int64_t mz_gguf_array_int(const mz_gguf *gguf, const char *key, int64_t i);
double mz_gguf_array_number(const mz_gguf *gguf, const char *key, int64_t i);
const char *mz_gguf_array_text(const mz_gguf *gguf, const char *key, int64_t i, size_t *n_bytes);

/* The tensor of that name as stored, or false; data as long as `gguf` is open. */
bool mz_gguf_tensor(const mz_gguf *gguf, const char *name, mz_tensor *out);

#ifdef __cplusplus
}
#endif
#endif
