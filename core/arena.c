#include "core/arena.h"

void mz_arena_init(mz_arena *arena, void *base, size_t bound) {
    *arena = (mz_arena){.base = base, .bound = bound};
}

void mz_arena_init_measure(mz_arena *arena) {
    *arena = (mz_arena){.bound = SIZE_MAX, .measure = true};
}

mz_status mz_arena_take(mz_arena *arena, size_t bytes, const char *what, void **out,
                        mz_error *err) {
    const size_t available = arena->bound - arena->used;
    if (bytes > SIZE_MAX - MZ_ARENA_ALIGNMENT) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: %zu bytes are more than memory can address", what,
                       bytes);
    }
    const size_t rounded =
        (bytes + MZ_ARENA_ALIGNMENT - 1) / MZ_ARENA_ALIGNMENT * MZ_ARENA_ALIGNMENT;
    if (rounded > available) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: needs %zu bytes of scratch, %zu of %zu are left",
                       what, rounded, available, arena->bound);
    }
    *out = arena->measure ? NULL : arena->base + arena->used;
    arena->used += rounded;
    if (arena->used > arena->peak) {
        arena->peak = arena->used;
    }
    return MZ_OK;
}

size_t mz_arena_mark(const mz_arena *arena) {
    return arena->used;
}

void mz_arena_release(mz_arena *arena, size_t mark) {
    arena->used = mark;
}
