#!/bin/sh
# check_structure.sh ROOT: the rules of the house that a compiler does not enforce. Prints each breach; exits 1 if there is any.
#
#   - rooms include only what lies below them: core <- experts <- {llm, encoders, adapters} <- apps/zoo <- apps
#   - an *_internal.h is included only from its own folder
#   - file names are unique in the tree; no source file is longer than 800 lines (tests too, which may include anything)
#   - SIMD intrinsics appear only in core/ops/cpu and experts/cpu
set -u
cd "$1" || exit 1
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

# The source files in the given folders.
sources() {
    find "$@" -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.inc' \) 2>/dev/null | sort
}
rooms="core experts llm encoders adapters apps"

# The rooms that the room of a file may include.
allowed() {
    case "$1" in
    core/*) echo "core" ;;
    experts/*) echo "core experts" ;;
    llm/*) echo "core experts llm" ;;
    encoders/*) echo "core experts encoders" ;;
    adapters/*) echo "core experts adapters" ;;
    apps/zoo/*) echo "core experts llm encoders adapters apps/zoo" ;;
    apps/*) echo "core experts llm encoders adapters apps/zoo apps" ;;
    esac
}

room_of() {
    case "$1" in
    apps/zoo/*) echo "apps/zoo" ;;
    *) echo "${1%%/*}" ;;
    esac
}

# shellcheck disable=SC2086
for file in $(sources $rooms); do
    may=" $(allowed "$file") "
    for included in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\(["<][^">]*\)[">].*/\1/p' "$file"); do
        quote=$included
        included=${included#[\"<]}
        case "$included" in
        ../* | */../*) echo "$file includes $included: paths start at the root of the tree" >>"$breaches"; continue ;;
        */*) room=$(room_of "$included") ;;
        *) room=$(room_of "$file") ;;
        esac
        # A system header in angle brackets, such as <sys/stat.h>, is told from a room's by its first folder.
        case "$quote" in
        '<'*)
            case " $rooms tests " in
            *" ${included%%/*} "*) ;;
            *) continue ;;
            esac
            ;;
        esac
        case "$may" in
        *" $room "*) ;;
        *) echo "$file includes $included: $(room_of "$file") may include only$may" >>"$breaches" ;;
        esac
        case "$included" in
        */*_internal.h)
            [ "$(dirname "$included")" = "$(dirname "$file")" ] || echo "$file includes $included, which is private to its folder" >>"$breaches"
            ;;
        esac
    done
    case "$file" in
    core/ops/cpu/* | experts/cpu/*) ;;
    *) grep -nE '#[[:space:]]*include[[:space:]]*<([a-z0-9]*intrin|arm_(neon|sve|sme))\.h>' "$file" | sed "s|^|$file: intrinsics outside core/ops/cpu: |" >>"$breaches" ;;
    esac
done
# shellcheck disable=SC2086
for file in $(sources $rooms tests); do
    lines=$(wc -l <"$file")
    [ "$lines" -le 800 ] || echo "$file has $lines lines, at most 800 are allowed" >>"$breaches"
done
# shellcheck disable=SC2086
sources $rooms tests | sed 's|.*/||' | sort | uniq -d | sed 's/^/file name used twice: /' >>"$breaches"

if [ -s "$breaches" ]; then
    cat "$breaches"
    exit 1
fi
# shellcheck disable=SC2086
n=$(sources $rooms tests | wc -l)
# A tree without sources is a wrong ROOT, not a clean one.
[ "$n" -gt 0 ] || { echo "no source files in $1"; exit 1; }
echo "structure: $n files keep the rules"
