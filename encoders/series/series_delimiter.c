/* What separates the fields of a CSV file. */
#include <string.h>

#include "encoders/series/series_reader_internal.h"

/* Counts the delimiters outside quotes in the line at *pos, which moves behind it. False for a line
 * without an end. */
static bool count_delimiters(const char *text, size_t n_bytes, const char *delimiters, size_t *pos,
                             int64_t counts[3]) {
    bool is_quoted = false;
    memset(counts, 0, 3 * sizeof *counts);
    for (size_t i = *pos; i < n_bytes; i++) {
        if (text[i] == '"') {
            is_quoted = !is_quoted;
        } else if (!is_quoted && (text[i] == '\n' || text[i] == '\r')) {
            *pos = i + 1;
            return true;
        } else if (!is_quoted) {
            for (int k = 0; k < 3; k++) {
                counts[k] += text[i] == delimiters[k];
            }
        }
    }
    *pos = n_bytes;
    return false;
}

char mz_series_find_delimiter(const char *text, size_t n_bytes) {
    static const char delimiters[] = "\t;,";
    enum { MAX_LINES = 32 };
    int64_t first[3] = {0};
    bool is_even[3] = {true, true, true};
    size_t pos = 0;
    for (int n_lines = 0; n_lines < MAX_LINES && pos < n_bytes;) {
        const size_t begin = pos;
        int64_t counts[3];
        const bool is_complete = count_delimiters(text, n_bytes, delimiters, &pos, counts);
        if (pos - begin == 1 && is_complete) {
            continue; /* an empty line, or half of a CRLF */
        }
        if (!is_complete && n_lines > 0) {
            break;
        }
        for (int k = 0; k < 3; k++) {
            first[k] = n_lines == 0 ? counts[k] : first[k];
            is_even[k] = is_even[k] && counts[k] == first[k];
        }
        n_lines++;
    }
    int best = 2;
    for (int k = 2; k >= 0; k--) {
        best = first[k] >= first[best] && first[k] > 0 ? k : best;
    }
    for (int k = 2; k >= 0; k--) {
        best = is_even[k] && first[k] > 0 ? k : best;
    }
    return delimiters[best];
}
