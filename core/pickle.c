#include "core/pickle_internal.h"

#include <string.h>

enum {
    MAX_STACK = 1 << 20, /* values; picklers write containers in batches of 1000 */
    MAX_TABLE_BYTES = 512 << 20,
    MAX_GLOBAL_BYTES = 128, /* of a module or name shown in a message */
    N_STORAGE_ARGS = 5,     /* "storage", type, key, location, number of elements */
    N_TENSOR_ARGS = 6,      /* storage, offset, size, stride, requires_grad, hooks */
};

/* A global is only ever a row of this table: there is nothing here that a pickle could call. */
static const pickle_global globals[] = {
    {"collections", "OrderedDict", GLOBAL_DICT, MZ_DTYPE_COUNT},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR, MZ_DTYPE_COUNT},
    {"torch._utils", "_rebuild_tensor_v3", GLOBAL_TENSOR_DTYPE, MZ_DTYPE_COUNT},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, MZ_DTYPE_COUNT},
    {"torch", "FloatStorage", GLOBAL_STORAGE, MZ_DTYPE_F32},
    {"torch", "HalfStorage", GLOBAL_STORAGE, MZ_DTYPE_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE, MZ_DTYPE_BF16},
    {"torch", "IntStorage", GLOBAL_STORAGE, MZ_DTYPE_I32},
    {"torch", "LongStorage", GLOBAL_STORAGE, MZ_DTYPE_I64},
    {"torch", "ByteStorage", GLOBAL_STORAGE, MZ_DTYPE_U8},
    {"torch", "BoolStorage", GLOBAL_STORAGE, MZ_DTYPE_U8},
    {"torch", "DoubleStorage", GLOBAL_STORAGE, MZ_DTYPE_COUNT},
    {"torch", "ShortStorage", GLOBAL_STORAGE, MZ_DTYPE_COUNT},
    {"torch", "CharStorage", GLOBAL_STORAGE, MZ_DTYPE_COUNT},
    {"torch.storage", "UntypedStorage", GLOBAL_UNTYPED, MZ_DTYPE_COUNT},
    {"torch", "UntypedStorage", GLOBAL_UNTYPED, MZ_DTYPE_COUNT},
    {"torch", "float32", GLOBAL_DTYPE, MZ_DTYPE_F32},
    {"torch", "float16", GLOBAL_DTYPE, MZ_DTYPE_F16},
    {"torch", "bfloat16", GLOBAL_DTYPE, MZ_DTYPE_BF16},
    {"torch", "int32", GLOBAL_DTYPE, MZ_DTYPE_I32},
    {"torch", "int64", GLOBAL_DTYPE, MZ_DTYPE_I64},
    {"torch", "uint8", GLOBAL_DTYPE, MZ_DTYPE_U8},
    {"torch", "bool", GLOBAL_DTYPE, MZ_DTYPE_U8},
    {"torch", "float64", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "int16", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "int8", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "uint16", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "uint32", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "uint64", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "float8_e4m3fn", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
    {"torch", "float8_e5m2", GLOBAL_DTYPE, MZ_DTYPE_COUNT},
};

const pickle_global *mz_pickle_global_at(size_t index) {
    return &globals[index];
}

typedef mz_status (*op_function)(pickle_reader *r);

static mz_error *error_of(pickle_reader *r) {
    return &r->ctx->error;
}

/* The new last row of `t`, uninitialised. */
static mz_status table_add(pickle_reader *r, pickle_table *t, size_t row_bytes, void **row) {
    if (t->n >= MAX_TABLE_BYTES / row_bytes) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT, "more than %zu values of one kind", t->n);
    }
    void *rows = t->rows;
    MZ_TRY(mz_grow(r->ctx, &rows, &t->capacity, t->n + 1, row_bytes, "pickle"));
    t->rows = rows;
    *row = (char *)rows + t->n * row_bytes;
    t->n++;
    return MZ_OK;
}

