/* Reading JSON documents (jansson) with messages that name file, field, expected and actual value.
 */
#ifndef MZ_CORE_JSON_H
#define MZ_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parses a whole file of at most 64 MiB. *out is released with json_decref. Errors: IO, NOMEM,
 * LIMIT; FORMAT with line and column, for a key that is there twice, or when the top level is no
 * object; nesting is limited by the library. */
mz_status mz_json_load(mz_context *ctx, const char *path, json_t **out);

/* The same with every number as a real: for files that hold whole numbers of more than 64 bits. */
mz_status mz_json_load_reals(mz_context *ctx, const char *path, json_t **out);

/* The same as mz_json_load for text in memory; `name` stands for the path in messages; any value may be at the top.
 */
mz_status mz_json_parse(mz_context *ctx, const char *text, size_t n_bytes, const char *name,
                        json_t **out);

/* An object with the name it has in messages. */
typedef struct mz_json_object {
    mz_context *ctx;
    const json_t *object;
    const char *name; /* usually the file's path */
} mz_json_object;

/* Field readers. A field that is absent (or null) takes `fallback` where the function has one and
 * is MISSING otherwise. Errors: FORMAT for another type, LIMIT for a value outside [min, max]; *out
 * is untouched on failure. */
mz_status mz_json_int(const mz_json_object *o, const char *key, int64_t min, int64_t max,
                      int64_t *out);
mz_status mz_json_int_or(const mz_json_object *o, const char *key, int64_t fallback, int64_t min,
                         int64_t max, int64_t *out);
mz_status mz_json_number_or(const mz_json_object *o, const char *key, double fallback, double min,
                            double max, double *out);
mz_status mz_json_bool_or(const mz_json_object *o, const char *key, bool fallback, bool *out);
/* Borrowed from the document. */
mz_status mz_json_string(const mz_json_object *o, const char *key, const char **out);
mz_status mz_json_string_or(const mz_json_object *o, const char *key, const char *fallback,
                            const char **out);

#ifdef __cplusplus
}
#endif
#endif
