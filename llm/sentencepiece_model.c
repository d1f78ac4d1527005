#include "llm/sentencepiece_model.h"

#include <math.h>
#include <string.h>

#include "llm/utf8.h"

/* A message of the protocol buffer: what is left of it. */
typedef struct message {
    const uint8_t *data;
    size_t n;
} message;

/* One field: its number and either a number or bytes. */
typedef struct field {
    uint32_t number;
    uint32_t wire; /* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
    uint64_t value;
    message bytes;
} field;

static bool read_varint(message *m, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && m->n > 0; shift += 7) {
        const uint8_t byte = *m->data;
        m->data++;
        m->n--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(message *m, size_t n_bytes, uint64_t *out) {
    if (m->n < n_bytes) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        *out |= (uint64_t)m->data[i] << (8 * i);
    }
    m->data += n_bytes;
    m->n -= n_bytes;
    return true;
}

/* The next field; false at the end (*bad false) or where the message is broken. */
static bool next_field(message *m, field *f, bool *bad) {
    if (m->n == 0) {
        return false;
    }
    uint64_t tag = 0;
    *bad = true;
    if (!read_varint(m, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) {
        return false;
    }
    *f = (field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
    switch (f->wire) {
    case 0:
        *bad = !read_varint(m, &f->value);
        break;
    case 1:
        *bad = !read_fixed(m, 8, &f->value);
        break;
    case 5:
        *bad = !read_fixed(m, 4, &f->value);
        break;
    case 2:
        *bad = !read_varint(m, &f->value) || f->value > m->n;
        if (!*bad) {
            f->bytes = (message){.data = m->data, .n = (size_t)f->value};
            m->data += f->value;
            m->n -= (size_t)f->value;
        }
        break;
    default:
        break;
    }
    return !*bad;
}

typedef struct model_reader {
    mz_context *ctx;
    const char *name;
    mz_vocabulary *vocabulary;
    mz_sentencepiece_info *info;
} model_reader;

static mz_status broken(const model_reader *r, const char *what) {
    return mz_fail(&r->ctx->error, MZ_ERR_FORMAT, "%s: SentencePiece model: %s", r->name, what);
}

static mz_status read_piece(const model_reader *r, message m) {
    message text = {0};
    float score = 0.0F;
    uint64_t type = MZ_PIECE_NORMAL;
    bool bad = false;
    field f;
    while (next_field(&m, &f, &bad)) {
        if (f.number == 1 && f.wire == 2) {
            text = f.bytes;
        } else if (f.number == 2 && f.wire == 5) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3 && f.wire == 0) {
            type = f.value;
        } else if (f.number <= 3) {
            return broken(r, "a member of a piece has another type than it should");
        }
    }
    const char *bytes = (const char *)text.data;
    if (bad || text.n == 0 || memchr(bytes, 0, text.n) != NULL || !mz_utf8_valid(bytes, text.n)) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: SentencePiece model: piece %lld is empty, broken or no UTF-8", r->name,
                       (long long)r->vocabulary->n);
    }
    if (!isfinite(score) || type < MZ_PIECE_NORMAL || type > MZ_PIECE_BYTE) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: SentencePiece model: piece %lld has score %g and type %llu, expected a "
                       "number and 1 to 6",
                       r->name, (long long)r->vocabulary->n, (double)score,
                       (unsigned long long)type);
    }
    if (type == MZ_PIECE_BYTE && mz_byte_piece_value(bytes, text.n) < 0) {
        return broken(r, "a byte piece that is not spelled <0xHH>");
    }
    if (mz_vocabulary_find(r->vocabulary, bytes, text.n) >= 0) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: SentencePiece model: piece %lld is there twice", r->name,
                       (long long)r->vocabulary->n);
    }
    return mz_vocabulary_add(r->ctx, r->vocabulary, r->name, r->vocabulary->n, bytes, text.n,
                             (mz_piece_type)type, score);
}