static mz_status add_value(pickle_reader *r, pickle_table *t, pickle_value v) {
    void *row = NULL;
    MZ_TRY(table_add(r, t, sizeof(pickle_value), &row));
    *(pickle_value *)row = v;
    return MZ_OK;
}

static pickle_value *values(const pickle_table *t) {
    return t->rows;
}

static mz_status push(pickle_reader *r, pickle_value v) {
    if (r->stack.n >= MAX_STACK) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT, "more than %d values on the stack", MAX_STACK);
    }
    return add_value(r, &r->stack, v);
}

static mz_status push_other(pickle_reader *r) {
    return push(r, (pickle_value){.kind = VALUE_OTHER});
}

static mz_status pop(pickle_reader *r, pickle_value *out) {
    if (r->stack.n == 0 || values(&r->stack)[r->stack.n - 1].kind == VALUE_MARK) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "instruction 0x%02x finds no value on the stack",
                       r->op);
    }
    *out = values(&r->stack)[--r->stack.n];
    return MZ_OK;
}

/* The value that stays on top of the stack. */
static mz_status top(pickle_reader *r, pickle_value *out) {
    MZ_TRY(pop(r, out));
    r->stack.n++;
    return MZ_OK;
}

/* The number of values above the last mark. */
static mz_status above_mark(pickle_reader *r, size_t *n) {
    const pickle_value *stack = values(&r->stack);
    for (size_t i = r->stack.n; i > 0; i--) {
        if (stack[i - 1].kind == VALUE_MARK) {
            *n = r->stack.n - i;
            return MZ_OK;
        }
    }
    return mz_fail(error_of(r), MZ_ERR_FORMAT, "instruction 0x%02x finds no mark on the stack",
                   r->op);
}

static mz_status take(pickle_reader *r, uint64_t n, const uint8_t **out) {
    if (n > r->n_bytes - r->pos) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "instruction 0x%02x needs %llu bytes, %zu are left (truncated)", r->op,
                       (unsigned long long)n, r->n_bytes - r->pos);
    }
    *out = r->data + r->pos;
    r->pos += (size_t)n;
    return MZ_OK;
}

static mz_status take_uint(pickle_reader *r, size_t n_bytes, uint64_t *out) {
    const uint8_t *p = NULL;
    MZ_TRY(take(r, n_bytes, &p));
    uint64_t number = 0;
    for (size_t i = n_bytes; i > 0; i--) {
        number = number << 8 | p[i - 1];
    }
    *out = number;
    return MZ_OK;
}

/* --- instructions without structure --- */

static mz_status op_proto(pickle_reader *r) {
    uint64_t version = 0;
    MZ_TRY(take_uint(r, 1, &version));
    if (version < 2 || version > 5) {
        return mz_fail(error_of(r), MZ_ERR_UNSUPPORTED, "pickle protocol %llu, expected 2 to 5",
                       (unsigned long long)version);
    }
    return MZ_OK;
}

static mz_status op_frame(pickle_reader *r) {
    uint64_t n = 0;
    MZ_TRY(take_uint(r, 8, &n));
    if (n > r->n_bytes - r->pos) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "frame of %llu bytes, %zu are left",
                       (unsigned long long)n, r->n_bytes - r->pos);
    }
    return MZ_OK;
}

static mz_status op_stop(pickle_reader *r) {
    r->done = true;
    return MZ_OK;
}

static mz_status op_mark(pickle_reader *r) {
    return push(r, (pickle_value){.kind = VALUE_MARK});
}

static mz_status op_float(pickle_reader *r) {
    uint64_t bits = 0;
    MZ_TRY(take_uint(r, 8, &bits));
    return push_other(r);
}

static mz_status push_int(pickle_reader *r, int64_t number) {
    return push(r, (pickle_value){.kind = VALUE_INT, .u.number = number});
}

static mz_status op_int(pickle_reader *r) {
    const size_t n_bytes = r->op == 'K' ? 1 : r->op == 'M' ? 2 : 4;
    uint64_t number = 0;
    MZ_TRY(take_uint(r, n_bytes, &number));
    return push_int(r, n_bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number);
}

