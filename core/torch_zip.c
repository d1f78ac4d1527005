/* PyTorch's file format since 1.6: a zip archive of uncompressed members NAME/data.pkl and
 * NAME/data/KEY, one member a storage. Records follow PKWARE's APPNOTE 6.3.9, sections 4.3
 * and 4.5.3. */
#include <stdlib.h>
#include <string.h>

#include "core/weights_internal.h"

enum {
    END_BYTES = 22,
    END_SEARCH_BYTES = END_BYTES + 0xffff, /* a comment may follow */
    LOCATOR64_BYTES = 20,
    END64_BYTES = 56,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_MEMBERS = MZ_WEIGHTS_MAX_TENSORS + 1000,
    MAX_MEMBER_NAME = 1024,
};

enum {
    SIGNATURE_END = 0x06054b50,
    SIGNATURE_LOCATOR64 = 0x07064b50,
    SIGNATURE_END64 = 0x06064b50,
    SIGNATURE_CENTRAL = 0x02014b50,
    SIGNATURE_LOCAL = 0x04034b50,
};

typedef struct member {
    const char *name; /* in the file, not NUL-terminated */
    size_t name_bytes;
    size_t local_offset; /* of its header */
    size_t data_offset;
    size_t n_bytes;
} member;

typedef struct archive {
    mz_weight_list *list;
    const mz_weight_file *file;
    size_t directory_offset;
    size_t directory_bytes;
    size_t n_members;
    member *members;            /* sorted by name */
    char root[MAX_MEMBER_NAME]; /* NAME of the members with its slash */
} archive;

static mz_error *error_of(const archive *a) {
    return &a->list->ctx->error;
}

static uint64_t get(const uint8_t *p, int n_bytes) {
    uint64_t value = 0;
    for (int i = n_bytes - 1; i >= 0; i--) {
        value = value << 8 | p[i];
    }
    return value;
}

static mz_status damaged(const archive *a, const char *what) {
    return mz_fail(error_of(a), MZ_ERR_FORMAT, "zip archive: %s", what);
}

/* What a file is that is no zip archive. */
static mz_status not_a_zip(const archive *a) {
    const uint8_t *data = a->file->data;
    if (a->file->n_bytes >= 2 && data[0] == 0x80 && data[1] == 2) {
        return mz_fail(
            error_of(a), MZ_ERR_UNSUPPORTED,
            "is in the format before PyTorch 1.6; load and save it with a newer PyTorch");
    }
    return mz_fail(error_of(a), MZ_ERR_FORMAT,
                   "is no PyTorch file: no zip archive ends in its %zu bytes (truncated?)",
                   a->file->n_bytes);
}

static mz_status find_end(const archive *a, size_t *offset) {
    const size_t n = a->file->n_bytes;
    for (size_t back = END_BYTES; back <= n && back <= END_SEARCH_BYTES; back++) {
        const uint8_t *p = a->file->data + (n - back);
        if (get(p, 4) == SIGNATURE_END && get(p + 20, 2) == back - END_BYTES) {
            *offset = n - back;
            return MZ_OK;
        }
    }
    return not_a_zip(a);
}

/* One number of the end record, of which the zip64 record has a wider copy. */
static mz_status merge(const archive *a, uint64_t narrow, uint64_t all_ones, uint64_t wide,
                       uint64_t *out) {
    if (narrow != all_ones && narrow != wide) {
        return damaged(a, "its two end records contradict each other");
    }
    *out = wide;
    return MZ_OK;
}

