#include "apps/plot/plot_internal.h"

#include <stdio.h>
#include <string.h>

static const uint32_t REPLACEMENT = 0xFFFD;
static const char ELLIPSIS[] = "\xE2\x80\xA6";
enum { ELLIPSIS_BYTES = 3 };

size_t mz_plot_put_utf8(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | (code >> 6));
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | (code >> 12));
        out[1] = (char)(0x80 | ((code >> 6) & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (code >> 18));
    out[1] = (char)(0x80 | ((code >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((code >> 6) & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* Decodes one code point of any bytes and returns how many it took; U+FFFD and 1 for a bad one. */
static size_t decode(const unsigned char *s, uint32_t *code) {
    *code = REPLACEMENT;
    size_t n = 0;
    uint32_t least = 0;
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        n = 2;
        least = 0x80;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        n = 3;
        least = 0x800;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        n = 4;
        least = 0x10000;
    } else {
        return 1;
    }
    uint32_t value = s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) { /* the final NUL too */
            return 1;
        }
        value = (value << 6) | (s[i] & 0x3F);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        return 1;
    }
    *code = value;
    return n;
}

uint32_t mz_plot_next_utf8(const char **text) {
    uint32_t code = 0;
    if (**text == '\0') {
        return 0;
    }
    *text += decode((const unsigned char *)*text, &code);
    return code;
}

/* What a picture shows instead of characters that steer a terminal or turn text around. */
static uint32_t harmless(uint32_t code) {
    if (code == '\t' || code == '\n' || code == '\r') {
        return ' ';
    }
    const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
    const bool direction = code == 0x200E || code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
                           (code >= 0x2066 && code <= 0x2069);
    const bool no_character = code == 0xFFFE || code == 0xFFFF || code == 0xFEFF;
    return control || direction || no_character ? REPLACEMENT : code;
}

void mz_plot_clean(const char *text, char out[MZ_PLOT_TEXT_BYTES]) {
    enum { HALF = (MZ_PLOT_TEXT_BYTES - ELLIPSIS_BYTES - 1) / 2 };
    const unsigned char *s = (const unsigned char *)(text == NULL ? "" : text);
    const size_t n_bytes = strlen((const char *)s);
    /* Each bad byte becomes three. */
    size_t n_out = 0;
    size_t done = 0;
    while (done < n_bytes) {
        uint32_t code = 0;
        const size_t taken = decode(s + done, &code);
        if (n_out + 4 > HALF && n_bytes - done > HALF / 3) {
            break;
        }
        n_out += mz_plot_put_utf8(harmless(code), out + n_out);
        done += taken;
    }
    if (done < n_bytes) {
        memcpy(out + n_out, ELLIPSIS, ELLIPSIS_BYTES);
        n_out += ELLIPSIS_BYTES;
        done = n_bytes - HALF / 3;
        while (done < n_bytes && (s[done] & 0xC0) == 0x80) {
            done++;
        }
    }
    while (done < n_bytes) {
        uint32_t code = 0;
        done += decode(s + done, &code);
        n_out += mz_plot_put_utf8(harmless(code), out + n_out);
    }
    out[n_out] = '\0';
}

/* `text` with only `n_kept` of its `n` characters around an ellipsis. starts[i] is where character
 * i begins, starts[n] the end. */
static void cut_middle(const char *text, const size_t *starts, size_t n, size_t n_kept,
                       char out[MZ_PLOT_TEXT_BYTES + ELLIPSIS_BYTES]) {
    const size_t head = starts[n_kept - n_kept / 2];
    const size_t tail = starts[n - n_kept / 2];
    memcpy(out, text, head);
    memcpy(out + head, ELLIPSIS, ELLIPSIS_BYTES);
    memcpy(out + head + ELLIPSIS_BYTES, text + tail, starts[n] - tail + 1);
}

void mz_plot_fit(char text[MZ_PLOT_TEXT_BYTES], double max_width, const mz_plot_measure *measure) {
    if (measure->width(measure->arg, text) <= max_width) {
        return;
    }
    size_t starts[MZ_PLOT_TEXT_BYTES + 1];
    size_t n = 0;
    const char *s = text;
    while (*s != '\0') {
        starts[n++] = (size_t)(s - text);
        (void)mz_plot_next_utf8(&s);
    }
    starts[n] = (size_t)(s - text);
    char tried[MZ_PLOT_TEXT_BYTES + ELLIPSIS_BYTES];
    size_t fits = 0; /* characters known to fit; none still shows the ellipsis */
    size_t too_many = n;
    while (fits + 1 < too_many) {
        const size_t middle = fits + (too_many - fits) / 2;
        cut_middle(text, starts, n, middle, tried);
        if (measure->width(measure->arg, tried) <= max_width) {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    cut_middle(text, starts, n, fits, tried);
    if (strlen(tried) < MZ_PLOT_TEXT_BYTES) {
        memcpy(text, tried, strlen(tried) + 1);
    }
}

/* Characters that terminals draw two columns wide, and those drawn onto the one before. */
static const struct {
    uint32_t first, last;
    int columns;
} widths[] = {
    {0x0300, 0x036F, 0},   {0x0483, 0x0489, 0},   {0x0591, 0x05BD, 0},   {0x064B, 0x065F, 0},
    {0x1100, 0x115F, 2},   {0x200B, 0x200D, 0},   {0x20D0, 0x20F0, 0},   {0x231A, 0x231B, 2},
    {0x2E80, 0x303E, 2},   {0x3041, 0xA4CF, 2},   {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAFF, 2},
    {0xFE00, 0xFE0F, 0},   {0xFE20, 0xFE2F, 0},   {0xFE30, 0xFE6F, 2},   {0xFF00, 0xFF60, 2},
    {0xFFE0, 0xFFE6, 2},   {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1FAFF, 2},
    {0x20000, 0x3FFFD, 2}, {0xE0100, 0xE01EF, 0},
};

int mz_plot_columns(const char *text) {
    int n = 0;
    for (uint32_t code = mz_plot_next_utf8(&text); code != 0; code = mz_plot_next_utf8(&text)) {
        int columns = 1;
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            if (code >= widths[i].first && code <= widths[i].last) {
                columns = widths[i].columns;
            }
        }
        n += columns;
    }
    return n;
}

static double columns_width(void *arg, const char *text) {
    (void)arg;
    return mz_plot_columns(text);
}

mz_plot_measure mz_plot_measure_columns(void) {
    return (mz_plot_measure){.width = columns_width};
}