static mz_status op_long(pickle_reader *r) {
    uint64_t n_bytes = 0;
    MZ_TRY(take_uint(r, 1, &n_bytes));
    if (n_bytes > 8) {
        return mz_fail(error_of(r), MZ_ERR_LIMIT, "integer of %llu bytes, the limit is 8",
                       (unsigned long long)n_bytes);
    }
    uint64_t number = 0;
    MZ_TRY(take_uint(r, (size_t)n_bytes, &number));
    const unsigned n_bits = 8 * (unsigned)n_bytes;
    if (n_bits > 0 && n_bits < 64 && (number >> (n_bits - 1) & 1) != 0) {
        number |= UINT64_MAX << n_bits;
    }
    return push_int(r, (int64_t)number);
}

static mz_status op_text(pickle_reader *r) {
    const size_t n_length = r->op == 0x8c ? 1 : r->op == 'X' ? 4 : 8;
    uint64_t n = 0;
    const uint8_t *text = NULL;
    MZ_TRY(take_uint(r, n_length, &n));
    MZ_TRY(take(r, n, &text));
    return push(r,
                (pickle_value){.kind = VALUE_TEXT, .n = (uint32_t)n, .u.text = (const char *)text});
}

static mz_status op_bytes(pickle_reader *r) {
    uint64_t n = 0;
    const uint8_t *bytes = NULL;
    MZ_TRY(take_uint(r, r->op == 'C' ? 1 : 4, &n));
    MZ_TRY(take(r, n, &bytes));
    return push_other(r);
}

/* --- memo --- */

static mz_status put(pickle_reader *r, uint64_t index) {
    pickle_value v = {0};
    MZ_TRY(top(r, &v));
    if (index >
        r->memo.n) { /* picklers number them in order, so that a lone huge index costs nothing */
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "memo entry %llu, expected at most %zu",
                       (unsigned long long)index, r->memo.n);
    }
    if (index < r->memo.n) {
        values(&r->memo)[index] = v;
        return MZ_OK;
    }
    return add_value(r, &r->memo, v);
}

static mz_status op_put(pickle_reader *r) {
    uint64_t index = 0;
    MZ_TRY(take_uint(r, r->op == 'q' ? 1 : 4, &index));
    return put(r, index);
}

static mz_status op_memoize(pickle_reader *r) {
    return put(r, r->memo.n);
}

static mz_status op_get(pickle_reader *r) {
    uint64_t index = 0;
    MZ_TRY(take_uint(r, r->op == 'h' ? 1 : 4, &index));
    if (index >= r->memo.n) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "memo entry %llu, there are %zu",
                       (unsigned long long)index, r->memo.n);
    }
    return push(r, values(&r->memo)[index]);
}

/* --- containers --- */

static mz_status make_tuple(pickle_reader *r, size_t n) {
    const size_t first = r->pool.n;
    for (size_t i = r->stack.n - n; i < r->stack.n; i++) {
        MZ_TRY(add_value(r, &r->pool, values(&r->stack)[i]));
    }
    r->stack.n -= n;
    return push(r, (pickle_value){.kind = VALUE_TUPLE, .n = (uint32_t)n, .u.index = first});
}

static mz_status op_tuple(pickle_reader *r) {
    size_t n = 0;
    MZ_TRY(above_mark(r, &n));
    MZ_TRY(make_tuple(r, n));
    const pickle_value tuple = values(&r->stack)[--r->stack.n];
    values(&r->stack)[r->stack.n - 1] = tuple; /* in the mark's place */
    return MZ_OK;
}

static mz_status op_small_tuple(pickle_reader *r) {
    const size_t n = r->op == ')' ? 0 : (size_t)(r->op - 0x84);
    for (size_t i = 0; i < n; i++) {
        pickle_value v = {0};
        MZ_TRY(pop(r, &v));
    }
    r->stack.n += n;
    return make_tuple(r, n);
}

static mz_status op_list(pickle_reader *r) {
    return push(r, (pickle_value){.kind = VALUE_LIST});
}

