#!/bin/sh
# check_headers.sh ROOT CC CXX: every header compiles alone, in C and, as nvcc needs, in C++.
set -u
cd "$1" || exit 1
status=0
n=0
flags="-fsyntax-only -I. -D_GNU_SOURCE $(pkg-config --cflags jansson)"
for header in $(find core experts llm encoders adapters apps -name '*.h' | sort); do
    # shellcheck disable=SC2086
    echo "#include \"$header\"" | $2 -std=c17 $flags -x c - || { echo "$header does not compile alone as C"; status=1; }
    # shellcheck disable=SC2086
    echo "#include \"$header\"" | $3 -std=c++17 $flags -x c++ - || { echo "$header does not compile alone as C++"; status=1; }
    n=$((n + 1))
done
[ "$n" -gt 0 ] || { echo "no headers in $1"; exit 1; }
echo "$n headers compile alone"
exit $status
