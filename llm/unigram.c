#include "llm/unigram.h"

#include "llm/utf8.h"

static const float unknown_penalty = 10.0F; /* below the lowest score */

mz_status mz_unigram_build(mz_context *ctx, const mz_vocabulary *v, mz_unigram *out) {
    bool any = false;
    for (int64_t i = 0; i < v->n; i++) {
        const mz_piece *p = &v->pieces[i];
        if (p->type == MZ_PIECE_NORMAL) {
            out->highest = !any || p->score > out->highest ? p->score : out->highest;
            out->lowest = !any || p->score < out->lowest ? p->score : out->lowest;
            any = true;
        }
        if (p->type == MZ_PIECE_NORMAL || p->type == MZ_PIECE_USER_DEFINED) {
            size_t n = 0;
            const char *text = mz_vocabulary_text(v, (int32_t)i, &n);
            MZ_TRY(mz_token_trie_add(ctx, &out->pieces, text, n, (int32_t)i));
        }
    }
    return MZ_OK;
}

void mz_unigram_free(mz_context *ctx, mz_unigram *u) {
    mz_token_trie_free(ctx, &u->pieces);
}

/* The best way to a place in the text. */
typedef struct way {
    float score;
    int32_t id;
    size_t start; /* of the last piece */
    bool reached;
} way;

static void offer(way *to, float score, size_t start, int32_t id) {
    if (!to->reached || score > to->score) {
        *to = (way){.score = score, .id = id, .start = start, .reached = true};
    }
}

static void find_ways(const mz_unigram *u, const mz_vocabulary *v, const char *text, size_t n_bytes,
                      way *ways) {
    const float unknown = u->lowest - unknown_penalty;
    for (size_t i = 0; i < n_bytes;) {
        const int length = mz_utf8_decode(text + i, n_bytes - i, NULL);
        const size_t next = i + (size_t)(length > 0 ? length : 1);
        bool has_character = false;
        uint32_t node = 0;
        for (size_t k = i; k < n_bytes && mz_token_trie_step(&u->pieces, &node, text[k]); k++) {
            const int32_t id = u->pieces.ids[node];
            if (id < 0) {
                continue;
            }
            const mz_piece *p = &v->pieces[id];
            /* Longer than anything made of normal pieces scores: always chosen. */
            const float score = p->type == MZ_PIECE_USER_DEFINED
                                    ? (float)(k + 1 - i) * u->highest - 0.1F
                                    : p->score;
            offer(&ways[k + 1], score + ways[i].score, i, id);
            has_character = has_character || k + 1 == next;
        }
        if (!has_character) {
            offer(&ways[next], unknown + ways[i].score, i, -1);
        }
        i = next;
    }
}

mz_status mz_unigram_cut(mz_context *ctx, const mz_unigram *u, const mz_vocabulary *v,
                         const char *text, size_t n_bytes, mz_unigram_piece **out, size_t *n) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, n_bytes + 1, sizeof(way), "pieces", &memory));
    way *ways = memory;
    find_ways(u, v, text, n_bytes, ways);
    size_t count = 0;
    for (size_t at = n_bytes; at > 0; at = ways[at].start) {
        count++;
    }
    const mz_status status = mz_calloc(ctx, count, sizeof(mz_unigram_piece), "pieces", &memory);
    if (status == MZ_OK) {
        *out = memory;
        *n = count;
        for (size_t at = n_bytes; at > 0; at = ways[at].start) {
            (*out)[--count] =
                (mz_unigram_piece){.start = ways[at].start, .end = at, .id = ways[at].id};
        }
    }
    mz_free(ctx, ways);
    return status;
}