static mz_status check_list(pickle_reader *r) {
    pickle_value list = {0};
    MZ_TRY(top(r, &list));
    if (list.kind != VALUE_LIST) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "appends to something that is no list");
    }
    return MZ_OK;
}

static mz_status op_append(pickle_reader *r) {
    pickle_value v = {0};
    MZ_TRY(pop(r, &v));
    return check_list(r);
}

static mz_status op_appends(pickle_reader *r) {
    size_t n = 0;
    MZ_TRY(above_mark(r, &n));
    r->stack.n -= n + 1;
    return check_list(r);
}

static mz_status push_dict(pickle_reader *r) {
    void *row = NULL;
    MZ_TRY(table_add(r, &r->dicts, sizeof(pickle_dict), &row));
    *(pickle_dict *)row = (pickle_dict){0};
    return push(r, (pickle_value){.kind = VALUE_DICT, .u.index = r->dicts.n - 1});
}

static pickle_dict *dict_of(const pickle_reader *r, pickle_value v) {
    return (pickle_dict *)r->dicts.rows + v.u.index;
}

static pickle_dict_item *items_of(const pickle_reader *r) {
    return r->items.rows;
}

static mz_status set_item(pickle_reader *r, pickle_value target, pickle_value key,
                          pickle_value item) {
    if (target.kind != VALUE_DICT) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "sets an item of something that is no dictionary");
    }
    void *row = NULL;
    MZ_TRY(table_add(r, &r->items, sizeof(pickle_dict_item), &row));
    *(pickle_dict_item *)row = (pickle_dict_item){.key = key, .item = item};
    pickle_dict *d = dict_of(r, target);
    if (d->first == 0) {
        d->first = r->items.n;
    } else {
        items_of(r)[d->last - 1].next = r->items.n;
    }
    d->last = r->items.n;
    return MZ_OK;
}

static mz_status op_set_item(pickle_reader *r) {
    pickle_value item = {0};
    pickle_value key = {0};
    pickle_value target = {0};
    MZ_TRY(pop(r, &item));
    MZ_TRY(pop(r, &key));
    MZ_TRY(top(r, &target));
    return set_item(r, target, key, item);
}

static mz_status op_set_items(pickle_reader *r) {
    size_t n = 0;
    MZ_TRY(above_mark(r, &n));
    if (n % 2 != 0 || r->stack.n < n + 2) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "sets items from %zu values, expected pairs and a dictionary", n);
    }
    const size_t base = r->stack.n - n;
    const pickle_value target = values(&r->stack)[base - 2];
    for (size_t i = base; i < r->stack.n; i += 2) {
        MZ_TRY(set_item(r, target, values(&r->stack)[i], values(&r->stack)[i + 1]));
    }
    r->stack.n = base - 1;
    return MZ_OK;
}

/* --- globals and what they build --- */

static bool text_equals(const char *text, size_t n, const char *expected) {
    return strlen(expected) == n && memcmp(text, expected, n) == 0;
}

static mz_status push_global(pickle_reader *r, const char *module, size_t n_module,
                             const char *name, size_t n_name) {
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (text_equals(module, n_module, globals[i].module) &&
            text_equals(name, n_name, globals[i].name)) {
            return push(r, (pickle_value){.kind = VALUE_GLOBAL, .u.index = i});
        }
    }
    return mz_fail(error_of(r), MZ_ERR_FORMAT,
                   "names %.*s.%.*s, which is no part of a table of tensors; a pickle that calls "
                   "code is refused",
                   (int)(n_module < MAX_GLOBAL_BYTES ? n_module : MAX_GLOBAL_BYTES), module,
                   (int)(n_name < MAX_GLOBAL_BYTES ? n_name : MAX_GLOBAL_BYTES), name);
}

static mz_status take_line(pickle_reader *r, const char **line, size_t *n) {
    const size_t left = r->n_bytes - r->pos;
    const uint8_t *begin = r->data + r->pos;
    const uint8_t *end = left > 0 ? memchr(begin, '\n', left) : NULL;
    if (end == NULL) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "the name of a global does not end");
    }
    *line = (const char *)begin;
    *n = (size_t)(end - begin);
    r->pos += *n + 1;
    return MZ_OK;
}

