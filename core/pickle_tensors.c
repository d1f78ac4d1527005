#include <string.h>

#include "core/pickle_internal.h"

enum { MAX_DICT_DEPTH = 8 };

static mz_error *error_of(pickle_reader *r) {
    return &r->ctx->error;
}

static const pickle_value *pool_of(const pickle_reader *r) {
    return r->pool.rows;
}

static const pickle_dict_item *items_of(const pickle_reader *r) {
    return r->items.rows;
}

static mz_status read_dims(pickle_reader *r, const pickle_tensor *t, mz_pickle_tensor *out) {
    if (t->shape.n > MZ_MAX_DIMS) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT, "%u dimensions, the limit is %d", t->shape.n,
                       MZ_MAX_DIMS);
    }
    const pickle_value *shape = pool_of(r) + t->shape.u.index;
    const pickle_value *stride = pool_of(r) + t->stride.u.index;
    for (size_t i = 0; i < t->shape.n; i++) {
        if (shape[i].kind != VALUE_INT || shape[i].u.number < 0) {
            return mz_fail(error_of(r), MZ_ERR_FORMAT, "shape[%zu] is no integer of at least 0", i);
        }
        out->shape[i] = shape[i].u.number;
    }
    out->n_dims = (int)t->shape.n;
    if (t->stride.n != t->shape.n) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "%u strides for %u dimensions", t->stride.n,
                       t->shape.n);
    }
    if (!mz_weight_n_bytes(out->dtype, out->shape, out->n_dims, &out->n_bytes)) {
        char text[128];
        return mz_fail(error_of(r), MZ_ERR_LIMIT,
                       "shape %s has more elements than memory can address",
                       mz_shape_text(text, sizeof text, out->shape, out->n_dims));
    }
    int64_t expected = 1; /* a product of dimensions, which has been seen not to overflow */
    for (size_t i = t->shape.n; i > 0 && out->n_bytes > 0; i--) {
        if (stride[i - 1].kind != VALUE_INT) {
            return mz_fail(error_of(r), MZ_ERR_FORMAT, "stride[%zu] is no integer", i - 1);
        }
        if (out->shape[i - 1] != 1 && stride[i - 1].u.number != expected) {
            return mz_fail(error_of(r), MZ_ERR_UNSUPPORTED,
                           "is not contiguous: stride[%zu] is %lld, expected %lld", i - 1,
                           (long long)stride[i - 1].u.number, (long long)expected);
        }
        expected *= out->shape[i - 1];
    }
    if (out->n_dims == 0) { /* a scalar */
        out->n_dims = 1;
        out->shape[0] = 1;
    }
    return MZ_OK;
}

static mz_status read_tensor(pickle_reader *r, const pickle_tensor *t, mz_pickle_tensor *out) {
    const pickle_storage *s = (const pickle_storage *)r->storages.rows + t->storage;
    if (mz_pickle_global_at(t->type)->dtype == MZ_DTYPE_COUNT) {
        return mz_fail(error_of(r), MZ_ERR_UNSUPPORTED, "element type torch.%s is not supported",
                       mz_pickle_global_at(t->type)->name);
    }
    *out = (mz_pickle_tensor){
        .name = r->name, .storage_key = s->key.u.text, .storage_key_bytes = s->key.n};
    out->dtype = mz_pickle_global_at(t->type)->dtype;
    MZ_TRY(read_dims(r, t, out));
    const size_t element = (size_t)mz_dtype_get(out->dtype)->block_bytes;
    size_t unit = 1;
    if (mz_pickle_global_at(s->type)->kind == GLOBAL_STORAGE) {
        if (mz_pickle_global_at(s->type)->dtype != out->dtype) {
            return mz_fail(error_of(r), MZ_ERR_FORMAT, "its storage is of another element type");
        }
        unit = element;
    }
    if (!mz_size_mul((size_t)s->size, unit, &out->storage_bytes) || t->offset < 0 ||
        !mz_size_mul((size_t)t->offset, element, &out->offset_bytes) ||
        out->offset_bytes > out->storage_bytes ||
        out->n_bytes > out->storage_bytes - out->offset_bytes) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "%zu bytes at element %lld do not fit into its storage of %lld elements",
                       out->n_bytes, (long long)t->offset, (long long)s->size);
    }
    return MZ_OK;
}

