#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "encoders/series/series_reader_internal.h"

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool mz_series_is_one_of(const char *text, size_t n_bytes, const char *const *words,
                         size_t n_words) {
    for (size_t w = 0; w < n_words; w++) {
        size_t i = 0;
        while (i < n_bytes && words[w][i] != '\0' &&
               tolower((unsigned char)text[i]) == words[w][i]) {
            i++;
        }
        if (i == n_bytes && words[w][i] == '\0') {
            return true;
        }
    }
    return false;
}

static bool is_missing_marker(const char *text, size_t n_bytes) {
    static const char *const markers[] = {"", "-", "na", "n/a", "nan", "null", "none"};
    return mz_series_is_one_of(text, n_bytes, markers, sizeof markers / sizeof markers[0]);
}

static const char *skip_digits(const char *p) {
    while (is_digit(*p)) {
        p++;
    }
    return p;
}

/* The end of the number that begins at `p`, or NULL; *mark is where its decimal mark stands, or
 * NULL. */
static const char *scan_number(const char *p, bool decimal_comma, const char **mark) {
    p += *p == '+' || *p == '-';
    const char *whole = p;
    p = skip_digits(p);
    ptrdiff_t n_digits = p - whole;
    *mark = NULL;
    if (*p == '.' || (decimal_comma && *p == ',')) {
        *mark = p;
        p = skip_digits(p + 1);
        n_digits += p - *mark - 1;
    }
    if (n_digits == 0) {
        return NULL;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        if (!is_digit(*p)) {
            return NULL;
        }
        p = skip_digits(p);
    }
    return p;
}

/* The number [begin, end), which scan_number has read, where it is short: its digits make a whole
 * number below 2^53 and the power of ten beside them is exact too, so that one division or product
 * rounds as the standard asks (Clinger 1990). False for longer ones. */
static bool read_short(const char *begin, const char *end, double *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const uint64_t exact = (uint64_t)1 << 53;
    const bool is_negative = *begin == '-';
    uint64_t digits = 0;
    int n_behind = 0; /* digits behind the mark */
    bool is_behind = false;
    for (const char *p = begin + (*begin == '+' || *begin == '-'); p < end; p++) {
        if (is_digit(*p)) {
            digits = digits * 10 + (uint64_t)(*p - '0');
            n_behind += is_behind;
        } else if (*p == '.' || *p == ',') {
            is_behind = true;
        } else {
            return false; /* an exponent */
        }
        if (digits >= exact || n_behind >= (int)(sizeof powers / sizeof powers[0])) {
            return false;
        }
    }
    const double whole = (double)digits / powers[n_behind];
    *value = is_negative ? -whole : whole;
    return true;
}

mz_field mz_series_field(char *text, size_t n_bytes, bool decimal_comma) {
    char *begin = text;
    char *end = text + n_bytes;
    while (begin < end && is_blank(*begin)) {
        begin++;
    }
    while (end > begin && is_blank(end[-1])) {
        end--;
    }
    mz_field field = {.kind = MZ_FIELD_TEXT, .value = NAN};
    const char *mark;
    if (scan_number(begin, decimal_comma, &mark) != end) {
        field.kind =
            is_missing_marker(begin, (size_t)(end - begin)) ? MZ_FIELD_MISSING : MZ_FIELD_TEXT;
        return field;
    }
    field.mark = mark != NULL ? *mark : '\0';
    if (read_short(begin, end, &field.value)) {
        field.kind = MZ_FIELD_NUMBER;
        return field;
    }
    if (field.mark == ',') {
        begin[mark - begin] = '.';
    }
    const double value = strtod(begin, NULL);
    if (field.mark == ',') {
        begin[mark - begin] = ',';
    }
    if (!isfinite(value)) {
        field.kind = MZ_FIELD_RANGE;
        return field;
    }
    field.kind = MZ_FIELD_NUMBER;
    field.value = value;
    return field;
}

void mz_series_show(const char *text, size_t n_bytes, char shown[MZ_SERIES_SHOWN_BYTES]) {
    static const char cut[] = "...";
    const size_t room = MZ_SERIES_SHOWN_BYTES - sizeof cut;
    size_t n = n_bytes;
    if (n > room) {
        /* Not in the middle of a UTF-8 sequence. */
        for (n = room; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80; n--) {
        }
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        shown[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
    }
    memcpy(shown + n, n < n_bytes ? cut : "", n < n_bytes ? sizeof cut : 1);
}

/* Bytes of the sequence at `p`, 0 when malformed: overlong forms, surrogates and values above
 * U+10FFFF too. */
static size_t utf8_length(const unsigned char *p, size_t n_left) {
    if (p[0] < 0x80) {
        return 1;
    }
    const size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > n_left) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool is_wrong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
                          (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return is_wrong ? 0 : n;
}

bool mz_series_is_utf8(const char *text, size_t n_bytes) {
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < n_bytes;) {
        const size_t n = utf8_length(p + i, n_bytes - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}
