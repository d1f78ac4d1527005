#include "core/tape.h"

#include <string.h>

#include "core/backend.h"
#include "core/tape_internal.h"

enum { MAX_SPACES = 8, CHUNK_BYTES = 1 << 16, KEEP_ALIGNMENT = 16 };

/* Values that are trained, and where their gradients are. */
typedef struct space {
    const uint8_t *values;
    uint8_t *gradients;
    size_t bytes;
} space;

/* One take from the arena. Regions ascend; those given back are dropped at the next take. */
typedef struct region {
    size_t offset, bytes;
    bool needs; /* it depends on a parameter */
    bool live;  /* its gradient has been zeroed, and probably added to */
} region;

typedef struct node {
    mz_backward_op op;
    const void *args;
} node;

/* A piece of memory for arguments; its bytes follow the header. */
typedef struct chunk {
    struct chunk *next;
    size_t bytes, used;
} chunk;

struct mz_tape {
    mz_context *ctx;
    size_t mark;        /* of the arena at attach */
    uint8_t *gradients; /* of the arena, `bytes` reserved */
    size_t bytes;
    space spaces[MAX_SPACES];
    int n_spaces;
    region *regions;
    size_t n_regions, regions_capacity;
    node *nodes;
    size_t n_nodes, nodes_capacity;
    chunk *chunks; /* the one in use first */
    bool recompute;
};

/* ---- life ---- */

mz_status mz_tape_create(mz_context *ctx, mz_tape **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_tape), "tape", &memory));
    *out = memory;
    (*out)->ctx = ctx;
    return MZ_OK;
}

static void free_chunks(mz_tape *tape) {
    while (tape->chunks != NULL) {
        chunk *next = tape->chunks->next;
        mz_free(tape->ctx, tape->chunks);
        tape->chunks = next;
    }
}

void mz_tape_destroy(mz_context *ctx, mz_tape *tape) {
    if (tape == NULL) {
        return;
    }
    free_chunks(tape);
    if (tape->gradients != NULL) {
        ctx->allocator.unreserve(ctx->allocator.self, tape->gradients, tape->bytes);
    }
    mz_free(ctx, tape->regions);
    mz_free(ctx, tape->nodes);
    mz_free(ctx, tape);
}

mz_status mz_tape_attach(mz_tape *tape, mz_stream *s) {
    mz_context *ctx = s->ctx;
    if (!s->backend->host_memory || s->arena.measure) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "backend %s: a tape needs host memory",
                       s->backend->name);
    }
    if (tape->gradients == NULL || tape->bytes < s->arena.bound) {
        uint8_t *fresh = ctx->allocator.reserve(ctx->allocator.self, s->arena.bound);
        if (fresh == NULL) {
            return mz_fail(&ctx->error, MZ_ERR_NOMEM, "gradients: %zu bytes are not to be had",
                           s->arena.bound);
        }
        if (tape->gradients != NULL) {
            ctx->allocator.unreserve(ctx->allocator.self, tape->gradients, tape->bytes);
        }
        tape->gradients = fresh;
        tape->bytes = s->arena.bound;
    }
    tape->mark = mz_arena_mark(&s->arena);
    s->tape = tape;
    s->keep = true;
    mz_tape_reset(s);
    return MZ_OK;
}

void mz_tape_detach(mz_stream *s) {
    mz_tape_reset(s);
    s->tape = NULL;
    s->keep = false;
}

void mz_tape_set_recompute(mz_tape *tape, bool recompute) {
    tape->recompute = recompute;
}

mz_status mz_tape_add_parameters(mz_tape *tape, const void *values, void *gradients, size_t bytes) {
    if (tape->n_spaces == MAX_SPACES) {
        return mz_fail(&tape->ctx->error, MZ_ERR_LIMIT, "more than %d sets of parameters",
                       (int)MAX_SPACES);
    }
    tape->spaces[tape->n_spaces++] =
        (space){.values = values, .gradients = gradients, .bytes = bytes};
    return MZ_OK;
}