static mz_status read_end(archive *a) {
    size_t end = 0;
    MZ_TRY(find_end(a, &end));
    const uint8_t *p = a->file->data + end;
    uint64_t n_members = get(p + 10, 2);
    uint64_t bytes = get(p + 12, 4);
    uint64_t offset = get(p + 16, 4);
    if (end >= LOCATOR64_BYTES && get(p - LOCATOR64_BYTES, 4) == SIGNATURE_LOCATOR64) {
        const uint64_t at = get(p - LOCATOR64_BYTES + 8, 8);
        const size_t locator = end - LOCATOR64_BYTES;
        if (locator < END64_BYTES || at > locator - END64_BYTES ||
            get(a->file->data + at, 4) != SIGNATURE_END64) {
            return damaged(a, "its zip64 end record is not where it should be");
        }
        const uint8_t *q = a->file->data + at;
        MZ_TRY(merge(a, n_members, 0xffff, get(q + 32, 8), &n_members));
        MZ_TRY(merge(a, bytes, 0xffffffff, get(q + 40, 8), &bytes));
        MZ_TRY(merge(a, offset, 0xffffffff, get(q + 48, 8), &offset));
        end = (size_t)at;
    }
    if (offset > end || bytes > end - offset) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "zip archive: directory of %llu bytes at %llu, expected to end by %zu",
                       (unsigned long long)bytes, (unsigned long long)offset, end);
    }
    if (n_members > MAX_MEMBERS) {
        return mz_fail(error_of(a), MZ_ERR_LIMIT, "zip archive: %llu members, the limit is %d",
                       (unsigned long long)n_members, MAX_MEMBERS);
    }
    if (n_members * CENTRAL_BYTES > bytes) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "zip archive: %llu members in a directory of %llu bytes",
                       (unsigned long long)n_members, (unsigned long long)bytes);
    }
    a->n_members = (size_t)n_members;
    a->directory_bytes = (size_t)bytes;
    a->directory_offset = (size_t)offset;
    return MZ_OK;
}

/* Replaces the fields that are all ones by those of the zip64 extra field, where they stand in this
 * order. */
static mz_status read_extra64(const archive *a, const uint8_t *extra, size_t n_extra,
                              uint64_t *fields[3]) {
    size_t pos = 0;
    while (n_extra - pos >= 4) {
        const uint64_t id = get(extra + pos, 2);
        const size_t n = (size_t)get(extra + pos + 2, 2);
        pos += 4;
        if (n > n_extra - pos) {
            return damaged(a, "an extra field is longer than its record");
        }
        if (id == 1) {
            size_t used = 0;
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != 0xffffffff) {
                    continue;
                }
                if (n - used < 8) {
                    return damaged(a, "a zip64 extra field is too short");
                }
                *fields[i] = get(extra + pos + used, 8);
                used += 8;
            }
            return MZ_OK;
        }
        pos += n;
    }
    return MZ_OK;
}

/* Checks the member's own header and finds its data. */
static mz_status locate(const archive *a, uint64_t offset, uint64_t n_bytes, member *m) {
    const size_t limit = a->directory_offset;
    const uint8_t *data = a->file->data;
    const int n_name = (int)m->name_bytes;
    if (offset > limit || limit - offset < LOCAL_BYTES ||
        get(data + offset, 4) != SIGNATURE_LOCAL) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "zip archive: member %.*s: no header at byte %llu", n_name, m->name,
                       (unsigned long long)offset);
    }
    const uint8_t *p = data + offset;
    const size_t n_local_name = (size_t)get(p + 26, 2);
    const size_t skip = LOCAL_BYTES + n_local_name + (size_t)get(p + 28, 2);
    if (skip > limit - offset || n_bytes > limit - offset - skip) {
        return mz_fail(
            error_of(a), MZ_ERR_FORMAT,
            "zip archive: member %.*s: %llu bytes at %llu reach beyond the data, which ends at %zu",
            n_name, m->name, (unsigned long long)n_bytes, (unsigned long long)offset, limit);
    }
    if (get(p + 8, 2) != 0 || n_local_name != m->name_bytes ||
        memcmp(p + LOCAL_BYTES, m->name, m->name_bytes) != 0) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "zip archive: member %.*s: its header at byte %llu names something else",
                       n_name, m->name, (unsigned long long)offset);
    }
    m->local_offset = (size_t)offset;
    m->data_offset = (size_t)offset + skip;
    m->n_bytes = (size_t)n_bytes;
    return MZ_OK;
}