static mz_status op_global(pickle_reader *r) {
    const char *module = NULL;
    const char *name = NULL;
    size_t n_module = 0;
    size_t n_name = 0;
    MZ_TRY(take_line(r, &module, &n_module));
    MZ_TRY(take_line(r, &name, &n_name));
    return push_global(r, module, n_module, name, n_name);
}

static mz_status op_stack_global(pickle_reader *r) {
    pickle_value name = {0};
    pickle_value module = {0};
    MZ_TRY(pop(r, &name));
    MZ_TRY(pop(r, &module));
    if (name.kind != VALUE_TEXT || module.kind != VALUE_TEXT) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT, "the name of a global is no text");
    }
    return push_global(r, module.u.text, module.n, name.u.text, name.n);
}

static mz_status bad_arguments(pickle_reader *r, const char *what) {
    return mz_fail(error_of(r), MZ_ERR_FORMAT, "%s has other arguments than PyTorch writes", what);
}

static bool is_global(pickle_value v, pickle_global_kind kind) {
    return v.kind == VALUE_GLOBAL && globals[v.u.index].kind == kind;
}

static mz_status op_persistent_id(pickle_reader *r) {
    pickle_value id = {0};
    MZ_TRY(pop(r, &id));
    if (id.kind != VALUE_TUPLE || id.n != N_STORAGE_ARGS) {
        return bad_arguments(r, "a storage");
    }
    const pickle_value *args = values(&r->pool) + id.u.index;
    if (args[0].kind != VALUE_TEXT || !text_equals(args[0].u.text, args[0].n, "storage") ||
        !(is_global(args[1], GLOBAL_STORAGE) || is_global(args[1], GLOBAL_UNTYPED)) ||
        args[2].kind != VALUE_TEXT || args[4].kind != VALUE_INT || args[4].u.number < 0) {
        return bad_arguments(r, "a storage");
    }
    void *row = NULL;
    MZ_TRY(table_add(r, &r->storages, sizeof(pickle_storage), &row));
    *(pickle_storage *)row =
        (pickle_storage){.key = args[2], .type = args[1].u.index, .size = args[4].u.number};
    return push(r, (pickle_value){.kind = VALUE_STORAGE, .u.index = r->storages.n - 1});
}

static mz_status build_tensor(pickle_reader *r, bool has_dtype, pickle_value tuple) {
    if (tuple.n < N_TENSOR_ARGS + (has_dtype ? 1u : 0u)) {
        return bad_arguments(r, "a tensor");
    }
    const pickle_value *args = values(&r->pool) + tuple.u.index;
    if (args[0].kind != VALUE_STORAGE || args[1].kind != VALUE_INT || args[2].kind != VALUE_TUPLE ||
        args[3].kind != VALUE_TUPLE ||
        (has_dtype && !is_global(args[N_TENSOR_ARGS], GLOBAL_DTYPE))) {
        return bad_arguments(r, "a tensor");
    }
    const size_t storage_row = args[0].u.index;
    const pickle_tensor t = {
        .storage = storage_row,
        .type = has_dtype ? args[N_TENSOR_ARGS].u.index
                          : ((const pickle_storage *)r->storages.rows)[storage_row].type,
        .offset = args[1].u.number,
        .shape = args[2],
        .stride = args[3],
    };
    void *row = NULL;
    MZ_TRY(table_add(r, &r->tensors, sizeof(pickle_tensor), &row));
    *(pickle_tensor *)row = t;
    return push(r, (pickle_value){.kind = VALUE_TENSOR, .u.index = r->tensors.n - 1});
}