static mz_status read_name(const model_reader *r, const message *bytes, char *out, size_t size) {
    if (bytes->n >= size || memchr(bytes->data, 0, bytes->n) != NULL) {
        return mz_fail(&r->ctx->error, MZ_ERR_LIMIT,
                       "%s: SentencePiece model: a special token's name of %zu bytes, at most %zu "
                       "are allowed",
                       r->name, bytes->n, size - 1);
    }
    memcpy(out, bytes->data, bytes->n);
    out[bytes->n] = '\0';
    return MZ_OK;
}

static mz_status read_trainer(const model_reader *r, message m) {
    mz_sentencepiece_info *info = r->info;
    bool bad = false;
    field f;
    while (next_field(&m, &f, &bad)) {
        if (f.number == 3 && f.wire == 0) {
            info->model_type = f.value >= 1 && f.value <= 4 ? (int)f.value : 1;
        } else if (f.number == 35 && f.wire == 0) {
            info->byte_fallback = f.value != 0;
        } else if (f.number == 44 && f.wire == 2) {
            MZ_TRY(read_name(r, &f.bytes, info->unknown, sizeof info->unknown));
        } else if (f.number == 46 && f.wire == 2) {
            MZ_TRY(read_name(r, &f.bytes, info->bos, sizeof info->bos));
        } else if (f.number == 47 && f.wire == 2) {
            MZ_TRY(read_name(r, &f.bytes, info->eos, sizeof info->eos));
        } else if (f.number == 48 && f.wire == 2) {
            MZ_TRY(read_name(r, &f.bytes, info->pad, sizeof info->pad));
        }
    }
    return bad ? broken(r, "the trainer's part is broken") : MZ_OK;
}

static mz_status read_normalizer(const model_reader *r, message m, bool is_real) {
    bool bad = false;
    field f;
    while (next_field(&m, &f, &bad)) {
        if (f.number == 2 && f.wire == 2 && f.bytes.n > 0) {
            MZ_TRY(mz_sentencepiece_check_table(r->ctx, f.bytes.data, f.bytes.n, r->name));
        } else if (f.number == 3 && f.wire == 0 && is_real) {
            r->info->add_dummy_prefix = f.value != 0;
        } else if (f.number == 4 && f.wire == 0 && is_real) {
            r->info->remove_extra_whitespaces = f.value != 0;
        }
    }
    return bad ? broken(r, "the normalizer's part is broken") : MZ_OK;
}

/* What the library stops the program for, or gives nonsense. */
static mz_status check_whole(const model_reader *r) {
    const mz_vocabulary *v = r->vocabulary;
    int64_t n_unknown = 0;
    int64_t n_bytes = 0;
    for (int64_t i = 0; i < v->n; i++) {
        n_unknown += v->pieces[i].type == MZ_PIECE_UNKNOWN;
        n_bytes += v->pieces[i].type == MZ_PIECE_BYTE;
    }
    if (n_unknown != 1) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: SentencePiece model: %lld unknown pieces, expected 1", r->name,
                       (long long)n_unknown);
    }
    if (r->info->byte_fallback ? n_bytes != 256 : n_bytes != 0) {
        return mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                       "%s: SentencePiece model: %lld byte pieces, expected %d", r->name,
                       (long long)n_bytes, r->info->byte_fallback ? 256 : 0);
    }
    return MZ_OK;
}

mz_status mz_sentencepiece_read(mz_context *ctx, const void *data, size_t n_bytes, const char *name,
                                mz_vocabulary *vocabulary, mz_sentencepiece_info *out) {
    *out = (mz_sentencepiece_info){.model_type = 1,
                                   .add_dummy_prefix = true,
                                   .remove_extra_whitespaces = true,
                                   .unknown = " \xE2\x81\x87 ",
                                   .bos = "<s>",
                                   .eos = "</s>",
                                   .pad = "<pad>"};
    const model_reader r = {.ctx = ctx, .name = name, .vocabulary = vocabulary, .info = out};
    message m = {.data = data, .n = n_bytes};
    bool bad = false;
    field f;
    while (next_field(&m, &f, &bad)) {
        if (f.wire != 2 && f.number >= 1 && f.number <= 5) {
            return broken(&r, "one of its parts is no message");
        }
        if (f.number == 1) {
            MZ_TRY(read_piece(&r, f.bytes));
        } else if (f.number == 2) {
            MZ_TRY(read_trainer(&r, f.bytes));
        } else if (f.number == 3 || f.number == 5) {
            MZ_TRY(read_normalizer(&r, f.bytes, f.number == 3));
        }
    }
    return bad ? broken(&r, "not a protocol buffer, or cut off") : check_whole(&r);
}

