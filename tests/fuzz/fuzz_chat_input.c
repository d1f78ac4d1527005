#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/ask/chat_input.h"
#include "apps/ask/stop_strings.h"
#include "apps/cli.h"
#include "tests/fuzz/fuzz_target.h"

enum { MAX_ANSWER = 1 << 16, MAX_STOPS = 2 };

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

/* What of `text` comes before a stop string when it comes in pieces of `width` bytes. */
static size_t push_all(mz_stop_strings *s, const char *text, size_t width, char *out) {
    const size_t n = strlen(text);
    const char *given = NULL;
    size_t n_given = 0;
    size_t n_out = 0;
    bool stopped = false;
    mz_stop_strings_reset(s);
    for (size_t at = 0; at < n && !stopped; at += width) {
        const size_t left = n - at < width ? n - at : width;
        require(mz_stop_strings_push(s, text + at, left, &given, &n_given, &stopped) == MZ_OK);
        memcpy(out + n_out, given, n_given);
        n_out += n_given;
    }
    if (!stopped) {
        mz_stop_strings_finish(s, &given, &n_given);
        if (n_given > 0) {
            memcpy(out + n_out, given, n_given);
        }
        n_out += n_given;
    }
    return n_out;
}

static void check_pieces(mz_stop_strings *s, const char *text) {
    static const size_t widths[] = {1, 3, 7};
    char *whole = malloc(MAX_ANSWER);
    char *pieces = malloc(MAX_ANSWER);
    require(whole != NULL && pieces != NULL);
    if (strlen(text) < MAX_ANSWER) {
        const size_t n = push_all(s, text, MAX_ANSWER, whole);
        require(memcmp(whole, text, n) == 0);
        for (int i = 0; i < 3; i++) {
            require(push_all(s, text, widths[i], pieces) == n && memcmp(whole, pieces, n) == 0);
        }
    }
    free(whole);
    free(pieces);
}

/* The input is what is typed into a conversation. Every turn is UTF-8 without a NUL; the first two
 * become stop strings, which cut the others alike however they come. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mz_context ctx = {.allocator = mz_allocator_system()};
    mz_stop_strings stops = {.ctx = &ctx};
    mz_chat_input *input = NULL;
    mz_chat_event event = MZ_CHAT_TURN;
    char *texts[MAX_STOPS] = {NULL};
    FILE *stream = tmpfile();
    require(stream != NULL && fwrite(data, 1, size, stream) == size);
    rewind(stream);
    require(mz_chat_input_open(&ctx, stream, NULL, &input) == MZ_OK);
    while (event != MZ_CHAT_OVER) {
        const char *text = NULL;
        const mz_status status = mz_chat_input_next(input, &event, &text);
        require(status == MZ_OK || status == MZ_ERR_FORMAT);
        if (status != MZ_OK || event != MZ_CHAT_TURN) {
            continue;
        }
        require(mz_cli_utf8_valid(text, strlen(text)) == strlen(text));
        if (stops.n < MAX_STOPS && text[0] != '\0') {
            require(mz_strdup(&ctx, text, &texts[stops.n]) == MZ_OK);
            require(mz_stop_strings_add(&stops, texts[stops.n]) == MZ_OK);
        } else {
            check_pieces(&stops, text);
        }
    }
    mz_chat_input_close(input);
    mz_stop_strings_free(&stops);
    for (int i = 0; i < MAX_STOPS; i++) {
        mz_free(&ctx, texts[i]);
    }
    (void)fclose(stream);
    return 0;
}
