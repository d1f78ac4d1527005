#!/bin/sh
# Fails when ptxas spills registers of any kernel to memory.
#   check_spills.sh NVCC SOURCE_DIR ARCH      (ARCH: 80, 90)
set -eu
nvcc=$1
source_dir=$2
arch=$3
if ! command -v "$nvcc" >/dev/null 2>&1; then
    echo "skipped: no nvcc on this machine"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n_kernels=0
for file in "$source_dir"/core/ops/cuda/*.cu; do
    "$nvcc" -std=c++17 -O2 -arch="sm_$arch" -cubin -Xptxas -v -I"$source_dir" "$file" -o "$work/cubin" >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
    if grep -B2 -E '[1-9][0-9]* bytes spill (stores|loads)' "$work/log"; then
        echo "$file: registers are spilled on sm_$arch"
        exit 1
    fi
    n_kernels=$((n_kernels + $(grep -c 'bytes spill stores' "$work/log" || true)))
done
if [ "$n_kernels" -eq 0 ]; then
    echo "ptxas reported on no kernel at all"
    exit 1
fi
echo "$n_kernels kernels on sm_$arch, no spills"