static mz_status op_reduce(pickle_reader *r) {
    pickle_value args = {0};
    pickle_value function = {0};
    MZ_TRY(pop(r, &args));
    MZ_TRY(pop(r, &function));
    if (function.kind != VALUE_GLOBAL || args.kind != VALUE_TUPLE) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "calls something that is no function; a pickle that calls code is refused");
    }
    switch (globals[function.u.index].kind) {
    case GLOBAL_DICT:
        return args.n == 0 ? push_dict(r) : bad_arguments(r, "a dictionary");
    case GLOBAL_TENSOR:
        return build_tensor(r, false, args);
    case GLOBAL_TENSOR_DTYPE:
        return build_tensor(r, true, args);
    case GLOBAL_PARAMETER:
        if (args.n == 0 || values(&r->pool)[args.u.index].kind != VALUE_TENSOR) {
            return bad_arguments(r, "a parameter");
        }
        return push(r, values(&r->pool)[args.u.index]);
    case GLOBAL_STORAGE:
    case GLOBAL_UNTYPED:
    case GLOBAL_DTYPE:
        break;
    }
    return mz_fail(error_of(r), MZ_ERR_FORMAT, "calls %s.%s; a pickle that calls code is refused",
                   globals[function.u.index].module, globals[function.u.index].name);
}

/* An ordered dictionary carries attributes (the modules' versions), which say nothing about its
 * tensors. */
static mz_status op_build(pickle_reader *r) {
    pickle_value state = {0};
    pickle_value target = {0};
    MZ_TRY(pop(r, &state));
    MZ_TRY(top(r, &target));
    if (target.kind != VALUE_DICT) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "sets the state of an object; a pickle that calls code is refused");
    }
    return MZ_OK;
}

static mz_status op_calls(pickle_reader *r) {
    return mz_fail(error_of(r), MZ_ERR_FORMAT,
                   "instruction 0x%02x makes an object; a pickle that calls code is refused",
                   r->op);
}

static const op_function ops[256] = {
    [0x80] = op_proto,       [0x95] = op_frame,        ['.'] = op_stop,
    ['('] = op_mark,         ['N'] = push_other,       [0x88] = push_other,
    [0x89] = push_other,     ['G'] = op_float,         ['J'] = op_int,
    ['K'] = op_int,          ['M'] = op_int,           [0x8a] = op_long,
    ['X'] = op_text,         [0x8c] = op_text,         [0x8d] = op_text,
    ['B'] = op_bytes,        ['C'] = op_bytes,         ['q'] = op_put,
    ['r'] = op_put,          [0x94] = op_memoize,      ['h'] = op_get,
    ['j'] = op_get,          ['t'] = op_tuple,         [')'] = op_small_tuple,
    [0x85] = op_small_tuple, [0x86] = op_small_tuple,  [0x87] = op_small_tuple,
    [']'] = op_list,         ['a'] = op_append,        ['e'] = op_appends,
    ['}'] = push_dict,       ['s'] = op_set_item,      ['u'] = op_set_items,
    ['c'] = op_global,       [0x93] = op_stack_global, ['Q'] = op_persistent_id,
    ['R'] = op_reduce,       ['b'] = op_build,         ['i'] = op_calls,
    ['o'] = op_calls,        [0x81] = op_calls,        [0x92] = op_calls,
    [0x82] = op_calls,       [0x83] = op_calls,        [0x84] = op_calls,
    ['P'] = op_calls,
};

mz_status mz_pickle_run(pickle_reader *r) {
    while (!r->done) {
        r->op_pos = r->pos;
        const uint8_t *op = NULL;
        MZ_TRY(take(r, 1, &op));
        r->op = *op;
        if (ops[r->op] == NULL) {
            return mz_fail(error_of(r), MZ_ERR_FORMAT,
                           "instruction 0x%02x is no part of a table of tensors", r->op);
        }
        MZ_TRY(ops[r->op](r));
    }
    if (r->stack.n != 1 || r->pos != r->n_bytes) {
        return mz_fail(error_of(r), MZ_ERR_FORMAT,
                       "ends with %zu values and %zu bytes left, expected 1 and 0", r->stack.n,
                       r->n_bytes - r->pos);
    }
    return MZ_OK;
}
