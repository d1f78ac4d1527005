/* What the two directions between a config.json and GGUF metadata share. */
#ifndef MZ_APPS_ZOO_GGUF_MAP_INTERNAL_H
#define MZ_APPS_ZOO_GGUF_MAP_INTERNAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Architectures as bits, so that a row of a table can name several. */
enum {
    MZ_GGUF_LLAMA = 1 << 0,
    MZ_GGUF_QWEN2 = 1 << 1,
    MZ_GGUF_QWEN2MOE = 1 << 2,
    MZ_GGUF_QWEN3 = 1 << 3,
    MZ_GGUF_QWEN3MOE = 1 << 4,
    MZ_GGUF_OLMOE = 1 << 5,
    MZ_GGUF_STABLELM = 1 << 6,
    MZ_GGUF_PHI2 = 1 << 7,
    MZ_GGUF_GEMMA3 = 1 << 8,
    MZ_GGUF_DEEPSEEK2 = 1 << 9,
    MZ_GGUF_ALL = (1 << 10) - 1
};

/* An architecture and what it is published as. */
typedef struct mz_gguf_architecture {
    const char *name;       /* general.architecture */
    unsigned bit;           /* one of the above */
    const char *model_type; /* config.json */
    const char *class_name; /* config.json's architectures */
} mz_gguf_architecture;

/* NULL for an unknown one. The second goes by a config's model_type. */
const mz_gguf_architecture *mz_gguf_architecture_find(const char *name);
const mz_gguf_architecture *mz_gguf_architecture_of(const char *model_type);

/* Names of all, for messages. */
const char *mz_gguf_architecture_names(void);

/* A key ARCH.KEY that has a field of the config as its value. */
typedef struct mz_gguf_field {
    unsigned architectures;
    const char *key;
    const char *field;
    enum { MZ_GGUF_FIELD_INT, MZ_GGUF_FIELD_NUMBER } kind;
    enum { MZ_GGUF_REQUIRED, MZ_GGUF_OPTIONAL } need;
} mz_gguf_field;

/* Row i of the table, NULL behind its end. */
const mz_gguf_field *mz_gguf_field_at(int i);

/* The decimal number of fewest digits that is the float `x`: 1e-6 for the f32 next to it. */
double mz_gguf_short_number(float x);

/* The divisors of the n frequencies of a head by the scaling of LLaMA 3. */
typedef struct mz_llama3_scaling {
    double factor, low, high, original; /* config.json's fields */
} mz_llama3_scaling;
void mz_llama3_divisors(const mz_llama3_scaling *scaling, double theta, int64_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