/* Reads the directory's record at *pos and moves behind it. */
static mz_status read_member(const archive *a, size_t *pos, member *m) {
    const uint8_t *p = a->file->data + a->directory_offset + *pos;
    const size_t left = a->directory_bytes - *pos;
    if (left < CENTRAL_BYTES || get(p, 4) != SIGNATURE_CENTRAL) {
        return damaged(a, "a record of its directory is missing");
    }
    m->name_bytes = (size_t)get(p + 28, 2);
    const size_t n_extra = (size_t)get(p + 30, 2);
    const size_t n_record = CENTRAL_BYTES + m->name_bytes + n_extra + (size_t)get(p + 32, 2);
    if (n_record > left) {
        return damaged(a, "a record of its directory is truncated");
    }
    m->name = (const char *)p + CENTRAL_BYTES;
    if (m->name_bytes >= MAX_MEMBER_NAME) {
        return mz_fail(error_of(a), MZ_ERR_LIMIT,
                       "zip archive: a member's name has %zu bytes, the limit is %d", m->name_bytes,
                       MAX_MEMBER_NAME - 1);
    }
    const uint64_t method = get(p + 10, 2);
    if (method != 0 || (get(p + 8, 2) & 1) != 0) {
        return mz_fail(
            error_of(a), MZ_ERR_UNSUPPORTED,
            "zip archive: member %.*s is compressed or encrypted (method %llu), expected it stored",
            (int)m->name_bytes, m->name, (unsigned long long)method);
    }
    uint64_t n_bytes = get(p + 24, 4);
    uint64_t n_compressed = get(p + 20, 4);
    uint64_t offset = get(p + 42, 4);
    uint64_t *fields[3] = {&n_bytes, &n_compressed, &offset};
    MZ_TRY(read_extra64(a, p + CENTRAL_BYTES + m->name_bytes, n_extra, fields));
    if (n_bytes != n_compressed) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "zip archive: member %.*s is stored, but its sizes are %llu and %llu",
                       (int)m->name_bytes, m->name, (unsigned long long)n_bytes,
                       (unsigned long long)n_compressed);
    }
    *pos += n_record;
    return locate(a, offset, n_bytes, m);
}

static int by_offset(const void *a, const void *b) {
    const member *x = a;
    const member *y = b;
    return (x->local_offset > y->local_offset) - (x->local_offset < y->local_offset);
}

