#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void sanitize(char *text) {
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        const unsigned char next = (unsigned char)text[1];
        if (c < 0x20 || c == 0x7f) {
            *text = '?';
        } else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
            /* U+0080 to U+009F: terminals obey them too */
            text[0] = '?';
            text[1] = '?';
        }
    }
}

mz_status mz_fail(mz_error *err, mz_status status, const char *format, ...) {
    if (err == NULL) {
        return status;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    sanitize(err->message);
    err->status = status;
    return status;
}

mz_status mz_fail_prefix(mz_error *err, const char *format, ...) {
    if (err == NULL) {
        return MZ_ERR_ARG;
    }
    char rest[MZ_ERROR_BYTES];
    memcpy(rest, err->message, sizeof rest);
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->message) {
        const size_t used = (size_t)n;
        (void)snprintf(err->message + used, sizeof err->message - used, ": %s", rest);
    }
    sanitize(err->message);
    return err->status;
}

const char *mz_status_name(mz_status status) {
    static const char *const names[] = {"OK",          "ARG",    "SHAPE",  "DTYPE",
                                        "NOMEM",       "IO",     "FORMAT", "MISSING",
                                        "UNSUPPORTED", "DEVICE", "LIMIT",  "INTERRUPTED"};
    const size_t i = (size_t)status;
    return i < sizeof names / sizeof names[0] ? names[i] : "UNKNOWN";
}
