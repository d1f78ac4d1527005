/* An arena: one reservation handed out front to back, in stack order.
 *
 * Sizes come from running the same set-up code twice: first on an arena in measure mode, which
 * counts and gives no memory, then on one of the measured size. */
#ifndef MZ_CORE_ARENA_H
#define MZ_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_ARENA_ALIGNMENT = 64 };

/* Created by mz_arena_init or mz_arena_init_measure over memory that it does not own; one thread.
 */
typedef struct mz_arena {
    uint8_t *base; /* NULL in measure mode */
    size_t bound;  /* bytes that may be taken */
    size_t used;   /* bytes taken now */
    size_t peak;   /* largest `used` so far */
    bool measure;
} mz_arena;

/* Over `bound` bytes at `base` (64-byte aligned), which may be memory of a device: the arena never
 * reads or writes it. */
void mz_arena_init(mz_arena *arena, void *base, size_t bound);
void mz_arena_init_measure(mz_arena *arena);

/* Takes `bytes`, 64-byte aligned, uninitialised. In measure mode *out is NULL.
 * Errors: LIMIT with needed and available bytes; `what` names the buffer. */
mz_status mz_arena_take(mz_arena *arena, size_t bytes, const char *what, void **out, mz_error *err);

/* Everything taken after `mark` is given back. */
size_t mz_arena_mark(const mz_arena *arena);
void mz_arena_release(mz_arena *arena, size_t mark);

#ifdef __cplusplus
}
#endif
#endif