static int by_name(const void *a, const void *b) {
    const member *x = a;
    const member *y = b;
    const size_t n = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    const int order = memcmp(x->name, y->name, n);
    return order != 0 ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

static mz_status check_members(archive *a) {
    qsort(a->members, a->n_members, sizeof *a->members, by_offset);
    for (size_t i = 1; i < a->n_members; i++) {
        const member *before = &a->members[i - 1];
        const member *m = &a->members[i];
        if (before->data_offset + before->n_bytes > m->local_offset) {
            return mz_fail(error_of(a), MZ_ERR_FORMAT, "zip archive: members %.*s and %.*s overlap",
                           (int)before->name_bytes, before->name, (int)m->name_bytes, m->name);
        }
    }
    qsort(a->members, a->n_members, sizeof *a->members, by_name);
    for (size_t i = 1; i < a->n_members; i++) {
        if (by_name(&a->members[i - 1], &a->members[i]) == 0) {
            return mz_fail(error_of(a), MZ_ERR_FORMAT, "zip archive: member %.*s is there twice",
                           (int)a->members[i].name_bytes, a->members[i].name);
        }
    }
    return MZ_OK;
}

static mz_status read_directory(archive *a) {
    MZ_TRY(read_end(a));
    void *members = NULL;
    MZ_TRY(mz_calloc(a->list->ctx, a->n_members, sizeof(member), "zip directory", &members));
    a->members = members;
    size_t pos = 0;
    for (size_t i = 0; i < a->n_members; i++) {
        MZ_TRY(read_member(a, &pos, &a->members[i]));
    }
    if (pos != a->directory_bytes) {
        return damaged(a, "its directory has more records than it says");
    }
    return check_members(a);
}

/* The member ROOT PREFIX KEY, or NULL. */
static const member *find(const archive *a, const char *prefix, const char *key, size_t n_key) {
    char name[MAX_MEMBER_NAME];
    const size_t n_root = strlen(a->root);
    const size_t n_prefix = strlen(prefix);
    if (n_root + n_prefix + n_key > sizeof name) {
        return NULL;
    }
    memcpy(name, a->root, n_root);
    memcpy(name + n_root, prefix, n_prefix);
    memcpy(name + n_root + n_prefix, key, n_key);
    const member wanted = {.name = name, .name_bytes = n_root + n_prefix + n_key};
    return bsearch(&wanted, a->members, a->n_members, sizeof wanted, by_name);
}

/* Finds the one member NAME/data.pkl, which gives the root. */
static mz_status find_root(archive *a) {
    static const char suffix[] = "/data.pkl";
    const size_t n_suffix = sizeof suffix - 1;
    const member *found = NULL;
    for (size_t i = 0; i < a->n_members; i++) {
        const member *m = &a->members[i];
        if (m->name_bytes > n_suffix &&
            memcmp(m->name + m->name_bytes - n_suffix, suffix, n_suffix) == 0 &&
            memchr(m->name, '/', m->name_bytes - n_suffix) == NULL) {
            if (found != NULL) {
                return damaged(a, "has two members data.pkl");
            }
            found = m;
        }
    }
    if (found == NULL || memchr(found->name, '\0', found->name_bytes) != NULL) {
        return damaged(a, "has no member NAME/data.pkl, so that it is no PyTorch file");
    }
    const size_t n_root = found->name_bytes - n_suffix + 1;
    memcpy(a->root, found->name, n_root);
    a->root[n_root] = '\0';
    return MZ_OK;
}

static mz_status add_tensor(void *self, const mz_pickle_tensor *t) {
    archive *a = self;
    const int n_key =
        (int)(t->storage_key_bytes < MAX_MEMBER_NAME ? t->storage_key_bytes : MAX_MEMBER_NAME);
    const member *m = find(a, "data/", t->storage_key, t->storage_key_bytes);
    if (m == NULL) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "tensor %s: its storage %sdata/%.*s is not in the archive", t->name, a->root,
                       n_key, t->storage_key);
    }
    if (m->n_bytes < t->storage_bytes) {
        return mz_fail(error_of(a), MZ_ERR_FORMAT,
                       "tensor %s: its storage %sdata/%.*s has %zu bytes, expected %zu", t->name,
                       a->root, n_key, t->storage_key, m->n_bytes, t->storage_bytes);
    }
    mz_weight_entry entry = {
        .data = a->file->data + m->data_offset + t->offset_bytes,
        .n_bytes = t->n_bytes,
        .dtype = t->dtype,
        .n_dims = t->n_dims,
        .file = a->file->index,
    };
    memcpy(entry.shape, t->shape, sizeof entry.shape);
    return mz_weight_list_add(a->list, t->name, &entry);
}

static mz_status read_archive(archive *a) {
    static const char little[] = "little";
    MZ_TRY(read_directory(a));
    MZ_TRY(find_root(a));
    const member *order = find(a, "byteorder", "", 0);
    if (order != NULL &&
        (order->n_bytes != sizeof little - 1 ||
         memcmp(a->file->data + order->data_offset, little, sizeof little - 1) != 0)) {
        return mz_fail(error_of(a), MZ_ERR_UNSUPPORTED, "byte order is not little");
    }
    const member *pickle = find(a, "data.pkl", "", 0);
    return mz_pickle_read(a->list->ctx, "data.pkl", a->file->data + pickle->data_offset,
                          pickle->n_bytes, add_tensor, a);
}

mz_status mz_torch_zip_read(mz_weight_list *list, const mz_weight_file *file) {
    archive a = {.list = list, .file = file};
    mz_status status = read_archive(&a);
    if (status != MZ_OK) {
        status = mz_fail_prefix(&list->ctx->error, "%s", file->path);
    }
    mz_free(list->ctx, a.members);
    return status;
}