void mz_tape_reset(mz_stream *s) {
    mz_tape *tape = s->tape;
    tape->n_nodes = 0;
    tape->n_regions = 0;
    while (tape->chunks != NULL && tape->chunks->next != NULL) { /* the oldest stays */
        chunk *next = tape->chunks->next;
        mz_free(tape->ctx, tape->chunks);
        tape->chunks = next;
    }
    if (tape->chunks != NULL) {
        tape->chunks->used = 0;
    }
    mz_arena_release(&s->arena, tape->mark);
}

/* ---- memory ---- */

mz_status mz_tape_keep(mz_stream *s, size_t bytes, const char *what, void **out) {
    mz_tape *tape = s->tape;
    const size_t needed = (bytes + KEEP_ALIGNMENT - 1) / KEEP_ALIGNMENT * KEEP_ALIGNMENT;
    const size_t header = (sizeof(chunk) + KEEP_ALIGNMENT - 1) / KEEP_ALIGNMENT * KEEP_ALIGNMENT;
    chunk *c = tape->chunks;
    if (c == NULL || c->bytes - c->used < needed) {
        const size_t size = needed > CHUNK_BYTES ? needed : CHUNK_BYTES;
        void *memory = NULL;
        MZ_TRY(mz_alloc(tape->ctx, header + size, what, &memory));
        c = memory;
        *c = (chunk){.next = tape->chunks, .bytes = size};
        tape->chunks = c;
    }
    *out = (uint8_t *)c + header + c->used;
    c->used += needed;
    return MZ_OK;
}

mz_status mz_tape_note_take(mz_stream *s, const void *data, size_t bytes) {
    mz_tape *tape = s->tape;
    const size_t offset = (size_t)((const uint8_t *)data - s->arena.base);
    while (tape->n_regions > 0 && tape->regions[tape->n_regions - 1].offset >= offset) {
        tape->n_regions--;
    }
    void *regions = tape->regions;
    MZ_TRY(mz_grow(tape->ctx, &regions, &tape->regions_capacity, tape->n_regions + 1,
                   sizeof *tape->regions, "tape"));
    tape->regions = regions;
    tape->regions[tape->n_regions++] = (region){.offset = offset, .bytes = bytes};
    return MZ_OK;
}

/* The take that `data` lies in, or NULL when it is not of the arena. */
static region *region_of(const mz_stream *s, const void *data) {
    const mz_tape *tape = s->tape;
    const uint8_t *p = data;
    if (p < s->arena.base || p >= s->arena.base + s->arena.bound) {
        return NULL;
    }
    const size_t offset = (size_t)(p - s->arena.base);
    size_t begin = 0; /* regions before `begin` start at or before the offset, those from `end` on
                         behind it */
    size_t end = tape->n_regions;
    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        if (tape->regions[middle].offset <= offset) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    if (begin == 0) {
        return NULL;
    }
    region *r = &tape->regions[begin - 1];
    return offset < r->offset + r->bytes ? r : NULL;
}

static const space *space_of(const mz_tape *tape, const void *data) {
    const uint8_t *p = data;
    for (int i = 0; i < tape->n_spaces; i++) {
        const space *sp = &tape->spaces[i];
        if (p >= sp->values && p < sp->values + sp->bytes) {
            return sp;
        }
    }
    return NULL;
}

bool mz_tape_needs_data(const mz_stream *s, const void *data) {
    const region *r = region_of(s, data);
    return r != NULL ? r->needs : space_of(s->tape, data) != NULL;
}

bool mz_tape_needs(const mz_stream *s, const mz_tensor *const *inputs, int n_inputs) {
    for (int i = 0; i < n_inputs; i++) {
        if (inputs[i] != NULL && inputs[i]->n_dims > 0 && mz_tape_needs_data(s, inputs[i]->data)) {
            return true;
        }
    }
    return false;
}

