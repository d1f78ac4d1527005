#include "llm/utf8.h"

#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD";

/* What the first byte allows: the character's length (0: no first byte) and the range of the second
 * byte, which is where overlong forms and surrogates are told. */
static int first_byte(uint8_t b, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xBF;
    if (b < 0x80) {
        return 1;
    }
    if (b >= 0xC2 && b <= 0xDF) {
        return 2;
    }
    if ((b & 0xF0) == 0xE0) {
        *low = b == 0xE0 ? 0xA0 : 0x80;
        *high = b == 0xED ? 0x9F : 0xBF;
        return 3;
    }
    if (b >= 0xF0 && b <= 0xF4) {
        *low = b == 0xF0 ? 0x90 : 0x80;
        *high = b == 0xF4 ? 0x8F : 0xBF;
        return 4;
    }
    return 0;
}

/* The number of bytes that begin a character, and its whole length. */
static size_t good_bytes(const char *text, size_t n_bytes, int *length) {
    uint8_t low = 0;
    uint8_t high = 0;
    *length = first_byte((uint8_t)text[0], &low, &high);
    size_t n = *length > 0;
    while (n > 0 && n < (size_t)*length && n < n_bytes && (uint8_t)text[n] >= low &&
           (uint8_t)text[n] <= high) {
        low = 0x80;
        high = 0xBF;
        n++;
    }
    return n;
}

int mz_utf8_decode(const char *text, size_t n_bytes, uint32_t *code) {
    int length = 0;
    if (good_bytes(text, n_bytes, &length) < (size_t)length || length == 0) {
        return 0;
    }
    if (code != NULL) {
        static const uint8_t masks[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
        *code = (uint8_t)text[0] & masks[length];
        for (int i = 1; i < length; i++) {
            *code = *code << 6 | ((uint8_t)text[i] & 0x3F);
        }
    }
    return length;
}

size_t mz_utf8_encode(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

size_t mz_utf8_bad_length(const char *text, size_t n_bytes, bool *cut) {
    int length = 0;
    const size_t n = good_bytes(text, n_bytes, &length);
    if (cut != NULL) {
        *cut = n == n_bytes && n < (size_t)length;
    }
    return n > 0 ? n : 1;
}

bool mz_utf8_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

uint32_t mz_utf8_before(const char *text, size_t at, size_t *start) {
    size_t i = at - 1;
    while (i > 0 && ((uint8_t)text[i] & 0xC0) == 0x80) {
        i--;
    }
    uint32_t code = 0;
    if ((size_t)mz_utf8_decode(text + i, at - i, &code) != at - i) {
        *start = at - 1;
        return 0xFFFD;
    }
    *start = i;
    return code;
}

/* Where the first byte stands that is no part of a character; n_bytes where there is none. */
static size_t first_bad(const char *text, size_t n_bytes) {
    size_t i = 0;
    while (i < n_bytes) {
        const int n = (uint8_t)text[i] < 0x80 ? 1 : mz_utf8_decode(text + i, n_bytes - i, NULL);
        if (n == 0) {
            break;
        }
        i += (size_t)n;
    }
    return i;
}

bool mz_utf8_valid(const char *text, size_t n_bytes) {
    return first_bad(text, n_bytes) == n_bytes;
}

mz_status mz_utf8_repair(mz_context *ctx, const char *text, size_t n_bytes, char **out,
                         size_t *n_out) {
    /* One bad byte becomes three at most. */
    void *memory = NULL;
    MZ_TRY(mz_alloc(ctx, 3 * n_bytes + 1, "text", &memory));
    char *copy = memory;
    size_t n = 0;
    for (size_t i = 0; i < n_bytes;) {
        const size_t good = first_bad(text + i, n_bytes - i);
        memcpy(copy + n, text + i, good);
        n += good;
        i += good;
        if (i < n_bytes) {
            memcpy(copy + n, replacement, 3);
            n += 3;
            i += mz_utf8_bad_length(text + i, n_bytes - i, NULL);
        }
    }
    copy[n] = '\0';
    *out = copy;
    *n_out = n;
    return MZ_OK;
}
