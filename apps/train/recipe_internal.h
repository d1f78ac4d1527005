/* What the recipe_*.c files share: fields of an object by table, and changes from the line. */
#ifndef MZ_APPS_TRAIN_RECIPE_INTERNAL_H
#define MZ_APPS_TRAIN_RECIPE_INTERNAL_H

#include <stddef.h>

#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_recipe_kind {
    MZ_RECIPE_INT,    /* int64_t */
    MZ_RECIPE_NUMBER, /* double */
    MZ_RECIPE_BOOL,   /* bool */
    MZ_RECIPE_CHOICE, /* an enum: index of the choice */
    MZ_RECIPE_TEXT,   /* const char *, the document's; NULL where absent; never empty */
    MZ_RECIPE_OTHER,  /* known, but read by someone else */
} mz_recipe_kind;

/* Seeds and counts are as large as a double holds exactly. */
#define MZ_RECIPE_MAX_INT 9007199254740992.0

typedef struct mz_recipe_field {
    const char *key;
    mz_recipe_kind kind;
    size_t offset;       /* in the struct that is filled */
    double fallback;     /* INT, NUMBER, BOOL (0 or 1), CHOICE (index) */
    double min, max;     /* INT and NUMBER */
    const char *choices; /* CHOICE: "huber|pinball" */
    bool required;       /* absent is an error */
} mz_recipe_field;

/* Fills `out` from the object, each field from the table. Errors: FORMAT for an unknown key or
 * another type, LIMIT, MISSING. */
mz_status mz_recipe_read(const mz_json_object *o, const mz_recipe_field *fields, int n_fields,
                         void *out);

/* An object inside another one; its name in messages is "FILE: a.b". */
typedef struct mz_recipe_section {
    mz_json_object o; /* o.object is NULL where it is absent: all fields take their fallbacks */
    char name[1024];
} mz_recipe_section;

/* Errors: FORMAT for a value that is no object; MISSING where `required` and absent. */
mz_status mz_recipe_open_section(const mz_json_object *parent, const char *key, bool required,
                                 mz_recipe_section *out);

/* The array under `key`, NULL where it is absent. Errors: FORMAT for a value that is none, LIMIT
 * for more than `max_items`. */
mz_status mz_recipe_array(const mz_json_object *parent, const char *key, size_t max_items,
                          const json_t **out);

/* Item `index` of it, an object called "FILE: key.3". Errors: FORMAT. */
mz_status mz_recipe_open_item(const mz_json_object *parent, const char *key, const json_t *array,
                              size_t index, mz_recipe_section *out);

/* Applies "a.b.0.c=VALUE" to the document. Errors: ARG, NOMEM; LIMIT for more than 32 keys. */
mz_status mz_recipe_set(mz_context *ctx, json_t *document, const char *change);

/* Far below what a checkpoint's reader takes, and what recursion over a document needs of a stack.
 */
enum { MZ_RECIPE_MAX_DEPTH = 100 };

/* Errors: LIMIT, naming `path`, for a value that lies deeper; `depth` is that of `value`. */
mz_status mz_recipe_check_depth(mz_context *ctx, const char *path, const json_t *value, int depth);

#ifdef __cplusplus
}
#endif
#endif
