#include "llm/tokenizer_internal.h"