float *mz_tape_gradient_data(mz_stream *s, const void *data) {
    mz_tape *tape = s->tape;
    const space *sp = space_of(tape, data);
    if (sp != NULL) {
        return (float *)(sp->gradients + ((const uint8_t *)data - sp->values));
    }
    region *r = region_of(s, data);
    if (r == NULL || !r->needs) {
        return NULL;
    }
    if (!r->live) {
        memset(tape->gradients + r->offset, 0, r->bytes);
        r->live = true;
    }
    return (float *)(tape->gradients + ((const uint8_t *)data - s->arena.base));
}

mz_tensor mz_tape_gradient(mz_stream *s, const mz_tensor *t) {
    if (s->tape == NULL || t == NULL || t->n_dims == 0) {
        return (mz_tensor){0};
    }
    mz_tensor g = *t;
    g.data = mz_tape_gradient_data(s, t->data);
    return g.data != NULL ? g : (mz_tensor){0};
}

mz_tensor mz_tape_gradient_if_any(mz_stream *s, const mz_tensor *t) {
    const region *r = region_of(s, t->data);
    return r != NULL && r->live ? mz_tape_gradient(s, t) : (mz_tensor){0};
}

/* ---- nodes ---- */

mz_status mz_tape_record(mz_stream *s, mz_backward_op op, const void *args, size_t args_bytes,
                         const mz_tensor *const *outputs, int n_outputs) {
    mz_tape *tape = s->tape;
    void *copy = NULL;
    MZ_TRY(mz_tape_keep(s, args_bytes, "tape", &copy));
    memcpy(copy, args, args_bytes);
    void *nodes = tape->nodes;
    MZ_TRY(mz_grow(tape->ctx, &nodes, &tape->nodes_capacity, tape->n_nodes + 1, sizeof *tape->nodes,
                   "tape"));
    tape->nodes = nodes;
    tape->nodes[tape->n_nodes++] = (node){.op = op, .args = copy};
    for (int i = 0; i < n_outputs; i++) {
        region *r = region_of(s, outputs[i]->data);
        if (r != NULL) {
            r->needs = true;
        }
    }
    return MZ_OK;
}

/* Backwards of the nodes from the last down to number `first`. */
static mz_status walk(mz_stream *s, size_t first) {
    mz_tape *tape = s->tape;
    for (size_t i = tape->n_nodes; i > first; i--) {
        const node n = tape->nodes[i - 1];
        tape->n_nodes = i - 1; /* a segment records anew behind the nodes that are left */
        MZ_TRY(n.op(s, n.args));
    }
    return MZ_OK;
}

mz_status mz_backward(mz_stream *s) {
    if (s->backend->training == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s cannot train",
                       s->backend->name);
    }
    return walk(s, 0);
}

/* ---- segments ---- */

typedef struct segment_args {
    mz_tape_segment forward;
    const void *args;
} segment_args;

/* The forward pass again, recorded this time, and back through it. What it takes from the arena
 * goes back. */
static mz_status segment_backward(mz_stream *s, const void *args) {
    const segment_args *segment = args;
    const size_t first = s->tape->n_nodes;
    const size_t mark = mz_arena_mark(&s->arena);
    MZ_TRY(segment->forward(s, segment->args));
    MZ_TRY(walk(s, first));
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

/* The forward pass with recording and keeping turned off. */
static mz_status forward_only(mz_stream *s, mz_tape_segment forward, const void *args) {
    mz_tape *tape = s->tape;
    s->tape = NULL;
    s->keep = false;
    const mz_status status = forward(s, args);
    s->keep = true;
    s->tape = tape;
    return status;
}

mz_status mz_tape_run_segment(mz_stream *s, mz_tape_segment forward, const void *args,
                              size_t args_bytes, const mz_tensor *const *outputs, int n_outputs) {
    if (s->tape == NULL || !s->tape->recompute) {
        return forward(s, args);
    }
    void *copy = NULL;
    MZ_TRY(mz_tape_keep(s, args_bytes, "tape segment", &copy));
    memcpy(copy, args, args_bytes);
    MZ_TRY(forward_only(s, forward, copy));
    const segment_args segment = {.forward = forward, .args = copy};
    return mz_tape_record(s, segment_backward, &segment, sizeof segment, outputs, n_outputs);
}
