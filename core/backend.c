#include "core/backend.h"

#include <string.h>

static const mz_backend *(*const getters[])(void) = {mz_backend_cpu, mz_backend_reference};

const mz_backend *mz_backend_at(int i) {
    return i >= 0 && (size_t)i < sizeof getters / sizeof getters[0] ? getters[i]() : NULL;
}

const mz_backend *mz_backend_find(const char *name) {
    for (int i = 0; mz_backend_at(i) != NULL; i++) {
        if (strcmp(mz_backend_at(i)->name, name) == 0) {
            return mz_backend_at(i);
        }
    }
    return NULL;
}

/* The first required op that the table lacks, or NULL. */
static const char *missing_op(const mz_backend *b) {
    const struct {
        const char *name;
        bool present;
    } ops[] = {
        {"linear", b->linear != NULL},
        {"norm", b->norm != NULL},
        {"rope", b->rope != NULL},
        {"softmax", b->softmax != NULL},
        {"gated_activation", b->gated_activation != NULL},
        {"add", b->add != NULL},
        {"gather_rows", b->gather_rows != NULL},
        {"kv_write", b->kv_write != NULL},
        {"attention", b->attention != NULL},
        {"route", b->route != NULL},
        {"dispatch", b->dispatch != NULL},
        {"grouped_linear", b->grouped_linear != NULL},
        {"combine", b->combine != NULL},
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!ops[i].present) {
            return ops[i].name;
        }
    }
    return NULL;
}

mz_status mz_stream_open(mz_context *ctx, const mz_backend *backend, size_t arena_bytes,
                         mz_stream *out) {
    if (backend->abi_version != MZ_BACKEND_ABI) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "backend %s has ABI version %u, this program needs %u", backend->name,
                       backend->abi_version, (unsigned)MZ_BACKEND_ABI);
    }
    const char *missing = missing_op(backend);
    if (missing != NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op %s", backend->name,
                       missing);
    }
    mz_stream s = {.backend = backend, .ctx = ctx};
    MZ_TRY(backend->open(&s));
    const mz_status status = backend->buffer_alloc(&s, arena_bytes, &s.arena_base);
    if (status != MZ_OK) {
        backend->close(&s);
        return status;
    }
    mz_arena_init(&s.arena, s.arena_base, arena_bytes);
    *out = s;
    return MZ_OK;
}

void mz_stream_open_measure(mz_context *ctx, const mz_backend *backend, mz_stream *out) {
    *out = (mz_stream){.backend = backend, .ctx = ctx};
    mz_arena_init_measure(&out->arena);
}

void mz_stream_close(mz_stream *s) {
    if (s->backend != NULL && !s->arena.measure) {
        s->backend->buffer_free(s, s->arena_base, s->arena.bound);
        s->backend->close(s);
    }
    *s = (mz_stream){0};
}