/* Whether the bytes are UTF-8 without control characters (RFC 3629): names go into messages and
 * JSON. */
static bool is_plain_text(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    size_t i = 0;
    while (i < n) {
        const uint8_t c = p[i];
        const size_t n_more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4 || n_more >= n - i) {
            return false;
        }
        for (size_t k = 1; k <= n_more; k++) {
            if ((p[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        const uint8_t second = n_more > 0 ? p[i + 1] : 0;
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) ||
            (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f)) {
            return false;
        }
        i += 1 + n_more;
    }
    return true;
}

/* Appends ".KEY" to the name, which has n bytes; *n_new gets its new length. */
static mz_status extend_name(pickle_reader *r, size_t n, pickle_value key, size_t *n_new) {
    if (key.kind != VALUE_TEXT) {
        return mz_fail(error_of(r), MZ_ERR_UNSUPPORTED,
                       "a tensor or dictionary stands under a key that is no text");
    }
    const size_t dot = n > 0;
    if (key.n >= sizeof r->name - n - dot) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT,
                       "the name of a tensor has %zu bytes, the limit is %d", n + dot + key.n,
                       PICKLE_MAX_NAME_BYTES - 1);
    }
    if (!is_plain_text(key.u.text, key.n)) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "the name of a tensor is no UTF-8 or has control characters");
    }
    if (dot != 0) {
        r->name[n] = '.';
    }
    memcpy(r->name + n + dot, key.u.text, key.n);
    *n_new = n + dot + key.n;
    r->name[*n_new] = '\0';
    return MZ_OK;
}

static mz_status collect(pickle_reader *r, pickle_value v, size_t n_name, int depth) {
    pickle_dict *d = (pickle_dict *)r->dicts.rows + v.u.index;
    if (depth > MAX_DICT_DEPTH) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT, "dictionaries are nested more than %d deep",
                       MAX_DICT_DEPTH);
    }
    if (d->reached) { /* also keeps a dictionary that contains itself from being walked for ever */
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "a dictionary is reached in two ways");
    }
    d->reached = true;
    for (size_t row = d->first; row != 0; row = items_of(r)[row - 1].next) {
        const pickle_dict_item *item = &items_of(r)[row - 1];
        size_t n = 0;
        if (item->item.kind == VALUE_DICT) {
            MZ_TRY(extend_name(r, n_name, item->key, &n));
            MZ_TRY(collect(r, item->item, n, depth + 1));
        } else if (item->item.kind == VALUE_TENSOR) {
            MZ_TRY(extend_name(r, n_name, item->key, &n));
            mz_pickle_tensor t;
            if (read_tensor(r, (const pickle_tensor *)r->tensors.rows + item->item.u.index, &t) !=
                MZ_OK) {
                return mz_fail_prefix(error_of(r), "tensor %s", r->name);
            }
            MZ_TRY(r->visit(r->self, &t));
        }
    }
    return MZ_OK;
}

static mz_status read_document(pickle_reader *r) {
    if (mz_pickle_run(r) != MZ_OK) {
        return mz_fail_prefix(error_of(r), "pickle, byte %zu", r->op_pos);
    }
    const pickle_value document = ((const pickle_value *)r->stack.rows)[0];
    if (document.kind != VALUE_DICT) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "the pickle holds no dictionary of tensors");
    }
    return collect(r, document, 0, 1);
}

mz_status mz_pickle_read(mz_context *ctx, const char *path, const uint8_t *data, size_t n_bytes,
                         mz_pickle_visit visit, void *self) {
    if (n_bytes > MZ_WEIGHTS_MAX_HEADER) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: pickle of %zu bytes, the limit is %d", path,
                       n_bytes, MZ_WEIGHTS_MAX_HEADER);
    }
    pickle_reader r = {.ctx = ctx, .data = data, .n_bytes = n_bytes, .visit = visit, .self = self};
    mz_status status = read_document(&r);
    if (status != MZ_OK) {
        status = mz_fail_prefix(&ctx->error, "%s", path);
    }
    pickle_table *const tables[] = {&r.stack, &r.memo,     &r.pool,   &r.items,
                                    &r.dicts, &r.storages, &r.tensors};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        mz_free(ctx, tables[i]->rows);
    }
    return status;
}
