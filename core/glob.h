/* Matching names against patterns. */
#ifndef MZ_CORE_GLOB_H
#define MZ_CORE_GLOB_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether all of `text` matches `pattern`, in which '*' stands for any number of bytes, none
 * included, and '?' for one byte; every other byte stands for itself (so that the brackets of a
 * name need no escaping, unlike with fnmatch). Takes at most the product of the two lengths. */
bool mz_glob_match(const char *pattern, const char *text);

#ifdef __cplusplus
}
#endif
#endif
