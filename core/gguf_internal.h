/* What the parts of the GGUF reader share. */
#ifndef MZ_CORE_GGUF_INTERNAL_H
#define MZ_CORE_GGUF_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "core/file.h"
#include "core/gguf.h"
#include "core/weights.h"
#include "core/weights_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MZ_GGUF_MAX_KEYS = 100000,
    MZ_GGUF_MAX_NAME_BYTES = 65535, /* of a key or a tensor's name */
    MZ_GGUF_ALIGNMENT = 32,         /* where the file names none */
};

/* A key and its value, which lies in the file. */
typedef struct mz_gguf_entry {
    char *key; /* owned */
    mz_gguf_type type;
    mz_gguf_type element_type; /* of an array; otherwise `type` */
    int64_t n;                 /* elements of an array; otherwise 1 */
    const uint8_t *data;       /* the value; of a text its length; of an array the first element */
    const uint8_t *raw;        /* all that stands behind the key: type and value */
    size_t n_raw_bytes;
    const uint8_t **texts; /* [n] of an array of texts: their lengths; owned; or NULL */
} mz_gguf_entry;

struct mz_gguf {
    mz_context *ctx;
    char *path; /* owned */
    mz_map map; /* empty where the bytes are a caller's */
    mz_gguf_entry *entries;
    size_t n_entries;
    const mz_gguf_entry **sorted; /* [n_entries] by key */
    mz_weights *weights; /* the tensors, of all parts; NULL where the bytes are a caller's */
};

/* mz_weights_open of a GGUF file of any name. */
mz_status mz_weights_open_gguf(mz_context *ctx, const char *path, mz_weights **out);

/* Number at `p`, which may be unaligned. */
uint32_t mz_gguf_u32_at(const uint8_t *p);
uint64_t mz_gguf_u64_at(const uint8_t *p);

/* Bytes of a value of that type; 0 for texts, arrays and numbers that are no type. */
size_t mz_gguf_type_bytes(uint32_t type);

/* The tensor type of that number in the file; false where no mz_dtype is for it. And the number of
 * a type that has one; `name` (may be NULL) as the format writes it, "Q4_K". */
bool mz_gguf_dtype(uint32_t number, mz_dtype *out);
bool mz_gguf_dtype_number(mz_dtype dtype, uint32_t *number, const char **name);

/* The key's entry, or NULL. */
const mz_gguf_entry *mz_gguf_find_entry(const mz_gguf *gguf, const char *key);

/* Reads a file in memory: its metadata into *g, all-zero but for `ctx`, which must be released with
 * mz_gguf_clear also on failure; its tensors are appended to `list`. Errors as mz_gguf_open. */
mz_status mz_gguf_parse(mz_gguf *g, const mz_weight_file *file, mz_weight_list *list);
void mz_gguf_clear(mz_gguf *g);

/* Appends the tensors of a GGUF file. *n_parts: files that the checkpoint is in, of which this must
 * be number `part`, counted from 0; *n_total: tensors of all of them, or -1 where it does not say.
 * Errors also: FORMAT where it is another part. */
mz_status mz_gguf_read(mz_weight_list *list, const mz_weight_file *file, int64_t part,
                       int64_t *n_parts, int64_t *n_total);

#ifdef __cplusplus
}
#endif
#endif
