#!/bin/sh
# test_check_structure.sh CHECK: the checker must find each kind of breach, and nothing in a clean tree.
set -eu
check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

reset() {
    rm -rf "$tree"
    mkdir -p "$tree/core/ops/cpu" "$tree/experts" "$tree/llm" "$tree/encoders" "$tree/adapters" "$tree/apps/zoo" "$tree/tests"
    echo '#include "core/a.h"' >"$tree/experts/b.c"
    printf '%s\n' '#include "apps/zoo/z.h"' '#include "llm/d.h"' '#include <sys/stat.h>' >"$tree/apps/c.c"
    echo '#include "encoders/e.h"' >"$tree/apps/zoo/z.h"
    echo '#include "llm/d_internal.h"' >"$tree/llm/d.c"
    echo '#include <immintrin.h>' >"$tree/core/ops/cpu/k.c"
    echo '#include "llm/d_internal.h"' >"$tree/tests/t.c"
    echo '#include <stdio.h>' >"$tree/core/a.h"
}

expect_breach() {
    if sh "$check" "$tree" >"$tree/out" 2>&1; then
        echo "not found: $1"
        exit 1
    fi
    grep -q "$1" "$tree/out" || { echo "expected a message with: $1"; cat "$tree/out"; exit 1; }
    reset
}

reset
sh "$check" "$tree" >/dev/null || { echo "a clean tree was refused"; exit 1; }
echo '#include "experts/b.h"' >"$tree/core/bad.c"
expect_breach "core/bad.c includes experts/b.h"
echo '  #  include "llm/x.h"' >"$tree/encoders/bad.c"
expect_breach "encoders/bad.c includes llm/x.h"
echo '#include "apps/cli.h"' >"$tree/apps/zoo/bad.c"
expect_breach "apps/zoo/bad.c includes apps/cli.h"
echo '#include "adapters/x.h"' >"$tree/llm/bad.c"
expect_breach "llm/bad.c includes adapters/x.h"
echo '#include "encoders/x.h"' >"$tree/adapters/bad.h"
expect_breach "adapters/bad.h includes encoders/x.h"
echo '#include "llm/x.h"' >"$tree/experts/bad.c"
expect_breach "experts/bad.c includes llm/x.h"
echo '#include <llm/x.h>' >"$tree/core/bad.cu"
expect_breach "core/bad.cu includes llm/x.h"
echo '#include "../llm/x.h"' >"$tree/core/bad.c"
expect_breach "paths start at the root"
echo '#include "tests/testing.h"' >"$tree/apps/bad.c"
expect_breach "apps/bad.c includes tests/testing.h"
echo '#include "core/a_internal.h"' >"$tree/experts/bad.c"
expect_breach "private to its folder"
echo '#include <immintrin.h>' >"$tree/llm/bad.c"
expect_breach "intrinsics outside"
echo 'int x;' >"$tree/llm/b.c"
expect_breach "used twice: b.c"
yes 'int x;' | head -801 >"$tree/llm/long.c"
expect_breach "801 lines"
echo 'int x;' >"$tree/tests/b.c"
expect_breach "used twice: b.c"
if sh "$check" "$tree/tests/none" >/dev/null 2>&1 || sh "$check" "$tree/llm" >/dev/null 2>&1; then
    echo "a folder without sources was accepted"
    exit 1
fi
echo "every kind of breach is found"
