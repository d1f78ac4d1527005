#!/bin/sh
# check_headers.sh ROOT CC CXX: every header compiles alone, in C and, as nvcc needs, in C++. Those of the CUDA sources
# are C++ only, and read against the simulator's headers, because the toolkit may be missing.
set -u
cd "$1" || exit 1
status=0
n=0
flags="-fsyntax-only -I. -isystem tests/cudasim/include -D_GNU_SOURCE $(pkg-config --cflags jansson)"
for header in $(find core experts llm encoders adapters apps -name '*.h' | sort); do
    case $header in
    core/ops/cuda/*_internal.h) ;;
    *)
        # shellcheck disable=SC2086
        echo "#include \"$header\"" | $2 -std=c17 $flags -x c - || { echo "$header does not compile alone as C"; status=1; }
        ;;
    esac
    # shellcheck disable=SC2086
    echo "#include \"$header\"" | $3 -std=c++17 $flags -x c++ - || { echo "$header does not compile alone as C++"; status=1; }
    n=$((n + 1))
done
[ "$n" -gt 0 ] || { echo "no headers in $1"; exit 1; }
echo "$n headers compile alone"
exit $status
