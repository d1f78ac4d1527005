/* The document that core/pickle.c reads and core/pickle_tensors.c takes the tensors from. */
#ifndef MZ_CORE_PICKLE_INTERNAL_H
#define MZ_CORE_PICKLE_INTERNAL_H

#include "core/weights_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PICKLE_MAX_NAME_BYTES = 2048
}; /* of a tensor's name with those of the dictionaries around it */

typedef enum pickle_global_kind {
    GLOBAL_DICT,
    GLOBAL_TENSOR,       /* dtype comes from the storage's type */
    GLOBAL_TENSOR_DTYPE, /* dtype is the argument after the hooks */
    GLOBAL_PARAMETER,
    GLOBAL_STORAGE,
    GLOBAL_UNTYPED, /* storage whose size is in bytes */
    GLOBAL_DTYPE,
} pickle_global_kind;

/* A row of the table of globals. */
typedef struct pickle_global {
    const char *module;
    const char *name;
    pickle_global_kind kind;
    mz_dtype dtype; /* MZ_DTYPE_COUNT: none, or known but not supported */
} pickle_global;

typedef enum pickle_kind {
    VALUE_MARK = 0, /* only on the stack */
    VALUE_OTHER,    /* none, booleans, floats, bytes, lists: carried along, never looked into */
    VALUE_LIST,     /* the same, but may be appended to */
    VALUE_INT,
    VALUE_TEXT,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_GLOBAL,
    VALUE_STORAGE,
    VALUE_TENSOR,
} pickle_kind;

typedef struct pickle_value {
    pickle_kind kind;
    uint32_t n; /* text: bytes; tuple: items */
    union {
        int64_t number;   /* int */
        const char *text; /* in the pickle, not NUL-terminated */
        size_t index;     /* tuple: first item in the pool; others: row of their table */
    } u;
} pickle_value;

/* A growing array of any type. */
typedef struct pickle_table {
    void *rows;
    size_t n;
    size_t capacity;
} pickle_table;

typedef struct pickle_dict {
    size_t first; /* row of its first item plus 1, 0 for none */
    size_t last;
    bool reached; /* while collecting: its tensors have their names */
} pickle_dict;

typedef struct pickle_dict_item {
    pickle_value key;
    pickle_value item;
    size_t next; /* row of the next item plus 1 */
} pickle_dict_item;

typedef struct pickle_storage {
    pickle_value key; /* text */
    size_t type;      /* row of globals */
    int64_t size;     /* elements; bytes when untyped */
} pickle_storage;

typedef struct pickle_tensor {
    size_t storage;     /* row of storages */
    size_t type;        /* row of globals that gives the dtype */
    int64_t offset;     /* elements */
    pickle_value shape; /* tuples */
    pickle_value stride;
} pickle_tensor;

typedef struct pickle_reader {
    mz_context *ctx;
    const uint8_t *data;
    size_t n_bytes;
    size_t pos;
    size_t op_pos; /* of the instruction being read */
    uint8_t op;
    bool done;
    pickle_table stack, memo, pool; /* of value */
    pickle_table items;             /* of dict_item */
    pickle_table dicts, storages, tensors;
    mz_pickle_visit visit;
    void *self;
    char name[PICKLE_MAX_NAME_BYTES];
} pickle_reader;

/* Row `index` of the table of globals. */
const pickle_global *mz_pickle_global_at(size_t index);

/* Reads the instructions to the end; the document is then the only value on r->stack. Errors: as
 * mz_pickle_read, without the file's name. */
mz_status mz_pickle_run(pickle_reader *r);

#ifdef __cplusplus
}
#endif

#endif
