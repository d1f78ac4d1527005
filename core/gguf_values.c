#include <stdlib.h>
#include <string.h>

#include "core/gguf_internal.h"

static const char *type_name(mz_gguf_type type) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return names[type];
}

static int key_against_entry(const void *key, const void *entry) {
    const mz_gguf_entry *const *e = entry;
    return strcmp(key, (*e)->key);
}

const mz_gguf_entry *mz_gguf_find_entry(const mz_gguf *gguf, const char *key) {
    if (gguf->n_entries == 0) {
        return NULL;
    }
    const mz_gguf_entry *const *found =
        bsearch(key, gguf->sorted, gguf->n_entries, sizeof(mz_gguf_entry *), key_against_entry);
    return found == NULL ? NULL : *found;
}

const char *mz_gguf_path(const mz_gguf *gguf) {
    return gguf->path;
}

int64_t mz_gguf_n_keys(const mz_gguf *gguf) {
    return (int64_t)gguf->n_entries;
}

const char *mz_gguf_key(const mz_gguf *gguf, int64_t i) {
    return gguf->entries[i].key;
}

bool mz_gguf_has(const mz_gguf *gguf, const char *key, mz_gguf_type *type,
                 mz_gguf_type *element_type, int64_t *n) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return false;
    }
    if (type != NULL) {
        *type = e->type;
    }
    if (element_type != NULL) {
        *element_type = e->element_type;
    }
    if (n != NULL) {
        *n = e->n;
    }
    return true;
}

static bool is_whole(mz_gguf_type type) {
    return type <= MZ_GGUF_I32 || type == MZ_GGUF_U64 || type == MZ_GGUF_I64;
}

static float f32_at(const uint8_t *p) {
    const uint32_t bits = mz_gguf_u32_at(p);
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double f64_at(const uint8_t *p) {
    const uint64_t bits = mz_gguf_u64_at(p);
    double value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A whole number or a bool; a u64 that i64 cannot hold becomes the largest i64. */
static int64_t int_at(mz_gguf_type type, const uint8_t *p) {
    switch (type) {
    case MZ_GGUF_U8:
    case MZ_GGUF_BOOL:
        return p[0];
    case MZ_GGUF_I8:
        return (int8_t)p[0];
    case MZ_GGUF_U16:
        return (uint16_t)(p[0] | p[1] << 8);
    case MZ_GGUF_I16:
        return (int16_t)(p[0] | p[1] << 8);
    case MZ_GGUF_U32:
        return mz_gguf_u32_at(p);
    case MZ_GGUF_I32:
        return (int32_t)mz_gguf_u32_at(p);
    case MZ_GGUF_U64: {
        const uint64_t value = mz_gguf_u64_at(p);
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
    }
    case MZ_GGUF_I64:
        return (int64_t)mz_gguf_u64_at(p);
    default:
        return 0;
    }
}

static double number_at(mz_gguf_type type, const uint8_t *p) {
    if (type == MZ_GGUF_F32) {
        return (double)f32_at(p);
    }
    if (type == MZ_GGUF_F64) {
        return f64_at(p);
    }
    return type == MZ_GGUF_U64 ? (double)mz_gguf_u64_at(p) : (double)int_at(type, p);
}

static const char *text_at(const uint8_t *p, size_t *n_bytes) {
    *n_bytes = (size_t)mz_gguf_u64_at(p);
    return (const char *)p + 8;
}

static mz_status other_type(const mz_gguf *gguf, mz_error *err, const mz_gguf_entry *e,
                            const char *expected) {
    return mz_fail(err, MZ_ERR_FORMAT, "%s: key %s is of type %s, expected %s",
                   gguf->path != NULL ? gguf->path : "GGUF file", e->key, type_name(e->type),
                   expected);
}

mz_status mz_gguf_int(const mz_gguf *gguf, mz_error *err, const char *key, int64_t min, int64_t max,
                      int64_t *out) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return MZ_OK;
    }
    if (!is_whole(e->type)) {
        return other_type(gguf, err, e, "a whole number");
    }
    const int64_t value = int_at(e->type, e->data);
    const bool beyond = e->type == MZ_GGUF_U64 && mz_gguf_u64_at(e->data) > INT64_MAX;
    if (beyond || value < min || value > max) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: key %s is %s%lld, expected %lld to %lld",
                       gguf->path != NULL ? gguf->path : "GGUF file", key, beyond ? "above " : "",
                       (long long)value, (long long)min, (long long)max);
    }
    *out = value;
    return MZ_OK;
}

mz_status mz_gguf_number(const mz_gguf *gguf, mz_error *err, const char *key, double *out) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return MZ_OK;
    }
    if (!is_whole(e->type) && e->type != MZ_GGUF_F32 && e->type != MZ_GGUF_F64) {
        return other_type(gguf, err, e, "a number");
    }
    *out = number_at(e->type, e->data);
    return MZ_OK;
}

mz_status mz_gguf_bool(const mz_gguf *gguf, mz_error *err, const char *key, bool *out) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return MZ_OK;
    }
    if (e->type != MZ_GGUF_BOOL) {
        return other_type(gguf, err, e, "bool");
    }
    *out = e->data[0] != 0;
    return MZ_OK;
}

mz_status mz_gguf_text(const mz_gguf *gguf, mz_error *err, const char *key, const char **out,
                       size_t *n_bytes) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return MZ_OK;
    }
    if (e->type != MZ_GGUF_STRING) {
        return other_type(gguf, err, e, "string");
    }
    *out = text_at(e->data, n_bytes);
    return MZ_OK;
}

static const uint8_t *element(const mz_gguf_entry *e, int64_t i) {
    return e->data + (size_t)i * mz_gguf_type_bytes((uint32_t)e->element_type);
}

int64_t mz_gguf_array_int(const mz_gguf *gguf, const char *key, int64_t i) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    return int_at(e->element_type, element(e, i));
}

double mz_gguf_array_number(const mz_gguf *gguf, const char *key, int64_t i) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    return number_at(e->element_type, element(e, i));
}

const char *mz_gguf_array_text(const mz_gguf *gguf, const char *key, int64_t i, size_t *n_bytes) {
    return text_at(mz_gguf_find_entry(gguf, key)->texts[i], n_bytes);
}
