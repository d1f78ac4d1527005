#include "llm/vocabulary.h"

#include <string.h>
#include <xxhash.h>

static const size_t max_text_bytes = (size_t)1 << 30;
enum { FIRST_SLOTS = 1024 };

static size_t find_slot(const mz_vocabulary *v, const char *text, size_t n_bytes) {
    /* The seed is where the slots lie, which nobody who writes a file knows. */
    const uint64_t seed = (uint64_t)(uintptr_t)v->slots;
    const size_t mask = v->n_slots - 1;
    size_t slot = (size_t)XXH3_64bits_withSeed(text, n_bytes, seed) & mask;
    while (v->slots[slot] >= 0) {
        const mz_piece *p = &v->pieces[v->slots[slot]];
        if (p->n_bytes == n_bytes && memcmp(v->text + p->offset, text, n_bytes) == 0) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

/* Room for n texts in the table at a load of at most a half. */
static mz_status grow_slots(mz_context *ctx, mz_vocabulary *v, int64_t n) {
    size_t wanted = v->n_slots > 0 ? v->n_slots : FIRST_SLOTS;
    while (wanted < 2 * (size_t)n) {
        wanted *= 2;
    }
    if (wanted == v->n_slots) {
        return MZ_OK;
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, wanted, sizeof *v->slots, "vocabulary", &memory));
    int32_t *const old = v->slots;
    const size_t n_old = v->n_slots;
    v->slots = memory;
    v->n_slots = wanted;
    memset(v->slots, 0xFF, wanted * sizeof *v->slots);
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] >= 0) {
            const mz_piece *p = &v->pieces[old[i]];
            v->slots[find_slot(v, v->text + p->offset, p->n_bytes)] = old[i];
        }
    }
    mz_free(ctx, old);
    return MZ_OK;
}

static mz_status grow_pieces(mz_context *ctx, mz_vocabulary *v, int64_t n) {
    void *memory = v->pieces;
    MZ_TRY(mz_grow(ctx, &memory, &v->capacity, (size_t)n, sizeof *v->pieces, "vocabulary"));
    v->pieces = memory;
    return MZ_OK;
}

static mz_status grow_text(mz_context *ctx, mz_vocabulary *v, size_t n_text) {
    void *memory = v->text;
    MZ_TRY(mz_grow(ctx, &memory, &v->text_capacity, n_text, 1, "vocabulary"));
    v->text = memory;
    return MZ_OK;
}

mz_status mz_vocabulary_reserve(mz_context *ctx, mz_vocabulary *v, int64_t n_pieces,
                                size_t n_text) {
    if (n_pieces > MZ_VOCABULARY_MAX || n_text > max_text_bytes) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT,
                       "a vocabulary of %lld tokens and %zu bytes, at most %d and %zu are allowed",
                       (long long)n_pieces, n_text, MZ_VOCABULARY_MAX, max_text_bytes);
    }
    MZ_TRY(grow_pieces(ctx, v, n_pieces));
    MZ_TRY(grow_text(ctx, v, n_text));
    return grow_slots(ctx, v, n_pieces);
}

static bool same_piece(const mz_vocabulary *v, int64_t id, const char *text, size_t n_bytes) {
    const mz_piece *p = &v->pieces[id];
    return p->n_bytes == n_bytes && memcmp(v->text + p->offset, text, n_bytes) == 0;
}

mz_status mz_vocabulary_add(mz_context *ctx, mz_vocabulary *v, const char *name, int64_t id,
                            const char *text, size_t n_bytes, mz_piece_type type, float score) {
    if (id < 0 || id >= MZ_VOCABULARY_MAX) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: token id %lld, expected 0 to %d", name,
                       (long long)id, MZ_VOCABULARY_MAX - 1);
    }
    if (n_bytes > max_text_bytes - v->n_text) {
        return mz_fail(&ctx->error, MZ_ERR_LIMIT, "%s: more than %zu bytes of tokens", name,
                       max_text_bytes);
    }
    if (id < v->n && v->pieces[id].type != MZ_PIECE_NONE) {
        if (!same_piece(v, id, text, n_bytes)) {
            return mz_fail(&ctx->error, MZ_ERR_FORMAT, "%s: two tokens with the id %lld", name,
                           (long long)id);
        }
        v->pieces[id].type = (uint8_t)type;
        return MZ_OK;
    }
    MZ_TRY(grow_pieces(ctx, v, id + 1));
    MZ_TRY(grow_text(ctx, v, v->n_text + (n_bytes > 0 ? n_bytes : 1))); /* empty ones point there */
    MZ_TRY(grow_slots(ctx, v, v->n_hashed + 1));
    if (id >= v->n) {
        memset(v->pieces + v->n, 0, (size_t)(id + 1 - v->n) * sizeof *v->pieces);
        v->n = id + 1;
    }
    v->pieces[id] = (mz_piece){.offset = (uint32_t)v->n_text,
                               .n_bytes = (uint32_t)n_bytes,
                               .score = score,
                               .type = (uint8_t)type};
    if (n_bytes > 0) {
        memcpy(v->text + v->n_text, text, n_bytes);
    }
    v->n_text += n_bytes;
    v->longest = v->longest > n_bytes ? v->longest : n_bytes;
    const size_t slot = find_slot(v, v->text + v->pieces[id].offset, n_bytes);
    if (v->slots[slot] < 0) {
        v->slots[slot] = (int32_t)id;
        v->n_hashed++;
    }
    return MZ_OK;
}

int32_t mz_vocabulary_find(const mz_vocabulary *v, const char *text, size_t n_bytes) {
    if (v->n_slots == 0 || n_bytes > v->longest) {
        return -1;
    }
    return v->slots[find_slot(v, text, n_bytes)];
}

const char *mz_vocabulary_text(const mz_vocabulary *v, int32_t id, size_t *n_bytes) {
    *n_bytes = v->pieces[id].n_bytes;
    return v->text + v->pieces[id].offset;
}

void mz_vocabulary_free(mz_context *ctx, mz_vocabulary *v) {
    mz_free(ctx, v->pieces);
    mz_free(ctx, v->text);
    mz_free(ctx, v->slots);
    *v = (mz_vocabulary){0};
}

/* Bytes that print as themselves in Latin-1: '!' to '~', U+00A1 to U+00AC, U+00AE to U+00FF. The
 * others, in order, are U+0100 and on. */
enum { FIRST_ESCAPE = 0x100, N_LOW = 0x21, N_MIDDLE = 0x22 };

uint32_t mz_byte_alphabet_code(uint8_t byte) {
    if (byte < 0x21) {
        return FIRST_ESCAPE + (uint32_t)byte;
    }
    if (byte >= 0x7F && byte <= 0xA0) {
        return FIRST_ESCAPE + N_LOW + (uint32_t)(byte - 0x7F);
    }
    return byte == 0xAD ? FIRST_ESCAPE + N_LOW + N_MIDDLE : byte;
}

int mz_byte_alphabet_byte(uint32_t code) {
    if (code < FIRST_ESCAPE) {
        return mz_byte_alphabet_code((uint8_t)code) == code ? (int)code : -1;
    }
    const uint32_t i = code - FIRST_ESCAPE;
    if (i < N_LOW) {
        return (int)i;
    }
    if (i < N_LOW + N_MIDDLE) {
        return (int)(i - N_LOW + 0x7F);
    }
    return i == N_LOW + N_MIDDLE ? 0xAD : -1;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mz_byte_piece_value(const char *text, size_t n_bytes) {
    if (n_bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    const int high = hex_digit(text[3]);
    const int low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}