/* --- The normalisation table ----------------------------------------------------------------- */

enum {
    MAX_TABLE_BYTES = 4 << 20,
    MAX_DEPTH = 256,  /* bytes of a key */
    MAX_RESULTS = 32, /* keys that begin one another: the room that the library has for them */
    NOT_SEEN = 0xFF,
    BEING_SEEN = 0xFE
};

typedef struct table {
    const uint8_t *units; /* four bytes each, little-endian */
    size_t n_units;
    const char *texts; /* NUL-terminated ones */
    size_t n_texts;
    uint8_t *results; /* [n_units] keys that end at the unit or below it, at most, on one way */
} table;

static uint32_t unit_at(const table *t, size_t i) {
    const uint8_t *b = t->units + 4 * i;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Whether everything below unit `i` stays inside, ends, and does not give too many results. Two
 * units may share what is below them. */
static bool check_unit(const table *t, size_t i, int depth) {
    if (t->results[i] != NOT_SEEN) {
        return t->results[i] != BEING_SEEN;
    }
    if (depth > MAX_DEPTH) {
        return false;
    }
    t->results[i] = BEING_SEEN;
    const uint32_t unit = unit_at(t, i);
    const size_t base = i ^ (size_t)((unit >> 10) << ((unit & (1U << 9)) >> 6));
    if ((base | 0xFF) >= t->n_units) {
        return false;
    }
    const bool has_leaf = (unit >> 8 & 1) != 0;
    if (has_leaf) {
        const uint32_t value = unit_at(t, base) & 0x7FFFFFFF;
        if (value >= t->n_texts || ((uint8_t)t->texts[value] & 0xC0) == 0x80) {
            return false;
        }
    }
    int most = 0;
    for (size_t c = 0; c < 256; c++) {
        const size_t child = base ^ c;
        if ((unit_at(t, child) & 0x800000FF) != c) {
            continue;
        }
        if (!check_unit(t, child, depth + 1)) {
            return false;
        }
        most = most > t->results[child] ? most : t->results[child];
    }
    t->results[i] = (uint8_t)(most + has_leaf);
    return most + has_leaf <= MAX_RESULTS;
}

mz_status mz_sentencepiece_check_table(mz_context *ctx, const void *data, size_t n_bytes,
                                       const char *name) {
    const uint8_t *bytes = data;
    table t = {0};
    if (n_bytes > MAX_TABLE_BYTES) {
        return mz_fail(
            &ctx->error, MZ_ERR_LIMIT,
            "%s: SentencePiece model: a normalisation table of %zu bytes, at most %d are "
            "allowed",
            name, n_bytes, MAX_TABLE_BYTES);
    }
    size_t units_bytes = 0;
    if (n_bytes > 4) {
        units_bytes =
            bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    }
    bool good = n_bytes > 4 && units_bytes < n_bytes - 4 && units_bytes % 4 == 0 && units_bytes > 0;
    if (good) {
        t = (table){.units = bytes + 4,
                    .n_units = units_bytes / 4,
                    .texts = (const char *)bytes + 4 + units_bytes,
                    .n_texts = n_bytes - 4 - units_bytes};
        good = t.texts[t.n_texts - 1] == '\0' && mz_utf8_valid(t.texts, t.n_texts);
    }
    if (good) {
        void *memory = NULL;
        MZ_TRY(mz_alloc(ctx, t.n_units, "normalisation table", &memory));
        memset(memory, NOT_SEEN, t.n_units);
        t.results = memory;
        good = check_unit(&t, 0, 0);
        mz_free(ctx, memory);
    }
    return good ? MZ_OK
                : mz_fail(&ctx->error, MZ_ERR_FORMAT,
                          "%s: SentencePiece model: the normalisation table is broken", name);
}
