/* Stop strings: an answer ends where one of them begins, the one that is complete first, however
 * tokens cut the text into pieces. */
#ifndef MZ_APPS_ASK_STOP_STRINGS_H
#define MZ_APPS_ASK_STOP_STRINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MZ_MAX_STOP_STRINGS = 96 };

/* All zero but ctx before use, released with mz_stop_strings_free; one thread. */
typedef struct mz_stop_strings {
    mz_context *ctx;
    const char *texts[MZ_MAX_STOP_STRINGS]; /* the caller's, none empty */
    int n;
    char *held; /* text that may still become one of them */
    size_t n_held, capacity;
    size_t n_given; /* bytes at the front of `held` that the last call gave out */
} mz_stop_strings;

/* Errors: ARG for an empty text; LIMIT for one too many. */
mz_status mz_stop_strings_add(mz_stop_strings *s, const char *text);

/* Forgets what is held: a new answer begins. */
void mz_stop_strings_reset(mz_stop_strings *s);

/* Takes the next piece of an answer. *text [*n_bytes] is what is now certain to belong to it, valid
 * until the next call; *stopped: a stop string follows right behind that, and nothing more may
 * come. Errors: NOMEM. */
mz_status mz_stop_strings_push(mz_stop_strings *s, const char *piece, size_t n_piece,
                               const char **text, size_t *n_bytes, bool *stopped);

/* The answer ended otherwise: what was held belongs to it. */
void mz_stop_strings_finish(mz_stop_strings *s, const char **text, size_t *n_bytes);

void mz_stop_strings_free(mz_stop_strings *s);

#ifdef __cplusplus
}
#endif
#endif
