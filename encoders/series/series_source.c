#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "encoders/series/series_reader_internal.h"

static mz_status fail_io(const mz_series_source *s, const char *what, int code) {
    return mz_fail(&s->ctx->error, MZ_ERR_IO, "%s: %s: %s", s->name, what,
                   code != 0 ? strerror(code) : "unknown error");
}

static mz_status source_init(mz_context *ctx, const char *name, mz_series_source *out) {
    *out = (mz_series_source){.ctx = ctx};
    mz_status status = mz_strdup(ctx, name, &out->name);
    if (status == MZ_OK) {
        void *buffer;
        status = mz_alloc(ctx, MZ_SERIES_CHUNK_BYTES, "series input buffer", &buffer);
        out->buffer = status == MZ_OK ? buffer : NULL;
    }
    if (status != MZ_OK) {
        mz_series_source_close(out);
    }
    return status;
}

/* Size of a regular file that is read from its beginning, else 0. */
static uint64_t size_of(FILE *file) {
    struct stat info;
    const bool is_file = fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode);
    return is_file && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

mz_status mz_series_source_open(mz_context *ctx, const char *path, mz_series_source *out) {
    const bool is_stdin = strcmp(path, "-") == 0;
    mz_series_source s;
    MZ_TRY(source_init(ctx, is_stdin ? "standard input" : path, &s));
    s.is_stdin = is_stdin;
    errno = 0;
    s.file = is_stdin ? stdin : fopen(path, "rb");
    if (s.file == NULL) {
        const mz_status status = fail_io(&s, "cannot open", errno);
        mz_series_source_close(&s);
        return status;
    }
    s.n_total = size_of(s.file);
    *out = s;
    return MZ_OK;
}

mz_status mz_series_source_open_memory(mz_context *ctx, const void *data, size_t n_bytes,
                                       const char *name, mz_series_source *out) {
    MZ_TRY(source_init(ctx, name, out));
    out->memory = data;
    out->memory_bytes = n_bytes;
    return MZ_OK;
}

void mz_series_source_close(mz_series_source *s) {
    if (s->file != NULL && !s->is_stdin) {
        (void)fclose(s->file); /* only read from, or a temporary file */
    }
    if (s->ctx != NULL) {
        mz_free(s->ctx, s->buffer);
        mz_free(s->ctx, s->name);
    }
    *s = (mz_series_source){0};
}

static mz_status read_chunk(mz_series_source *s) {
    s->offset += s->n_buffered;
    if (s->watch.read != NULL) {
        s->watch.read(s->watch.self, s->offset, s->n_total);
    }
    s->n_buffered = 0;
    if (s->file == NULL) {
        const size_t left = s->memory_bytes - s->memory_pos;
        s->n_buffered = left < MZ_SERIES_CHUNK_BYTES ? left : MZ_SERIES_CHUNK_BYTES;
        if (s->n_buffered > 0) {
            memcpy(s->buffer, s->memory + s->memory_pos, s->n_buffered);
        }
        s->memory_pos += s->n_buffered;
        return MZ_OK;
    }
    errno = 0;
    s->n_buffered = fread(s->buffer, 1, MZ_SERIES_CHUNK_BYTES, s->file);
    if (s->n_buffered < MZ_SERIES_CHUNK_BYTES && ferror(s->file)) {
        return fail_io(s, "cannot read", errno);
    }
    return MZ_OK;
}

static mz_status check_text(const mz_series_source *s) {
    const uint8_t *b = s->buffer;
    if (s->offset == 0 && s->n_buffered >= 2 &&
        ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff))) {
        return mz_fail(&s->ctx->error, MZ_ERR_FORMAT, "%s: is UTF-16 text, expected UTF-8",
                       s->name);
    }
    const uint8_t *nul = s->n_buffered > 0 ? memchr(b, 0, s->n_buffered) : NULL;
    size_t at = nul != NULL ? (size_t)(nul - b) : s->n_buffered;
    /* Other control characters are looked for at the beginning only: a stray one later is a text
     * field's business. */
    const size_t n_checked = s->offset == 0 && at > 4096 ? 4096 : at;
    for (size_t i = 0; s->offset == 0 && i < n_checked; i++) {
        const bool is_space = b[i] >= '\t' && b[i] <= '\r';
        if (b[i] < 0x20 && !is_space) {
            at = i;
            break;
        }
    }
    if (at < s->n_buffered) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_FORMAT,
            "%s: binary contents (byte 0x%02x at offset %llu), expected CSV or JSON lines", s->name,
            b[at], (unsigned long long)(s->offset + at));
    }
    return MZ_OK;
}

/* Handing out starts behind a byte order mark. */
static size_t mark_bytes(const mz_series_source *s) {
    return s->offset == 0 && s->n_buffered >= 3 && memcmp(s->buffer, "\xef\xbb\xbf", 3) == 0 ? 3
                                                                                             : 0;
}

mz_status mz_series_source_peek(mz_series_source *s, const char **chunk, size_t *n_bytes) {
    if (!s->is_pending) {
        MZ_TRY(read_chunk(s));
        MZ_TRY(check_text(s));
        s->is_pending = true;
    }
    const size_t skipped = mark_bytes(s);
    *chunk = (const char *)s->buffer + skipped;
    *n_bytes = s->n_buffered - skipped;
    return MZ_OK;
}

mz_status mz_series_source_next(mz_series_source *s, const char **chunk, size_t *n_bytes) {
    MZ_TRY(mz_series_source_peek(s, chunk, n_bytes));
    s->is_pending = false;
    return MZ_OK;
}

static mz_status spool_to(mz_series_source *s, FILE *copy) {
    for (;;) {
        errno = 0;
        if (fwrite(s->buffer, 1, s->n_buffered, copy) != s->n_buffered) {
            return fail_io(s, "cannot copy to a temporary file", errno);
        }
        if (s->n_buffered < MZ_SERIES_CHUNK_BYTES) {
            break;
        }
        MZ_TRY(read_chunk(s));
        MZ_TRY(check_text(s));
    }
    errno = 0;
    return fflush(copy) == 0 ? MZ_OK : fail_io(s, "cannot copy to a temporary file", errno);
}

mz_status mz_series_source_spool(mz_series_source *s) {
    if (s->file == NULL || (!s->is_stdin && fseek(s->file, 0, SEEK_CUR) == 0)) {
        return MZ_OK;
    }
    const char *chunk;
    size_t n_bytes;
    MZ_TRY(mz_series_source_peek(s, &chunk, &n_bytes));
    errno = 0;
    FILE *copy = tmpfile();
    if (copy == NULL) {
        return fail_io(s, "cannot make a temporary file", errno);
    }
    const mz_status status = spool_to(s, copy);
    if (status != MZ_OK) {
        (void)fclose(copy);
        return status;
    }
    if (!s->is_stdin) {
        (void)fclose(s->file);
    }
    s->file = copy;
    s->is_stdin = false;
    s->n_total = size_of(copy);
    return mz_series_source_rewind(s);
}

mz_status mz_series_source_rewind(mz_series_source *s) {
    errno = 0;
    if (s->file != NULL && fseek(s->file, 0, SEEK_SET) != 0) {
        return fail_io(s, "cannot read it a second time", errno);
    }
    s->memory_pos = 0;
    s->n_buffered = 0;
    s->offset = 0;
    s->is_pending = false;
    return MZ_OK;
}
