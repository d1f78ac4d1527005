/* The entry point that libFuzzer and tests/fuzz/replay.c call. */
#ifndef MZ_TESTS_FUZZ_TARGET_H
#define MZ_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Runs one input. Always 0; a finding is a crash or a sanitizer's report. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
