#include "core/glob.h"

#include <stddef.h>

bool mz_glob_match(const char *pattern, const char *text) {
    const char *star = NULL; /* behind the last '*' seen: only that one may still grow */
    const char *retry = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}
