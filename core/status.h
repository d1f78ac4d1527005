/* Status codes and the error message that travels with them.
 *
 * A function that can fail returns mz_status and, on failure, has written one line into the
 * caller's mz_error. */
#ifndef MZ_CORE_STATUS_H
#define MZ_CORE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mz_status {
    MZ_OK = 0,
    MZ_ERR_ARG,         /* a value is outside what the function accepts */
    MZ_ERR_SHAPE,       /* a tensor has other dimensions than asked for */
    MZ_ERR_DTYPE,       /* a tensor has another element type than asked for */
    MZ_ERR_NOMEM,       /* an allocation failed */
    MZ_ERR_IO,          /* the operating system refused to open, read, write or map */
    MZ_ERR_FORMAT,      /* a file's contents contradict its format */
    MZ_ERR_MISSING,     /* a tensor, field or file that must exist does not */
    MZ_ERR_UNSUPPORTED, /* well formed, but this program cannot run it */
    MZ_ERR_DEVICE,      /* an accelerator or its library failed */
    MZ_ERR_LIMIT,       /* within the format, but above a stated limit */
    MZ_ERR_INTERRUPTED, /* the caller's watch ended the work */
} mz_status;

enum { MZ_ERROR_BYTES = 2048 };

/* The last error. Created by the caller (usually inside an mz_context), owned by one thread at a
 * time. */
typedef struct mz_error {
    mz_status status;             /* MZ_OK until something failed */
    char message[MZ_ERROR_BYTES]; /* one line, NUL-terminated, without a final newline */
} mz_error;

#if defined(__GNUC__)
#define MZ_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#else
#define MZ_PRINTF(format_index, first_arg)
#endif

/* Records `status` and the formatted message in `err` (NULL: only returns) and returns `status`.
 * Control characters in the message are replaced by '?', so that a hostile file name or tensor name
 * cannot break the line. */
mz_status mz_fail(mz_error *err, mz_status status, const char *format, ...) MZ_PRINTF(3, 4);

/* Puts "PREFIX: " in front of the message in `err` and returns its status. */
mz_status mz_fail_prefix(mz_error *err, const char *format, ...) MZ_PRINTF(2, 3);

/* The name of a status as written in the code without the prefix, e.g. "SHAPE". Static storage. */
const char *mz_status_name(mz_status status);

/* Returns from the calling function when `call` fails. */
#define MZ_TRY(call)                                                                               \
    do {                                                                                           \
        const mz_status mz_try_status_ = (call);                                                   \
        if (mz_try_status_ != MZ_OK) {                                                             \
            return mz_try_status_;                                                                 \
        }                                                                                          \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
